//! FRAMES → READINGS, several devices in one message: a concentrator's array, or a map by address, becomes one part a
//! device. A part that is bad spoils only itself.

use super::decode::{Decoded, TopicPlan};
use super::device_time::{TimeUnit, judge};
use super::json::{self, Paths, find_repaired};
use super::meaning::Raw;
use super::schema::Profile;
use crate::model::Timestamp;
use serde::Deserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The most devices of one message. A loop of a fire panel has 252 addresses and concentrators have fewer; with 20 points
/// each, a whole message still fits one entry of the journal (10 000 readings). What is beyond is told and kept.
pub const EACH_MAX: usize = 512;

/// `[mqtt.each]`: where the devices of a message are, and what names them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Each {
    /// Where the array or the map is, and the time that holds for all of it.
    pub(super) paths: Paths,
    /// `None`: the whole message is the array or the map.
    pub(super) container: Option<usize>,
    pub(super) time: Option<(usize, Vec<TimeUnit>)>,
    /// The one path of the address in each element; `None`: it is a map, and the keys are the addresses.
    pub(super) address: Option<Paths>,
}

/// What a message says of one device.
#[derive(Debug)]
pub struct Part<'m> {
    /// What names the device; `None`: it has no name that could be read.
    pub address: Option<String>,
    /// Its place in the message, from 0.
    pub place: usize,
    /// What it says, as it came.
    pub sample: &'m [u8],
    time: Option<&'m RawValue>,
}

impl<'m> Part<'m> {
    /// One that stands alone: what held for its whole message is not known any more.
    pub fn alone(sample: &'m [u8]) -> Self {
        Self { address: None, place: 0, sample, time: None }
    }
}

impl Profile {
    /// Whether its messages tell of several devices: then they are read by [`Profile::parts`].
    pub fn is_shared(&self) -> bool {
        self.each.is_some()
    }

    /// Gives each device's part of a message to `visit`; the error says in Chinese what of the message could not be read.
    pub fn parts(&self, payload: &[u8], visit: &mut dyn FnMut(&Part<'_>)) -> Result<(), String> {
        let Some(each) = &self.each else { return Err("该型号的消息只含一个设备".to_owned()) };
        Self::too_long(payload)?;
        let message = std::str::from_utf8(payload).map_err(|_| "不是 UTF-8 文本".to_owned())?;
        find_repaired(&each.paths, message, &mut |message, found| each.visit(message, found, visit))?
    }

    /// Decodes one part, as [`Profile::decode_message`] decodes a message.
    pub fn decode_part(&self, topic_kind: usize, part: &Part<'_>, received_at: Timestamp) -> Decoded {
        let Some(TopicPlan::Fields(fields)) = self.topic_plans.get(topic_kind) else {
            return Decoded::refused("该型号没有这个主题".to_owned());
        };
        let units = self.each.as_ref().and_then(|each| each.time.as_ref());
        let taken = match (part.time, units) {
            (Some(time), Some((_, units))) => Some(judge(&json::raw(time), units, received_at)),
            _ => None,
        };
        self.decode_fields(part.sample, fields, taken, received_at)
    }
}

impl Each {
    fn visit(
        &self,
        message: &str,
        found: &[Option<&RawValue>],
        visit: &mut dyn FnMut(&Part<'_>),
    ) -> Result<(), String> {
        let at = |slot: usize| found.get(slot).copied().flatten();
        let container = match self.container {
            Some(slot) => at(slot).map(RawValue::get),
            None => Some(message),
        };
        let Some(container) = container else { return Err("消息中没有设备列表".to_owned()) };
        let time = self.time.as_ref().and_then(|(slot, _)| at(*slot));
        let mut parts = Parts { each: self, time, count: 0, visit };
        let mut deserializer = serde_json::Deserializer::from_str(container);
        if deserializer.deserialize_any(&mut parts).is_err() {
            return Err("设备列表不是数组或对象".to_owned());
        }
        match parts.count {
            0 => Err("设备列表为空".to_owned()),
            count if count > EACH_MAX => Err(format!("消息含 {count} 个设备，只读取前 {EACH_MAX} 个")),
            _ => Ok(()),
        }
    }

    /// Text or number, as it is written.
    fn address_of(&self, value: &RawValue) -> Option<String> {
        let found = self.address.as_ref()?.find(value.get()).ok()?;
        let address = found.first().copied().flatten()?;
        match json::raw(address) {
            Raw::Text(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Raw::Number(_) => Some(address.get().to_owned()),
            Raw::Flag(_) | Raw::Null | Raw::Other => None,
        }
    }
}

/// Walks over the elements of the array or map.
struct Parts<'p, 'm> {
    each: &'p Each,
    time: Option<&'m RawValue>,
    count: usize,
    visit: &'p mut dyn FnMut(&Part<'_>),
}

impl Parts<'_, '_> {
    fn take(&mut self, address: Option<String>, value: &RawValue) {
        if self.count < EACH_MAX {
            let sample = value.get().as_bytes();
            (self.visit)(&Part { address, place: self.count, sample, time: self.time });
        }
        self.count += 1;
    }
}

impl<'m> Visitor<'m> for &mut Parts<'_, 'm> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array, or a map by address")
    }

    fn visit_seq<A: SeqAccess<'m>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<&'m RawValue>()? {
            self.take(self.each.address_of(item), item);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'m>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some((key, value)) = items.next_entry::<String, &'m RawValue>()? {
            let address = match self.each.address {
                Some(_) => self.each.address_of(value),
                None => Some(key).filter(|key| !key.is_empty()),
            };
            self.take(address, value);
        }
        Ok(())
    }
}
