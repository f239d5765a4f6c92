//! The whole gateway against a bare subscriber, on the same broker, in the same run.
//!
//! `cargo bench --bench gateway` runs every part; `cargo bench --bench gateway -- wear` only one:
//!
//! - `throughput`: QoS 1 messages of 1000 devices flat out, in interleaved rounds, to a rumqttc subscriber that only
//!   counts (*bare*) and to the gateway as users run it (`fengsui run`: journal, series and page on);
//! - `client`: the same with QoS 0 and 1, 100 and 1000 devices, a broker that sends 20 unacknowledged messages or any
//!   number, MQTT 3.1.1 and 5; with QoS 0 also how many of the messages came at all;
//! - `latency`: from the publication of a breach to the live event on the duty-room page, beside a *floor* that reads
//!   the JSON, applies a limit and prints a line, and keeps nothing;
//! - `wear`: bytes written to the disk, at several rates and broker windows;
//! - `memory`: resident memory idle with the demo's plan, signed in, and while a store is away;
//! - `crowded`: the same while 2000 messages are always on their way;
//! - `embedded`: publishers straight into the embedded broker;
//! - `outage`: a store that is away for half of the time, kills, stops and a broker that forgets: what is lost, doubled, late;
//! - `day`: a day of 500 readings a second as fast as it goes, and the memory after it (not in a run of everything);
//! - `start`: from the start of the process to the first reading.
//!
//! Each subject gets a broker of its own and is warmed up before it is measured. After each round of the gateway its
//! journal is opened and counted, and the broker is asked whether it still holds a message: what was not stored and
//! acknowledged does not count. Machines are noisy: compare what stands in one table, and ratios across tables.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks to a person")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop loudly")]
#![expect(clippy::disallowed_methods, reason = "a bench is about wall-clock time and runs beside no test")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and times far below 2^52, and packet fields below their limits"
)]

mod client;
mod crowded;
mod day;
mod embedded;
mod load;
mod outage;
mod page;
mod subject;
mod stored;

use load::Mosquitto;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use subject::{BREACHING, Bare, DEVICES, FRAMES, Gateway};

/// Messages before the clock starts: memory is mapped, names are known, the broker's buffers have grown.
const WARM_UP: usize = 20_000;

/// The window in the gateway's configuration, unless the part says otherwise: what its documentation recommends
/// beside a broker without a limit of its own.
const WIDE: u16 = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let after =
        |name: &str| arguments.iter().position(|argument| argument == name).map(|at| &arguments[at + 1]);
    if let Some(port) = after("bare") {
        return subject::subscribe(port.parse().unwrap(), false);
    }
    if let Some(port) = after("floor") {
        return subject::subscribe(port.parse().unwrap(), true);
    }
    if let Some(port) = after("bare5") {
        return subject::subscribe_in_5(port.parse().unwrap());
    }
    let number = |name: &str, otherwise: usize| after(name).map_or(otherwise, |text| text.parse().unwrap());
    let parts = [
        "throughput",
        "client",
        "latency",
        "crowded",
        "embedded",
        "outage",
        "wear",
        "memory",
        "day",
        "start",
    ];
    let chosen = |part: &str| {
        arguments.iter().any(|argument| argument == part)
            || !arguments.iter().any(|argument| parts.contains(&argument.as_str()))
    };
    let folder = tempfile::tempdir().unwrap();
    let length = Duration::from_secs(number("--secs", 20) as u64);
    if chosen("throughput") {
        throughput(folder.path(), number("--messages", 200_000), number("--rounds", 3));
    }
    if chosen("client") {
        client::matrix(folder.path(), number("--messages", 100_000), number("--cells", usize::MAX));
    }
    if chosen("latency") {
        latency(folder.path(), length);
    }
    if chosen("crowded") {
        crowded::run(folder.path(), length);
    }
    if chosen("embedded") {
        embedded::run(folder.path(), number("--messages", 100_000), number("--rounds", 3));
    }
    if chosen("outage") {
        outage::run(folder.path());
    }
    // Eleven million messages: only when it is asked for.
    if arguments.iter().any(|argument| argument == "day") {
        day::run(folder.path(), number("--hours", 24));
    }
    if chosen("wear") {
        wear(folder.path(), length);
    }
    if chosen("memory") {
        memory(folder.path(), length);
    }
    if chosen("start") {
        start(folder.path(), number("--rounds", 3));
    }
}

// ---- throughput ----------------------------------------------------------------------------------------------------

struct FlatOut {
    rate: f64,
    /// CPU seconds per million messages.
    cpu: f64,
    memory_mib: f64,
}

fn throughput(folder: &Path, messages: usize, rounds: usize) {
    let (mut bare, mut gateway) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // The order is turned each round, so that a slow minute of the machine hits both alike.
        for turn in 0..2 {
            let place = folder.join(format!("throughput-{round}-{turn}"));
            let broker = Mosquitto::start(&place, 0);
            let (name, result) = if (round + turn) % 2 == 0 {
                bare.push(flat_out_bare(&broker, messages));
                ("bare", bare.last())
            } else {
                gateway.push(flat_out_gateway(&place, &broker, messages));
                ("gateway", gateway.last())
            };
            let FlatOut { rate, cpu, memory_mib } = result.unwrap();
            eprintln!("round {round} {name}: {rate:.0} msg/s, {cpu:.1} CPU s a million, {memory_mib:.1} MiB");
        }
    }
    println!("\nQoS 1, {DEVICES} devices, {messages} messages, median of {rounds} interleaved rounds\n");
    println!("| | bare subscriber | gateway | ratio (each round) |");
    println!("|---|---:|---:|---:|");
    let line = |name: &str, value: fn(&FlatOut) -> f64, digits: usize| {
        let pair = [&bare, &gateway].map(|of| median(of.iter().map(value).collect()));
        let each: Vec<f64> = bare.iter().zip(&gateway).map(|(b, g)| value(g) / value(b)).collect();
        let listed: Vec<String> = each.iter().map(|ratio| format!("{ratio:.2}")).collect();
        let ratio = median(each);
        println!(
            "| {name} | {:.digits$} | {:.digits$} | {ratio:.2} ({}) |",
            pair[0],
            pair[1],
            listed.join(", ")
        );
    };
    line("messages a second", |r| r.rate, 0);
    line("CPU seconds a million messages", |r| r.cpu, 1);
    line("peak RSS, MiB", |r| r.memory_mib, 1);
}

fn flat_out_bare(broker: &Mosquitto, messages: usize) -> FlatOut {
    let mut bare = Bare::start(broker.port, false);
    load::flat_out(broker.port, WARM_UP, DEVICES);
    bare.wait_for(WARM_UP as u64);
    let (begun, cpu) = (Instant::now(), bare.process.cpu_seconds());
    load::flat_out(broker.port, messages, DEVICES);
    bare.wait_for((WARM_UP + messages) as u64);
    let elapsed = begun.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_millis(1500));
    let cpu = bare.process.cpu_seconds() - cpu;
    let memory_mib = bare.process.memory_mib().0;
    FlatOut { rate: messages as f64 / elapsed, cpu: cpu * 1e6 / messages as f64, memory_mib }
}

fn flat_out_gateway(folder: &Path, broker: &Mosquitto, messages: usize) -> FlatOut {
    let gateway = Gateway::begin(folder, broker, WIDE, "");
    load::flat_out(broker.port, WARM_UP, DEVICES);
    let before = gateway.settle();
    let (begun, cpu) = (Instant::now(), gateway.process.cpu_seconds());
    load::flat_out(broker.port, messages, DEVICES);
    gateway.page.wait_for(FRAMES, before + messages as u64);
    let elapsed = begun.elapsed().as_secs_f64();
    // The last commit, and whatever follows the journal: it is counted in the CPU time.
    assert_eq!(gateway.settle(), before + messages as u64);
    let cpu = gateway.process.cpu_seconds() - cpu;
    let memory_mib = gateway.process.memory_mib().0;
    finish(&gateway, folder, broker, before + messages as u64);
    FlatOut { rate: messages as f64 / elapsed, cpu: cpu * 1e6 / messages as f64, memory_mib }
}

/// Stops the gateway and asks the two witnesses: the journal and the broker.
fn finish(gateway: &Gateway, folder: &Path, broker: &Mosquitto, messages: u64) {
    assert_eq!(gateway.page.counter("fengsui_frames_acked_unrecorded_total"), 0, "acknowledged, not stored");
    assert_eq!(gateway.page.counter("fengsui_frames_unreadable_total"), 0);
    gateway.process.stop();
    // Smoke, temperature, battery and signal of every message.
    assert_eq!(stored::readings(&folder.join("data")), messages * 4, "readings in the journal");
    assert!(!load::holds_back(broker.port, &gateway.client_id), "the broker still holds a message");
}

// ---- latency -------------------------------------------------------------------------------------------------------

fn latency(folder: &Path, length: Duration) {
    println!(
        "\nPublication of a breach → told, {} s each; in parentheses how many were told of how many\n",
        length.as_secs()
    );
    println!(
        "| messages a second | floor p50 / p99 / max ms | gateway p50 / p99 / max ms | p99 ratio | gateway, mean ms: received → committed, one commit | floor, gateway: CPU of a core | gateway peak RSS, MiB |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for rate in [100, 1000, 10_000] {
        // Each of so many devices breaches once, evenly over the run: ten a second, so that a short run has a p99.
        let every = (rate * length.as_secs() as usize).div_ceil(BREACHING);
        let place = folder.join(format!("latency-{rate}"));
        let (floor, floor_core) = {
            let broker = Mosquitto::start(&place.join("floor"), 0);
            let mut bare = Bare::start(broker.port, true);
            load::flat_out(broker.port, DEVICES, DEVICES);
            bare.wait_for(DEVICES as u64);
            let (begun, cpu) = (Instant::now(), bare.process.cpu_seconds());
            let (_, breaches) = load::paced(broker.port, rate, length, DEVICES, Some(every));
            let told: Vec<_> = breaches.iter().map(|_| bare.answer()).collect();
            let core = (bare.process.cpu_seconds() - cpu) / begun.elapsed().as_secs_f64();
            (Latencies::new(&breaches, &told), core)
        };
        let broker = Mosquitto::start(&place, 0);
        let gateway = Gateway::begin(&place, &broker, WIDE, "");
        let (sender, seen) = mpsc::channel();
        gateway.page.live(sender);
        let (begun, cpu) = (Instant::now(), gateway.process.cpu_seconds());
        let (_, breaches) = load::paced(broker.port, rate, length, DEVICES, Some(every));
        let core = (gateway.process.cpu_seconds() - cpu) / begun.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_secs(2));
        let own = Latencies::new(&breaches, &seen.try_iter().collect::<Vec<_>>());
        println!(
            "| {rate} | {floor} | {own} | {:.1} | {:.1}, {:.1} | {:.1} %, {:.1} % | {:.1} |",
            own.at(0.99) / floor.at(0.99),
            gateway.page.mean_millis("fengsui_hazard_latency_seconds"),
            gateway.page.mean_millis("fengsui_journal_commit_seconds"),
            floor_core * 100.0,
            core * 100.0,
            gateway.process.memory_mib().0
        );
    }
}

struct Latencies {
    sorted: Vec<f64>,
    of: usize,
}

impl Latencies {
    fn new(breaches: &[(String, Instant)], told: &[(String, Instant)]) -> Self {
        let first = |device: &String| told.iter().find(|(name, _)| name == device);
        let mut sorted: Vec<f64> = breaches
            .iter()
            .filter_map(|(device, at)| Some((first(device)?.1 - *at).as_secs_f64() * 1000.0))
            .collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted, of: breaches.len() }
    }

    fn at(&self, share: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        let index = ((self.sorted.len() as f64 * share) as usize).min(last);
        self.sorted.get(index).copied().unwrap_or(f64::NAN)
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| self.at(share));
        write!(f, "{p50:.1} / {p99:.1} / {max:.1} ({} of {})", self.sorted.len(), self.of)
    }
}

// ---- wear ----------------------------------------------------------------------------------------------------------

fn wear(folder: &Path, length: Duration) {
    println!("\nWritten to the disk, {} s each; four readings a message\n", length.as_secs());
    println!(
        "| broker window | messages a second | commits a second | bytes a commit | bytes a reading | of these: log, checkpoint | GB a day |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for window in [20, 1000] {
        for rate in [1, 25, 100, 1000, 10_000] {
            let place = folder.join(format!("wear-{window}-{rate}"));
            let broker = Mosquitto::start(&place, window);
            // The first process learns all names; what it wrote is checkpointed when it stops, and not counted.
            let gateway = Gateway::begin(&place, &broker, window as u16, "");
            gateway.process.stop();
            let gateway = Gateway::again(&place, &gateway);
            gateway.settle();
            let commits = gateway.page.counter("fengsui_journal_commits_total");
            let (begun, before) = (Instant::now(), gateway.process.bytes_written());
            let (sent, _) = load::paced(broker.port, rate, length, DEVICES, None);
            let seconds = begun.elapsed().as_secs_f64();
            gateway.settle();
            let commits = (gateway.page.counter("fengsui_journal_commits_total") - commits) as f64;
            let log = (gateway.process.bytes_written() - before) as f64;
            // The log's pages reach the database with the checkpoint at the end.
            gateway.process.stop();
            let all = (gateway.process.bytes_written() - before) as f64;
            let readings = (sent * 4) as f64;
            println!(
                "| {window} | {:.0} | {:.1} | {:.0} | {:.1} | {:.1}, {:.1} | {:.2} |",
                sent as f64 / seconds,
                commits / seconds,
                all / commits,
                all / readings,
                log / readings,
                (all - log) / readings,
                all / seconds * 86_400.0 / 1e9
            );
        }
    }
}

// ---- memory --------------------------------------------------------------------------------------------------------

fn memory(folder: &Path, length: Duration) {
    println!("\nResident memory, MiB\n\n| | now | peak |\n|---|---:|---:|");
    let line = |name: &str, process: &subject::Process| {
        let (peak, now) = process.memory_mib();
        println!("| {name} | {now:.1} | {peak:.1} |");
    };
    let place = folder.join("memory-demo");
    std::fs::create_dir_all(&place).unwrap();
    let [page, yg, wsy] = [(); 3].map(|()| load::free_port());
    let text = format!(
        "plan = \"plan.toml\"\n\n[journal]\ndir = \"data\"\n\n[web]\nlisten = \"127.0.0.1:{page}\"\n\n\
         [broker]\nlisten = \"127.0.0.1:0\"\nanonymous = true\n\n\
         [[modbus]]\nname = \"yg-bus\"\nurl = \"tcp://127.0.0.1:{yg}\"\n\n\
         [[modbus]]\nname = \"wsy-bus\"\nurl = \"tcp://127.0.0.1:{wsy}\"\n"
    );
    std::fs::write(place.join("gateway.toml"), text).unwrap();
    std::fs::write(place.join("plan.toml"), include_str!("../../src/demo/plan.toml")).unwrap();
    // The first start hashes a password; the later ones do not.
    let mut child = subject::spawn(&place);
    let password = subject::read_password(&mut std::io::BufReader::new(child.stdout.take().unwrap()));
    let first = subject::Process::from(child);
    std::thread::sleep(length / 2);
    line("the demo's plan, nobody speaks, at the first start", &first);
    first.stop();
    let process = subject::Process::from(subject::spawn(&place));
    std::thread::sleep(length / 2);
    line("the same, at the second start", &process);
    for sign_in in 1..=10 {
        page::Page::sign_in(page, &password);
        if sign_in == 1 || sign_in == 10 {
            line(&format!("the same, after {sign_in} sign-ins"), &process);
        }
    }
    drop(process);

    let place = folder.join("memory-outage");
    let broker = Mosquitto::start(&place, 0);
    let url = format!("http://127.0.0.1:{}", load::free_port());
    let influx = format!("\n[[influx]]\nurl = \"{url}\"\norg = \"o\"\nbucket = \"b\"\n");
    let gateway = Gateway::begin(&place, &broker, WIDE, &influx);
    line(&format!("{} devices planned, each heard once", DEVICES + BREACHING), &gateway.process);
    load::paced(broker.port, 1000, length, DEVICES, None);
    line(&format!("the store away, {} s at 1000 messages a second", length.as_secs()), &gateway.process);
    load::flat_out(broker.port, 200_000, DEVICES);
    gateway.settle();
    line("the store away, 200 000 messages flat out", &gateway.process);
}

// ---- start ---------------------------------------------------------------------------------------------------------

fn start(folder: &Path, rounds: usize) {
    let (mut cold, mut killed, mut bytes) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        let place = folder.join(format!("start-{round}"));
        let broker = Mosquitto::start(&place, 0);
        let gateway = Gateway::begin(&place, &broker, WIDE, "");
        // Devices speak all the time; an orderly stop, a start, and a reading.
        let port = broker.port;
        let talk = |secs| {
            std::thread::spawn(move || load::paced(port, 100, Duration::from_secs(secs), DEVICES, None))
        };
        let talking = talk(6);
        gateway.process.stop();
        let begun = Instant::now();
        let gateway = Gateway::again(&place, &gateway);
        gateway.page.wait_for(FRAMES, 1);
        cold.push(begun.elapsed().as_secs_f64() * 1000.0);
        talking.join().unwrap();
        // Some history, then the end without a warning in the middle of the load.
        load::flat_out(broker.port, 200_000, DEVICES);
        gateway.settle();
        bytes = gateway.page.counter("fengsui_journal_bytes");
        let talking = talk(6);
        std::thread::sleep(Duration::from_secs(2));
        let (folder, before) = (place.clone(), gateway);
        let begun = {
            before.process.kill();
            Instant::now()
        };
        let gateway = Gateway::again(&folder, &before);
        gateway.page.wait_for(FRAMES, 1);
        killed.push(begun.elapsed().as_secs_f64() * 1000.0);
        talking.join().unwrap();
    }
    println!("\nStart of the process → first reading counted (signed in on the way), median of {rounds}\n");
    println!("| | ms |\n|---|---:|");
    println!("| after an orderly stop, {} devices planned | {:.0} |", DEVICES + BREACHING, median(cold));
    println!("| after kill -9, journal of {:.1} MB | {:.0} |", bytes as f64 / 1e6, median(killed));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
