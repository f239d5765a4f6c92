//! `fengsui profile new --from`, `--sample`: a draft from messages that came.

use super::{Ended, New};
use crate::capture::Line;
use crate::cli::check::EXIT_CONFIG;
use crate::codec::Codec;
use crate::model::Body;
use crate::profile::drafting::{Drafted, MessagePick, Refused, Sampled, Through, draft_messages};
use crate::profile::{PAYLOAD_BYTES_MAX, TopicPattern, Vocabulary};
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest file that is taken in: four times what a capture has unless it is told otherwise.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Messages taken of a file; a draft looks at fewer still.
const SAMPLES_MAX: usize = 100_000;

pub(super) fn draft(
    arguments: &New,
    vocabulary: &Vocabulary,
    out: &mut String,
) -> Result<Result<Drafted, Refused>, Ended> {
    let mut refuse = |why: String| {
        _ = writeln!(out, "✗ {why}");
        Ended(EXIT_CONFIG)
    };
    let picks: Result<Vec<MessagePick>, String> = arguments.pick.iter().map(|text| pick(text)).collect();
    let picks = picks.map_err(&mut refuse)?;
    let samples = match &arguments.from {
        Some(path) => read(path, arguments.topic.as_deref()),
        None => arguments.sample.iter().map(|text| plain(text, arguments.topic.as_deref())).collect(),
    };
    let samples = samples.map_err(&mut refuse)?;
    let Some(path) = &arguments.codec else {
        return Ok(draft_messages(arguments.identity(), &samples, &picks, vocabulary));
    };
    let (codec, name) = codec(path).map_err(&mut refuse)?;
    let through = Through::new(&codec, &samples).map_err(&mut refuse)?;
    let drafted = draft_messages(arguments.identity(), &through.samples, &picks, vocabulary);
    Ok(drafted.map(|drafted| Drafted { text: through.back(&drafted.text, &name), ..drafted }))
}

/// The vendor's file, and what it is called.
fn codec(path: &Path) -> Result<(Codec, String), String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("读不了 {} / cannot read it: {error}", path.display()))?;
    let codec = Codec::new(text).map_err(|refused| {
        let text = refused.text();
        format!("{}：{} / {}", path.display(), text.zh, text.en)
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((codec, name))
}

/// `PATH CLASS UNIT`; the path may have blanks in its brackets: `rxInfo[max rssi].snr`.
fn pick(text: &str) -> Result<MessagePick, String> {
    let wrong = || {
        format!(
            "--pick {text:?}：写成 '路径 类别 单位'，如 'data.t ambient_temperature ℃' / write 'PATH CLASS UNIT', or 'PATH -'"
        )
    };
    let mut depth = 0;
    let is_between = |c: char| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        depth == 0 && c.is_whitespace()
    };
    let words: Vec<&str> = text.split(is_between).filter(|word| !word.is_empty()).collect();
    let (path, class, unit) = match words[..] {
        [path, class] => (path, class, None),
        [path, class, unit] => (path, class, Some(unit.to_owned())),
        _ => return Err(wrong()),
    };
    Ok(MessagePick { path: path.to_owned(), class: class.to_owned(), unit })
}

fn plain(text: &str, topic: Option<&str>) -> Result<Sampled, String> {
    let topic = topic.ok_or(
        "报文没有主题：用 --topic 写明，如 site/{address}/up / the payloads have no topic: say it with --topic",
    )?;
    Ok(Sampled { topic: topic.to_owned(), payload: text.as_bytes().to_vec(), at: None })
}

fn read(path: &Path, topic: Option<&str>) -> Result<Vec<Sampled>, String> {
    let unreadable = |error: std::io::Error| format!("读不了 {} / cannot read it: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "{} 大于 64 MiB：用 fengsui capture 的 --device 或 --frames 抓小一些 / it is larger than 64 MiB: capture less",
            path.display()
        ));
    }
    let text = String::from_utf8_lossy(&bytes);
    samples(&text, topic)
}

/// Lines of a capture, or of payloads; or one payload over several lines.
fn samples(text: &str, topic: Option<&str>) -> Result<Vec<Sampled>, String> {
    let mut samples = Vec::new();
    let mut registers = false;
    let of_topic = topic.map(|topic| (topic, TopicPattern::parse(topic).ok()));
    let is_one = || serde_json::from_str::<serde_json::Value>(text).is_ok();
    if text.lines().filter(|line| !line.trim().is_empty()).count() > 1 && is_one() {
        return Ok(vec![plain(text.trim(), topic)?]);
    }
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()).take(SAMPLES_MAX) {
        match Line::parse(line) {
            Ok(Line::End(_)) => {}
            Ok(Line::Frame(frame)) => match frame.body {
                Body::Message { topic, payload } => {
                    let topic = match &of_topic {
                        None => topic.to_string(),
                        Some((wanted, Some(pattern))) if pattern.matches(&topic).is_some() => {
                            (*wanted).to_owned()
                        }
                        Some((wanted, None)) if **wanted == *topic => topic.to_string(),
                        Some(_) => continue,
                    };
                    if payload.len() <= PAYLOAD_BYTES_MAX {
                        samples.push(Sampled { topic, payload: payload.to_vec(), at: Some(frame.at) });
                    }
                }
                Body::Registers { .. } => registers = true,
                Body::Presence { .. } => {}
            },
            Err(_) => samples.push(plain(line, topic)?),
        }
    }
    if samples.is_empty() && registers {
        return Err(
            "文件里只有寄存器：用 --probe 读设备并 --pick / the file has registers only: read the device with --probe"
                .to_owned(),
        );
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_lines_of_payloads_and_one_payload_are_told_apart() {
        let capture = r#"{"at":"2027-01-15T08:00:00Z","link":"hall","topic":"a/d1","payload":"{\"smoke\":1}"}
{"at":"2027-01-15T08:00:00Z","link":"hall","topic":"b/d1","base64":"AAEC"}
{"end":"seconds","frames":2,"dropped":0}"#;
        let topics = |text: &str, topic: Option<&str>| -> Vec<String> {
            samples(text, topic).unwrap().into_iter().map(|sample| sample.topic).collect()
        };
        assert_eq!(topics(capture, None), ["a/d1", "b/d1"]);
        assert_eq!(topics(capture, Some("a/{address}")), ["a/{address}"]);
        assert_eq!(topics(capture, Some("b/d1")), ["b/d1"]);
        assert_eq!(topics("{\"smoke\":1}\n{\"smoke\":0}\n", Some("t/1")), ["t/1", "t/1"]);
        assert_eq!(topics("{\n\"smoke\":1\n}", Some("t/1")), ["t/1"]);
        assert!(samples("{\"smoke\":1}", None).unwrap_err().contains("--topic"));
        let registers = r#"{"at":"2027-01-15T08:00:00Z","link":"bus","device":"m","blocks":[]}"#;
        assert!(samples(registers, None).unwrap_err().contains("--probe"));
    }

    #[test]
    fn a_pick_has_a_path_a_class_and_perhaps_a_unit() {
        assert_eq!(pick("data.t ambient_temperature ℃").unwrap().unit.as_deref(), Some("℃"));
        assert_eq!(pick("data.t -").unwrap().class, "-");
        assert_eq!(pick("rxInfo[max rssi].snr -").unwrap().path, "rxInfo[max rssi].snr");
        for wrong in ["", "data.t", "a b c d"] {
            assert!(pick(wrong).is_err(), "{wrong:?}");
        }
    }
}
