//! The connection: connect, subscribe, hand frames over, acknowledge, wait, again.

use super::backoff::Backoff;
use super::held::{Gone, Held, Room};
use super::options::options;
use super::reason::Lost;
use super::topics::Topics;
use super::{CONNECT_MAX, DRAIN_MAX, MqttSettings, OFFLINE, ONLINE, SAMPLE_BYTES, SUBSCRIBE_MAX, WRITE_MAX};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{Body, Delivery, Frame, LinkChange, SourceIndex, Text, Timestamp};
use crate::sources::{Acks, Ask, Asks, Intake, asked};
use bytes::Bytes;
use rumqttc::{
    Event, EventLoop, Packet, PubAck, PubRec, Publish, QoS, SubAck, Subscribe, SubscribeFilter,
    SubscribeReasonCode,
};
use std::future::Future;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Set in a delivery's key when the message came with QoS 2 (a subscription that an older configuration left in the
/// session): it is answered with PUBREC. Packet ids have 16 bits.
const QOS2: u32 = 1 << 16;

/// The only packet id we ever use: one SUBSCRIBE a connection.
const SUBSCRIBE_ID: u16 = 1;

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
    /// What was last said about the link.
    up: Option<bool>,
}

/// What to do next while connected.
enum Wake {
    Cancelled,
    Acks(Option<Vec<Delivery>>),
    Room(Room),
    Ask(Ask),
    Packet(Result<Event, rumqttc::ConnectionError>),
    Ping,
    NotSubscribed,
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
            up: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut connection = match options(&self.settings) {
            Ok(options) => Some(EventLoop::new(options, 1)),
            Err(reason) => {
                self.announce(false, reason);
                None
            }
        };
        // Settings that can never work are a link that is down until they change: nothing to retry.
        let Some(event_loop) = &mut connection else {
            let cancel = self.cancel.clone();
            let _over = self.beside(cancel.cancelled()).await;
            return self.hand_over_the_rest().await;
        };
        event_loop.network_options.set_connection_timeout(CONNECT_MAX.as_secs());
        event_loop.network_options.set_tcp_nodelay(true);
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            let lost = match self.connected(event_loop).await {
                Ok(lost) => lost,
                Err(Over) => break,
            };
            event_loop.clean();
            event_loop.pending.clear();
            event_loop.state.events.clear();
            let reason = lost.reason(&self.settings);
            let wait = backoff.next(begun.elapsed());
            warn!(link = %self.settings.link, retry_in_ms = wait.as_millis(), "link is down: {}", reason.en);
            self.announce(false, reason);
            if let Err(Over) = self.beside(tokio::time::sleep(wait)).await {
                break;
            }
        }
        self.leave(event_loop).await;
    }

    /// One connection from CONNECT to its end.
    async fn connected(&mut self, event_loop: &mut EventLoop) -> Result<Lost, Over> {
        let session = match self.beside(event_loop.poll()).await? {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => connack.session_present,
            Ok(_) => return Ok(Lost::NotSubscribed),
            Err(error) => return Ok(error.into()),
        };
        self.epoch = self.epoch.wrapping_add(1);
        self.outstanding = 0;
        self.metrics.mqtt_connects.inc();
        info!(link = %self.settings.link, epoch = self.epoch, session, "connected to the broker");
        if let Err(lost) = self.introduce(event_loop).await {
            return Ok(lost);
        }
        self.serve(event_loop).await
    }

    /// SUBSCRIBE and the retained status.
    async fn introduce(&mut self, event_loop: &mut EventLoop) -> Result<(), Lost> {
        let mut packets = Vec::with_capacity(2);
        if self.settings.filters.is_empty() {
            self.announce(true, Text::new("已连接，没有要订阅的主题", "connected, no topics to subscribe"));
        } else {
            let filters =
                self.settings.filters.iter().map(|f| SubscribeFilter::new(f.clone(), QoS::AtLeastOnce));
            let mut subscribe = Subscribe::new_many(filters);
            subscribe.pkid = SUBSCRIBE_ID;
            packets.push(Packet::Subscribe(subscribe));
        }
        packets.extend(self.status(ONLINE));
        write(event_loop, packets).await
    }

    /// QoS 0: no packet id, no window, nothing to wait for. A connection that breaks before it arrives is followed by
    /// another that says it again.
    fn status(&self, text: &'static str) -> Option<Packet> {
        let topic = self.settings.will_topic.as_ref()?;
        let mut publish = Publish::from_bytes(topic, QoS::AtMostOnce, Bytes::from_static(text.as_bytes()));
        publish.retain = true;
        Some(Packet::Publish(publish))
    }

    async fn serve(&mut self, event_loop: &mut EventLoop) -> Result<Lost, Over> {
        let mut ping = tokio::time::interval(self.settings.keep_alive.max(Duration::from_secs(1)) / 2);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
                ask = asked(&mut self.asks) => Wake::Ask(ask),
                event = event_loop.poll(), if !full => Wake::Packet(event),
                _ = ping.tick(), if full => Wake::Ping,
                () = tokio::time::sleep_until(subscribed_by), if !subscribed && !full => Wake::NotSubscribed,
            };
            let done = match wake {
                Wake::Cancelled => return Err(Over),
                Wake::Acks(None) => {
                    self.acks_open = false;
                    Ok(())
                }
                Wake::Acks(Some(batch)) => self.acknowledge(event_loop, batch).await,
                Wake::Room(permit) => {
                    self.held.hand_over(permit)?;
                    // While reading stood still the answer to a ping may have waited unread.
                    event_loop.state.await_pingresp &= !full;
                    Ok(())
                }
                Wake::Packet(Ok(first)) => {
                    subscribed |= self.take(event_loop, first)?;
                    Ok(())
                }
                Wake::Packet(Err(error)) => Err(error.into()),
                Wake::Ask(ask) => {
                    let publish = Publish::from_bytes(&*ask.topic, QoS::AtMostOnce, ask.payload);
                    write(event_loop, [Packet::Publish(publish)]).await
                }
                Wake::Ping => write(event_loop, [Packet::PingReq]).await,
                Wake::NotSubscribed => Err(Lost::NotSubscribed),
            };
            if let Err(lost) = done {
                return Ok(lost);
            }
        }
    }

    /// Takes one packet and all that rumqttc has read with it. Says whether the subscription was answered.
    fn take(&mut self, event_loop: &mut EventLoop, first: Event) -> Result<bool, Over> {
        let now = self.clock.now();
        let mut answered = false;
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                Event::Incoming(Packet::Publish(publish)) => self.message(publish, now)?,
                Event::Incoming(Packet::SubAck(suback)) => {
                    answered = true;
                    self.subscribed(&suback);
                }
                _ => {}
            }
            next = event_loop.state.events.pop_front();
        }
        Ok(answered)
    }

    fn message(&mut self, publish: Publish, received_at: Timestamp) -> Result<(), Over> {
        let key = match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(u32::from(publish.pkid)),
            QoS::ExactlyOnce => Some(u32::from(publish.pkid) | QOS2),
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
    fn subscribed(&mut self, suback: &SubAck) {
        let refused: Vec<&str> = self
            .settings
            .filters
            .iter()
            .zip(&suback.return_codes)
            .filter(|(_, code)| matches!(code, SubscribeReasonCode::Failure))
            .map(|(filter, _)| filter.as_str())
            .collect();
        if refused.is_empty() {
            self.announce(true, Text::new("已连接并订阅", "connected and subscribed"));
        } else {
            let reason = Text::new(
                &format!("服务器拒绝订阅 {refused:?}：请检查它的访问控制"),
                &format!("the broker refused the topics {refused:?}: check its access list"),
            );
            warn!(link = %self.settings.link, "{}", reason.en);
            self.announce(false, reason);
        }
    }

    /// Says that the link came up or went down, only when that is new.
    fn announce(&mut self, up: bool, reason: Text) {
        if self.up.replace(up) == Some(up) {
            return;
        }
        self.held.put_link(LinkChange { link: self.settings.link.clone(), up, reason });
    }

    /// PUBACK for all that waits in the channel, with one flush.
    async fn acknowledge(&mut self, event_loop: &mut EventLoop, first: Vec<Delivery>) -> Result<(), Lost> {
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
        let written = write(event_loop, packets).await;
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
            match wake {
                Wake::Acks(Some(batch)) => {
                    self.metrics.mqtt_stale_acks.inc_by(batch.len() as u64);
                }
                Wake::Acks(None) => self.acks_open = false,
                Wake::Room(permit) => self.held.hand_over(permit)?,
                Wake::Cancelled | Wake::Packet(_) | Wake::Ask(_) | Wake::Ping | Wake::NotSubscribed => {}
            }
        }
    }

    /// The orderly end: what was received is handed over, what comes back is acknowledged, then `offline` and
    /// DISCONNECT. What is still not acknowledged stays in the broker's session and is sent again at the next start.
    async fn leave(mut self, event_loop: &mut EventLoop) {
        let deadline = Instant::now() + DRAIN_MAX;
        let connected = event_loop.network.is_some();
        while (connected && self.outstanding > 0 && self.acks_open) || !self.held.is_empty() {
            let wake = tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => break,
                batch = self.acks.recv(), if self.acks_open => Wake::Acks(batch),
                room = self.held.room(), if !self.held.is_empty() => Wake::Room(room),
            };
            let gone = match wake {
                Wake::Acks(Some(batch)) if connected => self.acknowledge(event_loop, batch).await.is_err(),
                Wake::Acks(batch) => {
                    self.acks_open &= batch.is_some();
                    false
                }
                Wake::Room(permit) => self.held.hand_over(permit).is_err(),
                Wake::Cancelled | Wake::Packet(_) | Wake::Ask(_) | Wake::Ping | Wake::NotSubscribed => false,
            };
            if gone {
                break;
            }
        }
        self.metrics.frames_lost.inc_by(self.held.irreplaceable());
        if connected {
            let farewell = self.status(OFFLINE).into_iter().chain([Packet::Disconnect]);
            if let Err(lost) = write(event_loop, farewell).await {
                info!(link = %self.settings.link, "left without a farewell: {}", lost.reason(&self.settings).en);
            }
        }
    }

    /// The end of settings that never worked: only the word about the link may still wait.
    async fn hand_over_the_rest(mut self) {
        while !self.held.is_empty() {
            let Ok(room) = tokio::time::timeout(DRAIN_MAX, self.held.room()).await else { return };
            if self.held.hand_over(room).is_err() {
                return;
            }
        }
    }
}

/// `None` for a delivery of an earlier connection.
fn answer(epoch: u32, delivery: Delivery) -> Option<Packet> {
    let packet_id = u16::try_from(delivery.key & !QOS2).ok().filter(|_| delivery.epoch == epoch)?;
    Some(if delivery.key & QOS2 == 0 {
        Packet::PubAck(PubAck::new(packet_id))
    } else {
        Packet::PubRec(PubRec::new(packet_id))
    })
}

/// Writes packets past rumqttc's request channel, with one flush.
async fn write(event_loop: &mut EventLoop, packets: impl IntoIterator<Item = Packet>) -> Result<(), Lost> {
    let Some(network) = event_loop.network.as_mut() else {
        return Err(Lost::WriteFailed(Text::new("没有连接", "not connected")));
    };
    let all = async {
        for packet in packets {
            network.write(packet).await?;
        }
        network.flush().await
    };
    match tokio::time::timeout(WRITE_MAX, all).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Lost::WriteFailed(Text::new(&error.to_string(), &error.to_string()))),
        Err(_) => {
            let seconds = WRITE_MAX.as_secs();
            let why = Text::new(&format!("{seconds} 秒写不出去"), &format!("nothing for {seconds} s"));
            Err(Lost::WriteFailed(why))
        }
    }
}
