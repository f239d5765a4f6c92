//! READINGS → TRANSITIONS: the engine. Told all that happens, it answers with the duty log's new lines.
//!
//! Time is an argument and deadlines are state: the same log gives the same answers, today and in a replay.

use super::board::{Board, Sample, Seen};
use super::condition::{Verdict, judge};
use super::lifecycle::{Sight, Signal, Step, step};
use crate::model::{
    Cause, Change, Command, CommandKind, Condition, Event, Evidence, Fact, Flaw, Hazard, HazardId, LinkId,
    Outcome, Phase, Plan, Quality, Reading, Refusal, Rule, SignalClass, Signature, Span, Timestamp, Value,
};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Who signs when a hazard closes by itself.
pub const BY_ITSELF: &str = "system";

/// How long a reading of a device without silence supervision counts as fresh when a person asks for a reset: he
/// has walked to the device by then. A supervised device's readings are fresh for its own `silent_after`.
/// 本系统默认值.
pub const FRESH_FOR: Span = Span::from_secs(10 * 60);

/// A live reading that is this much older than the newest of its point was not overtaken on the wire (redelivery
/// after a reconnect takes seconds to a few minutes): its device's clock went back. It counts as late, so a fire
/// still alarms, and what follows is ordered by the new time. 本系统默认值.
pub const REORDER_MAX: Span = Span::from_secs(10 * 60);

/// The hazard engine. Bounded by the plan: at most one hazard for each rule on each point, and the orphans of
/// earlier plans until people close them.
#[derive(Debug, Clone)]
pub struct Engine {
    board: Board,
    deadlines: BTreeSet<(Timestamp, Deadline)>,
    /// Links that are known to be down.
    down: HashSet<LinkId>,
    /// The latest time heard of; time never runs backwards except by [`Event::ClockStepped`].
    now: Timestamp,
    /// Slots that changed and are not yet handed out.
    touched: Vec<usize>,
}

/// Which of a slot's deadlines. At the same moment silence goes first: it keeps a hazard up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Silence(usize),
    Delay(usize),
}

/// Where a reading stands among those of its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Live,
    Late,
    /// A duplicate, or overtaken by a newer one.
    Stale,
}

/// Why something is about to change; made into a [`Cause`] only when it does, so the quiet path clones nothing.
#[derive(Debug, Clone, Copy)]
enum Because<'a> {
    Reading(&'a Reading, Order),
    Deadline,
    Silence(Option<Timestamp>),
    Heard,
    Operator(&'a Command),
    Link,
}

/// When, in which entry, and why.
#[derive(Debug, Clone, Copy)]
struct Moment<'a> {
    at: Timestamp,
    no: u64,
    because: Because<'a>,
}

impl Engine {
    /// Starts with what the journal knows: its rows, and the newest stored reading of each point. Silence counts
    /// from `at`: before it, the gateway itself was deaf. Rows that the plan no longer has are kept while they hold
    /// an open hazard; others are handed out as `Normal` with the first [`Engine::handle`].
    pub fn restore(plan: Arc<Plan>, facts: Vec<Fact>, last: &[Reading], at: Timestamp) -> Self {
        let mut board = Board::new(plan, at);
        board.recall(facts, last, at);
        let mut engine =
            Self { board, deadlines: BTreeSet::new(), down: HashSet::new(), now: at, touched: Vec::new() };
        engine.list_touched();
        engine.queue_all();
        engine
    }

    /// Tells what happened at `at`, to be written in journal entry `no`. First every deadline up to `at` runs out,
    /// in order, each dated at its own time. Appends to `out`; the caller clears it.
    ///
    /// Each row that changed is handed out once, as it is at the end. A closed hazard is in its transition; its row
    /// is then `Normal` and empty.
    pub fn handle(&mut self, at: Timestamp, no: u64, event: &Event, out: &mut Outcome) {
        if let Event::ClockStepped { by } = event {
            self.shift(*by);
        }
        self.now = self.now.max(at);
        let at = self.now;
        self.run_out(at, no, out);
        match event {
            Event::Reading(reading) => self.reading(reading, at, no, out),
            Event::Command(command) => out.refusal = self.command(command, at, no, out),
            Event::Link { link, up: true } => self.link_up(link, at),
            Event::Link { link, up: false } => self.link_down(link, at, no, out),
            Event::Plan(plan) => self.replace(plan.clone(), at),
            Event::ClockStepped { .. } | Event::Tick => {}
        }
        for slot in self.touched.drain(..) {
            let slot = &mut self.board.slots[slot];
            slot.touched = false;
            out.facts.push(slot.fact());
        }
    }

    /// When [`Engine::handle`] should be called next, with a [`Event::Tick`] if nothing else happens. May be a
    /// little early for a device that was heard meanwhile; never late.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Every row that is not `Normal`: all the engine must remember.
    pub fn facts(&self) -> Vec<Fact> {
        let kept =
            self.board.slots.iter().filter(|slot| slot.phase != Phase::Normal || slot.hazard.is_some());
        kept.map(super::board::Slot::fact).collect()
    }

    // Readings.

    fn reading(&mut self, reading: &Reading, at: Timestamp, no: u64, out: &mut Outcome) {
        let Some(&number) = self.board.index.get(&reading.point) else { return };
        let order = order(self.board.points[number].seen.as_ref(), reading);
        if order != Order::Stale {
            self.board.points[number].seen = Some(Seen::of(reading));
            for slot in self.board.points[number].slots.clone() {
                self.evaluate(slot, order, Moment { at, no, because: Because::Reading(reading, order) }, out);
            }
        }
        // A register that was not answered is not being heard; everything else is, even what is old or broken.
        if reading.flaw != Some(Flaw::NoAnswer) {
            self.heard(self.board.points[number].device, at, no, out);
        }
    }

    fn evaluate(&mut self, slot: usize, order: Order, moment: Moment<'_>, out: &mut Outcome) {
        let (Some(watch), Because::Reading(reading, _)) = (&self.board.slots[slot].watch, moment.because)
        else {
            return;
        };
        if self.board.slots[slot].silence.is_some() {
            return; // Judged by the clock, not by what was said.
        }
        let rule = &watch.rule;
        let verdict = judge(rule, reading, self.board.slots[slot].phase);
        // What is late tells of the past: a fire that was is still a fire to look at; nothing is over because of it.
        if order == Order::Late && !(rule.signal == SignalClass::Fire && verdict == Verdict::Met) {
            return;
        }
        let signal = match verdict {
            Verdict::Met | Verdict::Held => Signal::Met { due: after(moment.at, rule.on_delay) },
            Verdict::NotMet => Signal::NotMet { due: after(moment.at, rule.off_delay) },
            Verdict::Unknown => Signal::Unknown,
        };
        // Commands only are refused.
        let _none = self.apply(slot, signal, moment, out);
        let slot = &mut self.board.slots[slot];
        if verdict == Verdict::Met && matches!(slot.phase, Phase::Arming { .. } | Phase::Rearming { .. }) {
            slot.pending = Some(Sample { late: order == Order::Late, ..Sample::of(reading) });
        }
    }

    // Silence.

    fn heard(&mut self, device: usize, at: Timestamp, no: u64, out: &mut Outcome) {
        self.board.devices[device].heard = Some(at);
        for n in 0..self.board.devices[device].silence.len() {
            let number = self.board.devices[device].silence[n];
            let slot = &mut self.board.slots[number];
            let Some(silence) = &mut slot.silence else { continue };
            let over = silence.silent;
            silence.silent = false;
            if over {
                let off_delay = slot.watch.as_ref().map_or(Span::ZERO, |watch| watch.rule.off_delay);
                let signal = Signal::NotMet { due: after(at, off_delay) };
                let _none = self.apply(number, signal, Moment { at, no, because: Because::Heard }, out);
            }
            self.queue_silence(number);
        }
    }

    /// When this silence is too long, or `None` while nobody could be heard anyway or all is said.
    fn silence_due(&self, slot: usize) -> Option<Timestamp> {
        let slot = &self.board.slots[slot];
        let (Some(silence), Some(watch)) = (slot.silence, &slot.watch) else { return None };
        let device = &self.board.devices[watch.device];
        if silence.silent || self.down.contains(&device.link) {
            return None;
        }
        let since = device.heard.map_or(silence.from, |heard| heard.max(silence.from));
        Some(since + silence.after)
    }

    /// At most one deadline a slot is queued. It is not moved each time the device is heard, only when it comes up.
    fn queue_silence(&mut self, slot: usize) {
        if self.board.slots[slot].silence.is_some_and(|silence| silence.queued) {
            return;
        }
        let due = self.silence_due(slot);
        if let (Some(due), Some(silence)) = (due, &mut self.board.slots[slot].silence) {
            silence.queued = true;
            self.deadlines.insert((due, Deadline::Silence(slot)));
        }
    }

    fn silence_came_up(&mut self, number: usize, came_up: Timestamp, no: u64, out: &mut Outcome) {
        let due = self.silence_due(number);
        let slot = &mut self.board.slots[number];
        let (Some(silence), Some(watch)) = (&mut slot.silence, &slot.watch) else { return };
        silence.queued = false;
        match due {
            None => {}
            Some(due) if due > came_up => self.queue_silence(number),
            Some(_) => {
                silence.silent = true;
                let signal = Signal::Met { due: after(came_up, watch.rule.on_delay) };
                let because = Because::Silence(self.board.devices[watch.device].heard);
                let _none = self.apply(number, signal, Moment { at: came_up, no, because }, out);
            }
        }
    }

    fn link_down(&mut self, link: &LinkId, at: Timestamp, no: u64, out: &mut Outcome) {
        self.down.insert(link.clone());
        for number in self.silence_slots(link) {
            let slot = &mut self.board.slots[number];
            let Some(silence) = &mut slot.silence else { continue };
            // What stands keeps standing; what was only arming cannot be blamed on the device any more.
            if matches!(slot.phase, Phase::Arming { .. } | Phase::Rearming { .. }) {
                silence.silent = false;
                let moment = Moment { at, no, because: Because::Link };
                let _none = self.apply(number, Signal::NotMet { due: None }, moment, out);
            }
        }
    }

    fn link_up(&mut self, link: &LinkId, at: Timestamp) {
        self.down.remove(link);
        for number in self.silence_slots(link) {
            if let Some(silence) = &mut self.board.slots[number].silence {
                silence.from = at;
            }
            self.queue_silence(number);
        }
    }

    fn silence_slots(&self, link: &LinkId) -> Vec<usize> {
        let devices = self.board.devices.iter().filter(|device| device.link == *link);
        devices.flat_map(|device| device.silence.iter().copied()).collect()
    }

    // Deadlines.

    fn run_out(&mut self, at: Timestamp, no: u64, out: &mut Outcome) {
        while let Some(&(due, deadline)) = self.deadlines.first()
            && due <= at
        {
            self.deadlines.pop_first();
            match deadline {
                Deadline::Silence(slot) => self.silence_came_up(slot, due, no, out),
                Deadline::Delay(slot) => {
                    let moment = Moment { at: due, no, because: Because::Deadline };
                    let _none = self.apply(slot, Signal::Elapsed, moment, out);
                }
            }
        }
    }

    fn queue_all(&mut self) {
        self.deadlines.clear();
        for number in 0..self.board.slots.len() {
            if let Some(due) = self.board.slots[number].phase.due() {
                self.deadlines.insert((due, Deadline::Delay(number)));
            }
            if let Some(silence) = &mut self.board.slots[number].silence {
                silence.queued = false;
            }
            self.queue_silence(number);
        }
    }

    /// All that was remembered in the old time is moved into the new one, so that no silence is invented and no
    /// delay cut short. Hazards keep the times that were written in the log.
    fn shift(&mut self, by: Span) {
        self.now = self.now + by;
        for device in &mut self.board.devices {
            device.heard = device.heard.map(|heard| heard + by);
        }
        for seen in self.board.points.iter_mut().filter_map(|point| point.seen.as_mut()) {
            seen.received_at = seen.received_at + by;
        }
        for number in 0..self.board.slots.len() {
            let slot = &mut self.board.slots[number];
            if let Some(silence) = &mut slot.silence {
                silence.from = silence.from + by;
            }
            slot.phase = match slot.phase {
                Phase::Arming { due } => Phase::Arming { due: due + by },
                Phase::Clearing { due } => Phase::Clearing { due: due + by },
                Phase::Rearming { due } => Phase::Rearming { due: due + by },
                Phase::Normal | Phase::Active | Phase::Returned => continue,
            };
            self.touch(number);
        }
        self.queue_all();
    }

    fn replace(&mut self, plan: Arc<Plan>, at: Timestamp) {
        let old = std::mem::replace(&mut self.board, Board::new(plan, at));
        self.board.inherit(old);
        self.touched.clear();
        self.list_touched();
        self.queue_all();
    }

    // People.

    fn command(&mut self, command: &Command, at: Timestamp, no: u64, out: &mut Outcome) -> Option<Refusal> {
        let named = |hazard: &Hazard| hazard.id == command.hazard;
        let found = self.board.slots.iter().position(|slot| slot.hazard.as_deref().is_some_and(named));
        let Some(slot) = found else { return Some(Refusal::NoSuchHazard) };
        let signal = match command.kind {
            CommandKind::Acknowledge => Signal::Acknowledge,
            CommandKind::Silence => Signal::Silence,
            CommandKind::Reset => Signal::Reset(self.sight(slot, at, !command.note.trim().is_empty())),
        };
        self.apply(slot, signal, Moment { at, no, because: Because::Operator(command) }, out)
    }

    /// Whether the phase tells the truth of this moment.
    fn sight(&self, slot: usize, at: Timestamp, note: bool) -> Sight {
        let slot = &self.board.slots[slot];
        let Some(watch) = &slot.watch else { return Sight::Gone };
        if slot.silence.is_some() {
            return Sight::Known; // Silence is what we hear.
        }
        let device = &self.board.devices[watch.device];
        let silent = device.silence.iter().any(|&n| self.board.slots[n].silence.is_some_and(|s| s.silent));
        let fresh = self.board.points[watch.point].seen.as_ref().is_some_and(|seen| {
            let usable = match watch.rule.condition {
                Condition::Unusable => seen.sample.flaw != Some(Flaw::NotFitted), // Being bad is the answer here.
                Condition::AtLeast { .. }
                | Condition::Below { .. }
                | Condition::OneOf(_)
                | Condition::Is(_)
                | Condition::Silent { .. } => seen.quality != Quality::Bad,
            };
            let age = at.since(seen.received_at);
            usable && !seen.sample.late && age <= device.silent_after.unwrap_or(FRESH_FOR)
        });
        if fresh && !silent && !self.down.contains(&device.link) {
            Sight::Known
        } else {
            Sight::Blind { note }
        }
    }

    // What follows.

    fn apply(
        &mut self,
        slot: usize,
        mut signal: Signal,
        moment: Moment<'_>,
        out: &mut Outcome,
    ) -> Option<Refusal> {
        loop {
            let (phase, standing) = (self.board.slots[slot].phase, self.board.slots[slot].standing());
            match step(phase, signal, standing) {
                Step::Stay => return None,
                Step::Refuse(refusal) => return Some(refusal),
                Step::To(phase) => {
                    self.set_phase(slot, phase);
                    return None;
                }
                Step::Log(phase, change) => {
                    self.log(slot, phase, change, moment, out);
                    signal = Signal::Settle;
                }
            }
        }
    }

    fn set_phase(&mut self, number: usize, phase: Phase) {
        let slot = &mut self.board.slots[number];
        if let Some(due) = slot.phase.due() {
            self.deadlines.remove(&(due, Deadline::Delay(number)));
        }
        if let Some(due) = phase.due() {
            self.deadlines.insert((due, Deadline::Delay(number)));
        }
        slot.phase = phase;
        if !matches!(phase, Phase::Arming { .. } | Phase::Rearming { .. }) {
            slot.pending = None;
        }
        self.touch(number);
    }

    fn touch(&mut self, number: usize) {
        let slot = &mut self.board.slots[number];
        if !slot.touched {
            slot.touched = true;
            self.touched.push(number);
        }
    }

    fn list_touched(&mut self) {
        let slots = self.board.slots.iter().enumerate();
        self.touched.extend(slots.filter(|(_, slot)| slot.touched).map(|(number, _)| number));
    }

    fn log(&mut self, number: usize, phase: Phase, change: Change, moment: Moment<'_>, out: &mut Outcome) {
        let cause = self.cause(number, moment);
        let raised = if change == Change::Raised { self.raise(number, moment) } else { None };
        let slot = &mut self.board.slots[number];
        let Some(mut hazard) = raised.map(Box::new).or_else(|| slot.hazard.take()) else { return };
        sign(&mut hazard, change, moment);
        out.transitions.push(crate::model::Transition {
            hazard: (*hazard).clone(),
            change,
            phase,
            at: moment.at,
            cause,
        });
        slot.hazard = hazard.closed.is_none().then_some(hazard);
        self.set_phase(number, phase);
    }

    fn cause(&self, number: usize, moment: Moment<'_>) -> Cause {
        match moment.because {
            Because::Reading(reading, _) => {
                Cause::Reading { value: reading.value.clone(), flaw: reading.flaw }
            }
            Because::Deadline if self.board.slots[number].watch.is_none() => Cause::Plan,
            Because::Deadline | Because::Link => Cause::Deadline,
            Because::Silence(last_heard) => Cause::Silence { last_heard },
            Because::Heard => Cause::Silence { last_heard: Some(moment.at) },
            Because::Operator(command) => Cause::Operator(signature(command, moment.at)),
        }
    }

    /// The hazard that comes into being; `None` only for an orphan, which nothing can raise.
    fn raise(&self, number: usize, moment: Moment<'_>) -> Option<Hazard> {
        let slot = &self.board.slots[number];
        let watch = slot.watch.as_ref()?;
        let (_, _, _, point) = self.board.plan.point(&slot.point)?;
        let rule: &Rule = &watch.rule;
        let sample = match moment.because {
            _ if slot.silence.is_some() => None,
            Because::Reading(reading, order) => {
                Some(Sample { late: order == Order::Late, ..Sample::of(reading) })
            }
            Because::Deadline
            | Because::Silence(_)
            | Because::Heard
            | Because::Operator(_)
            | Because::Link => slot
                .pending
                .clone()
                .or_else(|| self.board.points[watch.point].seen.as_ref().map(|seen| seen.sample.clone())),
        };
        let sample =
            sample.unwrap_or(Sample { value: Value::Absent, flaw: None, sampled_at: None, late: false });
        let state_name = match &sample.value {
            Value::Code(code) => point.state_name(code).cloned(),
            Value::Number(_) | Value::Flag(_) | Value::Absent => None,
        };
        Some(Hazard {
            id: HazardId::derive(moment.no, &slot.point, &slot.rule_id),
            point: slot.point.clone(),
            rule: slot.rule_id.clone(),
            signal: rule.signal,
            priority: rule.priority,
            latching: rule.latching || rule.signal == SignalClass::Fire,
            title: rule.title.clone(),
            evidence: Evidence {
                value: sample.value,
                flaw: sample.flaw,
                unit: point.unit().into(),
                point_name: point.name.clone(),
                state_name,
                condition: rule.condition.clone(),
                on_delay: rule.on_delay,
                basis: rule.basis.clone(),
            },
            raised_at: moment.at,
            sampled_at: sample.sampled_at,
            late: sample.late,
            occurrences: 0, // Counted when it is signed.
            last_raised_at: moment.at,
            returned_at: None,
            acknowledged: None,
            silenced: None,
            closed: None,
        })
    }
}

/// Writes the change into the hazard.
fn sign(hazard: &mut Hazard, change: Change, moment: Moment<'_>) {
    let by_operator = || match moment.because {
        Because::Operator(command) => signature(command, moment.at),
        Because::Reading(..) | Because::Deadline | Because::Silence(_) | Because::Heard | Because::Link => {
            by_itself(moment.at)
        }
    };
    match change {
        Change::Raised | Change::RaisedAgain => {
            hazard.occurrences = hazard.occurrences.saturating_add(1);
            hazard.last_raised_at = moment.at;
            hazard.returned_at = None;
            hazard.acknowledged = None;
            hazard.silenced = None;
        }
        Change::Returned => hazard.returned_at = Some(moment.at),
        Change::Acknowledged => hazard.acknowledged = Some(by_operator()),
        Change::Silenced => hazard.silenced = Some(by_operator()),
        Change::Reset => hazard.closed = Some(by_operator()),
        Change::Ended => hazard.closed = Some(by_itself(moment.at)),
    }
}

fn by_itself(at: Timestamp) -> Signature {
    Signature { by: BY_ITSELF.into(), at, note: "".into() }
}

fn signature(command: &Command, at: Timestamp) -> Signature {
    Signature { by: command.by.clone(), at, note: command.note.clone() }
}

/// When a delay that begins now ends; `None` without a delay.
fn after(at: Timestamp, delay: Span) -> Option<Timestamp> {
    (delay > Span::ZERO).then(|| at + delay)
}

/// Where a reading stands among those of its point. A device's clock ahead of ours never makes its later readings
/// look old: its newest time counts as no later than we received it. Same time and another value is not a
/// duplicate: many devices stamp whole seconds.
fn order(seen: Option<&Seen>, reading: &Reading) -> Order {
    let live_or_late = if reading.late { Order::Late } else { Order::Live };
    let Some(seen) = seen else { return live_or_late };
    match (seen.sample.sampled_at, reading.sampled_at) {
        // Kept by the broker, without a time: news only if it says something else than we know.
        (_, None) if reading.late && seen.says_the_same(reading) => Order::Stale,
        (_, None) => live_or_late,
        (None, Some(time)) if reading.late && time <= seen.received_at => Order::Stale,
        (None, Some(_)) => live_or_late,
        (Some(newest), Some(time)) => {
            let reached = newest.min(seen.received_at);
            if time == newest && seen.says_the_same(reading) {
                Order::Stale
            } else if time >= reached {
                live_or_late
            } else if !reading.late && reached.since(time) > REORDER_MAX {
                Order::Late
            } else {
                Order::Stale
            }
        }
    }
}
