//! Columns of figures as bytes: how chunks and roll-ups lie on the disk. Pure.
//!
//! A column of one figure repeated is that figure; every other one is compressed.

use pco::ChunkConfig;
use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress};

/// pco's default: 0.4 to 1.3 bytes a sample on this product's readings.
const LEVEL: usize = 8;
/// Figures of one column: a chunk has a few thousand. Stops a damaged count from reserving memory.
const COUNT_MAX: usize = 1 << 20;

const CONSTANT: u8 = 0;
const PACKED: u8 = 1;

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
        let config = ChunkConfig::default().with_compression_level(LEVEL);
        let packed = simple_compress(figures, &config)
            .expect("the level is valid and a column is far below the compressor's limit");
        self.0.push(PACKED);
        self.length(packed.len());
        self.0.extend(packed);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let sum = crc32fast::hash(&self.0);
        self.0.extend(sum.to_le_bytes());
        self.0
    }
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
            _ => Err(Damaged::Shape),
        }
    }

    pub(super) fn end(&self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged::Shape) }
    }
}

pub(super) fn unpack<T: Figure>(packed: &[u8], count: usize) -> Result<Vec<T>, Damaged> {
    let figures: Vec<T> = simple_decompress(packed).map_err(|_| Damaged::Shape)?;
    if figures.len() == count { Ok(figures) } else { Err(Damaged::Shape) }
}
