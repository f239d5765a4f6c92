//! Announcements as Zigbee2MQTT, Tasmota, ESPHome and Home Assistant's own page write them, and whatever else comes.

use super::*;
use crate::model::ProfileId;
use crate::profile::{Profile, Vocabulary};
use proptest::prelude::*;
use std::sync::LazyLock;

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let text = include_str!("../../../device-profiles/vocabulary.toml");
    Vocabulary::parse("vocabulary.toml", text).unwrap()
});

/// The proposal for all that the messages announce of one device.
fn propose(messages: &[(&str, &str)]) -> Proposal {
    let (mut device, mut entities) = (AnnouncedDevice::default(), Vec::new());
    for (topic, payload) in messages {
        let Announcement::Of(of, more) = Announcement::read(topic, payload.as_bytes()).unwrap().unwrap()
        else {
            panic!("{topic} withdraws");
        };
        device = of;
        entities.extend(more);
    }
    Proposal::of(&device, &entities)
}

/// The profile of a draft; it has to be right in every example.
fn parsed(proposal: &Proposal) -> Profile {
    let id = ProfileId::parse(&proposal.profile).unwrap();
    let profile = Profile::parse(id, "draft", &proposal.text, &VOCABULARY)
        .unwrap_or_else(|problems| panic!("{problems:#?}\n{}", proposal.text));
    let failures = profile.check_examples();
    assert!(failures.is_empty(), "{failures:#?}\n{}", proposal.text);
    profile
}

fn points(profile: &Profile) -> Vec<String> {
    profile.points.iter().map(|point| format!("{}: {}", point.name, point.class)).collect()
}

const ZIGBEE: &str = r#""availability":[{"topic":"zigbee2mqtt/bridge/state","value_template":"{{ value_json.state }}"},{"topic":"zigbee2mqtt/0x00158d0001a2b3c4/availability","value_template":"{{ value_json.state }}"}],"availability_mode":"all","device":{"hw_version":0,"identifiers":["zigbee2mqtt_0x00158d0001a2b3c4"],"manufacturer":"Heiman","model":"Smoke detector","model_id":"HS1SA-E","name":"0x00158d0001a2b3c4","via_device":"zigbee2mqtt_bridge_0x00124b00"},"state_topic":"zigbee2mqtt/0x00158d0001a2b3c4","origin":{"name":"Zigbee2MQTT"}"#;

#[test]
fn a_zigbee_smoke_detector_becomes_a_profile() {
    let with = |own: &str| format!("{{{own},{ZIGBEE}}}");
    let proposal = propose(&[
        (
            "homeassistant/binary_sensor/0x00158d0001a2b3c4/smoke/config",
            &with(
                r#""device_class":"smoke","object_id":"0x00158d0001a2b3c4_smoke","payload_off":false,"payload_on":true,"unique_id":"0x00158d0001a2b3c4_smoke_zigbee2mqtt","value_template":"{{ value_json.smoke }}""#,
            ),
        ),
        (
            "homeassistant/binary_sensor/0x00158d0001a2b3c4/battery_low/config",
            &with(
                r#""device_class":"battery","payload_off":false,"payload_on":true,"value_template":"{{ value_json.battery_low }}","entity_category":"diagnostic""#,
            ),
        ),
        (
            "homeassistant/sensor/0x00158d0001a2b3c4/battery/config",
            &with(
                r#""device_class":"battery","unit_of_measurement":"%","value_template":"{{ value_json.battery }}""#,
            ),
        ),
        (
            "homeassistant/sensor/0x00158d0001a2b3c4/temperature/config",
            &with(
                r#""device_class":"temperature","unit_of_measurement":"°C","value_template":"{{ value_json.temperature }}""#,
            ),
        ),
        (
            "homeassistant/sensor/0x00158d0001a2b3c4/linkquality/config",
            &with(
                r#""name":"Linkquality","unit_of_measurement":"lqi","value_template":"{{ value_json.linkquality }}""#,
            ),
        ),
        (
            "homeassistant/switch/0x00158d0001a2b3c4/alarm/config",
            &with(
                r#""name":"Alarm","command_topic":"zigbee2mqtt/0x00158d0001a2b3c4/set","value_template":"{{ value_json.alarm }}""#,
            ),
        ),
        (
            "homeassistant/sensor/0x00158d0001a2b3c4/update_state/config",
            &with(r#""name":"Update state","value_template":"{{ value_json['update']['state'] }}""#),
        ),
    ]);
    assert_eq!((&*proposal.profile, &*proposal.address), ("heiman/smoke-detector", "0x00158d0001a2b3c4"));
    let profile = parsed(&proposal);
    let expected = [
        "smoke: smoke_alarm",
        "battery-low: battery_low",
        "battery: battery",
        "temperature: heat_temperature",
        "linkquality: link_quality",
    ];
    assert_eq!(points(&profile), expected);
    assert_eq!(profile.topics()[0].as_str(), "zigbee2mqtt/{address}");
    let left =
        ["switch“Alarm”：是控制项，本网关只读", "sensor“Update state”：没有 device_class，不知道它是什么"];
    assert_eq!(proposal.untranslated, left);
    assert_eq!(
        availability(&proposal),
        [("zigbee2mqtt/{address}/availability".to_owned(), Some(true), Some(false))]
    );
}

/// What the draft makes of the last topic of its profile, told in JSON.
fn availability(proposal: &Proposal) -> [(String, Option<bool>, Option<bool>); 1] {
    let profile = parsed(proposal);
    let place = profile.topics().len() - 1;
    let link = |payload: &str| {
        profile.decode_message(place, payload.as_bytes(), crate::model::Timestamp::EPOCH).link
    };
    let (online, offline) = (link(r#"{"state":"online"}"#), link(r#"{"state":"offline"}"#));
    [(profile.topics()[place].as_str().to_owned(), online, offline)]
}

#[test]
fn a_place_of_availability_that_a_profile_cannot_say_is_a_comment_and_is_told() {
    let smoke = r#""dev":{"ids":"x1"},"stat_t":"a/x1/now","dev_cla":"smoke""#;
    for (own, why) in [
        (r#""avty_t":"bridge/state""#, "里没有地址"),
        (r#""avty_t":"a/x1/now""#, "也是测点的主题"),
        (r#""avty_t":"a/x1/alive","pl_avail":"1","pl_not_avail":"1""#, "一样"),
        (r#""avty_t":"a/x1/alive","avty_tpl":"{% if value %}online{% endif %}""#, "不是简单取值"),
    ] {
        let proposal =
            propose(&[("homeassistant/binary_sensor/x1/smoke/config", &format!("{{{smoke},{own}}}"))]);
        assert_eq!(parsed(&proposal).topics().len(), 1, "{}", proposal.text);
        assert!(proposal.text.contains("# 在线状态"), "{}", proposal.text);
        assert!(proposal.untranslated.iter().any(|left| left.contains(why)), "{:?}", proposal.untranslated);
    }
}

#[test]
fn a_flag_inside_json_is_a_place_of_availability() {
    let proposal = propose(&[(
        "homeassistant/binary_sensor/x1/smoke/config",
        r#"{"dev":{"ids":"x1"},"stat_t":"a/x1/now","dev_cla":"smoke","avty":[{"t":"a/x1/net","pl_avail":"True","pl_not_avail":"False","val_tpl":"{{ value_json.net.up }}"}]}"#,
    )]);
    let profile = parsed(&proposal);
    let link =
        |payload: &str| profile.decode_message(1, payload.as_bytes(), crate::model::Timestamp::EPOCH).link;
    let told = [link(r#"{"net":{"up":true}}"#), link(r#"{"net":{"up":false}}"#), link(r#"{"net":1}"#)];
    assert_eq!(told, [Some(true), Some(false), None]);
}

#[test]
fn abbreviated_keys_and_the_base_topic_are_read() {
    // Tasmota's SetOption19 of firmware 9 and before: homeassistant/sensor/…_AM2301_Temperature/config.
    let proposal = propose(&[
        (
            "homeassistant/sensor/A1B2C3_AM2301_Temperature/config",
            r#"{"name":"Kueche AM2301 Temperature","stat_t":"tele/tasmota_A1B2C3/SENSOR","avty_t":"tele/tasmota_A1B2C3/LWT","pl_avail":"Online","pl_not_avail":"Offline","uniq_id":"A1B2C3_AM2301_Temperature","dev":{"ids":["A1B2C3"]},"unit_of_meas":"°C","dev_cla":"temperature","frc_upd":true,"val_tpl":"{{value_json['AM2301']['Temperature']}}"}"#,
        ),
        (
            "homeassistant/sensor/A1B2C3_ENERGY_Power/config",
            r#"{"name":"Power","~":"tele/tasmota_A1B2C3","stat_t":"~/SENSOR","dev":{"ids":"A1B2C3","mf":"Tasmota","mdl":"Sonoff POW"},"unit_of_meas":"W","dev_cla":"power","val_tpl":"{{ value_json.ENERGY.Power | float | round(1) }}"}"#,
        ),
    ]);
    assert_eq!(proposal.address, "tasmota_A1B2C3");
    let profile = parsed(&proposal);
    assert_eq!(points(&profile), ["temperature: ambient_temperature", "power: active_power"]);
    assert_eq!(profile.topics()[0].as_str(), "tele/{address}/SENSOR");
    assert!(proposal.text.contains("\"AM2301.Temperature\""), "{}", proposal.text);
    let profile = parsed(&proposal);
    let place = profile.topics().len() - 1;
    assert_eq!(profile.topics()[place].as_str(), "tele/{address}/LWT");
    let now = crate::model::Timestamp::EPOCH;
    let link = |payload: &str| profile.decode_message(place, payload.as_bytes(), now).link;
    assert_eq!([link("Online"), link("Offline"), link("online")], [Some(true), Some(false), None]);
}

#[test]
fn plain_text_topics_of_an_esphome_node_become_text_points() {
    let device = r#""dev":{"ids":"a4cf12ab34cd","name":"smoke-kitchen","sw":"esphome v2025.7.0","mdl":"esp32dev","mf":"Espressif"}"#;
    let proposal = propose(&[
        (
            "homeassistant/binary_sensor/smoke-kitchen/rauch/config",
            &format!(
                r#"{{"dev_cla":"smoke","name":"Rauch","stat_t":"smoke-kitchen/binary_sensor/rauch/state","avty_t":"smoke-kitchen/status","uniq_id":"ESPbinary_sensorrauch",{device}}}"#
            ),
        ),
        (
            "homeassistant/sensor/smoke-kitchen/co/config",
            &format!(
                r#"{{"dev_cla":"carbon_monoxide","unit_of_meas":"ppm","stat_cla":"measurement","name":"CO","stat_t":"smoke-kitchen/sensor/co/state","uniq_id":"ESPsensorco",{device}}}"#
            ),
        ),
    ]);
    assert_eq!(proposal.address, "smoke-kitchen");
    let profile = parsed(&proposal);
    assert_eq!(points(&profile), ["rauch: smoke_alarm", "co: carbon_monoxide"]);
    let topics: Vec<_> = profile.topics().iter().map(|topic| topic.as_str()).collect();
    let expected = ["{address}/binary_sensor/rauch/state", "{address}/sensor/co/state", "{address}/status"];
    assert_eq!(topics, expected);
    assert!(proposal.untranslated.is_empty());
}

#[test]
fn a_whole_device_is_announced_at_once() {
    // The form of home-assistant.io/integrations/mqtt, device discovery, with components of ours.
    let payload = r#"{"dev":{"ids":"ea334450945afc","name":"Kitchen","mf":"Bla electronics","mdl":"xya"},"o":{"name":"bla2mqtt"},
        "cmps":{"temp":{"p":"sensor","device_class":"temperature","unit_of_measurement":"°F","value_template":"{{ value_json.temperature }}","unique_id":"temp01ae_t"},
        "leak":{"p":"binary_sensor","dev_cla":"moisture","pl_on":"True","pl_off":"False","val_tpl":"{{ value_json.leak }}"},
        "odd":{"p":"sensor","device_class":"temperature","unit_of_measurement":"°C","value_template":"{% if value_json.x %}1{% endif %}"},
        "gone":{"p":"sensor"}},"state_topic":"bla/ea334450945afc/state","qos":2}"#;
    let proposal = propose(&[("homeassistant/device/0AFFD2/config", payload)]);
    assert_eq!((&*proposal.profile, &*proposal.address), ("bla-electronics/xya", "ea334450945afc"));
    let profile = parsed(&proposal);
    assert_eq!(points(&profile), ["leak: water_leak", "temperature: ambient_temperature"]);
    assert_eq!(proposal.untranslated.len(), 2, "{:?}", proposal.untranslated);
    assert!(proposal.untranslated.iter().any(|left| left.contains("不是简单取值")));
}

#[test]
fn what_announces_nothing_readable_says_so_and_drafts_nothing() {
    let proposal =
        propose(&[("homeassistant/sensor/x/config", r#"{"name":"Moon phase","state_topic":"moon/x"}"#)]);
    assert_eq!((&*proposal.text, proposal.untranslated.len()), ("", 1));
    assert!(Announcement::read("homeassistant/sensor/x/config", b"{").unwrap().is_err());
    assert!(Announcement::read("homeassistant/sensor/x/config", b"[]").unwrap().is_err());
    assert!(Announcement::read("homeassistant/device/x/config", b"{}").unwrap().is_err());
    let withdrawn = Announcement::read("homeassistant/sensor/n/x/config", b"").unwrap().unwrap();
    assert_eq!(withdrawn, Announcement::Withdrawn { key: "sensor/n/x".to_owned() });
    for other in [
        "homeassistant/status",
        "homeassistant/sensor/config",
        "homeassistant/sensor/a/b/c/config",
        "x/sensor/a/config",
    ] {
        assert_eq!(Announcement::read(other, b"{}"), None, "{other}");
    }
}

#[test]
fn of_two_entities_that_read_one_value_the_second_is_left_to_a_person() {
    for template in ["", r#","val_tpl":"{{ value_json.x }}""#] {
        let proposal = propose(&[
            (
                "homeassistant/binary_sensor/b/s/config",
                &format!(r#"{{"dev_cla":"smoke","stat_t":"a/b"{template}}}"#),
            ),
            (
                "homeassistant/sensor/b/t/config",
                &format!(r#"{{"dev_cla":"temperature","unit_of_meas":"°C","stat_t":"a/b"{template}}}"#),
            ),
        ]);
        assert_eq!(points(&parsed(&proposal)).len(), 1);
        assert_eq!(proposal.untranslated, ["sensor“t”：与另一项读同一个值"]);
    }
}

#[test]
fn a_template_is_a_path_or_it_is_more() {
    let path = |template: &str| {
        let json = format!(r#"{{"dev_cla":"smoke","stat_t":"a/b","val_tpl":{template:?}}}"#);
        let proposal = propose(&[("homeassistant/binary_sensor/b/config", &json)]);
        let line = proposal.text.lines().find(|line| line.starts_with("from")).map(str::to_owned);
        line.unwrap_or_else(|| proposal.untranslated[0].clone())
    };
    assert_eq!(path("{{value_json.a.b}}"), r#"from = { json = "a.b" }"#);
    assert_eq!(path("{{ value_json['a b'][2].c | is_defined }}"), r#"from = { json = "[\"a b\"][2].c" }"#);
    assert_eq!(path("{{ value }}"), "from = { text = true, topic = 0 }");
    for more in [
        "{{ value_json.a + 1 }}",
        "{{ value_json.a | multiply(2) }}",
        "{{ states('x') }}",
        "{{ value_json.a[99] }}",
        "{{ value_json }}",
    ] {
        assert!(path(more).contains("不是简单取值"), "{more}: {}", path(more));
    }
}

/// Words of announcements, put together at random: nearly right ones are what breaks a reader.
fn messages() -> impl Strategy<Value = (String, String)> {
    let word = prop::sample::select(vec![
        "smoke",
        "temperature",
        "~",
        "a/b",
        "{{ value_json.x }}",
        "ON",
        "x\"y",
        "\u{0}\n",
        "烟感 1",
        "%",
        "°C",
        "",
        "0x00158d",
        "homeassistant/+/#{}",
    ]);
    let value = prop_oneof![4 => word.clone().prop_map(|word| serde_json::json!(word)), 1 => any::<f64>().prop_map(|n| serde_json::json!(n)), 1 => any::<bool>().prop_map(|b| serde_json::json!(b)), 1 => Just(serde_json::Value::Null)];
    let keys = prop::sample::select(vec![
        "stat_t",
        "state_topic",
        "val_tpl",
        "dev_cla",
        "device_class",
        "unit_of_meas",
        "pl_on",
        "pl_off",
        "name",
        "~",
        "exp_aft",
        "p",
        "avty_t",
        "obj_id",
    ]);
    let object = prop::collection::btree_map(keys, value, 0..9);
    (
        prop::sample::select(vec!["sensor", "binary_sensor", "device", "x"]),
        object.clone(),
        object.clone(),
        object,
        word,
    )
        .prop_map(|(component, mut own, inside, device, id)| {
            own.insert("dev", serde_json::json!(device));
            own.insert("cmps", serde_json::json!({ "one": inside, id: 1 }));
            (format!("homeassistant/{component}/node/{id}/config"), serde_json::json!(own).to_string())
        })
}

proptest! {
    #[test]
    fn whatever_is_announced_a_draft_parses_and_proves_itself(messages in prop::collection::vec(messages(), 1..5)) {
        let (mut device, mut entities) = (AnnouncedDevice::default(), Vec::new());
        for (topic, payload) in &messages {
            if let Some(Ok(Announcement::Of(of, more))) = Announcement::read(topic, payload.as_bytes()) {
                device = of;
                entities.extend(more);
            }
        }
        let proposal = Proposal::of(&device, &entities);
        prop_assert!(!proposal.address.contains(['/', '\n']));
        prop_assert!(proposal.untranslated.iter().all(|left| left.lines().count() == 1));
        if !proposal.text.is_empty() {
            parsed(&proposal);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(Ok(Announcement::Of(device, entities))) = Announcement::read("homeassistant/sensor/x/config", &payload) {
            Proposal::of(&device, &entities);
        }
    }
}
