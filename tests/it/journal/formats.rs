//! Files of every released format: each row is there again after the migration.

use super::*;
use fengsui::journal::Archive;

const VERSION_1: &str = include_str!("../../../src/journal/schema.sql");
const VERSION_2: &str = include_str!("../../../src/journal/schema_2.sql");
const VERSION_3: &str = include_str!("../../../src/journal/schema_3.sql");
const VERSION_4: &str = include_str!("../../../src/journal/schema_4.sql");

/// Rows of every table as versions 1 to 4 wrote them. When the format moves on, these texts stay as they are.
const ROWS: &str = r#"
    INSERT INTO point VALUES (1, 'sd-01/smoke'), (2, 'sd-01/temperature');
    INSERT INTO code VALUES (1, 'normal');
    INSERT INTO entry VALUES (41, 1800000041000, NULL), (42, 1800000042000, NULL);
    INSERT INTO hazard VALUES ('42.sd-01.smoke.fire', 'sd-01/smoke', 'fire', 1800000042000, NULL,
      '{"id":"42.sd-01.smoke.fire","point":"sd-01/smoke","rule":"fire","signal":"fire","priority":"red","latching":true,
        "title":{"zh":"火警","en":"fire"},"evidence":{"value":{"number":"0.14"},"unit":"%/m","point_name":{"zh":"烟","en":"smoke"},
        "condition":{"at_least":{"limit":"0.1","deadband":"0"}},"on_delay":0,"basis":"本系统默认值"},
        "raised_at":1800000042000,"occurrences":1,"last_raised_at":1800000042000}');
    INSERT INTO transition (no, at, hazard, json) SELECT 42, 1800000042000, id,
      '{"hazard":' || json || ',"change":"raised","phase":"active","at":1800000042000,"cause":"deadline"}' FROM hazard;
    INSERT INTO note (no, at, kind, subject, zh, en) VALUES
      (41, 1800000041000, 'link', 'bus', '断开', 'down'), (42, 1800000042000, 'link', 'bus', '恢复', 'up');
    INSERT INTO fact VALUES ('sd-01/smoke', 'fire', 'clearing', 1800000050000, '42.sd-01.smoke.fire');
    INSERT INTO cursor VALUES ('influx', 41), ('series', 40);
    INSERT INTO document VALUES ('account', 'zhang', '{"a":1}', 1800000000000);
    INSERT INTO stray (kind, key, device, reason, sample, first_at, last_at, count)
      VALUES ('unknown', 'b t/1', NULL, 'who', x'0102', 1, 2, 3);
    INSERT INTO chunk VALUES (1, 1, 2, 2, 2, 0, 1.0, 2.0, 3.0, 2.0, x'07');
    INSERT INTO last VALUES (1, 40, x'08');
"#;
const RECEIPTS_1: &str = "INSERT INTO receipt (fingerprint) VALUES (-1), (7)";
const RECEIPTS_2: &str =
    "INSERT INTO receipt VALUES (1, x'FFFFFFFFFFFFFFFF'), (3, x'00000000000000070000000000000009')";
/// The chain that version 3 began over these lines.
const AUDIT_3: &str = "INSERT INTO audit VALUES
  (1, 0, 0, 42, 0, x'0000000000000000000000000000000000000000000000000000000000000000', x'510E5D4467067B17BD0B791213B52999F1FEB3F7887DF3FF86F3ED689005D549'),
  (2, 2, 1, 41, 1800000041000, x'DE1E2974C826FD4E151ED05CA0B459015DB6828B9209BEE2E015EEDC5BA9CB93', x'9E73BCFD0AE7018B68FB048A4E032B1460100B80A1AFAC9EF38912347D9F9EF3'),
  (3, 1, 1, 42, 1800000042000, x'0FE46778833C19AF8D51DF67F449AF23D7BA7F0C306E1136D5F47F7BF4061DB7', x'01693A73C1C98A65405ADE06B299211B077B5D945F78B9F5D684B6A0968DDE8F'),
  (4, 2, 2, 42, 1800000042000, x'CD0D08603489B1A82ADB3F5B89E7E34C07509F1E04DE97D95862EEDB10CF86E6', x'7B1CF18E4C88DF0B2D72B3F0DB62077AEC63CC3CF430510FDEF989FA96922AAE')";

/// A data directory with a file of that format.
pub(super) fn released(version: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    conn.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    conn.execute_batch(VERSION_1).unwrap();
    conn.execute_batch(ROWS).unwrap();
    match version {
        1 => conn.execute_batch(RECEIPTS_1).unwrap(),
        _ => {
            conn.execute_batch(VERSION_2).unwrap();
            conn.execute_batch(RECEIPTS_2).unwrap();
        }
    }
    if version >= 3 {
        conn.execute_batch(VERSION_3).unwrap();
        conn.execute_batch(AUDIT_3).unwrap();
    }
    if version == 4 {
        conn.execute_batch(VERSION_4).unwrap();
    }
    conn.execute_batch(&format!("PRAGMA user_version = {version}")).unwrap();
    dir
}

#[tokio::test]
async fn a_file_of_every_released_format_is_brought_forward_with_all_its_rows() {
    for version in [1, 2, 3, 4] {
        let dir = released(version);
        let (journal, restored) = open(dir.path());
        assert_eq!((restored.head, restored.recovered), (42, None));
        let receipts = if version == 1 { vec![u64::MAX, 7] } else { vec![u64::MAX, 7, 9] };
        assert_eq!(restored.receipts, receipts.into_iter().collect(), "from version {version}");
        let fact = &restored.facts[0];
        assert_eq!(fact.phase, Phase::Clearing { due: Timestamp::from_secs(1_800_000_050) });
        let hazard = fact.hazard.clone().unwrap();
        assert_eq!(hazard.evidence.value, Value::Number(Number::new(0.14).unwrap()));
        assert_eq!(journal.history(&hazard.id).await.unwrap()[0].hazard, hazard);
        assert_eq!(journal.duty_log(None, 100).await.unwrap().len(), 3);
        assert_eq!(journal.cursor("influx").await.unwrap(), 41);
        assert_eq!(journal.cursor("series").await.unwrap(), 40);
        assert_eq!(journal.document("account", "zhang").await.unwrap().as_deref(), Some("{\"a\":1}"));
        assert_eq!(journal.strays().await.unwrap()[0].count, 3);
        assert_eq!(journal.read_after(0, 10).await.unwrap().len(), 2);
        journal.append(change(43, 43, Change::Raised)).await.unwrap();
        drop(journal);
        let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
        for (table, rows) in [("point", 3), ("code", 1), ("chunk", 1), ("last", 1), ("hazard", 2)] {
            let found: i64 =
                conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
            // No readings came: the new hazard's point is not among the recorded names.
            assert_eq!(found, if table == "point" { 2 } else { rows }, "{table} from version {version}");
        }
        let report = Archive::open(dir.path()).unwrap().audit(None).unwrap();
        assert!(report.sound() && report.lines == 5, "the old lines are in the chain too: {report:?}");
        let (_, restored) = open(dir.path());
        assert_eq!(restored.receipts.len(), if version == 1 { 2 } else { 3 }, "and stay known");
    }
}

#[tokio::test]
async fn fingerprints_are_kept_even_when_no_entry_is_left() {
    let dir = released(2);
    let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    conn.execute_batch("DELETE FROM entry; INSERT INTO meta VALUES ('begun_after', 100042)").unwrap();
    drop(conn);
    let (journal, restored) = open(dir.path());
    assert_eq!((restored.head, restored.receipts.len()), (100_042, 3));
    journal.append(write(100_043, vec![])).await.unwrap();
}

#[tokio::test]
async fn unreadable_messages_of_earlier_formats_go_into_quarantine_and_are_listed_once_a_topic() {
    let dir = released(4);
    let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    let insert = "INSERT INTO stray (kind, key, device, reason, sample, first_at, last_at, count) VALUES
        ('unreadable', 'b up/1', 'sd-01', 'old', x'736D6F6B653D31', 1000, 2000, 5),
        ('unreadable', 'b up/1', 'sd-01', 'new', x'736D6F6B653D32', 3000, 4000, 2),
        ('unreadable', 'b up/1', 'sd-01', 'cut', zeroblob(4096), 5000, 5000, 1)";
    conn.execute_batch(insert).unwrap();
    drop(conn);
    let (journal, _) = open(dir.path());
    let strays = journal.strays().await.unwrap();
    let shown =
        |stray: &Stray| (stray.kind, &*stray.reason == "cut", stray.count, stray.first_at.as_millis());
    let shown: Vec<_> = strays.iter().map(shown).collect();
    assert_eq!(shown, [(StrayKind::Unreadable, true, 8, 1000), (StrayKind::Unknown, false, 3, 1)]);
    let frames = journal.quarantined(&Wanted::default(), 0).await.unwrap();
    let kept: Vec<_> =
        frames.iter().map(|frame| (frame.at.as_millis(), &*frame.reason, frame.key())).collect();
    assert_eq!(kept, [(2000, "old", "b up/1".to_owned()), (4000, "new", "b up/1".to_owned())]);
    assert!(matches!(&frames[0].body, Body::Message { payload, .. } if **payload == *b"smoke=1"));
}
