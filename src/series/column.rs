//! Columns of figures as bytes: how chunks and roll-ups lie on the disk. Pure.
//!
//! A column of one figure repeated is that figure; one of decimal fractions is their whole numbers; the rest is compressed
//! as it is.

use super::sample::ABSENT;
use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress};
use pco::{ChunkConfig, DeltaSpec};

/// pco's default: 0.4 to 1.3 bytes a sample on this product's readings.
const LEVEL: usize = 8;
/// Figures of one column: a chunk has a few thousand. Stops a damaged count from reserving memory.
const COUNT_MAX: usize = 1 << 20;

const CONSTANT: u8 = 0;
const PACKED: u8 = 1;
const DECIMAL: u8 = 2;
/// Times only: how far each is from a straight line.
const LINE: u8 = 3;

/// Powers of ten that a column of decimal fractions may have. Sensors send up to four decimals; sums of roll-ups have as many.
const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Whole numbers below it are exact as floating-point numbers, and so is their quotient by a power of ten the very number
/// that a decimal text of it is read as.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0; // 2^53

/// The bytes are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damaged {
    #[error("the check sum is wrong")]
    Checksum,
    #[error("format {0} is not known")]
    Format(u8),
    #[error("it ends too early or does not hold what it says")]
    Shape,
}

/// A figure of a column.
pub(super) trait Figure: Number + Copy {
    /// Its bytes, padded to eight: what makes two the same, NaN too.
    fn bits(self) -> u64;
    fn of_bits(bits: u64) -> Option<Self>;
    /// The figures as decimal fractions, if they are.
    fn decimals(_figures: &[Self]) -> Option<Decimals> {
        None
    }
    /// A decimal fraction; `None`: this kind of figure has none.
    fn of_decimal(_whole: i64, _power: f64) -> Option<Self> {
        None
    }
    /// What stands for nothing; `None`: this kind of figure has no such.
    const ABSENT: Option<Self> = None;
}

/// Figures as whole numbers of one power of ten. In binary 23.4 is a row of noise, in tenths it is 234: this takes half to
/// a fifth off.
pub(super) struct Decimals {
    /// Which of [`POWERS`].
    scale: u8,
    /// In the place of an absent one stands the figure before.
    wholes: Vec<i64>,
    /// The places of the absent ones.
    absent: Vec<u32>,
}

impl Figure for i64 {
    fn bits(self) -> u64 {
        self.cast_unsigned()
    }
    fn of_bits(bits: u64) -> Option<Self> {
        Some(bits.cast_signed())
    }
}

impl Figure for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn of_bits(bits: u64) -> Option<Self> {
        Some(Self::from_bits(bits))
    }
    fn decimals(figures: &[Self]) -> Option<Decimals> {
        let figure_at = |figure: Self| figure.to_bits() != ABSENT.to_bits();
        let mut scale = 0;
        for &figure in figures.iter().filter(|figure| figure_at(**figure)) {
            while whole(figure, POWERS[scale]).is_none() {
                scale += 1;
                if scale == POWERS.len() {
                    return None;
                }
            }
        }
        let (mut wholes, mut absent) = (Vec::with_capacity(figures.len()), Vec::new());
        for (place, &figure) in figures.iter().enumerate() {
            if figure_at(figure) {
                wholes.push(whole(figure, POWERS[scale])?);
            } else {
                absent.push(u32::try_from(place).ok()?);
                wholes.push(wholes.last().copied().unwrap_or(0));
            }
        }
        Some(Decimals { scale: u8::try_from(scale).ok()?, wholes, absent })
    }
    #[expect(clippy::cast_precision_loss, reason = "written below 2^53")]
    fn of_decimal(whole: i64, power: f64) -> Option<Self> {
        Some(whole as Self / power)
    }
    const ABSENT: Option<Self> = Some(ABSENT);
}

/// How many times the power makes the very same figure; `None`: no whole number does (of the two zeros, only one is whole).
fn whole(figure: f64, power: f64) -> Option<i64> {
    let whole = (figure * power).round();
    if whole.is_nan() || whole.abs() >= WHOLE_MAX {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
    let whole = whole as i64;
    let same = f64::of_decimal(whole, power).is_some_and(|same| same.to_bits() == figure.to_bits());
    same.then_some(whole)
}

impl Figure for u32 {
    fn bits(self) -> u64 {
        self.into()
    }
    fn of_bits(bits: u64) -> Option<Self> {
        Self::try_from(bits).ok()
    }
}

/// The bytes of one blob, and at its end their check sum.
pub(super) struct Blob(Vec<u8>);

impl Blob {
    pub(super) fn new(format: u8, count: usize) -> Self {
        let mut blob = Self(vec![format]);
        blob.length(count);
        blob
    }

    fn length(&mut self, length: usize) {
        self.0.extend(u32::try_from(length).expect("a blob is far below 4 GiB").to_le_bytes());
    }

    pub(super) fn column<T: Figure>(&mut self, figures: &[T]) {
        let first = figures.first().map_or(0, |figure| figure.bits());
        if figures.iter().all(|figure| figure.bits() == first) {
            self.0.push(CONSTANT);
            self.0.extend(first.to_le_bytes());
            return;
        }
        if let Some(Decimals { scale, wholes, absent }) = T::decimals(figures) {
            self.0.extend([DECIMAL, scale]);
            self.length(absent.len());
            self.column(&absent);
            self.column(&wholes);
            return;
        }
        let packed = compress(figures);
        self.0.push(PACKED);
        self.length(packed.len());
        self.0.extend(packed);
    }

    /// A column of times in ascending order. What speaks in a rhythm is off it by a few milliseconds: these are half a
    /// bit to a bit shorter than the differences from one to the next, which have the noise of two.
    pub(super) fn times(&mut self, times: &[i64]) {
        let mut plain = Self(Vec::new());
        plain.column(times);
        if let Some((first, length, off)) = off_the_line(times) {
            let mut line = Self(vec![LINE]);
            line.0.extend(first.to_le_bytes());
            line.0.extend(length.to_le_bytes());
            line.column(&off);
            if line.0.len() < plain.0.len() {
                plain = line;
            }
        }
        self.0.extend(plain.0);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let sum = crc32fast::hash(&self.0);
        self.0.extend(sum.to_le_bytes());
        self.0
    }
}

/// The first of ascending times, how much later the last one is, and how far each is from the straight line between
/// them; `None`: there are no two, or they are further apart than anything can tell.
fn off_the_line(times: &[i64]) -> Option<(i64, i64, Vec<i64>)> {
    let (&first, &last) = times.first().zip(times.last())?;
    let length = last.checked_sub(first)?;
    let off = times.iter().zip(line(first, length, times.len())?).map(|(time, on)| time.checked_sub(on));
    Some((first, length, off.collect::<Option<_>>()?))
}

/// So many times in even steps, to the millisecond below. `None`: that is no line.
fn line(first: i64, length: i64, count: usize) -> Option<impl Iterator<Item = i64>> {
    let steps = i64::try_from(count.checked_sub(1)?).ok().filter(|steps| *steps > 0)?;
    first.checked_add(length).filter(|_| length > 0)?;
    let (step, rest) = (length / steps, length % steps);
    let (mut at, mut over) = (first, 0);
    let next = move || {
        let this = at;
        over += rest;
        let whole = i64::from(over >= steps);
        over -= whole * steps;
        // Only the one after the last could be too large, and nobody takes it.
        at = at.wrapping_add(step + whole);
        this
    };
    Some(std::iter::repeat_with(next).take(count))
}

/// The compressor looks at a part of the figures and guesses whether their differences are the shorter column. Noise on a
/// slow drift is guessed wrong at the length of a chunk (0.65 bytes a sample instead of 0.52), so both are made. That takes
/// 20 ns a sample more.
fn compress<T: Number>(figures: &[T]) -> Vec<u8> {
    let with = |delta: DeltaSpec| {
        let config = ChunkConfig::default().with_compression_level(LEVEL).with_delta_spec(delta);
        simple_compress(figures, &config)
            .expect("the level is valid and a column is far below the compressor's limit")
    };
    let (guessed, differences) = (with(DeltaSpec::Auto), with(DeltaSpec::TryConsecutive(1)));
    if differences.len() < guessed.len() { differences } else { guessed }
}

/// Checks a blob; gives its format, the count and the rest.
pub(super) fn open(blob: &[u8]) -> Result<(u8, usize, Input<'_>), Damaged> {
    let (body, sum) = blob.split_last_chunk::<4>().ok_or(Damaged::Shape)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return Err(Damaged::Checksum);
    }
    let (&format, rest) = body.split_first().ok_or(Damaged::Shape)?;
    let mut input = Input(rest);
    let count = input.length()?;
    if count > COUNT_MAX {
        return Err(Damaged::Shape);
    }
    Ok((format, count, input))
}

/// What is still to be read of a blob.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn length(&mut self) -> Result<usize, Damaged> {
        let (head, rest) = self.0.split_first_chunk::<4>().ok_or(Damaged::Shape)?;
        self.0 = rest;
        usize::try_from(u32::from_le_bytes(*head)).map_err(|_| Damaged::Shape)
    }

    pub(super) fn part(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.length()?;
        let (part, rest) = self.0.split_at_checked(length).ok_or(Damaged::Shape)?;
        self.0 = rest;
        Ok(part)
    }

    pub(super) fn column<T: Figure>(&mut self, count: usize) -> Result<Vec<T>, Damaged> {
        let (&tag, rest) = self.0.split_first().ok_or(Damaged::Shape)?;
        self.0 = rest;
        match tag {
            CONSTANT => {
                let (bits, rest) = self.0.split_first_chunk::<8>().ok_or(Damaged::Shape)?;
                self.0 = rest;
                let figure = T::of_bits(u64::from_le_bytes(*bits)).ok_or(Damaged::Shape)?;
                Ok(vec![figure; count])
            }
            PACKED => unpack(self.part()?, count),
            DECIMAL => self.decimals(count),
            _ => Err(Damaged::Shape),
        }
    }

    /// What [`Blob::times`] wrote.
    pub(super) fn times(&mut self, count: usize) -> Result<Vec<i64>, Damaged> {
        let Some((&LINE, rest)) = self.0.split_first() else { return self.column(count) };
        let (first, rest) = rest.split_first_chunk::<8>().ok_or(Damaged::Shape)?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or(Damaged::Shape)?;
        let (first, length) = (i64::from_le_bytes(*first), i64::from_le_bytes(*length));
        self.0 = rest;
        let off = self.column::<i64>(count)?;
        let line = line(first, length, count).ok_or(Damaged::Shape)?;
        let times = off.into_iter().zip(line).map(|(off, on)| on.checked_add(off));
        times.collect::<Option<_>>().ok_or(Damaged::Shape)
    }

    /// Of figures that have an absent one only, so that a wrong tag never leads into itself.
    fn decimals<T: Figure>(&mut self, count: usize) -> Result<Vec<T>, Damaged> {
        let nothing = T::ABSENT.ok_or(Damaged::Shape)?;
        let (&scale, rest) = self.0.split_first().ok_or(Damaged::Shape)?;
        self.0 = rest;
        let power = *POWERS.get(usize::from(scale)).ok_or(Damaged::Shape)?;
        let absent = self.length()?;
        if absent > count {
            return Err(Damaged::Shape);
        }
        let absent = self.column::<u32>(absent)?;
        let wholes = self.column::<i64>(count)?;
        let figures = wholes.into_iter().map(|whole| T::of_decimal(whole, power));
        let mut figures: Vec<T> = figures.collect::<Option<_>>().ok_or(Damaged::Shape)?;
        for place in absent {
            let figure = usize::try_from(place).ok().and_then(|place| figures.get_mut(place));
            *figure.ok_or(Damaged::Shape)? = nothing;
        }
        Ok(figures)
    }

    pub(super) fn end(&self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged::Shape) }
    }
}

pub(super) fn unpack<T: Figure>(packed: &[u8], count: usize) -> Result<Vec<T>, Damaged> {
    let figures: Vec<T> = simple_decompress(packed).map_err(|_| Damaged::Shape)?;
    if figures.len() == count { Ok(figures) } else { Err(Damaged::Shape) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(figures: &[f64]) -> (Vec<u64>, usize) {
        let mut blob = Blob::new(9, figures.len());
        blob.column(figures);
        let blob = blob.finish();
        let (_, count, mut input) = open(&blob).unwrap();
        let found = input.column::<f64>(count).unwrap();
        input.end().unwrap();
        (found.into_iter().map(f64::to_bits).collect(), blob.len())
    }

    fn bits(figures: &[f64]) -> Vec<u64> {
        figures.iter().map(|figure| figure.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn figures_of_any_kind_come_back_bit_by_bit(figures in prop::collection::vec(prop_oneof![
            6 => (-3_000_000i64..3_000_000, 0i32..8).prop_map(|(whole, scale)| whole as f64 / 10f64.powi(scale)),
            2 => Just(ABSENT),
            1 => any::<f64>(),
            1 => any::<f32>().prop_map(f64::from),
            1 => Just(-0.0),
        ], 0..200)) {
            prop_assert_eq!(there_and_back(&figures).0, bits(&figures));
        }

        #[test]
        fn decimal_fractions_are_kept_as_whole_numbers(
            wholes in prop::collection::vec(-1_000_000_000i64..1_000_000_000, 2..50), scale in 0usize..7
        ) {
            let text = |whole: &i64| format!("{whole}e-{scale}").parse::<f64>().unwrap();
            let figures: Vec<f64> = wholes.iter().map(text).collect();
            prop_assert!(f64::decimals(&figures).is_some(), "{:?}", figures);
        }
    }

    fn times_there_and_back(times: &[i64]) -> (Vec<i64>, usize) {
        let mut blob = Blob::new(9, times.len());
        blob.times(times);
        let blob = blob.finish();
        let (_, count, mut input) = open(&blob).unwrap();
        let found = input.times(count).unwrap();
        input.end().unwrap();
        (found, blob.len())
    }

    proptest! {
        #[test]
        fn times_of_any_kind_come_back(
            mut times in prop::collection::vec(prop_oneof![9 => 0i64..100_000, 1 => any::<i64>()], 0..200)
        ) {
            times.sort_unstable();
            prop_assert_eq!(times_there_and_back(&times).0, times);
        }
    }

    #[test]
    fn a_tag_that_leads_into_itself_is_an_error() {
        let mut blob = Blob::new(9, 1);
        (0..100_000).for_each(|_| blob.0.extend([DECIMAL, 0, 0, 0, 0, 0, CONSTANT, 0, 0, 0, 0, 0, 0, 0, 0]));
        let blob = blob.finish();
        assert_eq!(open(&blob).unwrap().2.column::<f64>(1), Err(Damaged::Shape));
        assert_eq!(open(&blob).unwrap().2.times(1), Err(Damaged::Shape));
    }

    #[test]
    fn a_rhythm_takes_next_to_nothing_and_one_with_jitter_little_more_than_the_jitter() {
        let at = |n: i64, off: i64| 1_800_000_000_000 + n * 10_000 + off;
        let regular: Vec<i64> = (0..4096).map(|n| at(n, 0)).collect();
        assert_eq!(times_there_and_back(&regular).0, regular);
        assert!(times_there_and_back(&regular).1 < 50);
        let mut dice = 1u32;
        let mut jitter = || {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            i64::from((dice >> 16) % 31) - 15
        };
        let shaken: Vec<i64> = (0..4096).map(|n| at(n, jitter())).collect();
        let (found, bytes) = times_there_and_back(&shaken);
        assert_eq!(found, shaken);
        // 31 places are 4.95 bits.
        assert!(bytes < 4096 * 54 / 80, "{bytes} bytes");
    }

    #[test]
    fn decimals_take_less_than_the_same_in_binary_also_where_some_are_absent() {
        // A pressure of four decimals with noise on a drift: the last bits of 0.4502 are noise of their own.
        let mut dice = 1u32;
        let mut noise = || {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (dice >> 16) % 7
        };
        let mut figures: Vec<f64> =
            (0..4096u32).map(|n| f64::from(4500 + n / 64 + noise()) / 10_000.0).collect();
        let binary = compress(&figures).len();
        figures[7] = ABSENT;
        figures[8] = ABSENT;
        let (found, bytes) = there_and_back(&figures);
        assert_eq!(found, bits(&figures));
        assert!(bytes < binary * 9 / 10, "{bytes} bytes, {binary} in binary");
    }
}
