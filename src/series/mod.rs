//! THE TIME SERIES. A follower of the journal: what a chart is drawn from, and each point's newest value.
//!
//! New samples stand in memory (the tail). A point's tail is sealed into compressed chunks when it is long or old, a few
//! points a step, so that nothing stalls. Later four full chunks become one, and old ones become minutes and hours. A
//! point's `sealed_no` and the cursor are written in the same transaction as its chunks. At start the tail is built again
//! from the entries after the cursor, leaving out, for each point, the entries up to its `sealed_no`: by the number of the
//! entry and not by time, so late samples are neither lost nor doubled. The journal keeps every entry after the cursor.

mod sample;
mod column;
mod chunk;
mod tail;
mod times;
mod rollup;
mod ageing;
mod range;
mod history;
mod intake;

pub use ageing::{Keep, Retention};
pub use history::{ExportError, Item, Rolled, RolledValues, Told, What, export};
pub use intake::{Import, Imported};
pub use range::{Bucket, Kind};

use crate::journal::{AppendError, Entry, Journal, ReadError, from_sql, to_sql};
use crate::model::{Code, PointId, Reading, Timestamp};
use ageing::Due;
use rusqlite::params;
use sample::{Form, Sample};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tail::Tails;
use tokio_util::sync::CancellationToken;

/// The name of the cursor.
pub const CURSOR: &str = "series";
/// Entries taken in one step. A step must be short: 256 small entries decode in a few milliseconds.
const ENTRIES_PER_STEP: usize = 256;
/// Points sealed in one step, in one transaction: 500 at once stalled the writer for 150 to 300 ms, 8 take about 4 ms.
const SEALS_PER_STEP: usize = 8;
/// Samples in memory, bytes: at 6 bytes each 2 million, which is 70 minutes of 500 readings a second or 6 hours of 100. A
/// restart reads as many again in about a second. When it is reached, sealing goes first and new entries wait in the
/// journal.
pub(crate) const TAIL_BYTES_MAX: usize = 12 << 20;
/// How long the next step waits after one that only tidied: nobody is in a hurry, and cards are slow.
const ROLL_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
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
    /// May be told anew while it runs.
    retention: Mutex<Arc<Retention>>,
    /// One step at a time; what is still to be tidied.
    stepping: tokio::sync::Mutex<VecDeque<Tidying>>,
    /// How often something was rolled up: see `answer`.
    rolls: AtomicU64,
    /// Told not to seal: see [`Series::hold_sealing`].
    held: AtomicBool,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Entries taken from the journal.
    pub entries: usize,
    /// Points whose tail was sealed.
    pub sealed: usize,
    /// Chunks and rows of records that were merged, rolled up or, at their age, deleted.
    pub tidied: usize,
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
    /// Opens the series and takes in what the journal holds after its cursor. Samples are kept as [`Keep`] says by default.
    pub async fn open(journal: &Journal) -> Result<Self, SeriesError> {
        Self::open_with(journal, Retention::default()).await
    }

    /// The same, with samples kept as told.
    pub async fn open_with(journal: &Journal, retention: Retention) -> Result<Self, SeriesError> {
        let tails = restore(journal).await?;
        let series = Self(Arc::new(Inner {
            journal: journal.clone(),
            tails: Mutex::new(tails),
            retention: Mutex::new(Arc::new(retention)),
            stepping: tokio::sync::Mutex::default(),
            rolls: AtomicU64::new(0),
            held: AtomicBool::new(false),
        }));
        // What is due to be rolled up can wait until the gateway runs.
        loop {
            let Progress { entries, sealed, idle, .. } = series.step().await?;
            if idle || (entries == 0 && sealed == 0) {
                return Ok(series);
            }
        }
    }

    /// Takes new entries, seals what is due: a little at a time. Call it when the journal's head has moved, and again
    /// until it says `idle`.
    pub async fn step(&self) -> Result<Progress, SeriesError> {
        let mut due = self.0.stepping.lock().await;
        let after = {
            let tails = self.tails();
            (tails.bytes() < TAIL_BYTES_MAX).then(|| tails.taken())
        };
        let mut ended = false;
        let entries = match after {
            // Memory is full: sealing goes first.
            None => None,
            Some(after) => {
                let head = *self.0.journal.recorded().borrow();
                let entries = self.0.journal.read_recorded_after(after, ENTRIES_PER_STEP).await?;
                let mut tails = self.tails();
                take(&self.0.journal, &mut tails, &entries);
                // A short answer may only have been a large one: the end is where the journal was, or where nothing comes.
                ended = entries.is_empty() || tails.taken() >= head;
                Some(entries.len())
            }
        };
        let sealed = self.seal(&mut due).await?;
        let passed = self.tails().passed(&[]);
        let caught_up = ended && sealed < SEALS_PER_STEP;
        self.0.journal.move_cursor(CURSOR, passed).await?;
        let tidied = if caught_up { self.tidy(&mut due).await? } else { 0 };
        Ok(Progress { entries: entries.unwrap_or(0), sealed, tidied, idle: caught_up && tidied == 0 })
    }

    /// Forgets the samples that are not sealed and reads them again from the cursor, as a start does: their times have
    /// changed in the journal. Questions are answered from the old ones until the new ones are complete.
    pub async fn rebuild_tail(&self) -> Result<(), SeriesError> {
        let _alone = self.0.stepping.lock().await;
        let mut tails = restore(&self.0.journal).await?;
        while tails.bytes() < TAIL_BYTES_MAX {
            let entries = self.0.journal.read_recorded_after(tails.taken(), ENTRIES_PER_STEP).await?;
            if entries.is_empty() {
                break;
            }
            take(&self.0.journal, &mut tails, &entries);
        }
        *self.tails() = tails;
        Ok(())
    }

    /// Keeps samples as told here from now on; of what was rolled up or deleted nothing comes back.
    pub fn keep(&self, retention: Retention) {
        *self.0.retention.lock().expect("no holder of this lock panics") = Arc::new(retention);
    }

    fn retention(&self) -> Arc<Retention> {
        self.0.retention.lock().expect("no holder of this lock panics").clone()
    }

    /// Seals nothing until told otherwise: while the clock is unset, what is sealed would stay under its wrong time. Only
    /// when memory is full samples are sealed all the same, so it is bounded.
    pub fn hold_sealing(&self, held: bool) {
        self.0.held.store(held, Ordering::Relaxed);
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
                    Ok(Progress { entries: 0, sealed: 0, .. }) => tokio::time::sleep(ROLL_PAUSE).await,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(%error, "the series could not follow the journal; it will try again");
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                }
            }
        };
        cancel.run_until_cancelled(async { tokio::join!(work, self.keep_times()) }).await;
    }

    /// The newest reading of a point: by the time it was taken, not by when it arrived. What was decoded again out of the
    /// quarantine is in the charts only.
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
        let Some(number) = self.0.journal.point_number(point) else { return Ok(frame.empty()) };
        Ok(self.ask(vec![(number, point.clone(), kind)], frame).await?.pop().unwrap_or_else(|| frame.empty()))
    }

    /// The answers for many points in one turn of one reader: a wall of small charts. In the order of the points.
    pub async fn wall(
        &self,
        points: &[(PointId, Kind)],
        from: Timestamp,
        to: Timestamp,
        buckets: usize,
    ) -> Result<Vec<Vec<Bucket>>, SeriesError> {
        let frame = range::Frame::new(from, to, buckets.min(BUCKETS_MAX));
        let numbers: Vec<_> = points.iter().map(|(point, _)| self.0.journal.point_number(point)).collect();
        let known = points.iter().zip(&numbers);
        let known = known.filter_map(|((point, kind), number)| Some(((*number)?, point.clone(), *kind)));
        let mut answers = self.ask(known.collect(), frame).await?.into_iter();
        let answer =
            |number: Option<u32>| number.and_then(|_| answers.next()).unwrap_or_else(|| frame.empty());
        Ok(numbers.into_iter().map(answer).collect())
    }

    async fn ask(
        &self,
        points: Vec<(u32, PointId, Kind)>,
        frame: range::Frame,
    ) -> Result<Vec<Vec<Bucket>>, SeriesError> {
        let points = Arc::new(points);
        loop {
            let (this, points) = (self.clone(), points.clone());
            let question = move |conn: &rusqlite::Connection| {
                // The tails first, the database's snapshot after them: what is sealed in between is in both and counted
                // once, and nothing is in neither. So no question holds a sealing up. Only a sample that was sealed AND
                // rolled up in between would count twice; then the question is asked again.
                let rolls = this.0.rolls.load(Ordering::SeqCst);
                let tails: Vec<_> = {
                    let (from, to) = frame.ends();
                    let tails = this.tails();
                    points.iter().map(|(_, point, _)| tails.samples(point, from, to)).collect()
                };
                conn.query_row("SELECT count(*) FROM cursor", [], |_| Ok(()))?;
                if this.0.rolls.load(Ordering::SeqCst) != rolls {
                    return Ok(None);
                }
                let mut answers = Vec::with_capacity(points.len());
                let mut damaged = 0;
                for ((number, _, kind), tail) in points.iter().zip(tails) {
                    let (buckets, more) = range::answer(conn, *number, &frame, *kind, tail)?;
                    answers.push(buckets);
                    damaged += more;
                }
                Ok(Some((answers, damaged)))
            };
            if let Some((answers, damaged)) = self.0.journal.read(question).await? {
                self.0.journal.count_damaged(damaged);
                return Ok(answers);
            }
        }
    }

    /// Merges one point's full chunks, or rolls up its oldest rows if it is time. How many rows.
    async fn tidy(&self, due: &mut VecDeque<Tidying>) -> Result<usize, SeriesError> {
        if self.0.held.load(Ordering::Relaxed) {
            return Ok(0);
        }
        if due.is_empty() {
            let Some(now) = self.tails().age.look() else { return Ok(0) };
            let retention = self.retention();
            let look = move |conn: &rusqlite::Connection| Ok(ageing::look(conn, &retention, now)?);
            let (found, again) = self.0.journal.read(look).await?;
            if again {
                self.tails().age.look_again();
            }
            due.extend(found.into_iter().map(Tidying::RollUp));
        }
        let Some(&this) = due.front() else { return Ok(0) };
        let (Tidying::Merge { point } | Tidying::RollUp(Due { point, .. })) = this;
        let form = self.0.journal.point(point).map_or(Form::Number, |point| self.tails().form(&point));
        let Tidying::RollUp(this) = this else {
            let rows = self.0.journal.write(move |conn| chunk::merge(conn, point, form)).await?;
            due.pop_front();
            return Ok(rows.max(1));
        };
        self.0.rolls.fetch_add(1, Ordering::SeqCst);
        let rolled = self.0.journal.write(move |conn| ageing::roll(conn, &this, form)).await?;
        self.0.journal.count_damaged(rolled.damaged);
        if !rolled.more {
            due.pop_front();
        }
        // A point that was found for nothing is no reason to think that all is done.
        Ok(rolled.rows.max(1))
    }

    /// Seals a few tails. `tidying` learns which points have a chunk more that is full.
    async fn seal(&self, tidying: &mut VecDeque<Tidying>) -> Result<usize, SeriesError> {
        let (due, plan) = {
            let tails = self.tails();
            let pressed = tails.bytes() >= TAIL_BYTES_MAX;
            if self.0.held.load(Ordering::Relaxed) && !pressed {
                return Ok(0);
            }
            let due = tails.due(SEALS_PER_STEP, pressed);
            let plan: Vec<Sealing> = due.iter().filter_map(|point| self.plan(&tails, point)).collect();
            (due, plan)
        };
        if due.is_empty() {
            return Ok(0);
        }
        let (taken, passed) = {
            let tails = self.tails();
            (tails.taken(), tails.passed(&due))
        };
        let (damaged, full) = self
            .0
            .journal
            .write(move |conn| {
                let (mut damaged, mut full) = (0, Vec::new());
                for sealing in &plan {
                    let stored = chunk::store(conn, sealing.point, &sealing.samples)?;
                    damaged += stored.damaged;
                    full.extend(stored.begun.then_some(sealing.point));
                    conn.prepare_cached(
                        "INSERT OR REPLACE INTO last (point, sealed_no, reading) VALUES (?, ?, ?)",
                    )?
                    .execute(params![sealing.point, to_sql(taken), sealing.last])?;
                }
                conn.prepare_cached(
                    "INSERT INTO cursor (name, no) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET no = ?2",
                )?
                .execute(params![CURSOR, to_sql(passed)])?;
                Ok((damaged, full))
            })
            .await?;
        self.0.journal.count_damaged(damaged);
        for point in full {
            let merge = Tidying::Merge { point };
            if !tidying.contains(&merge) {
                tidying.push_back(merge);
            }
        }
        let mut tails = self.tails();
        due.iter().for_each(|point| tails.sealed(point));
        Ok(due.len())
    }

    fn plan(&self, tails: &Tails, point: &PointId) -> Option<Sealing> {
        let number = self.0.journal.point_number(point)?;
        let last = self.0.journal.encode_reading(tails.last(point))?;
        Some(Sealing { point: number, samples: tails.sorted(point), last })
    }

    fn tails(&self) -> MutexGuard<'_, Tails> {
        self.0.tails.lock().expect("no holder of this lock panics")
    }
}

/// Empty tails at the cursor, and what was stored with each point's last sealing.
async fn restore(journal: &Journal) -> Result<Tails, SeriesError> {
    let cursor = journal.cursor(CURSOR).await?;
    let rows = journal
        .read(|conn| {
            let mut statement = conn.prepare("SELECT point, sealed_no, reading FROM last")?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, from_sql(row.get(1)?), row.get::<_, Vec<u8>>(2)?)))?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
        })
        .await?;
    let mut tails = Tails::new(cursor);
    for (point, sealed_no, blob) in rows {
        if let Some(point) = journal.point(point) {
            tails.restore(point, journal.decode_reading(&blob), sealed_no);
        }
    }
    Ok(tails)
}

fn take(journal: &Journal, tails: &mut Tails, entries: &[Arc<Entry>]) {
    for entry in entries {
        tails.take(entry, |code| journal.code_number(code));
    }
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Series")
    }
}

/// What is done when nothing else is, one point at a time. Nobody remembers it over a restart: what is due is found again,
/// at the latest when the next chunk of the point is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tidying {
    /// A point's full chunks may be enough to be merged.
    Merge {
        /// Its number.
        point: u32,
    },
    /// A point's rows are old.
    RollUp(Due),
}

/// What one point puts into a transaction.
struct Sealing {
    point: u32,
    samples: Vec<Sample>,
    last: Vec<u8>,
}

/// For `crate::fuzz`: any bytes as a chunk.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_chunk(blob: &[u8]) {
    for form in [sample::Form::Number, sample::Form::State] {
        if let Ok(samples) = chunk::unpack(blob, form) {
            // What can be read can be written and is the same again.
            let again = chunk::unpack(&chunk::pack(&samples), form);
            let times =
                |samples: &[sample::Sample]| samples.iter().map(|sample| sample.time).collect::<Vec<_>>();
            assert_eq!(again.ok().as_deref().map(times), Some(times(&samples)));
        }
    }
}

/// Chunks to start from.
#[cfg(test)]
pub(crate) fn fuzz_chunk_seeds() -> Vec<Vec<u8>> {
    let mark = sample::Mark::new(sample::Form::Number, crate::model::Quality::Good);
    let sample = |n: i64| sample::Sample { time: 1_768_444_205_000 + n * 5000, value: 21.5, mark };
    [0, 1, 40].map(|count| chunk::pack(&(0..count).map(sample).collect::<Vec<_>>())).to_vec()
}
