//! WIRE → FRAMES, pure: what to ask a bus next.
//!
//! A bus has two lanes, each one connection with one question on it at a time. On the main lane the units that answer
//! take turns; whatever is mute, slow or flapping is asked on the side lane and delays nobody but its like. A serial
//! line, and many a server, has the main lane only. There a sick unit is a guest: it is asked in the gaps between the
//! others' turns, and waited for no longer than the gap and a [`GUEST_SHARE`] of the shortest period.
//!
//! Turns go by rank: reads that fire depends on, then commands, then everything else; within a rank whoever is late by
//! the largest part of its period. So when the bus cannot carry what is asked of it, ordinary periods are stretched
//! evenly and urgent ones last. A turn is one question.
//!
//! The budget of a sick unit in one round, while others answer: one question that makes it suspect and
//! `SILENT_READS_TO_OPEN` that open its breaker, each at most a gap and a [`GUEST_SHARE`] long; then one such question a
//! probe. With the bus' period P and the answers' sum T a round, periods are kept as long as T ≤ P; guests that need g
//! are served as long as g ≤ (1 − [`SPREAD`]) × P + [`GUEST_SHARE`] × P, and beyond that once in [`FORCED_EVERY`], or [`FORCED_URGENT_EVERY`].
//!
//! Time is a [`Duration`] since the bus was started. Nothing here waits: the caller is told until when.

use super::UnitSettings;
use super::gaps::Stretch;
use super::unit::{Answer, Due, PERIOD_MIN, Standing, TIMEOUT_MIN, Unit};
use crate::model::{RegisterBlock, RegisterTable};
use std::cmp::Reverse;
use std::time::Duration;

/// A unit this many times slower than the lower quartile of the bus is asked apart; it comes back at half of that.
/// The quartile, so that several slow units cannot vote themselves normal and one fast unit does not banish the rest.
const SLOW_FACTOR: u32 = 4;

/// How long the side lane is not used after it was found not to work. Many gateways serve one connection only.
const SIDE_REST: Duration = Duration::from_secs(300);

/// How far into the next turn a guest may reach: a twentieth of the shortest period in force. Neighbours in one cycle
/// may cost as much again, and a period is kept within a tenth.
const GUEST_SHARE: u32 = 20;

/// The part of the shortest period over which the units' turns are spread. The rest of it is the longest gap, for guests:
/// a unit that needs up to two fifths of the period is read beside healthy ones.
const SPREAD: f64 = 0.6;

/// A guest is only asked when it has at least this many times the bus' usual answer time, and a unit that takes turns is
/// always given that much of its own.
const GUEST_FACTOR: u32 = 2;

/// A guest that no gap was long enough for is asked all the same after so long, one at a time: with the usual time-out of
/// 1 s it costs 1.7 % of the bus.
const FORCED_EVERY: Duration = Duration::from_secs(60);

/// The same for one that fire depends on: it failed once on a bus that is polled very often, and must not be blind for
/// longer. It is waited for as long as it needs, some 50 ms; with an answer time of 1 s it costs a fifth of the bus.
const FORCED_URGENT_EVERY: Duration = Duration::from_secs(5);

/// The shortest wait for the answer to a command: a unit may write to its flash (100 ms) or move a relay before it answers.
/// Also the most that a command without an answer delays anybody.
const WRITE_TIMEOUT_MIN: Duration = Duration::from_millis(300);

/// Over what time the load of a bus is measured: several rounds of the usual periods, and soon enough to be told.
const LOAD_EVERY: Duration = Duration::from_secs(10);

/// A bus that is busy for less than this many percent of the time is not overloaded, whatever was missed.
const LOAD_HIGH_PERCENT: u32 = 90;

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
    /// A command of this unit goes out.
    Write(Write),
    /// Nothing before that time, unless an answer on the other lane changes it.
    Wait(Duration),
}

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    /// Index into the bus's units.
    pub(super) unit: usize,
    pub(super) lane: Lane,
    /// Of the urgent round.
    pub(super) urgent: bool,
    pub(super) table: RegisterTable,
    pub(super) at: Stretch,
    pub(super) timeout: Duration,
}

/// The turn of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) unit: usize,
    pub(super) lane: Lane,
    pub(super) timeout: Duration,
}

/// A finished round of one unit: one frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) unit: usize,
    pub(super) blocks: Vec<RegisterBlock>,
}

/// How busy a bus was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    /// Of the time, with a question on the main lane.
    pub(super) percent: u32,
    /// Units that answer had to be left out because the bus had no time.
    pub(super) overloaded: bool,
}

/// What stands for the other units while one is chosen.
struct Crowd {
    /// Units that take turns.
    in_turn: usize,
    /// The shortest period of those that have answered; `None`: nobody has.
    shortest: Option<Duration>,
    /// When the next of those falls due that are not due yet.
    next: Duration,
    /// How many are due now.
    due: usize,
}

/// The whole bus.
#[derive(Debug)]
pub(super) struct Schedule {
    units: Vec<Unit>,
    timeout: Duration,
    /// When the side lane may be used; `None`: never.
    side_from: Option<Duration>,
    turn: u64,
    /// Units with slots that passed unused, and how many, since they were last taken.
    missed: Vec<(usize, u64)>,
    /// The lower quartile of the units' answer times.
    usual: Option<Duration>,
    /// When an answer last cost the connection, and how long it takes until there is one again.
    broke_at: Option<Duration>,
    recovery: Duration,
    /// A line: a question without a right answer does not cost the connection.
    is_line: bool,
    /// When the next guest may be forced in: an ordinary one, and one that fire depends on.
    forced_from: [Duration; 2],
    writes: usize,
    load_since: Duration,
    busy_for: Duration,
    missed_in_turn: u64,
}

impl Schedule {
    pub(super) fn new(units: &[UnitSettings], timeout: Duration, has_side: bool) -> Self {
        let periods = units.iter().flat_map(|unit| &unit.reads).map(|read| read.every.max(PERIOD_MIN));
        let shortest = periods.min().unwrap_or(PERIOD_MIN);
        #[expect(clippy::cast_precision_loss, reason = "a bus has a few hundred units")]
        let place = |index: usize| shortest.mul_f64(SPREAD * index as f64 / units.len().max(1) as f64);
        // A longer period starts in a later cycle of the shortest one, so that not all of them fall into one cycle.
        let cycle = |index: usize, every: Duration| {
            let cycles = (every.as_nanos() / shortest.as_nanos().max(1)).max(1);
            u32::try_from(index as u128 % cycles).unwrap_or(0)
        };
        let unit = |(index, unit): (usize, &UnitSettings)| {
            Unit::new(unit, |every| place(index) + shortest * cycle(index, every))
        };
        Self {
            units: units.iter().enumerate().map(unit).collect(),
            timeout: timeout.max(TIMEOUT_MIN),
            side_from: has_side.then_some(Duration::ZERO),
            turn: 0,
            missed: Vec::new(),
            usual: None,
            broke_at: None,
            recovery: Duration::ZERO,
            is_line: false,
            forced_from: [Duration::ZERO; 2],
            writes: 0,
            load_since: Duration::ZERO,
            busy_for: Duration::ZERO,
            missed_in_turn: 0,
        }
    }

    /// Of a line: there a sick unit is waited for, and the connection stays. A line that was cut, or that is opened anew
    /// because nobody answered, says nothing of what a question to one unit costs; taken for that, it would keep every
    /// unit that failed meanwhile out of all gaps, long after it answers again.
    pub(super) fn of_a_line(mut self) -> Self {
        self.is_line = true;
        self
    }

    /// What to ask on this lane. Without `room` for a frame, rounds that fall due are skipped and counted.
    pub(super) fn next(&mut self, lane: Lane, now: Duration, room: bool) -> Next {
        if lane == Lane::Main
            && let Some(broke_at) = self.broke_at.take()
        {
            let took = now.saturating_sub(broke_at);
            self.recovery = took.max(self.recovery - self.recovery.saturating_sub(took) / 8);
        }
        let side = self.side_works(now);
        let (mut wait, mut guests) = (Duration::MAX, false);
        let mut crowd = Crowd { in_turn: 0, shortest: None, next: Duration::MAX, due: 0 };
        let mut best: Option<(Rank, usize, Due)> = None;
        for (index, unit) in self.units.iter_mut().enumerate() {
            let apart = unit.is_apart(!side);
            let asked_on = if side && apart { Lane::Side } else { Lane::Main };
            if lane != asked_on {
                continue;
            }
            let in_turn = side || !apart;
            if in_turn {
                crowd.in_turn += 1;
                if unit.has_answered() {
                    crowd.shortest = crowd.shortest.into_iter().chain(unit.period).min();
                }
            }
            let Some(mut due) = unit.due(now) else { continue };
            if due.at <= now && !due.is_write && !unit.in_round(due.urgent) && !room {
                self.missed.push((index, unit.skip(now)));
                let Some(later) = unit.due(now) else { continue };
                due = later;
            }
            if due.at > now {
                wait = wait.min(due.at);
                if in_turn {
                    crowd.next = crowd.next.min(due.at);
                }
            } else if in_turn {
                crowd.due += 1;
                let rank = rank(lane, unit, &due, now);
                if best.as_ref().is_none_or(|(first, ..)| rank < *first) {
                    best = Some((rank, index, due));
                }
            } else {
                guests = true;
            }
        }
        let forced = guests && crowd.in_turn > 0;
        let chosen = (forced.then(|| self.overdue_guest(now)).flatten())
            .or_else(|| {
                let (_, index, due) = best?;
                let timeout = match lane {
                    Lane::Main => self.timeout_in_turn(index, &due, &crowd, now),
                    Lane::Side => self.timeout,
                };
                Some((index, due, timeout))
            })
            .or_else(|| guests.then(|| self.guest(&crowd, now)).flatten());
        match chosen {
            None => Next::Wait(wait.min(if guests { crowd.next } else { Duration::MAX })),
            Some((index, due, timeout)) => self.turn_of(lane, index, due, timeout, now),
        }
    }

    fn turn_of(&mut self, lane: Lane, index: usize, due: Due, timeout: Duration, now: Duration) -> Next {
        if self.writes > 0 {
            let waits = |unit: &&mut Unit| unit.writes > 0 && !unit.busy;
            self.units.iter_mut().filter(waits).for_each(|unit| unit.passed_over = true);
        }
        let one_lane = !self.side_works(now);
        let unit = &mut self.units[index];
        self.turn += 1;
        (unit.turn, unit.busy) = (self.turn, true);
        if due.is_write {
            unit.passed_over = false;
            return Next::Write(Write { unit: index, lane, timeout });
        }
        unit.served_at[usize::from(due.urgent)] = now;
        if !unit.in_round(due.urgent) {
            let answers = unit.has_answered() && !unit.is_apart(one_lane);
            let missed = unit.open_round(due.urgent, now);
            if missed > 0 {
                self.missed.push((index, missed));
                self.missed_in_turn += if answers { missed } else { 0 };
            }
        }
        // Nothing but known holes: the round is complete without a question.
        let nothing = (RegisterTable::Holding, Stretch { start: 0, count: 0 });
        let (table, at) = unit.ask(due.urgent).unwrap_or(nothing);
        Next::Ask(Ask { unit: index, lane, urgent: due.urgent, table, at, timeout })
    }

    /// How long a unit that takes turns is waited for: a few times its usual answer time, but a unit that falls silent
    /// takes hardly more than a guest.
    fn timeout_in_turn(&self, index: usize, due: &Due, crowd: &Crowd, now: Duration) -> Duration {
        let unit = &self.units[index];
        if crowd.in_turn < 2 {
            return self.timeout;
        }
        let usual = unit.usual_timeout(self.timeout);
        if due.is_write {
            return usual.max(WRITE_TIMEOUT_MIN).min(self.timeout);
        }
        // A unit that nobody knows yet is given its first question's time.
        let (Some(shortest), Some(known)) = (crowd.shortest, unit.answer_time) else { return usual };
        let gap = if crowd.due > 1 { Duration::ZERO } else { crowd.next.saturating_sub(now) };
        let least = (known * GUEST_FACTOR).max(TIMEOUT_MIN);
        usual.min((gap.saturating_add(shortest / GUEST_SHARE)).saturating_sub(self.recovery).max(least))
    }

    /// What a guest needs to be worth asking.
    fn need(&self, unit: &Unit) -> Duration {
        let own = unit.answer_time.map(|time| time + time / 4);
        let need = match (own, self.usual) {
            (Some(own), _) if unit.standing == Standing::Healthy => own,
            (own, Some(usual)) => own.unwrap_or(TIMEOUT_MIN).max(usual * GUEST_FACTOR),
            (own, None) => own.unwrap_or(TIMEOUT_MIN),
        };
        need.max(TIMEOUT_MIN).min(self.timeout)
    }

    /// The guest that the gap is long enough for and that was served longest ago.
    fn guest(&self, crowd: &Crowd, now: Duration) -> Option<(usize, Due, Duration)> {
        let share = crowd.shortest.map_or(Duration::ZERO, |shortest| shortest / GUEST_SHARE);
        let allowed = match crowd.in_turn {
            0 => Duration::MAX,
            _ => crowd.next.saturating_sub(now).saturating_add(share),
        };
        let fits = |unit: &Unit| {
            let answers = unit.standing == Standing::Healthy;
            let allowed = if answers { allowed } else { allowed.saturating_sub(self.recovery) };
            (self.need(unit) <= allowed).then(|| allowed.min(self.timeout))
        };
        let guests = self.due_guests(now).filter_map(|(index, due)| {
            let unit = &self.units[index];
            Some(((!due.is_write, unit.turn), (index, due, fits(unit)?)))
        });
        guests.min_by_key(|(rank, _)| *rank).map(|(_, chosen)| chosen)
    }

    /// The guest that has waited longest beyond what it may have to wait, if any has.
    fn overdue_guest(&mut self, now: Duration) -> Option<(usize, Due, Duration)> {
        let patience = [FORCED_EVERY, FORCED_URGENT_EVERY];
        let overdue = self.due_guests(now).map(|(index, due)| {
            let class = usize::from(self.units[index].is_urgent());
            let until = (due.since + patience[class]).max(self.forced_from[class]);
            (until, class, index, due)
        });
        let (_, class, index, due) =
            overdue.min_by_key(|(until, ..)| *until).filter(|(until, ..)| *until <= now)?;
        self.forced_from[class] = now + patience[class];
        Some((index, due, self.need(&self.units[index])))
    }

    fn due_guests(&self, now: Duration) -> impl Iterator<Item = (usize, Due)> {
        let apart = self.units.iter().enumerate().filter(|(_, unit)| unit.is_apart(true));
        apart.filter_map(move |(index, unit)| Some((index, unit.due(now).filter(|due| due.at <= now)?)))
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
        self.took(ask.lane, took, answer.keeps_connection(), now);
        let Some(unit) = self.units.get_mut(ask.unit) else { return (false, None) };
        unit.busy = false;
        let failed = ask.at.count > 0 && unit.answered(ask.urgent, answer, took, now, alone);
        let blocks = unit.close_round(ask.urgent, now);
        // After each answer, not each round: a slow unit must not finish its round among its neighbours.
        self.judge_pace(ask.unit);
        (failed, blocks.map(|blocks| Finished { unit: ask.unit, blocks }))
    }

    /// A command waits for this unit.
    pub(super) fn queue_write(&mut self, unit: usize) {
        if let Some(unit) = self.units.get_mut(unit) {
            unit.writes += 1;
            self.writes += 1;
        }
    }

    /// A command of this unit waits no longer: it was asked for, or given up.
    pub(super) fn unqueue_write(&mut self, unit: usize) {
        if let Some(unit) = self.units.get_mut(unit).filter(|unit| unit.writes > 0) {
            unit.writes -= 1;
            unit.passed_over &= unit.writes > 0;
            self.writes -= 1;
        }
    }

    /// What became of a command that was sent. An answer to it is a sign of life.
    pub(super) fn wrote(&mut self, write: &Write, answered: bool, took: Duration, now: Duration) {
        self.took(write.lane, took, answered, now);
        if let Some(unit) = self.units.get_mut(write.unit) {
            unit.busy = false;
            if answered {
                unit.retry(now);
            }
        }
    }

    fn took(&mut self, lane: Lane, took: Duration, keeps_connection: bool, now: Duration) {
        if lane == Lane::Main {
            self.busy_for += took;
            if !keeps_connection && !self.is_line {
                self.broke_at = Some(now);
            }
        }
    }

    /// This unit owes an answer on the main lane: nothing is asked of it before.
    pub(super) fn hold(&mut self, unit: usize, until: Duration) {
        if let Some(unit) = self.units.get_mut(unit) {
            unit.held_until = until;
        }
    }

    /// The question was not asked; it stays the next one of its unit.
    pub(super) fn put_back(&mut self, unit: usize) {
        if let Some(unit) = self.units.get_mut(unit) {
            unit.busy = false;
        }
    }

    /// The side lane does not work: everything goes by the main lane for a while.
    pub(super) fn side_failed(&mut self, now: Duration) {
        self.side_from = self.side_from.map(|_| now + SIDE_REST);
    }

    /// A question whose answer proves that a fresh side lane works at all, addressed to the healthiest unit.
    pub(super) fn canary(&self, now: Duration) -> Option<Ask> {
        let healthy = self.units.iter().enumerate().filter(|(_, unit)| !unit.is_apart(false));
        let (unit, _) = healthy.min_by_key(|(_, unit)| unit.answer_time.unwrap_or(Duration::MAX))?;
        let (table, at) = self.units[unit].sure_ask(now)?;
        Some(Ask { unit, lane: Lane::Side, urgent: false, table, at, timeout: self.timeout })
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
        // The time without a link is not what one bad answer costs, or no guest would ever fit into a gap.
        (self.broke_at, self.recovery) = (None, Duration::ZERO);
    }

    /// True when there are units and none of them answers.
    pub(super) fn all_mute(&self) -> bool {
        !self.units.is_empty() && self.units.iter().all(|unit| matches!(unit.standing, Standing::Open { .. }))
    }

    /// The units with slots that passed unused since the last call, and how many.
    pub(super) fn take_missed(&mut self) -> Vec<(usize, u64)> {
        std::mem::take(&mut self.missed)
    }

    /// How busy the bus was; `None`: it was told less than [`LOAD_EVERY`] ago.
    pub(super) fn take_load(&mut self, now: Duration) -> Option<Load> {
        let time = now.saturating_sub(self.load_since);
        if time < LOAD_EVERY {
            return None;
        }
        let percent = self.busy_for.as_millis() * 100 / time.as_millis().max(1);
        let percent = u32::try_from(percent).unwrap_or(u32::MAX).min(100);
        let overloaded = self.missed_in_turn > 0 && percent >= LOAD_HIGH_PERCENT;
        (self.load_since, self.busy_for, self.missed_in_turn) = (now, Duration::ZERO, 0);
        Some(Load { percent, overloaded })
    }

    /// The side lane exists to protect somebody: without a healthy unit it is not used.
    fn side_works(&self, now: Duration) -> bool {
        self.side_from.is_some_and(|from| from <= now) && self.units.iter().any(|unit| !unit.is_apart(false))
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
        self.usual = Some(usual);
        let unit = &mut self.units[index];
        let limit = (usual * SLOW_FACTOR).max(TIMEOUT_MIN);
        let limit = if unit.slow { limit / 2 } else { limit };
        unit.slow = unit.answer_time.is_some_and(|time| time > limit);
    }
}

/// Whose turn it is: the least.
type Rank = (u8, Reverse<u128>, u64);

/// On the side lane everybody is sick and takes turns.
fn rank(lane: Lane, unit: &Unit, due: &Due, now: Duration) -> Rank {
    let class = match due {
        Due { is_write: true, .. } if unit.passed_over => 0,
        Due { urgent: true, .. } => 1,
        Due { is_write: true, .. } => 2,
        _ => 3,
    };
    if lane == Lane::Side {
        return (if due.is_write { 0 } else { 1 }, Reverse(0), unit.turn);
    }
    let late = now.saturating_sub(due.since).as_nanos() * 1_000_000 / due.every.as_nanos().max(1);
    (class, Reverse(late), unit.turn)
}
