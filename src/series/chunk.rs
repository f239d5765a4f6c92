//! Sealed samples: one compressed, checked blob with a summary beside it. A point's chunks never overlap.

use super::column::{self, Blob, Damaged, Input};
use super::sample::{Form, Mark, Sample, sort_and_dedupe};
use super::tail::SEAL_SAMPLES;
use crate::model::Quality;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The first byte of a blob. Another layout gets another byte; this one and the older ones stay readable.
const FORMAT: u8 = 3;
/// The second format: no decimal columns, else the same.
const FORMAT_2: u8 = 2;
/// The first format: no forms, and of the qualities only whether bad.
const FORMAT_1: u8 = 1;
/// A chunk is added to until it has so many samples. Four full tails: at 1.1 bytes a sample a row of one leaves the page of
/// 2 KiB half empty and takes 1.7 bytes, a row of four takes 1.4, for one byte of log a sample more.
const SAMPLES: usize = 4 * SEAL_SAMPLES;
/// Four full chunks become one of so many: the row, its places in two indexes and the rest of its last page are a quarter
/// of a byte a sample in rows of four tails, and a tenth of that in such rows; and the compressor knows more. It is
/// written once more for it, a byte a sample.
pub(super) const MERGED: usize = 4 * SAMPLES;
/// Samples of one chunk, at most: a chunk is rewritten whole when a late sample falls into it. Samples of one
/// millisecond stay together, so a chunk may be a little longer.
const SAMPLES_MAX: usize = 2 * MERGED;
/// Rows that are looked through for some to be merged: four full ones, and small ones that late samples left between them.
const LOOKED_THROUGH: usize = 16;

/// What the columns beside a blob say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    pub(super) t0: i64,
    pub(super) t1: i64,
    pub(super) n: u32,
    pub(super) valued: u32,
    pub(super) bad: u32,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) sum: f64,
    pub(super) last: Option<f64>,
}

impl Summary {
    /// The columns of [`Summary::read`], in its order.
    pub(super) const COLUMNS: &'static str = "t0, t1, n, valued, bad, min, max, sum, last";

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            t0: row.get(0)?,
            t1: row.get(1)?,
            n: row.get(2)?,
            valued: row.get(3)?,
            bad: row.get(4)?,
            min: row.get(5)?,
            max: row.get(6)?,
            sum: row.get(7)?,
            last: row.get(8)?,
        })
    }

    fn of(samples: &[Sample]) -> Option<Self> {
        let (first, last) = (samples.first()?, samples.last()?);
        let values = || samples.iter().filter_map(Sample::value);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Some(Self {
            t0: first.time,
            t1: last.time,
            n: count(samples.len()),
            valued: count(values().count()),
            bad: count(samples.iter().filter(|sample| sample.mark.bad()).count()),
            min: values().reduce(f64::min),
            max: values().reduce(f64::max),
            sum: values().fold(0.0, |sum, value| (sum + value).clamp(f64::MIN, f64::MAX)),
            last: values().next_back(),
        })
    }
}

/// Packs samples: times, values, marks.
pub(super) fn pack(samples: &[Sample]) -> Vec<u8> {
    let mut blob = Blob::new(FORMAT, samples.len());
    blob.times(&samples.iter().map(|sample| sample.time).collect::<Vec<_>>());
    blob.column(&samples.iter().map(|sample| sample.value).collect::<Vec<_>>());
    blob.column(&samples.iter().map(|sample| u32::from(sample.mark.byte())).collect::<Vec<_>>());
    blob.finish()
}

/// Unpacks a blob. `form`: what the figures of the first format, which did not say it, stand for.
pub(super) fn unpack(blob: &[u8], form: Form) -> Result<Vec<Sample>, Damaged> {
    match column::open(blob)? {
        (FORMAT | FORMAT_2, count, mut input) => {
            let times = input.times(count)?;
            let values = input.column::<f64>(count)?;
            let marks = input.column::<u32>(count)?;
            input.end()?;
            let mark = |byte: u32| u8::try_from(byte).ok().and_then(Mark::of_byte).ok_or(Damaged::Shape);
            let samples = times.into_iter().zip(values).zip(marks);
            samples.map(|((time, value), byte)| Ok(Sample { time, value, mark: mark(byte)? })).collect()
        }
        (FORMAT_1, count, input) => unpack_1(count, input, form),
        (format, ..) => Err(Damaged::Format(format)),
    }
}

/// Length and times, length and values, a bit each for bad.
fn unpack_1(count: usize, mut input: Input<'_>, form: Form) -> Result<Vec<Sample>, Damaged> {
    let times = column::unpack::<i64>(input.part()?, count)?;
    let values = column::unpack::<f64>(input.part()?, count)?;
    let bits = input.0;
    if bits.len() != count.div_ceil(8) {
        return Err(Damaged::Shape);
    }
    let quality = |index: usize| match bits[index / 8] >> (index % 8) & 1 {
        0 => Quality::Good,
        _ => Quality::Bad,
    };
    let samples = times.into_iter().zip(values).enumerate();
    Ok(samples
        .map(|(index, (time, value))| Sample { time, value, mark: Mark::new(form, quality(index)) })
        .collect())
}

/// Puts a point's samples (in the order of time, each once) where they belong among its chunks. Each goes to the last
/// chunk that begins before it: appended if that one is short, merged if it lies within, else into a chunk of its own.
pub(super) fn store(conn: &Connection, point: u32, mut samples: &[Sample]) -> rusqlite::Result<Stored> {
    let mut stored = Stored::default();
    while let Some(first) = samples.first() {
        let home = Home::find(conn, point, first.time)?;
        let end =
            home.next.map_or(samples.len(), |next| samples.partition_point(|sample| sample.time < next));
        let (these, rest) = samples.split_at(end.max(1));
        samples = rest;
        let mut merged = these.to_vec();
        let (mut row, mut there) = (None, 0);
        if let Some(held) = home.chunk
            && (first.time <= held.t1 || held.n + these.len() <= SAMPLES)
        {
            row = Some(held.id);
            match read(conn, held.id, first.mark.form())? {
                Ok(samples) => {
                    there = samples.len();
                    merged.extend(samples);
                }
                Err(cause) => {
                    stored.damaged += 1;
                    tracing::error!(point, held.t0, %cause, "a damaged chunk of the series was replaced");
                }
            }
            sort_and_dedupe(&mut merged);
        }
        stored.added += (merged.len() - there) as u64;
        // The chunk's own row is written again where it is: a row deleted leaves a hole that nothing fills.
        for piece in pieces(&merged) {
            let row = row.take();
            stored.begun |= row.is_none();
            put(conn, row, point, piece)?;
        }
    }
    Ok(stored)
}

/// What became of samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// Those that were not there before.
    pub(super) added: u64,
    /// Damaged chunks that were replaced.
    pub(super) damaged: u64,
    /// A row was begun: the one before it is full, and there may be enough to be merged.
    pub(super) begun: bool,
}

/// Makes one chunk of a point's full ones, if they are enough. The newest row is left out: it still grows. How many rows
/// became one. Where one is damaged, all stay as they are. `form`: see [`unpack`].
pub(super) fn merge(conn: &Connection, point: u32, form: Form) -> rusqlite::Result<usize> {
    let mut statement =
        conn.prepare_cached("SELECT id, n FROM chunk WHERE point = ? ORDER BY t0 DESC LIMIT ? OFFSET 1")?;
    let rows = statement.query_map(params![point, i64::try_from(LOOKED_THROUGH).unwrap_or(0)], |row| {
        Ok((row.get(0)?, usize::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
    })?;
    let mut rows = rows.collect::<rusqlite::Result<Vec<(i64, usize)>>>()?;
    rows.reverse();
    let Some(these) = enough(&rows) else { return Ok(0) };
    let mut samples = Vec::with_capacity(MERGED);
    for (id, _) in these {
        match read(conn, *id, form)? {
            Ok(more) => samples.extend(more),
            Err(_) => return Ok(0),
        }
    }
    for (id, _) in these {
        conn.prepare_cached("DELETE FROM chunk WHERE id = ?")?.execute([id])?;
    }
    put(conn, None, point, &samples)?;
    Ok(these.len())
}

/// The oldest neighbours among these rows (in the order of time, each with its samples' number) that make a merged chunk:
/// not merged before, and together nearly as long as one, or very many. Each is shorter than half of one, so together they
/// are less than a quarter longer.
fn enough(rows: &[(i64, usize)]) -> Option<&[(i64, usize)]> {
    for young in rows.split(|(_, n)| *n >= MERGED / 2) {
        let mut sum = 0;
        let long = young.iter().position(|(_, n)| {
            sum += n;
            sum > MERGED / 4 * 3
        });
        if let Some(last) = long {
            return Some(&young[..=last]);
        }
        if young.len() == LOOKED_THROUGH {
            return Some(young);
        }
    }
    None
}

/// The chunks that touch `from ≤ time < to`, whole.
pub(super) fn within(
    conn: &Connection,
    point: u32,
    (from, to): (i64, i64),
) -> rusqlite::Result<Vec<Result<Vec<Sample>, Damaged>>> {
    let mut statement = conn.prepare_cached(
        "SELECT blob FROM chunk WHERE point = ?1 AND t0 < ?3 AND t0 >= ifnull(
           (SELECT t0 FROM chunk WHERE point = ?1 AND t0 <= ?2 ORDER BY t0 DESC LIMIT 1), ?2) ORDER BY t0",
    )?;
    let rows = statement.query_map(params![point, from, to], |row| {
        Ok(unpack(row.get_ref(0)?.as_blob().unwrap_or_default(), Form::Number))
    })?;
    rows.collect()
}

/// Where a sample belongs: the last chunk that begins no later, and where the next one begins.
struct Home {
    chunk: Option<Held>,
    next: Option<i64>,
}

struct Held {
    id: i64,
    t0: i64,
    t1: i64,
    n: usize,
}

impl Home {
    fn find(conn: &Connection, point: u32, time: i64) -> rusqlite::Result<Self> {
        let chunk = conn
            .prepare_cached(
                "SELECT id, t0, t1, n FROM chunk WHERE point = ? AND t0 <= ? ORDER BY t0 DESC LIMIT 1",
            )?
            .query_row(params![point, time], |row| {
                let n = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
                Ok(Held { id: row.get(0)?, t0: row.get(1)?, t1: row.get(2)?, n })
            })
            .optional()?;
        let next = conn
            .prepare_cached("SELECT t0 FROM chunk WHERE point = ? AND t0 > ? ORDER BY t0 LIMIT 1")?
            .query_row(params![point, time], |row| row.get(0))
            .optional()?;
        Ok(Self { chunk, next })
    }
}

/// A chunk's samples.
pub(super) fn read(conn: &Connection, id: i64, form: Form) -> rusqlite::Result<Result<Vec<Sample>, Damaged>> {
    conn.prepare_cached("SELECT blob FROM chunk WHERE id = ?")?
        .query_row([id], |row| Ok(unpack(row.get_ref(0)?.as_blob().unwrap_or_default(), form)))
}

/// Cuts samples into chunks, never between two of one time.
fn pieces(samples: &[Sample]) -> impl Iterator<Item = &[Sample]> {
    let mut rest = samples;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = if rest.len() <= SAMPLES_MAX { rest.len() } else { MERGED };
        while end < rest.len() && rest[end].time == rest[end - 1].time {
            end += 1;
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// Writes a chunk, over a row or as a new one.
fn put(conn: &Connection, row: Option<i64>, point: u32, samples: &[Sample]) -> rusqlite::Result<()> {
    let Some(summary) = Summary::of(samples) else { return Ok(()) };
    conn.prepare_cached(
        "INSERT INTO chunk (id, point, t0, t1, n, valued, bad, min, max, sum, last, blob)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (id) DO UPDATE SET t0 = ?3, t1 = ?4, n = ?5, valued = ?6, bad = ?7, min = ?8, max = ?9,
           sum = ?10, last = ?11, blob = ?12",
    )?
    .execute(params![
        row,
        point,
        summary.t0,
        summary.t1,
        summary.n,
        summary.valued,
        summary.bad,
        summary.min,
        summary.max,
        summary.sum,
        summary.last,
        pack(samples)
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::sample::ABSENT;
    use crate::series::sample::tests::{good, keys, sample};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_samples_come_back_as_they_were(mut samples in prop::collection::vec(sample(), 1..300)) {
            sort_and_dedupe(&mut samples);
            prop_assert_eq!(keys(&unpack(&pack(&samples), Form::State).unwrap()), keys(&samples));
        }

        #[test]
        fn a_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0u32..8) {
            let samples: Vec<_> = (0..50).map(|n| good(n, 1.5 + n as f64)).collect();
            let mut blob = pack(&samples);
            let index = at.index(blob.len());
            blob[index] ^= 1 << bit;
            prop_assert_eq!(unpack(&blob, Form::Number).map(|_| ()), Err(Damaged::Checksum));
        }

        #[test]
        fn any_bytes_under_a_right_check_sum_are_samples_or_an_error(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200), known in 0u8..3
        ) {
            if known > 0 && !bytes.is_empty() {
                bytes[0] = known;
            }
            let sum = crc32fast::hash(&bytes);
            bytes.extend(sum.to_le_bytes());
            prop_assert!(unpack(&bytes, Form::Number).is_err() || bytes.len() > 20);
        }
    }

    /// A chunk as this program wrote it first: every later version must read it.
    const GOLDEN: &str = "\
        010c0000003500000070636f21030003030401040b0000017102000000000000100028ebf040e3361a0020400000d602\
        000000000000001032547698ba003d00000070636f21030003030401060b0000004400283333333333b31b60c0000000\
        000000de0003080000000000240a1800000000000000f8ff0012d34fc80000800025805947";

    fn from_hex(text: &str) -> Vec<u8> {
        let hex = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        text.as_bytes().chunks(2).map(hex).collect()
    }

    fn golden_samples() -> Vec<Sample> {
        let value =
            |n: i64| if n == 7 { ABSENT } else { [23.4, 23.5, 68.5][usize::try_from(n % 3).unwrap()] };
        (0..12)
            .map(|n| {
                let quality = if n == 7 { Quality::Bad } else { Quality::Good };
                Sample {
                    time: 1_800_000_000_000 + n * 10_000,
                    value: value(n),
                    mark: Mark::new(Form::Flag, quality),
                }
            })
            .collect()
    }

    /// A chunk of the second format, likewise.
    const GOLDEN_2: &str = "\
        020c000000013500000070636f21030003030401040b0000017102000000000000100028ebf040e3361a0020400000d6\
        02000000000000001032547698ba00013d00000070636f21030003030401060b0000004400283333333333b31b60c000\
        0000000000de0003080000000000240a1800000000000000f8ff0012d34fc80000011e00000070636f21030003030401\
        010b00000010000800000020000000008000000047218fac";

    /// A chunk of the third format, likewise.
    const GOLDEN_3: &str = "\
        030c0000000300505c18a3010000b0ad01000000000000000000000000000002010100000000070000000000000001\
        2a00000070636f21030003030401040b00000024005075000000000000c000b50a0000000000000200fddc018a0001\
        1e00000070636f21030003030401010b0000001000080000002000000000800000000728352c";

    #[test]
    fn a_chunk_of_the_third_version_is_read() {
        let blob = from_hex(GOLDEN_3);
        assert_eq!(pack(&golden_samples())[0], blob[0]);
        assert_eq!(keys(&unpack(&blob, Form::Number).unwrap()), keys(&golden_samples()));
    }

    #[test]
    fn a_chunk_of_the_second_version_is_read() {
        assert_eq!(keys(&unpack(&from_hex(GOLDEN_2), Form::Number).unwrap()), keys(&golden_samples()));
    }

    #[test]
    fn a_chunk_of_the_first_version_is_read() {
        assert_eq!(keys(&unpack(&from_hex(GOLDEN), Form::Flag).unwrap()), keys(&golden_samples()));
    }

    #[test]
    fn a_thousand_slow_temperatures_take_less_than_a_byte_each() {
        let samples: Vec<_> = (0..1024i32)
            .map(|n| good(1_800_000_000_000 + i64::from(n) * 10_000, f64::from(230 + (n / 40) % 7) / 10.0))
            .collect();
        let bytes = pack(&samples).len();
        assert!(bytes < 1024, "{bytes} bytes");
    }

    #[test]
    fn full_chunks_become_one_and_every_sample_is_there_once() {
        let conn = database();
        let times = |from: i64, count: i64| -> Vec<Sample> {
            (from..from + count).map(|n| good(n * 10_000, (n % 7) as f64 / 10.0)).collect()
        };
        let rows = || -> Vec<i64> {
            let mut statement = conn.prepare("SELECT n FROM chunk ORDER BY t0").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        let tail = i64::try_from(SEAL_SAMPLES).unwrap();
        let mut merged = Vec::new();
        for n in 0..40 {
            if store(&conn, 1, &times(n * tail, tail)).unwrap().begun {
                merged.push((n, merge(&conn, 1, Form::Number).unwrap()));
            }
        }
        let [young, full] = [SAMPLES, MERGED].map(|n| i64::try_from(n).unwrap());
        assert_eq!(rows(), [full, full, young, young]);
        assert_eq!(merged.iter().filter(|(_, rows)| *rows > 0).collect::<Vec<_>>(), [&(16, 4), &(32, 4)]);
        let all: Vec<Sample> =
            within(&conn, 1, (0, i64::MAX)).unwrap().into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(keys(&all), keys(&times(0, 40 * tail)));
        // A late sample in the middle of a merged one leaves it whole.
        let late = good(5, 9.9);
        assert_eq!(store(&conn, 1, &[late]).unwrap(), Stored { added: 1, ..Stored::default() });
        assert_eq!(rows(), [full + 1, full, young, young]);
    }

    #[test]
    fn a_damaged_chunk_is_not_merged_and_the_others_stay() {
        let conn = database();
        for n in 0..5i64 {
            let from = n * i64::try_from(SAMPLES).unwrap();
            let samples: Vec<_> =
                (from..from + i64::try_from(SAMPLES).unwrap()).map(|time| good(time, 1.0)).collect();
            store(&conn, 1, &samples).unwrap();
        }
        conn.execute("UPDATE chunk SET blob = x'00' WHERE t0 = 0", []).unwrap();
        assert_eq!(merge(&conn, 1, Form::Number).unwrap(), 0);
        let rows: i64 = conn.query_row("SELECT count(*) FROM chunk", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 5);
    }

    proptest! {
        #[test]
        fn what_is_merged_are_young_neighbours_and_not_too_many(
            rows in prop::collection::vec((any::<i64>(), 1usize..2 * MERGED), 0..=LOOKED_THROUGH)
        ) {
            if let Some(these) = enough(&rows) {
                prop_assert!(these.len() > 1);
                prop_assert!(these.iter().all(|(_, n)| *n < MERGED / 2));
                prop_assert!(these.iter().map(|(_, n)| n).sum::<usize>() <= SAMPLES_MAX);
                prop_assert!(rows.windows(these.len()).any(|some| some == these));
            }
        }
    }

    fn database() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        for schema in [
            include_str!("../journal/schema.sql"),
            include_str!("../journal/schema_2.sql"),
            include_str!("../journal/schema_3.sql"),
        ] {
            conn.execute_batch(schema).unwrap();
        }
        conn
    }

    #[test]
    fn chunks_never_overlap_and_a_damaged_one_costs_only_itself() {
        let conn = database();
        let at = |times: &[i64]| -> Vec<Sample> { times.iter().map(|&time| good(time, 1.0)).collect() };
        let long: Vec<i64> = (0..20_000).map(|n| n * 10).collect();
        store(&conn, 1, &at(&long)).unwrap();
        store(&conn, 1, &at(&[-5, 5, 12_345, 600_000])).unwrap();
        let spans = || -> Vec<(i64, i64, i64)> {
            let mut statement = conn.prepare("SELECT t0, t1, n FROM chunk ORDER BY t0").unwrap();
            let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        };
        assert!(spans().windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", spans());
        assert_eq!(spans().iter().map(|(_, _, n)| n).sum::<i64>(), 20_004);
        conn.execute("UPDATE chunk SET blob = x'00' WHERE t0 = 0", []).unwrap();
        let lost = spans().iter().find(|(t0, ..)| *t0 == 0).unwrap().2;
        assert_eq!(store(&conn, 1, &at(&[7])).unwrap(), Stored { added: 1, damaged: 1, begun: false });
        assert_eq!(spans().iter().map(|(_, _, n)| n).sum::<i64>(), 20_004 - lost + 1);
    }
}
