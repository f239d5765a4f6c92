//! FRAMES → READINGS, Sparkplug B: the payload, `org.eclipse.tahu.protobuf` as the specification prints it, and each of
//! its metrics as named values. Arrays, data sets and templates become values with longer names, so that a profile
//! reaches into them: `phases[2]`, `zones[0].state`, `detector/alarm`.

use super::super::device_time::{Taken, TimeUnit, judge};
use super::super::meaning::Raw;
use super::protobuf::{Field, Fields};
use super::{NamedMetric, NamedValue, too_large};
use crate::model::{Flaw, Timestamp};
use std::borrow::Cow;

/// The most metrics of one message, with those inside templates. Large edge nodes are born with some 2000; at about
/// 200 bytes each in memory this is 3 MB while the message is read.
pub(super) const METRICS_MAX: usize = 16_384;

/// How deep templates may lie in templates. Real ones have two levels.
const TEMPLATE_DEPTH_MAX: usize = 4;

/// The most values of one message once arrays, data sets and templates are opened. An array of 256 KiB of flags would
/// be two million names.
const VALUES_MAX: usize = 16_384;

/// OPC's quality words, as the property `Quality` has them: below 64 bad, from 192 good; 500 is Sparkplug's own for
/// a value that is no longer kept up to date.
const QUALITY_UNCERTAIN: u64 = 64;
const QUALITY_STALE: u64 = 500;

/// The data types, by the specification's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum DataType {
    Unknown = 0,
    Int8 = 1,
    Int16 = 2,
    Int32 = 3,
    Int64 = 4,
    UInt8 = 5,
    UInt16 = 6,
    UInt32 = 7,
    UInt64 = 8,
    Float = 9,
    Double = 10,
    Boolean = 11,
    String = 12,
    DateTime = 13,
    Text = 14,
    Uuid = 15,
    DataSet = 16,
    Bytes = 17,
    File = 18,
    Template = 19,
    PropertySet = 20,
    PropertySetList = 21,
    Int8Array = 22,
    Int16Array = 23,
    Int32Array = 24,
    Int64Array = 25,
    UInt8Array = 26,
    UInt16Array = 27,
    UInt32Array = 28,
    UInt64Array = 29,
    FloatArray = 30,
    DoubleArray = 31,
    BooleanArray = 32,
    StringArray = 33,
    DateTimeArray = 34,
}

impl DataType {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 35] = [
        Self::Unknown,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::UInt8,
        Self::UInt16,
        Self::UInt32,
        Self::UInt64,
        Self::Float,
        Self::Double,
        Self::Boolean,
        Self::String,
        Self::DateTime,
        Self::Text,
        Self::Uuid,
        Self::DataSet,
        Self::Bytes,
        Self::File,
        Self::Template,
        Self::PropertySet,
        Self::PropertySetList,
        Self::Int8Array,
        Self::Int16Array,
        Self::Int32Array,
        Self::Int64Array,
        Self::UInt8Array,
        Self::UInt16Array,
        Self::UInt32Array,
        Self::UInt64Array,
        Self::FloatArray,
        Self::DoubleArray,
        Self::BooleanArray,
        Self::StringArray,
        Self::DateTimeArray,
    ];

    fn of(number: u64) -> Self {
        usize::try_from(number).ok().and_then(|place| Self::ALL.get(place)).copied().unwrap_or(Self::Unknown)
    }
}

/// One message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Payload<'m> {
    /// When it was sent, in milliseconds since 1970.
    pub timestamp: Option<u64>,
    /// What it says.
    pub metrics: Vec<Metric<'m>>,
    /// 0 at a birth, then one more with each message of the edge node, after 255 again 0. A last will has none.
    pub seq: Option<u64>,
}

/// One metric as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metric<'m> {
    /// Its name; a data message may have the alias alone.
    pub name: Option<&'m str>,
    /// The number that a birth gave to the name.
    pub alias: Option<u64>,
    /// When the value was taken, in milliseconds since 1970.
    pub timestamp: Option<u64>,
    /// How the value is written; a data message may leave that to the birth.
    pub datatype: Option<DataType>,
    historical: bool,
    null: bool,
    quality: Option<u64>,
    value: Content<'m>,
}

#[derive(Debug, Clone, Default, PartialEq)]
enum Content<'m> {
    #[default]
    Missing,
    Int(u64),
    Float(f64),
    Flag(bool),
    Text(&'m str),
    Bytes(&'m [u8]),
    DataSet(DataSet<'m>),
    Template(Vec<Metric<'m>>),
    /// An extension, or a text that is none.
    Other,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct DataSet<'m> {
    columns: Vec<&'m str>,
    types: Vec<DataType>,
    rows: Vec<Vec<Content<'m>>>,
}

impl<'m> Payload<'m> {
    /// Reads a payload. The error is for a person, in Chinese. Takes time and memory linear in the bytes.
    pub fn decode(bytes: &'m [u8]) -> Result<Self, String> {
        if let Some(refusal) = too_large(bytes) {
            return Err(refusal);
        }
        payload(bytes).map_err(|wrong| format!("不是有效的 Sparkplug B 报文：{wrong}"))
    }

    /// The `bdSeq` of a node's birth or death: which connection it speaks of.
    pub fn birth_death_seq(&self) -> Option<u64> {
        let metric = self.metrics.iter().find(|metric| metric.name == Some("bdSeq"))?;
        if let Content::Int(number) = metric.value { Some(number) } else { None }
    }
}

fn payload(bytes: &[u8]) -> Result<Payload<'_>, &'static str> {
    let (mut payload, mut room) = (Payload::default(), METRICS_MAX);
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Varint(millis)) => payload.timestamp = Some(millis),
            (2, Field::Bytes(bytes)) => payload.metrics.push(metric(bytes, 0, &mut room)?),
            (3, Field::Varint(seq)) => payload.seq = Some(seq),
            _ => {}
        }
    }
    Ok(payload)
}

fn metric<'m>(bytes: &'m [u8], depth: usize, room: &mut usize) -> Result<Metric<'m>, &'static str> {
    *room = room.checked_sub(1).ok_or("指标过多")?;
    let mut metric = Metric::default();
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(name)) => metric.name = Some(text(name).ok_or("指标名不是 UTF-8 文本")?),
            (2, Field::Varint(alias)) => metric.alias = Some(alias),
            (3, Field::Varint(millis)) => metric.timestamp = Some(millis),
            (4, Field::Varint(number)) => metric.datatype = Some(DataType::of(number)),
            (5, Field::Varint(flag)) => metric.historical = flag != 0,
            (7, Field::Varint(flag)) => metric.null = flag != 0,
            (9, Field::Bytes(bytes)) => metric.quality = quality(bytes)?,
            (16, Field::Bytes(bytes)) => metric.value = Content::Bytes(bytes),
            (17, Field::Bytes(bytes)) => metric.value = Content::DataSet(data_set(bytes)?),
            (18, Field::Bytes(bytes)) => metric.value = Content::Template(template(bytes, depth, room)?),
            (10..=15, field) => metric.value = scalar(number - 10, field),
            (19, _) => metric.value = Content::Other,
            _ => {}
        }
    }
    // An empty name is how some libraries write that there is none.
    metric.name = metric.name.filter(|name| !name.is_empty());
    Ok(metric)
}

/// int, long, float, double, boolean, string: the same six in the same order in metrics, data sets and properties.
fn scalar(place: u64, field: Field<'_>) -> Content<'_> {
    match (place, field) {
        (0 | 1, Field::Varint(number)) => Content::Int(number),
        (2, Field::Fixed32(bits)) => Content::Float(f64::from(f32::from_bits(bits))),
        (3, Field::Fixed64(bits)) => Content::Float(f64::from_bits(bits)),
        (4, Field::Varint(flag)) => Content::Flag(flag != 0),
        (5, Field::Bytes(bytes)) => text(bytes).map_or(Content::Other, Content::Text),
        _ => Content::Other,
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Of all properties only `Quality` says something about the value.
fn quality(bytes: &[u8]) -> Result<Option<u64>, &'static str> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let mut fields = Fields::of(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(key)) => keys.push(key),
            (2, Field::Bytes(value)) => values.push(value),
            _ => {}
        }
    }
    let place = keys.iter().position(|key| key.eq_ignore_ascii_case(b"quality"));
    let Some(value) = place.and_then(|place| values.get(place)) else { return Ok(None) };
    let (mut found, mut fields) = (None, Fields::of(value));
    while let Some((number, field)) = fields.next()? {
        if let (3 | 4, Field::Varint(word)) = (number, field) {
            found = Some(word);
        }
    }
    Ok(found)
}

fn template<'m>(bytes: &'m [u8], depth: usize, room: &mut usize) -> Result<Vec<Metric<'m>>, &'static str> {
    if depth >= TEMPLATE_DEPTH_MAX {
        return Err("模板嵌套过深");
    }
    let (mut members, mut fields) = (Vec::new(), Fields::of(bytes));
    while let Some((number, field)) = fields.next()? {
        if let (2, Field::Bytes(bytes)) = (number, field) {
            members.push(metric(bytes, depth + 1, room)?);
        }
    }
    Ok(members)
}

fn data_set(bytes: &[u8]) -> Result<DataSet<'_>, &'static str> {
    let (mut set, mut fields) = (DataSet::default(), Fields::of(bytes));
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (2, Field::Bytes(column)) => set.columns.push(text(column).ok_or("列名不是 UTF-8 文本")?),
            (3, Field::Varint(number)) => set.types.push(DataType::of(number)),
            // Packed, as a proto3 library writes them.
            (3, Field::Bytes(packed)) => {
                set.types.extend(packed.iter().map(|byte| DataType::of((*byte).into())))
            }
            (4, Field::Bytes(row)) => set.rows.push(data_row(row)?),
            _ => {}
        }
    }
    Ok(set)
}

fn data_row(bytes: &[u8]) -> Result<Vec<Content<'_>>, &'static str> {
    let (mut row, mut fields) = (Vec::new(), Fields::of(bytes));
    while let Some((number, field)) = fields.next()? {
        let (1, Field::Bytes(element)) = (number, field) else { continue };
        let (mut content, mut element) = (Content::Missing, Fields::of(element));
        while let Some((number, field)) = element.next()? {
            content = if (1..=6).contains(&number) { scalar(number - 1, field) } else { Content::Other };
        }
        row.push(content);
    }
    Ok(row)
}

/// The values of a metric, under its name or below it.
pub(super) fn flatten<'m>(
    named: &NamedMetric<'m>,
    sent_at: Option<u64>,
    received_at: Timestamp,
    values: &mut Vec<NamedValue<'m>>,
) {
    let metric = named.metric;
    let taken = match metric.timestamp.or(sent_at) {
        #[expect(clippy::cast_precision_loss, reason = "a time beyond 2^53 ms is not believed anyway")]
        Some(millis) => judge(&Raw::Number(millis as f64), &[TimeUnit::Milliseconds], received_at),
        None => Taken::Unknown,
    };
    let stale = metric.quality == Some(QUALITY_STALE);
    let mut put = |name: Cow<'m, str>, raw: Raw<'m>| {
        if values.len() < VALUES_MAX {
            let flaw = match (metric.null, metric.quality) {
                (true, _) => Some(Flaw::NoAnswer),
                (_, Some(word)) if word < QUALITY_UNCERTAIN => Some(Flaw::SensorFault),
                _ => None,
            };
            values.push(NamedValue { name, raw, unit: None, taken, late: metric.historical || stale, flaw });
        }
    };
    let name = named.name.clone();
    if metric.null {
        return put(name, Raw::Null);
    }
    match &metric.value {
        Content::Bytes(bytes) => match elements(named.datatype, bytes) {
            Some(elements) => {
                for (place, raw) in elements.into_iter().take(VALUES_MAX).enumerate() {
                    put(format!("{name}[{place}]").into(), raw);
                }
            }
            None => put(name, Raw::Other),
        },
        Content::DataSet(set) => {
            for (place, row) in set.rows.iter().enumerate().take(VALUES_MAX) {
                for ((column, content), kind) in set.columns.iter().zip(row).zip(&set.types) {
                    put(format!("{name}[{place}].{column}").into(), plain(content, *kind));
                }
            }
        }
        Content::Template(members) => {
            for member in members.iter().filter_map(NamedMetric::of) {
                let longer = NamedMetric { name: format!("{name}/{}", member.name).into(), ..member };
                flatten(&longer, metric.timestamp.or(sent_at), received_at, values);
            }
        }
        content => put(name, plain(content, named.datatype)),
    }
}

/// A single value. Libraries write a negative Int8 as one byte or as four: only the type's own bits count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the cut to the type's bits is the decoding"
)]
#[expect(clippy::cast_precision_loss, reason = "readings are doubles")]
fn plain<'m>(content: &Content<'m>, kind: DataType) -> Raw<'m> {
    match *content {
        Content::Int(bits) => match kind {
            DataType::Int8 => Raw::Number(f64::from(bits as i8)),
            DataType::Int16 => Raw::Number(f64::from(bits as i16)),
            DataType::Int32 => Raw::Number(f64::from(bits as i32)),
            DataType::Int64 => Raw::Number(bits as i64 as f64),
            DataType::UInt8 => Raw::Number(f64::from(bits as u8)),
            DataType::UInt16 => Raw::Number(f64::from(bits as u16)),
            DataType::UInt32 => Raw::Number(f64::from(bits as u32)),
            DataType::Boolean => Raw::Flag(bits != 0),
            _ => Raw::Number(bits as f64),
        },
        Content::Float(number) => Raw::Number(number),
        Content::Flag(flag) => Raw::Flag(flag),
        Content::Text(text) => Raw::Text(Cow::Borrowed(text)),
        Content::Missing => Raw::Null,
        Content::Bytes(_) | Content::DataSet(_) | Content::Template(_) | Content::Other => Raw::Other,
    }
}

/// The elements of an array type: little-endian, packed. `None`: no array, or not whole elements.
#[expect(clippy::cast_precision_loss, reason = "readings are doubles")]
fn elements<'m>(kind: DataType, bytes: &'m [u8]) -> Option<Vec<Raw<'m>>> {
    fn each<'m, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Option<Vec<Raw<'m>>> {
        let (chunks, rest) = bytes.as_chunks::<N>();
        rest.is_empty()
            .then(|| chunks.iter().take(VALUES_MAX).map(|chunk| Raw::Number(number(*chunk))).collect())
    }
    match kind {
        DataType::Int8Array => each(bytes, |b| f64::from(i8::from_le_bytes(b))),
        DataType::UInt8Array => each(bytes, |b| f64::from(u8::from_le_bytes(b))),
        DataType::Int16Array => each(bytes, |b| f64::from(i16::from_le_bytes(b))),
        DataType::UInt16Array => each(bytes, |b| f64::from(u16::from_le_bytes(b))),
        DataType::Int32Array => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
        DataType::UInt32Array => each(bytes, |b| f64::from(u32::from_le_bytes(b))),
        DataType::Int64Array => each(bytes, |b| i64::from_le_bytes(b) as f64),
        DataType::UInt64Array | DataType::DateTimeArray => each(bytes, |b| u64::from_le_bytes(b) as f64),
        DataType::FloatArray => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
        DataType::DoubleArray => each(bytes, f64::from_le_bytes),
        DataType::BooleanArray => {
            let (count, bits) = bytes.split_first_chunk::<4>()?;
            let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
            if bits.len() != count.div_ceil(8) {
                return None;
            }
            let bit =
                |place: usize| bits.get(place / 8).is_some_and(|byte| byte & (0x80 >> (place % 8)) != 0);
            Some((0..count.min(VALUES_MAX)).map(|place| Raw::Flag(bit(place))).collect())
        }
        DataType::StringArray => {
            let texts = bytes.strip_suffix(&[0]).unwrap_or(bytes);
            let texts = texts.split(|byte| *byte == 0).take(VALUES_MAX);
            Some(texts.map(|bytes| text(bytes).map_or(Raw::Other, |text| Raw::Text(text.into()))).collect())
        }
        _ => None,
    }
}
