//! Units on serial lines, from the line to the duty room: a pressure that falls, a line that is cut, and that all comes back
//! by itself. One line hangs on this machine, the other behind a DTU that dials in.

use crate::support::gateway::{Gateway, House, device};
use crate::support::ports::free_port;
use crate::support::rtu_line::{Manner, RtuLine};
use crate::support::socat::Socat;
use serde_json::Value;
use std::net::SocketAddr;

/// 0.05 MPa in the profile's register: below the 0.07 that a hydrant needs.
const TOO_LOW: Manner = Manner::Says(50);

/// Two pressure transmitters on that bus. The alarm waits for nothing, so that the test does not.
fn house(way: &str) -> House {
    let at_once = "[[site.zone.device.override]]\npoint = \"pressure\"\nrule = \"pipe-pressure-alarm\"\n\
                   on_delay_secs = 0\noff_delay_secs = 0\n";
    let unit = |n: u8| {
        device(
            &format!("pressure-{n}"),
            "generic/rs485-pressure",
            "pump-room",
            &format!("unit = {n}\n{at_once}"),
        )
    };
    let bus = "timeout_ms = 300\nlate_answer_max_ms = 300";
    let link = format!("[[modbus]]\nname = \"pump-room\"\n{way}\n{bus}\n");
    House::build(&link, &[unit(1), unit(2)].concat())
}

async fn alarm(gateway: &Gateway, phase: &str) {
    gateway.hazard("pressure-1/pressure", "pipe-pressure-alarm", |hazard| hazard["phase"] == phase).await;
}

/// What the health page says of the line, once it is so.
async fn link(gateway: &Gateway, up: bool) -> String {
    let so = |health: &Value| health["links"][0]["up"] == up;
    let health = gateway.wait("the line's state", "/api/v1/health", so).await;
    health["links"][0]["reason"]["zh"].as_str().unwrap().to_owned()
}

/// The newest line of the duty log about a connection says so.
async fn logged(gateway: &Gateway, text: &str) {
    let so = |log: &Value| {
        let mut newest_first = log["lines"].as_array().unwrap().iter();
        let newest = newest_first.find(|line| line["note"]["kind"] == "link");
        newest.is_some_and(|line| line["note"]["text"]["zh"].as_str().unwrap().contains(text))
    };
    gateway.wait(text, "/api/v1/log", so).await;
}

/// The pressure falls, and the alarm stands.
async fn fallen(house: &House, units: &RtuLine) -> Gateway {
    let gateway = house.open().await;
    gateway.last("pressure-1/pressure", |last| is_well(last, 0.275)).await;
    gateway.last("pressure-2/pressure", |last| is_well(last, 0.531)).await;
    link(&gateway, true).await;
    units.set(1, TOO_LOW);
    alarm(&gateway, "active").await;
    gateway
}

fn is_well(last: &Value, value: f64) -> bool {
    last["value"] == value && last["quality"] == "good"
}

/// The line was cut: the page and the duty log say so, in these words, and the alarm stands.
async fn told(gateway: &Gateway, words: &str) {
    let reason = link(gateway, false).await;
    assert!(reason.contains(words), "{reason}");
    logged(gateway, &format!("pump-room 连接中断：{reason}")).await;
    gateway.last("pressure-2/pressure", |last| last["quality"] != "good").await;
    alarm(gateway, "active").await;
}

/// It is whole again and the pressure is right: what silence could not end is over.
async fn well_again(gateway: Gateway) {
    link(&gateway, true).await;
    logged(&gateway, "pump-room 已连接").await;
    gateway.last("pressure-2/pressure", |last| is_well(last, 0.531)).await;
    alarm(&gateway, "returned").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_serial_line_that_is_cut_in_an_alarm_is_told_and_comes_back_by_itself() {
    let units = RtuLine::start().await;
    let mut line = Socat::to(units.address).await;
    let house = house(&format!("url = \"serial://{}\"\nbaud = 115200", line.ours().display()));
    let gateway = fallen(&house, &units).await;
    line.cut().await;
    told(&gateway, "找不到串口").await;
    units.set(1, Manner::Good);
    line.mend().await;
    well_again(gateway).await;
}

#[tokio::test]
async fn a_dtu_that_loses_its_network_in_an_alarm_is_told_and_comes_back_by_itself() {
    let port = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let house = house(&format!("listen = \"{port}\"\nregistration = \"FS-0001\""));
    let units = RtuLine::dial(port, b"FS-0001");
    let gateway = fallen(&house, &units).await;
    drop(units);
    told(&gateway, "DTU FS-0001 没有拨入").await;
    let _units = RtuLine::dial(port, b"FS-0001");
    well_again(gateway).await;
}
