//! What can still be read of a damaged database goes into the fresh one: open hazards first of all.

use super::store::to_sql;
use crate::model::Text;
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use std::path::Path;

/// Table and columns, in the order of their worth. A person's work first.
const LEDGER: [(&str, &str); 6] = [
    ("hazard", "id, point, signal, raised_at, closed_at, json"),
    ("fact", "point, rule, phase, due, hazard"),
    ("document", "kind, key, json, at"),
    ("transition", "no, at, hazard, json"),
    ("note", "no, at, kind, subject, zh, en"),
    ("stray", "kind, key, device, reason, sample, first_at, last_at, count"),
];
/// The names that blobs refer to by number. Unless all of them can be read, no blob may be copied: its numbers would
/// be given to other points.
const NAMES: [(&str, &str); 2] = [("point", "id, name"), ("code", "id, name")];
/// What refers to names, and the cursors over it.
const BLOBS: [(&str, &str); 6] = [
    ("entry", "no, at, readings, receipts"),
    ("restamp", "first, last, shift"),
    ("cursor", "name, no"),
    ("chunk", "point, t0, t1, n, valued, bad, min, max, sum, last, blob"),
    ("rollup", "point, width, t0, t1, n, blob"),
    ("last", "point, sealed_no, reading"),
];
/// Blobs of a larger file are left behind: copying them would keep the gateway from starting for minutes (256 MiB at
/// 10 MB/s on a card are half a minute).
const BLOBS_COPIED_BYTES_MAX: u64 = 256 << 20;
/// Numbers left free after the highest one found: the damaged part may have held newer entries, and a hazard's name
/// must never be given twice. A hundred thousand is a day at one commit a second.
pub(super) const GAP: u64 = 100_000;

/// How much was saved.
pub(super) struct Saved {
    facts: usize,
    hazards: usize,
    rows: usize,
}

impl Saved {
    /// What the duty log says about it.
    pub(super) fn told(&self, aside: &Path, cause: &str) -> Text {
        let name = aside.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let Self { facts, hazards, rows } = self;
        Text::new(
            &format!(
                "日志数据库损坏（{cause}），已另存为 {name}，并启用新库；已恢复 {facts} 条报警状态、{hazards} 条报警、共 {rows} 行记录。请人工核对现场未关闭的报警"
            ),
            &format!(
                "the journal was damaged ({cause}); it was kept as {name} and a new one begun; saved: {facts} alarm states, {hazards} hazards, {rows} rows in all. Check the open hazards on site"
            ),
        )
    }
}

/// Copies what can be read. A damaged source never fails it; only the fresh file can.
pub(super) fn salvage(damaged: &Path, fresh: &mut Connection) -> rusqlite::Result<Saved> {
    let mut saved = Saved { facts: 0, hazards: 0, rows: 0 };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(source) = Connection::open_with_flags(damaged, flags) else { return Ok(saved) };
    let target = fresh.transaction()?;
    let mut highest = 0;
    for (table, columns) in LEDGER {
        let (copied, _) = copy(&source, &target, table, columns)?;
        saved.rows += copied;
        match table {
            "fact" => saved.facts = copied,
            "hazard" => saved.hazards = copied,
            _ => {}
        }
    }
    let small = std::fs::metadata(damaged).is_ok_and(|found| found.len() <= BLOBS_COPIED_BYTES_MAX);
    let mut named = true;
    for (table, columns) in NAMES {
        let (copied, complete) = copy(&source, &target, table, columns)?;
        saved.rows += copied;
        named &= complete;
    }
    if !named {
        target.execute_batch("DELETE FROM point; DELETE FROM code")?;
    } else if small {
        for (table, columns) in BLOBS {
            saved.rows += copy(&source, &target, table, columns)?.0;
        }
    }
    for question in [
        "SELECT max(no) FROM entry",
        "SELECT max(no) FROM transition",
        "SELECT max(no) FROM note",
        "SELECT max(no) FROM cursor",
        "SELECT max(value) FROM meta WHERE key = 'begun_after'",
    ] {
        let found = source.query_row(question, [], |row| row.get::<_, Option<i64>>(0));
        highest = highest.max(found.ok().flatten().unwrap_or(0));
    }
    // A hazard's name begins with the number of its entry.
    let named = target.query_row("SELECT max(CAST(id AS INTEGER)) FROM hazard", [], |row| row.get(0));
    highest = highest.max(named.ok().flatten().unwrap_or(0));
    if highest > 0 {
        let begun_after = highest.saturating_add(to_sql(GAP));
        target.execute("INSERT OR REPLACE INTO meta VALUES ('begun_after', ?)", [begun_after])?;
    }
    super::audit::begin(&target)?;
    target.commit()?;
    Ok(saved)
}

/// How many rows were copied, and whether these are all there were.
fn copy(
    source: &Connection,
    target: &Connection,
    table: &str,
    columns: &str,
) -> rusqlite::Result<(usize, bool)> {
    let count = columns.split(',').count();
    let holes = vec!["?"; count].join(", ");
    let mut insert =
        target.prepare(&format!("INSERT OR IGNORE INTO \"{table}\" ({columns}) VALUES ({holes})"))?;
    let Ok(mut select) = source.prepare(&format!("SELECT {columns} FROM \"{table}\"")) else {
        return Ok((0, false));
    };
    let Ok(mut rows) = select.query([]) else { return Ok((0, false)) };
    let (mut copied, mut complete) = (0, true);
    loop {
        match rows.next() {
            Ok(None) => return Ok((copied, complete)),
            // The first error is the end of what can be read of this table.
            Err(_) => return Ok((copied, false)),
            Ok(Some(row)) => {
                let cells: Result<Vec<Cell>, _> = (0..count).map(|index| row.get(index)).collect();
                // A row of a wrong type is refused by the strict table: it is not worth failing for.
                let kept =
                    cells.ok().and_then(|cells| insert.execute(params_from_iter(cells)).ok()).unwrap_or(0);
                copied += kept;
                complete &= kept == 1;
            }
        }
    }
}
