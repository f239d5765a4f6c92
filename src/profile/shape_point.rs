//! FRAMES → READINGS, the shape of the profile's points: `[[point]]` as it stands in the file, and what a variant changes of it. What each
//! key means is its description in the JSON Schema, so that an editor says it.

use super::bytes::ByteOrder;
use super::current_loop::CurrentLoopFile;
use super::draft::{Spanned, TextFile};
use super::json_schema::{self, ClassWord, NumberType, Scalar, SenseWord, StateWord, UnitWord};
use super::schema_bytes::{BYTE_MAX, WhenFile};
use crate::model::RegisterTable;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct PointFile {
    /// 测点名，本文件内唯一 / its name, unique in the file
    #[schemars(regex(pattern = json_schema::SLUG))]
    pub(super) name: Spanned<String>,
    /// 类别，见 vocabulary.toml；默认报警规则随之而来 / its class in vocabulary.toml; the default rules come with it
    #[schemars(with = "ClassWord")]
    pub(super) class: Spanned<String>,
    /// 类别名称说不清是哪一个时，它叫什么 / what it is called, when the name of the class does not say which one it is
    pub(super) label: Option<TextFile>,
    /// 线上数值的单位 / the unit of the number as it is on the wire
    #[schemars(with = "Option<UnitWord>")]
    pub(super) unit: Option<Spanned<String>>,
    /// 在哪里 / where it is found
    pub(super) from: Spanned<FromFile>,
    /// 只在这样的消息里 / it is only in messages that say so
    pub(super) when: Option<Spanned<WhenFile>>,
    /// 原始值先乘以它 / the raw value is multiplied by it
    pub(super) scale: Option<Spanned<f64>>,
    /// 然后加上它 / and then this is added
    pub(super) offset: Option<Spanned<f64>>,
    /// 原始值的含义：{ 0 = "normal", 1 = "alarm" }，开关量用 true、false / what raw values mean: { 0 = "normal", 1 = "alarm" }; of a flag true and false
    #[serde(default)]
    pub(super) codes: BTreeMap<String, Spanned<CodeFile>>,
    /// 其余原始值表示的状态 / the state that all other raw values mean
    #[schemars(with = "Option<StateWord>")]
    pub(super) otherwise: Option<Spanned<String>>,
    /// 表示“没有测量值”的原始值 / raw values that are documented as no measurement
    #[serde(default)]
    pub(super) sentinels: Vec<SentinelFile>,
    /// 合理范围 [最低, 最高]，用测点的单位；默认为类别的范围 / the plausible range [lowest, highest] in the point's unit; by default that of the class
    pub(super) range: Option<Spanned<[f64; 2]>>,
    /// 4–20 mA 变送器：断线和故障电流不是测量值 / a 4-20 mA transmitter: the current of a broken loop is no measurement
    pub(super) current_loop: Option<Spanned<CurrentLoopFile>>,
    /// 为什么一个示例值就够 / why one example value is enough
    pub(super) single_example: Option<String>,
}

/// What a variant changes of a point.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct PointChangeFile {
    pub(super) name: Spanned<String>,
    class: Option<Spanned<String>>,
    label: Option<TextFile>,
    unit: Option<Spanned<String>>,
    from: Option<Spanned<FromFile>>,
    when: Option<Spanned<WhenFile>>,
    scale: Option<Spanned<f64>>,
    offset: Option<Spanned<f64>>,
    codes: Option<BTreeMap<String, Spanned<CodeFile>>>,
    otherwise: Option<Spanned<String>>,
    sentinels: Option<Vec<SentinelFile>>,
    range: Option<Spanned<[f64; 2]>>,
    current_loop: Option<Spanned<CurrentLoopFile>>,
    single_example: Option<String>,
}

impl PointChangeFile {
    /// The point as it is with this change; `None`: there was none, and this is not a whole one.
    pub(super) fn over(&self, base: Option<&PointFile>) -> Option<PointFile> {
        let new = self.clone();
        let old = base.cloned().map(Self::from).unwrap_or_else(|| Self::nothing(new.name.clone()));
        // A condition looks at the same message as the place that it goes with.
        let old_when = if new.from.is_some() { None } else { old.when };
        Some(PointFile {
            name: new.name,
            class: new.class.or(old.class)?,
            label: new.label.or(old.label),
            unit: new.unit.or(old.unit),
            from: new.from.or(old.from)?,
            when: new.when.or(old_when),
            scale: new.scale.or(old.scale),
            offset: new.offset.or(old.offset),
            codes: new.codes.or(old.codes).unwrap_or_default(),
            otherwise: new.otherwise.or(old.otherwise),
            sentinels: new.sentinels.or(old.sentinels).unwrap_or_default(),
            range: new.range.or(old.range),
            current_loop: new.current_loop.or(old.current_loop),
            single_example: new.single_example.or(old.single_example),
        })
    }

    /// A change of nothing.
    fn nothing(name: Spanned<String>) -> Self {
        Self {
            name,
            class: None,
            label: None,
            unit: None,
            from: None,
            when: None,
            scale: None,
            offset: None,
            codes: None,
            otherwise: None,
            sentinels: None,
            range: None,
            current_loop: None,
            single_example: None,
        }
    }
}

impl From<PointFile> for PointChangeFile {
    fn from(point: PointFile) -> Self {
        Self {
            name: point.name,
            class: Some(point.class),
            label: point.label,
            unit: point.unit,
            from: Some(point.from),
            when: point.when,
            scale: point.scale,
            offset: point.offset,
            codes: Some(point.codes),
            otherwise: point.otherwise,
            sentinels: Some(point.sentinels),
            range: point.range,
            current_loop: point.current_loop,
            single_example: point.single_example,
        }
    }
}

/// The keys of a point; it needs only its name, and what its class asks for may stand in the file's own point.
impl JsonSchema for PointChangeFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PointChangeFile".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = PointFile::json_schema(generator);
        schema.insert("required".to_owned(), serde_json::json!(["name"]));
        schema
    }
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "minProperties" = 1,
    "dependencies" = { "table": ["address"], "address": ["table"], "every_secs": ["table"] }
))]
pub(super) struct FromFile {
    /// JSON 中的路径，如 data.list[0].smoke / a path in the JSON, such as data.list[0].smoke
    pub(super) json: Option<String>,
    /// 解码脚本输出中的路径 / a path in what the codec says
    pub(super) codec: Option<String>,
    /// 每个历史样本中的路径，"$" 为样本本身 / its path in each of several samples; "$" is the sample itself
    pub(super) sample: Option<String>,
    /// SenML 记录的名称 / the name of a SenML record
    pub(super) senml: Option<String>,
    /// Sparkplug B 指标的名称 / the name of a Sparkplug B metric
    pub(super) metric: Option<String>,
    /// 只在 topics 中的第几个，从 0 数 / only on this one of the topics, from 0
    pub(super) topic: Option<usize>,
    /// true：整条消息就是这个值 / true: the whole message is the value
    #[serde(default)]
    pub(super) text: bool,
    /// 第几个字节，从 0 数，负数从末尾数 / which byte, from 0; below 0 from the end
    #[schemars(range(min = -BYTE_MAX, max = BYTE_MAX))]
    pub(super) byte: Option<Spanned<i64>>,
    /// true：消息里没有它就是坏消息 / true: a message without it is a bad one
    #[serde(default)]
    pub(super) required: bool,
    /// 寄存器表 / the table of the register
    #[schemars(with = "Option<RegisterTable>")]
    pub(super) table: Option<Spanned<String>>,
    /// 说明书中的地址，起点见 address_base / the address in the manual, counted from address_base
    pub(super) address: Option<Spanned<u32>>,
    /// 寄存器或字节的数值类型 / the type of the number in registers or bytes
    #[serde(rename = "type")]
    #[schemars(with = "Option<NumberType>")]
    pub(super) kind: Option<Spanned<String>>,
    /// 字节或寄存器的顺序，默认为 [mqtt] byte_order、[modbus] word_order / the order of bytes or registers; by default that of [mqtt] or [modbus]
    #[schemars(with = "Option<ByteOrder>")]
    pub(super) order: Option<Spanned<String>>,
    /// 其中几位，"0..3" 含两端 / bits of it, "0..3" with both ends
    #[schemars(regex(pattern = json_schema::BITS))]
    pub(super) bits: Option<Spanned<String>>,
    /// 其中一位，0 为最低位 / one bit of it; 0 is the lowest
    #[schemars(range(max = 63))]
    pub(super) bit: Option<Spanned<u32>>,
    /// 其中掩码选出的位 / the bits that a mask picks
    #[schemars(range(min = 1))]
    pub(super) mask: Option<Spanned<u64>>,
    /// 自己的轮询周期，秒 / a polling period of its own, in seconds
    #[schemars(range(min = 0.05, max = 86400))]
    pub(super) every_secs: Option<Spanned<f64>>,
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(untagged)]
pub(super) enum CodeFile {
    Flag(bool),
    State(#[schemars(with = "StateWord")] String),
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct SentinelFile {
    /// 原始值，换算之前 / the raw value, before scaling
    #[schemars(with = "Scalar")]
    pub(super) raw: toml::Value,
    /// 它表示：没有装、传感器故障、尚未上报 / what it means
    #[schemars(with = "SenseWord")]
    pub(super) means: Spanned<String>,
}
