//! One sample, as the tail and the chunks hold it; and its narrow form in memory. Pure.

use crate::model::{Quality, Reading, Value};

/// Stands for "nothing could be read": no `Number` is ever NaN.
pub(super) const ABSENT: f64 = f64::NAN;

/// What a figure stands for. A point has one form all its life, unless its profile was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Form {
    /// A measurement.
    Number = 0,
    /// 0 or 1.
    Flag = 1,
    /// The number of a state.
    State = 2,
}

impl Form {
    pub(super) fn of_byte(byte: u8) -> Option<Self> {
        [Self::Number, Self::Flag, Self::State].into_iter().find(|form| *form as u8 == byte)
    }
}

/// Quality and form in one byte, the quality above, so that marks are ordered from usable to not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark(u8);

const FORM: u8 = 0b0011;
const QUALITY_SHIFT: u32 = 2;

impl Mark {
    pub(super) const fn new(form: Form, quality: Quality) -> Self {
        Self(form as u8 | (quality as u8) << QUALITY_SHIFT)
    }

    /// `None`: no mark has these bits.
    pub(super) fn of_byte(byte: u8) -> Option<Self> {
        (Form::of_byte(byte & FORM).is_some() && byte >> QUALITY_SHIFT <= Quality::Bad as u8)
            .then_some(Self(byte))
    }

    pub(super) fn byte(self) -> u8 {
        self.0
    }

    pub(crate) fn form(self) -> Form {
        Form::of_byte(self.0 & FORM).unwrap_or(Form::Number)
    }

    pub(crate) fn quality(self) -> Quality {
        match self.0 >> QUALITY_SHIFT {
            0 => Quality::Good,
            1 => Quality::Uncertain,
            _ => Quality::Bad,
        }
    }

    pub(super) fn bad(self) -> bool {
        self.quality() == Quality::Bad
    }
}

/// One value at one time. An absent value is [`ABSENT`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Milliseconds since 1970.
    pub(crate) time: i64,
    pub(crate) value: f64,
    pub(crate) mark: Mark,
}

impl Sample {
    /// `code_number`: the number of a state.
    pub(super) fn of(reading: &Reading, code_number: impl Fn(&str) -> Option<u32>) -> Self {
        let (form, value) = match &reading.value {
            Value::Number(number) => (Form::Number, number.get()),
            Value::Flag(flag) => (Form::Flag, f64::from(u8::from(*flag))),
            Value::Code(code) => (Form::State, code_number(code).map_or(ABSENT, f64::from)),
            Value::Absent => (Form::Number, ABSENT),
        };
        Self { time: reading.time().as_millis(), value, mark: Mark::new(form, reading.quality) }
    }

    /// What makes two samples the same: the time and the value.
    pub(super) fn key(&self) -> (i64, u64) {
        (self.time, self.value.to_bits())
    }

    pub(super) fn value(&self) -> Option<f64> {
        (!self.value.is_nan()).then_some(self.value)
    }
}

/// In the order of time; the same sample only once. Two samples of one time stay in the order of their values' bits, so
/// the result does not depend on the order of arrival; of two that differ in quality only, the usable one stays.
pub(super) fn sort_and_dedupe(samples: &mut Vec<Sample>) {
    samples.sort_by_key(|sample| (sample.key(), sample.mark));
    samples.dedup_by_key(|sample| sample.key());
}

/// Samples in memory, in the order of arrival: 1 byte for one like the last, 5 to 7 for most, 24 as a row of `Sample`.
///
/// A sample is a byte of marks and what the marks announce: the difference to the time before (a varint), unless it is
/// the same difference again; the value, unless it is the same value again, as a scaled whole number where that is
/// exact.
#[derive(Debug, Clone, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    count: usize,
    last: Before,
}

#[derive(Debug, Clone, Copy, Default)]
struct Before {
    time: i64,
    step: i64,
    bits: u64,
}

const SAME_VALUE: u8 = 1 << 4;
const SAME_STEP: u8 = 1 << 5;
const DECIMAL: u8 = 1 << 6;
/// Up to three decimals: what sensors send. Anything else takes eight bytes.
const POWERS: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];
/// Beyond it the varint is no shorter.
const WHOLE_MAX: f64 = 17_179_869_184.0; // 2^34
/// Room is made in steps, so that a thousand tails do not hold twice what is in them.
const ROOM_MIN: usize = 64;

impl Packed {
    pub(super) fn push(&mut self, sample: Sample) {
        let before = self.last;
        let step = sample.time.wrapping_sub(before.time);
        let bits = sample.value.to_bits();
        let mut head = sample.mark.byte();
        let mut rest = Vec::with_capacity(18);
        if step == before.step {
            head |= SAME_STEP;
        } else {
            put_signed(&mut rest, step);
        }
        if bits == before.bits {
            head |= SAME_VALUE;
        } else if let Some(whole) = decimal(sample.value) {
            head |= DECIMAL;
            put_varint(&mut rest, whole);
        } else {
            rest.extend(sample.value.to_le_bytes());
        }
        let wanted = 1 + rest.len();
        if self.bytes.capacity() - self.bytes.len() < wanted {
            self.bytes.reserve_exact(wanted.max(ROOM_MIN).max(self.bytes.len() / 4));
        }
        self.bytes.push(head);
        self.bytes.extend(rest);
        self.count += 1;
        self.last = Before { time: sample.time, step, bits };
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// What it takes in memory.
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    /// The samples, in the order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = Sample> {
        let mut input = self.bytes.as_slice();
        let mut last = Before::default();
        std::iter::from_fn(move || next(&mut input, &mut last))
    }

    /// The samples in the order of time, each once.
    pub(super) fn sorted(&self) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(self.count);
        samples.extend(self.iter());
        sort_and_dedupe(&mut samples);
        samples
    }
}

/// `None` at the end. What `push` wrote is always whole.
fn next(input: &mut &[u8], last: &mut Before) -> Option<Sample> {
    let head = byte(input)?;
    let step = if head & SAME_STEP != 0 { last.step } else { signed(input)? };
    let value = if head & SAME_VALUE != 0 {
        f64::from_bits(last.bits)
    } else if head & DECIMAL != 0 {
        let packed = varint(input)?;
        #[expect(clippy::cast_precision_loss, reason = "written below 2^34")]
        let whole = unzigzag(packed >> 2) as f64;
        whole / POWERS[usize::from(packed.to_le_bytes()[0] & 3)]
    } else {
        let (bytes, rest) = input.split_first_chunk::<8>()?;
        *input = rest;
        f64::from_le_bytes(*bytes)
    };
    let time = last.time.wrapping_add(step);
    *last = Before { time, step, bits: value.to_bits() };
    Some(Sample { time, value, mark: Mark::of_byte(head & 0b1111)? })
}

/// The whole number and the power of ten that give back the very same value.
fn decimal(value: f64) -> Option<u64> {
    for (scale, power) in (0u64..).zip(POWERS) {
        let whole = (value * power).round();
        if whole.is_nan() || whole.abs() >= WHOLE_MAX {
            return None;
        }
        if (whole / power).to_bits() == value.to_bits() {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^34")]
            let whole = whole as i64;
            return Some(zigzag(whole) << 2 | scale);
        }
    }
    None
}

fn zigzag(value: i64) -> u64 {
    (value.wrapping_shl(1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn byte(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

fn varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = byte(input)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn signed(input: &mut &[u8]) -> Option<i64> {
    varint(input).map(unzigzag)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::series) fn good(time: i64, value: f64) -> Sample {
        Sample { time, value, mark: Mark::new(Form::Number, Quality::Good) }
    }

    pub(in crate::series) fn sample() -> impl Strategy<Value = Sample> {
        let value = prop_oneof![
            4 => any::<i16>().prop_map(|tenths| f64::from(tenths) / 10.0),
            1 => Just(ABSENT),
            1 => -1e300..1e300,
            1 => any::<i32>().prop_map(f64::from)
        ];
        let time = prop_oneof![3 => 0i64..100_000, 1 => any::<i64>()];
        let mark = (0u8..3, 0u8..3).prop_map(|(form, quality)| Mark::of_byte(form | quality << 2).unwrap());
        (time, value, mark).prop_map(|(time, value, mark)| Sample { time, value, mark })
    }

    pub(in crate::series) fn keys(samples: &[Sample]) -> Vec<((i64, u64), Mark)> {
        samples.iter().map(|sample| (sample.key(), sample.mark)).collect()
    }

    proptest! {
        #[test]
        fn packed_samples_come_back_as_they_were(samples in prop::collection::vec(sample(), 0..200)) {
            let mut packed = Packed::default();
            samples.iter().for_each(|&sample| packed.push(sample));
            prop_assert_eq!(packed.count(), samples.len());
            prop_assert_eq!(keys(&packed.iter().collect::<Vec<_>>()), keys(&samples));
        }
    }

    #[test]
    fn a_sample_in_memory_takes_a_third_of_a_row() {
        let mut packed = Packed::default();
        // Ten seconds apart, give or take the network; a temperature with one decimal that moves.
        for n in 0..1000i64 {
            let wave = f64::from(i16::try_from(n * 7919 % 53).unwrap());
            packed.push(good(1_800_000_000_000 + n * 10_000 + n * 31 % 17, (230.0 + wave) / 10.0));
        }
        let each = packed.room() / packed.count();
        assert!(each <= 8, "{each} bytes a sample; a row of them takes {}", size_of::<Sample>());
    }
}
