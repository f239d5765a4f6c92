//! Fills both stores by a real gateway: every class that a panel shows is read, hazards of several kinds are raised,
//! some acknowledged and reset by a person, one reading is off its scale, and one device is never heard.

use super::ask::{DATABASE, Stores};
use crate::support::gateway::{BROKER, Gateway, House, device, topic};
use crate::support::modbus_unit::ModbusServer;
use crate::support::pen::Pen;
use crate::support::ports::soon;
use fengsui::clock::Clock;
use fengsui::journal::{Journal, Limits};
use fengsui::metrics::Metrics;
use fengsui::model::{Plan, Span};
use fengsui::sinks::Worker;
use fengsui::sinks::influx::{Influx, InfluxSettings, Way};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The only site of [`House`].
pub(super) const SITE: &str = "sunshine";

/// The panel's contact, and the heat detector's word and its temperature off the scale. The smoke is reset.
pub(super) const FIRES_OPEN: f64 = 3.0;
pub(super) const FIRES_RAISED: f64 = 4.0;

/// Readings a minute that the gateway's own line speaks of.
pub(super) const READINGS_A_MINUTE: u32 = 600;

/// Each device with its profile, its topic, and what it says.
const TOLD: [(&str, &str, &str, &str); 7] = [
    ("smoke-1", "fengsui/smoke-json", "up", r#"{"smoke":0,"temperature":23.4,"battery":98,"rssi":-71}"#),
    ("heat-1", "fengsui/heat-json", "up", r#"{"heat":0,"temperature":31.5,"battery":94,"rssi":-80}"#),
    (
        "gas-1",
        "fengsui/gas-json",
        "up",
        r#"{"gas":0,"lel":0.4,"co_ppm":3,"oxygen_pct":20.9,"mains_failure":false}"#,
    ),
    (
        "electrical-1",
        "fengsui/electrical-json",
        "up",
        r#"{"residual_ma":86,"cable_c":[31.5,32.0,30.8,29.9],"current_a":[12.4,11.9,13.0],"voltage_v":[228.1,229.4,230.2],"state":0,"arc":0}"#,
    ),
    (
        "water-1",
        "fengsui/water-json",
        "up",
        r#"{"hydrant_mpa":0.28,"pipe_mpa":0.42,"level_pct":96.5,"flow_ls":0,"pump":0,"pump_mode":0,"cap_open":false,"tilt":false,"impact":false,"pipe_c":12.5,"battery":90,"rssi":-92}"#,
    ),
    (
        "meter-1",
        "tasmota/energy",
        "tele",
        r#"{"Time":"2026-01-15T10:30:05","ENERGY":{"Total":201.4,"Power":2180,"Voltage":224,"Current":9.75}}"#,
    ),
    (
        "leak-1",
        "zigbee2mqtt/aqara-sjcgq11lm",
        "zigbee",
        r#"{"battery":100,"battery_low":false,"linkquality":110,"voltage":3055,"water_leak":false}"#,
    ),
];

fn place(id: &str, way: &str) -> String {
    match way {
        "tele" => format!("tele/{id}/SENSOR"),
        "zigbee" => format!("zigbee2mqtt/{id}"),
        _ => topic(id),
    }
}

fn links(stores: &Stores, bus: &ModbusServer) -> String {
    format!(
        "{BROKER}[[modbus]]\nname = \"bus\"\nurl = \"tcp://{}\"\n\
         [[influx]]\nname = \"old\"\nversion = 1\nurl = \"{}\"\ndatabase = \"{DATABASE}\"\n\
         [[influx]]\nname = \"metrics\"\nurl = \"{}\"\norg = \"fengsui\"\nbucket = \"{DATABASE}\"\n",
        bus.address,
        stores.influxd.url(),
        stores.victoria.url(),
    )
}

fn devices() -> String {
    let told =
        TOLD.iter().map(|(id, profile, ..)| device(id, profile, "broker", &format!("address = \"{id}\"")));
    let silent =
        device("lost-1", "fengsui/smoke-json", "broker", "address = \"lost-1\"\nsilent_after_secs = 10");
    let contacts = device("contacts-1", "waveshare/modbus-rtu-io-8ch", "bus", "unit = 1");
    let climate = device("climate-1", "xy/xy-md02", "bus", "unit = 2");
    told.chain([silent, contacts, climate]).collect()
}

async fn say(pen: &mut Pen, id: &str, text: &str) {
    let (.., way, _) = TOLD.iter().find(|(device, ..)| *device == id).unwrap();
    pen.publish(&place(id, way), text).await;
}

pub(super) async fn by_a_real_gateway(stores: &Stores) {
    let bus = ModbusServer::start().await;
    let house = House::build(&links(stores, &bus), &devices());
    let gateway = house.open().await;
    let mut pen = gateway.pen("filler").await;
    for (id, _, _, text) in TOLD {
        say(&mut pen, id, text).await;
    }
    // A fire that is seen and reset, one that nobody answers; the contacts of the bus raise a third by themselves.
    say(&mut pen, "smoke-1", r#"{"smoke":1}"#).await;
    let smoke = gateway.hazard("smoke-1/smoke", "smoke-fire", |_| true).await;
    let smoke = smoke["id"].as_str().unwrap();
    assert_eq!(gateway.command(smoke, "acknowledge", "").await.0, 200);
    say(&mut pen, "smoke-1", r#"{"smoke":0}"#).await;
    gateway.hazard("smoke-1/smoke", "smoke-fire", |hazard| hazard["phase"] == "returned").await;
    assert_eq!(gateway.command(smoke, "reset", "误报").await.0, 200);
    say(&mut pen, "heat-1", r#"{"heat":1,"temperature":180}"#).await;
    gateway.hazard("heat-1/heat", "heat-fire", |_| true).await;
    gateway.hazard("contacts-1/panel", "panel-fire", |_| true).await;
    gateway.hazard("lost-1/link", "link-silent", |_| true).await;
    gateway.last("climate-1/temperature", |_| true).await;
    delivered(&gateway).await;
    gateway.stop().await;
}

/// The gateway's own line of three minutes, which nobody wants to wait for: each is the first of a sink that begins then.
pub(super) async fn own_figures(stores: &Stores) {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let (journal, _) = Journal::open(dir.path(), Limits::default(), metrics.clone()).unwrap();
    let (_keep, plan) = watch::channel(Arc::new(Plan::new(Vec::new())));
    let old = Way::V1 { database: DATABASE.to_owned(), retention_policy: None, login: None };
    let new = Way::V2 { org: "fengsui".to_owned(), bucket: DATABASE.to_owned(), token: None };
    let now = Clock::system().now();
    for minutes_ago in [3, 2, 1] {
        let clock = Clock::simulated(now - Span::from_secs(60 * minutes_ago));
        metrics.readings.inc_by(READINGS_A_MINUTE.into());
        for (url, way) in [(stores.influxd.url(), old.clone()), (stores.victoria.url(), new.clone())] {
            let mut settings = InfluxSettings::new("figures", &url, way);
            settings.gateway = Some("box-1".to_owned());
            let mut sink =
                Influx::new(settings, journal.clone(), plan.clone(), clock.clone(), metrics.clone()).unwrap();
            sink.step().await;
        }
    }
}

/// Until both stores have confirmed everything.
async fn delivered(gateway: &Gateway) {
    soon("everything is delivered", async {
        loop {
            let health = gateway.get("/api/v1/health").await;
            let sinks = health["sinks"].as_array().unwrap();
            if sinks.len() == 2 && sinks.iter().all(|sink| sink["lag"].as_u64().unwrap() <= 2) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}
