//! WIRE → FRAMES, by HTTP: a platform (an operator's for NB-IoT, a LoRaWAN network server) posts what its devices say.
//!
//! First in the flow. A post becomes a message on a topic of its link, so that the profiles for MQTT read it (`json.rs`,
//! `ctwing.rs` and `onenet.rs` say which topic), and what a platform says of a device itself becomes a presence report.
//! The answer is 200 only after the pipeline has given every [`Delivery`] of the post back, which it does when the
//! journal has them. Everything else is told to send again, or what is wrong with it (`http.rs`).
//!
//! A platform that got no answer sends again. What names its message (an id, or a time in it) is then counted once;
//! what does not may be counted twice, which is better than once too little.

mod ctwing;
mod field;
mod http;
mod json;
mod onenet;
mod rate;

pub use http::{ANSWERS_AT_ONCE_MAX, BODY_BYTES_MAX, BODY_WITHIN, router};
pub use json::{JsonForm, TopicForm};
pub use onenet::{AesKey, OneNet};

use super::{Acks, Arrival, Intake, Numbers};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{Body, Delivery, Frame, LinkChange, LinkId, SourceIndex, Text};
use bytes::Bytes;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How long a platform waits for the journal before it is told to send again. Platforms hang up after about 5 s. It must
/// be shorter than the pipeline's `WITHHELD_MAX` (5 s): from then on messages may be acknowledged that the journal does
/// not have, and no platform is to hear 200 for such a one.
pub const KEPT_WITHIN: Duration = Duration::from_secs(4);

/// Posts a second with one token, in the long run. A thousand devices that report hourly are 0.3; a platform that works
/// off a queue of 1000 after an outage needs ten seconds.
pub const POSTS_PER_SECOND: u32 = 100;

/// Posts with one token at once, before [`POSTS_PER_SECOND`] counts: one of each of a thousand devices.
pub const POSTS_AT_ONCE: u32 = 1000;

/// After cancellation, how long posts under way may wait for the journal. As at the brokers.
pub const DRAIN_MAX: Duration = Duration::from_secs(3);

/// One `[[push]]`.
#[derive(Clone)]
pub struct PushSettings {
    /// The link's name in the plan, and in the address that is posted to.
    pub link: LinkId,
    /// What is posted.
    pub format: Format,
    /// Who may post here: any of these. For OneNET, the tokens of the signature.
    pub tokens: Vec<String>,
    /// See [`POSTS_PER_SECOND`].
    pub posts_per_second: u32,
    /// See [`POSTS_AT_ONCE`].
    pub posts_at_once: u32,
    /// See [`KEPT_WITHIN`].
    pub kept_within: Duration,
}

impl PushSettings {
    /// Settings with the usual limits.
    pub fn new(link: LinkId, format: Format, tokens: Vec<String>) -> Self {
        Self {
            link,
            format,
            tokens,
            posts_per_second: POSTS_PER_SECOND,
            posts_at_once: POSTS_AT_ONCE,
            kept_within: KEPT_WITHIN,
        }
    }
}

/// Tokens are never printed.
impl std::fmt::Debug for PushSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushSettings").field("link", &self.link).finish_non_exhaustive()
    }
}

/// What a platform posts.
#[derive(Debug, Clone)]
pub enum Format {
    /// The device's message itself, or JSON that holds it.
    Json(JsonForm),
    /// China Telecom CTWing AEP.
    Ctwing {
        /// Which field of a report is the device's address.
        address_field: String,
    },
    /// China Mobile OneNET.
    OneNet(OneNet),
}

/// One thing that a post says.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    topic: String,
    payload: Bytes,
    /// What tells this message from the next one with the same payload. `None`: nothing does.
    name: Option<String>,
    /// It is the platform's word about this device, not the device's own.
    presence: Option<(String, bool)>,
}

impl Heard {
    /// What nobody can read: no profile has such a topic, so it is kept where a person sees it.
    fn unreadable(payload: &[u8]) -> Self {
        let payload = Bytes::copy_from_slice(payload);
        Self { topic: "unreadable".to_owned(), payload, name: None, presence: None }
    }
}

/// Why a post that came from the right platform was not understood; for a person.
#[derive(Debug, Clone, PartialEq)]
struct Unreadable(Text);

impl Unreadable {
    fn new(zh: &str, en: &str) -> Self {
        Self(Text::new(zh, en))
    }
}

/// One `[[push]]` of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Push(Arc<Inner>);

struct Inner {
    door: Door,
    ingest: Ingest,
    cancel: CancellationToken,
}

struct Door {
    settings: PushSettings,
    rates: Vec<Mutex<rate::Bucket>>,
    places: Semaphore,
}

/// Which platforms may post now, and at which address; they may come and go while the addresses are served. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Doors(Arc<Mutex<HashMap<LinkId, Place>>>);

#[derive(Debug, Clone)]
struct Place {
    at: Option<SocketAddr>,
    push: Push,
}

impl Doors {
    /// Lets a platform post at that address (`None`: the duty room's), and at no other.
    pub fn open(&self, at: Option<SocketAddr>, push: Push) {
        self.lock().insert(push.0.door.settings.link.clone(), Place { at, push });
    }

    /// Closes all others.
    pub fn keep_only(&self, wanted: impl Fn(&LinkId, Option<SocketAddr>) -> bool) {
        self.lock().retain(|link, place| wanted(link, place.at));
    }

    fn find(&self, at: Option<SocketAddr>, link: &str) -> Option<Push> {
        let doors = self.lock();
        let place = doors.get(&LinkId::parse(link).ok()?).filter(|place| place.at == at)?;
        Some(place.push.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LinkId, Place>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Push").field(&self.0.door.settings.link).finish()
    }
}

impl Push {
    /// Ready to be served by [`router`]; [`Push::run`] must run meanwhile.
    pub fn new(
        settings: PushSettings,
        source: SourceIndex,
        intake: Intake,
        clock: Clock,
        metrics: Metrics,
        cancel: CancellationToken,
    ) -> Self {
        let ingest = Ingest {
            source,
            intake,
            clock,
            metrics,
            waiting: Mutex::new(HashMap::new()),
            numbers: Numbers::default(),
        };
        Self(Arc::new(Inner { door: Door::new(settings), ingest, cancel }))
    }

    /// Gives the platform its answers until cancelled; then those under way, for [`DRAIN_MAX`].
    pub async fn run(self, mut acks: Acks) {
        let Inner { door, ingest, cancel } = &*self.0;
        let reason = Text::new("等待平台推送", "waits for the platform to post");
        let change = LinkChange { link: door.settings.link.clone(), up: true, reason };
        // On the side, so that a full pipeline at the start delays nobody's answer.
        let intake = ingest.intake.clone();
        // A pipeline that is gone needs to hear nothing.
        let said = tokio::spawn(async move { intake.send(Arrival::Link(change)).await.is_ok() });
        loop {
            tokio::select! {
                biased;
                Some(batch) = acks.recv() => ingest.release(&batch),
                () = cancel.cancelled() => break,
            }
        }
        let drained = async {
            while !ingest.lock().is_empty() {
                match acks.recv().await {
                    Some(batch) => ingest.release(&batch),
                    None => break,
                }
            }
        };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            info!("platforms are left without their answer and will post again");
        }
        ingest.lock().clear();
        said.abort();
    }
}

impl Door {
    fn new(settings: PushSettings) -> Self {
        let rates = settings.tokens.iter().map(|_| {
            Mutex::new(rate::Bucket::new(settings.posts_per_second, settings.posts_at_once, Instant::now()))
        });
        Self { rates: rates.collect(), places: Semaphore::new(ANSWERS_AT_ONCE_MAX), settings }
    }

    /// How long this token must wait before it may post again.
    fn throttle(&self, token: usize) -> Option<Duration> {
        let bucket = self.rates.get(token)?;
        bucket.lock().expect("no holder of this lock panics").take(Instant::now())
    }
}

/// Between the platforms and the pipeline.
struct Ingest {
    source: SourceIndex,
    intake: Intake,
    clock: Clock,
    metrics: Metrics,
    /// Who waits for which delivery, and until when. Bounded by the posts that are answered at once; one whose platform
    /// hung up stays until the pipeline gives it back, as the pipeline holds it too.
    waiting: Mutex<HashMap<(u32, u32), Waiting>>,
    numbers: Numbers,
}

struct Waiting {
    kept: oneshot::Sender<()>,
    give_up: Instant,
}

impl Ingest {
    /// Hands all of a post to the pipeline, and waits until the journal has it. `false`: it has not, in time.
    async fn keep(&self, door: &PushSettings, heard: Vec<Heard>) -> bool {
        let (link, give_up) = (&door.link, Instant::now() + door.kept_within);
        let mut all = Vec::with_capacity(heard.len());
        for one in heard {
            // The room first: from here to the message in the channel nothing can interrupt us.
            let Ok(Ok(room)) = tokio::time::timeout_at(give_up, self.intake.reserve()).await else {
                return false;
            };
            let (kept, is_kept) = oneshot::channel();
            let name = one.name.as_ref().map_or(0, |name| low_half(name));
            let delivery = self.numbers.next(name, one.name.is_some());
            self.lock().insert((delivery.epoch, delivery.key), Waiting { kept, give_up });
            room.send(Arrival::Frame(self.frame(link, one, delivery)));
            all.push(is_kept);
        }
        for is_kept in all {
            if !matches!(tokio::time::timeout_at(give_up, is_kept).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }

    fn frame(&self, link: &LinkId, heard: Heard, delivery: Delivery) -> Frame {
        let Heard { topic, payload, presence, .. } = heard;
        let topic = topic.into();
        let body = match presence {
            None => Body::Message { topic, payload },
            Some((address, online)) => Body::Presence { topic, address: address.into(), online, payload },
        };
        Frame {
            source: self.source,
            link: link.clone(),
            body,
            received_at: self.clock.now(),
            retained: false,
            delivery: Some(delivery),
        }
    }

    /// What comes after its post was given up is no answer any more: it may not even be in the journal.
    fn release(&self, batch: &[Delivery]) {
        let now = Instant::now();
        let mut waiting = self.lock();
        for delivery in batch {
            if let Some(waits) = waiting.remove(&(delivery.epoch, delivery.key))
                && now < waits.give_up
            {
                // The platform may have hung up meanwhile; it will post again.
                waits.kept.send(()).ok();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u32, u32), Waiting>> {
        self.waiting.lock().expect("no holder of this lock panics")
    }
}

/// 16 bits of a message's name, the same in every version of this program: the pipeline knows a message again by them and
/// by link, topic and payload. Two messages of one device within ten minutes with the same undated payload and different
/// names are taken for one in one of 65 536 cases; then the state they tell is on the screen already.
#[expect(clippy::cast_possible_truncation, reason = "half of it is what is wanted")]
fn low_half(name: &str) -> u16 {
    crc32fast::hash(name.as_bytes()) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_messages_name_means_the_same_in_every_version_of_the_program() {
        // CRC-32 of "123456789" is cbf43926 by definition.
        assert_eq!(low_half("123456789"), 0x3926);
    }
}
