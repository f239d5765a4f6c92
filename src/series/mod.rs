//! THE TIME SERIES. A follower of the journal: what a chart is drawn from, and each point's newest value.
//!
//! New samples stand in memory (the tail). A point's tail is sealed into compressed chunks when it is long or old, a few
//! points a step, so that nothing stalls. A point's `sealed_no` and the cursor are written in the same transaction as
//! its chunks. At start the tail is built again from the entries after the cursor, leaving out, for each point, the
//! entries up to its `sealed_no`: by the number of the entry and not by time, so late samples are neither lost nor
//! doubled. The journal keeps every entry after the cursor.

mod chunk;
mod tail;
mod range;

pub use range::Bucket;

use crate::journal::{AppendError, Journal, ReadError, from_sql, to_sql};
use crate::model::{Code, PointId, Reading, Span, Timestamp};
use range::Kind;
use rusqlite::params;
use std::sync::{Arc, Mutex, MutexGuard};
use tail::{Sample, Tails};
use tokio_util::sync::CancellationToken;

/// The name of the cursor.
pub const CURSOR: &str = "series";
/// Entries taken in one step. A step must be short: 256 small entries decode in a few milliseconds.
const ENTRIES_PER_STEP: usize = 256;
/// Points sealed in one step, in one transaction: 500 at once stalled the writer for 150 to 300 ms, 8 take about 4 ms.
const SEALS_PER_STEP: usize = 8;
/// Samples in memory. 400 000 × 32 bytes ≈ 13 MB: 30 minutes of 220 readings a second. When it is reached, sealing goes
/// first and new entries wait in the journal.
const TAIL_SAMPLES_MAX: usize = 400_000;
/// Chunks older than this are deleted (一年多: a year of charts and a month to look at it).
const CHUNK_AGE_MAX: Span = Span::from_secs(400 * 86_400);
/// Old chunks deleted a sealing.
const CHUNKS_DROPPED_PER_STEP: i64 = 16;
/// The most buckets of one range: four times the pixels of a wide screen.
pub const BUCKETS_MAX: usize = 16_384;

/// How long a failed step waits: the disk is full or slow, and people are told by the pipeline.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// The series. A cheap handle.
#[derive(Clone)]
pub struct Series(Arc<Inner>);

struct Inner {
    journal: Journal,
    tails: Mutex<Tails>,
    /// One step at a time.
    stepping: tokio::sync::Mutex<()>,
    /// Held for writing while samples move from the tail into chunks, so that a question sees each of them once.
    moving: tokio::sync::RwLock<()>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Entries taken from the journal.
    pub entries: usize,
    /// Points whose tail was sealed.
    pub sealed: usize,
    /// Nothing is left to do until the journal's head moves.
    pub idle: bool,
}

/// Why the series could not go on or answer. Nothing is lost: the entries are in the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// The journal could not be read.
    #[error("the series: {0}")]
    Read(#[from] ReadError),
    /// A chunk could not be written.
    #[error("the series: {0}")]
    Write(#[from] AppendError),
}

impl Series {
    /// Opens the series and takes in what the journal holds after its cursor.
    pub async fn open(journal: &Journal) -> Result<Self, SeriesError> {
        let cursor = journal.cursor(CURSOR).await?;
        let rows = journal
            .read(|conn| {
                let mut statement = conn.prepare("SELECT sealed_no, reading FROM last")?;
                let rows =
                    statement.query_map([], |row| Ok((from_sql(row.get(0)?), row.get::<_, Vec<u8>>(1)?)))?;
                Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
            })
            .await?;
        let mut tails = Tails::new(cursor);
        for (sealed_no, blob) in rows {
            if let Some(reading) = journal.decode_reading(&blob) {
                tails.restore(reading, sealed_no);
            }
        }
        let series = Self(Arc::new(Inner {
            journal: journal.clone(),
            tails: Mutex::new(tails),
            stepping: tokio::sync::Mutex::default(),
            moving: tokio::sync::RwLock::default(),
        }));
        while !series.step().await?.idle {}
        Ok(series)
    }

    /// Takes new entries, seals what is due: a little at a time. Call it when the journal's head has moved, and again
    /// until it says `idle`.
    pub async fn step(&self) -> Result<Progress, SeriesError> {
        let _alone = self.0.stepping.lock().await;
        let entries = self.take().await?;
        let sealed = self.seal().await?;
        let (idle, passed) = {
            let tails = self.tails();
            let caught_up = entries.is_some_and(|entries| entries < ENTRIES_PER_STEP);
            (caught_up && sealed < SEALS_PER_STEP, tails.passed(&[]))
        };
        let entries = entries.unwrap_or(0);
        self.0.journal.move_cursor(CURSOR, passed).await?;
        Ok(Progress { entries, sealed, idle })
    }

    /// Follows the journal until cancelled.
    ///
    /// Errors: none that end it; a failed step is logged and tried again after `RETRY_AFTER`.
    pub async fn follow(&self, cancel: CancellationToken) {
        let mut head = self.0.journal.recorded();
        let work = async {
            loop {
                match self.step().await {
                    Ok(progress) if progress.idle => {
                        if head.changed().await.is_err() {
                            std::future::pending::<()>().await;
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(%error, "the series could not follow the journal; it will try again");
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                }
            }
        };
        cancel.run_until_cancelled(work).await;
    }

    /// The newest reading of a point: by the time it was taken, not by when it arrived.
    pub fn last(&self, point: &PointId) -> Option<Reading> {
        self.tails().last(point).cloned()
    }

    /// The newest reading of every point, in no order.
    pub fn all_last(&self) -> Vec<Reading> {
        self.tails().all_last().cloned().collect()
    }

    /// The state that a bucket's figure stands for: states are drawn as the numbers they are stored under.
    pub fn state(&self, figure: f64) -> Option<Code> {
        self.state_name(range::state_number(figure)?)
    }

    /// The state of that number; see [`Bucket::states`].
    pub fn state_name(&self, number: u32) -> Option<Code> {
        self.0.journal.code(number)
    }

    /// The samples of `from ≤ time < to` in at most `buckets` equal buckets (at most [`BUCKETS_MAX`]). Every sample is in
    /// exactly one bucket: no extreme is lost. A bucket without samples is there, with `count` 0.
    pub async fn range(
        &self,
        point: &PointId,
        from: Timestamp,
        to: Timestamp,
        buckets: usize,
    ) -> Result<Vec<Bucket>, SeriesError> {
        self.answer(point, from, to, buckets, Kind::Figures).await
    }

    /// The same for a point whose values are states or flags: each bucket also says every state that was seen in it.
    pub async fn range_of_states(
        &self,
        point: &PointId,
        from: Timestamp,
        to: Timestamp,
        buckets: usize,
    ) -> Result<Vec<Bucket>, SeriesError> {
        self.answer(point, from, to, buckets, Kind::States).await
    }

    async fn answer(
        &self,
        point: &PointId,
        from: Timestamp,
        to: Timestamp,
        buckets: usize,
        kind: Kind,
    ) -> Result<Vec<Bucket>, SeriesError> {
        let frame = range::Frame::new(from, to, buckets.min(BUCKETS_MAX));
        let _still = self.0.moving.read().await;
        let tail = self.tails().samples(point, from, to);
        let Some(number) = self.0.journal.point_number(point) else { return Ok(frame.empty()) };
        let question =
            move |conn: &rusqlite::Connection| Ok(range::answer(conn, number, &frame, kind, tail)?);
        let (buckets, damaged) = self.0.journal.read(question).await?;
        self.0.journal.count_damaged(damaged);
        Ok(buckets)
    }

    /// How many entries were taken; `None`: memory is full, sealing goes first.
    async fn take(&self) -> Result<Option<usize>, SeriesError> {
        let after = {
            let tails = self.tails();
            if tails.count() >= TAIL_SAMPLES_MAX {
                return Ok(None);
            }
            tails.taken()
        };
        let entries = self.0.journal.read_recorded_after(after, ENTRIES_PER_STEP).await?;
        let mut tails = self.tails();
        for entry in &entries {
            for reading in &entry.readings {
                tails.take(entry.no, entry.at, reading, |code| self.0.journal.code_number(code));
            }
            tails.passed_entry(entry.no, entry.at);
        }
        Ok(Some(entries.len()))
    }

    async fn seal(&self) -> Result<usize, SeriesError> {
        let (due, plan) = {
            let tails = self.tails();
            let due = tails.due(SEALS_PER_STEP, tails.count() >= TAIL_SAMPLES_MAX);
            let plan: Vec<Sealing> = due.iter().filter_map(|point| self.plan(&tails, point)).collect();
            (due, plan)
        };
        if due.is_empty() {
            return Ok(0);
        }
        let _moving = self.0.moving.write().await;
        let (taken, passed, drop_before) = {
            let tails = self.tails();
            (tails.taken(), tails.passed(&due), tails.newest_at() - CHUNK_AGE_MAX)
        };
        let damaged = self
            .0
            .journal
            .write(move |conn| {
                let mut damaged = 0;
                for sealing in &plan {
                    damaged += chunk::store(conn, sealing.point, &sealing.samples)?;
                    conn.prepare_cached(
                        "INSERT OR REPLACE INTO last (point, sealed_no, reading) VALUES (?, ?, ?)",
                    )?
                    .execute(params![sealing.point, to_sql(taken), sealing.last])?;
                }
                conn.prepare_cached(
                    "DELETE FROM chunk WHERE (point, t0) IN
                     (SELECT point, t0 FROM chunk WHERE t1 < ? ORDER BY t1 LIMIT ?)",
                )?
                .execute(params![drop_before.as_millis(), CHUNKS_DROPPED_PER_STEP])?;
                conn.prepare_cached(
                    "INSERT INTO cursor (name, no) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET no = ?2",
                )?
                .execute(params![CURSOR, to_sql(passed)])?;
                Ok(damaged)
            })
            .await?;
        self.0.journal.count_damaged(damaged);
        let mut tails = self.tails();
        due.iter().for_each(|point| tails.sealed(point));
        Ok(due.len())
    }

    fn plan(&self, tails: &Tails, point: &PointId) -> Option<Sealing> {
        let number = self.0.journal.point_number(point)?;
        let last = self.0.journal.encode_reading(tails.last(point)?)?;
        Some(Sealing { point: number, samples: tails.sorted(point), last })
    }

    fn tails(&self) -> MutexGuard<'_, Tails> {
        self.0.tails.lock().expect("no holder of this lock panics")
    }
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Series")
    }
}

/// What one point puts into a transaction.
struct Sealing {
    point: u32,
    samples: Vec<Sample>,
    last: Vec<u8>,
}
