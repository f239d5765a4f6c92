//! THE LOOP, step 2: what is gathered until one transaction writes it.

use super::ENTRY_QUARANTINE_BYTES_MAX;
use super::orders::{Departure, Told};
use crate::commands::{Done, Refused};
use crate::journal::{Entry, Note, QuarantineChange, Restamp, Stray, StrayKind, Write};
use crate::model::{
    Body, Change, DecodedAgain, Delivery, Fact, Outcome, PointId, Quarantined, Reading, RuleId, SourceIndex,
    Span, Timestamp, Transition,
};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where the answer to an operator's command goes.
pub(super) type Reply = oneshot::Sender<Result<Done, Refused>>;

/// Where the answer goes of who had frames decoded again, and the answer.
pub(super) type Answer = (oneshot::Sender<Result<DecodedAgain, Refused>>, DecodedAgain);

/// Frames of one sender that are kept of one batch: as many as the journal keeps of it.
const SENDER_FRAMES_MAX: usize = 200;

/// Different strays in one entry. A flood of foreign messages must not make an entry of megabytes: 256 × 4 KiB is 1 MiB.
const STRAYS_MAX: usize = 256;

/// A message whose sender waits for us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) source: SourceIndex,
    pub(super) delivery: Delivery,
    pub(super) since: Timestamp,
}

/// What has happened since the last commit began.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) readings: Vec<Reading>,
    pub(super) transitions: Vec<Transition>,
    pub(super) notes: Vec<Note>,
    strays: Vec<Stray>,
    stray_slots: HashMap<(StrayKind, Arc<str>), usize>,
    /// What happens to frames in quarantine.
    pub(super) changes: Vec<QuarantineChange>,
    quarantine_bytes: usize,
    facts: Vec<Fact>,
    fact_slots: HashMap<(PointId, RuleId), usize>,
    pub(super) receipts: Vec<u64>,
    /// The clock was set: the entries before this one are dated anew.
    pub(super) restamp: Option<Restamp>,
    pub(super) deliveries: Vec<Held>,
    /// How many of them are of each source.
    held: HashMap<SourceIndex, usize>,
    pub(super) replies: Vec<Reply>,
    /// Orders that go out once the journal has them, and people who are told what became of theirs.
    pub(super) departures: Vec<Departure>,
    pub(super) told: Vec<Told>,
    /// Who waits until it is on the disk, and nothing less.
    pub(super) answers: Vec<Answer>,
    /// Something in it must not wait for the commit window.
    pub(super) urgent: bool,
    /// When the first thing came in.
    pub(super) opened_at: Option<Timestamp>,
    /// When the oldest frame that raised a hazard was received.
    pub(super) hazard_from: Option<Timestamp>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.readings.is_empty()
            && self.transitions.is_empty()
            && self.notes.is_empty()
            && self.strays.is_empty()
            && self.changes.is_empty()
            && self.facts.is_empty()
            && self.deliveries.is_empty()
            && self.replies.is_empty()
    }

    /// Keeps the delivery until the commit.
    pub(super) fn hold(&mut self, source: SourceIndex, delivery: Delivery, since: Timestamp) {
        self.deliveries.push(Held { source, delivery, since });
        *self.held.entry(source).or_default() += 1;
    }

    /// These sources have ended: nobody waits for what they held.
    pub(super) fn let_go(&mut self, gone: &[SourceIndex]) {
        self.deliveries.retain(|held| !gone.contains(&held.source));
        self.held.retain(|source, _| !gone.contains(source));
    }

    /// How many messages of each source wait for the commit.
    pub(super) fn held(&self) -> impl Iterator<Item = (SourceIndex, usize)> {
        self.held.iter().map(|(source, count)| (*source, *count))
    }

    /// How many different strays it holds.
    pub(super) fn strays(&self) -> usize {
        self.strays.len()
    }

    /// Takes over what the engine said about one thing that was received at `received_at`.
    pub(super) fn take(&mut self, outcome: &mut Outcome, received_at: Option<Timestamp>) {
        if !outcome.transitions.is_empty() {
            // A line of the duty log is what people wait for: it goes out at once.
            self.urgent = true;
            let raised = outcome
                .transitions
                .iter()
                .any(|moved| matches!(moved.change, Change::Raised | Change::RaisedAgain));
            if raised && let Some(received_at) = received_at {
                self.hazard_from =
                    Some(self.hazard_from.map_or(received_at, |oldest| oldest.min(received_at)));
            }
            self.transitions.append(&mut outcome.transitions);
        }
        for fact in outcome.facts.drain(..) {
            let key = (fact.point.clone(), fact.rule.clone());
            match self.fact_slots.get(&key).and_then(|&slot| self.facts.get_mut(slot)) {
                Some(slot) => *slot = fact,
                None => {
                    self.fact_slots.insert(key, self.facts.len());
                    self.facts.push(fact);
                }
            }
        }
    }

    /// Takes what could not be read; the same key again only counts, with its newest sample. False: no room.
    pub(super) fn take_stray(&mut self, stray: Stray) -> bool {
        let key = (stray.kind, stray.key.clone());
        if let Some(known) = self.stray_slots.get(&key).and_then(|&slot| self.strays.get_mut(slot)) {
            *known = Stray { first_at: known.first_at, count: known.count + 1, ..stray };
            return true;
        }
        if self.strays.len() >= STRAYS_MAX {
            return false;
        }
        self.stray_slots.insert(key, self.strays.len());
        self.strays.push(stray);
        true
    }

    /// Keeps a frame whole; the answer counts those that had to go for it: of a sender that babbles its own oldest, and what
    /// does not fit into twice an entry's room.
    pub(super) fn keep(&mut self, frame: Quarantined) -> u64 {
        let bytes = weight(&frame);
        if self.quarantine_bytes + bytes > 2 * ENTRY_QUARANTINE_BYTES_MAX {
            return 1;
        }
        let mut dropped = 0;
        if self.changes.len() >= SENDER_FRAMES_MAX {
            let same = |change: &QuarantineChange| match change {
                QuarantineChange::Keep(kept) => kept.device == frame.device && kept.key() == frame.key(),
                QuarantineChange::Renew(_) | QuarantineChange::Release(_) => false,
            };
            if self.changes.iter().filter(|change| same(change)).count() >= SENDER_FRAMES_MAX
                && let Some(oldest) = self.changes.iter().position(same)
            {
                self.quarantine_bytes -= change_weight(&self.changes.remove(oldest));
                dropped = 1;
            }
        }
        self.quarantine_bytes += bytes;
        self.changes.push(QuarantineChange::Keep(frame));
        dropped
    }

    /// What the frames in it take.
    pub(super) fn quarantine_bytes(&self) -> usize {
        self.quarantine_bytes
    }

    /// Moves what it waits for with the clock. What was read keeps its time.
    pub(super) fn shift(&mut self, by: Span) {
        self.opened_at = self.opened_at.map(|at| at + by);
        self.hazard_from = self.hazard_from.map(|at| at + by);
        self.deliveries.iter_mut().for_each(|held| held.since = held.since + by);
    }

    /// Closes the batch: what the journal writes, and what waits for it.
    pub(super) fn seal(mut self, no: u64, at: Timestamp) -> Sealed {
        // The entry stays in the journal's ring for a while: not with up to twice the room that it needs.
        if self.readings.capacity() > self.readings.len() + self.readings.len() / 4 {
            self.readings.shrink_to_fit();
        }
        let entry = Arc::new(Entry {
            no,
            at,
            recorded: true,
            readings: self.readings,
            transitions: self.transitions,
            notes: self.notes,
        });
        Sealed {
            write: Write {
                entry,
                facts: self.facts,
                receipts: self.receipts,
                strays: self.strays,
                quarantine: self.changes,
                restamp: self.restamp,
            },
            deliveries: self.deliveries,
            replies: self.replies,
            departures: self.departures,
            told: self.told,
            answers: self.answers,
            hazard_from: self.hazard_from,
            shown_unrecorded: false,
        }
    }
}

/// A closed batch on its way into the journal.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) write: Write,
    pub(super) deliveries: Vec<Held>,
    pub(super) replies: Vec<Reply>,
    pub(super) departures: Vec<Departure>,
    pub(super) told: Vec<Told>,
    pub(super) answers: Vec<Answer>,
    pub(super) hazard_from: Option<Timestamp>,
    /// Its hazards were already shown, marked 未记录, because the journal kept everybody waiting.
    pub(super) shown_unrecorded: bool,
}

impl Sealed {
    /// Its readings came out of the quarantine with it: they are there no more if they are given up here.
    pub(super) fn replays(&self) -> bool {
        self.write.quarantine.iter().any(|change| !matches!(change, QuarantineChange::Keep(_)))
    }

    /// What the frames in it take.
    pub(super) fn quarantine_bytes(&self) -> usize {
        self.write.quarantine.iter().map(change_weight).sum()
    }

    /// Gives up its oldest frames until so many bytes are gone, or all. How many bytes and frames.
    pub(super) fn give_up_frames(&mut self, surplus: usize) -> (usize, u64) {
        let (mut bytes, mut frames) = (0, 0);
        self.write.quarantine.retain(|change| {
            let QuarantineChange::Keep(frame) = change else { return true };
            if bytes >= surplus {
                return true;
            }
            bytes += weight(frame);
            frames += 1;
            false
        });
        (bytes, frames)
    }

    /// As [`Batch::shift`].
    pub(super) fn shift(&mut self, by: Span) {
        self.hazard_from = self.hazard_from.map(|at| at + by);
        self.deliveries.iter_mut().for_each(|held| held.since = held.since + by);
    }
}

/// What a kept frame takes, with its words.
fn weight(frame: &Quarantined) -> usize {
    /// Its fields, its reason and its place.
    const FRAME_BYTES: usize = 512;
    FRAME_BYTES
        + match &frame.body {
            Body::Message { topic, payload } | Body::Presence { topic, payload, .. } => {
                topic.len() + payload.len()
            }
            Body::Registers { blocks, .. } => {
                blocks.iter().map(|block| 64 + 2 * usize::from(block.count)).sum()
            }
        }
}

fn change_weight(change: &QuarantineChange) -> usize {
    match change {
        QuarantineChange::Keep(frame) => weight(frame),
        QuarantineChange::Renew(_) | QuarantineChange::Release(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceId, LinkId, Timestamp};

    fn frame(device: Option<&str>, no: usize, bytes: usize) -> Quarantined {
        Quarantined {
            id: 0,
            device: device.map(|device| DeviceId::parse(device).unwrap()),
            planned: device.is_some(),
            link: LinkId::parse("hall").unwrap(),
            body: Body::Message { topic: format!("{device:?}").into(), payload: vec![0; bytes].into() },
            at: Timestamp::from_millis(i64::try_from(no).unwrap()),
            retained: false,
            reason: "".into(),
            had: "".into(),
        }
    }

    #[test]
    fn a_batch_keeps_so_many_frames_of_a_sender_and_the_oldest_of_a_babbler_go_first() {
        let mut batch = Batch::default();
        assert_eq!(batch.keep(frame(Some("quiet"), 0, 10)), 0);
        let dropped: u64 =
            (1..=SENDER_FRAMES_MAX + 50).map(|no| batch.keep(frame(Some("loud"), no, 10))).sum();
        assert_eq!(dropped, 50);
        let kept: Vec<&Quarantined> = batch
            .changes
            .iter()
            .filter_map(|change| match change {
                QuarantineChange::Keep(frame) => Some(frame),
                _ => None,
            })
            .collect();
        assert_eq!(kept.len(), SENDER_FRAMES_MAX + 1);
        assert_eq!((kept[0].at.as_millis(), kept[1].at.as_millis()), (0, 51), "the quiet one is still there");
        let weighed: usize = kept.iter().map(|frame| weight(frame)).sum();
        assert_eq!(batch.quarantine_bytes(), weighed);
    }

    #[test]
    fn a_batch_never_holds_more_bytes_of_frames_than_two_entries() {
        let mut batch = Batch::default();
        let each = 64 << 10;
        let dropped: u64 = (0..100).map(|no| batch.keep(frame(None, no, each))).sum();
        assert!(batch.quarantine_bytes() <= 2 * ENTRY_QUARANTINE_BYTES_MAX);
        assert_eq!(dropped + batch.changes.len() as u64, 100, "each is kept or counted");
        let held = batch.quarantine_bytes();
        let mut sealed = batch.seal(1, Timestamp::EPOCH);
        let (bytes, frames) = sealed.give_up_frames(each);
        assert!(bytes >= each && frames == 1, "{bytes} bytes of {frames} frames");
        assert_eq!(sealed.quarantine_bytes() + bytes, held);
    }
}
