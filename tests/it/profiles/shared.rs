//! Messages of several devices, availability, kinds of messages that are passed over, and what a message must have.

use super::{NOW, PROFILE, parse, pointed, shipped};
use fengsui::model::{Flaw, Value};
use fengsui::profile::{EACH_MAX, Profile};
use proptest::prelude::*;

/// The profile of the reader's tests, for messages of several devices.
fn shared(each: &str) -> Profile {
    let text = PROFILE.replace("[\"acme/{address}\"]\n", &format!("[\"acme/up\"]\n[mqtt.each]\n{each}\n"));
    let text = text.split("[[example]]").next().unwrap().to_owned()
        + "[[example]]\nname = \"a\"\naddress = \"1\"\ninput = '{}'\n\
           [[example]]\nname = \"b\"\ninput = ''\nrefused = true\n";
    parse(&text).unwrap_or_else(|problems| panic!("{:?}", pointed(&text, &problems)))
}

/// Address, smoke and problems of each part; and what is wrong with the whole.
fn told(profile: &Profile, message: &str) -> (Vec<String>, Option<String>) {
    let mut told = Vec::new();
    let read = profile.parts(message.as_bytes(), &mut |part| {
        let decoded = profile.decode_part(0, part, NOW);
        let smoke = decoded.samples.first().map_or(String::new(), |sample| sample.value.to_string());
        told.push(format!(
            "{}={smoke}{}",
            part.address.clone().unwrap_or("?".into()),
            decoded.problems.len()
        ));
    });
    (told, read.err())
}

#[test]
fn the_devices_of_a_message_are_found_in_an_array_and_in_a_map() {
    let array = shared("path = \"data.devices\"\naddress = \"id.mac\"");
    let message = r#"{"data":{"devices":[{"id":{"mac":"a"},"smoke":1},{"id":{"mac":7},"smoke":0},{"smoke":1},5,{"id":{"mac":" "}}]}}"#;
    assert_eq!(
        told(&array, message),
        (["a=alarm0", "7=normal0", "?=alarm0", "?=1", "?=1"].map(str::to_owned).to_vec(), None)
    );
    let map = shared("");
    assert_eq!(told(&map, r#"{"a":{"smoke":1},"b":{"smoke":7},"c":null}"#).0, ["a=alarm0", "b=—1", "c=1"]);
    // One value that is no number takes no neighbour along.
    assert_eq!(told(&map, r#"{"a":{"smoke":1},"b":{"t":NaN}}"#).0, ["a=alarm0", "b=—1"]);
    for (message, said) in [
        ("{}", "没有设备列表"),
        (r#"{"data":{"devices":7}}"#, "不是数组或对象"),
        (r#"{"data":{"devices":[]}}"#, "为空"),
        ("[", "JSON"),
    ] {
        let (parts, wrong) = told(&array, message);
        assert!(parts.is_empty() && wrong.as_ref().unwrap().contains(said), "{message}: {wrong:?}");
    }
}

#[test]
fn more_devices_than_the_limit_are_told_and_the_first_are_read() {
    let profile = shared("path = \"d\"\naddress = \"id\"");
    let list: Vec<String> = (0..EACH_MAX + 3).map(|n| format!(r#"{{"id":{n},"smoke":1}}"#)).collect();
    let (parts, wrong) = told(&profile, &format!(r#"{{"d":[{}]}}"#, list.join(",")));
    assert_eq!(parts.len(), EACH_MAX);
    assert!(wrong.unwrap().contains(&format!("{} 个设备", EACH_MAX + 3)));
}

#[test]
fn availability_is_read_as_json_and_as_a_plain_word_and_is_no_reading() {
    let profile = shipped("zigbee2mqtt/heiman-hs1sa-e");
    let said = |payload: &str| {
        let decoded = profile.decode_message(1, payload.as_bytes(), NOW);
        assert!(decoded.samples.is_empty(), "{payload}");
        (decoded.link, decoded.understood)
    };
    for (payload, link) in [
        ("online", Some(true)),
        (" offline\n", Some(false)),
        (r#"{"state":"online"}"#, Some(true)),
        (r#"{"x":1,"state":"offline"}"#, Some(false)),
        ("", None),
    ] {
        assert_eq!(said(payload), (link, true), "{payload}");
    }
    for payload in ["away", "{}", r#"{"state":7}"#, "{", r#"{"state":"ONLINE"}"#] {
        assert_eq!(said(payload), (None, false), "{payload}");
    }
}

/// A condition that is too wide must not cost a fire.
#[test]
fn a_kind_that_is_passed_over_hides_no_value() {
    let text = PROFILE.replace("[mqtt]", "[mqtt]\nignore_when = [{ json = \"kind\", is = [\"event\", 3] }]");
    let profile = parse(&text).unwrap();
    let quiet = profile.decode_message(0, br#"{"kind":"event"}"#, NOW);
    assert!(quiet.understood && quiet.samples.is_empty() && quiet.problems.is_empty());
    let fire = profile.decode_message(0, br#"{"kind":"event","smoke":1}"#, NOW);
    assert_eq!(fire.samples[0].value, Value::Code("alarm".into()));
    assert!(!profile.decode_message(0, br#"{"kind":"other"}"#, NOW).understood);
}

#[test]
fn a_required_field_that_is_missing_is_an_unreadable_point() {
    let profile = parse(&PROFILE.replace("json = \"smoke\"", "json = \"smoke\", required = true")).unwrap();
    let decoded = profile.decode_message(0, br#"{"t":20}"#, NOW);
    assert_eq!(decoded.samples[0].flaw, Some(Flaw::Unreadable));
    assert_eq!(decoded.problems, ["smoke：消息中没有这个字段"]);
    assert!(!profile.decode_message(0, b"{}", NOW).understood);
}

#[test]
fn a_wrong_table_of_several_devices_or_availability_is_told() {
    for (to, said) in [
        ("topics = [\"acme/{address}\"]\n[mqtt.each]\npath = \"a[\"", "is not closed"),
        ("topics = [\"acme/{address}\"]\n[mqtt.each]\naddress = \"\"", "the path is empty"),
        ("topics = [\"acme/{address}\"]\n[mqtt.each]", "`address` says which part"),
        ("topics = [\"acme/up\"]", "exactly once"),
        ("topics = [\"acme/{address}\"]\nignore_topics = [\"#/a\"]", "a placeholder is a whole level"),
        (
            "topics = [\"acme/{address}\"]\n[mqtt.availability]\ntopic = \"a/{address}\"\nonline = 1\noffline = [0, 1]",
            "the same word means online and offline",
        ),
        (
            "topics = [\"acme/{address}\"]\n[mqtt.availability]\ntopic = \"a/b\"\nonline = 1\noffline = 0",
            "exactly once",
        ),
    ] {
        let text = PROFILE.replace("topics = [\"acme/{address}\"]", to);
        let problems = pointed(&text, &parse(&text).unwrap_err());
        assert!(problems.iter().any(|(_, problem)| problem.contains(said)), "{to:?}: {problems:?}");
    }
}

proptest! {
    #[test]
    fn no_message_makes_the_parts_fail(message in r#"[\[\]{}:,"a-c0-9. ]{0,60}"#, junk: Vec<u8>) {
        for profile in [shared(""), shared("path = \"a\"\naddress = \"b\"")] {
            let (parts, wrong) = told(&profile, &message);
            prop_assert!(!parts.is_empty() || wrong.is_some());
            let read = profile.parts(&junk, &mut |_| ());
            prop_assert!(read.is_err() || !junk.is_empty());
        }
    }
}
