//! Tests of: the embedded broker, with mosquitto's publisher and subscriber and raw sockets.

mod config;
mod conformance;
mod limits;
mod tls;
mod users;

use crate::support::mosquitto::Peer;
use crate::support::ports::{soon, until};
use fengsui::clock::Clock;
use fengsui::metrics::Metrics;
use fengsui::model::{Body, Delivery, Frame, LinkId, SourceIndex};
use fengsui::sources::Arrival;
use fengsui::sources::broker::{Broker, BrokerError, BrokerSettings, Credentials, Rights, User};
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The broker under test with a pipeline that is played by the test.
struct Rig {
    broker: Broker,
    port: u16,
    intake: mpsc::Receiver<Arrival>,
    acks: mpsc::Sender<Vec<Delivery>>,
    metrics: Metrics,
    cancel: CancellationToken,
}

impl Rig {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut BrokerSettings)) -> Self {
        let (to_pipeline, intake) = mpsc::channel(1000);
        let (acks, from_pipeline) = mpsc::channel(100);
        let metrics = Metrics::new();
        let cancel = CancellationToken::new();
        let mut settings = settings("127.0.0.1:0");
        change(&mut settings);
        let broker = Broker::start(
            settings,
            SourceIndex(3),
            to_pipeline,
            from_pipeline,
            Clock::system(),
            metrics.clone(),
            cancel.clone(),
        )
        .await
        .unwrap();
        let port = broker.local_addr().or_else(|| broker.tls_addr()).unwrap().port();
        let mut rig = Self { port, broker, intake, acks, metrics, cancel };
        match soon("the link is up", rig.intake.recv()).await.unwrap() {
            Arrival::Link(change) if change.up => rig,
            other => panic!("{other:?}"),
        }
    }

    async fn frame(&mut self) -> Frame {
        match soon("a frame", self.intake.recv()).await.unwrap() {
            Arrival::Frame(frame) => frame,
            other => panic!("no frame: {other:?}"),
        }
    }

    async fn acknowledge(&self, frame: &Frame) {
        self.acks.send(vec![frame.delivery.unwrap()]).await.unwrap();
    }

    /// A publisher with QoS 1 whose message is acknowledged at once.
    async fn publish(&mut self, more: &[&str]) -> Frame {
        let mut publisher = self.publisher(more);
        let frame = self.frame().await;
        self.acknowledge(&frame).await;
        assert_eq!(publisher.ended().await, 0, "{:?}", publisher.lines());
        frame
    }

    fn publisher(&self, more: &[&str]) -> Peer {
        let mut arguments = vec!["-q", "1"];
        arguments.extend_from_slice(more);
        Peer::publisher(self.port, &arguments)
    }

    async fn socket(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }
}

fn settings(listen: &str) -> BrokerSettings {
    BrokerSettings::new(LinkId::parse("embedded").unwrap(), listen.parse().unwrap(), Credentials::Anonymous)
}

fn users() -> Credentials {
    let user = |password: &str, rights| User { password: password.to_owned(), rights };
    Credentials::Users(HashMap::from([
        ("smoke-1".to_owned(), user("secret", Rights::Device)),
        ("tool".to_owned(), user("tool-secret", Rights::Everything)),
    ]))
}

fn message(frame: &Frame) -> (String, String) {
    match &frame.body {
        Body::Message { topic, payload } => {
            (topic.to_string(), String::from_utf8_lossy(payload).into_owned())
        }
        other => panic!("{other:?} from MQTT"),
    }
}

/// A CONNECT of MQTT 3.1.1 with a clean session.
fn connect(client: &str, keep_alive: u8) -> Vec<u8> {
    let mut packet = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, keep_alive, 0];
    packet.push(u8::try_from(client.len()).unwrap());
    packet.extend_from_slice(client.as_bytes());
    packet[1] = u8::try_from(packet.len() - 2).unwrap();
    packet
}

/// A PUBLISH with QoS 1 and a payload of one byte.
fn publish(topic: &str, id: u8) -> Vec<u8> {
    let mut packet = vec![0x32, 0, 0, u8::try_from(topic.len()).unwrap()];
    packet.extend_from_slice(topic.as_bytes());
    packet.extend_from_slice(&[0, id, b'x']);
    packet[1] = u8::try_from(packet.len() - 2).unwrap();
    packet
}

/// A connected raw socket.
async fn connected(rig: &Rig, client: &str) -> TcpStream {
    let mut socket = rig.socket().await;
    socket.write_all(&connect(client, 60)).await.unwrap();
    let mut connack = [0; 4];
    soon("the CONNACK", socket.read_exact(&mut connack)).await.unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    socket
}

/// Everything until the far side closes.
async fn rest(mut socket: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    soon("the broker closes the connection", socket.read_to_end(&mut bytes)).await.ok();
    bytes
}

#[tokio::test]
async fn a_publisher_gets_its_puback_only_after_the_journal_has_the_message() {
    let mut rig = Rig::start().await;
    let mut publisher = rig.publisher(&["-t", "site/a/up", "-m", "1"]);
    let frame = rig.frame().await;
    assert_eq!(message(&frame), ("site/a/up".to_owned(), "1".to_owned()));
    assert_eq!((frame.link.as_str(), frame.source, frame.retained), ("embedded", SourceIndex(3), false));
    // While it waits another one comes and goes: time enough for a PUBACK that should not be.
    let mut other = rig.publisher(&["-t", "site/b/up", "-m", "2"]);
    let second = rig.frame().await;
    rig.acknowledge(&second).await;
    assert_eq!(other.ended().await, 0);
    assert!(publisher.runs(), "it must wait for its own acknowledgement");
    rig.acknowledge(&frame).await;
    assert_eq!(publisher.ended().await, 0);
}

#[tokio::test]
async fn quality_of_service_0_does_not_wait() {
    let mut rig = Rig::start().await;
    let mut publisher = Peer::publisher(rig.port, &["-q", "0", "-t", "site/a/up", "-m", "1"]);
    assert_eq!(publisher.ended().await, 0);
    assert!(rig.frame().await.delivery.is_none());
}

#[tokio::test]
async fn quality_of_service_2_works_too_and_arrives_once() {
    let mut rig = Rig::start().await;
    let mut publisher = Peer::publisher(rig.port, &["-q", "2", "-t", "site/a/up", "-m", "1"]);
    let frame = rig.frame().await;
    rig.acknowledge(&frame).await;
    assert_eq!(publisher.ended().await, 0);
    let next = rig.publish(&["-t", "site/a/up", "-m", "2"]).await;
    assert_eq!(message(&next).1, "2");
}

#[tokio::test]
async fn a_message_the_journal_never_takes_gets_no_puback_and_ends_the_connection() {
    let mut rig = Rig::with(|settings| settings.ack_wait_max = Duration::from_millis(300)).await;
    let mut socket = connected(&rig, "raw").await;
    socket.write_all(&publish("site/a/up", 7)).await.unwrap();
    let frame = rig.frame().await;
    assert_eq!(rest(socket).await, Vec::<u8>::new(), "nothing was acknowledged");
    // What comes too late is counted, and the publisher finds the broker alive when it sends again.
    rig.acknowledge(&frame).await;
    until("the late acknowledgement is counted", || rig.metrics.mqtt_stale_acks.get() == 1).await;
    let mut socket = connected(&rig, "raw").await;
    let mut repeated = publish("site/a/up", 7);
    repeated[0] |= 0x08;
    socket.write_all(&repeated).await.unwrap();
    let again = rig.frame().await;
    assert!(again.delivery.unwrap().duplicate && !frame.delivery.unwrap().duplicate);
    rig.acknowledge(&again).await;
    let mut puback = [0; 4];
    soon("the PUBACK", socket.read_exact(&mut puback)).await.unwrap();
    assert_eq!(puback, [0x40, 2, 0, 7]);
}

#[tokio::test]
async fn twenty_in_flight_go_through_one_commit_and_pings_are_answered_meanwhile() {
    let mut rig = Rig::start().await;
    let mut socket = connected(&rig, "concentrator").await;
    for id in 1..=20 {
        socket.write_all(&publish("site/a/up", id)).await.unwrap();
    }
    let mut deliveries = Vec::new();
    for _ in 1..=20 {
        deliveries.push(rig.frame().await.delivery.unwrap());
    }
    socket.write_all(&[0xc0, 0]).await.unwrap();
    let mut pong = [0; 2];
    soon("the PINGRESP", socket.read_exact(&mut pong)).await.unwrap();
    assert_eq!(pong, [0xd0, 0], "no PUBACK came before it");
    rig.acks.send(deliveries).await.unwrap();
    let mut pubacks = [0; 80];
    soon("twenty PUBACKs", socket.read_exact(&mut pubacks)).await.unwrap();
    let expected: Vec<u8> = (1..=20).flat_map(|id| [0x40, 2, 0, id]).collect();
    assert_eq!(pubacks.to_vec(), expected);
}

#[tokio::test]
async fn a_publisher_without_a_window_is_held_back_and_loses_nothing() {
    let mut rig = Rig::start().await;
    let mut socket = connected(&rig, "greedy").await;
    for id in 1..=250 {
        socket.write_all(&publish("site/a/up", id)).await.unwrap();
    }
    let mut first = Vec::new();
    for _ in 0..100 {
        first.push(rig.frame().await.delivery.unwrap());
    }
    // Another client's message shows that the broker had the time to take more of the first, and did not.
    let other = rig.publish(&["-t", "site/b/up", "-m", "other"]).await;
    assert_eq!(message(&other).1, "other");
    rig.acks.send(first).await.unwrap();
    for _ in 100..250 {
        let frame = rig.frame().await;
        rig.acknowledge(&frame).await;
    }
    let mut pubacks = vec![0; 1000];
    soon("all PUBACKs", socket.read_exact(&mut pubacks)).await.unwrap();
    assert_eq!(pubacks[996..], [0x40, 2, 0, 250]);
}

#[tokio::test]
async fn wrong_credentials_are_refused_with_a_connack_and_right_ones_are_let_in() {
    let mut rig = Rig::with(|settings| settings.credentials = users()).await;
    for wrong in [&["-u", "smoke-1", "-P", "wrong"][..], &["-u", "nobody", "-P", "secret"], &[]] {
        let mut arguments = vec!["-t", "smoke-1/up", "-m", "1"];
        arguments.extend_from_slice(wrong);
        let mut publisher = rig.publisher(&arguments);
        assert_ne!(publisher.ended().await, 0);
        until("the reason", || !publisher.lines().is_empty()).await;
        assert!(publisher.lines().join(" ").to_lowercase().contains("refused"), "{:?}", publisher.lines());
    }
    let mut socket = rig.socket().await;
    socket.write_all(&connect("anonymous", 60)).await.unwrap();
    let connack = rest(socket).await;
    assert_eq!((connack.len(), &connack[..2]), (4, &[0x20, 2][..]));
    assert!(matches!(connack[3], 4 | 5), "a return code of MQTT 3.1.1: {connack:?}");
    assert_eq!(rig.metrics.broker_refused.get(), 4);
    let frame = rig.publish(&["-t", "smoke-1/up", "-m", "1", "-u", "smoke-1", "-P", "secret"]).await;
    assert_eq!(message(&frame).0, "smoke-1/up");
}

#[tokio::test]
async fn a_device_cannot_speak_for_another() {
    let mut rig = Rig::with(|settings| settings.credentials = users()).await;
    let mut forger = rig.publisher(&["-t", "smoke-2/up", "-m", "fire", "-u", "smoke-1", "-P", "secret"]);
    forger.ended().await;
    assert_eq!(rig.metrics.broker_refused.get(), 1);
    let frame = rig.publish(&["-t", "smoke-2/up", "-m", "1", "-u", "tool", "-P", "tool-secret"]).await;
    assert_eq!(message(&frame).1, "1", "only the rightful message arrived");
}

#[tokio::test]
async fn without_users_it_serves_this_machine_only() {
    let (to_pipeline, _intake) = mpsc::channel(1);
    let (_acks, from_pipeline) = mpsc::channel(1);
    let started = Broker::start(
        settings("0.0.0.0:0"),
        SourceIndex(0),
        to_pipeline,
        from_pipeline,
        Clock::system(),
        Metrics::new(),
        CancellationToken::new(),
    )
    .await;
    let error = started.unwrap_err();
    assert!(matches!(error, BrokerError::Open(_)), "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_packet_that_is_too_large_is_refused_and_the_next_client_served() {
    let mut rig = Rig::with(|settings| settings.packet_bytes_max = 64 << 10).await;
    let whole = rig.publish(&["-t", "site/a/up", "-m", &"x".repeat(60_000)]).await;
    assert_eq!(message(&whole).1.len(), 60_000);
    let mut socket = connected(&rig, "large").await;
    // A PUBLISH that announces 100 MB.
    socket.write_all(&[0x32, 0x80, 0xc2, 0xd7, 0x2f, 0, 4, b's', b'i', b't', b'e']).await.unwrap();
    socket.write_all(&[b'x'; 70_000]).await.ok();
    rest(socket).await;
    let frame = rig.publish(&["-t", "site/a/up", "-m", "next"]).await;
    assert_eq!(message(&frame).1, "next");
}

#[tokio::test]
async fn garbage_and_half_a_connect_disturb_nobody() {
    let mut rig = Rig::start().await;
    let mut good = connected(&rig, "good").await;
    let mut half = rig.socket().await;
    half.write_all(&connect("half", 60)[..9]).await.unwrap();
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 300], &[0x10, 0xff, 0xff, 0xff, 0xff, 1], &publish("a", 1)]
    {
        let mut socket = rig.socket().await;
        socket.write_all(garbage).await.unwrap();
        socket.shutdown().await.ok();
        rest(socket).await;
    }
    let mut later = connected(&rig, "later").await;
    for socket in [&mut good, &mut later] {
        socket.write_all(&publish("site/a/up", 1)).await.unwrap();
        let frame = rig.frame().await;
        rig.acknowledge(&frame).await;
        let mut puback = [0; 4];
        soon("the PUBACK", socket.read_exact(&mut puback)).await.unwrap();
        assert_eq!(puback, [0x40, 2, 0, 1]);
    }
    // It is dropped after ten seconds, not kept for ever.
    rest(half).await;
}

#[tokio::test]
async fn a_second_client_with_the_same_id_takes_over() {
    let mut rig = Rig::start().await;
    let first = connected(&rig, "twin").await;
    let mut second = connected(&rig, "twin").await;
    rest(first).await;
    second.write_all(&publish("site/a/up", 9)).await.unwrap();
    let frame = rig.frame().await;
    rig.acknowledge(&frame).await;
    let mut puback = [0; 4];
    soon("the PUBACK", second.read_exact(&mut puback)).await.unwrap();
    assert_eq!(puback, [0x40, 2, 0, 9]);
    until("one client is counted", || rig.metrics.broker_clients.get() == 1).await;
}

#[tokio::test]
async fn retained_messages_reach_ordinary_subscribers() {
    let mut rig = Rig::start().await;
    rig.publish(&["-t", "site/a/up", "-m", "kept", "-r"]).await;
    let subscriber = Peer::subscriber(rig.port, &["-t", "site/#", "-q", "1", "-F", "%r %t %p"]);
    until("the retained message", || subscriber.lines() == ["1 site/a/up kept"]).await;
    rig.publish(&["-t", "site/a/up", "-m", "live"]).await;
    until("the live message", || subscriber.lines().last().is_some_and(|line| line == "0 site/a/up live"))
        .await;
}

#[tokio::test]
async fn a_last_will_reaches_subscribers_and_the_pipeline() {
    let mut rig = Rig::start().await;
    let subscriber = Peer::subscriber(rig.port, &["-t", "site/#"]);
    until("the subscriber is connected", || rig.metrics.broker_clients.get() == 1).await;
    // It waits for messages until it is killed.
    let will = ["-t", "nothing", "--will-topic", "site/a/state", "--will-payload", "offline"];
    let device = Peer::subscriber(rig.port, &will);
    until("the device is connected", || rig.metrics.broker_clients.get() == 2).await;
    drop(device);
    let frame = rig.frame().await;
    assert_eq!(message(&frame), ("site/a/state".to_owned(), "offline".to_owned()));
    until("the subscriber hears it", || subscriber.lines() == ["offline"]).await;
    until("it is not counted any more", || rig.metrics.broker_clients.get() == 1).await;
}

#[tokio::test]
async fn a_flood_of_bare_connections_is_bounded() {
    let mut rig = Rig::with(|settings| settings.clients_max = 5).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(rig.socket().await);
    }
    for _ in 0..20 {
        let refused = rig.socket().await;
        assert_eq!(rest(refused).await, Vec::<u8>::new());
    }
    assert_eq!(rig.metrics.broker_refused.get(), 20);
    // A place is free again as soon as one leaves.
    drop(held);
    until("a client is let in again", || rig.metrics.broker_clients.get() == 0).await;
    let mut publisher = rig.publisher(&["-t", "site/a/up", "-m", "1"]);
    let frame = loop {
        tokio::select! {
            arrival = rig.intake.recv() => match arrival.unwrap() {
                Arrival::Frame(frame) => break frame,
                other => panic!("no frame: {other:?}"),
            },
            _ = publisher.ended() => publisher = rig.publisher(&["-t", "site/a/up", "-m", "1"]),
        }
    };
    rig.acknowledge(&frame).await;
    assert_eq!(publisher.ended().await, 0);
}

#[tokio::test]
async fn an_orderly_stop_still_gives_the_pubacks_under_way() {
    let mut rig = Rig::start().await;
    let mut publisher = rig.publisher(&["-t", "site/a/up", "-m", "1"]);
    let frame = rig.frame().await;
    rig.cancel.cancel();
    until("nobody new is let in", || std::net::TcpStream::connect(("127.0.0.1", rig.port)).is_err()).await;
    rig.acknowledge(&frame).await;
    assert_eq!(publisher.ended().await, 0);
    assert!(soon("the broker ends", rig.broker.ended()).await);
}
