//! The gateway's own store: its journal and its series, in this process, fed as the pipeline feeds them.

use crate::samples::{Class, Plant, Sample, Signal, Tally, reading};
use fengsui::journal::{Entry, Journal, Limits, Write};
use fengsui::metrics::Metrics;
use fengsui::model::{Fact, PointId, Reading, Span, Timestamp, Transition};
use fengsui::series::{Bucket, Keep, Retention, Series};
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

/// A follower beside the series, as a configured store is: its cursor is part of every commit.
const STORE: &str = "influx:main";

pub(crate) struct Own {
    pub(crate) runtime: Runtime,
    pub(crate) journal: Journal,
    pub(crate) series: Series,
    pub(crate) metrics: Metrics,
    pub(crate) dir: PathBuf,
    no: u64,
}

/// A tail is surely sealed after so many milliseconds without a sample.
pub(crate) const SEAL_MS: i64 = 12 * 3_600_000;

/// What one commit carries beside its readings.
#[derive(Default)]
pub(crate) struct Beside {
    pub(crate) transitions: Vec<Transition>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) receipts: Vec<u64>,
}

impl Own {
    /// With the limits and the retention that a gateway has when nothing is configured.
    pub(crate) fn open(dir: &Path) -> Self {
        Self::open_with(dir, Limits::default(), Retention::default())
    }

    pub(crate) fn open_with(dir: &Path, limits: Limits, retention: Retention) -> Self {
        // The gateway's own runtime has a thread a core; the journal's writer is a thread beside it.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let metrics = Metrics::new();
        let (journal, restored) = Journal::open(dir, limits, metrics.clone()).unwrap();
        let series = runtime.block_on(Series::open_with(&journal, retention)).unwrap();
        Self { runtime, journal, series, metrics, dir: dir.to_owned(), no: restored.head }
    }

    /// The entry is on the disk when this returns.
    pub(crate) fn append(&mut self, at: i64, readings: Vec<Reading>, beside: Beside) {
        self.no += 1;
        let write = write(self.no, at, readings, beside);
        self.runtime.block_on(self.journal.append(write)).unwrap();
    }

    /// Everybody who follows the journal has come to its end.
    pub(crate) fn follow(&self) {
        self.runtime.block_on(async {
            while !self.series.step().await.unwrap().idle {}
            self.journal.move_cursor(STORE, self.no).await.unwrap();
        });
    }

    /// Samples in entries of at most so many readings.
    pub(crate) fn take(&mut self, plant: &Plant, samples: &[Sample], entry: usize) {
        for some in samples.chunks(entry) {
            let readings = some.iter().map(|sample| plant.reading(sample)).collect();
            self.append(some[some.len() - 1].time, readings, Beside::default());
            self.follow();
        }
    }

    /// Half a day in which only a clock speaks: every tail is old enough to be sealed.
    pub(crate) fn seal_all(&mut self, after: i64) {
        (1..=4).for_each(|turn| self.tick(after + turn * SEAL_MS / 4));
    }

    /// Half a day in which only a clock speaks: whatever the retention says is rolled up.
    pub(crate) fn age_all(&mut self, after: i64) {
        (1..72).for_each(|tens| self.tick(after + tens * 11 * 60_000));
    }

    fn tick(&mut self, time: i64) {
        let clock = Signal::new(Class::Flag, "clock", 0);
        let sample = Sample { point: 0, time, value: 0.0 };
        self.append(time, vec![reading(&clock, &sample)], Beside::default());
        self.follow();
    }

    pub(crate) fn range(&self, point: &PointId, from: i64, to: i64, buckets: usize) -> Vec<Bucket> {
        let (from, to) = (Timestamp::from_millis(from), Timestamp::from_millis(to));
        self.runtime.block_on(self.series.range(point, from, to, buckets)).unwrap()
    }

    /// Everything that is held of these points.
    pub(crate) fn tally(&self, signals: &[Signal], from: i64, to: i64) -> Tally {
        let mut found = Tally::default();
        for signal in signals {
            for bucket in self.range(&signal.point, from, to, 1) {
                let (count, mean) = (f64::from(bucket.count), bucket.mean.unwrap_or(0.0));
                found.count += u64::from(bucket.count);
                found.sum +=
                    if signal.class == Class::State { self.alarms(count, mean) } else { count * mean };
            }
        }
        found
    }

    /// How many of so many states are the alarm: the series has the numbers of names there.
    fn alarms(&self, count: f64, mean: f64) -> f64 {
        let number =
            |name: &str| (0..64).find(|&n| self.series.state_name(n).is_some_and(|state| &*state == name));
        let (Some(normal), Some(alarm)) = (number("normal").map(f64::from), number("alarm").map(f64::from))
        else {
            return 0.0;
        };
        ((mean - normal) / (alarm - normal) * count).round()
    }

    pub(crate) fn commits(&self) -> u64 {
        self.metrics.journal_commits.get()
    }

    pub(crate) fn database(&self) -> PathBuf {
        database(&self.dir)
    }
}

pub(crate) fn database(dir: &Path) -> PathBuf {
    dir.join("journal.db")
}

pub(crate) fn write(no: u64, at: i64, readings: Vec<Reading>, beside: Beside) -> Write {
    let Beside { transitions, facts, receipts } = beside;
    let at = Timestamp::from_millis(at);
    let entry = Entry { no, at, recorded: true, readings, transitions, notes: Vec::new() };
    Write { facts, receipts, ..Write::of(entry) }
}

/// Bytes of the pages of a table and its indexes.
pub(crate) fn pages(file: &Path, table: &str) -> u64 {
    let conn = rusqlite::Connection::open(file).unwrap();
    let question = "SELECT ifnull(sum(pgsize), 0) FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = ?)";
    conn.query_row(question, [table], |row| row.get::<_, i64>(0)).unwrap() as u64
}

/// Samples as long as that, minutes for ever.
pub(crate) fn keep_raw(raw: Span) -> Retention {
    let keep = Keep { raw, minute: Span::from_secs(3650 * 86_400), hour: Span::from_secs(3650 * 86_400) };
    Retention { keep, ..Retention::default() }
}

/// The sum of a column, over all rows.
pub(crate) fn figure(file: &Path, question: &str) -> u64 {
    let conn = rusqlite::Connection::open(file).unwrap();
    conn.query_row(question, [], |row| row.get::<_, i64>(0)).unwrap() as u64
}
