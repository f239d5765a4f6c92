//! READINGS → TRANSITIONS: a change written down: the hazard, who signed, why.

use super::board::Sample;
use super::engine::Engine;
use super::order::Order;
use crate::model::{
    Cause, Change, Command, Evidence, Hazard, HazardId, Outcome, Phase, Reading, Rule, SignalClass,
    Signature, Timestamp, Transition, Value,
};

/// Who signs when a hazard closes by itself.
pub const BY_ITSELF: &str = "system";

/// Why something is about to change; made into a [`Cause`] only when it does, so the quiet path clones nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Because<'a> {
    Reading(&'a Reading, Order),
    Deadline,
    Silence(Option<Timestamp>),
    /// The platform behind which the device lives has lost it, or found it again.
    Platform(Option<Timestamp>),
    Heard,
    Operator(&'a Command),
    Link,
}

/// When, in which entry, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) at: Timestamp,
    pub(super) no: u64,
    pub(super) because: Because<'a>,
}

impl Engine {
    pub(super) fn log(
        &mut self,
        number: usize,
        phase: Phase,
        change: Change,
        moment: Moment<'_>,
        out: &mut Outcome,
    ) {
        let cause = Self::cause(moment);
        let raised = if change == Change::Raised { self.raise(number, moment) } else { None };
        let slot = &mut self.board.slots[number];
        let Some(mut hazard) = raised.map(Box::new).or_else(|| slot.hazard.take()) else { return };
        sign(&mut hazard, change, moment);
        out.transitions.push(Transition { hazard: (*hazard).clone(), change, phase, at: moment.at, cause });
        slot.hazard = hazard.closed.is_none().then_some(hazard);
        self.set_phase(number, phase);
    }

    fn cause(moment: Moment<'_>) -> Cause {
        match moment.because {
            Because::Reading(reading, _) => {
                Cause::Reading { value: reading.value.clone(), flaw: reading.flaw }
            }
            Because::Deadline | Because::Link => Cause::Deadline,
            Because::Silence(last_heard) | Because::Platform(last_heard) => Cause::Silence { last_heard },
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
            // Only a platform's word is evidence of silence; what the points said last is none.
            _ if slot.silence.is_some() => slot.pending.as_deref().cloned(),
            Because::Reading(reading, order) => Some(Sample { late: order.is_late(), ..Sample::of(reading) }),
            Because::Deadline
            | Because::Silence(_)
            | Because::Platform(_)
            | Because::Heard
            | Because::Operator(_)
            | Because::Link => slot
                .pending
                .as_deref()
                .cloned()
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
        Because::Reading(..)
        | Because::Deadline
        | Because::Silence(_)
        | Because::Platform(_)
        | Because::Heard
        | Because::Link => by_itself(moment.at),
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
