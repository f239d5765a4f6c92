//! Entries that were written while the clock was unset are dated anew once it is set: one row says which and by how
//! much, and reading adds it. The rows of the duty log keep the time that they were signed with.

use super::Entry;
use super::store::to_sql;
use crate::model::{Span, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::Arc;

/// Entries `first ..= last` were written under an unset clock; `shift` is added to their times when they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restamp {
    /// The first entry.
    pub first: u64,
    /// The last entry.
    pub last: u64,
    /// What is added.
    pub shift: Span,
}

impl Restamp {
    /// The entry as it is to be read. What a device said of its own time stays.
    pub(super) fn apply(&self, entry: &mut Entry) {
        if (self.first..=self.last).contains(&entry.no) {
            entry.at = entry.at + self.shift;
            for reading in &mut entry.readings {
                reading.received_at = reading.received_at + self.shift;
            }
        }
    }

    /// The same for an entry that others hold.
    pub(super) fn apply_shared(&self, entry: &mut Arc<Entry>) {
        if (self.first..=self.last).contains(&entry.no) {
            self.apply(Arc::make_mut(entry));
        }
    }
}

/// Writes one in somebody's transaction, and forgets those whose entries are gone.
pub(super) fn write(conn: &Connection, restamp: &Restamp) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM restamp WHERE last < (SELECT min(no) FROM entry)", [])?;
    conn.execute(
        "INSERT OR REPLACE INTO restamp (first, last, shift) VALUES (?, ?, ?)",
        params![to_sql(restamp.first), to_sql(restamp.last), restamp.shift.as_millis()],
    )?;
    super::quarantine::restamp(conn, restamp)
}

/// Those that concern the entries `from ..= to`.
pub(super) fn between(conn: &Connection, from: u64, to: u64) -> rusqlite::Result<Vec<Restamp>> {
    let mut statement =
        conn.prepare_cached("SELECT first, last, shift FROM restamp WHERE last >= ? AND first <= ?")?;
    let rows = statement.query_map(params![to_sql(from), to_sql(to)], |row| {
        Ok(Restamp {
            first: super::from_sql(row.get(0)?),
            last: super::from_sql(row.get(1)?),
            shift: Span::from_millis(row.get(2)?),
        })
    })?;
    rows.collect()
}

/// The time of the newest entry, as it is to be read.
pub(super) fn newest_at(conn: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    conn.query_row(
        "SELECT at + ifnull((SELECT sum(shift) FROM restamp WHERE no BETWEEN first AND last), 0)
         FROM entry ORDER BY no DESC LIMIT 1",
        [],
        |row| row.get(0).map(Timestamp::from_millis),
    )
    .optional()
}
