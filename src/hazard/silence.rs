//! READINGS → TRANSITIONS: who was heard when, and how long a silence may last. Silence raises a hazard of its own and
//! never ends another. While a link is down its devices cannot be heard, so their silence is not counted: one broken
//! link is one fault, not forty.

use super::board::Sample;
use super::engine::{Deadline, Engine, after};
use super::lifecycle::Signal;
use super::record::{Because, Moment};
use crate::model::{Condition, DeviceId, Flaw, LinkId, Outcome, Phase, Span, Timestamp, Value};

/// What a platform that has lost a device calls it: the evidence of a silence that nobody had to wait for.
const OFFLINE: &str = "offline";

impl Engine {
    pub(super) fn heard(&mut self, device: usize, at: Timestamp, no: u64, out: &mut Outcome) {
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
    pub(super) fn silence_due(&self, slot: usize) -> Option<Timestamp> {
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
    pub(super) fn queue_silence(&mut self, slot: usize) {
        if self.board.slots[slot].silence.is_some_and(|silence| silence.queued) {
            return;
        }
        let due = self.silence_due(slot);
        if let (Some(due), Some(silence)) = (due, &mut self.board.slots[slot].silence) {
            silence.queued = true;
            self.deadlines.insert((due, Deadline::Silence(slot)));
        }
    }

    pub(super) fn silence_came_up(&mut self, number: usize, came_up: Timestamp, no: u64, out: &mut Outcome) {
        let due = self.silence_due(number);
        let slot = &mut self.board.slots[number];
        let (Some(silence), Some(watch)) = (&mut slot.silence, &slot.watch) else { return };
        silence.queued = false;
        match due {
            None => {}
            Some(due) if due > came_up => self.queue_silence(number),
            Some(_) => {
                silence.silent = true;
                slot.pending = None;
                let signal = Signal::Met { due: after(came_up, watch.rule.on_delay) };
                let because = Because::Silence(self.board.devices[watch.device].heard);
                let _none = self.apply(number, signal, Moment { at: came_up, no, because }, out);
            }
        }
    }

    /// A platform's word about a device. Offline is a silence that need not be waited for. Online ends such a silence and
    /// no other: a radio that registered says nothing of the sensor behind it, so it counts as no sign of life. While
    /// the link is down the word comes from nowhere and is not believed.
    pub(super) fn presence(
        &mut self,
        device: &DeviceId,
        online: bool,
        at: Timestamp,
        no: u64,
        out: &mut Outcome,
    ) {
        let Some(device) = self.board.devices.iter().position(|known| known.id == *device) else { return };
        if self.down.contains(&self.board.devices[device].link) {
            return;
        }
        let because = Because::Platform(self.board.devices[device].heard);
        for number in self.board.devices[device].silence.clone() {
            let changed = if online { self.found(number, at) } else { self.lost(number, at) };
            if let Some(signal) = changed {
                let _none = self.apply(number, signal, Moment { at, no, because }, out);
                self.queue_silence(number);
            }
        }
    }

    fn lost(&mut self, number: usize, at: Timestamp) -> Option<Signal> {
        let slot = &mut self.board.slots[number];
        let (Some(silence), Some(watch)) = (&mut slot.silence, &slot.watch) else { return None };
        if std::mem::replace(&mut silence.silent, true) {
            return None;
        }
        let value = Value::Code(OFFLINE.into());
        slot.pending = Some(Box::new(Sample { value, flaw: None, sampled_at: None, late: false }));
        Some(Signal::Met { due: after(at, watch.rule.on_delay) })
    }

    fn found(&mut self, number: usize, at: Timestamp) -> Option<Signal> {
        let slot = &mut self.board.slots[number];
        let said = |value: &Value| matches!(value, Value::Code(code) if **code == *OFFLINE);
        let by_platform = slot.pending.as_ref().is_some_and(|sample| said(&sample.value))
            || slot.hazard.as_ref().is_some_and(|hazard| said(&hazard.evidence.value));
        let off_delay = slot.watch.as_ref()?.rule.off_delay;
        if !by_platform || !std::mem::replace(&mut slot.silence.as_mut()?.silent, false) {
            return None;
        }
        if self.silence_due(number).is_some_and(|due| due > at) {
            return Some(Signal::NotMet { due: after(at, off_delay) });
        }
        // The device itself has been silent for too long as well: that is not over.
        self.board.slots[number].silence.as_mut()?.silent = true;
        None
    }

    pub(super) fn link_down(&mut self, link: &LinkId, at: Timestamp, no: u64, out: &mut Outcome) {
        self.down.insert(link.clone());
        for number in 0..self.board.slots.len() {
            if !self.is_only_mute(number, link) {
                continue;
            }
            if let Some(silence) = &mut self.board.slots[number].silence {
                silence.silent = false;
            }
            let moment = Moment { at, no, because: Because::Link };
            let _none = self.apply(number, Signal::NotMet { due: None }, moment, out);
        }
    }

    /// Whether this rule is about to blame a device of this link for not answering. What stands keeps standing; what
    /// was only arming cannot be blamed on the device once the link itself is broken.
    fn is_only_mute(&self, number: usize, link: &LinkId) -> bool {
        let slot = &self.board.slots[number];
        let Some(watch) = &slot.watch else { return false };
        let arming = matches!(slot.phase, Phase::Arming { .. } | Phase::Rearming { .. });
        let unanswered = || {
            let seen = self.board.points[watch.point].seen.as_ref();
            watch.rule.condition == Condition::Unusable
                && seen.is_some_and(|seen| seen.sample.flaw == Some(Flaw::NoAnswer))
        };
        arming && self.board.devices[watch.device].link == *link && (slot.silence.is_some() || unanswered())
    }

    pub(super) fn link_up(&mut self, link: &LinkId, at: Timestamp) {
        self.down.remove(link);
        for number in self.silence_slots(link) {
            if let Some(silence) = &mut self.board.slots[number].silence {
                silence.from = at;
            }
            self.queue_silence(number);
        }
    }

    pub(super) fn silence_slots(&self, link: &LinkId) -> Vec<usize> {
        let devices = self.board.devices.iter().filter(|device| device.link == *link);
        devices.flat_map(|device| device.silence.iter().copied()).collect()
    }
}
