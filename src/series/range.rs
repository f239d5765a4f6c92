//! A chart's question: many samples into few buckets. Every sample counts in exactly one of them.

use super::chunk::{Summary, unpack};
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
pub(super) enum Kind {
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

    /// Without any samples.
    pub(super) fn empty(&self) -> Vec<Bucket> {
        (0..self.count).map(|index| Sums::default().bucket(self, index)).collect()
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

    fn add_sample(&mut self, sample: &Sample, kind: Kind) {
        let (time, value) = (sample.time, sample.value());
        let valued = u32::from(value.is_some());
        let (bad, sum) = (u32::from(sample.mark.bad()), value.unwrap_or(0.0));
        self.add(&Summary {
            t0: time,
            t1: time,
            n: 1,
            valued,
            bad,
            min: value,
            max: value,
            sum,
            last: value,
        });
        if kind == Kind::States {
            self.see(value);
        }
    }

    fn bucket(&self, frame: &Frame, index: usize) -> Bucket {
        let start =
            frame.from.saturating_add(frame.width.saturating_mul(i64::try_from(index).unwrap_or(i64::MAX)));
        // The sum of huge values may overflow; the mean lies between the extremes all the same.
        let mean =
            self.min.zip(self.max).map(|(min, max)| (self.sum / f64::from(self.valued)).clamp(min, max));
        Bucket {
            start: Timestamp::from_millis(start),
            end: Timestamp::from_millis(start.saturating_add(frame.width).min(frame.to)),
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
    let mut sums = vec![Sums::default(); frame.count];
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
                sums[first].add(&summary);
                if kind == Kind::States {
                    sums[first].see(summary.min);
                }
            }
            _ => match unpack(row.get_ref(9)?.as_blob().unwrap_or_default(), Form::Number) {
                Ok(mut samples) => {
                    samples.extend(tail.drain(begin..end));
                    sort_and_dedupe(&mut samples);
                    samples.iter().for_each(|sample| add(&mut sums, frame, kind, sample));
                }
                Err(cause) => {
                    damaged += 1;
                    tracing::error!(point, t0 = summary.t0, %cause, "a chunk of the series is damaged and was skipped");
                }
            },
        }
    }
    tail.iter().for_each(|sample| add(&mut sums, frame, kind, sample));
    let buckets = sums.iter().enumerate().map(|(index, sums)| sums.bucket(frame, index)).collect();
    Ok((buckets, damaged))
}

fn add(sums: &mut [Sums], frame: &Frame, kind: Kind, sample: &Sample) {
    if let Some(index) = frame.index(sample.time) {
        sums[index].add_sample(sample, kind);
    }
}
