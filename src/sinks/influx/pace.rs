//! JOURNAL → WORLD, pure: how many lines a post carries, and how fast history may go.
//!
//! The size follows the far side's answers as TCP's window does: half after a refusal or a long wait, a little more after
//! each quick answer to a full post.

use std::time::Duration;
use tokio::time::Instant;

/// The smallest size, lines: 50 × 105 bytes = 5 kB, one second of a GPRS uplink even unpacked. A post is cut further
/// only when the server says of these few, too, that they are too many.
pub const BATCH_LINES_MIN: usize = 50;

/// Growth after a quick answer: a fiftieth of the largest size. From half to the whole takes 25 posts.
const GROWTH_PARTS: usize = 50;

/// An answer within this is quick.
const QUICK: Duration = Duration::from_secs(1);

/// An answer later than this is slow: a live value must not be older than a few seconds because it stood in a queue
/// behind a large post.
const SLOW: Duration = Duration::from_secs(3);

/// How many lines the next post carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizing {
    size: usize,
    max: usize,
}

impl Sizing {
    /// Begins with the largest size.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { size: max, max }
    }

    pub(super) fn lines(self) -> usize {
        self.size
    }

    /// A post of so many lines was accepted after so long.
    pub(super) fn accepted(&mut self, lines: usize, took: Duration) {
        if took > SLOW {
            self.halve();
        } else if took < QUICK && lines >= self.size {
            self.size = (self.size + (self.max / GROWTH_PARTS).max(1)).min(self.max);
        }
    }

    /// A post of so many lines was too large.
    pub(super) fn too_large(&mut self, lines: usize) {
        self.size = self.size.min(lines);
        self.halve();
    }

    /// The far side was too busy or too slow.
    pub(super) fn halve(&mut self) {
        self.size = (self.size / 2).max(BATCH_LINES_MIN.min(self.max));
    }
}

/// How fast history may go: so many lines a second, counted as a debt that time pays off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Throttle {
    lines_per_second: u32,
    free_at: Option<Instant>,
}

impl Throttle {
    pub(super) fn new(lines_per_second: u32) -> Self {
        Self { lines_per_second: lines_per_second.max(1), free_at: None }
    }

    /// When the next lines may go; `None`: now.
    pub(super) fn free_at(&self, now: Instant) -> Option<Instant> {
        self.free_at.filter(|free_at| *free_at > now)
    }

    /// The lines of one second: as much as goes at once.
    pub(super) fn at_once(&self) -> usize {
        usize::try_from(self.lines_per_second).unwrap_or(usize::MAX)
    }

    pub(super) fn spend(&mut self, lines: usize, now: Instant) {
        let lines = u32::try_from(lines).unwrap_or(u32::MAX);
        let cost = Duration::from_secs(1) * lines / self.lines_per_second;
        self.free_at = Some(self.free_at(now).unwrap_or(now) + cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_size_halves_when_it_is_too_much_and_grows_back_slowly() {
        let mut sizing = Sizing::new(5000);
        sizing.halve();
        assert_eq!(sizing.lines(), 2500);
        sizing.accepted(100, Duration::from_millis(50));
        assert_eq!(sizing.lines(), 2500, "a small post says nothing");
        sizing.accepted(2500, Duration::from_millis(50));
        assert_eq!(sizing.lines(), 2600);
        sizing.accepted(2600, Duration::from_secs(2));
        assert_eq!(sizing.lines(), 2600, "neither quick nor slow");
        sizing.accepted(2600, Duration::from_secs(4));
        assert_eq!(sizing.lines(), 1300);
    }

    proptest! {
        #[test]
        fn the_size_stays_within_its_limits_and_comes_back(
            max in 1_usize..20_000,
            answers in proptest::collection::vec((any::<bool>(), 0_u64..6000, 0_usize..20_000), 0..200)
        ) {
            let mut sizing = Sizing::new(max);
            for (accepted, millis, lines) in answers {
                let before = sizing.lines();
                if accepted {
                    sizing.accepted(lines, Duration::from_millis(millis));
                } else {
                    sizing.halve();
                    prop_assert!(sizing.lines() <= before);
                }
                prop_assert!(sizing.lines() <= max && sizing.lines() >= BATCH_LINES_MIN.min(max));
            }
            for _ in 0..2 * GROWTH_PARTS {
                sizing.accepted(sizing.lines(), Duration::ZERO);
            }
            prop_assert_eq!(sizing.lines(), max);
        }

        #[test]
        fn history_never_goes_faster_than_its_rate(rate in 1_u32..10_000, posts in proptest::collection::vec(1_usize..9000, 1..50)) {
            let begun = Instant::now();
            let (mut throttle, mut now, mut sent) = (Throttle::new(rate), begun, 0);
            for lines in &posts {
                now = throttle.free_at(now).unwrap_or(now);
                throttle.spend(*lines, now);
                sent += lines;
            }
            let end = throttle.free_at(now).unwrap_or(now);
            let exact = sent as f64 / f64::from(rate);
            prop_assert!((end.duration_since(begun).as_secs_f64() - exact).abs() < 1e-3);
        }
    }
}
