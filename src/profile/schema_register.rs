//! FRAMES → READINGS, the profile's registers: from `[modbus]` and `from = { table, address, … }` to words and bits.

use super::draft::{Problems, Spanned};
use super::poll::BITS_PER_READ_MAX;
use super::registers::{WordOrder, WordType};
use super::schema::{Field, ProfileLink};
use super::shape_point::FromFile;
use super::vocabulary::parse_word;
use crate::model::{RegisterTable, Span, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use std::ops::Range;

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct ModbusFile {
    /// 轮询周期，秒，0.05 到 86400 / how often it is polled, in seconds, 0.05 to 86400
    #[schemars(range(min = 0.05, max = 86400))]
    poll_every_secs: Spanned<f64>,
    /// 多寄存器值的顺序：ABCD 高位在前，CDAB 低寄存器在前 / the order of values of several registers: ABCD high first, CDAB low register first
    #[schemars(with = "Option<WordOrder>")]
    word_order: Option<Spanned<String>>,
    /// 一次读可以跨过多少个不需要的寄存器，默认 0 / how many unwanted registers one read may span; 0 by default
    #[serde(default)]
    hole_limit: u16,
    /// 一次最多读多少个寄存器，设备少于 125 时写 / the most registers in one read, if the device gives fewer than 125
    #[schemars(range(min = 4, max = BITS_PER_READ_MAX))]
    read_max: Option<Spanned<u16>>,
    /// 说明书中第一个寄存器的编号：0（默认）或 1 / the number that the manual gives to the first register: 0 (default) or 1
    #[serde(default)]
    #[schemars(range(max = 1))]
    address_base: Option<Spanned<u16>>,
}

/// What a register inherits from its profile.
#[derive(Clone, Copy)]
pub(super) struct ModbusDefaults {
    pub(super) every: Span,
    pub(super) order: Option<WordOrder>,
    /// `None`: it was not said, and is 0.
    pub(super) address_base: Option<u16>,
}

pub(super) const TABLES: [(&str, RegisterTable); 4] = [
    ("coil", RegisterTable::Coil),
    ("discrete", RegisterTable::Discrete),
    ("holding", RegisterTable::Holding),
    ("input", RegisterTable::Input),
];

/// The table of that name in a profile.
pub(super) fn parse_table(name: &str) -> Option<RegisterTable> {
    TABLES.into_iter().find(|(known, _)| *known == name).map(|(_, table)| table)
}

/// The name of a table in a profile and in problems.
pub(super) fn table_name(table: RegisterTable) -> &'static str {
    TABLES.into_iter().find(|(_, known)| *known == table).map_or("", |(name, _)| name)
}

pub(super) fn build_modbus(file: &ModbusFile, problems: &mut Problems) -> (ProfileLink, ModbusDefaults) {
    let every = every(&file.poll_every_secs, problems).unwrap_or(Span::from_secs(1));
    let order = file.word_order.as_ref().and_then(|written| {
        parse_word(written, WordOrder::parse, WordOrder::ALL.map(WordOrder::name), problems)
    });
    let read_max = file.read_max.as_ref().map_or(BITS_PER_READ_MAX, |written| {
        let most = *written.get_ref();
        // Four registers: the widest number has to fit one read.
        if !(4..=BITS_PER_READ_MAX).contains(&most) {
            problems.error(
                written.span(),
                format!("read_max 超出范围 / read_max = {most} is out of range"),
                "用 4 到 2000 / use 4 to 2000",
            );
        }
        most
    });
    let address_base = file.address_base.as_ref().map(|written| {
        if *written.get_ref() > 1 {
            problems.error(
                written.span(),
                "address_base 是 0 或 1 / address_base is 0 or 1",
                "即说明书给第一个寄存器的编号；40001 中的 4 表示寄存器区，编号是 1 / the number that the manual gives to the first register; of 40001 the 4 is the table, and the number is 1",
            );
        }
        (*written.get_ref()).min(1)
    });
    let link = ProfileLink::Modbus { every, hole_limit: file.hole_limit, read_max, address_base };
    let defaults = ModbusDefaults { every, order, address_base };
    (link, defaults)
}

/// A polling period in seconds, fractions allowed.
#[expect(clippy::cast_possible_truncation, reason = "checked to be within a day")]
fn every(written: &Spanned<f64>, problems: &mut Problems) -> Option<Span> {
    let secs = *written.get_ref();
    // 50 ms: what a 9600 baud bus needs for one small read. A day: nobody watches a fire device less often.
    if !(0.05..=86_400.0).contains(&secs) {
        problems.error(
            written.span(),
            format!("{secs} s 不能作读取周期 / {secs} s is no polling period"),
            "用 0.05 到 86400 秒 / use 0.05 to 86400",
        );
        return None;
    }
    Some(Span::from_millis((secs * 1000.0).round() as i64))
}

pub(super) fn build_register(
    from: &Spanned<FromFile>,
    defaults: ModbusDefaults,
    problems: &mut Problems,
) -> Option<Field> {
    let file = from.get_ref();
    let (Some(table), Some(address)) = (&file.table, &file.address) else {
        problems.error(
            from.span(),
            "寄存器要有 table 和 address / a register needs table and address",
            "补上 / add them",
        );
        return None;
    };
    let table = parse_word(table, parse_table, TABLES.map(|(name, _)| name), problems);
    let wire = wire_address(table, address, defaults.address_base, problems);
    let (table, wire) = (table?, wire?);
    let is_bit_table = matches!(table, RegisterTable::Coil | RegisterTable::Discrete);
    let kind = match &file.kind {
        Some(written) if is_bit_table => {
            problems.error(
                written.span(),
                "线圈和离散输入是单个位 / coils and discrete inputs are single bits",
                "删去 `type` / remove `type`",
            );
            return None;
        }
        Some(written) => parse_word(written, WordType::parse, WordType::ALL.map(WordType::name), problems)?,
        None if is_bit_table => WordType::U16,
        None => {
            problems.error(
                from.span(),
                "寄存器要写数据类型 / a register needs its type",
                "加 type = \"u16\"、\"i16\"、\"f32\" … / add type = \"u16\", \"i16\", \"f32\" …",
            );
            return None;
        }
    };
    let order = build_order(from, kind, defaults, problems)?;
    if usize::from(wire) + usize::from(kind.words()) > usize::from(u16::MAX) + 1 {
        problems.error(
            address.span(),
            "这个值越过了寄存器 65535 / the value reaches beyond register 65535",
            "核对地址 / check the address",
        );
    }
    let width = 16 * usize::from(kind.words());
    let bits = build_bits(&BitsFile::of(from), width, kind.has_bits() && !is_bit_table, problems)?;
    let every = match &file.every_secs {
        Some(written) => every(written, problems)?,
        None => defaults.every,
    };
    Some(Field { table, address: wire, kind, order, bits, every })
}

/// The first numbers of a table in manuals that number all tables in one row: the first of five or six digits is the
/// table, the rest counts from 1.
fn first_references(table: RegisterTable) -> Option<[u32; 2]> {
    match table {
        // 00001 is an ordinary number.
        RegisterTable::Coil => None,
        RegisterTable::Discrete => Some([10_001, 100_001]),
        RegisterTable::Input => Some([30_001, 300_001]),
        RegisterTable::Holding => Some([40_001, 400_001]),
    }
}

/// How many numbers a table has with five and with six digits.
const REFERENCES: [u32; 2] = [9_999, 65_536];

/// The address on the wire, from the one in the manual. A number such as 40108 may be either: it is refused until
/// `address_base = 0` says that it is what goes on the wire.
pub(super) fn wire_address(
    table: Option<RegisterTable>,
    address: &Spanned<u32>,
    base: Option<u16>,
    problems: &mut Problems,
) -> Option<u16> {
    let written = *address.get_ref();
    let rows = table.and_then(first_references).into_iter().flatten().zip(REFERENCES);
    let reference =
        rows.filter_map(|(first, length)| written.checked_sub(first).filter(|at| *at < length)).next();
    let table = table.map_or("", table_name);
    let wire = written.checked_sub(u32::from(base.unwrap_or(0))).and_then(|wire| u16::try_from(wire).ok());
    let (wrong, help) = match (wire, reference) {
        (Some(wire), None) => return Some(wire),
        (Some(wire), Some(_)) if base == Some(0) => return Some(wire),
        (wire, Some(at)) => {
            let really = wire.map_or_else(
                || Text::new("", ""),
                |wire| {
                    Text::new(
                        &format!("；如果线上发送的确实是 {wire}：写 address = {wire} 和 address_base = 0"),
                        &format!("; if {wire} is really what goes on the wire: address = {wire} with address_base = 0"),
                    )
                },
            );
            let number = at + 1;
            (
                format!("说明书中的 {written} 通常指 {table} 区第 {number} 号 / {written} in a manual usually means {table} number {number}"),
                format!("写 address = {number} 和 address_base = 1{} / address = {number} with address_base = 1{}", really.zh, really.en),
            )
        }
        (None, None) if written == 0 => (
            "address_base = 1 时没有地址 0 / there is no address 0 with address_base = 1".to_owned(),
            "说明书从 0 数起：写 address_base = 0（并核对其他地址） / the manual counts from 0: write address_base = 0 (and look at the other addresses)".to_owned(),
        ),
        (None, None) => (
            format!(
                "地址 {written} 超过最后一个地址 {0} / the address {written} is beyond the last one, {0}",
                65_535 + u32::from(base.unwrap_or(0))
            ),
            "核对地址；十六进制写作 0x10 / check the address; hexadecimal is written 0x10".to_owned(),
        ),
    };
    problems.error(address.span(), wrong, help);
    None
}

fn build_order(
    from: &Spanned<FromFile>,
    kind: WordType,
    defaults: ModbusDefaults,
    problems: &mut Problems,
) -> Option<WordOrder> {
    if let Some(written) = &from.get_ref().order {
        return parse_word(written, WordOrder::parse, WordOrder::ALL.map(WordOrder::name), problems);
    }
    if let Some(order) = defaults.order {
        return Some(order);
    }
    if kind.words() > 1 {
        problems.error(
            from.span(),
            "占几个寄存器的值要写字序 / a value of several registers needs its order",
            "在 [modbus] 加 word_order = \"ABCD\"（或 CDAB、BADC、DCBA） / add word_order = \"ABCD\" (or CDAB, BADC, DCBA) to [modbus]",
        );
        return None;
    }
    Some(WordOrder::Abcd)
}

/// `bit = 5`, `bits = "0..3"` (both ends included, bit 0 is the lowest) or `mask = 0x00F0`. All end at bit 0.
pub(super) struct BitsFile<'f> {
    pub(super) span: Range<usize>,
    pub(super) bit: Option<&'f Spanned<u32>>,
    pub(super) bits: Option<&'f Spanned<String>>,
    pub(super) mask: Option<&'f Spanned<u64>>,
}

impl<'f> BitsFile<'f> {
    pub(super) fn of(from: &'f Spanned<FromFile>) -> Self {
        let file = from.get_ref();
        Self { span: from.span(), bit: file.bit.as_ref(), bits: file.bits.as_ref(), mask: file.mask.as_ref() }
    }
}

/// Shift and mask; `width` is the number's, in bits.
#[expect(clippy::option_option, reason = "outside: whether it is right; inside: whether bits are picked")]
pub(super) fn build_bits(
    file: &BitsFile<'_>,
    width: usize,
    has_bits: bool,
    problems: &mut Problems,
) -> Option<Option<(u32, u64)>> {
    let width = u32::try_from(width).unwrap_or(64);
    let (span, first, last) = match (file.bit, file.bits, file.mask) {
        (None, None, None) => return Some(None),
        (Some(bit), None, None) => (bit.span(), *bit.get_ref(), *bit.get_ref()),
        (None, Some(bits), None) => {
            let ends = bits
                .get_ref()
                .split_once("..")
                .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
            let Some((first, last)) = ends else {
                problems.error(
                    bits.span(),
                    "bits 写作 \"0..3\" / bits are written \"0..3\"",
                    "第一位和最后一位，两端都包括 / first and last bit, both included",
                );
                return None;
            };
            (bits.span(), first, last)
        }
        (None, None, Some(mask)) => {
            let bits = *mask.get_ref();
            if bits == 0 {
                problems.error(
                    mask.span(),
                    "掩码没有选中任何位 / the mask picks no bit",
                    "写 mask = 0x00F0 这样的数 / write mask = 0x00F0",
                );
                return None;
            }
            if !has_bits || bits.leading_zeros() < 64 - width {
                problems.error(
                    mask.span(),
                    "掩码与数据类型不符 / the mask does not fit the type",
                    "掩码只用于无符号类型 / masks go with unsigned types",
                );
                return None;
            }
            return Some(Some((bits.trailing_zeros(), bits >> bits.trailing_zeros())));
        }
        _ => {
            problems.error(
                file.span.clone(),
                "bit、bits、mask 只能写一个 / only one of bit, bits and mask",
                "删去其余的 / remove the others",
            );
            return None;
        }
    };
    if !has_bits || first > last || last >= width {
        problems.error(
            span,
            "所选的位与数据类型不符 / the bits do not fit the type",
            "位只用于无符号类型；第 0 位是最低位 / bits go with unsigned types; bit 0 is the lowest",
        );
        return None;
    }
    Some(Some((first, u64::MAX >> (63 - (last - first)))))
}
