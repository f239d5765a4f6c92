//! What every handle of the journal sees at once: the head, the newest entries, the names, the cursors, the health.

use super::ring::Ring;
use super::{Entry, JournalHealth, Limits, readings_codec};
use crate::model::{Code, PointId, Reading};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use tokio::sync::watch;

/// Shared by the handles, the writer and the readers. Each lock is held for a few instructions and never across a wait.
pub(super) struct Live {
    ring: Mutex<Ring>,
    names: RwLock<Names>,
    cursors: Mutex<Cursors>,
    health: Mutex<JournalHealth>,
    head: watch::Sender<u64>,
    recorded: watch::Sender<u64>,
    /// The newest entry for those who deliver: as `recorded`, but not beyond `held_back_after`.
    settled: watch::Sender<u64>,
    held_back_after: watch::Sender<Option<u64>>,
}

/// The names that blobs refer to by number.
#[derive(Default)]
pub(super) struct Names {
    points: HashMap<u32, PointId>,
    codes: HashMap<u32, Code>,
    point_numbers: HashMap<PointId, u32>,
    code_numbers: HashMap<Code, u32>,
}

impl Names {
    pub(super) fn add_point(&mut self, id: u32, point: PointId) {
        self.point_numbers.insert(point.clone(), id);
        self.points.insert(id, point);
    }
    pub(super) fn add_code(&mut self, id: u32, code: Code) {
        self.code_numbers.insert(code.clone(), id);
        self.codes.insert(id, code);
    }

    pub(super) fn decode(&self, blob: &[u8]) -> Result<Vec<Reading>, readings_codec::Damaged> {
        readings_codec::decode(blob, |id| self.points.get(&id).cloned(), |id| self.codes.get(&id).cloned())
    }

    pub(super) fn points(&self) -> impl Iterator<Item = (u32, &PointId)> {
        self.points.iter().map(|(id, point)| (*id, point))
    }

    pub(super) fn point_number(&self, point: &PointId) -> Option<u32> {
        self.point_numbers.get(point).copied()
    }

    pub(super) fn code_number(&self, code: &str) -> Option<u32> {
        self.code_numbers.get(code).copied()
    }

    pub(super) fn code(&self, number: u32) -> Option<Code> {
        self.codes.get(&number).cloned()
    }

    /// How many there are of each: they are never deleted, so the counts say whether there are new ones.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.points.len(), self.codes.len())
    }
}

/// How far each follower has come: moved in memory at once, on the disk now and then.
#[derive(Default)]
struct Cursors {
    places: HashMap<String, u64>,
    /// What the disk has. Entries are deleted only up to here: what a follower will ask for after a crash is there.
    durable: HashMap<String, u64>,
}

const UNPOISONED: &str = "no holder of this lock panics";

impl Live {
    pub(super) fn new(
        limits: &Limits,
        names: Names,
        cursors: HashMap<String, u64>,
        health: JournalHealth,
    ) -> Self {
        let head = health.head;
        Self {
            ring: Mutex::new(Ring::new(limits)),
            names: RwLock::new(names),
            cursors: Mutex::new(Cursors { places: cursors.clone(), durable: cursors }),
            health: Mutex::new(health),
            head: watch::Sender::new(head),
            recorded: watch::Sender::new(head),
            settled: watch::Sender::new(head),
            held_back_after: watch::Sender::new(None),
        }
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect(UNPOISONED)
    }

    pub(super) fn health(&self) -> MutexGuard<'_, JournalHealth> {
        self.health.lock().expect(UNPOISONED)
    }

    pub(super) fn head(&self) -> &watch::Sender<u64> {
        &self.head
    }

    pub(super) fn recorded(&self) -> &watch::Sender<u64> {
        &self.recorded
    }

    /// Shows an entry to the followers. The watch is sent even when its number stays, so that followers of recorded
    /// entries wake up when the journal catches up with what was published before.
    pub(super) fn show(&self, entry: Arc<Entry>) {
        let (no, recorded) = (entry.no, entry.recorded);
        let newest = {
            let mut ring = self.ring();
            ring.put(entry);
            ring.newest().unwrap_or(no)
        };
        if recorded {
            self.recorded.send_replace(no);
            self.settle();
        }
        self.head.send_replace(newest);
    }

    pub(super) fn settled(&self) -> &watch::Sender<u64> {
        &self.settled
    }

    pub(super) fn held_back_after(&self) -> &watch::Sender<Option<u64>> {
        &self.held_back_after
    }

    /// See [`super::Journal::hold_back_after`].
    pub(super) fn hold_back_after(&self, no: Option<u64>) {
        self.held_back_after.send_replace(no);
        self.settle();
    }

    fn settle(&self) {
        let (held, recorded) = (*self.held_back_after.borrow(), *self.recorded.borrow());
        let settled = held.map_or(recorded, |no| no.min(recorded));
        // What was once shown is not taken back.
        self.settled.send_if_modified(|shown| settled > std::mem::replace(shown, settled.max(*shown)));
    }

    pub(super) fn learn(&self, points: Vec<(u32, PointId)>, codes: Vec<(u32, Code)>) {
        if points.is_empty() && codes.is_empty() {
            return;
        }
        let mut names = self.names.write().expect(UNPOISONED);
        points.into_iter().for_each(|(id, point)| names.add_point(id, point));
        codes.into_iter().for_each(|(id, code)| names.add_code(id, code));
    }

    pub(super) fn decode(&self, blob: &[u8]) -> Result<Vec<Reading>, readings_codec::Damaged> {
        self.names.read().expect(UNPOISONED).decode(blob)
    }

    /// Packs readings whose names are all known; `None` when one is not.
    pub(super) fn encode(&self, readings: &[Reading]) -> Option<Vec<u8>> {
        let names = self.names.read().expect(UNPOISONED);
        let point = |point: &PointId| names.point_numbers.get(point).copied().ok_or(());
        let code = |code: &Code| names.code_numbers.get(code).copied().ok_or(());
        readings_codec::encode(readings, point, code).ok()
    }

    pub(super) fn point_number(&self, point: &PointId) -> Option<u32> {
        self.names.read().expect(UNPOISONED).point_number(point)
    }

    pub(super) fn code_number(&self, code: &str) -> Option<u32> {
        self.names.read().expect(UNPOISONED).code_number(code)
    }

    pub(super) fn point(&self, number: u32) -> Option<PointId> {
        self.names.read().expect(UNPOISONED).points.get(&number).cloned()
    }

    pub(super) fn code(&self, number: u32) -> Option<Code> {
        self.names.read().expect(UNPOISONED).code(number)
    }

    /// Where a follower is. One that was never seen starts at 0 and holds entries back from now on.
    pub(super) fn cursor(&self, name: &str) -> u64 {
        *self.cursors().places.entry(name.to_owned()).or_default()
    }

    /// Where a follower is, if there is one of that name.
    pub(super) fn cursor_of(&self, name: &str) -> Option<u64> {
        self.cursors().places.get(name).copied()
    }

    /// Moves a cursor, never beyond what is recorded: after a crash those numbers are given out again.
    pub(super) fn move_cursor(&self, name: &str, no: u64) {
        let no = no.min(*self.recorded.borrow());
        self.cursors().places.insert(name.to_owned(), no);
    }

    pub(super) fn forget_cursor(&self, name: &str) {
        let mut cursors = self.cursors();
        cursors.places.remove(name);
        cursors.durable.remove(name);
    }

    pub(super) fn cursor_names(&self) -> Vec<String> {
        self.cursors().places.keys().cloned().collect()
    }

    /// The number that every follower has passed, and will not ask for again even after a crash.
    pub(super) fn passed_by_all(&self) -> u64 {
        let cursors = self.cursors();
        let durable = |name| cursors.durable.get(name).copied().unwrap_or(0);
        cursors.places.keys().map(durable).min().unwrap_or(u64::MAX)
    }

    /// The cursors that the disk has otherwise; say with [`Live::cursors_written`] when they are there.
    pub(super) fn unwritten_cursors(&self) -> Vec<(String, u64)> {
        let cursors = self.cursors();
        let moved = cursors.places.iter().filter(|(name, no)| cursors.durable.get(*name) != Some(no));
        moved.map(|(name, no)| (name.clone(), *no)).collect()
    }

    pub(super) fn cursors_written(&self, written: Vec<(String, u64)>) {
        let mut cursors = self.cursors();
        for (name, no) in written {
            // One that was forgotten meanwhile is not brought back.
            if cursors.places.contains_key(&name) {
                cursors.durable.insert(name, no);
            }
        }
    }

    fn cursors(&self) -> MutexGuard<'_, Cursors> {
        self.cursors.lock().expect(UNPOISONED)
    }
}
