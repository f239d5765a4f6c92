//! Tests of: what only MQTT 5 says, and what becomes of it on the page.

use super::rig::{Rig, Scripted, settings, text};
use crate::support::mosquitto::{Mosquitto, Peer};
use crate::support::ports::until;
use fengsui::sources::mqtt::{Protocol, WIRE_BYTES_MAX};

/// CONNACK without properties, and SUBACK with QoS 1 for one topic.
const WELCOME: [u8; 5] = [0x20, 3, 0, 0, 0];
const GRANTED: [u8; 6] = [0x90, 4, 0, 1, 0, 1];

#[tokio::test]
async fn connect_asks_for_a_lasting_session_our_window_and_no_aliases() {
    let mut broker = Scripted::listen().await;
    let mut wide = settings(Protocol::V5, broker.port);
    wide.inflight_window = 300;
    let _rig = Rig::with(wide, 10);
    let connect = broker.answer(&WELCOME).await;
    assert_eq!(connect[8], 5, "the protocol level");
    assert_eq!(connect[9] & 2, 0, "clean start");
    let properties = &connect[13..13 + usize::from(connect[12])];
    let holds = |property: &[u8]| properties.windows(property.len()).any(|window| window == property);
    assert!(holds(&[0x11, 0xff, 0xff, 0xff, 0xff]), "the session never ends: {properties:?}");
    assert!(holds(&[0x21, 1, 44]), "receive maximum 300: {properties:?}");
    assert!(holds(&[0x22, 0, 0]), "topic alias maximum 0: {properties:?}");
    let subscribe = broker.packet().await;
    // QoS 1; retained messages at every subscription; the flag only for what was kept.
    assert_eq!((subscribe[0] >> 4, *subscribe.last().unwrap()), (8, 0b0000_0001));
}

#[tokio::test]
async fn the_broker_sends_no_more_than_our_window_whatever_its_own_is() {
    let broker =
        Mosquitto::with("allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n").await;
    let mut narrow = settings(Protocol::V5, broker.port);
    narrow.inflight_window = 7;
    let mut rig = Rig::with(narrow, 1000);
    rig.up().await;
    let mut publisher = Peer::publisher(broker.port, &["-t", "site/a/up", "-q", "1", "-l"]);
    publisher.feed((0..50).map(|n| format!("{n}\n")).collect::<String>().as_bytes());
    assert_eq!(publisher.ended().await, 0);
    let sent = || broker.log().matches("Sending PUBLISH to gateway-under-test").count();
    let mut frames = Vec::new();
    for _ in 0..7 {
        frames.push(rig.frame().await);
    }
    assert_eq!(sent(), 7);
    for n in 0..50 {
        let frame = frames.remove(0);
        assert_eq!(text(&frame), n.to_string());
        rig.acknowledge(&frame).await;
        if n + 7 < 50 {
            frames.push(rig.frame().await);
        }
    }
    until("every PUBACK", || broker.log().matches("Received PUBACK from gateway-under-test").count() == 50)
        .await;
}

#[tokio::test]
async fn the_brokers_own_words_are_told() {
    for (answer, expected) in [
        // Not authorized, with a reason string.
        (
            vec![0x20, 11, 0, 0x87, 8, 0x1f, 0, 5, b'g', b'u', b'e', b's', b't'],
            "refused user \"(none)\": check user, password and its access list (guest)",
        ),
        // Server busy, without.
        (vec![0x20, 3, 0, 0x89, 0], "it is busy"),
        (vec![0x20, 3, 0, 0x9a, 0], "last will"),
        // An older broker answers in its own way.
        (vec![0x20, 2, 0, 1], "does not speak MQTT 5: write protocol = 4"),
        (vec![0x20, 3, 0, 0x84, 0], "does not speak MQTT 5: try protocol = 4"),
        (vec![0xe0, 1, 0x89], "busy"),
    ] {
        let mut broker = Scripted::listen().await;
        let mut rig = Rig::new(Protocol::V5, broker.port);
        broker.answer(&answer).await;
        let reason = rig.down().await;
        assert!(reason.contains(expected), "{answer:?}: {reason}");
    }
}

#[tokio::test]
async fn a_broker_that_hangs_up_says_why_with_and_without_words() {
    for (goodbye, expected) in [
        (vec![0xe0, 1, 0x8e], "another client uses the id"),
        (vec![0xe0, 2, 0x8b, 0], "shutting down"),
        (
            vec![0xe0, 8, 0x98, 6, 0x1f, 0, 3, b'b', b'y', b'e'],
            "whoever runs the broker closed the connection (bye)",
        ),
        (vec![0xe0, 0], "closed the connection"),
    ] {
        let mut broker = Scripted::listen().await;
        let mut rig = Rig::new(Protocol::V5, broker.port);
        broker.answer(&WELCOME).await;
        broker.packet().await;
        broker.send(&GRANTED).await;
        rig.up().await;
        broker.send(&goodbye).await;
        let reason = rig.down().await;
        assert!(reason.contains(expected), "{goodbye:?}: {reason}");
    }
}

#[tokio::test]
async fn a_broker_without_retained_messages_gets_none_from_us() {
    let mut broker = Scripted::listen().await;
    let mut with_status = settings(Protocol::V5, broker.port);
    with_status.will_topic = Some("gateway/state".to_owned());
    let mut rig = Rig::with(with_status, 10);
    broker.answer(&[0x20, 5, 0, 0, 2, 0x25, 0]).await;
    assert_eq!(broker.packet().await[0] >> 4, 8, "SUBSCRIBE");
    assert_eq!(broker.packet().await[0], 0x30, "PUBLISH with QoS 0 and without retain");
    broker.send(&GRANTED).await;
    rig.up().await;
}

#[tokio::test]
async fn topics_with_qos_0_only_are_an_honest_link() {
    let mut broker = Scripted::listen().await;
    let mut rig = Rig::new(Protocol::V5, broker.port);
    broker.answer(&WELCOME).await;
    broker.packet().await;
    broker.send(&[0x90, 4, 0, 1, 0, 0]).await;
    let change = rig.link().await;
    assert!(change.up && change.reason.en.contains("QoS 0 only"), "{:?}", change.reason);
}

#[tokio::test]
async fn what_is_no_packet_ends_the_connection_and_not_the_gateway() {
    for bad in [
        // A topic alias that we never allowed, a length without an end, a property of nothing, a topic beyond the packet.
        vec![0x30, 6, 0, 0, 3, 0x23, 0, 1],
        vec![0x30, 0xff, 0xff, 0xff, 0xff, 1],
        vec![0x30, 6, 0, 1, b'a', 2, 0x7f, 0],
        vec![0x30, 3, 0, 9, b'a'],
        vec![0x32, 5, 0, 1, b'a', 0, 0],
    ] {
        let mut broker = Scripted::listen().await;
        let mut rig = Rig::new(Protocol::V5, broker.port);
        broker.answer(&WELCOME).await;
        broker.packet().await;
        broker.send(&GRANTED).await;
        rig.up().await;
        broker.send(&bad).await;
        let reason = rig.down().await;
        assert!(reason.contains("no MQTT 5"), "{bad:?}: {reason}");
        broker.answer(&WELCOME).await;
    }
}

#[tokio::test]
async fn what_is_too_large_for_us_never_comes_and_the_link_lives() {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(Protocol::V5, broker.port);
    rig.up().await;
    let mut publisher = Peer::publisher(broker.port, &["-t", "site/a/up", "-q", "1", "-s"]);
    publisher.feed(&vec![b'x'; WIRE_BYTES_MAX + 1]);
    assert_eq!(publisher.ended().await, 0);
    broker.publish("site/a/up", "next", &["-q", "1"]).await;
    assert_eq!(text(&rig.frame().await), "next");
    assert_eq!(rig.metrics.mqtt_connects.get(), 1, "the connection never broke");
}
