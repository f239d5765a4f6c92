//! The database's file deleted, replaced, or on a disk that turned read-only, all while the gateway runs.

use super::*;
use fengsui::journal::JournalHealth;
use std::time::Duration;

/// Appends until the journal has said what it had to say; a bounded wait, a few appends a second.
async fn append_until(
    journal: &Journal,
    no: &mut u64,
    what: &str,
    seen: impl Fn(&Result<(), AppendError>, &JournalHealth) -> bool,
) {
    for _ in 0..200 {
        let result = journal.append(write(*no, vec![reading("a/b", *no as f64, at(*no))])).await;
        *no += u64::from(result.is_ok());
        if seen(&result, &journal.health()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: not within 20 s: {:?}", journal.health());
}

async fn told(journal: &Journal, zh: &str) -> bool {
    let log = journal.duty_log(None, 100).await.unwrap();
    log.iter().any(|line| matches!(&line.what, Logged::Note(note) if note.text.zh.contains(zh)))
}

/// Everything that was acknowledged is there after a restart, once, and the duty log is whole.
fn all_there(dir: &Path, last: u64) {
    let (journal, restored) = open(dir);
    assert_eq!((restored.head, restored.recovered, restored.facts.len()), (last, None, 1));
    let archive = fengsui::journal::Archive::open(dir).unwrap();
    let numbers: Vec<_> = archive.entries_after(0, 10_000).unwrap().iter().map(|entry| entry.no).collect();
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    assert!(archive.audit(None).unwrap().sound() && archive.check().unwrap().is_empty());
    drop(journal);
}

async fn running(dir: &Path) -> (Journal, u64) {
    let (journal, _) = open(dir);
    journal.append(change(1, 1, Change::Raised)).await.unwrap();
    for no in 2..=50 {
        journal.append(write(no, vec![reading("a/b", no as f64, at(no))])).await.unwrap();
    }
    // A read connection to the file that is about to go.
    assert_eq!(journal.open_hazards().await.unwrap().len(), 1);
    (journal, 51)
}

#[tokio::test]
async fn a_deleted_database_is_put_back_from_the_open_connection() {
    for gone in
        [&["journal.db"][..], &["journal.db-wal"], &["journal.db", "journal.db-wal", "journal.db-shm"]]
    {
        let dir = tempfile::tempdir().unwrap();
        let (journal, mut no) = running(dir.path()).await;
        for file in gone {
            std::fs::remove_file(dir.path().join(file)).unwrap();
        }
        let file = dir.path().join("journal.db");
        let mut back = false;
        for _ in 0..100 {
            append_until(&journal, &mut no, "append", |result, _| result.is_ok()).await;
            back = told(&journal, "数据库文件被删除，已从内存中的连接恢复").await;
            if back {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(back && file.exists(), "{gone:?}");
        assert_eq!(journal.read_after(0, 1000).await.unwrap().len() as u64, no - 1);
        drop(journal);
        all_there(dir.path(), no - 1);
    }
}

#[tokio::test]
async fn a_database_put_in_place_of_the_open_one_is_set_aside() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(open(other.path()));
    let (journal, mut no) = running(dir.path()).await;
    std::fs::rename(other.path().join("journal.db"), dir.path().join("journal.db")).unwrap();
    let aside = dir.path().join("journal.db.replaced-1");
    append_until(&journal, &mut no, "set aside", |result, _| result.is_ok() && aside.exists()).await;
    assert!(told(&journal, "数据库文件在运行中被替换").await);
    drop(journal);
    all_there(dir.path(), no - 1);
}

#[tokio::test]
async fn a_folder_that_vanished_is_made_again_and_while_it_cannot_nothing_is_written() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("data");
    let (journal, mut no) = running(&dir).await;
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "somebody's file").unwrap();
    append_until(&journal, &mut no, "refused", |result, _| matches!(result, Err(AppendError::Lost(_)))).await;
    let health = journal.health();
    assert!(!health.writable && health.reason.unwrap().zh.contains("数据库文件被删除或替换"));
    assert!(journal.put_document("a", "b", Some("{}"), at(1)).await.is_err(), "nor anything else");
    std::fs::remove_file(&dir).unwrap();
    append_until(&journal, &mut no, "again", |result, health| result.is_ok() && health.writable).await;
    let refused = Journal::open(&dir, Limits::default(), Metrics::new()).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "the new folder is locked too: {refused}");
    drop(journal);
    all_there(&dir, no - 1);
}

/// Makes files immutable, which is as near to a disk that turned read-only as a test can come; undone when dropped.
struct ReadOnly(Vec<std::path::PathBuf>);

impl ReadOnly {
    fn set(files: Vec<std::path::PathBuf>) -> Option<Self> {
        let this = Self(files);
        this.change("+i").then_some(this)
    }

    fn change(&self, flag: &str) -> bool {
        let chattr = std::process::Command::new("chattr").arg(flag).args(&self.0).output();
        chattr.is_ok_and(|done| done.status.success())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        self.change("-i");
    }
}

#[tokio::test]
async fn a_disk_that_turned_read_only_is_told_and_used_again_when_it_is_writable() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, mut no) = running(dir.path()).await;
    let files = ["journal.db", "journal.db-wal"].map(|file| dir.path().join(file));
    let Some(read_only) = ReadOnly::set(files.to_vec()) else {
        eprintln!("no file can be made immutable here");
        return;
    };
    append_until(&journal, &mut no, "refused", |result, _| matches!(result, Err(AppendError::ReadOnly(_))))
        .await;
    let health = journal.health();
    assert!(!health.writable && health.failing_since == Some(at(no)));
    assert!(health.reason.unwrap().zh.contains("只读") && health.last_error.unwrap().contains("read-only"));
    assert_eq!(journal.open_hazards().await.unwrap().len(), 1, "reading goes on");
    drop(read_only);
    append_until(&journal, &mut no, "again", |result, health| result.is_ok() && health.writable).await;
    drop(journal);
    all_there(dir.path(), no - 1);
}

#[tokio::test]
async fn a_rescue_cut_short_by_a_crash_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, no) = running(dir.path()).await;
    drop(journal);
    std::fs::rename(dir.path().join("journal.db"), dir.path().join("journal.db.rescued")).unwrap();
    std::fs::write(dir.path().join("journal.db-wal"), "of the file before").unwrap();
    all_there(dir.path(), no - 1);
}
