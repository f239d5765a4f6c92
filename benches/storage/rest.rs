//! Bytes a reading at rest, by class of quantity, and how fast each store takes readings in.

use crate::own::{self, Own};
use crate::peers::{Kind, LINES, Peer, Rows};
use crate::process::{bytes_written, cpu_seconds};
use crate::samples::{BEGIN, Class, Plant, Sample, Signal, Tally};
use crate::table::{Table, human};
use fengsui::journal::Limits;
use fengsui::model::Span;
use std::path::Path;
use std::time::Instant;

/// Points of one class, and the rhythm of most devices.
const POINTS: usize = 20;
const EVERY: i64 = 10_000;
/// What a radio and a busy broker do to a rhythm.
const JITTER: i64 = 15;
/// A week of samples a point: after a day nothing was merged yet.
const ROUNDS: usize = 7 * 8640;

const DAY: i64 = 86_400_000;

/// The samples of some rounds, and what must be found of them.
fn samples(plant: &mut Plant, rounds: usize) -> (Vec<Sample>, Tally) {
    let mut samples = Vec::with_capacity(rounds * plant.signals.len());
    (0..rounds).for_each(|_| plant.round(&mut samples));
    let mut tally = Tally::default();
    samples.iter().for_each(|sample| tally.add(sample.value));
    (samples, tally)
}

pub(crate) fn rest(folder: &Path, quick: bool) {
    let rounds = if quick { 1500 } else { ROUNDS };
    let mut table = Table::new(
        &format!("Bytes a reading at rest: {POINTS} points × {rounds} readings, every 10 s"),
        &[
            "",
            "fengsui: sealed chunks",
            "of these their blobs",
            "later, a record a minute",
            "entries (a week)",
            "SQLite rows",
            "VictoriaMetrics",
            "InfluxDB 1",
        ],
    );
    let jittery = [Class::Temperature, Class::Pressure, Class::State];
    let plain = Class::ALL.into_iter().map(|class| (class, 0));
    let all: Vec<(Class, i64)> = if quick {
        vec![(Class::Temperature, 0), (Class::Temperature, JITTER)]
    } else {
        plain.chain(jittery.map(|class| (class, JITTER))).collect()
    };
    let mut sums = [0.0; 7];
    for (number, &(class, jitter)) in all.iter().enumerate() {
        let place = folder.join(format!("rest-{number}"));
        let signals = (0..POINTS).map(|n| Signal::new(class, &format!("d{n:02}"), n as u64)).collect();
        let figures = one(&place, Plant::new(signals, BEGIN, EVERY, jitter), rounds);
        let name =
            if jitter == 0 { class.told().to_owned() } else { format!("{}, ±{jitter} ms", class.told()) };
        table.row(&cells(name, figures));
        sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure.unwrap_or(f64::NAN));
        drop(std::fs::remove_dir_all(&place));
    }
    let mean = sums.map(|sum| Some(sum / all.len() as f64));
    table.row(&cells("**mean of these**".to_owned(), mean));
    table.print();
}

fn cells(name: String, figures: [Option<f64>; 7]) -> Vec<String> {
    let text = |figure: Option<f64>| figure.filter(|f| f.is_finite()).map_or("–".to_owned(), human);
    std::iter::once(name).chain(figures.map(text)).collect()
}

/// Sealed, their blobs, rolled up to minutes, entries; rows; the servers.
fn one(place: &Path, mut plant: Plant, rounds: usize) -> [Option<f64>; 7] {
    let (samples, tally) = samples(&mut plant, rounds);
    let each = |bytes: u64| Some(bytes as f64 / tally.count as f64);
    let end = plant.now() + DAY;

    let mut store = Own::open(&place.join("own"));
    // An entry carries a minute of the twenty points: 120 readings.
    store.take(&plant, &samples, 6 * POINTS);
    store.seal_all(plant.now());
    tally.same(store.tally(&plant.signals, BEGIN - DAY, end), "fengsui");
    let file = store.database();
    drop(store);
    let sealed = own::figure(&file, "SELECT sum(n) FROM chunk");
    assert!(sealed >= tally.count, "only {sealed} of {} are sealed", tally.count);
    let chunks = own::pages(&file, "chunk");
    let blobs = own::figure(&file, "SELECT sum(length(blob)) FROM chunk");
    let entries = own::pages(&file, "entry");

    // Nothing may stay raw any more: what is left of it are minutes.
    let mut store = Own::open_with(&place.join("own"), Limits::default(), own::keep_raw(Span::from_secs(1)));
    store.age_all(plant.now() + own::SEAL_MS);
    tally.same(store.tally(&plant.signals, BEGIN - DAY, end), "fengsui, rolled up");
    drop(store);
    let raw = own::figure(&file, "SELECT ifnull(sum(n), 0) FROM chunk");
    let minutes = (raw < tally.count / 100).then(|| own::pages(&file, "rollup"));

    let mut rows = Rows::open(&place.join("rows"));
    rows.take(&samples, 10_000);
    rows.checkpoint();
    tally.same(rows.tally(), "SQLite rows");
    let row_bytes = std::fs::metadata(&rows.file).unwrap().len();

    let servers = Kind::BOTH.map(|kind| {
        let peer = Peer::start(kind, &place.join(kind.name()), true)?;
        let before = peer.bytes();
        peer.take(&plant, &samples, LINES);
        peer.settle();
        tally.same(peer.tally(&plant.signals, BEGIN - DAY, end), kind.name());
        each(peer.bytes() - before)
    });
    let own = [each(chunks), each(blobs), minutes.and_then(each), each(entries)];
    [own[0], own[1], own[2], own[3], each(row_bytes), servers[0], servers[1]]
}

/// Points and rounds of the ingest: 500 points a second for a good hour and a half.
const INGEST_POINTS: usize = 500;
const INGEST_ROUNDS: usize = 6000;
/// Readings of one commit: two seconds of them.
const COMMIT: usize = 1000;

pub(crate) fn ingest(folder: &Path, quick: bool) {
    let rounds = if quick { 600 } else { INGEST_ROUNDS };
    let mut plant = Plant::mixed(INGEST_POINTS, BEGIN, 1000);
    let (samples, tally) = samples(&mut plant, rounds);
    let end = plant.now() + DAY;
    let mut table = Table::new(
        &format!(
            "Flat out: {:.1} million readings of {INGEST_POINTS} points; fengsui and rows commit {COMMIT} readings, servers get {LINES} lines a post",
            tally.count as f64 / 1e6
        ),
        &["", "readings a second", "CPU seconds a million", "bytes written a reading"],
    );
    let mut line = |name: &str, seconds: f64, cpu: f64, written: u64| {
        table.row(&[
            name.to_owned(),
            format!("{:.0}", tally.count as f64 / seconds),
            format!("{:.2}", cpu * 1e6 / tally.count as f64),
            human(written as f64 / tally.count as f64),
        ]);
    };
    let place = folder.join("ingest");

    // Readings are made before the clock starts, as much as memory allows: a commit's worth at a time is not timed.
    let mut store = Own::open(&place.join("own"));
    let (mut seconds, mut cpu, mut written) = (0.0, 0.0, 0);
    for million in samples.chunks(500_000) {
        let commits: Vec<_> = million
            .chunks(COMMIT)
            .map(|some| some.iter().map(|sample| plant.reading(sample)).collect::<Vec<_>>())
            .collect();
        let (begun, cpu_before, written_before) = (Instant::now(), cpu_seconds(None), bytes_written(None));
        for readings in commits {
            let at = readings[readings.len() - 1].received_at.as_millis();
            store.append(at, readings, own::Beside::default());
            store.follow();
        }
        seconds += begun.elapsed().as_secs_f64();
        cpu += cpu_seconds(None) - cpu_before;
        written += bytes_written(None) - written_before;
    }
    tally.same(store.tally(&plant.signals, BEGIN - DAY, end), "fengsui");
    line("fengsui: journal and series", seconds, cpu, written);
    drop(store);

    let mut rows = Rows::open(&place.join("rows"));
    let (begun, cpu_before, written_before) = (Instant::now(), cpu_seconds(None), bytes_written(None));
    rows.take(&samples, COMMIT);
    let (seconds, cpu, written) =
        (begun.elapsed().as_secs_f64(), cpu_seconds(None) - cpu_before, bytes_written(None) - written_before);
    tally.same(rows.tally(), "SQLite rows");
    line("SQLite rows", seconds, cpu, written);

    for kind in Kind::BOTH {
        let Some(peer) = Peer::start(kind, &place.join(kind.name()), true) else { continue };
        let id = Some(peer.id());
        // The lines are made beforehand: only the server's time counts.
        let posts: Vec<String> =
            samples.chunks(LINES).map(|some| crate::peers::lines(&plant.signals, some)).collect();
        let (begun, cpu_before, written_before) = (Instant::now(), cpu_seconds(id), bytes_written(id));
        posts.into_iter().for_each(|lines| peer.write(lines));
        let (seconds, cpu, written) =
            (begun.elapsed().as_secs_f64(), cpu_seconds(id) - cpu_before, bytes_written(id) - written_before);
        line(kind.name(), seconds, cpu, written);
        peer.settle();
        tally.same(peer.tally(&plant.signals, BEGIN - DAY, end), kind.name());
    }
    table.print();
    println!("The servers' bytes are those until the last answer: a log, and what was merged meanwhile.");
    drop(std::fs::remove_dir_all(&place));
}
