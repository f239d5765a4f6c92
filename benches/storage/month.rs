//! A month at 500 readings a second in simulated time: memory day by day, with the size limit and the roll-ups at work.
//! Every reading of every day is counted again. By hand; `--days N` shortens it.

use crate::own::{Beside, Own};
use crate::process::memory_mib;
use crate::samples::{BEGIN, Plant, Tally};
use crate::table::{Table, human};
use fengsui::journal::Limits;
use fengsui::model::Span;
use fengsui::series::{Keep, Retention};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const POINTS: usize = 500;
const EVERY: i64 = 1000;
const DAY: i64 = 86_400_000;
/// Seconds of readings in one commit: five commits of the real rhythm, so that a month passes in minutes.
const SECONDS: usize = 5;
/// Reached on the first day.
const BYTES_MAX: u64 = 256 << 20;

pub(crate) fn run(folder: &Path, days: usize) {
    // In memory, when there is room: the month is about the process and not about the disk.
    let shared = Path::new("/dev/shm");
    let in_memory = shared.is_dir().then(|| tempfile::tempdir_in(shared).ok()).flatten();
    let dir = in_memory.as_ref().map_or(folder, |dir| dir.path()).join("month");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["month-child", &days.to_string()])
        .arg(&dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut table = Table::new(
        &format!(
            "{days} simulated days of {POINTS} points, a reading a second each; samples kept for 2 days, minutes for 7; the journal limited to {} MiB",
            BYTES_MAX >> 20
        ),
        &[
            "day",
            "RSS, MiB",
            "peak RSS, MiB",
            "journal, MB",
            "oldest entry, hours",
            "roll-ups, rows",
            "seconds it took",
        ],
    );
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    for line in lines {
        if let Some(cells) = line.strip_prefix("day ") {
            table.row(&cells.split(' ').map(str::to_owned).collect::<Vec<_>>());
        }
    }
    assert!(child.wait().unwrap().success(), "the month's process failed");
    table.print();
    drop(std::fs::remove_dir_all(&dir));
}

/// The child process: nothing of the bench's other parts is in its memory.
pub(crate) fn child(arguments: &[String]) {
    let [days, dir] = arguments else { panic!("{arguments:?}") };
    let days: i64 = days.parse().unwrap();
    let limits = Limits { bytes_max: BYTES_MAX, ..Limits::default() };
    let keep =
        Keep { raw: Span::from_secs(2 * 86_400), minute: Span::from_secs(7 * 86_400), ..Keep::default() };
    let retention = Retention { keep, bytes_max: BYTES_MAX, ..Retention::default() };
    let mut store = Own::open_with(Path::new(dir), limits, retention);
    let mut plant = Plant::mixed(POINTS, BEGIN, EVERY);
    let mut samples = Vec::with_capacity(POINTS * SECONDS);
    for day in 0..days {
        let (begun, from) = (Instant::now(), BEGIN + day * DAY);
        let mut tally = Tally::default();
        while plant.now() < from + DAY {
            samples.clear();
            (0..SECONDS).for_each(|_| plant.round(&mut samples));
            samples.iter().for_each(|sample| tally.add(sample.value));
            let readings = samples.iter().map(|sample| plant.reading(sample)).collect();
            store.append(samples[samples.len() - 1].time, readings, Beside::default());
            store.follow();
        }
        tally.same(store.tally(&plant.signals, from, from + DAY), "the day");
        let (now, peak) = memory_mib(None);
        let health = store.journal.health();
        let oldest = health.oldest.map_or(0, |oldest| plant.now() - oldest.as_millis());
        let rollups = rollup_rows(&store);
        println!(
            "day {} {} {} {} {} {rollups} {}",
            day + 1,
            human(now),
            human(peak),
            human(health.bytes as f64 / 1e6),
            human(oldest as f64 / 3_600_000.0),
            human(begun.elapsed().as_secs_f64()),
        );
    }
}

fn rollup_rows(store: &Own) -> u64 {
    let conn = rusqlite::Connection::open(store.database()).unwrap();
    conn.query_row("SELECT count(*) FROM rollup", [], |row| row.get::<_, i64>(0)).unwrap() as u64
}
