//! Commands to devices through the whole gateway: only what the plan allows, written down before it goes out, and answered.

use crate::support::gateway::{Gateway, House, device, find_hazard};
use crate::support::modbus_unit::{Manner, ModbusServer};
use serde_json::Value;

/// Two contact modules on one bus; the first may be told to sound its siren.
async fn bus(second_connection: bool) -> (ModbusServer, House) {
    let server = ModbusServer::start().await;
    let unit = |n: u8, more: &str| {
        device(&format!("io-{n}"), "waveshare/modbus-rtu-io-8ch", "pump-room", &format!("unit = {n}\n{more}"))
    };
    let link = format!(
        "[[modbus]]\nname = \"pump-room\"\nurl = \"tcp://{}\"\ntimeout_ms = 300\nsecond_connection = {second_connection}\n",
        server.address
    );
    let devices = [unit(1, "allow_commands = [\"siren-on\", \"outputs-off\"]"), unit(2, "")].concat();
    (server, House::build(&link, &devices))
}

async fn heard(gateway: &Gateway, device: &str) -> Value {
    gateway.last(&format!("{device}/door"), |last| last["quality"] == "good").await
}

/// The duty log's lines about commands, the oldest first.
async fn lines(gateway: &Gateway, count: usize) -> Vec<String> {
    let of = |log: &Value| -> Vec<String> {
        let lines = log["lines"].as_array().unwrap().iter().rev();
        let notes = lines.filter(|line| line["note"]["kind"] == "command");
        notes.map(|line| line["note"]["text"]["zh"].as_str().unwrap().to_owned()).collect()
    };
    of(&gateway.wait("the lines of the duty log", "/api/v1/log", |log| of(log).len() >= count).await)
}

#[tokio::test]
async fn a_command_that_the_plan_allows_is_written_down_sent_once_and_answered() {
    let (server, house) = bus(true).await;
    let gateway = house.open().await;
    heard(&gateway, "io-1").await;
    let (status, answer) = gateway.tell_device("io-1", "siren-on").await;
    assert_eq!((status, answer["fate"].as_str()), (200, Some("done")), "{answer}");
    assert_eq!(answer["recorded"], true);
    let (_, answer) = gateway.tell_device("io-1", "outputs-off").await;
    assert_eq!(answer["fate"], "done", "{answer}");
    assert_eq!(server.written(), [(1, 5, 0, vec![1]), (1, 15, 0, vec![0; 8])]);
    let lines = lines(&gateway, 4).await;
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].contains("对 io-1 下达命令：接通警笛"), "{lines:?}");
    assert!(lines[1].contains("接通警笛") && lines[1].contains("设备已执行"), "{lines:?}");
    let page = gateway.page("/points/io-1/door").await;
    assert!(page.contains("data-device-command=\"io-1/commands/siren-on\""));
    assert!(!page.contains("siren-off"), "only what is allowed has a button");
    assert!(!gateway.page("/points/io-2/door").await.contains("data-device-command"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_command_that_the_plan_does_not_allow_is_refused_and_nothing_goes_out() {
    let (server, house) = bus(true).await;
    let gateway = house.open().await;
    heard(&gateway, "io-2").await;
    for (device, command, status) in [
        ("io-1", "siren-off", 403),
        ("io-2", "siren-on", 403),
        ("io-1", "no-such", 403),
        ("io-9", "siren-on", 404),
    ] {
        let (told, answer) = gateway.tell_device(device, command).await;
        assert_eq!(told, status, "{device} {command}: {answer}");
    }
    assert_eq!(server.written(), []);
    gateway.stop().await;
}

#[tokio::test]
async fn a_unit_that_refuses_or_does_not_answer_a_command_is_told_and_not_asked_again() {
    for (manner, fate, words) in
        [(Manner::Mute, "no_answer", "没有应答"), (Manner::Exception(4), "refused", "异常码 4")]
    {
        let (server, house) = bus(false).await;
        let gateway = house.open().await;
        heard(&gateway, "io-1").await;
        server.set(1, manner);
        let (status, answer) = gateway.tell_device("io-1", "siren-on").await;
        assert_eq!((status, answer["fate"].as_str()), (200, Some(fate)), "{answer}");
        let lines = lines(&gateway, 2).await;
        assert!(lines[1].contains(words), "{lines:?}");
        let at = |last: &Value| last["received_at"].as_i64().unwrap();
        let then = at(&heard(&gateway, "io-2").await);
        gateway.last("io-2/door", |last| at(last) > then).await;
        assert_eq!(server.written().len(), 1, "sent once");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn on_a_bus_that_ordinary_reads_overload_a_fire_is_told_in_time() {
    let server = ModbusServer::start().await;
    // 29 transmitters that take 100 ms every 2 s: 145 % of one connection. The contacts of a panel come last in the plan.
    let slow = std::time::Duration::from_millis(100);
    let meter =
        |n: u8| device(&format!("meter-{n}"), "generic/rs485-pressure", "bus", &format!("unit = {n}"));
    let mut devices: String = (2..=30).map(meter).collect();
    devices += &device("io-1", "waveshare/modbus-rtu-io-8ch", "bus", "unit = 1");
    (2..=30).for_each(|unit| server.set(unit, Manner::Slow(slow)));
    let link = format!(
        "[[modbus]]\nname = \"bus\"\nurl = \"tcp://{}\"\nsecond_connection = false\n",
        server.address
    );
    let house = House::build(&link, &devices);
    let gateway = house.open().await;
    // The server's words say that the panel is in alarm.
    let hazard = gateway.hazard("io-1/panel", "panel-fire", |_| true).await;
    assert_eq!(hazard["signal"], "fire");
    let before = server.asked(1);
    let meters = || (2..=30).map(|unit| server.asked(unit)).sum::<u64>();
    let of_meters = meters();
    let at = |last: &Value| last["received_at"].as_i64().unwrap();
    let then = at(&gateway.last("io-1/door", |_| true).await);
    gateway.last("io-1/door", |last| at(last) >= then + 5000).await;
    let (fire, ordinary) = (server.asked(1) - before, meters() - of_meters);
    assert!(fire >= 8, "{fire} reads of the panel in 5 s, beside {ordinary} ordinary ones");
    let hazards = gateway.get("/api/v1/hazards").await;
    assert!(find_hazard(&hazards, "io-1/panel", "panel-fire").is_some());
    gateway.stop().await;
}
