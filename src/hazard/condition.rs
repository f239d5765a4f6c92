//! READINGS → TRANSITIONS, first half: does this reading meet this condition? Nothing here remembers anything.

use crate::model::{Condition, Flaw, Number, Phase, Quality, Reading, Rule, SignalClass, Value};

/// What one reading says about one condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is met, and the value itself says so: fit to be shown as evidence.
    Met,
    /// It stays met only because of the deadband.
    Held,
    /// It is not met.
    NotMet,
    /// The reading says nothing about it: bad, missing, or of another kind. Neither raises nor clears.
    Unknown,
}

/// Judges a reading. `phase` decides on which side of the deadband we stand: once met (armed or active) a limit is
/// over only beyond the deadband; otherwise it must be reached in full.
pub(super) fn judge(rule: &Rule, reading: &Reading, phase: Phase) -> Verdict {
    if reading.flaw == Some(Flaw::NotFitted) {
        return Verdict::Unknown; // Declared absent: no sensor, no statement.
    }
    if let Condition::Unusable = rule.condition {
        return if reading.quality == Quality::Bad { Verdict::Met } else { Verdict::NotMet };
    }
    if reading.quality == Quality::Bad {
        return judge_off_scale(rule, reading);
    }
    match (&rule.condition, &reading.value) {
        (Condition::AtLeast { limit, deadband }, Value::Number(value)) => {
            sided(value >= limit, is_met(phase) && value.get() >= limit.get() - deadband.get())
        }
        (Condition::Below { limit, deadband }, Value::Number(value)) => {
            sided(value < limit, is_met(phase) && value.get() < limit.get() + deadband.get())
        }
        (Condition::OneOf(codes), Value::Code(code)) => sided(codes.contains(code), false),
        (Condition::Is(wanted), Value::Flag(flag)) => sided(wanted == flag, false),
        (
            Condition::AtLeast { .. }
            | Condition::Below { .. }
            | Condition::OneOf(_)
            | Condition::Is(_)
            | Condition::Silent { .. }
            | Condition::Unusable,
            Value::Number(_) | Value::Flag(_) | Value::Code(_) | Value::Absent,
        ) => Verdict::Unknown,
    }
}

fn sided(met: bool, held: bool) -> Verdict {
    match (met, held) {
        (true, _) => Verdict::Met,
        (false, true) => Verdict::Held,
        (false, false) => Verdict::NotMet,
    }
}

/// Off the scale is not absent: a burning sensor reads off its scale. On the dangerous side of a fire-class limit it
/// alarms; on every other side, and for every other class, a bad reading says nothing.
fn judge_off_scale(rule: &Rule, reading: &Reading) -> Verdict {
    if rule.signal != SignalClass::Fire {
        return Verdict::Unknown;
    }
    let beyond = |dangerous: &dyn Fn(Number) -> bool| match reading.value {
        Value::Number(value) => dangerous(value),
        Value::Absent => true, // The figure is lost, its side is not.
        Value::Flag(_) | Value::Code(_) => false,
    };
    let met = match (&rule.condition, reading.flaw) {
        (Condition::AtLeast { limit, .. }, Some(Flaw::OffScaleHigh)) => beyond(&|value| value >= *limit),
        (Condition::Below { limit, .. }, Some(Flaw::OffScaleLow)) => beyond(&|value| value < *limit),
        (
            Condition::AtLeast { .. }
            | Condition::Below { .. }
            | Condition::OneOf(_)
            | Condition::Is(_)
            | Condition::Silent { .. }
            | Condition::Unusable,
            _,
        ) => false,
    };
    if met { Verdict::Met } else { Verdict::Unknown }
}

/// Whether the condition counts as met in this phase: the deadband's memory.
fn is_met(phase: Phase) -> bool {
    match phase {
        Phase::Arming { .. } | Phase::Active | Phase::Rearming { .. } => true,
        Phase::Normal | Phase::Clearing { .. } | Phase::Returned => false,
    }
}
