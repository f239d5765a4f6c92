//! History put back into a data directory whose gateway does not run: for the import. Nothing of it is live: no rule sees
//! it and no newest value changes.
//!
//! The same again changes nothing: a sample that is there is there once, and of two records of one time the one that
//! counts more samples stays. What was rolled up before the import began is not opened again: a sample of such a time
//! cannot be told from one that is already in the record, and is passed over; so is a record of a time of which samples
//! or other records were there.

use super::history::{Item, code_numbers};
use super::rollup::{self, HOUR, Join, MINUTE, Record};
use super::sample::{Form, Sample, sort_and_dedupe};
use super::{SeriesError, chunk, range};
use crate::journal::Journal;
use crate::model::{Code, PointId};
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Samples and records that wait to be written together: 100 000 × 24 bytes, records 4 times that, are 10 MB at most.
const WAITING_MAX: usize = 100_000;

/// What an import came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Samples that were not there before.
    pub samples: u64,
    /// Samples that were there already.
    pub samples_known: u64,
    /// Records that were not there before, or that counted fewer samples.
    pub records: u64,
    /// Records that were there already.
    pub records_known: u64,
    /// Samples and records of a time that was rolled up, or is held in another detail.
    pub passed_over: u64,
    /// Damaged chunks and roll-ups that were replaced.
    pub damaged: u64,
}

/// An import under way.
pub struct Import<'a> {
    journal: &'a Journal,
    waiting: BTreeMap<PointId, Vec<Item>>,
    count: usize,
    codes: HashMap<Code, u32>,
    before: HashMap<PointId, Before>,
    told: Imported,
}

/// What a point had before the import: stretches of time, as first and end, in order.
#[derive(Debug, Clone, Default)]
struct Before {
    records: Vec<(i64, i64)>,
    samples: Vec<(i64, i64)>,
}

impl<'a> Import<'a> {
    /// Begins. The journal must be nobody else's: the gateway is stopped.
    pub fn new(journal: &'a Journal) -> Self {
        let (waiting, codes, before) = Default::default();
        Self { journal, waiting, count: 0, codes, before, told: Imported::default() }
    }

    /// Takes one line. It is on the disk after [`Import::finish`] at the latest.
    pub async fn take(&mut self, point: PointId, item: Item) -> Result<(), SeriesError> {
        self.waiting.entry(point).or_default().push(item);
        self.count += 1;
        if self.count >= WAITING_MAX { self.write().await } else { Ok(()) }
    }

    /// Writes the rest and says what it came to.
    pub async fn finish(mut self) -> Result<Imported, SeriesError> {
        self.write().await?;
        Ok(self.told)
    }

    async fn write(&mut self) -> Result<(), SeriesError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.count = 0;
        let codes: HashSet<Code> = waiting.values().flatten().flat_map(Item::codes).cloned().collect();
        let points: Vec<PointId> = waiting.keys().cloned().collect();
        let fresh: Vec<PointId> =
            points.iter().filter(|point| !self.before.contains_key(*point)).cloned().collect();
        let (numbers, codes, found) = self
            .journal
            .write(move |conn| {
                let numbers = points.iter().map(|point| intern(conn, "point", point.as_str()));
                let numbers = numbers.collect::<rusqlite::Result<Vec<u32>>>()?;
                for code in codes {
                    intern(conn, "code", &code)?;
                }
                let mut found = Vec::new();
                for point in fresh {
                    let number = intern(conn, "point", point.as_str())?;
                    found.push((point, Before::find(conn, number)?));
                }
                Ok((numbers, code_numbers(conn), found))
            })
            .await?;
        self.codes = codes?;
        self.before.extend(found);
        let mut batches = Vec::new();
        for (number, (point, items)) in numbers.into_iter().zip(waiting) {
            let before = self.before.get(&point).cloned().unwrap_or_default();
            let mut samples: Vec<Sample> = items.iter().filter_map(|item| item.sample(&self.codes)).collect();
            let twice = samples.len();
            sort_and_dedupe(&mut samples);
            self.told.samples_known += (twice - samples.len()) as u64;
            let records = items.iter().filter_map(|item| item.record(&self.codes)).collect();
            batches.push(Batch { point: number, before, samples, records });
        }
        let told = self.journal.write(move |conn| {
            let mut told = Imported::default();
            batches.into_iter().try_for_each(|batch| batch.write(conn, &mut told))?;
            Ok(told)
        });
        let told = told.await?;
        self.told.samples += told.samples;
        self.told.samples_known += told.samples_known;
        self.told.records += told.records;
        self.told.records_known += told.records_known;
        self.told.passed_over += told.passed_over;
        self.told.damaged += told.damaged;
        Ok(())
    }
}

fn intern(conn: &Connection, table: &str, name: &str) -> rusqlite::Result<u32> {
    conn.prepare_cached(&format!("INSERT OR IGNORE INTO {table} (name) VALUES (?)"))?.execute([name])?;
    conn.prepare_cached(&format!("SELECT id FROM {table} WHERE name = ?"))?
        .query_row([name], |row| row.get(0))
}

/// What one transaction writes of one point.
struct Batch {
    point: u32,
    before: Before,
    samples: Vec<Sample>,
    records: Vec<(i64, Record)>,
}

impl Batch {
    fn write(self, conn: &Connection, told: &mut Imported) -> rusqlite::Result<()> {
        let Self { point, before, mut samples, records } = self;
        let mut held = Held::default();
        let mut failed = Ok(());
        samples.retain(|sample| {
            if !touches(&before.records, sample.time, sample.time.saturating_add(1)) {
                return true;
            }
            let known = held.has(conn, point, sample);
            match known {
                Ok(true) => told.samples_known += 1,
                Ok(false) => told.passed_over += 1,
                Err(error) => failed = Err(error),
            }
            false
        });
        failed?;
        let stored = chunk::store(conn, point, &samples)?;
        told.damaged += stored.damaged;
        told.samples += stored.added;
        told.samples_known += samples.len() as u64 - stored.added;
        for width in [MINUTE, HOUR] {
            let these = records.iter().filter(|(of, _)| *of == width).map(|(_, record)| record.clone());
            let given = these.clone().count();
            let these: Vec<Record> = rollup::joined(these, Join::KeepLarger);
            told.records_known += (given - these.len()) as u64;
            let (Some(first), Some(last)) = (these.first(), these.last()) else { continue };
            let mut known = HashMap::new();
            let ends = (first.start, last.start.saturating_add(1));
            let damaged = range::records(conn, point, width, ends, |record| {
                known.insert(record.key(), record.count);
            })?;
            told.damaged += damaged;
            let fresh: Vec<Record> = these
                .into_iter()
                .filter(|record| match known.get(&record.key()) {
                    Some(count) if *count >= record.count => {
                        told.records_known += 1;
                        false
                    }
                    Some(_) => true,
                    None => {
                        let (start, end) = (record.start, record.start.saturating_add(width));
                        let there =
                            touches(&before.records, start, end) || touches(&before.samples, start, end);
                        told.passed_over += u64::from(there);
                        !there
                    }
                })
                .collect();
            told.records += fresh.len() as u64;
            told.damaged += rollup::store(conn, point, width, &fresh, Join::KeepLarger)?;
        }
        Ok(())
    }
}

/// The chunk that was looked into last.
#[derive(Default)]
struct Held {
    ends: Option<(i64, i64)>,
    keys: HashSet<(i64, u64)>,
}

impl Held {
    fn has(&mut self, conn: &Connection, point: u32, sample: &Sample) -> rusqlite::Result<bool> {
        if self.ends.is_none_or(|(first, last)| sample.time < first || sample.time > last) {
            let around = (sample.time, sample.time.saturating_add(1));
            let samples: Vec<Sample> =
                chunk::within(conn, point, around)?.into_iter().flatten().flatten().collect();
            self.ends = samples.first().zip(samples.last()).map(|(first, last)| (first.time, last.time));
            self.keys = samples.iter().map(Sample::key).collect();
        }
        Ok(self.keys.contains(&sample.key()))
    }
}

impl Before {
    fn find(conn: &Connection, point: u32) -> rusqlite::Result<Self> {
        let mut before = Self::default();
        let all = (i64::MIN, i64::MAX);
        for width in [MINUTE, HOUR] {
            range::records(conn, point, width, all, |record| {
                add(&mut before.records, (record.start, record.start.saturating_add(width)));
            })?;
        }
        before.records = joined(before.records);
        // Samples matter to records only, so their minutes are enough.
        let mut statement = conn.prepare_cached("SELECT blob FROM chunk WHERE point = ? ORDER BY t0")?;
        let mut rows = statement.query(params![point])?;
        while let Some(row) = rows.next()? {
            let blob = row.get_ref(0)?.as_blob().unwrap_or_default();
            for sample in chunk::unpack(blob, Form::Number).unwrap_or_default() {
                let start = sample.time.saturating_sub(sample.time.rem_euclid(MINUTE));
                add(&mut before.samples, (start, start.saturating_add(MINUTE)));
            }
        }
        Ok(before)
    }
}

/// Adds a stretch, to the last one where they touch.
fn add(stretches: &mut Vec<(i64, i64)>, (first, end): (i64, i64)) {
    match stretches.last_mut() {
        Some(last) if last.0 <= first && first <= last.1 => last.1 = last.1.max(end),
        _ => stretches.push((first, end)),
    }
}

fn joined(mut stretches: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    stretches.sort_unstable();
    let mut all = Vec::new();
    stretches.into_iter().for_each(|stretch| add(&mut all, stretch));
    all
}

fn touches(stretches: &[(i64, i64)], first: i64, end: i64) -> bool {
    let next = stretches.partition_point(|stretch| stretch.1 <= first);
    stretches.get(next).is_some_and(|stretch| stretch.0 < end)
}
