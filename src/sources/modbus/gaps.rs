//! WIRE → FRAMES, pure: which words of one read the unit really has.
//!
//! Reads are merged over small holes, and some units refuse a read that touches an address they do not have, or that
//! asks for more words than they give at once. Then the read is halved until only the missing words are left out, and
//! that is remembered, so that a gap in the map spoils nothing else. A hole is asked for again from time to time: the
//! unit may only have been starting up.

use crate::model::{RegisterBlock, RegisterTable, Trouble};
use std::time::Duration;

/// Modbus exceptions 02, "illegal data address", and 03, "illegal data value": V1.1b3 of the application protocol,
/// section 7. A read's only value is its count, so 03 says that the unit does not give that many at once.
pub(super) const ILLEGAL_ADDRESS: u8 = 0x02;
pub(super) const ILLEGAL_VALUE: u8 = 0x03;

/// The most halvings of one read. A hole of one word in 125 costs log2(125) ≈ 7, so 32 isolate at least four holes.
const SPLITS_MAX: u8 = 32;

/// How long a hole is left alone. One request a minute and hole costs nothing and ends a false hole soon.
const HOLE_REST: Duration = Duration::from_secs(60);

/// How long a read is left alone that was refused to its last word. At most 2 × 32 quick refusals each time.
const UNREADY_REST: Duration = Duration::from_secs(10);

/// The longest reads of the application protocol (V1.1b3, 6.1 to 6.4): 2000 bits, 125 registers.
fn longest(table: RegisterTable) -> u16 {
    match table {
        RegisterTable::Coil | RegisterTable::Discrete => 2000,
        RegisterTable::Holding | RegisterTable::Input => 125,
    }
}

/// Neighbouring words, read with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch {
    pub(super) start: u16,
    pub(super) count: u16,
}

impl Stretch {
    fn end(self) -> u32 {
        u32::from(self.start) + u32::from(self.count)
    }

    fn holds(self, other: Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not yet answered by itself.
    Untried,
    /// The unit has it.
    There,
    /// The unit refused it with that exception; asked again at that time.
    Hole { code: u8, again_at: Duration },
}

/// What is known of one read.
#[derive(Debug)]
pub(super) struct Gaps {
    table: RegisterTable,
    /// In the order of the addresses, without overlap.
    parts: Vec<(Stretch, State)>,
    splits_left: u8,
    /// The unit refuses neighbouring parts in one request although it has both.
    apart: bool,
}

impl Gaps {
    /// Cut only where the protocol demands it, and never past the last address.
    pub(super) fn new(table: RegisterTable, start: u16, count: u16) -> Self {
        let end = (u32::from(start) + u32::from(count)).min(0x1_0000);
        let mut parts = Vec::new();
        let mut at = u32::from(start);
        while at < end {
            let piece = (end - at).min(u32::from(longest(table)));
            let (Ok(start), Ok(count)) = (u16::try_from(at), u16::try_from(piece)) else { break };
            parts.push((Stretch { start, count }, State::Untried));
            at += piece;
        }
        Self { table, parts, splits_left: SPLITS_MAX, apart: false }
    }

    /// What to ask for now, and the blocks of the holes that are left alone.
    pub(super) fn plan(&self, now: Duration) -> (Vec<Stretch>, Vec<RegisterBlock>) {
        let (mut asks, mut holes): (Vec<Stretch>, Vec<(u8, Vec<Stretch>)>) = (Vec::new(), Vec::new());
        let mut joins = false;
        for &(part, state) in &self.parts {
            match state {
                State::Hole { code, again_at } if now < again_at => {
                    match holes.last_mut().filter(|(known, _)| *known == code) {
                        Some((_, list)) => append(list, part, u16::MAX, true),
                        None => holes.push((code, vec![part])),
                    }
                    joins = false;
                }
                State::There => {
                    append(&mut asks, part, longest(self.table), joins && !self.apart);
                    joins = true;
                }
                State::Untried | State::Hole { .. } => {
                    asks.push(part);
                    joins = false;
                }
            }
        }
        let refused = |(code, list): (u8, Vec<Stretch>)| {
            list.into_iter().map(move |hole| self.block(hole, Err(Trouble::Exception(code))))
        };
        (asks, holes.into_iter().flat_map(refused).collect())
    }

    /// The unit answered it.
    pub(super) fn answered(&mut self, asked: Stretch) {
        for (_, state) in self.parts.iter_mut().filter(|(part, _)| asked.holds(*part)) {
            *state = State::There;
        }
    }

    /// The unit refused the address, or so many words. What to ask for instead; nothing: it is a hole now.
    pub(super) fn refused(&mut self, asked: Stretch, code: u8, now: Duration) -> Vec<Stretch> {
        let inside: Vec<usize> =
            (0..self.parts.len()).filter(|&index| asked.holds(self.parts[index].0)).collect();
        if let [_, _, ..] = inside[..] {
            self.apart = true;
            return inside.iter().map(|&index| self.parts[index].0).collect();
        }
        let Some(&index) = inside.first() else { return Vec::new() };
        let (part, _) = self.parts[index];
        if part.count > 1 && self.splits_left > 0 {
            self.splits_left -= 1;
            // Even, so that a 32-bit value aligned with the read is not torn.
            let half = if part.count < 4 { 1 } else { (part.count / 2) & !1 };
            let left = Stretch { start: part.start, count: half };
            let right = Stretch { start: part.start + half, count: part.count - half };
            self.parts[index] = (left, State::Untried);
            self.parts.insert(index + 1, (right, State::Untried));
            return vec![left, right];
        }
        self.parts[index].1 = State::Hole { code, again_at: now + HOLE_REST };
        Vec::new()
    }

    /// At the end of a round: a unit that refused every word has no gaps but is not ready. Its read is forgotten,
    /// and asked for whole again after a short rest.
    pub(super) fn settle(&mut self, now: Duration) {
        if self.splits_left == SPLITS_MAX || self.parts.iter().any(|(_, state)| !is_hole(*state)) {
            return;
        }
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else { return };
        let State::Hole { code, .. } = first.1 else { return };
        let count = u16::try_from(last.0.end() - u32::from(first.0.start)).unwrap_or(u16::MAX);
        *self = Self::new(self.table, first.0.start, count);
        for (_, state) in &mut self.parts {
            *state = State::Hole { code, again_at: now + UNREADY_REST };
        }
    }

    /// One block of this read's table.
    pub(super) fn block(&self, at: Stretch, words: Result<Vec<u16>, Trouble>) -> RegisterBlock {
        RegisterBlock { table: self.table, start: at.start, words, count: at.count }
    }

    /// Whether the block is part of this read.
    pub(super) fn holds(&self, block: &RegisterBlock) -> bool {
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else { return false };
        block.table == self.table
            && first.0.start <= block.start
            && Stretch { start: block.start, count: block.count }.end() <= last.0.end()
    }

    /// The whole read failed for that reason.
    pub(super) fn all(&self, trouble: Trouble) -> impl Iterator<Item = RegisterBlock> {
        let mut whole = Vec::new();
        for &(part, _) in &self.parts {
            append(&mut whole, part, u16::MAX, true);
        }
        whole.into_iter().map(move |part| self.block(part, Err(trouble)))
    }
}

fn is_hole(state: State) -> bool {
    matches!(state, State::Hole { .. })
}

/// Joins `part` to the last of `list` when they touch, the sum is not too long, and joining is wanted.
fn append(list: &mut Vec<Stretch>, part: Stretch, longest: u16, join: bool) {
    if let Some(last) = list.last_mut()
        && join
        && last.end() == u32::from(part.start)
        && let Some(count) = last.count.checked_add(part.count).filter(|count| *count <= longest)
    {
        last.count = count;
        return;
    }
    list.push(part);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const TABLE: RegisterTable = RegisterTable::Holding;

    fn at(start: u16, count: u16) -> Stretch {
        Stretch { start, count }
    }

    /// One round against a unit without these addresses; returns how many questions it took.
    fn round(gaps: &mut Gaps, missing: &BTreeSet<u16>, now: Duration) -> usize {
        let (mut asks, _) = gaps.plan(now);
        let mut questions = 0;
        while let Some(ask) = asks.pop() {
            questions += 1;
            if missing.iter().any(|address| ask.holds(at(*address, 1))) {
                asks.extend(gaps.refused(ask, ILLEGAL_ADDRESS, now));
            } else {
                gaps.answered(ask);
            }
        }
        gaps.settle(now);
        questions
    }

    #[test]
    fn a_unit_that_refuses_everything_for_a_while_is_asked_whole_again() {
        let mut gaps = Gaps::new(TABLE, 0, 20);
        let everything = (0..20).collect();
        assert!(round(&mut gaps, &everything, Duration::ZERO) <= 1 + 2 * usize::from(SPLITS_MAX));
        assert_eq!(gaps.plan(Duration::from_secs(1)).0, []);
        assert_eq!(gaps.plan(UNREADY_REST).0, [at(0, 20)]);
        round(&mut gaps, &BTreeSet::new(), UNREADY_REST);
        assert_eq!(gaps.plan(UNREADY_REST), (vec![at(0, 20)], vec![]));
    }

    #[test]
    fn a_hole_that_was_none_is_found_again() {
        let mut gaps = Gaps::new(TABLE, 0, 20);
        round(&mut gaps, &BTreeSet::from([5]), Duration::ZERO);
        assert_eq!(gaps.plan(Duration::ZERO).0, [at(0, 5), at(6, 14)]);
        round(&mut gaps, &BTreeSet::new(), HOLE_REST);
        assert_eq!(gaps.plan(HOLE_REST), (vec![at(0, 20)], vec![]));
    }

    #[test]
    fn a_unit_that_refuses_to_cross_a_border_is_asked_on_both_sides_of_it() {
        let mut gaps = Gaps::new(TABLE, 0, 8);
        assert_eq!(gaps.refused(at(0, 8), ILLEGAL_ADDRESS, Duration::ZERO), [at(0, 4), at(4, 4)]);
        gaps.answered(at(0, 4));
        gaps.answered(at(4, 4));
        assert_eq!(gaps.plan(Duration::ZERO).0, [at(0, 8)], "joined as soon as both are there");
        assert_eq!(gaps.refused(at(0, 8), ILLEGAL_ADDRESS, Duration::ZERO), [at(0, 4), at(4, 4)]);
        assert_eq!(gaps.plan(Duration::ZERO).0, [at(0, 4), at(4, 4)], "and never again");
    }

    #[test]
    fn a_unit_that_gives_fewer_words_at_once_than_asked_for_is_asked_for_fewer() {
        let mut gaps = Gaps::new(TABLE, 0, 40);
        for _ in 0..4 {
            let (mut asks, holes) = gaps.plan(Duration::ZERO);
            assert_eq!(holes, []);
            while let Some(ask) = asks.pop() {
                if ask.count > 12 {
                    asks.extend(gaps.refused(ask, ILLEGAL_VALUE, Duration::ZERO));
                } else {
                    gaps.answered(ask);
                }
            }
            gaps.settle(Duration::ZERO);
        }
        let (asks, holes) = gaps.plan(Duration::ZERO);
        assert!(holes.is_empty() && asks.iter().all(|ask| ask.count <= 12), "{asks:?}");
        assert_eq!(asks.iter().map(|ask| ask.count).sum::<u16>(), 40);
    }

    #[test]
    fn a_hole_keeps_the_exception_that_made_it() {
        let mut gaps = Gaps::new(TABLE, 0, 2);
        assert_eq!(gaps.refused(at(0, 2), ILLEGAL_ADDRESS, Duration::ZERO), [at(0, 1), at(1, 1)]);
        gaps.answered(at(0, 1));
        assert_eq!(gaps.refused(at(1, 1), ILLEGAL_VALUE, Duration::ZERO), []);
        let (asks, holes) = gaps.plan(Duration::ZERO);
        assert_eq!(asks, [at(0, 1)]);
        assert_eq!(holes, [gaps.block(at(1, 1), Err(Trouble::Exception(ILLEGAL_VALUE)))]);
    }

    #[test]
    fn the_last_address_is_not_passed() {
        assert_eq!(Gaps::new(TABLE, 0xFFFE, 100).plan(Duration::ZERO).0, [at(0xFFFE, 2)]);
        assert_eq!(Gaps::new(TABLE, 5, 0).plan(Duration::ZERO).0, []);
    }

    proptest! {
        #[test]
        fn every_word_is_asked_for_or_said_to_be_missing(
            start in 0u16..1000, count in 1u16..125, holes in prop::collection::btree_set(0u16..125, 0..4),
        ) {
            let missing: BTreeSet<u16> =
                holes.into_iter().filter(|hole| *hole < count).map(|hole| start + hole).collect();
            prop_assume!(missing.len() < usize::from(count));
            let mut gaps = Gaps::new(TABLE, start, count);
            let first = round(&mut gaps, &missing, Duration::ZERO);
            prop_assert!(first <= 1 + 2 * usize::from(SPLITS_MAX));
            let (asks, blocks) = gaps.plan(Duration::from_secs(1));
            let asked: Vec<u16> = asks.iter().flat_map(|ask| ask.start..ask.start + ask.count).collect();
            let told: Vec<u16> = blocks.iter().flat_map(|block| block.start..block.start + block.count).collect();
            let mut all = [asked.clone(), told.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (start..start + count).collect::<Vec<_>>());
            prop_assert_eq!(told, missing.iter().copied().collect::<Vec<_>>());
            // One question for each run of words between the holes.
            let runs = (start..start + count)
                .filter(|at| !missing.contains(at) && (*at == start || missing.contains(&(at - 1))))
                .count();
            prop_assert_eq!(asks.len(), runs);
            prop_assert_eq!(round(&mut gaps, &missing, Duration::from_secs(1)), runs);
        }
    }
}
