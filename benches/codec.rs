//! A vendor's JavaScript codec in the gateway, beside the same codec under Node and beside a profile that needs none.
//!
//! `cargo bench --bench codec -- [FILE.js]`: without a file the codec of `tests/it/codec/vendor.js`. Node runs it twice: each frame in a realm
//! of its own, as the gateway does, and all frames in one realm that is warm, which is what Node is at best.

#![expect(clippy::print_stdout, reason = "a bench talks to a person")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop loudly")]
#![expect(clippy::disallowed_methods, reason = "a bench is about wall-clock time and runs beside no test")]
#![expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]

use fengsui::codec::{Codec, Uplink};
use fengsui::config::Report;
use fengsui::config::library::shipped_library;
use fengsui::model::{ProfileId, Timestamp};
use std::process::Command;
use std::time::Instant;

/// Battery, temperature, humidity, leak: what a leak sensor sends.
const BYTES: [u8; 14] = [0x01, 0x75, 0x5c, 0x03, 0x67, 0x34, 0x01, 0x04, 0x68, 0x65, 0x05, 0x00, 0x00, 0x00];
const HEX: &str = "01755c0367340104686505000000";
/// The port: which of `vendor.js`'s trials; 85 for a codec from elsewhere.
const OWN_PORT: u8 = 1;
const OTHER_PORT: u8 = 85;

/// Interleaved; the median counts.
const ROUNDS: usize = 5;
const FRAMES: u32 = 2000;

const NODE: &str = r#"
const fs = require("fs"), vm = require("vm");
const [script, port, hex, way, frames] = process.argv.slice(1);
const text = fs.readFileSync(script, "utf8"), bytes = hex;
const call = `(() => { const list = []; for (let at = 0; at < bytes.length; at += 2) list.push(parseInt(bytes.slice(at, at + 2), 16));
  const fPort = Number(port); return JSON.stringify(typeof decodeUplink === "function" ? decodeUplink({ bytes: list, fPort, recvTime: new Date(0), variables: {} })
    : typeof Decode === "function" ? Decode(fPort, list, {}) : Decoder(list, fPort)); })()`;
const compiled = new vm.Script(text), calling = new vm.Script(call);
const realm = () => { const made = vm.createContext({ Buffer, bytes, port, console: { log() {} } }); compiled.runInContext(made); return made; };
let answer, one = realm();
const started = process.hrtime.bigint();
for (let frame = 0; frame < Number(frames); frame++) answer = calling.runInContext(way === "fresh" ? realm() : one);
console.log(Number(process.hrtime.bigint() - started) / Number(frames) + " " + answer);
"#;

fn node(script: &str, port: u8, way: &str) -> (f64, String) {
    let output = Command::new("node")
        .args(["-e", NODE, script, &port.to_string(), HEX, way, &FRAMES.to_string()])
        .output()
        .expect("node is installed");
    let said = String::from_utf8(output.stdout).unwrap();
    let (nanoseconds, answer) = said.trim().split_once(' ').unwrap_or_else(|| {
        panic!("node: {}", String::from_utf8_lossy(&output.stderr));
    });
    (nanoseconds.parse().unwrap(), answer.to_owned())
}

fn timed(mut decode: impl FnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..FRAMES {
        decode();
    }
    started.elapsed().as_nanos() as f64 / f64::from(FRAMES)
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn main() {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/codec/vendor.js");
    let given = std::env::args().skip(1).find(|argument| argument.ends_with(".js"));
    let port = if given.is_some() { OTHER_PORT } else { OWN_PORT };
    let script = given.unwrap_or_else(|| own.to_owned());
    let text = std::fs::read_to_string(&script).unwrap();
    let length = text.len();
    let codec = Codec::new(text).unwrap();
    let nothing = serde_json::json!({});
    let uplink = Uplink {
        bytes: &BYTES,
        port: Some(port),
        received_at: Timestamp::from_secs(0),
        recv_time: None,
        variables: &nothing,
    };
    let answer = codec.decode(&uplink).unwrap();
    let (_, theirs) = node(&script, port, "fresh");
    assert_eq!(answer, theirs, "the two decode alike, or the comparison is worth nothing");

    let library = shipped_library(&mut Report::default()).unwrap();
    let profile = &library.profiles[&ProfileId::parse("milesight/gs524n@raw").unwrap()];
    let payload = br#"{"time":"2026-01-15T02:30:05+00:00","fPort":85,"data":"Ih5kABxA","rxInfo":[{"rssi":-48,"snr":9.5}]}"#;
    assert!(profile.decode_message(0, payload, Timestamp::from_secs(0)).understood);

    let [mut ours, mut fresh, mut warm, mut declared] = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        ours.push(timed(|| drop(std::hint::black_box(codec.decode(&uplink)))));
        fresh.push(node(&script, port, "fresh").0);
        warm.push(node(&script, port, "warm").0);
        declared.push(timed(|| {
            drop(std::hint::black_box(profile.decode_message(0, payload, Timestamp::from_secs(0))));
        }));
    }
    println!("a codec of {length} bytes, {FRAMES} frames, median of {ROUNDS} rounds\n");
    println!("| | ns a frame | frames/s of a core | of Node, a realm each |\n|---|---:|---:|---:|");
    let fresh = median(fresh);
    for (name, nanoseconds) in [
        ("gateway, an engine each", median(ours)),
        ("Node, a realm each", fresh),
        ("Node, one warm realm", median(warm)),
        ("gateway, a declared profile (bytes in JSON)", median(declared)),
    ] {
        println!("| {name} | {nanoseconds:.0} | {:.0} | {:.3} |", 1e9 / nanoseconds, nanoseconds / fresh);
    }
}
