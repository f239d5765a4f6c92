//! The embedded broker: publishers straight into the gateway, beside the bare subscriber behind mosquitto.

use crate::load::{self, Mosquitto};
use crate::subject::Gateway;
use crate::{FlatOut, WARM_UP, flat_out_bare, median, stored};
use std::path::Path;
use std::time::Instant;

pub(crate) fn run(folder: &Path, messages: usize, rounds: usize) {
    println!(
        "\nQoS 1 into the embedded broker (PUBACK after the journal), {messages} messages, {rounds} rounds\n"
    );
    println!("| devices | | bare behind mosquitto | embedded | ratio |\n|---:|---|---:|---:|---:|");
    for devices in [100, 1000] {
        let (mut bare, mut own) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let place = folder.join(format!("embedded-{devices}-{round}"));
            let broker = Mosquitto::start(&place.join("bare"), 0);
            bare.push(flat_out_bare(&broker, messages));
            drop(broker);
            own.push(flat_out(&place, devices, messages));
        }
        let line = |name: &str, value: fn(&FlatOut) -> f64, digits: usize| {
            let [b, g] = [&bare, &own].map(|of| median(of.iter().map(value).collect()));
            println!("| {devices} | {name} | {b:.digits$} | {g:.digits$} | {:.2} |", g / b);
        };
        line("messages a second", |r| r.rate, 0);
        line("CPU seconds a million messages", |r| r.cpu, 1);
        line("peak RSS, MiB", |r| r.memory_mib, 1);
    }
}

fn flat_out(folder: &Path, devices: usize, messages: usize) -> FlatOut {
    let (gateway, port) = Gateway::embedded(folder);
    load::flat_out(port, WARM_UP, devices);
    gateway.settle();
    let (begun, cpu) = (Instant::now(), gateway.process.cpu_seconds());
    // Returns when every message has its PUBACK: then the journal has it.
    load::flat_out(port, messages, devices);
    let elapsed = begun.elapsed().as_secs_f64();
    let frames = gateway.settle();
    let cpu = gateway.process.cpu_seconds() - cpu;
    let memory_mib = gateway.process.memory_mib().0;
    gateway.process.stop();
    assert_eq!(stored::readings(&folder.join("data")), frames * 4, "readings in the journal");
    FlatOut { rate: messages as f64 / elapsed, cpu: cpu * 1e6 / messages as f64, memory_mib }
}
