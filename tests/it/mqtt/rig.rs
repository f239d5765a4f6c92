//! The MQTT client with a pipeline that the test plays, and a broker that does exactly what the test says.

use crate::support::ports::soon;
use fengsui::clock::Clock;
use fengsui::metrics::Metrics;
use fengsui::model::{Body, Delivery, Frame, LinkChange, LinkId, SourceIndex};
use fengsui::sources::Arrival;
use fengsui::sources::mqtt::{MqttSettings, Protocol, run};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The client under test with a pipeline that is played by the test.
pub(crate) struct Rig {
    pub(crate) intake: mpsc::Receiver<Arrival>,
    pub(crate) acks: mpsc::Sender<Vec<Delivery>>,
    pub(crate) metrics: Metrics,
    pub(crate) cancel: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Rig {
    pub(crate) fn new(protocol: Protocol, port: u16) -> Self {
        Self::with(settings(protocol, port), 1000)
    }

    pub(crate) fn with(settings: MqttSettings, room: usize) -> Self {
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

    pub(crate) async fn link(&mut self) -> LinkChange {
        match soon("a link change", self.intake.recv()).await.unwrap() {
            Arrival::Link(change) => change,
            other => panic!("no link change: {other:?}"),
        }
    }

    pub(crate) async fn up(&mut self) {
        let change = self.link().await;
        assert!(change.up, "{}", change.reason.en);
    }

    pub(crate) async fn down(&mut self) -> String {
        let change = self.link().await;
        assert!(!change.up, "{}", change.reason.en);
        let chinese = change.reason.zh.chars().any(|c| ('一'..='鿿').contains(&c));
        assert!(chinese, "the screen is Chinese: {:?}", change.reason);
        change.reason.en.to_string()
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        match soon("a frame", self.intake.recv()).await.unwrap() {
            Arrival::Frame(frame) => frame,
            other => panic!("no frame: {other:?}"),
        }
    }

    /// The next frame, whatever is said of the link in between.
    pub(crate) async fn any_frame(&mut self) -> Frame {
        loop {
            if let Arrival::Frame(frame) = soon("a frame", self.intake.recv()).await.unwrap() {
                return frame;
            }
        }
    }

    /// Until the link is up, whatever comes before.
    pub(crate) async fn any_up(&mut self) {
        while !matches!(
            soon("the link is up", self.intake.recv()).await.unwrap(),
            Arrival::Link(LinkChange { up: true, .. })
        ) {}
    }

    pub(crate) async fn acknowledge(&self, frame: &Frame) {
        self.acks.send(vec![frame.delivery.unwrap()]).await.unwrap();
    }

    pub(crate) async fn stop(self) -> mpsc::Receiver<Arrival> {
        self.cancel.cancel();
        soon("the source ends", self.task).await.unwrap();
        self.intake
    }
}

pub(crate) fn settings(protocol: Protocol, port: u16) -> MqttSettings {
    let mut settings =
        MqttSettings::new(LinkId::parse("hall").unwrap(), "127.0.0.1", port, "gateway-under-test");
    settings.filters = vec!["site/#".to_owned()];
    settings.keep_alive = Duration::from_secs(1);
    settings.protocol = protocol;
    settings
}

pub(crate) fn text(frame: &Frame) -> String {
    match &frame.body {
        Body::Message { payload, .. } => String::from_utf8_lossy(payload).into_owned(),
        other => panic!("{other:?} from MQTT"),
    }
}

/// A broker that does exactly what the test says.
pub(crate) struct Scripted {
    listener: TcpListener,
    stream: Option<TcpStream>,
    pub(crate) port: u16,
    status_seen: bool,
}

impl Scripted {
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, stream: None, port, status_seen: false }
    }

    /// Takes the connection, its CONNECT and SUBSCRIBE (and status), and answers the subscription as told.
    pub(crate) async fn greet(&mut self, suback: &[u8]) {
        self.answer(&[0x20, 2, 0, 0]).await;
        assert_eq!(self.packet().await[0] >> 4, 8, "SUBSCRIBE");
        self.send(suback).await;
    }

    /// Takes the connection and its CONNECT, and answers with these bytes.
    pub(crate) async fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (stream, _) = soon("the client connects", self.listener.accept()).await.unwrap();
        self.stream = Some(stream);
        let connect = self.packet().await;
        assert_eq!(connect[0] >> 4, 1, "CONNECT");
        self.send(bytes).await;
        connect
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.as_mut().unwrap().write_all(bytes).await.unwrap();
    }

    /// One short packet.
    pub(crate) async fn packet(&mut self) -> Vec<u8> {
        let stream = self.stream.as_mut().unwrap();
        let mut packet = vec![0; 2];
        soon("a packet", stream.read_exact(&mut packet)).await.unwrap();
        packet.resize(2 + usize::from(packet[1]), 0);
        soon("its rest", stream.read_exact(&mut packet[2..])).await.unwrap();
        packet
    }

    /// The next bytes, after the status message and pings.
    pub(crate) async fn expect(&mut self, expected: &[u8]) {
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
