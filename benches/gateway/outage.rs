//! What fails around the gateway: a store that goes away, kill -9, a stop with a full queue, a broker that forgets.
//!
//! Each message bears a number of its own, so that lost and doubled ones cannot make up for each other.

use crate::load::{self, Mosquitto};
use crate::subject::{DEVICES, FRAMES, Gateway};
use crate::{Latencies, WIDE, stored};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const RATE: usize = 1000;

pub(crate) fn run(folder: &Path) {
    println!("\nAt {RATE} messages a second; every message bears a number\n");
    println!("| | messages | lost | doubled | |\n|---|---:|---:|---:|---|");
    store_away(&folder.join("store-away"));
    killed(&folder.join("killed"));
    stopped(&folder.join("stopped"));
    forgotten(&folder.join("forgotten"));
}

/// The store refuses every connection for 30 s of 60 s. Ten breaches a second all the time.
fn store_away(folder: &Path) {
    let broker = Mosquitto::start(folder, 0);
    let store = Store::start();
    // The default lets history take no more than a poor mobile line carries; here the line is no limit.
    let influx = format!(
        "\n[[influx]]\nurl = \"http://127.0.0.1:{}\"\norg = \"o\"\nbucket = \"b\"\n\
         backfill_lines_per_second = 1000000\n",
        store.port
    );
    let gateway = Gateway::begin(folder, &broker, WIDE, &influx);
    let (sender, seen) = mpsc::channel();
    gateway.page.live(sender);
    store.wait_until_quiet();
    let before = store.lines();
    let length = Duration::from_secs(60);
    let away = store.away.clone();
    let back_at = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(15));
        away.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(30));
        away.store(false, Ordering::Relaxed);
        Instant::now()
    });
    let every = RATE * 60 / crate::subject::BREACHING;
    let (sent, breaches) = load::paced(broker.port, RATE, length, DEVICES, Some(every));
    let back_at = back_at.join().unwrap();
    store.wait_until_quiet();
    let (lines, doubled, last_new) = store.tally(before);
    let told = Latencies::new(&breaches, &seen.try_iter().collect::<Vec<_>>());
    let caught_up = store.caught_up_after(back_at, last_new);
    println!(
        "| store away for 30 s of 60 s, lines of devices | {} | {} | {doubled} | alarms {told} ms; history there {caught_up:.1} s after the store was back |",
        sent * 4,
        (sent * 4).cast_signed() - lines.cast_signed()
    );
}

/// `kill -9` five times in the stream, at the worst moment for a client that acknowledges first.
fn killed(folder: &Path) {
    let broker = Mosquitto::start(folder, 0);
    let mut gateway = Gateway::begin(folder, &broker, WIDE, "");
    let port = broker.port;
    let talking = std::thread::spawn(move || load::numbered(port, RATE, 25_000));
    for _ in 0..5 {
        std::thread::sleep(Duration::from_secs(3));
        gateway.process.kill();
        gateway = Gateway::again(folder, &gateway);
    }
    talking.join().unwrap();
    report("kill -9 five times, persistent session", folder, gateway, &broker, 25_000);
}

/// An orderly stop, 50 000 messages meanwhile, and a start.
fn stopped(folder: &Path) {
    let broker = Mosquitto::start(folder, 0);
    let gateway = Gateway::begin(folder, &broker, WIDE, "");
    gateway.process.stop();
    load::numbered(broker.port, usize::MAX, 50_000);
    let gateway = Gateway::again(folder, &gateway);
    report("a clean stop with 50 000 queued at the broker", folder, gateway, &broker, 50_000);
}

/// The broker is killed and comes back without its sessions. What it had not handed over is lost with it; the publishers,
/// which keep what was not acknowledged to them, stop before it and go on after it.
fn forgotten(folder: &Path) {
    let broker = Mosquitto::start(folder, 0);
    let gateway = Gateway::begin(folder, &broker, WIDE, "");
    load::numbered(broker.port, RATE, 5000);
    let before = gateway.settle();
    let port = broker.port;
    drop(broker);
    let broker = Mosquitto::start_on(folder, 0, port);
    let deadline = Instant::now() + Duration::from_secs(60);
    // A probe until the gateway has subscribed anew: the broker keeps nothing for a session that it does not know.
    while gateway.page.counter(FRAMES) == before {
        assert!(Instant::now() < deadline, "the gateway did not subscribe again");
        load::flat_out(port, 1, 1);
        std::thread::sleep(Duration::from_millis(50));
    }
    load::numbered_from(port, RATE, 5000, 5000);
    report("broker restarted without its sessions", folder, gateway, &broker, 10_000);
}

fn report(name: &str, folder: &Path, gateway: Gateway, broker: &Mosquitto, sent: u64) {
    gateway.settle();
    gateway.process.stop();
    let (distinct, all) = stored::numbered(&folder.join("data"));
    let held = load::holds_back(broker.port, &gateway.client_id);
    let remark = if held { "THE BROKER STILL HOLDS A MESSAGE" } else { "" };
    println!(
        "| {name} | {sent} | {} | {} | {remark} |",
        sent.cast_signed() - distinct.cast_signed(),
        all - distinct
    );
}

/// A store that counts: each line of a device by its hash.
struct Store {
    port: u16,
    away: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    lines: HashMap<u64, u32>,
    /// When a line came that was new, with how many there were then.
    arrivals: Vec<(Instant, usize)>,
}

impl Store {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (away, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let (gone, all) = (away.clone(), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (gone, all) = (gone.clone(), all.clone());
                std::thread::spawn(move || drop(serve(stream, &gone, &all)));
            }
        });
        Self { port, away, seen }
    }

    fn lines(&self) -> usize {
        self.seen.lock().unwrap().lines.len()
    }

    fn wait_until_quiet(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut last = (self.lines(), Instant::now());
        while last.1.elapsed() < Duration::from_secs(8) {
            assert!(Instant::now() < deadline, "the store is never quiet");
            std::thread::sleep(Duration::from_millis(50));
            if self.lines() != last.0 {
                last = (self.lines(), Instant::now());
            }
        }
    }

    /// New lines, lines that came twice, and when the last new one came.
    fn tally(&self, before: usize) -> (usize, usize, Instant) {
        let seen = self.seen.lock().unwrap();
        let doubled = seen.lines.values().filter(|count| **count > 1).count();
        (seen.lines.len() - before, doubled, seen.arrivals.last().unwrap().0)
    }

    /// From the return of the store until it had as many lines as were published by then: live lines go first, so the
    /// line through the arrivals is met by history only when all of it is there.
    fn caught_up_after(&self, back_at: Instant, last_new: Instant) -> f64 {
        let seen = self.seen.lock().unwrap();
        // From its end backwards: the first stretch in which more came than the live lines of that stretch.
        let live = RATE as f64 * 4.0;
        let total = seen.lines.len() as f64;
        let behind = |(at, count): &&(Instant, usize)| {
            let expected = total - live * last_new.saturating_duration_since(*at).as_secs_f64();
            // Two seconds of lines are in the commit window and in the post under way.
            expected - *count as f64 > live * 2.0
        };
        let last_behind = seen.arrivals.iter().filter(|arrival| arrival.0 >= back_at).rfind(behind);
        last_behind.map_or(0.0, |(at, _)| at.saturating_duration_since(back_at).as_secs_f64())
    }
}

/// One connection: posts of packed lines, answered with 204; while away it is closed.
fn serve(stream: TcpStream, away: &AtomicBool, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let (mut length, mut packed, mut line) = (0, false, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let head = line.trim_end().to_ascii_lowercase();
            if head.is_empty() {
                break;
            }
            if let Some(value) = head.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            packed |= head.starts_with("content-encoding:") && head.contains("gzip");
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if away.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut text = String::new();
        match packed {
            true => _ = flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text)?,
            false => text = String::from_utf8_lossy(&body).into_owned(),
        }
        let mut seen = seen.lock().unwrap();
        // Readings of devices; the changes of hazards and the gateway's own figures are lines as well.
        let of_device = |line: &&str| {
            !line.starts_with("hazard,") && (line.contains("device=d") || line.contains("device=b"))
        };
        for line in text.lines().filter(of_device) {
            *seen.lines.entry(hash(line)).or_default() += 1;
        }
        let count = seen.lines.len();
        seen.arrivals.push((Instant::now(), count));
        drop(seen);
        writer.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")?;
    }
}

fn hash(line: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}
