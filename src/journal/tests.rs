//! What needs a look behind the handle: a full database, a transaction that fails.

use super::*;

fn write(no: u64, notes: usize) -> Write {
    let note = Note { kind: NoteKind::Journal, subject: "x".repeat(2000).into(), text: Text::new("", "") };
    let (at, notes) = (Timestamp::from_secs(1_800_000_000), vec![note; notes]);
    let entry = Entry { no, at, recorded: true, readings: vec![], transitions: vec![], notes };
    Write::of(entry)
}

#[tokio::test]
async fn a_full_database_is_told_and_the_same_write_passes_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { ballast_bytes: 4096, ..Limits::default() };
    let (journal, _) = Journal::open(dir.path(), limits, Metrics::new()).unwrap();
    let allow = |pages: u32| {
        let journal = journal.clone();
        let question = format!("PRAGMA max_page_count = {pages}");
        async move { journal.write(move |conn| conn.query_row(&question, [], |_| Ok(()))).await.unwrap() }
    };
    allow(1).await; // Means: no more than there are.
    let refused = journal.append(write(1, 40)).await.unwrap_err();
    assert!(matches!(refused, AppendError::Full(_)), "{refused}");
    assert!(!journal.health().writable && !journal.health().ballast);
    assert_eq!(journal.read_after(0, 9).await.unwrap(), []);
    assert!(journal.append(write(1, 40)).await.is_err());
    allow(100_000).await;
    journal.append(write(1, 40)).await.unwrap();
    assert!(journal.health().writable && journal.health().failing_since.is_none());
    assert_eq!(journal.duty_log(None, 100).await.unwrap().len(), 40, "none of the failed attempts is there");
}

#[tokio::test]
async fn a_transaction_of_the_series_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), Limits::default(), Metrics::new()).unwrap();
    let result = journal
        .write(|conn| {
            conn.execute("INSERT INTO meta VALUES ('x', 1)", [])?;
            conn.execute("INSERT INTO nowhere VALUES (1)", [])
        })
        .await;
    assert!(matches!(result, Err(AppendError::Failed(_))));
    let count =
        |conn: &Connection| Ok(conn.query_row("SELECT count(*) FROM meta", [], |row| row.get::<_, i64>(0))?);
    assert_eq!(journal.read(count).await.unwrap(), 0);
    journal.append(write(1, 1)).await.unwrap();
}
