//! The dialects that devices really speak, side by side over a real socket: what each says comes up right, what nobody planned
//! waits with its own part as a sample, and what has nothing to say makes no noise.

use crate::support::gateway::{BROKER, Gateway, House, device};
use crate::support::pen::Pen;
use crate::support::ports::soon;
use fengsui::clock::Clock;
use fengsui::model::{Flaw, Phase};
use serde_json::{Value, json};

fn house() -> House {
    let at = |id: &str, profile: &str, address: &str| {
        device(id, profile, "broker", &format!("address = \"{address}\""))
    };
    let devices = [
        at("conc-7", "fengsui/smoke-concentrator-json", "gw-1:7"),
        at("conc-12", "fengsui/smoke-concentrator-json", "gw-1:12"),
        at("lora-raw", "milesight/gs524n@raw", "24e124785d123456"),
        at("lora-tts", "milesight/gs524n@tts", "smoke-203"),
        at("hex", "meokon/water-terminal", "SHMK19060013"),
        at("binary", "meokon/water-terminal-binary", "SHRP25090120"),
        at("zigbee", "zigbee2mqtt/heiman-hs1sa-e", "0x00158d0001a2b3c4"),
        at("tasmota", "tasmota/energy", "plug-1"),
        at("gen1", "shelly/smoke-gen1", "shellysmoke-A8B0C1"),
        at("gen2", "shelly/gen2-switch", "shellyplus1pm-a8032abe54dc"),
    ];
    House::build(BROKER, &devices.concat())
}

async fn fire(gateway: &Gateway, point: &str) {
    let hazard = gateway.hazard(point, "smoke-fire", |_| true).await;
    assert_eq!((&hazard["signal"], &hazard["late"]), (&json!("fire"), &json!(false)), "{point}");
}

/// A report of one record, 0.605 MPa, of now.
fn meokon(id: &str) -> Vec<u8> {
    let now = u32::try_from(Clock::system().now().as_millis() / 1000).unwrap();
    let mut bytes =
        [b"\xA5\x5A\0\0\x29".as_slice(), id.as_bytes(), b"\x34\xD0\0\x3C\0\x01\x01\0\0\x64\x01\xF4\x02\x5D"]
            .concat();
    bytes.extend(now.to_be_bytes());
    bytes.extend(b"\x02\x5D");
    let crc = bytes.iter().fold(0xFFFF_u16, |crc, byte| {
        (0..8)
            .fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    });
    bytes.extend(crc.to_be_bytes());
    bytes.extend(b"\x55\xAA");
    bytes
}

async fn publish_bytes(pen: &mut Pen, topic: &str, bytes: &[u8]) {
    pen.send(topic, bytes, 60_001, false).await.unwrap();
    assert_eq!(soon("the PUBACK", pen.acknowledged()).await.unwrap(), 60_001);
}

#[tokio::test]
async fn a_fire_in_any_dialect_comes_up_and_nothing_else_is_noise() {
    let house = house();
    let gateway = house.open().await;
    let mut pen = gateway.pen("bridge").await;
    pen.publish(
        "site/a/concentrator/gw-1/up",
        r#"{"devices":[{"id":7,"smoke":0,"temperature":21.5},{"id":12,"smoke":1},{"id":99,"smoke":1}]}"#,
    )
    .await;
    fire(&gateway, "conc-12/smoke").await;
    assert_eq!(gateway.last("conc-7/temperature", |_| true).await["value"], 21.5);
    // 22 11 61 22 29: an alarm; the last byte makes the sum zero.
    pen.publish(
        "application/app/device/24e124785d123456/event/up",
        r#"{"fPort":85,"data":"IhFhIikh","rxInfo":[{"rssi":-118,"snr":-9},{"rssi":-77,"snr":6}]}"#,
    )
    .await;
    fire(&gateway, "lora-raw/smoke").await;
    assert_eq!(gateway.last("lora-raw/rssi", |_| true).await["value"], -77.0, "the best gateway's");
    pen.publish(
        "v3/app@ttn/devices/smoke-203/up",
        r#"{"uplink_message":{"f_port":85,"decoded_payload":{"event":"alarm","battery":97}}}"#,
    )
    .await;
    fire(&gateway, "lora-tts/smoke").await;
    let frame = meokon("SHMK19060013");
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    pen.publish("GIOT-GW/UL/SHMK19060013", &hex).await;
    assert_eq!(gateway.last("hex/pressure", |_| true).await["value"], 0.605);
    publish_bytes(&mut pen, "meokon/SHRP25090120/frame", &meokon("SHRP25090120")).await;
    assert_eq!(gateway.last("binary/pressure", |_| true).await["value"], 0.605);
    pen.publish("zigbee2mqtt/0x00158d0001a2b3c4", r#"{"smoke":true,"battery":90}"#).await;
    fire(&gateway, "zigbee/smoke").await;
    pen.publish("shellies/shellysmoke-A8B0C1/sensor/smoke", "true").await;
    fire(&gateway, "gen1/smoke").await;
    pen.publish("tele/plug-1/SENSOR", r#"{"ENERGY":{"Voltage":231,"Power":9}}"#).await;
    assert_eq!(gateway.last("tasmota/power", |_| true).await["value"], 9.0);
    pen.publish(
        "shellyplus1pm-a8032abe54dc/events/rpc",
        r#"{"method":"NotifyStatus","params":{"switch:0":{"id":0,"apower":2150.5}}}"#,
    )
    .await;
    assert_eq!(gateway.last("gen2/power", |_| true).await["value"], 2150.5);

    // What has nothing to say.
    for (topic, payload) in [
        ("application/app/device/24e124785d123456/event/join", r#"{"devAddr":"00189440"}"#),
        ("application/app/device/24e124785d123456/event/txack", "{}"),
        ("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#),
        ("stat/plug-1/RESULT", r#"{"POWER":"ON"}"#),
        ("shellies/shellysmoke-A8B0C1/online", "false"),
        ("shellyplus1pm-a8032abe54dc/events/rpc", r#"{"method":"NotifyEvent","params":{"events":[]}}"#),
    ] {
        pen.publish(topic, payload).await;
    }
    assert_eq!(gateway.counter("frames_passed_over").await, 6);
    let strays = gateway.get("/api/v1/strays").await;
    let kept: Vec<&Value> = strays["strays"].as_array().unwrap().iter().collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0]["key"], "broker site/a/concentrator/gw-1/up#gw-1:99");
    assert_eq!(kept[0]["sample"], r#"{"id":99,"smoke":1}"#);
    let reason = kept[0]["reason"].as_str().unwrap();
    assert!(reason.contains("fengsui/smoke-concentrator-json") && reason.contains("gw-1:99"), "{reason}");
    // A join of a device that nobody planned is not hidden.
    pen.publish("application/app/device/ffff/event/join", "{}").await;
    gateway.stray("unknown", "device/ffff/event/join").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_bad_part_of_a_message_spoils_only_itself_and_the_message_is_acknowledged_once() {
    let house = house();
    let gateway = house.open().await;
    let mut pen = gateway.pen("bridge").await;
    let topic = "site/a/concentrator/gw-1/up";
    pen.publish(topic, r#"{"devices":["?",{"id":7,"smoke":"x"},{"smoke":1},{"id":12,"smoke":1}]}"#).await;
    fire(&gateway, "conc-12/smoke").await;
    let bad = gateway.stray("unreadable", "up#gw-1:7").await;
    assert_eq!((&bad["device"], &bad["sample"]), (&json!("conc-7"), &json!(r#"{"id":7,"smoke":"x"}"#)));
    let nameless = gateway.stray("unreadable", "up#").await;
    assert!(nameless["key"].as_str().unwrap().contains('#'));
    pen.publish(topic, "no list").await;
    let whole = gateway.wait("the message is kept", "/api/v1/strays", |answer| {
        answer["strays"].as_array().unwrap().iter().any(|stray| stray["sample"] == "no list")
    });
    whole.await;
    // A frame whose checksum is wrong is refused, kept, and read as nothing.
    let mut frame = meokon("SHRP25090120");
    frame[29] ^= 1;
    publish_bytes(&mut pen, "meokon/SHRP25090120/frame", &frame).await;
    let refused = gateway.stray("unreadable", "meokon/SHRP25090120/frame").await;
    assert!(refused["reason"].as_str().unwrap().contains("校验和"), "{refused}");
    gateway.stop().await;
    let (entries, _) = house.journal().await;
    let read = |point: &str| {
        entries.iter().flat_map(|entry| &entry.readings).filter(|r| r.point.as_str() == point).count()
    };
    assert_eq!(read("binary/pressure"), 0);
    let flaw = entries.iter().flat_map(|entry| &entry.readings).find(|r| r.point.as_str() == "conc-7/smoke");
    assert_eq!(flaw.unwrap().flaw, Some(Flaw::Unreadable));
}

#[tokio::test]
async fn a_last_will_is_a_lost_link_and_ends_no_alarm() {
    let house = house();
    let gateway = house.open().await;
    let mut pen = gateway.pen("bridge").await;
    pen.publish("zigbee2mqtt/0x00158d0001a2b3c4", r#"{"smoke":true}"#).await;
    fire(&gateway, "zigbee/smoke").await;
    pen.publish("zigbee2mqtt/0x00158d0001a2b3c4/availability", r#"{"state":"offline"}"#).await;
    pen.publish("tele/plug-1/LWT", "Offline").await;
    pen.publish("shellyplus1pm-a8032abe54dc/online", "false").await;
    pen.publish("shellyplus1pm-a8032abe54dc/online", "true").await;
    gateway.stop().await;
    let (_, facts) = house.journal().await;
    let phase = |point: &str, rule: &str| {
        facts
            .iter()
            .find(|fact| fact.point.as_str() == point && fact.rule.as_str() == rule)
            .map(|fact| fact.phase)
    };
    assert_eq!(phase("zigbee/smoke", "smoke-fire"), Some(Phase::Active));
    for (point, lost) in [("zigbee/link", true), ("tasmota/link", true), ("gen2/link", false)] {
        let waits = matches!(phase(point, "link-lost"), Some(Phase::Arming { .. }));
        assert_eq!(waits, lost, "{point}: {:?}", phase(point, "link-lost"));
    }
}
