//! The samples that are not yet sealed, and each point's newest reading. Pure.

use crate::model::{PointId, Quality, Reading, Span, Timestamp, Value};
use std::collections::HashMap;

/// A tail this long is sealed: a chunk of about a thousand samples compresses to 0.4 to 1.3 bytes each.
pub(super) const SEAL_SAMPLES: usize = 1024;
/// A tail this old is sealed, by the journal's own time: what a restart has to read again.
const SEAL_AFTER: Span = Span::from_secs(30 * 60);

/// One value at one time. An absent value is [`ABSENT`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Milliseconds since 1970.
    pub(super) time: i64,
    pub(super) value: f64,
    pub(super) bad: bool,
}

/// Stands for "nothing could be read": no `Number` is ever NaN.
pub(super) const ABSENT: f64 = f64::NAN;

impl Sample {
    /// What makes two samples the same: the time and the value.
    pub(super) fn key(&self) -> (i64, u64) {
        (self.time, self.value.to_bits())
    }
}

/// In the order of time; the same sample only once. Two samples of one time stay in the order of their values' bits, so
/// the result does not depend on the order of arrival; of two that differ in quality only, the usable one stays.
pub(super) fn sort_and_dedupe(samples: &mut Vec<Sample>) {
    samples.sort_by_key(|sample| (sample.key(), sample.bad));
    samples.dedup_by_key(|sample| sample.key());
}

#[derive(Default)]
struct Tail {
    /// In the order of arrival.
    samples: Vec<Sample>,
    /// The entry of the first one.
    first_no: u64,
    /// When that entry was written.
    since: Timestamp,
}

/// All tails.
pub(super) struct Tails {
    tails: HashMap<PointId, Tail>,
    last: HashMap<PointId, Reading>,
    /// Entries up to this number are in chunks, for each point. Only needed until those entries are read again.
    sealed: HashMap<PointId, u64>,
    taken: u64,
    newest_at: Timestamp,
    count: usize,
}

impl Tails {
    /// Empty, at a place in the journal.
    pub(super) fn new(taken: u64) -> Self {
        let (tails, last, sealed) = Default::default();
        Self { tails, last, sealed, taken, newest_at: Timestamp::EPOCH, count: 0 }
    }

    /// Remembers what was stored with a point's last sealing.
    pub(super) fn restore(&mut self, reading: Reading, sealed_no: u64) {
        if sealed_no > self.taken {
            self.sealed.insert(reading.point.clone(), sealed_no);
        }
        self.last.insert(reading.point.clone(), reading);
    }

    /// Takes one reading of an entry.
    pub(super) fn take(
        &mut self,
        no: u64,
        at: Timestamp,
        reading: &Reading,
        code_number: impl Fn(&str) -> Option<u32>,
    ) {
        if self.sealed.get(&reading.point).is_some_and(|&sealed_no| no <= sealed_no) {
            return;
        }
        let value = match &reading.value {
            Value::Number(number) => number.get(),
            Value::Flag(flag) => f64::from(u8::from(*flag)),
            Value::Code(code) => code_number(code).map_or(ABSENT, f64::from),
            Value::Absent => ABSENT,
        };
        let bad = reading.quality == Quality::Bad;
        let tail = self.tails.entry(reading.point.clone()).or_default();
        if tail.samples.is_empty() {
            (tail.first_no, tail.since) = (no, at);
        }
        tail.samples.push(Sample { time: reading.time().as_millis(), value, bad });
        self.count += 1;
        match self.last.get_mut(&reading.point) {
            None => _ = self.last.insert(reading.point.clone(), reading.clone()),
            Some(last) => {
                // One that claims to come from the future must not stand for ever.
                if reading.time() >= last.time() || last.time() > reading.received_at {
                    *last = reading.clone();
                }
            }
        }
    }

    /// All readings of this entry were taken.
    pub(super) fn passed_entry(&mut self, no: u64, at: Timestamp) {
        self.taken = no;
        self.newest_at = at;
    }

    /// The newest entry that was taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// When it was written.
    pub(super) fn newest_at(&self) -> Timestamp {
        self.newest_at
    }

    /// Samples in memory.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The entry up to which nothing stands in a tail, once these points are sealed.
    pub(super) fn passed(&self, sealing: &[PointId]) -> u64 {
        let waiting = self.tails.iter().filter(|(point, _)| !sealing.contains(point));
        waiting.map(|(_, tail)| tail.first_no - 1).min().unwrap_or(self.taken).min(self.taken)
    }

    /// The points to seal now, those that hold the cursor back longest first. `pressed`: memory is full.
    pub(super) fn due(&self, most: usize, pressed: bool) -> Vec<PointId> {
        let due = |tail: &Tail| {
            // A clock that was stepped back makes the age negative: then it cannot be known, and sealing is safe.
            let age = self.newest_at.since(tail.since);
            pressed || tail.samples.len() >= SEAL_SAMPLES || age >= SEAL_AFTER || age < Span::ZERO
        };
        let mut points: Vec<_> = self
            .tails
            .iter()
            .filter(|(_, tail)| due(tail))
            .map(|(point, tail)| (tail.first_no, point))
            .collect();
        points.sort_unstable();
        points.into_iter().take(most).map(|(_, point)| point.clone()).collect()
    }

    /// A point's samples, in the order of time, each once.
    pub(super) fn sorted(&self, point: &PointId) -> Vec<Sample> {
        let mut samples = self.tails.get(point).map(|tail| tail.samples.clone()).unwrap_or_default();
        sort_and_dedupe(&mut samples);
        samples
    }

    /// The same, within a time.
    pub(super) fn samples(&self, point: &PointId, from: Timestamp, to: Timestamp) -> Vec<Sample> {
        let mut samples = self.sorted(point);
        samples.retain(|sample| (from.as_millis()..to.as_millis()).contains(&sample.time));
        samples
    }

    /// A point's tail is in chunks now.
    pub(super) fn sealed(&mut self, point: &PointId) {
        if let Some(tail) = self.tails.remove(point) {
            self.count -= tail.samples.len();
        }
    }

    pub(super) fn last(&self, point: &PointId) -> Option<&Reading> {
        self.last.get(point)
    }

    pub(super) fn all_last(&self) -> impl Iterator<Item = &Reading> {
        self.last.values()
    }
}
