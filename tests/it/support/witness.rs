//! A publisher with QoS 1 that remembers what was acknowledged, and the proof that the journal has kept it.

use super::gateway::{House, Running, numbers_of, smoke, topic};
use super::pen::Pen;
use super::ports::{soon, until};
use fengsui::journal::Entry;
use fengsui::model::{Change, Fact};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How a witness writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Messages under way.
    pub(crate) in_flight: usize,
    /// How long it rests after each acknowledgement.
    pub(crate) rest: Duration,
}

/// About two hundred a second.
const USUAL: Pace = Pace { in_flight: 10, rest: Duration::from_millis(5) };
/// The device of a witness that speaks of fires as well.
const WRITER: &str = "writer";
/// Each so manieth message is a fire, as long as there are detectors that have not burnt.
const FIRE_EVERY: u32 = 100;
/// Detectors, `fire-1` and on.
const DETECTORS: u32 = 12;

/// A message's number is in its temperature: 20 °C and so many steps, which after two million messages is no heat alarm.
const STEPS: f64 = 100_000.0;
const WARM: u32 = 2_000_000;

/// The devices that the witness speaks for.
pub(crate) fn devices(link: &str) -> String {
    let fires = (1..=DETECTORS).map(|n| smoke(&format!("fire-{n}"), link)).collect::<String>();
    fires + &smoke("writer", link)
}

pub(crate) struct Witness {
    device: String,
    acknowledged: Arc<Mutex<Vec<u32>>>,
    enough: CancellationToken,
    writing: tokio::task::JoinHandle<u32>,
}

/// What it saw.
pub(crate) struct Testimony {
    device: String,
    acknowledged: Vec<u32>,
    sent: u32,
}

enum Message {
    Temperature(f64),
    Fire(u32),
}

fn message(device: &str, n: u32) -> Message {
    let fire = n / FIRE_EVERY;
    if device == WRITER && n.is_multiple_of(FIRE_EVERY) && fire <= DETECTORS {
        Message::Fire(fire)
    } else {
        Message::Temperature(f64::from(WARM + n) / STEPS)
    }
}

impl Witness {
    pub(crate) fn start(to: SocketAddr) -> Self {
        Self::at_a_pace(to, WRITER, USUAL)
    }

    pub(crate) fn at_a_pace(to: SocketAddr, device: &str, pace: Pace) -> Self {
        let (acknowledged, enough) = (Arc::<Mutex<Vec<u32>>>::default(), CancellationToken::new());
        let device = device.to_owned();
        let writing = tokio::spawn(write(to, device.clone(), pace, acknowledged.clone(), enough.clone()));
        Self { device, acknowledged, enough, writing }
    }

    pub(crate) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until something more is acknowledged: a gateway is at work.
    pub(crate) async fn progress(&self) {
        let before = self.count();
        until("something more is acknowledged", || self.count() > before).await;
    }

    /// Writes nothing new; when all is acknowledged, what was, and how many were sent.
    pub(crate) async fn end(self) -> Testimony {
        self.enough.cancel();
        let sent = soon("the last acknowledgement", self.writing).await.unwrap();
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        Testimony { device: self.device, acknowledged, sent }
    }
}

async fn write(
    to: SocketAddr,
    device: String,
    pace: Pace,
    acknowledged: Arc<Mutex<Vec<u32>>>,
    enough: CancellationToken,
) -> u32 {
    let mut under_way: VecDeque<u32> = VecDeque::new();
    let mut sent = 0;
    let id = |n: u32| u16::try_from(n % 60_000 + 1).unwrap();
    let what = |n: u32| match message(&device, n) {
        Message::Temperature(value) => (topic(&device), format!(r#"{{"temperature":{value}}}"#)),
        Message::Fire(detector) => (topic(&format!("fire-{detector}")), r#"{"smoke":1}"#.to_owned()),
    };
    while !(enough.is_cancelled() && under_way.is_empty()) {
        let work = async {
            let mut pen = Pen::connect(to, &device).await?;
            for n in &under_way {
                let (topic, payload) = what(*n);
                pen.send(&topic, payload.as_bytes(), id(*n), true).await?;
            }
            while !(enough.is_cancelled() && under_way.is_empty()) {
                while under_way.len() < pace.in_flight && !enough.is_cancelled() {
                    sent += 1;
                    under_way.push_back(sent);
                    let (topic, payload) = what(sent);
                    pen.send(&topic, payload.as_bytes(), id(sent), false).await?;
                }
                let known = pen.acknowledged().await?;
                under_way.retain(|n| {
                    let now = id(*n) == known;
                    if now {
                        acknowledged.lock().unwrap().push(*n);
                    }
                    !now
                });
                if !pace.rest.is_zero() {
                    tokio::time::sleep(pace.rest).await;
                }
            }
            std::io::Result::Ok(())
        };
        if work.await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    sent
}

impl Testimony {
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// The temperatures that were acknowledged.
    pub(crate) fn temperatures(&self) -> BTreeSet<u64> {
        let known = self.acknowledged.iter().filter_map(|n| match message(&self.device, *n) {
            Message::Temperature(value) => Some(value.to_bits()),
            Message::Fire(_) => None,
        });
        known.collect()
    }

    /// Everything acknowledged is there once, nothing is there twice, in the order in which it was sent; each fire is
    /// one hazard, and stands.
    pub(crate) fn compare(&self, entries: &[Arc<Entry>], facts: &[Fact]) {
        let numbers: Vec<u64> = entries.iter().map(|entry| entry.no).collect();
        assert_eq!(numbers, (1..=entries.len() as u64).collect::<Vec<_>>(), "the journal has a gap");
        let mut times: BTreeMap<u32, usize> = BTreeMap::new();
        let values = numbers_of(entries, &format!("{}/temperature", self.device));
        assert!(values.is_sorted(), "the readings of one point are out of order");
        for value in values {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small whole numbers"
            )]
            let n = (value * STEPS).round() as u32 - WARM;
            assert!((1..=self.sent).contains(&n), "nobody sent {n}");
            *times.entry(n).or_default() += 1;
        }
        for moved in entries.iter().flat_map(|entry| &entry.transitions) {
            let device = moved.hazard.point.as_str().split('/').next().unwrap();
            if self.device != WRITER || moved.change != Change::Raised {
                continue;
            }
            if let Some(detector) = device.strip_prefix("fire-") {
                *times.entry(detector.parse::<u32>().unwrap() * FIRE_EVERY).or_default() += 1;
            }
        }
        let there = |n: &u32| times.get(n).copied().unwrap_or(0);
        let wrong: Vec<_> =
            self.acknowledged.iter().filter(|n| there(n) != 1).map(|n| (*n, there(n))).collect();
        assert_eq!(wrong, [], "of {} acknowledged, these are not there exactly once", self.acknowledged());
        assert!(times.values().all(|times| *times <= 1), "something is there twice");
        for n in &self.acknowledged {
            if let Message::Fire(detector) = message(&self.device, *n) {
                let point = format!("fire-{detector}/smoke");
                let mut hazards = facts.iter().filter_map(|fact| fact.hazard.as_ref());
                assert!(hazards.any(|hazard| hazard.point.as_str() == point), "the fire at {point} is gone");
            }
        }
    }
}

/// Starts the real program and waits for nothing.
pub(crate) fn spawn(house: &House) -> Running {
    let mut command = house.command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(house.log_file());
    Running(command.spawn().unwrap())
}

/// A random moment.
pub(crate) async fn moment(millis_max: u64) {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..millis_max))).await;
}
