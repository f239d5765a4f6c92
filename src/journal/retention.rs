//! What goes when time or room is up: telemetry first, hazards last. A little with every commit, so nothing stalls.

use super::store::{PAGE_BYTES, from_sql, to_sql};
use super::{Limits, NoteKind, audit, read};
use crate::metrics::Metrics;
use crate::model::{Span, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

/// Rows deleted a commit. One is written a commit, so 16 gains ground quickly and costs a few milliseconds.
const ROWS_PER_COMMIT: i64 = 16;
/// Lines of the duty log deleted at once: each time costs a row of the audit chain. 256 × 2 kB are half a megabyte.
const LINES_AT_ONCE: i64 = 256;
/// An entry dated this far in the future was written under a wrong clock: it counts as old.
const FUTURE_MAX: Span = Span::from_secs(86_400);
/// Free pages are given back to the file system above this many (16 MiB), a few a commit; below, they are used again.
const FREE_PAGES_KEPT: i64 = 4096;
const FREE_PAGES_PER_COMMIT: u32 = 64;

pub(super) struct Retention {
    age_max: Span,
    pages_max: i64,
    oldest: Option<(u64, Timestamp)>,
    /// The oldest entry must be looked up again.
    moved: bool,
    /// Already told that entries are deleted before every follower had them.
    told: bool,
}

impl Retention {
    pub(super) fn new(conn: &Connection, limits: &Limits) -> rusqlite::Result<Self> {
        let pages_max = to_sql(limits.bytes_max / PAGE_BYTES);
        let mut this =
            Self { age_max: limits.readings_age_max, pages_max, oldest: None, moved: true, told: false };
        this.look(conn)?;
        Ok(this)
    }

    /// The time of the oldest entry that is held.
    pub(super) fn oldest_at(&self) -> Option<Timestamp> {
        self.oldest.map(|(_, at)| at)
    }

    /// The transaction was rolled back: what it deleted is there again.
    pub(super) fn forget_steps(&mut self) {
        self.moved = true;
    }

    /// Makes room before an append at `at`. `passed`: every follower has the entries up to this number.
    pub(super) fn trim(
        &mut self,
        conn: &Connection,
        at: Timestamp,
        passed: u64,
        metrics: &Metrics,
    ) -> rusqlite::Result<()> {
        self.look(conn)?;
        let (cutoff, future) = (at - self.age_max, at + FUTURE_MAX);
        if self.oldest.is_some_and(|(no, written)| no <= passed && (written < cutoff || written > future)) {
            // Only the first rows are looked at: a row out of its time never makes this scan the table.
            let gone = conn
                .prepare_cached(
                    "DELETE FROM entry WHERE no <= ?1 AND no < (SELECT max(no) FROM entry) AND at NOT BETWEEN ?2 AND ?3
                     AND no IN (SELECT no FROM entry ORDER BY no LIMIT ?4)",
                )?
                .execute(params![to_sql(passed), cutoff.as_millis(), future.as_millis(), ROWS_PER_COMMIT])?;
            self.moved |= gone > 0;
        }
        let pragma = |name: &str| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let free = pragma("freelist_count")?;
        if pragma("page_count")? - free > self.pages_max {
            self.make_room(conn, at, passed, metrics)?;
        } else {
            self.told = false;
            if free > FREE_PAGES_KEPT {
                conn.execute_batch(&format!("PRAGMA incremental_vacuum({FREE_PAGES_PER_COMMIT})"))?;
            }
        }
        Ok(())
    }

    /// Deletes the least worthy rows there are: what all followers have, then old charts, then what somebody still
    /// waits for (counted and told), then the log's oldest lines, and closed hazards last. Open ones never.
    fn make_room(
        &mut self,
        conn: &Connection,
        at: Timestamp,
        passed: u64,
        metrics: &Metrics,
    ) -> rusqlite::Result<()> {
        let entries = "DELETE FROM entry WHERE no IN (SELECT no FROM entry
                       WHERE no <= ?1 AND no < (SELECT max(no) FROM entry) ORDER BY no LIMIT ?2)";
        if conn.prepare_cached(entries)?.execute([to_sql(passed), ROWS_PER_COMMIT])? > 0 {
            self.moved = true;
            return Ok(());
        }
        let chunks = "DELETE FROM chunk WHERE (point, t0) IN
                      (SELECT point, t0 FROM chunk ORDER BY t1 LIMIT ?1)";
        if conn.prepare_cached(chunks)?.execute([ROWS_PER_COMMIT])? > 0 {
            return Ok(());
        }
        let unread = conn.prepare_cached(entries)?.execute([i64::MAX, ROWS_PER_COMMIT])?;
        if unread > 0 {
            metrics.journal_trimmed.inc_by(unread as u64);
            self.moved = true;
            return self.tell(conn, at);
        }
        for (kind, table) in [(audit::NOTE, "note"), (audit::TRANSITION, "transition")] {
            let last =
                format!("SELECT max(id) FROM (SELECT id FROM {table} ORDER BY id LIMIT {LINES_AT_ONCE})");
            let last: Option<i64> = conn.prepare_cached(&last)?.query_row([], |row| row.get(0))?;
            if let Some(last) = last
                && audit::delete_lines(conn, kind, last, at.as_millis(), LINES_AT_ONCE)? > 0
            {
                return Ok(());
            }
        }
        conn.prepare_cached(
            "DELETE FROM hazard WHERE id IN (SELECT id FROM hazard WHERE closed_at IS NOT NULL
             ORDER BY closed_at LIMIT ?1)",
        )?
        .execute([ROWS_PER_COMMIT])?;
        Ok(())
    }

    /// One line in the duty log for each time this begins.
    fn tell(&mut self, conn: &Connection, at: Timestamp) -> rusqlite::Result<()> {
        if std::mem::replace(&mut self.told, true) {
            return Ok(());
        }
        tracing::error!(
            "the journal is at its size limit: entries are deleted before every follower has read them"
        );
        let words = [
            NoteKind::Journal.name(),
            "journal",
            "日志已达容量上限：部分记录在转发完成之前被删除",
            "the journal is at its size limit: entries were deleted before every follower had read them",
        ];
        let no = to_sql(read::head(conn)?);
        audit::Chain::at_its_end(conn)?.note(no, at.as_millis(), words)
    }

    fn look(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if std::mem::take(&mut self.moved) || self.oldest.is_none() {
            self.oldest = conn
                .prepare_cached("SELECT no, at FROM entry ORDER BY no LIMIT 1")?
                .query_row([], |row| Ok((from_sql(row.get(0)?), Timestamp::from_millis(row.get(1)?))))
                .optional()?;
        }
        Ok(())
    }
}
