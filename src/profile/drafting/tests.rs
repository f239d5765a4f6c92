//! Tests of: drafts of profiles. Whatever comes, a draft checks clean and its examples pass, or it is refused with a reason.

use super::super::vocabulary::Vocabulary;
use super::super::{Profile, WordOrder, WordType};
use super::register_tests::block;
use super::*;
use crate::model::{ProfileId, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(super) static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    Vocabulary::parse("vocabulary.toml", include_str!("../../../device-profiles/vocabulary.toml")).unwrap()
});

fn sampled(topic: &str, payload: &str) -> Sampled {
    Sampled { topic: topic.to_owned(), payload: payload.as_bytes().to_vec(), at: None }
}

fn draft(samples: &[(&str, &str)]) -> Result<Drafted, Refused> {
    let samples: Vec<Sampled> = samples.iter().map(|(topic, payload)| sampled(topic, payload)).collect();
    draft_messages(Identity::default(), &samples, &[], &VOCABULARY)
}

/// The profile of a draft, which is whole.
pub(super) fn whole(drafted: &Drafted) -> Profile {
    let id = ProfileId::parse(&drafted.profile).unwrap();
    let profile = Profile::parse(id, "draft", &drafted.text, &VOCABULARY)
        .unwrap_or_else(|problems| panic!("{}\n{problems:?}", drafted.text));
    assert_eq!(profile.check_examples(), [], "{}", drafted.text);
    profile
}

/// Name and class of each point.
fn points(profile: &Profile) -> Vec<(&str, &str)> {
    profile.points.iter().map(|point| (point.name.as_str(), point.class.as_str())).collect()
}

#[test]
fn fields_are_known_by_their_names_in_english_chinese_and_pinyin_and_by_their_values() {
    for (payload, expected) in [
        (r#"{"smoke":0}"#, ("smoke", "smoke_alarm")),
        (r#"{"smokeState":"NORMAL"}"#, ("smokestate", "smoke_alarm")),
        (r#"{"烟雾":false}"#, ("smoke-alarm", "smoke_alarm")),
        (r#"{"yangan":1}"#, ("yangan", "smoke_alarm")),
        (r#"{"smoke_level":37.5}"#, ("smoke-level", "smoke_level")),
        (r#"{"data":{"wendu":23.5}}"#, ("wendu", "ambient_temperature")),
        (r#"{"temp":235}"#, ("temp", "ambient_temperature")),
        (r#"{"shidu":55}"#, ("shidu", "ambient_humidity")),
        (r#"{"dianliang":87}"#, ("dianliang", "battery")),
        (r#"{"battery":3.61}"#, ("battery", "battery_voltage")),
        (r#"{"battery_mv":3610}"#, ("battery-mv", "battery_voltage")),
        (r#"{"lowBattery":false}"#, ("lowbattery", "battery_low")),
        (r#"{"水压":0.35}"#, ("pipe-pressure", "pipe_pressure")),
        (r#"{"hydrantPressure":0.21}"#, ("hydrantpressure", "hydrant_pressure")),
        (r#"{"loudian":120}"#, ("loudian", "residual_current")),
        (r#"{"ua":229.8}"#, ("ua", "phase_voltage")),
        (r#"{"shuijin":1}"#, ("shuijin", "water_leak")),
        (r#"{"rssi":-71}"#, ("rssi", "signal")),
        (r#"{"ranqi":4.5}"#, ("ranqi", "combustible_gas")),
        (r#"{"fangchai":0}"#, ("fangchai", "tamper")),
        (r#"{"sos":0}"#, ("sos", "manual_call_point")),
        (r#"{"baojing":0}"#, ("baojing", "panel_alarm")),
        // A state is never taken for an amount: a gas alarm of 2 is no gas of 2 %.
        (r#"{"gasAlarm":2}"#, ("gasalarm", "gas_alarm")),
        (r#"{"smoke":2}"#, ("smoke", "smoke_alarm")),
        (r#"{"Temp":{"value":24.5}}"#, ("temp", "ambient_temperature")),
        (r#"{"type":"smoke sensor","event":"alarm"}"#, ("event", "smoke_alarm")),
    ] {
        let drafted =
            draft(&[("site/a/device/d-01/up", payload)]).unwrap_or_else(|why| panic!("{payload}: {why:?}"));
        let profile = whole(&drafted);
        let (name, class) = points(&profile)[0];
        assert_eq!((name, class), expected, "{payload}\n{}", drafted.text);
        assert_eq!(profile.topics()[0].as_str(), "site/a/device/{address}/up", "{payload}");
    }
}

/// A key that says nothing of its own is told by what else the device says.
#[test]
fn an_alarm_beside_smoke_is_a_smoke_alarm_and_the_temperature_there_is_the_detectors() {
    let drafted = draft(&[
        ("yangan/867000000000001", r#"{"alarm":0,"temp":22.5,"yanwu_nongdu":12}"#),
        ("yangan/867000000000002", r#"{"alarm":0,"temp":21.0,"yanwu_nongdu":13}"#),
    ])
    .unwrap();
    let profile = whole(&drafted);
    let mut found = points(&profile);
    found.sort_unstable();
    assert_eq!(
        found,
        [("alarm", "smoke_alarm"), ("temp", "heat_temperature"), ("yanwu-nongdu", "smoke_level")]
    );
    assert_eq!(profile.topics()[0].as_str(), "yangan/{address}");
}

#[test]
fn a_fire_that_never_came_is_in_the_codes_all_the_same_as_a_guess_with_a_made_up_example() {
    let drafted =
        draft(&[("d/sd-7/up", r#"{"smoke":"OFF"}"#), ("d/sd-7/up", r#"{"smoke":"weird"}"#)]).unwrap();
    let profile = whole(&drafted);
    let read = profile.decode_message(0, br#"{"smoke":"ON"}"#, Timestamp::from_secs(1_790_000_000));
    assert_eq!(profile.shown(&read.samples[0]), "alarm", "{}", drafted.text);
    let unknown = profile.decode_message(0, br#"{"smoke":"weird"}"#, Timestamp::from_secs(1_790_000_000));
    assert_eq!(profile.shown(&unknown.samples[0]), "unreadable");
    assert!(
        drafted.text.contains("weird") && drafted.text.contains("拟造 made up: smoke = alarm"),
        "{}",
        drafted.text
    );
}

#[test]
fn one_alarm_behind_a_thousand_messages_of_rest_is_an_example() {
    let rest = (0..1000).map(|n| format!(r#"{{"smoke":0,"temperature":{}.5}}"#, n % 40));
    let mut messages: Vec<String> = rest.collect();
    messages.push(r#"{"smoke":1,"temperature":61.5}"#.to_owned());
    let samples: Vec<(&str, &str)> = messages.iter().map(|message| ("d/sd-7/up", message.as_str())).collect();
    let drafted = draft(&samples).unwrap();
    assert_eq!(whole(&drafted).points[0].class.as_str(), "smoke_alarm");
    assert!(drafted.text.contains("61.5") && !drafted.text.contains("拟造"), "{}", drafted.text);

    // The only alarm is too long for an example: one is made up.
    let long = format!(r#"{{"smoke":1,"temperature":61.5,"junk":"{}"}}"#, "x".repeat(20_000));
    messages.pop();
    messages.push(long);
    let samples: Vec<(&str, &str)> = messages.iter().map(|message| ("d/sd-7/up", message.as_str())).collect();
    let drafted = draft(&samples).unwrap();
    assert_eq!(whole(&drafted).points[0].class.as_str(), "smoke_alarm");
    assert!(drafted.text.contains("拟造 made up: smoke = alarm"), "{}", drafted.text);
}

#[test]
fn the_examples_are_messages_as_they_came_and_the_last_one_is_refused() {
    let messages = [
        r#"{"ts":1790000000000,"smoke":0,"temperature":23.5,"note":"x"}"#,
        r#"{"ts":1790000060000,"smoke":1,"temperature":41.5,"note":"y"}"#,
        r#"{"ts":1790000120000,"smoke":1,"temperature":41.5,"note":"z"}"#,
    ];
    let samples: Vec<Sampled> = messages
        .iter()
        .zip(1..)
        .map(|(payload, minute)| Sampled {
            at: Some(Timestamp::from_secs(1_790_000_000 + 60 * (minute - 1) + 1)),
            ..sampled("site/home/device/sd-01/up", payload)
        })
        .collect();
    let identity = Identity { vendor: "Acme".into(), model: "SD 100".into(), ..Identity::default() };
    let drafted = draft_messages(identity, &samples, &[], &VOCABULARY).unwrap();
    let profile = whole(&drafted);
    assert_eq!(drafted.profile, "acme/sd-100");
    let inputs: Vec<&ExampleInputOf> = profile.examples.iter().map(|example| &example.input).collect();
    let came = |message: &str| inputs.contains(&&ExampleInputOf::Message(message.as_bytes().to_vec()));
    assert!(came(messages[0]) && came(messages[1]), "{}", drafted.text);
    assert!(profile.examples.last().unwrap().refused);
    assert!(drafted.text.contains("[time]\njson = \"ts\"\nunit = \"ms\""), "{}", drafted.text);
    assert!(drafted.text.contains("sampled_at = \"2026-09-21T"), "{}", drafted.text);
    assert!(drafted.text.contains("未识别 not recognised: note"), "{}", drafted.text);
    assert!(drafted.text.contains(CHECK), "what is a guess says so");
}

use super::super::ExampleInput as ExampleInputOf;

#[test]
fn the_level_of_the_device_is_found_by_its_name_in_the_message_by_its_place_or_by_its_looks() {
    for (topics, pattern) in [
        (&["a/b/c"][..], "a/b/{address}"),
        (&["application/1/device/24e124/event/up"], "application/1/device/{address}/event/up"),
        (&["hall/x1/telemetry", "hall/x2/telemetry"], "hall/{address}/telemetry"),
        (&["site/n/device/1/up", "site/s/device/2/up"], "site/{site}/device/{address}/up"),
        (&["yanwu/a81758fffe03"], "yanwu/{address}"),
    ] {
        let samples: Vec<Sampled> =
            topics.iter().map(|topic| sampled(topic, r#"{"smoke":0,"battery":80}"#)).collect();
        let drafted = draft_messages(Identity::default(), &samples, &[], &VOCABULARY).unwrap();
        assert_eq!(whole(&drafted).topics()[0].as_str(), pattern, "{topics:?}");
    }
    let named = draft(&[("x/kitchen/y/z", r#"{"id":"kitchen","smoke":1}"#)]).unwrap();
    assert_eq!(whole(&named).topics()[0].as_str(), "x/{address}/y/z");
    assert!(!named.text.contains("place of {address} is a guess"), "{}", named.text);
    let said = draft(&[("my/{place}/{address}", r#"{"smoke":1}"#)]).unwrap();
    assert_eq!(whole(&said).topics()[0].as_str(), "my/{place}/{address}");
}

#[test]
fn plain_values_on_topics_of_their_own_are_points_each() {
    let drafted = draft(&[
        ("home/sd-01/smoke", "OFF"),
        ("home/sd-01/smoke", "ON"),
        ("home/sd-01/temperature", "21.5"),
        ("home/sd-01/temperature", "22"),
        ("home/sd-01/battery", "88"),
    ])
    .unwrap();
    let profile = whole(&drafted);
    assert_eq!(profile.topics().len(), 3, "{}", drafted.text);
    assert!(profile.topics().iter().all(|topic| topic.as_str().starts_with("home/{address}/")));
    let mut classes: Vec<&str> = profile.points.iter().map(|point| point.class.as_str()).collect();
    classes.sort_unstable();
    assert_eq!(classes, ["battery", "heat_temperature", "smoke_alarm"]);
}

#[test]
fn what_cannot_be_drafted_is_refused_with_what_to_do() {
    let refused = |samples: &[(&str, &str)]| draft(samples).unwrap_err();
    assert!(refused(&[]).why.contains("没有报文"));
    assert!(refused(&[("a/b", "\u{1}\u{2}")]).why.contains("Bytes"));
    let strange = refused(&[("a/b", r#"{"foo":17,"bar":[1,2]}"#)]);
    assert!(
        strange.why.contains("--pick") && strange.seen.iter().any(|line| line == "foo = 17"),
        "{strange:?}"
    );
    assert!(refused(&[("a/#", r#"{"smoke":1}"#)]).why.contains("--topic"));
    let several = refused(&[("gw/1", r#"{"devices":[{"id":"1","smoke":1}]}"#)]);
    assert!(several.seen.iter().any(|line| line.contains("[mqtt.each]")), "{several:?}");
}

#[test]
fn a_person_who_names_a_field_is_believed() {
    let samples = [sampled("a/d1", r#"{"foo":235,"smoke":0,"n":{"k":7}}"#)];
    let pick = |path: &str, class: &str, unit: Option<&str>| MessagePick {
        path: path.into(),
        class: class.into(),
        unit: unit.map(str::to_owned),
    };
    let picks = [
        pick("foo", "pipe_pressure", Some("kPa")),
        pick("smoke", "-", None),
        pick("n.k", "link_quality", None),
    ];
    let drafted = draft_messages(Identity::default(), &samples, &picks, &VOCABULARY).unwrap();
    assert_eq!(points(&whole(&drafted)), [("foo", "pipe_pressure"), ("k", "link_quality")]);
    for (wrong, said) in [
        (pick("fooo", "pipe_pressure", None), "did you mean \"foo\"?"),
        (pick("foo", "pipe_presure", None), "pipe_pressure"),
        (pick("foo", "pipe_pressure", Some("mA")), "kPa"),
    ] {
        let refused = draft_messages(Identity::default(), &samples, &[wrong], &VOCABULARY).unwrap_err();
        assert!(refused.why.contains(said), "{refused:?}");
    }
}

fn any_key() -> impl Strategy<Value = String> {
    let known = [
        "smoke", "alarm", "temp", "battery", "ts", "烟感", "rssi", "id", "a.b", "x\"]y", "", "门", "voltage",
        "link", "model",
    ];
    prop_oneof![3 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0u8..4).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        (-50.0..4000.0f64).prop_map(|number| json!(number)),
        prop::sample::select(vec!["ON", "off", "normal", "报警", "1", "23.5", "2026-09-21T10:00:00Z", ""])
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((any_key(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_topic() -> impl Strategy<Value = String> {
    prop_oneof![Just("site/a/device/d1/up".to_owned()), "[a-z0-9/{}]{0,20}", any::<String>()]
}

proptest! {
    #[test]
    fn any_messages_give_a_whole_draft_or_a_refusal_with_a_reason(
        samples in prop::collection::vec((any_topic(), any_value(), prop::option::of(0i64..4_000_000_000_000)), 0..6),
        vendor in any::<String>(),
    ) {
        let samples: Vec<Sampled> = samples
            .into_iter()
            .map(|(topic, value, at)| Sampled {
                at: at.map(Timestamp::from_millis),
                ..sampled(&topic, &value.to_string())
            })
            .collect();
        let identity = Identity { vendor, model: "m".into(), ..Identity::default() };
        match draft_messages(identity, &samples, &[], &VOCABULARY) {
            Ok(drafted) => { whole(&drafted); }
            Err(refused) => {
                // Never because of what it wrote itself.
                prop_assert!(!refused.why.is_empty() && !refused.why.contains("the draft"), "{:?}\n{:?}", refused, samples);
            }
        }
    }

    #[test]
    fn a_smoke_detector_is_drafted_whatever_stands_beside_it(
        fields in prop::collection::vec((any_key(), any_value()), 0..6),
        smoke in prop::sample::select(vec![json!(0), json!(1), json!(true), json!("ALARM"), json!("正常")]),
    ) {
        let mut message: serde_json::Map<String, Value> = fields.into_iter().collect();
        message.insert("smoke".to_owned(), smoke);
        let payload = Value::Object(message).to_string();
        let drafted = draft(&[("site/a/device/d1/up", &payload)]);
        let drafted = drafted.unwrap_or_else(|refused| panic!("{payload}: {refused:?}"));
        let profile = whole(&drafted);
        prop_assert!(profile.points.iter().any(|point| point.class.as_str() == "smoke_alarm"), "{}", drafted.text);
    }

    #[test]
    fn any_registers_are_shown_and_any_picks_of_them_are_a_whole_draft(
        words in prop::collection::vec(any::<u16>(), 8),
        places in prop::collection::vec((0u16..7, 0usize..5, 0usize..4, 0usize..6), 1..5),
    ) {
        let seen = [block(0, &words)];
        prop_assert!(!register_views(&seen, &VOCABULARY).is_empty());
        let classes = ["battery", "smoke_alarm", "ambient_temperature", "water_leak", "phase_voltage", "link_quality"];
        let picks: Vec<RegisterPick> = places
            .into_iter()
            .map(|(address, kind, order, class)| {
                let order = WordOrder::ALL[order].name();
                let text = format!("holding@{address} {} {order} {}", REGISTER_TYPES[kind], classes[class]);
                RegisterPick::parse(&text, &VOCABULARY).unwrap()
            })
            .collect();
        match draft_registers(Identity::default(), &seen, &picks, false, &VOCABULARY) {
            Ok(drafted) => { whole(&drafted); }
            Err(refused) => prop_assert!(refused.why.contains("no message shows"), "{refused:?}"),
        }
    }

    #[test]
    fn a_number_that_is_encoded_is_decoded_again(raw in any::<i32>(), kind in 0usize..5, order in 0usize..4) {
        let (kind, order) = (WordType::parse(REGISTER_TYPES[kind]).unwrap(), WordOrder::ALL[order]);
        if let Some(words) = encode(f64::from(raw % 40_000), kind, order) {
            prop_assert_eq!(kind.decode(&words, order), Some(f64::from(raw % 40_000)));
        }
    }
}
