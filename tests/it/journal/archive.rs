//! The journal read beside a running gateway and without one: nothing is changed, nobody is disturbed.

use super::*;
use fengsui::journal::Archive;

async fn filled(dir: &Path) -> Journal {
    let (journal, _) = open(dir);
    journal.append(change(1, 1, Change::Raised)).await.unwrap();
    for no in 2..=20 {
        journal.append(write(no, vec![reading("sd-01/battery", no as f64, at(no))])).await.unwrap();
    }
    journal.append(change(21, 1, Change::Reset)).await.unwrap();
    journal
}

#[tokio::test]
async fn an_archive_reads_beside_the_running_journal() {
    let dir = tempfile::tempdir().unwrap();
    let journal = filled(dir.path()).await;
    let archive = Archive::open(dir.path()).unwrap();
    let entries = archive.entries_after(0, 100).unwrap();
    assert_eq!(entries, journal.read_after(0, 100).await.unwrap());
    let numbers = |entries: &[Arc<Entry>]| entries.iter().map(|entry| entry.no).collect::<Vec<_>>();
    assert_eq!(numbers(&archive.entries_after(3, 2).unwrap()), [4, 5]);
    // A name that is first met after the archive was opened.
    journal.append(write(22, vec![reading("new/point", 1.0, at(22))])).await.unwrap();
    assert_eq!(archive.entries_after(21, 9).unwrap(), journal.read_after(21, 9).await.unwrap());
    let names = archive.point_names().unwrap();
    assert_eq!(
        names.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(),
        ["new/point", "sd-01/battery"]
    );
    assert_eq!(archive.point_number(&names[0].1).unwrap(), Some(names[0].0));
    let summary = archive.summary().unwrap();
    assert_eq!((summary.head, summary.oldest, summary.newest), (22, Some((1, at(1))), Some((22, at(22)))));
    assert_eq!((summary.open_hazards, summary.closed_hazards, summary.lines), (0, 1, (2, 2)));
    assert_eq!((summary.notes.len(), summary.audit), (2, journal.health().audit));
    assert_eq!(archive.check().unwrap(), Vec::<String>::new());
    assert_eq!(archive.duty_log(None, 10).unwrap(), journal.duty_log(None, 10).await.unwrap());
}

#[tokio::test]
async fn a_copy_is_a_whole_journal_that_a_gateway_can_go_on_with() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = filled(dir.path()).await;
    let archive = Archive::open(dir.path()).unwrap();
    let file = other.path().join("journal.db");
    let bytes = archive.copy_to(&file).unwrap();
    let found = std::fs::metadata(&file).unwrap();
    assert_eq!((bytes, found.permissions().mode() & 0o777), (found.len(), 0o600));
    assert!(archive.copy_to(&file).is_err(), "an older copy is not written over");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), bytes, "and stays");
    let copied = Archive::open(other.path()).unwrap();
    assert_eq!(copied.entries_after(0, 100).unwrap(), journal.read_after(0, 100).await.unwrap());
    let head = journal.health().audit.to_string();
    assert!(copied.audit(Some(&head)).unwrap().sound());
    drop((copied, journal));
    let (journal, restored) = open(other.path());
    assert_eq!((restored.head, restored.recovered), (21, None));
    journal.append(write(22, vec![])).await.unwrap();
}

#[tokio::test]
async fn a_log_that_a_killed_gateway_left_stays_as_it_is() {
    let (dir, torn) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = filled(dir.path()).await;
    for file in ["journal.db", "journal.db-wal"] {
        std::fs::copy(dir.path().join(file), torn.path().join(file)).unwrap();
    }
    drop(journal);
    let log = std::fs::read(torn.path().join("journal.db-wal")).unwrap();
    assert!(!log.is_empty());
    assert_eq!(Archive::open(torn.path()).unwrap().summary().unwrap().head, 21);
    assert_eq!(std::fs::read(torn.path().join("journal.db-wal")).unwrap(), log);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Archive::open(dir.path()).unwrap_err(), OpenError::Directory { .. }));
    assert!(!dir.path().join("journal.db").exists());
    std::fs::write(dir.path().join("journal.db"), "this is a poem, not a database ".repeat(999)).unwrap();
    assert!(matches!(Archive::open(dir.path()).unwrap_err(), OpenError::Damaged { .. }));
    let old = formats::released(2);
    let refused = Archive::open(old.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Older { found: 2, .. }), "{refused}");
}
