//! The blob of an entry's readings: pure, exact, small. About 4 to 6 bytes a reading.
//!
//! `version, count, first time, reading*, crc32`; integers are LEB128 varints, signed ones zig-zagged. A reading is one
//! byte of marks, the point's number as a difference to the one before, and only what the marks announce. A number that
//! has at most seven decimals is stored as the scaled integer and comes back as the very same `f64`: the quotient of two
//! exactly represented integers is correctly rounded, as is the parsing of the decimal that the device sent.

use crate::model::{Code, Flaw, Number, PointId, Quality, Reading, Timestamp, Value};

/// The first byte. A change of the layout is a new version; old ones stay readable.
const VERSION: u8 = 1;
/// One entry's readings; a pipeline batch is far smaller. Stops a damaged count from reserving memory.
const COUNT_MAX: u64 = 1 << 20;
/// Larger scaled integers are stored as eight bytes: the varint would be longer.
const MANTISSA_MAX: f64 = 1_099_511_627_776.0; // 2^40
const POWERS: [f64; 8] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7];

const KIND: u8 = 0b0000_0111;
const KIND_DECIMAL: u8 = 0;
const KIND_BINARY: u8 = 1;
const KIND_FALSE: u8 = 2;
const KIND_TRUE: u8 = 3;
const KIND_CODE: u8 = 4;
const KIND_ABSENT: u8 = 5;
const QUALITY_SHIFT: u32 = 3;
const HAS_REMARK: u8 = 1 << 5; // flaw or late
const HAS_SAMPLED: u8 = 1 << 6;
const HAS_RECEIVED: u8 = 1 << 7; // received at another time than the reading before
const LATE: u8 = 1 << 7;

/// The blob is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damaged {
    #[error("the check sum is wrong")]
    Checksum,
    #[error("format {0} is not known")]
    Version(u8),
    #[error("it ends too early or holds an impossible figure")]
    Shape,
    #[error("it names point or code {0}, which does not exist")]
    Name(u64),
}

/// Packs readings. `point` and `code` give the numbers of the names; their error is passed on.
pub(crate) fn encode<E>(
    readings: &[Reading],
    mut point: impl FnMut(&PointId) -> Result<u32, E>,
    mut code: impl FnMut(&Code) -> Result<u32, E>,
) -> Result<Vec<u8>, E> {
    let mut out = Vec::with_capacity(16 + readings.len() * 6);
    out.push(VERSION);
    put_varint(&mut out, readings.len() as u64);
    let (mut time, mut number) = (0i64, 0i64);
    for reading in readings {
        let received = reading.received_at.as_millis();
        let marks_at = out.len();
        let mut marks = (reading.quality as u8) << QUALITY_SHIFT;
        out.push(0);
        let this = i64::from(point(&reading.point)?);
        put_signed(&mut out, this - number);
        number = this;
        if reading.flaw.is_some() || reading.late {
            marks |= HAS_REMARK;
            let flaw = reading.flaw.map_or(0, |flaw| flaw as u8 + 1);
            out.push(flaw | if reading.late { LATE } else { 0 });
        }
        if received != time {
            marks |= HAS_RECEIVED;
            put_signed(&mut out, received.wrapping_sub(time));
            time = received;
        }
        if let Some(sampled) = reading.sampled_at {
            marks |= HAS_SAMPLED;
            put_signed(&mut out, sampled.as_millis().wrapping_sub(received));
        }
        marks |= match &reading.value {
            Value::Number(value) => put_number(&mut out, value.get()),
            Value::Flag(false) => KIND_FALSE,
            Value::Flag(true) => KIND_TRUE,
            Value::Code(name) => {
                put_varint(&mut out, u64::from(code(name)?));
                KIND_CODE
            }
            Value::Absent => KIND_ABSENT,
        };
        out[marks_at] = marks;
    }
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    Ok(out)
}

/// How many readings a blob says it holds, without unpacking it. Of a damaged one: something, at most its length.
pub(crate) fn count(blob: &[u8]) -> usize {
    let mut input = Input(blob);
    let count = input.byte().and_then(|_version| input.varint());
    count.ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0).min(blob.len())
}

/// Unpacks a blob. Never panics, whatever the bytes.
pub(crate) fn decode(
    blob: &[u8],
    point: impl Fn(u32) -> Option<PointId>,
    code: impl Fn(u32) -> Option<Code>,
) -> Result<Vec<Reading>, Damaged> {
    let (body, sum) = blob.split_last_chunk::<4>().ok_or(Damaged::Shape)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return Err(Damaged::Checksum);
    }
    decode_body(body, point, code)
}

fn decode_body(
    body: &[u8],
    point: impl Fn(u32) -> Option<PointId>,
    code: impl Fn(u32) -> Option<Code>,
) -> Result<Vec<Reading>, Damaged> {
    let mut input = Input(body);
    let version = input.byte()?;
    if version != VERSION {
        return Err(Damaged::Version(version));
    }
    let count = input.varint()?;
    // Every reading takes at least two bytes.
    if count > COUNT_MAX || count > body.len() as u64 {
        return Err(Damaged::Shape);
    }
    let mut readings = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    let (mut time, mut number) = (0i64, 0i64);
    for _ in 0..count {
        let marks = input.byte()?;
        number = number.wrapping_add(input.signed()?);
        let remark = if marks & HAS_REMARK != 0 { input.byte()? } else { 0 };
        if marks & HAS_RECEIVED != 0 {
            time = time.wrapping_add(input.signed()?);
        }
        let sampled_at = if marks & HAS_SAMPLED != 0 {
            Some(Timestamp::from_millis(time.wrapping_add(input.signed()?)))
        } else {
            None
        };
        let value = match marks & KIND {
            KIND_DECIMAL => Value::Number(input.decimal()?),
            KIND_BINARY => Value::Number(input.binary()?),
            KIND_FALSE => Value::Flag(false),
            KIND_TRUE => Value::Flag(true),
            KIND_CODE => {
                let id = input.varint()?;
                Value::Code(u32::try_from(id).ok().and_then(&code).ok_or(Damaged::Name(id))?)
            }
            KIND_ABSENT => Value::Absent,
            _ => return Err(Damaged::Shape),
        };
        let quality = match marks >> QUALITY_SHIFT & 0b11 {
            0 => Quality::Good,
            1 => Quality::Uncertain,
            2 => Quality::Bad,
            _ => return Err(Damaged::Shape),
        };
        let flaw = match remark & !LATE {
            0 => None,
            index => Some(*Flaw::ALL.get(usize::from(index) - 1).ok_or(Damaged::Shape)?),
        };
        let named = u32::try_from(number).ok().and_then(&point);
        readings.push(Reading {
            point: named.ok_or(Damaged::Name(number.unsigned_abs()))?,
            value,
            quality,
            flaw,
            sampled_at,
            received_at: Timestamp::from_millis(time),
            late: remark & LATE != 0,
        });
    }
    if input.0.is_empty() { Ok(readings) } else { Err(Damaged::Shape) }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, (value.wrapping_shl(1) ^ (value >> 63)).cast_unsigned());
}

/// Writes a number and says in which way.
fn put_number(out: &mut Vec<u8>, value: f64) -> u8 {
    for (scale, power) in (0u64..).zip(POWERS) {
        let mantissa = (value * power).round();
        if mantissa.abs() >= MANTISSA_MAX {
            break;
        }
        if (mantissa / power).to_bits() == value.to_bits() {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^40")]
            let whole = mantissa as i64;
            let zigzag = (whole.wrapping_shl(1) ^ (whole >> 63)).cast_unsigned();
            put_varint(out, zigzag << 3 | scale);
            return KIND_DECIMAL;
        }
    }
    out.extend_from_slice(&value.to_le_bytes());
    KIND_BINARY
}

/// The rest of a blob.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.0.split_first().ok_or(Damaged::Shape)?;
        self.0 = rest;
        Ok(*first)
    }

    fn varint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                return Err(Damaged::Shape);
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged::Shape)
    }

    fn signed(&mut self) -> Result<i64, Damaged> {
        self.varint().map(unzigzag)
    }

    fn decimal(&mut self) -> Result<Number, Damaged> {
        let packed = self.varint()?;
        let power = POWERS[usize::from(packed.to_le_bytes()[0] & 7)];
        #[expect(clippy::cast_precision_loss, reason = "written below 2^40; a damaged one may lose bits")]
        let mantissa = unzigzag(packed >> 3) as f64;
        Number::new(mantissa / power).ok_or(Damaged::Shape)
    }

    fn binary(&mut self) -> Result<Number, Damaged> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(Damaged::Shape)?;
        self.0 = rest;
        Number::new(f64::from_le_bytes(*bytes)).ok_or(Damaged::Shape)
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// For `crate::fuzz`: any bytes as a blob, with the check sum that they ought to have, so that chance reaches what is
/// behind it.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(body: &[u8]) {
    let blob = [body, &crc32fast::hash(body).to_le_bytes()].concat();
    let point = |number| PointId::parse(&format!("d/p{}", number % 8)).ok().filter(|_| number < 100);
    let code = |number| (number < 100).then(|| Code::from("alarm"));
    if let Ok(readings) = decode(&blob, point, code) {
        assert!(readings.len() <= body.len() && count(&blob) <= blob.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODES: [&str; 3] = ["normal", "alarm", "low"];

    fn name(number: u32) -> Option<PointId> {
        (number < 5000).then(|| PointId::parse(&format!("dev-{number}/value")).unwrap())
    }
    fn code(number: u32) -> Option<Code> {
        CODES.get(number as usize).map(|&code| code.into())
    }
    fn pack(readings: &[Reading]) -> Vec<u8> {
        let number = |point: &PointId| point.device()[4..].parse();
        let code = |code: &Code| Ok(CODES.iter().position(|c| *c == &**code).unwrap().try_into().unwrap());
        encode(readings, number, code).unwrap()
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let number = |value: f64| Number::new(value).map_or(Value::Absent, Value::Number);
        prop_oneof![
            any::<f64>().prop_map(number),
            (-100_000i64..100_000, 0u32..8)
                .prop_map(move |(m, s)| number(m as f64 / 10f64.powi(s.cast_signed()))),
            any::<bool>().prop_map(Value::Flag),
            (0..CODES.len()).prop_map(|i| Value::Code(CODES[i].into())),
            Just(Value::Absent),
        ]
    }

    fn any_reading() -> impl Strategy<Value = Reading> {
        let quality = prop_oneof![Just(Quality::Good), Just(Quality::Uncertain), Just(Quality::Bad)];
        let flaw = prop::option::of((0..Flaw::ALL.len()).prop_map(|i| Flaw::ALL[i]));
        let time = || prop_oneof![any::<i64>(), 1_700_000_000_000i64..1_900_000_000_000];
        (0u32..5000, any_value(), quality, flaw, prop::option::of(time()), time(), any::<bool>()).prop_map(
            |(point, value, quality, flaw, sampled, received, late)| Reading {
                point: name(point).unwrap(),
                value,
                quality,
                flaw,
                sampled_at: sampled.map(Timestamp::from_millis),
                received_at: Timestamp::from_millis(received),
                late,
            },
        )
    }

    proptest! {
        #[test]
        fn any_readings_come_back_as_they_were(readings in prop::collection::vec(any_reading(), 0..50)) {
            let blob = pack(&readings);
            prop_assert_eq!(count(&blob), readings.len());
            prop_assert_eq!(decode(&blob, name, code), Ok(readings));
        }

        #[test]
        fn any_bytes_are_readings_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&bytes, name, code).is_err() || bytes.len() > 4);
            prop_assert!(count(&bytes) <= bytes.len());
            let mut body = vec![VERSION];
            body.extend(&bytes);
            let _readings = decode_body(&body, name, code);
        }

        #[test]
        fn a_flipped_bit_is_noticed(
            readings in prop::collection::vec(any_reading(), 1..20), at in any::<prop::sample::Index>(), bit in 0u32..8
        ) {
            let mut blob = pack(&readings);
            let index = at.index(blob.len());
            blob[index] ^= 1 << bit;
            prop_assert_eq!(decode(&blob, name, code), Err(Damaged::Checksum));
        }
    }

    #[test]
    fn a_temperature_is_two_bytes_and_exact() {
        let mut out = Vec::new();
        assert_eq!(put_number(&mut out, 23.4), KIND_DECIMAL);
        assert_eq!(out.len(), 2);
        assert_eq!(Input(&out).decimal().unwrap().get().to_bits(), 23.4f64.to_bits());
        assert_eq!(put_number(&mut out, 0.1 + 0.2), KIND_BINARY);
    }
}
