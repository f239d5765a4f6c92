//! The quarantine: frames are kept whole, bounded, and leave with the commit that has their readings.

use super::*;
use fengsui::journal::{QuarantineChange, QuarantineGroup, Restamp};
use fengsui::model::{LinkId, Quarantined, RegisterBlock, RegisterTable, Trouble};

fn frame(device: Option<&str>, topic: &str, payload: Vec<u8>, no: u64) -> Quarantined {
    Quarantined {
        id: 0,
        device: device.map(|device| DeviceId::parse(device).unwrap()),
        planned: device.is_some(),
        link: LinkId::parse("hall").unwrap(),
        body: Body::Message { topic: topic.into(), payload: payload.into() },
        at: at(no),
        retained: no.is_multiple_of(2),
        reason: "不是有效的 JSON".into(),
        had: "".into(),
    }
}

async fn put(journal: &Journal, frames: Vec<Quarantined>) {
    let no = *journal.recorded().borrow() + 1;
    let quarantine = frames.into_iter().map(QuarantineChange::Keep).collect();
    journal.append(Write { quarantine, ..write(no, vec![]) }).await.unwrap();
}

async fn all(journal: &Journal, wanted: &Wanted) -> Vec<Quarantined> {
    let mut frames: Vec<Quarantined> = Vec::new();
    loop {
        let after = frames.last().map_or(0, |frame| frame.id);
        let lot = journal.quarantined(wanted, after).await.unwrap();
        if lot.is_empty() {
            return frames;
        }
        frames.extend(lot);
    }
}

async fn of(journal: &Journal, device: &str) -> usize {
    let device = DeviceId::parse(device).ok();
    all(journal, &Wanted { device, key: None }).await.len()
}

#[tokio::test]
async fn a_frame_comes_back_byte_by_byte_with_all_that_was_known_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let block = |start, words| RegisterBlock { table: RegisterTable::Holding, start, words, count: 3 };
    let registers = Quarantined {
        body: Body::Registers {
            device: DeviceId::parse("meter-1").unwrap(),
            blocks: vec![block(0, Ok(vec![1, 65535])), block(10, Err(Trouble::Exception(2)))],
        },
        had: "voltage current".into(),
        ..frame(Some("meter-1"), "", vec![], 3)
    };
    let bytes = frame(None, "a/有 空格", (0..=255).collect(), 2);
    let put_in = vec![frame(Some("sd-01"), "a/1", vec![], 1), bytes, registers];
    put(&journal, put_in.clone()).await;
    drop(journal);
    let (journal, _) = open(dir.path());
    let mut found = all(&journal, &Wanted::default()).await;
    assert_eq!(found.iter().map(|frame| frame.id).collect::<Vec<_>>(), [1, 2, 3]);
    found.iter_mut().for_each(|frame| frame.id = 0);
    assert_eq!(found, put_in);
    let by_key = Wanted { device: None, key: Some("hall a/有 空格".into()) };
    assert_eq!(all(&journal, &by_key).await.len(), 1);
}

#[tokio::test]
async fn a_sender_that_babbles_pushes_out_its_own_frames_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let limits = Limits {
        quarantine_sender_frames_max: 20,
        quarantine_sender_bytes_max: 4000,
        quarantine_frames_max: 30,
        quarantine_bytes_max: 10_000,
        quarantine_unknown_frames_max: 10,
        ..Limits::default()
    };
    let (journal, _) = Journal::open(dir.path(), limits, metrics.clone()).unwrap();
    put(&journal, vec![frame(Some("quiet"), "q", vec![0; 100], 1)]).await;
    put(&journal, (0..100).map(|n| frame(Some("loud"), &format!("l/{}", n % 3), vec![1; 10], n)).collect())
        .await;
    assert_eq!((of(&journal, "quiet").await, of(&journal, "loud").await), (1, 20), "by number");
    assert_eq!(metrics.quarantine_dropped.get(), 80);
    let newest = all(&journal, &Wanted { device: DeviceId::parse("loud").ok(), key: None }).await;
    assert!(newest.iter().all(|frame| frame.at >= at(80)), "the oldest went");
    put(&journal, vec![frame(Some("fat"), "f", vec![2; 3000], 1), frame(Some("fat"), "f", vec![2; 3900], 2)])
        .await;
    assert_eq!(of(&journal, "fat").await, 1, "by bytes");
    put(&journal, vec![frame(Some("fat"), "f", vec![2; 9000], 3)]).await;
    assert_eq!(of(&journal, "fat").await, 1, "the newest stays, however large");
    // In all: whoever holds most gives way.
    put(&journal, (0..15).map(|n| frame(Some("late"), "t", vec![3; 10], n)).collect()).await;
    let held = [of(&journal, "quiet").await, of(&journal, "loud").await, of(&journal, "late").await];
    assert_eq!((held[0], held.iter().sum::<usize>()), (1, 29), "{held:?}");
    assert!(held[1].abs_diff(held[2]) <= 1, "they share what there is: {held:?}");
    // Strangers have a room of their own.
    put(&journal, (0..50).map(|n| frame(None, &format!("s/{n}"), vec![4], n)).collect()).await;
    let groups = journal.quarantine().await.unwrap();
    let unknown = |group: &&QuarantineGroup| group.kind == StrayKind::Unknown;
    assert_eq!(groups.iter().filter(unknown).count(), 10);
    assert_eq!(of(&journal, "quiet").await, 1);
}

#[tokio::test]
async fn what_was_decoded_leaves_with_its_entry_and_what_was_not_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let stray = |key: &str, kind, device| Stray { key: key.into(), ..stray(kind, key, device, 7) };
    let strays = vec![
        stray("hall a", StrayKind::Unreadable, Some("sd-01")),
        stray("hall b", StrayKind::Unknown, None),
    ];
    let frames = [frame(Some("sd-01"), "a", vec![1], 1), frame(Some("sd-01"), "a", vec![2], 2)];
    let frames = frames.into_iter().chain([frame(None, "b", vec![3], 3)]);
    let quarantine = frames.map(QuarantineChange::Keep).collect();
    journal.append(Write { strays, quarantine, ..write(1, vec![]) }).await.unwrap();
    let kept = all(&journal, &Wanted::default()).await;
    let renewed = Quarantined { reason: "应为数字".into(), had: "battery".into(), ..kept[1].clone() };
    let moved = Quarantined { device: DeviceId::parse("sd-02").ok(), planned: true, ..kept[2].clone() };
    let quarantine = vec![
        QuarantineChange::Release(kept[0].id),
        QuarantineChange::Renew(renewed.clone()),
        QuarantineChange::Renew(moved.clone()),
    ];
    journal.append(Write { quarantine, ..write(2, vec![]) }).await.unwrap();
    assert_eq!(all(&journal, &Wanted::default()).await, [renewed.clone(), moved]);
    let strays = journal.strays().await.unwrap();
    assert!(strays.iter().any(|stray| &*stray.key == "hall a" && &*stray.reason == "应为数字"), "{strays:?}");
    // What a stranger sent is a planned device's now: one row, under what could not be read.
    let rows: Vec<_> = strays.iter().filter(|stray| &*stray.key == "hall b").collect();
    assert_eq!(rows.len(), 1, "{strays:?}");
    assert_eq!(
        (rows[0].kind, rows[0].device.as_ref().map(DeviceId::as_str)),
        (StrayKind::Unreadable, Some("sd-02"))
    );
    // The last one of a sender: nothing is left to do.
    let quarantine = vec![QuarantineChange::Release(renewed.id)];
    journal.append(Write { quarantine, ..write(3, vec![]) }).await.unwrap();
    assert!(journal.strays().await.unwrap().iter().all(|stray| &*stray.key != "hall a"));
}

#[tokio::test]
async fn frames_grow_old_give_way_to_telemetry_and_are_dated_anew_with_their_entry() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let limits = Limits { quarantine_age_max: Span::from_secs(100), ..Limits::default() };
    let (journal, _) = Journal::open(dir.path(), limits, metrics.clone()).unwrap();
    put(&journal, vec![frame(Some("sd-01"), "a", vec![1], 1)]).await;
    let by = Span::from_secs(3600);
    let restamp = Some(Restamp { first: 1, last: 1, shift: by });
    journal.append(Write { restamp, ..write(2, vec![]) }).await.unwrap();
    assert_eq!(all(&journal, &Wanted::default()).await[0].at, at(1) + by);
    for no in 3..=1000 {
        journal.append(write_at(no, at(4000), vec![])).await.unwrap();
    }
    assert_eq!((of(&journal, "sd-01").await, metrics.quarantine_dropped.get()), (0, 1));
    drop(journal);
    // Size: quarantine goes before entries that somebody still waits for.
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { bytes_max: 256 << 10, ballast_bytes: 4096, ..Limits::default() };
    let metrics = Metrics::new();
    let (journal, _) = Journal::open(dir.path(), limits, metrics.clone()).unwrap();
    journal.cursor("a sink that is down").await.unwrap();
    put(&journal, (0..100).map(|n| frame(Some("sd-01"), "a", vec![7; 1000], n)).collect()).await;
    let mut no = 2;
    while of(&journal, "sd-01").await > 0 {
        let readings =
            (0..50).map(|n| reading("m-1/noise", fastrand::f64() + f64::from(n), at(no))).collect();
        journal.append(write(no, readings)).await.unwrap();
        no += 1;
    }
    assert_eq!(metrics.journal_trimmed.get(), 0, "an entry that nobody had read went first");
}

#[tokio::test]
async fn ordinary_readings_write_no_page_more_than_without_a_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    put(&journal, (0..100).map(|n| frame(Some("sd-01"), "a", vec![7; 100], n)).collect()).await;
    let wal = dir.path().join("journal.db-wal");
    let mut grew = Vec::new();
    for no in 2..=30 {
        let before = std::fs::metadata(&wal).unwrap().len();
        journal.append(write(no, vec![reading("m-1/t", 1.0, at(no))])).await.unwrap();
        grew.push(std::fs::metadata(&wal).unwrap().len() - before);
    }
    grew.sort_unstable();
    // A frame of the log is a page of 2048 bytes and its head of 24.
    assert_eq!(grew[grew.len() / 2], 2048 + 24, "{grew:?}");
}
