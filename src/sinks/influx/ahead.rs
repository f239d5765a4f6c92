//! JOURNAL → WORLD, pure: which entries go next. Live ones first, history behind them.
//!
//! The durable cursor says that everything up to it is confirmed. After an outage the newest entries are delivered
//! first: what is confirmed beyond the cursor is a list of stretches, in memory only. A crash forgets them, and those
//! entries are delivered again, which changes nothing in the store. When history reaches a stretch, the cursor
//! jumps to its end.

use std::collections::VecDeque;

/// So many entries behind, and the newest go first. At the usual one commit a second that is a minute: less is caught
/// up within seconds anyhow.
pub(super) const LIVE_LAG_MAX: u64 = 60;

/// How far back "live" begins then, entries: ten seconds, so that most points show a value at once.
const LIVE_TAIL: u64 = 10;

/// Stretches remembered. Each is one more outage while history was still being caught up; past 64 the oldest is
/// forgotten, and its entries are delivered once more.
const STRETCHES_MAX: usize = 64;

/// Entries `after < no ≤ through`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) after: u64,
    pub(super) through: u64,
}

/// What to deliver next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The newest entries: everything after this number.
    Live { after: u64 },
    /// What was left behind, at a bounded rate.
    History(Stretch),
    /// Everything is confirmed.
    Nothing,
}

/// What is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ahead {
    cursor: u64,
    /// Beyond the cursor, in order, apart from each other and from it. The last one is where live delivery stands.
    confirmed: VecDeque<Stretch>,
}

impl Ahead {
    pub(super) fn new(cursor: u64) -> Self {
        Self { cursor, confirmed: VecDeque::new() }
    }

    /// Everything up to here is confirmed.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    fn newest(&self) -> u64 {
        self.confirmed.back().map_or(self.cursor, |stretch| stretch.through)
    }

    /// What to deliver next, when the newest recorded entry is `head`.
    pub(super) fn next(&mut self, head: u64) -> Next {
        if head.saturating_sub(self.newest()) > LIVE_LAG_MAX {
            let live = head - LIVE_TAIL;
            self.confirmed.push_back(Stretch { after: live, through: live });
            if self.confirmed.len() > STRETCHES_MAX {
                self.confirmed.pop_front();
            }
        }
        match self.confirmed.front() {
            _ if head > self.newest() => Next::Live { after: self.newest() },
            Some(first) => Next::History(Stretch { after: self.cursor, through: first.after }),
            None => Next::Nothing,
        }
    }

    /// A stretch that [`Ahead::next`] began is confirmed up to `through`.
    pub(super) fn confirm(&mut self, done: Stretch) {
        match self.confirmed.back_mut() {
            Some(live) if live.through == done.after => live.through = live.through.max(done.through),
            _ if done.after <= self.cursor => self.cursor = self.cursor.max(done.through),
            // The list was cut in between: delivered again.
            _ => {}
        }
        while let Some(first) = self.confirmed.front().filter(|first| first.after <= self.cursor) {
            self.cursor = self.cursor.max(first.through);
            self.confirmed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn after_an_outage_the_newest_go_first_and_the_cursor_jumps_when_history_meets_them() {
        let mut ahead = Ahead::new(5);
        assert_eq!(ahead.next(5 + LIVE_LAG_MAX), Next::Live { after: 5 }, "little behind: in order");
        let head = 1000;
        assert_eq!(ahead.next(head), Next::Live { after: 990 });
        ahead.confirm(Stretch { after: 990, through: 1000 });
        assert_eq!(
            (ahead.cursor(), ahead.next(head)),
            (5, Next::History(Stretch { after: 5, through: 990 }))
        );
        ahead.confirm(Stretch { after: 5, through: 400 });
        assert_eq!((ahead.cursor(), ahead.next(1001)), (400, Next::Live { after: 1000 }));
        ahead.confirm(Stretch { after: 1000, through: 1001 });
        ahead.confirm(Stretch { after: 400, through: 990 });
        assert_eq!((ahead.cursor(), ahead.next(1001)), (1001, Next::Nothing));
    }

    proptest! {
        /// However deliveries, outages and new entries follow each other: nothing that the cursor covers is unconfirmed,
        /// and in the end everything is delivered.
        #[test]
        fn the_cursor_never_covers_what_was_not_delivered(
            moves in proptest::collection::vec((0_u64..400, 0_u64..120, any::<bool>()), 1..120)
        ) {
            let (mut ahead, mut head, mut delivered) = (Ahead::new(0), 0, BTreeSet::new());
            let mut deliver = |ahead: &mut Ahead, head: u64, most: u64| {
                let done = match ahead.next(head) {
                    Next::Live { after } => Stretch { after, through: head.min(after + most) },
                    Next::History(left) => Stretch { through: left.through.min(left.after + most), ..left },
                    Next::Nothing => return false,
                };
                delivered.extend(done.after + 1..=done.through);
                ahead.confirm(done);
                let missing = (1..=ahead.cursor()).find(|no| !delivered.contains(no));
                assert_eq!(missing, None);
                true
            };
            for (new, most, up) in moves {
                head += new;
                if up {
                    deliver(&mut ahead, head, most);
                }
            }
            let mut steps = 0;
            while deliver(&mut ahead, head, 50) {
                steps += 1;
                prop_assert!(steps < 100_000, "it never ends");
            }
            prop_assert_eq!(ahead.cursor(), head);
        }
    }
}
