//! Backups by the clock: when they are made, what is kept of the result, what the duty log is told.

use super::*;
use fengsui::backup::{
    DOCUMENT, GoOn, Household, Last, Order, Rhythm, Schedule, Trouble, WAL_BYTES_MAX, make,
};
use fengsui::clock::Clock;
use fengsui::commands::{self, Request, Requests};
use fengsui::journal::{Journal, Limits};
use fengsui::metrics::Metrics;
use fengsui::model::{Span, Timestamp};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

struct Stage {
    data: tempfile::TempDir,
    usb: tempfile::TempDir,
    journal: Journal,
    clock: Clock,
    metrics: Metrics,
    requests: Requests,
    door: commands::Door,
}

const EVERY: Span = Span::from_secs(86_400);

impl Stage {
    fn new(start: Timestamp) -> Self {
        let data = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        let limits = Limits { ballast_bytes: 0, ..Limits::default() };
        let (journal, _) = Journal::open(data.path(), limits, metrics.clone()).unwrap();
        let (door, requests) = commands::door();
        let usb = tempfile::tempdir().unwrap();
        Self { data, usb, journal, clock: Clock::simulated(start), metrics, requests, door }
    }

    fn run(&self) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        let schedule = Schedule {
            household: Household::of_data(self.data.path()),
            dir: self.usb.path().join("fengsui"),
            every: EVERY,
            keep: 3,
            journal: self.journal.clone(),
            door: self.door.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            rhythm: Rhythm::default(),
        };
        let cancel = CancellationToken::new();
        let asked = cancel.clone();
        (cancel, tokio::spawn(schedule.run(asked)))
    }

    async fn last(&self) -> Option<Last> {
        let (kind, key) = DOCUMENT;
        self.journal.document(kind, key).await.unwrap().and_then(|json| Last::parse(&json))
    }

    /// Waits, in simulated time, until the last backup is so; real work on other threads goes on meanwhile.
    async fn until(&self, what: &str, so: impl Fn(&Last) -> bool) -> Last {
        let begun = Instant::now();
        loop {
            if let Some(last) = self.last().await.filter(&so) {
                return last;
            }
            assert!(begun.elapsed() < Duration::from_secs(40 * 86_400), "did not come: {what}");
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(Request::Own(own)) = self.requests.try_recv() {
            assert_eq!(&*own.subject, "backup");
            told.push(own.text.zh.to_string());
        }
        told
    }

    fn made(&self) -> usize {
        std::fs::read_dir(self.usb.path().join("fengsui")).map_or(0, Iterator::count)
    }
}

#[tokio::test(start_paused = true)]
async fn a_missed_backup_is_made_soon_after_the_start_and_then_every_day() {
    let start = Timestamp::from_secs(1_800_000_000);
    let mut stage = Stage::new(start);
    std::fs::create_dir(stage.usb.path().join("fengsui")).unwrap();
    let (cancel, running) = stage.run();
    let first = stage.until("the first backup", |last| last.ok).await;
    let minutes = |last: &Last, after: i64| (last.at - after) as f64 / 60_000.0;
    assert!(minutes(&first, start.as_millis()) < 360.0, "{first:?}");
    assert!(first.file.as_ref().unwrap().join("manifest.json").exists() && first.bytes > 0);
    let second = stage.until("the second", |last| last.at > first.at).await;
    let day = minutes(&second, first.at) / 1440.0;
    assert!((1.0..1.5).contains(&day), "{day} days");
    for _ in 0..3 {
        let at = stage.last().await.unwrap().at;
        stage.until("the next", |last| last.at > at && last.ok).await;
    }
    assert_eq!(stage.made(), 3, "the oldest went");
    assert_eq!(stage.told(), Vec::<String>::new(), "success every day is no news");
    assert_eq!(stage.metrics.backups.get(), 5);
    cancel.cancel();
    running.await.unwrap();

    // Restarted within the day: the next one is not due.
    let at = stage.last().await.unwrap().at;
    let (cancel, running) = stage.run();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(stage.last().await.unwrap().at, at);
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stick_that_is_away_is_told_once_and_its_return_as_well() {
    let mut stage = Stage::new(Timestamp::from_secs(1_800_000_000));
    let (cancel, running) = stage.run();
    let failed = stage.until("a failure", |last| !last.ok).await;
    assert!(failed.error.as_ref().unwrap().contains("不存在"), "{failed:?}");
    let again = stage.until("another one", |last| !last.ok && last.at > failed.at).await;
    // Simulated time runs on while real files are written: hours at most, and not until the next day.
    assert!(again.at - failed.at < EVERY.as_millis() / 2, "it is tried again soon");
    let told = stage.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("备份失败："), "{told:?}");
    std::fs::create_dir(stage.usb.path().join("fengsui")).unwrap();
    let good = stage.until("a backup", |last| last.ok).await;
    assert_eq!((good.good_at, good.error), (Some(good.at), None));
    let told = stage.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("备份恢复正常："), "{told:?}");
    assert!(stage.metrics.backups_failed.get() >= 2);
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn under_an_unset_clock_backups_are_counted_from_the_start() {
    let stage = Stage::new(Timestamp::EPOCH);
    std::fs::create_dir(stage.usb.path().join("fengsui")).unwrap();
    let (cancel, running) = stage.run();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(stage.last().await, None);
    let first = stage.until("a day without a clock", |last| last.ok).await;
    assert!(first.at >= 86_400_000, "{first:?}");
    // The clock is set: the next one counts from there, and is made at once.
    stage.clock.step_simulated(Span::from_secs(1_800_000_000));
    stage.clock.take_step();
    let next = stage.until("one under the right clock", |last| last.at > 1_800_000_000_000).await;
    assert!(next.ok);
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_copy_that_makes_the_journals_log_too_large_is_given_up_and_leaves_nothing() {
    let stage = Stage::new(Timestamp::from_secs(1_800_000_000));
    // Somebody reads for long, so that the log grows; as it would under a copy to a target that stands still.
    let reader = rusqlite::Connection::open(stage.data.path().join("journal.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM document").unwrap();
    let filler = json!({ "filler": "x".repeat(8 << 10) }).to_string();
    for n in 0..300_u32 {
        stage.journal.put_document("filler", &n.to_string(), Some(&filler), stage.clock.now()).await.unwrap();
    }
    let order = |log_max| Order {
        household: Household::of_data(stage.data.path()),
        to: stage.usb.path().to_owned(),
        with_secrets: false,
        keep: None,
        now: stage.clock.now(),
        log_max,
    };
    let go_on: GoOn = Arc::new(|| true);
    let error = make(&order(1 << 20), &go_on).unwrap_err();
    assert!(error.text.zh.contains("备份已放弃") && error.text.en.contains("given up"), "{error:?}");
    assert_eq!(std::fs::read_dir(stage.usb.path()).unwrap().count(), 0);
    make(&order(WAL_BYTES_MAX), &go_on).unwrap();
    drop(reader);
}

#[tokio::test]
async fn a_backup_that_is_asked_to_stop_stops_soon_and_leaves_nothing() {
    let stage = Stage::new(Timestamp::from_secs(1_800_000_000));
    let filler = json!({ "filler": "x".repeat(1 << 20) }).to_string();
    for n in 0..8_u32 {
        stage.journal.put_document("filler", &n.to_string(), Some(&filler), stage.clock.now()).await.unwrap();
    }
    let order = Order {
        household: Household::of_data(stage.data.path()),
        to: stage.usb.path().to_owned(),
        with_secrets: false,
        keep: Some(1),
        now: stage.clock.now(),
        log_max: WAL_BYTES_MAX,
    };
    // How often it asks when it is let go on; then at moments all over it.
    let attempt = |patience: usize| {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let go_on: GoOn = Arc::new(move || counted.fetch_add(1, Ordering::Relaxed) < patience);
        (make(&order, &go_on), asked.load(Ordering::Relaxed))
    };
    let (made, moments) = attempt(usize::MAX);
    let dir = made.unwrap().dir;
    fengsui::backup::verify(&dir).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    assert!(moments > 20, "it asked only {moments} times");
    for patience in (0..moments).step_by((moments / 20).max(1)) {
        let error = attempt(patience).0.unwrap_err();
        assert_eq!(error.kind, Trouble::Stopped, "moment {patience}: {error:?}");
        assert_eq!(std::fs::read_dir(stage.usb.path()).unwrap().count(), 0, "moment {patience}");
    }
}

#[tokio::test]
async fn a_gateway_makes_the_backup_that_it_missed() {
    let usb = tempfile::tempdir().unwrap();
    let backup =
        format!("{BROKER}[backup]\ndir = \"{}\"\nevery_hours = 24\nkeep = 2\n", usb.path().display());
    let house = House::build(&backup, &smoke("sd-1", "broker"));
    let gateway = house.launch().await;
    let mut pen = gateway.pen("sd-1").await;
    soon("a backup", async {
        // It is given time, and work, to start with.
        loop {
            pen.publish(&topic("sd-1"), r#"{"temperature":20}"#).await;
            let made = std::fs::read_dir(usb.path()).unwrap().map(|entry| entry.unwrap().path());
            if made.into_iter().any(|path| path.extension().is_none()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(gateway.counter("backups").await, 1);
    gateway.stop().await;
    let backup = backup_in(usb.path());
    assert!(fengsui::backup::verify(&backup).unwrap().looked_inside);
}
