//! Tests of: the MQTT client source, against a real mosquitto, in both versions of the protocol.

/// Each story is told in MQTT 3.1.1 and in MQTT 5.
macro_rules! in_both {
    ($($story:ident),* $(,)?) => {
        mod v3_1_1 {
            $(#[tokio::test] async fn $story() { super::$story(super::Protocol::V3_1_1).await; })*
        }
        mod v5 {
            $(#[tokio::test] async fn $story() { super::$story(super::Protocol::V5).await; })*
        }
    };
}

pub(crate) mod rig;
mod faults;
mod version_5;
mod tls;
mod rotation;

use crate::support::mosquitto::{Mosquitto, Peer};
use crate::support::ports::{soon, until};
use fengsui::model::Body;
use fengsui::sources::mqtt::{HELD_MAX, Protocol, SAMPLE_BYTES};
use rig::{Rig, settings, text};
use std::time::Duration;

in_both! {
    a_message_arrives_with_its_topic_and_is_acknowledged_only_when_given_back,
    quality_of_service_0_needs_no_acknowledgement,
    what_was_not_acknowledged_comes_again_after_a_reconnect_and_the_rest_does_not,
    an_acknowledgement_for_an_older_connection_is_dropped_and_counted,
    a_broker_that_lost_the_session_is_subscribed_again,
    a_message_of_20_kb_is_handed_on_whole_and_one_of_10_mb_as_a_sample,
    a_full_intake_holds_back_keeps_the_connection_and_loses_nothing,
    the_status_is_online_then_the_last_will_says_offline,
    a_retained_message_is_marked_and_comes_again_with_every_connection,
    an_orderly_stop_hands_over_acknowledges_and_leaves_the_rest_at_the_broker,
}

async fn a_message_arrives_with_its_topic_and_is_acknowledged_only_when_given_back(protocol: Protocol) {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(protocol, broker.port);
    rig.up().await;
    broker.publish("site/a/up", r#"{"smoke":1}"#, &["-q", "1"]).await;
    let frame = rig.frame().await;
    let Body::Message { topic, .. } = &frame.body else { panic!() };
    assert_eq!((&**topic, text(&frame).as_str()), ("site/a/up", r#"{"smoke":1}"#));
    assert_eq!(frame.link.as_str(), "hall");
    assert!(!frame.retained && !frame.delivery.unwrap().duplicate);
    assert!(!broker.log().contains("Received PUBACK from gateway-under-test"));
    rig.acknowledge(&frame).await;
    until("the PUBACK at the broker", || broker.log().contains("Received PUBACK from gateway-under-test"))
        .await;
}

async fn quality_of_service_0_needs_no_acknowledgement(protocol: Protocol) {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(protocol, broker.port);
    rig.up().await;
    broker.publish("site/a/up", "1", &["-q", "0"]).await;
    assert!(rig.frame().await.delivery.is_none());
}

async fn what_was_not_acknowledged_comes_again_after_a_reconnect_and_the_rest_does_not(protocol: Protocol) {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(protocol, broker.port);
    rig.up().await;
    for n in ["1", "2", "3"] {
        broker.publish("site/a/up", n, &["-q", "1"]).await;
    }
    let first = rig.frame().await;
    rig.frame().await;
    rig.frame().await;
    rig.acknowledge(&first).await;
    until("one PUBACK", || broker.log().contains("Received PUBACK")).await;
    rig.stop().await;
    let mut again = Rig::new(protocol, broker.port);
    for expected in ["2", "3"] {
        let frame = again.any_frame().await;
        assert_eq!(text(&frame), expected);
        assert!(frame.delivery.unwrap().duplicate);
    }
    broker.publish("site/a/up", "4", &["-q", "1"]).await;
    assert_eq!(text(&again.any_frame().await), "4", "nothing came twice");
}

async fn an_acknowledgement_for_an_older_connection_is_dropped_and_counted(protocol: Protocol) {
    let mut broker = Mosquitto::persistent().await;
    let mut rig = Rig::new(protocol, broker.port);
    rig.up().await;
    broker.publish("site/a/up", "old", &["-q", "1"]).await;
    let old = rig.frame().await;
    broker.terminate();
    rig.down().await;
    broker.run().await;
    let again = rig.any_frame().await;
    assert_eq!(text(&again), "old");
    assert_ne!(again.delivery.unwrap().epoch, old.delivery.unwrap().epoch);
    rig.acknowledge(&old).await;
    until("the stale acknowledgement is counted", || rig.metrics.mqtt_stale_acks.get() == 1).await;
    assert!(!broker.log().contains("Received PUBACK"));
    rig.acknowledge(&again).await;
    until("the PUBACK", || broker.log().contains("Received PUBACK")).await;
    assert_eq!(rig.metrics.mqtt_stale_acks.get(), 1);
}

async fn a_broker_that_lost_the_session_is_subscribed_again(protocol: Protocol) {
    let mut broker = Mosquitto::start().await;
    let mut rig = Rig::new(protocol, broker.port);
    rig.up().await;
    broker.kill();
    assert!(rig.down().await.contains(&broker.port.to_string()));
    broker.run().await;
    rig.up().await;
    broker.publish("site/a/up", "after", &["-q", "1"]).await;
    assert_eq!(text(&rig.frame().await), "after");
    assert_eq!(rig.metrics.mqtt_connects.get(), 2);
}

async fn a_message_of_20_kb_is_handed_on_whole_and_one_of_10_mb_as_a_sample(protocol: Protocol) {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(protocol, broker.port);
    rig.up().await;
    for bytes in [20_000, 10_000_000] {
        let mut publisher = Peer::publisher(broker.port, &["-t", "site/a/up", "-q", "1", "-s"]);
        publisher.feed(&vec![b'x'; bytes]);
        assert_eq!(publisher.ended().await, 0);
        let frame = rig.frame().await;
        assert_eq!(text(&frame).len(), if bytes == 20_000 { bytes } else { SAMPLE_BYTES });
        rig.acknowledge(&frame).await;
    }
    broker.publish("site/a/up", "next", &["-q", "1"]).await;
    assert_eq!(text(&rig.frame().await), "next");
    assert_eq!(rig.metrics.mqtt_oversize.get(), 1);
    assert_eq!(rig.metrics.mqtt_connects.get(), 1, "the connection never broke");
}

async fn a_full_intake_holds_back_keeps_the_connection_and_loses_nothing(protocol: Protocol) {
    // A broker that sends without limit: the worst case for our own queue.
    let broker = Mosquitto::with(
        "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\nmax_keepalive 65535\n",
    )
    .await;
    let mut settings = settings(protocol, broker.port);
    settings.keep_alive = Duration::from_secs(1);
    let mut rig = Rig::with(settings, 2);
    rig.up().await;
    let count = HELD_MAX * 3;
    let mut publisher = Peer::publisher(broker.port, &["-t", "site/a/up", "-q", "1", "-l"]);
    let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
    publisher.feed(lines.as_bytes());
    assert_eq!(publisher.ended().await, 0);
    // The queue is full by now; the broker drops a client that is silent for 1.5 keep-alives. Three pings prove more.
    let pings = broker.log().matches("Received PINGREQ from gateway-under-test").count();
    until("pings go on while the intake is full", || {
        broker.log().matches("Received PINGREQ from gateway-under-test").count() >= pings + 4
    })
    .await;
    for expected in 0..count {
        let frame = rig.frame().await;
        assert_eq!(text(&frame), expected.to_string());
        rig.acknowledge(&frame).await;
    }
    assert_eq!(rig.metrics.mqtt_connects.get(), 1, "the connection never broke");
    until("every PUBACK arrived", || {
        broker.log().matches("Received PUBACK from gateway-under-test").count() == count
    })
    .await;
}

async fn the_status_is_online_then_the_last_will_says_offline(protocol: Protocol) {
    let broker = Mosquitto::start().await;
    let mut with_will = settings(protocol, broker.port);
    with_will.will_topic = Some("gateway/state".to_owned());
    let mut rig = Rig::with(with_will.clone(), 10);
    rig.up().await;
    let watcher = Peer::subscriber(broker.port, &["-t", "gateway/state", "-q", "1"]);
    until("online", || watcher.lines() == ["online"]).await;
    // As if the process were killed.
    rig.task.abort();
    until("the last will", || watcher.lines() == ["online", "offline"]).await;
    let mut rig = Rig::with(with_will, 10);
    rig.up().await;
    until("online again", || watcher.lines().len() == 3).await;
    rig.stop().await;
    until("an orderly farewell", || watcher.lines() == ["online", "offline", "online", "offline"]).await;
    let late = Peer::subscriber(broker.port, &["-t", "gateway/state", "-F", "%r %p"]);
    until("the status is retained", || late.lines() == ["1 offline"]).await;
}

async fn a_retained_message_is_marked_and_comes_again_with_every_connection(protocol: Protocol) {
    let mut broker = Mosquitto::persistent().await;
    broker.publish("site/a/up", "kept", &["-q", "1", "-r"]).await;
    let mut rig = Rig::new(protocol, broker.port);
    let frame = rig.any_frame().await;
    assert!(frame.retained);
    rig.acknowledge(&frame).await;
    until("the PUBACK", || broker.log().contains("Received PUBACK")).await;
    broker.publish("site/a/up", "live", &["-q", "1"]).await;
    let live = rig.any_frame().await;
    assert!(!live.retained);
    broker.terminate();
    broker.run().await;
    let frames = [rig.any_frame().await, rig.any_frame().await];
    assert!(frames.iter().any(|f| f.retained && text(f) == "kept"));
    assert!(frames.iter().any(|f| !f.retained && text(f) == "live" && f.delivery.unwrap().duplicate));
}

async fn an_orderly_stop_hands_over_acknowledges_and_leaves_the_rest_at_the_broker(protocol: Protocol) {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::with(settings(protocol, broker.port), 1);
    rig.up().await;
    for n in ["1", "2", "3"] {
        broker.publish("site/a/up", n, &["-q", "1"]).await;
    }
    until("all were sent to us", || {
        broker.log().matches("Sending PUBLISH to gateway-under-test").count() == 3
    })
    .await;
    rig.cancel.cancel();
    let (first, second, third) = (rig.frame().await, rig.frame().await, rig.frame().await);
    assert_eq!(text(&third), "3");
    rig.acks.send(vec![first.delivery.unwrap(), second.delivery.unwrap()]).await.unwrap();
    soon("the source ends", rig.task).await.unwrap();
    until("it said good-bye", || broker.log().contains("Received DISCONNECT from gateway-under-test")).await;
    assert_eq!(broker.log().matches("Received PUBACK from gateway-under-test").count(), 2);
    let mut again = Rig::new(protocol, broker.port);
    let frame = again.any_frame().await;
    assert_eq!(text(&frame), "3");
    assert!(frame.delivery.unwrap().duplicate);
}
