//! `fengsui profile explain`: what a device will report and which hazards it can raise, for a person who reads no TOML.

use super::{Asked, EXIT_CONFIG};
use crate::profile::{PointClass, Profile, ProfileLink, ProfilePoint, Vocabulary, explain};
use std::fmt::Write;

pub(super) fn run(read: &Asked, out: &mut String) -> u8 {
    out.push_str(&read.problems());
    for profile in &read.profiles {
        tell(profile, &read.vocabulary, out);
    }
    if read.is_wrong() { EXIT_CONFIG } else { 0 }
}

fn tell(profile: &Profile, vocabulary: &Vocabulary, out: &mut String) {
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
        Some(span) => _ = writeln!(out, "超过 {}没有消息：设备离线", explain::duration(span).zh),
        None => out.push_str("只在有事时才发消息：不判离线（场所平面可另行规定）\n"),
    }
    if let Some(firmware) = &profile.firmware {
        _ = writeln!(out, "适用固件：{firmware}");
    }
    if !profile.also_sold_as.is_empty() {
        _ = writeln!(out, "又名：{}", profile.also_sold_as.join("、"));
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
    for rule in explain::hazards(class) {
        _ = writeln!(out, "    {}", explain::sentence(rule, class).zh);
    }
}
