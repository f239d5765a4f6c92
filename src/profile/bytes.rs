//! FRAMES → READINGS, bytes: how a message's bytes are written on the wire, and the numbers at fixed places in them.

use super::registers::{bcd, half};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine, alphabet};
use std::borrow::Cow;

/// How a row of bytes is written in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Binary,
    /// Two digits a byte, in any case; spaces and a leading 0x are passed over.
    Hex,
    /// RFC 4648, with or without its padding; the alphabet for URLs is taken as well.
    Base64,
}

impl Encoding {
    pub(super) const ALL: [Self; 3] = [Self::Binary, Self::Hex, Self::Base64];

    /// The name in a profile.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Hex => "hex",
            Self::Base64 => "base64",
        }
    }

    /// The encoding of that name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }

    /// The bytes; the error says in Chinese what is wrong.
    pub(super) fn decode(self, written: &[u8]) -> Result<Cow<'_, [u8]>, String> {
        match self {
            Self::Binary => Ok(Cow::Borrowed(written)),
            Self::Hex => hex(written).map(Cow::Owned),
            Self::Base64 => base64(written).map(Cow::Owned),
        }
    }
}

/// What a bad digit looks like to a person.
fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!("{:?}", char::from(byte)) } else { format!("字节 {byte:02X}") }
}

/// Bytes in hexadecimal, as profiles and devices write them: `A5 5A`, `a55a`, `0xA55A`.
pub fn hex(written: &[u8]) -> Result<Vec<u8>, String> {
    let written = written.trim_ascii();
    let digits = match written {
        [b'0', b'x' | b'X', digits @ ..] => digits,
        digits => digits,
    };
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut high = None;
    for &byte in digits.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(format!("不是十六进制：{}", shown(byte))),
        };
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    if high.is_some() {
        return Err("十六进制的位数是奇数".to_owned());
    }
    Ok(bytes)
}

/// With padding or without, and whatever the last digit says beyond the last byte.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

fn base64(written: &[u8]) -> Result<Vec<u8>, String> {
    // The alphabet for URLs is understood as well.
    let standard = |byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    };
    let written: Vec<u8> = written.trim_ascii().iter().map(standard).collect();
    LENIENT.decode(written).map_err(|error| match error {
        DecodeError::InvalidByte(_, byte) if byte != b'=' => format!("不是 base64：{}", shown(byte)),
        _ => "不是完整的 base64".to_owned(),
    })
}

/// How a number lies in its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Unsigned,
    Signed,
    Float,
    Bcd,
}

/// A number of a message: its name in a profile, its width and what its bits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteType {
    name: &'static str,
    width: usize,
    shape: Shape,
}

impl ByteType {
    pub(super) const U8: Self = Self::new("u8", 1, Shape::Unsigned);

    pub(super) const ALL: [Self; 16] = [
        Self::U8,
        Self::new("i8", 1, Shape::Signed),
        Self::new("u16", 2, Shape::Unsigned),
        Self::new("i16", 2, Shape::Signed),
        Self::new("u24", 3, Shape::Unsigned),
        Self::new("i24", 3, Shape::Signed),
        Self::new("u32", 4, Shape::Unsigned),
        Self::new("i32", 4, Shape::Signed),
        Self::new("u64", 8, Shape::Unsigned),
        Self::new("i64", 8, Shape::Signed),
        Self::new("f16", 2, Shape::Float),
        Self::new("f32", 4, Shape::Float),
        Self::new("f64", 8, Shape::Float),
        Self::new("bcd8", 1, Shape::Bcd),
        Self::new("bcd16", 2, Shape::Bcd),
        Self::new("bcd32", 4, Shape::Bcd),
    ];

    const fn new(name: &'static str, width: usize, shape: Shape) -> Self {
        Self { name, width, shape }
    }

    pub(super) fn name(self) -> &'static str {
        self.name
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name == name)
    }

    /// In bytes.
    pub(super) fn width(self) -> usize {
        self.width
    }

    /// Whether single bits of it may be picked out, and lengths and checksums be read by it.
    pub(super) fn has_bits(self) -> bool {
        self.shape == Shape::Unsigned
    }

    /// The number that these bits are; `None`: a BCD digit above 9. A float may be NaN or infinite; the caller refuses
    /// those.
    #[expect(
        clippy::cast_precision_loss,
        reason = "readings are doubles; above 2^53 the last digits are lost"
    )]
    #[expect(clippy::cast_possible_truncation, reason = "the width is the type's")]
    #[expect(clippy::cast_possible_wrap, reason = "two's complement is the decoding")]
    fn number(self, bits: u64) -> Option<f64> {
        // All widths are 1 to 8 bytes.
        let unused = 64 - 8 * self.width as u32;
        Some(match (self.shape, self.width) {
            (Shape::Unsigned, _) => bits as f64,
            (Shape::Signed, _) => ((bits << unused) as i64 >> unused) as f64,
            (Shape::Float, 2) => half(bits as u16),
            (Shape::Float, 4) => f64::from(f32::from_bits(bits as u32)),
            (Shape::Float, _) => f64::from_bits(bits),
            (Shape::Bcd, width) => bcd(bits, 2 * width as u32)?,
        })
    }
}

/// The order of the bytes of a number, named by where the letters of the big-endian number `AB` or `ABCD` come on the
/// wire: `CDAB` and `BADC` are those of devices that send their Modbus registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Big,
    Little,
    /// `CDAB`: the low register first.
    LowWordFirst,
    /// `BADC`: the bytes of each register swapped.
    SwappedWords,
}

const ORDERS: [(&str, ByteOrder); 6] = [
    ("AB", ByteOrder::Big),
    ("BA", ByteOrder::Little),
    ("ABCD", ByteOrder::Big),
    ("DCBA", ByteOrder::Little),
    ("CDAB", ByteOrder::LowWordFirst),
    ("BADC", ByteOrder::SwappedWords),
];

impl ByteOrder {
    pub(super) const NAMES: [&'static str; 6] = ["AB", "BA", "ABCD", "DCBA", "CDAB", "BADC"];

    pub(super) fn parse(name: &str) -> Option<Self> {
        ORDERS.into_iter().find(|(known, _)| *known == name).map(|(_, order)| order)
    }

    /// At most eight bytes as one number.
    pub(super) fn assemble(self, bytes: &[u8]) -> u64 {
        let join = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match self {
            Self::Big => bytes.iter().fold(0, join),
            Self::Little => bytes.iter().rev().fold(0, join),
            Self::LowWordFirst => bytes.rchunks(2).flatten().fold(0, join),
            Self::SwappedWords => bytes.chunks(2).flat_map(|word| word.iter().rev()).fold(0, join),
        }
    }
}

/// Where in the bytes a number lies, and how it is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ByteField {
    /// The place of the first byte: from 0, or below 0 from the end.
    pub(super) at: isize,
    pub(super) kind: ByteType,
    pub(super) order: ByteOrder,
    /// Shift right, then mask.
    pub(super) bits: Option<(u32, u64)>,
}

impl ByteField {
    /// The bytes of it, when the message is long enough.
    pub(super) fn of<'m>(&self, bytes: &'m [u8]) -> Option<&'m [u8]> {
        let first = place(self.at, bytes.len())?;
        bytes.get(first..first.checked_add(self.kind.width)?)
    }

    /// The number; `None`: the message is too short.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Result<f64, String>> {
        let number = self.order.assemble(self.of(bytes)?);
        let number = match self.bits {
            Some((shift, mask)) => {
                ByteType { shape: Shape::Unsigned, ..self.kind }.number((number >> shift) & mask)
            }
            None => self.kind.number(number),
        };
        Some(number.ok_or_else(|| format!("不是有效的 {}", self.kind.name)))
    }

    /// How many bytes a message must have for it.
    pub(super) fn needs(&self) -> usize {
        match usize::try_from(self.at) {
            Ok(first) => first.saturating_add(self.kind.width),
            Err(_) => self.at.unsigned_abs(),
        }
    }
}

/// A place counted from the start, or below 0 from the end, of a message of that length.
pub(super) fn place(at: isize, length: usize) -> Option<usize> {
    if at < 0 { length.checked_sub(at.unsigned_abs()) } else { usize::try_from(at).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(at: isize, kind: &str, order: &str) -> ByteField {
        ByteField {
            at,
            kind: ByteType::parse(kind).unwrap(),
            order: ByteOrder::parse(order).unwrap(),
            bits: None,
        }
    }

    fn number(wire: &[u8], kind: &str, order: &str) -> f64 {
        field(0, kind, order).read(wire).unwrap().unwrap()
    }

    #[test]
    fn hexadecimal_is_read_however_a_device_writes_it() {
        for written in ["A55A00", "a5 5a 00", "0xA55a00", " A5 5A 00\r\n", "A5\n5A00"] {
            assert_eq!(hex(written.as_bytes()), Ok(vec![0xA5, 0x5A, 0]), "{written:?}");
        }
        assert_eq!(hex(b""), Ok(vec![]));
        assert!(hex(b"A55").unwrap_err().contains("奇数"));
        assert!(hex(b"A5,5A").unwrap_err().contains("','"));
        assert!(hex(&[0xA5, 0x5A]).unwrap_err().contains("A5"));
    }

    #[test]
    fn base64_is_read_with_and_without_its_padding() {
        // RFC 4648, section 10.
        for (text, written) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(written.as_bytes()).unwrap(), text.as_bytes());
            assert_eq!(base64(written.trim_end_matches('=').as_bytes()).unwrap(), text.as_bytes());
        }
        assert_eq!(base64(b"-_8="), base64(b"+/8="));
        for bad in ["Z", "Zg===", "Z!==", "Zm9v=", "====", "Zg==Zg=="] {
            assert!(base64(bad.as_bytes()).is_err(), "{bad:?} was read");
        }
    }

    #[test]
    fn numbers_are_read_in_every_width_and_order() {
        assert_eq!(number(&[0xFE], "u8", "AB"), 254.0);
        assert_eq!(number(&[0xFE], "i8", "AB"), -2.0);
        assert_eq!(number(&[0x01, 0x02], "u16", "AB"), 258.0);
        assert_eq!(number(&[0x02, 0x01], "u16", "BA"), 258.0);
        assert_eq!(number(&[0xFF, 0x38], "i16", "AB"), -200.0);
        assert_eq!(number(&[0xFF, 0xFF, 0xFE], "i24", "AB"), -2.0);
        assert_eq!(number(&[0x01, 0x00, 0x01], "u24", "AB"), 65_537.0);
        assert_eq!(number(&[0x41, 0xBC, 0x00, 0x00], "f32", "ABCD"), 23.5);
        for (wire, order) in [
            ([0x0A, 0x0B, 0x0C, 0x0D], "ABCD"),
            ([0x0D, 0x0C, 0x0B, 0x0A], "DCBA"),
            ([0x0C, 0x0D, 0x0A, 0x0B], "CDAB"),
            ([0x0B, 0x0A, 0x0D, 0x0C], "BADC"),
        ] {
            assert_eq!(number(&wire, "u32", order), f64::from(0x0A0B_0C0D), "{order}");
        }
        assert_eq!(number(&[0x3C, 0x00], "f16", "AB"), 1.0);
        assert_eq!(number(&23.5f64.to_le_bytes(), "f64", "DCBA"), 23.5);
        assert_eq!(number(&[0x12, 0x34], "bcd16", "AB"), 1234.0);
        assert!(field(0, "bcd16", "AB").read(&[0x12, 0xA4]).unwrap().is_err());
    }

    #[test]
    fn places_are_counted_from_either_end_and_a_short_message_has_none() {
        let bytes = [1, 2, 3, 4];
        assert_eq!(field(-2, "u16", "AB").read(&bytes), Some(Ok(772.0)));
        assert_eq!(field(3, "u8", "AB").read(&bytes), Some(Ok(4.0)));
        for outside in [field(3, "u16", "AB"), field(-5, "u8", "AB"), field(-1, "u16", "AB")] {
            assert_eq!(outside.read(&bytes), None, "{outside:?}");
        }
        let bits = ByteField { bits: Some((4, 0xF)), ..field(0, "u8", "AB") };
        assert_eq!(bits.read(&[0x5A]), Some(Ok(5.0)));
    }

    proptest! {
        #[test]
        fn every_integer_comes_back(bits: i64, width in prop::sample::select(vec![1usize, 2, 3, 4, 8])) {
            let kind = |sign: &str| format!("{sign}{}", width * 8);
            let wire = &bits.to_be_bytes()[8 - width..];
            let mut reversed = wire.to_vec();
            reversed.reverse();
            let unused = 64 - 8 * u32::try_from(width).unwrap();
            let signed = (bits << unused) >> unused;
            #[expect(clippy::cast_precision_loss, reason = "as documented")]
            let expected = signed as f64;
            prop_assert_eq!(number(wire, &kind("i"), "AB"), expected);
            prop_assert_eq!(number(&reversed, &kind("i"), "BA"), expected);
        }

        #[test]
        fn every_row_of_bytes_comes_back_from_its_text(bytes: Vec<u8>) {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
            prop_assert_eq!(hex(text.as_bytes()), Ok(bytes));
        }

        #[test]
        fn no_text_makes_a_decoder_fail(text: Vec<u8>, at: i16, order in 0usize..6, kind in 0usize..16) {
            for encoding in Encoding::ALL {
                if let Err(problem) = encoding.decode(&text) {
                    prop_assert!(!problem.is_empty() && problem.chars().count() < 40);
                }
            }
            let field = ByteField {
                at: at.into(),
                kind: ByteType::ALL[kind],
                order: ORDERS[order].1,
                bits: None,
            };
            prop_assert_eq!(field.read(&text).is_some(), text.len() >= field.needs() && (at >= 0 || field.of(&text).is_some()));
        }
    }
}
