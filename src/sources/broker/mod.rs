//! WIRE → FRAMES, by the embedded MQTT broker (3.1.1 and 5).
//!
//! First in the flow. For sites without a broker of their own: devices connect here. A PUBACK (or PUBREC) is sent only
//! after the pipeline has given the [`Delivery`] back, so the publisher itself keeps what the journal does not have.
//! If the journal stays silent for [`ACK_WAIT_MAX`] the connection is closed without a PUBACK, and the publisher sends
//! again. The broker's own memory (retained messages, sessions of subscribers) does not survive a restart, and need not:
//! the journal has every message before its publisher hears of it, so nothing is lost here; who listens to the broker
//! besides us subscribes again. On the disk it would cost 13 kB of flash for each queued message (measured).
//!
//! Who may connect may change while it runs ([`Keys`]), and so may the certificate ([`TlsFiles`]).
//!
//! Many messages of one connection are under way at a time (`relay.rs`): a concentrator is not throttled to one a commit.
//!
//! The broker crate is named in `engine.rs` only: [`Broker`], [`BrokerSettings`] and `Ingest` stay when it is replaced.
//! We accept connections ourselves, because it counts clients only after their CONNECT: a flood of bare TCP connections
//! would have no bound.

mod credentials;
mod engine;
mod relay;
mod tls;

pub use credentials::{Credentials, Rights, User};
pub use tls::TlsFiles;

use super::{Acks, Arrival, Ask, Asks, Intake, Numbers, asked};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{Body, Delivery, Frame, LinkChange, LinkId, SourceIndex, Text};
use bytes::Bytes;
use std::collections::HashMap;
use std::net::SocketAddr;
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
    /// Where to listen without TLS; port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// Where to listen with TLS, and by which files.
    pub tls: Option<(SocketAddr, TlsFiles)>,
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
            listen: Some(listen),
            tls: None,
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
    /// A certificate, a key or an authority cannot be used.
    #[error("broker: TLS: {0}")]
    Tls(String),
    /// The broker inside refused its settings.
    #[error("broker: {0}")]
    Settings(String),
}

/// A running broker.
pub struct Broker {
    local_addr: Option<SocketAddr>,
    tls_addr: Option<SocketAddr>,
    task: JoinHandle<()>,
    gate: Keys,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

/// Who may connect, to be changed while the broker runs. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<engine::Gate>);

impl Keys {
    /// From now on these users may connect. Who is connected and may not any more, or has another password or other rights
    /// now, is disconnected; nobody else notices. How many were disconnected.
    pub fn replace(&self, users: HashMap<String, User>) -> usize {
        self.0.replace(Credentials::Users(users))
    }
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
        let secure = settings.tls.as_ref().map(|(address, _)| *address);
        let open = [settings.listen, secure].into_iter().flatten().find(|at| !at.ip().is_loopback());
        if let (Credentials::Anonymous, Some(address)) = (&settings.credentials, open) {
            return Err(BrokerError::Open(address));
        }
        let tls = settings.tls.clone().map(|(_, files)| tls::Tls::load(files).map_err(BrokerError::Tls));
        let tls = tls.transpose()?;
        let (plain, local_addr) = bind(settings.listen).await?.unzip();
        let (secure, tls_addr) = bind(secure).await?.unzip();
        let ingest = Arc::new(Ingest {
            link: settings.link.clone(),
            source,
            intake,
            clock,
            metrics,
            ack_wait_max: settings.ack_wait_max,
            waiting: Mutex::new(HashMap::new()),
            numbers: Numbers::default(),
        });
        let engine =
            engine::Engine::new(&settings, tls, Arc::clone(&ingest)).map_err(BrokerError::Settings)?;
        let gate = Keys(engine.gate());
        let asks = settings.asks.as_ref().map(Asks::subscribe);
        let task = tokio::spawn(serve(engine, (plain, secure), ingest, acks, asks, cancel));
        let shown = |address: Option<SocketAddr>| address.map(tracing::field::display);
        info!(link = %settings.link, address = shown(local_addr), tls = shown(tls_addr), "the embedded broker listens");
        Ok(Broker { local_addr, tls_addr, task, gate })
    }

    /// Where it listens without TLS.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Where it listens with TLS.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_addr
    }

    /// Who may connect, to be changed while it runs.
    pub fn keys(&self) -> Keys {
        self.gate.clone()
    }

    /// Waits until it has ended, which it does when cancelled. `false` if it ended by a defect.
    pub async fn ended(self) -> bool {
        self.task.await.is_ok()
    }
}

async fn bind(address: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>, BrokerError> {
    let Some(address) = address else { return Ok(None) };
    let failed = |source| BrokerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok(Some((listener, bound)))
}

async fn serve(
    engine: engine::Engine,
    listeners: engine::Listeners,
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
    let accepting = engine.accept(listeners, cancel.clone());
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
    numbers: Numbers,
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
        let delivery = self.numbers.next(packet_id, duplicate);
        let key = (delivery.epoch, delivery.key);
        self.lock().insert(key, release);
        let frame = Arrival::Frame(self.frame(topic, payload, Some(delivery)));
        if self.intake.send_timeout(frame, self.ack_wait_max).await.is_err() {
            self.lock().remove(&key);
        }
        released
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
