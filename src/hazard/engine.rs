//! READINGS → TRANSITIONS: the engine. Told all that happens, it answers with the duty log's new lines.
//!
//! Time is an argument and deadlines are state: the same log gives the same answers, today and in a replay.

use super::board::{Board, Sample, Seen};
use super::condition::{Verdict, judge};
use super::lifecycle::{Sight, Signal, Step, step};
use super::order::{Order, order};
use super::record::{Because, Moment};
use crate::model::{
    Command, CommandKind, Condition, Event, Fact, Flaw, Hazard, LinkId, Outcome, Phase, Plan, Quality,
    Reading, Refusal, SignalClass, Span, Timestamp,
};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// The point that every device has beside its profile's: what is told of its link.
const LINK_POINT: &str = "link";

/// How long a reading of a device without silence supervision counts as fresh when a person asks for a reset: he
/// has walked to the device by then. A supervised device's readings are fresh for its own `silent_after`.
/// 本系统默认值.
pub const FRESH_FOR: Span = Span::from_secs(10 * 60);

/// The hazard engine. Bounded by the plan: at most one hazard for each rule on each point, and the orphans of
/// earlier plans until people close them.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) board: Board,
    pub(super) deadlines: BTreeSet<(Timestamp, Deadline)>,
    /// Links that are known to be down.
    pub(super) down: HashSet<LinkId>,
    /// The latest time heard of; time never runs backwards except by [`Event::ClockStepped`].
    now: Timestamp,
    /// Slots that changed and are not yet handed out.
    touched: Vec<usize>,
}

/// Which of a slot's deadlines. At the same moment silence goes first: it keeps a hazard up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deadline {
    Silence(usize),
    Delay(usize),
}

impl Engine {
    /// Starts with what the journal knows: its rows, and the newest stored reading of each point. Silence counts
    /// from `at`: before it, the gateway itself was deaf. Links count as up until it is told otherwise. Rows that the plan no longer has are kept while they hold
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
    /// in order, each dated at its own time; for [`Event::ClockStepped`], `at` is in the new time. Appends to `out`; the caller clears it.
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

    /// The plan in force.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.board.plan
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
        let mut order = order(self.board.points[number].seen.as_ref(), reading);
        if order == Order::Stale && self.is_untold_fire(number, reading) {
            order = Order::Late;
        }
        if order != Order::Stale {
            self.board.points[number].seen = Some(Seen::of(reading));
            for slot in self.board.points[number].slots.clone() {
                self.evaluate(slot, order, Moment { at, no, because: Because::Reading(reading, order) }, out);
            }
        }
        // A register that was not answered is not being heard, and what others say of a device is not its own voice;
        // everything else is, even what is old or broken.
        if reading.flaw != Some(Flaw::NoAnswer) && reading.point.name() != LINK_POINT {
            self.heard(self.board.points[number].device, at, no, out);
        }
    }

    /// An older reading that meets a fire rule, and of which nobody was told: a device's clock may have gone back, a
    /// report may have been overtaken. It must not vanish with the duplicates. While a fire is active it adds nothing.
    fn is_untold_fire(&self, point: usize, reading: &Reading) -> bool {
        let point = &self.board.points[point];
        let repeated =
            |seen: &Seen| seen.sample.sampled_at == reading.sampled_at && seen.says_the_same(reading);
        if reading.sampled_at.is_none() || point.seen.as_ref().is_some_and(repeated) {
            return false;
        }
        self.board.slots[point.slots.clone()].iter().any(|slot| {
            let Some(watch) = &slot.watch else { return false };
            let quiet = matches!(slot.phase, Phase::Normal | Phase::Clearing { .. } | Phase::Returned);
            let told = reading.sampled_at.is_some_and(|time| slot.met.contains(&time));
            watch.rule.signal == SignalClass::Fire
                && quiet
                && !told
                && judge(&watch.rule, reading, slot.phase) == Verdict::Met
        })
    }

    fn evaluate(&mut self, slot: usize, order: Order, moment: Moment<'_>, out: &mut Outcome) {
        let (Some(watch), Because::Reading(reading, _)) = (&self.board.slots[slot].watch, moment.because)
        else {
            return;
        };
        if self.board.slots[slot].silence.is_some() {
            return; // Judged by the clock, not by what was said.
        }
        if reading.flaw == Some(Flaw::NoAnswer) && self.down.contains(&self.board.devices[watch.device].link)
        {
            return; // The link is broken: that is one fault, not one for each register behind it.
        }
        let rule = &watch.rule;
        let verdict = judge(rule, reading, self.board.slots[slot].phase);
        // What is late tells of the past: a fire that was is still a fire to look at; nothing is over because of it,
        // except a delay that has raised nothing yet.
        let delayed = matches!(self.board.slots[slot].phase, Phase::Arming { .. } | Phase::Rearming { .. });
        let counts = match order {
            Order::Live => true,
            Order::Late => rule.signal == SignalClass::Fire && verdict == Verdict::Met,
            Order::Slow => verdict == Verdict::Met || delayed,
            Order::Stale => false,
        };
        if !counts {
            return;
        }
        let rule_signal = rule.signal;
        let signal = match verdict {
            Verdict::Met | Verdict::Held => Signal::Met { due: after(moment.at, rule.on_delay) },
            Verdict::NotMet => Signal::NotMet { due: after(moment.at, rule.off_delay) },
            Verdict::Unknown => Signal::Unknown,
        };
        // Commands only are refused.
        let _none = self.apply(slot, signal, moment, out);
        let fire = rule_signal == SignalClass::Fire;
        let slot = &mut self.board.slots[slot];
        if verdict == Verdict::Met && matches!(slot.phase, Phase::Arming { .. } | Phase::Rearming { .. }) {
            slot.pending = Some(Box::new(Sample { late: order.is_late(), ..Sample::of(reading) }));
        }
        if let (true, Verdict::Met, Some(time)) = (fire, verdict, reading.sampled_at) {
            slot.remember_met(time);
        }
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

    pub(super) fn apply(
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

    pub(super) fn set_phase(&mut self, number: usize, phase: Phase) {
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
}

/// When a delay that begins now ends; `None` without a delay.
pub(super) fn after(at: Timestamp, delay: Span) -> Option<Timestamp> {
    (delay > Span::ZERO).then(|| at + delay)
}
