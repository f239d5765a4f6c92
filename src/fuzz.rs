//! BESIDE THE FLOW, only in tests and under a fuzzer: every parser of bytes from outside, each as a function of bytes.
//!
//! Two drivers run the same functions. `cargo fuzz` (folder `fuzz/`, nightly) follows the coverage, for hours, by hand. The
//! test below mutates seeds without it, for seconds, on stable Rust, within the ordinary test binary: it costs no build of
//! its own and runs wherever the tests run. A target that finds something prints the bytes.

use crate::cli::exchange;
use crate::config::library::shipped_library;
use crate::config::{Config, Library};
use crate::model::{ProfileId, RegisterBlock, RegisterTable, Timestamp, Trouble};
use crate::profile::announcement::{Announcement, Proposal};
use crate::profile::{Decoded, Profile, Vocabulary, sparkplug};
use crate::{journal, series, sources};
use std::sync::LazyLock;

/// A parser that takes any bytes and must not fail.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 11] = [
    ("message", message),
    ("registers", registers),
    ("senml", senml),
    ("sparkplug", sparkplug),
    ("announcement", announcement),
    ("profile_file", profile_file),
    ("config_files", config_files),
    ("chunk", chunk),
    ("readings", readings),
    ("exchange_line", exchange_line),
    ("relay", relay),
];

/// When everything is received: 2026-01-15T02:30:05Z.
const NOW: Timestamp = Timestamp::from_secs(1_768_444_205);

static CATALOGUE: LazyLock<Library> = LazyLock::new(|| {
    shipped_library(&mut crate::config::Report::default()).expect("the shipped files are right")
});

/// The first byte says which profile, the rest is the message.
pub fn message(data: &[u8]) {
    let Some((which, payload)) = data.split_first() else { return };
    let profiles = CATALOGUE.profiles.len();
    let Some(profile) = CATALOGUE.profiles.values().nth(usize::from(*which) % profiles) else { return };
    for kind in 0..profile.topics().len() {
        decoded(profile, &profile.decode_message(kind, payload, NOW));
    }
}

/// Blocks of six bytes of head, then words, for every profile with registers.
pub fn registers(data: &[u8]) {
    let tables = [RegisterTable::Coil, RegisterTable::Discrete, RegisterTable::Holding, RegisterTable::Input];
    let mut blocks = Vec::new();
    for part in data.chunks(96) {
        let Some(([table, start_high, start, count], words)) = part.split_first_chunk::<4>() else { break };
        let (words, _) = words.as_chunks::<2>();
        let words: Vec<u16> = words.iter().map(|word| u16::from_be_bytes(*word)).collect();
        blocks.push(RegisterBlock {
            table: tables[usize::from(*table) % 4],
            start: u16::from_be_bytes([start_high & 1, *start]),
            count: u16::from(*count),
            words: if words.is_empty() { Err(Trouble::Exception(*count)) } else { Ok(words) },
        });
    }
    for profile in CATALOGUE.profiles.values().filter(|profile| profile.topics().is_empty()) {
        decoded(profile, &profile.decode_registers(&blocks, NOW));
    }
}

/// SenML by the shipped template.
pub fn senml(data: &[u8]) {
    shipped("generic/senml-smoke", data);
}

/// Sparkplug B by the shipped template.
pub fn sparkplug(data: &[u8]) {
    shipped("generic/sparkplug-smoke", data);
    if let Ok(payload) = sparkplug::Payload::decode(data) {
        assert!(payload.metrics.len() <= data.len());
    }
}

fn shipped(id: &str, data: &[u8]) {
    let profile = ProfileId::parse(id).ok().and_then(|id| CATALOGUE.profiles.get(&id));
    let profile = profile.expect("it is shipped");
    decoded(profile, &profile.decode_message(0, data, NOW));
}

/// What holds of everything that was decoded.
fn decoded(profile: &Profile, decoded: &Decoded) {
    assert!(decoded.understood || !decoded.problems.is_empty(), "refused without a word");
    assert!(decoded.problems.len() <= 16);
    assert!(decoded.samples.iter().all(|sample| sample.point < profile.points.len()));
}

/// A draft is a profile that proves itself, whatever was announced.
pub fn announcement(data: &[u8]) {
    for topic in ["homeassistant/binary_sensor/node/object/config", "homeassistant/device/x/config"] {
        let Some(Ok(Announcement::Of(device, entities))) = Announcement::read(topic, data) else { continue };
        let proposal = Proposal::of(&device, &entities);
        if !proposal.text.is_empty() {
            let profile =
                ProfileId::parse(&proposal.profile).map_err(|error| error.to_string()).and_then(|id| {
                    Profile::parse(id, "draft", &proposal.text, &CATALOGUE.vocabulary)
                        .map_err(|problems| format!("{problems:?}"))
                });
            let profile = profile.unwrap_or_else(|wrong| panic!("{wrong}\n{}", proposal.text));
            assert!(profile.check_examples().is_empty(), "{:?}\n{}", profile.check_examples(), proposal.text);
        }
    }
}

/// A profile's and a vocabulary's text. What is wrong has its place in the text.
pub fn profile_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let id = ProfileId::parse("vendor/model").expect("it is an id");
    let problems = match Profile::parse(id, "file", text, &CATALOGUE.vocabulary) {
        Ok(profile) => {
            let _failures = profile.check_examples();
            Vec::new()
        }
        Err(problems) => problems,
    };
    let more = Vocabulary::parse("file", text).err().unwrap_or_default();
    for problem in problems.into_iter().chain(more) {
        assert!(problem.span.is_none_or(|span| text.get(span).is_some()), "a place beside the text");
    }
}

/// `gateway.toml` and the plan, one behind the other with a line of `####` between them.
pub fn config_files(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (gateway, plan) = text.split_once("####\n").unwrap_or((text, ""));
    let files = [("gateway.toml", gateway), ("plan.toml", plan)];
    if let Err(report) = Config::from_texts(&files, &|_| None) {
        assert!(!report.render(crate::config::render::Colour::No).is_empty());
    }
}

/// A chunk of the series.
pub fn chunk(data: &[u8]) {
    series::fuzz_chunk(data);
}

/// The readings of a journal's entry.
pub fn readings(data: &[u8]) {
    journal::fuzz_readings(data);
}

/// A line of history, in each of the formats that are taken in.
pub fn exchange_line(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else { return };
    for format in [exchange::Format::Csv, exchange::Format::Ndjson, exchange::Format::Lp] {
        if let Err(wrong) = exchange::read(format, &CATALOGUE.vocabulary, line) {
            assert!(!wrong.is_empty(), "refused without a word");
        }
    }
}

/// The packets of a client and of the broker inside.
pub fn relay(data: &[u8]) {
    sources::broker::fuzz_relay(data);
}

#[cfg(test)]
mod tests;
