//! The driver on stable Rust: seeds, mutated at random, for a bounded time. `FUZZ_SECONDS` is for each target, `FUZZ_SEED`
//! another run of chance than the fixed one.

use super::*;
use crate::profile::ExampleInput;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tokio::time::Instant;

/// Executions of each target where nobody asks for more: a second or two on a slow machine, unoptimised.
const EXECUTIONS_MIN: u64 = 1500;

/// The longest input. Longer ones only take longer.
const BYTES_MAX: usize = 4096;

/// Mutated inputs that are mutated further.
const WALKERS: usize = 64;

/// Pieces that parsers look for: chance alone would not find them.
const WORDS: [&str; 22] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    "[[",
    "]]",
    "\n",
    "=",
    ",",
    ":",
    "null",
    "true",
    "1e999",
    "-1",
    "NaN",
    "\\u0000",
    "\u{7f}",
    "烟",
    "18446744073709551616",
    "{{ value_json.x }}",
    "####\n",
];

/// Xorshift64*: chance that can be repeated.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next() % 256).unwrap()
    }

    /// One to four changes.
    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + 1 + self.below(16)).min(bytes.len());
            match self.below(8) {
                0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 if at < bytes.len() => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF, self.byte()][self.below(6)],
                3 => bytes.truncate(at),
                4 if at < end => drop(bytes.drain(at..end)),
                5 if at < end => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                6 => {
                    let from = self.below(other.len());
                    let piece = other[from..(from + 1 + self.below(32)).min(other.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let word = WORDS[self.below(WORDS.len())];
                    bytes.splice(at..at, word.bytes());
                }
            }
        }
        bytes.truncate(BYTES_MAX);
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(name: &str, seeds: Vec<Vec<u8>>) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    assert!(!seeds.is_empty(), "chance alone finds little");
    let seconds = Duration::from_secs(number_from_environment("FUZZ_SECONDS").unwrap_or(0));
    let seed = number_from_environment("FUZZ_SEED").unwrap_or(1);
    let (mut chance, mut pool) = (Chance(seed.wrapping_mul(2) | 1), seeds);
    let (own, begun, mut executions) = (pool.len(), Instant::now(), 0_u64);
    let mut execute = |bytes: &[u8]| {
        executions += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
            eprintln!(
                "{name} (FUZZ_SEED={seed}) fails on {:?}\n{bytes:02x?}",
                String::from_utf8_lossy(bytes)
            );
            std::panic::resume_unwind(panic);
        }
        executions
    };
    pool.iter().for_each(|seed| _ = execute(seed));
    loop {
        let (one, other) = (chance.below(pool.len()), chance.below(pool.len()));
        let mut bytes = pool[one].clone();
        chance.mutate(&mut bytes, &pool[other].clone());
        if execute(&bytes) >= EXECUTIONS_MIN && begun.elapsed() >= seconds {
            break;
        }
        if pool.len() < own + WALKERS {
            pool.push(bytes);
        } else {
            pool[own + chance.below(WALKERS)] = bytes;
        }
    }
    println!("{name}: {executions} executions, {own} seeds");
}

/// The examples of the shipped profiles, as their devices send them.
fn examples(of: impl Fn(&Profile) -> bool) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (place, profile) in CATALOGUE.profiles.values().enumerate().filter(|(_, profile)| of(profile)) {
        for example in &profile.examples {
            if let ExampleInput::Message(payload) = &example.input {
                seeds.push([&[u8::try_from(place).unwrap()], &payload[..]].concat());
            }
        }
    }
    seeds
}

/// Without the byte that names the profile.
fn examples_of(id: &str) -> Vec<Vec<u8>> {
    examples(|profile| profile.id.as_str() == id).into_iter().map(|seed| seed[1..].to_vec()).collect()
}

#[test]
fn no_message_breaks_a_decoder() {
    run("message", examples(|_| true));
}

#[test]
fn no_registers_break_a_decoder() {
    run("registers", vec![vec![2, 0, 0, 8, 0, 1, 0, 2, 0x41, 0xBC, 0, 0], vec![3, 0, 4, 1], vec![0; 200]]);
}

#[test]
fn no_pack_breaks_senml() {
    run("senml", examples_of("generic/senml-smoke"));
}

#[test]
fn no_payload_breaks_sparkplug() {
    run("sparkplug", examples_of("generic/sparkplug-smoke"));
}

#[test]
fn no_announcement_breaks_a_draft() {
    let device = r#""dev":{"ids":["zigbee2mqtt_0x00158d01"],"name":"烟感","mf":"Heiman","mdl":"HS1SA-E"},"~":"zigbee2mqtt/0x00158d01","stat_t":"~","#;
    let smoke = r#""dev_cla":"smoke","pl_on":true,"pl_off":false,"val_tpl":"{{ value_json.smoke }}""#;
    let heat =
        r#""dev_cla":"temperature","unit_of_meas":"°C","val_tpl":"{{ value_json['a b'][2].c | float }}""#;
    let whole = format!(
        "{{{device}\"cmps\":{{\"a\":{{\"p\":\"binary_sensor\",{smoke}}},\"b\":{{\"p\":\"sensor\",{heat}}}}}}}"
    );
    run(
        "announcement",
        vec![format!("{{{device}{smoke}}}").into(), format!("{{{device}{heat}}}").into(), whole.into()],
    );
}

#[test]
fn no_text_breaks_the_reader_of_profiles() {
    let files = ["generic/senml-smoke", "generic/rs485-level", "zigbee2mqtt/heiman-hs1sa-e"].map(|id| {
        std::fs::read(format!("{}/device-profiles/{id}.toml", env!("CARGO_MANIFEST_DIR"))).unwrap()
    });
    run(
        "profile_file",
        files
            .map(|mut file| {
                file.truncate(BYTES_MAX / 2);
                file
            })
            .to_vec(),
    );
}

#[test]
fn no_text_breaks_the_reader_of_a_gateways_files() {
    let gateway = "plan = \"plan.toml\"\n[journal]\ndir = \"d\"\n[web]\nlisten = \"127.0.0.1:0\"\n[[mqtt]]\nname = \"town\"\nurl = \"mqtts://b:8883\"\n[[modbus]]\nname = \"bus\"\naddress = \"10.0.0.1:502\"\n";
    let plan = "[[site]]\nid = \"a\"\nname = \"甲\"\naddress = \"路 1 号\"\n[[site.zone]]\nid = \"z\"\nname = \"一层\"\n[[site.zone.device]]\nid = \"sd-1\"\nname = \"烟感\"\nprofile = \"fengsui/smoke-json\"\nlink = \"town\"\naddress = \"sd-1\"\n";
    run("config_files", vec![format!("{gateway}####\n{plan}").into(), plan.into()]);
}

#[test]
fn no_bytes_break_a_chunk() {
    run("chunk", series::fuzz_chunk_seeds());
}

#[test]
fn no_bytes_break_the_journals_readings() {
    run("readings", journal::fuzz_readings_seeds());
}

#[test]
fn no_line_breaks_the_import() {
    let lines = [
        "2026-01-15T02:30:05.000Z,sd-1/smoke,alarm,good,,,,,,,,,,,",
        r#"{"time":"2026-01-15T02:30:05.000Z","point":"sd-1/temperature","value":21.5,"quality":"good"}"#,
        "heat_temperature,site=a,zone=z,device=sd-1,point=temperature value=21.5,quality=\"good\" 1768444205000",
    ];
    run("exchange_line", lines.iter().map(|line| line.as_bytes().to_vec()).collect());
}

#[test]
fn no_bytes_break_the_relay_of_packets() {
    let packets = [
        &[0x10, 2, 0, 0][..],
        &[0x32, 6, 0, 1, b't', 0, 5, b'x'],
        &[0x40, 2, 0, 1],
        &[0x30, 200, 1],
        &[0xC0, 0],
    ];
    run("relay", vec![packets.concat(), packets[1].to_vec()]);
}

#[test]
fn every_target_has_a_file_for_the_fuzzer() {
    for (name, _) in TARGETS {
        let file = format!("{}/fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fengsui::fuzz::{name}")), "{file}");
    }
}
