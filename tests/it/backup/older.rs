//! A backup that an earlier program made, whose journal is of an older format, put back by this one.

use super::*;
use crate::support::doctor::Told;
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// The tables as they were before the format that this program writes.
const CHUNKS: &str = "
    CREATE TABLE chunk_1 (
      point INTEGER NOT NULL, t0 INTEGER NOT NULL, t1 INTEGER NOT NULL, n INTEGER NOT NULL, valued INTEGER NOT NULL,
      bad INTEGER NOT NULL, min REAL, max REAL, sum REAL NOT NULL, last REAL, blob BLOB NOT NULL, PRIMARY KEY (point, t0)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO chunk_1 SELECT point, t0, t1, n, valued, bad, min, max, sum, last, blob FROM chunk;
    DROP TABLE chunk;
    ALTER TABLE chunk_1 RENAME TO chunk;
    CREATE INDEX chunk_end ON chunk (t1);
    ALTER TABLE entry DROP COLUMN receipts;
    DROP TABLE audit; DROP TABLE restamp; DROP TABLE rollup; DROP TABLE quarantine;";
const RECEIPTS_1: &str = "CREATE TABLE receipt (id INTEGER PRIMARY KEY, fingerprint INTEGER NOT NULL) STRICT";
const RECEIPTS_2: &str = "CREATE TABLE receipt (total INTEGER PRIMARY KEY, packed BLOB NOT NULL) STRICT";

/// Writes a journal back into an older format, with everything that it holds. How many fingerprints it has.
fn downgrade(file: &Path, format: u32) -> usize {
    let conn = Connection::open(file).unwrap();
    let _mode: String = conn.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).unwrap();
    let fingerprints: Vec<[u8; 8]> = {
        let mut statement =
            conn.prepare("SELECT receipts FROM entry WHERE receipts IS NOT NULL ORDER BY no").unwrap();
        let blobs = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        blobs.flat_map(|blob| blob.unwrap().as_chunks::<8>().0.to_vec()).collect()
    };
    conn.execute_batch(if format == 1 { RECEIPTS_1 } else { RECEIPTS_2 }).unwrap();
    for (total, fingerprint) in (1_i64..).zip(&fingerprints) {
        if format == 1 {
            let whole = i64::from_be_bytes(*fingerprint);
            conn.execute("INSERT INTO receipt VALUES (?, ?)", (total, whole)).unwrap();
        } else {
            conn.execute("INSERT INTO receipt VALUES (?, ?)", (total, fingerprint)).unwrap();
        }
    }
    conn.execute_batch(CHUNKS).unwrap();
    conn.execute_batch(&format!("PRAGMA user_version = {format}; VACUUM")).unwrap();
    fingerprints.len()
}

/// Lets the manifest say what an earlier program would have said: it knew no chain over the duty log.
fn an_earlier_program_made_it(backup: &Path, format: u32) {
    let journal = std::fs::read(backup.join("journal.db")).unwrap();
    let sum = Sha256::digest(&journal).iter().fold(String::new(), |mut sum, byte| {
        write!(sum, "{byte:02x}").unwrap();
        sum
    });
    let file = backup.join("manifest.json");
    let mut manifest: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    manifest["program"] = json!("0.0.9");
    manifest["journal"]["format"] = json!(format);
    manifest["journal"].as_object_mut().unwrap().remove("audit");
    let stored = manifest["files"].as_array_mut().unwrap().iter_mut();
    let stored = stored.into_iter().find(|file| file["path"] == "journal.db").unwrap();
    (stored["bytes"], stored["sha256"]) = (json!(journal.len()), json!(sum));
    std::fs::write(file, manifest.to_string()).unwrap();
}

/// How many samples the chart of a point has.
async fn drawn(gateway: &crate::support::gateway::Gateway, point: &str) -> u64 {
    let chart = gateway.get(&format!("/api/v1/points/{point}/series")).await;
    chart["rows"].as_array().unwrap().iter().map(|row| row[2].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_backup_of_every_older_format_is_put_back_on_another_box_and_on_its_own() {
    for format in [1, 2] {
        let house = House::build(BROKER, &["sd-1", "sd-2", "sd-3"].map(|id| smoke(id, "broker")).concat());
        let gateway = house.launch().await;
        let mut pen = gateway.pen("detectors").await;
        for n in 0..20 {
            pen.publish(&topic("sd-1"), &format!(r#"{{"temperature":{}}}"#, 20 + n)).await;
        }
        pen.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
        pen.publish(&topic("sd-2"), r#"{"smoke":1}"#).await;
        let fire = gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
        gateway.hazard("sd-2/smoke", "smoke-fire", |_| true).await;
        gateway.command(fire["id"].as_str().unwrap(), "acknowledge", "去看了").await;
        gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["acknowledged"]["by"] == "李四").await;
        let before = standing(&gateway.get("/api/v1/hazards").await);
        let log = gateway.get("/api/v1/log?limit=500").await;
        gateway.stop().await;
        let usb = tempfile::tempdir().unwrap();
        let (config, usb) = (house.config(), usb.path());
        let (code, said) = House::tool(&["backup", "--config", text(&config), "--to", text(usb)]);
        assert_eq!(code, Some(0), "{said}");
        let backup = backup_in(usb);
        assert!(downgrade(&backup.join("journal.db"), format) > 20);
        an_earlier_program_made_it(&backup, format);

        // On a new box, and on its own, which has gone on meanwhile and whose journal is set aside.
        let gateway = house.launch().await;
        gateway.pen("detectors").await.publish(&topic("sd-3"), r#"{"smoke":1}"#).await;
        gateway.hazard("sd-3/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
        gateway.stop().await;
        let other = house.another_box();
        let config = other.config();
        let restore = ["restore", text(&backup), "--config", text(&config), "--config-files"];
        let (code, said) = House::tool(&restore);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("程序 0.0.9") && said.contains("未关闭的报警 2 条"), "{said}");
        let config = house.config();
        let restore = ["restore", text(&backup), "--config", text(&config)];
        let (code, said) = House::tool(&restore);
        assert_eq!(code, Some(1), "there is a newer journal: {said}");
        let (code, said) = House::tool(&[&restore[..], &["--replace"]].concat());
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("原来的日志另存为"), "{said}");

        for box_ in [&house, &other] {
            let head = Archive::open(&box_.data()).unwrap().summary().unwrap().head;
            let gateway = box_.launch().await;
            assert_eq!(standing(&gateway.get("/api/v1/hazards").await), before, "from format {format}");
            let now = gateway.get("/api/v1/log?limit=500").await["lines"].as_array().unwrap().clone();
            for line in log["lines"].as_array().unwrap() {
                assert!(now.contains(line), "the duty log lost {line:#}");
            }
            assert!(now.iter().any(|line| line.to_string().contains("由备份恢复")), "{now:#?}");
            assert_eq!(drawn(&gateway, "sd-1/temperature").await, 20);
            let mut pen = gateway.pen("detectors").await;
            pen.publish(&topic("sd-3"), r#"{"smoke":1}"#).await;
            let fresh = gateway.hazard("sd-3/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
            let number: u64 = fresh["id"].as_str().unwrap().split('.').next().unwrap().parse().unwrap();
            assert!(number > head && head > 50_000, "{number} may have been given before");
            gateway.stop().await;
            let (code, said) = House::tool(&["audit", "verify", "--data", text(&box_.data())]);
            assert_eq!(code, Some(0), "from format {format}: {said}");
            let told = Told::to_a_person(box_).await;
            told.nothing_but(&["not-running"]);
            match std::ptr::eq(box_, &house) {
                true => told.says("restore-set-aside", "good", &["恢复备份时换下的日志还在"]),
                false => told.sees_no("restore-set-aside"),
            }
        }
        // What is asked of the backup itself says that it is an older one, and not that it is broken.
        let (code, said) = House::tool(&["audit", "verify", text(&backup)]);
        assert!(code != Some(0) && said.contains("旧格式") && said.contains("restore"), "{code:?} {said}");
    }
}
