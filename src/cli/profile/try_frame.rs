//! `fengsui profile try`: one frame through a profile: what is read, what could not be, and which hazards it would raise. With
//! `--live` the frames are those that arrive now (`live.rs`).

use super::{Asked, EXIT_CONFIG};
use crate::hazard::meets;
use crate::model::{PointId, Reading, Rule, Text, Timestamp};
use crate::profile::{Decoded, ExampleInput, Profile};
use clap::Args;
use std::fmt::Write;
use std::path::PathBuf;

/// Exit code of a frame of which nothing could be read.
const EXIT_REFUSED: u8 = 1;

#[derive(Debug, Args)]
pub(in crate::cli) struct Try {
    /// One profile, <vendor>/<model>.toml.
    pub(super) file: PathBuf,
    /// What arrives: a message as it is, bytes in hexadecimal, registers as input@0: 019A 00EB. May be given several times.
    #[arg(long, value_name = "FRAME", required_unless_present = "live", conflicts_with = "live")]
    frame: Vec<String>,
    /// On which of the profile's topics, from 0.
    #[arg(long, default_value_t = 0)]
    topic: usize,
    /// When it arrives, in ISO 8601 with its zone; now by default.
    #[arg(long, value_name = "TIME", conflicts_with = "live")]
    at: Option<String>,
    #[command(flatten)]
    pub(super) live: super::live::Live,
}

pub(super) fn run(asked: &Asked, arguments: &Try, now: Timestamp, out: &mut String) -> u8 {
    out.push_str(&asked.problems());
    let [profile] = asked.profiles.as_slice() else { return EXIT_CONFIG };
    let at = match arguments.at.as_deref().map(crate::profile::parse_iso8601) {
        None => now,
        Some(Some(at)) => at,
        Some(None) => {
            out.push_str("--at 不是带时区的时间 / is no time with its zone: 2026-01-15T10:30:05+08:00\n");
            return EXIT_CONFIG;
        }
    };
    let mut code = 0;
    for frame in &arguments.frame {
        let input = match profile.frame_input(arguments.topic, frame) {
            Ok(input) => input,
            Err(why) => {
                _ = writeln!(out, "这一帧写得不对 / the frame is not written right: {why}");
                return EXIT_CONFIG;
            }
        };
        if !tell(asked, profile, (arguments.topic, &input), at, out) {
            code = EXIT_REFUSED;
        }
    }
    code
}

/// What an input on that topic comes to; whether all of it could be read.
pub(super) fn tell(
    asked: &Asked,
    profile: &Profile,
    (topic, input): (usize, &ExampleInput),
    at: Timestamp,
    out: &mut String,
) -> bool {
    let mut understood = true;
    for (address, decoded) in decode(profile, topic, input, at) {
        if let Some(address) = address {
            _ = writeln!(out, "设备 device {address}");
        }
        show(asked, profile, &decoded, at, out);
        understood &= decoded.understood;
    }
    understood
}

/// By device, where a message tells of several.
fn decode(
    profile: &Profile,
    topic: usize,
    input: &ExampleInput,
    at: Timestamp,
) -> Vec<(Option<String>, Decoded)> {
    match input {
        ExampleInput::Registers(blocks) => vec![(None, profile.decode_registers(blocks, at))],
        ExampleInput::Message(payload) if profile.is_shared() => {
            let mut found = Vec::new();
            let read = profile.parts(payload, &mut |part| {
                let name = part.address.clone().unwrap_or_else(|| format!("#{}", part.place));
                found.push((Some(name), profile.decode_part(topic, part, at)));
            });
            if let Err(why) = read {
                found.push((None, refused(why)));
            }
            found
        }
        ExampleInput::Message(payload) => vec![(None, profile.decode_message(topic, payload, at))],
    }
}

fn refused(why: String) -> Decoded {
    Decoded { samples: Vec::new(), problems: vec![why], link: None, understood: false }
}

fn show(asked: &Asked, profile: &Profile, decoded: &Decoded, at: Timestamp, out: &mut String) {
    for sample in &decoded.samples {
        let Some(point) = profile.points.get(sample.point) else { continue };
        let Some(class) = asked.vocabulary.class(point.class.as_str()) else { continue };
        let label = point.label.as_ref().unwrap_or(&class.name);
        let late = if sample.late { "  迟报 late" } else { "" };
        _ = writeln!(out, "  {:<20} {:<24} {}{late}", point.name, profile.shown(sample), label.zh);
        let Ok(id) = PointId::parse(&format!("device/{}", point.name)) else { continue };
        let reading = Reading {
            point: id,
            value: sample.value.clone(),
            quality: sample.quality,
            flaw: sample.flaw,
            sampled_at: sample.sampled_at,
            received_at: at,
            late: sample.late,
        };
        for rule in class.rules.iter().filter(|rule| meets(rule, &reading)) {
            _ = writeln!(out, "      ▲ {}", hazard(rule));
        }
    }
    match decoded.link {
        Some(true) => out.push_str("  link                 online                   设备在线\n"),
        Some(false) => out.push_str("  link                 offline                  设备报告离线\n"),
        None => {}
    }
    for problem in &decoded.problems {
        _ = writeln!(out, "  ! {problem}");
    }
    if !decoded.understood {
        out.push_str(
            "  这一帧读不出任何测点，会进入隔离区 / nothing could be read: it would go to quarantine\n",
        );
    }
}

fn hazard(rule: &Rule) -> String {
    let Text { zh, en } = &rule.title;
    let delay = crate::profile::explain::delay(rule).zh;
    format!("{delay}报【{zh}】（{}）{en}", rule.priority.zh())
}
