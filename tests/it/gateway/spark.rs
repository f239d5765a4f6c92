//! Edge nodes that speak Sparkplug B, sensors that speak SenML, and devices that announce themselves, over real sockets.

use crate::support::gateway::{BROKER, Gateway, House, device};
use crate::support::mosquitto::Mosquitto;
use crate::support::ports::{soon, until};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;

/// A metric of a payload: alias, name, and the value of a flag; empty or absent parts are not written.
type Metric<'m> = (u8, &'m str, Option<bool>);

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A payload of flags, written by hand.
fn payload(seq: u8, metrics: &[Metric<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (alias, name, value) in metrics {
        let mut metric = if name.is_empty() { Vec::new() } else { field(1, name.as_bytes()) };
        metric.extend([0x10, *alias]);
        if !name.is_empty() {
            metric.extend([0x20, 11]);
        }
        metric.extend(value.iter().flat_map(|value| [0x70, u8::from(*value)]));
        bytes.extend(field(2, &metric));
    }
    bytes.extend([0x18, seq]);
    bytes
}

/// A birth or death of a node: `bdSeq` of that connection.
fn node(seq: Option<u8>, connection: u8) -> Vec<u8> {
    let mut bytes = field(2, &[field(1, b"bdSeq"), vec![0x20, 8, 0x58, connection]].concat());
    bytes.extend(seq.into_iter().flat_map(|seq| [0x18, seq]));
    bytes
}

/// An edge node's connection: what it publishes, and the commands that reach it.
struct Edge {
    client: AsyncClient,
    commands: mpsc::Receiver<Vec<u8>>,
}

impl Edge {
    async fn connect(port: u16) -> Self {
        let mut options = MqttOptions::new("floor-2", "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(30));
        let (client, mut event_loop) = AsyncClient::new(options, 16);
        let (to, commands) = mpsc::channel(16);
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        tokio::spawn(async move {
            while let Ok(event) = event_loop.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => drop(ready.take().map(|ready| ready.send(()))),
                    Event::Incoming(Packet::Publish(publish)) => {
                        drop(to.send(publish.payload.to_vec()).await)
                    }
                    _ => {}
                }
            }
        });
        client.subscribe("spBv1.0/care/NCMD/floor-2", QoS::AtLeastOnce).await.unwrap();
        soon("the edge node is subscribed", is_ready).await.unwrap();
        Self { client, commands }
    }

    async fn publish(&self, topic: &str, bytes: Vec<u8>) {
        self.client.publish(topic, QoS::AtMostOnce, false, bytes).await.unwrap();
    }

    async fn is_born(&self, connection: u8) {
        self.publish("spBv1.0/care/NBIRTH/floor-2", node(Some(0), connection)).await;
        let metrics = [(1, "Smoke/Alarm", Some(false)), (2, "Smoke/Fault", Some(false))];
        self.publish("spBv1.0/care/DBIRTH/floor-2/smoke-203", payload(1, &metrics)).await;
    }
}

const DATA: &str = "spBv1.0/care/DDATA/floor-2/smoke-203";
/// Whatever it sends, in 待接入 it stands under this.
const ROW: &str = "spBv1.0/care/DBIRTH/floor-2/smoke-203";

fn detector() -> String {
    device("sd-203", "generic/sparkplug-smoke", "broker", "address = \"care/floor-2/smoke-203\"")
}

/// The story that both brokers tell: the gateway comes in the middle, asks, and then understands.
async fn comes_in_the_middle(gateway: &Gateway, port: u16) {
    let mut edge = Edge::connect(port).await;
    edge.publish(DATA, payload(7, &[(1, "", Some(true))])).await;
    let stray = gateway.stray("unreadable", ROW).await;
    assert!(stray["reason"].as_str().unwrap().contains("出生报文"), "{stray}");
    let command = soon("the edge node is asked for its births", edge.commands.recv()).await.unwrap();
    assert!(command.windows(20).any(|part| part == b"Node Control/Rebirth"), "{command:?}");
    assert_eq!(gateway.counter("sparkplug_rebirths").await, 1);

    edge.is_born(3).await;
    gateway.last("sd-203/smoke", |last| last["value"] == "normal").await;
    edge.publish(DATA, payload(2, &[(1, "", Some(true))])).await;
    gateway.hazard("sd-203/smoke", "smoke-fire", |hazard| hazard["phase"] == "active").await;

    // A last will of an older connection kills nobody; that of this one loses the device and ends no alarm.
    edge.publish("spBv1.0/care/NDEATH/floor-2", node(None, 2)).await;
    edge.publish(DATA, payload(3, &[(2, "", Some(true))])).await;
    gateway.last("sd-203/fault", |last| last["value"] == true).await;
    let link = gateway.last("sd-203/link", |_| true).await;
    assert_eq!(link["value"], "online", "an older last will lost the device");
    edge.publish("spBv1.0/care/NDEATH/floor-2", node(None, 3)).await;
    gateway.last("sd-203/link", |last| last["value"] == "offline").await;
    gateway.hazard("sd-203/smoke", "smoke-fire", |hazard| hazard["phase"] == "active").await;
    edge.is_born(4).await;
    gateway.last("sd-203/link", |last| last["value"] == "online").await;

    // A message is missing: counted. The node was asked less than a minute ago and is left in peace.
    edge.publish(DATA, payload(5, &[(2, "", Some(true))])).await;
    gateway.last("sd-203/fault", |last| last["value"] == true).await;
    let counts =
        (gateway.counter("sparkplug_gaps").await, gateway.counter("sparkplug_unknown_aliases").await);
    assert_eq!(counts, (1, 1));
    assert_eq!(gateway.counter("sparkplug_rebirths").await, 1);
}

#[tokio::test]
async fn an_edge_node_on_our_broker_is_asked_for_its_births_and_its_fire_comes_through_an_alias() {
    let house = House::build(BROKER, &detector());
    let gateway = house.open().await;
    comes_in_the_middle(&gateway, gateway.broker.unwrap().port()).await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_edge_node_behind_another_broker_is_asked_for_its_births_and_its_fire_comes_through_an_alias() {
    let mosquitto = Mosquitto::start().await;
    let links = format!("[[mqtt]]\nname = \"broker\"\nurl = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let house = House::build(&links, &detector());
    let gateway = house.open().await;
    gateway.last("link-broker/state", |last| last["value"] == "up").await;
    comes_in_the_middle(&gateway, mosquitto.port).await;
    gateway.stop().await;
}

#[tokio::test]
async fn after_a_reload_that_changes_its_link_an_edge_node_is_asked_as_before_and_over_mqtt_5_as_well() {
    let mosquitto = Mosquitto::start().await;
    let links = format!("[[mqtt]]\nname = \"broker\"\nurl = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let house = House::build(&links, &detector());
    let gateway = house.open().await;
    gateway.last("link-broker/state", |last| last["value"] == "up").await;
    let config = std::fs::read_to_string(house.config()).unwrap();
    std::fs::write(house.config(), config.replace("[[mqtt]]\n", "[[mqtt]]\nprotocol = 5\n")).unwrap();
    let (status, answer) = gateway.reload().await;
    assert_eq!(status, 200, "{answer}");
    let connections =
        || mosquitto.log().lines().filter(|line| line.contains(" as fengsui-broker (p5")).count();
    until("it connects anew, to the session with its subscriptions", || connections() == 1).await;
    gateway.last("link-broker/state", |last| last["value"] == "up").await;
    comes_in_the_middle(&gateway, mosquitto.port).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_kept_of_an_edge_node_is_read_by_its_own_names_and_no_alias_is_guessed() {
    let house = House::build(BROKER, &detector());
    let gateway = house.open().await;
    let edge = Edge::connect(gateway.broker.unwrap().port()).await;
    edge.is_born(1).await;
    edge.publish("spBv1.0/care/DBIRTH/floor-2/smoke-204", payload(2, &[(3, "Smoke/Alarm", Some(true))]))
        .await;
    edge.publish("spBv1.0/care/DDATA/floor-2/smoke-204", payload(3, &[(3, "", Some(true))])).await;
    let key = "broker spBv1.0/care/DBIRTH/floor-2/smoke-204";
    gateway
        .wait("both are kept", "/api/v1/quarantine", |answer| {
            answer["senders"].as_array().unwrap().iter().any(|one| one["key"] == key && one["frames"] == 2)
        })
        .await;
    house.plan_more(&device(
        "sd-204",
        "generic/sparkplug-smoke",
        "broker",
        "address = \"care/floor-2/smoke-204\"",
    ));
    let (status, answer) = gateway.reload().await;
    assert_eq!(status, 200, "{answer}");
    let (status, told) = gateway.post("/api/v1/quarantine/decode", &json!({ "key": key })).await;
    assert_eq!((status, told), (200, json!({ "decoded": 1, "kept": 1, "readings": 1 })));
    let kept = gateway.page("/api/v1/quarantine/frames?device=sd-204").await;
    assert!(kept.contains("DDATA") && !kept.contains("/DBIRTH/"), "what has an alias alone stays: {kept}");
    // Its fire was history; the births that the node sent while it was planned for another device explain the next one.
    assert_eq!(gateway.get("/api/v1/hazards").await["hazards"], json!([]));
    edge.publish("spBv1.0/care/DDATA/floor-2/smoke-204", payload(4, &[(3, "", Some(true))])).await;
    gateway.hazard("sd-204/smoke", "smoke-fire", |hazard| hazard["phase"] == "active").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_replay_knows_the_births_of_its_file_and_no_others() {
    let house = House::build(BROKER, &detector());
    let frame = |second: u8, kind: &str, bytes: &[u8]| {
        let payload = std::str::from_utf8(bytes).unwrap();
        let topic = format!("spBv1.0/care/{kind}/floor-2/smoke-203");
        let at = format!("2026-01-15T10:00:{second:02}+08:00");
        json!({ "at": at, "link": "broker", "topic": topic, "payload": payload }).to_string()
    };
    let birth = payload(1, &[(1, "Smoke/Alarm", Some(false)), (2, "Smoke/Fault", Some(false))]);
    let fire = payload(2, &[(1, "", Some(true))]);
    let lines = [frame(0, "DDATA", &fire), frame(1, "DBIRTH", &birth), frame(2, "DDATA", &fire)];
    let file = house.config().with_file_name("night.jsonl");
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let config = house.config();
    let arguments = ["replay", file.to_str().unwrap(), "--config", config.to_str().unwrap()];
    let (code, said) = House::tool(&arguments);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("night.jsonl:1 sd-203: ") && said.contains("出生报文"), "{said}");
    assert!(said.contains("2026-01-15T10:00:02+08:00") && said.contains("火警"), "{said}");
    assert!(!said.contains("night.jsonl:3"), "{said}");
}

#[tokio::test]
async fn without_leave_no_edge_node_is_asked_for_anything() {
    let house = House::build(&format!("{BROKER}sparkplug_rebirth = false\n"), &detector());
    let gateway = house.open().await;
    let mut edge = Edge::connect(gateway.broker.unwrap().port()).await;
    edge.publish(DATA, payload(7, &[(1, "", Some(true))])).await;
    gateway.stray("unreadable", ROW).await;
    edge.is_born(1).await;
    gateway.last("sd-203/smoke", |last| last["value"] == "normal").await;
    assert_eq!(gateway.counter("sparkplug_rebirths").await, 0);
    assert!(edge.commands.try_recv().is_err());
    gateway.stop().await;
}

#[tokio::test]
async fn a_sparkplug_device_that_nobody_planned_is_one_row_with_its_address() {
    let house = House::build(BROKER, &detector());
    let gateway = house.open().await;
    let edge = Edge::connect(gateway.broker.unwrap().port()).await;
    edge.is_born(1).await;
    edge.publish("spBv1.0/care/DBIRTH/floor-2/smoke-204", payload(2, &[(3, "Smoke/Alarm", Some(false))]))
        .await;
    edge.publish("spBv1.0/care/DDATA/floor-2/smoke-204", payload(3, &[(3, "", Some(true))])).await;
    gateway
        .wait("both are counted", "/api/v1/strays", |answer| {
            let strays = answer["strays"].as_array().unwrap();
            strays.len() == 1 && strays[0]["count"] == 2
        })
        .await;
    let stray = gateway.stray("unknown", "smoke-204").await;
    assert!(stray["reason"].as_str().unwrap().contains("care/floor-2/smoke-204"), "{stray}");
    let page = gateway.page("/strays").await;
    assert!(
        page.contains("address = &#34;care/floor-2/smoke-204&#34;")
            || page.contains("address = &quot;care/floor-2/smoke-204&quot;"),
        "{page}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_pack_of_senml_brings_its_history_late_and_its_newest_value_live() {
    let gateway =
        House::build(BROKER, &device("sm-1", "generic/senml-smoke", "broker", "address = \"sm-1\""))
            .open()
            .await;
    let mut pen = gateway.pen("pen").await;
    pen.publish("senml/sm-1", r#"[{"bn":"urn:dev:mac:1:","bt":-120,"n":"temperature","u":"Cel","v":20},{"n":"temperature","u":"Cel","t":60,"v":21},{"n":"smoke","vb":true}]"#).await;
    gateway.hazard("sm-1/smoke", "smoke-fire", |hazard| hazard["phase"] == "active").await;
    let last = gateway.last("sm-1/temperature", |last| last["value"] == 21.0).await;
    assert_eq!(last["quality"], "good");
    gateway.stop().await;
}

#[tokio::test]
async fn a_device_that_announces_itself_is_one_row_with_a_profile_to_copy() {
    let house = House::build(BROKER, &detector());
    let gateway = house.open().await;
    let mut pen = gateway.pen("pen").await;
    let entity = |own: &str| {
        format!(
            r#"{{{own},"device":{{"identifiers":["zigbee2mqtt_0x00158d01"],"manufacturer":"Heiman","model":"HS1SA-E","name":"厨房烟感"}},"state_topic":"zigbee2mqtt/0x00158d01"}}"#
        )
    };
    pen.publish("homeassistant/binary_sensor/0x00158d01/smoke/config", &entity(r#""device_class":"smoke","payload_on":true,"payload_off":false,"value_template":"{{ value_json.smoke }}""#)).await;
    pen.publish("homeassistant/sensor/0x00158d01/battery/config", &entity(r#""device_class":"battery","unit_of_measurement":"%","value_template":"{{ value_json.battery }}""#)).await;
    pen.publish("homeassistant/switch/0x00158d01/siren/config", &entity(r#""name":"Siren""#)).await;
    gateway
        .wait("all three are one row", "/api/v1/strays", |answer| {
            let strays = answer["strays"].as_array().unwrap();
            strays.len() == 1 && strays[0]["count"] == 3
        })
        .await;
    let stray = gateway.stray("unknown", "zigbee2mqtt_0x00158d01").await;
    let (reason, draft) = (stray["reason"].as_str().unwrap(), stray["draft"].as_str().unwrap());
    assert!(reason.contains("厨房烟感") && reason.contains("Siren"), "{reason}");
    let profile = fengsui::profile::Profile::parse(
        fengsui::model::ProfileId::parse("heiman/hs1sa-e").unwrap(),
        "draft",
        draft,
        crate::profiles::vocabulary(),
    )
    .unwrap();
    assert_eq!(profile.check_examples(), []);
    let page = gateway.page("/strays").await;
    assert!(page.contains("heiman/hs1sa-e.toml") && page.contains("0x00158d01"), "{page}");
    assert_eq!(stray["device"], json!(null));
    gateway.stop().await;
}
