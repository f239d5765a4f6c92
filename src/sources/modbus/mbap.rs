//! WIRE → FRAMES, pure: Modbus TCP (MODBUS messaging on TCP/IP V1.0b, 3.1.3): the header with the transaction number.
//!
//! The number tells a late answer from the right one, so nothing here is doubtful.

use super::request::{Mismatch, Question};
use super::unit::Answer;

/// Transaction, protocol, length, unit.
const HEADER_BYTES: usize = 7;

/// The longest frame: the header and 253 bytes.
const LENGTH_MAX: usize = 254;

/// The question as it goes out.
pub(super) fn adu(question: &Question, transaction: u16) -> Vec<u8> {
    let pdu = question.request.pdu();
    let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX);
    let mut adu = Vec::with_capacity(HEADER_BYTES + pdu.len());
    adu.extend(transaction.to_be_bytes());
    adu.extend([0, 0]);
    adu.extend(length.to_be_bytes());
    adu.push(question.unit);
    adu.extend(pdu);
    adu
}

/// What the bytes are, as soon as that is certain.
pub(super) fn find(question: &Question, transaction: u16, bytes: &[u8]) -> Option<Answer> {
    let wrong = |why| Some(Answer::Wrong(why));
    if bytes.get(2..4).is_some_and(|protocol| protocol != [0, 0]) {
        return wrong(Mismatch::Undecodable);
    }
    let &[t0, t1, _, _, l0, l1, unit, ref rest @ ..] = bytes else { return None };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if !(2..=LENGTH_MAX).contains(&length) {
        return wrong(Mismatch::Undecodable);
    }
    if [t0, t1] != transaction.to_be_bytes() {
        return wrong(Mismatch::Late);
    }
    if unit != question.unit {
        return wrong(Mismatch::Unit);
    }
    Some(question.request.read(rest.get(..length - 1)?))
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::{answer, request};
    use super::*;
    use proptest::prelude::*;

    fn framed(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
        let length = u16::try_from(pdu.len() + 1).expect("short").to_be_bytes();
        [&transaction.to_be_bytes()[..], &[0, 0], &length, &[unit], pdu].concat()
    }

    proptest! {
        #[test]
        fn the_answer_is_found_once_it_is_whole_and_every_mismatch_is_named(
            unit: u8, request in request(), transaction: u16, seed: u64,
        ) {
            let asked = Question { unit, request };
            prop_assert_eq!(adu(&asked, transaction).len(), HEADER_BYTES + asked.request.pdu().len());
            let pdu = answer(&asked.request, seed);
            let right = framed(transaction, unit, &pdu);
            for end in 0..right.len() {
                prop_assert_eq!(find(&asked, transaction, &right[..end]), None);
            }
            prop_assert_eq!(find(&asked, transaction, &right), Some(asked.request.read(&pdu)));
            let late = framed(transaction ^ 1, unit, &pdu);
            prop_assert_eq!(find(&asked, transaction, &late), Some(Answer::Wrong(Mismatch::Late)));
            let foreign = framed(transaction, unit ^ 1, &pdu);
            prop_assert_eq!(find(&asked, transaction, &foreign), Some(Answer::Wrong(Mismatch::Unit)));
        }

        #[test]
        fn any_bytes_are_taken(request in request(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let asked = Question { unit: 1, request };
            if let Some(Answer::Words(_)) = find(&asked, 7, &bytes) {
                prop_assert_eq!(&bytes[..4], &[0, 7, 0, 0]);
            }
        }
    }

    #[test]
    fn what_is_no_modbus_is_told_at_once() {
        let asked =
            Question { unit: 1, request: super::super::request::Request::WriteCoil { address: 0, on: true } };
        assert_eq!(find(&asked, 7, b"HTTP/1.1 400"), Some(Answer::Wrong(Mismatch::Undecodable)));
        assert_eq!(find(&asked, 7, &[0, 7, 0, 0, 0, 0, 1]), Some(Answer::Wrong(Mismatch::Undecodable)));
    }
}
