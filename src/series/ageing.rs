//! What becomes of samples with time: raw, then a record a minute, then a record an hour, then nothing.
//!
//! A little at a time: now and then a reader looks through all points for what is due, and each step rolls up one point's
//! oldest rows, in one transaction that deletes what it has rolled up.

use super::chunk::{self, MERGED};
use super::rollup::{self, HOUR, Join, MINUTE};
use super::sample::Form;
use crate::journal::Seen;
use crate::model::{ClassId, Plan, PointId, Span, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::sync::Arc;

/// How long samples are kept in which detail.
///
/// The defaults keep more than a year in 2 GiB at 100 readings a second, a thousand points every ten seconds: raw 60 days
/// × 8.6 million × 0.9 B = 0.47 GB; minutes 340 days × 1.44 million × 2 B = 0.98 GB; hours 9 years × 24 000 × 365 × 4 B =
/// 0.32 GB; a week of entries 0.3 GB. Where more is measured than planned, room goes first (see `PRESSED`): the oldest
/// raw samples become minutes early, the oldest minutes hours, and a year is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Every sample; then a record a minute. By the time that was seen to pass, like all three.
    pub raw: Span,
    /// Records of a minute; then a record an hour. Counted from the sample's time, like all three.
    pub minute: Span,
    /// Records of an hour; then nothing.
    pub hour: Span,
}

const DAY: i64 = 86_400;
pub(super) const DAY_MS: i64 = DAY * 1000;

impl Default for Keep {
    fn default() -> Self {
        Self {
            raw: Span::from_secs(60 * DAY),
            minute: Span::from_secs(400 * DAY),
            hour: Span::from_secs(3650 * DAY),
        }
    }
}

/// What the series may keep of which point.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    /// Of every point that no class below says otherwise of.
    pub keep: Keep,
    /// Of the points of a class.
    pub classes: HashMap<ClassId, Keep>,
    /// Says of what class a point is.
    pub plan: Arc<Plan>,
    /// The database's limit, bytes: nearing it, the oldest samples are rolled up before their time. 0: no limit.
    pub bytes_max: u64,
}

impl Retention {
    fn of(&self, point: &str) -> Keep {
        if self.classes.is_empty() {
            return self.keep;
        }
        let point = PointId::parse(point).ok();
        let class = point.and_then(|point| self.plan.point(&point)).map(|(.., point)| &point.class);
        class.and_then(|class| self.classes.get(class)).copied().unwrap_or(self.keep)
    }
}

/// How often all points are looked through, by the journal's time: a few thousand look-ups of 5 µs.
const LOOK_EVERY: Span = Span::from_secs(600);
/// What the clock jumps over makes no sample older (see the journal's unseen.rs). After a jump, or a start, nothing is
/// looked through before it has gone on for [`SETTLED_AFTER`]: others have more to do then.
const JUMP: Span = Span::from_secs(DAY);
const SETTLED_AFTER: Span = Span::from_secs(3600);
/// Rows rolled up together, of chunks while they have fewer samples than [`MERGED`]: two days of ten-second samples, so that
/// the row they go to is written once. They take a few milliseconds.
const ROWS_AT_ONCE: i64 = 4;
/// A point waits until a part (1/64, at most a day of raw and a week of minutes) more than needed is due, so that rows
/// are rolled up by the dozen.
const WAIT_PART: i64 = 64;
const WAIT_RAW_MAX: i64 = 86_400_000;
const WAIT_MINUTES_MAX: i64 = 7 * 86_400_000;
/// The share of the limit from which on the oldest samples are rolled up early: 31/32 leaves 64 MiB of 2 GiB.
const PRESSED: (u64, u64) = (31, 32);
/// Entries that all followers have go first: only when fewer than this are left, samples are rolled up for their room.
const ENTRIES_LEFT: i64 = 2000;
/// What is younger is never rolled up for room.
const YOUNGEST_RAW: i64 = 86_400_000;
const YOUNGEST_MINUTES: i64 = 7 * 86_400_000;

/// When it may be judged what is old.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Age {
    newest: Timestamp,
    since: Timestamp,
    looked: Option<Timestamp>,
}

impl Age {
    /// An entry was written.
    pub(super) fn passed(&mut self, at: Timestamp) {
        if at.since(self.newest).abs() > JUMP {
            (self.since, self.looked) = (at, None);
        }
        self.newest = at;
    }

    /// The time, when it can be believed and all points should be looked through again.
    pub(super) fn look(&mut self) -> Option<Timestamp> {
        let now = self.newest;
        let due = self.looked.is_none_or(|looked| now.since(looked).abs() >= LOOK_EVERY);
        (now.since(self.since) >= SETTLED_AFTER && due).then(|| {
            self.looked = Some(now);
            now
        })
    }

    /// Something was found that should be looked for again at once.
    pub(super) fn look_again(&mut self) {
        self.looked = None;
    }
}

/// One point's rows that are to be rolled up or deleted: those whose last sample is older than these times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) point: u32,
    raw_before: i64,
    minutes_before: i64,
    hours_before: i64,
}

/// Looks through all points: what is due at that time. When room is short, only what gives some, and look again soon.
pub(super) fn look(
    conn: &Connection,
    retention: &Retention,
    now: Timestamp,
) -> rusqlite::Result<(Vec<Due>, bool)> {
    if let Some(entries_left) = pressed(conn, retention.bytes_max)? {
        let due = for_room(conn, now.as_millis(), entries_left)?;
        let any = !due.is_empty();
        return Ok((due, any));
    }
    let seen = Seen::read(conn)?;
    let mut due = Vec::new();
    let mut points = conn.prepare_cached("SELECT id, name FROM point")?;
    let points = points.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?)))?;
    let mut raw = conn.prepare_cached("SELECT t1 FROM chunk WHERE point = ? ORDER BY t0 LIMIT 1")?;
    let mut rolled =
        conn.prepare_cached("SELECT t1 FROM rollup WHERE point = ? AND width = ? ORDER BY t0 LIMIT 1")?;
    for point in points {
        let (number, name) = point?;
        let keep = retention.of(&name);
        let before = |span: Span| seen.ago(now, span).as_millis();
        let this = Due {
            point: number,
            raw_before: before(keep.raw),
            minutes_before: before(keep.minute),
            hours_before: before(keep.hour),
        };
        let wait = |span: Span, most: i64| (span.as_millis() / WAIT_PART).min(most);
        let raw_wait = wait(keep.raw, WAIT_RAW_MAX);
        let older = |t1: Option<i64>, before: i64| t1.is_some_and(|t1| t1 < before);
        let first = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        if older(raw.query_row([number], first).optional()?, this.raw_before.saturating_sub(raw_wait))
            || older(
                rolled.query_row(params![number, MINUTE], first).optional()?,
                this.minutes_before.saturating_sub(wait(keep.minute, WAIT_MINUTES_MAX)),
            )
            || older(rolled.query_row(params![number, HOUR], first).optional()?, this.hours_before)
        {
            due.push(this);
        }
    }
    Ok((due, false))
}

/// Whether room is short and what all followers have cannot give it for long; and then, whether it can give any.
fn pressed(conn: &Connection, bytes_max: u64) -> rusqlite::Result<Option<bool>> {
    if bytes_max == 0 {
        return Ok(None);
    }
    let figure = |question: &str| conn.query_row(question, [], |row| row.get::<_, Option<i64>>(0));
    let pages = figure("PRAGMA page_count")?.unwrap_or(0) - figure("PRAGMA freelist_count")?.unwrap_or(0);
    let bytes = figure("PRAGMA page_size")?.unwrap_or(0).saturating_mul(pages);
    if u64::try_from(bytes).unwrap_or(0) < bytes_max / PRESSED.1 * PRESSED.0 {
        return Ok(None);
    }
    let left = figure("SELECT (SELECT min(no) FROM cursor) - (SELECT min(no) FROM entry)")?.unwrap_or(-1);
    Ok((left < ENTRIES_LEFT).then_some(left >= 0))
}

/// The points whose oldest rows are the oldest of all: raw ones first, then minutes; hours, which would be gone, only when
/// there are no `entries_left` to go before them.
fn for_room(conn: &Connection, now: i64, entries_left: bool) -> rusqlite::Result<Vec<Due>> {
    let none = Due { point: 0, raw_before: i64::MIN, minutes_before: i64::MIN, hours_before: i64::MIN };
    let oldest = |question: &str, youngest: i64| -> rusqlite::Result<Vec<(u32, i64)>> {
        let mut statement = conn.prepare(question)?;
        let rows = statement.query_map(params![now.saturating_sub(youngest), ROWS_AT_ONCE], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.collect()
    };
    let raw = oldest(
        "SELECT point, max(t1) FROM (SELECT point, t1 FROM chunk WHERE t1 < ?1 ORDER BY t1 LIMIT ?2) GROUP BY point",
        YOUNGEST_RAW,
    )?;
    if !raw.is_empty() {
        let before =
            |(point, t1): (u32, i64)| Due { point, raw_before: t1.saturating_add(YOUNGEST_RAW), ..none };
        return Ok(raw.into_iter().map(before).collect());
    }
    let rolled = |width: i64| {
        format!(
            "SELECT point, max(t1) FROM (SELECT point, t1 FROM rollup WHERE width = {width} AND t1 < ?1 ORDER BY t1 LIMIT ?2)
             GROUP BY point"
        )
    };
    let minutes = oldest(&rolled(MINUTE), YOUNGEST_MINUTES)?;
    if !minutes.is_empty() {
        let before = |(point, t1): (u32, i64)| Due {
            point,
            minutes_before: t1.saturating_add(YOUNGEST_MINUTES),
            ..none
        };
        return Ok(minutes.into_iter().map(before).collect());
    }
    if entries_left {
        return Ok(Vec::new());
    }
    let hours = oldest(&rolled(HOUR), YOUNGEST_MINUTES)?;
    Ok(hours
        .into_iter()
        .map(|(point, t1)| Due { point, hours_before: t1.saturating_add(1), ..none })
        .collect())
}

/// What rolling up one point did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rolled {
    pub(super) rows: usize,
    pub(super) damaged: u64,
    /// Something of the same is left.
    pub(super) more: bool,
}

/// Rolls up a few of a point's due rows and deletes what is too old. `form`: see [`chunk::unpack`].
pub(super) fn roll(conn: &Connection, due: &Due, form: Form) -> rusqlite::Result<Rolled> {
    let mut rolled = Rolled::default();
    let &Due { point, raw_before, minutes_before, hours_before } = due;
    // Row after row while the samples of those before it are few.
    let chunks = ids(
        conn,
        "SELECT id FROM (SELECT id, t0, sum(n) OVER (ORDER BY t0) - n AS before
           FROM (SELECT id, t0, n FROM chunk WHERE point = ?1 AND t1 < ?2 ORDER BY t0 LIMIT ?3))
         WHERE before < ?4 ORDER BY t0",
        params![point, raw_before, ROWS_AT_ONCE, i64::try_from(MERGED).unwrap_or(0)],
    )?;
    let mut records = Vec::new();
    for &id in &chunks {
        match chunk::read(conn, id, form)? {
            Ok(samples) => records.extend(rollup::of_samples(&samples, MINUTE)),
            Err(cause) => {
                rolled.damaged += 1;
                tracing::error!(point, %cause, "a damaged chunk of the series could not be rolled up and is gone");
            }
        }
        conn.prepare_cached("DELETE FROM chunk WHERE id = ?")?.execute([id])?;
    }
    rolled.damaged += rollup::store(conn, point, MINUTE, &rollup::merged(records), Join::Add)?;
    let minutes = ids(
        conn,
        "SELECT id FROM rollup WHERE point = ?1 AND width = 60000 AND t1 < ?2 ORDER BY t0 LIMIT ?3",
        params![point, minutes_before, ROWS_AT_ONCE],
    )?;
    let mut records = Vec::new();
    for &id in &minutes {
        match rollup::read(conn, id)? {
            Ok(held) => records.extend(rollup::widened(&held, HOUR)),
            Err(cause) => {
                rolled.damaged += 1;
                tracing::error!(point, %cause, "a damaged roll-up of the series could not be rolled up and is gone");
            }
        }
        conn.prepare_cached("DELETE FROM rollup WHERE id = ?")?.execute([id])?;
    }
    rolled.damaged += rollup::store(conn, point, HOUR, &rollup::merged(records), Join::Add)?;
    let hours = ids(
        conn,
        "SELECT id FROM rollup WHERE point = ?1 AND width = 3600000 AND t1 < ?2 ORDER BY t0 LIMIT ?3",
        params![point, hours_before, ROWS_AT_ONCE],
    )?;
    for &id in &hours {
        conn.prepare_cached("DELETE FROM rollup WHERE id = ?")?.execute([id])?;
    }
    rolled.rows = chunks.len() + minutes.len() + hours.len();
    let full = |rows: &[i64]| i64::try_from(rows.len()).is_ok_and(|rows| rows >= ROWS_AT_ONCE);
    // Of chunks the next step says it: how many were left is not known.
    rolled.more = !chunks.is_empty() || full(&minutes) || full(&hours);
    Ok(rolled)
}

fn ids(conn: &Connection, question: &str, terms: impl rusqlite::Params) -> rusqlite::Result<Vec<i64>> {
    let mut statement = conn.prepare_cached(question)?;
    let rows = statement.query_map(terms, |row| row.get(0))?;
    rows.collect()
}
