//! FRAMES → READINGS, framing: what a message of bytes must look like before a number of it is believed: its first and
//! last bytes, its length, its checksum.

use super::bytes::{ByteField, ByteOrder, place};

/// `[frame]`: the checks, in the order in which they are made.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Frame {
    pub(super) starts_with: Vec<u8>,
    pub(super) ends_with: Vec<u8>,
    pub(super) length: Option<Length>,
    pub(super) checksum: Option<Checksum>,
}

/// A field that says how long the message is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Length {
    pub(super) field: ByteField,
    /// The whole message has so many bytes more than the field says.
    pub(super) plus: i64,
}

/// A checksum over all from `first` up to its own place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checksum {
    pub(super) kind: ChecksumKind,
    pub(super) first: isize,
    pub(super) at: isize,
    pub(super) order: ByteOrder,
}

/// How a checksum is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChecksumKind {
    /// The low byte of the sum.
    Sum8,
    /// What makes the low byte of the sum, with it, zero.
    Sum8Zero,
    /// All bytes, exclusive-or.
    Xor8,
    /// CRC-16/MODBUS: polynomial 0x8005 reflected, initial 0xFFFF.
    Crc16Modbus,
}

impl ChecksumKind {
    pub(super) const ALL: [Self; 4] = [Self::Sum8, Self::Sum8Zero, Self::Xor8, Self::Crc16Modbus];

    /// The name in a profile.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sum8 => "sum8",
            Self::Sum8Zero => "sum8_zero",
            Self::Xor8 => "xor8",
            Self::Crc16Modbus => "crc16_modbus",
        }
    }

    /// The kind of that name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// In bytes.
    pub(super) fn width(self) -> usize {
        if self == Self::Crc16Modbus { 2 } else { 1 }
    }

    pub(super) fn of(self, bytes: &[u8]) -> u16 {
        let sum = || bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        match self {
            Self::Sum8 => sum().into(),
            Self::Sum8Zero => sum().wrapping_neg().into(),
            Self::Xor8 => bytes.iter().fold(0u8, |sum, byte| sum ^ byte).into(),
            Self::Crc16Modbus => {
                bytes.iter().fold(0xFFFF, |crc, byte| {
                    (0..8).fold(crc ^ u16::from(*byte), |crc: u16, _| {
                        if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xA001 }
                    })
                })
            }
        }
    }
}

impl Frame {
    /// The error says in Chinese what is wrong.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let (start, end) = (self.starts_with.as_slice(), self.ends_with.as_slice());
        if !bytes.starts_with(start) {
            return Err(format!("报文开头应为 {}，收到 {}", shown(start), shown(head(bytes, start.len()))));
        }
        if let Some(Length { field, plus }) = &self.length {
            let Some(said) = field.of(bytes).map(|part| field.order.assemble(part)) else {
                return Err(too_short(field.needs(), bytes.len()));
            };
            let wanted = i128::from(said) + i128::from(*plus);
            if i128::try_from(bytes.len()) != Ok(wanted) {
                return Err(format!("报文长度不符：应为 {wanted} 字节，收到 {}", bytes.len()));
            }
        }
        if !bytes.ends_with(end) {
            let tail = bytes.get(bytes.len().saturating_sub(end.len())..).unwrap_or(bytes);
            return Err(format!("报文结尾应为 {}，收到 {}", shown(end), shown(tail)));
        }
        self.checksum.as_ref().map_or(Ok(()), |checksum| checksum.check(bytes))
    }
}

impl Checksum {
    fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let width = self.kind.width();
        let parts = || {
            let (first, at) = (place(self.first, bytes.len())?, place(self.at, bytes.len())?);
            Some((bytes.get(first..at)?, bytes.get(at..at.checked_add(width)?)?))
        };
        let Some((covered, written)) = parts() else {
            let needs = self.at.unsigned_abs().saturating_add(if self.at < 0 { 0 } else { width });
            return Err(too_short(needs, bytes.len()));
        };
        let (made, said) = (u64::from(self.kind.of(covered)), self.order.assemble(written));
        if made == said {
            return Ok(());
        }
        let digits = 2 * width;
        Err(format!("校验和错误：应为 {made:0digits$X}，收到 {said:0digits$X}"))
    }
}

/// A message that ends before what is looked for.
pub(super) fn too_short(needs: usize, has: usize) -> String {
    format!("报文过短：至少 {needs} 字节，收到 {has}")
}

fn head(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(..count).unwrap_or(bytes)
}

fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::bytes::ByteType;
    use super::*;
    use proptest::prelude::*;

    /// `A5 5A`, a u16 length of the whole, content, CRC high byte first, `55 AA`.
    fn framed() -> Frame {
        Frame {
            starts_with: vec![0xA5, 0x5A],
            ends_with: vec![0x55, 0xAA],
            length: Some(Length {
                field: ByteField {
                    at: 2,
                    kind: ByteType::parse("u16").unwrap(),
                    order: ByteOrder::Big,
                    bits: None,
                },
                plus: 0,
            }),
            checksum: Some(Checksum {
                kind: ChecksumKind::Crc16Modbus,
                first: 0,
                at: -4,
                order: ByteOrder::Big,
            }),
        }
    }

    fn wrap(content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 8).unwrap();
        let mut bytes = [&[0xA5, 0x5A], length.to_be_bytes().as_slice(), content].concat();
        bytes.extend(ChecksumKind::Crc16Modbus.of(&bytes).to_be_bytes());
        bytes.extend([0x55, 0xAA]);
        bytes
    }

    #[test]
    fn checksums_are_those_of_their_definitions() {
        // The check value of CRC-16/MODBUS.
        assert_eq!(ChecksumKind::Crc16Modbus.of(b"123456789"), 0x4B37);
        assert_eq!(ChecksumKind::Sum8.of(&[0xFF, 0x02]), 0x01);
        assert_eq!(ChecksumKind::Sum8Zero.of(&[0xFF, 0x02]), 0xFF);
        assert_eq!(ChecksumKind::Xor8.of(&[0xF0, 0x0F, 0x01]), 0xFE);
    }

    #[test]
    fn what_is_wrong_with_a_frame_is_said_in_one_sentence() {
        let good = wrap(&[1, 2, 3]);
        assert_eq!(framed().check(&good), Ok(()));
        let said = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            framed().check(&bytes).unwrap_err()
        };
        assert!(said(&|bytes| bytes[0] = 0).contains("开头应为 A55A，收到 005A"));
        assert!(said(&|bytes| bytes.truncate(3)).contains("报文过短：至少 4 字节，收到 3"));
        assert!(said(&|bytes| bytes.truncate(9)).contains("应为 11 字节，收到 9"));
        assert!(said(&|bytes| bytes.push(0)).contains("应为 11 字节，收到 12"));
        assert!(said(&|bytes| bytes[10] = 0).contains("结尾应为 55AA，收到 5500"));
        assert!(said(&|bytes| bytes[5] ^= 1).contains("校验和错误：应为 "));
        assert!(said(&|bytes| bytes.clear()).contains("开头"));
    }

    #[test]
    fn a_sum_covers_what_the_profile_says() {
        let sum = |kind| Frame {
            checksum: Some(Checksum { kind, first: 1, at: -2, order: ByteOrder::Big }),
            ..Frame::default()
        };
        assert_eq!(sum(ChecksumKind::Sum8).check(&[9, 1, 2, 3, 9]), Ok(()));
        assert_eq!(sum(ChecksumKind::Sum8Zero).check(&[9, 1, 2, 0xFD, 9]), Ok(()));
        assert_eq!(sum(ChecksumKind::Xor8).check(&[9, 1, 2, 3, 9]), Ok(()));
        assert!(sum(ChecksumKind::Sum8).check(&[9, 1, 2, 4, 9]).unwrap_err().contains("应为 03，收到 04"));
        assert!(sum(ChecksumKind::Sum8).check(&[9, 1]).is_err(), "it would cover what lies before its start");
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_refused(content in prop::collection::vec(any::<u8>(), 0..80), bit: usize) {
            let mut bytes = wrap(&content);
            prop_assert_eq!(framed().check(&bytes), Ok(()));
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(framed().check(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_a_check_fail(
            bytes: Vec<u8>, first: i16, at: i16, plus: i64, kind in 0usize..4, width in 0usize..16,
        ) {
            let frame = Frame {
                starts_with: vec![],
                ends_with: vec![],
                length: Some(Length {
                    field: ByteField { at: at.into(), kind: ByteType::ALL[width], order: ByteOrder::Little, bits: None },
                    plus,
                }),
                checksum: Some(Checksum {
                    kind: ChecksumKind::ALL[kind], first: first.into(), at: at.into(), order: ByteOrder::Little,
                }),
            };
            if let Err(problem) = frame.check(&bytes) {
                prop_assert!(problem.chars().count() < 80, "{}", problem);
            }
        }
    }
}
