//! What can still be read of a damaged database goes into the fresh one: open hazards first of all.

use super::store::to_sql;
use crate::model::Text;
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// A table, its columns, and the order of its rows.
struct Table {
    name: &'static str,
    columns: &'static str,
    key: &'static str,
}

const fn table(name: &'static str, columns: &'static str, key: &'static str) -> Table {
    Table { name, columns, key }
}

/// In the order of their worth. A person's work first.
const LEDGER: [Table; 6] = [
    table("hazard", "id, point, signal, raised_at, closed_at, json", "id"),
    table("fact", "point, rule, phase, due, hazard", "point, rule"),
    table("document", "kind, key, json, at", "kind, key"),
    table("transition", "id, no, at, hazard, json", "id"),
    table("note", "id, no, at, kind, subject, zh, en", "id"),
    table("stray", "id, kind, key, device, reason, sample, first_at, last_at, count", "id"),
];
/// The names that blobs refer to by number. Unless all of them can be read, no blob may be copied: its numbers would
/// be given to other points.
const NAMES: [Table; 2] = [table("point", "id, name", "id"), table("code", "id, name", "id")];
/// What refers to names, and the cursors over it: what somebody still waits for first, then charts, the newest first.
const BLOBS: [Table; 11] = [
    table("cursor", "name, no", "name"),
    table("last", "point, sealed_no, reading", "point"),
    table("restamp", "first, last, shift", "first"),
    ENTRY,
    table(
        "quarantine",
        "id, kind, sender, key, bytes, no, at, link, topic, retained, reason, had, body",
        "id",
    ),
    table("rollup", ROLLUP, "width, t1"),
    table("chunk", CHUNK, "t1"),
    // Once more without the index over time, which has often gone with the rest: what is there already is passed over. By
    // number, or as earlier formats had them.
    table("rollup", ROLLUP, "id"),
    table("chunk", CHUNK, "id"),
    table("rollup", ROLLUP, "point, width, t0"),
    table("chunk", CHUNK, "point, t0"),
];
const CHUNK: &str = "point, t0, t1, n, valued, bad, min, max, sum, last, blob";
const ROLLUP: &str = "point, width, t0, t1, n, blob";
const ENTRY: Table = table("entry", "no, at, readings, receipts", "no");
/// Formats 1 and 2 had no fingerprints there.
const ENTRY_2: Table = table("entry", "no, at, readings", "no");
/// How long blobs are copied: a fire must not wait for charts. At 10 MB/s, a card's, these are 100 MB of the newest
/// entries and chunks; what is older stays in the damaged file.
const BLOBS_COPIED_FOR_MAX: Duration = Duration::from_secs(10);
/// Rows between two looks at the clock.
const ROWS_BETWEEN_LOOKS: usize = 256;
/// Numbers left free after the highest one found: the damaged part may have held newer entries, and a hazard's name
/// must never be given twice. A hundred thousand is a day at one commit a second.
pub(super) const GAP: u64 = 100_000;

/// How much was saved.
#[derive(Default)]
pub(super) struct Saved {
    facts: usize,
    hazards: usize,
    entries: usize,
    chunks: usize,
    rows: usize,
    /// Not everything that could perhaps be read was copied.
    hurried: bool,
}

impl Saved {
    /// What the duty log says about it.
    pub(super) fn told(&self, aside: &Path, cause: &str) -> Text {
        let name = aside.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let Self { facts, hazards, entries, chunks, rows, hurried } = self;
        let (left_zh, left_en) = if *hurried {
            (
                "；为尽快恢复运行，较早的数据未复制，仍在该文件中",
                "; older rows were not copied, to be running again soon, and are still in that file",
            )
        } else {
            ("", "")
        };
        Text::new(
            &format!(
                "日志数据库损坏（{cause}），已另存为 {name}，并启用新库；已恢复 {facts} 条报警状态、{hazards} 条报警、{entries} 条读数记录、{chunks} 段曲线，共 {rows} 行{left_zh}；值班日志的校验链重新开始。请人工核对现场未关闭的报警"
            ),
            &format!(
                "the journal was damaged ({cause}); it was kept as {name} and a new one begun; saved: {facts} alarm states, {hazards} hazards, {entries} entries, {chunks} chunks of charts, {rows} rows in all{left_en}; the duty log's audit chain begins anew. Check the open hazards on site"
            ),
        )
    }
}

/// Copies what can be read. A damaged source never fails it; only the fresh file can.
pub(super) fn salvage(damaged: &Path, fresh: &mut Connection) -> rusqlite::Result<Saved> {
    let mut saved = Saved::default();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(source) = Connection::open_with_flags(damaged, flags) else { return Ok(saved) };
    let target = fresh.transaction()?;
    let mut highest = 0;
    for table in &LEDGER {
        let (copied, _) = copy(&source, &target, table, None)?;
        saved.rows += copied;
        match table.name {
            "fact" => saved.facts = copied,
            "hazard" => saved.hazards = copied,
            _ => {}
        }
    }
    let mut named = true;
    for table in &NAMES {
        let (copied, complete) = copy(&source, &target, table, None)?;
        saved.rows += copied;
        named &= complete;
    }
    if named {
        let until = Instant::now() + BLOBS_COPIED_FOR_MAX;
        for table in &BLOBS {
            let (mut copied, _) = copy(&source, &target, table, Some(until))?;
            if table.name == ENTRY.name && copied == 0 {
                copied = copy(&source, &target, &ENTRY_2, Some(until))?.0;
            }
            saved.rows += copied;
            match table.name {
                "entry" => saved.entries += copied,
                "chunk" => saved.chunks += copied,
                _ => {}
            }
        }
        saved.hurried = Instant::now() >= until;
    } else {
        target.execute_batch("DELETE FROM point; DELETE FROM code")?;
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
    super::unseen::save(&source, &target)?;
    super::audit::begin(&target)?;
    target.commit()?;
    Ok(saved)
}

/// How many rows were copied, and whether these are all there were. The newest first; where that meets damage, from the
/// other end up to it.
fn copy(
    source: &Connection,
    target: &Connection,
    table: &Table,
    until: Option<Instant>,
) -> rusqlite::Result<(usize, bool)> {
    let Table { name, columns, key } = table;
    let backwards = key.replace(',', " DESC,") + " DESC";
    let (newest, complete) = copy_in_order(source, target, table, &backwards, until)?;
    if complete {
        return Ok((newest, true));
    }
    tracing::warn!(table = name, columns, rows = newest, "not all of a damaged table can be read");
    let (oldest, _) = copy_in_order(source, target, table, key, until)?;
    Ok((newest + oldest, false))
}

fn copy_in_order(
    source: &Connection,
    target: &Connection,
    table: &Table,
    order: &str,
    until: Option<Instant>,
) -> rusqlite::Result<(usize, bool)> {
    let Table { name, columns, .. } = table;
    let count = columns.split(',').count();
    let holes = vec!["?"; count].join(", ");
    let mut insert =
        target.prepare(&format!("INSERT OR IGNORE INTO \"{name}\" ({columns}) VALUES ({holes})"))?;
    let Ok(mut select) = source.prepare(&format!("SELECT {columns} FROM \"{name}\" ORDER BY {order}")) else {
        return Ok((0, false));
    };
    let Ok(mut rows) = select.query([]) else { return Ok((0, false)) };
    let (mut copied, mut complete, mut seen) = (0, true, 0);
    loop {
        match rows.next() {
            Ok(None) => return Ok((copied, complete)),
            Err(_) => return Ok((copied, false)),
            Ok(Some(row)) => {
                let cells: Result<Vec<Cell>, _> = (0..count).map(|index| row.get(index)).collect();
                // A row of a wrong type is refused by the strict table: it is not worth failing for.
                let kept =
                    cells.ok().and_then(|cells| insert.execute(params_from_iter(cells)).ok()).unwrap_or(0);
                copied += kept;
                complete &= kept == 1;
                seen += 1;
                if seen % ROWS_BETWEEN_LOOKS == 0 && until.is_some_and(|until| Instant::now() >= until) {
                    return Ok((copied, true));
                }
            }
        }
    }
}
