//! THE LOOP, beside step 3: the way back to each source. Sources come and go while the gateway runs; an index is a
//! living source's own, and what is owed to one that has gone is owed to nobody.

use super::Window;
use crate::model::{Delivery, SourceIndex};
use crate::sources::{Ask, Asks};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// What is assumed of a source that nobody described: mosquitto's usual window.
const USUAL: Window = Window { messages: 20, of_many: false };

/// A source, as the loop needs it.
#[derive(Debug)]
pub struct WayBack {
    /// Its index, which no other living source has.
    pub source: SourceIndex,
    /// Takes the acknowledgements.
    pub acks: mpsc::Sender<Vec<Delivery>>,
    /// How its far side waits for them.
    pub window: Window,
    /// Takes what its far side may be asked; `None`: it may be asked nothing.
    pub asks: Option<Asks>,
}

/// All sources, by index.
#[derive(Debug, Default)]
pub(super) struct Ways(BTreeMap<SourceIndex, Way>);

#[derive(Debug)]
struct Way {
    acks: mpsc::Sender<Vec<Delivery>>,
    window: Window,
    asks: Option<Asks>,
    owed: Vec<Delivery>,
}

impl Ways {
    /// In the order of their indices, from 0 on.
    pub(super) fn new(
        acks: Vec<mpsc::Sender<Vec<Delivery>>>,
        windows: Vec<Window>,
        asks: Vec<Option<Asks>>,
    ) -> Self {
        let mut ways = Self::default();
        let asks = asks.into_iter().chain(std::iter::repeat(None));
        let windows = windows.into_iter().chain(std::iter::repeat(USUAL));
        for (((index, acks), window), asks) in (0..=u16::MAX).zip(acks).zip(windows).zip(asks) {
            ways.add(WayBack { source: SourceIndex(index), acks, window, asks });
        }
        ways
    }

    pub(super) fn add(&mut self, way: WayBack) {
        let WayBack { source, acks, window, asks } = way;
        self.0.insert(source, Way { acks, window, asks, owed: Vec::new() });
    }

    pub(super) fn remove(&mut self, source: SourceIndex) {
        self.0.remove(&source);
    }

    pub(super) fn window(&self, source: SourceIndex) -> Window {
        self.0.get(&source).map_or(USUAL, |way| way.window)
    }

    /// Whether the far side of this source may be asked anything.
    pub(super) fn may_ask(&self, source: SourceIndex) -> bool {
        self.0.get(&source).is_some_and(|way| way.asks.is_some())
    }

    /// Asks. False: nobody listens while the source is stopping; the next start asks again.
    pub(super) fn ask(&self, source: SourceIndex, ask: Ask) -> bool {
        let asks = self.0.get(&source).and_then(|way| way.asks.as_ref());
        asks.is_some_and(|asks| asks.send(ask).is_ok())
    }

    pub(super) fn sources(&self) -> Vec<SourceIndex> {
        self.0.keys().copied().collect()
    }

    pub(super) fn owe(&mut self, source: SourceIndex, delivery: Delivery) {
        if let Some(way) = self.0.get_mut(&source) {
            way.owed.push(delivery);
        }
    }

    /// Gives the sources what they are owed. One that is busy gets it with the loop's next turn, at most a second later;
    /// one that is gone needs it no more.
    pub(super) fn hand_back(&mut self) {
        for way in self.0.values_mut().filter(|way| !way.owed.is_empty()) {
            if let Err(mpsc::error::TrySendError::Full(back)) =
                way.acks.try_send(std::mem::take(&mut way.owed))
            {
                way.owed = back;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(key: u32) -> Delivery {
        Delivery { epoch: 1, key, duplicate: false }
    }

    #[test]
    fn what_was_owed_to_a_source_that_has_gone_never_comes_to_the_next_one() {
        let (one, mut first) = mpsc::channel(4);
        let (two, mut second) = mpsc::channel(4);
        let mut ways = Ways::new(vec![one], Vec::new(), Vec::new());
        ways.owe(SourceIndex(0), delivery(1));
        ways.remove(SourceIndex(0));
        ways.owe(SourceIndex(0), delivery(2));
        ways.add(WayBack { source: SourceIndex(0), acks: two, window: USUAL, asks: None });
        ways.owe(SourceIndex(0), delivery(3));
        ways.hand_back();
        assert!(first.try_recv().is_err());
        assert_eq!(second.try_recv(), Ok(vec![delivery(3)]));
        assert!(second.try_recv().is_err());
    }

    #[test]
    fn a_source_that_is_busy_gets_all_with_the_next_turn() {
        let (acks, mut receiver) = mpsc::channel(1);
        let mut ways = Ways::new(vec![acks], Vec::new(), Vec::new());
        for key in 1..=3 {
            ways.owe(SourceIndex(0), delivery(key));
            ways.hand_back();
        }
        assert_eq!(receiver.try_recv(), Ok(vec![delivery(1)]));
        ways.hand_back();
        assert_eq!(receiver.try_recv(), Ok(vec![delivery(2), delivery(3)]));
    }
}
