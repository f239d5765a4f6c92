//! Brings a database file to this program's version, forward only.

use rusqlite::{Connection, TransactionBehavior};

/// Step `i` leads from version `i` to version `i + 1`. Steps are only ever appended: a file in the field has any age.
pub(super) const STEPS: &[Step] = &[
    Step { sql: include_str!("schema.sql"), then: None },
    Step { sql: include_str!("schema_2.sql"), then: None },
    Step { sql: include_str!("schema_3.sql"), then: Some(super::audit::begin) },
    Step { sql: include_str!("schema_4.sql"), then: None },
    Step { sql: include_str!("schema_5.sql"), then: None },
];

/// One step, in one transaction.
pub(super) struct Step {
    /// The statements.
    sql: &'static str,
    /// What SQL cannot say.
    then: Option<fn(&Connection) -> rusqlite::Result<()>>,
}

/// Why a file could not be brought to this version.
#[derive(Debug)]
pub(super) enum MigrateError {
    /// The file was written by a later version of the program. It is left alone.
    Newer { found: usize, known: usize },
    /// SQLite refused.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrateError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Applies the steps that are missing, each in its own transaction, so that a crash in between leaves a whole version.
pub(super) fn migrate(conn: &mut Connection, steps: &[Step]) -> Result<(), MigrateError> {
    let found: usize = conn
        .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))?
        .try_into()
        .unwrap_or(usize::MAX);
    if found > steps.len() {
        return Err(MigrateError::Newer { found, known: steps.len() });
    }
    for (index, step) in steps.iter().enumerate().skip(found) {
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step.sql)?;
        step.then.map_or(Ok(()), |then| then(&transaction))?;
        transaction.execute_batch(&format!("PRAGMA user_version = {}", index + 1))?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps<const N: usize>(sql: [&'static str; N]) -> [Step; N] {
        sql.map(|sql| Step { sql, then: None })
    }

    #[test]
    fn a_file_of_any_older_version_is_brought_forward_with_its_rows() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE a (x); INSERT INTO a VALUES (7); PRAGMA user_version = 1;").unwrap();
        let steps = steps([
            "CREATE TABLE a (x)",
            "ALTER TABLE a ADD COLUMN y DEFAULT 8",
            "CREATE TABLE b AS SELECT * FROM a",
        ]);
        migrate(&mut conn, &steps).unwrap();
        migrate(&mut conn, &steps).unwrap();
        let row: (i64, i64) =
            conn.query_row("SELECT x, y FROM b", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        assert_eq!(row, (7, 8));
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut conn = Connection::open_in_memory().unwrap();
        let steps = steps(["CREATE TABLE a (x)", "CREATE TABLE b (x); nonsense"]);
        assert!(matches!(migrate(&mut conn, &steps), Err(MigrateError::Sql(_))));
        let version: i64 = conn.query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
        assert_eq!(version, 1);
        assert!(conn.execute_batch("SELECT * FROM b").is_err(), "half a step was kept");
    }

    #[test]
    fn a_file_of_a_later_version_is_refused() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(matches!(migrate(&mut conn, STEPS), Err(MigrateError::Newer { found: 99, .. })));
    }
}
