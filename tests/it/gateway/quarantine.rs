//! What cannot be read is kept whole, and is history once its profile or its plan was mended.

use crate::support::gateway::{BROKER, Gateway, House, Stuck, device, find_last, numbers_of, smoke, topic};
use crate::support::modbus_unit::{Manner, ModbusServer};
use crate::support::ports::until;
use fengsui::clock::Clock;
use fengsui::model::{Reading, Timestamp, Value as Measured};
use serde_json::{Value, json};

/// A heat detector whose profile looks for these two fields.
pub(super) fn heat(temperature: &str, smoke: &str) -> String {
    format!(
        r#"
[device]
vendor = "hall"
model = "heat"
name = {{ zh = "感温", en = "heat" }}
source = "a test"

[mqtt]
topics = ["hall/{{address}}/up"]

[[point]]
name = "temperature"
class = "heat_temperature"
unit = "℃"
from = {{ json = "{temperature}" }}

[[point]]
name = "smoke"
class = "smoke_alarm"
from = {{ json = "{smoke}" }}
codes = {{ 0 = "normal", 1 = "alarm" }}

[[point]]
name = "battery"
class = "battery"
unit = "%"
from = {{ json = "battery" }}

[[example]]
name = "at rest"
input = '{{"battery":98}}'
readings = {{ battery = "98 %" }}

[[example]]
name = "cut off"
input = '{{"batt'
refused = true
"#
    )
}

pub(super) fn hall() -> House {
    House::build(BROKER, &device("hd-1", "hall/heat", "broker", "address = \"hd-1\""))
}

/// How many frames of a key are in quarantine.
async fn frames(gateway: &Gateway, key: &str) -> u64 {
    let answer = gateway.get("/api/v1/quarantine").await;
    let senders = answer["senders"].as_array().unwrap().iter();
    senders.filter(|sender| sender["key"] == key).map(|sender| sender["frames"].as_u64().unwrap()).sum()
}

async fn decode(gateway: &Gateway, whose: &Value) -> Value {
    let (status, told) = gateway.post("/api/v1/quarantine/decode", whose).await;
    assert_eq!(status, 200, "{told}");
    told
}

/// How many samples the chart of a point has.
async fn drawn(gateway: &Gateway, point: &str) -> u64 {
    let chart = gateway.get(&format!("/api/v1/points/{point}/series?range=24h")).await;
    chart["rows"].as_array().unwrap().iter().map(|row| row[2].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn frames_of_a_bad_profile_are_decoded_once_it_is_mended_as_history_that_raises_nothing() {
    let house = hall();
    house.profile("hall/heat", &heat("wrong", "wrong_too"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("hd-1").await;
    for payload in [r#"{"t":21.5,"s":0}"#, r#"{"t":22.5,"s":0}"#, r#"{"t":95,"s":1}"#] {
        pen.publish("hall/hd-1/up", payload).await;
    }
    assert_eq!(frames(&gateway, "broker hall/hd-1/up").await, 3);
    let file = gateway.page("/api/v1/quarantine/frames?device=hd-1").await;
    let lines: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["payload"]), (4, &json!(r#"{"t":21.5,"s":0}"#)));
    assert_eq!(lines[3], json!({ "end": "complete", "frames": 3, "dropped": 0 }));
    let unchanged = decode(&gateway, &json!({ "device": "hd-1" })).await;
    assert_eq!(unchanged, json!({ "decoded": 0, "kept": 3, "readings": 0 }));
    gateway.stop().await;

    house.profile("hall/heat", &heat("t", "s"));
    let gateway = house.open().await;
    let told = decode(&gateway, &json!({ "device": "hd-1" })).await;
    assert_eq!(told, json!({ "decoded": 3, "kept": 0, "readings": 6 }));
    let again = decode(&gateway, &json!({})).await;
    assert_eq!(again, json!({ "decoded": 0, "kept": 0, "readings": 0 }), "pressed twice");
    assert_eq!(
        (frames(&gateway, "broker hall/hd-1/up").await, drawn(&gateway, "hd-1/temperature").await),
        (0, 3)
    );
    assert_eq!(gateway.get("/api/v1/strays").await["strays"], json!([]));
    assert_eq!(gateway.get("/api/v1/hazards").await["hazards"], json!([]), "history is no alarm");
    let log = gateway.get("/api/v1/log").await.to_string();
    assert!(log.contains("李四 重新解码了 hd-1 的隔离报文：3 条已解出"), "{log}");
    gateway.stop().await;

    // Nor is it one after a restart; and each reading is in the journal once, at its own time.
    let gateway = house.open().await;
    assert_eq!(gateway.get("/api/v1/hazards").await["hazards"], json!([]));
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    assert_eq!(numbers_of(&entries, "hd-1/temperature"), [21.5, 22.5, 95.0]);
    let mut readings = entries.iter().flat_map(|entry| &entry.readings);
    let smoke: Vec<&Reading> = readings.by_ref().filter(|reading| reading.point.name() == "smoke").collect();
    assert_eq!(smoke.last().unwrap().value, Measured::Code("alarm".into()));
    let came: Vec<i64> = smoke.iter().map(|reading| reading.received_at.as_millis()).collect();
    let kept: Vec<fengsui::capture::Line> =
        lines[..3].iter().map(|line| fengsui::capture::Line::parse(&line.to_string()).unwrap()).collect();
    let kept: Vec<i64> = kept
        .iter()
        .map(|line| match line {
            fengsui::capture::Line::Frame(frame) => frame.at.as_millis(),
            fengsui::capture::Line::End(end) => panic!("{end:?}"),
        })
        .collect();
    assert_eq!(came, kept);
    assert!(smoke.iter().all(|reading| reading.late));
    assert!(entries.iter().all(|entry| entry.transitions.is_empty()), "the duty log has no alarm");
    assert_eq!(facts, []);
}

#[tokio::test]
async fn of_a_frame_that_was_read_in_part_only_the_rest_is_read_again() {
    let house = hall();
    house.profile("hall/heat", &heat("heat", "smoke"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("hd-1").await;
    pen.publish("hall/hd-1/up", r#"{"battery":77,"heat":{"c":21.5},"smoke":0}"#).await;
    pen.publish("hall/hd-1/up", r#"{"battery":"flat","heat":{"c":22.5}}"#).await;
    assert_eq!(
        gateway.last("hd-1/battery", |last| last["quality"] == "absent").await["flaw"]["name"],
        "unreadable"
    );
    gateway.stop().await;
    house.profile("hall/heat", &heat("heat.c", "smoke"));
    let gateway = house.open().await;
    let told = decode(&gateway, &json!({ "device": "hd-1" })).await;
    assert_eq!(told, json!({ "decoded": 1, "kept": 1, "readings": 2 }));
    let told = decode(&gateway, &json!({ "device": "hd-1" })).await;
    assert_eq!(told, json!({ "decoded": 0, "kept": 1, "readings": 0 }));
    let stray = gateway.stray("unreadable", "hall/hd-1/up").await;
    assert!(stray["reason"].as_str().unwrap().starts_with("battery"), "the reason of today: {stray}");
    gateway.stop().await;
    let entries = house.journal().await.0;
    assert_eq!(numbers_of(&entries, "hd-1/battery"), [77.0], "not twice");
    assert_eq!(numbers_of(&entries, "hd-1/temperature"), [21.5, 22.5]);
}

#[tokio::test]
async fn what_a_stranger_sent_is_history_once_he_is_planned() {
    let house = House::build(BROKER, &smoke("sd-1", "broker"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("pen").await;
    for n in 0..3 {
        pen.publish(&topic("sd-2"), &format!(r#"{{"temperature":{}}}"#, 20 + n)).await;
    }
    let key = format!("broker {}", topic("sd-2"));
    assert_eq!(frames(&gateway, &key).await, 3);
    let page = gateway.page("/strays").await;
    assert!(page.contains("/api/v1/quarantine/frames?key=broker%20site%2Fa%2Fdevice%2Fsd-2%2Fup"), "{page}");
    gateway.stop().await;
    house.plan_more(&smoke("sd-2", "broker"));
    let gateway = house.open().await;
    let told = decode(&gateway, &json!({ "key": key })).await;
    assert_eq!(told, json!({ "decoded": 3, "kept": 0, "readings": 3 }));
    assert_eq!(gateway.get("/api/v1/strays").await["strays"], json!([]), "nobody waits to be connected");
    assert_eq!(drawn(&gateway, "sd-2/temperature").await, 3);
    gateway.stop().await;
}

/// A pressure transmitter whose profile believes it reads at most so much.
fn pressure(high: f64) -> String {
    format!(
        r#"
[device]
vendor = "hall"
model = "pressure"
name = {{ zh = "压力", en = "pressure" }}
source = "a test"

[modbus]
poll_every_secs = 1

[[point]]
name = "pressure"
class = "pipe_pressure"
unit = "MPa"
scale = 0.001
range = [0, {high:?}]
from = {{ table = "holding", address = 4, type = "i16" }}

[[example]]
name = "0.04 MPa"
input = "@4: 0028"
readings = {{ pressure = "0.04 MPa" }}

[[example]]
name = "no such register"
input = "@4+1: exception 2"
refused = true
"#
    )
}

#[tokio::test]
async fn impossible_registers_are_kept_and_decoded_again_but_a_mute_unit_fills_no_quarantine() {
    let server = ModbusServer::start().await;
    let link =
        format!("[[modbus]]\nname = \"pump-room\"\nurl = \"tcp://{}\"\ntimeout_ms = 300\n", server.address);
    let house = House::build(&link, &device("pressure-1", "hall/pressure", "pump-room", "unit = 1"));
    house.profile("hall/pressure", &pressure(0.1));
    let gateway = house.open().await;
    let sender = "pump-room pressure-1";
    gateway.wait("a round is kept", "/api/v1/quarantine", |answer| answer["senders"] != json!([])).await;
    server.set(1, Manner::Mute);
    gateway.last("pressure-1/pressure", |last| last["flaw"]["name"] == "no_answer").await;
    let (kept, asked) = (frames(&gateway, sender).await, server.asked(1));
    until("it was asked again", || server.asked(1) >= asked + 2).await;
    assert_eq!(frames(&gateway, sender).await, kept);
    let file = gateway.page("/api/v1/quarantine/frames?device=pressure-1").await;
    let line: Value = serde_json::from_str(file.lines().next().unwrap()).unwrap();
    assert_eq!(line["blocks"], json!([{ "table": "holding", "start": 4, "words": [275] }]));
    gateway.stop().await;
    house.profile("hall/pressure", &pressure(1.6));
    let gateway = house.open().await;
    let told = decode(&gateway, &json!({ "device": "pressure-1" })).await;
    assert_eq!(told, json!({ "decoded": kept, "kept": 0, "readings": kept }));
    gateway.stop().await;
}

/// A concentrator's profile: the temperature of each detector stands in this field.
fn concentrator(temperature: &str) -> String {
    let own = heat(temperature, "smoke").replace("model = \"heat\"", "model = \"loop\"");
    let own = own.replace(
        "topics = [\"hall/{address}/up\"]\n",
        "topics = [\"hall/loop\"]\n[mqtt.each]\npath = \"all\"\naddress = \"id\"\n",
    );
    own.replace("name = \"at rest\"\n", "name = \"at rest\"\naddress = \"1\"\n")
        .replace("input = '{\"battery\":98}'", "input = '{\"all\":[{\"id\":1,\"battery\":98}]}'")
}

#[tokio::test]
async fn parts_of_a_message_are_kept_each_for_its_own_device_and_read_again_one_by_one() {
    let detector = |n: u32| device(&format!("hd-{n}"), "hall/loop", "broker", &format!("address = \"{n}\""));
    let house = House::build(BROKER, &[detector(1), detector(2)].concat());
    house.profile("hall/loop", &concentrator("t.c"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("loop").await;
    pen.publish("hall/loop", r#"{"all":[{"id":1,"t":{"c":20}},{"id":2,"t":21},{"id":3,"t":22},{"t":23}]}"#)
        .await;
    pen.publish("hall/loop", "cut o").await;
    gateway.last("hd-1/temperature", |last| last["value"] == 20.0).await;
    let keys = ["hall/loop", "hall/loop#", "hall/loop#2", "hall/loop#3"];
    for key in keys {
        assert_eq!(frames(&gateway, &format!("broker {key}")).await, 1, "{key}");
    }
    let file = gateway.page("/api/v1/quarantine/frames?key=broker%20hall%2Floop%232").await;
    let line: Value = serde_json::from_str(file.lines().next().unwrap()).unwrap();
    assert_eq!((&line["device"], &line["payload"]), (&json!("hd-2"), &json!(r#"{"id":2,"t":21}"#)));
    gateway.stop().await;

    // The field is another one, and the third detector is planned.
    house.profile("hall/loop", &concentrator("t"));
    house.plan_more(&detector(3));
    let gateway = house.open().await;
    let told = decode(&gateway, &json!({})).await;
    assert_eq!(told, json!({ "decoded": 2, "kept": 2, "readings": 2 }));
    let told = decode(&gateway, &json!({})).await;
    assert_eq!(told, json!({ "decoded": 0, "kept": 2, "readings": 0 }), "pressed twice");
    gateway.stop().await;
    let entries = house.journal().await.0;
    for (point, expected) in
        [("hd-1/temperature", 20.0), ("hd-2/temperature", 21.0), ("hd-3/temperature", 22.0)]
    {
        assert_eq!(numbers_of(&entries, point), [expected], "{point}: each once");
    }
}

#[tokio::test]
async fn a_whole_message_of_strangers_becomes_readings_and_parts_once_its_model_is_planned() {
    let house = House::build(BROKER, &smoke("sd-1", "broker"));
    house.profile("hall/loop", &concentrator("t"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("loop").await;
    pen.publish("hall/loop", r#"{"all":[{"id":1,"t":20},{"id":2,"t":21}]}"#).await;
    assert_eq!(frames(&gateway, "broker hall/loop").await, 1);
    gateway.stop().await;
    house.plan_more(&device("hd-1", "hall/loop", "broker", "address = \"1\""));
    let gateway = house.open().await;
    let told = decode(&gateway, &json!({})).await;
    assert_eq!((&told["decoded"], &told["readings"]), (&json!(1), &json!(1)));
    assert_eq!(frames(&gateway, "broker hall/loop").await, 0);
    assert_eq!(frames(&gateway, "broker hall/loop#2").await, 1, "the other one waits to be planned");
    gateway.stop().await;
}

#[tokio::test]
async fn while_the_journal_cannot_be_written_nothing_is_decoded_again_and_the_answer_says_why() {
    let house = hall();
    house.profile("hall/heat", &heat("wrong", "wrong_too"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("hd-1").await;
    pen.publish("hall/hd-1/up", r#"{"t":21.5}"#).await;
    let stuck = Stuck::hold(&house.data());
    pen.send("hall/hd-1/up", br#"{"battery":97}"#, 7, false).await.unwrap();
    let fault =
        |answer: &Value| find_last(answer, "gateway/journal").is_some_and(|last| last["value"] == "fault");
    gateway.wait("the journal's fault", "/api/v1/sites", fault).await;
    let (status, told) = gateway.post("/api/v1/quarantine/decode", &json!({})).await;
    assert_eq!((status, &told["error"]), (409, &json!("not_now")), "{told}");
    assert!(told["message_zh"].as_str().unwrap().contains("日志暂时无法写入"), "{told}");
    stuck.release();
    gateway.wait("the journal works", "/api/v1/sites", |answer| !fault(answer)).await;
    assert_eq!(decode(&gateway, &json!({})).await["kept"], 1);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_decoded_again_is_never_the_newest_value_of_a_point_also_after_a_restart() {
    let house = hall();
    house.profile("hall/heat", &heat("wrong", "wrong_too"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("hd-1").await;
    pen.publish("hall/hd-1/up", r#"{"t":95,"s":1}"#).await;
    gateway.stop().await;

    house.profile("hall/heat", &heat("t", "s"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("hd-1").await;
    pen.publish("hall/hd-1/up", r#"{"t":21.5}"#).await;
    gateway.last("hd-1/temperature", |last| last["value"] == 21.5).await;
    let told = decode(&gateway, &json!({ "device": "hd-1" })).await;
    assert_eq!(told, json!({ "decoded": 1, "kept": 0, "readings": 2 }));
    assert_eq!(drawn(&gateway, "hd-1/temperature").await, 2, "it is history");
    let shown = async |gateway: Gateway| {
        let sites = gateway.get("/api/v1/sites").await;
        gateway.stop().await;
        (find_last(&sites, "hd-1/temperature").unwrap()["value"].clone(), find_last(&sites, "hd-1/smoke"))
    };
    // Of the second point nothing but history is known.
    assert_eq!(shown(gateway).await, (json!(21.5), None));
    assert_eq!(shown(house.open().await).await, (json!(21.5), None), "after a restart");
}

#[tokio::test]
async fn an_alarm_that_is_history_hides_no_repetition_of_it_after_a_restart() {
    let house = hall();
    let dated = |smoke: &str| {
        heat("t", smoke).replace(
            "[[point]]\nname = \"temperature\"",
            "[time]\njson = \"ts\"\nunit = \"ms\"\n\n[[point]]\nname = \"temperature\"",
        )
    };
    house.profile("hall/heat", &dated("wrong"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("hd-1").await;
    // A device that repeats its report, as it was, until somebody answers.
    let report = format!(r#"{{"s":1,"ts":{}}}"#, Clock::system().now().as_millis());
    pen.publish("hall/hd-1/up", &report).await;
    assert_eq!(frames(&gateway, "broker hall/hd-1/up").await, 1);
    gateway.stop().await;

    house.profile("hall/heat", &dated("s"));
    let gateway = house.open().await;
    let told = decode(&gateway, &json!({})).await;
    assert_eq!(told, json!({ "decoded": 1, "kept": 0, "readings": 1 }));
    assert_eq!(gateway.get("/api/v1/hazards").await["hazards"], json!([]));
    gateway.stop().await;

    let gateway = house.open().await;
    let mut pen = gateway.pen("hd-1").await;
    pen.publish("hall/hd-1/up", r#"{"battery":97}"#).await;
    pen.publish("hall/hd-1/up", &report).await;
    gateway.hazard("hd-1/smoke", "smoke-fire", |hazard| hazard["phase"] == "active").await;
    gateway.stop().await;
}

#[tokio::test]
async fn while_the_clock_is_unset_nothing_is_decoded_again_and_the_answer_says_why() {
    let house = hall();
    house.profile("hall/heat", &heat("wrong", "wrong_too"));
    let clock = Clock::simulated(Timestamp::from_secs(30));
    let gateway = house.open_at(clock.clone()).await;
    let mut pen = gateway.pen("hd-1").await;
    pen.publish("hall/hd-1/up", r#"{"t":21.5}"#).await;
    let (status, told) = gateway.post("/api/v1/quarantine/decode", &json!({})).await;
    assert_eq!((status, &told["error"]), (409, &json!("not_now")), "{told}");
    assert!(told["message_zh"].as_str().unwrap().contains("时钟还没有校准"), "{told}");
    clock.step_simulated(Timestamp::from_secs(1_800_000_000).since(clock.now()));
    until("the clock is set", || clock.is_set()).await;
    pen.publish("hall/hd-1/up", r#"{"battery":97}"#).await;
    assert_eq!(decode(&gateway, &json!({})).await["kept"], 1);
    gateway.stop().await;
}
