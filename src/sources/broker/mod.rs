//! WIRE → FRAMES, by the embedded MQTT broker (3.1.1 and 5).
//!
//! First in the flow. For sites without a broker of their own: devices connect here. A PUBACK (or PUBREC) is sent only
//! after the pipeline has given the [`Delivery`] back, so the publisher itself keeps what the journal does not have.
//! If the journal stays silent for [`ACK_WAIT_MAX`] the connection is closed without a PUBACK, and the publisher sends
//! again. The broker's own memory (retained messages, sessions of subscribers) is not durable and need not be.
//!
//! Many messages of one connection are under way at a time (`relay.rs`): a concentrator is not throttled to one a commit.
//!
//! The broker crate is named in `engine.rs` only: [`Broker`], [`BrokerSettings`] and `Ingest` stay when it is replaced.
//! We accept connections ourselves, because it counts clients only after their CONNECT: a flood of bare TCP connections
//! would have no bound.

mod credentials;
mod engine;
mod relay;

pub use credentials::{Credentials, Rights, User};

use super::{Acks, Arrival, Ask, Asks, Intake, asked};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{Body, Delivery, Frame, LinkChange, LinkId, SourceIndex, Text};
use bytes::Bytes;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The largest packet a client may send. The same figure as for a foreign broker's messages.
pub const PACKET_BYTES_MAX: usize = 1 << 20;

/// Connections at a time, with or without a CONNECT. A thousand devices and a few subscribers; 48 kB each, both ends
/// measured in one process, and the messages under way.
pub const CLIENTS_MAX: usize = 1200;

/// How long a publisher waits for its PUBACK before it is disconnected. Thirty commit windows of a second; shorter than
/// the usual time after which clients give up a silent broker themselves (1.5 × a keep-alive of 30 to 60 s).
pub const ACK_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a message that nobody will send again (QoS 0, a last will) waits for room in the pipeline.
pub const ROOM_WAIT_MAX: Duration = Duration::from_secs(5);

/// After cancellation, how long publishers under way may wait for their PUBACK. As at the MQTT client.
pub const DRAIN_MAX: Duration = Duration::from_secs(3);

/// What the broker needs to know.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The link's name in the plan.
    pub link: LinkId,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may connect.
    pub credentials: Credentials,
    /// The largest packet, in bytes; at least 1024.
    pub packet_bytes_max: usize,
    /// Connections at a time.
    pub clients_max: usize,
    /// See [`ACK_WAIT_MAX`].
    pub ack_wait_max: Duration,
    /// Questions of the gateway that are published to its clients; `None`: it never asks.
    pub asks: Option<Asks>,
}

impl BrokerSettings {
    /// Settings with the usual limits.
    pub fn new(link: LinkId, listen: SocketAddr, credentials: Credentials) -> Self {
        Self {
            link,
            listen,
            credentials,
            packet_bytes_max: PACKET_BYTES_MAX,
            clients_max: CLIENTS_MAX,
            ack_wait_max: ACK_WAIT_MAX,
            asks: None,
        }
    }
}

/// Why the broker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Without passwords it may serve this machine only.
    #[error("broker on {0}: without users it may listen on 127.0.0.1 or ::1 only; name users with passwords")]
    Open(SocketAddr),
    /// The address is taken or not ours.
    #[error("broker on {address}: cannot listen: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The broker inside refused its settings.
    #[error("broker: {0}")]
    Settings(String),
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    local_addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Broker {
    /// Binds, then serves until cancelled.
    pub async fn start(
        settings: BrokerSettings,
        source: SourceIndex,
        intake: Intake,
        acks: Acks,
        clock: Clock,
        metrics: Metrics,
        cancel: CancellationToken,
    ) -> Result<Broker, BrokerError> {
        let address = settings.listen;
        if matches!(settings.credentials, Credentials::Anonymous) && !address.ip().is_loopback() {
            return Err(BrokerError::Open(address));
        }
        let listener =
            TcpListener::bind(address).await.map_err(|source| BrokerError::Listen { address, source })?;
        let local_addr = listener.local_addr().map_err(|source| BrokerError::Listen { address, source })?;
        let ingest = Arc::new(Ingest {
            link: settings.link.clone(),
            source,
            intake,
            clock,
            metrics,
            ack_wait_max: settings.ack_wait_max,
            waiting: Mutex::new(HashMap::new()),
            next_key: AtomicU64::new(0),
        });
        let engine = engine::Engine::new(&settings, Arc::clone(&ingest)).map_err(BrokerError::Settings)?;
        let asks = settings.asks.as_ref().map(Asks::subscribe);
        let task = tokio::spawn(serve(engine, listener, ingest, acks, asks, cancel));
        info!(link = %settings.link, address = %local_addr, "the embedded broker listens");
        Ok(Broker { local_addr, task })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until it has ended, which it does when cancelled. `false` if it ended by a defect.
    pub async fn ended(self) -> bool {
        self.task.await.is_ok()
    }
}

async fn serve(
    engine: engine::Engine,
    listener: TcpListener,
    ingest: Arc<Ingest>,
    mut acks: Acks,
    mut asks: Option<broadcast::Receiver<Ask>>,
    cancel: CancellationToken,
) {
    let reason = Text::new("内置 MQTT 服务已启动", "the embedded broker listens");
    let up = LinkChange { link: ingest.link.clone(), up: true, reason };
    // On the side, so that a full pipeline at the start delays nobody's connection.
    let said = tokio::spawn({
        let intake = ingest.intake.clone();
        async move { intake.send(Arrival::Link(up)).await.is_ok() }
    });
    let accepting = engine.accept(listener, cancel.clone());
    tokio::pin!(accepting);
    loop {
        tokio::select! {
            biased;
            Some(batch) = acks.recv() => ingest.release(&batch),
            ask = asked(&mut asks) => engine.publish(ask).await,
            () = &mut accepting => break,
        }
    }
    // Cancelled: nobody new comes in; who waits for a PUBACK may still get it.
    let drained = async {
        while !ingest.is_idle() {
            match acks.recv().await {
                Some(batch) => ingest.release(&batch),
                None => break,
            }
        }
    };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        info!(link = %ingest.link, "publishers are left without their PUBACK and will send again");
    }
    ingest.withhold_all();
    engine.stop().await;
    said.abort();
}

/// Between the broker inside and the pipeline.
struct Ingest {
    link: LinkId,
    source: SourceIndex,
    intake: Intake,
    clock: Clock,
    metrics: Metrics,
    ack_wait_max: Duration,
    /// Who waits for which delivery. Bounded by the connections and what each may have under way; one whose
    /// connection has gone stays until the pipeline gives it back, as the pipeline holds it too.
    waiting: Mutex<HashMap<(u32, u32), oneshot::Sender<()>>>,
    next_key: AtomicU64,
}

impl Ingest {
    /// A message with QoS 1 or 2. The answer comes when the journal holds it; it breaks off when that will not happen.
    async fn take(
        &self,
        topic: Arc<str>,
        payload: Bytes,
        packet_id: u16,
        duplicate: bool,
    ) -> oneshot::Receiver<()> {
        let (release, released) = oneshot::channel();
        let delivery = self.delivery(packet_id, duplicate);
        let key = (delivery.epoch, delivery.key);
        self.lock().insert(key, release);
        let frame = Arrival::Frame(self.frame(topic, payload, Some(delivery)));
        if self.intake.send_timeout(frame, self.ack_wait_max).await.is_err() {
            self.lock().remove(&key);
        }
        released
    }

    /// A number that no message under way has: 48 bits of a counter, and in the low half of the key the packet id, by
    /// which the pipeline knows the message when it is sent again, also after a restart.
    #[expect(clippy::cast_possible_truncation, reason = "the counter wraps after 2⁴⁸ messages")]
    fn delivery(&self, packet_id: u16, duplicate: bool) -> Delivery {
        let counter = self.next_key.fetch_add(1, Ordering::Relaxed);
        let key = (counter as u32) << 16 | u32::from(packet_id);
        Delivery { epoch: (counter >> 16) as u32, key, duplicate }
    }

    /// A message that nobody sends again: QoS 0, or a last will.
    async fn take_unacknowledged(&self, topic: Arc<str>, payload: Bytes) {
        let frame = Arrival::Frame(self.frame(topic, payload, None));
        if self.intake.send_timeout(frame, ROOM_WAIT_MAX).await.is_err() {
            self.metrics.frames_lost.inc();
        }
    }

    fn frame(&self, topic: Arc<str>, payload: Bytes, delivery: Option<Delivery>) -> Frame {
        Frame {
            source: self.source,
            link: self.link.clone(),
            body: Body::Message { topic, payload },
            received_at: self.clock.now(),
            // The publisher's retain flag asks us to keep it; the message itself is of now.
            retained: false,
            delivery,
        }
    }

    fn release(&self, batch: &[Delivery]) {
        let mut waiting = self.lock();
        for delivery in batch {
            let released = waiting
                .remove(&(delivery.epoch, delivery.key))
                .is_some_and(|release| release.send(()).is_ok());
            if !released {
                self.metrics.mqtt_stale_acks.inc();
            }
        }
    }

    fn withhold_all(&self) {
        self.lock().clear();
    }

    fn is_idle(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(u32, u32), oneshot::Sender<()>>> {
        self.waiting.lock().expect("no holder of this lock panics")
    }
}

/// For `crate::fuzz`: any bytes as the packets of a connection.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_relay(data: &[u8]) {
    relay::fuzz(data);
}
