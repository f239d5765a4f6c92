//! Tests of: the MQTT client and a broker that dies, hangs, refuses, or is none.

use super::rig::{Rig, Scripted, settings, text};
use crate::support::mosquitto::Mosquitto;
use crate::support::ports::{free_port, soon, until};
use fengsui::sources::Arrival;
use fengsui::sources::mqtt::{MqttSettings, Password, Protocol};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

in_both! {
    a_killed_broker_is_found_again_and_nothing_acknowledged_is_lost,
    a_half_open_connection_is_noticed_by_its_missing_pings,
    a_wrong_password_gives_a_reason_that_says_what_to_check,
    a_client_with_our_id_is_named_and_there_is_no_hot_loop,
}

async fn a_killed_broker_is_found_again_and_nothing_acknowledged_is_lost(protocol: Protocol) {
    let mut broker = Mosquitto::persistent().await;
    let mut rig = Rig::new(protocol, broker.port);
    rig.up().await;
    let mut kept = BTreeSet::new();
    for round in 0..3 {
        for n in 0..20 {
            let payload = format!("{round}-{n}");
            // The publisher remembers: it sends until the broker has said yes.
            broker.publish("site/a/up", &payload, &["-q", "1"]).await;
            let frame = rig.any_frame().await;
            kept.insert(text(&frame));
            rig.acknowledge(&frame).await;
        }
        broker.kill();
        rig.down().await;
        broker.run().await;
        // Repetitions of what was acknowledged too late may come before the link is up.
        loop {
            match soon("the link is up", rig.intake.recv()).await.unwrap() {
                Arrival::Link(change) if change.up => break,
                Arrival::Link(_) | Arrival::Ordered { .. } => {}
                Arrival::Frame(frame) => rig.acknowledge(&frame).await,
            }
        }
    }
    assert_eq!(kept.len(), 60);
    assert_eq!(rig.metrics.mqtt_connects.get(), 4);
}

async fn a_half_open_connection_is_noticed_by_its_missing_pings(protocol: Protocol) {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(protocol, broker.port);
    rig.up().await;
    broker.freeze();
    let reason = rig.down().await;
    assert!(reason.contains("half-open"), "{reason}");
    broker.thaw();
    rig.up().await;
}

async fn a_wrong_password_gives_a_reason_that_says_what_to_check(protocol: Protocol) {
    let broker = Mosquitto::with("allow_anonymous false\n").await;
    let mut settings = settings(protocol, broker.port);
    settings.user = Some(("hall".to_owned(), Password::Fixed("wrong-secret".to_owned())));
    let mut rig = Rig::with(settings, 10);
    let reason = rig.down().await;
    assert!(reason.contains("refused user \"hall\"") && reason.contains("password"), "{reason}");
    assert!(!reason.contains("wrong-secret"));
}

async fn a_client_with_our_id_is_named_and_there_is_no_hot_loop(protocol: Protocol) {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(protocol, broker.port);
    rig.up().await;
    // Another gateway, set up by copying: it takes the session, we take it back, and so on.
    let begun = tokio::time::Instant::now();
    let mut other = Rig::new(protocol, broker.port);
    other.up().await;
    let reason = rig.down().await;
    assert!(reason.contains("another client uses the id \"gateway-under-test\""), "{reason}");
    until("they have thrown each other out some times", || rig.metrics.mqtt_connects.get() >= 4).await;
    // Three returns: pauses of at least half of 250, 500 and 1000 ms lie between them.
    assert!(begun.elapsed() >= Duration::from_millis(870), "{:?}", begun.elapsed());
    other.stop().await;
    rig.any_up().await;
}

#[tokio::test]
async fn a_refused_topic_is_a_link_that_is_down() {
    // Mosquitto 2 grants what its access list forbids and filters the messages, so a broker of our own refuses here.
    let mut refusing = Scripted::listen().await;
    let mut rig = Rig::new(Protocol::V3_1_1, refusing.port);
    refusing.greet(&[0x90, 3, 0, 1, 0x80]).await;
    let reason = rig.down().await;
    assert!(reason.contains("site/#") && reason.contains("access list"), "{reason}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_said_and_do_not_panic() {
    for (break_it, expected) in [
        ((|s| s.client_id.clear()) as fn(&mut MqttSettings), "client id is empty"),
        (|s| s.keep_alive = Duration::ZERO, "keep-alive"),
        (|s| s.filters.push("a/#/b".to_owned()), "a/#/b"),
        (|s| s.will_topic = Some("a/+".to_owned()), "a/+"),
    ] {
        let mut settings = settings(Protocol::V3_1_1, free_port());
        break_it(&mut settings);
        let mut rig = Rig::with(settings, 10);
        let reason = rig.down().await;
        assert!(reason.contains(expected), "{reason}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_broker_that_never_acknowledges_our_own_messages_does_not_hold_our_acknowledgements() {
    let mut broker = Scripted::listen().await;
    let mut with_status = settings(Protocol::V3_1_1, broker.port);
    with_status.will_topic = Some("gateway/state".to_owned());
    let mut rig = Rig::with(with_status, 10);
    broker.greet(&[0x90, 3, 0, 1, 1]).await;
    rig.up().await;
    for id in 1..=100_u8 {
        broker.send(&[0x32, 9, 0, 4, b's', b'i', b't', b'e', 0, id, b'x']).await;
    }
    let mut deliveries = Vec::new();
    for _ in 1..=100 {
        deliveries.push(rig.frame().await.delivery.unwrap());
    }
    // In another order, in one batch, as the pipeline may give them back.
    deliveries.reverse();
    rig.acks.send(deliveries).await.unwrap();
    let pubacks: Vec<u8> = (1..=100_u8).rev().flat_map(|id| [0x40, 2, 0, id]).collect();
    broker.expect(&pubacks).await;
}

#[tokio::test]
async fn garbage_and_silence_instead_of_a_broker_are_faults_with_growing_pauses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut rig = Rig::new(Protocol::V3_1_1, listener.local_addr().unwrap().port());
    let begun = tokio::time::Instant::now();
    for _ in 0..4 {
        let (mut stream, _) = soon("another attempt", listener.accept()).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    }
    // Pauses of at least half of 250, 500 and 1000 ms lie between four attempts.
    assert!(begun.elapsed() >= Duration::from_millis(870), "{:?}", begun.elapsed());
    assert!(rig.down().await.contains("127.0.0.1"));
    assert_eq!(rig.metrics.mqtt_connects.get(), 0);
}

#[tokio::test]
async fn a_packet_larger_than_can_be_read_is_a_fault_with_pauses_and_not_a_hot_loop() {
    let mut broker = Scripted::listen().await;
    let mut rig = Rig::new(Protocol::V3_1_1, broker.port);
    let begun = tokio::time::Instant::now();
    for _ in 0..4 {
        broker.greet(&[0x90, 3, 0, 1, 1]).await;
        // A PUBLISH that announces 100 MB, and its beginning.
        broker.send(&[0x32, 0x80, 0xc2, 0xd7, 0x2f, 0, 4, b's', b'i', b't', b'e', 0, 1, b'x']).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(870), "{:?}", begun.elapsed());
    rig.up().await;
    let reason = rig.down().await;
    assert!(reason.contains("100000000 bytes"), "{reason}");
}

#[tokio::test]
async fn a_port_that_wants_tls_says_so() {
    let mut broker = Scripted::listen().await;
    let mut rig = Rig::new(Protocol::V3_1_1, broker.port);
    // A TLS alert (protocol version), as OpenSSL answers a CONNECT.
    broker.answer(&[0x15, 3, 1, 0, 2, 2, 0x46]).await;
    let reason = rig.down().await;
    assert!(reason.contains("mqtts://"), "{reason}");
}

#[tokio::test]
async fn a_name_without_an_address_is_told_as_such() {
    let mut settings = settings(Protocol::V3_1_1, free_port());
    settings.host = "broker.invalid".to_owned();
    let mut rig = Rig::with(settings, 10);
    let reason = rig.down().await;
    assert!(reason.contains("broker.invalid has no address") && reason.contains("DNS"), "{reason}");
}
