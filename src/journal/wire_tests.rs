//! Every hazard and transition comes back from its JSON as it was.

use super::*;
use proptest::prelude::*;

fn number() -> impl Strategy<Value = Number> {
    any::<f64>().prop_map(|value| Number::new(value).unwrap_or(Number::ZERO))
}

fn words() -> impl Strategy<Value = Arc<str>> {
    "[\\PC\"\\\\\n]{0,12}".prop_map(Arc::from)
}

fn text() -> impl Strategy<Value = Text> {
    (words(), words()).prop_map(|(zh, en)| Text { zh, en })
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        number().prop_map(Value::Number),
        any::<bool>().prop_map(Value::Flag),
        words().prop_map(Value::Code),
        Just(Value::Absent),
    ]
}

fn any_flaw() -> impl Strategy<Value = Option<Flaw>> {
    prop::option::of((0..Flaw::ALL.len()).prop_map(|index| Flaw::ALL[index]))
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        (number(), number()).prop_map(|(limit, deadband)| Condition::AtLeast { limit, deadband }),
        (number(), number()).prop_map(|(limit, deadband)| Condition::Below { limit, deadband }),
        prop::collection::vec(words(), 0..3).prop_map(Condition::OneOf),
        any::<bool>().prop_map(Condition::Is),
        any::<i64>().prop_map(|after| Condition::Silent { after: Span::from_millis(after) }),
        Just(Condition::Unusable),
    ]
}

fn signature() -> impl Strategy<Value = Signature> {
    (words(), time(), words()).prop_map(|(by, at, note)| Signature { by, at, note })
}

fn evidence() -> impl Strategy<Value = Evidence> {
    (value(), any_flaw(), words(), text(), prop::option::of(text()), condition(), any::<i64>(), words())
        .prop_map(|(value, flaw, unit, point_name, state_name, condition, delay, basis)| Evidence {
            value,
            flaw,
            unit,
            point_name,
            state_name,
            condition,
            on_delay: Span::from_millis(delay),
            basis,
        })
}

fn hazard() -> impl Strategy<Value = Hazard> {
    let kind =
        (0..SignalClass::ALL.len(), 0..Priority::ALL.len(), any::<bool>(), any::<bool>(), any::<u32>());
    let times = (time(), prop::option::of(time()), time(), prop::option::of(time()));
    let signed = || prop::option::of(signature());
    (any::<u64>(), kind, text(), evidence(), times, signed(), signed(), signed()).prop_map(
        |(no, kind, title, evidence, times, acknowledged, silenced, closed)| {
            let point = PointId::parse("sd-01/smoke").unwrap();
            let rule = RuleId::parse("fire-smoke").unwrap();
            Hazard {
                id: HazardId::derive(no, &point, &rule),
                point,
                rule,
                signal: SignalClass::ALL[kind.0],
                priority: Priority::ALL[kind.1],
                latching: kind.2,
                title,
                evidence,
                raised_at: times.0,
                sampled_at: times.1,
                late: kind.3,
                occurrences: kind.4,
                last_raised_at: times.2,
                returned_at: times.3,
                acknowledged,
                silenced,
                closed,
            }
        },
    )
}

fn any_phase() -> impl Strategy<Value = Phase> {
    (0..6, time()).prop_map(|(index, due)| match index {
        0 => Phase::Normal,
        1 => Phase::Arming { due },
        2 => Phase::Active,
        3 => Phase::Clearing { due },
        4 => Phase::Returned,
        _ => Phase::Rearming { due },
    })
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![
        (value(), any_flaw()).prop_map(|(value, flaw)| Cause::Reading { value, flaw }),
        Just(Cause::Deadline),
        prop::option::of(time()).prop_map(|last_heard| Cause::Silence { last_heard }),
        signature().prop_map(Cause::Operator),
        Just(Cause::Plan),
    ]
}

proptest! {
    #[test]
    fn a_transition_comes_back_as_it_was(
        hazard in hazard(), change in 0..Change::ALL.len(), phase in any_phase(), at in time(), cause in cause()
    ) {
        let transition = Transition { hazard, change: Change::ALL[change], phase, at, cause };
        let json = transition_to_json(&transition);
        prop_assert_eq!(transition_from_json(&json).unwrap(), transition);
    }

    #[test]
    fn any_text_is_a_hazard_or_an_error(text in "\\PC{0,200}") {
        let _either = hazard_from_json(&text);
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over(hazard in hazard()) {
        let json = hazard_to_json(&hazard);
        let later = format!("{{\"shelved\":{{\"until\":1}},{}", &json[1..]);
        prop_assert_eq!(hazard_from_json(&later).unwrap(), hazard);
    }
}

#[test]
fn a_row_without_the_optional_fields_is_read() {
    let json = r#"{"id":"7.sd-01.smoke.fire","point":"sd-01/smoke","rule":"fire","signal":"fire","priority":"red",
        "latching":true,"title":{"zh":"火警","en":"fire"},"evidence":{"value":{"flag":true},"unit":"",
        "point_name":{"zh":"烟","en":"smoke"},"condition":{"is":true},"basis":"本系统默认值"},
        "raised_at":5,"occurrences":1,"last_raised_at":5}"#;
    let hazard = hazard_from_json(json).unwrap();
    assert!(hazard.closed.is_none() && !hazard.late && hazard.evidence.on_delay == Span::ZERO);
}
