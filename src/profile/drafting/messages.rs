//! FRAMES → READINGS, drafting: from messages to the sheet of a profile.

use super::super::draft::suggest;
use super::super::topic::TopicPattern;
use super::super::vocabulary::{PointClass, Vocabulary};
use super::super::writing::quoted;
use super::codes::{self, Codes};
use super::guess::{Context, Guess, Shape, guess};
use super::inputs::{find_time, inputs};
use super::paths::{Found, Seen};
use super::sheet::{Identity, Point, Sheet};
use super::topics::{Patterns, find_patterns};
use super::{Drafted, Refused};
use crate::model::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// Messages that are looked at: an hour of a device that speaks every second.
const SAMPLES_MAX: usize = 4096;
/// Points of one draft: what a person can still compare with a manual.
const POINTS_MAX: usize = 64;
/// Comments at the foot.
const LEFT_MAX: usize = 100;

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// On which topic; or a pattern with `{address}`, which is taken as it is.
    pub topic: String,
    /// What it said.
    pub payload: Vec<u8>,
    /// When it came, where that is known.
    pub at: Option<Timestamp>,
}

/// What a person says of a field: its class, and its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePick {
    /// The path, as the draft lists it.
    pub path: String,
    /// The id of a class; `-`: leave it out.
    pub class: String,
    /// The unit on the wire.
    pub unit: Option<String>,
}

/// A message that was understood as far as it is JSON or a plain value.
pub(super) struct Message<'s> {
    pub(super) topic: usize,
    pub(super) text: &'s str,
    pub(super) value: Value,
    pub(super) at: Option<Timestamp>,
}

/// Drafts a profile from messages.
///
/// # Errors
///
/// Nothing in them can be read by a profile of JSON or plain values; why, and what was seen.
pub fn draft_messages(
    mut identity: Identity,
    samples: &[Sampled],
    picks: &[MessagePick],
    vocabulary: &Vocabulary,
) -> Result<Drafted, Refused> {
    let (readable, bytes) = read(samples);
    if readable.is_empty() {
        return Err(Refused::because(match (samples.len(), bytes) {
            (0, _) => "没有报文 / there is no message".to_owned(),
            _ => "报文既不是 JSON 也不是文本：字节报文照 README 的 Bytes 一节手写 / these messages are bytes: see \"Bytes\" in device-profiles/README.md"
                .to_owned(),
        }));
    }
    let Patterns { patterns, guessed, mut left } = find_patterns(&readable);
    if patterns.is_empty() {
        let why = "主题里找不到代表设备的一级：用 --topic 写明，如 site/{address}/up / no level of the topics is the device: say it with --topic";
        return Err(Refused { why: why.to_owned(), seen: left });
    }
    let mut found = Found::default();
    let mut messages: Vec<Message<'_>> = Vec::new();
    for (topic, text, value, at) in readable {
        let pattern =
            patterns.iter().position(|pattern| topic == pattern.as_str() || pattern.matches(topic).is_some());
        let Some(topic) = pattern else { continue };
        messages.push(Message { topic, text, value, at });
    }
    let plain: BTreeSet<usize> = messages.iter().filter(|m| !is_tree(&m.value)).map(|m| m.topic).collect();
    let trees: BTreeSet<usize> = messages.iter().filter(|m| is_tree(&m.value)).map(|m| m.topic).collect();
    for message in &messages {
        match is_tree(&message.value) {
            true => found.add(message.topic, &message.value),
            // Where objects come as well, a lone value is something else.
            false if trees.contains(&message.topic) => {}
            false => found.add_text(message.topic, message.value.clone()),
        }
    }
    name(&mut identity, &found);
    let addresses: BTreeSet<String> = samples
        .iter()
        .flat_map(|sample| patterns.iter().filter_map(|pattern| pattern.matches(&sample.topic)))
        .map(str::to_lowercase)
        .collect();
    let words: Vec<&str> = found
        .seen
        .iter()
        .flat_map(Seen::keys)
        .chain(patterns.iter().flat_map(|pattern| pattern.as_str().split('/')))
        .chain(
            found
                .seen
                .iter()
                .filter(|seen| says_kind(seen))
                .flat_map(|seen| seen.values.iter().filter_map(Value::as_str)),
        )
        .chain([identity.model.as_str(), identity.zh.as_str(), identity.en.as_str()])
        .collect();
    let context = Context::of(words.into_iter());
    let mut sheet = Sheet { identity, refused: String::new(), ..Sheet::default() };
    sheet.head.push(format!(
        "由 {} 条报文草拟：逐项对照说明书 drafted from {} messages: compare each point with the manual",
        messages.len(),
        messages.len()
    ));
    if guessed {
        sheet.head.push(
            "{address} 的位置是猜的：核对它是否是主题里代表设备的一级 the place of {address} is a guess"
                .to_owned(),
        );
    }
    let time = find_time(&found, &messages);
    let is_seen = |pick: &MessagePick| found.seen.iter().any(|seen| label(seen) == pick.path);
    if let Some(pick) = picks.iter().find(|pick| !is_seen(pick)) {
        let help = suggest(&pick.path, found.seen.iter().map(|seen| seen.text.as_str()));
        let why = format!("--pick：报文里没有 {} / no message has it {help}", pick.path);
        return Err(refused_with(&found, why));
    }
    let mut made: Vec<(Point, &Seen, Codes)> = Vec::new();
    for seen in &found.seen {
        if time.is_some_and(|(time, _)| time.path == seen.path) {
            continue;
        }
        let pick = picks.iter().find(|pick| pick.path == label(seen));
        let shape = Shape::of(&seen.values);
        let guessed = match pick {
            Some(pick) if pick.class == "-" => None,
            Some(pick) => Some(picked(pick, vocabulary)?),
            None => guess(names_of(seen, &patterns).into_iter(), (&shape, &seen.values), context, vocabulary),
        };
        let class = guessed.as_ref().and_then(|guess| vocabulary.class(&guess.class));
        let (Some(guess), Some(class)) = (guessed, class) else {
            let is_address =
                seen.values.iter().all(|value| addresses.contains(&codes::key(value).to_lowercase()));
            if !is_address && pick.is_none() {
                left.push(format!("未识别 not recognised: {} = {}", label(seen), seen.shown()));
            }
            continue;
        };
        if made.len() >= POINTS_MAX {
            left.push(format!("多于 {POINTS_MAX} 个测点，未收入 left out: {}", label(seen)));
            continue;
        }
        if pick.is_none() && class.quantity.is_numeric() && matches!(shape, Shape::Other) {
            continue;
        }
        let (point, seen, codes) = point(seen, guess, class, patterns.len() > 1, &plain);
        // Words of which none says anything are a guess too many. A number without meaning is unreadable, and told.
        if pick.is_none()
            && seen.values.iter().any(Value::is_string)
            && !codes.codes.is_empty()
            && codes.codes.len() == codes.unseen.len()
        {
            left.push(format!(
                "像 {} 但值没有含义 like it, but its values mean nothing: {} = {}",
                point.class,
                label(seen),
                seen.shown()
            ));
            continue;
        }
        made.push((point, seen, codes));
    }
    if made.is_empty() {
        let why = "没有认出任何测点：用 --pick '路径 类别 单位' 指定 / no field was recognised: name one with --pick 'PATH CLASS UNIT'";
        let mut refused = refused_with(&found, why.to_owned());
        refused.seen.extend(left);
        return Err(refused);
    }
    left.extend(found.left.clone());
    if bytes > 0 {
        left.push(format!(
            "{bytes} 条报文不是 JSON 或文本，未看 {bytes} messages were bytes and not looked at"
        ));
    }
    left.truncate(LEFT_MAX);
    if samples.len() > SAMPLES_MAX {
        left.push(format!(
            "只看了前 {SAMPLES_MAX} 条报文 only the first {SAMPLES_MAX} messages were looked at"
        ));
    }
    sheet.topics = patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect();
    if let Some((seen, unit)) = time {
        sheet.link = format!("[time]\njson = {}\nunit = \"{unit}\"", quoted(&seen.text));
    }
    sheet.inputs = inputs(&messages, &made, time);
    sheet.points = made.into_iter().map(|(point, ..)| point).collect();
    sheet.left = left;
    sheet.finish(vocabulary)
}

fn is_tree(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// The path, or what stands for a whole message.
fn label(seen: &Seen) -> String {
    if seen.path.is_empty() {
        format!("text@{}", seen.topics.first().copied().unwrap_or(0))
    } else {
        seen.text.clone()
    }
}

fn refused_with(found: &Found, why: String) -> Refused {
    let line = |seen: &Seen| format!("{} = {}", label(seen), seen.shown());
    Refused { why, seen: found.seen.iter().map(line).chain(found.left.iter().cloned()).collect() }
}

pub(super) type Readable<'s> = (&'s str, &'s str, Value, Option<Timestamp>);

/// What is text, as JSON or as a plain value; and how many were neither.
fn read(samples: &[Sampled]) -> (Vec<Readable<'_>>, usize) {
    let mut bytes = 0;
    let mut readable = Vec::new();
    for sample in samples.iter().take(SAMPLES_MAX) {
        let text = std::str::from_utf8(&sample.payload).ok().filter(|text| !text.chars().any(is_binary));
        let Some(text) = text else {
            bytes += 1;
            continue;
        };
        let value = match serde_json::from_str::<Value>(text) {
            Ok(value) => value,
            // A plain word; what is long or looks like broken JSON is none.
            Err(_) if is_word(text) => Value::String(text.trim().to_owned()),
            Err(_) => {
                bytes += 1;
                continue;
            }
        };
        readable.push((sample.topic.as_str(), text, value, sample.at));
    }
    (readable, bytes)
}

fn is_binary(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

/// A value without JSON around it: `ON`, `21.5`, `正常`.
fn is_word(text: &str) -> bool {
    const WORD_CHARS_MAX: usize = 24;
    let text = text.trim();
    let count = text.chars().count();
    (1..=WORD_CHARS_MAX).contains(&count) && !text.starts_with(['{', '[', '"']) && !text.contains('\n')
}

/// The maker and the model, where the messages say them and nobody else did.
fn name(identity: &mut Identity, found: &Found) {
    let said = |keys: &[&str]| {
        let named =
            |seen: &&Seen| seen.keys().next().is_some_and(|key| keys.contains(&key.to_lowercase().as_str()));
        found
            .seen
            .iter()
            .find(named)
            .and_then(|seen| seen.values.first())
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    if identity.vendor.is_empty() {
        identity.vendor = said(&["vendor", "manufacturer", "maker", "brand"]).unwrap_or_default();
    }
    if identity.model.is_empty() {
        identity.model =
            said(&["model", "modelid", "devicetype", "device_type", "product"]).unwrap_or_default();
    }
}

/// The field's own name, then those of what it lies in; of a plain value the levels of its topic, from the last.
fn names_of<'n>(seen: &'n Seen, patterns: &'n [TopicPattern]) -> Vec<&'n str> {
    if !seen.path.is_empty() {
        return seen.keys().collect();
    }
    let pattern =
        seen.topics.first().and_then(|topic| patterns.get(*topic)).map_or("", |pattern| pattern.as_str());
    pattern.rsplit('/').filter(|level| !level.starts_with('{')).collect()
}

fn picked(pick: &MessagePick, vocabulary: &Vocabulary) -> Result<Guess, Refused> {
    let Some(class) = vocabulary.class(&pick.class) else {
        let help = suggest(&pick.class, vocabulary.classes().map(|class| class.id.as_str()));
        return Err(Refused::because(format!("--pick：没有类别 {} / no such class {help}", pick.class)));
    };
    let unit = pick.unit.clone().or_else(|| Some(class.quantity.unit().to_owned()));
    let unit = unit.filter(|_| class.quantity.is_numeric());
    if let Some(unit) = unit.as_ref().filter(|unit| class.quantity.conversion(unit).is_none()) {
        let units: Vec<&str> = class.quantity.units().collect();
        return Err(Refused::because(format!(
            "--pick：{unit} 不是 {} 的单位 / no unit of it: {}",
            pick.class,
            units.join(", ")
        )));
    }
    Ok(Guess { class: pick.class.clone(), unit, scale: None, doubt: None })
}

fn point<'f>(
    seen: &'f Seen,
    guess: Guess,
    class: &PointClass,
    several_topics: bool,
    plain: &BTreeSet<usize>,
) -> (Point, &'f Seen, Codes) {
    let mut doubts: Vec<String> = vec![format!("见过 seen: {}", seen.shown())];
    let first = seen.topics.first().copied().unwrap_or(0);
    // A field of several topics is found on each of them, unless one of those is read as plain text.
    let bound = several_topics && (seen.topics.len() == 1 || !plain.is_empty());
    if bound && seen.topics.len() > 1 {
        doubts.push("也在别的主题上出现 it came on other topics as well".to_owned());
    }
    let (from, topic) = if seen.path.is_empty() {
        ("text = true".to_owned(), Some(first))
    } else {
        (format!("json = {}", quoted(&seen.text)), bound.then_some(first))
    };
    let mut written = Codes { codes: Vec::new(), unseen: Vec::new(), unknown: Vec::new() };
    if !class.quantity.is_numeric() {
        let contact = seen.keys().next().is_some_and(|key| key.eq_ignore_ascii_case("contact"));
        written = codes::codes(class, &seen.values, contact);
        doubts.push("代码含义是猜的 the meaning of the codes is a guess".to_owned());
        for (value, means) in &written.unseen {
            doubts.push(format!("没有收到过 never came: {value} → {means}"));
        }
        if !written.unknown.is_empty() {
            doubts.push(format!(
                "这些值还没有含义（算读不懂，不算正常） no meaning yet, and so unreadable: {}",
                written.unknown.join(", ")
            ));
        }
    }
    if class.id.as_str() == "panel_alarm" {
        doubts.push("不知道是哪种报警，先按火警 an alarm of an unknown kind, taken for fire".to_owned());
    }
    doubts.extend(guess.doubt);
    // `temperature.value` is no value but a temperature.
    let says = |key: &&str| !["value", "val", "v", "data", "raw"].contains(&key.to_lowercase().as_str());
    let name = seen.keys().find(says).unwrap_or(class.id.as_str()).to_owned();
    let point = Point {
        name,
        class: class.id.to_string(),
        unit: guess.unit,
        scale: guess.scale.map(str::to_owned),
        from,
        topic,
        codes: written.codes.clone(),
        doubts,
    };
    (point, seen, written)
}

/// Whether a field says what kind of device it is.
fn says_kind(seen: &Seen) -> bool {
    const KEYS: [&str; 6] = ["type", "devicetype", "device_type", "product", "kind", "leixing"];
    seen.keys().next().is_some_and(|key| KEYS.contains(&key.to_lowercase().as_str()))
}
