//! A chart's question: many samples into few buckets. Every sample counts in exactly one of them.
//!
//! A record of rolled-up samples counts whole in the bucket in which it begins; one that begins before the first bucket
//! and reaches into it counts there: rather an extreme of the minute outside than one that is lost. Where buckets are
//! narrower than the records, those without samples of their own that a record covers are joined to the one before, so
//! that no gap is drawn where there is none.

use super::chunk::{Summary, unpack};
use super::rollup::{self, HOUR, MINUTE, Record};
use super::sample::{Form, Sample, sort_and_dedupe};
use crate::model::Timestamp;
use rusqlite::{Connection, params};

/// The samples of one stretch of time, in few figures. Flags count as 0 and 1, states as their numbers
/// ([`Series::state`](super::Series::state)). Values of bad quality are in the figures too and counted in `bad`: a burning
/// sensor reads off its scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Its first millisecond.
    pub start: Timestamp,
    /// The first millisecond after it.
    pub end: Timestamp,
    /// Samples, with a value or without.
    pub count: u32,
    /// Of these, samples of bad quality.
    pub bad: u32,
    /// The lowest value, in the canonical unit; `None`: no sample had a value.
    pub min: Option<f64>,
    /// The highest value.
    pub max: Option<f64>,
    /// The mean of the values (each sample weighs the same).
    pub mean: Option<f64>,
    /// The newest value.
    pub last: Option<f64>,
    /// Every state that was seen, as its number, in ascending order, each once: lowest, highest and newest can hide the
    /// alarm between them. Only an answer of [`Series::range_of_states`](super::Series::range_of_states) has them.
    pub states: Vec<u32>,
}

/// What the figures of a point are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers: their extremes say enough.
    Figures,
    /// Numbers of states (or flags): each one that was seen is kept.
    States,
}

/// The state that a figure stands for; `None` when it is not a whole number of that size.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a whole number that fits"
)]
pub(super) fn state_number(figure: f64) -> Option<u32> {
    (figure >= 0.0 && figure <= f64::from(u32::MAX) && figure.fract() == 0.0).then_some(figure as u32)
}

/// A stretch of time cut into equal buckets; the last one may be shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    from: i64,
    to: i64,
    width: i64,
    count: usize,
}

impl Frame {
    pub(super) fn new(from: Timestamp, to: Timestamp, buckets: usize) -> Self {
        let (from, to) = (from.as_millis(), to.as_millis());
        let length = to.saturating_sub(from).max(0);
        let wanted = i64::try_from(buckets.max(1)).unwrap_or(i64::MAX);
        let width = length / wanted + i64::from(length % wanted != 0);
        let count = if length == 0 { 0 } else { (length - 1) / width + 1 };
        Self { from, to, width: width.max(1), count: usize::try_from(count).unwrap_or(0) }
    }

    pub(super) fn ends(&self) -> (i64, i64) {
        (self.from, self.to)
    }

    /// Without any samples.
    pub(super) fn empty(&self) -> Vec<Bucket> {
        (0..self.count)
            .map(|index| Sums::default().bucket(self.start(index), self.start(index + 1)))
            .collect()
    }

    /// Where a bucket begins, and the one before it ends.
    fn start(&self, index: usize) -> i64 {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        self.from.saturating_add(self.width.saturating_mul(index)).min(self.to)
    }

    /// The bucket of a time; `None` outside.
    fn index(&self, time: i64) -> Option<usize> {
        if time < self.from || time >= self.to {
            return None;
        }
        // `from` may be far below zero: the difference saturates, and so does the frame's length.
        usize::try_from(time.saturating_sub(self.from) / self.width).ok().filter(|&index| index < self.count)
    }
}

#[derive(Default, Clone)]
struct Sums {
    count: u32,
    bad: u32,
    valued: u32,
    min: Option<f64>,
    max: Option<f64>,
    sum: f64,
    last: Option<(i64, f64)>,
    states: Vec<u32>,
}

impl Sums {
    fn add(&mut self, other: &Summary) {
        self.count = self.count.saturating_add(other.n);
        self.bad = self.bad.saturating_add(other.bad);
        self.valued = self.valued.saturating_add(other.valued);
        self.min = [self.min, other.min].into_iter().flatten().reduce(f64::min);
        self.max = [self.max, other.max].into_iter().flatten().reduce(f64::max);
        self.sum += other.sum;
        if let Some(last) = other.last
            && self.last.is_none_or(|(time, _)| time <= other.t1)
        {
            self.last = Some((other.t1, last));
        }
    }

    /// Remembers a state; a point has a handful of them.
    fn see(&mut self, figure: Option<f64>) {
        if let Some(state) = figure.and_then(state_number)
            && let Err(place) = self.states.binary_search(&state)
        {
            self.states.insert(place, state);
        }
    }

    /// Adds samples in the order of time.
    fn add_samples(&mut self, samples: &[Sample], kind: Kind) {
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return };
        let (mut min, mut max, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
        let (mut valued, mut bad) = (0u32, 0u32);
        let mut newest = None;
        for sample in samples {
            bad += u32::from(sample.mark.bad());
            if let Some(value) = sample.value() {
                (min, max) = (f64::min(min, value), f64::max(max, value));
                sum += value;
                valued += 1;
                newest = Some((sample.time, value));
                if kind == Kind::States {
                    self.see(Some(value));
                }
            }
        }
        let some = |figure: f64| (valued > 0).then_some(figure);
        self.add(&Summary {
            t0: first.time,
            t1: newest.map_or(last.time, |(time, _)| time),
            n: u32::try_from(samples.len()).unwrap_or(u32::MAX),
            valued,
            bad,
            min: some(min),
            max: some(max),
            sum,
            last: newest.map(|(_, value)| value),
        });
    }

    fn add_record(&mut self, record: &Record, kind: Kind) {
        let values = record.values;
        let newest = values.map_or(0, |values| i64::from(values.last_at) * 1000);
        self.add(&Summary {
            t0: record.start,
            t1: record.start.saturating_add(newest),
            n: record.count,
            valued: record.valued,
            bad: record.bad,
            min: values.map(|values| values.min),
            max: values.map(|values| values.max),
            sum: values.map_or(0.0, |values| values.sum),
            last: values.map(|values| values.last),
        });
        if kind == Kind::States {
            record.states.iter().for_each(|&state| self.see(Some(f64::from(state))));
        }
    }

    fn bucket(&self, start: i64, end: i64) -> Bucket {
        // The sum of huge values may overflow; the mean lies between the extremes all the same.
        let mean =
            self.min.zip(self.max).map(|(min, max)| (self.sum / f64::from(self.valued)).clamp(min, max));
        Bucket {
            start: Timestamp::from_millis(start),
            end: Timestamp::from_millis(end),
            count: self.count,
            bad: self.bad,
            min: self.min,
            max: self.max,
            mean,
            last: self.last.map(|(_, value)| value),
            states: self.states.clone(),
        }
    }
}

/// The buckets while they are filled.
struct Filling<'a> {
    frame: &'a Frame,
    kind: Kind,
    sums: Vec<Sums>,
    /// Up to where the records of each bucket reach.
    reach: Vec<i64>,
}

impl<'a> Filling<'a> {
    fn new(frame: &'a Frame, kind: Kind) -> Self {
        Self { frame, kind, sums: vec![Sums::default(); frame.count], reach: vec![i64::MIN; frame.count] }
    }

    /// Adds samples in the order of time.
    fn samples(&mut self, mut samples: &[Sample]) {
        let outside = samples.partition_point(|sample| sample.time < self.frame.from);
        samples = &samples[outside..];
        while let Some(index) = samples.first().and_then(|first| self.frame.index(first.time)) {
            let end = self.frame.start(index + 1);
            let (these, rest) = samples.split_at(samples.partition_point(|sample| sample.time < end).max(1));
            self.sums[index].add_samples(these, self.kind);
            samples = rest;
        }
    }

    fn record(&mut self, record: &Record, width: i64) {
        let end = record.start.saturating_add(width);
        if end <= self.frame.from {
            return;
        }
        if let Some(index) = self.frame.index(record.start.max(self.frame.from)) {
            self.sums[index].add_record(record, self.kind);
            self.reach[index] = self.reach[index].max(end);
        }
    }

    fn finish(self) -> Vec<Bucket> {
        let mut buckets: Vec<Bucket> = Vec::with_capacity(self.sums.len());
        let mut covered = i64::MIN;
        for (index, sums) in self.sums.iter().enumerate() {
            let (start, end) = (self.frame.start(index), self.frame.start(index + 1));
            match buckets.last_mut() {
                Some(before) if sums.count == 0 && start < covered => {
                    before.end = Timestamp::from_millis(end)
                }
                _ => buckets.push(sums.bucket(start, end)),
            }
            covered = covered.max(self.reach[index]);
        }
        buckets
    }
}

/// Fills the buckets from a point's chunks and its tail. A chunk that lies in one bucket is not even decoded, unless the
/// tail has samples of the same time, which may be the same ones sent again, or several states hide behind its lowest and
/// highest. Also says how many chunks were damaged.
pub(super) fn answer(
    conn: &Connection,
    point: u32,
    frame: &Frame,
    kind: Kind,
    mut tail: Vec<Sample>,
) -> rusqlite::Result<(Vec<Bucket>, u64)> {
    let mut damaged = 0;
    let mut filling = Filling::new(frame, kind);
    // Chunks do not overlap: only the last one that begins before `from` can reach into it.
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {}, blob FROM chunk WHERE point = ?1 AND t0 < ?3 AND t0 >= ifnull(
           (SELECT t0 FROM chunk WHERE point = ?1 AND t0 <= ?2 ORDER BY t0 DESC LIMIT 1), ?2) ORDER BY t0",
        Summary::COLUMNS
    ))?;
    let mut rows = statement.query(params![point, frame.from, frame.to])?;
    while let Some(row) = rows.next()? {
        let summary = Summary::read(row)?;
        let begin = tail.partition_point(|sample| sample.time < summary.t0);
        let end = tail.partition_point(|sample| sample.time <= summary.t1);
        match (frame.index(summary.t0), frame.index(summary.t1)) {
            (Some(first), Some(last))
                if first == last && begin == end && (kind == Kind::Figures || summary.min == summary.max) =>
            {
                filling.sums[first].add(&summary);
                if kind == Kind::States {
                    filling.sums[first].see(summary.min);
                }
            }
            _ => match unpack(row.get_ref(9)?.as_blob().unwrap_or_default(), Form::Number) {
                Ok(mut samples) => {
                    if begin != end {
                        samples.extend(tail.drain(begin..end));
                        sort_and_dedupe(&mut samples);
                    }
                    filling.samples(&samples);
                }
                Err(cause) => {
                    damaged += 1;
                    tracing::error!(point, t0 = summary.t0, %cause, "a chunk of the series is damaged and was skipped");
                }
            },
        }
    }
    filling.samples(&tail);
    for width in [MINUTE, HOUR] {
        damaged +=
            records(conn, point, width, (frame.from, frame.to), |record| filling.record(record, width))?;
    }
    Ok((filling.finish(), damaged))
}

/// The records of the rows that touch `from ≤ time < to`, and a few around them. Says how many rows were damaged.
pub(super) fn records(
    conn: &Connection,
    point: u32,
    width: i64,
    (from, to): (i64, i64),
    mut take: impl FnMut(&Record),
) -> rusqlite::Result<u64> {
    let mut damaged = 0;
    let mut statement = conn.prepare_cached(
        "SELECT blob FROM rollup WHERE point = ?1 AND width = ?4 AND t0 < ?3 AND t0 >= ifnull(
           (SELECT t0 FROM rollup WHERE point = ?1 AND width = ?4 AND t0 <= ?2 ORDER BY t0 DESC LIMIT 1), ?2)
         ORDER BY t0",
    )?;
    let mut rows = statement.query(params![point, from, to, width])?;
    while let Some(row) = rows.next()? {
        match rollup::unpack(row.get_ref(0)?.as_blob().unwrap_or_default()) {
            Ok(records) => records.iter().for_each(&mut take),
            Err(cause) => {
                damaged += 1;
                tracing::error!(point, width, %cause, "a roll-up of the series is damaged and was skipped");
            }
        }
    }
    Ok(damaged)
}
