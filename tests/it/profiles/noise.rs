//! Whatever arrives: no message, no register and no file makes the readers fail, and what they say is bounded.

use super::{CATALOGUE, NOW, PROFILE, parse};
use fengsui::model::{Quality, Quantity, RegisterBlock, RegisterTable, Timestamp, Trouble, Value};
use fengsui::profile::{ExampleInput, Profile, ProfileLink};
use proptest::prelude::*;

/// One of the shipped profiles' own messages, damaged; or noise.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let real: Vec<Vec<u8>> = CATALOGUE
        .profiles
        .values()
        .flat_map(|profile| &profile.examples)
        .filter_map(|example| match &example.input {
            ExampleInput::Message(payload) => Some(payload.clone()),
            ExampleInput::Registers(_) => None,
        })
        .collect();
    let damaged = (proptest::sample::select(real), any::<usize>(), any::<u8>(), any::<bool>()).prop_map(
        |(mut bytes, place, byte, cut)| {
            let place = place % (bytes.len() + 1);
            if cut {
                bytes.truncate(place);
            } else if let Some(old) = bytes.get_mut(place) {
                *old = byte;
            }
            bytes
        },
    );
    prop_oneof![2 => damaged, 1 => proptest::collection::vec(any::<u8>(), 0..300)]
}

fn blocks() -> impl Strategy<Value = Vec<RegisterBlock>> {
    let table = proptest::sample::select(vec![
        RegisterTable::Coil,
        RegisterTable::Discrete,
        RegisterTable::Holding,
        RegisterTable::Input,
    ]);
    let start = prop_oneof![3 => 0u16..80, 1 => any::<u16>()];
    let words = proptest::option::of(proptest::collection::vec(any::<u16>(), 0..90));
    let block = (table, start, any::<u8>(), words).prop_map(|(table, start, count, words)| RegisterBlock {
        table,
        start,
        count: count.into(),
        words: words.ok_or(Trouble::WrongAnswer),
    });
    proptest::collection::vec(block, 0..5)
}

fn check_bounded(profile: &Profile, decoded: &fengsui::profile::Decoded) -> Result<(), TestCaseError> {
    // A message of named values has at most one value for each of its 256 KiB.
    let values = if profile.brings_history() { 256 * 1024 } else { 1 };
    prop_assert!(decoded.samples.len() <= profile.points.len() * values);
    prop_assert!(decoded.problems.len() <= 16);
    prop_assert!(decoded.problems.iter().all(|problem| problem.chars().count() < 300));
    prop_assert!(decoded.understood || !decoded.problems.is_empty());
    for sample in &decoded.samples {
        prop_assert_eq!(sample.quality == Quality::Good, sample.flaw.is_none());
        prop_assert!(sample.value != Value::Absent || sample.quality == Quality::Bad);
        let quantity = profile.points[sample.point].quantity;
        match &sample.value {
            Value::Number(_) => prop_assert!(quantity.is_numeric()),
            Value::Flag(_) => prop_assert_eq!(quantity, Quantity::Flag),
            Value::Code(_) => prop_assert_eq!(quantity, Quantity::State),
            Value::Absent => {}
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_message_makes_any_shipped_profile_fail(payload in payloads(), millis: i64) {
        for profile in CATALOGUE.profiles.values() {
            for kind in 0..profile.topics().len() {
                let decoded = profile.decode_message(kind, &payload, Timestamp::from_millis(millis));
                check_bounded(profile, &decoded)?;
            }
        }
    }

    #[test]
    fn no_registers_make_any_shipped_profile_fail(blocks in blocks()) {
        for profile in CATALOGUE.profiles.values() {
            if matches!(profile.link, ProfileLink::Modbus { .. }) {
                check_bounded(profile, &profile.decode_registers(&blocks, NOW))?;
            }
        }
    }

    #[test]
    fn no_text_makes_the_readers_fail(place: usize, junk in "[\\PC\n]{0,20}") {
        let mut text = PROFILE.to_owned();
        let at = (0..=text.len()).rev().map(|back| (place.wrapping_add(back)) % (text.len() + 1))
            .find(|at| text.is_char_boundary(*at)).unwrap();
        text.insert_str(at, &junk);
        for problem in parse(&text).err().unwrap_or_default() {
            prop_assert!(problem.span.is_none_or(|span| text.get(span).is_some()));
        }
    }
}
