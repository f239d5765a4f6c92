//! Tests of: series. Through the journal and the disk, as in the field.

mod exchange;
mod merge;
mod rollup;
mod settings;

use fengsui::journal::{Entry, Journal, Limits, Note, NoteKind, Write};
use fengsui::metrics::Metrics;
use fengsui::model::{Number, PointId, Quality, Reading, Span, Text, Timestamp, Value};
use fengsui::series::{Bucket, Series};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;

const START: i64 = 1_800_000_000_000;
/// A tail is sealed six hours after its first sample.
const SEALED_AFTER: i64 = 6 * 3_600_000 + 1;

fn open(dir: &Path) -> Journal {
    let limits = Limits { ballast_bytes: 4096, ..Limits::default() };
    Journal::open(dir, limits, Metrics::new()).unwrap().0
}

fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

fn point(name: &str) -> PointId {
    PointId::parse(&format!("dev/{name}")).unwrap()
}

fn reading(point: &PointId, time: i64, value: Value) -> Reading {
    let quality = if value == Value::Absent { Quality::Bad } else { Quality::Good };
    let (point, received_at) = (point.clone(), ms(time));
    Reading { point, value, quality, flaw: None, sampled_at: Some(ms(time)), received_at, late: false }
}

fn number(value: f64) -> Value {
    Value::Number(Number::new(value).unwrap())
}

/// Appends one entry, written `after` milliseconds after the start.
async fn append(journal: &Journal, after: i64, readings: Vec<Reading>) {
    let no = *journal.head().borrow() + 1;
    let entry = Entry { no, at: ms(after), recorded: true, readings, transitions: vec![], notes: vec![] };
    journal.append(Write::of(entry)).await.unwrap();
}

async fn settle(series: &Series) {
    while !series.step().await.unwrap().idle {}
}

fn total(buckets: &[Bucket]) -> (u32, Option<f64>, Option<f64>) {
    let extremes = |pick: fn(&Bucket) -> Option<f64>, keep: fn(f64, f64) -> f64| {
        buckets.iter().filter_map(pick).reduce(keep)
    };
    (
        buckets.iter().map(|bucket| bucket.count).sum(),
        extremes(|b| b.min, f64::min),
        extremes(|b| b.max, f64::max),
    )
}

#[tokio::test]
async fn a_spike_of_one_second_in_a_month_stands_in_some_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let series = Series::open(&journal).await.unwrap();
    let temperature = point("temperature");
    let (minute, month) = (60_000, 30 * 86_400_000i64);
    // A reading a minute, 500 an entry; one second in the middle is a fire.
    let spike = month / 2 + 1000;
    let mut times: Vec<i64> = (0..month / minute).map(|n| n * minute).chain([spike]).collect();
    times.sort_unstable();
    for some in times.chunks(500) {
        let value = |t: i64| if t == spike { 68.5 } else { 23.4 };
        let readings = some.iter().map(|&t| reading(&temperature, t, number(value(t)))).collect();
        append(&journal, *some.last().unwrap(), readings).await;
        settle(&series).await;
    }
    for buckets in [1, 7, 500] {
        let answer = series.range(&temperature, ms(0), ms(month), buckets).await.unwrap();
        assert!(answer.len() <= buckets);
        let count = u32::try_from(times.len()).unwrap();
        assert_eq!(total(&answer), (count, Some(23.4), Some(68.5)), "{buckets} buckets");
        let hot: Vec<_> = answer.iter().filter(|bucket| bucket.max == Some(68.5)).collect();
        assert!(matches!(hot[..], [bucket] if bucket.start <= ms(spike) && ms(spike) < bucket.end));
    }
    let started = tokio::time::Instant::now();
    series.range(&temperature, ms(0), ms(month), 500).await.unwrap();
    println!("43 201 samples into 500 buckets: {:?}", started.elapsed());
    let cursor = journal.cursor("series").await.unwrap();
    assert!(cursor > 80, "chunks were sealed on the way: {cursor}");
}

#[tokio::test]
async fn what_was_decoded_again_is_in_the_chart_and_never_a_points_newest_value_whatever_is_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let (heat, smoke, other) = (point("heat"), point("smoke"), point("other"));
    append(&journal, 1000, vec![reading(&heat, 1000, number(20.0))]).await;
    let history = vec![
        reading(&heat, 500, number(95.0)),
        reading(&heat, 1500, number(96.0)),
        reading(&smoke, 600, Value::Code("alarm".into())),
    ];
    let text = Text::new("重新解码", "decoded again");
    let notes = vec![Note { kind: NoteKind::History, subject: "quarantine".into(), text }];
    let entry = Entry { no: 2, at: ms(2000), recorded: true, readings: history, transitions: vec![], notes };
    journal.append(Write::of(entry)).await.unwrap();
    for sealed in [false, true, true] {
        let series = Series::open(&journal).await.unwrap();
        settle(&series).await;
        assert_eq!(journal.cursor("series").await.unwrap() > 2, sealed);
        assert_eq!(series.last(&heat).unwrap().value, number(20.0), "sealed: {sealed}");
        assert_eq!((series.last(&smoke), series.all_last().len()), (None, if sealed { 2 } else { 1 }));
        let drawn = series.range(&heat, ms(0), ms(2000), 1).await.unwrap();
        assert_eq!(total(&drawn), (3, Some(20.0), Some(96.0)));
        let states = series.range_of_states(&smoke, ms(0), ms(2000), 1).await.unwrap();
        assert_eq!(states[0].count, 1, "each sample once");
        assert_eq!(series.state(states[0].last.unwrap()).as_deref(), Some("alarm"));
        if !sealed {
            append(&journal, SEALED_AFTER + 2000, vec![reading(&other, 3000, number(1.0))]).await;
            append(&journal, 2 * SEALED_AFTER + 4000, vec![reading(&other, 4000, number(2.0))]).await;
            settle(&series).await;
        }
        drop((series, journal));
        journal = open(dir.path());
    }
}

#[tokio::test]
async fn a_gap_stays_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let pressure = point("pressure");
    let readings = [0, 10, 80, 90].map(|t| reading(&pressure, t * 1000, number(0.3)));
    append(&journal, 90_000, readings.into()).await;
    let series = Series::open(&journal).await.unwrap();
    let answer = series.range(&pressure, ms(0), ms(100_000), 10).await.unwrap();
    let counts: Vec<_> = answer.iter().map(|bucket| bucket.count).collect();
    assert_eq!(counts, [1, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
    assert!(answer[4].min.is_none() && answer[4].mean.is_none() && answer[4].last.is_none());
    let nowhere = series.range(&point("unheard"), ms(0), ms(1000), 4).await.unwrap();
    assert_eq!(total(&nowhere), (0, None, None));
    assert!(series.range(&pressure, ms(9), ms(9), 5).await.unwrap().is_empty());
    assert!(series.range(&pressure, ms(9), ms(0), 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn flags_and_states_are_figures_and_absent_values_are_counted_as_bad() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let (flag, state, broken) = (point("tamper"), point("smoke"), point("broken"));
    append(
        &journal,
        5,
        vec![
            reading(&flag, 1, Value::Flag(false)),
            reading(&flag, 2, Value::Flag(true)),
            reading(&state, 1, Value::Code("normal".into())),
            reading(&state, 2, Value::Code("alarm".into())),
            reading(&broken, 3, Value::Absent),
        ],
    )
    .await;
    let series = Series::open(&journal).await.unwrap();
    let one = |name: PointId| {
        let series = series.clone();
        async move { series.range_of_states(&name, ms(0), ms(10), 1).await.unwrap().remove(0) }
    };
    let flags = one(flag).await;
    assert_eq!((flags.min, flags.max, flags.mean, flags.last), (Some(0.0), Some(1.0), Some(0.5), Some(1.0)));
    let states = one(state.clone()).await;
    assert_eq!(series.state(states.last.unwrap()).as_deref(), Some("alarm"));
    assert_eq!(series.state(0.5), None);
    let seen: Vec<_> = states.states.iter().map(|&number| series.state_name(number).unwrap()).collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().any(|state| &**state == "normal") && seen.iter().any(|state| &**state == "alarm"));
    assert_eq!(flags.states, [0, 1]);
    assert_eq!(series.range(&state, ms(0), ms(10), 1).await.unwrap()[0].states, [0u32; 0]);
    let absent = one(broken).await;
    assert_eq!((absent.count, absent.bad, absent.max), (1, 1, None));
    assert_eq!(series.last(&state).unwrap().value, Value::Code("alarm".into()));
    assert_eq!(series.all_last().len(), 3);
}

#[tokio::test]
async fn the_newest_value_of_a_quiet_point_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (quiet, busy) = (point("quiet"), point("busy"));
    {
        let journal = open(dir.path());
        append(&journal, 0, vec![reading(&quiet, 0, number(7.25))]).await;
        let series = Series::open(&journal).await.unwrap();
        // Hours pass: the quiet point is sealed and its entry left behind.
        for hour in (7..=21).step_by(7) {
            append(&journal, hour * 3_600_000, vec![reading(&busy, hour * 3_600_000, number(1.0))]).await;
            settle(&series).await;
        }
        assert!(journal.cursor("series").await.unwrap() >= 1);
        // A retained, older report does not stand for the present.
        let late =
            Reading { received_at: ms(21 * 3_600_000), late: true, ..reading(&quiet, -5000, number(99.0)) };
        append(&journal, 21 * 3_600_000 + 1, vec![late]).await;
        settle(&series).await;
        assert_eq!(series.last(&quiet).unwrap().value, number(7.25));
    }
    let series = Series::open(&open(dir.path())).await.unwrap();
    assert_eq!(series.last(&quiet).unwrap(), reading(&quiet, 0, number(7.25)));
    assert_eq!(series.last(&busy).unwrap().received_at, ms(21 * 3_600_000));
}

#[tokio::test]
async fn entries_of_thousands_of_readings_are_all_followed_and_no_answer_is_large() {
    const SIZES: [i64; 9] = [3000, 9000, 1, 5000, 3000, 192, 1, 20_000, 4];
    let dir = tempfile::tempdir().unwrap();
    // Nothing but the newest entry is in memory: the rest is read from the disk.
    let limits = Limits { ballast_bytes: 4096, ring_entries_max: 1, ..Limits::default() };
    let journal = Journal::open(dir.path(), limits, Metrics::new()).unwrap().0;
    let current = point("current");
    let mut time = 0;
    for size in SIZES {
        let readings = (time..time + size).map(|time| reading(&current, time, number(7.0))).collect();
        time += size;
        append(&journal, time, readings).await;
    }
    let (mut sizes, mut after) = (Vec::new(), 0);
    loop {
        let entries = journal.read_recorded_after(after, 256).await.unwrap();
        let Some(last) = entries.last() else { break };
        let numbers: Vec<_> = entries.iter().map(|entry| entry.no).collect();
        assert_eq!(numbers, (after + 1..=last.no).collect::<Vec<_>>(), "an entry was left out");
        after = last.no;
        sizes.push(entries.iter().map(|entry| entry.readings.len()).collect::<Vec<_>>());
    }
    assert_eq!(sizes, [vec![3000], vec![9000], vec![1, 5000, 3000], vec![192, 1], vec![20_000], vec![4]]);
    let all = u32::try_from(time).unwrap();
    let series = Series::open(&journal).await.unwrap();
    let count = || async { total(&series.range(&current, ms(0), ms(time), 1).await.unwrap()).0 };
    assert_eq!(count().await, all, "at start");
    series.rebuild_tail().await.unwrap();
    assert_eq!(count().await, all, "read again");
    let archive = fengsui::journal::Archive::open(dir.path()).unwrap();
    assert_eq!(archive.entries_after(0, 256).unwrap().len(), 1);
}

#[tokio::test]
async fn sealing_is_staggered() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let points: Vec<_> = (0..50).map(|n| point(&format!("p{n}"))).collect();
    append(&journal, 0, points.iter().map(|p| reading(p, 0, number(1.0))).collect()).await;
    let series = Series::open(&journal).await.unwrap();
    append(&journal, SEALED_AFTER, vec![]).await;
    let mut steps = Vec::new();
    loop {
        let progress = series.step().await.unwrap();
        steps.push(progress.sealed);
        if progress.idle {
            break;
        }
    }
    assert_eq!(steps.iter().sum::<usize>(), 50);
    assert!(steps.iter().all(|&sealed| sealed <= 8), "{steps:?}");
    assert_eq!(journal.cursor("series").await.unwrap(), 2);
}

#[tokio::test]
async fn nothing_is_sealed_while_the_clock_is_unset_and_the_tail_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let series = Series::open(&journal).await.unwrap();
    series.hold_sealing(true);
    let (pressure, level) = (point("pressure"), point("level"));
    for n in 0..5 {
        let readings = vec![reading(&pressure, n, number(0.3)), reading(&level, n, number(2.0))];
        append(&journal, n, readings).await;
        settle(&series).await;
    }
    append(&journal, 2 * SEALED_AFTER, vec![reading(&pressure, 9, number(0.4))]).await;
    settle(&series).await;
    assert_eq!(journal.cursor("series").await.unwrap(), 0, "held");
    let counts = async || {
        let mut counts = Vec::new();
        for point in [&pressure, &level] {
            counts.push(total(&series.range(point, ms(0), ms(10), 3).await.unwrap()).0);
        }
        counts
    };
    assert_eq!(counts().await, [6, 5]);
    series.rebuild_tail().await.unwrap();
    assert_eq!(counts().await, [6, 5]);
    series.hold_sealing(false);
    settle(&series).await;
    assert_eq!(journal.cursor("series").await.unwrap(), 6);
    append(&journal, 2 * SEALED_AFTER + 1, vec![reading(&level, 9, number(2.1))]).await;
    settle(&series).await;
    series.rebuild_tail().await.unwrap();
    assert_eq!(counts().await, [6, 6]);
    assert_eq!(series.last(&level).unwrap().value, number(2.1));
}

/// What one test case does to a gateway.
#[derive(Debug, Clone)]
enum Deed {
    /// Readings (point, time in seconds, tenths) in one entry, written this many seconds after the one before.
    Append(Vec<(u8, i64, i16)>, i64),
    Step,
    /// Stopped and started again.
    Restart,
    /// Killed and started again on what lies on the disk at that moment.
    Crash,
}

fn deed() -> impl Strategy<Value = Deed> {
    // Few times and values, so that duplicates and late samples are frequent.
    let sample = (0u8..3, 0i64..4000, -20i16..20);
    prop_oneof![
        6 => (prop::collection::vec(sample, 0..60), 0i64..12_000).prop_map(|(samples, after)| Deed::Append(samples, after)),
        3 => Just(Deed::Step),
        1 => Just(Deed::Restart),
        1 => Just(Deed::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order, however often, with restarts at any point: each sample is in the answer once,
    /// no extreme is lost, every figure is that of the raw samples.
    #[test]
    fn buckets_tell_the_truth_about_the_raw_samples(
        deeds in prop::collection::vec(deed(), 1..30), buckets in 1usize..50, from in -100i64..3000, length in 1i64..5000
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut dir = tempfile::tempdir().unwrap();
            let mut journal = open(dir.path());
            let mut series = Series::open(&journal).await.unwrap();
            let mut raw: BTreeSet<(u8, i64, i16)> = BTreeSet::new();
            let mut now = 0;
            for deed in deeds {
                match deed {
                    Deed::Append(samples, after) => {
                        now += after * 1000;
                        let readings = samples
                            .iter()
                            .map(|&(p, t, v)| reading(&point(&p.to_string()), t * 1000, number(f64::from(v) / 10.0)))
                            .collect();
                        append(&journal, now, readings).await;
                        raw.extend(samples);
                    }
                    Deed::Step => _ = series.step().await.unwrap(),
                    Deed::Crash => {
                        let disk = tempfile::tempdir().unwrap();
                        for name in ["journal.db", "journal.db-wal"] {
                            std::fs::copy(dir.path().join(name), disk.path().join(name)).unwrap();
                        }
                        drop(series);
                        dir = disk;
                        journal = open(dir.path());
                        series = Series::open(&journal).await.unwrap();
                    }
                    Deed::Restart => {
                        drop(series);
                        drop(journal);
                        journal = open(dir.path());
                        series = Series::open(&journal).await.unwrap();
                    }
                }
            }
            settle(&series).await;
            for p in 0..3u8 {
                let (from, to) = (from * 1000, (from + length) * 1000);
                let answer = series.range(&point(&p.to_string()), ms(from), ms(to), buckets).await.unwrap();
                assert!(answer.len() <= buckets);
                assert_eq!((answer[0].start, answer.last().unwrap().end), (ms(from), ms(to)));
                for pair in answer.windows(2) {
                    assert_eq!(pair[0].end, pair[1].start);
                }
                for bucket in &answer {
                    let inside: Vec<f64> = raw
                        .iter()
                        .filter(|&&(q, t, _)| q == p && bucket.start <= ms(t * 1000) && ms(t * 1000) < bucket.end)
                        .map(|&(_, _, v)| f64::from(v) / 10.0)
                        .collect();
                    assert_eq!(bucket.count as usize, inside.len());
                    assert_eq!(bucket.min, inside.iter().copied().reduce(f64::min));
                    assert_eq!(bucket.max, inside.iter().copied().reduce(f64::max));
                    let mean = inside.iter().sum::<f64>() / inside.len() as f64;
                    assert!(bucket.mean.is_none_or(|given| (given - mean).abs() < 1e-9));
                    assert_eq!(bucket.mean.is_some() && bucket.last.is_some(), !inside.is_empty());
                }
            }
        });
    }
}

const STATES: [&str; 5] = ["normal", "alarm", "fault", "test", "muted"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However the samples lie in chunks and tail, a bucket tells every state of its raw samples and no other.
    #[test]
    fn every_state_of_the_raw_samples_is_in_its_bucket(
        entries in prop::collection::vec(
            (prop::collection::vec((0i64..4000, 0usize..5), 1..80), any::<bool>()), 1..12),
        steady in 0usize..5, buckets in 1usize..40, from in -100i64..3000, length in 1i64..5000
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let journal = open(dir.path());
            let series = Series::open(&journal).await.unwrap();
            let smoke = point("smoke");
            let mut raw: BTreeSet<(i64, usize)> = BTreeSet::new();
            let mut now = 0;
            for (samples, seal) in entries {
                // Hours later the tail is due: some samples lie in chunks, some in the tail, some in both.
                now += if seal { SEALED_AFTER } else { 1000 };
                // Mostly one state, as in the field: chunks of a single state are answered from their summary.
                let samples = samples.into_iter().map(|(t, s)| (t, if t % 7 == 0 { s } else { steady }));
                let samples: Vec<_> = samples.collect();
                let readings = samples.iter().map(|&(t, s)| reading(&smoke, t * 1000, Value::Code(STATES[s].into())));
                append(&journal, now, readings.collect()).await;
                raw.extend(samples);
                settle(&series).await;
            }
            let (from, to) = (from * 1000, (from + length) * 1000);
            for bucket in series.range_of_states(&smoke, ms(from), ms(to), buckets).await.unwrap() {
                let inside = raw.iter().filter(|(t, _)| bucket.start <= ms(t * 1000) && ms(t * 1000) < bucket.end);
                let wanted: BTreeSet<&str> = inside.map(|&(_, s)| STATES[s]).collect();
                let told: Vec<_> = bucket.states.iter().map(|&number| series.state_name(number).unwrap()).collect();
                let told: BTreeSet<&str> = told.iter().map(|state| &**state).collect();
                assert_eq!(told, wanted);
            }
        });
    }
}

#[tokio::test]
async fn a_chart_of_a_clock_gone_mad_is_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let mad = point("mad");
    let mut readings = vec![reading(&mad, 0, number(1.0))];
    for time in [i64::MIN, -1, i64::MAX - 1] {
        let at = Timestamp::from_millis(time);
        readings.push(Reading { sampled_at: Some(at), ..reading(&mad, 0, number(2.0)) });
    }
    append(&journal, 0, readings).await;
    let series = Series::open(&journal).await.unwrap();
    append(&journal, SEALED_AFTER, vec![]).await;
    settle(&series).await;
    let all = series
        .range(&mad, Timestamp::from_millis(i64::MIN), Timestamp::from_millis(i64::MAX), 10)
        .await
        .unwrap();
    assert!(total(&all).0 >= 2, "{all:?}");
    let near = series.range(&mad, ms(0), ms(1) + Span::from_secs(1), 10).await.unwrap();
    assert_eq!(total(&near), (1, Some(1.0), Some(1.0)));
}

#[tokio::test]
async fn charts_are_saved_from_a_damaged_file() {
    let dir = tempfile::tempdir().unwrap();
    let pressure = point("pressure");
    {
        let journal = open(dir.path());
        let series = Series::open(&journal).await.unwrap();
        for some in 0..4i64 {
            let times = some * 1000..some * 1000 + 1000;
            let readings = times.map(|n| reading(&pressure, n * 1000, number(0.3))).collect();
            append(&journal, some * 3_600_000, readings).await;
            settle(&series).await;
        }
    }
    // The index of the duty log is ruined; nothing else is.
    let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    let root: u64 = conn
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'note_no'", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap()
        .try_into()
        .unwrap();
    drop(conn);
    let mut file = std::fs::OpenOptions::new().write(true).open(dir.path().join("journal.db")).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start((root - 1) * 4096)).unwrap();
    std::io::Write::write_all(&mut file, &[0xEE; 4096]).unwrap();
    drop(file);
    let limits = Limits { ballast_bytes: 4096, ..Limits::default() };
    let (journal, restored) = Journal::open(dir.path(), limits, Metrics::new()).unwrap();
    assert!(restored.recovered.is_some());
    let series = Series::open(&journal).await.unwrap();
    let answer = series.range(&pressure, ms(0), ms(4_000_000), 3).await.unwrap();
    assert_eq!(total(&answer), (4000, Some(0.3), Some(0.3)));
    append(&journal, 9 * 3_600_000, vec![reading(&pressure, 9 * 3_600_000, number(0.2))]).await;
    settle(&series).await;
    assert_eq!(series.last(&pressure).unwrap().value, number(0.2));
}
