//! THE LOOP, beside step 1: fingerprints of recent messages, to know a redelivered one.

use crate::model::{Body, Frame};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Fingerprints of recent messages: the largest window of an MQTT client (65 535).
pub const RECEIPTS_MAX: usize = 65_536;

/// How long a fingerprint is believed. A redelivery follows a reconnect or a restart within minutes; later, the same
/// packet id, topic and undated payload may be a new fire, and one reading twice is better than one fire never.
pub const RECEIPT_AGE_MAX: Duration = Duration::from_secs(10 * 60);

/// What was recently taken, and when. Bounded by [`RECEIPTS_MAX`]; the oldest go first.
#[derive(Debug)]
pub(super) struct Receipts {
    since: HashMap<u64, Instant>,
    order: VecDeque<u64>,
}

impl Receipts {
    /// Begins with what the journal knows. Its age is unknown: it counts as new.
    pub(super) fn new(known: HashSet<u64>) -> Self {
        let now = Instant::now();
        Self {
            order: known.iter().copied().collect(),
            since: known.into_iter().map(|receipt| (receipt, now)).collect(),
        }
    }

    /// Whether this message was taken a short time ago.
    pub(super) fn knows(&self, fingerprint: u64) -> bool {
        self.since.get(&fingerprint).is_some_and(|since| since.elapsed() < RECEIPT_AGE_MAX)
    }

    pub(super) fn remember(&mut self, fingerprint: u64) {
        if self.since.insert(fingerprint, Instant::now()).is_none() {
            self.order.push_back(fingerprint);
        }
        while self.order.len() > RECEIPTS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.since.remove(&oldest);
            }
        }
    }
}

/// Knows a redelivered message again: within one MQTT session a packet id names one message until it is acknowledged.
/// It is kept in the journal, so it must mean the same in every version of this program.
pub(super) fn fingerprint(frame: &Frame, key: u32) -> u64 {
    // The packet id alone: the rest of the key is the source's own and is another one after a restart.
    let [_, _, high, low] = key.to_be_bytes();
    let hash = fnv_1a(FNV_OFFSET, &[high, low]);
    let hash = part(hash, frame.link.as_str().as_bytes());
    match &frame.body {
        Body::Message { topic, payload } => part(part(hash, topic.as_bytes()), payload),
        Body::Registers { .. } => hash,
    }
}

/// A part with its length, so that no two different messages are the same row of bytes.
fn part(hash: u64, bytes: &[u8]) -> u64 {
    fnv_1a(fnv_1a(hash, &(bytes.len() as u64).to_le_bytes()), bytes)
}

/// FNV-1a, 64 bits: G. Fowler, L. C. Noll, K.-P. Vo, D. Eastlake (draft-eastlake-fnv). Not proof against somebody who seeks
/// collisions; whoever may publish on a device's topic needs none to silence that device.
fn fnv_1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LinkId, SourceIndex, Timestamp};

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
        // The algorithm's published vectors.
        assert_eq!(fnv_1a(FNV_OFFSET, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(FNV_OFFSET, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv_1a(FNV_OFFSET, b"foobar"), 0x8594_4171_f739_67e8);
        // What journals in the field hold: this figure must never change.
        assert_eq!(fingerprint(&frame("site/a/device/203/up", r#"{"smoke":1}"#), 7), EVER);
    }

    /// Computed once by hand with another program.
    const EVER: u64 = 0x1304_8dd1_f4e8_4836;

    #[test]
    fn the_fingerprint_tells_messages_apart_and_leaves_the_sources_own_half_of_the_key_aside() {
        let this = fingerprint(&frame("a/b", "cd"), 0x0001_0007);
        assert_eq!(fingerprint(&frame("a/b", "cd"), 0x0002_0007), this);
        for (other, key) in [(frame("a/bc", "d"), 7), (frame("a/", "bcd"), 7), (frame("a/b", "cd"), 8)] {
            assert_ne!(fingerprint(&other, key), this, "{other:?}");
        }
    }
}
