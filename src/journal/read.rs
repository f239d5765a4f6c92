//! The questions, as SQL on a read connection. Every answer is bounded by the caller's limit or by the table's.

use super::live::Names;
use super::readings_codec::{self, Damaged};
use super::store::{from_sql, to_sql};
use super::{Entry, LogLine, Logged, Note, NoteKind, ReadError, Stray, StrayKind, append, restamp, wire};
use crate::metrics::Metrics;
use crate::model::{DeviceId, Fact, Hazard, HazardId, PointId, Reading, RuleId, Text, Timestamp, Transition};
use rusqlite::{Connection, Row, params};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The number of the newest entry that was ever recorded.
pub(super) fn head(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row(
        "SELECT max(ifnull((SELECT max(no) FROM entry), 0), ifnull((SELECT value FROM meta WHERE key = 'begun_after'), 0))",
        [],
        |row| row.get(0),
    )
    .map(from_sql)
}

pub(super) fn count_open(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("SELECT count(*) FROM fact WHERE hazard IS NOT NULL")?.query_row([], |row| row.get(0))
}

pub(super) fn cursors(conn: &Connection) -> rusqlite::Result<HashMap<String, u64>> {
    let mut statement = conn.prepare("SELECT name, no FROM cursor")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, from_sql(row.get(1)?))))?;
    rows.collect()
}

/// Newest entries whose fingerprints are read at start. A redelivery follows a crash and brings what the last commits
/// held; 4096 are an hour at one a second, and even with 5 kB of readings each 20 MB, half a second on an SD card.
const RECEIPT_ENTRIES_MAX: i64 = 4096;

/// The newest fingerprints, at most about `max`.
pub(super) fn receipts(conn: &Connection, max: u64) -> rusqlite::Result<HashSet<u64>> {
    let mut statement = conn.prepare(
        "SELECT receipts FROM (SELECT no, receipts FROM entry ORDER BY no DESC LIMIT ?) ORDER BY no DESC",
    )?;
    let mut rows = statement.query([RECEIPT_ENTRIES_MAX])?;
    let mut receipts = HashSet::new();
    while let Some(row) = rows.next()? {
        let Ok(Some(packed)) = row.get_ref(0)?.as_blob_or_null() else { continue };
        receipts.extend(packed.as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes)));
        if receipts.len() as u64 >= max {
            break;
        }
    }
    Ok(receipts)
}

/// The interned names, for the writer and for the readers.
pub(super) fn names(conn: &Connection) -> rusqlite::Result<(append::Interned, Names)> {
    let mut interned = append::Interned::default();
    let mut names = Names::default();
    let mut points = conn.prepare("SELECT id, name FROM point")?;
    let mut rows = points.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(1)?;
        let Ok(point) = PointId::parse(&name) else { continue };
        interned.points.insert(point.clone(), row.get(0)?);
        names.add_point(row.get(0)?, point);
    }
    let mut codes = conn.prepare("SELECT id, name FROM code")?;
    let mut rows = codes.query([])?;
    while let Some(row) = rows.next()? {
        let code: Arc<str> = row.get(1)?;
        interned.codes.insert(code.clone(), row.get(0)?);
        names.add_code(row.get(0)?, code);
    }
    Ok((interned, names))
}

/// Readings in one answer, beside the limit in entries: 8192 × 72 bytes are 0.6 MB for each follower that reads from the
/// disk, 16 s of 500 readings a second. Before, 256 entries of a backlog's largest commits came at once.
const READINGS_AT_ONCE: usize = 8192;

/// How full an answer is.
#[derive(Default)]
struct Answer {
    entries: usize,
    readings: usize,
}

impl Answer {
    /// Whether an entry with so many readings goes into it as well; counts it, if it does. The first one always does, or
    /// nobody would come past it.
    fn takes(&mut self, readings: usize) -> bool {
        let all = self.readings.saturating_add(readings);
        if self.entries > 0 && all > READINGS_AT_ONCE {
            return false;
        }
        (self.entries, self.readings) = (self.entries + 1, all);
        true
    }
}

/// The entries after a number, up to `to`; at most `limit`, and fewer when they are large: only an empty answer means
/// that there are no more.
pub(super) fn entries(
    conn: &Connection,
    decode: impl Fn(&[u8]) -> Result<Vec<Reading>, Damaged>,
    metrics: &Metrics,
    after: u64,
    to: u64,
    limit: usize,
) -> Result<Vec<Arc<Entry>>, ReadError> {
    let mut statement = conn
        .prepare_cached("SELECT no, at, readings FROM entry WHERE no > ? AND no <= ? ORDER BY no LIMIT ?")?;
    let mut rows = statement.query(params![to_sql(after), to_sql(to), to_sql(limit as u64)])?;
    let mut entries = Vec::new();
    let mut answer = Answer::default();
    while let Some(row) = rows.next()? {
        let (no, at) = (from_sql(row.get(0)?), Timestamp::from_millis(row.get(1)?));
        let blob = row.get_ref(2)?.as_blob_or_null();
        // Looked at before it is unpacked, so that no entry is unpacked in vain.
        if !answer.takes(blob.as_ref().ok().and_then(|blob| *blob).map_or(0, readings_codec::count)) {
            break;
        }
        let mut notes = Vec::new();
        let readings = match blob {
            Ok(None) => Vec::new(),
            Ok(Some(blob)) => decode(blob).unwrap_or_else(|cause| {
                metrics.journal_damaged.inc();
                tracing::error!(no, %cause, "the readings of a journal entry are damaged and were skipped");
                notes.push(damaged_readings(no, &cause.to_string()));
                Vec::new()
            }),
            Err(_) => Vec::new(),
        };
        entries.push(Entry { no, at, recorded: true, readings, transitions: Vec::new(), notes });
    }
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(Vec::new()) };
    let lines = lines(conn, metrics, first.no, last.no)?;
    for restamp in restamp::between(conn, first.no, last.no)? {
        entries.iter_mut().for_each(|entry| restamp.apply(entry));
    }
    let mut at = 0;
    for line in lines {
        while entries.get(at).is_some_and(|entry| entry.no < line.no) {
            at += 1;
        }
        match entries.get_mut(at) {
            Some(entry) if entry.no == line.no => match line.what {
                Logged::Transition(transition) => entry.transitions.push(*transition),
                Logged::Note(note) => entry.notes.push(note),
            },
            _ => {} // Its entry was deleted; the line stays in the duty log.
        }
    }
    Ok(entries.into_iter().map(Arc::new).collect())
}

fn damaged_readings(no: u64, cause: &str) -> Note {
    Note {
        kind: NoteKind::Journal,
        subject: "journal".into(),
        text: Text::new(
            &format!("第 {no} 条记录的读数已损坏，已跳过（{cause}）"),
            &format!("the readings of entry {no} are damaged and were skipped ({cause})"),
        ),
    }
}

/// The duty log's lines of some entries, in the order they were written.
fn lines(conn: &Connection, metrics: &Metrics, from: u64, to: u64) -> Result<Vec<LogLine>, ReadError> {
    let range = params![to_sql(from), to_sql(to)];
    let mut lines = Vec::new();
    let mut statement =
        conn.prepare_cached("SELECT no, json FROM transition WHERE no BETWEEN ? AND ? ORDER BY no, id")?;
    let mut rows = statement.query(range)?;
    while let Some(row) = rows.next()? {
        let no = from_sql(row.get(0)?);
        if let Some(transition) = transition(metrics, row.get_ref(1)?.as_str().unwrap_or_default()) {
            lines.push(LogLine { no, at: transition.at, what: Logged::Transition(Box::new(transition)) });
        }
    }
    let mut statement = conn.prepare_cached(
        "SELECT no, at, kind, subject, zh, en FROM note WHERE no BETWEEN ? AND ? ORDER BY no, id",
    )?;
    let mut rows = statement.query(range)?;
    while let Some(row) = rows.next()? {
        lines.push(note(row)?);
    }
    // Stable: within an entry, transitions come before notes and each in its own order.
    lines.sort_by_key(|line| line.no);
    Ok(lines)
}

/// The newest notes, newest first.
pub(super) fn newest_notes(conn: &Connection, limit: usize) -> rusqlite::Result<Vec<LogLine>> {
    let mut statement =
        conn.prepare("SELECT no, at, kind, subject, zh, en FROM note ORDER BY id DESC LIMIT ?")?;
    let rows = statement.query_map([to_sql(limit as u64)], note)?;
    rows.collect()
}

fn note(row: &Row<'_>) -> rusqlite::Result<LogLine> {
    let at = Timestamp::from_millis(row.get(1)?);
    let kind = NoteKind::parse(&row.get::<_, String>(2)?).unwrap_or(NoteKind::Journal);
    let text = Text { zh: row.get(4)?, en: row.get(5)? };
    let note = Note { kind, subject: row.get(3)?, text };
    Ok(LogLine { no: from_sql(row.get(0)?), at, what: Logged::Note(note) })
}

fn transition(metrics: &Metrics, json: &str) -> Option<Transition> {
    told(metrics, "transition", wire::transition_from_json(json))
}

fn told<T>(metrics: &Metrics, what: &str, result: Result<T, wire::Unreadable>) -> Option<T> {
    result
        .inspect_err(|cause| {
            metrics.journal_damaged.inc();
            tracing::error!(%cause, "a stored {what} cannot be read and was skipped");
        })
        .ok()
}

/// The engine's rows. The second figure counts those that could not be read.
pub(super) fn facts(conn: &Connection, metrics: &Metrics) -> Result<(Vec<Fact>, usize), ReadError> {
    let mut statement = conn.prepare_cached(
        "SELECT f.point, f.rule, f.phase, f.due, f.hazard, h.json FROM fact f LEFT JOIN hazard h ON h.id = f.hazard",
    )?;
    let mut rows = statement.query([])?;
    let (mut facts, mut unreadable) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        match fact(row, metrics)? {
            Some(fact) => facts.push(fact),
            None => unreadable += 1,
        }
    }
    Ok((facts, unreadable))
}

fn fact(row: &Row<'_>, metrics: &Metrics) -> rusqlite::Result<Option<Fact>> {
    let (point, rule, phase): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (hazard, json): (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
    let hazard = match (hazard, json) {
        (None, _) => Ok(None),
        (Some(_), None) => Err(()),
        (Some(_), Some(json)) => told(metrics, "hazard", wire::hazard_from_json(&json)).map(Some).ok_or(()),
    };
    let phase = wire::phase(&phase, row.get(3)?);
    let (Ok(point), Ok(rule), Some(phase), Ok(hazard)) =
        (PointId::parse(&point), RuleId::parse(&rule), phase, hazard)
    else {
        tracing::error!(point, rule, "a stored alarm state cannot be read");
        return Ok(None);
    };
    Ok(Some(Fact { point, rule, phase, hazard }))
}

/// Closed hazards, newest first. A page never ends between two that closed in the same millisecond.
pub(super) fn closed_hazards(
    conn: &Connection,
    metrics: &Metrics,
    before: Option<Timestamp>,
    limit: usize,
) -> Result<Vec<Hazard>, ReadError> {
    let before = before.map_or(i64::MAX, Timestamp::as_millis);
    let mut statement = conn.prepare_cached(
        "SELECT json FROM hazard WHERE closed_at < ?1 AND closed_at >= ifnull((SELECT closed_at FROM hazard
         WHERE closed_at < ?1 ORDER BY closed_at DESC LIMIT 1 OFFSET ?2), -9223372036854775808)
         ORDER BY closed_at DESC, id DESC",
    )?;
    if limit == 0 {
        return Ok(Vec::new());
    }
    let rows =
        statement.query_map(params![before, to_sql(limit as u64 - 1)], |row| row.get::<_, String>(0))?;
    let mut hazards = Vec::new();
    for json in rows {
        hazards.extend(told(metrics, "hazard", wire::hazard_from_json(&json?)));
    }
    Ok(hazards)
}

/// Closed hazards of one point that overlap a stretch of time, last closed first.
pub(super) fn closed_hazards_of(
    conn: &Connection,
    metrics: &Metrics,
    point: &PointId,
    within: std::ops::Range<Timestamp>,
    limit: usize,
) -> Result<Vec<Hazard>, ReadError> {
    let mut statement = conn.prepare_cached(
        "SELECT json FROM hazard WHERE closed_at >= ?2 AND point = ?1 AND raised_at < ?3
         ORDER BY closed_at DESC, id DESC LIMIT ?4",
    )?;
    let (from, to) = (within.start.as_millis(), within.end.as_millis());
    let rows = statement
        .query_map(params![point.as_str(), from, to, to_sql(limit as u64)], |row| row.get::<_, String>(0))?;
    let mut hazards = Vec::new();
    for json in rows {
        hazards.extend(told(metrics, "hazard", wire::hazard_from_json(&json?)));
    }
    Ok(hazards)
}

pub(super) fn history(
    conn: &Connection,
    metrics: &Metrics,
    id: &HazardId,
) -> Result<Vec<Transition>, ReadError> {
    let mut statement = conn.prepare_cached("SELECT json FROM transition WHERE hazard = ? ORDER BY id")?;
    let rows = statement.query_map([id.as_str()], |row| row.get::<_, String>(0))?;
    let mut transitions = Vec::new();
    for json in rows {
        transitions.extend(transition(metrics, &json?));
    }
    Ok(transitions)
}

/// The duty log, newest first. A page holds whole entries: it may be a little longer than `limit`.
pub(super) fn duty_log(
    conn: &Connection,
    metrics: &Metrics,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<LogLine>, ReadError> {
    let newest = before.map_or(i64::MAX, |no| to_sql(no) - 1);
    let mut statement = conn.prepare_cached(
        "SELECT min(no), max(no) FROM (SELECT no FROM (
           SELECT no FROM (SELECT no FROM transition WHERE no <= ?1 ORDER BY no DESC LIMIT ?2)
           UNION ALL SELECT no FROM (SELECT no FROM note WHERE no <= ?1 ORDER BY no DESC LIMIT ?2))
         ORDER BY no DESC LIMIT ?2)",
    )?;
    let range: (Option<i64>, Option<i64>) =
        statement.query_row(params![newest, to_sql(limit as u64)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(from), Some(to)) = range else { return Ok(Vec::new()) };
    let mut lines = lines(conn, metrics, from_sql(from), from_sql(to))?;
    lines.reverse();
    Ok(lines)
}

pub(super) fn strays(conn: &Connection) -> Result<Vec<Stray>, ReadError> {
    let mut statement = conn.prepare_cached(
        "SELECT kind, key, device, reason, sample, first_at, last_at, count FROM stray ORDER BY last_at DESC, id DESC",
    )?;
    let mut rows = statement.query([])?;
    let mut strays = Vec::new();
    while let Some(row) = rows.next()? {
        let device: Option<String> = row.get(2)?;
        strays.push(Stray {
            kind: StrayKind::parse(&row.get::<_, String>(0)?).unwrap_or(StrayKind::Unreadable),
            key: row.get(1)?,
            device: device.and_then(|device| DeviceId::parse(&device).ok()),
            reason: row.get(3)?,
            sample: row.get(4)?,
            first_at: Timestamp::from_millis(row.get(5)?),
            last_at: Timestamp::from_millis(row.get(6)?),
            count: from_sql(row.get(7)?),
        });
    }
    Ok(strays)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn answer_by_answer_every_entry_is_given_once_and_no_answer_is_too_large(
            sizes in prop::collection::vec(prop_oneof![0..20usize, 0..3 * READINGS_AT_ONCE], 0..60)
        ) {
            let mut rest = &sizes[..];
            while !rest.is_empty() {
                let mut answer = Answer::default();
                let given = rest.iter().take_while(|&&readings| answer.takes(readings)).count();
                prop_assert_eq!(answer.entries, given);
                prop_assert!(given > 0, "nobody would come past it");
                let readings: usize = rest[..given].iter().sum();
                prop_assert!(readings <= READINGS_AT_ONCE || given == 1, "{readings} in {given} entries");
                let full = rest.get(given).is_none_or(|next| readings + next > READINGS_AT_ONCE);
                prop_assert!(full, "another one had room");
                rest = &rest[given..];
            }
        }
    }
}
