//! The series read out of a data directory, point by point in the order of time, beside a running gateway or without one:
//! for the export. What is not sealed yet comes from the journal's entries.

use super::ageing::DAY_MS;
use super::chunk;
use super::range;
use super::rollup::{HOUR, MINUTE, Record, Values};
use super::sample::{ABSENT, Form, Mark, Packed, Sample, sort_and_dedupe};
use super::{CURSOR, TAIL_BYTES_MAX};
use crate::journal::{Archive, ReadError, from_sql};
use crate::model::{Code, Number, PointId, Quality, Span, Timestamp, Value};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::{BTreeMap, HashMap};

/// Entries read at once.
const ENTRIES_AT_ONCE: usize = 64;

/// One line of an export.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The sample's time; the beginning of a record.
    pub time: Timestamp,
    /// What is there.
    pub what: What,
}

/// A sample, or what many of them came to.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// One value.
    Sample {
        /// What it said.
        value: Value,
        /// How far to trust it.
        quality: Quality,
    },
    /// Rolled-up samples.
    Record(Rolled),
}

/// A record of rolled-up samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Rolled {
    /// A minute or an hour.
    pub width: Span,
    /// Samples, with a value or without.
    pub count: u32,
    /// Of these, samples of bad quality.
    pub bad: u32,
    /// Of these, samples with a value.
    pub valued: u32,
    /// Whole seconds from the beginning to the newest value.
    pub last_at: u32,
    /// What the values were.
    pub values: RolledValues,
}

/// The values of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum RolledValues {
    /// No sample had one.
    None,
    /// Numbers.
    Numbers {
        /// The lowest.
        min: f64,
        /// The highest.
        max: f64,
        /// The sum of all.
        sum: f64,
        /// The newest.
        last: f64,
    },
    /// Flags.
    Flags {
        /// How many were true.
        trues: u32,
        /// The newest.
        last: bool,
    },
    /// States.
    States {
        /// The newest.
        last: Code,
        /// Every one that was seen, by name.
        seen: Vec<Code>,
    },
}

/// What an export met besides its lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Points that had something.
    pub points: u64,
    /// Samples.
    pub samples: u64,
    /// Records.
    pub records: u64,
    /// Damaged chunks and roll-ups that were passed over.
    pub damaged: u64,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The lines could not be written.
    #[error("the file could not be written: {0}")]
    Write(#[from] std::io::Error),
}

/// Hands over all samples and records of `from ≤ time < to`, point by point in the order of their names, each point's in
/// the order of time. A record counts where it begins. Memory stays within some 20 MB whatever the length.
pub fn export(
    archive: &Archive,
    (from, to): (Timestamp, Timestamp),
    wanted: impl Fn(&PointId) -> bool,
    mut take: impl FnMut(&PointId, Item) -> std::io::Result<()>,
) -> Result<Told, ExportError> {
    let mut points = archive.point_names()?;
    points.retain(|(_, point)| wanted(point));
    let (cursor, sealed) = archive.read(|conn| {
        let cursor = conn
            .query_row("SELECT no FROM cursor WHERE name = ?", [CURSOR], |row| row.get(0).map(from_sql))
            .optional()?
            .unwrap_or(0);
        let mut statement = conn.prepare("SELECT point, sealed_no FROM last")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, from_sql(row.get(1)?))))?;
        Ok((cursor, rows.collect::<rusqlite::Result<HashMap<u32, u64>>>()?))
    })?;
    let window = (from.as_millis(), to.as_millis());
    let mut told = Told::default();
    let mut rest = points.as_slice();
    while !rest.is_empty() {
        let (tails, covered) = unsealed(archive, cursor, &sealed, rest, window)?;
        let (these, later) = rest.split_at(covered.max(1));
        rest = later;
        for (number, point) in these {
            let tail = tails.get(point).map(Packed::sorted).unwrap_or_default();
            let before = told.samples + told.records;
            read_point(archive, *number, tail, window, &mut told, |item| take(point, item))?;
            told.points += u64::from(told.samples + told.records > before);
        }
    }
    Ok(told)
}

/// The samples of the entries after the cursor, of as many of the points as memory holds, from the first on.
fn unsealed(
    archive: &Archive,
    cursor: u64,
    sealed: &HashMap<u32, u64>,
    points: &[(u32, PointId)],
    (from, to): (i64, i64),
) -> Result<(BTreeMap<PointId, Packed>, usize), ReadError> {
    let numbers: HashMap<&PointId, (usize, u32)> =
        points.iter().enumerate().map(|(place, (number, point))| (point, (place, *number))).collect();
    let mut codes: HashMap<Code, u32> = HashMap::new();
    let mut tails: BTreeMap<PointId, Packed> = BTreeMap::new();
    let (mut after, mut covered, mut bytes) = (cursor, points.len(), 0);
    loop {
        let entries = archive.entries_after(after, ENTRIES_AT_ONCE)?;
        let Some(last) = entries.last() else { return Ok((tails, covered)) };
        after = last.no;
        for entry in &entries {
            for reading in &entry.readings {
                let Some(&(place, number)) = numbers.get(&reading.point) else { continue };
                let time = reading.time().as_millis();
                let known = sealed.get(&number).is_some_and(|&sealed_no| entry.no <= sealed_no);
                if place >= covered || known || time < from || time >= to {
                    continue;
                }
                if let Value::Code(code) = &reading.value
                    && !codes.contains_key(code)
                {
                    codes = archive.read(code_numbers)?;
                }
                let tail = tails.entry(reading.point.clone()).or_default();
                let before = tail.room();
                tail.push(Sample::of(reading, |code| codes.get(code).copied()));
                bytes += tail.room() - before;
            }
        }
        while bytes > TAIL_BYTES_MAX && tails.len() > 1 {
            if let Some((point, tail)) = tails.pop_last() {
                bytes -= tail.room();
                covered = numbers.get(&point).map_or(covered, |&(place, _)| place);
            }
        }
    }
}

/// The numbers that stand for states.
pub(super) fn code_numbers(conn: &Connection) -> Result<HashMap<Code, u32>, ReadError> {
    let mut statement = conn.prepare("SELECT id, name FROM code")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, Code>(1)?, row.get(0)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// One point, a day at a time, each in one snapshot.
fn read_point(
    archive: &Archive,
    point: u32,
    tail: Vec<Sample>,
    (from, to): (i64, i64),
    told: &mut Told,
    mut take: impl FnMut(Item) -> std::io::Result<()>,
) -> Result<(), ExportError> {
    let mut at = from;
    while at < to {
        let next = tail.get(tail.partition_point(|sample| sample.time < at)).map(|sample| sample.time);
        let day = archive.read(|conn| {
            let stored = next_stored(conn, point, at)?;
            let Some(begin) = [next, stored].into_iter().flatten().min().filter(|begin| *begin < to) else {
                return Ok(None);
            };
            let end = begin.saturating_sub(begin.rem_euclid(DAY_MS)).saturating_add(DAY_MS).min(to);
            let (items, damaged) = day(conn, point, &tail, (begin, end))?;
            Ok(Some((items, damaged, end)))
        })?;
        let Some((items, damaged, end)) = day else { return Ok(()) };
        told.damaged += damaged;
        for item in items {
            match item.what {
                What::Sample { .. } => told.samples += 1,
                What::Record(_) => told.records += 1,
            }
            take(item)?;
        }
        at = end;
    }
    Ok(())
}

/// The first time from `at` on at which something may be stored.
fn next_stored(conn: &Connection, point: u32, at: i64) -> rusqlite::Result<Option<i64>> {
    let mut found: Option<i64> = None;
    for (table, which) in [("chunk", ""), ("rollup", "AND width = 60000"), ("rollup", "AND width = 3600000")]
    {
        let within = conn
            .prepare_cached(&format!(
                "SELECT t1 FROM {table} WHERE point = ? {which} AND t0 <= ? ORDER BY t0 DESC LIMIT 1"
            ))?
            .query_row(params![point, at], |row| row.get::<_, i64>(0))
            .optional()?;
        let next = if within.is_some_and(|t1| t1 >= at) {
            Some(at)
        } else {
            conn.prepare_cached(&format!(
                "SELECT t0 FROM {table} WHERE point = ? {which} AND t0 > ? ORDER BY t0 LIMIT 1"
            ))?
            .query_row(params![point, at], |row| row.get(0))
            .optional()?
        };
        found = [found, next].into_iter().flatten().min();
    }
    Ok(found)
}

/// All that is there of `from ≤ time < to`, in its order.
fn day(
    conn: &Connection,
    point: u32,
    tail: &[Sample],
    (from, to): (i64, i64),
) -> rusqlite::Result<(Vec<Item>, u64)> {
    let mut damaged = 0;
    let inside = |time: i64| (from..to).contains(&time);
    let mut samples: Vec<Sample> = tail.iter().filter(|sample| inside(sample.time)).copied().collect();
    for chunk in chunk::within(conn, point, (from, to))? {
        match chunk {
            Ok(held) => samples.extend(held.into_iter().filter(|sample| inside(sample.time))),
            Err(_) => damaged += 1,
        }
    }
    sort_and_dedupe(&mut samples);
    let names = conn
        .prepare_cached("SELECT id, name FROM code")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<HashMap<u32, Code>>>()?;
    let mut items: Vec<Item> = samples.iter().map(|sample| of_sample(sample, &names)).collect();
    for width in [HOUR, MINUTE] {
        damaged += range::records(conn, point, width, (from, to), |record| {
            if inside(record.start) {
                items.push(of_record(record, width, &names));
            }
        })?;
    }
    items.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| a.what.order().cmp(&b.what.order())));
    Ok((items, damaged))
}

impl What {
    /// Wider records first, then samples. States by name: their numbers are another file's own.
    fn order(&self) -> (i64, Option<Code>, Option<Number>, u8) {
        match self {
            Self::Record(rolled) => {
                let form = match &rolled.values {
                    RolledValues::None => 0,
                    RolledValues::Numbers { .. } => 1,
                    RolledValues::Flags { .. } => 2,
                    RolledValues::States { .. } => 3,
                };
                (-rolled.width.as_millis(), None, None, form)
            }
            Self::Sample { value: Value::Code(code), .. } => (0, Some(code.clone()), None, 3),
            Self::Sample { value: Value::Number(number), .. } => (0, None, Some(*number), 1),
            Self::Sample { value: Value::Flag(flag), .. } => (0, None, None, 2 + u8::from(*flag)),
            Self::Sample { value: Value::Absent, .. } => (0, None, None, 0),
        }
    }
}

fn of_sample(sample: &Sample, names: &HashMap<u32, Code>) -> Item {
    let value = match (sample.value(), sample.mark.form()) {
        (None, _) => Value::Absent,
        (Some(value), Form::Number) => Number::new(value).map_or(Value::Absent, Value::Number),
        (Some(value), Form::Flag) => Value::Flag(value != 0.0),
        (Some(value), Form::State) => {
            let name = range::state_number(value).and_then(|number| names.get(&number));
            name.cloned().map_or(Value::Absent, Value::Code)
        }
    };
    let what = What::Sample { value, quality: sample.mark.quality() };
    Item { time: Timestamp::from_millis(sample.time), what }
}

fn of_record(record: &Record, width: i64, names: &HashMap<u32, Code>) -> Item {
    let name = |number: u32| names.get(&number).cloned().unwrap_or_else(|| number.to_string().into());
    let values = match (record.values, record.form) {
        (None, _) => RolledValues::None,
        (Some(Values { min, max, sum, last, .. }), Form::Number) => {
            RolledValues::Numbers { min, max, sum, last }
        }
        (Some(values), Form::Flag) => {
            let trues = range::state_number(values.sum).unwrap_or(0);
            RolledValues::Flags { trues, last: values.last != 0.0 }
        }
        (Some(values), Form::State) => {
            let mut seen: Vec<Code> = record.states.iter().map(|&number| name(number)).collect();
            seen.sort();
            RolledValues::States { last: name(range::state_number(values.last).unwrap_or(0)), seen }
        }
    };
    let what = What::Record(Rolled {
        width: Span::from_millis(width),
        count: record.count,
        bad: record.bad,
        valued: record.valued,
        last_at: record.values.map_or(0, |values| values.last_at),
        values,
    });
    Item { time: Timestamp::from_millis(record.start), what }
}

impl Item {
    /// Every state that it names.
    pub(super) fn codes(&self) -> &[Code] {
        match &self.what {
            What::Sample { value: Value::Code(code), .. } => std::slice::from_ref(code),
            What::Record(Rolled { values: RolledValues::States { seen, .. }, .. }) => seen,
            _ => &[],
        }
    }

    /// The sample that it is; `None`: it is a record.
    pub(super) fn sample(&self, codes: &HashMap<Code, u32>) -> Option<Sample> {
        let What::Sample { value, quality } = &self.what else { return None };
        let (form, value) = match value {
            Value::Number(number) => (Form::Number, number.get()),
            Value::Flag(flag) => (Form::Flag, f64::from(u8::from(*flag))),
            Value::Code(code) => (Form::State, codes.get(code).map_or(ABSENT, |number| f64::from(*number))),
            Value::Absent => (Form::Number, ABSENT),
        };
        Some(Sample { time: self.time.as_millis(), value, mark: Mark::new(form, *quality) })
    }

    /// The record that it is, with its width; `None`: it is a sample.
    pub(super) fn record(&self, codes: &HashMap<Code, u32>) -> Option<(i64, Record)> {
        let What::Record(rolled) = &self.what else { return None };
        let number = |code: &Code| codes.get(code).copied().unwrap_or(0);
        let last_at = rolled.last_at;
        let valued = f64::from(rolled.valued);
        let mut states = Vec::new();
        let (form, values) = match &rolled.values {
            RolledValues::None => (Form::Number, None),
            &RolledValues::Numbers { min, max, sum, last } => {
                (Form::Number, Some(Values { min, max, sum, last, last_at }))
            }
            &RolledValues::Flags { trues, last } => {
                let min = f64::from(u8::from(trues >= rolled.valued));
                let max = f64::from(u8::from(trues > 0));
                states.extend(range::state_number(min));
                states.extend(range::state_number(max).filter(|_| max > min));
                let last = f64::from(u8::from(last));
                (Form::Flag, Some(Values { min, max, sum: f64::from(trues), last, last_at }))
            }
            RolledValues::States { last, seen } => {
                states.extend(seen.iter().chain([last]).map(number));
                states.sort_unstable();
                states.dedup();
                let (min, max) = (states.first().copied().unwrap_or(0), states.last().copied().unwrap_or(0));
                let last = f64::from(number(last));
                // The sum of the numbers of states means nothing and is told nowhere.
                let sum = last * valued;
                (Form::State, Some(Values { min: min.into(), max: max.into(), sum, last, last_at }))
            }
        };
        let (start, count, bad) = (self.time.as_millis(), rolled.count, rolled.bad);
        let record = Record { start, form, count, bad, valued: rolled.valued, values, states };
        Some((rolled.width.as_millis(), record))
    }
}
