//! FRAMES → READINGS, announcements: from a discovery topic and its JSON to entities. Full and abbreviated keys, single
//! entities and whole devices, the base topic `~`.

use super::super::decode::PAYLOAD_BYTES_MAX;
use super::{ENTITIES_MAX, one_line};
use serde_json::{Map, Value};

/// Home Assistant's own prefix; every library's default.
const PREFIX: &str = "homeassistant";

/// The component that stands for a whole device.
const DEVICE: &str = "device";

/// The keys that are read, with the abbreviations that Home Assistant accepts for them.
const ABBREVIATIONS: [(&str, &str); 21] = [
    ("state_topic", "stat_t"),
    ("value_template", "val_tpl"),
    ("device_class", "dev_cla"),
    ("unit_of_measurement", "unit_of_meas"),
    ("payload_on", "pl_on"),
    ("payload_off", "pl_off"),
    ("expire_after", "exp_aft"),
    ("object_id", "obj_id"),
    ("unique_id", "uniq_id"),
    ("platform", "p"),
    ("device", "dev"),
    ("components", "cmps"),
    ("identifiers", "ids"),
    ("connections", "cns"),
    ("manufacturer", "mf"),
    ("model", "mdl"),
    ("availability", "avty"),
    ("availability_topic", "avty_t"),
    ("payload_available", "pl_avail"),
    ("payload_not_available", "pl_not_avail"),
    ("topic", "t"),
];

/// What one discovery message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Announcement {
    /// A device with one of its entities, or with all.
    Of(AnnouncedDevice, Vec<Entity>),
    /// An entity is withdrawn: an empty message on its topic.
    Withdrawn {
        /// Which, as [`Entity::key`].
        key: String,
    },
}

/// Whose entities they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnnouncedDevice {
    /// What is the same in all its announcements.
    pub key: String,
    /// What it is called.
    pub name: String,
    /// Who made it.
    pub vendor: String,
    /// Its model.
    pub model: String,
    /// Everything that may stand in its topics as its address.
    pub(super) identities: Vec<String>,
}

/// One thing that the device reports or obeys.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entity {
    /// `component/object id`, with the node's id where the topic has one: the same at every announcement.
    pub key: String,
    pub(super) component: String,
    pub(super) object: String,
    pub(super) name: String,
    pub(super) state_topic: Option<String>,
    pub(super) template: Option<String>,
    pub(super) class: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) on: Option<String>,
    pub(super) off: Option<String>,
    pub(super) expire_after_secs: Option<u64>,
    pub(super) availability: Option<Availability>,
}

/// Where it is told whether the device is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Availability {
    pub(super) topic: String,
    pub(super) template: Option<String>,
    pub(super) online: String,
    pub(super) offline: String,
}

impl Entity {
    /// Where it reports.
    pub fn state_topic(&self) -> Option<&str> {
        self.state_topic.as_deref()
    }
}

impl Announcement {
    /// Reads a message on any topic; `None`: it is no announcement. The error is for a person, in Chinese.
    pub fn read(topic: &str, payload: &[u8]) -> Option<Result<Self, String>> {
        let below = topic.strip_prefix(PREFIX)?.strip_prefix('/')?.strip_suffix("/config")?;
        let (component, ids) = below.split_once('/')?;
        if component.is_empty() || ids.is_empty() || ids.split('/').count() > 2 {
            return None;
        }
        let key = one_line(&format!("{component}/{ids}"));
        if payload.trim_ascii().is_empty() || payload.trim_ascii() == b"null" {
            return Some(Ok(Self::Withdrawn { key }));
        }
        Some(read(component, ids, key, payload))
    }
}

fn read(component: &str, ids: &str, key: String, payload: &[u8]) -> Result<Announcement, String> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(format!("设备自报过长：{} 字节，上限 {PAYLOAD_BYTES_MAX}", payload.len()));
    }
    let whole: Value =
        serde_json::from_slice(payload).map_err(|error| format!("设备自报不是有效的 JSON：{error}"))?;
    let whole = Keys(whole.as_object().ok_or("设备自报不是 JSON 对象")?);
    let (node, object) = ids.split_once('/').map_or((None, ids), |(node, object)| (Some(node), object));
    let mut device = read_device(&whole, ids);
    device.identities.extend(node.map(one_line));
    device.identities.push(one_line(object));
    if component != DEVICE {
        let entity = read_entity(key, component, object, &whole, None);
        device.identities.extend(whole.text("unique_id"));
        return Ok(Announcement::Of(device, vec![entity]));
    }
    let components = whole.get("components").and_then(Value::as_object).ok_or("设备自报没有 components")?;
    let entity = |(name, component): (&String, &Value)| {
        let own = Keys(component.as_object()?);
        let platform = own.text("platform").unwrap_or_default();
        Some(read_entity(format!("{key}/{}", one_line(name)), &platform, name, &own, Some(&whole)))
    };
    Ok(Announcement::Of(device, components.iter().take(ENTITIES_MAX).filter_map(entity).collect()))
}

fn read_device(whole: &Keys<'_>, ids: &str) -> AnnouncedDevice {
    let empty = Map::new();
    let device = Keys(whole.get("device").and_then(Value::as_object).unwrap_or(&empty));
    let mut identities: Vec<String> = match device.get("identifiers") {
        Some(Value::Array(list)) => list.iter().filter_map(text).collect(),
        Some(single) => text(single).into_iter().collect(),
        None => Vec::new(),
    };
    // [["mac", "02:5b:26:a8:dc:12"]]
    let connections = device.get("connections").and_then(Value::as_array).into_iter().flatten();
    identities.extend(connections.filter_map(|pair| text(pair.get(1)?)));
    let name = device.text("name").or_else(|| whole.text("name")).unwrap_or_default();
    let key = identities.first().cloned().unwrap_or_else(|| one_line(ids));
    identities.insert(0, name.clone());
    identities.truncate(ENTITIES_MAX);
    AnnouncedDevice {
        key,
        name,
        vendor: device.text("manufacturer").unwrap_or_default(),
        model: device.text("model").unwrap_or_default(),
        identities,
    }
}

fn read_entity(
    key: String,
    component: &str,
    object: &str,
    own: &Keys<'_>,
    shared: Option<&Keys<'_>>,
) -> Entity {
    let shared_text = |name: &str| own.text(name).or_else(|| shared.and_then(|shared| shared.text(name)));
    let base = shared_text("~").unwrap_or_default();
    let topic = |written: String| match (written.strip_prefix('~'), written.strip_suffix('~')) {
        (Some(rest), _) => format!("{base}{rest}"),
        (None, Some(rest)) => format!("{rest}{base}"),
        (None, None) => written,
    };
    Entity {
        key,
        component: one_line(component),
        object: own.text("object_id").unwrap_or_else(|| one_line(object)),
        name: own.text("name").unwrap_or_default(),
        state_topic: shared_text("state_topic").map(topic),
        template: own.text("value_template"),
        class: own.text("device_class"),
        unit: own.text("unit_of_measurement"),
        on: own.text("payload_on"),
        off: own.text("payload_off"),
        expire_after_secs: own.get("expire_after").and_then(Value::as_u64),
        availability: read_availability(own, &topic)
            .or_else(|| shared.and_then(|shared| read_availability(shared, &topic))),
    }
}

/// The first place of several: with `all` or `any` of them the first alone does not decide, and the draft says so.
fn read_availability(keys: &Keys<'_>, topic: &dyn Fn(String) -> String) -> Option<Availability> {
    let words = |keys: &Keys<'_>| {
        let word = |name: &str, otherwise: &str| keys.text(name).unwrap_or_else(|| otherwise.to_owned());
        (word("payload_available", "online"), word("payload_not_available", "offline"))
    };
    if let Some(written) = keys.text("availability_topic") {
        let (online, offline) = words(keys);
        let template = keys.text("availability_template").or_else(|| keys.text("avty_tpl"));
        return Some(Availability { topic: topic(written), template, online, offline });
    }
    // The bridge's own state is told of a device as well; the device's own topic is the longer one.
    let list = keys.get("availability")?.as_array()?;
    let places = list.iter().filter_map(|place| {
        let place = Keys(place.as_object()?);
        let (online, offline) = words(&place);
        let template = place.text("value_template");
        Some(Availability { topic: topic(place.text("topic")?), template, online, offline })
    });
    places.max_by_key(|place| place.topic.matches('/').count() * 1000 + place.topic.len())
}

/// An object whose keys may be abbreviated.
struct Keys<'v>(&'v Map<String, Value>);

impl<'v> Keys<'v> {
    fn get(&self, name: &str) -> Option<&'v Value> {
        let short = ABBREVIATIONS.iter().find(|(full, _)| *full == name).map(|(_, short)| *short);
        self.0.get(name).or_else(|| self.0.get(short?))
    }

    /// A blank one says nothing: no message is an empty word.
    fn text(&self, name: &str) -> Option<String> {
        text(self.get(name)?).filter(|text| !text.trim().is_empty())
    }
}

/// A single value as text: payloads may be written as true or 1.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(one_line(text)),
        Value::Bool(_) | Value::Number(_) => Some(one_line(&value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
