//! WEB · the shapes of the JSON API and of live events. Times are milliseconds since the epoch; texts are in both languages.

use super::board::{Open, Snapshot};
use crate::journal::{Entry, LogLine, Logged, Stray};
use crate::model::{
    Cause, Flaw, Hazard, Plan, Point, PointId, Quality, Reading, Signature, Text, Timestamp, Transition,
    Value,
};
use serde_json::{Map, Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;

/// A text in both languages.
pub(super) fn text(text: &Text) -> Json {
    json!({ "zh": &*text.zh, "en": &*text.en })
}

fn millis(at: Option<Timestamp>) -> Json {
    at.map_or(Json::Null, |at| at.as_millis().into())
}

fn signature(signature: Option<&Signature>) -> Json {
    signature.map_or(
        Json::Null,
        |signature| json!({ "by": &*signature.by, "at": signature.at.as_millis(), "note": &*signature.note }),
    )
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

/// A value as a person reads it, without its unit, in both languages.
pub(super) fn value_text(point: Option<&Point>, value: &Value) -> Text {
    match value {
        Value::Number(number) => {
            let shown = point.map_or_else(
                || number.to_string(),
                |point| format!("{:.*}", usize::from(point.decimals), number.get()),
            );
            Text::new(&shown, &shown)
        }
        Value::Code(code) => {
            point.and_then(|point| point.state_name(code)).cloned().unwrap_or_else(|| Text::new(code, code))
        }
        Value::Flag(true) => Text::new("是", "yes"),
        Value::Flag(false) => Text::new("否", "no"),
        Value::Absent => Text::new("—", "—"),
    }
}

/// When a value was true, for its age: a report about the past is as old as the device says.
pub(super) fn value_time(reading: &Reading) -> Timestamp {
    if reading.late { reading.time() } else { reading.received_at }
}

/// One reading.
pub(super) fn reading(plan: &Plan, reading: &Reading) -> Json {
    let point = plan.point(&reading.point).map(|(.., point)| point);
    let flaw = reading
        .flaw
        .map_or(Json::Null, |flaw| json!({ "name": flaw.name(), "zh": flaw.zh(), "en": flaw_en(flaw) }));
    json!({
        "point": reading.point.as_str(),
        "value": match &reading.value {
            Value::Number(number) => json!(number.get()),
            Value::Flag(flag) => json!(flag),
            Value::Code(code) => json!(&**code),
            Value::Absent => Json::Null,
        },
        "text": text(&value_text(point, &reading.value)),
        "unit": point.map_or("", |point| point.unit()),
        "quality": quality_name(reading),
        "flaw": flaw,
        "at": value_time(reading).as_millis(),
        "received_at": reading.received_at.as_millis(),
        "late": reading.late,
    })
}

/// One hazard; `open` adds its phase and whether the journal has it.
pub(super) fn hazard(plan: &Plan, hazard: &Hazard) -> Map<String, Json> {
    let place = plan.point(&hazard.point);
    let place = place.map_or(Json::Null, |(site, zone, device, _)| {
        json!({
            "site": site.id.as_str(), "site_name": &*site.name, "address": &*site.address,
            "zone": zone.id.as_str(), "zone_name": &*zone.name,
            "device": device.id.as_str(), "device_name": &*device.name, "place": &*device.place,
        })
    });
    let body = json!({
        "id": hazard.id.as_str(),
        "point": hazard.point.as_str(),
        "rule": hazard.rule.as_str(),
        "signal": hazard.signal.name(),
        "priority": hazard.priority.name(),
        "latching": hazard.latching,
        "title": text(&hazard.title),
        "reason": { "zh": hazard.evidence.zh(), "en": hazard.evidence.en() },
        "where": place,
        "raised_at": hazard.raised_at.as_millis(),
        "sampled_at": millis(hazard.sampled_at),
        "late": hazard.late,
        "occurrences": hazard.occurrences,
        "last_raised_at": hazard.last_raised_at.as_millis(),
        "returned_at": millis(hazard.returned_at),
        "acknowledged": signature(hazard.acknowledged.as_ref()),
        "silenced": signature(hazard.silenced.as_ref()),
        "closed": signature(hazard.closed.as_ref()),
    });
    let Json::Object(body) = body else { return Map::new() };
    body
}

/// One open hazard.
pub(super) fn open(plan: &Plan, open: &Open) -> Json {
    let mut body = hazard(plan, &open.hazard);
    body.insert("phase".into(), open.phase.name().into());
    body.insert("recorded".into(), open.recorded.into());
    body.into()
}

/// One change of a hazard.
pub(super) fn transition(plan: &Plan, transition: &Transition) -> Json {
    let by = match &transition.cause {
        Cause::Operator(by) => signature(Some(by)),
        Cause::Reading { .. } | Cause::Deadline | Cause::Silence { .. } | Cause::Plan => Json::Null,
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
        "reason": &*stray.reason,
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

/// The JSON of one live frame: each point once with its newest value, each hazard once after its newest change.
pub(super) fn frame(plan: &Plan, entries: &[Arc<Entry>], snapshot: &Snapshot) -> String {
    let mut points: HashMap<&PointId, &Reading> = HashMap::new();
    let mut hazards: Vec<Json> = Vec::new();
    for entry in entries {
        for reading in &entry.readings {
            // The board decided which of two readings stands; a late one may have lost.
            if let Some(standing) = snapshot.last.get(&reading.point) {
                points.insert(&reading.point, standing);
            }
        }
        for transition in &entry.transitions {
            let mut body = hazard(plan, &transition.hazard);
            body.insert("phase".into(), transition.phase.name().into());
            body.insert("change".into(), transition.change.name().into());
            body.insert("recorded".into(), entry.recorded.into());
            hazards.push(body.into());
        }
    }
    json!({
        "no": snapshot.no,
        "points": points.values().map(|standing| reading(plan, standing)).collect::<Vec<_>>(),
        "hazards": hazards,
        // Nothing new happened, but what is shown is marked otherwise: the cards are to be read again.
        "settled": entries.is_empty(),
        "lamps": lamps(snapshot),
        "sound": snapshot.sound().name(),
    })
    .to_string()
}

/// The lamp strip: a count for every class, zero included.
pub(super) fn lamps(snapshot: &Snapshot) -> Json {
    snapshot
        .lamps()
        .iter()
        .map(|(class, count)| (class.name().to_owned(), Json::from(*count)))
        .collect::<Map<_, _>>()
        .into()
}
