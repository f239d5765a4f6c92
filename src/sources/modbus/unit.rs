//! WIRE → FRAMES, pure: one unit of a bus: its reads, its rounds in progress, its breaker.
//!
//! The reads that fell due together are a round and become one frame. Urgent reads, those with points that fire rules
//! watch, have rounds of their own: their frame waits for no ordinary answer.
//!
//! The breaker: a healthy unit that fails once is *suspect* and is asked again soon, apart from its neighbours. If it
//! fails again it is *open*: asked at growing intervals only, until it answers once.
//!
//! Each exception has its consequence. 01: the read is left alone for longer and longer. 02, 03: it is halved
//! (`gaps.rs`). 05, 06: asked again in a moment. 04, 07, 08 and unknown ones: told, and asked again in the next round.
//! 0A, 0B: the gateway in front of the unit speaks, so the unit itself did not answer.

use super::gaps::{Gaps, ILLEGAL_ADDRESS, ILLEGAL_VALUE, Stretch};
use super::request::Mismatch;
use super::{Read, UnitSettings};
use crate::model::{RegisterBlock, RegisterTable, Trouble};
use std::collections::VecDeque;
use std::time::Duration;

/// Unanswered questions of one round after which the unit is taken for mute, the one that made it suspect not counted.
/// Two, so that one register which the unit silently ignores does not condemn the rest.
const SILENT_READS_TO_OPEN: usize = 2;

/// The first and the longest wait between two questions to a mute unit that has healthy neighbours.
const PROBE_AFTER_MIN: Duration = Duration::from_secs(1);
const PROBE_AFTER_MAX: Duration = Duration::from_secs(60);

/// The longest wait when no neighbour is healthy: there is nobody to protect, so recovery comes first.
pub(super) const PROBE_AFTER_MAX_ALONE: Duration = Duration::from_secs(5);

/// The shortest time-out: a scheduling hiccup or one lost segment (minimum RTO about 40 ms) is not silence.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(50);

/// The time-out of a unit's very first question: ten mute units delay the first round by 2 s, not by 10.
const TIMEOUT_FIRST: Duration = Duration::from_millis(200);

/// A unit is given this many times its usual answer time.
pub(super) const TIMEOUT_FACTOR: u32 = 4;

/// A failure weighs as much as this many good rounds; above the limit a unit is asked apart from its neighbours. So
/// the first failure is forgiven at once, and a unit that flaps stays apart until it has been good for a while.
const DEMERITS_FAILURE: u8 = 4;
const DEMERITS_MAX: u8 = 12;

/// The shortest period: ten polls a second is as fast as any profile asks.
pub(super) const PERIOD_MIN: Duration = Duration::from_millis(100);

/// Modbus exceptions (V1.1b3, section 7) with a consequence of their own here.
const ILLEGAL_FUNCTION: u8 = 0x01;
const ACKNOWLEDGE: u8 = 0x05;
const BUSY: u8 = 0x06;

/// How long a read of a function that the unit does not have is left alone, doubled each time. A wrong profile costs one
/// question a minute, later one an hour; a unit whose firmware is replaced is read again within that hour.
const FUNCTION_REST_MIN: Duration = Duration::from_secs(60);
const FUNCTION_REST_MAX: Duration = Duration::from_secs(3600);

/// How soon a unit that is busy (05, 06) is asked again, and how often in one round: three times 200 ms is longer than
/// a write to its flash and shorter than the usual period.
const BUSY_REST: Duration = Duration::from_millis(200);
const BUSY_AGAIN_MAX: u8 = 3;

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// As many words as were asked for.
    Words(Vec<u16>),
    /// A Modbus exception.
    Refused(u8),
    /// An answer to this question, of another length.
    Short,
    /// Nothing within the time-out.
    Silent,
    /// An answer to another question, or nothing that can be decoded.
    Wrong(Mismatch),
    /// The connection broke.
    Broken,
}

impl Answer {
    /// Whether it is the far side's answer to this question: then the next one may go by the same connection.
    pub(super) fn keeps_connection(&self) -> bool {
        matches!(self, Self::Words(_) | Self::Refused(_) | Self::Short)
    }

    /// The trouble, when the unit itself cannot be said to have answered.
    fn failure(&self) -> Option<Trouble> {
        match self {
            // "Gateway path unavailable", "gateway target device failed to respond": the gateway speaks, not the unit.
            Self::Refused(code @ (0x0A | 0x0B)) => Some(Trouble::Exception(*code)),
            Self::Silent => Some(Trouble::NoAnswer),
            Self::Wrong(_) => Some(Trouble::WrongAnswer),
            Self::Broken => Some(Trouble::Disconnected),
            Self::Words(_) | Self::Refused(_) | Self::Short => None,
        }
    }
}

/// Whether a unit can be relied upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Healthy,
    Suspect,
    Open { failures: u32, probe_at: Duration },
}

/// What a unit wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// Not before.
    pub(super) at: Duration,
    /// Since when it waits, as far as it has waited: its slot, or its last turn if that was later.
    pub(super) since: Duration,
    /// How often it wants that.
    pub(super) every: Duration,
    /// Fire depends on it.
    pub(super) urgent: bool,
    /// A command waits, and is allowed to go before this.
    pub(super) is_write: bool,
}

#[derive(Debug)]
struct ReadState {
    every: Duration,
    urgent: bool,
    table: RegisterTable,
    next: Duration,
    gaps: Gaps,
    rest: Option<Rest>,
}

/// A read that the unit silently ignores, or whose function it does not have, while it answers others.
#[derive(Debug, Clone, Copy)]
struct Rest {
    times: u32,
    until: Duration,
    trouble: Trouble,
}

/// The reads that fell due together. They become one frame.
#[derive(Debug, Default)]
struct Round {
    /// The earliest slot among them.
    slot: Duration,
    every: Duration,
    asks: VecDeque<(usize, Stretch)>,
    blocks: Vec<RegisterBlock>,
    /// Reads that failed before anything else of this round was answered.
    silent: Vec<usize>,
    answered: bool,
    /// How often the unit said that it is busy.
    busy: u8,
}

/// One unit.
#[derive(Debug)]
pub(super) struct Unit {
    reads: Vec<ReadState>,
    /// The earliest slot of the ordinary and of the urgent reads with its period, so that the bus looks at no read.
    slots: [Option<(Duration, Duration)>; 2],
    /// Its shortest period.
    pub(super) period: Option<Duration>,
    pub(super) standing: Standing,
    /// The ordinary and the urgent round in progress.
    rounds: [Option<Round>; 2],
    /// A question of this unit is on a wire.
    pub(super) busy: bool,
    /// When it was last served, in turns of the bus, and in time for each class.
    pub(super) turn: u64,
    pub(super) served_at: [Duration; 2],
    /// Much slower than its neighbours.
    pub(super) slow: bool,
    /// The longest recent answer; fades by 1/32 an answer.
    pub(super) answer_time: Option<Duration>,
    /// Commands that wait for their turn, and whether other questions went before the first of them.
    pub(super) writes: usize,
    pub(super) passed_over: bool,
    /// It is busy: not asked before that time.
    not_before: Duration,
    /// An earlier answer may come until then: nothing is asked of it before.
    pub(super) held_until: Duration,
    demerits: u8,
    /// The read that was answered last: the one to probe with.
    answered_read: usize,
}

impl Unit {
    /// `first` places a read of that period within it, so that neighbours do not all fall due at once.
    pub(super) fn new(settings: &UnitSettings, first: impl Fn(Duration) -> Duration) -> Self {
        let state = |read: &Read| {
            let every = read.every.max(PERIOD_MIN);
            ReadState {
                every,
                urgent: read.urgent,
                table: read.table,
                next: first(every),
                gaps: Gaps::new(read.table, read.start, read.count),
                rest: None,
            }
        };
        let reads: Vec<ReadState> = settings.reads.iter().filter(|read| read.count > 0).map(state).collect();
        let mut unit = Self {
            slots: [None, None],
            period: reads.iter().map(|read| read.every).min(),
            reads,
            standing: Standing::Healthy,
            rounds: [None, None],
            busy: false,
            turn: 0,
            served_at: [Duration::ZERO; 2],
            slow: false,
            answer_time: None,
            writes: 0,
            passed_over: false,
            not_before: Duration::ZERO,
            held_until: Duration::ZERO,
            demerits: 0,
            answered_read: 0,
        };
        unit.find_slots();
        unit
    }

    /// After each change of when a read is due.
    fn find_slots(&mut self) {
        self.slots = [false, true].map(|urgent| {
            let reads = self.reads.iter().filter(|read| read.urgent == urgent);
            reads.map(|read| (read.next, read.every)).min()
        });
    }

    /// Whether it is to be asked apart from its neighbours. With `one_lane` a slow unit that fire depends on is not:
    /// it takes the time it needs, and ordinary reads give way.
    pub(super) fn is_apart(&self, one_lane: bool) -> bool {
        let slow = self.slow && !(one_lane && self.is_urgent());
        self.standing != Standing::Healthy || slow || self.demerits > DEMERITS_FAILURE
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.slots[1].is_some()
    }

    /// Whether it answers within its usual time and has done so before.
    pub(super) fn has_answered(&self) -> bool {
        self.standing == Standing::Healthy && self.answer_time.is_some()
    }

    /// What it wants at `now`, or next; `None`: it is being asked, or has nothing to read.
    pub(super) fn due(&self, now: Duration) -> Option<Due> {
        let due = self.wants(now)?;
        Some(Due { at: due.at.max(self.held_until), ..due })
    }

    fn wants(&self, now: Duration) -> Option<Due> {
        if self.busy {
            return None;
        }
        let read = self.due_read(now);
        if self.writes == 0 {
            return read;
        }
        let write = Due { at: now, since: now, every: PERIOD_MIN, urgent: false, is_write: true };
        // A fire goes first, but not twice.
        let first = read.filter(|read| read.urgent && read.at <= now && !self.passed_over);
        Some(first.unwrap_or(write))
    }

    fn due_read(&self, now: Duration) -> Option<Due> {
        let class = |urgent: bool| {
            let (at, slot, every) = match &self.rounds[usize::from(urgent)] {
                Some(round) => (Duration::ZERO, round.slot, round.every),
                None => self.slots[usize::from(urgent)].map(|(slot, every)| (slot, slot, every))?,
            };
            let since = slot.max(self.served_at[usize::from(urgent)]);
            Some(Due { at: at.max(self.not_before), since, every, urgent, is_write: false })
        };
        let in_progress = self.rounds.iter().any(Option::is_some);
        if let (Standing::Open { probe_at, .. }, false) = (self.standing, in_progress) {
            let every = self.period?;
            return Some(Due { at: probe_at, since: probe_at, every, urgent: false, is_write: false });
        }
        match (class(true), class(false)) {
            (Some(urgent), Some(ordinary)) if urgent.at <= now || urgent.at <= ordinary.at => Some(urgent),
            (urgent, None) => urgent,
            (_, ordinary) => ordinary,
        }
    }

    /// How long to wait for its answer when that is nobody else's loss.
    pub(super) fn usual_timeout(&self, configured: Duration) -> Duration {
        let usual = self.answer_time.map_or(TIMEOUT_FIRST, |time| time * TIMEOUT_FACTOR);
        usual.max(TIMEOUT_MIN).min(configured)
    }

    /// Starts the round that is due. Returns how many earlier slots were missed. A probe asks for everything.
    pub(super) fn open_round(&mut self, urgent: bool, now: Duration) -> u64 {
        let probing = matches!(self.standing, Standing::Open { .. });
        let mut round = Round { slot: now, every: Duration::MAX, ..Round::default() };
        let mut missed = 0;
        let mut last = VecDeque::new();
        for (index, read) in self.reads.iter_mut().enumerate() {
            if !probing && (read.next > now || read.urgent != urgent) {
                continue;
            }
            round.slot = round.slot.min(read.next);
            round.every = round.every.min(read.every);
            let behind = advance(read, now).saturating_sub(1);
            missed += behind;
            // Its grid begins anew, or on an overloaded bus the place in the grid would decide who is read how often.
            if behind > 0 && !probing {
                read.next = now + read.every;
            }
            if let Some(rest) = read.rest.filter(|rest| !probing && now < rest.until) {
                round.blocks.extend(read.gaps.all(rest.trouble));
                continue;
            }
            let (asks, holes) = read.gaps.plan(now);
            round.blocks.extend(holes);
            let asks = asks.into_iter().map(|ask| (index, ask));
            if read.rest.is_some() { last.extend(asks) } else { round.asks.extend(asks) }
        }
        round.asks.append(&mut last);
        if probing && let Some(at) = round.asks.iter().position(|(read, _)| *read == self.answered_read) {
            round.asks.rotate_left(at);
        }
        self.rounds[usize::from(urgent)] = Some(round);
        self.find_slots();
        missed
    }

    /// Whether the round of that class is under way.
    pub(super) fn in_round(&self, urgent: bool) -> bool {
        self.rounds[usize::from(urgent)].is_some()
    }

    /// Lets the slots that are due pass unused. Returns how many were missed.
    pub(super) fn skip(&mut self, now: Duration) -> u64 {
        if let Standing::Open { probe_at, .. } = &mut self.standing {
            *probe_at = now + PROBE_AFTER_MIN;
        }
        let missed = self.reads.iter_mut().map(|read| advance(read, now)).sum();
        self.find_slots();
        missed
    }

    /// The next question of that round, without taking it away; `None`: the round is complete.
    pub(super) fn ask(&self, urgent: bool) -> Option<(RegisterTable, Stretch)> {
        let &(read, at) = self.rounds[usize::from(urgent)].as_ref()?.asks.front()?;
        Some((self.reads.get(read)?.table, at))
    }

    /// A question that it is sure to answer, for trying a connection.
    pub(super) fn sure_ask(&self, now: Duration) -> Option<(RegisterTable, Stretch)> {
        let read = self.reads.get(self.answered_read)?;
        Some((read.table, *read.gaps.plan(now).0.first()?))
    }

    /// Takes the answer to the question at the front of that round. True: the unit failed.
    pub(super) fn answered(
        &mut self,
        urgent: bool,
        answer: Answer,
        took: Duration,
        now: Duration,
        alone: bool,
    ) -> bool {
        let Some(round) = self.rounds[usize::from(urgent)].as_mut() else { return false };
        let Some((index, at)) = round.asks.pop_front() else { return false };
        let Some(read) = self.reads.get_mut(index) else { return false };
        if let Some(trouble) = answer.failure() {
            self.failed(urgent, index, at, trouble, now, alone);
            return true;
        }
        let faded = self.answer_time.map(|time| time - time.saturating_sub(took) / 32);
        self.answer_time = Some(faded.map_or(took, |faded| faded.max(took)));
        self.standing = Standing::Healthy;
        self.answered_read = index;
        round.answered = true;
        let words = match answer {
            Answer::Words(words) => Ok(words),
            Answer::Refused(code @ (ILLEGAL_ADDRESS | ILLEGAL_VALUE)) => {
                let instead = read.gaps.refused(at, code, now);
                if !instead.is_empty() {
                    for stretch in instead.into_iter().rev() {
                        round.asks.push_front((index, stretch));
                    }
                    return false;
                }
                Err(Trouble::Exception(code))
            }
            Answer::Refused(ACKNOWLEDGE | BUSY) if round.busy < BUSY_AGAIN_MAX => {
                round.busy += 1;
                round.asks.push_front((index, at));
                self.not_before = now + BUSY_REST;
                return false;
            }
            Answer::Refused(code) => Err(Trouble::Exception(code)),
            _ => Err(Trouble::WrongAnswer),
        };
        match words {
            Ok(_) => {
                read.gaps.answered(at);
                read.rest = None;
            }
            // The unit does not have the function: neither for the rest of this read.
            Err(trouble @ Trouble::Exception(ILLEGAL_FUNCTION)) => {
                round.asks.retain(|(other, _)| *other != index);
                round.blocks.retain(|block| block.table != read.table || !read.gaps.holds(block));
                round.blocks.extend(read.gaps.all(trouble));
                rest(read, now, trouble, FUNCTION_REST_MIN, FUNCTION_REST_MAX);
                return false;
            }
            Err(_) => read.rest = None,
        }
        round.blocks.push(read.gaps.block(at, words));
        for ignored in std::mem::take(&mut round.silent) {
            if let Some(read) = self.reads.get_mut(ignored) {
                rest(read, now, Trouble::NoAnswer, PROBE_AFTER_MIN, PROBE_AFTER_MAX);
            }
        }
        false
    }

    fn failed(
        &mut self,
        urgent: bool,
        index: usize,
        at: Stretch,
        trouble: Trouble,
        now: Duration,
        alone: bool,
    ) {
        let [ordinary, fire] = &mut self.rounds;
        let (round, other) = if urgent { (fire, ordinary) } else { (ordinary, fire) };
        let (Some(round), Some(read)) = (round.as_mut(), self.reads.get_mut(index)) else { return };
        if self.standing == Standing::Healthy {
            self.standing = Standing::Suspect;
            self.demerits = (self.demerits + DEMERITS_FAILURE).min(DEMERITS_MAX);
            round.asks.push_front((index, at));
            return;
        }
        round.blocks.push(read.gaps.block(at, Err(trouble)));
        if round.answered {
            rest(read, now, Trouble::NoAnswer, PROBE_AFTER_MIN, PROBE_AFTER_MAX);
            self.standing = Standing::Healthy;
            return;
        }
        round.silent.push(index);
        let failures = match self.standing {
            Standing::Open { failures, .. } => failures,
            _ if round.silent.len() >= SILENT_READS_TO_OPEN || round.asks.is_empty() => 0,
            _ => return,
        };
        // Its other round is given up as well: one frame says that nothing is read.
        if let Some(other) = other.take() {
            round.asks.extend(other.asks);
            round.blocks.extend(other.blocks);
        }
        for (index, at) in std::mem::take(&mut round.asks) {
            if let Some(read) = self.reads.get(index) {
                round.blocks.push(read.gaps.block(at, Err(trouble)));
            }
        }
        let longest = if alone { PROBE_AFTER_MAX_ALONE } else { PROBE_AFTER_MAX };
        let wait = (PROBE_AFTER_MIN * 2u32.saturating_pow(failures.min(6))).min(longest);
        self.standing = Standing::Open { failures: failures.saturating_add(1), probe_at: now + wait };
    }

    /// Ends that round when nothing is left to ask: the blocks of its frame.
    pub(super) fn close_round(&mut self, urgent: bool, now: Duration) -> Option<Vec<RegisterBlock>> {
        let mut round = self.rounds[usize::from(urgent)].take_if(|round| round.asks.is_empty())?;
        self.busy = false;
        for read in &mut self.reads {
            read.gaps.settle(now);
        }
        if self.standing == Standing::Healthy && round.answered {
            self.demerits = self.demerits.saturating_sub(1);
        }
        round.blocks.sort_by_key(|block| (block.table, block.start));
        Some(round.blocks)
    }

    /// The connection is gone: the rounds are given up and every block is said to be unreadable.
    pub(super) fn give_up(&mut self) -> Vec<RegisterBlock> {
        self.rounds = [None, None];
        self.reads.iter().flat_map(|read| read.gaps.all(Trouble::Disconnected)).collect()
    }

    /// The connection is back: a mute unit is asked at once.
    pub(super) fn retry(&mut self, now: Duration) {
        if let Standing::Open { probe_at, .. } = &mut self.standing {
            *probe_at = now;
        }
    }
}

/// Moves past `now` on the read's own grid. Returns how many slots were passed.
fn advance(read: &mut ReadState, now: Duration) -> u64 {
    let Some(late) = now.checked_sub(read.next) else { return 0 };
    let slots =
        u64::try_from(late.as_nanos() / read.every.as_nanos().max(1)).unwrap_or(u64::MAX).saturating_add(1);
    let step = u128::from(slots).saturating_mul(read.every.as_nanos());
    read.next += Duration::from_nanos(u64::try_from(step).unwrap_or(u64::MAX / 4));
    slots
}

/// Leaves a read alone for a while, twice as long each time.
fn rest(read: &mut ReadState, now: Duration, trouble: Trouble, first: Duration, longest: Duration) {
    let times = read.rest.map_or(0, |rest| rest.times);
    let wait = (first * 2u32.saturating_pow(times.min(6))).min(longest);
    read.rest = Some(Rest { times: times.saturating_add(1), until: now + wait, trouble });
}
