//! FRAMES → READINGS, announcements: from entities to the text of a profile, with examples made of what the
//! announcement promises, and a list of what is left for a person.

use super::super::json::Paths;
use super::super::writing::{Step, quoted, slug, written};
use super::read::{AnnouncedDevice, Availability, Entity};
use super::{ENTITIES_MAX, one_line};
use crate::model::Quantity;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The longest array that an example is given for the sake of one of its items.
const ITEMS_MAX: usize = 16;

/// A shorter name that is found inside another one is found by chance.
const NAME_BYTES_MIN: usize = 6;

/// Levels that the topics of all the world's devices have.
const COMMON_LEVELS: [&str; 9] =
    ["sensor", "binary_sensor", "status", "state", "stat", "tele", "config", "homeassistant", "zigbee2mqtt"];

/// What an announcement comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// `vendor/model`, as the file would be called.
    pub profile: String,
    /// What stands for the device in its topics; empty when nothing does.
    pub address: String,
    /// The profile file; empty when nothing could be translated.
    pub text: String,
    /// What could not be translated, a sentence each, in Chinese.
    pub untranslated: Vec<String>,
}

/// How an entity becomes a point.
enum Meaning {
    /// A state with its two codes.
    State {
        on: &'static str,
        off: &'static str,
    },
    Flag,
    Number {
        unit: String,
        examples: [f64; 2],
    },
}

/// One point of the draft.
struct Point<'e> {
    entity: &'e Entity,
    name: String,
    class: &'static str,
    meaning: Meaning,
    topic: usize,
    /// Where in the JSON; `None`: the message is the value.
    path: Option<Vec<Step>>,
}

impl Proposal {
    /// Drafts a profile for a device from all that it announced.
    pub fn of(device: &AnnouncedDevice, entities: &[Entity]) -> Self {
        let mut draft =
            Draft { device, topics: vec![], address: None, points: vec![], availability: None, left: vec![] };
        draft.address = draft.find_address(entities);
        for entity in entities.iter().take(ENTITIES_MAX) {
            if let Err(why) = draft.add(entity, entities) {
                let name = if entity.name.is_empty() { &entity.object } else { &entity.name };
                draft.left.push(format!("{}“{name}”：{why}", entity.component));
            }
        }
        if !draft.points.is_empty() {
            draft.find_availability(entities);
        }
        let vendor = slug(&device.vendor, "vendor");
        let model = slug(if device.model.is_empty() { &device.name } else { &device.model }, "model");
        let text = if draft.points.is_empty() { String::new() } else { draft.text(entities) };
        let address = draft.address.as_ref().map(|(address, _)| address.clone()).unwrap_or_default();
        Self { profile: format!("{vendor}/{model}"), address, text, untranslated: draft.left }
    }
}

struct Draft<'e> {
    device: &'e AnnouncedDevice,
    topics: Vec<String>,
    /// The level of the topics that stands for the device, and whether it is only a guess.
    address: Option<(String, bool)>,
    points: Vec<Point<'e>>,
    /// What the draft says of where the device's presence is told.
    availability: Option<String>,
    left: Vec<String>,
}

impl<'e> Draft<'e> {
    /// A level of the topics that is one of the device's names for itself; else, as a guess, the second level of a
    /// topic (`zigbee2mqtt/name`), or the first.
    fn find_address(&self, entities: &[Entity]) -> Option<(String, bool)> {
        let topics = || entities.iter().filter_map(|entity| entity.state_topic.as_deref());
        // How surely a level is the device: it is one of its names, holds one, or is a part of one.
        let likeness = |level: &str| {
            let level = level.to_lowercase();
            let likeness = |identity: &String| {
                let identity = identity.to_lowercase();
                match () {
                    () if level == identity => 3,
                    () if identity.len() >= NAME_BYTES_MIN && level.contains(&identity) => 2,
                    () if level.len() >= NAME_BYTES_MIN && identity.contains(&level) => 1,
                    () => 0,
                }
            };
            self.device.identities.iter().map(likeness).max().unwrap_or(0)
        };
        let levels = topics().flat_map(|topic| topic.split('/'));
        let levels = levels.filter(|level| !level.is_empty() && !COMMON_LEVELS.contains(level));
        let own = levels.map(|level| (likeness(level), level.len(), level)).max();
        if let Some((1.., _, level)) = own {
            return Some((level.to_owned(), false));
        }
        let mut levels = topics().next()?.split('/').filter(|level| !level.is_empty());
        let (first, second) = (levels.next()?, levels.next());
        let guess = if levels.next().is_some() { first } else { second.unwrap_or(first) };
        Some((guess.to_owned(), true))
    }

    fn add(&mut self, entity: &'e Entity, all: &[Entity]) -> Result<(), String> {
        let (class, meaning) = translate(entity, all)?;
        let topic = entity.state_topic.as_deref().ok_or("没有 state_topic，设备不上报它")?;
        let path = match entity.template.as_deref() {
            None => None,
            Some(template) => {
                value_path(template).ok_or_else(|| format!("模板 {} 不是简单取值", shown(template)))?
            }
        };
        let pattern = self.pattern(topic)?;
        let place = self.topics.iter().position(|known| *known == pattern);
        let topic = place.unwrap_or(self.topics.len());
        let of_topic = || self.points.iter().filter(|point| point.topic == topic);
        // One value cannot be an example of two meanings; which of them is right a person decides.
        if of_topic().any(|point| point.path == path) {
            return Err("与另一项读同一个值".to_owned());
        }
        if of_topic().any(|point| point.path.is_none() != path.is_none()) {
            return Err("同一主题既当 JSON 又当纯文本".to_owned());
        }
        let paths = of_topic().filter_map(|point| point.path.as_deref()).chain(path.as_deref());
        let mut trie = Paths::default();
        if paths.map(written).any(|path| trie.add(&path).is_err()) {
            return Err("取值路径与另一项冲突".to_owned());
        }
        if place.is_none() {
            self.topics.push(pattern);
        }
        let name = self.free_name(&entity.object, path.as_deref());
        self.points.push(Point { entity, name, class, meaning, topic, path });
        Ok(())
    }

    /// The topic with the address replaced.
    fn pattern(&self, topic: &str) -> Result<String, String> {
        let Some((address, _)) = &self.address else {
            return Err("主题里没有代表设备的一级".to_owned());
        };
        if topic.contains(['{', '}', '+', '#']) || topic.split('/').count() > 32 {
            return Err(format!("主题 {} 不能用", shown(topic)));
        }
        let mut levels: Vec<&str> = topic.split('/').collect();
        let Some(level) = levels.iter_mut().find(|level| **level == address.as_str()) else {
            return Err(format!("主题 {} 里没有地址 {}", shown(topic), shown(address)));
        };
        *level = "{address}";
        Ok(levels.join("/"))
    }

    /// A slug after the value's own name, or its object id.
    fn free_name(&self, object: &str, path: Option<&[Step]>) -> String {
        let last = path.and_then(|path| {
            path.iter()
                .rev()
                .find_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None })
        });
        let name = slug(last.unwrap_or(object), "point");
        let taken = |name: &str| name == "link" || self.points.iter().any(|point| point.name == name);
        (1..)
            .map(|n| if n == 1 { name.clone() } else { format!("{name}-{n}") })
            .find(|name| !taken(name))
            .unwrap_or(name)
    }

    fn text(&self, entities: &[Entity]) -> String {
        let mut text = String::from(
            "# 由设备自报（Home Assistant discovery）草拟：请对照说明书核对每个测点，并把示例换成真实报文。\n",
        );
        if self.address.as_ref().is_some_and(|(_, guessed)| *guessed) {
            text.push_str("# {address} 的位置是猜的：请核对它是否是主题里代表设备的一级。\n");
        }
        let (vendor, model) = (or(&self.device.vendor, "unknown"), or(&self.device.model, &self.device.name));
        let (model, name) = (or(model, "unknown"), or(&self.device.name, or(model, "unknown")));
        let mut line = |line: String| writeln!(text, "{line}").expect("writing to a string cannot fail");
        line(format!("\n[device]\nvendor = {}\nmodel = {}", quoted(vendor), quoted(model)));
        line(format!("name = {{ zh = {0}, en = {0} }}", quoted(or(model, name))));
        line(
            "source = \"the device's own Home Assistant discovery announcement; not compared with a manual\""
                .into(),
        );
        match entities.iter().filter_map(|entity| entity.expire_after_secs).filter(|secs| *secs > 0).max() {
            Some(secs) if secs <= u64::from(u32::MAX) => line(format!("silent_after_secs = {secs}")),
            _ => line("# silent_after_secs = 90000   # 多久没有消息算离线".into()),
        }
        let topics: Vec<String> = self.topics.iter().map(|topic| quoted(topic)).collect();
        line(format!("\n[mqtt]\ntopics = [{}]", topics.join(", ")));
        if let Some(availability) = &self.availability {
            line(availability.clone());
        }
        for point in &self.points {
            line(point.text(self.topics.len() > 1));
        }
        for (topic, _) in self.topics.iter().enumerate() {
            for second in [false, true] {
                line(self.example(topic, second));
            }
        }
        line("\n[[example]]\nname = \"not this device's\"\ninput = \"\"\nrefused = true".into());
        text
    }

    /// What the points of a topic say in one message.
    fn example(&self, topic: usize, second: bool) -> String {
        let of_topic = || self.points.iter().filter(|point| point.topic == topic);
        let mut message = Value::Null;
        let (mut readings, mut plain) = (Vec::new(), String::new());
        for point in of_topic() {
            let (raw, reading) = point.example(second);
            readings.push(format!("{} = {}", point.name, quoted(&reading)));
            match &point.path {
                Some(path) => put(&mut message, path, raw),
                None => plain = raw.as_str().map_or_else(|| raw.to_string(), str::to_owned),
            }
        }
        let input = if message.is_null() { plain } else { message.to_string() };
        let name = if second { "second" } else { "first" };
        let at = if topic == 0 { String::new() } else { format!("topic = {topic}\n") };
        format!(
            "\n[[example]]\nname = \"{name} of topic {topic}\"\n{at}input = {}\nreadings = {{ {} }}",
            quoted(&input),
            readings.join(", ")
        )
    }

    /// `[mqtt.availability]`, from the first place that a profile can say. Of others a person is told, and a comment keeps
    /// what was announced.
    fn find_availability(&mut self, entities: &[Entity]) {
        let mut first = None;
        for place in entities.iter().filter_map(|entity| entity.availability.as_ref()) {
            match self.table_of(place) {
                Ok(table) => return self.availability = Some(table),
                Err(why) => _ = first.get_or_insert((place, why)),
            }
        }
        let Some((Availability { topic, online, offline, template }, why)) = first else { return };
        let template = template.as_deref().map(|template| format!("，取值 {template}")).unwrap_or_default();
        self.availability = Some(format!(
            "# 在线状态：主题 {}，{} / {}{template}",
            shown(topic),
            shown(online),
            shown(offline)
        ));
        self.left.push(format!("在线状态：{why}"));
    }

    fn table_of(&self, place: &Availability) -> Result<String, String> {
        let topic = self.pattern(&place.topic)?;
        if self.topics.contains(&topic) {
            return Err(format!("主题 {} 也是测点的主题", shown(&place.topic)));
        }
        let path = match place.template.as_deref() {
            None => None,
            Some(template) => {
                value_path(template).ok_or_else(|| format!("模板 {} 不是简单取值", shown(template)))?
            }
        };
        let (online, offline) = (payload_keys(&place.online), payload_keys(&place.offline));
        if online.iter().any(|key| offline.contains(key)) {
            return Err("在线和离线写法一样".to_owned());
        }
        let list = |keys: Vec<String>| match &keys[..] {
            [one] => quoted(one),
            several => format!("[{}]", several.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(", ")),
        };
        let json = path.map(|path| format!("json = {}\n", quoted(&written(&path)))).unwrap_or_default();
        Ok(format!(
            "\n[mqtt.availability]\ntopic = {}\n{json}online = {}\noffline = {}",
            quoted(&topic),
            list(online),
            list(offline)
        ))
    }
}

impl Point<'_> {
    fn text(&self, several_topics: bool) -> String {
        let topic = if several_topics { format!(", topic = {}", self.topic) } else { String::new() };
        let from = match &self.path {
            Some(path) => format!("{{ json = {}{topic} }}", quoted(&written(path))),
            None => format!("{{ text = true, topic = {} }}", self.topic),
        };
        let mut text =
            format!("\n[[point]]\nname = {}\nclass = \"{}\"\nfrom = {from}", quoted(&self.name), self.class);
        if !self.entity.name.is_empty() {
            let label = format!("\nlabel = {{ zh = {0}, en = {0} }}", quoted(&self.entity.name));
            text.push_str(&label);
        }
        let codes = |on: &str, off: &str| {
            let written = |keys: Vec<String>, means: &str| {
                keys.iter().map(|key| format!("{} = {means}", quoted(key))).collect::<Vec<_>>().join(", ")
            };
            let (on_keys, off_keys) = (self.keys(true), self.keys(false));
            format!("\ncodes = {{ {}, {} }}", written(off_keys, off), written(on_keys, on))
        };
        match &self.meaning {
            Meaning::State { on, off } => text.push_str(&codes(&quoted(on), &quoted(off))),
            Meaning::Flag => text.push_str(&codes("true", "false")),
            Meaning::Number { unit, .. } if unit.is_empty() => {}
            Meaning::Number { unit, .. } => text.push_str(&format!("\nunit = {}", quoted(unit))),
        }
        text
    }

    fn keys(&self, on: bool) -> Vec<String> {
        let (written, usual) = if on { (&self.entity.on, "ON") } else { (&self.entity.off, "OFF") };
        payload_keys(written.as_deref().unwrap_or(usual))
    }

    /// A raw value and how an example writes it.
    fn example(&self, second: bool) -> (Value, String) {
        let key = || {
            let key = self.keys(!second).swap_remove(0);
            match (key.as_str(), &self.path) {
                ("true", Some(_)) => Value::Bool(true),
                ("false", Some(_)) => Value::Bool(false),
                _ => Value::String(key),
            }
        };
        match &self.meaning {
            Meaning::State { on, off } => (key(), if second { *off } else { *on }.to_owned()),
            Meaning::Flag => (key(), (!second).to_string()),
            Meaning::Number { unit, examples } => {
                let number = examples[usize::from(second)];
                (json!(number), format!("{number} {unit}").trim().to_owned())
            }
        }
    }
}

/// How a payload may look on the wire: a template of Python turns true into "True".
fn payload_keys(written: &str) -> Vec<String> {
    match written {
        "True" | "False" => vec![written.to_lowercase(), written.to_owned()],
        _ => vec![written.to_owned()],
    }
}

/// The class of an entity, or why it has none.
fn translate(entity: &Entity, all: &[Entity]) -> Result<(&'static str, Meaning), String> {
    let class = entity.class.as_deref().unwrap_or_default();
    match entity.component.as_str() {
        "binary_sensor" => {
            let state = |on, off| Meaning::State { on, off };
            Ok(match class {
                "smoke" => ("smoke_alarm", state("alarm", "normal")),
                "heat" => ("heat_alarm", state("alarm", "normal")),
                "gas" | "carbon_monoxide" => ("gas_alarm", state("alarm", "normal")),
                "door" | "opening" => ("fire_door", state("open", "closed")),
                "moisture" => ("water_leak", Meaning::Flag),
                "battery" => ("battery_low", Meaning::Flag),
                "tamper" => ("tamper", Meaning::Flag),
                "problem" => ("device_fault", Meaning::Flag),
                "" => return Err("没有 device_class，不知道它是什么".to_owned()),
                other => return Err(format!("词汇表里没有对应 {} 的类别", shown(other))),
            })
        }
        "sensor" => {
            let object = entity.object.to_lowercase();
            let has = |word: &str| object.contains(word);
            let heat = all.iter().any(|other| matches!(other.class.as_deref(), Some("smoke" | "heat")));
            let (class, quantity, examples) = match class {
                "temperature" if heat => ("heat_temperature", Quantity::Temperature, [21.5, 30.0]),
                "temperature" => ("ambient_temperature", Quantity::Temperature, [21.5, 30.0]),
                "humidity" => ("ambient_humidity", Quantity::Ratio, [45.0, 60.0]),
                "battery" => ("battery", Quantity::Ratio, [100.0, 15.0]),
                "voltage" if has("battery") => ("battery_voltage", Quantity::Voltage, [3.0, 2.5]),
                "voltage" => ("phase_voltage", Quantity::Voltage, [230.0, 221.5]),
                "current" => ("phase_current", Quantity::Current, [1.5, 10.0]),
                "power" => ("active_power", Quantity::Power, [60.0, 1500.0]),
                "energy" => ("energy", Quantity::Energy, [12.5, 13.0]),
                "frequency" => ("frequency", Quantity::Frequency, [50.0, 49.9]),
                "carbon_monoxide" => ("carbon_monoxide", Quantity::GasPpm, [0.0, 80.0]),
                "signal_strength" => ("signal", Quantity::Signal, [-60.0, -85.0]),
                "pressure" => ("pipe_pressure", Quantity::Pressure, [0.3, 0.5]),
                "" if has("linkquality") => ("link_quality", Quantity::Count, [134.0, 20.0]),
                "" => return Err("没有 device_class，不知道它是什么".to_owned()),
                other => return Err(format!("词汇表里没有对应 {} 的类别", shown(other))),
            };
            let unit = if quantity == Quantity::Count {
                String::new()
            } else {
                entity.unit.clone().unwrap_or_default()
            };
            // The examples are in the canonical unit's size; the reading is what the profile makes of them.
            let conversion = quantity
                .conversion(&unit)
                .ok_or_else(|| format!("单位 {} 不是 {class} 的单位", shown(&unit)))?;
            let examples = examples.map(|value| nice((value - conversion.offset) / conversion.factor));
            Ok((class, Meaning::Number { unit, examples }))
        }
        "switch" | "button" | "number" | "select" | "text" | "siren" | "light" | "lock" | "valve"
        | "update" => Err("是控制项，本网关只读".to_owned()),
        other => Err(format!("不认识的组件 {}", shown(other))),
    }
}

/// Three decimals are enough for an example.
fn nice(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// `{{ value_json.a['b'][0] }}`, perhaps with a filter that changes nothing but the form. `Some(None)`: the message
/// itself is the value. `None`: more than that.
fn value_path(template: &str) -> Option<Option<Vec<Step>>> {
    let inside = template.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let mut parts = inside.split('|').map(str::trim);
    let expression = parts.next()?;
    let harmless = |filter: &str| {
        matches!(filter, "float" | "int" | "is_defined" | "string") || filter.starts_with("round")
    };
    if !parts.all(harmless) {
        return None;
    }
    if expression == "value" {
        return Some(None);
    }
    let mut rest = expression.strip_prefix("value_json")?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let bracket = |quote: char| {
            let inside = rest.strip_prefix('[')?.strip_prefix(quote)?;
            let (key, after) = inside.split_once(quote)?;
            Some((Step::Key(key.to_owned()), after.strip_prefix(']')?))
        };
        let item = || {
            let (item, after) = rest.strip_prefix('[')?.split_once(']')?;
            Some((Step::Item(item.parse().ok().filter(|item| *item < ITEMS_MAX)?), after))
        };
        let plain = || {
            let key = rest.strip_prefix('.')?;
            let end = key.find(['.', '[']).unwrap_or(key.len());
            let (key, after) = key.split_at(end);
            let word = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_');
            word.then(|| (Step::Key(key.to_owned()), after))
        };
        let (step, after) = bracket('\'').or_else(|| bracket('"')).or_else(item).or_else(plain)?;
        if matches!(&step, Step::Key(key) if key.is_empty() || key.contains("\"]")) {
            return None;
        }
        steps.push(step);
        rest = after;
    }
    let path = written(&steps);
    Paths::default().add(&path).is_ok().then_some(Some(steps))
}

/// Puts a value into a message at its path; the path was checked against all others of the message.
fn put(message: &mut Value, path: &[Step], raw: Value) {
    let Some((step, rest)) = path.split_first() else {
        *message = raw;
        return;
    };
    match step {
        // No template asks for it.
        Step::Max(_) => {}
        Step::Key(key) => {
            if !message.is_object() {
                *message = Value::Object(Map::new());
            }
            if let Some(object) = message.as_object_mut() {
                put(object.entry(key.clone()).or_insert(Value::Null), rest, raw);
            }
        }
        Step::Item(item) => {
            if !message.is_array() {
                *message = Value::Array(Vec::new());
            }
            if let Some(list) = message.as_array_mut() {
                list.resize(list.len().max(item + 1), Value::Null);
                put(&mut list[*item], rest, raw);
            }
        }
    }
}

fn or<'t>(text: &'t str, otherwise: &'t str) -> &'t str {
    if text.trim().is_empty() { otherwise } else { text }
}

/// A stranger's text inside a sentence.
fn shown(text: &str) -> String {
    format!("{:?}", one_line(text))
}
