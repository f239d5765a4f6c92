//! The MQTT client in every combination that an installer may meet, beside a bare rumqttc subscriber.

use crate::load::{self, Mosquitto};
use crate::subject::{Bare, FRAMES, Gateway, Process};
use crate::{FlatOut, WARM_UP, WIDE};
use std::path::Path;
use std::time::{Duration, Instant};

/// No message for so long: nothing more will come.
const QUIET: Duration = Duration::from_millis(1500);

/// One row of the table.
#[derive(Clone, Copy)]
struct Cell {
    qos: u8,
    devices: usize,
    /// What the broker sends unacknowledged; 0: any number.
    window: usize,
    protocol: u8,
}

/// What became of the messages of one cell.
struct Outcome {
    figures: FlatOut,
    /// How many of a hundred came. With QoS 1 all must.
    came: f64,
}

pub(crate) fn matrix(folder: &Path, messages: usize, cells: usize) {
    println!("\n{messages} messages flat out; bare subscriber / gateway\n");
    println!(
        "| QoS | devices | broker window | MQTT | messages a second | CPU s a million | peak RSS, MiB | came, % |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut all = Vec::new();
    for qos in [0, 1] {
        for devices in [100, 1000] {
            for window in [20, 0] {
                all.extend([4, 5].map(|protocol| Cell { qos, devices, window, protocol }));
            }
        }
    }
    for (number, cell) in all.into_iter().take(cells).enumerate() {
        let place = folder.join(format!("client-{number}"));
        // A broker of its own for each, so that nothing is left over from the other.
        let bare = bare(&Mosquitto::start(&place.join("bare"), cell.window), cell, messages);
        let gateway = gateway(&place, &Mosquitto::start(&place, cell.window), cell, messages);
        let Cell { qos, devices, window, protocol } = cell;
        let window = if window == 0 { "any".to_owned() } else { window.to_string() };
        let protocol = if protocol == 5 { "5" } else { "3.1.1" };
        let pair = |value: fn(&Outcome) -> f64, digits: usize| {
            format!("{:.digits$} / {:.digits$}", value(&bare), value(&gateway))
        };
        println!(
            "| {qos} | {devices} | {window} | {protocol} | {} | {} | {} | {} |",
            pair(|of| of.figures.rate, 0),
            pair(|of| of.figures.cpu, 1),
            pair(|of| of.figures.memory_mib, 1),
            pair(|of| of.came, 1)
        );
    }
}

fn bare(broker: &Mosquitto, cell: Cell, messages: usize) -> Outcome {
    let mut bare = Bare::start_as(if cell.protocol == 5 { "bare5" } else { "bare" }, broker.port);
    let warm = WARM_UP.min(messages);
    load::flat_out(broker.port, warm, cell.devices);
    bare.wait_for(warm as u64);
    let (begun, cpu) = (Instant::now(), bare.process.cpu_seconds());
    load::flat_out_with(broker.port, messages, cell.devices, cell.qos);
    let (count, last) = until_quiet(|| bare.count(), (warm + messages) as u64);
    outcome(&bare.process, count - warm as u64, last - begun, cpu, messages, cell)
}

fn gateway(folder: &Path, broker: &Mosquitto, cell: Cell, messages: usize) -> Outcome {
    let window = if cell.window == 0 { WIDE } else { cell.window as u16 };
    let gateway = Gateway::begin(folder, broker, window, &format!("protocol = {}\n", cell.protocol));
    load::flat_out(broker.port, WARM_UP.min(messages), cell.devices);
    let before = gateway.settle();
    let (begun, cpu) = (Instant::now(), gateway.process.cpu_seconds());
    load::flat_out_with(broker.port, messages, cell.devices, cell.qos);
    let (count, last) = until_quiet(|| gateway.page.counter(FRAMES), before + messages as u64);
    let outcome = outcome(&gateway.process, count - before, last - begun, cpu, messages, cell);
    crate::finish(&gateway, folder, broker, count);
    outcome
}

/// The count when nothing more comes, and when the last came.
fn until_quiet(mut count: impl FnMut() -> u64, all: u64) -> (u64, Instant) {
    let (mut known, mut last) = (count(), Instant::now());
    // The last commit, and whatever follows it, is in the CPU time: so the silence is waited for also when all are there.
    while last.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(20));
        let now = count();
        if now > known {
            (known, last) = (now, Instant::now());
        }
    }
    assert!(known <= all, "{known} came of {all}");
    (known, last)
}

fn outcome(process: &Process, came: u64, took: Duration, cpu: f64, messages: usize, cell: Cell) -> Outcome {
    assert!(cell.qos == 0 || came == messages as u64, "{came} came of {messages} with QoS 1");
    let figures = FlatOut {
        rate: came as f64 / took.as_secs_f64(),
        cpu: (process.cpu_seconds() - cpu) * 1e6 / came as f64,
        memory_mib: process.memory_mib().0,
    };
    Outcome { figures, came: came as f64 * 100.0 / messages as f64 }
}
