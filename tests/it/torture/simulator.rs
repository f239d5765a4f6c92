//! The simulator bites: what acknowledges before it has synced loses something in it.

use crate::support::bad_disk::{BadDisk, Errno};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

const CUTS: usize = 20;

/// Writes `records` of 100 bytes, each synced or not, and says how many are whole after a cut.
fn records_after_a_cut(seed: u64, synced: bool) -> usize {
    const RECORDS: u8 = 100;
    let disk = BadDisk::new();
    let path = disk.path().join("records");
    let mut file = File::create(&path).unwrap();
    if synced {
        File::open(disk.path()).unwrap().sync_all().unwrap();
    }
    for n in 1..=RECORDS {
        file.write_all(&[n; 100]).unwrap();
        if synced {
            file.sync_data().unwrap();
        }
    }
    disk.cut();
    assert!(file.write_all(b"x").is_err(), "the power is gone");
    drop(file);
    disk.power_on(seed);
    let left = std::fs::read(&path).unwrap_or_default();
    (1..=RECORDS)
        .filter(|n| left.get((usize::from(*n) - 1) * 100..usize::from(*n) * 100) == Some(&[*n; 100]))
        .count()
}

#[test]
fn what_was_synced_survives_a_cut_and_a_writer_that_does_not_sync_loses() {
    let mut lost = 0;
    for seed in 0..CUTS as u64 {
        assert_eq!(records_after_a_cut(seed, true), 100, "seed {seed}");
        lost += usize::from(records_after_a_cut(seed, false) < 100);
    }
    assert!(lost >= 10, "only {lost} of {CUTS} cuts took something of a writer that never synced");
}

/// SQLite that answers before it has synced, and SQLite as the journal uses it.
#[test]
fn sqlite_that_does_not_sync_loses_or_breaks_and_with_full_sync_it_does_not() {
    let rows_after_a_cut = |seed: u64, synchronous: &str| -> rusqlite::Result<i64> {
        let disk = BadDisk::new();
        let path = disk.path().join("rows.db");
        let conn = rusqlite::Connection::open(&path)?;
        conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        conn.execute_batch("CREATE TABLE t (x); PRAGMA wal_autocheckpoint = 20; PRAGMA synchronous = FULL")?;
        conn.execute_batch("INSERT INTO t VALUES (zeroblob(9000))")?;
        conn.pragma_update(None, "synchronous", synchronous)?;
        for _ in 1..50 {
            conn.execute_batch("INSERT INTO t VALUES (zeroblob(9000))")?;
        }
        disk.cut();
        drop(conn);
        disk.power_on(seed);
        let conn = rusqlite::Connection::open(&path)?;
        let check: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        assert_eq!(check, "ok");
        conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
    };
    let mut lost = 0;
    for seed in 0..CUTS as u64 {
        assert_eq!(rows_after_a_cut(seed, "FULL").unwrap(), 50, "seed {seed}");
        let unsynced = std::panic::catch_unwind(|| rows_after_a_cut(seed, "OFF"));
        lost += usize::from(!matches!(unsynced, Ok(Ok(50))));
    }
    assert!(lost >= 10, "only {lost} of {CUTS} cuts hurt a database that does not sync");
}

#[test]
fn a_name_is_safe_only_when_its_folder_was_synced() {
    let mut gone = 0;
    for seed in 0..CUTS as u64 {
        let disk = BadDisk::new();
        let (sure, unsure) = (disk.path().join("sure"), disk.path().join("unsure"));
        File::create(&sure).unwrap().sync_all().unwrap();
        File::open(disk.path()).unwrap().sync_all().unwrap();
        File::create(&unsure).unwrap().sync_all().unwrap();
        disk.cut();
        disk.power_on(seed);
        assert!(sure.exists(), "seed {seed}");
        gone += usize::from(!unsure.exists());
    }
    assert!((1..CUTS).contains(&gone), "gone in {gone} of {CUTS} cuts");
}

#[test]
fn the_disk_fails_when_it_is_told_to_and_heals() {
    let disk = BadDisk::new();
    let file = File::create(disk.path().join("f")).unwrap();
    disk.fail(2, 2, Errno::ENOSPC);
    file.write_all_at(b"one", 0).unwrap();
    for _ in 0..2 {
        assert_eq!(file.write_all_at(b"two", 0).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }
    file.write_all_at(b"3", 0).unwrap();
    disk.read_only(true);
    assert_eq!(file.sync_all().unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    disk.heal();
    file.sync_all().unwrap();
    disk.room(10_000);
    assert!(file.write_all_at(&[0; 30_000], 0).is_err());
    disk.heal();
    // What a failed sync should have written is lost to a later one that succeeds.
    file.write_all_at(b"new", 0).unwrap();
    disk.fail(1, 1, Errno::EIO);
    assert!(file.sync_all().is_err());
    file.sync_all().unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    disk.cut();
    disk.power_on(1);
    assert_eq!(std::fs::read(disk.path().join("f")).unwrap(), b"3ne");
}
