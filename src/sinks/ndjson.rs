//! JOURNAL → WORLD, pure: journal entries as lines of JSON that a person can read without this program.
//!
//! # Schema
//! One object a line. All have `kind`, `entry` (the journal's number), `gateway` and `recorded_at` (when it was recorded).
//! Times are UTC, `2026-01-15T02:30:05.000Z`. What a line is about stands in it by id and by name, as the plan calls it
//! now: `site`, `site_name`, `zone`, `zone_name`, `device`, `device_name`, `place`, `point`, `point_name`; a point that the
//! plan no longer has has `device` and `point` only. What does not apply is left out.
//!
//! | kind | more |
//! |---|---|
//! | `reading` | `time` (the device's own, else that of reception), `class`, `value` (number, true or false, the state's name, or null), `unit`, `state_name`, `quality` (`good`, `uncertain`, `bad`), `flaw`, `sampled_at`, `received_at`, `late` |
//! | `transition` | `time`, `hazard` (its id), `change`, `phase`, `rule`, `signal`, `priority`, `title`, `title_en`, `why`, `why_en`, `raised_at`, `last_raised_at`, `returned_at`, `occurrences`, `late`, `acknowledged`, `silenced`, `closed` (each `by`, `at`, `note`), `cause` |
//! | `note` | `note` (its kind), `subject`, `text`, `text_en` |
//!
//! A reading is one line of one entry: entry, point and time name it, so what arrives twice is easily told.

use crate::journal::Entry;
use crate::model::{Cause, Flaw, Plan, PointId, Quality, Reading, Signature, Transition, Value};
use serde::Serialize;

/// Whose line it is.
#[derive(Serialize)]
struct Head<'a> {
    kind: &'static str,
    entry: u64,
    gateway: &'a str,
    recorded_at: String,
}

/// What it is about.
#[derive(Serialize, Default)]
#[serde(default)]
struct Place<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone_name: Option<&'a str>,
    device: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
    point: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    point_name: Option<&'a str>,
}

#[derive(Serialize)]
struct ReadingLine<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    time: String,
    #[serde(flatten)]
    place: Place<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    value: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_name: Option<&'a str>,
    quality: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    flaw: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_at: Option<String>,
    received_at: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    late: bool,
}

#[derive(Serialize)]
struct TransitionLine<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    time: String,
    #[serde(flatten)]
    place: Place<'a>,
    hazard: &'a str,
    change: &'static str,
    phase: &'static str,
    rule: &'a str,
    signal: &'static str,
    priority: &'static str,
    title: &'a str,
    title_en: &'a str,
    why: String,
    why_en: String,
    raised_at: String,
    last_raised_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    returned_at: Option<String>,
    occurrences: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    late: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<Signed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    silenced: Option<Signed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<Signed<'a>>,
    cause: CauseLine<'a>,
}

#[derive(Serialize)]
struct Signed<'a> {
    by: &'a str,
    at: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum CauseLine<'a> {
    Reading {
        value: serde_json::Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        flaw: Option<&'static str>,
    },
    Deadline,
    Silence {
        #[serde(skip_serializing_if = "Option::is_none")]
        last_heard: Option<String>,
    },
    Operator(Signed<'a>),
    Plan,
}

#[derive(Serialize)]
struct NoteLine<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    note: &'static str,
    subject: &'a str,
    text: &'a str,
    text_en: &'a str,
}

/// Appends the lines of one entry; says how many.
pub(super) fn lines(entry: &Entry, plan: &Plan, gateway: &str, out: &mut Vec<u8>) -> usize {
    let head = |kind| Head { kind, entry: entry.no, gateway, recorded_at: entry.at.to_string() };
    for reading in &entry.readings {
        push(&reading_line(head("reading"), reading, plan), out);
    }
    for transition in &entry.transitions {
        push(&transition_line(head("transition"), transition, plan), out);
    }
    for note in &entry.notes {
        let (text, text_en) = (&*note.text.zh, &*note.text.en);
        let line =
            NoteLine { head: head("note"), note: note.kind.name(), subject: &note.subject, text, text_en };
        push(&line, out);
    }
    entry.readings.len() + entry.transitions.len() + entry.notes.len()
}

fn push(line: &impl Serialize, out: &mut Vec<u8>) {
    // Writing to memory does not fail, and every key is a text.
    let written = serde_json::to_writer(&mut *out, line);
    debug_assert!(written.is_ok());
    out.push(b'\n');
}

fn reading_line<'a>(head: Head<'a>, reading: &'a Reading, plan: &'a Plan) -> ReadingLine<'a> {
    let point = plan.point(&reading.point).map(|(.., point)| point);
    let state_name = match &reading.value {
        Value::Code(code) => point.and_then(|point| point.state_name(code)).map(|text| &*text.zh),
        _ => None,
    };
    ReadingLine {
        head,
        time: reading.time().to_string(),
        place: place(&reading.point, plan),
        class: point.map(|point| point.class.as_str()),
        value: value(&reading.value),
        unit: point.map(|point| point.unit()).filter(|unit| !unit.is_empty()),
        state_name,
        quality: match reading.quality {
            Quality::Good => "good",
            Quality::Uncertain => "uncertain",
            Quality::Bad => "bad",
        },
        flaw: reading.flaw.map(Flaw::name),
        sampled_at: reading.sampled_at.map(|at| at.to_string()),
        received_at: reading.received_at.to_string(),
        late: reading.late,
    }
}

fn transition_line<'a>(head: Head<'a>, transition: &'a Transition, plan: &'a Plan) -> TransitionLine<'a> {
    let hazard = &transition.hazard;
    TransitionLine {
        head,
        time: transition.at.to_string(),
        place: place(&hazard.point, plan),
        hazard: hazard.id.as_str(),
        change: transition.change.name(),
        phase: transition.phase.name(),
        rule: hazard.rule.as_str(),
        signal: hazard.signal.name(),
        priority: hazard.priority.name(),
        title: &hazard.title.zh,
        title_en: &hazard.title.en,
        why: hazard.evidence.zh(),
        why_en: hazard.evidence.en(),
        raised_at: hazard.raised_at.to_string(),
        last_raised_at: hazard.last_raised_at.to_string(),
        returned_at: hazard.returned_at.map(|at| at.to_string()),
        occurrences: hazard.occurrences,
        late: hazard.late,
        acknowledged: hazard.acknowledged.as_ref().map(signed),
        silenced: hazard.silenced.as_ref().map(signed),
        closed: hazard.closed.as_ref().map(signed),
        cause: match &transition.cause {
            Cause::Reading { value: of, flaw } => {
                CauseLine::Reading { value: value(of), flaw: flaw.map(Flaw::name) }
            }
            Cause::Deadline => CauseLine::Deadline,
            Cause::Silence { last_heard } => {
                CauseLine::Silence { last_heard: last_heard.map(|at| at.to_string()) }
            }
            Cause::Operator(signature) => CauseLine::Operator(signed(signature)),
            Cause::Plan => CauseLine::Plan,
        },
    }
}

fn signed(signature: &Signature) -> Signed<'_> {
    Signed { by: &signature.by, at: signature.at.to_string(), note: &signature.note }
}

fn place<'a>(point: &'a PointId, plan: &'a Plan) -> Place<'a> {
    let bare = Place { device: point.device(), point: point.name(), ..Place::default() };
    let Some((site, zone, device)) = plan.device(point.device()) else { return bare };
    let named = device.points.iter().find(|known| known.id == *point).map(|known| &*known.name.zh);
    Place {
        site: Some(site.id.as_str()),
        site_name: Some(&site.name),
        zone: Some(zone.id.as_str()),
        zone_name: Some(&zone.name),
        device_name: Some(&device.name),
        place: Some(&*device.place).filter(|place| !place.is_empty()),
        point_name: named,
        ..bare
    }
}

fn value(value: &Value) -> serde_json::Value {
    match value {
        Value::Number(number) => number.get().into(),
        Value::Flag(flag) => (*flag).into(),
        Value::Code(code) => (&**code).into(),
        Value::Absent => serde_json::Value::Null,
    }
}
