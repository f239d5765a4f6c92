//! THE LOOP, beside step 1: fingerprints of recent messages, to know a redelivered one.

use crate::model::{Body, Frame};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// Fingerprints of recent messages: the largest window of an MQTT client (65 535). 1.2 MB.
pub const RECEIPTS_MAX: usize = 65_536;

/// How long a fingerprint is believed at most, and half of it at least. A redelivery follows a reconnect or a restart
/// within minutes; later, the same packet id, topic and undated payload may be a new fire, and one reading twice is
/// better than one fire never.
pub const RECEIPT_AGE_MAX: Duration = Duration::from_secs(10 * 60);

/// What was recently taken: two generations, of which the older one is dropped when the younger is full or old.
#[derive(Debug)]
pub(super) struct Receipts {
    young: HashSet<u64>,
    old: HashSet<u64>,
    since: Instant,
}

impl Receipts {
    /// Begins with what the journal knows. Its age is unknown: it counts as new.
    pub(super) fn new(known: HashSet<u64>) -> Self {
        Self { young: known, old: HashSet::new(), since: Instant::now() }
    }

    /// Whether this message was taken a short time ago.
    pub(super) fn knows(&mut self, fingerprint: u64) -> bool {
        self.turn();
        self.young.contains(&fingerprint) || self.old.contains(&fingerprint)
    }

    pub(super) fn remember(&mut self, fingerprint: u64) {
        self.turn();
        self.young.insert(fingerprint);
    }

    fn turn(&mut self) {
        let age = self.since.elapsed();
        if age < RECEIPT_AGE_MAX / 2 && self.young.len() < RECEIPTS_MAX / 2 {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        if age >= RECEIPT_AGE_MAX {
            self.old.clear(); // Nobody spoke for so long.
        }
        self.since = Instant::now();
    }
}

/// Knows a redelivered message again: within one MQTT session a packet id names one message until it is acknowledged.
/// It is kept in the journal, so it must mean the same in every version of this program.
pub(super) fn fingerprint(frame: &Frame, key: u32) -> u64 {
    // The packet id alone: the rest of the key is the source's own and is another one after a restart.
    let [_, _, high, low] = key.to_be_bytes();
    let hash = mix(0, &[high, low]);
    let hash = mix(hash, frame.link.as_str().as_bytes());
    match &frame.body {
        Body::Message { topic, payload } => mix(mix(hash, topic.as_bytes()), payload),
        Body::Presence { topic, payload, .. } => mix(mix(hash, topic.as_bytes()), payload),
        Body::Registers { .. } => hash,
    }
}

/// Adds a part: its length, so that no two different messages are the same row of words, then its bytes as
/// little-endian words, the last one filled with zeros. Each word is multiplied with a constant (the fraction of the
/// golden ratio) and the halves of the product are folded, as wyhash and its kin do. Not proof against somebody who
/// seeks collisions; whoever may publish on a device's topic needs none to silence that device. 150 bytes take
/// 90 ns; with the standard library's hasher, which may change with each compiler, 78; with FNV-1a 400 (2.3 GHz).
fn mix(hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let start = fold(hash ^ bytes.len() as u64);
    words.iter().chain([&last]).fold(start, |hash, word| fold(hash ^ u64::from_le_bytes(*word)))
}

fn fold(word: u64) -> u64 {
    // Zero would stay zero.
    let product = u128::from(word ^ 0x9e37_79b9_7f4a_7c15) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
    let bytes = product.to_le_bytes();
    let (halves, _) = bytes.as_chunks::<8>();
    halves.iter().fold(0, |folded, half| folded ^ u64::from_le_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LinkId, SourceIndex, Timestamp};

    #[tokio::test(start_paused = true)]
    async fn receipts_are_believed_for_minutes_and_bounded() {
        let mut receipts = Receipts::new([1, 2].into());
        tokio::time::advance(RECEIPT_AGE_MAX / 2).await;
        assert!(receipts.knows(1), "a redelivery after five minutes");
        receipts.remember(3);
        tokio::time::advance(RECEIPT_AGE_MAX / 2).await;
        assert!(receipts.knows(3) && !receipts.knows(1), "after ten it may be a new fire");
        tokio::time::advance(RECEIPT_AGE_MAX).await;
        assert!(!receipts.knows(3));
        (0..200_000).for_each(|n| receipts.remember(n));
        assert!(receipts.young.len() + receipts.old.len() <= RECEIPTS_MAX);
        assert!(receipts.knows(199_999) && receipts.knows(199_999 - RECEIPTS_MAX as u64 / 2 + 1));
    }

    fn frame(topic: &str, payload: &str) -> Frame {
        Frame {
            source: SourceIndex(0),
            link: LinkId::parse("broker").unwrap(),
            body: Body::Message { topic: topic.into(), payload: payload.to_owned().into() },
            received_at: Timestamp::EPOCH,
            retained: false,
            delivery: None,
        }
    }

    #[test]
    fn the_fingerprint_is_the_same_in_every_version_of_the_program() {
        // What journals in the field hold: this figure must never change.
        assert_eq!(fingerprint(&frame("site/a/device/203/up", r#"{"smoke":1}"#), 7), EVER);
    }

    /// Computed once by hand with another program.
    const EVER: u64 = 0x46f0_538b_d2b2_513a;

    #[test]
    fn the_fingerprint_tells_messages_apart_and_leaves_the_sources_own_half_of_the_key_aside() {
        let this = fingerprint(&frame("a/b", "cd"), 0x0001_0007);
        assert_eq!(fingerprint(&frame("a/b", "cd"), 0x0002_0007), this);
        for (other, key) in [(frame("a/bc", "d"), 7), (frame("a/", "bcd"), 7), (frame("a/b", "cd"), 8)] {
            assert_ne!(fingerprint(&other, key), this, "{other:?}");
        }
    }
}
