//! The gateway and brokers that are not its own: several, dead and alive, with new passwords, with messages kept for it.

use crate::support::gateway::{Gateway, House, Stuck, numbers_of, smoke, topic};
use crate::support::mosquitto::{Mosquitto, Peer};
use crate::support::ports::{free_port, until};
use crate::support::witness::{self, Witness};
use fengsui::model::Change;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PROTOCOLS: [u8; 2] = [4, 5];

fn link(name: &str, port: u16, more: &str) -> String {
    format!("[[mqtt]]\nname = \"{name}\"\nurl = \"mqtt://127.0.0.1:{port}\"\n{more}")
}

/// The state of that link, once it is so.
async fn link_is(gateway: &Gateway, name: &str, up: bool) -> Value {
    let find = |health: &Value| {
        health["links"].as_array().unwrap().iter().find(|link| link["link"] == name).cloned()
    };
    let so = |health: &Value| find(health).is_some_and(|link| link["up"] == up);
    let health = gateway.wait(&format!("{name} up: {up}"), "/api/v1/health", so).await;
    find(&health).unwrap()
}

/// Announces a message of 100 MB to whoever connects, for ever; counts the connections.
async fn poison() -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU32::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut connect = [0; 512];
            let Ok(1..) = stream.read(&mut connect).await else { continue };
            stream.write_all(&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 1]).await.ok();
            stream.write_all(&[0x32, 0x80, 0xc2, 0xd7, 0x2f, 0, 4, b's', b'i', b't', b'e', 0, 1]).await.ok();
            // Until the gateway hangs up.
            while stream.read(&mut connect).await.is_ok_and(|bytes| bytes > 0) {}
        }
    });
    (port, count)
}

#[tokio::test]
async fn a_dead_broker_and_a_poisonous_one_harm_no_other() {
    let alive = Mosquitto::start().await;
    let (poisonous, connections) = poison().await;
    let links =
        [link("dead", free_port(), ""), link("poisonous", poisonous, ""), link("alive", alive.port, "")];
    let devices = [smoke("sd-1", "dead"), smoke("sd-2", "poisonous"), smoke("sd-3", "alive")];
    let house = House::build(&links.concat(), &devices.concat());
    let gateway = house.open().await;
    let begun = tokio::time::Instant::now();
    link_is(&gateway, "alive", true).await;
    let dead = link_is(&gateway, "dead", false).await;
    assert!(dead["reason"]["en"].as_str().unwrap().contains("nothing listens there"), "{dead}");
    until("it was tried some times", || connections.load(Ordering::Relaxed) >= 4).await;
    let poisonous = link_is(&gateway, "poisonous", false).await;
    assert!(poisonous["reason"]["zh"].as_str().unwrap().contains("请在那里删除它"), "{poisonous}");
    // Before the n-th attempt lie pauses of at least 125 ms × (2ⁿ⁻¹ − 1).
    let attempts = connections.load(Ordering::Relaxed);
    let rested = std::time::Duration::from_millis(125 * ((1 << (attempts - 1)) - 1));
    assert!(begun.elapsed() >= rested, "{attempts} attempts within {:?}: a hot loop", begun.elapsed());
    alive.publish(&topic("sd-3"), r#"{"smoke":1}"#, &["-q", "1"]).await;
    gateway.hazard("sd-3/smoke", "smoke-fire", |fire| fire["phase"] == "active").await;
    gateway.stop().await;
}

#[tokio::test]
async fn topics_beside_the_profiles_show_unknown_devices_and_a_shared_subscription_shares() {
    let mosquitto = Mosquitto::start().await;
    let house = House::build(
        &link(
            "hall",
            mosquitto.port,
            "topics = [\"building-7/#\"]\nshare = \"duty\"\nclient_id = \"sharer\"\n",
        ),
        &smoke("sd-1", "hall"),
    );
    let gateway = house.open().await;
    link_is(&gateway, "hall", true).await;
    mosquitto.publish("building-7/new/thing", "{}", &["-q", "1"]).await;
    gateway.stray("unknown", "building-7/new/thing").await;
    let other = Peer::subscriber(
        mosquitto.port,
        &["-t", "$share/duty/site/+/device/+/up", "-q", "1", "-V", "mqttv5"],
    );
    until("the other has joined", || mosquitto.log().matches("$share/duty/site/+/device/+/up").count() >= 2)
        .await;
    for n in 0..20 {
        mosquitto.publish(&topic("sd-1"), &format!(r#"{{"battery":{}}}"#, 50 + n), &["-q", "1"]).await;
    }
    until("some went to the other", || !other.lines().is_empty()).await;
    gateway.last("sd-1/battery", |_| true).await;
    until("each went to one of them", || {
        let ours = mosquitto.log().matches("Sending PUBLISH to sharer").count() - 1;
        ours + other.lines().len() == 20
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_password_that_is_changed_on_both_sides_costs_no_message() {
    let dir = TempDir::new().unwrap();
    let users = dir.path().join("users");
    Mosquitto::set_password(&users, "hall", "first");
    let lines = format!("allow_anonymous true\npassword_file {}\nmax_queued_messages 0\n", users.display());
    let mosquitto = Mosquitto::with(&lines).await;
    let login = "protocol = 5\nuser = \"hall\"\npassword_file = \"secret\"\n";
    let house = House::build(&link("hall", mosquitto.port, login), &witness::devices("hall"));
    let secret = house.config().with_file_name("secret");
    std::fs::write(&secret, "first\n").unwrap();
    let gateway = house.open().await;
    link_is(&gateway, "hall", true).await;
    let witness = Witness::start(([127, 0, 0, 1], mosquitto.port).into());
    witness.progress().await;
    Mosquitto::set_password(&users, "hall", "second");
    mosquitto.reload();
    std::fs::write(&secret, "second\n").unwrap();
    let begun = tokio::time::Instant::now();
    while gateway.counter("mqtt_connects").await < 2 {
        assert!(begun.elapsed() < crate::support::ports::PATIENCE, "no new connection");
        witness.progress().await;
    }
    link_is(&gateway, "hall", true).await;
    witness.progress().await;
    let testimony = witness.end().await;
    mosquitto.publish(&topic("writer"), r#"{"battery":55}"#, &["-q", "1"]).await;
    gateway.last("writer/battery", |last| last["value"] == 55.0).await;
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    assert!(!house.log().contains("second"), "the password was printed");
}

#[tokio::test]
async fn thousands_that_a_broker_kept_are_taken_once_although_the_gateway_is_held_and_stopped_amid_them() {
    for protocol in PROTOCOLS {
        let mosquitto = Mosquitto::with("allow_anonymous true\nmax_queued_messages 0\n").await;
        let more = format!("protocol = {protocol}\nclient_id = \"held\"\n");
        let house = House::build(&link("hall", mosquitto.port, &more), &smoke("sd-1", "hall"));
        let gateway = house.open().await;
        link_is(&gateway, "hall", true).await;
        let stuck = Stuck::hold(&house.data());
        let count = 3000;
        let value = |n: u32| 20.0 + f64::from(n) / 1024.0;
        let lines: String = (0..count).map(|n| format!("{{\"temperature\":{}}}\n", value(n))).collect();
        let mut publisher = Peer::publisher(mosquitto.port, &["-t", &topic("sd-1"), "-q", "1", "-l"]);
        publisher.feed(lines.as_bytes());
        assert_eq!(publisher.ended().await, 0);
        let sent = || mosquitto.log().matches("Sending PUBLISH to held").count();
        until("the window is used up", || sent() >= 20).await;
        // The rest waits at the broker, not in our memory.
        assert!(sent() < 100, "{} were sent to a gateway that acknowledges nothing", sent());
        tokio::join!(gateway.stop(), async { stuck.release() });
        let amid = numbers_of(&house.journal().await.0, "sd-1/temperature").len();
        assert!((1..3000).contains(&amid), "{amid}");
        let gateway = house.open().await;
        gateway.last("sd-1/temperature", |last| last["value"] == value(count - 1)).await;
        gateway.stop().await;
        let found = numbers_of(&house.journal().await.0, "sd-1/temperature");
        assert_eq!(found, (0..count).map(value).collect::<Vec<_>>(), "MQTT level {protocol}");
    }
}

#[tokio::test]
async fn the_broker_tells_the_gateways_state_also_after_kill_9() {
    for protocol in PROTOCOLS {
        let mosquitto = Mosquitto::start().await;
        let more = format!("protocol = {protocol}\nclient_id = \"box-7\"\n");
        let house = House::build(&link("hall", mosquitto.port, &more), &smoke("sd-1", "hall"));
        let watcher = Peer::subscriber(mosquitto.port, &["-t", "fengsui/box-7/state"]);
        let gateway = house.launch().await;
        until("online", || watcher.lines() == ["online"]).await;
        gateway.kill();
        until("the last will", || watcher.lines() == ["online", "offline"]).await;
        let gateway = house.launch().await;
        until("online again", || watcher.lines().len() == 3).await;
        gateway.stop().await;
        until("a farewell", || watcher.lines() == ["online", "offline", "online", "offline"]).await;
        let late = Peer::subscriber(mosquitto.port, &["-t", "fengsui/box-7/state", "-F", "%r %p"]);
        until("it is retained", || late.lines() == ["1 offline"]).await;
    }
}

#[tokio::test]
async fn a_retained_fire_is_raised_once_as_late_over_reconnects_and_restarts() {
    for protocol in PROTOCOLS {
        let mut mosquitto = Mosquitto::persistent().await;
        let more = format!("protocol = {protocol}\n");
        let devices = [smoke("sd-1", "hall"), smoke("sd-2", "hall")].concat();
        let house = House::build(&link("hall", mosquitto.port, &more), &devices);
        mosquitto.publish(&topic("sd-1"), r#"{"smoke":1,"battery":80}"#, &["-q", "1", "-r"]).await;
        let gateway = house.open().await;
        let fire = gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["phase"] == "active").await;
        assert_eq!(fire["late"], true, "{fire}");
        // The broker comes back and sends it again; so it does to a gateway that was started again.
        let passed_over = async |gateway: &Gateway, readings: u64| {
            let begun = tokio::time::Instant::now();
            while gateway.counter("retained_known").await < readings {
                assert!(begun.elapsed() < crate::support::ports::PATIENCE, "it did not come again");
                tokio::time::sleep(std::time::Duration::from_millis(15)).await;
            }
        };
        mosquitto.terminate();
        mosquitto.run().await;
        passed_over(&gateway, 2).await;
        let id = fire["id"].as_str().unwrap();
        assert_eq!(gateway.command(id, "acknowledge", "去看了").await.0, 200);
        assert_eq!(gateway.command(id, "reset", "到场，无火情").await.0, 200);
        gateway.stop().await;
        let gateway = house.open().await;
        passed_over(&gateway, 2).await;
        assert_eq!(gateway.get("/api/v1/hazards").await["hazards"], json!([]));
        gateway.stop().await;
        // With QoS 0 while we are away: it is nowhere but in the retained message, and must not be missed.
        mosquitto.publish(&topic("sd-2"), r#"{"smoke":1}"#, &["-q", "0", "-r"]).await;
        let gateway = house.open().await;
        let missed = gateway.hazard("sd-2/smoke", "smoke-fire", |fire| fire["phase"] == "active").await;
        assert_eq!(missed["late"], true, "{missed}");
        // What is live and will be kept is live.
        mosquitto.publish(&topic("sd-2"), r#"{"smoke":0}"#, &["-q", "1", "-r"]).await;
        gateway.hazard("sd-2/smoke", "smoke-fire", |fire| fire["phase"] == "returned").await;
        gateway.stop().await;
        let (entries, _) = house.journal().await;
        let raised = entries.iter().flat_map(|entry| &entry.transitions);
        let raised = raised.filter(|moved| moved.change == Change::Raised);
        let raised: Vec<&str> = raised.map(|moved| moved.hazard.point.as_str()).collect();
        assert_eq!(raised, ["sd-1/smoke", "sd-2/smoke"], "MQTT level {protocol}");
        assert_eq!(numbers_of(&entries, "sd-1/battery"), [80.0], "one reading, not one for each connection");
    }
}
