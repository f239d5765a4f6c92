//! FRAMES → READINGS: nanoseconds a frame, beside what only reads the same bytes.
//!
//! `cargo bench --bench decode`. The frames are the profiles' own examples.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop loudly")]

use divan::{Bencher, black_box};
use fengsui::config::Config;
use fengsui::model::{RegisterBlock, Timestamp};
use fengsui::profile::{ExampleInput, Profile};
use std::sync::Arc;

const AT: Timestamp = Timestamp::from_secs(1_800_000_000);

fn main() {
    divan::main();
}

/// A built-in profile, as the gateway loads it.
fn profile(id: &str) -> Arc<Profile> {
    let (link, place) = if id.ends_with("modbus") || id.starts_with("eastron") {
        ("[[modbus]]\nname = \"l\"\nurl = \"tcp://127.0.0.1:502\"\n", "unit = 1")
    } else {
        ("[[mqtt]]\nname = \"l\"\nurl = \"mqtt://127.0.0.1\"\n", "address = \"d\"")
    };
    let gateway = format!("plan = \"plan.toml\"\n[journal]\ndir = \"x\"\n{link}");
    let plan = format!(
        "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"s\"\n[[site.contact]]\nrole = \"r\"\nname = \"n\"\nphone = \"1\"\n\
         [[site.zone]]\nid = \"z\"\nname = \"z\"\n[[site.zone.device]]\nid = \"d\"\nname = \"d\"\nplace = \"z\"\n\
         profile = \"{id}\"\nlink = \"l\"\n{place}\n"
    );
    let read = Config::from_texts(&[("gateway.toml", &gateway), ("plan.toml", &plan)], &|_| None);
    let (config, _) = read.unwrap_or_else(|report| panic!("{:?}", report.problems));
    config.bindings[0].profile.clone()
}

const SMOKE: &[u8] = br#"{"smoke":0,"temperature":23.4,"battery":98,"rssi":-71}"#;

/// Four readings of a smoke detector.
#[divan::bench]
fn smoke_json(bencher: Bencher) {
    let profile = profile("fengsui/smoke-json");
    assert_eq!(profile.decode_message(0, SMOKE, AT).samples.len(), 4);
    bencher.counter(1u32).bench(|| profile.decode_message(0, black_box(SMOKE), AT));
}

/// The limit: the same bytes into a tree.
#[divan::bench]
fn smoke_json_bare_serde(bencher: Bencher) {
    bencher.counter(1u32).bench(|| serde_json::from_slice::<serde_json::Value>(black_box(SMOKE)).unwrap());
}

fn registers(profile: &Profile) -> Vec<RegisterBlock> {
    let full =
        profile.examples.iter().filter(|example| !example.refused).find_map(|example| match &example.input {
            ExampleInput::Registers(blocks) => Some(blocks.clone()),
            ExampleInput::Message(_) => None,
        });
    full.unwrap()
}

/// A three-phase meter: 32-bit floats in several blocks.
#[divan::bench]
fn modbus_meter(bencher: Bencher) {
    let profile = profile("eastron/sdm630");
    let blocks = registers(&profile);
    bencher.counter(1u32).bench(|| profile.decode_registers(black_box(&blocks), AT));
}

/// An electrical fire detector: 16-bit registers.
#[divan::bench]
fn modbus_electrical(bencher: Bencher) {
    let profile = profile("fengsui/electrical-modbus");
    let blocks = registers(&profile);
    bencher.counter(1u32).bench(|| profile.decode_registers(black_box(&blocks), AT));
}

/// The limit: the meter's words as floats and nothing else.
#[divan::bench]
fn modbus_meter_bare_floats(bencher: Bencher) {
    let blocks = registers(&profile("eastron/sdm630"));
    bencher.counter(1u32).bench(|| -> f32 {
        let words = black_box(&blocks).iter().filter_map(|block| block.words.as_ref().ok());
        words
            .flat_map(|words| words.chunks_exact(2))
            .map(|pair| f32::from_bits(u32::from(pair[0]) << 16 | u32::from(pair[1])))
            .sum()
    });
}
