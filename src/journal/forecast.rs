//! How much room there is and how long it lasts: what each kind of rows takes, how fast it grows, when it is full.
//!
//! Looked up by the writer at start and then by the time of the entries ([`is_due`]), by a few dozen rows and counts over
//! indexes: a scan of the tables would stall commits on a full card for minutes. So the figures are estimates, good to a
//! tenth.

use super::Limits;
use super::store::{Place, from_sql};
use crate::model::{Span, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

/// Between two looks: a few milliseconds of the writer in a quarter of an hour, however much or little is committed.
const LOOK_EVERY: Span = Span::from_secs(900);
/// The same until anything is known: a new site is told after eleven minutes, for a few milliseconds a minute.
const LOOK_EVERY_AT_FIRST: Span = Span::from_secs(60);
/// Rows whose length is looked at, to know the average one.
const SAMPLE_ROWS: i64 = 64;
/// Growth is measured over the newest day.
const MEASURED_OVER: Span = Span::from_secs(86_400);
/// Less time than this says nothing about a day.
const MEASURED_AT_LEAST: Span = Span::from_secs(600);
/// What SQLite adds to a row: its header, its number, its share of page headers and half-empty pages.
const ROW_BYTES: i64 = 40;
/// A forecast beyond this says nothing: ten years.
const DAYS_MAX: u32 = 3653;

/// What each kind takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Entries with their readings and fingerprints.
    pub entries: u64,
    /// The time series: chunks and roll-ups.
    pub series: u64,
    /// The duty log's notes.
    pub notes: u64,
    /// The duty log's transitions and the audit chain.
    pub ledger: u64,
    /// Hazards.
    pub hazards: u64,
    /// Pages that are free to be written again.
    pub free: u64,
}

impl Used {
    /// All but the free pages.
    pub fn sum(&self) -> u64 {
        self.entries + self.series + self.notes + self.ledger + self.hazards
    }
}

/// The journal's room, as of the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// What each kind takes.
    pub used: Used,
    /// The limit of the database, in bytes.
    pub bytes_max: u64,
    /// Bytes free on its file system; `None` when the system does not say.
    pub disk_free: Option<u64>,
    /// Bytes of entries that a day brings; `None` until ten minutes were measured.
    pub entries_a_day: Option<u64>,
    /// Bytes of series that a day brings.
    pub series_a_day: u64,
    /// How long entries are kept that everybody has read.
    pub entries_kept: Span,
    /// How long the series is kept.
    pub series_kept: Span,
    /// The oldest and the newest entry.
    pub entries: (u64, u64),
}

impl Room {
    /// Bytes that the database may have in the end: its limit, or what the disk lets it grow to.
    pub fn bytes_allowed(&self) -> u64 {
        let by_disk = self.disk_free.map_or(u64::MAX, |free| self.used.sum() + self.used.free + free);
        self.bytes_max.min(by_disk)
    }

    /// Days until telemetry has to be deleted before its time, as things go on now. 0: it is so already. `None`: never, or
    /// not for ten years, or nothing is known yet.
    pub fn days_until_full(&self) -> Option<u32> {
        let entries = self.entries_a_day?;
        let allowed = self.bytes_allowed();
        let rest = self.used.notes + self.used.ledger + self.used.hazards;
        // What is older than its time is deleted as new comes: each kind grows up to its own plateau.
        let grown = |now: u64, a_day: u64, kept: Span, day: u64| {
            let plateau = u64::try_from(kept.as_millis()).unwrap_or(0) / 86_400_000 * a_day;
            now.saturating_add(a_day.saturating_mul(day)).min(plateau.max(now))
        };
        (0..DAYS_MAX).find(|&day| {
            let day = u64::from(day);
            rest + grown(self.used.entries, entries, self.entries_kept, day)
                + grown(self.used.series, self.series_a_day, self.series_kept, day)
                >= allowed
        })
    }

    /// Hours until entries would have to be deleted that a follower at this cursor has not read, if it reads no more from
    /// now on and everybody else goes on. `None`: nothing is known yet.
    pub fn hours_of_buffer(&self, cursor: u64) -> Option<u32> {
        let entries = self.entries_a_day?;
        let (oldest, head) = self.entries;
        let held = (head + 1).saturating_sub(oldest).max(1);
        let unread = head.saturating_sub(cursor.max(oldest.saturating_sub(1))).min(held);
        // In the order of retention: what this follower has read goes first.
        let needed = self.used.sum() - self.used.entries + share(self.used.entries, unread, held);
        let room = self.bytes_allowed().saturating_sub(needed);
        let an_hour = ((entries + self.series_a_day) / 24).max(1);
        Some(u32::try_from(room / an_hour).unwrap_or(u32::MAX).min(DAYS_MAX * 24))
    }
}

/// Whether it is time for another look. `looked_at`: the time of the entry at the last one. A clock that was put back does
/// not hold it up.
pub(super) fn is_due(room: &Room, looked_at: Option<Timestamp>, now: Timestamp) -> bool {
    let every = if room.entries_a_day.is_some() { LOOK_EVERY } else { LOOK_EVERY_AT_FIRST };
    looked_at.is_none_or(|then| now.since(then).abs() >= every)
}

/// `bytes × part / whole`, without overflow.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(bytes) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// Looks. A few milliseconds.
pub(super) fn look(conn: &Connection, place: &Place, limits: &Limits) -> rusqlite::Result<Room> {
    let pragma = |name: &str| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let page = pragma("page_size")?;
    let (all, free) = (pragma("page_count")? * page, pragma("freelist_count")? * page);
    // A table with a running number and hardly a gap: its count is the difference.
    let numbered = |table: &str, key: &str, length: &str| -> rusqlite::Result<i64> {
        let count: i64 = conn.query_row(
            &format!(
                "SELECT ifnull((SELECT max({key}) FROM {table}) - (SELECT min({key}) FROM {table}) + 1, 0)"
            ),
            [],
            |row| row.get(0),
        )?;
        Ok(count * average(conn, &format!("SELECT {length} AS bytes FROM {table} ORDER BY {key} DESC"))?)
    };
    let entry = "ifnull(length(readings), 0) + ifnull(length(receipts), 0)";
    let entries = numbered("entry", "no", entry)?;
    let lines = "2 * length(zh) + length(en) + length(subject)";
    let notes = numbered("note", "id", lines)?;
    let ledger =
        numbered("transition", "id", "length(json) + 3 * length(hazard)")? + numbered("audit", "seq", "64")?;
    let hazards: i64 = conn.query_row("SELECT count(*) FROM hazard", [], |row| row.get(0))?;
    let hazards = hazards * average(conn, "SELECT length(json) + 3 * length(id) AS bytes FROM hazard")?;
    let positive = |bytes: i64| from_sql(bytes.max(0));
    let (entries_a_day, edges) = entries_growth(conn, entry)?;
    let used = Used {
        entries: positive(entries),
        // What is left: names, documents and strays are small beside it.
        series: positive(all - free - entries - notes - ledger - hazards),
        notes: positive(notes),
        ledger: positive(ledger),
        hazards: positive(hazards),
        free: positive(free),
    };
    Ok(Room {
        used,
        bytes_max: limits.bytes_max,
        disk_free: place.disk_free(),
        entries_a_day,
        series_a_day: series_growth(conn)?,
        entries_kept: limits.readings_age_max,
        series_kept: limits.series_age_max,
        entries: edges,
    })
}

/// Bytes of an average row of a question that says `bytes`.
fn average(conn: &Connection, question: &str) -> rusqlite::Result<i64> {
    let question = format!("SELECT avg(bytes) FROM ({question} LIMIT {SAMPLE_ROWS})");
    let bytes: Option<f64> = conn.query_row(&question, [], |row| row.get(0))?;
    #[expect(clippy::cast_possible_truncation, reason = "a row has at most megabytes")]
    Ok(bytes.unwrap_or(0.0) as i64 + ROW_BYTES)
}

/// Bytes of entries a day, and the oldest and newest number.
fn entries_growth(conn: &Connection, length: &str) -> rusqlite::Result<(Option<u64>, (u64, u64))> {
    let edge = |order: &str| {
        let question = format!("SELECT no, at FROM entry ORDER BY no {order} LIMIT 1");
        conn.query_row(&question, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()
    };
    let (Some(oldest), Some(newest)) = (edge("ASC")?, edge("DESC")?) else { return Ok((None, (0, 0))) };
    let edges = (from_sql(oldest.0), from_sql(newest.0));
    // The first entry of the newest day, by halving: numbers have no gaps, and time follows them but for the clock's steps.
    let since = newest.1 - MEASURED_OVER.as_millis();
    let mut at_no = conn.prepare_cached("SELECT no, at FROM entry WHERE no >= ? ORDER BY no LIMIT 1")?;
    let (mut low, mut high) = (oldest.0, newest.0);
    while low < high {
        let middle = low + (high - low) / 2;
        let (no, at): (i64, i64) = at_no.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if at < since { low = no + 1 } else { high = middle }
    }
    let (first, at): (i64, i64) = at_no.query_row([low], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let took = newest.1 - at;
    if took < MEASURED_AT_LEAST.as_millis() {
        return Ok((None, edges));
    }
    let average = average(conn, &format!("SELECT {length} AS bytes FROM entry ORDER BY no DESC"))?;
    let bytes = from_sql((newest.0 - first).saturating_mul(average));
    Ok((Some(share(bytes, 86_400_000, from_sql(took))), edges))
}

/// Bytes of chunks a day.
fn series_growth(conn: &Connection) -> rusqlite::Result<u64> {
    let newest: Option<i64> = conn.query_row("SELECT max(t1) FROM chunk", [], |row| row.get(0))?;
    let Some(newest) = newest else { return Ok(0) };
    let (count, first): (i64, i64) = conn.query_row(
        "SELECT count(*), min(t1) FROM chunk WHERE t1 > ?",
        params![newest - MEASURED_OVER.as_millis()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let average = average(conn, "SELECT length(blob) + 60 AS bytes FROM chunk ORDER BY t1 DESC")?;
    let took = (newest - first).max(MEASURED_AT_LEAST.as_millis());
    Ok(share(from_sql(count.saturating_mul(average)), 86_400_000, from_sql(took)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    /// A gateway of 100 readings a second: 60 MB of entries and 6 MB of series a day.
    fn room() -> Room {
        Room {
            used: Used { entries: 60 * MB, series: 6 * MB, notes: MB, ledger: MB, hazards: MB, free: 0 },
            bytes_max: 2000 * MB,
            disk_free: Some(8000 * MB),
            entries_a_day: Some(60 * MB),
            series_a_day: 6 * MB,
            entries_kept: Span::from_secs(7 * 86_400),
            series_kept: Span::from_secs(400 * 86_400),
            entries: (1, 86_400),
        }
    }

    #[test]
    fn it_is_full_when_what_is_kept_for_its_time_no_longer_fits() {
        // 420 MB of entries and 3 MB of the rest are kept; the series fills the other 1577 MB.
        assert_eq!(room().days_until_full(), Some(262));
        assert_eq!(Room { series_kept: Span::from_secs(200 * 86_400), ..room() }.days_until_full(), None);
        assert_eq!(
            Room { disk_free: Some(66 * MB), ..room() }.days_until_full(),
            Some(1),
            "the disk is smaller"
        );
        assert_eq!(Room { bytes_max: 60 * MB, ..room() }.days_until_full(), Some(0));
        assert_eq!(Room { entries_a_day: None, ..room() }.days_until_full(), None);
    }

    #[test]
    fn the_buffer_of_a_follower_is_what_is_left_beside_what_it_has_not_read() {
        let room = room();
        // (2000 − 9) MB at 2.75 MB an hour; half of the entries unread take 30 MB of it.
        assert_eq!(room.hours_of_buffer(86_400), Some(724));
        assert_eq!(room.hours_of_buffer(43_200), Some(713));
        assert_eq!(room.hours_of_buffer(0), Some(702));
        assert_eq!(Room { disk_free: Some(0), ..room }.hours_of_buffer(0), Some(0));
        let spent = Room { bytes_max: 50 * MB, ..room };
        assert_eq!(spent.hours_of_buffer(0), Some(0));
    }
}
