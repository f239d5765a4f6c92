//! FRAMES → READINGS, the shape of the profile's messages: `[mqtt]` and `[time]` as they stand in the file. What each key means is
//! its description in the JSON Schema, so that an editor says it.

use super::bytes::{ByteOrder, ByteType};
use super::device_time::TimeUnit;
use super::draft::Spanned;
use super::json_schema::{self, OneOrMore, PortWord, Scalar, WholeMessage};
use super::schema_bytes::{BYTE_MAX, WhenFile};
use super::schema_mqtt::Payload;
use super::timed::SamplesFile;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct MqttFile {
    /// 主题，{address} 处为设备地址，其余 {词} 为任意一级 / topics; {address} is where the address stands, any other {word} is any one level
    pub(super) topics: Option<Spanned<Vec<Spanned<String>>>>,
    /// 消息的写法，默认 json / how messages are written; json by default
    #[schemars(with = "Option<Payload>")]
    pub(super) payload: Option<Spanned<toml::Value>>,
    /// 多字节值的字节顺序，AB 为高字节在前 / the order of values of several bytes; AB: high byte first
    #[schemars(with = "Option<ByteOrder>")]
    pub(super) byte_order: Option<Spanned<String>>,
    /// 厂商的解码脚本，放在本文件旁边 / the vendor's codec, a file beside this one
    #[schemars(regex(pattern = json_schema::CODEC_FILE))]
    pub(super) codec: Option<Spanned<String>>,
    /// LoRaWAN 端口：数字，或它在消息中的路径 / the LoRaWAN port: a number, or its path in the message
    #[schemars(with = "Option<PortWord>")]
    pub(super) port: Option<Spanned<toml::Value>>,
    /// 一条消息含多个设备 / one message tells of several devices
    pub(super) each: Option<Spanned<EachFile>>,
    /// 一条消息含多个历史样本 / one message brings several samples
    pub(super) samples: Option<Spanned<SamplesFile>>,
    /// 网桥或遗嘱报告设备是否在线 / what a bridge or a last will says: is the device there
    pub(super) availability: Option<Spanned<AvailabilityFile>>,
    /// 没有可读内容的主题 / topics with nothing to read
    #[serde(default)]
    pub(super) ignore_topics: Vec<Spanned<String>>,
    /// 没有可读内容的消息 / messages with nothing to read
    #[serde(default)]
    pub(super) ignore_when: Vec<Spanned<WhenFile>>,
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct EachFile {
    /// 数组或映射的路径；不写：整条消息就是 / where the array or map is; left out: it is the whole message
    pub(super) path: Option<Spanned<String>>,
    /// 每个元素中地址的路径；不写：映射的键就是地址 / where an element has its address; left out: the keys of the map are the addresses
    pub(super) address: Option<Spanned<String>>,
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct AvailabilityFile {
    /// 报告在线状态的主题 / the topic that tells it
    pub(super) topic: Spanned<String>,
    /// JSON 中状态词的路径，默认 state / where JSON has the word; state by default
    pub(super) json: Option<Spanned<String>>,
    /// 表示在线的值，一个或多个 / what means online, one value or several
    #[schemars(with = "OneOrMore<Scalar>")]
    pub(super) online: Spanned<toml::Value>,
    /// 表示离线的值，一个或多个 / what means offline, one value or several
    #[schemars(with = "OneOrMore<Scalar>")]
    pub(super) offline: Spanned<toml::Value>,
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeFile {
    /// 时间在 JSON 中的路径 / its path in the JSON
    pub(super) json: Option<Spanned<String>>,
    /// 时间在解码脚本输出中的路径 / its path in what the codec says
    pub(super) codec: Option<Spanned<String>>,
    /// 时间的第一个字节，从 0 数，负数从末尾数 / its first byte, from 0; below 0 from the end
    #[schemars(range(min = -BYTE_MAX, max = BYTE_MAX))]
    pub(super) byte: Option<Spanned<i64>>,
    /// 字节处的数值类型，默认 u8 / the type of the number at `byte`; u8 by default
    #[serde(rename = "type")]
    #[schemars(with = "Option<ByteType>")]
    pub(super) kind: Option<Spanned<String>>,
    /// 字节顺序，默认为 [mqtt] byte_order / the order of its bytes; by default that of [mqtt] byte_order
    #[schemars(with = "Option<ByteOrder>")]
    pub(super) order: Option<Spanned<String>>,
    /// 时间单位，可写多个：任一即可 / its unit; several: either
    #[schemars(with = "OneOrMore<TimeUnit>")]
    pub(super) unit: Spanned<toml::Value>,
    /// message：整条含多个设备的消息的时间 / message: the time of a whole message of several devices
    #[schemars(with = "Option<WholeMessage>")]
    pub(super) of: Option<Spanned<String>>,
}
