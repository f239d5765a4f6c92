//! FRAMES → A FILE: the tap behind the sources. Costs one load of an atomic a frame while nobody listens, and never makes
//! the loop wait: a listener that is too slow misses frames, which are counted.

use super::Captured;
use crate::metrics::Metrics;
use crate::model::{Body, DeviceId, Frame, LinkId};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::mpsc;

/// Captures under way at once: each is a copy of every frame it wants, and a person looks at one.
pub const TAPS_MAX: usize = 4;
/// Frames that may wait for one listener: a second of 1000 messages.
const WAITING_MAX: usize = 1024;
/// Bytes that may wait for one listener: 2 MiB are eight of the largest messages, or all of the frames above at 2 kB.
const WAITING_BYTES_MAX: usize = 2 << 20;

/// Which frames somebody wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this link only.
    pub link: Option<LinkId>,
    /// Of this planned device only.
    pub device: Option<DeviceId>,
    /// On topics of this MQTT filter only: `+` is one level, `#` the rest.
    pub topic: Option<String>,
}

impl Filter {
    fn wants(&self, frame: &Frame, device: Option<&DeviceId>) -> bool {
        let topic = |filter: &str| match &frame.body {
            Body::Message { topic, .. } | Body::Presence { topic, .. } => fits(filter, topic),
            Body::Registers { .. } => false,
        };
        self.link.as_ref().is_none_or(|link| *link == frame.link)
            && self.device.as_ref().is_none_or(|wanted| device == Some(wanted))
            && self.topic.as_deref().is_none_or(topic)
    }
}

/// Whether a topic fits an MQTT filter.
fn fits(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The tap: one for the gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tap(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: AtomicUsize,
    listeners: Mutex<Vec<Listener>>,
    named: AtomicU64,
    metrics: Metrics,
}

#[derive(Debug)]
struct Listener {
    name: u64,
    filter: Filter,
    to: mpsc::Sender<Captured>,
    count: Arc<Count>,
}

#[derive(Debug, Default)]
struct Count {
    /// Bytes that wait.
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl Tap {
    /// A closed one.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            open: AtomicUsize::new(0),
            listeners: Mutex::default(),
            named: AtomicU64::new(0),
            metrics,
        }))
    }

    /// Copies of frames from now on, until it is dropped. `None`: [`TAPS_MAX`] are open.
    pub fn listen(&self, filter: Filter) -> Option<Listening> {
        let mut listeners = self.listeners();
        if listeners.len() >= TAPS_MAX {
            return None;
        }
        let (to, frames) = mpsc::channel(WAITING_MAX);
        let count = Arc::new(Count::default());
        let name = self.0.named.fetch_add(1, Ordering::Relaxed);
        listeners.push(Listener { name, filter, to, count: count.clone() });
        self.0.open.store(listeners.len(), Ordering::Relaxed);
        Some(Listening { tap: self.clone(), name, frames, count })
    }

    /// Shows a frame to whoever listens.
    pub fn offer(&self, frame: &Frame, device: Option<&DeviceId>) {
        if self.0.open.load(Ordering::Relaxed) == 0 {
            return;
        }
        for listener in self.listeners().iter().filter(|listener| listener.filter.wants(frame, device)) {
            let captured = Captured::of(frame, device);
            let weight = captured.weight();
            let count = &listener.count;
            let room = count.waiting.fetch_add(weight, Ordering::Relaxed) + weight <= WAITING_BYTES_MAX;
            if !room || listener.to.try_send(captured).is_err() {
                count.waiting.fetch_sub(weight, Ordering::Relaxed);
                count.dropped.fetch_add(1, Ordering::Relaxed);
                self.0.metrics.capture_dropped.inc();
            }
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.0.listeners.lock().expect("no holder of this lock panics")
    }
}

/// Somebody who listens.
#[derive(Debug)]
pub struct Listening {
    tap: Tap,
    name: u64,
    frames: mpsc::Receiver<Captured>,
    count: Arc<Count>,
}

impl Listening {
    /// The next frame. Cancel-safe.
    pub async fn next(&mut self) -> Captured {
        match self.frames.recv().await {
            Some(frame) => {
                self.count.waiting.fetch_sub(frame.weight(), Ordering::Relaxed);
                frame
            }
            // The tap holds the other end as long as this lives.
            None => std::future::pending().await,
        }
    }

    /// Frames that it missed until now.
    pub fn dropped(&self) -> u64 {
        self.count.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listeners = self.tap.listeners();
        listeners.retain(|listener| listener.name != self.name);
        self.tap.0.open.store(listeners.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SourceIndex, Timestamp};

    fn frame(topic: &str, bytes: usize) -> Frame {
        Frame {
            source: SourceIndex(0),
            link: LinkId::parse("hall").unwrap(),
            body: Body::Message { topic: topic.into(), payload: vec![b'x'; bytes].into() },
            received_at: Timestamp::EPOCH,
            retained: false,
            delivery: None,
        }
    }

    #[tokio::test]
    async fn a_listener_gets_what_it_wants_in_order() {
        let tap = Tap::new(Metrics::new());
        let device = DeviceId::parse("sd-1").unwrap();
        let all = [
            Filter { topic: Some("a/+".into()), ..Filter::default() },
            Filter { device: Some(device.clone()), ..Filter::default() },
            Filter { link: LinkId::parse("other").ok(), ..Filter::default() },
        ];
        let mut listening = all.map(|filter| tap.listen(filter).unwrap());
        tap.offer(&frame("a/1", 1), Some(&device));
        tap.offer(&frame("a/1/x", 2), None);
        tap.offer(&frame("a/2", 3), None);
        for (listener, expected) in listening.iter_mut().zip([vec![1, 3], vec![1], vec![]]) {
            let mut got = Vec::new();
            while let Ok(captured) = listener.frames.try_recv() {
                let Body::Message { payload, .. } = captured.body else { panic!("a message") };
                got.push(payload.len());
            }
            assert_eq!(got, expected);
        }
    }

    #[tokio::test]
    async fn a_listener_that_does_not_read_is_bounded_in_frames_and_in_bytes_and_misses_are_counted() {
        let metrics = Metrics::new();
        let tap = Tap::new(metrics.clone());
        let mut slow = tap.listen(Filter::default()).unwrap();
        (0..WAITING_MAX + 10).for_each(|_| tap.offer(&frame("a", 1), None));
        assert_eq!(slow.dropped(), 10);
        for _ in 0..WAITING_MAX {
            slow.next().await;
        }
        (0..100).for_each(|_| tap.offer(&frame("a", 256 << 10), None));
        let kept = 100 - (slow.dropped() - 10);
        assert!((1..=8).contains(&kept), "{kept} large frames wait");
        assert_eq!(metrics.capture_dropped.get(), slow.dropped());
    }

    #[test]
    fn taps_are_bounded_and_one_that_ends_makes_room() {
        let tap = Tap::new(Metrics::new());
        let mut open: Vec<_> = (0..TAPS_MAX).map(|_| tap.listen(Filter::default()).unwrap()).collect();
        assert!(tap.listen(Filter::default()).is_none());
        open.pop();
        assert!(tap.listen(Filter::default()).is_some());
        open.clear();
        assert_eq!(tap.0.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_filter_is_mqtts() {
        for (filter, topic, expected) in [
            ("#", "a/b", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("+/b", "a/b", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
        ] {
            assert_eq!(fits(filter, topic), expected, "{filter} {topic}");
        }
    }
}
