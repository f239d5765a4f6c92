//! Frames on their way into the intake: straight in while there is room, else into a bounded queue of our own.

use super::{HELD_BYTES_MAX, HELD_MAX};
use crate::model::{Body, Frame, LinkChange};
use crate::sources::{Arrival, Intake};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};

/// Room in the intake, or nobody takes from it any more.
pub(super) type Room = Result<mpsc::OwnedPermit<Arrival>, SendError<()>>;

/// Our place in the queue for the intake, kept while other things happen so that no other source overtakes.
type Turn = Pin<Box<dyn Future<Output = Room> + Send>>;

/// The pipeline has gone.
#[derive(Debug)]
pub(super) struct Gone;

/// The queue before the intake.
pub(super) struct Held {
    intake: Intake,
    queue: VecDeque<Arrival>,
    bytes: usize,
    turn: Option<Turn>,
}

impl Held {
    pub(super) fn new(intake: Intake) -> Self {
        Self { intake, queue: VecDeque::new(), bytes: 0, turn: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= HELD_MAX || self.bytes >= HELD_BYTES_MAX
    }

    /// Into the intake when there is room and nobody waits before, else into the queue.
    pub(super) fn put(&mut self, frame: Frame) -> Result<(), Gone> {
        let mut arrival = Arrival::Frame(frame);
        if self.queue.is_empty() {
            arrival = match self.intake.try_send(arrival) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(Gone),
                Err(TrySendError::Full(arrival)) => arrival,
            };
        }
        self.bytes += bytes_of(&arrival);
        self.queue.push_back(arrival);
        Ok(())
    }

    /// A flapping link must not fill the queue while nobody takes from it: only its last state matters.
    pub(super) fn put_link(&mut self, change: LinkChange) {
        if matches!(self.queue.back(), Some(Arrival::Link(_))) {
            self.queue.pop_back();
        }
        self.queue.push_back(Arrival::Link(change));
    }

    /// Waits for our turn at the intake; may be dropped and called again without losing the place.
    pub(super) async fn room(&mut self) -> Room {
        let intake = &self.intake;
        self.turn.get_or_insert_with(|| Box::pin(intake.clone().reserve_owned())).await
    }

    /// Our turn has come: the first of the queue with the permit, more of them while there is room.
    pub(super) fn hand_over(&mut self, room: Room) -> Result<(), Gone> {
        self.turn = None;
        let permit = room.map_err(|_| Gone)?;
        if let Some(first) = self.queue.pop_front() {
            self.bytes -= bytes_of(&first);
            permit.send(first);
        }
        while let Some(next) = self.queue.pop_front() {
            let bytes = bytes_of(&next);
            match self.intake.try_send(next) {
                Ok(()) => self.bytes -= bytes,
                Err(TrySendError::Closed(_)) => return Err(Gone),
                Err(TrySendError::Full(next)) => {
                    self.queue.push_front(next);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Frames that nobody will send again. With QoS 1 the broker still has them.
    pub(super) fn irreplaceable(&self) -> u64 {
        let lost = |a: &&Arrival| matches!(a, Arrival::Frame(f) if f.delivery.is_none());
        self.queue.iter().filter(lost).count() as u64
    }
}

fn bytes_of(arrival: &Arrival) -> usize {
    match arrival {
        Arrival::Frame(Frame { body: Body::Message { payload, .. }, .. }) => payload.len(),
        Arrival::Frame(_) | Arrival::Link(_) | Arrival::Ordered { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LinkId, SourceIndex, Timestamp};

    fn frame(payload: &'static [u8]) -> Frame {
        Frame {
            source: SourceIndex(0),
            link: LinkId::parse("hall").unwrap(),
            body: Body::Message { topic: "t".into(), payload: payload.into() },
            received_at: Timestamp::EPOCH,
            retained: false,
            delivery: None,
        }
    }

    #[tokio::test]
    async fn order_is_kept_and_the_bytes_are_counted_down_to_zero() {
        let (to, mut intake) = mpsc::channel(2);
        let mut held = Held::new(to);
        for payload in [&b"1"[..], b"22", b"333", b"4444", b"55555"] {
            held.put(frame(payload)).unwrap();
        }
        assert_eq!((held.queue.len(), held.bytes, held.irreplaceable()), (3, 12, 3));
        for length in 1..=5 {
            let Some(Arrival::Frame(Frame { body: Body::Message { payload, .. }, .. })) = intake.recv().await
            else {
                panic!("no frame of {length} bytes");
            };
            assert_eq!(payload.len(), length);
            if !held.is_empty() {
                let room = held.room().await;
                held.hand_over(room).unwrap();
            }
        }
        assert_eq!((held.queue.len(), held.bytes), (0, 0));
    }

    #[test]
    fn a_flapping_link_takes_one_place() {
        let (to, _intake) = mpsc::channel(1);
        let mut held = Held::new(to);
        for n in 0..1000 {
            let link = LinkId::parse("hall").unwrap();
            held.put_link(LinkChange { link, up: n % 2 == 0, reason: crate::model::Text::new("", "") });
        }
        assert_eq!(held.queue.len(), 1);
        assert!(matches!(held.queue.front(), Some(Arrival::Link(change)) if !change.up));
    }

    #[test]
    fn the_queue_is_full_at_either_limit() {
        let (to, _intake) = mpsc::channel(1);
        let mut held = Held::new(to);
        held.put(frame(b"")).unwrap();
        for n in 0..HELD_MAX {
            assert!(!held.is_full(), "after {n}");
            held.put(frame(b"")).unwrap();
        }
        assert!(held.is_full());
        held.queue.clear();
        assert!(!held.is_full());
        held.bytes = HELD_BYTES_MAX;
        assert!(held.is_full());
    }
}
