//! The store on its own, beside plain SQLite rows, VictoriaMetrics and InfluxDB 1 with the same samples in the same run.
//!
//! `cargo bench --bench storage -- all` runs everything, without `all` everything but `month`, with `wear rest` only these;
//! `--quick` makes each part small, to see that it works:
//!
//! - `wear`: bytes written to the disk at 1 to 500 readings a second, by process and by block device (as root);
//! - `rest`: bytes a reading at rest, by class of quantity;
//! - `ingest`: readings a second flat out;
//! - `query`: the charts that people look at, and whether looking at them holds up who writes;
//! - `start`: after kill -9 with a year of readings;
//! - `month`: memory over a simulated month at 500 readings a second (`--days N`).
//!
//! `TMPDIR` chooses the disk. The servers are Debian's packages `victoria-metrics` and `influxdb`; one that is missing
//! has no row. Whatever was written is read back and counted: a reading that is missing stops the bench.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks to a person")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop loudly")]
#![expect(clippy::disallowed_methods, reason = "a bench is about wall-clock time and runs beside no test")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "counts and times far below 2^52"
)]

mod month;
mod own;
mod peers;
mod process;
mod query;
mod rest;
mod samples;
mod start;
mod table;
mod wear;

use std::time::Instant;

const PARTS: [&str; 6] = ["wear", "rest", "ingest", "query", "start", "month"];

fn main() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("wear-child") => return wear::child(&arguments[1..]),
        Some("start-child") => return start::child(&arguments[1..]),
        Some("month-child") => return month::child(&arguments[1..]),
        _ => {}
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let days = arguments.iter().position(|argument| argument == "--days");
    let days = days.map_or(if quick { 1 } else { 30 }, |at| arguments[at + 1].parse().unwrap());
    let any = arguments.iter().any(|argument| PARTS.contains(&argument.as_str()));
    // A folder on the disk that is measured; it goes at the end.
    let folder = tempfile::tempdir().unwrap();
    for part in PARTS {
        let named = arguments.iter().any(|argument| argument == part || argument == "all");
        if !(named || !any && part != "month") {
            continue;
        }
        let begun = Instant::now();
        eprintln!("{part}");
        match part {
            "wear" => wear::run(folder.path(), quick),
            "rest" => rest::rest(folder.path(), quick),
            "ingest" => rest::ingest(folder.path(), quick),
            "query" => query::run(folder.path(), quick),
            "start" => start::run(folder.path(), quick),
            _ => month::run(folder.path(), days),
        }
        eprintln!("{part}: {:.0} s", begun.elapsed().as_secs_f64());
    }
}
