//! THE ONE DURABLE LOG. Fourth in the flow: after it, everybody reads from a cursor of his own.
//!
//! One SQLite database in one directory, written by one thread and read by a few connections. An append is one
//! transaction and is answered when it is on the disk.
//!
//! # Numbers
//! Recorded entries are numbered without a gap. While the journal cannot be written, the pipeline publishes entries
//! marked `recorded: false` under the numbers head + 1, head + 2 …, **the very numbers under which it appends them
//! later, in the same order** (emptied of readings, if memory ran out, but never left out or merged). So a live
//! follower that has seen number 7 unrecorded has seen entry 7. [`Journal::head`] counts both kinds;
//! [`Journal::recorded`] and [`Journal::read_recorded_after`] are for followers whose cursor must survive a crash.
//! Numbers are missing only at the old end, where retention deletes, and once after a damaged file was replaced.
//!
//! # How durable, and what it costs
//! Every commit is flushed (`synchronous = FULL`): who gets an answer, a broker or a person, may forget. Written bytes
//! are what wears a card, so a commit of readings changes one page: fingerprints lie in the entry's row, cursors are
//! written every half minute, rows go in lots when they are old, and pages are small. Measured with the series and a
//! store following, one commit a second, 200 points, `write_bytes` of `/proc/self/io` on ext4, GB a day:
//!
//! | readings/s | 1 | 10 | 100 | 500 |
//! |---|---|---|---|---|
//! | before: cursors and fingerprints with every commit, pages of 4096 | 2.3 | 1.7 | 1.9 | 2.9 |
//! | cursors every 30 s, fingerprints in the entry, 4096 | 1.6 | 1.0 | 1.1 | 2.5 |
//! | **the same, pages of 2048: as it is** | **1.1** | **0.76** | **0.95** | **1.8** |
//! | pages of 1024 | 0.8 | 0.6 | 1.0 | 1.5 |
//! | 2048, `synchronous = NORMAL` | 0.6 | 0.4 | 0.6 | 1.4 |
//! | 2048, one commit in five seconds | 0.3 | 0.3 | 0.5 | 1.1 |
//!
//! (The rows of other page sizes with 60, 100 and 1000 points.) NORMAL would save 0.4 GB a day and lose, in a power
//! cut, up to 4 MB of commits that were acknowledged: a fire among them. Five seconds would keep a publisher with one
//! message in flight waiting as long. Who has a card to spare sets `commit_window`; what carries a hazard or a command
//! never waits for it.
//!
//! After a failed write or flush nothing of it was answered, and a new connection is opened before the next: SQLite
//! takes the frames of a commit into its index only after their flush succeeded, and writes the same frames again, so
//! what the system's cache believes to be clean does not matter; a log is put into the database again until its flush
//! succeeds.

mod entry;
mod limits;
mod schema;
mod store;
mod lock;
mod salvage;
mod readings_codec;
mod wire;
mod live;
mod ring;
mod queue;
mod writer;
mod audit;
mod announced;
mod append;
mod forecast;
mod restamp;
mod rescue;
mod unseen;
mod retention;
mod quarantine;
mod readers;
mod archive;
mod audit_check;
mod read;

pub use announced::Announced;
pub use archive::{Archive, Summary};
pub use audit::{AuditHead, NoHead};
pub use audit_check::{AuditReport, Compared, Finding};
pub use entry::{
    Entry, LogLine, Logged, Note, NoteKind, QuarantineChange, QuarantineGroup, SAMPLE_BYTES_MAX, Stray,
    StrayKind, Write,
};
pub use forecast::{Room, Used};
pub use limits::{AppendError, JournalHealth, Limits, OpenError, ReadError};
pub use lock::DirectoryLock;
pub use restamp::Restamp;
pub(crate) use store::{from_sql, to_sql};
pub(crate) use unseen::Seen;

use crate::metrics::Metrics;
use crate::model::{
    Code, Fact, Hazard, HazardId, PointId, Quarantined, Reading, Text, Timestamp, Transition, Wanted,
};
use queue::{Job, Queue};
use readers::Readers;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// The journal. A cheap handle; the last one to be dropped ends the writer and gives the directory free.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    live: Arc<live::Live>,
    queue: Arc<Queue>,
    readers: Arc<Readers>,
    metrics: Metrics,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as the writer runs; released after it has ended.
    lock: File,
}

/// What the journal knew when it was opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restored {
    /// The number of the newest entry; 0 when there is none.
    pub head: u64,
    /// The newest entry's time: what is written now is not older.
    pub newest_at: Option<Timestamp>,
    /// The engine's rows.
    pub facts: Vec<Fact>,
    /// Fingerprints of recently recorded messages.
    pub receipts: HashSet<u64>,
    /// What had to be repaired, for the duty log; `None`: nothing.
    pub recovered: Option<Text>,
}

impl Journal {
    /// Opens the journal in a directory, which is made if need be. Blocks for as long as the check of the file takes.
    pub fn open(dir: &Path, limits: Limits, metrics: Metrics) -> Result<(Self, Restored), OpenError> {
        let place = store::Place::new(dir);
        let lock = place.lock()?;
        let (conn, recovered) = place.open(&limits)?;
        let path = place.database();
        let refused = |cause: String| OpenError::Database { path: path.display().to_string(), cause };
        let readers = Readers::new(place.clone());
        let (restored, live, writer) =
            Self::restore(conn, &place, limits, &metrics, recovered, readers.clone())
                .map_err(|error| refused(error.to_string()))?;
        let queue = Arc::new(Queue::new());
        let jobs = queue.clone();
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&jobs))
            .map_err(|error| refused(error.to_string()))?;
        let writer = Mutex::new(Some(thread));
        Ok((Self(Arc::new(Inner { live, queue, readers, metrics, writer, lock })), restored))
    }

    fn restore(
        conn: Connection,
        place: &store::Place,
        limits: Limits,
        metrics: &Metrics,
        mut recovered: Option<Text>,
        readers: Arc<Readers>,
    ) -> Result<(Restored, Arc<live::Live>, writer::Writer), ReadError> {
        let head = read::head(&conn)?;
        let (facts, unreadable) = read::facts(&conn, metrics)?;
        if unreadable > 0 && recovered.is_none() {
            recovered = Some(Text::new(
                &format!("有 {unreadable} 条报警状态无法读取，请人工核对现场未关闭的报警"),
                &format!("{unreadable} alarm states could not be read: check the open hazards on site"),
            ));
        }
        let receipts = read::receipts(&conn, limits.receipts_max)?;
        let newest_at = restamp::newest_at(&conn)?;
        let (interned, names) = read::names(&conn)?;
        // A cursor beyond the head belongs to entries that a damaged file took with it.
        let cursors = read::cursors(&conn)?.into_iter().map(|(name, no)| (name, no.min(head))).collect();
        let health = JournalHealth {
            writable: true,
            head,
            bytes: place.bytes(),
            audit: audit::head(&conn)?,
            ..JournalHealth::default()
        };
        let live = Arc::new(live::Live::new(&limits, names, cursors, health));
        let parts = writer::Parts {
            conn,
            place: place.clone(),
            limits,
            metrics: metrics.clone(),
            live: live.clone(),
            names: interned,
            readers,
        };
        let writer = writer::Writer::new(parts)?;
        Ok((Restored { head, newest_at, facts, receipts, recovered }, live, writer))
    }

    /// Writes one entry and all that came with it, in one transaction. `Ok`: it is on the disk. The entry's number must
    /// be the recorded head plus one. After an error nothing of it is there and the same write may be tried again.
    pub async fn append(&self, write: Write) -> Result<(), AppendError> {
        let (answer, answered) = oneshot::channel();
        self.0.queue.put(Job::Append(Box::new(write), answer)).await?;
        answered.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Shows live followers an entry that could not be written, marked `recorded: false`. Its number is the one
    /// that it will be appended under: see the module's text on numbers.
    pub fn publish_unrecorded(&self, entry: Arc<Entry>) {
        let entry =
            if entry.recorded { Arc::new(Entry { recorded: false, ..(*entry).clone() }) } else { entry };
        self.0.live.show(entry);
    }

    /// The newest entry's number, recorded or not. Wakes up for every entry.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.0.live.head().subscribe()
    }

    /// The newest recorded entry's number: what followers with a lasting cursor wait on.
    pub fn recorded(&self) -> watch::Receiver<u64> {
        self.0.live.recorded().subscribe()
    }

    /// The newest entry that may be delivered: recorded, and not held back. What those wait on who hand entries on for
    /// good, with [`Journal::read_settled_after`].
    pub fn settled(&self) -> watch::Receiver<u64> {
        self.0.live.settled().subscribe()
    }

    /// Holds entries after a number back from [`Journal::settled`]: their times are guessed, and may be dated anew.
    /// `None`: no longer.
    pub fn hold_back_after(&self, no: Option<u64>) {
        self.0.live.hold_back_after(no);
    }

    /// After which entry they are held back, see [`Journal::hold_back_after`].
    pub fn held_back_after(&self) -> watch::Receiver<Option<u64>> {
        self.0.live.held_back_after().subscribe()
    }

    /// Entries after a number, oldest first, recorded or not; at most `limit`, and fewer when they are large. Only an EMPTY
    /// answer says that there are no more. Entries that retention has deleted are passed over, so the first number may be
    /// higher than asked for.
    pub async fn read_after(&self, no: u64, limit: usize) -> Result<Vec<Arc<Entry>>, ReadError> {
        if let Some(entries) = self.0.live.ring().after(no, limit) {
            return Ok(entries);
        }
        let entries = self.read_disk(no, limit).await?;
        // Unrecorded ones that nothing on the disk precedes any more.
        if entries.is_empty() { Ok(self.0.live.ring().take(no, limit)) } else { Ok(entries) }
    }

    /// Recorded entries after a number, oldest first; at most `limit`, and fewer when they are large: as with
    /// [`Journal::read_after`], only an empty answer says that there are no more.
    pub async fn read_recorded_after(&self, no: u64, limit: usize) -> Result<Vec<Arc<Entry>>, ReadError> {
        let near = self.0.live.ring().after(no, limit);
        match near {
            Some(mut entries) => {
                let recorded = entries.iter().take_while(|entry| entry.recorded).count();
                entries.truncate(recorded);
                Ok(entries)
            }
            None => self.read_disk(no, limit).await,
        }
    }

    /// As [`Journal::read_recorded_after`], without what is held back.
    pub async fn read_settled_after(&self, no: u64, limit: usize) -> Result<Vec<Arc<Entry>>, ReadError> {
        let settled = *self.0.live.settled().borrow();
        let mut entries = self.read_recorded_after(no, limit).await?;
        entries.truncate(entries.partition_point(|entry| entry.no <= settled));
        Ok(entries)
    }

    async fn read_disk(&self, after: u64, limit: usize) -> Result<Vec<Arc<Entry>>, ReadError> {
        // Not beyond what has been shown: its names are known to the readers only then.
        let to = *self.0.live.recorded().borrow();
        if after >= to {
            return Ok(Vec::new());
        }
        let (live, metrics) = (self.0.live.clone(), self.0.metrics.clone());
        let decode = move |blob: &[u8]| live.decode(blob);
        self.0.readers.ask(move |conn| read::entries(conn, decode, &metrics, after, to, limit)).await
    }

    /// How far a follower has come. One that is asked for the first time starts at 0, and from then on entries are kept
    /// for it, as long as there is room.
    pub async fn cursor(&self, name: &str) -> Result<u64, ReadError> {
        Ok(self.0.live.cursor(name))
    }

    /// Moves a follower's cursor, at most to the recorded head. It is in force at once and on the disk with the first commit
    /// after half a minute: after a crash a follower may see its newest entries once more, never miss one. Nothing is
    /// deleted for age that a follower would ask for after a crash.
    pub async fn move_cursor(&self, name: &str, no: u64) -> Result<(), AppendError> {
        self.0.live.move_cursor(name, no);
        Ok(())
    }

    /// Drops the cursor of a follower that is no longer configured, so that nothing is kept for it.
    pub async fn forget_cursor(&self, name: &str) -> Result<(), AppendError> {
        self.0.live.forget_cursor(name);
        let name = name.to_owned();
        self.write(move |conn| conn.execute("DELETE FROM cursor WHERE name = ?", [name]).map(|_| ())).await
    }

    /// Drops the cursors of all followers but these, and says which: one that is no longer configured would hold every
    /// entry back until charts had to go for room. Call it at start, before the followers ask for theirs.
    pub async fn keep_only_cursors(&self, followers: &[&str]) -> Result<Vec<String>, AppendError> {
        let mut dropped = self.0.live.cursor_names();
        dropped.retain(|name| !followers.contains(&name.as_str()));
        for name in &dropped {
            self.forget_cursor(name).await?;
        }
        Ok(dropped)
    }

    /// The rows that have a hazard.
    pub async fn open_hazards(&self) -> Result<Vec<Fact>, ReadError> {
        let metrics = self.0.metrics.clone();
        let facts = self.0.readers.ask(move |conn| Ok(read::facts(conn, &metrics)?.0)).await?;
        Ok(facts.into_iter().filter(|fact| fact.hazard.is_some()).collect())
    }

    /// Closed hazards, last closed first: those closed before a time, or the newest. A page may be a little longer than
    /// `limit`: it never ends between two that closed in the same millisecond.
    pub async fn closed_hazards(
        &self,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Hazard>, ReadError> {
        let metrics = self.0.metrics.clone();
        self.0.readers.ask(move |conn| read::closed_hazards(conn, &metrics, before, limit)).await
    }

    /// Closed hazards of one point that stood at some time of `from ≤ time < to`, last closed first, at most `limit`.
    pub async fn closed_hazards_of(
        &self,
        point: &PointId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<Hazard>, ReadError> {
        let (metrics, point) = (self.0.metrics.clone(), point.clone());
        self.0.readers.ask(move |conn| read::closed_hazards_of(conn, &metrics, &point, from..to, limit)).await
    }

    /// All that happened to one hazard, oldest first.
    pub async fn history(&self, hazard: &HazardId) -> Result<Vec<Transition>, ReadError> {
        let (metrics, id) = (self.0.metrics.clone(), hazard.clone());
        self.0.readers.ask(move |conn| read::history(conn, &metrics, &id)).await
    }

    /// The duty log, newest first: the lines of entries before a number, or the newest. A page holds whole entries, so
    /// it may be a little longer than `limit`; the next page is asked for with the last line's number.
    pub async fn duty_log(&self, before: Option<u64>, limit: usize) -> Result<Vec<LogLine>, ReadError> {
        let metrics = self.0.metrics.clone();
        self.0.readers.ask(move |conn| read::duty_log(conn, &metrics, before, limit)).await
    }

    /// How many frames of which sender's key are in quarantine.
    pub async fn quarantine(&self) -> Result<Vec<QuarantineGroup>, ReadError> {
        self.0.readers.ask(quarantine::groups).await
    }

    /// Frames in quarantine after a number, the oldest first: a bounded answer, and only an empty one says that there are no
    /// more.
    pub async fn quarantined(&self, wanted: &Wanted, after: i64) -> Result<Vec<Quarantined>, ReadError> {
        let (wanted, metrics) = (wanted.clone(), self.0.metrics.clone());
        self.0.readers.ask(move |conn| quarantine::frames(conn, &wanted, after, &metrics)).await
    }

    /// Who sends what cannot be read, last seen first.
    pub async fn strays(&self) -> Result<Vec<Stray>, ReadError> {
        self.0.readers.ask(read::strays).await
    }

    /// Forgets all strays of a kind and key, and their frames: a person has dealt with them.
    pub async fn forget_stray(&self, kind: StrayKind, key: &str) -> Result<(), AppendError> {
        let key = key.to_owned();
        self.write(move |conn| {
            conn.execute("DELETE FROM stray WHERE kind = ? AND key = ?", params![kind.name(), key])?;
            conn.execute("DELETE FROM quarantine WHERE kind = ? AND key = ?", params![kind.name(), key])?;
            Ok(())
        })
        .await
    }

    /// Keeps a document, or removes it when `json` is `None`. Durable when `Ok`.
    pub async fn put_document(
        &self,
        kind: &str,
        key: &str,
        json: Option<&str>,
        at: Timestamp,
    ) -> Result<(), AppendError> {
        let (kind, key, json) = (kind.to_owned(), key.to_owned(), json.map(str::to_owned));
        self.write(move |conn| {
            match json {
                Some(json) => conn.execute(
                    "INSERT INTO document (kind, key, json, at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (kind, key) DO UPDATE SET json = ?3, at = ?4",
                    params![kind, key, json, at.as_millis()],
                ),
                None => conn.execute("DELETE FROM document WHERE kind = ? AND key = ?", [kind, key]),
            }
            .map(|_| ())
        })
        .await
    }

    /// One document.
    pub async fn document(&self, kind: &str, key: &str) -> Result<Option<String>, ReadError> {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        let question = "SELECT json FROM document WHERE kind = ? AND key = ?";
        self.0
            .readers
            .ask(move |conn| Ok(conn.query_row(question, [kind, key], |row| row.get(0)).optional()?))
            .await
    }

    /// All documents of a kind, as key and JSON, by key.
    pub async fn documents(&self, kind: &str) -> Result<Vec<(String, String)>, ReadError> {
        let kind = kind.to_owned();
        self.0
            .readers
            .ask(move |conn| {
                let mut statement =
                    conn.prepare("SELECT key, json FROM document WHERE kind = ? ORDER BY key")?;
                let rows = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    /// Leaves a stretch of numbers out after the newest entry, in force at the next opening: for a file that was put back
    /// from a backup. The numbers after its end were given to entries that it does not hold, and hazards are named by them.
    pub async fn leave_numbers_out(&self) -> Result<(), AppendError> {
        let begin_after = to_sql(self.0.live.health().head.saturating_add(salvage::GAP));
        self.write(move |conn| {
            conn.execute("INSERT OR REPLACE INTO meta VALUES ('begun_after', ?)", [begin_after]).map(|_| ())
        })
        .await
    }

    /// How the journal is.
    pub fn health(&self) -> JournalHealth {
        self.0.live.health().clone()
    }

    /// Hours until entries would have to be deleted that a follower has not read, if it reads no more from now on. `None`:
    /// nothing is known yet.
    pub fn hours_of_buffer(&self, cursor: &str) -> Option<u32> {
        let mut room = self.health().room;
        room.entries.1 = room.entries.1.max(self.health().head);
        room.hours_of_buffer(self.0.live.cursor_of(cursor)?)
    }

    /// For the series, which keeps its chunks in the same file: one transaction on the writer's thread, after any append
    /// that waits. Rolled back when `work` fails.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, AppendError> {
        let (answer, answered) = oneshot::channel();
        let job = move |conn: Result<&mut Connection, AppendError>| {
            let result = conn.and_then(|conn| {
                let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let result = work(&transaction)?;
                transaction.commit()?;
                Ok(result)
            });
            // A caller that has gone away does not want to know.
            let _unheard = answer.send(result);
        };
        self.0.queue.put(Job::Run(Box::new(job))).await?;
        answered.await.map_err(|_| AppendError::Closed)?
    }

    /// For the series: a question on a read connection, in one snapshot.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.0.readers.ask(question).await
    }

    /// For the series: chunks that failed their check.
    pub(crate) fn count_damaged(&self, chunks: u64) {
        self.0.metrics.journal_damaged.inc_by(chunks);
    }

    /// For the series: one reading, or none, as the blob that an entry would hold.
    pub(crate) fn encode_reading(&self, reading: Option<&Reading>) -> Option<Vec<u8>> {
        self.0.live.encode(reading.map_or(&[], std::slice::from_ref))
    }

    /// For the series: the reading of such a blob, if it holds one.
    pub(crate) fn decode_reading(&self, blob: &[u8]) -> Option<Reading> {
        let decoded = self.0.live.decode(blob);
        if decoded.is_err() {
            self.0.metrics.journal_damaged.inc();
        }
        decoded.ok().and_then(|mut readings| readings.pop())
    }

    /// For the series: the number that stands for a point in the database; every recorded point has one.
    pub(crate) fn point_number(&self, point: &PointId) -> Option<u32> {
        self.0.live.point_number(point)
    }

    /// For the series: the number that stands for a state; every recorded state has one.
    pub(crate) fn code_number(&self, code: &str) -> Option<u32> {
        self.0.live.code_number(code)
    }

    /// For the series: the point of a number.
    pub(crate) fn point(&self, number: u32) -> Option<PointId> {
        self.0.live.point(number)
    }

    /// For the series: the state of a number.
    pub(crate) fn code(&self, number: u32) -> Option<Code> {
        self.0.live.code(number)
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

impl Drop for Inner {
    /// Waits for the writer, so that the directory is free for the next to open it.
    fn drop(&mut self) {
        self.queue.close();
        let thread = self.writer.lock().ok().and_then(|mut writer| writer.take());
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the journal's writer had panicked");
        }
        // Closing the file alone is not enough: a child process that is just being started has a copy of it.
        if let Err(error) = self.lock.unlock() {
            tracing::debug!(%error, "the lock goes with the process");
        }
    }
}

/// For `crate::fuzz`: any bytes as the readings of an entry.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_readings(data: &[u8]) {
    readings_codec::fuzz(data);
}

/// Readings to start from: version, count, times and values of each kind.
#[cfg(test)]
pub(crate) fn fuzz_readings_seeds() -> Vec<Vec<u8>> {
    vec![
        vec![1, 0, 0],
        vec![1, 1, 2, 3, 2],
        vec![1, 2, 10, 0x80, 2, 4, 2, 5, 0, 0, 30, 1],
        vec![1, 1, 0, 4, 0, 7],
    ]
}

#[cfg(test)]
mod tests;
