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

/// A file as version 1 wrote it. When the format moves on, this text stays as it is.
const VERSION_1: &str = r#"
    INSERT INTO entry VALUES (41, 1800000041000, NULL), (42, 1800000042000, NULL);
    INSERT INTO hazard VALUES ('42.sd-01.smoke.fire', 'sd-01/smoke', 'fire', 1800000042000, NULL,
      '{"id":"42.sd-01.smoke.fire","point":"sd-01/smoke","rule":"fire","signal":"fire","priority":"red","latching":true,
        "title":{"zh":"火警","en":"fire"},"evidence":{"value":{"number":"0.14"},"unit":"%/m","point_name":{"zh":"烟","en":"smoke"},
        "condition":{"at_least":{"limit":"0.1","deadband":"0"}},"on_delay":0,"basis":"本系统默认值"},
        "raised_at":1800000042000,"occurrences":1,"last_raised_at":1800000042000}');
    INSERT INTO fact VALUES ('sd-01/smoke', 'fire', 'clearing', 1800000050000, '42.sd-01.smoke.fire');
    INSERT INTO cursor VALUES ('influx', 41);
    INSERT INTO receipt (fingerprint) VALUES (-1);
"#;

#[tokio::test]
async fn a_file_of_version_1_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    {
        let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
        conn.execute_batch(include_str!("../../../src/journal/schema.sql")).unwrap();
        conn.execute_batch(VERSION_1).unwrap();
        conn.execute_batch("PRAGMA user_version = 1").unwrap();
    }
    let (journal, restored) = open(dir.path());
    assert_eq!((restored.head, restored.recovered), (42, None));
    assert_eq!(restored.receipts, [u64::MAX].into());
    let fact = &restored.facts[0];
    assert_eq!(fact.phase, Phase::Clearing { due: Timestamp::from_secs(1_800_000_050) });
    assert_eq!(fact.hazard.as_ref().unwrap().evidence.value, Value::Number(Number::new(0.14).unwrap()));
    assert_eq!(journal.cursor("influx").await.unwrap(), 41);
    journal.append(write(43, vec![])).await.unwrap();
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
