//! The newest entries, kept in memory: what a follower that is nearly up to date reads without touching the disk.

use super::{Entry, Limits, Restamp};
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries with consecutive numbers. Those that could not be recorded stand at the end, under the numbers that they
/// will be appended with; a recorded entry takes the place of the unrecorded one of its number.
pub(super) struct Ring {
    entries: VecDeque<Arc<Entry>>,
    readings: usize,
    entries_max: usize,
    readings_max: usize,
}

impl Ring {
    pub(super) fn new(limits: &Limits) -> Self {
        let (entries_max, readings_max) = (limits.ring_entries_max, limits.ring_readings_max);
        Self { entries: VecDeque::new(), readings: 0, entries_max, readings_max }
    }

    /// Adds an entry, or puts it in the place of the one with its number.
    pub(super) fn put(&mut self, entry: Arc<Entry>) {
        match self.position(entry.no) {
            Some(index) => {
                let place = &mut self.entries[index];
                // What is recorded is never covered by what is not.
                if entry.recorded || !place.recorded {
                    self.readings = self.readings + entry.readings.len() - place.readings.len();
                    *place = entry;
                }
            }
            None => {
                if self.entries.back().is_some_and(|last| last.no + 1 != entry.no) {
                    self.entries.clear();
                    self.readings = 0;
                }
                self.readings += entry.readings.len();
                self.entries.push_back(entry);
            }
        }
        // The newest one stays, however large: followers wait for it.
        while self.entries.len() > 1
            && (self.entries.len() > self.entries_max || self.readings > self.readings_max)
        {
            let oldest = self.entries.pop_front().expect("it holds more than one");
            self.readings -= oldest.readings.len();
        }
    }

    fn position(&self, no: u64) -> Option<usize> {
        let first = self.entries.front()?.no;
        let index = usize::try_from(no.checked_sub(first)?).ok()?;
        (index < self.entries.len()).then_some(index)
    }

    /// The entries after `no`, if the ring is sure to hold the very next one (or there is none).
    pub(super) fn after(&self, no: u64, limit: usize) -> Option<Vec<Arc<Entry>>> {
        let first = self.entries.front()?.no;
        if first > no + 1 {
            return None;
        }
        Some(self.take(no, limit))
    }

    /// The entries after `no` that it happens to hold.
    pub(super) fn take(&self, no: u64, limit: usize) -> Vec<Arc<Entry>> {
        let first = self.entries.front().map_or(0, |entry| entry.no);
        let skip = usize::try_from((no + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).take(limit).cloned().collect()
    }

    /// Dates entries anew, as reading them from the disk would.
    pub(super) fn restamp(&mut self, restamp: &Restamp) {
        self.entries.iter_mut().for_each(|entry| restamp.apply_shared(entry));
    }

    /// The number of the newest entry, recorded or not.
    pub(super) fn newest(&self) -> Option<u64> {
        self.entries.back().map(|entry| entry.no)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn entry(no: u64, recorded: bool) -> Arc<Entry> {
        let at = Timestamp::EPOCH;
        Arc::new(Entry { no, at, recorded, readings: vec![], transitions: vec![], notes: vec![] })
    }

    fn numbers(entries: &[Arc<Entry>]) -> Vec<(u64, bool)> {
        entries.iter().map(|entry| (entry.no, entry.recorded)).collect()
    }

    #[test]
    fn a_recorded_entry_takes_the_place_of_the_unrecorded_one() {
        let mut ring = Ring::new(&Limits::default());
        ring.put(entry(4, true));
        ring.put(entry(5, false));
        ring.put(entry(6, false));
        ring.put(entry(5, true));
        assert_eq!(numbers(&ring.after(3, 9).unwrap()), [(4, true), (5, true), (6, false)]);
        ring.put(entry(5, false));
        assert_eq!(numbers(&ring.after(4, 1).unwrap()), [(5, true)], "a record was covered");
    }

    #[test]
    fn the_ring_answers_only_when_it_holds_the_next_entry() {
        let mut ring = Ring::new(&Limits { ring_entries_max: 2, ..Limits::default() });
        assert!(ring.after(0, 9).is_none());
        (1..=4).for_each(|no| ring.put(entry(no, true)));
        assert!(ring.after(1, 9).is_none(), "entry 2 was evicted: it must be read from the disk");
        assert_eq!(numbers(&ring.after(2, 9).unwrap()), [(3, true), (4, true)]);
        assert_eq!(ring.after(4, 9).unwrap(), []);
        assert_eq!(ring.after(9, 9).unwrap(), []);
    }
}
