//! What goes when room or time is up, and in which order.

use super::*;
use rusqlite::Connection;

const DAY: i64 = 86_400_000;

fn count(conn: &Connection, question: &str) -> u64 {
    conn.query_row(&format!("SELECT count(*) FROM {question}"), [], |row| row.get::<_, i64>(0))
        .unwrap()
        .try_into()
        .unwrap()
}

/// Rows of every kind, of long ago and of lately, in a file that no gateway has open.
fn fill(dir: &Path, now: i64) {
    let conn = Connection::open(dir.join("journal.db")).unwrap();
    let filled = format!(
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 60)
         INSERT INTO chunk (point, t0, t1, n, valued, bad, min, max, sum, last, blob) SELECT i, 0, {now} - (CASE WHEN i <= 30 THEN 500 ELSE 300 END) * {DAY}, 1, 1, 0, 1, 1, 1, 1,
           randomblob(1000) FROM n;
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 768)
         INSERT INTO note (no, at, kind, subject, zh, en)
           SELECT 1, {now} - (CASE WHEN i <= 256 THEN 300 ELSE 10 END) * {DAY}, 'link', 'bus', 'zh', 'en' FROM n;
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 512)
         INSERT INTO transition (no, at, hazard, json) SELECT 1, {now} - 900 * {DAY}, 'x', '{{}}' FROM n;
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 60)
         INSERT INTO hazard SELECT 'h' || i, 'a/b', 'fire', 1, {now} - i * {DAY}, '{{}}' FROM n;"
    );
    conn.execute_batch(&filled).unwrap();
}

#[tokio::test]
async fn under_pressure_telemetry_goes_first_and_hazards_last() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        bytes_max: 400 << 10,
        ballast_bytes: 4096,
        entries_min: 8,
        hazards_closed_min: 20,
        ..Limits::default()
    };
    let reopen = || Journal::open(dir.path(), limits.clone(), Metrics::new()).unwrap().0;
    drop(reopen());
    fill(dir.path(), at(0).as_millis());
    let conn = Connection::open(dir.path().join("journal.db")).unwrap();
    let journal = reopen();
    journal.cursor("a store").await.unwrap();
    let year = at(0).as_millis() - 365 * DAY;
    let mut gone = Vec::new();
    for no in 1..=700 {
        // Documents stay for ever: in the end they leave room for nothing else.
        let paper = "x".repeat(if no > 100 { 3000 } else { 1 });
        if journal.put_document("paper", &no.to_string(), Some(&paper), at(no)).await.is_err() {
            break;
        }
        let readings = (0..100).map(|n| reading("m/noise", fastrand::f64() + f64::from(n), at(no))).collect();
        if journal.append(write(no, readings)).await.is_err() {
            break;
        }
        if no == 20 {
            journal.move_cursor("a store", 12).await.unwrap();
        }
        // Entries come with every commit: those kept for their fingerprints, and a few that came since.
        let entries = count(&conn, "entry");
        let kinds = [
            ("read entries", count(&conn, "entry WHERE no <= 12")),
            ("old series", count(&conn, &format!("chunk WHERE t1 < {year}"))),
            ("old notes", u64::from(count(&conn, "note") > 512)),
            ("unread entries", u64::from(no < 60) + entries.saturating_sub(12)),
            ("series", count(&conn, &format!("chunk WHERE t1 >= {year}"))),
            ("newest entries", u64::from(no < 60) + entries.saturating_sub(3)),
            ("notes", u64::from(count(&conn, "note") > 256)),
            ("surplus hazards", count(&conn, "hazard").saturating_sub(20)),
            ("ledger", count(&conn, "transition") - 1),
            ("hazards", count(&conn, "hazard")),
        ];
        for (kind, left) in kinds {
            if left == 0 && !gone.contains(&kind) {
                gone.push(kind);
            }
        }
    }
    let order: Vec<_> = ["read entries", "old series", "old notes"].into();
    assert_eq!(gone[..3], order, "{gone:?}");
    let place = |kind| gone.iter().position(|gone| *gone == kind).unwrap_or(usize::MAX);
    for pair in [
        ["old notes", "series"],
        ["unread entries", "series"],
        ["series", "notes"],
        ["newest entries", "surplus hazards"],
        ["notes", "surplus hazards"],
        ["surplus hazards", "ledger"],
        ["ledger", "hazards"],
    ] {
        assert!(place(pair[0]) < place(pair[1]), "{pair:?} in {gone:?}");
    }
    assert!(place("ledger") < usize::MAX, "the pressure was great enough: {gone:?}");
}

#[tokio::test]
async fn lines_and_hazards_go_when_they_are_too_old_or_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        notes_age_max: Span::from_secs(200 * 86_400),
        notes_max: 200,
        ledger_age_max: Span::from_secs(30 * 86_400),
        hazards_closed_min: 20,
        ..Limits::default()
    };
    let reopen = || Journal::open(dir.path(), limits.clone(), Metrics::new()).unwrap().0;
    drop(reopen());
    fill(dir.path(), at(0).as_millis());
    let conn = Connection::open(dir.path().join("journal.db")).unwrap();
    let journal = reopen();
    for no in 1..=1000_u64 {
        commit(&journal, no, at(no * 60)).await;
    }
    let left = (count(&conn, "note"), count(&conn, "transition"), count(&conn, "hazard"));
    assert_eq!(left, (256, 1, 29), "two lots of notes, all transitions but the last, hazards of 30 days ago");
    drop(journal);
    assert_eq!(reopen().health().head, 1000);
}

/// One commit without anything in it, at that time.
async fn commit(journal: &Journal, no: u64, at: Timestamp) {
    journal.append(write_at(no, at, vec![])).await.unwrap();
    journal.move_cursor("a store", no).await.unwrap();
}

/// A box whose clock starts twenty years ahead, again and again, until somebody sets it.
#[tokio::test]
async fn nothing_grows_old_in_a_wrong_future_however_often_the_box_is_started_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { hazards_closed_min: 20, ..Limits::default() };
    let reopen = || Journal::open(dir.path(), limits.clone(), Metrics::new()).unwrap().0;
    drop(reopen());
    let conn = Connection::open(dir.path().join("journal.db")).unwrap();
    let (minutes, hours) =
        (|n: u64| Span::from_secs(n.cast_signed() * 60), |n: i64| Span::from_secs(n * 3600));
    let mut no = 0;
    let mut run = async |from: Timestamp, commits: u64, apart: u64| {
        let journal = reopen();
        journal.cursor("a store").await.unwrap();
        for n in 0..commits {
            no += 1;
            commit(&journal, no, from + minutes(n * apart)).await;
        }
        no
    };
    run(at(0), 100, 1).await;
    fill(dir.path(), at(0).as_millis());
    let held = || {
        let lines = (count(&conn, "note"), count(&conn, "transition"), count(&conn, "hazard"));
        (count(&conn, "entry"), lines, count(&conn, "chunk"))
    };
    let (_, lines, chunks) = held();
    assert_eq!((lines, chunks), ((768, 512, 60), 60));
    for start in 0..3 {
        let wrong = at(0) + Span::from_secs(20 * 365 * 86_400) + hours(3 * start);
        let entries = run(wrong, 120, 1).await;
        assert_eq!(held(), (entries, lines, chunks), "after start {start} in the wrong future");
    }
    // Somebody sets the clock.
    let entries = run(at(0) + hours(12), 120, 1).await;
    assert_eq!(held(), (entries, lines, chunks));
    // The week that was seen is over for all of them, those of the future as well. The lines have years left.
    let newest = run(at(0) + hours(15), 24, 12 * 60).await;
    let left = count(&conn, "entry");
    assert!(
        (2..20).contains(&left) && count(&conn, &format!("entry WHERE no < {}", newest - 20)) == 0,
        "{left}"
    );
    assert_eq!((held().1, held().2), (lines, chunks));
    // A holiday of two months without power makes nothing older either; four months at work do.
    run(at(0) + hours(24 * 70), 240, 12 * 60).await;
    run(at(0) + hours(24 * 190), 2, 1).await;
    assert_eq!(held().1, (512, 512, 60), "notes of 300 days ago, and 130 that were seen since");
}

#[tokio::test]
async fn a_quiet_site_is_told_how_long_its_room_lasts_after_ten_minutes_and_a_busy_one_no_oftener_than_needed()
 {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { ballast_bytes: 4096, ..Limits::default() };
    let (journal, _) = Journal::open(dir.path(), limits, Metrics::new()).unwrap();
    let mut no = 0;
    let mut commit = async |secs: u64| {
        no += 1;
        let readings = vec![reading("m/noise", 1.0, at(secs))];
        journal.append(write_at(no, at(secs), readings)).await.unwrap();
        journal.health().room
    };
    for minute in (0..10).step_by(2) {
        assert_eq!(commit(minute * 60).await.entries_a_day, None, "minute {minute}");
    }
    let room = commit(600).await;
    assert!(room.entries_a_day.is_some_and(|bytes| bytes > 0), "{room:?}");
    assert_eq!(room.days_until_full(), None, "more than ten years");
    // A commit a second: one look in a quarter of an hour, at its end.
    for second in 1..=900 {
        let looked_at = commit(600 + second).await.entries.1;
        assert_eq!(looked_at == room.entries.1, second < 900, "second {second}");
    }
    // A clock that was stepped back is no reason to wait for its return.
    assert_eq!(commit(10).await.entries.1, *journal.head().borrow());
}

#[tokio::test]
async fn the_health_says_what_takes_the_room_and_how_long_it_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { bytes_max: 64 << 20, ballast_bytes: 4096, ..Limits::default() };
    let (journal, _) = Journal::open(dir.path(), limits.clone(), Metrics::new()).unwrap();
    assert_eq!((journal.health().room.days_until_full(), journal.hours_of_buffer("store")), (None, None));
    journal.cursor("store").await.unwrap();
    // 900 commits in three hours, of about 900 bytes: 6.5 MB a day.
    for no in 1..=900 {
        let at = at(no * 12);
        let readings = (0..100).map(|n| reading("m/noise", fastrand::f64() + f64::from(n), at)).collect();
        journal.append(write_at(no, at, readings)).await.unwrap();
    }
    let room = journal.health().room;
    let file = journal.health().bytes;
    assert!(room.used.entries > 500_000 && room.used.sum() < 2 * file, "{room:?} of {file}");
    let a_day = room.entries_a_day.unwrap();
    assert!((5_000_000..9_000_000).contains(&a_day), "{room:?}");
    assert_eq!(room.days_until_full(), None, "a week of it fits");
    let hours = journal.hours_of_buffer("store").unwrap();
    assert!((150..330).contains(&hours), "64 MB at 6.5 MB a day: {hours}");
    drop(journal);
    let limits = Limits { bytes_max: 20 << 20, ..limits };
    let (journal, _) = Journal::open(dir.path(), limits, Metrics::new()).unwrap();
    let days = journal.health().room.days_until_full().unwrap();
    assert!((1..=4).contains(&days), "known again right after a start: {days}");
}
