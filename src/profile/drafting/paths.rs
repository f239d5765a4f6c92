//! FRAMES → READINGS, drafting: every single value in messages, by its path, with what it was.

use super::super::json::Paths;
use super::super::writing::{Step, written};
use serde_json::{Map, Value};

/// Paths that are looked at. The richest known message has about 80 values.
const PATHS_MAX: usize = 200;
/// Different values kept of one path: more than any code has.
const VALUES_MAX: usize = 32;
/// Elements of an array that are looked into; a longer one is a list, not fields.
const ITEMS_MAX: usize = 4;
/// As deep as a profile's path may go.
const DEPTH_MAX: usize = 8;
/// Of an array of receivers (ChirpStack, The Things Stack) the strongest counts: by this number.
const STRONGEST: &str = "rssi";
/// Keys by which the elements of an array are devices of their own.
const ID_KEYS: [&str; 10] =
    ["id", "addr", "address", "sn", "imei", "mac", "devid", "dev_id", "deviceid", "no"];

/// A path and what was seen there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) path: Vec<Step>,
    /// As a profile writes it; empty: the whole message.
    pub(super) text: String,
    /// On which topics.
    pub(super) topics: Vec<usize>,
    /// In the order of their first coming, each once.
    pub(super) values: Vec<Value>,
    /// How often.
    pub(super) count: usize,
    /// There were more values than are kept.
    pub(super) more: bool,
}

/// Every path of the messages.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) seen: Vec<Seen>,
    /// Arrays whose elements look like devices, and paths that a profile cannot write.
    pub(super) left: Vec<String>,
    trie: Paths,
}

impl Found {
    /// Looks through a message of that topic.
    pub(super) fn add(&mut self, topic: usize, message: &Value) {
        self.walk(topic, &mut Vec::new(), message);
    }

    /// A message that is one value.
    pub(super) fn add_text(&mut self, topic: usize, value: Value) {
        let room = self.seen.len() < PATHS_MAX;
        match self.seen.iter_mut().find(|seen| seen.path.is_empty() && seen.topics == [topic]) {
            Some(seen) => seen.add(value),
            None if room => self.seen.push(Seen::new(Vec::new(), String::new(), topic, value)),
            None => {}
        }
    }

    fn walk(&mut self, topic: usize, path: &mut Vec<Step>, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    path.push(Step::Key(key.clone()));
                    self.walk(topic, path, value);
                    path.pop();
                }
            }
            Value::Array(items) => self.walk_items(topic, path, items),
            _ => self.scalar(topic, path, value),
        }
    }

    fn walk_items(&mut self, topic: usize, path: &mut Vec<Step>, items: &[Value]) {
        let objects: Vec<&Map<String, Value>> = items.iter().filter_map(Value::as_object).collect();
        let is_id = |key: &String| ID_KEYS.contains(&key.to_lowercase().as_str());
        if objects.iter().any(|object| object.keys().any(is_id))
            && !objects.iter().any(|object| object.contains_key(STRONGEST))
        {
            return self.leave(&format!(
                "数组 {} 里像是多台设备：照 README 的 [mqtt.each] 改写 an array of devices: see [mqtt.each]",
                written(path)
            ));
        }
        if !objects.is_empty() && objects.iter().all(|object| object.contains_key(STRONGEST)) {
            if let Some(strongest) = strongest(items) {
                path.push(Step::Max(STRONGEST));
                self.walk(topic, path, strongest);
                path.pop();
            }
            return;
        }
        for (place, item) in items.iter().take(ITEMS_MAX).enumerate() {
            path.push(Step::Item(place));
            self.walk(topic, path, item);
            path.pop();
        }
    }

    fn scalar(&mut self, topic: usize, path: &[Step], value: &Value) {
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.path == path) {
            if !seen.topics.contains(&topic) {
                seen.topics.push(topic);
            }
            return seen.add(value.clone());
        }
        let text = written(path);
        let is_odd = |step: &Step| matches!(step, Step::Key(key) if key.is_empty() || key.contains("\"]"));
        if path.len() > DEPTH_MAX || path.is_empty() || path.iter().any(is_odd) {
            return self.leave(&format!("路径写不出来 no path can say where it is: {text}"));
        }
        if self.seen.len() >= PATHS_MAX {
            return self.leave(&format!("多于 {PATHS_MAX} 个字段，其余未看 more than {PATHS_MAX} fields"));
        }
        if let Err(wrong) = self.trie.add(&text) {
            return self.leave(&format!("取值路径与另一项冲突 {wrong}"));
        }
        self.seen.push(Seen::new(path.to_vec(), text, topic, value.clone()));
    }

    fn leave(&mut self, why: &str) {
        if self.left.len() < PATHS_MAX && !self.left.iter().any(|left| left == why) {
            self.left.push(why.to_owned());
        }
    }
}

impl Seen {
    fn new(path: Vec<Step>, text: String, topic: usize, value: Value) -> Self {
        let mut seen = Self { path, text, topics: vec![topic], values: Vec::new(), count: 0, more: false };
        seen.add(value);
        seen
    }

    fn add(&mut self, value: Value) {
        self.count += 1;
        if self.values.len() >= VALUES_MAX {
            self.more |= !self.values.contains(&value);
        } else if !self.values.contains(&value) {
            self.values.push(value);
        }
    }

    /// The keys from the last one to the first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.path
            .iter()
            .rev()
            .filter_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None })
    }

    /// A few of its values, for a person.
    pub(super) fn shown(&self) -> String {
        /// Enough to see what it is.
        const SHOWN: usize = 6;
        let values: Vec<String> = self.values.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = if self.more || self.values.len() > SHOWN { " …" } else { "" };
        format!("{}{more}", values.join(", "))
    }
}

/// The first element with the largest number.
fn strongest(items: &[Value]) -> Option<&Value> {
    let loudness = |item: &Value| item.get(STRONGEST).and_then(Value::as_f64);
    let loudest = items.iter().filter_map(loudness).max_by(f64::total_cmp)?;
    items.iter().find(|item| loudness(item) == Some(loudest))
}

/// The value at a path.
pub(super) fn lookup<'m>(message: &'m Value, path: &[Step]) -> Option<&'m Value> {
    path.iter().try_fold(message, |value, step| match step {
        Step::Key(key) => value.get(key.as_str()),
        Step::Item(item) => value.get(*item),
        Step::Max(_) => strongest(value.as_array()?),
    })
}

/// Puts a value at a path where there is one already.
pub(super) fn replace(message: &mut Value, path: &[Step], raw: &Value) -> bool {
    let Some((step, rest)) = path.split_first() else {
        *message = raw.clone();
        return true;
    };
    let inner = match step {
        Step::Key(key) => message.get_mut(key.as_str()),
        Step::Item(item) => message.get_mut(*item),
        Step::Max(_) => message.as_array_mut().and_then(|items| {
            let place = items.iter().position(|item| Some(item) == strongest(items))?;
            items.get_mut(place)
        }),
    };
    inner.is_some_and(|inner| replace(inner, rest, raw))
}
