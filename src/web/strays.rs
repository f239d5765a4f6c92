//! WEB · 待接入 and 隔离: who sends what nobody planned, what could not be read, and what a person does about it.

use super::adopt::device_path;
use super::api::{Problem, unreadable};
use super::pages::{Chrome, Visit, render};
use super::quarantine::{Told, waiting};
use super::rows::Moment;
use super::upkeep::bytes_text;
use super::{Shared, wire};
use crate::adopt::{InForce, Sender};
use crate::journal::{Announced, QuarantineGroup, Stray, StrayKind};
use crate::model::{DeviceId, LinkId};
use askama::Template;
use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::fmt::Write;

#[derive(Template)]
#[template(path = "strays.html")]
struct StraysPage {
    c: Chrome,
    unknown: Vec<StrayRow>,
    unreadable: Vec<StrayRow>,
    told: Told,
    /// Kept frames whose profile or plan changed: what the banner offers.
    renewed: u64,
}

struct StrayRow {
    kind: &'static str,
    key: String,
    device: String,
    reason: String,
    sample: String,
    count: u64,
    first_at: Moment,
    last_at: Moment,
    /// What to add to the plan; empty for a device that is in it.
    snippet: String,
    /// Whether the snippet names the model.
    guessed: bool,
    /// Whole frames in quarantine.
    frames: u64,
    bytes: String,
    /// A person can make a device of it here.
    adoptable: bool,
    /// The device that it is by now, its name and its page.
    planned: Option<(String, String)>,
    /// The profile that was drafted from what the device announced of itself.
    draft: Option<Draft>,
}

/// A profile for a person to copy.
struct Draft {
    /// The file that it goes into.
    file: String,
    text: String,
}

impl Draft {
    fn of(announced: Announced<'_>) -> Self {
        Self { file: format!("{}.toml", announced.profile), text: announced.text.to_owned() }
    }
}

impl StrayRow {
    fn new(stray: &Stray, groups: &[QuarantineGroup], in_force: &InForce) -> Self {
        let same = |group: &&QuarantineGroup| group.kind == stray.kind && group.key == *stray.key;
        let (frames, bytes) = groups.iter().find(same).map_or((0, 0), |group| (group.frames, group.bytes));
        let unknown = stray.kind == StrayKind::Unknown;
        let sender = Sender::of(&stray.key).filter(|sender| unknown && in_force.has_topics(&sender.link));
        let planned = sender.as_ref().and_then(|sender| in_force.planned(sender));
        let planned = planned.map(|device| (in_force.name(device), device_path(device, &stray.key)));
        Self {
            kind: stray.kind.name(),
            key: stray.key.to_string(),
            device: stray.device.as_ref().map(ToString::to_string).unwrap_or_default(),
            reason: stray.reason_words().to_owned(),
            sample: wire::sample_text(&stray.sample),
            count: stray.count,
            first_at: stray.first_at.into(),
            last_at: stray.last_at.into(),
            snippet: if unknown && planned.is_none() { snippet(stray) } else { String::new() },
            frames,
            bytes: bytes_text(bytes),
            adoptable: sender.is_some() && planned.is_none(),
            planned,
            guessed: stray.guess().is_some() || stray.announcement().is_some(),
            draft: stray.announcement().filter(|announced| !announced.text.is_empty()).map(Draft::of),
        }
    }
}

/// `GET /strays`.
pub(super) async fn page(visit: Visit, Query(told): Query<Told>) -> Response {
    let journal = &visit.shared().room.journal;
    let (mut strays, groups) = match tokio::try_join!(journal.strays(), journal.quarantine()) {
        Ok(read) => read,
        Err(error) => return visit.broken(&unreadable(error)),
    };
    let in_force = visit.shared().room.adopt.now();
    let renewed = waiting(visit.shared(), &groups).frames;
    strays.sort_by_key(|stray| std::cmp::Reverse(stray.last_at));
    let rows = |kind| {
        let these = strays.iter().filter(|stray| stray.kind == kind);
        these.map(|stray| StrayRow::new(stray, &groups, &in_force)).collect::<Vec<_>>()
    };
    let (unknown, unreadable) = (rows(StrayKind::Unknown), rows(StrayKind::Unreadable));
    render(&StraysPage { c: visit.chrome(), unknown, unreadable, told, renewed })
}

/// Which one a person has dealt with.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    kind: String,
    key: String,
}

/// `POST /strays`: removes one. It comes back with the next such message.
pub(super) async fn forget(State(shared): State<Shared>, Form(which): Form<Which>) -> Response {
    let Some(kind) = StrayKind::parse(&which.kind) else { return Problem::missing().into_response() };
    match shared.room.journal.forget_stray(kind, &which.key).await {
        Ok(()) => Redirect::to("/strays").into_response(),
        Err(error) => unreadable(error).into_response(),
    }
}

/// What to paste into the plan, as TOML. Names and places are a person's to write; so is the model when nothing was
/// guessed. What a stranger sent is only ever inside quotation marks.
fn snippet(stray: &Stray) -> String {
    let (link, topic) = match stray.key.split_once(' ') {
        Some((link, topic)) if LinkId::parse(link).is_ok() => (link, topic),
        _ => ("", &*stray.key),
    };
    let announced = stray.announcement().map(|announced| (announced.profile, announced.address));
    let guess = stray.guess().or(announced);
    let address = guess.map_or("", |(_, address)| address);
    let mut text = String::from("[[site.zone.device]]\n");
    let mut line = |key: &str, value: &str, remark: &str| {
        let gap = if remark.is_empty() { "" } else { "   # " };
        writeln!(text, "{key} = {}{gap}{remark}", quoted(value)).expect("writing to a string cannot fail");
    };
    line("id", &slug(if address.is_empty() { topic } else { address }), "");
    line("name", "新设备", "改成值班员认得的名称");
    line("place", "待填写", "装在哪里");
    match guess {
        Some((profile, address)) => {
            line("profile", profile, "");
            line("link", link, "");
            line("address", address, "");
        }
        None => {
            line("profile", "厂商/型号", "从 device-profiles 里选");
            line("link", link, "");
            line("address", topic, "只留主题里代表设备的那一段");
        }
    }
    text
}

/// A TOML string: quotation marks, backslashes and control characters escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                write!(quoted, "\\U{:08X}", u32::from(c)).expect("writing to a string cannot fail");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// An id made of what the device calls itself.
fn slug(text: &str) -> String {
    let slug: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' })
        .skip_while(|c| *c == '-')
        .take(36)
        .collect();
    let slug = slug.trim_end_matches('-');
    if DeviceId::parse(slug).is_ok() { slug.to_owned() } else { "new-device".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use proptest::prelude::*;

    fn stray(key: &str, reason: &str) -> Stray {
        Stray {
            kind: StrayKind::Unknown,
            key: key.into(),
            device: None,
            reason: reason.into(),
            sample: Vec::new(),
            first_at: Timestamp::EPOCH,
            last_at: Timestamp::EPOCH,
            count: 1,
        }
    }

    #[test]
    fn a_guessed_device_is_ready_to_paste() {
        let reason = Stray::not_planned("zigbee2mqtt/heiman-hs1sa-e", "0x00158D00AABB");
        let text = snippet(&stray("broker zigbee2mqtt/0x00158D00AABB", &reason));
        let expected = "[[site.zone.device]]\nid = \"0x00158d00aabb\"\nname = \"新设备\"   # 改成值班员认得的名称\n\
            place = \"待填写\"   # 装在哪里\nprofile = \"zigbee2mqtt/heiman-hs1sa-e\"\nlink = \"broker\"\n\
            address = \"0x00158D00AABB\"\n";
        assert_eq!(text, expected);
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_sends_is_one_device_in_toml(topic in any::<String>(), guessed in any::<bool>()) {
            let reason = if guessed { Stray::not_planned("a/b", &topic) } else { String::new() };
            let text = snippet(&stray(&format!("broker {topic}"), &reason));
            // Six lines of ours, whatever is between the quotation marks.
            prop_assert_eq!(text.lines().count(), 7, "{}", text);
            let address = text.lines().last().unwrap();
            prop_assert!(address.starts_with("address = \""), "{}", address);
            prop_assert!(!address.chars().any(char::is_control));
        }
    }
}
