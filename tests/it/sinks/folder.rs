//! The folder sink: what is in the files, and that everything is in them once, whatever becomes of the stick.

use super::*;
use crate::support::gateway::{self, BROKER};
use crate::support::ports::{soon, until};
use fengsui::journal::NoteKind;
use fengsui::model::{Flaw, Quality};
use fengsui::sinks::folder::{Folder, FolderSettings};
use fengsui::sinks::{Progress, Worker};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

const FOLDER_CURSOR: &str = "folder:stick";

fn folder(house: &House, dir: &Path, change: impl FnOnce(&mut FolderSettings)) -> Folder {
    let mut settings = FolderSettings {
        name: "stick".into(),
        cursor: FOLDER_CURSOR.into(),
        gateway: "gw-1".into(),
        dir: dir.to_owned(),
        require: None,
        file_max_bytes: 1 << 20,
        file_every: Span::ZERO,
        keep_free_bytes: 1,
    };
    change(&mut settings);
    let (_, plan) = watch::channel(Arc::new(plan()));
    Folder::new(settings, house.journal.clone(), plan, house.clock.clone(), house.metrics.clone())
}

/// The names of the files, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every line of every file that has its name.
fn lines(dir: &Path) -> Vec<Json> {
    let mut lines = Vec::new();
    for name in names(dir).iter().filter(|name| name.ends_with(".ndjson.gz")) {
        let file = std::fs::File::open(dir.join(name)).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        lines.extend(text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()));
    }
    lines
}

/// The numbers among the readings, sorted.
fn numbers(dir: &Path) -> Vec<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
    let mut numbers: Vec<i64> =
        lines(dir).iter().filter_map(|line| line["value"].as_f64()).map(|number| number as i64).collect();
    numbers.sort_unstable();
    numbers
}

/// Steps until nothing is waiting.
async fn write_all(sink: &mut Folder) {
    loop {
        match sink.step().await {
            Progress::Delivered { .. } => {}
            Progress::Idle => return,
            Progress::BackOff { reason, .. } => panic!("{}", reason.en),
        }
    }
}

async fn refused(sink: &mut Folder) -> String {
    match sink.step().await {
        Progress::BackOff { reason, .. } => format!("{} / {}", reason.zh, reason.en),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_line_says_everything_by_itself() {
    let stick = tempfile::tempdir().unwrap();
    let mut house = House::new();
    let sampled = START - Span::from_secs(60);
    let readings = vec![
        Reading { sampled_at: Some(sampled), late: true, ..reading("rc-01/leak", number(341.5), START) },
        Reading {
            quality: Quality::Bad,
            flaw: Some(Flaw::NoAnswer),
            ..reading("gone/x", Value::Absent, START)
        },
        reading("rc-01/pump", Value::Code("fault".into()), START),
        reading("rc-01/tamper", Value::Flag(true), START),
    ];
    let text = Text::new("网关启动", "the gateway started");
    house
        .append_all(
            readings,
            vec![transition(true)],
            vec![Note { kind: NoteKind::Started, subject: "gateway".into(), text }],
        )
        .await;
    let mut sink = folder(&house, stick.path(), |_| {});
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 6 });
    assert_eq!(names(stick.path()), ["fengsui-gw-1-0000000001-0000000001.ndjson.gz"]);
    let lines = lines(stick.path());
    let at = "2026-01-15T02:30:05.000Z";
    assert_eq!(
        lines[0],
        json!({
            "kind": "reading", "entry": 1, "gateway": "gw-1", "recorded_at": at, "time": "2026-01-15T02:29:05.000Z",
            "site": "sunshine", "site_name": "阳光养老院", "zone": "f1", "zone_name": "一层",
            "device": "rc-01", "device_name": "一层配电箱", "place": "一层东侧", "point": "leak", "point_name": "leak",
            "class": "residual_current", "value": 341.5, "unit": "mA", "quality": "good",
            "sampled_at": "2026-01-15T02:29:05.000Z", "received_at": at, "late": true
        })
    );
    assert_eq!(
        lines[1],
        json!({
            "kind": "reading", "entry": 1, "gateway": "gw-1", "recorded_at": at, "time": at, "device": "gone",
            "point": "x", "value": null, "quality": "bad", "flaw": "no_answer", "received_at": at
        })
    );
    assert_eq!((&lines[2]["value"], &lines[2]["state_name"]), (&json!("fault"), &json!("fault")));
    assert_eq!(lines[3]["value"], json!(true));
    let hazard = &lines[4];
    assert_eq!(
        [&hazard["kind"], &hazard["change"], &hazard["phase"], &hazard["priority"], &hazard["cause"]["kind"]],
        ["transition", "reset", "normal", "yellow", "deadline"]
    );
    assert_eq!(hazard["why"], "剩余电流 342 mA ≥ 300 mA，本系统默认值");
    assert_eq!(hazard["closed"], json!({ "by": "zhang", "at": "2026-01-15T02:30:14.000Z" }));
    assert_eq!(
        lines[5],
        json!({
            "kind": "note", "entry": 1, "gateway": "gw-1", "recorded_at": at, "note": "started",
            "subject": "gateway", "text": "网关启动", "text_en": "the gateway started"
        })
    );
}

#[tokio::test]
async fn files_end_at_their_size_and_a_file_waits_until_its_oldest_entry_is_old_enough() {
    let stick = tempfile::tempdir().unwrap();
    let mut house = House::new();
    for entry in 0..640 {
        house.append_numbers(entry * 10, 10).await;
    }
    let mut sink = folder(&house, stick.path(), |settings| {
        settings.file_every = Span::from_secs(3600);
        settings.file_max_bytes = 10_000;
    });
    assert_eq!(sink.step().await, Progress::Idle, "not yet");
    assert!(names(stick.path()).is_empty());
    tokio::time::pause();
    sink.woken().await;
    assert!(house.clock.now() < START + Span::from_secs(70), "the lag is counted once a minute");
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
    write_all(&mut sink).await;
    let names = names(stick.path());
    assert!(names.len() > 1 && names[0].starts_with("fengsui-gw-1-0000000001-"), "{names:?}");
    assert_eq!(numbers(stick.path()), (0..6400).collect::<Vec<_>>());
    let lag = house.metrics.sink_lag.get_or_create(&fengsui::metrics::Sink::named("stick")).get();
    assert_eq!((house.journal.cursor(FOLDER_CURSOR).await.unwrap(), lag), (640, 0));
}

#[tokio::test]
async fn a_missing_a_wrong_and_a_full_stick_are_told_and_lose_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let stick = parent.path().join("stick");
    let mut house = House::new();
    house.append_numbers(0, 10).await;
    let settings = |settings: &mut FolderSettings| settings.require = Some("FENGSUI".into());
    let mut sink = folder(&house, &stick, settings);
    let reason = refused(&mut sink).await;
    assert!(reason.contains("请插上 U 盘") && reason.contains("put the stick back"), "{reason}");
    assert!(!stick.exists(), "it was not made");

    std::fs::create_dir(&stick).unwrap();
    let reason = refused(&mut sink).await;
    assert!(reason.contains("可能没有挂载") && reason.contains("FENGSUI"), "{reason}");
    assert!(names(&stick).is_empty(), "an empty mount point was filled");

    std::fs::write(stick.join("FENGSUI"), "").unwrap();
    let mut full = folder(&house, &stick, |settings| settings.keep_free_bytes = u64::MAX >> 1);
    let reason = refused(&mut full).await;
    assert!(reason.contains("不会自动删除") && reason.contains("nothing is deleted"), "{reason}");
    assert_eq!(names(&stick), ["FENGSUI"]);
    assert_eq!(house.journal.cursor(FOLDER_CURSOR).await.unwrap(), 0);

    write_all(&mut sink).await;
    assert_eq!(numbers(&stick), (0..10).collect::<Vec<_>>());
}

/// The cursor is on the disk only with the next commit, so a crash may forget it.
#[tokio::test]
async fn its_own_files_are_found_again_after_a_crash_and_another_journals_are_left_alone() {
    let stick = tempfile::tempdir().unwrap();
    let mut house = House::new();
    let mut sink = folder(&house, stick.path(), |_| {});
    for entry in 0..3 {
        house.append_numbers(entry * 10, 10).await;
        write_all(&mut sink).await;
    }
    let before = names(stick.path());
    assert_eq!(before.len(), 3);
    // The crash: the files have their names, the cursor does not know.
    house.journal.forget_cursor(FOLDER_CURSOR).await.unwrap();
    std::fs::write(stick.path().join("fengsui-gw-1-stick.part"), "torn").unwrap();
    house.append_numbers(30, 10).await;
    let mut sink = folder(&house, stick.path(), |_| {});
    write_all(&mut sink).await;
    assert_eq!(names(stick.path()).len(), 4, "{:?}", names(stick.path()));
    assert_eq!(numbers(stick.path()), (0..40).collect::<Vec<_>>(), "each once");

    // A new box under the old name counts from 1 again. Its files stand beside the old ones.
    let mut new_box = House::new();
    new_box.entry_at = START + Span::from_secs(7);
    new_box.append_numbers(1000, 10).await;
    write_all(&mut folder(&new_box, stick.path(), |_| {})).await;
    assert!(names(stick.path()).contains(&"fengsui-gw-1-0000000001-0000000001-2.ndjson.gz".to_owned()));
    assert_eq!(numbers(stick.path()).len(), 50);
    // And are found again after its own crash.
    new_box.journal.forget_cursor(FOLDER_CURSOR).await.unwrap();
    write_all(&mut folder(&new_box, stick.path(), |_| {})).await;
    assert_eq!(numbers(stick.path()).len(), 50);
}

#[tokio::test]
async fn a_site_without_network_is_read_out_and_every_acknowledged_reading_is_there_once() {
    let place = tempfile::tempdir().unwrap();
    let (stick, pocket) = (place.path().join("stick"), place.path().join("pocket"));
    std::fs::create_dir(&stick).unwrap();
    std::fs::write(stick.join("FENGSUI"), "").unwrap();
    let sink = format!(
        "{BROKER}\n[[folder]]\nname = \"stick\"\ndir = {:?}\nrequire = \"FENGSUI\"\nfile_minutes = 0\nkeep_free_mib = 1\n",
        stick.display().to_string()
    );
    let named = format!("{sink}[log]\nformat = \"text\"\n");
    let house = gateway::House::build(
        &named,
        &(0..10).map(|n| gateway::smoke(&format!("sd-{n}"), "broker")).collect::<String>(),
    );
    let mut sent: u32 = 0;
    let mut running = house.launch().await;
    for round in 0..6 {
        if round % 3 == 1 {
            std::fs::rename(&stick, &pocket).unwrap();
        }
        let mut pen = running.pen("sd-1").await;
        pen.burst(sent + 1..=sent + 40).await;
        sent += 40;
        match round % 3 {
            // Carried away for a while: a person is told, and the gateway goes on.
            1 => {
                soon("the health page says so", async {
                    while !running.page("/health").await.contains("请插上 U 盘") {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                })
                .await;
                std::fs::rename(&pocket, &stick).unwrap();
            }
            _ => {
                running.kill();
                running = house.launch().await;
            }
        }
    }
    let temperatures = || -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for line in lines(&stick).iter().filter(|line| line["point"] == "temperature") {
            *found.entry(line["value"].to_string()).or_default() += 1;
        }
        found
    };
    until("the last reading is in a file", || {
        temperatures().contains_key(&format!("{:?}", f64::from(sent) / 10.0))
    })
    .await;
    running.stop().await;
    let found = temperatures();
    let expected: BTreeMap<String, usize> =
        (1..=sent).map(|n| (format!("{:?}", f64::from(n) / 10.0), 1)).collect();
    assert_eq!(found, expected);
    let mut lines = lines(&stick);
    lines.retain(|line| line["kind"] == "reading");
    let total = lines.len();
    let mut names: Vec<String> = lines
        .iter()
        .map(|line| format!("{} {} {} {}", line["entry"], line["device"], line["point"], line["time"]))
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), total, "a line stands in two files");
}
