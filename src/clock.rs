//! THE CLOCK: the only reader of time.
//!
//! Beside the flow, used by every module that acts at a time. `now()` runs on the monotonic clock from an anchor,
//! so it never goes back by itself and moves with tokio's paused time in tests. The system's wall clock is compared
//! with it by [`Clock::take_step`], once a second; what is taken over is told, by how much, and becomes an event of its
//! own that goes through the pipeline and into the journal.
//!
//! # When the wall clock is believed
//! A box without a battery-backed clock boots in 1970, or at the date of its firmware, or where it was switched off.
//! Until somebody sets it our clock is **unset**: it runs on from the newest entry of the journal (the *floor*), so
//! deadlines work and the series stays in order, and `gateway/clock` is a fault. The table is that of `believed`; the rows
//! are tested.
//!
//! | our clock | the wall clock says | and | then |
//! |---|---|---|---|
//! | at start | before 2025 | | unset, from the later of the two |
//! | at start | not before the floor, or by less than [`STEP_MIN`] | | **believed**: ours may have been ahead by so much |
//! | at start | further before the floor | it is synchronised (NTP) | **believed**: the journal was written in a wrong future |
//! | at start | more than [`FLOOR_AHEAD_MAX`] before the floor | | **believed**: no box was off for so long |
//! | at start | a little before the floor | | unset, from the floor |
//! | set | stepped, before 2025 | | unset, runs on as if nothing had happened |
//! | set | stepped, anything else | | **believed** |
//! | unset | before 2025 | | unset |
//! | unset | stepped, anything else | | **believed**: NTP or a person did it, whatever the floor says |
//! | unset | not stepped, not before 2025 | it is synchronised | **believed** |
//! | unset | not stepped, not before 2025 | it is not | unset |
//!
//! What cannot be known: a wall clock that starts in a wrong future is believed until it is stepped back. The rows of the
//! start keep it from lasting for ever, and nothing is deleted for an age that was only jumped over: see the journal's
//! `unseen.rs`.

use crate::model::{Span, Timestamp};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// A wall clock this far from ours has been stepped. NTP slews smaller errors; a second is what GB/T duty logs show.
pub const STEP_MIN: Span = Span::from_secs(2);

/// Before this the box has certainly no clock: the year this program was written. Boxes without an RTC boot in 1970.
pub const EARLIEST_BELIEVABLE: Timestamp = Timestamp::from_secs(1_735_689_600); // 2025-01-01T00:00:00Z

/// How far the journal may be ahead of a wall clock that nobody has set. A box boots at the date of its firmware, and
/// firmware is at most as old as the box: ten years. Further ahead it is the journal that was written under a wrong clock.
pub const FLOOR_AHEAD_MAX: Span = Span::from_secs(10 * 366 * 86_400);

/// Made by systemd-timesyncd when it has synchronised the clock since the boot. chrony and ntpd leave no such mark: of
/// them we see the step.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// One clock for the whole process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    state: Arc<Mutex<State>>,
    wall: Wall,
}

/// Where both clocks were at one moment. As long as nobody touches the wall clock they run side by side.
#[derive(Debug, Clone, Copy)]
struct State {
    ours: Timestamp,
    wall: Timestamp,
    monotonic: Instant,
    set: bool,
}

#[derive(Debug, Clone)]
enum Wall {
    System,
    /// A wall clock set by a test.
    Simulated(Arc<Mutex<Simulated>>),
}

#[derive(Debug)]
struct Simulated {
    wall: Timestamp,
    at: Instant,
    synchronised: bool,
}

/// What is known when the wall clock is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// What the wall clock says.
    wall: Timestamp,
    /// NTP says that it is right.
    synchronised: bool,
    our: Our,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Our {
    /// The process begins, and the journal's newest entry is of this time.
    Starting { floor: Option<Timestamp> },
    /// We had a time that was believed, and the wall clock was stepped.
    Set,
    /// We had none; whether the wall clock was stepped since it was last looked at.
    Unset { stepped: bool },
}

/// The decision table of the module's text.
fn believed(Seen { wall, synchronised, our }: Seen) -> bool {
    if wall < EARLIEST_BELIEVABLE {
        return false;
    }
    match our {
        Our::Starting { floor: None } | Our::Set => true,
        Our::Starting { floor: Some(floor) } => {
            let ahead = floor.since(wall);
            ahead < STEP_MIN || synchronised || ahead > FLOOR_AHEAD_MAX
        }
        Our::Unset { stepped } => stepped || synchronised,
    }
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::starting(Wall::System)
    }

    /// A clock that starts at `start` and moves with tokio's (possibly paused) time only.
    pub fn simulated(start: Timestamp) -> Self {
        let simulated = Simulated { wall: start, at: monotonic(), synchronised: false };
        Self::starting(Wall::Simulated(Arc::new(Mutex::new(simulated))))
    }

    fn starting(wall: Wall) -> Self {
        let now = wall.now();
        let set = believed(Seen { wall: now, synchronised: false, our: Our::Starting { floor: None } });
        let state = State { ours: now, wall: now, monotonic: monotonic(), set };
        Self { state: Arc::new(Mutex::new(state)), wall }
    }

    /// Told once at the start, before anything is dated: the time of the journal's newest entry. Nothing that is
    /// written now may look older, unless the wall clock is believed all the same.
    pub fn not_before(&self, floor: Timestamp) {
        let (wall, synchronised) = (self.wall.now(), self.wall.is_synchronised());
        let set = believed(Seen { wall, synchronised, our: Our::Starting { floor: Some(floor) } });
        let ours = if set { wall } else { wall.max(floor + Span::from_millis(1)) };
        *self.lock() = State { ours, wall, monotonic: monotonic(), set };
    }

    /// The time now. Never goes back between two calls of [`Clock::take_step`].
    pub fn now(&self) -> Timestamp {
        let state = *self.lock();
        state.ours + state.elapsed(monotonic())
    }

    /// Whether the time is somebody's word. False: it only runs on, see the module's text.
    pub fn is_set(&self) -> bool {
        self.lock().set
    }

    /// Waits until that time by the monotonic clock; at once when it has passed.
    pub async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep(at.since(self.now()).to_std()).await;
    }

    /// Compares with the wall clock. If its time is taken over, says by how much ours moved (new minus old); always at
    /// least [`STEP_MIN`]. [`Clock::is_set`] may have changed although nothing moved.
    pub fn take_step(&self) -> Option<Span> {
        let wall = self.wall.now();
        let mut state = self.lock();
        let (monotonic, before) = (monotonic(), *state);
        let elapsed = before.elapsed(monotonic);
        let ours = before.ours + elapsed;
        let stepped = wall.since(before.wall + elapsed).abs() >= STEP_MIN;
        let our = match before.set {
            true if !stepped => return None,
            true => Our::Set,
            false => Our::Unset { stepped },
        };
        let set = believed(Seen { wall, synchronised: self.wall.is_synchronised(), our });
        if !set && !stepped {
            return None;
        }
        let step = wall.since(ours);
        let taken = set && step.abs() >= STEP_MIN;
        *state = State { ours: if taken { wall } else { ours }, wall, monotonic, set };
        taken.then_some(step)
    }

    /// Steps a simulated wall clock, as NTP or a person would; the system's cannot be set from here.
    pub fn step_simulated(&self, by: Span) {
        if let Wall::Simulated(simulated) = &self.wall {
            let mut simulated = simulated.lock().expect(UNPOISONED);
            simulated.wall = simulated.wall + by;
        }
    }

    /// Lets a simulated wall clock count as synchronised, without a step.
    pub fn synchronise_simulated(&self) {
        if let Wall::Simulated(simulated) = &self.wall {
            simulated.lock().expect(UNPOISONED).synchronised = true;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "no holder of this lock panics";

impl State {
    fn elapsed(&self, now: Instant) -> Span {
        since(self.monotonic, now)
    }
}

impl Wall {
    fn now(&self) -> Timestamp {
        match self {
            Self::System => system_time(),
            Self::Simulated(simulated) => {
                let simulated = simulated.lock().expect(UNPOISONED);
                simulated.wall + since(simulated.at, monotonic())
            }
        }
    }

    /// Whether NTP vouches for it.
    fn is_synchronised(&self) -> bool {
        match self {
            Self::System => Path::new(SYNCHRONISED).exists(),
            Self::Simulated(simulated) => simulated.lock().expect(UNPOISONED).synchronised,
        }
    }
}

fn since(earlier: Instant, now: Instant) -> Span {
    Span::from_millis(i64::try_from(now.duration_since(earlier).as_millis()).unwrap_or(i64::MAX))
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

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000); // 2027-01-15
    const FIRMWARE: Timestamp = Timestamp::from_secs(1_740_000_000); // 2025-02-19
    const YEAR: Span = Span::from_secs(365 * 86_400);
    const WRONG_FUTURE: Timestamp = Timestamp::from_secs(4_100_000_000); // 2099-12-03

    #[test]
    fn the_wall_clock_is_believed_as_the_table_says() {
        let start = |floor| Our::Starting { floor };
        let unset = |stepped| Our::Unset { stepped };
        let rows = [
            // What the wall clock says, whether it is synchronised, what we know: believed?
            (Timestamp::EPOCH, false, start(None), false),
            (Timestamp::EPOCH, false, start(Some(NOW)), false),
            (Timestamp::EPOCH, true, start(Some(WRONG_FUTURE)), false),
            (NOW, false, start(None), true),
            (NOW, false, start(Some(NOW)), true),
            (NOW + YEAR, false, start(Some(NOW)), true),
            (NOW, false, start(Some(Timestamp::EPOCH)), true),
            (NOW, true, start(Some(NOW + YEAR)), true),
            (NOW, false, start(Some(WRONG_FUTURE)), true),
            (FIRMWARE, false, start(Some(NOW)), false),
            (NOW, false, start(Some(NOW + Span::from_millis(1999))), true),
            (NOW, false, start(Some(NOW + STEP_MIN)), false),
            (Timestamp::EPOCH, false, Our::Set, false),
            (NOW, false, Our::Set, true),
            (WRONG_FUTURE, false, Our::Set, true),
            (Timestamp::EPOCH, true, unset(true), false),
            (NOW, false, unset(true), true),
            (NOW, true, unset(false), true),
            (NOW, false, unset(false), false),
        ];
        for (wall, synchronised, our, expected) in rows {
            let seen = Seen { wall, synchronised, our };
            assert_eq!(believed(seen), expected, "{seen:?}");
        }
    }

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
        assert!(!clock.is_set());
        assert_eq!(clock.take_step(), None);
        clock.step_simulated(Span::from_secs(1_800_000_000));
        assert_eq!(clock.now(), Timestamp::EPOCH, "nothing moves before the step is taken");
        assert_eq!(clock.take_step(), Some(Span::from_secs(1_800_000_000)));
        assert_eq!(clock.take_step(), None);
        assert!(clock.is_set());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slewed_clock_is_not_a_step() {
        for start in [Timestamp::EPOCH, NOW] {
            let clock = Clock::simulated(start);
            clock.step_simulated(Span::from_millis(900));
            assert_eq!(clock.take_step(), None);
            assert_eq!(clock.now(), start);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unset_clock_runs_on_from_the_floor_until_it_is_set() {
        let clock = Clock::simulated(Timestamp::EPOCH);
        clock.not_before(NOW);
        assert_eq!((clock.now(), clock.is_set()), (NOW + Span::from_millis(1), false));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((clock.take_step(), clock.is_set()), (None, false));
        // A battery that is nearly empty: another time, and no better.
        clock.step_simulated(Span::from_secs(86_400));
        assert_eq!((clock.take_step(), clock.is_set()), (None, false));
        assert_eq!(clock.now(), NOW + Span::from_millis(60_001));
        // The network is up: three days have passed since the last entry.
        let truth = NOW + Span::from_secs(3 * 86_400);
        clock.step_simulated(truth.since(Timestamp::from_secs(86_460)));
        assert_eq!(clock.take_step(), Some(Span::from_millis(3 * 86_400_000 - 60_001)));
        assert_eq!((clock.now(), clock.is_set()), (truth, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_falls_to_1970_and_comes_back_moves_nothing() {
        let clock = Clock::simulated(NOW);
        clock.step_simulated(Timestamp::EPOCH.since(NOW));
        assert_eq!((clock.take_step(), clock.is_set()), (None, false));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(clock.now(), NOW + Span::from_secs(100));
        clock.step_simulated(NOW.since(Timestamp::EPOCH));
        assert_eq!((clock.take_step(), clock.is_set()), (None, true));
        assert_eq!(clock.now(), NOW + Span::from_secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_journal_from_a_wrong_future_does_not_hold_the_clock_for_ever() {
        // Too far ahead to be true.
        let clock = Clock::simulated(NOW);
        clock.not_before(WRONG_FUTURE);
        assert_eq!((clock.now(), clock.is_set()), (NOW, true));
        // A year could be the firmware's age: until NTP, or a person, has spoken.
        let clock = Clock::simulated(NOW);
        clock.not_before(NOW + YEAR);
        assert_eq!((clock.is_set(), clock.take_step()), (false, None));
        clock.synchronise_simulated();
        assert_eq!(clock.take_step(), Some(Span::from_millis(-YEAR.as_millis() - 1)));
        assert_eq!((clock.now(), clock.is_set()), (NOW, true));
    }
}
