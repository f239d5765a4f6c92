//! FRAMES → READINGS, drafting: what the values of a state mean, as far as convention says, and what is missing among them.

use super::super::vocabulary::PointClass;
use crate::model::Quantity;
use serde_json::Value;

/// The words of the wire by the state that they usually mean. A class that has no such state does not know the word.
const WORDS: &[(&str, &[&str])] = &[
    ("normal", &["normal", "ok", "idle", "clear", "cleared", "standby", "quiet", "zhengchang", "正常", "无"]),
    (
        "alarm",
        &[
            "alarm",
            "fire",
            "alert",
            "active",
            "detected",
            "triggered",
            "smoke",
            "pressed",
            "baojing",
            "huojing",
            "报警",
            "火警",
            "告警",
        ],
    ),
    ("warning", &["warning", "warn", "prealarm", "pre_alarm", "pre-alarm", "yujing", "预警"]),
    ("fault", &["fault", "error", "failure", "malfunction", "guzhang", "故障"]),
    ("test", &["test", "testing", "selftest", "测试", "自检"]),
    ("muted", &["mute", "muted", "silenced", "hush", "消音"]),
    ("removed", &["removed", "tamper", "dismantled", "拆除"]),
    ("low_battery", &["low_battery", "low battery", "lowbattery", "battery_low", "低电", "欠压"]),
    ("warmup", &["warmup", "warming", "preheat", "预热"]),
    ("open", &["open", "opened", "开", "打开"]),
    ("closed", &["closed", "close", "shut", "关", "关闭"]),
    ("running", &["running", "run", "start", "started", "运行", "启动"]),
    ("stopped", &["stopped", "stop", "停止"]),
];

/// Words that say yes or no, whatever the class; a number is 0 or 1.
const NO: &[&str] = &["0", "false", "off", "no", "none", "normal", "ok", "clear", "dry", "正常", "否", "关"];
const YES: &[&str] = &[
    "1",
    "true",
    "on",
    "yes",
    "alarm",
    "alert",
    "active",
    "detected",
    "low",
    "wet",
    "triggered",
    "报警",
    "是",
    "开",
    "fault",
];

/// A word and its opposite.
const OPPOSITES: &[(&str, &str)] = &[
    ("off", "on"),
    ("no", "yes"),
    ("false", "true"),
    ("normal", "alarm"),
    ("ok", "alarm"),
    ("clear", "detected"),
    ("closed", "open"),
    ("0", "1"),
    ("idle", "alarm"),
    ("正常", "报警"),
    ("stopped", "running"),
    ("dry", "wet"),
    ("standby", "alarm"),
    ("inactive", "active"),
];

/// The codes of a point.
pub(super) struct Codes {
    /// Wire value, state or `true`/`false`.
    pub(super) codes: Vec<(String, String)>,
    /// Those of them that nobody has seen: the wire value as a message would carry it.
    pub(super) unseen: Vec<(Value, String)>,
    /// Values that have no meaning yet.
    pub(super) unknown: Vec<String>,
}

/// A value as a profile's `codes` name it.
pub(super) fn key(value: &Value) -> String {
    match (value.as_str(), value.as_f64()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(number)) => number.to_string(),
        _ => value.to_string(),
    }
}

/// What the values mean. `closed_is_yes`: true says that something is shut, as Zigbee's `contact` does.
pub(super) fn codes(class: &PointClass, values: &[Value], closed_is_yes: bool) -> Codes {
    let (mut rest, mut active) = match class.quantity {
        Quantity::Flag => ("false", "true"),
        _ => {
            let rest = class.states.first().map_or("", |(code, _)| &**code);
            let second = class.states.get(1).map_or("", |(code, _)| &**code);
            (rest, if has(class, "alarm") { "alarm" } else { second })
        }
    };
    if closed_is_yes {
        (rest, active) = (active, rest);
    }
    let mut found = Codes { codes: Vec::new(), unseen: Vec::new(), unknown: Vec::new() };
    for value in values.iter().filter(|value| !value.is_null()) {
        let key = key(value);
        // 1, 1.0 and "1" are one code.
        if found.codes.iter().any(|(known, _)| *known == key) || found.unknown.contains(&key) {
            continue;
        }
        match meaning(class, &key, rest, active) {
            Some(means) => found.codes.push((key, means.to_owned())),
            None => found.unknown.push(key),
        }
    }
    let sample = values.iter().find(|value| !value.is_null());
    for (wanted, is_rest) in [(rest, true), (active, false)] {
        if found.codes.iter().any(|(_, means)| means == wanted) {
            continue;
        }
        let taken = |key: &str, found: &Codes| {
            found.codes.iter().any(|(known, _)| known == key)
                || found.unknown.iter().any(|known| known == key)
        };
        let opposites = found.codes.iter().filter_map(|(known, _)| opposite(known, is_rest));
        let plain = if is_rest { ["normal", "0", "off"] } else { ["alarm", "1", "on"] };
        let texts: Vec<String> = opposites.chain(plain.into_iter().map(str::to_owned)).collect();
        let value = match sample {
            Some(Value::Bool(_)) => Some(Value::Bool(!is_rest)),
            Some(Value::Number(_)) => Some(Value::from(u8::from(!is_rest))),
            _ => texts.into_iter().find(|text| !taken(text, &found)).map(Value::String),
        };
        if let Some(value) = value.filter(|value| !taken(&self::key(value), &found)) {
            found.codes.push((self::key(&value), wanted.to_owned()));
            found.unseen.push((value, wanted.to_owned()));
        }
    }
    found
}

fn has(class: &PointClass, state: &str) -> bool {
    class.states.iter().any(|(code, _)| **code == *state)
}

fn meaning<'c>(class: &'c PointClass, key: &str, rest: &'c str, active: &'c str) -> Option<&'c str> {
    let word = key.trim().to_lowercase();
    let own = class.states.iter().map(|(code, _)| &**code).find(|code| *code == word);
    let named = || {
        let states = WORDS.iter().filter(|(_, words)| words.contains(&word.as_str()));
        states.map(|(state, _)| *state).find(|state| has(class, state))
    };
    let plain = || match () {
        () if NO.contains(&word.as_str()) => Some(rest),
        () if YES.contains(&word.as_str()) => Some(active),
        () => None,
    };
    own.or_else(named).or_else(plain)
}

/// The opposite of a word, written as it is: all in capitals, or with one.
fn opposite(word: &str, of_yes: bool) -> Option<String> {
    let lower = word.to_lowercase();
    let other = OPPOSITES.iter().find_map(|(no, yes)| match of_yes {
        true if *yes == lower => Some(*no),
        false if *no == lower => Some(*yes),
        _ => None,
    })?;
    let first = word.chars().next()?;
    Some(if word.chars().count() > 1 && word.chars().all(char::is_uppercase) {
        other.to_uppercase()
    } else if first.is_uppercase() {
        let mut letters = other.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
    } else {
        other.to_owned()
    })
}
