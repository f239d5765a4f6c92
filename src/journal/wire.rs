//! The JSON bodies of hazards and transitions as they lie in the database. The model derives no serialisation: these
//! are the journal's own shapes. Unknown fields are passed over; what a later version might add has a default.

use crate::model::{
    Cause, Change, Condition, Evidence, Flaw, Hazard, HazardId, Number, Phase, PointId, Priority, RuleId,
    SignalClass, Signature, Span, Text, Timestamp, Transition, Value,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The row is not what was written, or was written by a much later version.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(String);

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

fn unknown(what: &str, text: impl std::fmt::Display) -> Unreadable {
    Unreadable(format!("unknown {what} {text:.100}"))
}

/// A hazard as JSON.
pub(crate) fn hazard_to_json(hazard: &Hazard) -> String {
    text(&HazardWire::from(hazard))
}

/// A hazard from JSON.
pub(crate) fn hazard_from_json(json: &str) -> Result<Hazard, Unreadable> {
    serde_json::from_str::<HazardWire>(json)?.try_into()
}

/// A transition as JSON.
pub(crate) fn transition_to_json(transition: &Transition) -> String {
    text(&TransitionWire::from(transition))
}

/// A transition from JSON.
pub(crate) fn transition_from_json(json: &str) -> Result<Transition, Unreadable> {
    serde_json::from_str::<TransitionWire>(json)?.try_into()
}

/// A phase from its name and deadline; `None` when they do not belong together.
pub(crate) fn phase(name: &str, due: Option<i64>) -> Option<Phase> {
    let due = due.map(Timestamp::from_millis);
    match (name, due) {
        ("normal", None) => Some(Phase::Normal),
        ("arming", Some(due)) => Some(Phase::Arming { due }),
        ("active", None) => Some(Phase::Active),
        ("clearing", Some(due)) => Some(Phase::Clearing { due }),
        ("returned", None) => Some(Phase::Returned),
        ("rearming", Some(due)) => Some(Phase::Rearming { due }),
        _ => None,
    }
}

fn text(wire: &impl Serialize) -> String {
    serde_json::to_string(wire).expect("these shapes have text keys and no failing parts")
}

/// A number as its shortest exact text: JSON readers may round the last bit of a figure, and an alarm limit must not move.
#[derive(Serialize, Deserialize)]
struct NumberWire(String);

impl From<Number> for NumberWire {
    fn from(number: Number) -> Self {
        Self(number.get().to_string())
    }
}

impl TryFrom<NumberWire> for Number {
    type Error = Unreadable;
    fn try_from(wire: NumberWire) -> Result<Self, Unreadable> {
        wire.0.parse().ok().and_then(Self::new).ok_or_else(|| unknown("number", &wire.0))
    }
}

#[derive(Serialize, Deserialize)]
struct TextWire {
    zh: Arc<str>,
    en: Arc<str>,
}

impl From<&Text> for TextWire {
    fn from(text: &Text) -> Self {
        Self { zh: text.zh.clone(), en: text.en.clone() }
    }
}

impl From<TextWire> for Text {
    fn from(wire: TextWire) -> Self {
        Self { zh: wire.zh, en: wire.en }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ValueWire {
    Number(NumberWire),
    Flag(bool),
    Code(Arc<str>),
    Absent,
}

impl From<&Value> for ValueWire {
    fn from(value: &Value) -> Self {
        match value {
            Value::Number(number) => Self::Number((*number).into()),
            Value::Flag(flag) => Self::Flag(*flag),
            Value::Code(code) => Self::Code(code.clone()),
            Value::Absent => Self::Absent,
        }
    }
}

impl TryFrom<ValueWire> for Value {
    type Error = Unreadable;
    fn try_from(wire: ValueWire) -> Result<Self, Unreadable> {
        Ok(match wire {
            ValueWire::Number(number) => Self::Number(number.try_into()?),
            ValueWire::Flag(flag) => Self::Flag(flag),
            ValueWire::Code(code) => Self::Code(code),
            ValueWire::Absent => Self::Absent,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ConditionWire {
    AtLeast { limit: NumberWire, deadband: NumberWire },
    Below { limit: NumberWire, deadband: NumberWire },
    OneOf(Vec<Arc<str>>),
    Is(bool),
    Silent { after: i64 },
    Unusable,
}

impl From<&Condition> for ConditionWire {
    fn from(condition: &Condition) -> Self {
        match condition {
            Condition::AtLeast { limit, deadband } => {
                Self::AtLeast { limit: (*limit).into(), deadband: (*deadband).into() }
            }
            Condition::Below { limit, deadband } => {
                Self::Below { limit: (*limit).into(), deadband: (*deadband).into() }
            }
            Condition::OneOf(codes) => Self::OneOf(codes.clone()),
            Condition::Is(flag) => Self::Is(*flag),
            Condition::Silent { after } => Self::Silent { after: after.as_millis() },
            Condition::Unusable => Self::Unusable,
        }
    }
}

impl TryFrom<ConditionWire> for Condition {
    type Error = Unreadable;
    fn try_from(wire: ConditionWire) -> Result<Self, Unreadable> {
        Ok(match wire {
            ConditionWire::AtLeast { limit, deadband } => {
                Self::AtLeast { limit: limit.try_into()?, deadband: deadband.try_into()? }
            }
            ConditionWire::Below { limit, deadband } => {
                Self::Below { limit: limit.try_into()?, deadband: deadband.try_into()? }
            }
            ConditionWire::OneOf(codes) => Self::OneOf(codes),
            ConditionWire::Is(flag) => Self::Is(flag),
            ConditionWire::Silent { after } => Self::Silent { after: Span::from_millis(after) },
            ConditionWire::Unusable => Self::Unusable,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct SignatureWire {
    by: Arc<str>,
    at: i64,
    #[serde(default = "no_text")]
    note: Arc<str>,
}

fn no_text() -> Arc<str> {
    "".into()
}

impl From<&Signature> for SignatureWire {
    fn from(signature: &Signature) -> Self {
        Self { by: signature.by.clone(), at: signature.at.as_millis(), note: signature.note.clone() }
    }
}

impl From<SignatureWire> for Signature {
    fn from(wire: SignatureWire) -> Self {
        Self { by: wire.by, at: Timestamp::from_millis(wire.at), note: wire.note }
    }
}

#[derive(Serialize, Deserialize)]
struct EvidenceWire {
    value: ValueWire,
    #[serde(default)]
    flaw: Option<String>,
    unit: Arc<str>,
    point_name: TextWire,
    #[serde(default)]
    state_name: Option<TextWire>,
    condition: ConditionWire,
    #[serde(default)]
    on_delay: i64,
    basis: Arc<str>,
}

impl From<&Evidence> for EvidenceWire {
    fn from(evidence: &Evidence) -> Self {
        Self {
            value: (&evidence.value).into(),
            flaw: evidence.flaw.map(|flaw| flaw.name().to_owned()),
            unit: evidence.unit.clone(),
            point_name: (&evidence.point_name).into(),
            state_name: evidence.state_name.as_ref().map(TextWire::from),
            condition: (&evidence.condition).into(),
            on_delay: evidence.on_delay.as_millis(),
            basis: evidence.basis.clone(),
        }
    }
}

impl TryFrom<EvidenceWire> for Evidence {
    type Error = Unreadable;
    fn try_from(wire: EvidenceWire) -> Result<Self, Unreadable> {
        Ok(Self {
            value: wire.value.try_into()?,
            flaw: flaw(wire.flaw)?,
            unit: wire.unit,
            point_name: wire.point_name.into(),
            state_name: wire.state_name.map(Text::from),
            condition: wire.condition.try_into()?,
            on_delay: Span::from_millis(wire.on_delay),
            basis: wire.basis,
        })
    }
}

fn flaw(name: Option<String>) -> Result<Option<Flaw>, Unreadable> {
    let Some(name) = name else { return Ok(None) };
    let found = Flaw::ALL.into_iter().find(|flaw| flaw.name() == name);
    found.map(Some).ok_or_else(|| unknown("flaw", name))
}

#[derive(Serialize, Deserialize)]
struct HazardWire {
    id: String,
    point: String,
    rule: String,
    signal: String,
    priority: String,
    latching: bool,
    title: TextWire,
    evidence: EvidenceWire,
    raised_at: i64,
    #[serde(default)]
    sampled_at: Option<i64>,
    #[serde(default)]
    late: bool,
    occurrences: u32,
    last_raised_at: i64,
    #[serde(default)]
    returned_at: Option<i64>,
    #[serde(default)]
    acknowledged: Option<SignatureWire>,
    #[serde(default)]
    silenced: Option<SignatureWire>,
    #[serde(default)]
    closed: Option<SignatureWire>,
}

impl From<&Hazard> for HazardWire {
    fn from(hazard: &Hazard) -> Self {
        Self {
            id: hazard.id.as_str().to_owned(),
            point: hazard.point.as_str().to_owned(),
            rule: hazard.rule.as_str().to_owned(),
            signal: hazard.signal.name().to_owned(),
            priority: hazard.priority.name().to_owned(),
            latching: hazard.latching,
            title: (&hazard.title).into(),
            evidence: (&hazard.evidence).into(),
            raised_at: hazard.raised_at.as_millis(),
            sampled_at: hazard.sampled_at.map(Timestamp::as_millis),
            late: hazard.late,
            occurrences: hazard.occurrences,
            last_raised_at: hazard.last_raised_at.as_millis(),
            returned_at: hazard.returned_at.map(Timestamp::as_millis),
            acknowledged: hazard.acknowledged.as_ref().map(SignatureWire::from),
            silenced: hazard.silenced.as_ref().map(SignatureWire::from),
            closed: hazard.closed.as_ref().map(SignatureWire::from),
        }
    }
}

impl TryFrom<HazardWire> for Hazard {
    type Error = Unreadable;
    fn try_from(wire: HazardWire) -> Result<Self, Unreadable> {
        Ok(Self {
            id: HazardId::from_text(&wire.id),
            point: PointId::parse(&wire.point).map_err(|error| unknown("point", error))?,
            rule: RuleId::parse(&wire.rule).map_err(|error| unknown("rule", error))?,
            signal: SignalClass::parse(&wire.signal).ok_or_else(|| unknown("signal", wire.signal))?,
            priority: Priority::parse(&wire.priority).ok_or_else(|| unknown("priority", wire.priority))?,
            latching: wire.latching,
            title: wire.title.into(),
            evidence: wire.evidence.try_into()?,
            raised_at: Timestamp::from_millis(wire.raised_at),
            sampled_at: wire.sampled_at.map(Timestamp::from_millis),
            late: wire.late,
            occurrences: wire.occurrences,
            last_raised_at: Timestamp::from_millis(wire.last_raised_at),
            returned_at: wire.returned_at.map(Timestamp::from_millis),
            acknowledged: wire.acknowledged.map(Signature::from),
            silenced: wire.silenced.map(Signature::from),
            closed: wire.closed.map(Signature::from),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CauseWire {
    Reading {
        value: ValueWire,
        #[serde(default)]
        flaw: Option<String>,
    },
    Deadline,
    Silence {
        #[serde(default)]
        last_heard: Option<i64>,
    },
    Operator(SignatureWire),
    Plan,
}

impl From<&Cause> for CauseWire {
    fn from(cause: &Cause) -> Self {
        match cause {
            Cause::Reading { value, flaw } => {
                Self::Reading { value: value.into(), flaw: flaw.map(|flaw| flaw.name().to_owned()) }
            }
            Cause::Deadline => Self::Deadline,
            Cause::Silence { last_heard } => {
                Self::Silence { last_heard: last_heard.map(Timestamp::as_millis) }
            }
            Cause::Operator(signature) => Self::Operator(signature.into()),
            Cause::Plan => Self::Plan,
        }
    }
}

impl TryFrom<CauseWire> for Cause {
    type Error = Unreadable;
    fn try_from(wire: CauseWire) -> Result<Self, Unreadable> {
        Ok(match wire {
            CauseWire::Reading { value, flaw: name } => {
                Self::Reading { value: value.try_into()?, flaw: flaw(name)? }
            }
            CauseWire::Deadline => Self::Deadline,
            CauseWire::Silence { last_heard } => {
                Self::Silence { last_heard: last_heard.map(Timestamp::from_millis) }
            }
            CauseWire::Operator(signature) => Self::Operator(signature.into()),
            CauseWire::Plan => Self::Plan,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct TransitionWire {
    hazard: HazardWire,
    change: String,
    phase: String,
    #[serde(default)]
    due: Option<i64>,
    at: i64,
    cause: CauseWire,
}

impl From<&Transition> for TransitionWire {
    fn from(transition: &Transition) -> Self {
        Self {
            hazard: (&transition.hazard).into(),
            change: transition.change.name().to_owned(),
            phase: transition.phase.name().to_owned(),
            due: transition.phase.due().map(Timestamp::as_millis),
            at: transition.at.as_millis(),
            cause: (&transition.cause).into(),
        }
    }
}

impl TryFrom<TransitionWire> for Transition {
    type Error = Unreadable;
    fn try_from(wire: TransitionWire) -> Result<Self, Unreadable> {
        let change = Change::ALL.into_iter().find(|change| change.name() == wire.change);
        Ok(Self {
            hazard: wire.hazard.try_into()?,
            change: change.ok_or_else(|| unknown("change", wire.change))?,
            phase: phase(&wire.phase, wire.due).ok_or_else(|| unknown("phase", wire.phase))?,
            at: Timestamp::from_millis(wire.at),
            cause: wire.cause.try_into()?,
        })
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
