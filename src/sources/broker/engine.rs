//! The broker inside: the only file that names the crate `mqtt5`.

use super::relay::{self, Pending, UNDER_WAY_MAX};
use super::tls::Tls;
use super::{Ask, BrokerSettings, Credentials, Ingest};
use bytes::Bytes;
use mqtt5::QoS;
use mqtt5::broker::client_handler::ClientHandler;
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::storage::client_queue::QueueLimits;
use mqtt5::broker::sys_topics::BrokerStats;
use mqtt5::broker::transport::BrokerTransport;
use mqtt5::broker::{
    AuthProvider, AuthResult, BrokerConfig, BrokerEventHandler, ClientConnectEvent, ClientDisconnectEvent,
    ClientPublishEvent, DynamicStorage, MemoryBackend, PublishAction, ResourceLimits, ResourceMonitor,
    StorageBackend,
};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::packet::publish::PublishPacket;
use mqtt5::types::ReasonCode;
use std::collections::HashMap;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// How long a subscriber's session outlives its connection. A technician's tool that comes back the next day starts anew.
const SESSION_EXPIRY: Duration = Duration::from_secs(24 * 3600);

/// Messages queued for one subscriber that is away: with [`QUEUE_BYTES_MAX`] what a slow one may cost.
const QUEUE_MAX: usize = 1000;

/// Bytes queued for one subscriber that is away.
const QUEUE_BYTES_MAX: usize = 4 << 20;

/// Retained messages: two topics for each of a thousand devices, twice over.
const RETAINED_MAX: usize = 4096;

/// The largest retained message: 4096 of them stay under 64 MB in the worst case.
const RETAINED_BYTES_MAX: usize = 16 << 10;

/// Subscriptions of one client.
const SUBSCRIPTIONS_MAX: usize = 256;

/// How often forgotten sessions are swept out.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// After an error of `accept` (out of file descriptors): long enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long connections may take to end when the broker stops.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Without and with TLS.
pub(super) type Listeners = (Option<TcpListener>, Option<TcpListener>);

/// The next connection; never one where nobody listens.
async fn next(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The broker crate's parts that outlive a connection. Its own `MqttBroker` is not used: it wants to accept itself.
pub(super) struct Engine {
    config: BrokerConfig,
    parts: Parts,
    ingest: Arc<Ingest>,
    tls: Option<Arc<Tls>>,
    places: Arc<Semaphore>,
    stop: broadcast::Sender<()>,
    connections: TaskTracker,
}

impl Engine {
    pub(super) fn new(
        settings: &BrokerSettings,
        tls: Option<Tls>,
        ingest: Arc<Ingest>,
    ) -> Result<Self, String> {
        let config = BrokerConfig {
            max_clients: settings.clients_max,
            server_receive_maximum: Some(UNDER_WAY_MAX),
            max_packet_size: settings.packet_bytes_max,
            session_expiry_interval: SESSION_EXPIRY,
            max_subscriptions_per_client: SUBSCRIPTIONS_MAX,
            // The crate would refuse the whole message, which may be a fire, before we see it: we keep these two limits.
            max_retained_messages: 0,
            max_retained_message_size: 0,
            client_channel_capacity: QUEUE_MAX,
            sys_topics_enabled: false,
            ..BrokerConfig::default()
        };
        config.validate().map_err(|error| error.to_string())?;
        let queues = QueueLimits { max_messages: QUEUE_MAX, max_bytes: QUEUE_BYTES_MAX };
        let storage = Arc::new(DynamicStorage::Memory(MemoryBackend::with_queue_limits(queues)));
        let router = MessageRouter::with_storage(Arc::clone(&storage))
            .with_fallback_queue_limits(queues)
            .with_retained_limits(0, 0);
        // Only ours count: the crate's own (1000 messages a second and client) would drop messages.
        let limits = ResourceLimits {
            max_connections: settings.clients_max,
            max_connections_per_ip: settings.clients_max,
            max_message_rate_per_client: 0,
            max_bandwidth_per_client: 0,
            ..ResourceLimits::default()
        };
        Ok(Self {
            config,
            parts: Parts {
                router: Arc::new(router),
                storage,
                stats: Arc::new(BrokerStats::new()),
                monitor: Arc::new(ResourceMonitor::new(limits)),
                gate: Arc::new(Gate {
                    credentials: RwLock::new(Arc::new(settings.credentials.clone())),
                    connected: Mutex::new(HashMap::new()),
                    ingest: Arc::clone(&ingest),
                }),
            },
            ingest,
            tls: tls.map(Arc::new),
            places: Arc::new(Semaphore::new(settings.clients_max)),
            stop: broadcast::channel(1).0,
            connections: TaskTracker::new(),
        })
    }

    /// Accepts until cancelled.
    pub(super) async fn accept(&self, (plain, secure): Listeners, cancel: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = sweep.tick() => self.sweep().await,
                accepted = next(plain.as_ref()) => self.accepted(accepted, None).await,
                accepted = next(secure.as_ref()) => self.accepted(accepted, self.tls.clone()).await,
            }
        }
    }

    async fn accepted(&self, accepted: std::io::Result<(TcpStream, SocketAddr)>, tls: Option<Arc<Tls>>) {
        match accepted {
            Ok((stream, peer)) => self.connection(stream, peer, tls),
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.parts.gate)
    }

    fn connection(&self, stream: TcpStream, peer: SocketAddr, tls: Option<Arc<Tls>>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.ingest.metrics.broker_refused.inc();
            warn!(%peer, "connection refused: {} are open", self.config.max_clients);
            return;
        };
        let parts = self.parts.clone();
        let pending = Pending::new();
        let mut config = self.config.clone();
        let gate = Arc::clone(&self.parts.gate);
        let dismissed = CancellationToken::new();
        config.event_handler = Some(Arc::new(Connection {
            gate: Arc::clone(&gate),
            pending: Arc::clone(&pending),
            will: Mutex::new(None),
            router: Arc::clone(&self.parts.router),
            peer,
            dismissed: dismissed.clone(),
        }));
        let bytes_max = config.max_packet_size;
        let refused = self.ingest.metrics.broker_refused.clone();
        let stop = self.stop.subscribe();
        self.connections.spawn(async move {
            let (ours, theirs) = match relay::pair().await {
                Ok(pair) => pair,
                Err(error) => return warn!(%peer, "no sockets left for a connection: {error}"),
            };
            let relayed = async move {
                stream.set_nodelay(true)?;
                let relayed = async {
                    match tls {
                        None => relay::relay(stream.into_split(), ours, pending, bytes_max).await,
                        Some(tls) => {
                            let stream = tls.accept(stream).await?;
                            relay::relay(tokio::io::split(stream), ours, pending, bytes_max).await
                        }
                    }
                };
                dismissed.run_until_cancelled(relayed).await.unwrap_or(Ok(()))
            };
            let handler = parts.handler(theirs, peer, config, stop);
            let (relayed, handled) = tokio::join!(relayed, handler.run());
            gate.forget(peer);
            if let Err(error) = relayed {
                match error.kind() {
                    ErrorKind::TimedOut => {
                        warn!(%peer, "a message was not written to the journal in time; its publisher must send it again");
                    }
                    ErrorKind::FileTooLarge => {
                        refused.inc();
                        warn!(%peer, "connection closed: {error}");
                    }
                    _ => debug!(%peer, "connection broke: {error}"),
                }
            }
            if let Err(error) = handled {
                debug!(%peer, "connection ended: {error}");
            }
            drop(place);
        });
    }

    async fn sweep(&self) {
        if let Err(error) = self.parts.storage.cleanup_expired().await {
            warn!("expired sessions could not be removed: {error}");
        }
        self.parts.router.sweep_sessions().await;
        self.parts.monitor.cleanup_expired_windows().await;
    }

    /// Publishes a question of ours to whoever listens.
    pub(super) async fn publish(&self, ask: Ask) {
        let packet = PublishPacket::new(&*ask.topic, ask.payload, QoS::AtMostOnce);
        self.parts.router.route_message(&packet, None).await;
    }

    pub(super) async fn stop(&self) {
        // Nobody listens when nobody is connected.
        self.stop.send(()).ok();
        self.connections.close();
        if tokio::time::timeout(STOP_MAX, self.connections.wait()).await.is_err() {
            warn!("{} connections did not end in time", self.connections.len());
        }
    }
}

/// What every connection shares of the broker crate.
#[derive(Clone)]
struct Parts {
    router: Arc<MessageRouter>,
    storage: Arc<DynamicStorage>,
    stats: Arc<BrokerStats>,
    monitor: Arc<ResourceMonitor>,
    gate: Arc<Gate>,
}

impl Parts {
    fn handler(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        config: BrokerConfig,
        stop: broadcast::Receiver<()>,
    ) -> ClientHandler {
        ClientHandler::new(
            BrokerTransport::tcp(stream),
            peer,
            Arc::new(config),
            self.router,
            self.gate,
            Some(self.storage),
            self.stats,
            self.monitor,
            stop,
        )
    }
}

/// Who may come in and what he may do.
pub(super) struct Gate {
    credentials: RwLock<Arc<Credentials>>,
    /// Who is connected from where, and how he is disconnected.
    connected: Mutex<HashMap<SocketAddr, (String, CancellationToken)>>,
    ingest: Arc<Ingest>,
}

impl Gate {
    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials.read().expect("no holder of this lock panics"))
    }

    fn may_publish(&self, user: Option<&str>, topic: &str) -> bool {
        self.credentials().may_publish(user, topic)
    }

    /// See [`super::Keys::replace`].
    pub(super) fn replace(&self, new: Credentials) -> usize {
        // Under the lock of the connected: nobody comes in between with what he knew before.
        let connected = self.connected.lock().expect("no holder of this lock panics");
        let new = Arc::new(new);
        let mut current = self.credentials.write().expect("no holder of this lock panics");
        let old = std::mem::replace(&mut *current, Arc::clone(&new));
        let gone: Vec<_> = connected.values().filter(|(user, _)| !old.says_the_same(&new, user)).collect();
        gone.iter().for_each(|(_, dismissed)| dismissed.cancel());
        gone.len()
    }

    fn remember(&self, peer: SocketAddr, user: &str, dismissed: &CancellationToken) {
        let mut connected = self.connected.lock().expect("no holder of this lock panics");
        if self.credentials().knows(user) {
            connected.insert(peer, (user.to_owned(), dismissed.clone()));
        } else {
            dismissed.cancel();
        }
    }

    fn forget(&self, peer: SocketAddr) {
        self.connected.lock().expect("no holder of this lock panics").remove(&peer);
    }
}

impl AuthProvider for Gate {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        peer: SocketAddr,
    ) -> Boxed<'a, mqtt5::error::Result<AuthResult>> {
        let user = connect.username.as_deref();
        let credentials = self.credentials();
        let admitted = credentials.admit(user, connect.password.as_deref());
        let result = match (admitted, &*credentials, user) {
            (false, ..) => {
                self.ingest.metrics.broker_refused.inc();
                warn!(%peer, user, client = connect.client_id, "connection refused: wrong user or password");
                AuthResult::fail(ReasonCode::BadUsernameOrPassword)
            }
            (true, Credentials::Users(_), Some(user)) => AuthResult::success_with_user(user),
            (true, ..) => AuthResult::success(),
        };
        Box::pin(std::future::ready(Ok(result)))
    }

    fn authorize_publish<'a>(
        &'a self,
        client: &str,
        user: Option<&'a str>,
        topic: &'a str,
    ) -> Boxed<'a, bool> {
        let may = self.may_publish(user, topic);
        if !may {
            self.ingest.metrics.broker_refused.inc();
            warn!(client, user, topic, "message refused: this user may not publish there");
        }
        Box::pin(std::future::ready(may))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        client: &str,
        user: Option<&'a str>,
        filter: &'a str,
    ) -> Boxed<'a, bool> {
        let may = self.credentials().may_subscribe(user, filter);
        if !may {
            self.ingest.metrics.broker_refused.inc();
            warn!(client, user, filter, "subscription refused: this user may not listen there");
        }
        Box::pin(std::future::ready(may))
    }
}

/// What happens on one connection.
struct Connection {
    gate: Arc<Gate>,
    pending: Arc<Pending>,
    will: Mutex<Option<(Arc<str>, Bytes)>>,
    router: Arc<MessageRouter>,
    peer: SocketAddr,
    dismissed: CancellationToken,
}

impl Connection {
    /// What becomes of a message once we have it: it goes on to the subscribers, and is retained if it asks for it and
    /// there is room. Without room it is an ordinary message, not a refused one.
    async fn goes_on(&self, message: &ClientPublishEvent) -> PublishAction {
        if !message.retain || message.payload.is_empty() {
            return PublishAction::Continue;
        }
        let full = self.router.retained_count().await >= RETAINED_MAX
            && !self.router.has_retained_message(&message.topic).await;
        if !full && message.payload.len() <= RETAINED_BYTES_MAX {
            return PublishAction::Continue;
        }
        self.gate.ingest.metrics.broker_refused.inc();
        warn!(client = %message.client_id, topic = %message.topic, "taken, but not retained: too large, or too many are");
        let mut ordinary = PublishPacket::new(&*message.topic, message.payload.clone(), message.qos);
        ordinary.packet_id = message.packet_id;
        PublishAction::Transform(ordinary)
    }
}

impl BrokerEventHandler for Connection {
    fn on_client_connect<'a>(&'a self, client: ClientConnectEvent) -> Boxed<'a, ()> {
        self.gate.ingest.metrics.broker_clients.inc();
        if let Some(user) = client.user_id.as_deref() {
            self.gate.remember(self.peer, user, &self.dismissed);
        }
        let will = client.will_topic.zip(client.will_payload);
        *self.will.lock().expect("no holder of this lock panics") =
            will.filter(|(topic, _)| self.gate.may_publish(client.user_id.as_deref(), topic));
        Box::pin(std::future::ready(()))
    }

    fn on_client_publish<'a>(&'a self, message: ClientPublishEvent) -> Boxed<'a, PublishAction> {
        Box::pin(async move {
            let ingest = &self.gate.ingest;
            let goes_on = self.goes_on(&message).await;
            let Some(packet_id) = message.packet_id.filter(|_| message.qos != QoS::AtMostOnce) else {
                ingest.take_unacknowledged(message.topic, message.payload).await;
                return goes_on;
            };
            if let Some(place) = self.pending.place().await {
                let duplicate = self.pending.is_duplicate(packet_id);
                let kept = ingest.take(message.topic, message.payload, packet_id, duplicate).await;
                self.pending.add(packet_id, kept, ingest.ack_wait_max, place);
            }
            goes_on
        })
    }

    /// A last will is a message of the device ("offline") that no hook sees.
    fn on_client_disconnect<'a>(&'a self, client: ClientDisconnectEvent) -> Boxed<'a, ()> {
        Box::pin(async move {
            self.gate.ingest.metrics.broker_clients.dec();
            let will = self.will.lock().expect("no holder of this lock panics").take();
            if let Some((topic, payload)) = will.filter(|_| client.unexpected) {
                self.gate.ingest.take_unacknowledged(topic, payload).await;
            }
        })
    }
}
