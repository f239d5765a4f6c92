//! JOURNAL → WORLD, pure: which entries go next. Live ones first, history behind them.
//!
//! The durable cursor says that everything up to it is confirmed. After an outage the newest entries are delivered
//! first: what is confirmed beyond the cursor is a list of stretches, in memory only. A crash forgets them, and those
//! entries are delivered again, which changes nothing in the store. When history reaches a stretch, the cursor
//! jumps to its end.

use std::collections::VecDeque;

/// So many entries left behind by a full post, and the newest go first. At the usual one commit a second that is a
/// minute; less is caught up by the next posts anyhow.
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

    /// What to deliver next, when the newest recorded entry is `head`. `history`: rather history than live ones, if there
    /// is any. Where entries come faster than posts are answered there is always something new, and history must
    /// have its turn.
    pub(super) fn next(&self, head: u64, history: bool) -> Next {
        let live = (head > self.newest()).then_some(Next::Live { after: self.newest() });
        let first = self.confirmed.front();
        let left = first.map(|first| Next::History(Stretch { after: self.cursor, through: first.after }));
        let next = if history { left.or(live) } else { live.or(left) };
        next.unwrap_or(Next::Nothing)
    }

    /// A full post takes live delivery up to `through`. Leaves what is behind it to history, if that is too much; then
    /// live delivery begins anew near the head.
    pub(super) fn split(&mut self, through: u64, head: u64) -> bool {
        let late = head.saturating_sub(through) > LIVE_LAG_MAX;
        if late {
            let live = head - LIVE_TAIL;
            self.confirmed.push_back(Stretch { after: live, through: live });
            if self.confirmed.len() > STRETCHES_MAX {
                self.confirmed.pop_front();
            }
        }
        late
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

    #[test]
    fn after_an_outage_the_newest_go_first_and_the_cursor_jumps_when_history_meets_them() {
        let mut ahead = Ahead::new(5);
        assert_eq!(ahead.next(1000, false), Next::Live { after: 5 });
        assert!(!ahead.split(1000 - LIVE_LAG_MAX, 1000), "little behind: in order");
        assert!(ahead.split(100, 1000));
        assert_eq!(ahead.next(1000, false), Next::Live { after: 990 });
        ahead.confirm(Stretch { after: 990, through: 1000 });
        let left = |after| Next::History(Stretch { after, through: 990 });
        assert_eq!((ahead.cursor(), ahead.next(1000, false)), (5, left(5)));
        ahead.confirm(Stretch { after: 5, through: 400 });
        assert_eq!((ahead.cursor(), ahead.next(1001, false)), (400, Next::Live { after: 1000 }));
        assert_eq!(ahead.next(1001, true), left(400), "it has its turn although there is news");
        ahead.confirm(Stretch { after: 1000, through: 1001 });
        ahead.confirm(Stretch { after: 400, through: 990 });
        assert_eq!((ahead.cursor(), ahead.next(1001, true)), (1001, Next::Nothing));
    }

    proptest! {
        /// However deliveries, outages and new entries follow each other: nothing that the cursor covers is unconfirmed,
        /// and in the end everything is delivered.
        #[test]
        fn the_cursor_never_covers_what_was_not_delivered(
            moves in proptest::collection::vec((0_u64..400, 0_u64..120, any::<bool>()), 1..120)
        ) {
            let (mut ahead, mut head) = (Ahead::new(0), 0);
            // Which entries were delivered, and how far that was found to be without a gap.
            let (mut delivered, mut checked) = (vec![false; 60_000], 0);
            let mut deliver = |ahead: &mut Ahead, head: u64, most: u64| {
                let done = match ahead.next(head, most.is_multiple_of(3)) {
                    Next::Live { after } if ahead.split(head.min(after + most), head) => return true,
                    Next::Live { after } => Stretch { after, through: head.min(after + most) },
                    Next::History(left) => Stretch { through: left.through.min(left.after + most), ..left },
                    Next::Nothing => return false,
                };
                let index = |no: u64| usize::try_from(no).unwrap();
                delivered[index(done.after + 1)..=index(done.through)].fill(true);
                ahead.confirm(done);
                assert!(delivered[index(checked + 1)..=index(ahead.cursor())].iter().all(|done| *done));
                checked = ahead.cursor();
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
