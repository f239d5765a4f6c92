//! THE CLOCK: the only reader of time.
//!
//! Beside the flow, used by every module that acts at a time. `now()` runs on the monotonic clock from an anchor,
//! so it never goes back by itself and moves with tokio's paused time in tests. When the system's wall clock is
//! found to have moved away from it by more than [`STEP_MIN`], [`Clock::take_step`] re-anchors and says by how
//! much: an event of its own that goes through the pipeline and into the journal.

use crate::model::{Span, Timestamp};
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// A wall clock this far from ours has been stepped. NTP slews smaller errors; a second is what GB/T duty logs show.
pub const STEP_MIN: Span = Span::from_secs(2);

/// Before this the box has certainly no clock: the year this program was written. Boxes without an RTC boot in 1970.
pub const EARLIEST_BELIEVABLE: Timestamp = Timestamp::from_secs(1_735_689_600); // 2025-01-01T00:00:00Z

/// One clock for the whole process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    anchor: Arc<Mutex<Anchor>>,
    wall: Wall,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    wall: Timestamp,
    monotonic: Instant,
}

#[derive(Debug, Clone)]
enum Wall {
    System,
    /// A wall clock set by a test.
    Simulated(Arc<Mutex<Span>>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::anchored(system_time(), Wall::System)
    }

    /// A clock that starts at `start` and moves with tokio's (possibly paused) time only.
    pub fn simulated(start: Timestamp) -> Self {
        Self::anchored(start, Wall::Simulated(Arc::new(Mutex::new(Span::ZERO))))
    }

    fn anchored(wall: Timestamp, source: Wall) -> Self {
        let monotonic = monotonic();
        Self { anchor: Arc::new(Mutex::new(Anchor { wall, monotonic })), wall: source }
    }

    /// The time now. Never goes back between two calls of [`Clock::take_step`].
    pub fn now(&self) -> Timestamp {
        let anchor = *self.lock();
        let elapsed = monotonic().duration_since(anchor.monotonic).as_millis();
        anchor.wall + Span::from_millis(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }

    /// Whether the time can be believed at all: a box without a clock boots in 1970.
    pub fn is_believable(&self) -> bool {
        self.now() >= EARLIEST_BELIEVABLE
    }

    /// Waits until that time by the monotonic clock; at once when it has passed.
    pub async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep(at.since(self.now()).to_std()).await;
    }

    /// If the wall clock was stepped, takes the new time over and says by how much (new minus old).
    pub fn take_step(&self) -> Option<Span> {
        let ours = self.now();
        let step = match &self.wall {
            Wall::System => system_time().since(ours),
            Wall::Simulated(pending) => {
                std::mem::take(&mut *pending.lock().expect("no holder of this lock panics"))
            }
        };
        if step.abs() < STEP_MIN {
            return None;
        }
        *self.lock() = Anchor { wall: ours + step, monotonic: monotonic() };
        Some(step)
    }

    /// Steps a simulated wall clock, as NTP or a person would; the system's cannot be set from here.
    pub fn step_simulated(&self, by: Span) {
        if let Wall::Simulated(pending) = &self.wall {
            let mut pending = pending.lock().expect("no holder of this lock panics");
            *pending = Span::from_millis(pending.as_millis().saturating_add(by.as_millis()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Anchor> {
        self.anchor.lock().expect("no holder of this lock panics")
    }
}

fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
fn system_time() -> Timestamp {
    let millis = match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    };
    Timestamp::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_month_passes_in_paused_time() {
        let start = Timestamp::from_secs(1_800_000_000);
        let clock = Clock::simulated(start);
        tokio::time::sleep(Duration::from_secs(30 * 86_400)).await;
        assert_eq!(clock.now(), start + Span::from_secs(30 * 86_400));
        clock.sleep_until(clock.now() + Span::from_secs(5)).await;
        assert_eq!(clock.now(), start + Span::from_secs(30 * 86_400 + 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_wall_clock_is_told_once_and_taken_over() {
        let clock = Clock::simulated(Timestamp::EPOCH);
        assert!(!clock.is_believable());
        assert_eq!(clock.take_step(), None);
        clock.step_simulated(Span::from_secs(1_800_000_000));
        assert_eq!(clock.now(), Timestamp::EPOCH, "nothing moves before the step is taken");
        assert_eq!(clock.take_step(), Some(Span::from_secs(1_800_000_000)));
        assert_eq!(clock.take_step(), None);
        assert!(clock.is_believable());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slewed_clock_is_not_a_step() {
        let clock = Clock::simulated(Timestamp::EPOCH);
        clock.step_simulated(Span::from_millis(900));
        assert_eq!(clock.take_step(), None);
    }
}
