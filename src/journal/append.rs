//! The statements of one append, inside the writer's transaction.

use super::audit::Chain;
use super::store::to_sql;
use super::{Limits, Note, Stray, StrayKind, Write, quarantine, readings_codec, restamp, wire};
use crate::metrics::Metrics;
use crate::model::{Code, Fact, Hazard, Phase, PointId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

/// The numbers of the names that blobs refer to. Grows with the plan: a few thousand names.
#[derive(Default)]
pub(super) struct Interned {
    pub(super) points: HashMap<PointId, u32>,
    pub(super) codes: HashMap<Code, u32>,
}

/// Names first met in a transaction that is not yet committed.
#[derive(Default)]
pub(super) struct Fresh {
    pub(super) points: Vec<(u32, PointId)>,
    pub(super) codes: Vec<(u32, Code)>,
}

impl Interned {
    pub(super) fn keep(&mut self, fresh: &Fresh) {
        self.points.extend(fresh.points.iter().map(|(id, point)| (point.clone(), *id)));
        self.codes.extend(fresh.codes.iter().map(|(id, code)| (code.clone(), *id)));
    }
}

pub(super) fn write(
    conn: &Connection,
    write: &Write,
    known: &Interned,
    fresh: &mut Fresh,
    limits: &Limits,
    metrics: &Metrics,
) -> rusqlite::Result<()> {
    let entry = &write.entry;
    let (no, at) = (to_sql(entry.no), entry.at.as_millis());
    let blob = if entry.readings.is_empty() { None } else { Some(pack(conn, write, known, fresh)?) };
    // In the entry's own row: a commit of readings alone writes one page.
    let receipts: Option<Vec<u8>> = (!write.receipts.is_empty())
        .then(|| write.receipts.iter().flat_map(|receipt| receipt.to_be_bytes()).collect());
    conn.prepare_cached("INSERT INTO entry (no, at, readings, receipts) VALUES (?, ?, ?, ?)")?
        .execute(params![no, at, blob, receipts])?;
    write_lines(conn, write)?;
    write.facts.iter().try_for_each(|fact| write_fact(conn, fact))?;
    write.restamp.iter().try_for_each(|anew| restamp::write(conn, anew))?;
    write.strays.iter().try_for_each(|stray| write_stray(conn, stray, limits, metrics))?;
    quarantine::write(conn, no, &write.quarantine, limits, metrics)
}

/// The duty log's lines, each with its row of the audit chain.
fn write_lines(conn: &Connection, write: &Write) -> rusqlite::Result<()> {
    let entry = &write.entry;
    if entry.transitions.is_empty() && entry.notes.is_empty() {
        return Ok(());
    }
    let mut chain = Chain::at_its_end(conn)?;
    let no = to_sql(entry.no);
    for transition in &entry.transitions {
        let json = wire::transition_to_json(transition);
        chain.transition(no, transition.at.as_millis(), transition.hazard.id.as_str(), &json)?;
        write_hazard(conn, &transition.hazard)?;
    }
    for Note { kind, subject, text } in &entry.notes {
        chain.note(no, entry.at.as_millis(), [kind.name(), subject, &text.zh, &text.en])?;
    }
    Ok(())
}

fn pack(conn: &Connection, write: &Write, known: &Interned, fresh: &mut Fresh) -> rusqlite::Result<Vec<u8>> {
    let mut new = Interned::default();
    readings_codec::encode(
        &write.entry.readings,
        |point| match known.points.get(point).or_else(|| new.points.get(point)) {
            Some(&id) => Ok(id),
            None => {
                let id = intern(conn, "point", point.as_str())?;
                fresh.points.push((id, point.clone()));
                new.points.insert(point.clone(), id);
                Ok(id)
            }
        },
        |code| match known
            .codes
            .get(code)
            .or_else(|| fresh.codes.iter().find(|(_, c)| c == code).map(|(id, _)| id))
        {
            Some(&id) => Ok(id),
            None => {
                let id = intern(conn, "code", code)?;
                fresh.codes.push((id, code.clone()));
                Ok(id)
            }
        },
    )
}

/// The number of a name, given now if it has none.
fn intern(conn: &Connection, table: &str, name: &str) -> rusqlite::Result<u32> {
    conn.prepare_cached(&format!("INSERT OR IGNORE INTO {table} (name) VALUES (?)"))?.execute([name])?;
    conn.prepare_cached(&format!("SELECT id FROM {table} WHERE name = ?"))?
        .query_row([name], |row| row.get(0))
}

fn write_hazard(conn: &Connection, hazard: &Hazard) -> rusqlite::Result<()> {
    let closed_at = hazard.closed.as_ref().map(|signature| signature.at.as_millis());
    conn.prepare_cached(
        "INSERT INTO hazard (id, point, signal, raised_at, closed_at, json) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (id) DO UPDATE SET closed_at = ?5, json = ?6",
    )?
    .execute(params![
        hazard.id.as_str(),
        hazard.point.as_str(),
        hazard.signal.name(),
        hazard.raised_at.as_millis(),
        closed_at,
        wire::hazard_to_json(hazard)
    ])?;
    Ok(())
}

fn write_fact(conn: &Connection, fact: &Fact) -> rusqlite::Result<()> {
    let (point, rule) = (fact.point.as_str(), fact.rule.as_str());
    if fact.phase == Phase::Normal && fact.hazard.is_none() {
        conn.prepare_cached("DELETE FROM fact WHERE point = ? AND rule = ?")?.execute([point, rule])?;
        return Ok(());
    }
    if let Some(hazard) = &fact.hazard {
        write_hazard(conn, hazard)?;
    }
    let due = fact.phase.due().map(Timestamp::as_millis);
    let hazard = fact.hazard.as_ref().map(|hazard| hazard.id.as_str());
    conn.prepare_cached(
        "INSERT INTO fact (point, rule, phase, due, hazard) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (point, rule) DO UPDATE SET phase = ?3, due = ?4, hazard = ?5",
    )?
    .execute(params![point, rule, fact.phase.name(), due, hazard])?;
    Ok(())
}

fn write_stray(conn: &Connection, stray: &Stray, limits: &Limits, metrics: &Metrics) -> rusqlite::Result<()> {
    let kind = stray.kind.name();
    let device = stray.device.as_ref().map(|device| device.as_str());
    let sample = &stray.sample[..stray.sample.len().min(super::SAMPLE_BYTES_MAX)];
    let known: Option<i64> = conn
        .prepare_cached("SELECT id FROM stray WHERE kind = ? AND key = ?")?
        .query_row(params![kind, stray.key], |row| row.get(0))
        .optional()?;
    let count = to_sql(stray.count);
    if let Some(id) = known {
        conn.prepare_cached(
            "UPDATE stray SET device = ?2, reason = ?3, sample = ?4, first_at = min(first_at, ?5),
             last_at = max(last_at, ?6), count = count + ?7 WHERE id = ?1",
        )?
        .execute(params![
            id,
            device,
            stray.reason,
            sample,
            stray.first_at.as_millis(),
            stray.last_at.as_millis(),
            count
        ])?;
        return Ok(());
    }
    conn.prepare_cached(
        "INSERT INTO stray (kind, key, device, reason, sample, first_at, last_at, count) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        kind,
        stray.key,
        device,
        stray.reason,
        sample,
        stray.first_at.as_millis(),
        stray.last_at.as_millis(),
        count
    ])?;
    evict_strays(conn, stray, limits, metrics)
}

/// The row just written stays; the one that was silent longest goes.
fn evict_strays(
    conn: &Connection,
    stray: &Stray,
    limits: &Limits,
    metrics: &Metrics,
) -> rusqlite::Result<()> {
    let newest = conn.last_insert_rowid();
    let kind = stray.kind.name();
    let evict = |filter: &str, device: Option<&str>, max: usize| -> rusqlite::Result<()> {
        let held: usize = conn
            .prepare_cached(&format!("SELECT count(*) FROM stray WHERE kind = ?1 AND {filter}"))?
            .query_row(params![kind, device], |row| row.get::<_, i64>(0))?
            .try_into()
            .unwrap_or(0);
        let surplus = i64::try_from(held.saturating_sub(max)).unwrap_or(0);
        if surplus > 0 {
            let gone = conn
                .prepare_cached(&format!(
                    "DELETE FROM stray WHERE id IN (SELECT id FROM stray WHERE kind = ?1 AND {filter} AND id <> ?3
                     ORDER BY last_at, id LIMIT ?4) RETURNING key"
                ))?
                .query_map(params![kind, device, newest, surplus], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            metrics.strays_dropped.inc_by(gone.len() as u64);
            // What is kept is what is listed.
            gone.iter().try_for_each(|key| quarantine::forget(conn, kind, key, metrics))?;
        }
        Ok(())
    };
    match stray.kind {
        StrayKind::Unknown => evict("?2 IS NULL", None, limits.strays_unknown_max),
        StrayKind::Unreadable => {
            let device = stray.device.as_ref().map(|device| device.as_str());
            evict("device IS ?2", device, limits.strays_unreadable_per_device_max)?;
            evict("?2 IS NULL", None, limits.strays_unreadable_max)
        }
    }
}

pub(super) fn write_cursors(conn: &Connection, cursors: &[(String, u64)]) -> rusqlite::Result<()> {
    for (name, no) in cursors {
        write_cursor(conn, name, *no)?;
    }
    Ok(())
}

/// Writes one cursor in somebody's transaction.
pub(super) fn write_cursor(conn: &Connection, name: &str, no: u64) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO cursor (name, no) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET no = ?2",
    )?
    .execute(params![name, to_sql(no)])?;
    Ok(())
}
