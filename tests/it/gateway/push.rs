//! Platforms post to a whole gateway: fires, strays, devices that a platform lost, and a gateway that is killed meanwhile.

use crate::support::gateway::{Gateway, House, Stuck, device, numbers_of, smoke};
use crate::support::ports::{free_port, soon};
use fengsui::model::Phase;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const TOKEN: &str = "lora-token-0123456789abcdef";
const TELECOM: &str = "telecom-token-0123456789abcdef";

/// `lora` on the duty room's address, CTWing on one of its own.
fn house(port: u16) -> House {
    let links = format!(
        "[[push]]\nname = \"lora\"\nformat = \"json\"\ntokens_file = \"lora.tokens\"\n\
         [[push]]\nname = \"telecom\"\nformat = \"ctwing\"\ntokens_file = \"telecom.tokens\"\nlisten = \"127.0.0.1:{port}\"\n"
    );
    let far = device("far", "fengsui/smoke-json", "lora", "address = \"44d0\"");
    let house = House::build(&links, &format!("{}{far}", smoke("sd-1", "lora")));
    let folder = house.config();
    let folder = folder.parent().unwrap();
    std::fs::write(folder.join("lora.tokens"), format!("# LoRaWAN\n{TOKEN}\n")).unwrap();
    std::fs::write(folder.join("telecom.tokens"), format!("{TELECOM}\n")).unwrap();
    house
}

async fn post(url: String, token: &str, body: &str) -> (u16, Value) {
    let request = reqwest::Client::new().post(url).bearer_auth(token).body(body.to_owned());
    let answer = soon("the answer", request.send()).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn here(gateway: &Gateway, path: &str) -> String {
    format!("http://{}/api/v1/ingest/{path}", gateway.web)
}

#[tokio::test]
async fn a_platform_posts_a_fire_and_what_nobody_planned_waits_to_be_taken_in() {
    let port = free_port();
    let house = house(port);
    let gateway = house.open().await;
    let (status, answer) =
        post(here(&gateway, "lora/sd-1"), TOKEN, r#"{"smoke":1,"temperature":23.5}"#).await;
    assert_eq!((status, answer), (200, json!({ "recorded": 1 })));
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["phase"] == "active").await;
    assert_eq!(post(here(&gateway, "lora/sd-9"), TOKEN, r#"{"smoke":0}"#).await.0, 200);
    let stray = gateway.stray("unknown", "site/lora/device/sd-9/up").await;
    assert!(stray["reason"].as_str().unwrap().contains("sd-9"), "{stray}");
    // Each link on its own address only, and neither behind the sign-in.
    assert_eq!(post(here(&gateway, "telecom"), TELECOM, "{}").await.0, 404);
    let other = format!("http://127.0.0.1:{port}/api/v1/ingest/telecom");
    let report = r#"{"deviceId":"77","messageType":"dataReport","timestamp":1,"payload":{"APPdata":"AQ=="}}"#;
    assert_eq!(post(other.clone(), TELECOM, report).await.0, 200);
    gateway.stray("unknown", "telecom 77/dataReport").await;
    assert_eq!(post(other, TELECOM, "[").await.0, 400);
    gateway.stray("unknown", "telecom unreadable").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_platforms_word_about_a_device_is_the_state_of_its_link() {
    let links = "[[push]]\nname = \"telecom\"\nformat = \"ctwing\"\ntokens_file = \"telecom.tokens\"\n";
    let house = House::build(links, &device("far", "fengsui/smoke-json", "telecom", "address = \"44d0\""));
    let tokens = house.config().parent().unwrap().join("telecom.tokens");
    std::fs::write(tokens, TELECOM).unwrap();
    let gateway = house.open().await;
    let mut at = 1_589_444_231_825_u64;
    let mut report = |online: u8, device: &str| {
        at += 1000;
        json!({ "timestamp": at, "tenantId": "10461180", "protocol": "lwm2m", "productId": "10053421",
            "messageType": "deviceOnlineOfflineReport", "iccid": "undefined", "eventType": online, "deviceId": device })
        .to_string()
    };
    assert_eq!(post(here(&gateway, "telecom"), TELECOM, &report(0, "44d0")).await.0, 200);
    gateway.last("far/link", |last| last["value"] == "offline").await;
    assert_eq!(post(here(&gateway, "telecom"), TELECOM, &report(1, "44d0")).await.0, 200);
    gateway.last("far/link", |last| last["value"] == "online").await;
    assert_eq!(post(here(&gateway, "telecom"), TELECOM, &report(0, "44d0")).await.0, 200);
    assert_eq!(post(here(&gateway, "telecom"), TELECOM, &report(0, "99")).await.0, 200);
    gateway.stray("unknown", "99/deviceOnlineOfflineReport").await;
    gateway.stop().await;
    let (_, facts) = house.journal().await;
    let lost =
        facts.iter().find(|fact| fact.point.as_str() == "far/link" && fact.rule.as_str() == "link-lost");
    let phase = lost.map(|fact| fact.phase);
    assert!(matches!(phase, Some(Phase::Arming { .. })), "nobody will be told: {phase:?}");
}

#[tokio::test]
async fn kill_9_between_a_post_and_its_answer_loses_nothing_and_counts_once() {
    let house = house(free_port());
    let gateway = house.launch().await;
    // The journal has it, and the platform never reads the answer.
    let read = r#"{"temperature":21.5,"id":1}"#;
    let head = |body: &str| {
        format!(
            "POST /api/v1/ingest/lora/sd-1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nIdempotency-Key: {body}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut deaf = TcpStream::connect(gateway.web).await.unwrap();
    deaf.write_all(head(read).as_bytes()).await.unwrap();
    gateway.last("sd-1/temperature", |last| last["value"] == 21.5).await;
    // The journal does not have it, so the platform hears nothing, or that it must send again.
    let stuck = Stuck::hold(&house.data());
    let held = r#"{"temperature":22.5,"id":2}"#;
    let mut held_up = TcpStream::connect(gateway.web).await.unwrap();
    held_up.write_all(head(held).as_bytes()).await.unwrap();
    let mut taken = gateway.counter("frames_received").await;
    while taken < 2 {
        taken = gateway.counter("frames_received").await;
    }
    let mut nothing = [0; 1];
    assert!(held_up.try_read(&mut nothing).is_err(), "it was answered before the journal had it");
    gateway.kill();
    stuck.release();
    let gateway = house.launch().await;
    for body in [read, held, held] {
        let request = reqwest::Client::new().post(here(&gateway, "lora/sd-1")).bearer_auth(TOKEN);
        let request = request.header("Idempotency-Key", body).body(body);
        assert_eq!(soon("the answer", request.send()).await.unwrap().status().as_u16(), 200);
    }
    assert_eq!(gateway.counter("frames_repeated").await, 2);
    gateway.stop().await;
    let (entries, _) = house.journal().await;
    assert_eq!(numbers_of(&entries, "sd-1/temperature"), [21.5, 22.5]);
    assert!(!house.log().contains(TOKEN), "a token is never logged");
}
