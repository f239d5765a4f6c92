//! SenML: the RFC's own examples, what is refused, and whatever else comes.

use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_secs(1_768_444_205); // 2026-01-15T02:30:05Z

/// Each value in a few words: name, unit, value, seconds before now.
fn told(message: &str) -> Vec<String> {
    let told = |value: NamedValue<'_>| {
        let when = match value.taken {
            Taken::At { time, late } => {
                format!("{:+} s{}", -NOW.since(time).as_secs_f64(), if late { " late" } else { "" })
            }
            Taken::Unknown => "now".to_owned(),
            Taken::Impossible => "never".to_owned(),
        };
        format!("{} {} {} {when}", value.name, value.raw, value.unit.as_deref().unwrap_or("-"))
    };
    resolve(message, NOW).unwrap().into_iter().map(told).collect()
}

#[test]
fn base_values_hold_from_their_record_on() {
    // RFC 8428, 5.1.2, with a time of ours.
    let message = r#"[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1768444205.0,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
        {"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"current","t":-400,"v":1.4},{"bn":"x:","n":"on","vb":true,"u":""}]"#;
    let expected = [
        "urn:dev:ow:10e2073a01080063:voltage 120.1 V +0 s",
        "urn:dev:ow:10e2073a01080063:current 1.2 A -5 s",
        "urn:dev:ow:10e2073a01080063:current 1.3 A -4 s",
        "urn:dev:ow:10e2073a01080063:current 1.4 A -400 s late",
        "x:on true - +0 s",
    ];
    assert_eq!(told(message).iter().map(|line| line.replace("-0 s", "+0 s")).collect::<Vec<_>>(), expected);
}

#[test]
fn base_value_and_relative_time_are_added_and_text_is_text() {
    let message = r#"[{"bn":"t","bv":20,"v":3.5},{"v":-1,"t":-60},{"vs":"open"},{"vd":"aGk"},{"s":12.5},{"bu":"Cel"},{"n":"-a","v":1}]"#;
    let expected = ["t 23.5 - now", "t 19 - -60 s", "t \"open\" - now", "t \"aGk\" - now", "t-a 21 Cel now"];
    assert_eq!(told(message), expected);
}

#[test]
fn a_pack_whose_meaning_is_in_doubt_is_refused_with_the_record() {
    for (message, what) in [
        (r#"{"n":"t","v":1}"#, "不是 SenML"),
        (r#"[{"n":"t","v":1},7]"#, "第 2 条记录：不是对象"),
        (r#"[{"v":1}]"#, "没有名称"),
        (r#"[{"n":"t"}]"#, "没有值"),
        (r#"[{"bn":5,"v":1}]"#, "bn 应为文本"),
        (r#"[{"n":"t","bt":"now","v":1}]"#, "bt 应为数字"),
        (r#"[{"n":"t","v":1,"bver":11}]"#, "版本 11 太新"),
        (r#"[{"n":"t","v":1,"key_":1}]"#, "必须理解"),
    ] {
        let refusal = resolve(message, NOW).unwrap_err();
        assert!(refusal.contains(what), "{message}: {refusal}");
    }
    let many = format!("[{}]", vec![r#"{"n":"t","v":1}"#; RECORDS_MAX + 1].join(","));
    assert!(resolve(&many, NOW).unwrap_err().contains("过多"));
}

#[test]
fn a_value_that_is_none_spoils_only_itself() {
    let values = resolve(r#"[{"n":"t","v":"hot"},{"n":"u","v":null},{"n":"w","v":3}]"#, NOW).unwrap();
    let raws: Vec<_> = values.into_iter().map(|value| value.raw).collect();
    assert_eq!(raws, [Raw::Text("hot".into()), Raw::Null, Raw::Number(3.0)]);
}

#[test]
fn a_model_knows_its_values_by_the_last_part_of_their_names() {
    let names: Names = [("smoke".into(), vec![0]), ("urn:dev:b:heat".into(), vec![1])].into_iter().collect();
    let known = |message| {
        let values = known(resolve(message, NOW).unwrap(), &names)?;
        Ok::<_, String>(values.into_iter().map(|value| value.name.into_owned()).collect::<Vec<_>>())
    };
    let one = r#"[{"bn":"urn:dev:a:","n":"smoke","vb":true},{"n":"heat","v":1},{"n":"smoke","vb":false},{"bn":"urn:dev:b:","n":"heat","v":2}]"#;
    assert_eq!(known(one).unwrap(), ["smoke", "smoke", "urn:dev:b:heat"]);
    let two = r#"[{"bn":"urn:dev:a:","n":"smoke","vb":true},{"bn":"urn:dev:b:","n":"smoke","vb":false}]"#;
    assert!(known(two).unwrap_err().contains("完整名称"));
}

#[test]
fn a_time_without_a_clock_to_judge_it_is_left_aside() {
    let values =
        resolve(r#"[{"n":"t","t":-10,"v":1},{"n":"t","t":1768444205,"v":1}]"#, Timestamp::EPOCH).unwrap();
    assert!(values.iter().all(|value| value.taken == Taken::Unknown));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(message: String) {
        if let Ok(values) = resolve(&message, NOW) {
            prop_assert!(values.len() <= message.len());
        }
    }

    #[test]
    fn whatever_the_records_hold_each_value_has_a_name_and_a_judged_time(
        records in prop::collection::vec(
            (prop::option::of("[a-z:]{0,4}"), prop::option::of("[a-z]{0,3}"), prop::option::of(any::<f64>()), any::<f64>()), 0..20)
    ) {
        let written: Vec<String> = records
            .iter()
            .map(|(bn, n, t, v)| {
                let field = |name: &str, text: &Option<String>| text.as_ref().map_or(String::new(), |text| format!("\"{name}\":\"{text}\","));
                let time = t.filter(|t| t.is_finite()).map_or(String::new(), |t| format!("\"t\":{t:e},"));
                format!("{{{}{}{time}\"v\":{v:e}}}", field("bn", bn), field("n", n))
            })
            .collect();
        if let Ok(values) = resolve(&format!("[{}]", written.join(",")), NOW) {
            prop_assert_eq!(values.len(), records.len());
            for value in values {
                prop_assert!(!value.name.is_empty());
                if let Taken::At { time, .. } = value.taken {
                    prop_assert!(time.since(NOW) <= Span::from_secs(300));
                }
            }
        }
    }
}
