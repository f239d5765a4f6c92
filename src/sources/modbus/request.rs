//! WIRE → FRAMES, pure: one question to one unit, and what counts as its answer.
//!
//! The same on every wire (MODBUS application protocol V1.1b3, section 6); what is put around it is `rtu.rs` and
//! `mbap.rs`.

use super::unit::Answer;
use crate::model::RegisterTable;

/// What a unit is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Functions 01 to 04.
    Read {
        /// Which table.
        table: RegisterTable,
        /// The first address, counted from 0.
        start: u16,
        /// How many bits (at most 2000) or registers (at most 125).
        count: u16,
    },
    /// Function 05.
    WriteCoil {
        /// Which coil, counted from 0.
        address: u16,
        /// Its new state.
        on: bool,
    },
    /// Function 06.
    WriteRegister {
        /// Which register, counted from 0.
        address: u16,
        /// Its new value.
        word: u16,
    },
    /// Function 15.
    WriteCoils {
        /// The first coil, counted from 0.
        start: u16,
        /// Their new states, at most 1968.
        states: Vec<bool>,
    },
    /// Function 16.
    WriteRegisters {
        /// The first register, counted from 0.
        start: u16,
        /// Their new values, at most 123.
        words: Vec<u16>,
    },
}

/// A request and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) unit: u8,
    pub(super) request: Request,
}

/// Why bytes that came are not the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mismatch {
    /// No whole frame with a right checksum.
    Crc,
    /// A frame of another unit.
    Unit,
    /// A frame of that unit with another function.
    Function,
    /// Of that unit and function, but not as long as it was asked for.
    Length,
    /// It confirms another write than the one that was asked for.
    Content,
    /// The answer to an earlier question.
    Late,
    /// No Modbus at all.
    Undecodable,
}

/// The bit of the function code that makes an answer an exception.
pub(super) const EXCEPTION: u8 = 0x80;

impl Request {
    /// The function code.
    pub fn function(&self) -> u8 {
        match self {
            Self::Read { table: RegisterTable::Coil, .. } => 1,
            Self::Read { table: RegisterTable::Discrete, .. } => 2,
            Self::Read { table: RegisterTable::Holding, .. } => 3,
            Self::Read { table: RegisterTable::Input, .. } => 4,
            Self::WriteCoil { .. } => 5,
            Self::WriteRegister { .. } => 6,
            Self::WriteCoils { .. } => 15,
            Self::WriteRegisters { .. } => 16,
        }
    }

    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. })
    }

    /// The protocol data unit: function and data.
    pub(super) fn pdu(&self) -> Vec<u8> {
        let mut pdu = vec![self.function()];
        let (first, second) = self.pair();
        pdu.extend(first.to_be_bytes());
        pdu.extend(second.to_be_bytes());
        match self {
            Self::WriteCoils { states, .. } => {
                let bytes = states
                    .chunks(8)
                    .map(|bits| bits.iter().enumerate().fold(0, |byte, (at, on)| byte | u8::from(*on) << at));
                pdu.push(byte_count(states.len().div_ceil(8)));
                pdu.extend(bytes);
            }
            Self::WriteRegisters { words, .. } => {
                pdu.push(byte_count(words.len() * 2));
                pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            }
            _ => {}
        }
        pdu
    }

    /// The two words behind the function code: the address, and the count or the value.
    fn pair(&self) -> (u16, u16) {
        let count = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
        match self {
            Self::Read { start, count, .. } => (*start, *count),
            Self::WriteCoil { address, on } => (*address, if *on { 0xFF00 } else { 0 }),
            Self::WriteRegister { address, word } => (*address, *word),
            Self::WriteCoils { start, states } => (*start, count(states.len())),
            Self::WriteRegisters { start, words } => (*start, count(words.len())),
        }
    }

    /// How many data bytes follow the byte count of the right answer; `None`: a write, which is confirmed by repeating
    /// its two words.
    fn data_bytes(&self) -> Option<usize> {
        match self {
            Self::Read { table: RegisterTable::Coil | RegisterTable::Discrete, count, .. } => {
                Some(usize::from(*count).div_ceil(8))
            }
            Self::Read { count, .. } => Some(usize::from(*count) * 2),
            _ => None,
        }
    }

    /// How long the protocol data unit of the right answer is.
    pub(super) fn answer_length(&self) -> usize {
        self.data_bytes().map_or(5, |bytes| 2 + bytes)
    }

    /// Whether a protocol data unit may begin so and be the right answer: function and byte count.
    pub(super) fn may_begin(&self, function: u8, byte_count: u8) -> bool {
        function == self.function() && self.data_bytes().is_none_or(|bytes| bytes == usize::from(byte_count))
    }

    /// What a whole protocol data unit is for this request.
    pub(super) fn read(&self, pdu: &[u8]) -> Answer {
        let (function, data) = match pdu {
            [] => return Answer::Wrong(Mismatch::Length),
            [function, data @ ..] => (*function, data),
        };
        if function == self.function() | EXCEPTION {
            return match data {
                [code] => Answer::Refused(*code),
                _ => Answer::Wrong(Mismatch::Length),
            };
        }
        if function != self.function() {
            return Answer::Wrong(Mismatch::Function);
        }
        let Some(bytes) = self.data_bytes() else {
            let (first, second) = self.pair();
            return match data {
                [a, b, c, d]
                    if (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])) == (first, second) =>
                {
                    Answer::Words(Vec::new())
                }
                [_, _, _, _] => Answer::Wrong(Mismatch::Content),
                _ => Answer::Wrong(Mismatch::Length),
            };
        };
        match data {
            [told, data @ ..] if usize::from(*told) == data.len() => {
                if data.len() == bytes {
                    Answer::Words(self.words(data))
                } else {
                    Answer::Short
                }
            }
            _ => Answer::Wrong(Mismatch::Length),
        }
    }

    fn words(&self, data: &[u8]) -> Vec<u16> {
        let Self::Read { table, count, .. } = self else { return Vec::new() };
        match table {
            RegisterTable::Coil | RegisterTable::Discrete => (data.iter())
                .flat_map(|byte| (0..8).map(move |bit| u16::from(byte >> bit & 1)))
                .take(usize::from(*count))
                .collect(),
            RegisterTable::Holding | RegisterTable::Input => {
                data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
            }
        }
    }
}

fn byte_count(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any request of a sensible size.
    pub(in super::super) fn request() -> impl Strategy<Value = Request> {
        let table = prop::sample::select(vec![
            RegisterTable::Coil,
            RegisterTable::Discrete,
            RegisterTable::Holding,
            RegisterTable::Input,
        ]);
        prop_oneof![
            4 => (table, any::<u16>(), 1u16..=125)
                .prop_map(|(table, start, count)| Request::Read { table, start, count }),
            1 => (any::<u16>(), any::<bool>()).prop_map(|(address, on)| Request::WriteCoil { address, on }),
            1 => (any::<u16>(), any::<u16>()).prop_map(|(address, word)| Request::WriteRegister { address, word }),
            1 => (any::<u16>(), prop::collection::vec(any::<bool>(), 1..40))
                .prop_map(|(start, states)| Request::WriteCoils { start, states }),
            1 => (any::<u16>(), prop::collection::vec(any::<u16>(), 1..20))
                .prop_map(|(start, words)| Request::WriteRegisters { start, words }),
        ]
    }

    /// The right answer's protocol data unit, with that data in it.
    pub(in super::super) fn answer(request: &Request, seed: u64) -> Vec<u8> {
        match request.data_bytes() {
            None => request.pdu().into_iter().take(5).collect(),
            Some(bytes) => {
                let mut random = seed;
                let data = (0..bytes).map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    random.to_be_bytes()[0]
                });
                [request.function(), byte_count(bytes)].into_iter().chain(data).collect()
            }
        }
    }

    #[test]
    fn the_examples_of_the_standard_are_built_and_read() {
        // V1.1b3, sections 6.1, 6.3, 6.5, 6.6, 6.11 and 6.12.
        let coils = Request::Read { table: RegisterTable::Coil, start: 0x13, count: 0x13 };
        assert_eq!(coils.pdu(), [0x01, 0x00, 0x13, 0x00, 0x13]);
        let Answer::Words(bits) = coils.read(&[0x01, 0x03, 0xCD, 0x6B, 0x05]) else { panic!("no answer") };
        assert_eq!(bits, [1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1]);
        let holding = Request::Read { table: RegisterTable::Holding, start: 0x6B, count: 3 };
        assert_eq!(holding.pdu(), [0x03, 0x00, 0x6B, 0x00, 0x03]);
        let answer = holding.read(&[0x03, 0x06, 0x02, 0x2B, 0x00, 0x00, 0x00, 0x64]);
        assert_eq!(answer, Answer::Words(vec![0x022B, 0, 0x64]));
        assert_eq!(Request::WriteCoil { address: 0xAC, on: true }.pdu(), [0x05, 0x00, 0xAC, 0xFF, 0x00]);
        assert_eq!(Request::WriteRegister { address: 1, word: 3 }.pdu(), [0x06, 0x00, 0x01, 0x00, 0x03]);
        let states = [1, 0, 1, 1, 0, 0, 1, 1, 1, 0].map(|bit| bit == 1).to_vec();
        let coils = Request::WriteCoils { start: 0x13, states };
        assert_eq!(coils.pdu(), [0x0F, 0x00, 0x13, 0x00, 0x0A, 0x02, 0xCD, 0x01]);
        assert_eq!(coils.read(&[0x0F, 0x00, 0x13, 0x00, 0x0A]), Answer::Words(vec![]));
        let registers = Request::WriteRegisters { start: 1, words: vec![0x0A, 0x0102] };
        assert_eq!(registers.pdu(), [0x10, 0x00, 0x01, 0x00, 0x02, 0x04, 0x00, 0x0A, 0x01, 0x02]);
        assert_eq!(registers.read(&[0x10, 0x00, 0x01, 0x00, 0x02]), Answer::Words(vec![]));
        assert_eq!(registers.read(&[0x10, 0x00, 0x02, 0x00, 0x02]), Answer::Wrong(Mismatch::Content));
        assert_eq!(registers.read(&[0x90, 0x02]), Answer::Refused(2));
    }

    proptest! {
        #[test]
        fn only_as_many_words_as_were_asked_for_are_an_answer(request in request(), pdu in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Answer::Words(words) = request.read(&pdu)
                && let Request::Read { count, .. } = request
            {
                prop_assert_eq!(words.len(), usize::from(count));
                prop_assert_eq!(pdu.len(), request.answer_length());
            }
        }

        #[test]
        fn the_right_answer_is_one(request in request(), seed: u64) {
            let pdu = answer(&request, seed);
            prop_assert_eq!(pdu.len(), request.answer_length());
            prop_assert!(matches!(request.read(&pdu), Answer::Words(_)));
        }
    }
}
