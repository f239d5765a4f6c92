//! What a duty officer lives through: fires that stand, devices that fall silent, a broker that goes away.

use crate::support::gateway::{BROKER, House, device, find_hazard, smoke, topic};
use crate::support::mosquitto::Mosquitto;
use crate::support::ports::soon;
use serde_json::{Value, json};
use std::time::Duration;

/// The longest commit window there is: what waits for it comes late.
const WINDOW: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_fire_is_on_the_screen_at_once_and_stands_until_a_person_resets_it() {
    let house = House::build(BROKER, &smoke("sd-1", "broker"));
    let text = std::fs::read_to_string(house.config()).unwrap();
    let slow = text.replace("window_ms = 100", &format!("window_ms = {}", WINDOW.as_millis()));
    assert_ne!(text, slow);
    std::fs::write(house.config(), slow).unwrap();
    let gateway = house.open().await;
    let mut live = gateway.live().await;
    let mut pen = gateway.pen("sd-1").await;
    let begun = tokio::time::Instant::now();
    pen.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
    live.until("the fire on the live stream", |event| {
        find_hazard(event, "sd-1/smoke", "smoke-fire").is_some_and(|h| h["recorded"] == true)
            && event["sound"] == "fire"
    })
    .await;
    assert!(begun.elapsed() < WINDOW / 2, "it waited for company");
    let hazard = gateway.hazard("sd-1/smoke", "smoke-fire", |hazard| hazard["phase"] == "active").await;
    let id = hazard["id"].as_str().unwrap();
    let early = gateway.command(id, "reset", "").await;
    assert_eq!(early.0, 409, "{}", early.1);
    // The detector cleared itself: the alarm stands.
    pen.publish(&topic("sd-1"), r#"{"smoke":0}"#).await;
    gateway.hazard("sd-1/smoke", "smoke-fire", |hazard| hazard["phase"] == "returned").await;
    let unseen = gateway.command(id, "reset", "").await;
    assert_eq!((unseen.0, &unseen.1["error"]), (409, &json!("not_acknowledged")));
    let (status, done) = gateway.command(id, "acknowledge", "已派人查看").await;
    assert_eq!((status, &done["recorded"]), (200, &json!(true)));
    let seen = gateway.hazard("sd-1/smoke", "smoke-fire", |h| h["acknowledged"]["by"] == "李四").await;
    assert_eq!((&seen["acknowledged"]["note"], &seen["phase"]), (&json!("已派人查看"), &json!("returned")));
    assert_eq!(gateway.command(id, "reset", "误报").await.0, 200);
    gateway.wait("nothing stands", "/api/v1/hazards", |answer| answer["hazards"] == json!([])).await;
    let closed = gateway.get("/api/v1/history").await;
    assert_eq!(
        (&closed["hazards"][0]["id"], &closed["hazards"][0]["closed"]["by"]),
        (&json!(id), &json!("李四"))
    );
    assert_eq!(gateway.command(id, "acknowledge", "").await.0, 404);
    gateway.stop().await;
}

#[tokio::test]
async fn a_device_that_falls_silent_is_offline_and_comes_back_when_it_speaks() {
    let place = "address = \"sd-1\"\nsilent_after_secs = 10";
    let house = House::build(BROKER, &device("sd-1", "fengsui/smoke-json", "broker", place));
    let gateway = house.open().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
    gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
    let offline = gateway.hazard("sd-1/link", "link-silent", |hazard| hazard["phase"] == "active").await;
    assert_eq!(offline["signal"], "offline");
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["phase"] == "active").await;
    pen.publish(&topic("sd-1"), r#"{"battery":90}"#).await;
    gateway.hazard("sd-1/link", "link-silent", |hazard| hazard["phase"] == "returned").await;
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["phase"] == "active").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_broker_that_goes_away_is_one_fault_and_no_storm() {
    let mut mosquitto = Mosquitto::start().await;
    let link = format!("[[mqtt]]\nname = \"hall\"\nurl = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let devices: String = (1..=5)
        .map(|n| format!("address = \"sd-{n}\"\nsilent_after_secs = 10"))
        .zip(1..)
        .map(|(place, n)| device(&format!("sd-{n}"), "fengsui/smoke-json", "hall", &place))
        .collect();
    let house = House::build(&link, &devices);
    let gateway = house.open().await;
    gateway.wait("the link is up", "/api/v1/health", |h| h["links"][0]["up"] == true).await;
    mosquitto.publish(&topic("sd-1"), r#"{"temperature":20}"#, &["-q", "1"]).await;
    gateway.last("sd-1/temperature", |_| true).await;
    mosquitto.kill();
    let health = gateway.wait("the link is down", "/api/v1/health", |h| h["links"][0]["up"] == false).await;
    assert!(!health["links"][0]["reason"]["zh"].as_str().unwrap().is_empty());
    // The fault comes after 30 s, the silence of the five would have come after 10.
    let down = |answer: &Value| find_hazard(answer, "link-hall/state", "connection-down").is_some();
    let patience = Duration::from_secs(90);
    let hazards = gateway.wait_for(patience, "one fault", "/api/v1/hazards", down).await;
    assert_eq!(hazards["hazards"].as_array().unwrap().len(), 1, "{hazards:#}");
    mosquitto.run().await;
    let returned = |answer: &Value| {
        find_hazard(answer, "link-hall/state", "connection-down").is_some_and(|h| h["phase"] == "returned")
    };
    gateway.wait_for(patience, "the link is back", "/api/v1/hazards", returned).await;
    soon("a message", mosquitto.publish(&topic("sd-2"), r#"{"temperature":21}"#, &["-q", "1"])).await;
    gateway.last("sd-2/temperature", |last| last["value"] == 21.0).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_has_its_allocator_give_back_what_was_freed() {
    let house = House::build(BROKER, &smoke("sd-1", "broker"));
    let gateway = house.launch().await;
    // The process that was started is the one that answers: a service manager knows no other.
    let environment = std::fs::read(format!("/proc/{}/environ", gateway.pid())).unwrap();
    // Up to here only: glibc ends each setting with a zero where it read it.
    let settings = b"GLIBC_TUNABLES=glibc.malloc.arena_max=2";
    assert!(environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(settings)));
    gateway.stop().await;
}
