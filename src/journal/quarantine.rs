//! The quarantine's rows: whole frames that could not be read, bounded for each sender and in all.
//!
//! A sender is a planned device, or the topic of a stranger. Its oldest frames go first, and when all of them together are
//! too many the sender that holds most gives way: one that babbles pushes out its own frames and nobody else's. Strangers
//! and planned devices have bounds of their own.

use super::store::{from_sql, to_sql};
use super::{Limits, QuarantineChange, QuarantineGroup, ReadError, StrayKind};
use crate::capture::{blocks_from_text, blocks_to_text};
use crate::metrics::Metrics;
use crate::model::{Body, DeviceId, LinkId, Quarantined, Timestamp, Wanted};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeSet;

/// Frames in one answer. With the bytes below, an answer is a megabyte and one frame at most.
const FRAMES_AT_ONCE: i64 = 256;
/// Bytes of frames in one answer.
const BYTES_AT_ONCE: usize = 1 << 20;
/// Frames deleted for their age or for want of room at once: 64 × 2 kB are some 60 pages.
const ROWS_AT_ONCE: i64 = 64;

fn kind_of(frame: &Quarantined) -> StrayKind {
    if frame.planned { StrayKind::Unreadable } else { StrayKind::Unknown }
}

/// The statements of one append.
pub(super) fn write(
    conn: &Connection,
    no: i64,
    changes: &[QuarantineChange],
    limits: &Limits,
    metrics: &Metrics,
) -> rusqlite::Result<()> {
    let mut grown = BTreeSet::new();
    for change in changes {
        match change {
            QuarantineChange::Keep(frame) => {
                insert(conn, no, frame)?;
                grown.insert((kind_of(frame).name(), frame.sender()));
            }
            QuarantineChange::Renew(frame) => {
                renew(conn, frame)?;
                grown.insert((kind_of(frame).name(), frame.sender()));
            }
            QuarantineChange::Release(id) => release(conn, *id)?,
        }
    }
    let mut dropped = 0;
    for (kind, sender) in &grown {
        dropped += bound_sender(conn, kind, sender, limits)?;
    }
    for kind in grown.iter().map(|(kind, _)| *kind).collect::<BTreeSet<_>>() {
        dropped += bound_all(conn, kind, limits)?;
    }
    metrics.quarantine_dropped.inc_by(dropped);
    Ok(())
}

fn insert(conn: &Connection, no: i64, frame: &Quarantined) -> rusqlite::Result<()> {
    let text;
    let (topic, body): (Option<&str>, &[u8]) = match &frame.body {
        Body::Message { topic, payload } | Body::Presence { topic, payload, .. } => (Some(topic), payload),
        Body::Registers { blocks, .. } => {
            text = blocks_to_text(blocks);
            (None, text.as_bytes())
        }
    };
    conn.prepare_cached(
        "INSERT INTO quarantine (kind, sender, key, bytes, no, at, link, topic, retained, reason, had, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        kind_of(frame).name(),
        frame.sender(),
        frame.key(),
        to_sql(body.len() as u64),
        no,
        frame.at.as_millis(),
        frame.link.as_str(),
        topic,
        frame.retained,
        frame.reason,
        frame.had,
        body
    ])?;
    Ok(())
}

/// A frame that still cannot be read: why is known better, and perhaps whose it is.
fn renew(conn: &Connection, frame: &Quarantined) -> rusqlite::Result<()> {
    let (kind, sender, key) = (kind_of(frame).name(), frame.sender(), frame.key());
    let before: Option<(String, String)> = conn
        .prepare_cached("SELECT kind, sender FROM quarantine WHERE id = ?")?
        .query_row([frame.id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((old_kind, old_sender)) = before else { return Ok(()) };
    conn.prepare_cached("UPDATE quarantine SET kind = ?2, sender = ?3, reason = ?4, had = ?5 WHERE id = ?1")?
        .execute(params![frame.id, kind, sender, frame.reason, frame.had])?;
    let device = frame.device.as_ref().map(DeviceId::as_str);
    if old_kind != kind {
        // What stands for it on the page goes over with its first frame.
        conn.prepare_cached(
            "UPDATE stray SET kind = ?1, device = ?2 WHERE kind = ?3 AND key = ?4
             AND NOT EXISTS (SELECT 1 FROM stray WHERE kind = ?1 AND key = ?4)",
        )?
        .execute(params![kind, device, old_kind, key])?;
        forget_empty(conn, &old_kind, &old_sender, &key)?;
    }
    // What stands for it on the page says the same.
    conn.prepare_cached("UPDATE stray SET reason = ?3 WHERE kind = ?1 AND key = ?2")?.execute(params![
        kind,
        key,
        frame.reason
    ])?;
    Ok(())
}

/// With the last frame of a key nothing is left for a person to do.
fn forget_empty(conn: &Connection, kind: &str, sender: &str, key: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "DELETE FROM stray WHERE kind = ?1 AND key = ?3
         AND NOT EXISTS (SELECT 1 FROM quarantine WHERE kind = ?1 AND sender = ?2 AND key = ?3)",
    )?
    .execute([kind, sender, key])?;
    Ok(())
}

/// Its frame was decoded.
fn release(conn: &Connection, id: i64) -> rusqlite::Result<()> {
    let gone: Option<(String, String, String)> = conn
        .prepare_cached("DELETE FROM quarantine WHERE id = ? RETURNING kind, sender, key")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match gone {
        Some((kind, sender, key)) => forget_empty(conn, &kind, &sender, &key),
        None => Ok(()),
    }
}

/// Its sender is no longer listed.
pub(super) fn forget(conn: &Connection, kind: &str, key: &str, metrics: &Metrics) -> rusqlite::Result<()> {
    let gone =
        conn.prepare_cached("DELETE FROM quarantine WHERE kind = ? AND key = ?")?.execute([kind, key])?;
    metrics.quarantine_dropped.inc_by(gone as u64);
    Ok(())
}

/// What is held by whom, as frames and bytes.
fn held(conn: &Connection, of: &str, kind: &str, sender: Option<&str>) -> rusqlite::Result<(i64, i64)> {
    conn.prepare_cached(&format!(
        "SELECT count(*), ifnull(sum(bytes), 0) FROM quarantine WHERE kind = ?1 AND {of}"
    ))?
    .query_row(params![kind, sender], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The newest frame stays, however large it is.
fn bound_sender(conn: &Connection, kind: &str, sender: &str, limits: &Limits) -> rusqlite::Result<u64> {
    let (mut frames, mut bytes) = held(conn, "sender = ?2", kind, Some(sender))?;
    let (frames_max, bytes_max) =
        (to_sql(limits.quarantine_sender_frames_max), to_sql(limits.quarantine_sender_bytes_max));
    let mut dropped = 0;
    while frames > 1 && (frames > frames_max || bytes > bytes_max) {
        bytes -= delete_oldest(conn, kind, sender)?;
        frames -= 1;
        dropped += 1;
    }
    Ok(dropped)
}

fn bound_all(conn: &Connection, kind: &str, limits: &Limits) -> rusqlite::Result<u64> {
    let (frames_max, bytes_max) = match kind == StrayKind::Unknown.name() {
        true => (limits.quarantine_unknown_frames_max, limits.quarantine_unknown_bytes_max),
        false => (limits.quarantine_frames_max, limits.quarantine_bytes_max),
    };
    let (frames_max, bytes_max) = (to_sql(frames_max), to_sql(bytes_max));
    let (mut frames, mut bytes) = held(conn, "?2 IS NULL", kind, None)?;
    if frames <= frames_max && bytes <= bytes_max {
        return Ok(0);
    }
    let mut statement = conn.prepare_cached(
        "SELECT sender, count(*), sum(bytes), min(id) FROM quarantine WHERE kind = ? GROUP BY sender",
    )?;
    let mut senders = statement
        .query_map([kind], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
            ))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut dropped = 0;
    while frames > frames_max || bytes > bytes_max {
        // Whoever holds most, by what there is too much of; of several the one that was there first.
        let too_many = frames > frames_max;
        let most = senders
            .iter_mut()
            .max_by_key(|(_, held, bytes, first)| (if too_many { *held } else { *bytes }, -*first));
        let Some((sender, held, held_bytes, _)) = most else { return Ok(dropped) };
        let gone = delete_oldest(conn, kind, sender)?;
        *held -= 1;
        *held_bytes -= gone;
        bytes -= gone;
        frames -= 1;
        dropped += 1;
    }
    Ok(dropped)
}

/// Deletes a sender's oldest frame and says how large it was.
fn delete_oldest(conn: &Connection, kind: &str, sender: &str) -> rusqlite::Result<i64> {
    conn.prepare_cached(
        "DELETE FROM quarantine WHERE id = (SELECT min(id) FROM quarantine WHERE kind = ? AND sender = ?) RETURNING bytes",
    )?
    .query_row([kind, sender], |row| row.get(0))
}

/// Entries were dated anew: so were the frames that came with them.
pub(super) fn restamp(conn: &Connection, restamp: &super::Restamp) -> rusqlite::Result<()> {
    conn.execute(
        "UPDATE quarantine SET at = at + ?3 WHERE no BETWEEN ?1 AND ?2",
        params![to_sql(restamp.first), to_sql(restamp.last), restamp.shift.as_millis()],
    )?;
    Ok(())
}

/// Deletes a few of the oldest frames, if they arrived before a time. False: none did.
pub(super) fn delete_before(
    conn: &Connection,
    before: Timestamp,
    metrics: &Metrics,
) -> rusqlite::Result<bool> {
    let gone = conn
        .prepare_cached(
            "DELETE FROM quarantine WHERE at < ?1 AND id IN (SELECT id FROM quarantine ORDER BY id LIMIT ?2)",
        )?
        .execute(params![before.as_millis(), ROWS_AT_ONCE])?;
    metrics.quarantine_dropped.inc_by(gone as u64);
    Ok(gone > 0)
}

/// How many frames of which key there are.
pub(super) fn groups(conn: &Connection) -> Result<Vec<QuarantineGroup>, ReadError> {
    let mut statement = conn.prepare_cached(
        "SELECT kind, sender, key, count(*), sum(bytes) FROM quarantine GROUP BY kind, sender, key",
    )?;
    let rows = statement.query_map([], |row| {
        let kind = StrayKind::parse(&row.get::<_, String>(0)?).unwrap_or(StrayKind::Unreadable);
        let sender: String = row.get(1)?;
        let device = (kind == StrayKind::Unreadable).then(|| DeviceId::parse(&sender).ok()).flatten();
        let (frames, bytes) = (from_sql(row.get(3)?), from_sql(row.get(4)?));
        Ok(QuarantineGroup { kind, device, key: row.get(2)?, frames, bytes })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Frames after a number, the oldest first: a bounded answer, and only an empty one says that there are no more.
pub(super) fn frames(
    conn: &Connection,
    wanted: &Wanted,
    after: i64,
    metrics: &Metrics,
) -> Result<Vec<Quarantined>, ReadError> {
    let mut statement = conn.prepare_cached(
        "SELECT id, kind, sender, key, at, link, topic, retained, reason, had, body FROM quarantine
         WHERE id > ?1 AND (?2 IS NULL OR (kind = 'unreadable' AND sender = ?2)) AND (?3 IS NULL OR key = ?3)
         ORDER BY id LIMIT ?4",
    )?;
    let device = wanted.device.as_ref().map(DeviceId::as_str);
    let mut rows = statement.query(params![after, device, wanted.key, FRAMES_AT_ONCE])?;
    let (mut frames, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        match frame(row)? {
            Some(frame) => {
                bytes += row.get_ref(10)?.as_blob().map_or(0, <[u8]>::len);
                frames.push(frame);
            }
            None => _ = metrics.journal_damaged.inc(),
        }
        if bytes >= BYTES_AT_ONCE {
            break;
        }
    }
    Ok(frames)
}

fn frame(row: &Row<'_>) -> rusqlite::Result<Option<Quarantined>> {
    let (kind, sender, key, link): (String, String, String, String) =
        (row.get(1)?, row.get(2)?, row.get(3)?, row.get(5)?);
    let body = row.get_ref(10)?.as_blob().unwrap_or_default();
    let body = match row.get::<_, Option<String>>(6)? {
        Some(topic) => Some(Body::Message { topic: topic.into(), payload: body.to_vec().into() }),
        None => {
            let blocks = std::str::from_utf8(body).ok().and_then(|text| blocks_from_text(text).ok());
            let device = key.strip_prefix(&link).and_then(|device| DeviceId::parse(device.trim_start()).ok());
            blocks.zip(device).map(|(blocks, device)| Body::Registers { device, blocks })
        }
    };
    let planned = kind == StrayKind::Unreadable.name();
    // A message that names no device is its own sender.
    let device = if planned { DeviceId::parse(&sender).ok() } else { None };
    let (Some(body), Ok(link)) = (body, LinkId::parse(&link)) else {
        tracing::error!(key, "a frame in quarantine cannot be read back and was skipped");
        return Ok(None);
    };
    Ok(Some(Quarantined {
        id: row.get(0)?,
        device,
        planned,
        link,
        body,
        at: Timestamp::from_millis(row.get(4)?),
        retained: row.get(7)?,
        reason: row.get(8)?,
        had: row.get(9)?,
    }))
}
