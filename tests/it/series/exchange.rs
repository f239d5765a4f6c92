//! Tests of: the series written out as text and taken in again.

use super::*;
use fengsui::cli::exchange::Format;
use fengsui::cli::export::{Wanted, write_all};
use fengsui::cli::import::{Lines, take_all};
use fengsui::journal::Archive;
use fengsui::model::Plan;
use fengsui::series::{Imported, Keep, Retention};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

const FORMATS: [Format; 3] = [Format::Csv, Format::Ndjson, Format::Lp];
const HOUR: i64 = 3_600_000;

fn plan() -> Arc<Plan> {
    settings::read("").unwrap().plan
}

fn export_range(
    dir: &Path,
    plan: &Plan,
    format: Format,
    points: &[&str],
    range: (Timestamp, Timestamp),
) -> String {
    let archive = Archive::open(dir).unwrap();
    let points = points.iter().map(|point| (*point).to_owned()).collect();
    let mut out = Vec::new();
    let (told, unsaid) = write_all(&archive, plan, &Wanted { range, points, format }, &mut out).unwrap();
    assert_eq!((told.damaged, unsaid), (0, 0));
    String::from_utf8(out).unwrap()
}

fn export(dir: &Path, plan: &Plan, format: Format) -> String {
    let ever = (Timestamp::from_millis(i64::MIN), Timestamp::from_millis(i64::MAX));
    export_range(dir, plan, format, &[], ever)
}

/// Takes texts in as files.
async fn import(journal: &Journal, texts: &[&str]) -> (Lines, Imported, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = (0..texts.len()).map(|n| folder.path().join(n.to_string())).collect();
    for (file, text) in files.iter().zip(texts) {
        std::fs::write(file, text).unwrap();
    }
    let mut wrong = Vec::new();
    let (lines, imported) = take_all(journal, &files, None, &mut |told| wrong.push(told)).await.unwrap();
    let folder = folder.path().display().to_string();
    (lines, imported, wrong.iter().map(|told| told.replace(&folder, "")).collect())
}

/// The points of the test: (point, what its value `n` is).
fn value(p: usize, n: u8) -> (PointId, Value) {
    match p {
        0 => (point("smoke"), Value::Code(["normal", "alarm", "fault"][usize::from(n % 3)].into())),
        1 => (point("battery"), number(f64::from(n) / 3.0)),
        2 => (PointId::parse("gone/door").unwrap(), Value::Flag(n.is_multiple_of(2))),
        3 => (
            PointId::parse("gone/level").unwrap(),
            if n == 0 { Value::Absent } else { number(f64::from(n) * 1e-7) },
        ),
        _ => (PointId::parse("gone/level").unwrap(), number(f64::from(n) * 1e18)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// Sealed, unsealed and rolled up: what is written out and taken in by an empty gateway is written out again byte by
    /// byte, and taking it in once more changes nothing.
    #[test]
    fn what_is_exported_and_imported_is_exported_again_byte_by_byte(
        entries in prop::collection::vec(
            (prop::collection::vec((0usize..5, 0i64..400_000, 0u8..20, 0u8..3), 1..40), 1i64..1500), 2..12)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let plan = plan();
            let dir = tempfile::tempdir().unwrap();
            let journal = open(dir.path());
            let span = |hours: i64| Span::from_millis(hours * HOUR);
            let keep = Keep { raw: span(10), minute: span(48), hour: span(100_000) };
            let series = Series::open_with(&journal, Retention { keep, ..Retention::default() }).await.unwrap();
            let mut now = 0;
            for (samples, after) in entries {
                now += after * 60_000;
                let readings = samples.into_iter().map(|(p, ago, n, quality)| {
                    let (id, value) = value(p, n);
                    let quality = [Quality::Good, Quality::Uncertain, Quality::Bad][usize::from(quality)];
                    Reading { quality, ..reading(&id, now - ago * 1000, value) }
                });
                append(&journal, now, readings.collect()).await;
                settle(&series).await;
            }
            for format in FORMATS {
                let first = export(dir.path(), &plan, format);
                let other = tempfile::tempdir().unwrap();
                let fresh = open(other.path());
                let (lines, imported, wrong) = import(&fresh, &[&first]).await;
                assert_eq!((lines.wrong, wrong.len()), (0, 0), "{wrong:?}");
                assert_eq!(imported.samples + imported.records, lines.read);
                assert_eq!(export(other.path(), &plan, format), first);
                let (lines, again, _) = import(&fresh, &[&first, &first]).await;
                assert_eq!((again.samples, again.records, again.passed_over), (0, 0, 0));
                assert_eq!(again.samples_known + again.records_known, lines.read);
                assert_eq!(export(other.path(), &plan, format), first);
            }
        });
    }
}

#[tokio::test]
async fn an_export_has_what_is_not_sealed_yet_and_the_points_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let (battery, smoke) = (point("battery"), point("smoke"));
    append(
        &journal,
        5,
        vec![
            reading(&battery, 1000, number(98.5)),
            reading(&smoke, 2000, Value::Code("alarm".into())),
            reading(&battery, 3000, Value::Absent),
        ],
    )
    .await;
    let series = Series::open(&journal).await.unwrap();
    append(&journal, SEALED_AFTER, vec![reading(&battery, 4000, number(98.0))]).await;
    settle(&series).await;
    append(&journal, SEALED_AFTER + 1, vec![reading(&battery, 5000, number(97.5))]).await;
    let all = (ms(0), ms(5000));
    let csv = export_range(dir.path(), &plan(), Format::Csv, &["*/battery"], all);
    let lines: Vec<&str> = csv.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "2027-01-15T08:00:01.000Z,dev/battery,98.5,good,%,,,,,,,,,,",
            "2027-01-15T08:00:03.000Z,dev/battery,,bad,%,,,,,,,,,,",
            "2027-01-15T08:00:04.000Z,dev/battery,98,good,%,,,,,,,,,,",
        ]
    );
    let json = export_range(dir.path(), &Plan::default(), Format::Ndjson, &["dev/s*"], all);
    assert_eq!(
        json,
        "{\"time\":\"2027-01-15T08:00:02.000Z\",\"point\":\"dev/smoke\",\"value\":\"alarm\",\"quality\":\"good\"}\n"
    );
    let lines = export_range(dir.path(), &plan(), Format::Lp, &["dev/battery"], (ms(4000), ms(6000)));
    assert_eq!(
        lines,
        "battery,device=dev,point=battery,site=s,zone=z value=98,quality=0i 1800000004000\n\
         battery,device=dev,point=battery,site=s,zone=z value=97.5,quality=0i 1800000005000\n"
    );
}

#[tokio::test]
async fn a_wrong_line_is_told_with_its_place_and_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let csv = "time,point,value,quality,unit,width_s,count,valued,bad,min,max,sum,last,last_at_s,states\n\
        2027-01-15T08:00:01.000Z,dev/battery,98.5,good,%\n\
        yesterday,dev/battery,98.5,good,%\n\
        2027-01-15T08:00:02.000Z,battery,98.5,good,%\n\
        2027-01-15T16:00:03.000+08:00,dev/battery,97,good,%,,,,,,,,,,\n\
        2027-01-15T08:00:02.000Z,dev/battery,98.5,fine,%\n";
    let lp = "battery,device=dev,point=battery value=96,quality=0i 1800000004000\nrubbish\n";
    let (lines, imported, wrong) = import(&journal, &[csv, lp]).await;
    assert_eq!((lines, imported.samples), (Lines { read: 3, wrong: 4 }, 3));
    let places: Vec<&str> = wrong.iter().map(|told| told.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["/0:3", "/0:4", "/0:6", "/1:2"]);
    drop(journal);
    let series = Series::open(&open(dir.path())).await.unwrap();
    let answer = series.range(&point("battery"), ms(0), ms(10_000), 1).await.unwrap();
    assert_eq!(total(&answer), (3, Some(96.0), Some(98.5)));
    assert_eq!(series.last(&point("battery")), None, "what is taken in is not live");
}

#[tokio::test]
async fn what_was_rolled_up_meanwhile_is_not_counted_twice() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let battery = point("battery");
    append(&journal, 0, (0..100).map(|n| reading(&battery, n * 1000, number(50.0))).collect()).await;
    let raw = export(dir.path(), &plan(), Format::Csv);
    let span = |hours: i64| Span::from_millis(hours * HOUR);
    let keep = Keep { raw: span(10), minute: span(1000), hour: span(100_000) };
    let series = Series::open_with(&journal, Retention { keep, ..Retention::default() }).await.unwrap();
    for hour in (4..40).step_by(4) {
        append(&journal, hour * HOUR, vec![]).await;
        settle(&series).await;
    }
    let rolled = export(dir.path(), &plan(), Format::Csv);
    assert_eq!(rolled.lines().count(), 3, "{rolled}");
    drop(series);
    let (_, imported, _) = import(&journal, &[&raw]).await;
    assert_eq!((imported.samples, imported.passed_over), (0, 100));
    assert_eq!(export(dir.path(), &plan(), Format::Csv), rolled);
    // And the other way: records of a time of which the samples are there.
    let other = tempfile::tempdir().unwrap();
    let fresh = open(other.path());
    import(&fresh, &[&raw]).await;
    let (_, imported, _) = import(&fresh, &[&rolled]).await;
    assert_eq!((imported.records, imported.passed_over), (0, 2));
    assert_eq!(export(other.path(), &plan(), Format::Csv), raw);
}

#[tokio::test]
async fn a_replaced_box_gets_its_history_back_by_the_command_line() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = old.path().join("history.csv.gz");
    let run = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_fengsui")).args(arguments).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned(), done.stdout)
    };
    let [old_dir, new_dir, file] = [old.path(), new.path(), &file].map(|path| path.to_str().unwrap());
    let journal = open(old.path());
    append(&journal, 0, (0..50).map(|n| reading(&point("battery"), n * 1000, number(50.0))).collect()).await;
    let long_ago = ["--from", "2020-01-01", "--to", "2099-01-01"];
    // The old gateway still runs: it can be read, not written.
    let export = [&["export", "--data", old_dir, "--out", file], &long_ago[..]].concat();
    let (code, told, _) = run(&export);
    assert!(code == Some(0) && told.contains("50 samples"), "{told}");
    let (code, told, _) = run(&["import", file, "--data", old_dir]);
    assert!(code == Some(1) && told.contains("in use by another gateway"), "{told}");
    let (code, told, _) = run(&["import", file, "--data", new_dir]);
    assert!(code == Some(0) && told.contains("新增 50 个样本"), "{told}");
    let (code, _, out) = run(&[&["export", "--data", new_dir], &long_ago[..]].concat());
    assert_eq!((code, out.iter().filter(|byte| **byte == b'\n').count()), (Some(0), 51));
    let (code, told, _) = run(&["export", "--data", new_dir, "--from", "tomorrow"]);
    assert!(code == Some(64) && told.contains("tomorrow"), "{told}");
}
