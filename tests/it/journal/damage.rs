//! Damaged files, files of other versions, and logs that a power cut tore.

use super::*;

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_its_hazards_are_saved() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.append(change(1, 1, Change::Raised)).await.unwrap();
    for no in 2..=60 {
        let readings =
            (0..200).map(|n| reading("m-1/noise", fastrand::f64() + f64::from(n), at(no))).collect();
        journal.append(write(no, readings)).await.unwrap();
    }
    drop(journal);
    // The last third is the newest entries.
    let file = dir.path().join("journal.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let from = bytes.len() * 2 / 3;
    bytes[from..].fill(0x5A);
    std::fs::write(&file, bytes).unwrap();
    let (journal, restored) = open(dir.path());
    let recovered = restored.recovered.expect("a person must be told");
    assert!(
        recovered.zh.contains("journal.db.damaged-1") && recovered.en.contains("1 hazards"),
        "{recovered:?}"
    );
    assert!(dir.path().join("journal.db.damaged-1").exists());
    assert_eq!(restored.facts, change(1, 1, Change::Raised).facts);
    assert!(restored.head > 60, "a hazard's name must not be given twice");
    journal.append(write(restored.head + 1, vec![])).await.unwrap();
    drop(journal);
    assert_eq!(open(dir.path()).1.recovered, None);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("journal.db"), "this is a poem, not a database ".repeat(999)).unwrap();
    let (journal, restored) = open(dir.path());
    assert!(restored.recovered.is_some() && restored.head == 0);
    journal.append(write(1, vec![])).await.unwrap();
}

#[tokio::test]
async fn a_file_of_a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let file = dir.path().join("journal.db");
    rusqlite::Connection::open(&file).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let refused = Journal::open(dir.path(), Limits::default(), Metrics::new()).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 99, .. }), "{refused}");
    assert!(!dir.path().join("journal.db.damaged-1").exists());
}

/// Damage in the middle of the entries: what lies before and behind it is saved, the newest above all.
#[tokio::test]
async fn what_lies_around_the_damage_is_saved_with_its_cursors_and_fingerprints() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.cursor("influx").await.unwrap();
    for no in 1..=400 {
        let readings =
            (0..100).map(|n| reading("m-1/noise", fastrand::f64() + f64::from(n), at(no))).collect();
        journal.append(write(no, readings)).await.unwrap();
        journal.move_cursor("influx", no / 2).await.unwrap();
    }
    drop(journal);
    let file = dir.path().join("journal.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0x5A);
    std::fs::write(&file, bytes).unwrap();
    let (journal, restored) = open(dir.path());
    assert!(restored.recovered.unwrap().zh.contains("校验链重新开始"));
    let entries = everything(&journal).await;
    let numbers: Vec<_> = entries.iter().map(|entry| entry.no).collect();
    assert!(numbers.len() > 350 && numbers[0] == 1 && numbers.ends_with(&[398, 399, 400]), "{numbers:?}");
    assert!((300..=400).all(|no| restored.receipts.contains(&no)));
    assert_eq!(journal.cursor("influx").await.unwrap(), 200);
    let archive = fengsui::journal::Archive::open(dir.path()).unwrap();
    assert!(archive.audit(None).unwrap().sound());
}

#[tokio::test]
async fn damaged_readings_are_skipped_counted_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    for no in 1..=3 {
        journal.append(write(no, vec![reading("sd-01/smoke", 1.5, at(no))])).await.unwrap();
    }
    drop(journal);
    let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    conn.execute_batch("UPDATE entry SET readings = x'01020304050607' WHERE no = 2").unwrap();
    drop(conn);
    let metrics = Metrics::new();
    let (journal, _) = Journal::open(dir.path(), Limits::default(), metrics.clone()).unwrap();
    let entries = journal.read_after(0, 10).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.readings.len()).collect::<Vec<_>>(), [1, 0, 1]);
    assert_eq!((entries[1].notes[0].kind, metrics.journal_damaged.get()), (NoteKind::Journal, 1));
}

/// Copies the journal's files as a power cut would leave them: the log as it is, perhaps cut short or garbled.
fn copy_torn(from: &Path, to: &Path, garble: bool) {
    std::fs::copy(from.join("journal.db"), to.join("journal.db")).unwrap();
    let mut log = std::fs::read(from.join("journal.db-wal")).unwrap();
    let cut = fastrand::usize(0..=log.len());
    if garble {
        log[cut..].fill_with(|| fastrand::u8(..));
    } else {
        log.truncate(cut);
    }
    std::fs::write(to.join("journal.db-wal"), log).unwrap();
}

#[tokio::test]
async fn a_torn_log_opens_at_its_last_whole_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let mut facts = vec![vec![]];
    for no in 1..=40 {
        let write =
            if no % 2 == 1 { change(no, no, Change::Raised) } else { change(no, no - 1, Change::Reset) };
        facts.push(write.facts.iter().filter(|fact| fact.hazard.is_some()).cloned().collect());
        journal.append(write).await.unwrap();
    }
    let mut heads = std::collections::BTreeSet::new();
    for round in 0..20 {
        let torn = tempfile::tempdir().unwrap();
        copy_torn(dir.path(), torn.path(), round % 2 == 0);
        let (reopened, restored) = open(torn.path());
        assert_eq!(restored.recovered, None, "a torn tail is no damage");
        assert_eq!(restored.facts, facts[usize::try_from(restored.head).unwrap()]);
        let entries = reopened.read_after(0, 100).await.unwrap();
        assert_eq!(
            entries.iter().map(|entry| entry.no).collect::<Vec<_>>(),
            (1..=restored.head).collect::<Vec<_>>()
        );
        heads.insert(restored.head);
    }
    assert!(heads.len() > 3, "the cuts fell in different commits: {heads:?}");
}
