//! FRAMES → READINGS, the profile's bytes: from `from = { byte, … }`, `when` and `[frame]` to places, conditions, checks.

use super::bytes::{ByteField, ByteOrder, ByteType, hex};
use super::draft::{Problems, Spanned};
use super::frame::{Checksum, ChecksumKind, Frame, Length};
use super::json::Paths;
use super::json_schema::{self, OneOrMore, Scalar};
use super::meaning::Key;
use super::message::{When, Where};
use super::schema_register::{BitsFile, build_bits};
use super::vocabulary::parse_word;
use schemars::JsonSchema;
use serde::Deserialize;
use std::ops::Range;

/// The farthest place in a message: real ones have hundreds of bytes, MEOKON's longest 1239.
pub(super) const BYTE_MAX: i64 = 65_535;

/// The most bytes of a fixed start or end, and of the values that `is` lists.
const LISTED_MAX: usize = 64;

/// A number in the bytes, wherever a profile speaks of one.
pub(super) struct ByteFile<'f> {
    pub(super) span: Range<usize>,
    pub(super) byte: &'f Spanned<i64>,
    pub(super) kind: Option<&'f Spanned<String>>,
    pub(super) order: Option<&'f Spanned<String>>,
    pub(super) bits: BitsFile<'f>,
}

pub(super) fn build_byte_field(
    file: &ByteFile<'_>,
    usual_order: Option<ByteOrder>,
    problems: &mut Problems,
) -> Option<ByteField> {
    let at = build_place(file.byte, problems)?;
    let kind = match file.kind {
        Some(written) => parse_word(written, ByteType::parse, ByteType::ALL.map(ByteType::name), problems)?,
        None => ByteType::U8,
    };
    let order = build_order(file.order, usual_order, kind.width(), &file.span, problems)?;
    let bits = build_bits(&file.bits, 8 * kind.width(), kind.has_bits(), problems)?;
    Some(ByteField { at, kind, order, bits })
}

fn build_place(written: &Spanned<i64>, problems: &mut Problems) -> Option<isize> {
    let byte = *written.get_ref();
    let place = isize::try_from(byte).ok().filter(|_| (-BYTE_MAX..=BYTE_MAX).contains(&byte));
    if place.is_none() {
        problems.error(
            written.span(),
            format!("字节位置 {byte} 超出任何报文 / byte {byte} is outside every message"),
            "从 0 数起，或从末尾数：-1 是最后一个字节 / count from 0, or from the end: -1 is the last byte",
        );
    }
    place
}

fn build_order(
    written: Option<&Spanned<String>>,
    usual: Option<ByteOrder>,
    width: usize,
    span: &Range<usize>,
    problems: &mut Problems,
) -> Option<ByteOrder> {
    if let Some(written) = written {
        return parse_word(written, ByteOrder::parse, ByteOrder::NAMES, problems);
    }
    if usual.is_none() && width > 1 {
        problems.error(
            span.clone(),
            "多字节的值要写字节序 / a value of several bytes needs its order",
            "在 [mqtt] 加 byte_order = \"AB\"（高字节在前）或 \"BA\"，或在这里写 order = … / add byte_order = \"AB\" (high byte first) or \"BA\" to [mqtt], or order = … here",
        );
        return None;
    }
    Some(usual.unwrap_or(ByteOrder::Big))
}

/// `when = { byte = 2, is = 0x01 }`, `when = { json = "fPort", is = [2, 3] }`.
#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct WhenFile {
    /// JSON 中的路径 / a path in the JSON
    pub(super) json: Option<Spanned<String>>,
    /// 解码脚本输出中的路径 / a path in what the codec says
    codec: Option<Spanned<String>>,
    /// 第几个字节，从 0 数，负数从末尾数 / which byte, from 0; below 0 from the end
    #[schemars(range(min = -BYTE_MAX, max = BYTE_MAX))]
    pub(super) byte: Option<Spanned<i64>>,
    /// 字节处的数值类型，默认 u8 / the type of the number at `byte`; u8 by default
    #[serde(rename = "type")]
    #[schemars(with = "Option<ByteType>")]
    kind: Option<Spanned<String>>,
    /// 字节顺序，默认为 [mqtt] byte_order / the order of its bytes; by default that of [mqtt] byte_order
    #[schemars(with = "Option<ByteOrder>")]
    order: Option<Spanned<String>>,
    /// 其中几位，"0..3" 含两端 / bits of it, "0..3" with both ends
    #[schemars(regex(pattern = json_schema::BITS))]
    bits: Option<Spanned<String>>,
    /// 其中一位，0 为最低位 / one bit of it; 0 is the lowest
    #[schemars(range(max = 63))]
    bit: Option<Spanned<u32>>,
    /// 其中掩码选出的位 / the bits that a mask picks
    #[schemars(range(min = 1))]
    mask: Option<Spanned<u64>>,
    /// 等于这个值，或其中之一 / it is this value, or one of these
    #[schemars(with = "OneOrMore<Scalar>")]
    is: Spanned<toml::Value>,
}

/// What messages of this profile are made of.
#[derive(Clone, Copy)]
pub(super) struct MadeOf {
    pub(super) json: bool,
    pub(super) bytes: bool,
    /// A codec makes JSON of the bytes.
    pub(super) codec: bool,
    pub(super) order: Option<ByteOrder>,
}

impl MadeOf {
    /// A path may be read here.
    pub(super) fn check_path(self, path: &str, span: Range<usize>, problems: &mut Problems) -> Option<Where> {
        if !self.json {
            problems.error(
                span,
                "这个 payload 不是 JSON / this payload is no JSON",
                "写 byte = …，或改 [mqtt] payload / say byte = …, or change [mqtt] payload",
            );
            return None;
        }
        if let Err(wrong) = Paths::default().add(path) {
            problems.error(
                span,
                wrong,
                "写路径，如 object.list[0].smoke / write a path such as object.list[0].smoke",
            );
            return None;
        }
        Some(Where::Json(path.to_owned()))
    }

    /// A path in what the codec says may be read here.
    pub(super) fn check_codec(
        self,
        path: &str,
        span: Range<usize>,
        problems: &mut Problems,
    ) -> Option<Where> {
        if !self.codec {
            problems.error(
                span,
                "没有指定解码脚本 / no codec is named",
                "在 [mqtt] 写 codec = \"file.js\" / say codec = \"file.js\" in [mqtt]",
            );
            return None;
        }
        if let Err(wrong) = Paths::default().add(path) {
            problems.error(
                span,
                wrong,
                "写路径，如 temperature 或 list[0].smoke / write a path such as temperature or list[0].smoke",
            );
            return None;
        }
        Some(Where::Codec(path.to_owned()))
    }

    /// A place in the bytes may be read here.
    pub(super) fn check_bytes(self, file: &ByteFile<'_>, problems: &mut Problems) -> Option<Where> {
        if !self.bytes {
            problems.error(
                file.span.clone(),
                "这个 payload 里没有字节 / this payload has no bytes",
                "在 [mqtt] 写 payload = \"hex\"、\"base64\"、\"binary\"，或 { json = \"data\", encoding = \"base64\" } / say in [mqtt] payload = \"hex\", \"base64\" or \"binary\", or { json = \"data\", encoding = \"base64\" }",
            );
            return None;
        }
        build_byte_field(file, self.order, problems).map(Where::Bytes)
    }
}

pub(super) fn build_when(
    written: &Spanned<WhenFile>,
    made_of: MadeOf,
    problems: &mut Problems,
) -> Option<When<Where>> {
    let file = written.get_ref();
    let place = match (&file.json, &file.codec, &file.byte) {
        (Some(path), None, None) => made_of.check_path(path.get_ref(), path.span(), problems)?,
        (None, Some(path), None) => made_of.check_codec(path.get_ref(), path.span(), problems)?,
        (None, None, Some(byte)) => {
            let field = ByteFile {
                span: written.span(),
                byte,
                kind: file.kind.as_ref(),
                order: file.order.as_ref(),
                bits: BitsFile {
                    span: written.span(),
                    bit: file.bit.as_ref(),
                    bits: file.bits.as_ref(),
                    mask: file.mask.as_ref(),
                },
            };
            made_of.check_bytes(&field, problems)?
        }
        _ => {
            problems.error(
                written.span(),
                "条件要看 `json`、`codec` 或 `byte` / a condition looks at `json`, `codec` or `byte`",
                "写其中一个 / say one of them",
            );
            return None;
        }
    };
    Some(When { place, is: build_keys(&file.is, problems)? })
}

/// One value or a list of them.
pub(super) fn build_keys(written: &Spanned<toml::Value>, problems: &mut Problems) -> Option<Vec<Key>> {
    let one = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(Key::new(text)),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
            Some(Key::new(&value.to_string()))
        }
        _ => None,
    };
    let keys: Option<Vec<Key>> = match written.get_ref() {
        toml::Value::Array(values) => values.iter().map(one).collect(),
        value => one(value).map(|key| vec![key]),
    };
    let keys = keys.filter(|keys| (1..=LISTED_MAX).contains(&keys.len()));
    if keys.is_none() {
        problems.error(
            written.span(),
            "`is` 是一个值，或几个值的列表 / `is` is one value, or a list of values",
            "写数字、文本或 true/false，或 [1, 2] / write a number, text or true/false, or [1, 2]",
        );
    }
    keys
}

/// `[frame]`.
#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct FrameFile {
    /// 开头的字节，十六进制 / its first bytes, in hexadecimal
    starts_with: Option<Spanned<String>>,
    /// 结尾的字节，十六进制 / its last bytes, in hexadecimal
    ends_with: Option<Spanned<String>>,
    /// 长度字段 / where it says how long it is
    length: Option<Spanned<LengthFile>>,
    /// 校验和 / its checksum
    checksum: Option<Spanned<ChecksumFile>>,
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
struct LengthFile {
    /// 第几个字节，从 0 数，负数从末尾数 / which byte, from 0; below 0 from the end
    #[schemars(range(min = -BYTE_MAX, max = BYTE_MAX))]
    byte: Spanned<i64>,
    /// 数值类型，默认 u8 / the type of the number; u8 by default
    #[serde(rename = "type")]
    #[schemars(with = "Option<ByteType>")]
    kind: Option<Spanned<String>>,
    /// 字节顺序，默认为 [mqtt] byte_order / the order of its bytes; by default that of [mqtt] byte_order
    #[schemars(with = "Option<ByteOrder>")]
    order: Option<Spanned<String>>,
    /// 整条消息比它多几个字节 / the whole message has so many bytes more
    #[serde(default)]
    plus: i64,
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
struct ChecksumFile {
    /// 算法 / how it is made
    #[schemars(with = "ChecksumKind")]
    kind: Spanned<String>,
    /// 它的位置，从 0 数，负数从末尾数 / where it is, from 0; below 0 from the end
    #[schemars(range(min = -BYTE_MAX, max = BYTE_MAX))]
    byte: Spanned<i64>,
    /// 从哪个字节算起，默认 0 / the first byte that it covers; 0 by default
    #[schemars(range(min = -BYTE_MAX, max = BYTE_MAX))]
    first: Option<Spanned<i64>>,
    /// 字节顺序，默认为 [mqtt] byte_order / the order of its bytes; by default that of [mqtt] byte_order
    #[schemars(with = "Option<ByteOrder>")]
    order: Option<Spanned<String>>,
}

pub(super) fn build_frame(
    written: Option<&Spanned<FrameFile>>,
    made_of: MadeOf,
    problems: &mut Problems,
) -> Frame {
    let Some(written) = written else { return Frame::default() };
    if !made_of.bytes {
        problems.error(
            written.span(),
            "这个 payload 里没有可检查的字节 / this payload has no bytes to check",
            "删去 [frame]，或写明 payload = … / remove [frame], or say payload = …",
        );
        return Frame::default();
    }
    let file = written.get_ref();
    Frame {
        starts_with: build_fixed(file.starts_with.as_ref(), problems),
        ends_with: build_fixed(file.ends_with.as_ref(), problems),
        length: file.length.as_ref().and_then(|length| build_length(length, made_of.order, problems)),
        checksum: file.checksum.as_ref().and_then(|sum| build_checksum(sum, made_of.order, problems)),
    }
}

fn build_fixed(written: Option<&Spanned<String>>, problems: &mut Problems) -> Vec<u8> {
    let Some(written) = written else { return Vec::new() };
    match hex(written.get_ref().as_bytes()) {
        Ok(bytes) if (1..=LISTED_MAX).contains(&bytes.len()) => bytes,
        _ => {
            problems.error(
                written.span(),
                "这不是一串字节 / this is no row of bytes",
                "写十六进制：\"A55A\" / write hexadecimal: \"A55A\"",
            );
            Vec::new()
        }
    }
}

fn build_length(
    written: &Spanned<LengthFile>,
    usual: Option<ByteOrder>,
    problems: &mut Problems,
) -> Option<Length> {
    let file = written.get_ref();
    let field = ByteFile {
        span: written.span(),
        byte: &file.byte,
        kind: file.kind.as_ref(),
        order: file.order.as_ref(),
        bits: BitsFile { span: written.span(), bit: None, bits: None, mask: None },
    };
    let field = build_byte_field(&field, usual, problems)?;
    if !field.kind.has_bits() {
        problems.error(
            written.span(),
            "长度是无符号数 / a length is an unsigned number",
            "写 type = \"u8\"、\"u16\" … / type = \"u8\", \"u16\" …",
        );
    }
    Some(Length { field, plus: file.plus })
}

fn build_checksum(
    written: &Spanned<ChecksumFile>,
    usual: Option<ByteOrder>,
    problems: &mut Problems,
) -> Option<Checksum> {
    let file = written.get_ref();
    let names = ChecksumKind::ALL.map(ChecksumKind::name);
    let kind = parse_word(&file.kind, ChecksumKind::parse, names, problems)?;
    let at = build_place(&file.byte, problems)?;
    let first = file.first.as_ref().map_or(Some(0), |first| build_place(first, problems))?;
    let order = build_order(file.order.as_ref(), usual, kind.width(), &written.span(), problems)?;
    Some(Checksum { kind, first, at, order })
}
