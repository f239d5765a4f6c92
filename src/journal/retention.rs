//! What goes when time or room is up: telemetry first, hazards last. A little with every commit, so nothing stalls.

use super::store::{from_sql, to_sql};
use super::unseen::Seen;
use super::{Limits, NoteKind, audit, quarantine, read};
use crate::metrics::Metrics;
use crate::model::{Span, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::time::Instant;

/// Rows deleted in one step of making room.
const ROWS_AT_ONCE: i64 = 16;
/// Steps of making room in one commit. One row is written a commit, so even one step gains ground; 16 make room for a
/// commit of 10 000 readings among rows of one, in a few milliseconds.
const STEPS_PER_COMMIT: usize = 16;
/// Entries deleted for their age, a commit: 128 × 4 kB are half a megabyte of pages.
const AGED_AT_ONCE: i64 = 128;
/// Entries may be older than their age by a sixteenth of it, at most by this: deleted one with every commit they would
/// double the pages that a commit writes.
const AGED_SLACK_MAX: Span = Span::from_secs(600);
/// Lines of the duty log deleted at once: each time costs a row of the audit chain. 256 × 2 kB are half a megabyte.
const LINES_AT_ONCE: i64 = 256;
/// Commits between two looks at the log, the ledger and the closed hazards: a quarter of an hour at one a second.
const HOUSE_EVERY_COMMITS: u64 = 900;
/// An entry dated this far in the future was written before the clock was put back, and is as old as that.
const FUTURE_MAX: Span = Span::from_secs(86_400);
/// Free pages are given back to the file system above this many (8 MiB), a few a commit; below, they are used again.
const FREE_PAGES_KEPT: i64 = 4096;
const FREE_PAGES_PER_COMMIT: u32 = 64;
/// How often it is told that entries are deleted unread.
const TOLD_EVERY: Span = Span::from_secs(86_400);
/// Later than everything.
const FOR_EVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// What is deleted for want of room, and in which order: telemetry first, hazards and what signs them last.
#[derive(Debug, Clone, Copy)]
enum Worth {
    /// What every follower has, but for the newest: their fingerprints may still be asked for.
    ReadEntries,
    /// Charts of more than a year ago.
    OldSeries,
    /// Notes of more than half a year ago.
    OldNotes,
    /// Frames that could not be read, the oldest first: before anything that somebody could use as it is.
    Quarantine,
    /// What some follower still waits for. Its readings are in the series as well. Counted and told.
    UnreadEntries,
    /// Charts, the oldest first.
    Series,
    /// All entries but the last.
    NewestEntries,
    /// Notes, the oldest first.
    Notes,
    /// Closed hazards beyond the newest ten thousand.
    SurplusHazards,
    /// Transitions, the oldest first.
    Ledger,
    /// Closed hazards. Open ones never.
    Hazards,
}

impl Worth {
    const ORDER: [Self; 11] = [
        Self::ReadEntries,
        Self::OldSeries,
        Self::OldNotes,
        Self::Quarantine,
        Self::UnreadEntries,
        Self::Series,
        Self::NewestEntries,
        Self::Notes,
        Self::SurplusHazards,
        Self::Ledger,
        Self::Hazards,
    ];
}

pub(super) struct Retention {
    limits: Limits,
    pages_max: i64,
    oldest: Option<(u64, Timestamp)>,
    /// The oldest entry must be looked up again.
    moved: bool,
    /// More entries are too old than one commit deleted.
    aging: bool,
    /// When it was told last that entries are deleted before every follower had them.
    told: Option<Timestamp>,
    /// By what ages are counted. None: to be read again.
    seen: Option<Seen>,
    /// Commits since the start.
    commits: u64,
    /// The last look found more to delete than it did.
    untidy: bool,
}

impl Retention {
    pub(super) fn new(conn: &Connection, limits: &Limits) -> rusqlite::Result<Self> {
        let page: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let mut this = Self {
            pages_max: to_sql(limits.bytes_max) / page.max(1),
            limits: limits.clone(),
            oldest: None,
            moved: true,
            aging: false,
            told: None,
            seen: None,
            commits: 0,
            untidy: false,
        };
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
        self.seen = None;
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
        // After an error it is read again: what it wrote is undone.
        let mut seen = match self.seen.take() {
            Some(seen) => seen,
            None => Seen::read(conn)?,
        };
        seen.pass(conn, at, Instant::now())?;
        self.trim_by(&seen, conn, at, passed, metrics)?;
        self.seen = Some(seen);
        Ok(())
    }

    fn trim_by(
        &mut self,
        seen: &Seen,
        conn: &Connection,
        at: Timestamp,
        passed: u64,
        metrics: &Metrics,
    ) -> rusqlite::Result<()> {
        let age_max = self.limits.readings_age_max;
        let slack = Span::from_millis(age_max.as_millis() / 16).min(AGED_SLACK_MAX);
        let cutoff = seen.ago(at, age_max);
        let future = if seen.future_is_past(at, age_max) { at + FUTURE_MAX } else { FOR_EVER };
        let due = |written| written < cutoff - slack || written > future;
        let old = self.oldest.is_some_and(|(no, written)| no <= passed && due(written));
        if self.aging || old {
            // Only the first rows are looked at: a row out of its time never makes this scan the table.
            let gone = conn
                .prepare_cached(
                    "DELETE FROM entry WHERE no <= ?1 AND no < (SELECT max(no) FROM entry) AND at NOT BETWEEN ?2 AND ?3
                     AND no IN (SELECT no FROM entry ORDER BY no LIMIT ?4)",
                )?
                .execute(params![to_sql(passed), cutoff.as_millis(), future.as_millis(), AGED_AT_ONCE])?;
            self.moved |= gone > 0;
            self.aging = to_sql(gone as u64) == AGED_AT_ONCE;
        }
        self.keep_house(seen, conn, at, metrics)?;
        if pages_used(conn)? > self.pages_max {
            return self.make_room(seen, conn, at, passed, metrics);
        }
        let free: i64 = conn.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        if free > FREE_PAGES_KEPT {
            conn.execute_batch(&format!("PRAGMA incremental_vacuum({FREE_PAGES_PER_COMMIT})"))?;
        }
        Ok(())
    }

    /// Deletes the least worthy rows there are, in the order of [`Worth`], until the limit is kept again or enough was done
    /// for one commit.
    fn make_room(
        &mut self,
        seen: &Seen,
        conn: &Connection,
        at: Timestamp,
        passed: u64,
        metrics: &Metrics,
    ) -> rusqlite::Result<()> {
        let mut steps = Worth::ORDER.into_iter();
        let mut step = steps.next();
        for _ in 0..STEPS_PER_COMMIT {
            let Some(worth) = step else { return Ok(()) };
            if !self.delete(seen, conn, worth, at, passed, metrics)? {
                step = steps.next();
            } else if pages_used(conn)? <= self.pages_max {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Deletes a few rows of one kind. False: there are none (any more).
    fn delete(
        &mut self,
        seen: &Seen,
        conn: &Connection,
        worth: Worth,
        at: Timestamp,
        passed: u64,
        metrics: &Metrics,
    ) -> rusqlite::Result<bool> {
        let newest = to_sql(read::head(conn)?);
        let floor = newest - to_sql(self.limits.entries_min);
        let (year, half_year) =
            (seen.ago(at, self.limits.series_age_min), seen.ago(at, self.limits.notes_age_min));
        match worth {
            Worth::ReadEntries => self.delete_entries(conn, at, floor.min(to_sql(passed)), passed, metrics),
            Worth::OldSeries => delete_series(conn, year),
            Worth::OldNotes => delete_lines(conn, audit::NOTE, half_year, at),
            Worth::Quarantine => quarantine::delete_before(conn, FOR_EVER, metrics),
            Worth::UnreadEntries => self.delete_entries(conn, at, floor, passed, metrics),
            Worth::Series => delete_series(conn, FOR_EVER),
            Worth::NewestEntries => self.delete_entries(conn, at, newest - 1, passed, metrics),
            Worth::Notes => delete_lines(conn, audit::NOTE, FOR_EVER, at),
            Worth::SurplusHazards => self.delete_hazards(conn, FOR_EVER, self.limits.hazards_closed_min),
            Worth::Ledger => delete_lines(conn, audit::TRANSITION, FOR_EVER, at),
            Worth::Hazards => self.delete_hazards(conn, FOR_EVER, 0),
        }
    }

    /// What grows without telemetry: the log, the ledger, closed hazards, the quarantine. Looked at now and then, or while there is work.
    fn keep_house(
        &mut self,
        seen: &Seen,
        conn: &Connection,
        at: Timestamp,
        metrics: &Metrics,
    ) -> rusqlite::Result<()> {
        self.commits += 1;
        if !self.untidy && self.commits % HOUSE_EVERY_COMMITS != 1 {
            return Ok(());
        }
        let limits = self.limits.clone();
        let lines = [
            (audit::NOTE, "note", limits.notes_age_max, limits.notes_max),
            (audit::TRANSITION, "transition", limits.ledger_age_max, limits.ledger_max),
        ];
        self.untidy = false;
        for (kind, table, age_max, max) in lines {
            let held: i64 = conn
                .prepare_cached(&format!("SELECT ifnull(max(id) - min(id), 0) FROM {table}"))?
                .query_row([], |row| row.get(0))?;
            let before = if held - LINES_AT_ONCE > to_sql(max) { FOR_EVER } else { seen.ago(at, age_max) };
            self.untidy |= delete_lines(conn, kind, before, at)?;
        }
        self.untidy |=
            self.delete_hazards(conn, seen.ago(at, limits.ledger_age_max), limits.hazards_closed_min)?;
        self.untidy |= quarantine::delete_before(conn, seen.ago(at, limits.quarantine_age_max), metrics)?;
        Ok(())
    }

    fn delete_entries(
        &mut self,
        conn: &Connection,
        at: Timestamp,
        up_to: i64,
        passed: u64,
        metrics: &Metrics,
    ) -> rusqlite::Result<bool> {
        // Found and then deleted: what nobody has read is counted.
        let last: Option<i64> = conn
            .prepare_cached(
                "SELECT max(no) FROM (SELECT no FROM entry WHERE no <= ?1 AND no < (SELECT max(no) FROM entry)
                 ORDER BY no LIMIT ?2)",
            )?
            .query_row([up_to, ROWS_AT_ONCE], |row| row.get(0))?;
        let Some(last) = last else { return Ok(false) };
        self.moved = true;
        let read =
            conn.prepare_cached("DELETE FROM entry WHERE no <= ?")?.execute([last.min(to_sql(passed))])?;
        let unread = conn.prepare_cached("DELETE FROM entry WHERE no <= ?")?.execute([last])?;
        if unread > 0 {
            metrics.journal_trimmed.inc_by(unread as u64);
            self.tell(conn, at)?;
        }
        Ok(read + unread > 0)
    }

    /// Closed hazards that were closed before a time, beyond the newest `kept`.
    fn delete_hazards(&self, conn: &Connection, before: Timestamp, kept: u64) -> rusqlite::Result<bool> {
        let gone = conn
            .prepare_cached(
                "DELETE FROM hazard WHERE id IN (SELECT id FROM hazard WHERE closed_at < ?1 AND closed_at <=
                   (SELECT closed_at FROM hazard WHERE closed_at IS NOT NULL ORDER BY closed_at DESC LIMIT 1 OFFSET ?2)
                 ORDER BY closed_at LIMIT ?3)",
            )?
            .execute(params![before.as_millis(), to_sql(kept), ROWS_AT_ONCE])?;
        Ok(gone > 0)
    }

    /// A line in the duty log when this begins, and once a day while it lasts.
    fn tell(&mut self, conn: &Connection, at: Timestamp) -> rusqlite::Result<()> {
        if self.told.is_some_and(|told| at.since(told).abs() < TOLD_EVERY) {
            return Ok(());
        }
        self.told = Some(at);
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

fn pages_used(conn: &Connection) -> rusqlite::Result<i64> {
    let pragma = |name: &str| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    Ok(pragma("page_count")? - pragma("freelist_count")?)
}

/// The series' oldest rows that end before a time: samples first, then what stands for them in years to come.
fn delete_series(conn: &Connection, before: Timestamp) -> rusqlite::Result<bool> {
    let before = params![before.as_millis(), ROWS_AT_ONCE];
    let chunks = "DELETE FROM chunk WHERE (point, t0) IN
                  (SELECT point, t0 FROM chunk WHERE t1 < ? ORDER BY t1 LIMIT ?)";
    if conn.prepare_cached(chunks)?.execute(before)? > 0 {
        return Ok(true);
    }
    let rollups = "DELETE FROM rollup WHERE (point, width, t0) IN
                   (SELECT point, width, t0 FROM rollup WHERE t1 < ? ORDER BY width, t1 LIMIT ?)";
    Ok(conn.prepare_cached(rollups)?.execute(before)? > 0)
}

/// The oldest lines of one table, a whole lot of them if all are from before a time; fewer only when no time is given.
fn delete_lines(conn: &Connection, kind: i64, before: Timestamp, at: Timestamp) -> rusqlite::Result<bool> {
    let table = if kind == audit::TRANSITION { "transition" } else { "note" };
    let lot = format!(
        "SELECT max(id), max(at), count(*) FROM (SELECT id, at FROM {table} ORDER BY id LIMIT {LINES_AT_ONCE})"
    );
    let (last, newest, count): (Option<i64>, Option<i64>, i64) =
        conn.prepare_cached(&lot)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (Some(last), Some(newest)) = (last, newest) else { return Ok(false) };
    if newest >= before.as_millis() || (before != FOR_EVER && count < LINES_AT_ONCE) {
        return Ok(false);
    }
    Ok(audit::delete_lines(conn, kind, last, at.as_millis(), LINES_AT_ONCE)? > 0)
}
