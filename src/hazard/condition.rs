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
        (Condition::OneOf(codes), Value::Code(code)) => match sided(codes.contains(code), false) {
            Verdict::NotMet if rule.signal == SignalClass::Fire && !DENY_A_FIRE.contains(&&**code) => {
                Verdict::Unknown
            }
            verdict => verdict,
        },
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

/// The states by which a detector says that it sees no fire, or less than one. Muted, in fault, taken off, under test, warming up or
/// with a weak battery it does not say so: whoever silences a burning room's detector must not see its fire return.
const DENY_A_FIRE: [&str; 2] = ["normal", "warning"];

/// Whether a reading alone meets a rule that was at rest, whatever its delay: what a tool says of one frame.
pub fn meets(rule: &Rule, reading: &Reading) -> bool {
    judge(rule, reading, Phase::Normal) == Verdict::Met
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PointId, Priority, RuleId, Span, Text, Timestamp};

    fn rule(signal: SignalClass, condition: Condition) -> Rule {
        Rule {
            id: RuleId::parse("r").unwrap(),
            condition,
            signal,
            priority: Priority::Red,
            on_delay: Span::ZERO,
            off_delay: Span::ZERO,
            latching: true,
            title: Text::new("", ""),
            basis: "".into(),
        }
    }

    fn reading(value: Value, quality: Quality, flaw: Option<Flaw>) -> Reading {
        let point = PointId::parse("d/p").unwrap();
        let received_at = Timestamp::EPOCH;
        Reading { point, value, quality, flaw, sampled_at: None, received_at, late: false }
    }

    fn number(value: f64) -> Number {
        Number::new(value).unwrap()
    }

    fn good(value: f64) -> Reading {
        reading(Value::Number(number(value)), Quality::Good, None)
    }

    #[test]
    fn a_limit_is_reached_in_full_and_left_only_beyond_the_deadband() {
        let high = rule(
            SignalClass::Supervisory,
            Condition::AtLeast { limit: number(300.0), deadband: number(20.0) },
        );
        let low =
            rule(SignalClass::Supervisory, Condition::Below { limit: number(0.14), deadband: number(0.01) });
        let due = Timestamp::EPOCH;
        for phase in [Phase::Normal, Phase::Clearing { due }, Phase::Returned] {
            let verdicts = [299.9, 300.0].map(|value| judge(&high, &good(value), phase));
            assert_eq!(verdicts, [Verdict::NotMet, Verdict::Met], "{phase:?}");
            let verdicts = [0.14, 0.139].map(|value| judge(&low, &good(value), phase));
            assert_eq!(verdicts, [Verdict::NotMet, Verdict::Met], "{phase:?}");
        }
        for phase in [Phase::Arming { due }, Phase::Active, Phase::Rearming { due }] {
            let verdicts = [279.9, 280.0, 300.0].map(|value| judge(&high, &good(value), phase));
            assert_eq!(verdicts, [Verdict::NotMet, Verdict::Held, Verdict::Met], "{phase:?}");
            let verdicts = [0.151, 0.149, 0.1].map(|value| judge(&low, &good(value), phase));
            assert_eq!(verdicts, [Verdict::NotMet, Verdict::Held, Verdict::Met], "{phase:?}");
        }
    }

    #[test]
    fn off_the_scale_alarms_only_for_fire_and_only_on_the_dangerous_side() {
        let high = Condition::AtLeast { limit: number(70.0), deadband: Number::ZERO };
        let low = Condition::Below { limit: number(10.0), deadband: Number::ZERO };
        for signal in SignalClass::ALL {
            for (condition, dangerous) in [(&high, Flaw::OffScaleHigh), (&low, Flaw::OffScaleLow)] {
                for flaw in Flaw::ALL {
                    let extreme = if flaw == Flaw::OffScaleLow { -999.0 } else { 999.0 };
                    for value in [Value::Number(number(extreme)), Value::Absent] {
                        let reading = reading(value, Quality::Bad, Some(flaw));
                        let alarms = signal == SignalClass::Fire && flaw == dangerous;
                        let wanted = if alarms { Verdict::Met } else { Verdict::Unknown };
                        let verdict = judge(&rule(signal, condition.clone()), &reading, Phase::Active);
                        assert_eq!(verdict, wanted, "{signal} {condition:?} {reading:?}");
                    }
                }
            }
        }
        // Off its scale, yet short of the limit: it says nothing.
        let short = reading(Value::Number(number(60.0)), Quality::Bad, Some(Flaw::OffScaleHigh));
        assert_eq!(judge(&rule(SignalClass::Fire, high), &short, Phase::Normal), Verdict::Unknown);
    }

    #[test]
    fn unusable_is_every_bad_reading_but_not_a_sensor_declared_absent() {
        let broken = rule(SignalClass::Fault, Condition::Unusable);
        for flaw in Flaw::ALL {
            let wanted = if flaw == Flaw::NotFitted { Verdict::Unknown } else { Verdict::Met };
            let bad = reading(Value::Absent, Quality::Bad, Some(flaw));
            assert_eq!(judge(&broken, &bad, Phase::Normal), wanted, "{flaw:?}");
        }
        let doubtful = reading(Value::Flag(true), Quality::Uncertain, Some(Flaw::ClockSuspect));
        assert_eq!(judge(&broken, &doubtful, Phase::Active), Verdict::NotMet);
    }

    #[test]
    fn a_value_of_another_kind_says_nothing() {
        let values = [Value::Number(Number::ZERO), Value::Flag(true), Value::Code("x".into()), Value::Absent];
        let conditions = [
            (Condition::AtLeast { limit: Number::ZERO, deadband: Number::ZERO }, 0),
            (Condition::Below { limit: number(1.0), deadband: Number::ZERO }, 0),
            (Condition::Is(true), 1),
            (Condition::OneOf(vec!["x".into()]), 2),
        ];
        for (condition, fitting) in conditions {
            for (index, value) in values.iter().enumerate() {
                let wanted = if index == fitting { Verdict::Met } else { Verdict::Unknown };
                let reading = reading(value.clone(), Quality::Good, None);
                let rule = rule(SignalClass::Fire, condition.clone());
                assert_eq!(judge(&rule, &reading, Phase::Normal), wanted, "{condition:?} {value}");
            }
        }
    }

    #[test]
    fn a_detector_that_is_muted_faulty_or_taken_off_does_not_say_that_the_fire_is_over() {
        let codes = |signal| rule(signal, Condition::OneOf(["alarm".into()].into()));
        let says = |signal, code: &str| {
            judge(&codes(signal), &reading(Value::Code(code.into()), Quality::Good, None), Phase::Active)
        };
        for code in ["muted", "fault", "test", "removed", "low_battery", "warmup"] {
            assert_eq!(says(SignalClass::Fire, code), Verdict::Unknown, "{code}");
            assert_eq!(says(SignalClass::Fault, code), Verdict::NotMet, "{code}");
        }
        for code in ["normal", "warning"] {
            assert_eq!(says(SignalClass::Fire, code), Verdict::NotMet, "{code}");
        }
        assert_eq!(says(SignalClass::Fire, "alarm"), Verdict::Met);
    }
}
