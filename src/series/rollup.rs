//! Rolled-up samples: a record a minute or an hour, in columns. Pure but for the two statements at the end.
//!
//! A record keeps what must never be lost: how many samples there were and how many were bad, the extremes, the sum, the
//! newest value and, of states and flags, every one that was seen. Records of one time are merged, in any order, with the
//! same result: a sample that comes late is added to the record of its time.
//!
//! A sample that is sent AGAIN after its first copy was rolled up is recognised when it is the point's newest, as a
//! broker's retained message is (see tail.rs). Any other is counted twice: from a record it cannot be told from one that
//! never came, and to lose a late one, perhaps an extreme, would be worse than a count and a mean that are a little off.
//! The lowest, the highest, the last and the states do not change by it.

use super::column::{self, Blob, Damaged};
use super::sample::{Form, Sample};
use rusqlite::{Connection, OptionalExtension, params};

/// ms of a record of the finer roll-up.
pub(crate) const MINUTE: i64 = 60_000;
/// ms of a record of the coarser one.
pub(crate) const HOUR: i64 = 3_600_000;

/// The first byte of a blob; chunks have other ones.
const FORMAT: u8 = 0x12;
/// The first format: no decimal columns, else the same.
const FORMAT_1: u8 = 0x11;
/// Records of one row. A thousand minutes are 17 hours and about 2 kB.
const RECORDS: usize = 1024;

/// The samples of one stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Where it begins: a multiple of its width.
    pub(crate) start: i64,
    pub(crate) form: Form,
    /// Samples, with a value or without.
    pub(crate) count: u32,
    pub(crate) bad: u32,
    pub(crate) valued: u32,
    pub(crate) values: Option<Values>,
    /// The states that were seen, ascending; empty for numbers.
    pub(crate) states: Vec<u32>,
}

/// The figures of the samples that have a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Values {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) sum: f64,
    pub(crate) last: f64,
    /// When the last one was taken, whole seconds after the record's start: it decides which value stays the last.
    pub(crate) last_at: u32,
}

impl Record {
    fn of(sample: &Sample, width: i64) -> Self {
        let (form, start) = (sample.mark.form(), start_of(sample.time, width));
        let value = sample.value();
        let state = value.filter(|_| form != Form::Number).and_then(super::range::state_number);
        Self {
            start,
            form,
            count: 1,
            bad: u32::from(sample.mark.bad()),
            valued: u32::from(value.is_some()),
            values: value.map(|value| Values {
                min: value,
                max: value,
                sum: value,
                last: value,
                last_at: u32::try_from(sample.time.saturating_sub(start) / 1000).unwrap_or(0),
            }),
            states: state.into_iter().collect(),
        }
    }

    pub(super) fn key(&self) -> (i64, Form) {
        (self.start, self.form)
    }

    /// Adds what another record of the same time says.
    fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.bad = self.bad.saturating_add(other.bad);
        self.valued = self.valued.saturating_add(other.valued);
        self.values = match (self.values, other.values) {
            (Some(mine), Some(others)) => Some(mine.with(&others)),
            (mine, others) => mine.or(others),
        };
        for &state in &other.states {
            if let Err(place) = self.states.binary_search(&state) {
                self.states.insert(place, state);
            }
        }
    }

    /// The same in a wider record.
    fn widened(&self, width: i64) -> Self {
        let start = start_of(self.start, width);
        let later = u32::try_from(self.start.saturating_sub(start) / 1000).unwrap_or(0);
        let values =
            self.values.map(|values| Values { last_at: values.last_at.saturating_add(later), ..values });
        Self { start, values, ..self.clone() }
    }
}

impl Values {
    fn with(&self, other: &Self) -> Self {
        // Of two of the same second the larger one: the result must not depend on the order.
        let newer = (other.last_at, other.last) > (self.last_at, self.last);
        let last = if newer { other } else { self };
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            sum: (self.sum + other.sum).clamp(f64::MIN, f64::MAX),
            last: last.last,
            last_at: last.last_at,
        }
    }
}

fn start_of(time: i64, width: i64) -> i64 {
    time.saturating_sub(time.rem_euclid(width))
}

/// The records of samples, in order.
pub(super) fn of_samples(samples: &[Sample], width: i64) -> Vec<Record> {
    merged(samples.iter().map(|sample| Record::of(sample, width)))
}

/// The records of narrower ones.
pub(super) fn widened(records: &[Record], width: i64) -> Vec<Record> {
    merged(records.iter().map(|record| record.widened(width)))
}

/// What becomes of two records of one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// They are of different samples.
    Add,
    /// They may be of the same samples: the one of more stays.
    KeepLarger,
}

impl Record {
    fn join(&mut self, other: &Self, how: Join) {
        match how {
            Join::Add => self.add(other),
            Join::KeepLarger if other.count > self.count => self.clone_from(other),
            Join::KeepLarger => {}
        }
    }
}

/// In the order of time, one record a time and form, of different samples.
pub(super) fn merged(records: impl IntoIterator<Item = Record>) -> Vec<Record> {
    joined(records, Join::Add)
}

/// In the order of time, one record a time and form.
pub(super) fn joined(records: impl IntoIterator<Item = Record>, how: Join) -> Vec<Record> {
    let mut all: Vec<Record> = Vec::new();
    for record in records {
        match all.last_mut() {
            // Mostly they come in order: no need to hold them all before they are merged.
            Some(last) if last.key() == record.key() => last.join(&record, how),
            _ => all.push(record),
        }
    }
    all.sort_by_key(Record::key);
    all.dedup_by(|later, first| {
        let same = later.key() == first.key();
        if same {
            first.join(later, how);
        }
        same
    });
    all
}

/// How the values of a record are written.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// There are none.
    None = 0,
    /// All the same: one figure says it.
    Flat = 1,
    /// Each figure by itself.
    Full = 2,
}

impl Shape {
    fn of(record: &Record) -> Self {
        let Some(values) = record.values else { return Self::None };
        let Values { min, max, sum, last, .. } = values;
        let even = close(sum, min * f64::from(record.valued));
        if min.to_bits() == max.to_bits() && last.to_bits() == min.to_bits() && even {
            Self::Flat
        } else {
            Self::Full
        }
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

/// A sum without the noise of adding: the nearest figure of a few decimals, if it is that but for the last bits. It
/// compresses to a third.
fn snapped(sum: f64) -> f64 {
    for power in [1.0, 10.0, 100.0, 1e3, 1e4] {
        let near = (sum * power).round() / power;
        if near.is_finite() && close(near, sum) {
            return near;
        }
    }
    sum
}

/// Packs records, column by column.
pub(super) fn pack(records: &[Record]) -> Vec<u8> {
    let mut blob = Blob::new(FORMAT, records.len());
    let whole = |figure: fn(&Record) -> u32| records.iter().map(figure).collect::<Vec<_>>();
    blob.times(&records.iter().map(|record| record.start).collect::<Vec<_>>());
    blob.column(&whole(|record| record.form as u32));
    blob.column(&whole(|record| record.count));
    blob.column(&whole(|record| record.bad));
    blob.column(&whole(|record| record.valued));
    blob.column(&whole(|record| Shape::of(record) as u32));
    blob.column(&whole(|record| record.values.map_or(0, |values| values.last_at)));
    let valued = || records.iter().filter_map(|record| Some((record, record.values?)));
    blob.column(&valued().map(|(_, values)| values.min).collect::<Vec<_>>());
    let full = || valued().filter(|(record, _)| Shape::of(record) == Shape::Full).map(|(_, values)| values);
    blob.column(&full().map(|values| values.max).collect::<Vec<_>>());
    blob.column(&full().map(|values| values.last).collect::<Vec<_>>());
    blob.column(&full().map(|values| snapped(values.sum)).collect::<Vec<_>>());
    blob.column(&whole(|record| u32::try_from(record.states.len()).unwrap_or(0)));
    blob.column(&records.iter().flat_map(|record| record.states.iter().copied()).collect::<Vec<_>>());
    blob.finish()
}

/// Unpacks a blob.
pub(super) fn unpack(blob: &[u8]) -> Result<Vec<Record>, Damaged> {
    let (format, count, mut input) = column::open(blob)?;
    if format != FORMAT && format != FORMAT_1 {
        return Err(Damaged::Format(format));
    }
    let starts = input.times(count)?;
    let [forms, counts, bads, valueds, shapes, last_ats] = {
        let mut column = || input.column::<u32>(count);
        [column()?, column()?, column()?, column()?, column()?, column()?]
    };
    let valued = shapes.iter().filter(|shape| **shape != Shape::None as u32).count();
    let full = shapes.iter().filter(|shape| **shape == Shape::Full as u32).count();
    let mut mins = input.column::<f64>(valued)?.into_iter();
    let mut maxs = input.column::<f64>(full)?.into_iter();
    let mut lasts = input.column::<f64>(full)?.into_iter();
    let mut sums = input.column::<f64>(full)?.into_iter();
    let lengths = input.column::<u32>(count)?;
    let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
    let seen = lengths
        .iter()
        .try_fold(0usize, |sum, length| sum.checked_add(*length))
        .filter(|n| *n <= blob.len() * 64);
    let mut states = input.column::<u32>(seen.ok_or(Damaged::Shape)?)?.into_iter();
    input.end()?;
    let mut records = Vec::with_capacity(count);
    for index in 0..count {
        let form = u8::try_from(forms[index]).ok().and_then(Form::of_byte).ok_or(Damaged::Shape)?;
        let last_at = last_ats[index];
        let figure = |column: &mut std::vec::IntoIter<f64>| column.next().ok_or(Damaged::Shape);
        let values = match shapes[index] {
            0 => None,
            1 => {
                let value = figure(&mut mins)?;
                let sum = value * f64::from(valueds[index]);
                Some(Values { min: value, max: value, sum, last: value, last_at })
            }
            2 => {
                let (min, max) = (figure(&mut mins)?, figure(&mut maxs)?);
                Some(Values { min, max, sum: figure(&mut sums)?, last: figure(&mut lasts)?, last_at })
            }
            _ => return Err(Damaged::Shape),
        };
        records.push(Record {
            start: starts[index],
            form,
            count: counts[index],
            bad: bads[index],
            valued: valueds[index],
            values,
            states: states.by_ref().take(lengths[index]).collect(),
        });
    }
    Ok(records)
}

/// Puts a point's records (in order, one a time and form) where they belong among its rows, each merged with what is
/// there of its time. Says how many damaged rows were replaced.
pub(super) fn store(
    conn: &Connection,
    point: u32,
    width: i64,
    mut records: &[Record],
    how: Join,
) -> rusqlite::Result<u64> {
    let mut damaged = 0;
    while let Some(first) = records.first() {
        let home: Option<(i64, i64, i64)> = conn
            .prepare_cached(
                "SELECT id, t1, n FROM rollup WHERE point = ? AND width = ? AND t0 <= ? ORDER BY t0 DESC LIMIT 1",
            )?
            .query_row(params![point, width, first.start], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let next: Option<i64> = conn
            .prepare_cached(
                "SELECT t0 FROM rollup WHERE point = ? AND width = ? AND t0 > ? ORDER BY t0 LIMIT 1",
            )?
            .query_row(params![point, width, first.start], |row| row.get(0))
            .optional()?;
        let end = next.map_or(records.len(), |next| records.partition_point(|record| record.start < next));
        let (these, rest) = records.split_at(end.max(1));
        records = rest;
        let mut all = these.to_vec();
        let mut row = None;
        if let Some((id, t1, n)) = home
            && (first.start <= t1 || usize::try_from(n).unwrap_or(0) < RECORDS)
        {
            row = Some(id);
            match read(conn, id)? {
                Ok(held) => all = joined(held.into_iter().chain(all), how),
                Err(cause) => {
                    damaged += 1;
                    tracing::error!(point, %cause, "a damaged roll-up of the series was replaced");
                }
            }
        }
        let mut left = all.as_slice();
        while !left.is_empty() {
            let mut end = if left.len() < 2 * RECORDS { left.len() } else { RECORDS };
            // Records of one time stay together, so that rows never overlap.
            while end < left.len() && left[end].start == left[end - 1].start {
                end += 1;
            }
            let (piece, after) = left.split_at(end);
            left = after;
            put(conn, row.take(), point, width, piece)?;
        }
    }
    Ok(damaged)
}

/// A row's records.
pub(super) fn read(conn: &Connection, id: i64) -> rusqlite::Result<Result<Vec<Record>, Damaged>> {
    conn.prepare_cached("SELECT blob FROM rollup WHERE id = ?")?
        .query_row([id], |row| Ok(unpack(row.get_ref(0)?.as_blob().unwrap_or_default())))
}

fn put(
    conn: &Connection,
    row: Option<i64>,
    point: u32,
    width: i64,
    records: &[Record],
) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
    let n = i64::try_from(records.len()).unwrap_or(i64::MAX);
    conn.prepare_cached(
        "INSERT INTO rollup (id, point, width, t0, t1, n, blob) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET t0 = ?4, t1 = ?5, n = ?6, blob = ?7",
    )?
    .execute(params![row, point, width, first.start, last.start, n, pack(records)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::sample::sort_and_dedupe;
    use crate::series::sample::tests::{good, sample};
    use proptest::prelude::*;

    /// Without the noise that packing takes out of sums.
    fn told(records: &[Record]) -> Vec<Record> {
        let mut records = records.to_vec();
        for record in &mut records {
            if let Some(values) = &mut record.values {
                values.sum = snapped(values.sum);
            }
        }
        records
    }

    fn alike(a: &[Record], b: &[Record]) -> bool {
        let figures = |record: &Record| record.values.map(|v| (v.min, v.max, v.last, v.last_at));
        a.len() == b.len()
            && a.iter().zip(b).all(|(a, b)| {
                let sums = match (a.values, b.values) {
                    (Some(a), Some(b)) => {
                        (a.sum - b.sum).abs() <= 1e-9 * a.sum.abs().max(1.0) || !a.sum.is_normal()
                    }
                    (None, None) => true,
                    _ => false,
                };
                let rest = |r: &Record| (r.key(), r.count, r.bad, r.valued, r.states.clone());
                sums && figures(a) == figures(b) && rest(a) == rest(b)
            })
    }

    proptest! {
        #[test]
        fn any_records_come_back_as_they_were(mut samples in prop::collection::vec(sample(), 0..200)) {
            sort_and_dedupe(&mut samples);
            let records = of_samples(&samples, MINUTE);
            let back = unpack(&pack(&records)).unwrap();
            prop_assert!(alike(&told(&records), &told(&back)), "{records:?} {back:?}");
        }

        /// Cut anywhere, merged in any order, by way of minutes or straight to hours: the same records.
        #[test]
        fn merging_is_associative(
            mut samples in prop::collection::vec(sample(), 1..120), at in any::<prop::sample::Index>(), swap in any::<bool>()
        ) {
            sort_and_dedupe(&mut samples);
            samples.retain(|sample| sample.value.is_nan() || sample.value.abs() < 1e9);
            prop_assume!(!samples.is_empty());
            let (early, late) = samples.split_at(at.index(samples.len()));
            let (early, late) = if swap { (late, early) } else { (early, late) };
            let parts = of_samples(early, MINUTE).into_iter().chain(of_samples(late, MINUTE));
            let by_minutes = widened(&merged(parts), HOUR);
            let at_once = of_samples(&samples, HOUR);
            prop_assert!(alike(&by_minutes, &at_once), "{by_minutes:?} {at_once:?}");
        }

        #[test]
        fn any_bytes_under_a_right_check_sum_are_records_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() {
                *first = FORMAT;
            }
            let sum = crc32fast::hash(&bytes);
            bytes.extend(sum.to_le_bytes());
            prop_assert!(unpack(&bytes).is_err() || bytes.len() > 20);
        }

        #[test]
        fn a_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0u32..8) {
            let samples: Vec<_> = (0..50).map(|n| good(n * 30_000, 1.5)).collect();
            let mut blob = pack(&of_samples(&samples, MINUTE));
            let index = at.index(blob.len());
            blob[index] ^= 1 << bit;
            prop_assert_eq!(unpack(&blob).map(|_| ()), Err(Damaged::Checksum));
        }
    }

    /// A blob as this program wrote it first: every later version must read it.
    const GOLDEN: &str = "\
        1105000000012800000070636f21030042010401040400000010000080e2c2180d00009400000080a9034c1dc8af80a9\
        0300011a00000070636f2103004201040101040000001000000000001000400200000600000000000000011900000070\
        636f21030042010401010400000010000000000008000400011a00000070636f21030042010401010400000010000000\
        00001800366c00011a00000070636f2103004201040101040000001000000000001000890200011c00000070636f2103\
        004201040101040000001000000000003000b20cc83200013000000070636f2103000201040106030000003200000000\
        00000000001000000000000000fc2f200000000000c01b6000c50000012f00000070636f210300c10401060200000032\
        0008000000000000fe1700000000000000043000000000000090286000210000012f00000070636f210300c104010602\
        000000320008000000000000fe1700000000000000043000000000000090286000210000012f00000070636f210300c1\
        040106020000003200080000000000000018000000000000800a3000cdcccccccca4336000210000011a00000070636f\
        2103004201040101040000001000000000001000800300011a00000070636f2103004201040101040000001000000000\
        0018004844001c869043";

    fn golden_records() -> Vec<Record> {
        let values = |min: f64, max: f64, sum: f64| Some(Values { min, max, sum, last: max, last_at: 50 });
        let record = |n: i64, form: Form, values: Option<Values>, states: &[u32]| Record {
            start: 1_800_000_000_000 + n * MINUTE,
            form,
            count: 6,
            bad: u32::from(n == 2),
            valued: if values.is_some() { 6 } else { 0 },
            values,
            states: states.to_vec(),
        };
        vec![
            record(0, Form::Number, values(23.5, 23.5, 141.0), &[]),
            record(1, Form::Number, values(23.5, 68.5, 186.3), &[]),
            record(2, Form::Number, None, &[]),
            record(3, Form::Flag, values(0.0, 1.0, 2.0), &[0, 1]),
            record(4, Form::State, values(1.0, 4.0, 13.0), &[1, 2, 4]),
        ]
    }

    #[test]
    fn a_roll_up_of_the_first_version_is_read() {
        let hex = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let blob: Vec<u8> = GOLDEN.as_bytes().chunks(2).map(hex).collect();
        assert_eq!(unpack(&blob).unwrap(), golden_records());
    }

    #[test]
    fn a_minute_of_slow_temperatures_takes_two_bytes() {
        let samples: Vec<_> = (0..6144i64)
            .map(|n| {
                let noise = f64::from(i16::try_from((n * 7919 % 101) / 50).unwrap());
                let slow = f64::from(i16::try_from(n / 240 % 7).unwrap());
                good(1_800_000_000_000 + n * 10_000 + n * 31 % 17, (230.0 + slow + noise) / 10.0)
            })
            .collect();
        let records = of_samples(&samples, MINUTE);
        let bytes = pack(&records).len();
        assert!(bytes <= 2 * records.len(), "{bytes} bytes for {} records", records.len());
    }
}
