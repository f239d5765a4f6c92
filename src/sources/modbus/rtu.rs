//! WIRE → FRAMES, pure: Modbus RTU (MODBUS over serial line V1.02): finds the answer to one question in the bytes.
//!
//! A frame has no beginning and no number: only unit, function, length and checksum tell it from another. So an answer
//! is what has the asked unit, the asked function, exactly the asked length and a right CRC-16, wherever it stands:
//! noise before it costs nothing, and how the bytes were cut on their way is no matter.
//!
//! **What cannot be told:** a late answer of the same unit, function and length to an earlier question with another
//! address. Nothing in it says so. `connection.rs` keeps it away: a unit that did not answer is left alone for longer
//! than its answer may be late.

use super::request::{EXCEPTION, Mismatch, Question};
use super::unit::Answer;

/// The longest frame: V1.02, 2.5.1.
pub(super) const ADU_BYTES_MAX: usize = 256;

/// Unit, exception function, code, checksum: the shortest frame.
const EXCEPTION_BYTES: usize = 5;

/// Unit, function, two words, checksum: a request of one of the short functions, and the confirmation of a write.
const PAIR_BYTES: usize = 8;

/// Whether the line gives back what is sent on it, as some two-wire adapters do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    /// It does not.
    Absent,
    /// It always does: the answer stands behind it.
    Present,
    /// Not known: what looks exactly like the question is no answer to it. Not for a write whose confirmation is just
    /// that.
    Unknown,
}

/// The answer, and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) answer: Answer,
    pub(super) start: usize,
}

/// A frame with a right checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'b> {
    pub(super) unit: u8,
    pub(super) pdu: &'b [u8],
}

/// CRC-16/MODBUS: V1.02, 6.2.2. The low byte goes first.
pub(super) fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xFFFF_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc.to_le_bytes()
}

/// The question as it goes out.
pub(super) fn adu(question: &Question) -> Vec<u8> {
    let mut adu = vec![question.unit];
    adu.extend(question.request.pdu());
    let crc = crc(&adu);
    adu.extend(crc);
    adu
}

/// How long the right answer is on the wire.
pub(super) fn answer_bytes(question: &Question) -> usize {
    1 + question.request.answer_length() + 2
}

/// The answer, when it is there. Whichever is complete first, so that it does not matter in which pieces it came.
pub(super) fn find(question: &Question, echo: Echo, bytes: &[u8]) -> Option<Found> {
    let sent = adu(question);
    let from = match echo {
        Echo::Present => position(bytes, &sent)? + sent.len(),
        Echo::Absent | Echo::Unknown => 0,
    };
    let whole = answer_bytes(question);
    for end in from + EXCEPTION_BYTES..=bytes.len() {
        for length in [whole, EXCEPTION_BYTES] {
            let Some(start) = end.checked_sub(length).filter(|start| *start >= from) else { continue };
            let candidate = &bytes[start..end];
            let &[unit, function, third, ..] = candidate else { continue };
            let is_exception =
                length == EXCEPTION_BYTES && function == question.request.function() | EXCEPTION;
            let is_answer = length == whole && question.request.may_begin(function, third);
            if unit != question.unit || !(is_exception || is_answer) || !is_sound(candidate) {
                continue;
            }
            if echo == Echo::Unknown && candidate == sent {
                continue;
            }
            let answer = question.request.read(&candidate[1..length - 2]);
            if matches!(answer, Answer::Words(_) | Answer::Refused(_)) {
                return Some(Found { answer, start });
            }
        }
    }
    None
}

/// A frame of the asked unit that answers another question, if there is one. Whoever sends that owes more answers than
/// one, so whatever comes behind it is not to be trusted.
pub(super) fn mismatch(question: &Question, bytes: &[u8]) -> Option<Mismatch> {
    frames(question, bytes).find(|frame| frame.unit == question.unit).map(|frame| {
        match question.request.read(frame.pdu) {
            Answer::Wrong(mismatch) => mismatch,
            // An answer that would fit was not found: it is not where it should be.
            _ => Mismatch::Length,
        }
    })
}

/// What to call it when the time is up: nothing came, or why what came is no answer.
pub(super) fn name(question: &Question, echo: Echo, bytes: &[u8]) -> Answer {
    let sent = adu(question);
    let behind = position(bytes, &sent).map_or(0, |at| at + sent.len());
    let bytes = if echo == Echo::Absent { bytes } else { &bytes[behind..] };
    if bytes.is_empty() {
        return Answer::Silent;
    }
    if let Some(mismatch) = mismatch(question, bytes) {
        return Answer::Wrong(mismatch);
    }
    if frames(question, bytes).next().is_some() {
        return Answer::Wrong(Mismatch::Unit);
    }
    let begins =
        |window: &[u8]| window[0] == question.unit && question.request.may_begin(window[1], window[2]);
    match bytes.windows(3).position(begins) {
        Some(at) if bytes.len() - at < answer_bytes(question) => Answer::Wrong(Mismatch::Length),
        _ => Answer::Wrong(Mismatch::Crc),
    }
}

/// Every frame with a right checksum, one behind the other, except the question itself.
pub(super) fn frames<'b>(question: &Question, bytes: &'b [u8]) -> impl Iterator<Item = Frame<'b>> {
    let sent = adu(question);
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let rest = &bytes[at..];
            if rest.starts_with(&sent) {
                at += sent.len();
                continue;
            }
            let Some(length) = frame_length(rest) else {
                at += 1;
                continue;
            };
            at += length;
            return Some(Frame { unit: rest[0], pdu: &rest[1..length - 2] });
        }
        None
    })
}

/// The length of the frame at the beginning of the bytes, if one is there whole and sound.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let &[_, function, third, ..] = bytes else { return None };
    let lengths = match function {
        1..=4 => [EXCEPTION_BYTES + usize::from(third), PAIR_BYTES],
        5 | 6 | 15 | 16 => [PAIR_BYTES, PAIR_BYTES],
        code if code & EXCEPTION != 0 => [EXCEPTION_BYTES, EXCEPTION_BYTES],
        _ => return None,
    };
    lengths.into_iter().find(|length| bytes.get(..*length).is_some_and(is_sound))
}

fn is_sound(frame: &[u8]) -> bool {
    frame.split_last_chunk().is_some_and(|(body, sum)| crc(body) == *sum)
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::super::request::Request;
    use super::super::request::tests::{answer, request};
    use super::*;
    use crate::model::RegisterTable;
    use proptest::prelude::*;

    fn question() -> impl Strategy<Value = Question> {
        (1u8..=247, request()).prop_map(|(unit, request)| Question { unit, request })
    }

    fn framed(unit: u8, pdu: &[u8]) -> Vec<u8> {
        let body = [&[unit], pdu].concat();
        [&body[..], &crc(&body)].concat()
    }

    fn holding(unit: u8, start: u16, count: u16) -> Question {
        Question { unit, request: Request::Read { table: RegisterTable::Holding, start, count } }
    }

    /// What the first so many bytes are, as they come one by one: the first verdict counts.
    fn one_by_one(question: &Question, echo: Echo, bytes: &[u8]) -> Option<Found> {
        (0..=bytes.len()).find_map(|end| find(question, echo, &bytes[..end]))
    }

    #[test]
    fn the_checksum_is_the_standards() {
        // V1.02, 6.2.2: 02 07 gives 0x1241, sent 41 12.
        assert_eq!(crc(&[0x02, 0x07]), [0x41, 0x12]);
        assert_eq!(crc(b"123456789"), 0x4B37_u16.to_le_bytes());
        assert_eq!(adu(&holding(1, 0, 10)), [0x01, 0x03, 0x00, 0x00, 0x00, 0x0A, 0xC5, 0xCD]);
    }

    #[test]
    fn every_refusal_has_its_name() {
        let asked = holding(7, 0x100, 2);
        let right = [3, 4, 0x12, 0x34, 0x56, 0x78];
        let name = |bytes: &[u8]| {
            assert_eq!(find(&asked, Echo::Unknown, bytes), None);
            name(&asked, Echo::Unknown, bytes)
        };
        assert_eq!(name(&[]), Answer::Silent);
        assert_eq!(name(&adu(&asked)), Answer::Silent, "an echo alone is silence");
        assert_eq!(name(&framed(8, &right)), Answer::Wrong(Mismatch::Unit));
        assert_eq!(name(&framed(7, &[4, 4, 1, 2, 3, 4])), Answer::Wrong(Mismatch::Function));
        assert_eq!(name(&framed(7, &[3, 2, 1, 2])), Answer::Wrong(Mismatch::Length));
        assert_eq!(name(&framed(7, &[0x84, 2])), Answer::Wrong(Mismatch::Function));
        let mut torn = framed(7, &right);
        torn[4] ^= 1;
        assert_eq!(name(&torn), Answer::Wrong(Mismatch::Crc));
        assert_eq!(name(&framed(7, &right)[..6]), Answer::Wrong(Mismatch::Length), "cut short");
        assert_eq!(name(b"\xFF\x00hello"), Answer::Wrong(Mismatch::Crc));
        let refused = find(&asked, Echo::Unknown, &framed(7, &[0x83, 0x0B])).map(|found| found.answer);
        assert_eq!(refused, Some(Answer::Refused(0x0B)));
    }

    #[test]
    fn an_echo_is_never_taken_for_the_answer() {
        // The echo of this question is, byte by byte, a right answer to it.
        let asked = Question {
            unit: 1,
            request: Request::Read { table: RegisterTable::Coil, start: 0x0300, count: 20 },
        };
        let echo = adu(&asked);
        assert!(find(&asked, Echo::Absent, &echo).is_some(), "which is why it matters");
        let right = framed(1, &answer(&asked.request, 5));
        for known in [Echo::Unknown, Echo::Present] {
            assert_eq!(find(&asked, known, &echo), None);
            let found =
                find(&asked, known, &[&echo[..], &right].concat()).expect("the answer behind the echo");
            assert_eq!(found.start, echo.len());
        }
        // The confirmation of a write is its echo: only a line that is known to be without echo confirms by it.
        let write = Question { unit: 1, request: Request::WriteCoil { address: 4, on: true } };
        let echo = adu(&write);
        assert!(find(&write, Echo::Absent, &echo).is_some());
        assert_eq!(find(&write, Echo::Present, &echo), None);
        assert!(find(&write, Echo::Present, &[&echo[..], &echo].concat()).is_some());
    }

    #[test]
    fn frames_of_others_are_found_one_behind_the_other() {
        let asked = holding(7, 0, 2);
        let bytes =
            [&[0xFF, 3][..], &framed(8, &[3, 2, 1, 2]), &adu(&asked), &[9], &framed(7, &[0x84, 1])].concat();
        let units: Vec<u8> = frames(&asked, &bytes).map(|frame| frame.unit).collect();
        assert_eq!(units, [8, 7]);
        assert_eq!(mismatch(&asked, &bytes), Some(Mismatch::Function));
    }

    proptest! {
        #[test]
        fn the_answer_is_found_behind_any_noise_and_however_it_is_cut(
            asked in question(), seed: u64, noise in prop::collection::vec(any::<u8>(), 0..30), echoed: bool,
        ) {
            let right = framed(asked.unit, &answer(&asked.request, seed));
            let (sent, echo) = match (asked.request.is_read(), echoed) {
                (_, true) => (adu(&asked), Echo::Present),
                (true, false) => (Vec::new(), Echo::Unknown),
                (false, false) => (Vec::new(), Echo::Absent),
            };
            prop_assume!(right != adu(&asked) || echo != Echo::Unknown);
            let bytes = [&noise[..], &sent, &right, b"\x01\x02"].concat();
            let whole = find(&asked, echo, &bytes).expect("it is there");
            prop_assert_eq!(whole.start, noise.len() + sent.len());
            prop_assert_eq!(&whole.answer, &asked.request.read(&right[1..right.len() - 2]));
            prop_assert_eq!(one_by_one(&asked, echo, &bytes), Some(whole));
        }

        #[test]
        fn an_answer_with_any_one_byte_changed_is_none(
            asked in question(), seed: u64, at: prop::sample::Index, flip in 1u8..,
        ) {
            let mut bytes = framed(asked.unit, &answer(&asked.request, seed));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_eq!(find(&asked, Echo::Absent, &bytes), None);
            prop_assert!(matches!(name(&asked, Echo::Absent, &bytes), Answer::Wrong(_)));
        }

        #[test]
        fn the_answer_to_another_question_is_none(asked in question(), other in question(), seed: u64) {
            let same_shape = other.unit == asked.unit
                && other.request.function() == asked.request.function()
                && other.request.answer_length() == asked.request.answer_length();
            prop_assume!(!same_shape);
            let bytes = framed(other.unit, &answer(&other.request, seed));
            prop_assert_eq!(find(&asked, Echo::Absent, &bytes), None);
            let named = name(&asked, Echo::Absent, &bytes);
            if other.unit == asked.unit {
                let expected = [Mismatch::Function, Mismatch::Length];
                prop_assert!(matches!(&named, Answer::Wrong(why) if expected.contains(why)), "{:?}", named);
            } else {
                prop_assert_eq!(named, Answer::Wrong(Mismatch::Unit));
            }
        }

        #[test]
        fn any_bytes_are_taken(asked in question(), bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            for echo in [Echo::Absent, Echo::Present, Echo::Unknown] {
                let named = name(&asked, echo, &bytes);
                prop_assert!(!matches!(named, Answer::Words(_)));
                if let Some(found) = find(&asked, echo, &bytes) {
                    prop_assert_eq!(bytes[found.start], asked.unit);
                }
            }
            prop_assert!(frames(&asked, &bytes).count() <= bytes.len() / EXCEPTION_BYTES);
        }
    }
}
