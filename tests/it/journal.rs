//! Tests of: journal.

use fengsui::journal::{Entry, Journal, Limits, Write};
use fengsui::metrics::Metrics;
use fengsui::model::{Number, PointId, Quality, Reading, Timestamp, Value};
use std::path::Path;
use std::sync::Arc;

fn open(dir: &Path) -> (Journal, fengsui::journal::Restored) {
    Journal::open(dir, Limits { ballast_bytes: 1 << 16, ..Limits::default() }, Metrics::new()).unwrap()
}

fn at(no: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + i64::try_from(no).unwrap())
}

fn reading(point: &str, value: f64, at: Timestamp) -> Reading {
    Reading {
        point: PointId::parse(point).unwrap(),
        value: Value::Number(Number::new(value).unwrap()),
        quality: Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at: at,
        late: false,
    }
}

fn write(no: u64, readings: Vec<Reading>) -> Write {
    let entry = Entry { no, at: at(no), recorded: true, readings, transitions: vec![], notes: vec![] };
    Write { entry: Arc::new(entry), facts: vec![], receipts: vec![no], strays: vec![] }
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, restored) = open(dir.path());
    assert_eq!(restored.head, 0);
    for no in 1..=5 {
        journal.append(write(no, vec![reading("sd-01/smoke", 0.1 * no as f64, at(no))])).await.unwrap();
    }
    let before = journal.read_after(0, 100).await.unwrap();
    assert_eq!(before.len(), 5);
    drop(journal);
    let (journal, restored) = open(dir.path());
    assert_eq!(restored.head, 5);
    assert_eq!(restored.receipts, (1..=5).collect());
    assert_eq!(journal.read_after(0, 100).await.unwrap(), before);
}
