//! The samples that are not yet sealed, and each point's newest reading that is no history. Pure.

use super::ageing::Age;
use super::sample::{Form, Packed, Sample};
use crate::journal::Entry;
use crate::model::{PointId, Reading, Span, Timestamp, Value};
use std::collections::HashMap;

/// A tail this long is sealed: a chunk of about a thousand samples compresses to 0.4 to 1.3 bytes each.
pub(super) const SEAL_SAMPLES: usize = 1024;
/// A tail this old is sealed, by the journal's own time. A sealing writes some four pages whatever is in it: at a sample
/// every ten seconds a tail is full after 2.8 hours, so that most are written once and whole. What a restart has to read
/// again is bounded by [`TAIL_BYTES_MAX`](super::TAIL_BYTES_MAX) all the same.
const SEAL_AFTER: Span = Span::from_secs(6 * 3600);
/// A tail's own size beside its samples: the map's row, the point's name, three numbers.
const TAIL_BYTES: usize = 160;

struct Tail {
    samples: Packed,
    /// The entry of the first one.
    first_no: u64,
    /// When that entry was written.
    since: Timestamp,
}

/// Whether they are one sample: a broker sends a retained message again with every connection.
fn same(a: &Reading, b: &Reading) -> bool {
    (a.time(), &a.value, a.quality) == (b.time(), &b.value, b.quality)
}

/// All tails.
pub(super) struct Tails {
    tails: HashMap<PointId, Tail>,
    last: HashMap<PointId, Reading>,
    /// Entries up to this number are in chunks, for each point. Only needed until those entries are read again.
    sealed: HashMap<PointId, u64>,
    taken: u64,
    newest_at: Timestamp,
    bytes: usize,
    pub(super) age: Age,
}

impl Tails {
    /// Empty, at a place in the journal.
    pub(super) fn new(taken: u64) -> Self {
        let (tails, last, sealed) = Default::default();
        Self { tails, last, sealed, taken, newest_at: Timestamp::EPOCH, bytes: 0, age: Age::default() }
    }

    /// Remembers what was stored with a point's last sealing. No reading: only history is known of it.
    pub(super) fn restore(&mut self, point: PointId, reading: Option<Reading>, sealed_no: u64) {
        if let Some(reading) = reading {
            self.last.insert(point.clone(), reading);
        }
        if sealed_no > self.taken {
            self.sealed.insert(point, sealed_no);
        }
    }

    /// Takes all readings of an entry.
    pub(super) fn take(&mut self, entry: &Entry, code_number: impl Fn(&str) -> Option<u32>) {
        let history = entry.is_history();
        for reading in &entry.readings {
            self.take_one(entry, reading, history, &code_number);
        }
        self.passed_entry(entry.no, entry.at);
    }

    fn take_one(
        &mut self,
        entry: &Entry,
        reading: &Reading,
        history: bool,
        code_number: impl Fn(&str) -> Option<u32>,
    ) {
        let (no, at) = (entry.no, entry.at);
        if self.sealed.get(&reading.point).is_some_and(|&sealed_no| no <= sealed_no) {
            return;
        }
        if self.last.get(&reading.point).is_some_and(|last| same(last, reading)) {
            return; // It is in the tail, in a chunk or in a record.
        }
        let tail = match self.tails.get_mut(&reading.point) {
            Some(tail) => tail,
            None => {
                self.bytes += TAIL_BYTES;
                let tail = Tail { samples: Packed::default(), first_no: no, since: at };
                self.tails.entry(reading.point.clone()).or_insert(tail)
            }
        };
        let before = tail.samples.room();
        tail.samples.push(Sample::of(reading, code_number));
        self.bytes += tail.samples.room() - before;
        // A rule that is asked what it knows would answer with what it was never told.
        if history {
            return;
        }
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
    fn passed_entry(&mut self, no: u64, at: Timestamp) {
        self.taken = no;
        self.newest_at = at;
        self.age.passed(at);
    }

    /// The newest entry that was taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// What the samples take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
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
            pressed || tail.samples.count() >= SEAL_SAMPLES || age >= SEAL_AFTER || age < Span::ZERO
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
        self.tails.get(point).map(|tail| tail.samples.sorted()).unwrap_or_default()
    }

    /// The same, within a time.
    pub(super) fn samples(&self, point: &PointId, from: i64, to: i64) -> Vec<Sample> {
        let mut samples = self.sorted(point);
        samples.retain(|sample| (from..to).contains(&sample.time));
        samples
    }

    /// A point's tail is in chunks now.
    pub(super) fn sealed(&mut self, point: &PointId) {
        if let Some(tail) = self.tails.remove(point) {
            self.bytes -= tail.samples.room() + TAIL_BYTES;
        }
    }

    pub(super) fn last(&self, point: &PointId) -> Option<&Reading> {
        self.last.get(point)
    }

    /// What a point's figures stand for.
    pub(super) fn form(&self, point: &PointId) -> Form {
        match self.last.get(point).map(|reading| &reading.value) {
            Some(Value::Flag(_)) => Form::Flag,
            Some(Value::Code(_)) => Form::State,
            _ => Form::Number,
        }
    }

    pub(super) fn all_last(&self) -> impl Iterator<Item = &Reading> {
        self.last.values()
    }
}
