//! WIRE → FRAMES, by MQTT 3.1.1 from any broker.
//!
//! First in the flow. One persistent session (`clean_session = false`), acknowledged by hand: a PUBACK goes out only
//! for a [`Delivery`](crate::model::Delivery) that the pipeline has given back. What rumqttc leaves to its user is done here:
//!
//! - **Its request channel is not used.** SUBSCRIBE, PUBACK and the status message are written to its connection
//!   directly, many with one flush. So a full publish window cannot hold acknowledgements back, a full channel cannot
//!   block the task that polls, and a thousand acknowledgements cost one system call instead of a thousand.
//! - **Acknowledgements carry the epoch of their connection.** One of an older connection would acknowledge another
//!   message of the same packet id; it is dropped and counted, and the broker sends the message again.
//! - **Every CONNACK is followed by a SUBSCRIBE**, also when the broker remembers the session: it may remember an older
//!   list of topics (restored from a backup, or written before the last change). The price is that retained messages
//!   come again; they are marked as such. A topic that was taken out of the list stays in the broker's session.
//! - **Polling goes on while the intake is full**, into a bounded queue of [`HELD_MAX`] messages, so that pings are
//!   answered and a dead broker is noticed. A broker with its usual window (20 at mosquitto, 32 at EMQX) stops sending
//!   long before. When even the queue is full, reading stops, TCP holds the rest back, and pings are sent by hand.
//! - **A message larger than allowed does not break the connection** (rumqttc would reconnect in a hot loop, and a
//!   persistent session would send it again for ever): up to [`WIRE_BYTES_MAX`] it is read, counted, and its first
//!   [`SAMPLE_BYTES`] go on to where a person can see them.
//! - **Every error waits**, longer each time, with jitter.

mod backoff;
mod client;
mod held;
mod options;
mod reason;
mod tls;
mod topics;

use super::{Acks, Asks, Intake};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{LinkId, SourceIndex};
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
    /// User and password.
    pub user: Option<(String, String)>,
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
    /// Questions of the gateway that are published here; `None`: it never asks.
    pub asks: Option<Asks>,
}

/// How the broker's certificate is checked.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// PEM of the authorities to trust; without it the system's list.
    pub ca: Option<Vec<u8>>,
}

impl MqttSettings {
    /// Settings with the usual limits, no user, no TLS and no topics.
    pub fn new(link: LinkId, host: impl Into<String>, port: u16, client_id: impl Into<String>) -> Self {
        Self {
            link,
            host: host.into(),
            port,
            client_id: client_id.into(),
            user: None,
            tls: None,
            filters: Vec::new(),
            keep_alive: KEEP_ALIVE,
            packet_bytes_max: PACKET_BYTES_MAX,
            will_topic: None,
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
