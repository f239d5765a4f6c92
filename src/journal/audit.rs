//! The hash chain over the duty log: every line (transition or note) gets a row of `audit` in its own transaction.
//!
//! `digest` is the SHA-256 of all the line's columns, `chain` the SHA-256 of the chain before it and of the row: who
//! changes, removes, inserts or moves a line must change every row after it, and so the head. The head is written where
//! nobody can change it together with the file (a backup's manifest, the health page, a duty book).
//!
//! What is deleted by age or for want of room stays provable: each such step is a row of the chain itself that says up
//! to which line was deleted. Rows of lines that are all gone are deleted as well, up to one that stays as the anchor: its
//! `chain` is what the next row builds on, the rest of it is blank, and a later row says up to where the rows went.
//! A file that was begun after a damaged one begins a new chain; so does a file that was written before there was one.
//!
//! What a chain without a secret cannot show is a file that was rewritten from some line to its end, by somebody who
//! computed all rows anew: that is what the head that was written down elsewhere is compared for.

use super::store::{from_sql, to_sql};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// A SHA-256 sum.
pub(super) type Sum = [u8; 32];

/// What stands before the first row.
const NOTHING: Sum = [0; 32];

/// The kinds of rows, as they are stored.
pub(super) const BEGUN: i64 = 0;
pub(super) const TRANSITION: i64 = 1;
pub(super) const NOTE: i64 = 2;
pub(super) const NOTES_GONE: i64 = 3;
pub(super) const TRANSITIONS_GONE: i64 = 4;
pub(super) const ROWS_GONE: i64 = 5;
pub(super) const ANCHOR: i64 = 6;

/// Where the chain stands: how many rows there ever were, and the sum of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Rows since the chain was begun.
    pub count: u64,
    /// The last row's sum.
    pub chain: [u8; 32],
}

impl Default for AuditHead {
    fn default() -> Self {
        Self { count: 0, chain: NOTHING }
    }
}

/// `count:hex`, for a person to write down.
impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.count)?;
        self.chain.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no head of the audit chain: write it as it was shown, like 1234:9f86d0…, 64 digits after the colon"
)]
pub struct NoHead(String);

impl FromStr for AuditHead {
    type Err = NoHead;
    fn from_str(text: &str) -> Result<Self, NoHead> {
        let wrong = || NoHead(text.to_owned());
        let (count, hex) = text.trim().split_once(':').ok_or_else(wrong)?;
        let mut head = Self { count: count.parse().map_err(|_| wrong())?, chain: NOTHING };
        let (digits, []) = hex.as_bytes().as_chunks::<2>() else { return Err(wrong()) };
        if digits.len() != head.chain.len() {
            return Err(wrong());
        }
        for (byte, digits) in head.chain.iter_mut().zip(digits) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(head)
    }
}

/// A row of the chain without its sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) seq: i64,
    pub(super) kind: i64,
    pub(super) line: i64,
    pub(super) no: i64,
    pub(super) at: i64,
    pub(super) digest: Sum,
}

impl Link {
    /// The sum of the row after `before`.
    pub(super) fn chained(&self, before: &Sum) -> Sum {
        let mut sum = Sha256::new();
        sum.update(before);
        for figure in [self.seq, self.kind, self.line, self.no, self.at] {
            sum.update(figure.to_be_bytes());
        }
        sum.update(self.digest);
        sum.finalize().into()
    }
}

/// The sum of a transition's columns.
pub(super) fn transition_digest(id: i64, no: i64, at: i64, hazard: &str, json: &str) -> Sum {
    digest(b"transition", [id, no, at], &[hazard, json])
}

/// The sum of a note's columns.
pub(super) fn note_digest(id: i64, no: i64, at: i64, words: [&str; 4]) -> Sum {
    digest(b"note", [id, no, at], &words)
}

/// Every part with its length before it, so that no two different lines have the same bytes.
fn digest(table: &[u8], figures: [i64; 3], words: &[&str]) -> Sum {
    let mut sum = Sha256::new();
    let mut put = |bytes: &[u8]| {
        sum.update((bytes.len() as u64).to_be_bytes());
        sum.update(bytes);
    };
    put(table);
    figures.iter().for_each(|figure| put(&figure.to_be_bytes()));
    words.iter().for_each(|word| put(word.as_bytes()));
    sum.finalize().into()
}

/// The end of the chain as the database has it. Read anew in each transaction that adds to it (few do): what was rolled
/// back cannot be remembered by mistake.
pub(super) fn head(conn: &Connection) -> rusqlite::Result<AuditHead> {
    let mut statement = conn.prepare_cached("SELECT seq, chain FROM audit ORDER BY seq DESC LIMIT 1")?;
    let head =
        statement.query_row([], |row| Ok(AuditHead { count: from_sql(row.get(0)?), chain: row.get(1)? }));
    Ok(head.optional()?.unwrap_or_default())
}

/// Adds to the chain, in somebody's transaction.
pub(super) struct Chain<'c> {
    conn: &'c Connection,
    head: AuditHead,
}

impl<'c> Chain<'c> {
    pub(super) fn at_its_end(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self { conn, head: head(conn)? })
    }

    pub(super) fn add(
        &mut self,
        kind: i64,
        line: i64,
        no: i64,
        at: i64,
        digest: Sum,
    ) -> rusqlite::Result<()> {
        let seq = to_sql(self.head.count + 1);
        let chain = Link { seq, kind, line, no, at, digest }.chained(&self.head.chain);
        self.conn
            .prepare_cached(
                "INSERT INTO audit (seq, kind, line, no, at, digest, chain) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![seq, kind, line, no, at, digest, chain])?;
        self.head = AuditHead { count: self.head.count + 1, chain };
        Ok(())
    }

    /// Writes a transition and its row.
    pub(super) fn transition(&mut self, no: i64, at: i64, hazard: &str, json: &str) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached("INSERT INTO transition (no, at, hazard, json) VALUES (?, ?, ?, ?)")?
            .execute(params![no, at, hazard, json])?;
        let id = self.conn.last_insert_rowid();
        self.add(TRANSITION, id, no, at, transition_digest(id, no, at, hazard, json))
    }

    /// Writes a note and its row. `words`: kind, subject, Chinese, English.
    pub(super) fn note(&mut self, no: i64, at: i64, words: [&str; 4]) -> rusqlite::Result<()> {
        let [kind, subject, zh, en] = words;
        self.conn
            .prepare_cached("INSERT INTO note (no, at, kind, subject, zh, en) VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![no, at, kind, subject, zh, en])?;
        let id = self.conn.last_insert_rowid();
        self.add(NOTE, id, no, at, note_digest(id, no, at, words))
    }
}

/// Begins a chain over the lines that are there, in the order they were written: at the first start of a version that has
/// chains, and after a damaged file was replaced.
pub(super) fn begin(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch("DELETE FROM audit")?;
    let mut chain = Chain::at_its_end(conn)?;
    chain.add(BEGUN, 0, to_sql(super::read::head(conn)?), 0, NOTHING)?;
    // Transitions before notes within an entry, as an append writes them.
    let mut order = conn
        .prepare("SELECT no, 1, id FROM transition UNION ALL SELECT no, 2, id FROM note ORDER BY 1, 2, 3")?;
    let mut rows = order.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, id): (i64, i64) = (row.get(1)?, row.get(2)?);
        if let Some(Line { no, at, digest }) = line(conn, kind, id)? {
            chain.add(kind, id, no, at, digest)?;
        }
    }
    Ok(())
}

/// A line as it stands in its table.
pub(super) struct Line {
    pub(super) no: i64,
    pub(super) at: i64,
    pub(super) digest: Sum,
}

/// The line of that id; `None` when it is gone.
pub(super) fn line(conn: &Connection, kind: i64, id: i64) -> rusqlite::Result<Option<Line>> {
    let text = |row: &Row<'_>, index| -> rusqlite::Result<String> {
        Ok(String::from_utf8_lossy(row.get_ref(index)?.as_bytes()?).into_owned())
    };
    if kind == TRANSITION {
        let mut statement =
            conn.prepare_cached("SELECT no, at, hazard, json FROM transition WHERE id = ?")?;
        statement
            .query_row([id], |row| {
                let (no, at) = (row.get(0)?, row.get(1)?);
                Ok(Line { no, at, digest: transition_digest(id, no, at, &text(row, 2)?, &text(row, 3)?) })
            })
            .optional()
    } else {
        let mut statement =
            conn.prepare_cached("SELECT no, at, kind, subject, zh, en FROM note WHERE id = ?")?;
        statement
            .query_row([id], |row| {
                let (no, at) = (row.get(0)?, row.get(1)?);
                let words = [text(row, 2)?, text(row, 3)?, text(row, 4)?, text(row, 5)?];
                let digest = note_digest(id, no, at, words.each_ref().map(String::as_str));
                Ok(Line { no, at, digest })
            })
            .optional()
    }
}

/// Deletes lines of one table up to an id and says so in the chain, then the rows of the chain that nothing needs any
/// more, `rows_at_once` or more of them. The newest line of a table always stays, or its id would be given out again.
pub(super) fn delete_lines(
    conn: &Connection,
    kind: i64,
    up_to: i64,
    at: i64,
    rows_at_once: i64,
) -> rusqlite::Result<usize> {
    let (table, told) =
        if kind == TRANSITION { ("transition", TRANSITIONS_GONE) } else { ("note", NOTES_GONE) };
    // What the chain says must be what was deleted, or it would excuse who removes the newest line by hand.
    let last: Option<i64> = conn
        .prepare_cached(&format!(
            "SELECT max(id) FROM {table} WHERE id <= ? AND id < (SELECT max(id) FROM {table})"
        ))?
        .query_row([up_to], |row| row.get(0))?;
    let Some(last) = last else { return Ok(0) };
    let gone = conn.prepare_cached(&format!("DELETE FROM {table} WHERE id <= ?"))?.execute([last])?;
    let mut chain = Chain::at_its_end(conn)?;
    chain.add(told, last, 0, at, NOTHING)?;
    delete_rows(conn, &mut chain, at, rows_at_once)?;
    Ok(gone)
}

fn delete_rows(conn: &Connection, chain: &mut Chain<'_>, at: i64, at_once: i64) -> rusqlite::Result<()> {
    // The first row whose line is still there: all before it, of both tables, are gone, and were told to be gone later on.
    let oldest = |kind: i64, table: &str| -> rusqlite::Result<i64> {
        let question = format!(
            "SELECT seq FROM audit WHERE kind = {kind} AND line = (SELECT min(id) FROM {table}) ORDER BY seq LIMIT 1"
        );
        let found = conn.prepare_cached(&question)?.query_row([], |row| row.get(0)).optional()?;
        Ok(found.unwrap_or(i64::MAX))
    };
    let needed = oldest(TRANSITION, "transition")?.min(oldest(NOTE, "note")?).min(to_sql(chain.head.count));
    let first: i64 = conn.prepare_cached("SELECT min(seq) FROM audit")?.query_row([], |row| row.get(0))?;
    let anchor = needed - 1;
    if anchor - first < at_once {
        return Ok(());
    }
    conn.prepare_cached("DELETE FROM audit WHERE seq < ?")?.execute([anchor])?;
    conn.prepare_cached("UPDATE audit SET kind = ?, line = 0, no = 0, at = 0, digest = ? WHERE seq = ?")?
        .execute(params![ANCHOR, NOTHING, anchor])?;
    chain.add(ROWS_GONE, anchor, 0, at, NOTHING)
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
