//! The start after a kill -9 with a year behind it.
//!
//! A week of two hundred points is written and sealed by the program itself; its chunk rows (and roll-ups) are then
//! copied fifty-one times with shifted times, so that the tables are as long as after a year. The copies' blobs still
//! hold the first week's times, which a start never reads.

use crate::own::{self, Beside, Own};
use crate::peers::free_port;
use crate::process::{Server, forget_pages, memory_mib, wait_until};
use crate::samples::{Plant, Sample};
use crate::table::{Table, human};
use fengsui::journal::Limits;
use fengsui::model::Span;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const POINTS: usize = 200;
const EVERY: i64 = 10_000;
const WEEK: i64 = 7 * 86_400_000;
/// A year; and a week, which is just below the 64 MiB up to which a start checks the whole file.
const WEEKS: [i64; 2] = [52, 1];

/// What stands in memory at most, unsealed: two thousand points every ten seconds, for a little less than the 1024 samples
/// at which a tail is sealed. Entries of 500 readings, two and a half seconds of them.
const TAIL_POINTS: usize = 2000;
const TAIL_ROUNDS: i64 = 1000;
const TAIL_ENTRY: usize = 500;

/// What the killed child still wrote: 20 readings a second for twenty minutes of its time, a commit a second.
const LAST_COMMITS: i64 = 1200;

pub(crate) fn run(folder: &Path, quick: bool) {
    let all: &[i64] = if quick { &[2] } else { &WEEKS };
    all.iter().for_each(|&weeks| after_weeks(folder, weeks, quick));
    with_a_full_tail(folder, quick);
}

fn after_weeks(folder: &Path, weeks: i64, quick: bool) {
    let place = folder.join("start");
    std::fs::create_dir_all(&place).unwrap();
    let rounds = if quick { 1 } else { 3 };
    let dir = place.join("data");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let readings = a_week(&dir, now - WEEK, quick);
    copy_week(&own::database(&dir), weeks);
    let file = own::database(&dir);
    let length = || std::fs::metadata(&file).unwrap().len() as f64 / 1e6;
    let chunks = own::figure(&file, "SELECT count(*) FROM chunk");
    let entries = own::figure(&file, "SELECT count(*) FROM entry");
    let mut table = Table::new(
        &format!(
            "Start after kill -9: {:.0} million sealed readings in {chunks} chunks, {entries} entries of the last week, {:.0} MB",
            (readings * weeks as u64) as f64 / 1e6,
            length()
        ),
        &["", "seconds, each of the rounds", "RSS after it, MiB"],
    );
    starts(&place, &mut table, rounds);
    table.print();
    // Everything is still there after all those ends without a warning: half of what was written, because the copies
    // next to it hold the same times.
    let store = open(&dir);
    let (begin, half) = (now - WEEK, readings as i64 / POINTS as i64 / 2);
    let found = store.tally(&Plant::mixed(POINTS, begin, EVERY).signals, begin + half * EVERY, now).count;
    assert_eq!(
        found as i64,
        readings as i64 - half * POINTS as i64,
        "samples are missing, or there are too many"
    );
    drop(store);
    drop(std::fs::remove_dir_all(&place));
}

/// As much unsealed as memory holds: a start reads it again.
fn with_a_full_tail(folder: &Path, quick: bool) {
    let place = folder.join("tail");
    std::fs::create_dir_all(&place).unwrap();
    let dir = place.join("data");
    let rounds = if quick { 50 } else { TAIL_ROUNDS };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let begin = now - rounds * EVERY;
    let mut plant = Plant::mixed(TAIL_POINTS, begin, EVERY);
    let mut store = open(&dir);
    let mut samples = Vec::new();
    for _ in 0..rounds {
        samples.clear();
        plant.round(&mut samples);
        store.take(&plant, &samples, TAIL_ENTRY);
    }
    drop(store);
    let file = own::database(&dir);
    let sealed = own::figure(&file, "SELECT ifnull(sum(n), 0) FROM chunk");
    let all = rounds as u64 * TAIL_POINTS as u64;
    let mut table = Table::new(
        &format!(
            "Start after kill -9: {:.2} million readings, {:.2} million of them not sealed, {} entries, {:.0} MB",
            all as f64 / 1e6,
            (all - sealed) as f64 / 1e6,
            own::figure(&file, "SELECT count(*) FROM entry"),
            std::fs::metadata(&file).unwrap().len() as f64 / 1e6
        ),
        &["", "seconds, each of the rounds", "RSS after it, MiB"],
    );
    // Once each: what the children write makes the tail grow old.
    starts(&place, &mut table, 1);
    table.print();
    let found = open(&dir).tally(&plant.signals, begin, now - EVERY).count;
    assert_eq!(found, all - TAIL_POINTS as u64, "samples are missing, or there are too many");
    drop(std::fs::remove_dir_all(&place));
}

/// Starts that end with a kill -9: of journal and series alone, then of the whole program.
fn starts(place: &Path, table: &mut Table, rounds: usize) {
    let dir = place.join("data");
    let file = own::database(&dir);
    // The first child only leaves an unchecked end behind.
    killed(&dir);
    for cold in [true, false] {
        let (mut seconds, mut memory) = (Vec::new(), 0.0);
        for _ in 0..rounds {
            if cold {
                forget_pages(&file);
            }
            let (took, mib) = killed(&dir);
            seconds.push(human(took));
            memory = mib;
        }
        let pages = if cold { "its pages not in memory" } else { "its pages in memory" };
        table.row(&[format!("journal and series open, {pages}"), seconds.join(", "), human(memory)]);
    }
    let mut gateway = Gateway::new(place);
    gateway.start_and_kill(); // makes the first account
    for cold in [true, false] {
        let (mut seconds, mut memory) = (Vec::new(), 0.0);
        for _ in 0..rounds {
            if cold {
                forget_pages(&file);
            }
            let (took, mib) = gateway.start_and_kill();
            seconds.push(human(took));
            memory = mib;
        }
        let pages = if cold { "its pages not in memory" } else { "its pages in memory" };
        table.row(&[format!("`fengsui run` answers its page, {pages}"), seconds.join(", "), human(memory)]);
    }
}

/// Nothing is rolled up: a year of samples is more to open than the default's two months of them.
fn open(dir: &Path) -> Own {
    Own::open_with(dir, Limits::default(), own::keep_raw(Span::from_secs(3650 * 86_400)))
}

/// The week that the program itself writes and seals.
fn a_week(dir: &Path, begin: i64, quick: bool) -> u64 {
    let mut store = open(dir);
    let mut plant = Plant::mixed(POINTS, begin, EVERY);
    let rounds = if quick { 8640 } else { WEEK / EVERY };
    let mut samples = Vec::new();
    for round in 1..=rounds {
        plant.round(&mut samples);
        // 48 rounds are eight minutes: an entry of 9600 readings, the most that the pipeline makes.
        if samples.len() >= 9600 || round == rounds {
            store.take(&plant, &samples, 9600);
            samples.clear();
        }
    }
    (rounds * POINTS as i64) as u64
}

fn copy_week(file: &Path, weeks: i64) {
    let conn = rusqlite::Connection::open(file).unwrap();
    conn.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -65536; PRAGMA temp_store = FILE")
        .unwrap();
    for table in ["chunk", "rollup"] {
        let mut statement = conn.prepare("SELECT name FROM pragma_table_info(?)").unwrap();
        let columns: Vec<String> =
            statement.query_map([table], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let columns: Vec<String> = columns.into_iter().filter(|name| name != "id").collect();
        let shifted = |name: &String| match name.as_str() {
            "t0" | "t1" => format!("{name} - k * {WEEK}"),
            _ => name.clone(),
        };
        let shifted: Vec<String> = columns.iter().map(shifted).collect();
        conn.execute_batch(&format!(
            "BEGIN;
             CREATE TEMP TABLE week AS SELECT * FROM {table};
             DELETE FROM {table};
             WITH RECURSIVE weeks (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM weeks WHERE k + 1 < {weeks})
             INSERT INTO {table} ({columns}) SELECT {shifted} FROM week, weeks ORDER BY k DESC, t1;
             DROP TABLE temp.week;
             COMMIT;",
            columns = columns.join(", "),
            shifted = shifted.join(", "),
        ))
        .unwrap();
    }
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
}

/// A start in a child process, some load, and its end without a warning: seconds until it was open, and its memory then.
fn killed(dir: &Path) -> (f64, f64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("start-child")
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let answer = lines.find_map(|line| {
        let (seconds, mib) = line.strip_prefix("open ")?.split_once(' ')?;
        Some((seconds.parse().ok()?, mib.parse().ok()?))
    });
    let loaded = lines.any(|line| line == "loaded");
    kill(&mut child);
    assert!(loaded, "the child did not come to its load");
    answer.unwrap()
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The child process: opens, tells how long it took, writes on without an end.
pub(crate) fn child(arguments: &[String]) {
    let begun = Instant::now();
    let dir = Path::new(&arguments[0]);
    let mut store = open(dir);
    println!("open {} {}", begun.elapsed().as_secs_f64(), memory_mib(None).0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    // Later than what an earlier child wrote: its minutes were simulated.
    let first = store.runtime.block_on(store.journal.cursor("influx:main")).unwrap() as i64;
    let mut plant = Plant::mixed(POINTS, now, EVERY);
    for commit in 0i64.. {
        let time = now + (first % 100_000) * 1000 + commit * 1000;
        let samples: Vec<Sample> = (0..20)
            .map(|n| {
                let point = ((commit * 20 + n) % POINTS as i64) as usize;
                Sample { point, time, value: plant.signals[point].next() }
            })
            .collect();
        let readings = samples.iter().map(|sample| plant.reading(sample)).collect();
        store.append(time, readings, Beside::default());
        store.follow();
        if commit == LAST_COMMITS {
            println!("loaded");
        }
    }
}

/// The gateway as users run it, on that directory.
struct Gateway {
    config: std::path::PathBuf,
    port: u16,
}

impl Gateway {
    fn new(place: &Path) -> Self {
        let port = free_port();
        let config = place.join("gateway.toml");
        let text = format!(
            "plan = \"plan.toml\"\n[journal]\ndir = \"data\"\n[web]\nlisten = \"127.0.0.1:{port}\"\n\
             [broker]\nlisten = \"127.0.0.1:0\"\nanonymous = true\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut plan = String::from(
            "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"s\"\n[[site.contact]]\nrole = \"r\"\nname = \"n\"\nphone = \"1\"\n\
             [[site.zone]]\nid = \"z\"\nname = \"z\"\n",
        );
        for n in 0..POINTS / 4 {
            plan.push_str(&format!(
                "[[site.zone.device]]\nid = \"d{n:04}\"\nname = \"d{n}\"\nplace = \"z\"\nprofile = \"fengsui/smoke-json\"\n\
                 link = \"broker\"\naddress = \"d{n:04}\"\n"
            ));
        }
        std::fs::write(place.join("plan.toml"), plan).unwrap();
        Self { config, port }
    }

    fn start_and_kill(&mut self) -> (f64, f64) {
        let binary = std::env::var_os("FENGSUI_BENCH_BINARY").unwrap_or(env!("CARGO_BIN_EXE_fengsui").into());
        let begun = Instant::now();
        let mut server = Server::start(
            Command::new(binary).args(["run", "--config"]).arg(&self.config).env("RUST_LOG", "error"),
        );
        wait_until("the page answers", Duration::from_secs(60), || self.answers());
        let took = begun.elapsed().as_secs_f64();
        let memory = memory_mib(Some(server.id())).0;
        server.kill();
        (took, memory)
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
        let mut first = [0; 8];
        stream.write_all(request).is_ok() && stream.read_exact(&mut first).is_ok() && &first == b"HTTP/1.1"
    }
}
