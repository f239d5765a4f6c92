//! Tests of: the MQTT client source, against a real mosquitto.

use crate::support::mosquitto::{Mosquitto, Peer};
use crate::support::ports::{free_port, soon, until};
use fengsui::clock::Clock;
use fengsui::metrics::Metrics;
use fengsui::model::{Body, Delivery, Frame, LinkChange, LinkId, SourceIndex};
use fengsui::sources::Arrival;
use fengsui::sources::mqtt::{HELD_MAX, MqttSettings, SAMPLE_BYTES, TlsSettings, run};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The client under test with a pipeline that is played by the test.
struct Rig {
    intake: mpsc::Receiver<Arrival>,
    acks: mpsc::Sender<Vec<Delivery>>,
    metrics: Metrics,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Rig {
    fn new(port: u16) -> Self {
        Self::with(settings(port), 1000)
    }

    fn with(settings: MqttSettings, room: usize) -> Self {
        let (to_pipeline, intake) = mpsc::channel(room);
        let (acks, from_pipeline) = mpsc::channel(100);
        let metrics = Metrics::new();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(run(
            settings,
            SourceIndex(0),
            to_pipeline,
            from_pipeline,
            Clock::system(),
            metrics.clone(),
            cancel.clone(),
        ));
        Self { intake, acks, metrics, cancel, task }
    }

    async fn link(&mut self) -> LinkChange {
        match soon("a link change", self.intake.recv()).await.unwrap() {
            Arrival::Link(change) => change,
            other => panic!("no link change: {other:?}"),
        }
    }

    async fn up(&mut self) {
        let change = self.link().await;
        assert!(change.up, "{}", change.reason.en);
    }

    async fn down(&mut self) -> String {
        let change = self.link().await;
        assert!(!change.up, "{}", change.reason.en);
        let chinese = change.reason.zh.chars().any(|c| ('一'..='鿿').contains(&c));
        assert!(chinese, "the screen is Chinese: {:?}", change.reason);
        change.reason.en.to_string()
    }

    async fn frame(&mut self) -> Frame {
        match soon("a frame", self.intake.recv()).await.unwrap() {
            Arrival::Frame(frame) => frame,
            other => panic!("no frame: {other:?}"),
        }
    }

    /// The next frame, whatever is said of the link in between.
    async fn any_frame(&mut self) -> Frame {
        loop {
            if let Arrival::Frame(frame) = soon("a frame", self.intake.recv()).await.unwrap() {
                return frame;
            }
        }
    }

    async fn acknowledge(&self, frame: &Frame) {
        self.acks.send(vec![frame.delivery.unwrap()]).await.unwrap();
    }

    async fn stop(self) -> mpsc::Receiver<Arrival> {
        self.cancel.cancel();
        soon("the source ends", self.task).await.unwrap();
        self.intake
    }
}

fn settings(port: u16) -> MqttSettings {
    let mut settings =
        MqttSettings::new(LinkId::parse("hall").unwrap(), "127.0.0.1", port, "gateway-under-test");
    settings.filters = vec!["site/#".to_owned()];
    settings.keep_alive = Duration::from_secs(1);
    settings
}

fn text(frame: &Frame) -> String {
    match &frame.body {
        Body::Message { payload, .. } => String::from_utf8_lossy(payload).into_owned(),
        Body::Registers { .. } => panic!("registers from MQTT"),
    }
}

#[tokio::test]
async fn a_message_arrives_with_its_topic_and_is_acknowledged_only_when_given_back() {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(broker.port);
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

#[tokio::test]
async fn quality_of_service_0_needs_no_acknowledgement() {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(broker.port);
    rig.up().await;
    broker.publish("site/a/up", "1", &["-q", "0"]).await;
    assert!(rig.frame().await.delivery.is_none());
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_a_reconnect_and_the_rest_does_not() {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(broker.port);
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
    let mut again = Rig::new(broker.port);
    for expected in ["2", "3"] {
        let frame = again.any_frame().await;
        assert_eq!(text(&frame), expected);
        assert!(frame.delivery.unwrap().duplicate);
    }
    broker.publish("site/a/up", "4", &["-q", "1"]).await;
    assert_eq!(text(&again.any_frame().await), "4", "nothing came twice");
}

#[tokio::test]
async fn an_acknowledgement_for_an_older_connection_is_dropped_and_counted() {
    let mut broker = Mosquitto::persistent().await;
    let mut rig = Rig::new(broker.port);
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

#[tokio::test]
async fn a_broker_that_lost_the_session_is_subscribed_again() {
    let mut broker = Mosquitto::start().await;
    let mut rig = Rig::new(broker.port);
    rig.up().await;
    broker.kill();
    assert!(rig.down().await.contains(&broker.port.to_string()));
    broker.run().await;
    rig.up().await;
    broker.publish("site/a/up", "after", &["-q", "1"]).await;
    assert_eq!(text(&rig.frame().await), "after");
    assert_eq!(rig.metrics.mqtt_connects.get(), 2);
}

#[tokio::test]
async fn a_message_of_20_kb_is_handed_on_whole_and_one_of_10_mb_as_a_sample() {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(broker.port);
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

#[tokio::test]
async fn a_full_intake_holds_back_keeps_the_connection_and_loses_nothing() {
    // A broker that sends without limit: the worst case for our own queue.
    let broker = Mosquitto::with(
        "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\nmax_keepalive 65535\n",
    )
    .await;
    let mut settings = settings(broker.port);
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

#[tokio::test]
async fn a_killed_broker_is_found_again_and_nothing_acknowledged_is_lost() {
    let mut broker = Mosquitto::persistent().await;
    let mut rig = Rig::new(broker.port);
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

#[tokio::test]
async fn a_half_open_connection_is_noticed_by_its_missing_pings() {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::new(broker.port);
    rig.up().await;
    broker.freeze();
    let reason = rig.down().await;
    assert!(reason.contains("half-open"), "{reason}");
    broker.thaw();
    rig.up().await;
}

#[tokio::test]
async fn the_status_is_online_then_the_last_will_says_offline() {
    let broker = Mosquitto::start().await;
    let mut with_will = settings(broker.port);
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

#[tokio::test]
async fn a_retained_message_is_marked_and_comes_again_with_every_connection() {
    let mut broker = Mosquitto::persistent().await;
    broker.publish("site/a/up", "kept", &["-q", "1", "-r"]).await;
    let mut rig = Rig::new(broker.port);
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

#[tokio::test]
async fn a_wrong_password_gives_a_reason_that_says_what_to_check() {
    let broker = Mosquitto::with("allow_anonymous false\n").await;
    let mut settings = settings(broker.port);
    settings.user = Some(("hall".to_owned(), "wrong-secret".to_owned()));
    let mut rig = Rig::with(settings, 10);
    let reason = rig.down().await;
    assert!(reason.contains("refused user \"hall\"") && reason.contains("password"), "{reason}");
    assert!(!reason.contains("wrong-secret"));
}

#[tokio::test]
async fn a_refused_topic_is_a_link_that_is_down() {
    // Mosquitto 2 grants what its access list forbids and filters the messages, so a broker of our own refuses here.
    let mut refusing = Scripted::listen().await;
    let mut rig = Rig::new(refusing.port);
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
        let mut settings = settings(free_port());
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
    let mut with_status = settings(broker.port);
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
    let mut rig = Rig::new(listener.local_addr().unwrap().port());
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
async fn an_orderly_stop_hands_over_acknowledges_and_leaves_the_rest_at_the_broker() {
    let broker = Mosquitto::start().await;
    let mut rig = Rig::with(settings(broker.port), 1);
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
    let mut again = Rig::new(broker.port);
    let frame = again.any_frame().await;
    assert_eq!(text(&frame), "3");
    assert!(frame.delivery.unwrap().duplicate);
}

#[tokio::test]
async fn a_packet_larger_than_can_be_read_is_a_fault_with_pauses_and_not_a_hot_loop() {
    let mut broker = Scripted::listen().await;
    let mut rig = Rig::new(broker.port);
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
async fn a_broker_with_tls_is_checked_against_the_named_authority() {
    let broker = Mosquitto::tls().await;
    let mut trusting = settings(broker.port);
    trusting.host = "localhost".to_owned();
    let mut doubting = trusting.clone();
    doubting.client_id = "another".to_owned();
    trusting.tls = Some(TlsSettings { ca: Some(broker.authority()) });
    doubting.tls = Some(TlsSettings { ca: Some(Mosquitto::tls().await.authority()) });
    let mut rig = Rig::with(trusting, 10);
    rig.up().await;
    let mut refusing = Rig::with(doubting, 10);
    let reason = refusing.down().await;
    assert!(reason.contains("TLS failed"), "{reason}");
    assert_eq!(refusing.metrics.mqtt_connects.get(), 0);
}

/// A broker that does exactly what the test says.
struct Scripted {
    listener: TcpListener,
    stream: Option<TcpStream>,
    port: u16,
    status_seen: bool,
}

impl Scripted {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, stream: None, port, status_seen: false }
    }

    /// Takes the connection, its CONNECT and SUBSCRIBE (and status), and answers the subscription as told.
    async fn greet(&mut self, suback: &[u8]) {
        let (stream, _) = soon("the client connects", self.listener.accept()).await.unwrap();
        self.stream = Some(stream);
        assert_eq!(self.packet().await[0] >> 4, 1, "CONNECT");
        self.send(&[0x20, 2, 0, 0]).await;
        assert_eq!(self.packet().await[0] >> 4, 8, "SUBSCRIBE");
        self.send(suback).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.as_mut().unwrap().write_all(bytes).await.unwrap();
    }

    /// One short packet.
    async fn packet(&mut self) -> Vec<u8> {
        let stream = self.stream.as_mut().unwrap();
        let mut packet = vec![0; 2];
        soon("a packet", stream.read_exact(&mut packet)).await.unwrap();
        packet.resize(2 + usize::from(packet[1]), 0);
        soon("its rest", stream.read_exact(&mut packet[2..])).await.unwrap();
        packet
    }

    /// The next bytes, after the status message and pings.
    async fn expect(&mut self, expected: &[u8]) {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let packet = self.packet().await;
            match packet[0] >> 4 {
                3 => self.status_seen = true,
                12 => self.send(&[0xd0, 0]).await,
                _ => seen.extend(packet),
            }
        }
        assert_eq!(seen, expected);
        assert!(self.status_seen);
    }
}
