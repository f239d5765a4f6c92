//! FRAMES → READINGS, one message: its values by JSON path and by place in its bytes, whichever the profile names.

use super::bytes::{ByteField, Encoding};
use super::decode::Decoded;
use super::device_time::{Taken, TimeUnit, judge};
use super::frame::{Frame, too_short};
use super::json::{self, Paths};
use super::meaning::{Key, Raw, Read};
use super::schema::Profile;
use crate::model::{Flaw, Timestamp};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Where a profile says that a value lies.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Where {
    /// At this path of a JSON message.
    Json(String),
    /// At this place of the bytes.
    Bytes(ByteField),
}

/// The same once the paths of a topic are numbered.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Json(usize),
    Bytes(ByteField),
}

/// What a message has to say for a point to be in it: `when = { byte = 2, is = 0x01 }`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct When<P> {
    pub(super) place: P,
    pub(super) is: Vec<Key>,
}

/// Where a topic's messages hold bytes.
#[derive(Debug, Clone, Default)]
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
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    pub(super) paths: Paths,
    pub(super) bytes: BytesIn,
    pub(super) frame: Frame,
    /// In the order of the points.
    pub(super) lookups: Vec<Lookup>,
    /// Where the device's time lies, and how it may be written.
    pub(super) time: Option<(Place, Vec<TimeUnit>)>,
}

#[derive(Debug, Clone)]
pub(super) struct Lookup {
    pub(super) point: usize,
    pub(super) place: Place,
    pub(super) when: Option<When<Place>>,
}

/// A message taken apart.
struct Message<'m> {
    found: Vec<Option<&'m RawValue>>,
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

impl Message<'_> {
    fn at(&self, place: &Place) -> Found<'_> {
        match place {
            Place::Json(slot) => match self.found.get(*slot).copied().flatten() {
                Some(value) => Found::Value(json::raw(value)),
                None => Found::Nothing,
            },
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
    fn open(&self, payload: &[u8], read: &mut dyn FnMut(&Message<'_>) -> Decoded) -> Result<Decoded, String> {
        if let BytesIn::Whole(encoding) = self.bytes {
            let bytes = encoding.decode(payload)?;
            self.frame.check(&bytes)?;
            return Ok(read(&Message { found: Vec::new(), bytes: Some(bytes) }));
        }
        let message = std::str::from_utf8(payload).map_err(|_| "不是 UTF-8 文本".to_owned())?;
        let repaired;
        let found = match self.paths.find(message) {
            Ok(found) => found,
            Err(error) => {
                let wrong = || format!("不是有效的 JSON：{error}");
                repaired = json::quote_no_numbers(message).ok_or_else(wrong)?;
                self.paths.find(&repaired).map_err(|_| wrong())?
            }
        };
        let BytesIn::Slot(slot, encoding) = self.bytes else {
            return Ok(read(&Message { found, bytes: None }));
        };
        let raw = found.get(slot).copied().flatten().map(json::raw);
        let bytes = match &raw {
            None | Some(Raw::Null) => None,
            Some(Raw::Text(text)) => {
                let bytes = encoding.decode(text.as_bytes())?;
                self.frame.check(&bytes)?;
                Some(bytes)
            }
            Some(other) => return Err(format!("报文应为 {} 文本，收到 {other}", encoding.name())),
        };
        Ok(read(&Message { found, bytes }))
    }
}

impl Profile {
    pub(super) fn decode_fields(&self, payload: &[u8], fields: &Fields, received_at: Timestamp) -> Decoded {
        fields
            .open(payload, &mut |message| self.read_message(message, fields, received_at))
            .unwrap_or_else(Decoded::refused)
    }

    fn read_message(&self, message: &Message<'_>, fields: &Fields, received_at: Timestamp) -> Decoded {
        let mut decoded = Decoded::nothing(fields.lookups.len());
        let taken = match fields.time.as_ref().map(|(place, units)| (message.at(place), units)) {
            Some((Found::Value(raw), units)) => judge(&raw, units, received_at),
            Some((Found::Broken(_), _)) => Taken::Impossible,
            Some((Found::Nothing | Found::Beyond(_), _)) | None => Taken::Unknown,
        };
        let mut beyond = None;
        for Lookup { point: index, place, when } in &fields.lookups {
            let Some(point) = self.points.get(*index) else { continue };
            if when.as_ref().is_some_and(|when| !message.says(when)) {
                continue;
            }
            let read = match message.at(place) {
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
