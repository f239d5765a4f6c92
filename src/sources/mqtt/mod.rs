//! WIRE → FRAMES, by MQTT 3.1.1 or MQTT 5 from any broker.
//!
//! First in the flow. One persistent session, acknowledged by hand: a PUBACK goes out only for a
//! [`Delivery`](crate::model::Delivery) that the pipeline has given back. The packets of both versions are rumqttc's
//! (`codec.rs` says why its loop is not used); the rest is here:
//!
//! - **PUBACKs are written many with one flush**, and nothing holds them back: no window of our own, no channel.
//! - **Acknowledgements carry the epoch of their connection.** One of an older connection would acknowledge another
//!   message of the same packet id; it is dropped and counted, and the broker sends the message again.
//! - **Every CONNACK is followed by a SUBSCRIBE**, also when the broker remembers the session: it may remember an older
//!   list of topics (restored from a backup, or written before the last change). The price is that retained messages
//!   come again; they are marked as such, and the pipeline passes over what is no news. A topic that was taken out of the
//!   list stays in the broker's session.
//! - **Reading goes on while the intake is full**, into a bounded queue of [`HELD_MAX`] messages, so that pings are
//!   answered and a dead broker is noticed. A broker with its usual window (20 at mosquitto, 32 at EMQX) stops sending
//!   long before; with MQTT 5 we say ourselves how many it may send. When even the queue is full, reading stops, TCP holds
//!   the rest back, and pings go on.
//! - **A message larger than allowed does not break the connection** (a persistent session would send it again for ever):
//!   up to [`WIRE_BYTES_MAX`] it is read, counted, and its first [`SAMPLE_BYTES`] go on to where a person can see them.
//! - **Every error waits**, longer each time, with jitter.
//! - **Passwords and certificates are read again** for each connection, and watched: when they change and can be used, the
//!   link connects anew with them, in its session.

mod backoff;
mod client;
mod codec;
mod connection;
mod held;
mod options;
mod packet;
mod reason;
mod secrets;
mod tls;
mod topics;

pub use packet::Protocol;

use super::{Acks, Asks, Intake};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{LinkId, SourceIndex};
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Messages held while the intake is full. A hundred times mosquitto's window of 20; at 300 bytes a message 0.6 MB.
pub const HELD_MAX: usize = 2048;

/// Bytes of payload held while the intake is full: eight messages of the largest allowed size.
pub const HELD_BYTES_MAX: usize = 8 * PACKET_BYTES_MAX;

/// The largest payload that is handed on whole, unless the settings say otherwise. A detector's message is 50 to 2000
/// bytes, a concentrator's a few tens of kB.
pub const PACKET_BYTES_MAX: usize = 1 << 20;

/// The largest packet that is read at all. MQTT allows 256 MB; the buffer doubles while it grows, and 2 × 64 MB still
/// fit a box of 512 MB. A larger one breaks the connection, which the link's fault then says.
pub const WIRE_BYTES_MAX: usize = 64 << 20;

/// What is handed on of a payload that is too large: enough to see what it is.
pub const SAMPLE_BYTES: usize = 4096;

/// Keep-alive unless the settings say otherwise. A half-open connection is noticed after two.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long connecting (TCP, TLS, CONNECT until CONNACK) may take.
pub const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long the broker may take to answer a SUBSCRIBE. Mosquitto needs milliseconds, on a mobile link seconds.
pub const SUBSCRIBE_MAX: Duration = Duration::from_secs(20);

/// How long one flush may take: the far side has stopped reading.
pub const WRITE_MAX: Duration = Duration::from_secs(10);

/// After cancellation, how long to wait for the intake and for acknowledgements under way. Two commit windows of a
/// second and one to spare; what is not acknowledged then is sent again at the next start.
pub const DRAIN_MAX: Duration = Duration::from_secs(3);

/// How often the files of secrets are looked at. A change is believed at the second look, so that no half written file is
/// used: a link has its new password within ten seconds. Four small files take a tenth of a millisecond.
pub const SECRETS_EVERY: Duration = Duration::from_secs(5);

/// How many unacknowledged messages a broker sends when nobody has said otherwise: mosquitto's.
pub const INFLIGHT_WINDOW: u16 = 20;

/// The retained status while this gateway is connected.
pub const ONLINE: &str = "online";

/// The retained status after it has left or its connection broke (the last will).
pub const OFFLINE: &str = "offline";

/// How to reach one broker and what to take from it.
#[derive(Clone)]
pub struct MqttSettings {
    /// The link's name in the plan.
    pub link: LinkId,
    /// Host name or address.
    pub host: String,
    /// TCP port, usually 1883, with TLS 8883.
    pub port: u16,
    /// The client id. The broker keeps the session under it, so it must stay the same and be nobody else's.
    pub client_id: String,
    /// Which MQTT.
    pub protocol: Protocol,
    /// User and password.
    pub user: Option<(String, Password)>,
    /// With TLS when present.
    pub tls: Option<TlsSettings>,
    /// Topic filters, subscribed with QoS 1.
    pub filters: Vec<String>,
    /// Keep-alive in whole seconds, at least one.
    pub keep_alive: Duration,
    /// The largest payload handed on whole, in bytes; at most [`WIRE_BYTES_MAX`].
    pub packet_bytes_max: usize,
    /// Where the gateway's retained status ([`ONLINE`], [`OFFLINE`]) is published.
    pub will_topic: Option<String>,
    /// How many unacknowledged messages the broker may send. MQTT 5 tells it so; with MQTT 3.1.1 it has its own setting.
    pub inflight_window: u16,
    /// The broker keeps the session while we are away. Always for a gateway; not for a tool that looks on for a while.
    pub keep_session: bool,
    /// How often the files of secrets are looked at.
    pub secrets_every: Duration,
    /// Questions of the gateway that are published here; `None`: it never asks.
    pub asks: Option<Asks>,
}

/// Where a password comes from.
#[derive(Clone)]
pub enum Password {
    /// It is this one until the program ends.
    Fixed(String),
    /// It stands in this file, and may be replaced there.
    File(PathBuf),
}

/// How the two sides know each other.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// PEM of the only authorities to trust; without it the system's list.
    pub ca_file: Option<PathBuf>,
    /// PEM of our own certificate (with what stands between it and its authority) and of its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl MqttSettings {
    /// Settings with the usual limits, no user, no TLS and no topics.
    pub fn new(link: LinkId, host: impl Into<String>, port: u16, client_id: impl Into<String>) -> Self {
        Self {
            link,
            host: host.into(),
            port,
            client_id: client_id.into(),
            protocol: Protocol::default(),
            user: None,
            tls: None,
            filters: Vec::new(),
            keep_alive: KEEP_ALIVE,
            packet_bytes_max: PACKET_BYTES_MAX,
            will_topic: None,
            inflight_window: INFLIGHT_WINDOW,
            keep_session: true,
            secrets_every: SECRETS_EVERY,
            asks: None,
        }
    }
}

impl std::fmt::Debug for MqttSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the password: settings end up in logs.
        f.debug_struct("MqttSettings")
            .field("link", &self.link)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("client_id", &self.client_id)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("filters", &self.filters)
            .finish_non_exhaustive()
    }
}

/// Runs until it is cancelled or the pipeline is gone. Remote failure is normal and never ends it.
pub async fn run(
    settings: MqttSettings,
    source: SourceIndex,
    intake: Intake,
    acks: Acks,
    clock: Clock,
    metrics: Metrics,
    cancel: CancellationToken,
) {
    client::Client::new(settings, source, intake, acks, clock, metrics, cancel).run().await;
}
