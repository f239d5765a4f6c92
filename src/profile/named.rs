//! FRAMES → READINGS, named values: what SenML and Sparkplug B have in common. A message is a list of values, each
//! with its name and perhaps a unit and a time of its own; several values of one name are its history.

use super::decode::{Decoded, PROBLEMS_MAX};
use super::device_time::Taken;
use super::meaning::{Raw, Read};
use super::schema::{Profile, ProfilePoint};
use crate::model::{Flaw, Quality, Timestamp};
use std::borrow::Cow;
use std::collections::HashMap;

/// One value of a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NamedValue<'m> {
    pub(super) name: Cow<'m, str>,
    pub(super) raw: Raw<'m>,
    /// The unit that the sender gives, in the sender's spelling.
    pub(super) unit: Option<Cow<'m, str>>,
    pub(super) taken: Taken,
    /// History by the sender's own word, whatever its time says.
    pub(super) late: bool,
    /// The sender says that the value is no measurement.
    pub(super) flaw: Option<Flaw>,
}

/// Which points read which name. Several may read the same one.
pub(super) type Names = HashMap<Box<str>, Vec<usize>>;

impl Profile {
    /// Reads the values, oldest first. All but the newest of a name are late: a value that another one of the same
    /// message has overtaken is never taken for the present. Understood when any name is one of the model's.
    pub(super) fn decode_named(&self, names: &Names, mut values: Vec<NamedValue<'_>>) -> Decoded {
        let mut decoded = Decoded::nothing(values.len());
        values.retain(|value| names.contains_key(&*value.name));
        // Stable: values without a time keep their order, behind the dated ones.
        values.sort_by_key(|value| time_of(value.taken));
        let newest: HashMap<String, Timestamp> =
            values.iter().map(|value| (value.name.to_string(), time_of(value.taken))).collect();
        let mut impossible = false;
        for value in &values {
            decoded.understood = true;
            impossible |= value.taken == Taken::Impossible;
            let overtaken = newest.get(&*value.name).is_some_and(|newest| time_of(value.taken) < *newest);
            for &place in names.get(&*value.name).into_iter().flatten() {
                let Some(point) = self.points.get(place) else { continue };
                let Some(read) = read(point, value) else { continue };
                decoded.push(place, point, read, value.taken);
                if let Some(sample) = decoded.samples.last_mut() {
                    sample.late |= value.late || overtaken;
                }
            }
        }
        if !decoded.understood {
            decoded.problems.push("消息中没有该型号的任何字段".to_owned());
        }
        if impossible && decoded.problems.len() < PROBLEMS_MAX {
            decoded.problems.push("设备时间不可信".to_owned());
        }
        decoded
    }
}

fn read(point: &ProfilePoint, value: &NamedValue<'_>) -> Option<Read> {
    if let Some(given) = &value.unit
        && !point.accepts_unit(given)
    {
        let given: String = given.chars().take(UNIT_CHARS_SHOWN).collect();
        let own = point.unit.as_deref().unwrap_or_default();
        return Some(Read::absent(
            Flaw::Unreadable,
            Some(format!("单位不符：型号文件写的是 {own:?}，收到 {given:?}")),
        ));
    }
    let mut read = point.meaning.read(&value.raw)?;
    // What the profile itself says of the value, a sentinel or off the scale, stands before the sender's doubt.
    if let Some(flaw) = value.flaw
        && (read.quality == Quality::Good || read.flaw == Some(Flaw::Unreadable))
    {
        (read.quality, read.flaw, read.problem) = (Quality::Bad, Some(flaw), None);
    }
    Some(read)
}

/// How much of a foreign unit is quoted: the longest registered one has eight letters.
const UNIT_CHARS_SHOWN: usize = 16;

/// SenML's names of units that this gateway spells otherwise (RFC 8428, RFC 8798).
const UNIT_NAMES: [(&str, &str); 7] =
    [("%RH", "%"), ("%EL", "%"), ("/", "1"), ("EL", "1"), ("l/s", "L/s"), ("count", ""), ("deg", "°")];

impl ProfilePoint {
    /// Whether the sender's unit is the one that the profile converts from.
    fn accepts_unit(&self, given: &str) -> bool {
        if !self.quantity.is_numeric() {
            return true;
        }
        let given = UNIT_NAMES.iter().find(|(name, _)| *name == given).map_or(given, |(_, own)| own);
        let own = self.quantity.conversion(self.unit.as_deref().unwrap_or_default());
        own.is_some() && self.quantity.conversion(given) == own
    }
}

/// For the order alone: what has no believable time of its own was taken now.
fn time_of(taken: Taken) -> Timestamp {
    match taken {
        Taken::At { time, .. } => time,
        Taken::Unknown | Taken::Impossible => Timestamp::from_millis(i64::MAX),
    }
}
