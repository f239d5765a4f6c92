//! The language of the stories: words, times, plans.
//!
//! ```text
//! device sd-01 on broker silent 25h "203 房间烟感"
//!   point smoke state "烟雾报警" normal=正常 alarm=报警
//!     rule fire-smoke fire red one_of alarm "烟感火警" "GB 50116-2013 3.4"
//! 00:10 sd-01/smoke = alarm
//! > 00:10 发生 …
//! ```

use fengsui::model::{
    ClassId, Condition, Device, DeviceId, LinkId, Number, Plan, Point, PointId, Priority, ProfileId,
    Quantity, Rule, RuleId, SignalClass, Site, SiteId, Span, Text, Value, Zone, ZoneId,
};
use std::sync::Arc;

/// Splits a line into words; `"…"` is one word.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' if quoted => {
                quoted = false;
                words.push(std::mem::take(&mut word));
            }
            '"' => quoted = true,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// `05:00`, `01:05:00`, `1.01:05:00` and fractions: the time since the story began.
pub(super) fn time(text: &str) -> Option<Span> {
    let (text, millis) = match text.split_once(',') {
        Some((text, millis)) => (text, millis.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (days, text) = match text.split_once('.') {
        Some((days, text)) => (days.parse::<i64>().ok()?, text),
        None => (0, text),
    };
    let parts: Vec<i64> = text.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let seconds = match parts[..] {
        [m, s] => m * 60 + s,
        [h, m, s] => (h * 60 + m) * 60 + s,
        _ => return None,
    };
    Some(Span::from_millis((days * 86_400 + seconds) * 1000 + millis))
}

/// The same, written.
pub(super) fn shown(span: Span) -> String {
    let (seconds, millis) = (span.as_millis().div_euclid(1000), span.as_millis().rem_euclid(1000));
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = match (d, h) {
        (0, 0) => format!("{m:02}:{s:02}"),
        (0, _) => format!("{h:02}:{m:02}:{s:02}"),
        _ => format!("{d}.{h:02}:{m:02}:{s:02}"),
    };
    if millis != 0 {
        text.push_str(&format!(",{millis:03}"));
    }
    text
}

/// `250ms`, `10s`, `5m`, `25h`, `3d`.
pub(super) fn span(text: &str) -> Option<Span> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: i64 = digits.parse().ok()?;
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Span::from_millis(number * unit))
}

/// A number, `true`, `false`, `absent` or a state.
pub(super) fn value(text: &str) -> Value {
    match text {
        "true" => Value::Flag(true),
        "false" => Value::Flag(false),
        "absent" => Value::Absent,
        _ => match text.parse::<f64>().ok().and_then(Number::new) {
            Some(number) => Value::Number(number),
            None => Value::Code(text.into()),
        },
    }
}

fn number(text: Option<&String>) -> Result<Number, String> {
    let text = text.ok_or("a number is missing")?;
    text.parse().ok().and_then(Number::new).ok_or_else(|| format!("{text:?} is no number"))
}

fn words_after<'a>(words: &'a [String], key: &str) -> Option<&'a String> {
    words.iter().position(|word| word == key).and_then(|at| words.get(at + 1))
}

/// Reads `device`, `point` and `rule` lines.
#[derive(Default)]
pub(super) struct Draft {
    devices: Vec<Device>,
}

impl Draft {
    pub(super) fn is_line(line: &str) -> bool {
        ["device ", "point ", "rule "].iter().any(|word| line.trim_start().starts_with(word))
    }

    pub(super) fn read(&mut self, line: &str) -> Result<(), String> {
        let words = words(line);
        match words[0].as_str() {
            "device" => self.devices.push(device(&words)?),
            "point" => {
                let device = self.devices.last_mut().ok_or("a point before any device")?;
                device.points.push(point(&device.id, &words)?);
            }
            _ => {
                let point = self.devices.last_mut().and_then(|device| device.points.last_mut());
                point.ok_or("a rule before any point")?.rules.push(Arc::new(rule(&words)?));
            }
        }
        Ok(())
    }

    pub(super) fn plan(&self) -> Arc<Plan> {
        let zone =
            Zone { id: ZoneId::parse("z").unwrap(), name: "一层".into(), devices: self.devices.clone() };
        Arc::new(Plan::new(vec![Site {
            id: SiteId::parse("s").unwrap(),
            name: "阳光养老院".into(),
            address: "".into(),
            contacts: Vec::new(),
            zones: vec![zone],
        }]))
    }
}

/// `device ID on LINK [silent SPAN] "NAME"`
fn device(words: &[String]) -> Result<Device, String> {
    let silent = words_after(words, "silent");
    let silent_after = match silent {
        Some(text) => Some(span(text).ok_or_else(|| format!("{text:?} is no span"))?),
        None => None,
    };
    let link = words_after(words, "on").ok_or("a device needs `on LINK`")?;
    Ok(Device {
        id: DeviceId::parse(&words[1]).map_err(|e| e.to_string())?,
        name: words.last().map_or("", String::as_str).into(),
        place: "".into(),
        profile: ProfileId::parse("test/test").unwrap(),
        model: Text::new("测试", "test"),
        link: LinkId::parse(link).map_err(|e| e.to_string())?,
        silent_after,
        commands: Vec::new(),
        points: Vec::new(),
    })
}

/// `point NAME QUANTITY "中文" [code=名称 …]`
fn point(device: &DeviceId, words: &[String]) -> Result<Point, String> {
    let [_, name, quantity, title, states @ ..] = words else {
        return Err("point NAME QUANTITY TITLE".into());
    };
    let states = states.iter().filter_map(|word| word.split_once('='));
    Ok(Point {
        id: PointId::new(device, name).map_err(|e| e.to_string())?,
        class: ClassId::parse("test").unwrap(),
        name: Text::new(title, name),
        quantity: Quantity::parse(quantity).ok_or_else(|| format!("{quantity:?} is no quantity"))?,
        range: None,
        states: states.map(|(code, name)| (code.into(), Text::new(name, code))).collect(),
        decimals: 1,
        rules: Vec::new(),
    })
}

/// `rule ID CLASS PRIORITY CONDITION [deadband N] [on SPAN] [off SPAN] [latching] "TITLE" "BASIS"`
fn rule(words: &[String]) -> Result<Rule, String> {
    let [_, id, class, priority, kind, ..] = words else {
        return Err("rule ID CLASS PRIORITY CONDITION".into());
    };
    let deadband = words_after(words, "deadband").map_or(Ok(Number::ZERO), |text| number(Some(text)))?;
    let delay = |key: &str| match words_after(words, key) {
        Some(text) => span(text).ok_or_else(|| format!("{text:?} is no span")),
        None => Ok(Span::ZERO),
    };
    let argument = words.get(5);
    let condition = match kind.as_str() {
        "at_least" => Condition::AtLeast { limit: number(argument)?, deadband },
        "below" => Condition::Below { limit: number(argument)?, deadband },
        "one_of" => {
            let codes = argument.ok_or("one_of needs a state")?;
            Condition::OneOf(codes.split('|').map(Into::into).collect())
        }
        "is" => Condition::Is(argument.is_some_and(|word| word == "true")),
        "silent" => Condition::Silent { after: argument.and_then(|text| span(text)).ok_or("silent SPAN")? },
        "unusable" => Condition::Unusable,
        other => return Err(format!("{other:?} is no condition")),
    };
    let [.., title, basis] = words else { return Err("a rule needs a title and a basis".into()) };
    Ok(Rule {
        id: RuleId::parse(id).map_err(|e| e.to_string())?,
        condition,
        signal: SignalClass::parse(class).ok_or_else(|| format!("{class:?} is no signal class"))?,
        priority: Priority::parse(priority).ok_or_else(|| format!("{priority:?} is no priority"))?,
        on_delay: delay("on")?,
        off_delay: delay("off")?,
        latching: words.iter().any(|word| word == "latching"),
        title: Text::new(title, id),
        basis: basis.as_str().into(),
    })
}
