//! WIRE → FRAMES, by MQTT: connect, subscribe, hand frames over, acknowledge, wait, again.

use super::backoff::Backoff;
use super::connection::Connection;
use super::held::{Gone, Held, Room};
use super::packet::{Connect, Granted, Incoming, Outgoing, Publish, Receipt, Welcome};
use super::reason::Lost;
use super::secrets::Secrets;
use super::topics::Topics;
use super::{DRAIN_MAX, MqttSettings, OFFLINE, ONLINE, SAMPLE_BYTES, SUBSCRIBE_MAX};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{Body, Delivery, Frame, LinkChange, SourceIndex, Text, Timestamp};
use crate::sources::{Acks, Ask, Asks, Intake, asked};
use bytes::Bytes;
use std::future::Future;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Set in a delivery's key when the message came with QoS 2 (a subscription that an older configuration left in the
/// session): it is answered with PUBREC. Packet ids have 16 bits.
const QOS2: u32 = 1 << 16;

/// Packets taken at one wake, as far as they are there: enough that a wake costs nothing beside them, few enough that
/// acknowledgements are written in between.
const AT_ONCE: usize = 256;

/// A link that is down for another reason than before says so, at most so often: two reasons in turn must not fill the
/// duty log.
const REASON_EVERY: Duration = Duration::from_secs(60);

/// Cancelled, or nobody takes frames any more.
struct Over;

impl From<Gone> for Over {
    fn from(_: Gone) -> Self {
        Self
    }
}

pub(super) struct Client {
    settings: MqttSettings,
    source: SourceIndex,
    acks: Acks,
    acks_open: bool,
    asks: Option<broadcast::Receiver<Ask>>,
    clock: Clock,
    metrics: Metrics,
    cancel: CancellationToken,
    topics: Topics,
    /// Number of the connection, counted from 1.
    epoch: u32,
    /// Messages of this connection that wait for their acknowledgement.
    outstanding: usize,
    held: Held,
    secrets: Secrets,
    /// The broker keeps retained messages.
    retains: bool,
    /// What was last said about the link, and when.
    said: Option<(LinkChange, Instant)>,
}

/// What to do next while connected.
enum Wake {
    Cancelled,
    Acks(Option<Vec<Delivery>>),
    Room(Room),
    Ask(Ask),
    Packet(Result<Incoming, Lost>),
    Ping,
    NotSubscribed,
    NewSecrets,
}

impl Client {
    pub(super) fn new(
        settings: MqttSettings,
        source: SourceIndex,
        intake: Intake,
        acks: Acks,
        clock: Clock,
        metrics: Metrics,
        cancel: CancellationToken,
    ) -> Self {
        let asks = settings.asks.as_ref().map(Asks::subscribe);
        Self {
            secrets: Secrets::new(&settings, clock.clone()),
            settings,
            source,
            acks,
            acks_open: true,
            asks,
            clock,
            metrics,
            cancel,
            topics: Topics::default(),
            epoch: 0,
            outstanding: 0,
            held: Held::new(intake),
            retains: true,
            said: None,
        }
    }

    pub(super) async fn run(mut self) {
        // Settings that can never work are a link that is down until they change: nothing to retry.
        if let Some(reason) = super::options::fault(&self.settings) {
            self.announce(false, reason);
            let cancel = self.cancel.clone();
            let _over = self.beside(cancel.cancelled()).await;
            return self.leave(None).await;
        }
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            let (connection, ended) = self.connect_and_serve().await;
            let lost = match ended {
                Ok(lost) => lost,
                Err(Over) => return self.leave(connection).await,
            };
            let reason = lost.reason(&self.settings);
            if let (Lost::NewSecrets, Some(mut connection)) = (&lost, connection) {
                info!(link = %self.settings.link, "connecting anew: {}", reason.en);
                self.drain(Some(&mut connection)).await;
                self.farewell(&mut connection).await;
                continue;
            }
            let wait = backoff.next(begun.elapsed());
            warn!(link = %self.settings.link, retry_in_ms = wait.as_millis(), "link is down: {}", reason.en);
            self.announce(false, reason);
            match self.pause(wait).await {
                Ok(()) => {}
                Err(Over) => return self.leave(None).await,
            }
        }
    }

    /// One connection from CONNECT to its end; it is given back when it may still be good.
    async fn connect_and_serve(&mut self) -> (Option<Connection>, Result<Lost, Over>) {
        let mut connection = match self.connect().await {
            Ok(Ok(connection)) => connection,
            Ok(Err(lost)) => return (None, Ok(lost)),
            Err(over) => return (None, Err(over)),
        };
        let ended = match self.introduce(&mut connection).await {
            Ok(()) => self.serve(&mut connection).await,
            Err(lost) => Ok(lost),
        };
        (Some(connection), ended)
    }

    async fn connect(&mut self) -> Result<Result<Connection, Lost>, Over> {
        let read = self.secrets.read();
        let read = self.beside(read).await?;
        let material = match self.secrets.use_these(read) {
            Ok(material) => material,
            Err(text) => return Ok(Err(Lost::Secrets(text))),
        };
        let settings = self.settings.clone();
        let connect = Connect {
            client_id: settings.client_id.clone(),
            keep_alive: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
            login: settings.user.as_ref().map(|(name, _)| name.clone()).zip(material.password),
            will: settings.will_topic.clone().map(|topic| (topic, OFFLINE)),
            keep_session: settings.keep_session,
            receive_maximum: settings.inflight_window,
        };
        let opened = self.beside(Connection::open(settings, material.tls, connect)).await?;
        let (connection, Welcome { session, keep_alive, retains }) = match opened {
            Ok(opened) => opened,
            Err(lost) => return Ok(Err(lost)),
        };
        self.epoch = self.epoch.wrapping_add(1);
        self.outstanding = 0;
        self.retains = retains;
        if let Some(seconds) = keep_alive.filter(|seconds| *seconds > 0) {
            self.settings.keep_alive = Duration::from_secs(u64::from(seconds));
        }
        self.metrics.mqtt_connects.inc();
        info!(link = %self.settings.link, epoch = self.epoch, session, "connected to the broker");
        Ok(Ok(connection))
    }

    /// SUBSCRIBE and the retained status.
    async fn introduce(&mut self, connection: &mut Connection) -> Result<(), Lost> {
        let mut packets = Vec::with_capacity(2);
        if self.settings.filters.is_empty() {
            self.announce(true, Text::new("已连接，没有要订阅的主题", "connected, no topics to subscribe"));
        } else {
            packets.push(Outgoing::Subscribe(self.settings.filters.clone()));
        }
        packets.extend(self.status(ONLINE));
        connection.write(packets).await
    }

    /// A connection that breaks before it arrives is followed by another that says it again.
    fn status(&self, text: &'static str) -> Option<Outgoing> {
        let topic = self.settings.will_topic.clone()?;
        let payload = Bytes::from_static(text.as_bytes());
        Some(Outgoing::Publish { topic, payload, retain: self.retains })
    }

    async fn serve(&mut self, connection: &mut Connection) -> Result<Lost, Over> {
        let mut ping = tokio::time::interval(self.settings.keep_alive);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ping.reset();
        let mut unanswered_ping = false;
        let mut subscribed = self.settings.filters.is_empty();
        let subscribed_by = Instant::now() + SUBSCRIBE_MAX;
        loop {
            let full = self.held.is_full();
            // Acknowledgements before everything: they let the broker go on. The rest in the order of what frees memory.
            let wake = tokio::select! {
                biased;
                () = self.cancel.cancelled() => Wake::Cancelled,
                batch = self.acks.recv(), if self.acks_open => Wake::Acks(batch),
                room = self.held.room(), if !self.held.is_empty() => Wake::Room(room),
                _ = ping.tick() => Wake::Ping,
                () = self.secrets.changed() => Wake::NewSecrets,
                ask = asked(&mut self.asks) => Wake::Ask(ask),
                packet = connection.next(), if !full => Wake::Packet(packet),
                () = tokio::time::sleep_until(subscribed_by), if !subscribed && !full => Wake::NotSubscribed,
            };
            let done = match wake {
                Wake::Cancelled => return Err(Over),
                Wake::Acks(None) => {
                    self.acks_open = false;
                    Ok(())
                }
                Wake::Acks(Some(batch)) => self.acknowledge(connection, batch).await,
                Wake::Room(permit) => {
                    self.held.hand_over(permit)?;
                    // While reading stood still the answer to a ping may have waited unread.
                    unanswered_ping &= !full;
                    Ok(())
                }
                Wake::Packet(first) => {
                    let taken = self.take(connection, first).await?;
                    taken.map(|Taken { subscription, pong }| {
                        subscribed |= subscription;
                        unanswered_ping &= !pong;
                    })
                }
                Wake::Ping if unanswered_ping && !full => Err(Lost::HalfOpen),
                Wake::Ping => {
                    unanswered_ping = true;
                    connection.write([Outgoing::PingReq]).await
                }
                // Lost with the connection: whoever asked asks again.
                Wake::Ask(Ask { topic, payload }) => {
                    let topic = topic.to_string();
                    connection.write([Outgoing::Publish { topic, payload, retain: false }]).await
                }
                Wake::NotSubscribed => Err(Lost::NotSubscribed),
                Wake::NewSecrets => Err(Lost::NewSecrets),
            };
            if let Err(lost) = done {
                return Ok(lost);
            }
        }
    }

    /// Takes one packet and what has come with it.
    async fn take(
        &mut self,
        connection: &mut Connection,
        first: Result<Incoming, Lost>,
    ) -> Result<Result<Taken, Lost>, Over> {
        let now = self.clock.now();
        let mut taken = Taken::default();
        let mut next = Some(first);
        let mut left = AT_ONCE;
        while let Some(packet) = next {
            match packet {
                Ok(Incoming::Publish(publish)) => self.message(publish, now)?,
                Ok(Incoming::SubAck(granted)) => {
                    taken.subscription = true;
                    self.subscribed(&granted);
                }
                Ok(Incoming::PingResp) => taken.pong = true,
                Ok(Incoming::PubRel(id)) => {
                    if let Err(lost) = connection.write([Outgoing::PubComp(id)]).await {
                        return Ok(Err(lost));
                    }
                }
                Ok(Incoming::Disconnect(said)) => return Ok(Err(Lost::Left(said))),
                Ok(Incoming::ConnAck(_) | Incoming::Other) => {}
                Err(lost) => return Ok(Err(lost)),
            }
            left -= 1;
            next = if left == 0 || self.held.is_full() { None } else { connection.next_at_once() };
        }
        Ok(Ok(taken))
    }

    fn message(&mut self, publish: Publish, received_at: Timestamp) -> Result<(), Over> {
        let key = match publish.receipt {
            Receipt::None => None,
            Receipt::PubAck(id) => Some(u32::from(id)),
            Receipt::PubRec(id) => Some(u32::from(id) | QOS2),
        };
        let delivery = key.map(|key| Delivery { epoch: self.epoch, key, duplicate: publish.dup });
        self.outstanding += usize::from(delivery.is_some());
        let payload = if publish.payload.len() > self.settings.packet_bytes_max {
            self.metrics.mqtt_oversize.inc();
            warn!(link = %self.settings.link, topic = publish.topic, bytes = publish.payload.len(), "a message is too large");
            // A copy, so that the large one is freed.
            Bytes::copy_from_slice(&publish.payload[..SAMPLE_BYTES.min(self.settings.packet_bytes_max)])
        } else {
            publish.payload
        };
        let frame = Frame {
            source: self.source,
            link: self.settings.link.clone(),
            body: Body::Message { topic: self.topics.intern(&publish.topic), payload },
            received_at,
            retained: publish.retain,
            delivery,
        };
        Ok(self.held.put(frame)?)
    }

    /// The broker may refuse single topics. That is a link that does not do its work, and must be seen.
    fn subscribed(&mut self, granted: &[Granted]) {
        let with = |wanted: Granted| {
            let pairs =
                self.settings.filters.iter().zip(granted).filter(move |(_, granted)| **granted == wanted);
            pairs.map(|(filter, _)| filter.as_str()).collect::<Vec<_>>()
        };
        let (refused, unsafely) = (with(Granted::No), with(Granted::WithoutAcknowledgement));
        let (up, reason) = if !refused.is_empty() {
            let zh = format!("服务器拒绝订阅 {refused:?}：请检查它的访问控制");
            (
                false,
                Text::new(&zh, &format!("the broker refused the topics {refused:?}: check its access list")),
            )
        } else if !unsafely.is_empty() {
            let zh = format!("已连接，但服务器只给 QoS 0：中断期间的消息会丢失 {unsafely:?}");
            let en =
                format!("connected, but with QoS 0 only: what is sent during an outage is lost {unsafely:?}");
            (true, Text::new(&zh, &en))
        } else {
            (true, Text::new("已连接并订阅", "connected and subscribed"))
        };
        if !up || !unsafely.is_empty() {
            warn!(link = %self.settings.link, "{}", reason.en);
        }
        self.announce(up, reason);
    }

    /// Says that the link came up or went down, or that it is down for another reason; only when that is new.
    fn announce(&mut self, up: bool, reason: Text) {
        let change = LinkChange { link: self.settings.link.clone(), up, reason };
        let now = Instant::now();
        if let Some((before, at)) = &self.said
            && before.up == up
            && (up || before.reason == change.reason || now.duration_since(*at) < REASON_EVERY)
        {
            return;
        }
        self.said = Some((change.clone(), now));
        self.held.put_link(change);
    }

    /// PUBACK for all that waits in the channel, with one flush.
    async fn acknowledge(&mut self, connection: &mut Connection, first: Vec<Delivery>) -> Result<(), Lost> {
        let mut deliveries = first;
        while let Ok(more) = self.acks.try_recv() {
            deliveries.extend(more);
        }
        let (epoch, stale, mut answered) = (self.epoch, &self.metrics.mqtt_stale_acks, 0);
        // Made one by one: ten thousand packets side by side were a megabyte.
        let packets = deliveries.into_iter().filter_map(|delivery| {
            let packet = answer(epoch, delivery);
            if packet.is_some() {
                answered += 1
            } else {
                _ = stale.inc()
            }
            packet
        });
        let written = connection.write(packets).await;
        self.outstanding = self.outstanding.saturating_sub(answered);
        written
    }

    /// Does something else while there is no connection: hands frames over, drops acknowledgements (all are stale).
    async fn beside<F: Future>(&mut self, work: F) -> Result<F::Output, Over> {
        tokio::pin!(work);
        loop {
            let wake = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Over),
                output = &mut work => return Ok(output),
                batch = self.acks.recv(), if self.acks_open => Wake::Acks(batch),
                room = self.held.room(), if !self.held.is_empty() => Wake::Room(room),
            };
            self.unconnected(wake)?;
        }
    }

    /// Waits before the next attempt; not when there are new secrets to try.
    async fn pause(&mut self, wait: Duration) -> Result<(), Over> {
        let until = Instant::now() + wait;
        loop {
            let wake = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Over),
                batch = self.acks.recv(), if self.acks_open => Wake::Acks(batch),
                room = self.held.room(), if !self.held.is_empty() => Wake::Room(room),
                () = self.secrets.changed() => return Ok(()),
                () = tokio::time::sleep_until(until) => return Ok(()),
            };
            self.unconnected(wake)?;
        }
    }

    /// What is done while there is no connection.
    fn unconnected(&mut self, wake: Wake) -> Result<(), Over> {
        match wake {
            Wake::Acks(Some(batch)) => _ = self.metrics.mqtt_stale_acks.inc_by(batch.len() as u64),
            Wake::Acks(None) => self.acks_open = false,
            Wake::Room(permit) => self.held.hand_over(permit)?,
            _ => {}
        }
        Ok(())
    }

    /// The orderly end: what was received is handed over, what comes back is acknowledged, then `offline` and
    /// DISCONNECT. What is still not acknowledged stays in the broker's session and is sent again at the next start.
    async fn leave(mut self, mut connection: Option<Connection>) {
        self.drain(connection.as_mut()).await;
        self.metrics.frames_lost.inc_by(self.held.irreplaceable());
        if let Some(connection) = &mut connection {
            self.farewell(connection).await;
        }
    }

    async fn farewell(&mut self, connection: &mut Connection) {
        let farewell = self.status(OFFLINE).into_iter().chain([Outgoing::Disconnect]);
        if let Err(lost) = connection.write(farewell).await {
            info!(link = %self.settings.link, "left without a farewell: {}", lost.reason(&self.settings).en);
        }
    }

    /// Hands over what was received and acknowledges what comes back, without reading more.
    async fn drain(&mut self, mut connection: Option<&mut Connection>) {
        let deadline = Instant::now() + DRAIN_MAX;
        while (connection.is_some() && self.outstanding > 0 && self.acks_open) || !self.held.is_empty() {
            let wake = tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => break,
                batch = self.acks.recv(), if self.acks_open => Wake::Acks(batch),
                room = self.held.room(), if !self.held.is_empty() => Wake::Room(room),
            };
            let gone = match (wake, &mut connection) {
                (Wake::Acks(Some(batch)), Some(connection)) => {
                    self.acknowledge(connection, batch).await.is_err()
                }
                (wake, _) => self.unconnected(wake).is_err(),
            };
            if gone {
                break;
            }
        }
    }
}

/// What came with some packets.
#[derive(Default)]
struct Taken {
    subscription: bool,
    pong: bool,
}

/// `None` for a delivery of an earlier connection.
fn answer(epoch: u32, delivery: Delivery) -> Option<Outgoing> {
    let id = u16::try_from(delivery.key & !QOS2).ok().filter(|_| delivery.epoch == epoch)?;
    let receipt = if delivery.key & QOS2 == 0 { Receipt::PubAck(id) } else { Receipt::PubRec(id) };
    Some(Outgoing::Acknowledge(receipt))
}
