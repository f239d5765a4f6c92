//! Questions that people ask: a day as it was, a month in a chart, a wall of small charts; and what they cost those who
//! write meanwhile.

use crate::own::{Beside, Own};
use crate::peers::{self, LINES, Peer, Rows, tag};
use crate::samples::{BEGIN, Plant, Sample, Tally};
use crate::table::{Table, at, human, millis};
use fengsui::model::Timestamp;
use fengsui::series::Kind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const EVERY: i64 = 10_000;
const DAY: i64 = 86_400_000;
const DAYS: i64 = 30;
/// The wall: so many points over the last day, a small chart each.
const WALL: usize = 200;
const WALL_BUCKETS: i64 = 96;
/// Points of the wall (one of each class) whose whole month is there.
const LONG: usize = 8;
/// The width of a screen.
const BUCKETS: i64 = 500;
/// The temperature among them is the one that is asked for.
const ASKED: usize = 0;

struct Asked {
    /// The first day, the last day and the end.
    begin: i64,
    last_day: i64,
    end: i64,
}

pub(crate) fn run(folder: &Path, quick: bool) {
    let days = if quick { 5 } else { DAYS };
    let rounds = if quick { 5 } else { 50 };
    let last_day = BEGIN + (days - 1) * DAY;
    let asked = Asked { begin: BEGIN, last_day, end: last_day + DAY };

    // A month of eight points, then a day of two hundred.
    let mut plant = Plant::mixed(WALL, BEGIN, EVERY);
    let mut samples = Vec::new();
    let mut month = Plant::mixed(LONG, BEGIN, EVERY);
    (0..(days - 1) * DAY / EVERY).for_each(|_| month.round(&mut samples));
    let old = samples.len();
    let mut wall = Plant::mixed(WALL, last_day, EVERY);
    (0..DAY / EVERY).for_each(|_| wall.round(&mut samples));
    plant.signals = wall.signals.clone();
    let mut tally = Tally::default();
    samples.iter().for_each(|sample| tally.add(sample.value));

    let mut table = Table::new(
        &format!(
            "Milliseconds, middle / 99 of a hundred, {rounds} times: {WALL} points × 24 h and {LONG} points × {days} days, every 10 s ({:.1} million readings)",
            tally.count as f64 / 1e6
        ),
        &[
            "",
            "24 h of one point, raw",
            &format!("{days} days in {BUCKETS} buckets (min, max, mean)"),
            &format!("{WALL} points × 24 h in {WALL_BUCKETS} buckets"),
        ],
    );
    let place = folder.join("query");

    let mut store = Own::open(&place.join("own"));
    // An hour of eight points, then a minute of two hundred, a commit.
    store.take(&plant, &samples[..old], 2880);
    store.take(&plant, &samples[old..], 1200);
    tally.same(store.tally(&plant.signals, BEGIN - DAY, asked.end + DAY), "fengsui");
    own(&mut table, &store, &plant, &asked, rounds);
    let stall = stall(&mut store, &plant, &asked, quick);
    drop(store);

    let mut rows_store = Rows::open(&place.join("rows"));
    rows_store.take(&samples, 10_000);
    rows_store.checkpoint();
    tally.same(rows_store.tally(), "SQLite rows");
    rows(&mut table, &rows_store, &asked, rounds);
    drop(rows_store);

    for kind in peers::Kind::BOTH {
        let Some(peer) = Peer::start(kind, &place.join(kind.name()), true) else { continue };
        peer.take(&plant, &samples, LINES);
        peer.settle();
        tally.same(peer.tally(&plant.signals, BEGIN - DAY, asked.end + DAY), kind.name());
        match kind {
            peers::Kind::Victoria => victoria(&mut table, &peer, &plant, &asked, rounds),
            peers::Kind::Influx => influx(&mut table, &peer, &plant, &asked, rounds),
        }
    }
    table.print();
    println!(
        "The servers answer by HTTP in JSON, which is in their figures; fengsui and SQLite answer in this process."
    );
    stall.print();
    drop(std::fs::remove_dir_all(&place));
}

/// Times a question; the first time, which warms caches, does not count.
fn time(rounds: usize, mut ask: impl FnMut()) -> String {
    ask();
    let once = |_| {
        let begun = Instant::now();
        ask();
        begun.elapsed().as_secs_f64()
    };
    millis((0..rounds).map(once).collect())
}

fn own(table: &mut Table, store: &Own, plant: &Plant, asked: &Asked, rounds: usize) {
    let Asked { begin, last_day, end } = *asked;
    let point = &plant.signals[ASKED].point;
    // A bucket a sample: nothing is put together.
    let raw = time(rounds, || {
        let buckets = store.range(point, last_day, end, (DAY / EVERY) as usize);
        assert_eq!(buckets.iter().map(|bucket| i64::from(bucket.count)).sum::<i64>(), DAY / EVERY);
    });
    let month = time(rounds, || {
        let buckets = store.range(point, begin, end, BUCKETS as usize);
        assert_eq!(buckets.iter().map(|bucket| i64::from(bucket.count)).sum::<i64>(), (end - begin) / EVERY);
    });
    let points: Vec<_> = plant.signals.iter().map(|signal| (signal.point.clone(), Kind::Figures)).collect();
    let (from, to) = (Timestamp::from_millis(last_day), Timestamp::from_millis(end));
    let wall = time(rounds.div_ceil(5), || {
        let answers =
            store.runtime.block_on(store.series.wall(&points, from, to, WALL_BUCKETS as usize)).unwrap();
        let count: i64 = answers.iter().flatten().map(|bucket| i64::from(bucket.count)).sum();
        assert_eq!(count, WALL as i64 * DAY / EVERY);
    });
    table.row(&["fengsui".to_owned(), raw, month, wall]);
}

fn rows(table: &mut Table, store: &Rows, asked: &Asked, rounds: usize) {
    let Asked { begin, last_day, end } = *asked;
    let point = ASKED as i64;
    let raw = time(rounds, || {
        let question = "SELECT time, value, quality FROM reading WHERE point = ? AND time >= ? AND time < ? ORDER BY time";
        assert_eq!(store.ask(question, &[point, last_day, end]) as i64, DAY / EVERY);
    });
    let group = "(time - ?2) / ?4 AS bucket, min(value), max(value), avg(value), count(*)";
    let month = time(rounds, || {
        let question = format!(
            "SELECT {group} FROM reading WHERE point = ?1 AND time >= ?2 AND time < ?3 GROUP BY bucket"
        );
        let width = (end - begin) / BUCKETS;
        assert_eq!(store.ask(&question, &[point, begin, end, width]) as i64, BUCKETS);
    });
    let wall = time(rounds.div_ceil(5), || {
        let question = format!(
            "SELECT {group} FROM reading WHERE point = ?1 AND time >= ?2 AND time < ?3 GROUP BY bucket"
        );
        let width = (end - last_day) / WALL_BUCKETS;
        let of = |point: i64| store.ask(&question, &[point, last_day, end, width]);
        assert_eq!((0..WALL as i64).map(of).sum::<usize>() as i64, WALL as i64 * WALL_BUCKETS);
    });
    table.row(&["SQLite rows".to_owned(), raw, month, wall]);
}

fn victoria(table: &mut Table, peer: &Peer, plant: &Plant, asked: &Asked, rounds: usize) {
    let Asked { begin, last_day, end } = *asked;
    let signal = &plant.signals[ASKED];
    let selector = format!("{}_value{{point=\"{}\"}}", signal.class.name(), tag(signal));
    let raw = time(rounds, || {
        let answer = peer.export(&selector, last_day, end - 1);
        assert!(answer.len() as i64 > DAY / EVERY * 10, "{answer:.200}");
    });
    let month = time(rounds, || {
        let width = (end - begin) / BUCKETS;
        let of = |function: &str| format!("{function}_over_time({selector}[{}s])", width / 1000);
        let query = format!(
            "union({}, {}, {})",
            label(&of("min"), "min"),
            label(&of("max"), "max"),
            label(&of("avg"), "avg")
        );
        let answer = peer.promql(&query, begin + width, end, width);
        assert_eq!(answer.matches("\"values\"").count(), 3, "{answer:.400}");
    });
    let wall = time(rounds.div_ceil(5), || {
        let width = (end - last_day) / WALL_BUCKETS;
        let query = format!("avg_over_time({{__name__=~\".+_value\"}}[{}s])", width / 1000);
        let answer = peer.promql(&query, last_day + width, end, width);
        assert_eq!(answer.matches("\"values\"").count(), WALL, "{answer:.400}");
    });
    table.row(&["VictoriaMetrics".to_owned(), raw, month, wall]);
}

fn label(query: &str, value: &str) -> String {
    format!("label_set({query}, \"f\", \"{value}\")")
}

fn influx(table: &mut Table, peer: &Peer, plant: &Plant, asked: &Asked, rounds: usize) {
    let Asked { begin, last_day, end } = *asked;
    let signal = &plant.signals[ASKED];
    let (class, point) = (signal.class.name(), tag(signal));
    let within = |from: i64| format!("time >= {from}ms AND time < {end}ms");
    let raw = time(rounds, || {
        let q = format!("SELECT value FROM {class} WHERE point = '{point}' AND {}", within(last_day));
        let answer = peer.influx(&q);
        assert!(answer.len() as i64 > DAY / EVERY * 10, "{answer:.200}");
    });
    let month = time(rounds, || {
        let width = (end - begin) / BUCKETS;
        let q = format!(
            "SELECT min(value), max(value), mean(value) FROM {class} WHERE point = '{point}' AND {} GROUP BY time({width}ms)",
            within(begin)
        );
        let answer = peer.influx(&q);
        assert!(answer.len() as i64 > BUCKETS * 10, "{answer:.400}");
    });
    let wall = time(rounds.div_ceil(5), || {
        let width = (end - last_day) / WALL_BUCKETS;
        let q = format!(
            "SELECT mean(value) FROM /.*/ WHERE {} GROUP BY point, time({width}ms)",
            within(last_day)
        );
        let answer = peer.influx(&q);
        assert_eq!(answer.matches("\"columns\"").count(), WALL, "{answer:.400}");
    });
    table.row(&["InfluxDB 1".to_owned(), raw, month, wall]);
}

/// Readings of one commit while questions are asked, and how many commits a second are asked for.
const STALL_COMMIT: usize = 100;
const STALL_EVERY: Duration = Duration::from_millis(20);

/// Time of an append, first alone, then beside two people who reload the month and the wall without a pause.
fn stall(store: &mut Own, plant: &Plant, asked: &Asked, quick: bool) -> Table {
    let length = Duration::from_secs(if quick { 3 } else { 15 });
    let mut clock = asked.end;
    let mut appends = |store: &mut Own| {
        let mut plant = plant.clone();
        let (begun, mut seconds) = (Instant::now(), Vec::new());
        while begun.elapsed() < length {
            clock += 1000;
            let samples =
                (0..STALL_COMMIT).map(|n| Sample { point: n, time: clock, value: plant.signals[n].next() });
            let samples: Vec<Sample> = samples.collect();
            let readings = samples.iter().map(|sample| plant.reading(sample)).collect();
            let before = Instant::now();
            store.append(clock, readings, Beside::default());
            let took = before.elapsed();
            seconds.push(took.as_secs_f64());
            store.follow();
            std::thread::sleep(STALL_EVERY.saturating_sub(before.elapsed()));
        }
        seconds.sort_by(f64::total_cmp);
        seconds
    };
    let alone = appends(store);
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let people: Vec<_> = [(1, asked.begin, BUCKETS), (WALL, asked.last_day, WALL_BUCKETS)]
        .into_iter()
        .map(|(points, from, buckets)| {
            let (series, stop, answers) = (store.series.clone(), stop.clone(), answers.clone());
            let points: Vec<_> = plant.signals[..points].iter().map(|signal| signal.point.clone()).collect();
            let (from, to) = (Timestamp::from_millis(from), Timestamp::from_millis(asked.end));
            store.runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    for point in &points {
                        series.range(point, from, to, buckets as usize).await.unwrap();
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let beside = appends(store);
    stop.store(true, Ordering::Relaxed);
    people.into_iter().for_each(|person| store.runtime.block_on(person).unwrap());

    let mut table = Table::new(
        &format!(
            "Milliseconds of a durable append of {STALL_COMMIT} readings, 50 a second, {} s each ({} ranges answered meanwhile)",
            length.as_secs(),
            answers.load(Ordering::Relaxed)
        ),
        &["", "middle", "99 of 100", "worst"],
    );
    let cells = |name: &str, sorted: &[f64]| {
        let figures = [0.5, 0.99, 1.0].map(|share| human(at(sorted, share) * 1000.0));
        std::iter::once(name.to_owned()).chain(figures).collect::<Vec<_>>()
    };
    table.row(&cells("nobody asks", &alone));
    table.row(&cells("two ask without a pause", &beside));
    let ratios = [0.5, 0.99, 1.0].map(|share| human(at(&beside, share) / at(&alone, share)));
    table.row(&std::iter::once("times".to_owned()).chain(ratios).collect::<Vec<_>>());
    table
}
