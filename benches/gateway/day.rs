//! A day of a site of 500 readings a second, replayed as fast as it goes: does the memory stay where it was?

use crate::WIDE;
use crate::load::{self, Mosquitto};
use crate::subject::{DEVICES, Gateway};
use std::path::Path;

/// 500 readings a second at four a message, for 24 hours.
const MESSAGES: usize = 500 / 4 * 86_400;

/// After this share of the day the memory is taken for warm: buffers, names and caches have their size.
const WARM_PERCENT: usize = 10;

pub(crate) fn run(folder: &Path, hours: usize) {
    let place = folder.join("day");
    let broker = Mosquitto::start(&place, 0);
    let gateway = Gateway::begin(&place, &broker, WIDE, "");
    let all = MESSAGES * hours / 24;
    println!("\n{hours} h at 500 readings a second, {all} messages flat out\n");
    println!("| of the day | RSS, MiB | peak, MiB | journal, MB |\n|---:|---:|---:|---:|");
    let mut warm = f64::NAN;
    let mut now = f64::NAN;
    for part in 1..=20 {
        load::flat_out(broker.port, all / 20, DEVICES);
        gateway.settle();
        let (peak, resident) = gateway.process.memory_mib();
        let bytes = gateway.page.counter("fengsui_journal_bytes") as f64 / 1e6;
        println!("| {} % | {resident:.1} | {peak:.1} | {bytes:.0} |", part * 5);
        if part * 5 <= WARM_PERCENT {
            warm = resident;
        }
        now = resident;
    }
    println!(
        "\nAt the end {now:.1} MiB, {:+.1} % of what it was after {WARM_PERCENT} %",
        (now / warm - 1.0) * 100.0
    );
    assert_eq!(gateway.page.counter("fengsui_frames_acked_unrecorded_total"), 0);
}
