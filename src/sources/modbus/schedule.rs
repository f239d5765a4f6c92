//! WIRE → FRAMES, pure: what to ask a bus next.
//!
//! A bus has two lanes, each one connection with one question on it at a time. On the main lane healthy units take
//! turns: whoever was served longest ago goes next, so no unit holds the bus for longer than one question while
//! another waits. Whatever is mute, slow or flapping is asked on the side lane and delays nobody but its like.
//!
//! Time is a [`Duration`] since the bus was started. Nothing here waits: the caller is told until when.

use super::UnitSettings;
use super::gaps::Stretch;
use super::unit::{Answer, Standing, TIMEOUT_MIN, Unit};
use crate::model::{RegisterBlock, RegisterTable};
use std::time::Duration;

/// A unit this many times slower than the lower quartile of the bus is asked apart; it comes back at half of that.
/// The quartile, so that several slow units cannot vote themselves normal and one fast unit does not banish the rest.
const SLOW_FACTOR: u32 = 4;

/// How long the side lane is not used after it was found not to work. Many gateways serve one connection only.
const SIDE_REST: Duration = Duration::from_secs(300);

/// One of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Main,
    Side,
}

/// What to do next on a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Ask(Ask),
    /// Nothing before that time, unless an answer on the other lane changes it.
    Wait(Duration),
}

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    /// Index into the bus's units.
    pub(super) unit: usize,
    pub(super) table: RegisterTable,
    pub(super) at: Stretch,
    pub(super) timeout: Duration,
}

/// A finished round of one unit: one frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) unit: usize,
    pub(super) blocks: Vec<RegisterBlock>,
}

/// The whole bus.
#[derive(Debug)]
pub(super) struct Schedule {
    units: Vec<Unit>,
    timeout: Duration,
    /// When the side lane may be used; `None`: never.
    side_from: Option<Duration>,
    turn: u64,
    /// Slots that passed unused since they were last taken.
    skipped: u64,
}

impl Schedule {
    pub(super) fn new(units: &[UnitSettings], timeout: Duration, has_side: bool) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a bus has a few hundred units")]
        let share = |index: usize| index as f64 / units.len().max(1) as f64;
        Self {
            units: units.iter().enumerate().map(|(index, unit)| Unit::new(unit, share(index))).collect(),
            timeout: timeout.max(TIMEOUT_MIN),
            side_from: has_side.then_some(Duration::ZERO),
            turn: 0,
            skipped: 0,
        }
    }

    /// What to ask on this lane. Without `room` for a frame, rounds that fall due are skipped and counted.
    pub(super) fn next(&mut self, lane: Lane, now: Duration, room: bool) -> Next {
        let side = self.side_works(now);
        let mut best: Option<(u64, usize)> = None;
        let mut wait = Duration::MAX;
        for (index, unit) in self.units.iter_mut().enumerate() {
            if (side && unit.is_apart()) != (lane == Lane::Side) {
                continue;
            }
            let Some(mut due) = unit.due() else { continue };
            if due <= now && unit.ask().is_none() && !room {
                self.skipped += unit.skip(now);
                due = unit.due().unwrap_or(Duration::MAX);
            }
            if due <= now {
                best = Some(best.map_or((unit.turn, index), |best| best.min((unit.turn, index))));
            } else {
                wait = wait.min(due);
            }
        }
        let Some((_, index)) = best else { return Next::Wait(wait) };
        let unit = &mut self.units[index];
        if unit.ask().is_none() {
            self.skipped += unit.open_round(now);
        }
        self.turn += 1;
        unit.turn = self.turn;
        unit.busy = true;
        let timeout = unit.timeout(self.timeout, side && lane == Lane::Main);
        let (table, at) = match unit.ask() {
            Some((_, table, at)) => (table, at),
            // Nothing but known holes: the round is complete without a question.
            None => (RegisterTable::Holding, Stretch { start: 0, count: 0 }),
        };
        Next::Ask(Ask { unit: index, table, at, timeout })
    }

    /// Takes an answer. Returns whether the unit failed, and its frame when the round is complete.
    pub(super) fn answered(
        &mut self,
        ask: &Ask,
        answer: Answer,
        took: Duration,
        now: Duration,
    ) -> (bool, Option<Finished>) {
        let alone = !self.has_other_healthy(ask.unit);
        let Some(unit) = self.units.get_mut(ask.unit) else { return (false, None) };
        unit.busy = false;
        let failed = ask.at.count > 0 && unit.answered(answer, took, now, alone);
        let blocks = unit.close_round(now);
        // After each answer, not each round: a slow unit must not finish its round among its neighbours.
        self.judge_pace(ask.unit);
        (failed, blocks.map(|blocks| Finished { unit: ask.unit, blocks }))
    }

    /// The question was not asked; it stays the next one of its unit.
    pub(super) fn put_back(&mut self, ask: &Ask) {
        if let Some(unit) = self.units.get_mut(ask.unit) {
            unit.busy = false;
        }
    }

    /// The side lane does not work: everything goes by the main lane for a while.
    pub(super) fn side_failed(&mut self, now: Duration) {
        self.side_from = self.side_from.map(|_| now + SIDE_REST);
    }

    /// A question whose answer proves that a fresh side lane works at all, addressed to the healthiest unit.
    pub(super) fn canary(&self, now: Duration) -> Option<Ask> {
        let healthy = self.units.iter().enumerate().filter(|(_, unit)| !unit.is_apart());
        let (unit, _) = healthy.min_by_key(|(_, unit)| unit.answer_time.unwrap_or(Duration::MAX))?;
        let (table, at) = self.units[unit].sure_ask(now)?;
        Some(Ask { unit, table, at, timeout: self.timeout })
    }

    /// The link is lost: what to say of each unit.
    pub(super) fn link_lost(&mut self) -> Vec<Finished> {
        let give_up = |(unit, state): (usize, &mut Unit)| Finished { unit, blocks: state.give_up() };
        self.units.iter_mut().enumerate().map(give_up).filter(|round| !round.blocks.is_empty()).collect()
    }

    /// The link works again: mute units are asked at once, and the side lane gets another chance.
    pub(super) fn link_restored(&mut self, now: Duration) {
        self.units.iter_mut().for_each(|unit| unit.retry(now));
        self.side_from = self.side_from.map(|_| now);
    }

    /// True when there are several units and none of them answers.
    pub(super) fn all_mute(&self) -> bool {
        self.units.len() > 1 && self.units.iter().all(|unit| matches!(unit.standing, Standing::Open { .. }))
    }

    /// Slots that passed unused since the last call.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// The side lane exists to protect somebody: without a healthy unit it is not used.
    fn side_works(&self, now: Duration) -> bool {
        self.side_from.is_some_and(|from| from <= now) && self.units.iter().any(|unit| !unit.is_apart())
    }

    fn has_other_healthy(&self, but: usize) -> bool {
        let healthy = |(index, unit): (usize, &Unit)| index != but && unit.standing == Standing::Healthy;
        self.units.iter().enumerate().any(healthy)
    }

    fn judge_pace(&mut self, index: usize) {
        let mut times: Vec<Duration> = (self.units.iter())
            .filter(|unit| unit.standing == Standing::Healthy)
            .filter_map(|unit| unit.answer_time)
            .collect();
        times.sort_unstable();
        let Some(&usual) = times.get(times.len().saturating_sub(1) / 4) else { return };
        let unit = &mut self.units[index];
        let limit = (usual * SLOW_FACTOR).max(TIMEOUT_MIN);
        let limit = if unit.slow { limit / 2 } else { limit };
        unit.slow = unit.answer_time.is_some_and(|time| time > limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceId;
    use crate::sources::modbus::Read;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(1);
    const PERIOD: Duration = Duration::from_secs(1);

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Manner {
        /// Answers after so many milliseconds.
        Answers(u64),
        Mute,
        /// Leaves out every n-th answer.
        Flaps(u64),
        /// Answers half of the time-out late.
        Slow,
        /// Its gateway says that it does not answer.
        Unreachable,
    }

    /// A bus in simulated time: each lane has at most one question on its wire.
    struct Bus {
        schedule: Schedule,
        manners: Vec<Manner>,
        asked: Vec<u64>,
        now: Duration,
        wires: [Option<(Ask, Duration, Answer)>; 2],
        /// Whole and unreadable rounds, with their times.
        rounds: Vec<Vec<(Duration, bool)>>,
        /// The longest time a unit had the main lane while another waited for it.
        longest_turn: Duration,
    }

    impl Bus {
        fn new(manners: &[Manner], reads: usize, has_side: bool) -> Self {
            let read = |index: usize| Read {
                table: RegisterTable::Holding,
                start: u16::try_from(index * 20).unwrap(),
                count: 4,
                every: PERIOD,
            };
            let unit = |index: usize| UnitSettings {
                device: DeviceId::parse(&format!("unit-{index}")).unwrap(),
                unit: u8::try_from(index).unwrap(),
                reads: (0..reads).map(read).collect(),
            };
            let units: Vec<_> = (0..manners.len()).map(unit).collect();
            Self {
                schedule: Schedule::new(&units, TIMEOUT, has_side),
                manners: manners.to_vec(),
                asked: vec![0; manners.len()],
                now: Duration::ZERO,
                wires: [None, None],
                rounds: vec![Vec::new(); manners.len()],
                longest_turn: Duration::ZERO,
            }
        }

        fn ask(&mut self, lane: Lane) -> Option<Duration> {
            let ask = match self.schedule.next(lane, self.now, true) {
                Next::Wait(until) => return Some(until),
                Next::Ask(ask) => ask,
            };
            assert!(ask.timeout <= TIMEOUT);
            for (other, ..) in self.wires.iter().flatten() {
                assert_ne!(other.unit, ask.unit, "a unit is asked one question at a time");
            }
            self.asked[ask.unit] += 1;
            let words = Answer::Words(vec![0; usize::from(ask.at.count)]);
            let (time, answer) = match self.manners[ask.unit] {
                Manner::Answers(millis) => (Duration::from_millis(millis), words),
                Manner::Flaps(n) if !self.asked[ask.unit].is_multiple_of(n) => {
                    (Duration::from_millis(5), words)
                }
                Manner::Mute | Manner::Flaps(_) => (Duration::MAX, Answer::Silent),
                Manner::Slow => (TIMEOUT / 2, words),
                Manner::Unreachable => (Duration::from_millis(150), Answer::Refused(0x0B)),
            };
            let (time, answer) =
                if time > ask.timeout { (ask.timeout, Answer::Silent) } else { (time, answer) };
            if lane == Lane::Main {
                self.longest_turn = self.longest_turn.max(time);
            }
            self.wires[lane as usize] = Some((ask, self.now + time, answer));
            None
        }

        fn run_until(&mut self, end: Duration) {
            while self.now < end {
                let mut next = end;
                for lane in [Lane::Main, Lane::Side] {
                    if self.wires[lane as usize].is_none()
                        && let Some(until) = self.ask(lane)
                    {
                        assert!(until > self.now, "waiting for a time that has passed");
                        next = next.min(until);
                    }
                }
                for (_, done, _) in self.wires.iter().flatten() {
                    next = next.min(*done);
                }
                self.now = next;
                for lane in 0..2 {
                    if let Some((ask, done, answer)) = self.wires[lane].take_if(|(_, done, _)| *done <= next)
                    {
                        let took = ask.timeout.min(TIMEOUT).min(done);
                        let took = if answer == Answer::Silent { took } else { self.pace(ask.unit) };
                        let (_, finished) = self.schedule.answered(&ask, answer, took, next);
                        if let Some(finished) = finished {
                            let whole = finished.blocks.iter().all(|block| block.words.is_ok());
                            self.rounds[finished.unit].push((next, whole));
                        }
                    }
                }
            }
        }

        fn pace(&self, unit: usize) -> Duration {
            match self.manners[unit] {
                Manner::Answers(millis) => Duration::from_millis(millis),
                Manner::Slow => TIMEOUT / 2,
                _ => Duration::from_millis(5),
            }
        }
    }

    fn sick() -> impl Strategy<Value = Manner> {
        prop_oneof![
            Just(Manner::Mute),
            (2u64..5).prop_map(Manner::Flaps),
            Just(Manner::Slow),
            Just(Manner::Unreachable),
        ]
    }

    fn healthy() -> impl Strategy<Value = Manner> {
        (1u64..20).prop_map(Manner::Answers)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_sick_unit_costs_its_neighbours_no_slot_and_no_unit_starves(
            healthy in prop::collection::vec(healthy(), 1..5),
            sick in prop::collection::vec(sick(), 0..4),
            reads in 1usize..3,
        ) {
            const SECONDS: usize = 130;
            let manners = [healthy.clone(), sick].concat();
            let mut bus = Bus::new(&manners, reads, true);
            bus.run_until(Duration::from_secs(SECONDS as u64));
            for (index, rounds) in bus.rounds.iter().enumerate() {
                if index < healthy.len() {
                    prop_assert!(rounds.len() >= SECONDS - 1, "{:?}: {} rounds", manners[index], rounds.len());
                    prop_assert!(rounds.iter().all(|(_, whole)| *whole), "unit {} lost a block", index);
                } else {
                    prop_assert!(rounds.len() >= 4, "{:?} starves: {} rounds", manners[index], rounds.len());
                }
            }
            // The budget of a turn: the longest a healthy unit may make its neighbours wait.
            prop_assert!(bus.longest_turn <= Duration::from_millis(200), "{:?}", bus.longest_turn);
            // Whatever it was, once it is over every unit is back within the longest pause between two probes.
            for manner in &mut bus.manners {
                *manner = Manner::Answers(5);
            }
            bus.run_until(Duration::from_secs(SECONDS as u64 + 75));
            for (index, rounds) in bus.rounds.iter().enumerate() {
                prop_assert!(rounds.last().is_some_and(|(_, whole)| *whole), "unit {index} never came back");
            }
        }

        #[test]
        fn without_a_second_connection_nobody_starves_either(
            manners in prop::collection::vec(prop_oneof![healthy(), sick()], 1..6),
        ) {
            let mut bus = Bus::new(&manners, 1, false);
            bus.run_until(Duration::from_secs(130));
            for (index, rounds) in bus.rounds.iter().enumerate() {
                prop_assert!(rounds.len() >= 4, "{:?}: {} rounds", manners[index], rounds.len());
            }
            prop_assert!(bus.wires[Lane::Side as usize].is_none());
        }
    }

    #[test]
    fn reads_of_neighbours_are_spread_over_the_period() {
        let mut bus = Bus::new(&[Manner::Answers(1); 4], 1, true);
        bus.run_until(Duration::from_millis(990));
        let times: Vec<u128> = bus.rounds.iter().map(|rounds| rounds[0].0.as_millis()).collect();
        assert_eq!(times, [1, 251, 501, 751]);
    }

    #[test]
    fn a_bus_of_mute_units_is_asked_every_few_seconds_because_nobody_is_disturbed() {
        let mut bus = Bus::new(&[Manner::Mute; 3], 1, true);
        bus.run_until(Duration::from_secs(60));
        assert!(bus.schedule.all_mute());
        assert!(bus.rounds.iter().all(|rounds| rounds.len() >= 8), "{:?}", bus.rounds);
    }

    #[test]
    fn without_room_rounds_are_skipped_and_counted() {
        let mut bus = Bus::new(&[Manner::Answers(1); 2], 1, true);
        let later = Duration::from_secs(10);
        assert!(matches!(bus.schedule.next(Lane::Main, later, false), Next::Wait(until) if until > later));
        assert_eq!(bus.schedule.take_skipped(), 11 + 10);
        assert_eq!(bus.schedule.take_skipped(), 0);
    }

    #[test]
    fn a_lost_link_is_told_of_every_unit_and_the_round_begun_is_forgotten() {
        let mut bus = Bus::new(&[Manner::Answers(1); 3], 2, true);
        assert!(bus.ask(Lane::Main).is_none());
        let lost = bus.schedule.link_lost();
        assert_eq!(lost.iter().map(|round| round.blocks.len()).collect::<Vec<_>>(), [2, 2, 2]);
        let (ask, _, answer) = bus.wires[0].take().unwrap();
        assert_eq!(bus.schedule.answered(&ask, answer, Duration::ZERO, Duration::ZERO), (false, None));
        bus.run_until(Duration::from_secs(5));
        assert!(bus.rounds.iter().all(|rounds| rounds.len() >= 4));
    }
}
