//! Tests of: journal.

mod archive;
mod damage;
mod formats;
mod lost;
mod quarantine;
mod room;

use crate::support::journal::everything;
use fengsui::journal::{
    AppendError, Entry, Journal, Limits, LogLine, Logged, Note, NoteKind, OpenError, Stray, StrayKind, Write,
};
use fengsui::metrics::Metrics;
use fengsui::model::{
    Body, Cause, Change, Condition, DeviceId, Evidence, Fact, Hazard, HazardId, Number, Phase, PointId,
    Priority, Quality, Reading, RuleId, SignalClass, Signature, Span, Text, Timestamp, Transition, Value,
    Wanted,
};
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
    write_at(no, at(no), readings)
}

fn write_at(no: u64, at: Timestamp, readings: Vec<Reading>) -> Write {
    let entry = Entry { no, at, recorded: true, readings, transitions: vec![], notes: vec![] };
    Write { receipts: vec![no], ..Write::of(entry) }
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

/// A hazard of the detector `sd-01`, raised in entry `no`.
fn hazard(no: u64) -> Hazard {
    let point = PointId::parse("sd-01/smoke").unwrap();
    let rule = RuleId::parse("fire-smoke").unwrap();
    Hazard {
        id: HazardId::derive(no, &point, &rule),
        point,
        rule,
        signal: SignalClass::Fire,
        priority: Priority::Red,
        latching: true,
        title: Text::new("火警", "fire"),
        evidence: Evidence {
            value: Value::Code("alarm".into()),
            flaw: None,
            unit: "".into(),
            point_name: Text::new("烟感", "smoke"),
            state_name: Some(Text::new("报警", "alarm")),
            condition: Condition::OneOf(vec!["alarm".into()]),
            on_delay: Span::ZERO,
            basis: "本系统默认值".into(),
        },
        raised_at: at(no),
        sampled_at: None,
        late: false,
        occurrences: 1,
        last_raised_at: at(no),
        returned_at: None,
        acknowledged: None,
        silenced: None,
        closed: None,
    }
}

/// An entry in which the hazard of entry `raised` changes.
fn change(no: u64, raised: u64, change: Change) -> Write {
    let mut hazard = hazard(raised);
    let signature = Signature { by: "zhang".into(), at: at(no), note: "到场核实".into() };
    let (phase, cause) = match change {
        Change::Reset => {
            hazard.closed = Some(signature.clone());
            (Phase::Normal, Cause::Operator(signature))
        }
        _ => (Phase::Active, Cause::Reading { value: Value::Code("alarm".into()), flaw: None }),
    };
    let open = (change != Change::Reset).then(|| hazard.clone());
    let fact = Fact { point: hazard.point.clone(), rule: hazard.rule.clone(), phase, hazard: open };
    let transition = Transition { hazard, change, phase, at: at(no), cause };
    let entry = Entry {
        no,
        at: at(no),
        recorded: true,
        readings: vec![],
        transitions: vec![transition],
        notes: vec![Note { kind: NoteKind::Link, subject: "bus".into(), text: Text::new("断开", "down") }],
    };
    Write { facts: vec![fact], ..Write::of(entry) }
}

#[tokio::test]
async fn a_hazard_is_there_after_a_restart_until_a_person_resets_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let raise = change(1, 1, Change::Raised);
    journal.append(raise.clone()).await.unwrap();
    drop(journal);
    let (journal, restored) = open(dir.path());
    assert_eq!(restored.facts, raise.facts);
    assert_eq!(journal.open_hazards().await.unwrap(), raise.facts);
    assert_eq!(journal.closed_hazards(None, 10).await.unwrap(), []);
    assert_eq!(
        journal.read_after(0, 10).await.unwrap(),
        std::slice::from_ref(&raise.entry),
        "read from the disk as written"
    );
    journal.append(write(2, vec![])).await.unwrap();
    let reset = change(3, 1, Change::Reset);
    journal.append(reset.clone()).await.unwrap();
    assert_eq!(journal.open_hazards().await.unwrap(), []);
    let closed = journal.closed_hazards(None, 10).await.unwrap();
    assert_eq!(closed, [reset.entry.transitions[0].hazard.clone()]);
    assert_eq!(journal.closed_hazards(Some(at(3)), 10).await.unwrap(), []);
    let history = journal.history(&hazard(1).id).await.unwrap();
    assert_eq!(history.iter().map(|t| t.change).collect::<Vec<_>>(), [Change::Raised, Change::Reset]);
    let log = journal.duty_log(None, 1).await.unwrap();
    assert_eq!(log.iter().map(|line| line.no).collect::<Vec<_>>(), [3, 3], "a page holds whole entries");
    let older = journal.duty_log(Some(3), 10).await.unwrap();
    assert!(matches!(&older[..], [LogLine { no: 1, what: Logged::Note(_), .. }, LogLine { no: 1, .. }]));
    drop(journal);
    assert_eq!(open(dir.path()).1.facts, []);
}

#[tokio::test]
async fn numbers_are_given_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let refused = journal.append(write(2, vec![])).await;
    assert_eq!(refused, Err(AppendError::OutOfOrder { expected: 1, got: 2 }));
    journal.append(write(1, vec![])).await.unwrap();
    assert!(journal.append(write(1, vec![])).await.is_err());
    assert!(journal.health().writable, "a wrong number is no fault of the disk");
}

/// Password hashes and telephone numbers are in it.
#[tokio::test]
async fn the_journal_is_the_gateways_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("made/by us");
    let (journal, _) = open(&folder);
    journal.append(write(1, vec![reading("a/b", 1.0, at(1))])).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in ["journal.db", "journal.db-wal"] {
        assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_second_gateway_on_the_directory_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let refused = Journal::open(dir.path(), Limits::default(), Metrics::new()).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, OpenError::InUse { .. }), "{text}");
    assert!(text.contains(&std::process::id().to_string()) && text.contains("stop that one first"), "{text}");
    drop(journal);
    open(dir.path());
}

#[tokio::test]
async fn followers_read_unrecorded_entries_live_but_keep_no_cursor_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.append(write(1, vec![])).await.unwrap();
    let (mut head, mut recorded) = (journal.head(), journal.recorded());
    let entry = Entry { recorded: false, ..(*write(2, vec![]).entry).clone() };
    journal.publish_unrecorded(Arc::new(entry));
    assert!(head.has_changed().unwrap() && !recorded.has_changed().unwrap());
    assert_eq!((*head.borrow_and_update(), *recorded.borrow_and_update()), (2, 1));
    let seen = journal.read_after(1, 10).await.unwrap();
    assert!(matches!(&seen[..], [entry] if !entry.recorded && entry.no == 2));
    assert_eq!(journal.read_recorded_after(1, 10).await.unwrap(), []);
    journal.cursor("influx").await.unwrap();
    journal.move_cursor("influx", 2).await.unwrap();
    assert_eq!(journal.cursor("influx").await.unwrap(), 1, "number 2 is not on the disk");
    journal.append(write(2, vec![])).await.unwrap();
    assert!(recorded.has_changed().unwrap());
    assert!(journal.read_after(1, 10).await.unwrap()[0].recorded);
}

#[tokio::test]
async fn cursors_and_documents_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    for no in 1..=3 {
        journal.append(write(no, vec![])).await.unwrap();
    }
    assert_eq!(journal.cursor("influx").await.unwrap(), 0);
    journal.move_cursor("influx", 2).await.unwrap();
    journal.put_document("account", "zhang", Some("{\"a\":1}"), at(1)).await.unwrap();
    journal.put_document("account", "li", Some("{}"), at(1)).await.unwrap();
    journal.put_document("account", "li", None, at(2)).await.unwrap();
    drop(journal);
    let (journal, _) = open(dir.path());
    assert_eq!(journal.cursor("influx").await.unwrap(), 2);
    assert_eq!(journal.keep_only_cursors(&["series"]).await.unwrap(), ["influx"], "no longer configured");
    assert_eq!(journal.cursor("influx").await.unwrap(), 0);
    assert_eq!(journal.keep_only_cursors(&["influx"]).await.unwrap(), Vec::<String>::new());
    assert_eq!(journal.document("account", "zhang").await.unwrap().as_deref(), Some("{\"a\":1}"));
    assert_eq!(journal.document("account", "li").await.unwrap(), None);
    assert_eq!(journal.documents("account").await.unwrap(), [("zhang".to_owned(), "{\"a\":1}".to_owned())]);
}

fn stray(kind: StrayKind, key: &str, device: Option<&str>, sample: u64) -> Stray {
    Stray {
        kind,
        key: key.into(),
        device: device.map(|device| DeviceId::parse(device).unwrap()),
        reason: "not JSON".into(),
        sample: sample.to_le_bytes().to_vec(),
        first_at: at(sample),
        last_at: at(sample),
        count: 1,
    }
}

#[tokio::test]
async fn strays_are_bounded_and_the_oldest_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let (journal, _) = Journal::open(dir.path(), Limits::default(), metrics.clone()).unwrap();
    let mut no = 0;
    let mut put = async |strays: Vec<Stray>| {
        no += 1;
        journal.append(Write { strays, ..write(no, vec![]) }).await.unwrap();
    };
    put((0..250).map(|n| stray(StrayKind::Unknown, &format!("t/{n}"), None, n)).collect()).await;
    assert_eq!(metrics.strays_dropped.get(), 50);
    put(vec![stray(StrayKind::Unknown, "t/249", None, 900)]).await;
    put((0..60).map(|n| stray(StrayKind::Unreadable, &format!("t/x/{n}"), Some("sd-01"), n)).collect()).await;
    put(vec![stray(StrayKind::Unreadable, "t/x/59", Some("sd-01"), 61)]).await;
    put((0..3).map(|n| stray(StrayKind::Unreadable, &format!("t/y/{n}"), Some("sd-02"), n)).collect()).await;
    assert_eq!(metrics.strays_dropped.get(), 60);
    let strays = journal.strays().await.unwrap();
    let of = |kind: StrayKind, key: &str| {
        strays.iter().filter(|s| s.kind == kind && s.key.starts_with(key)).count()
    };
    assert_eq!(strays.iter().filter(|s| s.kind == StrayKind::Unknown).count(), 200);
    assert_eq!((of(StrayKind::Unknown, "t/49"), of(StrayKind::Unknown, "t/50")), (0, 1));
    assert_eq!((of(StrayKind::Unreadable, "t/x"), of(StrayKind::Unreadable, "t/y")), (50, 3));
    assert_eq!((&*strays[0].key, strays[0].count, strays[0].first_at), ("t/249", 2, at(249)));
    journal.forget_stray(StrayKind::Unreadable, "t/x/59").await.unwrap();
    assert_eq!(journal.strays().await.unwrap().len(), 252);
}

#[tokio::test]
async fn retention_deletes_what_all_have_read_and_keeps_the_hazards() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { readings_age_max: Span::from_secs(10), ..Limits::default() };
    let (journal, _) = Journal::open(dir.path(), limits, Metrics::new()).unwrap();
    journal.cursor("influx").await.unwrap();
    journal.append(change(1, 1, Change::Raised)).await.unwrap();
    for no in 2..=40 {
        journal.append(write(no, vec![reading("sd-01/battery", 3.0, at(no))])).await.unwrap();
    }
    assert_eq!(journal.health().oldest, Some(at(1)), "a follower has not read them");
    journal.move_cursor("influx", 20).await.unwrap();
    for no in 41..=45 {
        journal.append(write(no, vec![])).await.unwrap();
    }
    assert_eq!(journal.health().oldest, Some(at(21)));
    drop(journal);
    let limits = Limits { ring_entries_max: 1, ..Limits::default() };
    let (journal, restored) = Journal::open(dir.path(), limits, Metrics::new()).unwrap();
    assert_eq!(restored.facts.len(), 1);
    assert_eq!(journal.history(&hazard(1).id).await.unwrap().len(), 1);
    assert_eq!(journal.read_after(0, 100).await.unwrap().first().unwrap().no, 21);
}

#[tokio::test]
async fn the_size_limit_deletes_telemetry_and_never_an_open_hazard() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let limits = Limits { bytes_max: 512 << 10, ballast_bytes: 4096, ..Limits::default() };
    let (journal, _) = Journal::open(dir.path(), limits.clone(), metrics.clone()).unwrap();
    journal.cursor("a sink that is down").await.unwrap();
    journal.append(change(1, 1, Change::Raised)).await.unwrap();
    for no in 2..=300 {
        // Noise that does not compress: about 9 bytes each, 5 kB an entry, 1.5 MB in all.
        let readings =
            (0..500).map(|n| reading("m-1/noise", fastrand::f64() + f64::from(n), at(no))).collect();
        journal.append(write(no, readings)).await.unwrap();
    }
    assert!(metrics.journal_trimmed.get() > 100, "counted: {}", metrics.journal_trimmed.get());
    let log = journal.duty_log(None, 100).await.unwrap();
    let told = |line: &&LogLine| matches!(&line.what, Logged::Note(note) if note.kind == NoteKind::Journal);
    assert!(log.iter().filter(told).count() >= 1, "the duty log says that entries were deleted unread");
    drop(journal);
    let file = std::fs::metadata(dir.path().join("journal.db")).unwrap().len();
    assert!(file <= limits.bytes_max + limits.bytes_max / 8, "{file}");
    let (journal, restored) = Journal::open(dir.path(), limits, Metrics::new()).unwrap();
    assert_eq!((restored.head, restored.facts.len()), (300, 1));
    let kept = everything(&journal).await;
    assert!(kept.len() > 20 && kept.last().unwrap().no == 300);
}

const CHILD: &str = "FENGSUI_JOURNAL_CHILD";

/// Not a test by itself: the process that the next test kills. Appends and says what was acknowledged.
#[tokio::test]
async fn a_process_that_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let (journal, restored) = open(Path::new(&dir));
    let mut no = restored.head;
    loop {
        no += 1;
        let mut write =
            if no % 2 == 1 { change(no, no, Change::Raised) } else { change(no, no - 1, Change::Reset) };
        write.receipts = vec![no];
        let mut entry = (*write.entry).clone();
        entry.readings = (0..20).map(|n| reading(&format!("m-{n}/current"), no as f64, at(no))).collect();
        write.entry = Arc::new(entry);
        journal.append(write).await.unwrap();
        println!("acknowledged {no}");
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_to_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..10 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["journal::a_process_that_appends_until_it_is_killed", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        let stop_after = fastrand::usize(1..60);
        let mut heard = 0;
        for line in lines {
            // The harness may print on the same line before the first one.
            let line = line.unwrap();
            let Some((_, no)) = line.rsplit_once("acknowledged ") else { continue };
            acknowledged = no.parse().unwrap();
            heard += 1;
            // Read on after the kill: what is still in the pipe was acknowledged too.
            if heard == stop_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(heard >= stop_after, "round {round}: the child stopped by itself");
        let (journal, restored) = open(dir.path());
        assert_eq!(restored.recovered, None);
        assert!(restored.head == acknowledged || restored.head == acknowledged + 1, "round {round}");
        let entries = everything(&journal).await;
        let numbers: Vec<_> = entries.iter().map(|entry| entry.no).collect();
        assert_eq!(numbers, (1..=restored.head).collect::<Vec<_>>(), "each exactly once");
        assert!(entries.iter().all(|entry| entry.readings.len() == 20 && entry.transitions.len() == 1));
        assert_eq!(restored.receipts.len() as u64, restored.head);
        let open = restored.facts.iter().filter(|fact| fact.hazard.is_some()).count() as u64;
        assert_eq!(open, restored.head % 2, "the facts are those of the last entry");
        acknowledged = restored.head;
    }
}

/// Bytes free on a small file system of our own; `None` where none can be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .stderr(std::process::Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone_with_the_process = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_passes_when_there_is_room_again() {
    let Some(disk) = SmallDisk::mount("4m") else {
        eprintln!("no file system can be mounted here: the size limit's test stands in");
        return;
    };
    let metrics = Metrics::new();
    let limits = Limits { ballast_bytes: 1 << 20, ..Limits::default() };
    let (journal, _) = Journal::open(disk.0.path(), limits.clone(), metrics.clone()).unwrap();
    assert!(journal.health().ballast);
    journal.append(change(1, 1, Change::Raised)).await.unwrap();
    std::fs::write(disk.0.path().join("other"), vec![7u8; 1500 << 10]).unwrap();
    let filling = |no: u64| {
        let readings =
            (0..2000).map(|n| reading("m-1/noise", fastrand::f64() + f64::from(n), at(no))).collect();
        write(no, readings)
    };
    let mut no = 1;
    let error = loop {
        no += 1;
        assert!(no < 1000, "4 MB never filled up");
        if let Err(error) = journal.append(filling(no)).await {
            break error;
        }
    };
    assert!(matches!(error, AppendError::Full(_)), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    let health = journal.health();
    assert_eq!((health.writable, health.ballast, health.failing_since), (false, false, Some(at(no))));
    assert!(metrics.journal_failures.get() >= 1 && health.last_error.is_some());
    assert_eq!(journal.open_hazards().await.unwrap().len(), 1, "reading goes on");
    // The same write again, once somebody has made room.
    let again = filling(no);
    assert!(journal.append(again.clone()).await.is_err());
    std::fs::remove_file(disk.0.path().join("other")).unwrap();
    journal.append(again).await.unwrap();
    let health = journal.health();
    assert_eq!((health.writable, health.failing_since, health.head), (true, None, no));
    drop(journal);
    let (_, restored) = Journal::open(disk.0.path(), limits, Metrics::new()).unwrap();
    assert_eq!((restored.head, restored.facts.len(), restored.recovered), (no, 1, None));
}

#[tokio::test]
async fn appends_that_wait_are_done_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let many = (1..=100).map(|no| {
        let journal = journal.clone();
        async move { journal.append(write(no, vec![])).await }
    });
    let results = futures::future::join_all(many).await;
    assert!(results.iter().all(Result::is_ok), "more than the queue holds: the others waited");
    assert_eq!((*journal.head().borrow(), journal.health().head), (100, 100));
}

#[tokio::test]
async fn an_append_of_a_thousand_readings_is_small_and_quick() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let readings = |no: u64| -> Vec<Reading> {
        (0..1000u32)
            .map(|n| {
                let value = (200.0 + f64::from(n % 100) + (no % 10) as f64) / 10.0;
                reading(
                    &format!("dev-{}/p{}", n / 5, n % 5),
                    value,
                    at(no) + Span::from_millis(i64::from(n / 10)),
                )
            })
            .collect()
    };
    let writes: Vec<_> = (1..=30).map(|no| write(no, readings(no))).collect();
    let started = tokio::time::Instant::now();
    for write in writes {
        journal.append(write).await.unwrap();
    }
    let each = started.elapsed() / 30;
    drop(journal);
    let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    let bytes: f64 = conn.query_row("SELECT avg(length(readings)) FROM entry", [], |row| row.get(0)).unwrap();
    println!("append of 1000 readings: {each:?}; {:.2} bytes a reading", bytes / 1000.0);
    assert!(bytes / 1000.0 < 6.0, "{bytes} bytes for 1000 readings");
}
