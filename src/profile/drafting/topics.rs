//! FRAMES → READINGS, drafting: which topics are one, and which of their levels stands for the device.

use super::super::topic::TopicPattern;
use super::messages::Readable;
use super::{codes, guess};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of topics of one model. Tasmota and Shelly have about ten.
const TOPICS_MAX: usize = 16;
/// Topics that are looked at.
const HEARD_MAX: usize = 512;
/// Texts of a message that may be the device's name, and the shortest of them.
const NAMES_MAX: usize = 64;
const NAME_BYTES_MIN: usize = 2;
/// As many levels as a pattern may have.
const LEVELS_MAX: usize = 32;

/// Levels behind which a device's name stands.
const DEVICE_WORDS: [&str; 18] = [
    "device",
    "devices",
    "dev",
    "sensor",
    "sensors",
    "node",
    "nodes",
    "sn",
    "imei",
    "deveui",
    "eui",
    "thing",
    "things",
    "detector",
    "meter",
    "terminal",
    "client",
    "zigbee2mqtt",
];

/// Levels that the topics of all the world's devices have.
const COMMON_LEVELS: [&str; 28] = [
    "up",
    "down",
    "uplink",
    "state",
    "status",
    "stat",
    "tele",
    "telemetry",
    "data",
    "event",
    "events",
    "report",
    "attributes",
    "properties",
    "post",
    "json",
    "rx",
    "tx",
    "msg",
    "message",
    "value",
    "site",
    "application",
    "gateway",
    "v1",
    "v3",
    "info",
    "alarm",
];

/// A topic and what stands in its messages that may be the device's own name.
struct Heard {
    topic: String,
    names: BTreeSet<String>,
    /// The fields of its messages; equal on topics that differ only in a place; empty for plain values.
    fields: BTreeSet<String>,
}

/// The patterns, and whether the place of `{address}` is only a guess.
pub(super) struct Patterns {
    pub(super) patterns: Vec<TopicPattern>,
    pub(super) guessed: bool,
    /// Topics for which there is none.
    pub(super) left: Vec<String>,
}

/// The patterns of the topics; one that a person gave stands as it is.
pub(super) fn find_patterns(readable: &[Readable<'_>]) -> Patterns {
    let mut heard: Vec<Heard> = Vec::new();
    for (topic, _, value, _) in readable {
        let place = heard.iter().position(|one| one.topic == *topic).unwrap_or_else(|| {
            heard.push(Heard { topic: (*topic).to_owned(), names: BTreeSet::new(), fields: BTreeSet::new() });
            heard.len() - 1
        });
        if let Some(one) = heard.get_mut(place) {
            names(value, &mut one.names);
            if let Value::Object(fields) = value {
                one.fields.extend(fields.keys().cloned());
            }
        }
        if heard.len() >= HEARD_MAX {
            break;
        }
    }
    // A pattern that a person gave is no topic to guess at.
    let (given, heard): (Vec<Heard>, Vec<Heard>) =
        heard.into_iter().partition(|one| TopicPattern::parse(&one.topic).is_ok());
    let mut found = patterns(&heard);
    let given = given.iter().filter_map(|one| TopicPattern::parse(&one.topic).ok());
    found.patterns.splice(0..0, given);
    found
}

/// The texts and whole numbers in a message that may be a device's name.
fn names(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.values().for_each(|value| names(value, into)),
        Value::Array(items) => items.iter().for_each(|value| names(value, into)),
        Value::String(_) | Value::Number(_) if into.len() < NAMES_MAX => {
            let name = codes::key(value).to_lowercase();
            if name.len() >= NAME_BYTES_MIN {
                into.insert(name);
            }
        }
        _ => {}
    }
}

fn patterns(heard: &[Heard]) -> Patterns {
    let mut found = Patterns { patterns: Vec::new(), guessed: false, left: Vec::new() };
    let mut by_length: BTreeMap<usize, Vec<&Heard>> = BTreeMap::new();
    for one in heard {
        let levels = one.topic.split('/').count();
        if levels > LEVELS_MAX || one.topic.contains(['{', '}', '+', '#']) {
            found.left.push(format!("主题不能用 no topic for a profile: {}", one.topic));
            continue;
        }
        by_length.entry(levels).or_default().push(one);
    }
    let mut written: Vec<(Vec<String>, &BTreeSet<String>)> = Vec::new();
    for group in by_length.values() {
        let Some((place, sure)) = address(group) else { continue };
        found.guessed |= !sure;
        for one in group {
            let mut levels: Vec<String> = one.topic.split('/').map(str::to_owned).collect();
            match levels.get_mut(place) {
                Some(level) if !level.is_empty() => *level = "{address}".to_owned(),
                _ => {
                    found
                        .left
                        .push(format!("主题里没有代表设备的一级 no level is the device: {}", one.topic));
                    continue;
                }
            }
            if !written.iter().any(|(known, _)| *known == levels) {
                written.push((levels, &one.fields));
            }
        }
    }
    merge(&mut written);
    for (levels, _) in written {
        let text = levels.join("/");
        match TopicPattern::parse(&text) {
            Ok(pattern) if found.patterns.len() < TOPICS_MAX => found.patterns.push(pattern),
            _ => found.left.push(format!("主题没有收入 a topic that was left out: {text}")),
        }
    }
    found
}

/// Which level is the device, and whether that is sure.
fn address(group: &[&Heard]) -> Option<(usize, bool)> {
    let levels: Vec<Vec<&str>> = group.iter().map(|one| one.topic.split('/').collect()).collect();
    let count = levels.first()?.len();
    let score = |place: usize| -> (i64, bool) {
        let (mut sum, mut sure) = (0, true);
        let mut different = BTreeSet::new();
        for (one, levels) in group.iter().zip(&levels) {
            let level = levels.get(place).copied().unwrap_or_default();
            let before =
                place.checked_sub(1).and_then(|place| levels.get(place)).copied().unwrap_or_default();
            different.insert(level);
            let named = one.names.contains(&level.to_lowercase());
            let behind = DEVICE_WORDS.contains(&before.to_lowercase().as_str());
            sure &= named || behind;
            sum += 8 * i64::from(named) + 5 * i64::from(behind) + likeness(level);
        }
        let total = i64::try_from(group.len()).unwrap_or(i64::MAX).max(1);
        (100 * sum / total + 300 * i64::from(different.len() > 1) - 100 * i64::from(place == 0), sure)
    };
    (0..count)
        .map(|place| (score(place), place))
        .max_by_key(|((score, _), place)| (*score, *place))
        .map(|((_, sure), place)| (place, sure))
}

/// How much a level looks like the name of one device.
fn likeness(level: &str) -> i64 {
    let lower = level.to_lowercase();
    let digits = lower.chars().filter(char::is_ascii_digit).count();
    if level.is_empty() {
        return -20;
    }
    if COMMON_LEVELS.contains(&lower.as_str())
        || DEVICE_WORDS.contains(&lower.as_str())
        || guess::is_known(&lower)
    {
        return -6;
    }
    let long = lower.len() >= 8 && lower.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '-'));
    2 * i64::from(digits > 0) + 2 * i64::from(long)
}

/// Patterns with the same fields that differ in one level are one, with a placeholder there: sites, floors.
fn merge(written: &mut Vec<(Vec<String>, &BTreeSet<String>)>) {
    let mut first = 0;
    while first < written.len() {
        let mut second = first + 1;
        while second < written.len() {
            let pair = written.get(first).zip(written.get(second));
            let place = pair.and_then(|((a, fields), (b, others))| {
                if fields.len() < 2 || fields != others || a.len() != b.len() {
                    return None;
                }
                let mut different =
                    a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b).map(|(place, _)| place);
                let place = different.next()?;
                let both_literal = a.get(place)? != "{address}" && b.get(place)? != "{address}";
                (different.next().is_none() && both_literal).then_some(place)
            });
            match place {
                Some(place) => {
                    written.remove(second);
                    if let Some((levels, _)) = written.get_mut(first) {
                        let before = place.checked_sub(1).and_then(|before| levels.get(before)).cloned();
                        let word =
                            |word: &String| word.chars().all(|c| c.is_ascii_lowercase()) && word != "address";
                        let word = before.filter(word).filter(|word| !word.is_empty());
                        if let Some(level) = levels.get_mut(place) {
                            *level = format!("{{{}}}", word.unwrap_or_else(|| "any".to_owned()));
                        }
                    }
                    // The merged pattern may now be like one that was looked at before.
                    second = first + 1;
                }
                None => second += 1,
            }
        }
        first += 1;
    }
}
