//! Tests of: samples rolled up with age. What a chart says must not depend on when that happened.

use super::*;
use fengsui::series::{Keep, Kind, Progress, Retention};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn keep(raw: i64, minute: i64, hour: i64) -> Retention {
    let span = Span::from_millis;
    Retention {
        keep: Keep { raw: span(raw), minute: span(minute), hour: span(hour) },
        ..Retention::default()
    }
}

async fn open_series(journal: &Journal, retention: Retention) -> Series {
    Series::open_with(journal, retention).await.unwrap()
}

/// How many rows there are: chunks, minutes, hours.
fn rows(dir: &Path) -> [i64; 3] {
    let conn = rusqlite::Connection::open(dir.join("journal.db")).unwrap();
    ["chunk", "rollup WHERE width = 60000", "rollup WHERE width = 3600000"]
        .map(|table| conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap())
}

/// Lets time pass, so that what is old is seen to be old.
async fn pass(journal: &Journal, series: &Series, from: i64, to: i64) {
    let mut now = from;
    while now < to {
        now = (now + 12 * HOUR).min(to);
        append(journal, now, vec![]).await;
        settle(series).await;
    }
}

#[tokio::test]
async fn old_samples_become_minutes_then_hours_then_nothing_and_a_chart_shows_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let series = open_series(&journal, keep(5 * DAY, 15 * DAY, 25 * DAY)).await;
    let (temperature, smoke) = (point("temperature"), point("smoke"));
    // Ten days, three values a minute; one second of fire, one word of alarm.
    let fire = 2 * DAY + 7 * HOUR + 1000;
    for half_day in 0..20 {
        let times = (0..12 * HOUR / (20 * 1000)).map(|n| half_day * 12 * HOUR + n * 20_000);
        let mut readings: Vec<_> =
            times.map(|t| reading(&temperature, t, number(23.0 + (t / HOUR % 7) as f64 / 10.0))).collect();
        let code = |code: &str| Value::Code(code.into());
        readings.extend((0..12).map(|n| reading(&smoke, half_day * 12 * HOUR + n * HOUR, code("normal"))));
        if half_day == fire / (12 * HOUR) {
            readings.push(reading(&temperature, fire, number(68.5)));
            readings.push(reading(&smoke, fire, code("alarm")));
        }
        append(&journal, (half_day + 1) * 12 * HOUR, readings).await;
        settle(&series).await;
    }
    let samples = u32::try_from(10 * DAY / 20_000 + 1).unwrap();
    let whole = async |days: i64| series.range(&temperature, ms(0), ms(days * DAY), 500).await.unwrap();
    let mut now = 10 * DAY;
    for (until, which) in [(11, "minutes"), (22, "hours")] {
        pass(&journal, &series, now, until * DAY).await;
        now = until * DAY;
        let [_, minutes, hours] = rows(dir.path());
        match which {
            "minutes" => assert!(minutes > 0 && hours == 0, "{minutes} {hours}"),
            _ => assert!(hours > 0, "{minutes} {hours}"),
        }
        assert_eq!(total(&whole(10).await), (samples, Some(23.0), Some(68.5)), "{which}");
        let states = series.range_of_states(&smoke, ms(0), ms(10 * DAY), 7).await.unwrap();
        let seen: Vec<_> = states.iter().map(|bucket| bucket.states.len()).collect();
        assert_eq!(seen.iter().filter(|seen| **seen == 2).count(), 1, "{which} {seen:?}");
        // Buckets of five seconds over the old time: each is joined to the record that covers it.
        let near = series.range(&temperature, ms(fire - HOUR), ms(fire + HOUR), 1440).await.unwrap();
        assert!(near.len() < 150, "{}", near.len());
        assert!(near.iter().all(|bucket| bucket.count > 0), "a false gap");
        assert_eq!((near[0].start, near.last().unwrap().end), (ms(fire - HOUR), ms(fire + HOUR)));
        assert!(near.windows(2).all(|pair| pair[0].end == pair[1].start));
    }
    pass(&journal, &series, now, 100 * DAY).await;
    assert_eq!(total(&whole(10).await), (0, None, None));
    assert_eq!(rows(dir.path())[2], 0);
}

#[tokio::test]
async fn the_class_of_a_point_says_how_long_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let plan = settings::read("").unwrap().plan;
    let ids: Vec<_> = plan
        .devices()
        .flat_map(|(.., device)| &device.points)
        .map(|p| (p.id.clone(), p.class.clone()))
        .collect();
    let of = |name: &str| ids.iter().find(|(id, _)| id.device() == "dev" && id.name() == name).cloned();
    let (smoke, class) = of("smoke").unwrap_or_else(|| panic!("{ids:?}"));
    let (other, _) = of("battery").unwrap_or_else(|| panic!("{ids:?}"));
    let long = Keep { raw: Span::from_millis(50 * DAY), ..Keep::default() };
    let mut retention = keep(2 * DAY, 900 * DAY, 1800 * DAY);
    (retention.plan, retention.classes) = (plan, [(class, long)].into());
    let series = open_series(&journal, retention).await;
    append(&journal, 0, vec![reading(&smoke, 0, number(0.0)), reading(&other, 0, number(99.0))]).await;
    pass(&journal, &series, 0, 10 * DAY).await;
    assert_eq!(rows(dir.path()), [1, 1, 0]);
    for (point, kind) in [(&smoke, Kind::States), (&other, Kind::Figures)] {
        let wall = series.wall(&[(point.clone(), kind)], ms(0), ms(DAY), 4).await.unwrap();
        assert_eq!(total(&wall[0]).0, 1);
    }
}

#[tokio::test]
async fn nothing_is_rolled_up_under_a_clock_that_just_jumped() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let series = open_series(&journal, keep(DAY, 10 * DAY, 100 * DAY)).await;
    append(&journal, 0, vec![reading(&point("p"), 0, number(1.0))]).await;
    settle(&series).await;
    append(&journal, 7 * HOUR, vec![]).await;
    settle(&series).await;
    assert_eq!(rows(dir.path()), [1, 0, 0]);
    append(&journal, 5000 * DAY, vec![]).await;
    settle(&series).await;
    append(&journal, 8 * HOUR, vec![]).await;
    settle(&series).await;
    assert_eq!(rows(dir.path()), [1, 0, 0]);
    assert_eq!(series.step().await.unwrap(), Progress { idle: true, ..Progress::default() });
}

/// A box whose clock starts decades ahead, again and again, until somebody sets it.
#[tokio::test]
async fn samples_grow_old_by_the_time_that_was_seen_and_not_by_a_wrong_future() {
    let dir = tempfile::tempdir().unwrap();
    let retention = keep(10 * DAY, 30 * DAY, 100 * DAY);
    {
        let journal = open(dir.path());
        let series = open_series(&journal, retention.clone()).await;
        append(&journal, 0, vec![reading(&point("p"), 0, number(1.0))]).await;
        pass(&journal, &series, 0, DAY).await;
    }
    for start in 0..3 {
        let journal = open(dir.path());
        let series = open_series(&journal, retention.clone()).await;
        let wrong = 20_000 * DAY + start * 2 * DAY;
        pass(&journal, &series, wrong, wrong + DAY).await;
        assert_eq!(rows(dir.path()), [1, 0, 0], "after start {start}");
    }
    let journal = open(dir.path());
    let series = open_series(&journal, retention).await;
    // Set: eight days were seen, then twelve.
    pass(&journal, &series, 6 * DAY, 8 * DAY).await;
    assert_eq!(rows(dir.path()), [1, 0, 0]);
    pass(&journal, &series, 8 * DAY, 40 * DAY).await;
    assert_eq!(rows(dir.path())[0], 0, "old by what was seen since");
    assert_eq!(total(&series.range(&point("p"), ms(0), ms(DAY), 4).await.unwrap()).0, 1);
}

/// A dead detector's last message is kept by the broker and comes again with every connection, for years.
#[tokio::test]
async fn the_newest_sample_that_is_sent_again_for_years_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let retention = keep(2 * DAY, 30 * DAY, 400 * DAY);
    let p = point("p");
    let (older, newest) = (reading(&p, 20_000, number(21.0)), reading(&p, 40_000, number(23.0)));
    let mut now = DAY;
    for start in 0..3 {
        let journal = open(dir.path());
        let series = open_series(&journal, retention.clone()).await;
        let came = if start == 0 { vec![older.clone(), newest.clone()] } else { vec![newest.clone()] };
        append(&journal, now, came.clone()).await;
        append(&journal, now + MINUTE, vec![newest.clone()]).await;
        pass(&journal, &series, now + MINUTE, now + 20 * DAY).await;
        now += 20 * DAY;
        let [chunks, minutes, hours] = rows(dir.path());
        assert!(chunks == 0 && minutes + hours > 0, "start {start}: it is rolled up");
        let told = total(&series.range(&p, ms(0), ms(DAY), 4).await.unwrap());
        assert_eq!(told, (2, Some(21.0), Some(23.0)), "start {start}");
    }
    // One that is not the newest cannot be recognised: it is added, so that none is ever lost, and no extreme moves.
    let journal = open(dir.path());
    let series = open_series(&journal, retention).await;
    append(&journal, now, vec![older]).await;
    pass(&journal, &series, now, now + 10 * DAY).await;
    assert_eq!(total(&series.range(&p, ms(0), ms(DAY), 4).await.unwrap()), (3, Some(21.0), Some(23.0)));
}

#[tokio::test]
async fn a_damaged_chunk_or_roll_up_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let series = open_series(&journal, keep(DAY, 30 * DAY, 100 * DAY)).await;
    let (a, b) = (point("a"), point("b"));
    for day in 0..2 {
        let readings =
            |p: &PointId| (0..24).map(|n| reading(p, day * DAY + n * HOUR, number(1.0))).collect::<Vec<_>>();
        append(&journal, (day + 1) * DAY, [readings(&a), readings(&b)].concat()).await;
        settle(&series).await;
    }
    pass(&journal, &series, 2 * DAY, 5 * DAY).await;
    let rolled = rows(dir.path());
    assert_eq!(rolled, [0, 2, 0]);
    {
        let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
        conn.execute("UPDATE rollup SET blob = x'11223344' WHERE id = 1", []).unwrap();
    }
    let mut counts = Vec::new();
    for p in [&a, &b] {
        counts.push(total(&series.range(p, ms(0), ms(2 * DAY), 9).await.unwrap()).0);
    }
    counts.sort_unstable();
    assert_eq!(counts, [0, 48]);
    // A late sample finds its place all the same.
    append(&journal, 5 * DAY, vec![reading(&a, 5, number(7.0)), reading(&b, 5, number(7.0))]).await;
    pass(&journal, &series, 5 * DAY, 9 * DAY).await;
    assert_eq!(rows(dir.path())[0], 0);
    let mut counts = Vec::new();
    for p in [&a, &b] {
        counts.push(total(&series.range(p, ms(0), ms(2 * DAY), 9).await.unwrap()).0);
    }
    counts.sort_unstable();
    assert_eq!(counts, [1, 49]);
}

#[tokio::test]
async fn when_room_is_short_the_oldest_samples_are_rolled_up_before_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    // Less than what follows: the entries alone are a megabyte.
    let retention = Retention { bytes_max: 800_000, ..keep(400 * DAY, 800 * DAY, 4000 * DAY) };
    let series = open_series(&journal, retention).await;
    let points: Vec<_> = (0..4).map(|n| point(&format!("p{n}"))).collect();
    let mut seed = 7u64;
    let mut count = 0;
    for day in 0..12 {
        for hour in (0..24).step_by(6) {
            let mut readings = Vec::new();
            for p in &points {
                for n in 0..600 {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let noise = (seed >> 40) as f64 / 1000.0;
                    readings.push(reading(p, day * DAY + hour * HOUR + n * 36_000, number(noise)));
                    count += 1;
                }
            }
            append(&journal, day * DAY + (hour + 6) * HOUR, readings).await;
            settle(&series).await;
        }
    }
    pass(&journal, &series, 12 * DAY, 13 * DAY).await;
    let [chunks, minutes, _] = rows(dir.path());
    assert!(minutes > 0, "{chunks} {minutes}");
    let mut found = 0;
    for p in &points {
        found += total(&series.range(p, ms(0), ms(13 * DAY), 3).await.unwrap()).0;
    }
    assert_eq!(found, count, "rolled up, not dropped");
}

/// What one test case does.
#[derive(Debug, Clone)]
enum Deed {
    /// Samples (point, seconds before now, value) in an entry written this many minutes after the one before.
    Append(Vec<(u8, i64, u8)>, i64),
    Restart,
}

fn deed() -> impl Strategy<Value = Deed> {
    let sample = (0u8..2, 0i64..200_000, 0u8..12);
    prop_oneof![
        9 => (prop::collection::vec(sample, 0..40), 0i64..1200).prop_map(|(samples, after)| Deed::Append(samples, after)),
        1 => Just(Deed::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However often samples are cut, rolled up and joined by late ones: each range of whole hours says what the raw
    /// samples say, and each chart's buckets lie one after another.
    #[test]
    fn rolled_up_samples_say_what_the_raw_ones_said(
        deeds in prop::collection::vec(deed(), 5..40), hours in 1i64..12, from in 0i64..20, buckets in 1usize..3000
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let retention = keep(9 * HOUR, 30 * HOUR, 100 * 365 * DAY);
            let mut journal = open(dir.path());
            let mut series = open_series(&journal, retention.clone()).await;
            let mut raw: BTreeSet<(u8, i64, u8)> = BTreeSet::new();
            let mut now = 0;
            let state = |v: u8| STATES[usize::from(v % 5)];
            let value = |p: u8, v: u8| if p == 0 { number(f64::from(v) / 10.0) } else { Value::Code(state(v).into()) };
            for deed in deeds {
                match deed {
                    Deed::Append(samples, after) => {
                        now += after * MINUTE;
                        let mut readings = Vec::new();
                        for (p, ago, v) in samples {
                            let v = if p == 0 { v } else { v % 5 };
                            let time = now - ago * 1000;
                            // The same one again could be counted again once its first copy is rolled up.
                            if raw.insert((p, time, v)) {
                                readings.push(reading(&point(&p.to_string()), time, value(p, v)));
                            }
                        }
                        append(&journal, now, readings).await;
                        settle(&series).await;
                    }
                    Deed::Restart => {
                        drop(series);
                        drop(journal);
                        journal = open(dir.path());
                        series = open_series(&journal, retention.clone()).await;
                    }
                }
            }
            for p in 0..2u8 {
                let id = point(&p.to_string());
                let first = (from - 60) * HOUR;
                let (from, to) = (ms(first), ms(first + 30 * hours * HOUR));
                // Buckets of whole hours.
                let answer = series.range_of_states(&id, from, to, 30).await.unwrap();
                assert_eq!(answer.len(), 30);
                for bucket in &answer {
                    let inside: Vec<u8> = raw.iter()
                        .filter(|&&(q, t, _)| q == p && bucket.start <= ms(t) && ms(t) < bucket.end)
                        .map(|&(_, _, v)| v)
                        .collect();
                    assert_eq!(bucket.count as usize, inside.len());
                    if p == 0 {
                        let values = || inside.iter().map(|&v| f64::from(v) / 10.0);
                        assert_eq!(bucket.min, values().reduce(f64::min));
                        assert_eq!(bucket.max, values().reduce(f64::max));
                        let sum: f64 = values().sum();
                        assert!(bucket.mean.is_none_or(|mean| (mean * inside.len() as f64 - sum).abs() < 1e-9));
                    } else {
                        let told: BTreeSet<_> = bucket.states.iter().map(|&s| series.state_name(s).unwrap().to_string()).collect();
                        let wanted: BTreeSet<_> = inside.iter().map(|&v| state(v).to_owned()).collect();
                        assert_eq!(told, wanted);
                    }
                }
                // Any buckets: as many samples in all, one after another, from end to end.
                let fine = series.range(&id, from, to, buckets).await.unwrap();
                assert!(fine.len() <= buckets);
                assert_eq!(total(&fine).0, total(&answer).0);
                assert_eq!((fine[0].start, fine.last().unwrap().end), (from, to));
                assert!(fine.windows(2).all(|pair| pair[0].end == pair[1].start));
            }
        });
    }
}
