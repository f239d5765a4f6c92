//! The one thread that writes. An append is one transaction, durable when it is answered.

use super::live::Live;
use super::queue::{Job, Queue, Taken};
use super::readers::Readers;
use super::rescue::{self, Identity, LOOK_EVERY, Lost};
use super::retention::Retention;
use super::store::{Place, is_damage, to_sql};
use super::{AppendError, Limits, NoteKind, Write, append, audit, forecast, read, store};
use crate::metrics::Metrics;
use crate::model::{Span, Text, Timestamp};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long after the ballast was given back it may be laid again: a disk that was full needs a person's time to clear.
const BALLAST_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// How often the followers' cursors are written. They stand on a page of their own, so with every commit they would double
/// what a commit writes. After a crash a follower sees this much once more.
const CURSORS_EVERY: Span = Span::from_secs(30);

pub(super) struct Writer {
    conn: Connection,
    place: Place,
    limits: Limits,
    metrics: Metrics,
    live: Arc<Live>,
    retention: Retention,
    names: append::Interned,
    ballast_gone_since: Option<Instant>,
    /// The time of the entry with which the cursors were written last.
    cursors_at: Option<Timestamp>,
    /// The time of the entry with which the room was looked at last.
    room_at: Option<Timestamp>,
    /// The entry whose commit failed in a way that may yet have reached the disk.
    in_doubt: Option<u64>,
    reconnect: bool,
    readers: Arc<Readers>,
    /// The files that the connection has open, and when they were looked at last.
    files: Identity,
    looked_at: Instant,
    /// They are gone and could not be put back yet: why, and how long it took to find out.
    lost: Option<(Lost, String, Duration)>,
    /// The lock of a folder that had to be made anew; held as long as the writer runs.
    lock: Option<File>,
}

/// What a writer is made of.
pub(super) struct Parts {
    pub(super) conn: Connection,
    pub(super) place: Place,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    pub(super) live: Arc<Live>,
    pub(super) names: append::Interned,
    pub(super) readers: Arc<Readers>,
}

impl Writer {
    pub(super) fn new(parts: Parts) -> rusqlite::Result<Self> {
        let Parts { conn, place, limits, metrics, live, names, readers } = parts;
        let retention = Retention::new(&conn, &limits)?;
        let laid = place.lay_ballast(limits.ballast_bytes);
        {
            let mut health = live.health();
            health.ballast = laid;
            health.oldest = retention.oldest_at();
            health.room = forecast::look(&conn, &place, &limits)?;
        }
        let ballast_gone_since = (!laid).then(Instant::now);
        let writer = Self {
            files: Identity::of(&place),
            looked_at: Instant::now(),
            lost: None,
            lock: None,
            readers,
            conn,
            place,
            limits,
            metrics,
            live,
            retention,
            names,
            ballast_gone_since,
            cursors_at: None,
            room_at: None,
            in_doubt: None,
            reconnect: false,
        };
        writer.count();
        writer.metrics.hazards_open.set(read::count_open(&writer.conn)?);
        Ok(writer)
    }

    /// Works until the queue is closed and empty, then writes what only memory knows and tidies the log away.
    pub(super) fn run(mut self, queue: &Queue) {
        let _nobody_waits = Abandon(queue);
        loop {
            let job = match queue.take(LOOK_EVERY) {
                Taken::Job(job) => job,
                Taken::Idle => {
                    // What is wrong with them is in the health, and the next append's answer.
                    let _told = self.keep_files();
                    continue;
                }
                Taken::Closed => break,
            };
            match job {
                Job::Append(write, answer) => {
                    let result = self.append(&write);
                    // A caller that has gone away learns it from the head.
                    let _unheard = answer.send(result);
                }
                Job::Run(job) => {
                    if let Err(cause) = self.keep_files() {
                        job(Err(AppendError::Lost(cause)));
                        continue;
                    }
                    match self.reconnect_if_needed() {
                        Ok(()) => job(Ok(&mut self.conn)),
                        Err(error) => job(Err(error.into())),
                    }
                    self.roll_back();
                }
            }
        }
        let cursors = self.live.unwritten_cursors();
        if let Err(error) = append::write_cursors(&self.conn, &cursors) {
            tracing::warn!(%error, "the cursors' last moves were not written; followers will repeat a little");
        }
        if self.place.has_room_for_log()
            && let Err(error) = self.conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        {
            tracing::debug!(%error, "the log was left for the next start");
        }
    }

    fn append(&mut self, write: &Write) -> Result<(), AppendError> {
        let head = *self.live.recorded().borrow();
        let no = write.entry.no;
        if no != head + 1 {
            return Err(AppendError::OutOfOrder { expected: head + 1, got: no });
        }
        let started = Instant::now();
        if let Err(cause) = self.keep_files() {
            self.metrics.journal_failures.inc();
            return Err(self.failing(write.entry.at, AppendError::Lost(cause)));
        }
        let mut result = self.try_append(write);
        if let Err(error) = &result
            && error.sqlite_error_code() == Some(ErrorCode::DiskFull)
            && self.place.drop_ballast()
        {
            tracing::error!("the disk is full: the ballast was given back; free space now");
            self.ballast_gone_since = Some(Instant::now());
            self.live.health().ballast = false;
            result = self.try_append(write);
        }
        match result {
            Ok(()) => {
                self.metrics.journal_commits.inc();
                self.metrics.journal_commit_seconds.observe(started.elapsed().as_secs_f64());
                self.succeeded(write);
                Ok(())
            }
            Err(error) => {
                self.metrics.journal_failures.inc();
                if is_damage(&error) {
                    self.place.mark_suspect();
                }
                Err(self.failing(write.entry.at, error.into()))
            }
        }
    }

    fn try_append(&mut self, write: &Write) -> rusqlite::Result<()> {
        let no = write.entry.no;
        self.reconnect_if_needed()?;
        if self.in_doubt == Some(no) && read::head(&self.conn)? == no {
            return Ok(()); // It had reached the disk after all.
        }
        let cursors =
            if self.cursors_due(write.entry.at) { self.live.unwritten_cursors() } else { Vec::new() };
        let mut fresh = append::Fresh::default();
        let result = (|| {
            let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            self.retention.trim(&transaction, write.entry.at, self.live.passed_by_all(), &self.metrics)?;
            append::write(&transaction, write, &self.names, &mut fresh, &self.limits, &self.metrics)?;
            append::write_cursors(&transaction, &cursors)?;
            transaction.commit()
        })();
        match result {
            Ok(()) => {
                self.names.keep(&fresh);
                self.live.learn(fresh.points, fresh.codes);
                self.in_doubt = None;
                if !cursors.is_empty() {
                    self.live.cursors_written(cursors);
                    self.cursors_at = Some(write.entry.at);
                }
                Ok(())
            }
            Err(error) => {
                self.retention.forget_steps();
                self.roll_back();
                self.in_doubt = Some(no);
                self.reconnect |= !matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull));
                Err(error)
            }
        }
    }

    /// Whether it is time to write the cursors. A clock that was put back does not hold them up.
    fn cursors_due(&self, at: Timestamp) -> bool {
        self.cursors_at.is_none_or(|written| at.since(written).abs() >= CURSORS_EVERY)
    }

    fn succeeded(&mut self, write: &Write) {
        // The head is looked up only when it may have moved; deletions by age are told with the next line.
        let lines = !write.entry.transitions.is_empty() || !write.entry.notes.is_empty();
        let audit = lines.then(|| audit::head(&self.conn)).and_then(Result::ok);
        {
            let mut health = self.live.health();
            health.writable = true;
            health.failing_since = None;
            health.head = write.entry.no;
            health.oldest = self.retention.oldest_at().or(Some(write.entry.at));
            health.bytes = self.place.bytes();
            health.audit = audit.unwrap_or(health.audit);
        }
        if !write.facts.is_empty() {
            match read::count_open(&self.conn) {
                Ok(count) => _ = self.metrics.hazards_open.set(count),
                Err(error) => tracing::warn!(%error, "open hazards could not be counted"),
            }
        }
        if self.ballast_gone_since.is_some_and(|since| since.elapsed() > BALLAST_AGAIN_AFTER) {
            let laid = self.place.lay_ballast(self.limits.ballast_bytes);
            self.ballast_gone_since = (!laid).then(Instant::now);
            self.live.health().ballast = laid;
        }
        if let Some(restamp) = &write.restamp {
            self.live.ring().restamp(restamp);
        }
        self.live.show(write.entry.clone());
        self.count();
        // Last: what was committed is on the screens by now.
        let known = self.live.health().room;
        if forecast::is_due(&known, self.room_at, write.entry.at) {
            self.room_at = Some(write.entry.at);
            match forecast::look(&self.conn, &self.place, &self.limits) {
                Ok(room) => self.live.health().room = room,
                Err(error) => tracing::debug!(%error, "the journal's room could not be looked at"),
            }
        }
    }

    /// Tells the health, and the log once.
    fn failing(&self, at: Timestamp, error: AppendError) -> AppendError {
        let error = match error {
            // Through files that were open before, SQLite sees an error like any other.
            AppendError::Failed(cause) if self.place.is_read_only() => AppendError::ReadOnly(cause),
            error => error,
        };
        let mut health = self.live.health();
        if health.writable {
            tracing::error!(%at, %error, "the journal cannot be written");
        }
        health.writable = false;
        health.failing_since.get_or_insert(at);
        health.last_error = Some(error.to_string());
        health.reason = Some(error.text());
        error
    }

    /// Looks now and then whether the open files are still where they were, and puts them back if not. An error: they are
    /// gone, and nothing may be written, because the next start would not find it.
    fn keep_files(&mut self) -> Result<(), String> {
        // A copy that failed after minutes, on a full disk say, is not begun again at once.
        let pause = self.lost.as_ref().map_or(LOOK_EVERY, |(.., took)| LOOK_EVERY.max(*took * 4));
        // Before a new connection is opened they are looked at in any case: it must not open somebody else's file.
        if self.looked_at.elapsed() < pause && (self.lost.is_some() || !self.reconnect) {
            return self.lost.as_ref().map_or(Ok(()), |(_, cause, _)| Err(cause.clone()));
        }
        self.looked_at = Instant::now();
        // Once lost, always lost: a file that somebody put there meanwhile is not ours.
        let known = self.lost.as_ref().map(|(lost, ..)| *lost);
        let Some(lost) = known.or_else(|| self.files.lost(&self.place)) else { return Ok(()) };
        if known.is_none() {
            tracing::error!(?lost, "the journal's file is not the one that is open: it is put back");
        }
        let started = Instant::now();
        if lost == Lost::Remounted && self.adopt() {
            tracing::warn!("the journal's file is the same one, on a disk that was mounted anew");
            self.lost = None;
            return Ok(());
        }
        let back = rescue::rescue(&self.conn, &self.place).and_then(|lock| {
            self.lock = lock.or(self.lock.take());
            self.connect().and_then(|()| self.note(&lost.told())).map_err(|error| error.to_string())
        });
        match &back {
            Ok(()) => {
                self.lost = None;
                tracing::warn!("the journal's file is in its place again; nothing was lost");
            }
            Err(cause) => {
                self.lost = Some((lost, cause.clone(), started.elapsed()));
                self.failing(self.newest_at(), AppendError::Lost(cause.clone()));
            }
        }
        back
    }

    /// A card that was pulled and put back, or mounted anew after a fault: the file in its place holds every commit that was
    /// confirmed, and the open connection is dead. False: it is another file.
    fn adopt(&mut self) -> bool {
        let known = (*self.live.recorded().borrow(), self.live.health().audit);
        let there = store::connect_archive(&self.place.database())
            .and_then(|conn| Ok((read::head(&conn)?, audit::head(&conn)?)));
        // The chain also moves when lines are deleted by age, which the health learns with the next line.
        let same = there.is_ok_and(|(head, chain)| head == known.0 && chain.count >= known.1.count);
        same && known.0 > 0 && self.connect().is_ok()
    }

    fn newest_at(&self) -> Timestamp {
        let newest = "SELECT ifnull(max(at), 0) FROM (SELECT at FROM entry ORDER BY no DESC LIMIT 1)";
        let at = self.conn.query_row(newest, [], |row| row.get(0));
        Timestamp::from_millis(at.unwrap_or(0))
    }

    /// A line in the duty log that belongs to no entry of its own: it stands with the newest one.
    fn note(&mut self, text: &Text) -> rusqlite::Result<()> {
        let (no, at) = (to_sql(read::head(&self.conn)?), self.newest_at());
        let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let words = [NoteKind::Journal.name(), "journal", &text.zh, &text.en];
        audit::Chain::at_its_end(&transaction)?.note(no, at.as_millis(), words)?;
        transaction.commit()?;
        self.live.health().audit = audit::head(&self.conn)?;
        Ok(())
    }

    /// Opens the file that is there now, and forgets what was known of the one before.
    fn connect(&mut self) -> rusqlite::Result<()> {
        let conn = store::connect_writer(&self.place.database(), &self.limits)?;
        self.retention = Retention::new(&conn, &self.limits)?;
        self.conn = conn;
        self.readers.forget();
        self.files = Identity::of(&self.place);
        self.reconnect = false;
        Ok(())
    }

    /// After an I/O error a connection may hold on to a broken file: begin anew. Nothing that was read before the error is
    /// trusted, and while there is no new connection the old one writes nothing.
    fn reconnect_if_needed(&mut self) -> rusqlite::Result<()> {
        if self.reconnect { self.connect() } else { Ok(()) }
    }

    /// Whatever a job left open is undone.
    fn roll_back(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::debug!(%error, "nothing to roll back");
        }
    }

    fn count(&self) {
        let (head, bytes) = {
            let health = self.live.health();
            (health.head, health.bytes)
        };
        self.metrics.journal_head.set(to_sql(head));
        self.metrics.journal_bytes.set(to_sql(bytes));
    }
}

/// However the thread ends, nobody waits for it for ever.
struct Abandon<'a>(&'a Queue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
