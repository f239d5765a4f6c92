//! What is written to the disk: hours of simulated time at each rate, by the kernel's count of the process and by the
//! block device's own count.
//!
//! Each subject is a process of its own with a file system of its own, so nobody's bytes are counted twice. The journal
//! and the rows run through their hours as fast as their commits allow: what they write depends on commits, and not on
//! the time between them. The servers have clocks of their own and run in real time for as long as that takes.

use crate::own::{Beside, Own};
use crate::peers::{Kind, Peer, Rows, lines};
use crate::process::{Disk, bytes_written, device_bytes};
use crate::samples::{BEGIN, Class, Sample, Signal, reading};
use crate::table::{Table, human};
use fengsui::config::Config;
use fengsui::hazard::Engine;
use fengsui::model::{Event, Outcome, Plan, Timestamp};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Readings a second.
const RATES: [usize; 4] = [1, 10, 100, 500];

/// The default commit window, in milliseconds.
const WINDOW: i64 = 1000;

/// A device speaks this often, with four readings a message.
const DEVICE_EVERY: i64 = 10_000;
/// The devices of the last row: their chunks are full soon, so that its hours have the merging in them.
const FAST_EVERY: i64 = 1000;
const FAST_RATE: usize = 500;

/// Minutes of warm-up and minutes that count. A device that speaks every ten seconds fills a tail of 1024 samples in 171
/// minutes: the count has one sealing of every tail in it, not more and not fewer. Rows have no such rhythm, and at
/// eight kilobytes a row an hour of them would wear out the disk under the bench.
const OWN_MINUTES: [i64; 2] = [171, 171];
/// As many seconds as a merged chunk has samples: of a point every second one is made in the count, no more and no fewer.
const FAST_MINUTES: [i64; 2] = [274, 274];
const ROWS_MINUTES: [i64; 2] = [5, 10];

/// A detector alarms this often, and a minute later it is quiet again.
const HAZARD_EVERY: i64 = 10 * 60_000;

/// Devices that speak in turn, each with the readings of a smoke detector: the world of one rate.
struct World {
    signals: Vec<Signal>,
    next: usize,
    /// Milliseconds between two messages.
    gap: f64,
    messages: u64,
    alarm_due: i64,
    quiet_due: Option<(usize, i64)>,
}

const FOUR: [Class; 4] = [Class::State, Class::Temperature, Class::Battery, Class::Signal];

impl World {
    fn new(rate: usize, every: i64) -> Self {
        let gap = 4000.0 / rate as f64;
        let devices = (every as f64 / gap).ceil().max(3.0) as usize;
        let device = |n: usize| FOUR.map(|class| Signal::new(class, &device(n), n as u64));
        Self {
            signals: (0..devices).flat_map(device).collect(),
            next: 0,
            gap,
            messages: 0,
            alarm_due: BEGIN + HAZARD_EVERY,
            quiet_due: None,
        }
    }

    fn devices(&self) -> usize {
        self.signals.len() / 4
    }

    /// When the next message comes.
    fn due(&self) -> i64 {
        BEGIN + (self.messages as f64 * self.gap) as i64
    }

    /// The next message: four samples of one time.
    fn message(&mut self) -> [Sample; 4] {
        let (time, device) = (self.due(), self.next);
        self.next = (self.next + 1) % self.devices();
        self.messages += 1;
        let mut samples = [0, 1, 2, 3].map(|n| {
            let point = device * 4 + n;
            Sample { point, time, value: self.signals[point].next() }
        });
        samples[0].value = 0.0;
        match self.quiet_due {
            Some((alarmed, until)) if alarmed == device => {
                samples[0].value = 1.0;
                if time >= until {
                    samples[0].value = 0.0;
                    self.quiet_due = None;
                }
            }
            None if time >= self.alarm_due => {
                samples[0].value = 1.0;
                self.alarm_due += HAZARD_EVERY;
                self.quiet_due = Some((device, time + 60_000));
            }
            _ => {}
        }
        samples
    }
}

fn device(n: usize) -> String {
    format!("d{n:04}")
}

fn plan(devices: usize) -> Arc<Plan> {
    let gateway =
        "plan = \"plan.toml\"\n[journal]\ndir = \"x\"\n[[mqtt]]\nname = \"l\"\nurl = \"mqtt://127.0.0.1\"\n";
    let mut plan = String::from(
        "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"s\"\n[[site.contact]]\nrole = \"r\"\nname = \"n\"\nphone = \"1\"\n\
         [[site.zone]]\nid = \"z\"\nname = \"z\"\n",
    );
    for n in 0..devices {
        let id = device(n);
        plan.push_str(&format!(
            "[[site.zone.device]]\nid = \"{id}\"\nname = \"{id}\"\nplace = \"z\"\nprofile = \"fengsui/smoke-json\"\n\
             link = \"l\"\naddress = \"{id}\"\n"
        ));
    }
    let read = Config::from_texts(&[("gateway.toml", gateway), ("plan.toml", &plan)], &|_| None);
    read.unwrap_or_else(|report| panic!("{:?}", report.problems)).0.plan
}

/// What one subject tells of its run.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Written {
    readings: u64,
    /// Of simulated or real time.
    seconds: f64,
    commits: u64,
    /// By `/proc/<pid>/io`.
    process: u64,
    /// By the block device; 0 where there is none.
    device: u64,
}

impl Written {
    fn print(&self) {
        let Self { readings, seconds, commits, process, device } = self;
        println!("written {readings} {seconds} {commits} {process} {device}");
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("written "))?;
        let mut words = line.split(' ');
        let mut next = || words.next();
        Some(Self {
            readings: next()?.parse().ok()?,
            seconds: next()?.parse().ok()?,
            commits: next()?.parse().ok()?,
            process: next()?.parse().ok()?,
            device: next()?.parse().ok()?,
        })
    }
}

/// Bytes so far: of a process and of the device under its folder.
struct Counts<'a> {
    id: Option<u32>,
    dir: &'a Path,
    device: &'a str,
}

impl Counts<'_> {
    fn read(&self) -> (u64, u64) {
        let device = if self.device == "-" { 0 } else { device_bytes(self.device, self.dir) };
        (bytes_written(self.id), device)
    }
}

/// The child process: `wear-child <own|fast|rows> <rate> <minutes of warm-up> <minutes> <device or -> <folder>`.
pub(crate) fn child(arguments: &[String]) {
    let [subject, rate, warm_up, minutes, device, dir] = arguments else { panic!("{arguments:?}") };
    let millis = |minutes: &String| minutes.parse::<i64>().unwrap() * 60_000;
    let dir = Path::new(dir);
    let counts = Counts { id: None, dir, device };
    let begin = BEGIN + millis(warm_up);
    let end = begin + millis(minutes);
    let run = if subject == "rows" { rows } else { own };
    let every = if subject == "fast" { FAST_EVERY } else { DEVICE_EVERY };
    run(World::new(rate.parse().unwrap(), every), &dir.join("data"), begin..end, &counts).print();
}

/// The pipeline's rhythm: a batch opens with its first message and is written when the window is over, or at once when
/// a hazard changes. Then the followers come.
fn own(mut world: World, dir: &Path, counted: Range<i64>, counts: &Counts) -> Written {
    let plan = plan(world.devices());
    let mut engine = Engine::restore(plan, Vec::new(), &[], Timestamp::from_millis(BEGIN));
    let mut out = Outcome::default();
    let mut own = Own::open(dir);
    let (mut batch, mut beside, mut opened) = (Vec::new(), Beside::default(), None);
    let (mut before, mut commits_before, mut readings) = (None, 0, 0);
    while world.due() < counted.end || opened.is_some() {
        let now = world.due();
        let due = opened.map_or(i64::MAX, |opened| opened + WINDOW);
        if before.is_none() && now >= counted.start && opened.is_none() {
            // Everything before is in the database itself.
            drop(own);
            own = Own::open(dir);
            before = Some(counts.read());
            (commits_before, readings) = (own.commits(), 0);
        }
        let urgent = !beside.transitions.is_empty();
        if urgent || due <= now {
            let at = if urgent { batch_time(&batch) } else { due };
            own.append(at, std::mem::take(&mut batch), std::mem::take(&mut beside));
            own.follow();
            opened = None;
            continue;
        }
        let four = world.message();
        opened.get_or_insert(now);
        readings += 4;
        // Eight bytes that look like a fingerprint.
        beside.receipts.push(world.messages.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for sample in &four {
            let event = Event::Reading(reading(&world.signals[sample.point], sample));
            out.clear();
            engine.handle(Timestamp::from_millis(now), world.messages, &event, &mut out);
            beside.transitions.append(&mut out.transitions);
            beside.facts.append(&mut out.facts);
            if let Event::Reading(reading) = event {
                batch.push(reading);
            }
        }
    }
    let commits = own.commits() - commits_before;
    // With the checkpoint that the orderly end makes: each page reaches the database sooner or later.
    drop(own);
    let (before, after) = (before.unwrap(), counts.read());
    Written {
        readings,
        seconds: (counted.end - counted.start) as f64 / 1000.0,
        commits,
        process: after.0 - before.0,
        device: after.1 - before.1,
    }
}

fn batch_time(batch: &[fengsui::model::Reading]) -> i64 {
    batch.last().map_or(BEGIN, |reading| reading.received_at.as_millis())
}

fn rows(mut world: World, dir: &Path, counted: Range<i64>, counts: &Counts) -> Written {
    let mut rows = Rows::open(dir);
    let (mut batch, mut opened) = (Vec::new(), None);
    let (mut before, mut commits, mut readings) = (None, 0, 0);
    while world.due() < counted.end || opened.is_some() {
        let now = world.due();
        if before.is_none() && now >= counted.start && opened.is_none() {
            rows.checkpoint();
            before = Some(counts.read());
            (commits, readings) = (0, 0);
        }
        if opened.is_some_and(|opened: i64| opened + WINDOW <= now) {
            rows.insert(&batch);
            batch.clear();
            commits += 1;
            opened = None;
            continue;
        }
        batch.extend(world.message());
        opened.get_or_insert(now);
        readings += 4;
    }
    rows.checkpoint();
    let (before, after) = (before.unwrap(), counts.read());
    Written {
        readings,
        seconds: (counted.end - counted.start) as f64 / 1000.0,
        commits,
        process: after.0 - before.0,
        device: after.1 - before.1,
    }
}

/// In real time: a post a second with what came in it.
fn server(kind: Kind, rate: usize, secs: u64, dir: &Path, device: &str) -> Option<Written> {
    let peer = Peer::start(kind, &dir.join("data"), false)?;
    let mut world = World::new(rate, DEVICE_EVERY);
    let first: Vec<Sample> = (0..world.devices()).flat_map(|_| world.message()).collect();
    peer.write(lines(&world.signals, &first));
    std::thread::sleep(Duration::from_secs(5));
    let counts = Counts { id: Some(peer.id()), dir, device };
    let (before, begun) = (counts.read(), Instant::now());
    let (mut readings, mut commits) = (0, 0);
    let start = world.due();
    for second in 1..=secs as i64 {
        let mut batch = Vec::new();
        while world.due() < start + second * 1000 {
            batch.extend(world.message());
        }
        if !batch.is_empty() {
            readings += batch.len() as u64;
            commits += 1;
            peer.write(lines(&world.signals, &batch));
        }
        let next = begun + Duration::from_secs(second as u64);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let after = counts.read();
    let seconds = begun.elapsed().as_secs_f64();
    Some(Written { readings, seconds, commits, process: after.0 - before.0, device: after.1 - before.1 })
}

/// How the points that speak every second are called.
const FAST: &str = "fengsui, each point every second";

/// Who is measured, at which rate, on which disk.
struct Subject {
    name: &'static str,
    kind: Option<Kind>,
    rate: usize,
    disk: Option<Disk>,
    dir: std::path::PathBuf,
}

pub(crate) fn run(folder: &Path, quick: bool) {
    let secs = if quick { 10 } else { 60 };
    let rates: &[usize] = if quick { &[100] } else { &RATES };
    let mut subjects = Vec::new();
    let names = [("fengsui", None), (FAST, None), ("SQLite rows", None)];
    let servers = Kind::BOTH.map(|kind| (kind.name(), Some(kind)));
    for (number, (name, kind)) in names.into_iter().chain(servers).enumerate() {
        for &rate in rates.iter().filter(|rate| name != FAST || **rate == FAST_RATE) {
            let dir = folder.join(format!("wear-{number}-{rate}"));
            let disk = Disk::make(&dir);
            subjects.push(Subject { name, kind, rate, disk, dir });
        }
    }
    // All at once: bytes do not depend on who else is running.
    let results: Vec<Option<Written>> = std::thread::scope(|scope| {
        let running: Vec<_> =
            subjects.iter().map(|subject| scope.spawn(move || measure(subject, quick, secs))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut table = Table::new(
        &format!(
            "Written to the disk. fengsui: {0} simulated minutes after {0} ({4} where each point speaks every second); rows: {1} after {2}; servers: {secs} s of real time{3}",
            OWN_MINUTES[1],
            ROWS_MINUTES[1],
            ROWS_MINUTES[0],
            if quick { " (quick: 2 after 5, and 10 s)" } else { "" },
            FAST_MINUTES[1],
        ),
        &[
            "readings a second",
            "",
            "commits a second",
            "bytes a reading: process",
            "block device",
            "GB a day: process",
            "block device",
        ],
    );
    for &rate in rates {
        for (subject, written) in subjects.iter().zip(&results).filter(|(subject, _)| subject.rate == rate) {
            let Some(written) = written else { continue };
            let Written { readings, seconds, commits, process, device } = *written;
            let per_reading = |bytes: u64| human(bytes as f64 / readings as f64);
            let per_day = |bytes: u64| format!("{:.3}", bytes as f64 / seconds * 86_400.0 / 1e9);
            let known = |text: String| if subject.disk.is_some() { text } else { "no root".to_owned() };
            table.row(&[
                rate.to_string(),
                subject.name.to_owned(),
                format!("{:.2}", commits as f64 / seconds),
                per_reading(process),
                known(per_reading(device)),
                per_day(process),
                known(per_day(device)),
            ]);
        }
    }
    table.print();
    println!("The block device's count has the file system's own journal and tables in it.");
}

fn measure(subject: &Subject, quick: bool, secs: u64) -> Option<Written> {
    let device = subject.disk.as_ref().map_or("-", Disk::device);
    if let Some(kind) = subject.kind {
        return server(kind, subject.rate, secs, &subject.dir, device);
    }
    let (who, minutes) = match subject.name {
        "fengsui" => ("own", OWN_MINUTES),
        FAST => ("fast", FAST_MINUTES),
        _ => ("rows", ROWS_MINUTES),
    };
    let [warm_up, minutes] = if quick { [5, 2] } else { minutes }.map(|minutes: i64| minutes.to_string());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["wear-child", who, &subject.rate.to_string(), &warm_up, &minutes, device])
        .arg(&subject.dir)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{who} at {} failed", subject.rate);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(Written::parse(&text).unwrap_or_else(|| panic!("{text}")))
}
