//! THE ONE DURABLE LOG: readings a second and bytes a reading, flushed to the disk with every batch.
//!
//! `cargo bench --bench journal`, beside a plain SQLite table with a row a reading and the same durability. The folder
//! is the system's for temporary files: set `TMPDIR` to a folder on the disk that is to be measured.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop loudly")]
#![expect(clippy::print_stdout, reason = "a bench talks to a person")]
#![expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]

use divan::Bencher;
use divan::counter::ItemsCount;
use fengsui::journal::{Entry, Journal, Limits, Write};
use fengsui::metrics::Metrics;
use fengsui::model::{DeviceId, Number, PointId, Quality, Reading, Span, Timestamp, Value};
use std::path::Path;
use tokio::runtime::Runtime;

const BATCHES: [usize; 3] = [1, 100, 1000];
const DEVICES: usize = 250;
const AT: Timestamp = Timestamp::from_secs(1_800_000_000);

fn main() {
    divan::main();
    bytes_a_reading();
}

/// Readings as smoke detectors send them: a code, a temperature with a decimal, two whole numbers.
struct Source {
    points: Vec<PointId>,
    at: Timestamp,
    next: usize,
}

impl Source {
    fn new() -> Self {
        let of = |n: usize| {
            let device = DeviceId::parse(&format!("d{n}")).unwrap();
            ["smoke", "temperature", "battery", "rssi"].map(|name| PointId::new(&device, name).unwrap())
        };
        Self { points: (0..DEVICES).flat_map(of).collect(), at: AT, next: 0 }
    }

    fn batch(&mut self, size: usize) -> Vec<Reading> {
        self.at = self.at + Span::from_secs(1);
        let number = |value: f64| Value::Number(Number::new(value).unwrap());
        let mut readings = Vec::with_capacity(size);
        for _ in 0..size {
            let n = self.next;
            self.next = (n + 1) % self.points.len();
            let wave = (n * 7919 + usize::try_from(self.at.as_millis() / 1000).unwrap()) % 50;
            let value = match n % 4 {
                0 => Value::Code("normal".into()),
                1 => number(20.0 + wave as f64 / 10.0),
                2 => number(98.0),
                _ => number(-90.0 + wave as f64),
            };
            readings.push(Reading {
                point: self.points[n].clone(),
                value,
                quality: Quality::Good,
                flaw: None,
                sampled_at: None,
                received_at: self.at + Span::from_millis(i64::try_from(n / 4 % 250).unwrap()),
                late: false,
            });
        }
        readings
    }

    fn write(&mut self, no: u64, size: usize) -> Write {
        let entry = Entry {
            no,
            at: self.at,
            recorded: true,
            readings: self.batch(size),
            transitions: Vec::new(),
            notes: Vec::new(),
        };
        Write::of(entry)
    }
}

fn open(dir: &Path) -> Journal {
    Journal::open(dir, Limits::default(), Metrics::new()).unwrap().0
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[divan::bench(args = BATCHES, max_time = 3)]
fn append(bencher: Bencher, size: usize) {
    let (dir, runtime, mut source) = (tempfile::tempdir().unwrap(), runtime(), Source::new());
    let journal = open(dir.path());
    let mut no = 0;
    let mut next = || {
        no += 1;
        source.write(no, size)
    };
    runtime.block_on(journal.append(next())).unwrap();
    bencher
        .counter(ItemsCount::new(size))
        .with_inputs(next)
        .bench_local_values(|write| runtime.block_on(journal.append(write)).unwrap());
}

/// The limit of the usual way: a row a reading.
#[divan::bench(args = BATCHES, max_time = 3)]
fn bare_sqlite_rows(bencher: Bencher, size: usize) {
    let (dir, mut source) = (tempfile::tempdir().unwrap(), Source::new());
    let mut table = Table::open(&dir.path().join("rows.db"));
    bencher
        .counter(ItemsCount::new(size))
        .with_inputs(|| source.batch(size))
        .bench_local_values(|readings| table.insert(&readings));
}

struct Table(rusqlite::Connection);

impl Table {
    fn open(path: &Path) -> Self {
        let conn = rusqlite::Connection::open(path).unwrap();
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE reading (point TEXT NOT NULL, at INTEGER NOT NULL, value ANY, quality INTEGER NOT NULL) STRICT",
        )
        .unwrap();
        Self(conn)
    }

    fn insert(&mut self, readings: &[Reading]) {
        let transaction = self.0.transaction().unwrap();
        {
            let mut statement = transaction
                .prepare_cached("INSERT INTO reading (point, at, value, quality) VALUES (?, ?, ?, ?)")
                .unwrap();
            for reading in readings {
                let (point, at) = (reading.point.as_str(), reading.received_at.as_millis());
                match &reading.value {
                    Value::Number(number) => statement.execute((point, at, number.get(), 0)),
                    Value::Flag(flag) => statement.execute((point, at, *flag, 0)),
                    Value::Code(code) => statement.execute((point, at, &**code, 0)),
                    Value::Absent => statement.execute((point, at, None::<f64>, 0)),
                }
                .unwrap();
            }
        }
        transaction.commit().unwrap();
    }
}

/// At rest in the file, once the log is checkpointed; and what went through the log on the way, by the kernel's count.
fn bytes_a_reading() {
    println!(
        "\n| readings a batch | journal: bytes at rest | written | SQLite rows: bytes at rest | written |"
    );
    println!("|---:|---:|---:|---:|---:|");
    for size in BATCHES {
        let batches = (20_000 / size).clamp(100, 5000);
        let readings = (size * batches) as f64;
        let (dir, mut source) = (tempfile::tempdir().unwrap(), Source::new());
        // The fixed part (schema, names, ballast) is there before the count begins.
        let runtime = runtime();
        let journal = open(dir.path());
        runtime.block_on(journal.append(source.write(1, 1000))).unwrap();
        drop(journal);
        let file = dir.path().join("journal.db");
        let (before, written) = (length(&file), written_so_far());
        let journal = open(dir.path());
        let started = written_so_far();
        for no in 2..batches as u64 + 2 {
            runtime.block_on(journal.append(source.write(no, size))).unwrap();
        }
        drop(journal);
        assert!(started >= written);
        let own = (length(&file) - before, written_so_far() - started);

        let (dir, mut source) = (tempfile::tempdir().unwrap(), Source::new());
        let file = dir.path().join("rows.db");
        let mut table = Table::open(&file);
        table.0.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let (before, written) = (length(&file), written_so_far());
        for _ in 0..batches {
            table.insert(&source.batch(size));
        }
        drop(table);
        let rows = (length(&file) - before, written_so_far() - written);
        println!(
            "| {size} | {:.1} | {:.1} | {:.1} | {:.1} |",
            own.0 as f64 / readings,
            own.1 as f64 / readings,
            rows.0 as f64 / readings,
            rows.1 as f64 / readings
        );
    }
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().len()
}

/// Bytes that this process has caused to be written to disks.
fn written_so_far() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap();
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap()
}
