//! Devices on a bus that answer wrongly or not at all: their own points suffer, their neighbours' do not.

use crate::support::gateway::{Gateway, House, device, find_hazard};
use crate::support::modbus_unit::{Manner, ModbusServer};
use serde_json::{Value, json};
use std::time::Duration;

/// Two pressure transmitters on one bus; each is offline after ten seconds without an answer.
async fn bus() -> (ModbusServer, House) {
    let server = ModbusServer::start().await;
    let unit = |n: u8| {
        let place = format!("unit = {n}\nsilent_after_secs = 10");
        device(&format!("pressure-{n}"), "generic/rs485-pressure", "pump-room", &place)
    };
    let link =
        format!("[[modbus]]\nname = \"pump-room\"\nurl = \"tcp://{}\"\ntimeout_ms = 300\n", server.address);
    let house = House::build(&link, &[unit(1), unit(2)].concat());
    (server, house)
}

async fn both_answer(gateway: &Gateway) {
    for (point, value) in [("pressure-1/pressure", 0.275), ("pressure-2/pressure", 0.531)] {
        gateway.last(point, |last| last["value"] == value && last["quality"] == "good").await;
    }
}

/// The neighbour is heard again after this moment.
async fn neighbour_goes_on(gateway: &Gateway) {
    let at = |last: &Value| last["received_at"].as_i64().unwrap();
    let then = at(&gateway.last("pressure-2/pressure", |_| true).await);
    gateway.last("pressure-2/pressure", |last| at(last) > then && last["quality"] == "good").await;
}

async fn bad_then_good(manner: Manner) {
    // An address that the unit does not have is asked for again only after a minute.
    let comes_back = manner != Manner::Exception(2);
    let (server, house) = bus().await;
    let gateway = house.open().await;
    both_answer(&gateway).await;
    server.set(1, manner);
    let bad = gateway.last("pressure-1/pressure", |last| last["quality"] != "good").await;
    assert!(!bad["flaw"].is_null(), "a person sees why: {bad}");
    neighbour_goes_on(&gateway).await;
    let answer = gateway.get("/api/v1/hazards").await;
    let mut hazards = answer["hazards"].as_array().unwrap().iter();
    assert!(hazards.all(|hazard| hazard["signal"] != "supervisory"), "no value, no alarm: {answer:#}");
    server.set(1, Manner::Good);
    if comes_back {
        both_answer(&gateway).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_register_that_the_unit_does_not_have_spoils_its_own_point_only() {
    bad_then_good(Manner::Exception(2)).await;
}

#[tokio::test]
async fn a_register_exception_is_no_value_until_it_is_over() {
    bad_then_good(Manner::Exception(4)).await;
}

#[tokio::test]
async fn a_short_answer_is_no_value() {
    bad_then_good(Manner::Short).await;
}

#[tokio::test]
async fn an_answer_of_another_unit_is_no_value() {
    bad_then_good(Manner::WrongUnit).await;
}

#[tokio::test]
async fn garbage_on_the_line_is_no_value() {
    bad_then_good(Manner::Garbage).await;
}

#[tokio::test]
async fn a_mute_unit_is_offline_while_its_neighbour_goes_on() {
    let (server, house) = bus().await;
    let gateway = house.open().await;
    both_answer(&gateway).await;
    server.set(1, Manner::Mute);
    let hazard = gateway.hazard("pressure-1/link", "link-silent", |_| true).await;
    assert_eq!(hazard["signal"], "offline");
    neighbour_goes_on(&gateway).await;
    let hazards = gateway.get("/api/v1/hazards").await;
    assert_eq!(find_hazard(&hazards, "pressure-2/link", "link-silent"), None);
    server.set(1, Manner::Good);
    gateway.hazard("pressure-1/link", "link-silent", |hazard| hazard["phase"] == "returned").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_bus_that_takes_connections_and_says_nothing_is_seen_and_stops_nothing() {
    // Half-open: the system completes the handshake, and nobody ever reads.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_server, _) = bus().await;
    let place = "unit = 1\nsilent_after_secs = 10";
    let link = format!(
        "[[modbus]]\nname = \"dead\"\nurl = \"tcp://{}\"\ntimeout_ms = 300\n[[modbus]]\nname = \"pump-room\"\nurl = \"tcp://{}\"\ntimeout_ms = 300\n",
        silent.local_addr().unwrap(),
        _server.address
    );
    let devices = [
        device("pressure-1", "generic/rs485-pressure", "dead", place),
        device("pressure-2", "generic/rs485-pressure", "pump-room", "unit = 2\nsilent_after_secs = 10"),
    ];
    let house = House::build(&link, &devices.concat());
    let gateway = house.open().await;
    let seen = |answer: &Value| {
        find_hazard(answer, "pressure-1/link", "link-silent").is_some()
            || find_hazard(answer, "link-dead/state", "connection-down").is_some()
    };
    let patience = Duration::from_secs(60);
    gateway.wait_for(patience, "somebody learns of the dead bus", "/api/v1/hazards", seen).await;
    neighbour_goes_on(&gateway).await;
    let hazards = gateway.get("/api/v1/hazards").await;
    assert_eq!(find_hazard(&hazards, "pressure-2/link", "link-silent"), None);
    assert_ne!(hazards["hazards"], json!([]));
    gateway.stop().await;
}
