//! FRAMES → READINGS, JSON: finds the values at a profile's paths in one pass, without building a tree.
//!
//! The paths of a profile are compiled into one trie. A message is walked once; objects and arrays off the paths
//! are skipped by serde_json's iterative skipper, so neither depth nor size of the rest costs memory, and the
//! recursion here is as deep as the deepest path ([`PATH_STEPS_MAX`]), whatever the message does.

use super::meaning::Raw;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The longest path: ChirpStack's deepest, `rxInfo[0].metadata.region_config_id`, has four steps.
const PATH_STEPS_MAX: usize = 8;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
    /// `[max rssi]`: of an array, the element in which the number at that path is the largest.
    Max(String),
}

/// How `[max …]` begins.
const MAX: &str = "max ";

/// Every path that one topic's points read, as a trie. Slots are numbered in the order of [`Paths::add`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Paths {
    root: Node,
    slots: usize,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Node {
    keys: Vec<(String, Node)>,
    items: Vec<(usize, Node)>,
    largest: Vec<Largest>,
    slot: Option<usize>,
}

/// What is looked for in the element of an array in which one number is the largest.
#[derive(Debug, Clone, PartialEq)]
struct Largest {
    /// By the number at this path, the only one of these.
    by: String,
    number: Paths,
    node: Node,
}

impl Paths {
    /// Adds a path such as `a.b[0].c` or `ENERGY["x.y"]` and gives its slot; the same path gets the same slot.
    pub(super) fn add(&mut self, path: &str) -> Result<usize, String> {
        let mut node = &mut self.root;
        for step in parse_path(path)? {
            if node.slot.is_some() {
                return Err(format!(
                    "路径 {path:?} 穿过了另一个测点读取的值 / {path:?} goes through a value that another point reads"
                ));
            }
            node = match step {
                Step::Key(key) => child(&mut node.keys, key),
                Step::Item(item) => child(&mut node.items, item),
                Step::Max(by) => largest(&mut node.largest, by)?,
            };
        }
        if !node.keys.is_empty() || !node.items.is_empty() || !node.largest.is_empty() {
            return Err(format!(
                "路径 {path:?} 是一个对象，另一个测点读它里面的值 / {path:?} is an object that another point looks into"
            ));
        }
        let slot = *node.slot.get_or_insert(self.slots);
        self.slots = self.slots.max(slot + 1);
        Ok(slot)
    }

    /// The values at the paths, by slot; `None` where the message has no such field. The error is serde_json's.
    pub(super) fn find<'m>(&self, message: &'m str) -> Result<Vec<Option<&'m RawValue>>, serde_json::Error> {
        let mut found = vec![None; self.slots];
        let mut deserializer = serde_json::Deserializer::from_str(message);
        Walk { node: &self.root, found: &mut found }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(found)
    }
}

/// The names that programs give to what is no number and that JSON does not know: Python's, C's, JavaScript's.
const NO_NUMBERS: [(&str, &str); 6] = [
    ("-infinity", "\"-inf\""),
    ("infinity", "\"inf\""),
    ("-inf", "\"-inf\""),
    ("inf", "\"inf\""),
    ("-nan", "\"nan\""),
    ("nan", "\"nan\""),
];

/// The message with such values written as texts, so that a broken thermometer does not take the smoke detector beside
/// it along; `None` when there is none. Only for messages that are no JSON: it copies them.
pub(super) fn quote_no_numbers(message: &str) -> Option<String> {
    let (mut quoted, mut copied, mut at) = (String::new(), 0, 0);
    let (mut inside, mut value_may_start) = (false, true);
    while let Some(&byte) = message.as_bytes().get(at) {
        let mut step = 1;
        match byte {
            b'\\' if inside => step = 2,
            b'"' => inside = !inside,
            _ if inside => {}
            _ if value_may_start && matches!(byte, b'-' | b'i' | b'I' | b'n' | b'N') => {
                let rest = &message.as_bytes()[at..];
                let named = |(name, _): &&(&str, &str)| {
                    rest.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name.as_bytes()))
                };
                if let Some((name, text)) = NO_NUMBERS.iter().find(named) {
                    quoted.push_str(message.get(copied..at)?);
                    quoted.push_str(text);
                    step = name.len();
                    copied = at + step;
                }
            }
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            value_may_start = !inside && matches!(byte, b':' | b',' | b'[');
        }
        at += step;
    }
    (copied > 0).then(|| quoted + message.get(copied..).unwrap_or(""))
}

/// Gives a message and the values at its paths to `read`, also one in which words such as NaN stand; the error is in Chinese.
pub(super) fn find_repaired<T>(
    paths: &Paths,
    message: &str,
    read: &mut dyn FnMut(&str, &[Option<&RawValue>]) -> T,
) -> Result<T, String> {
    let error = match paths.find(message) {
        Ok(found) => return Ok(read(message, &found)),
        Err(error) => format!("不是有效的 JSON：{error}"),
    };
    let Some(repaired) = quote_no_numbers(message) else { return Err(error) };
    match paths.find(&repaired) {
        Ok(found) => Ok(read(&repaired, &found)),
        Err(_) => Err(error),
    }
}

fn child<K: PartialEq>(children: &mut Vec<(K, Node)>, key: K) -> &mut Node {
    let place = children.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        children.push((key, Node::default()));
        children.len() - 1
    });
    &mut children[place].1
}

fn largest(known: &mut Vec<Largest>, by: String) -> Result<&mut Node, String> {
    let place = match known.iter().position(|one| one.by == by) {
        Some(place) => place,
        None => {
            let mut number = Paths::default();
            number.add(&by)?;
            known.push(Largest { by, number, node: Node::default() });
            known.len() - 1
        }
    };
    Ok(&mut known[place].node)
}

fn parse_path(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[\"") {
            let (key, after) = after
                .split_once("\"]")
                .ok_or_else(|| format!("路径 {path:?} 的 [\" 没有闭合 / {path:?}: [\" is not closed"))?;
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (item, after) = after
                .split_once(']')
                .ok_or_else(|| format!("路径 {path:?} 的 [ 没有闭合 / {path:?}: [ is not closed"))?;
            steps.push(match item.strip_prefix(MAX) {
                Some(by) => Step::Max(by.trim().to_owned()),
                None => Step::Item(item.parse().map_err(|_| {
                    format!("路径 {path:?} 中 {item:?} 不是数组下标 / {path:?}: {item:?} is no array index")
                })?),
            });
            rest = after;
        } else {
            let key = rest.strip_prefix('.').filter(|_| !steps.is_empty()).unwrap_or(rest);
            let end = key.find(['.', '[']).unwrap_or(key.len());
            let (key, after) = key.split_at(end);
            if key.is_empty() {
                return Err(format!("路径 {path:?} 中有空的一级 / {path:?} has an empty step"));
            }
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        }
    }
    match steps.len() {
        0 => Err("路径是空的 / the path is empty".to_owned()),
        count if count > PATH_STEPS_MAX => Err(format!(
            "路径 {path:?} 超过 {PATH_STEPS_MAX} 级 / {path:?} has more than {PATH_STEPS_MAX} steps"
        )),
        _ => Ok(steps),
    }
}

/// A JSON value as the profile sees it.
pub(super) fn raw(value: &RawValue) -> Raw<'_> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => Raw::Text(Cow::Borrowed(plain)),
            _ => serde_json::from_str(text).map_or(Raw::Other, |text: String| Raw::Text(Cow::Owned(text))),
        },
        Some(b't') => Raw::Flag(true),
        Some(b'f') => Raw::Flag(false),
        Some(b'n') => Raw::Null,
        Some(b'-' | b'0'..=b'9') => text.parse().map_or(Raw::Other, Raw::Number),
        _ => Raw::Other,
    }
}

struct Walk<'w, 'm> {
    node: &'w Node,
    found: &'w mut [Option<&'m RawValue>],
}

impl<'m> DeserializeSeed<'m> for Walk<'_, 'm> {
    type Value = ();

    fn deserialize<D: Deserializer<'m>>(self, deserializer: D) -> Result<(), D::Error> {
        let Some(slot) = self.node.slot else { return deserializer.deserialize_any(self) };
        let value = <&RawValue>::deserialize(deserializer)?;
        if let Some(place) = self.found.get_mut(slot) {
            *place = Some(value);
        }
        Ok(())
    }
}

impl<'m> Visitor<'m> for Walk<'_, 'm> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'m>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Key(self.node))? {
            match child {
                Some(node) => map.next_value_seed(Walk { node, found: &mut *self.found })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'m>>(self, mut items: A) -> Result<(), A::Error> {
        if !self.node.largest.is_empty() {
            return self.visit_largest(items);
        }
        for index in 0usize.. {
            let more = match self.node.items.iter().find(|(known, _)| *known == index) {
                Some((_, node)) => items.next_element_seed(Walk { node, found: &mut *self.found })?.is_some(),
                None => items.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    // A plain value where the path wanted an object: the field is simply not there.
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

impl<'m> Walk<'_, 'm> {
    /// An array of which the element with the largest number is looked into, and perhaps some by their places.
    fn visit_largest<A: SeqAccess<'m>>(self, mut items: A) -> Result<(), A::Error> {
        let mut best: Vec<Option<(f64, &'m RawValue)>> = vec![None; self.node.largest.len()];
        let mut index = 0;
        while let Some(item) = items.next_element::<&'m RawValue>()? {
            if let Some((_, node)) = self.node.items.iter().find(|(known, _)| *known == index) {
                walk_into(item, node, self.found).map_err(serde::de::Error::custom)?;
            }
            for (one, best) in self.node.largest.iter().zip(&mut best) {
                // Without the number it is the last choice, and with equal ones the first counts.
                let number = one.number_of(item).unwrap_or(f64::NEG_INFINITY);
                if best.is_none_or(|(largest, _)| number > largest) {
                    *best = Some((number, item));
                }
            }
            index += 1;
        }
        for (one, best) in self.node.largest.iter().zip(best) {
            let Some((_, item)) = best else { continue };
            walk_into(item, &one.node, self.found).map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}

impl Largest {
    fn number_of(&self, item: &RawValue) -> Option<f64> {
        match self.number.find(item.get()).ok()?.first().copied().flatten().map(raw) {
            Some(Raw::Number(number)) => Some(number),
            _ => None,
        }
    }
}

fn walk_into<'m>(
    item: &'m RawValue,
    node: &Node,
    found: &mut [Option<&'m RawValue>],
) -> Result<(), serde_json::Error> {
    Walk { node, found }.deserialize(&mut serde_json::Deserializer::from_str(item.get()))
}

/// Reads an object's key and says which child of the node it leads to.
struct Key<'w>(&'w Node);

impl<'m, 'w> DeserializeSeed<'m> for Key<'w> {
    type Value = Option<&'w Node>;
    fn deserialize<D: Deserializer<'m>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for Key<'w> {
    type Value = Option<&'w Node>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.keys.iter().find(|(known, _)| known == key).map(|(_, node)| node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(paths: &[&str], message: &str) -> Vec<Option<String>> {
        let mut trie = Paths::default();
        let slots: Vec<usize> = paths.iter().map(|path| trie.add(path).unwrap()).collect();
        let found = trie.find(message).unwrap();
        slots.into_iter().map(|slot| found[slot].map(|value| value.get().to_owned())).collect()
    }

    #[test]
    fn values_are_found_at_their_paths() {
        let message =
            r#"{"x":[[1],{"y":2}],"a":{"b":[{"c":1.5},{"c":"t"}]},"smoke":true,"k.k":null,"a2":{}}"#;
        let found =
            values(&["a.b[1].c", "smoke", "[\"k.k\"]", "x[1].y", "a.missing", "smoke.deeper"][..5], message);
        let expected = [Some("\"t\""), Some("true"), Some("null"), Some("2"), None];
        assert_eq!(found, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn of_an_array_the_element_with_the_largest_number_is_found() {
        let paths = ["rx[max rssi].rssi", "rx[max rssi].snr", "rx[0].rssi", "rx[max a.b].snr"];
        let found = |rx: &str| {
            let found = values(&paths, &format!(r#"{{"rx":{rx},"z":1}}"#));
            found.into_iter().map(|value| value.unwrap_or_default()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            found(
                r#"[{"rssi":-120,"snr":1},{"rssi":-48,"snr":9.5},{"snr":7,"a":{"b":0}},{"rssi":-48,"snr":2}]"#
            ),
            "-48 9.5 -120 7"
        );
        assert_eq!(found(r#"[{"snr":3}]"#), " 3  3");
        assert_eq!(found(r#"[]"#), "   ");
        assert_eq!(found(r#"[7,null,"x",[{"rssi":1}],{"rssi":"y","snr":4}]"#), "   ");
        assert_eq!(found(r#"{"rssi":-48}"#), "   ");
    }

    #[test]
    fn an_absurd_number_spoils_only_itself() {
        let mut trie = Paths::default();
        let (smoke, temperature) = (trie.add("smoke").unwrap(), trie.add("t").unwrap());
        let found = trie.find(r#"{"t":1e999,"smoke":1}"#).unwrap();
        assert_eq!(raw(found[smoke].unwrap()), Raw::Number(1.0));
        assert_eq!(raw(found[temperature].unwrap()), Raw::Number(f64::INFINITY));
    }

    #[test]
    fn a_deep_message_is_skipped_without_deep_recursion() {
        let depth = 1_000_000;
        let message = format!("{{\"junk\":{}{},\"smoke\":1}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(values(&["smoke"], &message), [Some("1".to_owned())]);
    }

    #[test]
    fn a_path_that_cannot_be_is_refused() {
        for bad in ["", ".a", "a..b", "a[", "a[x]", "a[\"b", "a[max ]", "a[max .]", "a.b.c.d.e.f.g.h.i"] {
            assert!(Paths::default().add(bad).is_err(), "{bad:?} was accepted");
        }
        let mut trie = Paths::default();
        trie.add("a.b").unwrap();
        assert!(trie.add("a").is_err() && trie.add("a.b.c").is_err());
    }
}
