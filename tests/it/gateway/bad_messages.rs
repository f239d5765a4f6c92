//! Messages that are wrong: none stops the stream, each is seen by a person, and what was acknowledged is there.

use crate::support::gateway::{BROKER, Gateway, House, device, numbers_of, smoke, topic};
use crate::support::mosquitto::Mosquitto;
use crate::support::pen::Pen;
use crate::support::ports::soon;
use fengsui::clock::Clock;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

fn house() -> House {
    let gas = device("gas-1", "fengsui/gas-json", "broker", "address = \"gas-1\"");
    House::build(BROKER, &[smoke("sd-1", "broker"), smoke("sd-2", "broker"), gas].concat())
}

/// The stream goes on: a good message after the bad one is read.
async fn goes_on(gateway: &Gateway, pen: &mut Pen) {
    pen.publish(&topic("sd-2"), r#"{"temperature":33.3}"#).await;
    let last = gateway.last("sd-2/temperature", |last| last["value"] == 33.3).await;
    assert_eq!(last["quality"], "good");
}

/// One bad message of `sd-1`, acknowledged; then a good one. Gives the gateway back.
async fn after(payload: &str) -> (House, Gateway, Pen) {
    let house = house();
    let gateway = house.open().await;
    let mut pen = gateway.pen("pen").await;
    pen.publish(&topic("sd-1"), payload).await;
    goes_on(&gateway, &mut pen).await;
    (house, gateway, pen)
}

async fn unreadable(gateway: &Gateway) -> Value {
    gateway.stray("unreadable", &topic("sd-1")).await
}

fn now_millis() -> i64 {
    Clock::system().now().as_millis()
}

#[tokio::test]
async fn what_is_not_json_is_kept_for_a_person_and_stops_nothing() {
    let (_house, gateway, _pen) = after("smoke=1 <not JSON>").await;
    let stray = unreadable(&gateway).await;
    assert_eq!((&stray["sample"], &stray["device"]), (&json!("smoke=1 <not JSON>"), &json!("sd-1")));
    assert!(!stray["reason"].as_str().unwrap().is_empty());
    assert_eq!(gateway.counter("frames_unreadable").await, 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_wrong_type_spoils_its_own_point_only_and_is_shown() {
    let (house, gateway, _pen) = after(r#"{"smoke":1,"temperature":"hot","battery":77}"#).await;
    let temperature = gateway.last("sd-1/temperature", |last| last["quality"] == "absent").await;
    assert_eq!(temperature["flaw"]["name"], "unreadable");
    assert_eq!(gateway.last("sd-1/battery", |_| true).await["value"], 77.0);
    gateway.hazard("sd-1/smoke", "smoke-fire", |hazard| hazard["signal"] == "fire").await;
    assert!(unreadable(&gateway).await["sample"].as_str().unwrap().contains("hot"));
    gateway.stop().await;
    assert_eq!(numbers_of(&house.journal().await.0, "sd-1/battery"), [77.0]);
}

#[tokio::test]
async fn unknown_fields_are_passed_over() {
    let (_house, gateway, _pen) = after(r#"{"temperature":21.5,"colour":"red","nested":{"a":[1,2]}}"#).await;
    assert_eq!(gateway.last("sd-1/temperature", |_| true).await["value"], 21.5);
    let strays = gateway.get("/api/v1/strays").await;
    assert_eq!(strays["strays"], json!([]), "nothing is wrong with a field that nobody asked for");
    gateway.stop().await;
}

#[tokio::test]
async fn nan_and_numbers_without_end_are_no_values() {
    let (_house, gateway, mut pen) = after(r#"{"temperature":NaN,"smoke":0}"#).await;
    assert!(unreadable(&gateway).await["sample"].as_str().unwrap().contains("NaN"));
    pen.publish(&topic("sd-1"), r#"{"temperature":1e999,"battery":50}"#).await;
    pen.publish(&topic("sd-1"), r#"{"battery":51}"#).await;
    gateway.last("sd-1/battery", |last| last["value"] == 51.0).await;
    let sites = gateway.get("/api/v1/sites").await;
    let temperature = crate::support::gateway::find_last(&sites, "sd-1/temperature");
    let as_value = temperature.filter(|last| last["quality"] == "good");
    assert_eq!(as_value, None, "neither of them is a temperature");
    gateway.stop().await;
}

#[tokio::test]
async fn ten_megabytes_through_a_broker_are_kept_as_a_sample() {
    let mosquitto = Mosquitto::start().await;
    let link = format!("[[mqtt]]\nname = \"hall\"\nurl = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let house = House::build(&link, &[smoke("sd-1", "hall"), smoke("sd-2", "hall")].concat());
    let gateway = house.open().await;
    gateway.wait("the link is up", "/api/v1/health", |h| h["links"][0]["up"] == true).await;
    let mut pen = Pen::connect(([127, 0, 0, 1], mosquitto.port).into(), "pen").await.unwrap();
    let large = format!(r#"{{"smoke":1,"note":"{}"}}"#, "x".repeat(10 << 20));
    pen.publish(&topic("sd-1"), &large).await;
    goes_on(&gateway, &mut pen).await;
    let stray = unreadable(&gateway).await;
    assert!(stray["sample"].as_str().unwrap().len() <= 4096);
    assert_eq!(gateway.counter("mqtt_oversize").await, 1);
    gateway.stop().await;
}

#[tokio::test]
async fn ten_megabytes_to_the_own_broker_are_refused_and_counted() {
    let house = house();
    let gateway = house.open().await;
    let mut bad = gateway.pen("bad").await;
    let large = "x".repeat(10 << 20);
    // The broker may hang up while it is still being written.
    let sent = bad.send(&topic("sd-1"), large.as_bytes(), 1, false).await;
    if sent.is_ok() {
        assert!(soon("it is refused", bad.acknowledged()).await.is_err(), "acknowledged and thrown away");
    }
    let mut pen = gateway.pen("pen").await;
    goes_on(&gateway, &mut pen).await;
    assert!(gateway.counter("broker_refused").await >= 1, "nobody would ever learn of it");
    gateway.stop().await;
}

#[tokio::test]
async fn a_topic_that_nobody_planned_is_listed_with_a_sample() {
    let house = house();
    let gateway = house.open().await;
    let mut pen = gateway.pen("pen").await;
    pen.publish("tele/stranger/SENSOR", r#"{"a":1}"#).await;
    pen.publish("tele/stranger/SENSOR", r#"{"a":2}"#).await;
    goes_on(&gateway, &mut pen).await;
    let stray = gateway.stray("unknown", "tele/stranger/SENSOR").await;
    assert_eq!((&stray["sample"], &stray["count"]), (&json!(r#"{"a":2}"#), &json!(2)));
    assert_eq!(gateway.counter("frames_unknown").await, 2);
    gateway.stop().await;
}

#[tokio::test]
async fn a_device_that_nobody_planned_waits_for_its_place_with_a_sample() {
    let house = house();
    let gateway = house.open().await;
    let mut pen = gateway.pen("pen").await;
    pen.publish(&topic("sd-999"), r#"{"smoke":1}"#).await;
    goes_on(&gateway, &mut pen).await;
    let stray = gateway.stray("unknown", &topic("sd-999")).await;
    assert_eq!(stray["sample"], r#"{"smoke":1}"#);
    let reason = stray["reason"].as_str().unwrap();
    assert!(reason.contains("sd-999") && reason.contains("fengsui/"), "{reason}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_value_off_its_scale_is_bad_and_never_clamped() {
    let (house, gateway, _pen) = after(r#"{"battery":140,"temperature":-99}"#).await;
    let battery = gateway.last("sd-1/battery", |_| true).await;
    assert_eq!((&battery["value"], &battery["quality"]), (&json!(140.0), &json!("bad")));
    assert_eq!(battery["flaw"]["name"], "off_scale_high");
    let cold = gateway.last("sd-1/temperature", |_| true).await;
    assert_eq!((&cold["value"], &cold["quality"]), (&json!(-99.0), &json!("bad")));
    let hazards = gateway.get("/api/v1/hazards").await;
    assert_eq!(
        crate::support::gateway::find_hazard(&hazards, "sd-1/temperature", "heat-temperature-fire"),
        None
    );
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    assert_eq!(numbers_of(&entries, "sd-1/battery"), [140.0]);
    let waits = facts.iter().any(|fact| fact.point.as_str() == "sd-1/battery" && fact.phase.due().is_some());
    assert!(waits, "a fault comes up if it lasts: {facts:?}");
}

#[tokio::test]
async fn a_burning_sensor_off_its_scale_alarms() {
    let (_house, gateway, _pen) = after(r#"{"temperature":400}"#).await;
    let hazard = gateway.hazard("sd-1/temperature", "heat-temperature-fire", |_| true).await;
    assert_eq!((&hazard["signal"], &hazard["recorded"]), (&json!("fire"), &json!(true)));
    assert!(hazard["reason"]["zh"].as_str().unwrap().contains("超量程"), "{hazard}");
    assert_eq!(gateway.last("sd-1/temperature", |_| true).await["value"], 400.0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_declared_sentinel_means_absent_and_alarms_nothing() {
    let (_house, gateway, _pen) = after(r#"{"smoke":0,"temperature":-200}"#).await;
    let last = gateway.last("sd-1/temperature", |_| true).await;
    assert_eq!((&last["value"], &last["quality"]), (&Value::Null, &json!("absent")));
    assert_eq!(last["flaw"]["name"], "not_fitted");
    assert_eq!(gateway.get("/api/v1/hazards").await["hazards"], json!([]));
    gateway.stop().await;
}

#[tokio::test]
async fn a_message_sent_again_is_acknowledged_and_recorded_once_also_after_a_restart() {
    let house = house();
    let gateway = house.open().await;
    let payload = br#"{"temperature":21.25}"#;
    let mut pen = gateway.pen("sd-1").await;
    pen.send(&topic("sd-1"), payload, 7, false).await.unwrap();
    assert_eq!(pen.acknowledged().await.unwrap(), 7);
    drop(pen);
    let mut pen = gateway.pen("sd-1").await;
    pen.send(&topic("sd-1"), payload, 7, true).await.unwrap();
    assert_eq!(soon("the second PUBACK", pen.acknowledged()).await.unwrap(), 7);
    gateway.stop().await;
    let gateway = house.open().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.send(&topic("sd-1"), payload, 7, true).await.unwrap();
    assert_eq!(soon("the third PUBACK", pen.acknowledged()).await.unwrap(), 7);
    // The same words again under another id are another message.
    pen.send(&topic("sd-1"), payload, 8, false).await.unwrap();
    assert_eq!(soon("the fourth PUBACK", pen.acknowledged()).await.unwrap(), 8);
    assert_eq!(gateway.counter("frames_repeated").await, 1);
    goes_on(&gateway, &mut pen).await;
    gateway.stop().await;
    assert_eq!(numbers_of(&house.journal().await.0, "sd-1/temperature"), [21.25, 21.25]);
}

#[tokio::test]
async fn an_older_reading_never_takes_the_place_of_a_newer_one() {
    let house = house();
    let gateway = house.open().await;
    let mut pen = gateway.pen("pen").await;
    let now = now_millis();
    let say = |ago: i64, value: f64| format!(r#"{{"ts":{},"temperature":{value}}}"#, now - ago * 1000);
    pen.publish(&topic("sd-1"), &say(0, 25.0)).await;
    // An hour old: stored by the device and sent late.
    pen.publish(&topic("sd-1"), &say(3600, 11.0)).await;
    goes_on(&gateway, &mut pen).await;
    let last = gateway.last("sd-1/temperature", |_| true).await;
    assert_eq!((&last["value"], &last["late"]), (&json!(25.0), &json!(false)));
    // A fire in the past is a fire all the same, marked as late.
    pen.publish(&topic("sd-2"), &format!(r#"{{"ts":{},"smoke":1}}"#, now - 3_600_000)).await;
    let hazard = gateway.hazard("sd-2/smoke", "smoke-fire", |_| true).await;
    assert_eq!((&hazard["late"], &hazard["sampled_at"]), (&json!(true), &json!(now - 3_600_000)));
    gateway.stop().await;
    assert_eq!(numbers_of(&house.journal().await.0, "sd-1/temperature"), [25.0, 11.0], "both are kept");
}

#[tokio::test]
async fn a_time_stamp_from_1970_or_2099_is_disbelieved_and_its_alarm_believed() {
    for stamp in ["12000", "4070908800000"] {
        let (_house, gateway, mut pen) = after(&format!(r#"{{"ts":{stamp},"smoke":1}}"#)).await;
        let hazard = gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
        let raised = hazard["raised_at"].as_i64().unwrap();
        assert!((now_millis() - raised).abs() < 600_000, "dated by our clock: {hazard}");
        let last = gateway.last("sd-1/smoke", |_| true).await;
        assert_eq!(last["flaw"]["name"], "clock_suspect", "{last}");
        // And it blocks no later reading.
        pen.publish(&topic("sd-1"), r#"{"smoke":0}"#).await;
        gateway.last("sd-1/smoke", |last| last["value"] == "normal").await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn half_a_message_on_a_connection_that_stays_open_holds_nobody_up() {
    let house = house();
    let gateway = house.open().await;
    let mut half = gateway.pen("half").await;
    // A PUBLISH of 100 bytes, of which ten come.
    half.stream.write_all(&[0x32, 100, 0, 4, b's', b'i', b't', b'e', 0, 1]).await.unwrap();
    let mut pen = gateway.pen("pen").await;
    goes_on(&gateway, &mut pen).await;
    gateway.stop().await;
    drop(half);
}
