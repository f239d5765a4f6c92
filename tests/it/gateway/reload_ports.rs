//! Ports that several links share: a link behind one comes, changes and goes, and the others never notice.

use crate::support::gateway::{Gateway, House, device, smoke};
use crate::support::ports::{free_port, soon};
use crate::support::rtu_line::RtuLine;
use serde_json::Value;
use std::net::SocketAddr;

const LORA: &str = "lora-token-0123456789abcdef";
const OTHER: &str = "other-token-0123456789abcdef";

fn dtu(name: &str, port: u16) -> String {
    format!("[[modbus]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\nregistration = \"{name}\"\n")
}

fn pressure(id: &str, link: &str) -> String {
    device(id, "generic/rs485-pressure", link, "unit = 1\nsilent_after_secs = 60")
}

fn write(house: &House, name: &str, text: &str) {
    std::fs::write(house.config().with_file_name(name), text).unwrap();
}

fn append(house: &House, name: &str, text: &str) {
    let file = house.config().with_file_name(name);
    let old = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, old + text).unwrap();
}

fn remove(house: &House, name: &str, text: &str) {
    let file = house.config().with_file_name(name);
    let old = std::fs::read_to_string(&file).unwrap();
    assert!(old.contains(text), "{text} is not in {old}");
    std::fs::write(file, old.replace(text, "")).unwrap();
}

async fn changes(gateway: &Gateway) -> Value {
    let (status, answer) = gateway.reload().await;
    assert_eq!(status, 200, "{answer}");
    answer["changes"]["zh"].clone()
}

async fn good(gateway: &Gateway, point: &str) {
    gateway.last(point, |last| last["quality"] == "good").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dtu_that_is_planned_while_another_is_connected_comes_in_by_the_same_port() {
    let port = free_port();
    let house = House::build(&dtu("dtu-1", port), &pressure("p-1", "dtu-1"));
    let gateway = house.open().await;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let first = RtuLine::dial(address, b"dtu-1");
    good(&gateway, "p-1/pressure").await;
    append(&house, "gateway.toml", &dtu("dtu-2", port));
    append(&house, "plan.toml", &pressure("p-2", "dtu-2"));
    assert_eq!(changes(&gateway).await, "新增设备 p-2；新增连接 dtu-2");
    let second = RtuLine::dial(address, b"dtu-2");
    good(&gateway, "p-2/pressure").await;
    assert_eq!(first.connections(), 1, "the first one was disturbed");
    remove(&house, "gateway.toml", &dtu("dtu-1", port));
    remove(&house, "plan.toml", &pressure("p-1", "dtu-1"));
    assert_eq!(changes(&gateway).await, "移除设备 p-1；移除连接 dtu-1");
    let asked = second.asked(1);
    soon("the second one is asked on", async {
        while second.asked(1) == asked {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(second.connections(), 1, "the second one was disturbed");
    gateway.stop().await;
}

async fn post(url: &str, token: &str, body: &str) -> u16 {
    let request = reqwest::Client::new().post(url).bearer_auth(token).body(body.to_owned());
    soon("the answer", request.send()).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_platform_comes_gets_another_token_and_goes_while_the_other_posts() {
    let lora = "[[push]]\nname = \"lora\"\nformat = \"json\"\ntokens_file = \"lora.tokens\"\n";
    let house = House::build(lora, &smoke("sd-1", "lora"));
    write(&house, "lora.tokens", LORA);
    let gateway = house.open().await;
    let (at, port) = (format!("http://{}/api/v1/ingest", gateway.web), free_port());
    let fresh = |n: u32| format!(r#"{{"smoke":0,"battery":{n}}}"#);
    assert_eq!(post(&format!("{at}/lora/sd-1"), LORA, &fresh(90)).await, 200);
    // One comes, on an address of its own.
    write(&house, "other.tokens", OTHER);
    let other = format!(
        "[[push]]\nname = \"other\"\nformat = \"json\"\ntokens_file = \"other.tokens\"\nlisten = \"127.0.0.1:{port}\"\n"
    );
    append(&house, "gateway.toml", &other);
    append(&house, "plan.toml", &smoke("sd-2", "other"));
    assert_eq!(changes(&gateway).await, "新增设备 sd-2；新增连接 other");
    let there = format!("http://127.0.0.1:{port}/api/v1/ingest/other/sd-2");
    assert_eq!(post(&there, OTHER, &fresh(80)).await, 200);
    gateway.last("sd-2/battery", |last| last["value"] == 80.0).await;
    assert_eq!(post(&format!("{at}/other/sd-2"), OTHER, &fresh(79)).await, 404, "not on this address");
    // The other one's token is stolen and changed.
    write(&house, "lora.tokens", "another-token-0123456789abcdef");
    assert_eq!(changes(&gateway).await, "修改连接 lora");
    assert_eq!(post(&format!("{at}/lora/sd-1"), LORA, &fresh(70)).await, 401);
    assert_eq!(post(&format!("{at}/lora/sd-1"), "another-token-0123456789abcdef", &fresh(70)).await, 200);
    assert_eq!(post(&there, OTHER, &fresh(69)).await, 200);
    // It goes again, and its address with it.
    remove(&house, "gateway.toml", &other);
    remove(&house, "plan.toml", &smoke("sd-2", "other"));
    assert_eq!(changes(&gateway).await, "移除设备 sd-2；移除连接 other");
    let refused = soon("it is refused", async {
        loop {
            if let Err(error) = reqwest::Client::new().post(&there).send().await {
                return error;
            }
        }
    });
    assert!(refused.await.is_connect());
    gateway.stop().await;
}

#[tokio::test]
async fn an_address_that_a_platform_cannot_have_is_told_and_changes_nothing() {
    let lora = "[[push]]\nname = \"lora\"\nformat = \"json\"\ntokens_file = \"lora.tokens\"\n";
    let house = House::build(lora, &smoke("sd-1", "lora"));
    write(&house, "lora.tokens", LORA);
    let gateway = house.open().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = taken.local_addr().unwrap();
    append(
        &house,
        "gateway.toml",
        &format!(
            "[[push]]\nname = \"other\"\nformat = \"json\"\ntokens_file = \"lora.tokens\"\nlisten = \"{there}\"\n"
        ),
    );
    let (status, answer) = gateway.reload().await;
    assert_ne!(status, 200, "{answer}");
    assert!(answer.to_string().contains(&format!("[[push]] 不能监听 {there}")), "{answer}");
    let url = format!("http://{}/api/v1/ingest/lora/sd-1", gateway.web);
    assert_eq!(post(&url, LORA, r#"{"smoke":0}"#).await, 200);
    gateway.stop().await;
}
