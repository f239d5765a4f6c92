//! WIRE → FRAMES, pure: one unit of a bus: its reads, its round in progress, its breaker.
//!
//! The breaker: a healthy unit that fails once is *suspect* and is asked again at once with the whole time-out, apart
//! from its neighbours. If it fails again it is *open*: asked at growing intervals only, until it answers once.

use super::gaps::{Gaps, ILLEGAL_ADDRESS, Stretch};
use super::request::Mismatch;
use super::{Read, UnitSettings};
use crate::model::{RegisterBlock, RegisterTable, Trouble};
use std::collections::VecDeque;
use std::time::Duration;

/// Unanswered questions of one round, asked with the whole time-out, after which the unit is taken for mute. Two, so
/// that one register which the unit silently ignores does not condemn the rest.
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
const TIMEOUT_FACTOR: u32 = 4;

/// A failure weighs as much as this many good rounds; above the limit a unit is asked apart from its neighbours. So
/// the first failure is forgiven at once, and a unit that flaps stays apart until it has been good for a while.
const DEMERITS_FAILURE: u8 = 4;
const DEMERITS_MAX: u8 = 12;

/// The shortest period: ten polls a second is as fast as any profile asks.
const PERIOD_MIN: Duration = Duration::from_millis(100);

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

#[derive(Debug)]
struct ReadState {
    every: Duration,
    table: RegisterTable,
    next: Duration,
    gaps: Gaps,
    /// Silently ignored by a unit that answers otherwise: how often, and until when it is left alone.
    ignored: Option<(u32, Duration)>,
}

/// The reads that fell due together. They become one frame.
#[derive(Debug, Default)]
struct Round {
    asks: VecDeque<(usize, Stretch)>,
    blocks: Vec<RegisterBlock>,
    /// Reads that failed before anything else of this round was answered.
    silent: Vec<usize>,
    answered: bool,
}

/// One unit.
#[derive(Debug)]
pub(super) struct Unit {
    reads: Vec<ReadState>,
    pub(super) standing: Standing,
    round: Option<Round>,
    /// A question of this unit is on a wire.
    pub(super) busy: bool,
    /// When it was last served, in turns of the bus.
    pub(super) turn: u64,
    /// Much slower than its neighbours.
    pub(super) slow: bool,
    /// The longest recent answer; fades by 1/32 an answer.
    pub(super) answer_time: Option<Duration>,
    demerits: u8,
    /// The read that was answered last: the one to probe with.
    answered_read: usize,
}

impl Unit {
    /// `share` in 0..1 places its reads within their period, so that neighbours do not all fall due at once.
    pub(super) fn new(settings: &UnitSettings, share: f64) -> Self {
        let period = settings.reads.iter().map(|read| read.every.max(PERIOD_MIN)).min();
        let phase = period.unwrap_or(PERIOD_MIN).mul_f64(share);
        let state = |read: &Read| ReadState {
            every: read.every.max(PERIOD_MIN),
            table: read.table,
            next: phase,
            gaps: Gaps::new(read.table, read.start, read.count),
            ignored: None,
        };
        Self {
            reads: settings.reads.iter().filter(|read| read.count > 0).map(state).collect(),
            standing: Standing::Healthy,
            round: None,
            busy: false,
            turn: 0,
            slow: false,
            answer_time: None,
            demerits: 0,
            answered_read: 0,
        }
    }

    /// Whether it is to be asked apart from its neighbours.
    pub(super) fn is_apart(&self) -> bool {
        self.standing != Standing::Healthy || self.slow || self.demerits > DEMERITS_FAILURE
    }

    /// When it wants to be asked next; `None`: it is being asked, or has nothing to read.
    pub(super) fn due(&self) -> Option<Duration> {
        if self.busy {
            return None;
        }
        if self.round.is_some() {
            return Some(Duration::ZERO);
        }
        let next = self.reads.iter().map(|read| read.next).min()?;
        Some(match self.standing {
            Standing::Open { probe_at, .. } => probe_at,
            Standing::Healthy | Standing::Suspect => next,
        })
    }

    /// How long to wait for its answer. Only a healthy unit among neighbours is cut short.
    pub(super) fn timeout(&self, configured: Duration, among_neighbours: bool) -> Duration {
        if !among_neighbours || self.standing != Standing::Healthy {
            return configured;
        }
        let usual = self.answer_time.map_or(TIMEOUT_FIRST, |time| time * TIMEOUT_FACTOR);
        usual.max(TIMEOUT_MIN).min(configured)
    }

    /// Starts the round that is due. Returns how many earlier slots were missed.
    pub(super) fn open_round(&mut self, now: Duration) -> u64 {
        let probing = matches!(self.standing, Standing::Open { .. });
        let mut round = Round::default();
        let mut missed = 0;
        let mut last = VecDeque::new();
        for (index, read) in self.reads.iter_mut().enumerate() {
            if read.next > now && !probing {
                continue;
            }
            missed += advance(read, now).saturating_sub(1);
            if !probing && read.ignored.is_some_and(|(_, until)| now < until) {
                round.blocks.extend(read.gaps.all(Trouble::NoAnswer));
                continue;
            }
            let (asks, holes) = read.gaps.plan(now);
            round.blocks.extend(holes);
            let asks = asks.into_iter().map(|ask| (index, ask));
            if read.ignored.is_some() { last.extend(asks) } else { round.asks.extend(asks) }
        }
        round.asks.append(&mut last);
        if probing && let Some(at) = round.asks.iter().position(|(read, _)| *read == self.answered_read) {
            round.asks.rotate_left(at);
        }
        self.round = Some(round);
        missed
    }

    /// Lets the slot that is due pass unused. Returns how many slots were missed.
    pub(super) fn skip(&mut self, now: Duration) -> u64 {
        if let Standing::Open { probe_at, .. } = &mut self.standing {
            *probe_at = now + PROBE_AFTER_MIN;
        }
        self.reads.iter_mut().map(|read| advance(read, now)).sum()
    }

    /// The next question of the round, without taking it away; `None`: the round is complete.
    pub(super) fn ask(&self) -> Option<(usize, RegisterTable, Stretch)> {
        let &(read, at) = self.round.as_ref()?.asks.front()?;
        Some((read, self.reads.get(read)?.table, at))
    }

    /// A question that it is sure to answer, for trying a connection.
    pub(super) fn sure_ask(&self, now: Duration) -> Option<(RegisterTable, Stretch)> {
        let read = self.reads.get(self.answered_read)?;
        Some((read.table, *read.gaps.plan(now).0.first()?))
    }

    /// Takes the answer to the question at the front of the round. True: the unit failed.
    pub(super) fn answered(&mut self, answer: Answer, took: Duration, now: Duration, alone: bool) -> bool {
        let Some(round) = self.round.as_mut() else { return false };
        let Some((index, at)) = round.asks.pop_front() else { return false };
        let Some(read) = self.reads.get_mut(index) else { return false };
        if let Some(trouble) = answer.failure() {
            self.failed(index, at, trouble, now, alone);
            return true;
        }
        let faded = self.answer_time.map(|time| time - time.saturating_sub(took) / 32);
        self.answer_time = Some(faded.map_or(took, |faded| faded.max(took)));
        self.standing = Standing::Healthy;
        self.answered_read = index;
        read.ignored = None;
        round.answered = true;
        let words = match answer {
            Answer::Words(words) => Ok(words),
            Answer::Refused(ILLEGAL_ADDRESS) => {
                let instead = read.gaps.refused(at, now);
                if !instead.is_empty() {
                    for stretch in instead.into_iter().rev() {
                        round.asks.push_front((index, stretch));
                    }
                    return false;
                }
                Err(Trouble::Exception(ILLEGAL_ADDRESS))
            }
            Answer::Refused(code) => Err(Trouble::Exception(code)),
            _ => Err(Trouble::WrongAnswer),
        };
        if words.is_ok() {
            read.gaps.answered(at);
        }
        round.blocks.push(read.gaps.block(at, words));
        for ignored in std::mem::take(&mut round.silent) {
            if let Some(read) = self.reads.get_mut(ignored) {
                ignore(read, now);
            }
        }
        false
    }

    fn failed(&mut self, index: usize, at: Stretch, trouble: Trouble, now: Duration, alone: bool) {
        let (Some(round), Some(read)) = (self.round.as_mut(), self.reads.get_mut(index)) else { return };
        if self.standing == Standing::Healthy {
            self.standing = Standing::Suspect;
            self.demerits = (self.demerits + DEMERITS_FAILURE).min(DEMERITS_MAX);
            round.asks.push_front((index, at));
            return;
        }
        round.blocks.push(read.gaps.block(at, Err(trouble)));
        if round.answered {
            ignore(read, now);
            self.standing = Standing::Healthy;
            return;
        }
        round.silent.push(index);
        let failures = match self.standing {
            Standing::Open { failures, .. } => failures,
            _ if round.silent.len() >= SILENT_READS_TO_OPEN || round.asks.is_empty() => 0,
            _ => return,
        };
        for (index, at) in std::mem::take(&mut round.asks) {
            if let Some(read) = self.reads.get(index) {
                round.blocks.push(read.gaps.block(at, Err(trouble)));
            }
        }
        let longest = if alone { PROBE_AFTER_MAX_ALONE } else { PROBE_AFTER_MAX };
        let wait = (PROBE_AFTER_MIN * 2u32.saturating_pow(failures.min(6))).min(longest);
        self.standing = Standing::Open { failures: failures.saturating_add(1), probe_at: now + wait };
    }

    /// Ends the round when nothing is left to ask: the blocks of its frame.
    pub(super) fn close_round(&mut self, now: Duration) -> Option<Vec<RegisterBlock>> {
        let mut round = self.round.take_if(|round| round.asks.is_empty())?;
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

    /// The connection is gone: the round is given up and every block is said to be unreadable.
    pub(super) fn give_up(&mut self) -> Vec<RegisterBlock> {
        self.round = None;
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

fn ignore(read: &mut ReadState, now: Duration) {
    let times = read.ignored.map_or(0, |(times, _)| times);
    let wait = (PROBE_AFTER_MIN * 2u32.saturating_pow(times.min(6))).min(PROBE_AFTER_MAX);
    read.ignored = Some((times.saturating_add(1), now + wait));
}
