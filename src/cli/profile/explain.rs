//! `fengsui profile explain`: what a device will report and which hazards it can raise, for a person who reads no TOML.

use super::{Asked, EXIT_CONFIG};
use crate::model::{Condition, Rule, Span};
use crate::profile::{PointClass, Profile, ProfileLink, ProfilePoint, Vocabulary};
use std::fmt::Write;

pub(super) fn run(read: &Asked, out: &mut String) -> u8 {
    out.push_str(&read.problems());
    for profile in &read.profiles {
        explain(profile, &read.vocabulary, out);
    }
    if read.is_wrong() { EXIT_CONFIG } else { 0 }
}

fn explain(profile: &Profile, vocabulary: &Vocabulary, out: &mut String) {
    _ = writeln!(out, "{} · {} {}", profile.model.zh, profile.vendor, profile.model_number);
    match &profile.link {
        ProfileLink::Mqtt { .. } => {
            let topics: Vec<String> = profile.topics().iter().map(|topic| topic.filter()).collect();
            _ = writeln!(out, "通信：MQTT，主题 {}", topics.join("、"));
        }
        ProfileLink::Modbus { .. } => {
            _ = writeln!(out, "通信：Modbus，每轮 {} 次读取", profile.poll_plan().len());
        }
    }
    match profile.silent_after {
        Some(span) => _ = writeln!(out, "超过 {}没有消息：设备离线", duration(span)),
        None => out.push_str("只在有事时才发消息：不判离线（场所平面可另行规定）\n"),
    }
    match &profile.verified {
        Some(who) => _ = writeln!(out, "实物核对：{who}"),
        None => out.push_str("实物核对：还没有人在实物上核对过\n"),
    }
    _ = writeln!(out, "出处：{}\n", profile.source);
    for point in &profile.points {
        if let Some(class) = vocabulary.class(point.class.as_str()) {
            one(point, class, out);
        }
    }
    for command in &profile.commands {
        _ = writeln!(out, "可下达的命令（须在场所平面中放行）：{} {}", command.name, command.text.zh);
    }
}

fn one(point: &ProfilePoint, class: &PointClass, out: &mut String) {
    let name = point.label.as_ref().unwrap_or(&class.name);
    _ = write!(out, "■ {}（{}）", name.zh, point.name);
    let unit = point.quantity.unit();
    if let Some((low, high)) = point.range {
        _ = write!(out, "：{low} 到 {high} {unit}");
    }
    if !class.states.is_empty() {
        let states: Vec<&str> = class.states.iter().map(|(_, name)| &*name.zh).collect();
        _ = write!(out, "：{}", states.join("、"));
    }
    out.push('\n');
    // How long a silence is normal stands at the top, once for the device.
    for rule in class.rules.iter().filter(|rule| !matches!(rule.condition, Condition::Silent { .. })) {
        _ = writeln!(out, "    {}", sentence(rule, class, unit));
    }
}

fn sentence(rule: &Rule, class: &PointClass, unit: &str) -> String {
    let when = match &rule.condition {
        Condition::OneOf(codes) => {
            let named =
                |code| class.states.iter().find(|(known, _)| known == code).map(|(_, name)| &*name.zh);
            let states: Vec<&str> = codes.iter().filter_map(named).collect();
            format!("报“{}”时", states.join("”或“"))
        }
        Condition::Is(true) => "为真时".to_owned(),
        Condition::Is(false) => "为假时".to_owned(),
        Condition::Unusable => "读数坏了时".to_owned(),
        limit => format!("{} 时", limit.limit_text(unit)),
    };
    let delay = delay(rule);
    let latch = if rule.latching { "，须由人复位" } else { "" };
    format!("{when}{delay}报【{}】（{}{latch}）依据：{}", rule.title.zh, rule.priority.zh(), rule.basis)
}

/// `立即`, or how long it has to last.
pub(super) fn delay(rule: &Rule) -> String {
    if rule.on_delay == Span::ZERO {
        "立即".to_owned()
    } else {
        format!("持续 {}后", duration(rule.on_delay))
    }
}

fn duration(span: Span) -> String {
    let seconds = span.as_millis() / 1000;
    match seconds {
        0..120 => format!("{seconds} 秒"),
        120..7200 => format!("{} 分钟", seconds / 60),
        7200..172_800 => format!("{} 小时", seconds / 3600),
        _ => format!("{} 天", seconds / 86_400),
    }
}
