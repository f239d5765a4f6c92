//! The way from the gateway to a broker of somebody else's.

use super::{WRONG_BYTES_UNDER_TLS, here, one_by_one, witness};
use crate::mqtt::rig::Rig;
use crate::support::certificates::{Authority, GOOD};
use crate::support::fault_proxy::{Fault, FaultProxy, SLOW_NETWORK, WAYS, WRONG_BYTES, Way};
use crate::support::gateway::{Gateway, House, topic};
use crate::support::mosquitto::{Mosquitto, Peer};
use crate::support::ports::{free_port, soon, until};
use crate::support::witness::{Testimony, Witness, devices};
use fengsui::model::LinkChange;
use fengsui::sources::Arrival;
use fengsui::sources::mqtt::Protocol;
use serde_json::Value;

/// The gateway's name at the broker.
const US: &str = "box-7";

const OPEN: &str = "allow_anonymous true\nmax_queued_messages 0\n";

fn house(url: &str, level: u8, more: &str) -> House {
    let link = format!(
        "[[mqtt]]\nname = \"hall\"\nurl = \"{url}\"\nclient_id = \"{US}\"\nprotocol = {level}\n{more}"
    );
    House::build(&link, &devices("hall"))
}

async fn link_is_up(gateway: &Gateway) {
    let up = |health: &Value| health["links"].as_array().unwrap().iter().any(|link| link["up"] == true);
    gateway.wait("the link is up", "/api/v1/health", up).await;
}

/// All that was sent before this has arrived when this has.
async fn all_has_arrived(gateway: &Gateway, mosquitto: &Mosquitto, witness: Witness) -> Testimony {
    let testimony = witness.end().await;
    mosquitto.publish(&topic("writer"), r#"{"battery":55}"#, &["-q", "1"]).await;
    gateway.last("writer/battery", |last| last["value"] == 55.0).await;
    testimony
}

async fn a_bad_way_to_a_broker(level: u8) {
    let mosquitto = Mosquitto::with(OPEN).await;
    let proxy = FaultProxy::to(here(mosquitto.port), u64::from(level)).await;
    let house = house(&format!("mqtt://127.0.0.1:{}", proxy.port()), level, "");
    let gateway = house.open().await;
    link_is_up(&gateway).await;
    let witness = witness(here(mosquitto.port));
    witness.progress().await;
    proxy.set_both(&SLOW_NETWORK, 3);
    until("it is slow", || proxy.did_all(&SLOW_NETWORK, 3)).await;
    // With each the pause before the next attempt doubles, so each version has two of the four.
    let [here, there] = if level == 4 { WAYS } else { [Way::Down, Way::Up] };
    let cuts = [(here, Fault::Cut), (there, Fault::CutAmid)];
    one_by_one(&proxy, &cuts, || witness.count()).await;
    proxy.calm();
    link_is_up(&gateway).await;
    let testimony = all_has_arrived(&gateway, &mosquitto, witness).await;
    assert!(proxy.connections() >= 3 && proxy.did_all(&SLOW_NETWORK, 1), "{}", proxy.account());
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    println!("MQTT level {level}: {} acknowledged; {}", testimony.acknowledged(), proxy.account());
}

#[tokio::test]
async fn a_way_to_a_broker_that_cuts_halves_and_delays_loses_and_repeats_nothing() {
    tokio::join!(a_bad_way_to_a_broker(4), a_bad_way_to_a_broker(5));
}

/// Under TLS no wrong byte passes for a right one: it is one more broken connection.
#[tokio::test]
async fn under_tls_wrong_bytes_on_the_way_to_a_broker_break_the_connection_and_nothing_else() {
    let authority = Authority::new();
    let plain = free_port();
    let lines = format!(
        "{}max_queued_messages 0\nlistener {plain} 127.0.0.1\n",
        authority.issue("localhost", GOOD).listener()
    );
    let mosquitto = Mosquitto::with(&lines).await;
    let proxy = FaultProxy::to(here(mosquitto.port), 8).await;
    let url = format!("mqtts://localhost:{}", proxy.port());
    let house = house(&url, 5, &format!("ca_file = \"{}\"\n", authority.certificate().display()));
    let gateway = house.open().await;
    link_is_up(&gateway).await;
    let witness = witness(here(plain));
    witness.progress().await;
    let [half, twice, flipped, _] = WRONG_BYTES_UNDER_TLS;
    let wrong = [(Way::Up, flipped), (Way::Down, twice), (Way::Down, flipped), (Way::Up, half)];
    one_by_one(&proxy, &wrong, || witness.count()).await;
    proxy.calm();
    link_is_up(&gateway).await;
    let testimony = witness.end().await;
    let last = *testimony.temperatures().last().unwrap();
    gateway.last("writer/temperature", |at| at["value"].as_f64().map(f64::to_bits) == Some(last)).await;
    let strays = gateway.get("/api/v1/strays").await;
    assert_eq!(strays["strays"].as_array().unwrap().len(), 0, "a wrong byte was believed: {strays}");
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    println!("MQTT under TLS: {} acknowledged; {}", testimony.acknowledged(), proxy.account());
}

/// Nothing tells a wrong byte in the clear. What can be promised: nothing falls over, and once the bytes are right again
/// so is the link. What could not be read is kept.
#[tokio::test]
async fn wrong_bytes_in_the_clear_on_the_way_to_a_broker_bring_nothing_down() {
    let mosquitto = Mosquitto::with(OPEN).await;
    let proxy = FaultProxy::to(here(mosquitto.port), 21).await;
    let house = house(&format!("mqtt://127.0.0.1:{}", proxy.port()), 4, "");
    let gateway = house.open().await;
    link_is_up(&gateway).await;
    let witness = witness(here(mosquitto.port));
    witness.progress().await;
    for way in WAYS {
        proxy.set(way, &WRONG_BYTES, 3);
        // A swallowed or an unfinished packet is followed by silence until a ping is missed: not waited for here.
        let connections = proxy.connections();
        until("bytes are wrong", || proxy.did_something(way) >= 2).await;
        proxy.sever();
        until("it dials again", || proxy.connections() > connections).await;
        proxy.set(way, &[], 1);
    }
    // A filter or a name that was wrong on the way up stays wrong as long as that connection lives.
    proxy.sever();
    let testimony = witness.end().await;
    assert!(testimony.acknowledged() > 0);
    mosquitto.publish(&topic("fire-12"), r#"{"smoke":1}"#, &["-q", "1"]).await;
    gateway.hazard("fire-12/smoke", "smoke-fire", |fire| fire["phase"] == "active").await;
    link_is_up(&gateway).await;
    gateway.stop().await;
    println!("MQTT in the clear, wrong bytes: {}", proxy.account());
}

/// The link's next change, whatever frames come before it. Nothing of them is acknowledged.
async fn told(rig: &mut Rig) -> LinkChange {
    loop {
        if let Arrival::Link(change) = soon("a link change", rig.intake.recv()).await.unwrap() {
            return change;
        }
    }
}

async fn wrong_bytes_and_stalls(protocol: Protocol) {
    let mosquitto = Mosquitto::with(OPEN).await;
    let proxy = FaultProxy::to(here(mosquitto.port), 5).await;
    // Its keep-alive is a second.
    let mut rig = Rig::new(protocol, proxy.port());
    assert!(told(&mut rig).await.up);
    let mut publisher = Peer::publisher(mosquitto.port, &["-t", "site/a/up", "-q", "1", "-l"]);
    publisher.feed((0..200).map(|n| format!("{n}\n")).collect::<String>().as_bytes());
    assert_eq!(publisher.ended().await, 0);
    let mut downs = 0;
    for (way, fault) in [(Way::Down, Fault::Stall), (Way::Up, Fault::Stall)] {
        let before = proxy.did(way, fault);
        proxy.set(way, &[fault], 1);
        let down = told(&mut rig).await;
        assert!(!down.up && !down.reason.en.is_empty(), "{protocol:?}: {way:?} {fault:?}: {down:?}");
        assert!(proxy.did(way, fault) > before, "{protocol:?}: {way:?} {fault:?} did not happen");
        downs += 1;
        proxy.calm();
        // An attempt that was under way may have met the fault as well.
        while !told(&mut rig).await.up {
            downs += 1;
        }
    }
    let log = mosquitto.log();
    assert_eq!(log.matches("Received PUBACK from gateway-under-test").count(), 0, "nobody told it to");
    assert!(rig.metrics.mqtt_connects.get() > 2 && downs >= 2, "{}", proxy.account());
    rig.stop().await;
}

/// Half-open in one direction or in both, with bytes missing: the link is told as down and as up again, by pings, and
/// what the pipeline never took is never acknowledged.
#[tokio::test]
async fn a_stalled_way_to_a_broker_is_told_found_again_and_acknowledges_nothing_by_itself() {
    tokio::join!(wrong_bytes_and_stalls(Protocol::V3_1_1), wrong_bytes_and_stalls(Protocol::V5));
}
