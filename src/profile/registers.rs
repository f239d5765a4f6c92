//! FRAMES → READINGS, registers: 16-bit Modbus words to numbers, in every type and order that devices use.

/// How a number lies in one or more registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WordType {
    /// The high byte of a register.
    U8High,
    /// The low byte of a register.
    U8Low,
    /// The high byte of a register, two's complement.
    I8High,
    /// The low byte of a register, two's complement.
    I8Low,
    /// 16 bits.
    U16,
    /// 16 bits, two's complement.
    I16,
    /// 32 bits.
    U32,
    /// 32 bits, two's complement.
    I32,
    /// 64 bits. Above 2^53 the last digits are lost: readings are doubles.
    U64,
    /// 64 bits, two's complement.
    I64,
    /// IEEE 754 half.
    F16,
    /// IEEE 754 single.
    F32,
    /// IEEE 754 double.
    F64,
    /// Four decimal digits, one a nibble.
    Bcd16,
    /// Eight decimal digits, one a nibble.
    Bcd32,
}

impl WordType {
    /// All types, in the order of the format reference.
    pub const ALL: [Self; 15] = [
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::U64,
        Self::I64,
        Self::F16,
        Self::F32,
        Self::F64,
        Self::Bcd16,
        Self::Bcd32,
        Self::U8High,
        Self::U8Low,
        Self::I8High,
        Self::I8Low,
    ];

    /// The name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8High => "u8h",
            Self::U8Low => "u8l",
            Self::I8High => "i8h",
            Self::I8Low => "i8l",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Bcd16 => "bcd16",
            Self::Bcd32 => "bcd32",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How many registers it takes.
    pub fn words(self) -> u16 {
        match self {
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
            _ => 1,
        }
    }

    /// Whether single bits of it may be picked out.
    pub fn has_bits(self) -> bool {
        matches!(self, Self::U16 | Self::U32 | Self::U64)
    }

    /// The number in these registers (exactly [`WordType::words`] of them). `None`: not a number in this type, such
    /// as a BCD digit above 9, or too few registers. A float may be NaN or infinite; the caller refuses those.
    #[expect(clippy::cast_precision_loss, reason = "readings are doubles; documented at U64 and I64")]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the cut is the decoding"
    )]
    pub fn decode(self, words: &[u16], order: WordOrder) -> Option<f64> {
        if words.len() != usize::from(self.words()) {
            return None;
        }
        let bits = order.assemble(words);
        Some(match self {
            Self::U8High => f64::from((bits >> 8) as u8),
            Self::U8Low => f64::from(bits as u8),
            Self::I8High => f64::from((bits >> 8) as i8),
            Self::I8Low => f64::from(bits as i8),
            Self::U16 => f64::from(bits as u16),
            Self::I16 => f64::from(bits as i16),
            Self::U32 => f64::from(bits as u32),
            Self::I32 => f64::from(bits as i32),
            Self::U64 => bits as f64,
            Self::I64 => bits as i64 as f64,
            Self::F16 => half(bits as u16),
            Self::F32 => f64::from(f32::from_bits(bits as u32)),
            Self::F64 => f64::from_bits(bits),
            Self::Bcd16 => bcd(bits, 4)?,
            Self::Bcd32 => bcd(bits, 8)?,
        })
    }
}

/// The order of the bytes of a number, named by where the letters of the big-endian number `ABCD` come on the wire.
/// For 64 bits the same names mean the same swaps: `CDAB` is `GHEFCDAB`, `BADC` is `BADCFEHG`, `DCBA` is `HGFEDCBA`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WordOrder {
    /// Big-endian: what the Modbus specification says for one register, carried on.
    Abcd,
    /// The low register first.
    Cdab,
    /// The bytes of each register swapped.
    Badc,
    /// Both: little-endian.
    Dcba,
}

impl WordOrder {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Abcd, Self::Cdab, Self::Badc, Self::Dcba];

    /// The name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abcd => "ABCD",
            Self::Cdab => "CDAB",
            Self::Badc => "BADC",
            Self::Dcba => "DCBA",
        }
    }

    /// The order of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.name() == name)
    }

    /// At most four registers as one big-endian number.
    pub fn assemble(self, words: &[u16]) -> u64 {
        let swap_bytes = matches!(self, Self::Badc | Self::Dcba);
        let join = |number: u64, word: &u16| {
            (number << 16) | u64::from(if swap_bytes { word.swap_bytes() } else { *word })
        };
        match self {
            Self::Abcd | Self::Badc => words.iter().fold(0, join),
            Self::Cdab | Self::Dcba => words.iter().rev().fold(0, join),
        }
    }
}

pub(super) fn bcd(bits: u64, digits: u32) -> Option<f64> {
    (0..digits).rev().try_fold(0.0, |number, place| {
        let digit = u8::try_from((bits >> (4 * place)) & 0xF).ok()?;
        (digit <= 9).then(|| number * 10.0 + f64::from(digit))
    })
}

pub(super) fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1F);
    let mantissa = f64::from(bits & 0x3FF);
    match exponent {
        0 => sign * mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        _ => sign * (1.0 + mantissa / 1024.0) * 2f64.powi(exponent - 15),
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the cut is what is tested")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The other way round, independently: big-endian bytes, reordered as the letters say.
    fn encode(bits: u64, words: u16, order: WordOrder) -> Vec<u16> {
        let bytes = &bits.to_be_bytes()[8 - 2 * usize::from(words)..];
        let mut pairs: Vec<[u8; 2]> = bytes.chunks(2).map(|pair| [pair[0], pair[1]]).collect();
        if matches!(order, WordOrder::Cdab | WordOrder::Dcba) {
            pairs.reverse();
        }
        if matches!(order, WordOrder::Badc | WordOrder::Dcba) {
            pairs.iter_mut().for_each(|pair| pair.reverse());
        }
        pairs.into_iter().map(u16::from_be_bytes).collect()
    }

    proptest! {
        #[test]
        fn every_integer_comes_back_in_every_order(bits: u64, order in 0usize..4) {
            let order = WordOrder::ALL[order];
            let decode = |kind: WordType, bits: u64| kind.decode(&encode(bits, kind.words(), order), order).unwrap();
            prop_assert_eq!(decode(WordType::U16, bits & 0xFFFF), f64::from(bits as u16));
            prop_assert_eq!(decode(WordType::I16, bits & 0xFFFF), f64::from(bits as i16));
            prop_assert_eq!(decode(WordType::U32, bits & 0xFFFF_FFFF), f64::from(bits as u32));
            prop_assert_eq!(decode(WordType::I32, bits & 0xFFFF_FFFF), f64::from(bits as i32));
            prop_assert_eq!(decode(WordType::U64, bits), bits as f64);
            prop_assert_eq!(decode(WordType::I64, bits), bits as i64 as f64);
            prop_assert_eq!(decode(WordType::U8High, bits & 0xFFFF), f64::from((bits >> 8) as u8));
            prop_assert_eq!(decode(WordType::I8Low, bits & 0xFFFF), f64::from(bits as i8));
        }

        #[test]
        fn every_float_comes_back_in_every_order(number: f32, order in 0usize..4) {
            let order = WordOrder::ALL[order];
            let single = WordType::F32.decode(&encode(u64::from(number.to_bits()), 2, order), order).unwrap();
            let double = WordType::F64.decode(&encode(f64::from(number).to_bits(), 4, order), order).unwrap();
            prop_assert_eq!(single.to_bits(), f64::from(number).to_bits());
            prop_assert_eq!(double.to_bits(), f64::from(number).to_bits());
        }

        #[test]
        fn decimal_digits_come_back(number in 0u32..100_000_000, order in 0usize..4) {
            let order = WordOrder::ALL[order];
            let bits = u64::from_str_radix(&number.to_string(), 16).unwrap();
            let decoded = WordType::Bcd32.decode(&encode(bits, 2, order), order).unwrap();
            prop_assert_eq!(decoded, f64::from(number));
        }
    }

    #[test]
    fn the_four_orders_are_the_four_of_the_name() {
        let wire = |order| encode(0x0A0B_0C0D, 2, order);
        assert_eq!(wire(WordOrder::Abcd), [0x0A0B, 0x0C0D]);
        assert_eq!(wire(WordOrder::Cdab), [0x0C0D, 0x0A0B]);
        assert_eq!(wire(WordOrder::Badc), [0x0B0A, 0x0D0C]);
        assert_eq!(wire(WordOrder::Dcba), [0x0D0C, 0x0B0A]);
    }

    #[test]
    fn a_bad_digit_or_a_short_answer_is_no_number() {
        assert_eq!(WordType::Bcd16.decode(&[0x12A4], WordOrder::Abcd), None);
        assert_eq!(WordType::F32.decode(&[0x3F80], WordOrder::Abcd), None);
        assert_eq!(WordType::Bcd16.decode(&[0x1234], WordOrder::Abcd), Some(1234.0));
    }

    #[test]
    fn halves_follow_ieee_754() {
        let cases =
            [(0x3C00, 1.0), (0xC000, -2.0), (0x0001, 2f64.powi(-24)), (0x7BFF, 65504.0), (0x0000, 0.0)];
        for (bits, expected) in cases {
            assert_eq!(WordType::F16.decode(&[bits], WordOrder::Abcd), Some(expected));
        }
        assert!(WordType::F16.decode(&[0x7E00], WordOrder::Abcd).unwrap().is_nan());
    }
}
