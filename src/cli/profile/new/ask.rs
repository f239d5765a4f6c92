//! `fengsui profile new` by questions and answers: a line each, so that they can be piped as well. The end of the input ends
//! a list; what is missing then has its default.

use super::talk::Talk;
use super::{Ended, New};
use crate::cli::known::say;
use crate::profile::drafting::{
    Drafted, Identity, MessagePick, Point, REGISTER_TYPES, Refused, RegisterPick, Sampled, Seen,
    draft_messages, draft_points, draft_registers, encode,
};
use crate::profile::{TopicPattern, Vocabulary, WordOrder, WordType};
use serde_json::{Map, Value};
use std::fmt::Write;

/// Points that one person types.
const POINTS_MAX: usize = 64;

pub(super) fn draft(
    arguments: &New,
    vocabulary: &Vocabulary,
    out: &mut String,
) -> Result<Result<Drafted, Refused>, Ended> {
    let mut talk = Talk::new(vocabulary);
    let mut identity = arguments.identity();
    talk.identity(&mut identity);
    let drafted = match talk.choice("通信方式 transport：1 mqtt，2 modbus", &["mqtt", "modbus"]) {
        0 => talk.mqtt(identity),
        _ => talk.modbus(identity),
    };
    drafted.ok_or_else(|| {
        _ = writeln!(out, "✗ 没有测点，什么也没有写 / there is no point, and nothing was written");
        Ended(super::EXIT_REFUSED)
    })
}

impl Talk<'_> {
    fn mqtt(&mut self, identity: Identity) -> Option<Result<Drafted, Refused>> {
        let topic = loop {
            let question = "主题，代表设备的一级写成 {address}，如 site/{site}/device/{address}/up topic";
            let topic = self.or(question, "site/{site}/device/{address}/up");
            match TopicPattern::parse(&topic) {
                Ok(_) => break topic,
                Err(why) => say(&format!("主题写错了 / {why}\n")),
            }
        };
        let mut samples = Vec::new();
        while samples.len() < POINTS_MAX {
            let payload = self.ask("贴一条真实报文；没有就回车 paste a message as it came; Enter: no more");
            if payload.is_empty() {
                break;
            }
            samples.push(Sampled { topic: topic.clone(), payload: payload.into_bytes(), at: None });
        }
        if samples.is_empty() { self.fields(identity, topic) } else { self.messages(identity, &samples) }
    }

    /// Points that were found in messages, and what a person says of them.
    fn messages(&mut self, identity: Identity, samples: &[Sampled]) -> Option<Result<Drafted, Refused>> {
        let mut picks: Vec<MessagePick> = Vec::new();
        let mut drafted = draft_messages(identity.clone(), samples, &picks, self.vocabulary);
        loop {
            match &drafted {
                Ok(drafted) => {
                    let lines = drafted.text.lines();
                    let told = lines.filter(|line| {
                        ["name = \"", "class =", "from ="].iter().any(|key| line.starts_with(key))
                    });
                    say(&told.map(|line| format!("  {line}\n")).collect::<String>());
                    say(&drafted.told.iter().map(|line| format!("  ! {line}\n")).collect::<String>());
                }
                Err(Refused { why, seen }) => {
                    say(&format!(
                        "{why}\n{}",
                        seen.iter().map(|line| format!("  {line}\n")).collect::<String>()
                    ));
                }
            }
            let path = self.ask("要改或要加的路径；没有就回车 a path to change or to add; Enter: done");
            if path.is_empty() || picks.len() >= POINTS_MAX {
                return Some(drafted);
            }
            let class =
                if self.or("保留吗 keep it: y, n", "y") == "n" { None } else { Some(self.class()?) };
            let unit = class.and_then(|class| self.unit(class));
            let class = class.map_or("-".to_owned(), |class| class.id.to_string());
            picks.retain(|pick| pick.path != path);
            picks.push(MessagePick { path, class, unit });
            let fresh = draft_messages(identity.clone(), samples, &picks, self.vocabulary);
            if let Err(Refused { why, .. }) = &fresh {
                say(&format!("{why}\n"));
                picks.pop();
            }
            drafted = draft_messages(identity.clone(), samples, &picks, self.vocabulary);
        }
    }

    /// Points without any message to look at.
    fn fields(&mut self, identity: Identity, topic: String) -> Option<Result<Drafted, Refused>> {
        let mut points: Vec<Point> = Vec::new();
        let mut values: Vec<(Vec<String>, Vec<Value>)> = Vec::new();
        while points.len() < POINTS_MAX {
            let path = self
                .ask("测点的 JSON 路径，如 smoke 或 data.t；没有就回车 JSON path of a point; Enter: no more");
            if path.is_empty() {
                break;
            }
            let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
            let clash = |known: &[String]| known.starts_with(&steps) || steps.starts_with(known);
            if path.contains(['[', ']', '"'])
                || steps.iter().any(String::is_empty)
                || values.iter().any(|(known, _)| clash(known))
            {
                say("路径写成 a.b，每个一次 / write a path such as a.b, each once\n");
                continue;
            }
            let Some(class) = self.class() else { break };
            let mut point = Point {
                name: steps.last().cloned().unwrap_or_default(),
                class: class.id.to_string(),
                from: format!("json = {path:?}"),
                ..Point::default()
            };
            let examples = if class.quantity.is_numeric() {
                point.unit = self.unit(class);
                point.scale = self.scale();
                self.numbers(class).map(Value::from).to_vec()
            } else {
                point.codes = self.codes(class);
                point.codes.iter().map(|(raw, _)| as_json(raw)).collect()
            };
            values.push((steps, examples));
            points.push(point);
        }
        if points.is_empty() {
            return None;
        }
        let rounds = values.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
        let message = |round: usize| {
            let mut message = Value::Object(Map::new());
            for (steps, values) in &values {
                // Every point has two examples at least.
                if let Some(value) = values.get(round % values.len().max(1)) {
                    put(&mut message, steps, value);
                }
            }
            message.to_string()
        };
        let inputs = (0..rounds).map(message).collect();
        let mqtt = (vec![topic], String::new());
        Some(draft_points(identity, mqtt, points, inputs, String::new(), self.vocabulary))
    }

    fn modbus(&mut self, identity: Identity) -> Option<Result<Drafted, Refused>> {
        let mut picks: Vec<RegisterPick> = Vec::new();
        let mut seen: Vec<Seen> = Vec::new();
        while picks.len() < POINTS_MAX {
            let place = self.ask(
                "表和地址（线上的数，从 0 起），如 holding@4、input@0、coil@1、discrete@2；没有就回车 table and address on the wire; Enter: no more",
            );
            if place.is_empty() {
                break;
            }
            let is_bit = place.starts_with("coil") || place.starts_with("discrete");
            let kind = if is_bit {
                String::new()
            } else {
                self.or(&format!("类型 type: {}", REGISTER_TYPES.join(" ")), "u16")
            };
            let orders = WordOrder::ALL.map(WordOrder::name);
            let two = WordType::parse(&kind).is_some_and(|kind| kind.words() == 2);
            let order = if two {
                let chosen = self
                    .choice(&format!("字序 word order: {}（回车 Enter: ABCD）", orders.join(" ")), &orders);
                orders.get(chosen).copied().unwrap_or_default()
            } else {
                ""
            };
            let Some(class) = self.class() else { break };
            let mut pick =
                match RegisterPick::parse(&format!("{place} {kind} {order} {}", class.id), self.vocabulary) {
                    Ok(pick) => pick,
                    Err(why) => {
                        say(&format!("{why}\n"));
                        continue;
                    }
                };
            let raws: Vec<f64> = if class.quantity.is_numeric() {
                pick.unit = self.unit(class);
                pick.scale = self.scale();
                self.numbers(class).to_vec()
            } else {
                pick.codes = self.codes(class);
                pick.codes.iter().filter_map(|(raw, _)| raw.parse().ok()).collect()
            };
            let kind = pick.kind.unwrap_or(WordType::U16);
            let order = pick.order.unwrap_or(WordOrder::Abcd);
            let words: Vec<Vec<u16>> = raws.iter().filter_map(|raw| encode(*raw, kind, order)).collect();
            let (Some(first), true) = (words.first(), words.len() == raws.len() && !words.is_empty()) else {
                say("示例值放不进这种类型：线上的值是整数（f32 除外）/ the values do not fit the type\n");
                continue;
            };
            if class.quantity.is_numeric() {
                pick.more = raws.get(1..).unwrap_or_default().to_vec();
            }
            seen.push(Seen { table: pick.table, start: pick.address, words: first.clone() });
            picks.push(pick);
        }
        (!picks.is_empty()).then(|| draft_registers(identity, &seen, &picks, true, self.vocabulary))
    }
}

/// A raw value as JSON: a number or true where it looks like one.
fn as_json(raw: &str) -> Value {
    match serde_json::from_str(raw) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::from(raw),
    }
}

fn put(message: &mut Value, steps: &[String], value: &Value) {
    let Some((step, rest)) = steps.split_first() else {
        *message = value.clone();
        return;
    };
    if let Some(fields) = message.as_object_mut() {
        put(fields.entry(step.clone()).or_insert_with(|| Value::Object(Map::new())), rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_at_their_paths_as_the_wire_has_them() {
        let mut message = Value::Object(Map::new());
        put(&mut message, &["a".into(), "b".into()], &as_json("1"));
        put(&mut message, &["a".into(), "c".into()], &as_json("ON"));
        assert_eq!(message.to_string(), r#"{"a":{"b":1,"c":"ON"}}"#);
        assert_eq!(as_json("true"), Value::Bool(true));
    }
}
