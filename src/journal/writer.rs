//! The one thread that writes. An append is one transaction, durable when it is answered.

use super::live::Live;
use super::queue::{Job, Queue};
use super::retention::Retention;
use super::store::{Place, is_damage, to_sql};
use super::{AppendError, Limits, Write, append, audit, forecast, read, store};
use crate::metrics::Metrics;
use crate::model::{Span, Timestamp};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
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
    /// The entry whose commit failed in a way that may yet have reached the disk.
    in_doubt: Option<u64>,
    reconnect: bool,
}

impl Writer {
    pub(super) fn new(
        conn: Connection,
        place: Place,
        limits: Limits,
        metrics: Metrics,
        live: Arc<Live>,
        names: append::Interned,
    ) -> rusqlite::Result<Self> {
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
            conn,
            place,
            limits,
            metrics,
            live,
            retention,
            names,
            ballast_gone_since,
            cursors_at: None,
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
        while let Some(job) = queue.take() {
            match job {
                Job::Append(write, answer) => {
                    let result = self.append(&write);
                    // A caller that has gone away learns it from the head.
                    let _unheard = answer.send(result);
                }
                Job::Run(job) => {
                    self.reconnect_if_needed();
                    job(&mut self.conn);
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
        self.reconnect_if_needed();
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
                Err(self.failed(write, error))
            }
        }
    }

    fn try_append(&mut self, write: &Write) -> rusqlite::Result<()> {
        let no = write.entry.no;
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
        if write.entry.no % forecast::EVERY_COMMITS == 0 {
            match forecast::look(&self.conn, &self.place, &self.limits) {
                Ok(room) => self.live.health().room = room,
                Err(error) => tracing::debug!(%error, "the journal's room could not be looked at"),
            }
        }
        if let Some(restamp) = &write.restamp {
            self.live.ring().restamp(restamp);
        }
        self.live.show(write.entry.clone());
        self.count();
    }

    fn failed(&mut self, write: &Write, error: rusqlite::Error) -> AppendError {
        if is_damage(&error) {
            self.place.mark_suspect();
        }
        let error = AppendError::from(error);
        let mut health = self.live.health();
        if health.writable {
            tracing::error!(no = write.entry.no, %error, "the journal cannot be written");
        }
        health.writable = false;
        health.failing_since.get_or_insert(write.entry.at);
        health.last_error = Some(error.to_string());
        error
    }

    /// After an I/O error a connection may hold on to a broken file: begin anew.
    fn reconnect_if_needed(&mut self) {
        if !self.reconnect {
            return;
        }
        match store::connect_writer(&self.place.database(), &self.limits) {
            Ok(conn) => {
                self.conn = conn;
                self.reconnect = false;
            }
            Err(error) => tracing::debug!(%error, "the journal cannot be opened again yet"),
        }
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
