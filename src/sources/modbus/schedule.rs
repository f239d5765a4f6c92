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

/// A unit this many times slower than the median of its neighbours is asked apart; it comes back at half of that.
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
        if blocks.is_some() {
            self.judge_pace(ask.unit);
        }
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
        // The lower median: of two units the faster one sets the pace.
        let Some(&median) = times.get(times.len().saturating_sub(1) / 2) else { return };
        let unit = &mut self.units[index];
        let limit = (median * SLOW_FACTOR).max(TIMEOUT_MIN);
        let limit = if unit.slow { limit / 2 } else { limit };
        unit.slow = unit.answer_time.is_some_and(|time| time > limit);
    }
}
