//! FRAMES → READINGS, one message: its values by JSON path and by place in its bytes, whichever the profile names.

use super::bytes::{ByteField, Encoding};
use super::decode::Decoded;
use super::device_time::{Taken, TimeUnit, judge};
use super::frame::{Frame, too_short};
use super::json::{self, Paths, find_repaired};
use super::meaning::{Key, Raw, Read};
use super::schema::Profile;
use super::script::Script;
use super::timed::Samples;
use crate::model::{Flaw, Timestamp};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Where a profile says that a value lies.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Where {
    /// At this path of a JSON message.
    Json(String),
    /// At this path of what the codec made of the bytes.
    Codec(String),
    /// At this place of the bytes.
    Bytes(ByteField),
}

/// The same once the paths of a topic are numbered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    Json(usize),
    Codec(usize),
    Bytes(ByteField),
}

/// What a message has to say for a point to be in it: `when = { byte = 2, is = 0x01 }`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct When<P> {
    pub(super) place: P,
    pub(super) is: Vec<Key>,
}

/// Where a topic's messages hold bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum BytesIn {
    /// Nowhere: it is all JSON.
    #[default]
    Nothing,
    /// The whole payload.
    Whole(Encoding),
    /// A text at this slot of the JSON.
    Slot(usize, Encoding),
}

/// What to look for in messages of one topic.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields {
    pub(super) paths: Paths,
    pub(super) bytes: BytesIn,
    pub(super) frame: Frame,
    /// What else is made of the bytes.
    pub(super) script: Option<Script>,
    /// In the order of the points.
    pub(super) lookups: Vec<Lookup>,
    /// Where a list of samples lies, each with its time.
    pub(super) samples: Option<(Place, Samples)>,
    /// Where the device's time lies, and how it may be written.
    pub(super) time: Option<(Place, Vec<TimeUnit>)>,
    /// Kinds of messages that have nothing to read: no complaint is made of them.
    pub(super) ignore: Vec<When<Place>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lookup {
    pub(super) point: usize,
    pub(super) place: Place,
    pub(super) when: Option<When<Place>>,
    /// A message without it is not whole.
    pub(super) required: bool,
}

/// A message taken apart.
struct Message<'m> {
    found: &'m [Option<&'m RawValue>],
    /// What the codec said, at its paths.
    said: &'m [Option<&'m RawValue>],
    bytes: Option<Cow<'m, [u8]>>,
}

/// What lies at a place.
enum Found<'m> {
    Nothing,
    /// The bytes end before it; so many are needed.
    Beyond(usize),
    Broken(String),
    Value(Raw<'m>),
}

fn at_slot<'m>(found: &[Option<&'m RawValue>], slot: usize) -> Found<'m> {
    found.get(slot).copied().flatten().map_or(Found::Nothing, |value| Found::Value(json::raw(value)))
}

impl<'m> Message<'m> {
    /// A list or an object, as it is written.
    fn whole_at(&self, place: &Place) -> Option<&'m RawValue> {
        match place {
            Place::Json(slot) => self.found.get(*slot).copied().flatten(),
            Place::Codec(slot) => self.said.get(*slot).copied().flatten(),
            Place::Bytes(_) => None,
        }
    }

    fn at(&self, place: &Place) -> Found<'_> {
        match place {
            Place::Json(slot) => at_slot(self.found, *slot),
            Place::Codec(slot) => at_slot(self.said, *slot),
            Place::Bytes(field) => {
                let Some(bytes) = &self.bytes else { return Found::Nothing };
                match field.read(bytes) {
                    None => Found::Beyond(field.needs()),
                    Some(Ok(number)) => Found::Value(Raw::Number(number)),
                    Some(Err(problem)) => Found::Broken(problem),
                }
            }
        }
    }

    fn says(&self, when: &When<Place>) -> bool {
        match self.at(&when.place) {
            Found::Value(raw) => when.is.iter().any(|key| key.matches(&raw)),
            Found::Nothing | Found::Beyond(_) | Found::Broken(_) => false,
        }
    }
}

impl Fields {
    pub(super) fn is_binary(&self) -> bool {
        matches!(self.bytes, BytesIn::Whole(Encoding::Binary))
    }

    /// Takes a message apart and looks into it with `read`; the error says why nothing of it is to be believed.
    fn open(
        &self,
        payload: &[u8],
        received_at: Timestamp,
        read: &mut dyn FnMut(&Message<'_>) -> Decoded,
    ) -> Result<Decoded, String> {
        if let BytesIn::Whole(encoding) = self.bytes {
            let bytes = encoding.decode(payload)?;
            self.frame.check(&bytes)?;
            return self.run(&[], Some(bytes), received_at, read);
        }
        let message = std::str::from_utf8(payload).map_err(|_| "不是 UTF-8 文本".to_owned())?;
        find_repaired(&self.paths, message, &mut |_, found| {
            let raw = match self.bytes {
                BytesIn::Slot(slot, _) => found.get(slot).copied().flatten().map(json::raw),
                BytesIn::Nothing | BytesIn::Whole(_) => None,
            };
            let bytes = raw.as_ref().map_or(Ok(None), |raw| self.bytes_of(raw))?;
            self.run(found, bytes, received_at, read)
        })?
    }

    /// Lets the codec, if there is one, say what it makes of the bytes.
    fn run<'m>(
        &self,
        found: &'m [Option<&'m RawValue>],
        bytes: Option<Cow<'m, [u8]>>,
        received_at: Timestamp,
        read: &mut dyn FnMut(&Message<'_>) -> Decoded,
    ) -> Result<Decoded, String> {
        let (Some(script), Some(uplink)) = (&self.script, &bytes) else {
            return Ok(read(&Message { found, said: &[], bytes }));
        };
        let answer = script.answer(found, uplink, received_at)?;
        let said = script.paths.find(&answer).map_err(|error| format!("解码结果不是 JSON：{error}"))?;
        Ok(read(&Message { found, said: &said, bytes }))
    }

    fn taken(&self, message: &Message<'_>, received_at: Timestamp) -> Taken {
        let Some((place, units)) = &self.time else { return Taken::Unknown };
        match message.at(place) {
            Found::Value(raw) => judge(&raw, units, received_at),
            Found::Broken(_) => Taken::Impossible,
            Found::Nothing | Found::Beyond(_) => Taken::Unknown,
        }
    }

    /// The bytes that stand as a text in a JSON message. A message without them may still have other fields.
    fn bytes_of<'m>(&self, raw: &'m Raw<'_>) -> Result<Option<Cow<'m, [u8]>>, String> {
        let BytesIn::Slot(_, encoding) = self.bytes else { return Ok(None) };
        match raw {
            Raw::Null => Ok(None),
            Raw::Text(text) => {
                let bytes = encoding.decode(text.as_bytes())?;
                self.frame.check(&bytes)?;
                Ok(Some(bytes))
            }
            other => Err(format!("报文应为 {} 文本，收到 {other}", encoding.name())),
        }
    }
}

impl Profile {
    /// `taken` is the time of the whole message, where it is a part of one.
    pub(super) fn decode_fields(
        &self,
        payload: &[u8],
        fields: &Fields,
        taken: Option<Taken>,
        received_at: Timestamp,
    ) -> Decoded {
        fields
            .open(payload, received_at, &mut |message| {
                let taken = taken.unwrap_or_else(|| fields.taken(message, received_at));
                self.read_message(message, fields, taken, received_at)
            })
            .unwrap_or_else(Decoded::refused)
    }

    fn read_message(
        &self,
        message: &Message<'_>,
        fields: &Fields,
        taken: Taken,
        received_at: Timestamp,
    ) -> Decoded {
        let mut decoded = Decoded::nothing(fields.lookups.len());
        let mut beyond = None;
        for Lookup { point: index, place, when, required } in &fields.lookups {
            let Some(point) = self.points.get(*index) else { continue };
            if when.as_ref().is_some_and(|when| !message.says(when)) {
                continue;
            }
            let read = match message.at(place) {
                Found::Nothing if *required => {
                    Some(Read::absent(Flaw::Unreadable, Some("消息中没有这个字段".to_owned())))
                }
                Found::Nothing => continue,
                Found::Value(raw) => {
                    decoded.understood = true;
                    point.meaning.read(&raw)
                }
                Found::Broken(problem) => {
                    decoded.understood = true;
                    Some(Read::absent(Flaw::Unreadable, Some(problem)))
                }
                Found::Beyond(needs) => {
                    beyond = beyond.max(Some(needs));
                    let has = message.bytes.as_ref().map_or(0, |bytes| bytes.len());
                    Some(Read::absent(Flaw::Unreadable, Some(too_short(needs, has))))
                }
            };
            if let Some(read) = read {
                decoded.push(*index, point, read, taken);
            }
        }
        if let Some((place, samples)) = &fields.samples
            && let Some(list) = message.whole_at(place)
        {
            let present = decoded.samples.iter().map(|sample| sample.point).collect();
            decoded.add_history(samples.read(self, list, &present, taken, received_at));
        }
        if !decoded.understood && fields.ignore.iter().any(|when| message.says(when)) {
            return Decoded { understood: true, ..Decoded::nothing(0) };
        }
        if !decoded.understood {
            // Not even one value: it ends too early to be this model's, or it is another's.
            return Decoded::refused(match beyond {
                Some(needs) => too_short(needs, message.bytes.as_ref().map_or(0, |bytes| bytes.len())),
                None => "消息中没有该型号的任何字段".to_owned(),
            });
        }
        if taken == Taken::Impossible {
            decoded.complain("设备时间不可信".to_owned());
        }
        decoded
    }
}
