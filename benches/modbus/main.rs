//! The Modbus source against a simulator in a process of its own, and against bare tokio-modbus.
//!
//! `cargo bench --bench modbus` runs every part; `-- flat`, `-- paced` or `-- line` only one, `-- --secs 10` shortens each.
//!
//! - `flat`: reads a second flat out on 1 and on 32 connections, the simulator answering at once; *bare* is a loop around
//!   tokio-modbus's own client, with the same time-out and length check. Interleaved rounds, the median of each;
//! - `paced`: 100 and 1000 units on 10 ports, 10 registers a unit every second, each answer after 2 ms; then one unit of
//!   100 mute, and 100 of 1000; then the same 1000 with one connection a port only. Told are the polls that arrived, of
//!   those wanted, how late they arrived, and what the source cost of a core;
//! - `line`: a serial line at 9600 baud, and how much of what its wire could carry is carried.
//!
//! Lateness is measured at the simulator, for the units that answer: how far a question came behind the unit's own grid, the
//! earliest of its polls being on it. The first 5 s do not count: nobody knows the units yet, and breakers open.

#![expect(clippy::print_stdout, reason = "a bench talks to a person")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop loudly")]
#![expect(clippy::disallowed_methods, reason = "a bench is about wall-clock time and runs beside no test")]
#![expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]

mod line;
mod simulator;

use fengsui::clock::Clock;
use fengsui::metrics::Metrics;
use fengsui::model::{DeviceId, LinkId, RegisterTable, SourceIndex};
use fengsui::sources::modbus::{BusSettings, LineSettings, Read, TIMEOUT_DEFAULT, UnitSettings, Wire, run};
use fengsui::sources::{Arrival, ORDERS_MAX};
use simulator::Simulator;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_modbus::client::{Client, tcp};
use tokio_modbus::{Request, Response, Slave};
use tokio_util::sync::CancellationToken;

const PORTS: usize = 10;
const REGISTERS: u16 = 10;

/// Before anything counts.
const WARM_UP: Duration = Duration::from_secs(5);

/// Reads of the one unit of a connection that runs flat out: so many every 100 ms, the shortest period, is 40 000 a second,
/// above what one connection carries.
const FLAT_READS: u16 = 4000;

/// Rounds of each subject, interleaved.
const ROUNDS: usize = 3;

/// What a bus brings, counted and forgotten.
async fn count(mut arrivals: mpsc::Receiver<Arrival>) {
    while arrivals.recv().await.is_some() {}
}

struct Source {
    metrics: Metrics,
    cancel: CancellationToken,
}

impl Source {
    /// One bus a port.
    fn start(ports: &[u16], units: u8, reads: &[Read], second_connection: bool) -> Self {
        let (metrics, cancel) = (Metrics::new(), CancellationToken::new());
        let (intake, arrivals) = mpsc::channel(1024);
        tokio::spawn(count(arrivals));
        for (index, port) in ports.iter().enumerate() {
            let unit = |unit| UnitSettings {
                device: DeviceId::parse(&format!("unit-{index}-{unit}")).unwrap(),
                unit,
                reads: reads.to_vec(),
            };
            let bus = BusSettings {
                link: LinkId::parse(&format!("bus-{index}")).unwrap(),
                wire: Wire::Tcp { host: "127.0.0.1".to_owned(), port: *port },
                line: LineSettings::default(),
                units: (1..=units).map(unit).collect(),
                timeout: TIMEOUT_DEFAULT,
                pause_after_connect: Duration::ZERO,
                second_connection,
            };
            // Nobody orders anything: the bus goes on when the sender is gone.
            let (_, orders) = mpsc::channel(ORDERS_MAX);
            let (intake, metrics, cancel) = (intake.clone(), metrics.clone(), cancel.clone());
            tokio::spawn(run(bus, SourceIndex(0), intake, orders, Clock::system(), metrics, cancel));
        }
        Self { metrics, cancel }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn reads(count: u16, every: Duration) -> Vec<Read> {
    let read = |index: u16| Read {
        table: RegisterTable::Holding,
        start: index * REGISTERS,
        count: REGISTERS,
        every,
        urgent: false,
    };
    (0..count).map(read).collect()
}

/// Reads a second of the source.
async fn flat_source(ports: &[u16], time: Duration) -> f64 {
    let source = Source::start(ports, 1, &reads(FLAT_READS, Duration::from_millis(100)), false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, since) = (source.metrics.modbus_polls.get(), Instant::now());
    tokio::time::sleep(time).await;
    (source.metrics.modbus_polls.get() - before) as f64 / since.elapsed().as_secs_f64()
}

/// Reads a second of bare tokio-modbus.
async fn flat_bare(ports: &[u16], time: Duration) -> f64 {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let (done, cancel) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    for port in ports {
        let (done, cancel, port) = (done.clone(), cancel.clone(), *port);
        tokio::spawn(cancel.run_until_cancelled_owned(async move {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut client = tcp::attach_slave(stream, Slave(1));
            for index in (0..FLAT_READS).cycle() {
                let ask = Request::ReadHoldingRegisters(index * REGISTERS, REGISTERS);
                let answer = tokio::time::timeout(TIMEOUT_DEFAULT, client.call(ask)).await.unwrap();
                let Ok(Ok(Response::ReadHoldingRegisters(words))) = answer else { panic!("{answer:?}") };
                assert_eq!(words.len(), usize::from(REGISTERS));
                done.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, since) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(time).await;
    let rate = (done.load(Ordering::Relaxed) - before) as f64 / since.elapsed().as_secs_f64();
    cancel.cancel();
    rate
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn flat(time: Duration) {
    println!(
        "\nflat out, {REGISTERS} registers a read, answered at once, {time:?} a round, {ROUNDS} rounds:"
    );
    println!("{:>12} {:>12} {:>12} {:>8}", "connections", "bare /s", "source /s", "ratio");
    for connections in [1, 32] {
        let (mut bare, mut source) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let simulator = Simulator::start(connections, Duration::ZERO, 0);
            bare.push(flat_bare(&simulator.ports, time).await);
            let simulator = Simulator::start(connections, Duration::ZERO, 0);
            source.push(flat_source(&simulator.ports, time).await);
        }
        let (bare, source) = (median(bare), median(source));
        println!("{connections:>12} {bare:>12.0} {source:>12.0} {:>8.2}", source / bare);
    }
}

/// Seconds of processor time that this process has used.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

/// How many questions failed in all, warm-up included, by the name of the failure.
fn failures(metrics: &Metrics) -> String {
    let mut by_name = std::collections::BTreeMap::<String, u64>::new();
    for line in metrics.render().lines() {
        let Some(labels) = line.strip_prefix("fengsui_modbus_failures_by_name_total{") else { continue };
        let name = labels.split("failure=\"").nth(1).unwrap().split('"').next().unwrap();
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        *by_name.entry(name.to_owned()).or_default() += count;
    }
    let told: Vec<String> = by_name.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

async fn paced(time: Duration) {
    println!(
        "\n{PORTS} ports, {REGISTERS} registers a unit every second, answered after 2 ms, {time:?} each:"
    );
    println!(
        "{:>6} {:>5} {:>12} {:>10} {:>9} {:>9} {:>9} {:>7}",
        "units", "mute", "connections", "polls", "p50 ms", "p99 ms", "max ms", "CPU"
    );
    for (units, mute, second) in
        [(10, 0, true), (100, 0, true), (10, 1, true), (100, 10, true), (10, 1, false), (100, 10, false)]
    {
        let mut simulator = Simulator::start(PORTS, Duration::from_millis(2), mute);
        let source = Source::start(&simulator.ports, units, &reads(1, Duration::from_secs(1)), second);
        tokio::time::sleep(WARM_UP).await;
        simulator.begin();
        let (cpu, since) = (cpu_secs(), Instant::now());
        tokio::time::sleep(time).await;
        let (cpu, elapsed) = (cpu_secs() - cpu, since.elapsed().as_secs_f64());
        let seen = simulator.report();
        let failures = failures(&source.metrics);
        drop(source);
        let healthy = f64::from(units - mute) * PORTS as f64;
        println!(
            "{:>6} {:>5} {:>12} {:>9.2}% {:>9.2} {:>9.2} {:>9.2} {:>6.1}%",
            usize::from(units) * PORTS,
            usize::from(mute) * PORTS,
            if second { "1 + 1" } else { "1" },
            100.0 * seen.polls as f64 / (healthy * elapsed),
            seen.p50,
            seen.p99,
            seen.max,
            100.0 * cpu / elapsed,
        );
        // A unit that is mute answers to nothing; of the others whatever failed is worth a line.
        println!("{:>13} failed, by name: {failures}", "");
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--simulate") {
        return simulator::simulate(&arguments[at + 1..]).await;
    }
    let secs = arguments.iter().position(|argument| argument == "--secs");
    let secs = secs.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(30);
    let wanted = |part: &str| {
        let none = !arguments.iter().any(|argument| ["flat", "paced", "line"].contains(&argument.as_str()));
        none || arguments.iter().any(|argument| argument == part)
    };
    if wanted("flat") {
        flat(Duration::from_secs((secs / 6).max(1))).await;
    }
    if wanted("paced") {
        paced(Duration::from_secs(secs)).await;
    }
    if wanted("line") {
        line::line(Duration::from_secs(secs)).await;
    }
}
