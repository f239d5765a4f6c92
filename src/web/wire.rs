//! WEB · the shapes of the JSON API and of live events. Times are milliseconds since the epoch; texts are in both languages.
//!
//! What a live frame holds is written straight from borrowed fields: a tree of values for each reading was more than half
//! of the gateway's work under load. The rest is asked for by a person, and plain trees will do.

use super::board::{Open, Snapshot};
use crate::journal::{Entry, LogLine, Logged, Stray};
use crate::model::{
    Cause, Flaw, Hazard, Plan, Point, PointId, Quality, Reading, SignalClass, Signature, Text, Timestamp,
    Transition, Value,
};
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// A text in both languages.
pub(super) fn text(text: &Text) -> Json {
    json!({ "zh": &*text.zh, "en": &*text.en })
}

#[derive(Serialize)]
struct Words<'a> {
    zh: &'a str,
    en: &'a str,
}

impl<'a> From<&'a Text> for Words<'a> {
    fn from(text: &'a Text) -> Self {
        Self { zh: &text.zh, en: &text.en }
    }
}

#[derive(Serialize)]
struct Signed<'a> {
    by: &'a str,
    at: i64,
    note: &'a str,
}

impl<'a> From<&'a Signature> for Signed<'a> {
    fn from(signature: &'a Signature) -> Self {
        Self { by: &signature.by, at: signature.at.as_millis(), note: &signature.note }
    }
}

/// The English of a flaw.
pub(super) fn flaw_en(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::OffScaleHigh => "off scale, high",
        Flaw::OffScaleLow => "off scale, low",
        Flaw::NotFitted => "no sensor fitted",
        Flaw::SensorFault => "sensor fault",
        Flaw::NoAnswer => "no answer",
        Flaw::Unreadable => "unreadable",
        Flaw::ClockSuspect => "device clock wrong",
    }
}

/// How good a value is, in one word for the page: `good`, `uncertain`, `bad`, `absent`.
pub(super) fn quality_name(reading: &Reading) -> &'static str {
    match (reading.quality, &reading.value) {
        (_, Value::Absent) => "absent",
        (Quality::Good, _) => "good",
        (Quality::Uncertain, _) => "uncertain",
        (Quality::Bad, _) => "bad",
    }
}

/// A value as a person reads it, without its unit.
enum Shown<'a> {
    /// A figure: the same in both languages.
    Digits(String),
    Words(Words<'a>),
}

impl<'a> Shown<'a> {
    fn of(point: Option<&'a Point>, value: &'a Value) -> Self {
        match value {
            Value::Number(number) => Self::Digits(point.map_or_else(
                || number.to_string(),
                |point| format!("{:.*}", usize::from(point.decimals), number.get()),
            )),
            Value::Code(code) => Self::Words(
                point
                    .and_then(|point| point.state_name(code))
                    .map_or(Words { zh: code, en: code }, Words::from),
            ),
            Value::Flag(true) => Self::Words(Words { zh: "是", en: "yes" }),
            Value::Flag(false) => Self::Words(Words { zh: "否", en: "no" }),
            Value::Absent => Self::Words(Words { zh: "—", en: "—" }),
        }
    }

    fn words(&self) -> Words<'_> {
        match self {
            Self::Digits(digits) => Words { zh: digits, en: digits },
            Self::Words(Words { zh, en }) => Words { zh, en },
        }
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.words().serialize(serializer)
    }
}

/// A value as a person reads it, without its unit, in both languages.
pub(super) fn value_text(point: Option<&Point>, value: &Value) -> Text {
    let shown = Shown::of(point, value);
    let words = shown.words();
    Text::new(words.zh, words.en)
}

/// When a value was true, for its age: a report about the past is as old as the device says.
pub(super) fn value_time(reading: &Reading) -> Timestamp {
    if reading.late { reading.time() } else { reading.received_at }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Measured<'a> {
    Number(f64),
    Flag(bool),
    Code(&'a str),
    Absent,
}

impl<'a> From<&'a Value> for Measured<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Number(number) => Self::Number(number.get()),
            Value::Flag(flag) => Self::Flag(*flag),
            Value::Code(code) => Self::Code(code),
            Value::Absent => Self::Absent,
        }
    }
}

#[derive(Serialize)]
struct Flawed {
    name: &'static str,
    zh: &'static str,
    en: &'static str,
}

/// One reading, as it is written.
#[derive(Serialize)]
pub(super) struct ReadingOut<'a> {
    point: &'a str,
    value: Measured<'a>,
    text: Shown<'a>,
    unit: &'static str,
    quality: &'static str,
    flaw: Option<Flawed>,
    at: i64,
    received_at: i64,
    late: bool,
}

/// One reading.
pub(super) fn reading<'a>(plan: &'a Plan, reading: &'a Reading) -> ReadingOut<'a> {
    let point = plan.point(&reading.point).map(|(.., point)| point);
    ReadingOut {
        point: reading.point.as_str(),
        value: Measured::from(&reading.value),
        text: Shown::of(point, &reading.value),
        unit: point.map_or("", Point::unit),
        quality: quality_name(reading),
        flaw: reading.flaw.map(|flaw| Flawed { name: flaw.name(), zh: flaw.zh(), en: flaw_en(flaw) }),
        at: value_time(reading).as_millis(),
        received_at: reading.received_at.as_millis(),
        late: reading.late,
    }
}

#[derive(Serialize)]
struct Place<'a> {
    site: &'a str,
    site_name: &'a str,
    address: &'a str,
    zone: &'a str,
    zone_name: &'a str,
    device: &'a str,
    device_name: &'a str,
    place: &'a str,
}

#[derive(Serialize)]
struct Reason {
    zh: String,
    en: String,
}

/// One hazard, as it is written.
#[derive(Serialize)]
pub(super) struct HazardOut<'a> {
    id: &'a str,
    point: &'a str,
    rule: &'a str,
    signal: &'static str,
    priority: &'static str,
    latching: bool,
    title: Words<'a>,
    reason: Reason,
    #[serde(rename = "where")]
    place: Option<Place<'a>>,
    /// Whether the plan in force still has its point and its rule.
    planned: bool,
    raised_at: i64,
    sampled_at: Option<i64>,
    late: bool,
    occurrences: u32,
    last_raised_at: i64,
    returned_at: Option<i64>,
    acknowledged: Option<Signed<'a>>,
    silenced: Option<Signed<'a>>,
    closed: Option<Signed<'a>>,
}

impl From<HazardOut<'_>> for Json {
    fn from(hazard: HazardOut<'_>) -> Self {
        json!(hazard)
    }
}

/// Whether the plan has the point and the rule that raised it.
pub(super) fn is_planned(plan: &Plan, hazard: &Hazard) -> bool {
    plan.point(&hazard.point).is_some_and(|(.., point)| point.rules.iter().any(|rule| rule.id == hazard.rule))
}

/// One hazard; `open` adds its phase and whether the journal has it.
pub(super) fn hazard<'a>(plan: &'a Plan, hazard: &'a Hazard) -> HazardOut<'a> {
    let place = plan.point(&hazard.point).map(|(site, zone, device, _)| Place {
        site: site.id.as_str(),
        site_name: &site.name,
        address: &site.address,
        zone: zone.id.as_str(),
        zone_name: &zone.name,
        device: device.id.as_str(),
        device_name: &device.name,
        place: &device.place,
    });
    HazardOut {
        id: hazard.id.as_str(),
        point: hazard.point.as_str(),
        rule: hazard.rule.as_str(),
        signal: hazard.signal.name(),
        priority: hazard.priority.name(),
        latching: hazard.latching,
        title: Words::from(&hazard.title),
        reason: Reason { zh: hazard.evidence.zh(), en: hazard.evidence.en() },
        place,
        planned: is_planned(plan, hazard),
        raised_at: hazard.raised_at.as_millis(),
        sampled_at: hazard.sampled_at.map(Timestamp::as_millis),
        late: hazard.late,
        occurrences: hazard.occurrences,
        last_raised_at: hazard.last_raised_at.as_millis(),
        returned_at: hazard.returned_at.map(Timestamp::as_millis),
        acknowledged: hazard.acknowledged.as_ref().map(Signed::from),
        silenced: hazard.silenced.as_ref().map(Signed::from),
        closed: hazard.closed.as_ref().map(Signed::from),
    }
}

/// A hazard with where it stands; `change` is left out of what merely stands.
#[derive(Serialize)]
struct Standing<'a> {
    #[serde(flatten)]
    hazard: HazardOut<'a>,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'static str>,
    recorded: bool,
}

/// One open hazard.
pub(super) fn open(plan: &Plan, open: &Open) -> Json {
    json!(Standing {
        hazard: hazard(plan, &open.hazard),
        phase: open.phase.name(),
        change: None,
        recorded: open.recorded,
    })
}

/// One change of a hazard.
pub(super) fn transition(plan: &Plan, transition: &Transition) -> Json {
    let by = match &transition.cause {
        Cause::Operator(by) => Some(Signed::from(by)),
        Cause::Reading { .. } | Cause::Deadline | Cause::Silence { .. } | Cause::Plan => None,
    };
    let point = plan.point(&transition.hazard.point).map(|(.., point)| point);
    let cause = cause_text(&transition.cause, point);
    json!({
        "at": transition.at.as_millis(),
        "change": transition.change.name(),
        "change_zh": transition.change.zh(),
        "phase": transition.phase.name(),
        "cause": text(&cause),
        "operator": by,
        "hazard": hazard(plan, &transition.hazard),
    })
}

/// Why something changed, in words.
pub(super) fn cause_text(cause: &Cause, point: Option<&Point>) -> Text {
    match cause {
        Cause::Reading { value, flaw } => {
            let (zh, en) = flaw.map_or((String::new(), String::new()), |flaw| {
                (format!("（{}）", flaw.zh()), format!(" ({})", flaw_en(flaw)))
            });
            let (shown, unit) = (value_text(point, value), point.map_or("", Point::unit));
            let gap = if unit.is_empty() { "" } else { " " };
            Text::new(
                &format!("读数 {}{gap}{unit}{zh}", shown.zh),
                &format!("reading {}{gap}{unit}{en}", shown.en),
            )
        }
        Cause::Deadline => Text::new("达到规定时长", "the delay ran out"),
        Cause::Silence { last_heard: Some(_) } => Text::new("设备没有上报", "nothing heard"),
        Cause::Silence { last_heard: None } => Text::new("从未收到设备上报", "never heard"),
        Cause::Operator(by) => Text::new(&by.by, &by.by),
        Cause::Plan => Text::new("现场计划已变更", "the site plan changed"),
    }
}

/// One line of the duty log.
pub(super) fn log_line(plan: &Plan, line: &LogLine) -> Json {
    let (kind, body) = match &line.what {
        Logged::Transition(change) => ("transition", transition(plan, change)),
        Logged::Note(note) => {
            ("note", json!({ "kind": note.kind.name(), "subject": &*note.subject, "text": text(&note.text) }))
        }
    };
    json!({ "no": line.no, "at": line.at.as_millis(), kind: body })
}

/// One stray.
pub(super) fn stray(stray: &Stray) -> Json {
    json!({
        "kind": stray.kind.name(),
        "key": &*stray.key,
        "device": stray.device.as_ref().map(crate::model::DeviceId::as_str),
        "reason": stray.reason_words(),
        "draft": stray.announcement().map(|announced| announced.text),
        "sample": sample_text(&stray.sample),
        "first_at": stray.first_at.as_millis(),
        "last_at": stray.last_at.as_millis(),
        "count": stray.count,
    })
}

/// The bytes as text when they are text, in hex otherwise.
pub(super) fn sample_text(sample: &[u8]) -> String {
    let printable = |text: &&str| text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
    match std::str::from_utf8(sample).ok().filter(printable) {
        Some(text) => text.to_owned(),
        None => sample.iter().map(|byte| format!("{byte:02X} ")).collect::<String>().trim_end().to_owned(),
    }
}

#[derive(Serialize)]
struct FrameOut<'a> {
    no: u64,
    points: Vec<ReadingOut<'a>>,
    hazards: Vec<Standing<'a>>,
    settled: bool,
    lamps: Lamps,
    sound: &'static str,
}

/// The JSON of one live frame: these points with their newest values, the hazards of these entries after each change.
/// `settled`: nothing new happened, but what is shown is marked otherwise, and the cards are to be read again.
pub(super) fn frame<'a>(
    plan: &Plan,
    snapshot: &Snapshot,
    points: impl IntoIterator<Item = &'a PointId>,
    entries: &[Arc<Entry>],
    settled: bool,
) -> String {
    // The board decided which of two readings stands; a late one may have lost.
    let standing = points.into_iter().filter_map(|point| snapshot.last.get(point));
    let changes = entries.iter().flat_map(|entry| {
        entry.transitions.iter().map(|transition| Standing {
            hazard: hazard(plan, &transition.hazard),
            phase: transition.phase.name(),
            change: Some(transition.change.name()),
            recorded: entry.recorded,
        })
    });
    let frame = FrameOut {
        no: snapshot.no,
        points: standing.map(|standing| reading(plan, standing)).collect(),
        hazards: changes.collect(),
        settled,
        lamps: lamps(snapshot),
        sound: snapshot.sound().name(),
    };
    serde_json::to_string(&frame).expect("every key is a string and writing to memory does not fail")
}

/// The lamp strip, as it is written.
pub(super) struct Lamps([(SignalClass, usize); 8]);

impl Serialize for Lamps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(class, count)| (class.name(), count)))
    }
}

/// The lamp strip: a count for every class, zero included.
pub(super) fn lamps(snapshot: &Snapshot) -> Lamps {
    Lamps(snapshot.lamps())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Number;
    use std::collections::HashMap;

    fn measured(point: &str, value: Value) -> Reading {
        Reading {
            point: PointId::parse(point).unwrap(),
            value,
            quality: Quality::Good,
            flaw: None,
            sampled_at: None,
            received_at: Timestamp::from_millis(1_800_000_000_250),
            late: false,
        }
    }

    #[test]
    fn a_frame_has_the_shape_that_the_page_reads() {
        let flawed = Reading {
            quality: Quality::Bad,
            flaw: Some(Flaw::SensorFault),
            sampled_at: Some(Timestamp::from_millis(1_800_000_000_000)),
            late: true,
            ..measured("d-1/smoke", Value::Code("quote \" here".into()))
        };
        let number = measured("d-1/heat", Value::Number(Number::new(23.5).unwrap()));
        let readings =
            [flawed, number, measured("d-1/on", Value::Flag(true)), measured("d-1/no", Value::Absent)];
        let ids = readings.each_ref().map(|reading| reading.point.clone());
        let last = readings.map(|reading| (reading.point.clone(), reading));
        let snapshot = Snapshot { no: 7, last: HashMap::from(last), ..Snapshot::default() };
        let unplanned = PointId::parse("d-9/never_heard").unwrap();
        let json = frame(&Plan::default(), &snapshot, ids.iter().chain([&unplanned]), &[], false);
        let point = |id: &str, value: Json, zh: &str, en: &str, quality: &str| {
            json!({ "point": id, "value": value, "text": { "zh": zh, "en": en }, "unit": "", "quality": quality,
                "flaw": null, "at": 1_800_000_000_250_i64, "received_at": 1_800_000_000_250_i64, "late": false })
        };
        let quoted = "quote \" here";
        let mut bad = point("d-1/smoke", json!(quoted), quoted, quoted, "bad");
        bad["flaw"] = json!({ "name": "sensor_fault", "zh": "传感器故障", "en": "sensor fault" });
        bad["at"] = json!(1_800_000_000_000_i64);
        bad["late"] = json!(true);
        let expected = json!({
            "no": 7,
            "points": [
                bad,
                point("d-1/heat", json!(23.5), "23.5", "23.5", "good"),
                point("d-1/on", json!(true), "是", "yes", "good"),
                point("d-1/no", Json::Null, "—", "—", "absent"),
            ],
            "hazards": [],
            "settled": false,
            "lamps": { "fire": 0, "activation": 0, "feedback": 0, "supervisory": 0, "fault": 0, "disabled": 0,
                "offline": 0, "test": 0 },
            "sound": "off",
        });
        assert_eq!(serde_json::from_str::<Json>(&json).unwrap(), expected);
    }
}
