//! FRAMES → READINGS, the profile's messages: from `[time]` to where the device's own time lies and how it is written.

use super::super::device_time::TimeUnit;
use super::super::draft::{Problems, Spanned, suggest_or_list};
use super::super::message::Where;
use super::super::schema_bytes::ByteFile;
use super::super::schema_register::BitsFile;
use super::{Mqtt, TimeFile};

pub(super) fn build_time(
    written: &Spanned<TimeFile>,
    mqtt: &Mqtt,
    problems: &mut Problems,
) -> Option<(Where, Vec<TimeUnit>)> {
    let (file, made_of) = (written.get_ref(), mqtt.made_of);
    if let Some(of) = &file.of {
        if of.get_ref() == "message" && mqtt.is_shared {
            return None; // Read once for all parts.
        }
        problems.error(
            of.span(),
            "含几个设备的消息才有整条消息的时间 / only a message of several devices has a time of its own",
            "删去 `of` / remove `of`",
        );
    }
    let at = match (&file.json, &file.codec, &file.byte) {
        (Some(path), None, None) => made_of.check_path(path.get_ref(), path.span(), problems),
        (None, Some(path), None) => made_of.check_codec(path.get_ref(), path.span(), problems),
        (None, None, Some(byte)) => {
            let field = ByteFile {
                span: written.span(),
                byte,
                kind: file.kind.as_ref(),
                order: file.order.as_ref(),
                bits: BitsFile { span: written.span(), bit: None, bits: None, mask: None },
            };
            made_of.check_bytes(&field, problems)
        }
        _ => {
            problems.error(
                written.span(),
                "时间由 `json`、`codec` 或 `byte` 指定 / the time lies at `json`, `codec` or `byte`",
                "写其中一个 / say one of them",
            );
            None
        }
    };
    let units = build_units(&file.unit, problems);
    Some((at?, units?))
}

/// One unit, or several for a program that can be told to write either.
pub(super) fn build_units(written: &Spanned<toml::Value>, problems: &mut Problems) -> Option<Vec<TimeUnit>> {
    let names: Vec<&str> = match written.get_ref() {
        toml::Value::String(name) => vec![name],
        // Something else among the names is no name that may be passed over.
        toml::Value::Array(names) => {
            names.iter().map(toml::Value::as_str).collect::<Option<_>>().unwrap_or_default()
        }
        _ => vec![],
    };
    let mut units = Vec::new();
    for name in &names {
        match TimeUnit::parse(name) {
            Some(unit) => units.push(unit),
            None => problems.error(
                written.span(),
                format!("未知的时间单位 {name:?} / time unit {name:?} is unknown"),
                suggest_or_list(name, TimeUnit::ALL.map(TimeUnit::name)),
            ),
        }
    }
    if names.is_empty() {
        problems.error(
            written.span(),
            "时间没有写单位 / the time has no unit",
            "写 unit = \"s\"、\"ms\" 或 \"iso8601\" / write unit = \"s\", \"ms\" or \"iso8601\"",
        );
    }
    (!units.is_empty()).then_some(units)
}
