//! Tests of: what registers could mean, and the drafts of those that were picked.

use super::tests::{VOCABULARY, whole};
use super::*;
use crate::model::RegisterTable;

pub(super) fn block(start: u16, words: &[u16]) -> Seen {
    Seen { table: RegisterTable::Holding, start, words: words.to_vec() }
}

#[test]
fn a_float_is_seen_in_its_word_order_and_what_it_could_be() {
    let lines = register_views(&[block(4, &[0x0000, 0x41BC, 235, 0])], &VOCABULARY);
    let sure: Vec<&String> =
        lines.iter().filter(|line| line.contains('★') && line.contains("almost surely")).collect();
    assert!(
        sure.iter().any(|line| line.contains("f32 CDAB = 23.5") && line.contains("23.5 ℃?")),
        "{lines:#?}"
    );
    let whole = lines.iter().find(|line| line.starts_with("holding@6")).unwrap();
    assert!(
        whole.contains("0x00EB") && whole.contains("23.5 ℃×0.1?") && whole.contains("0000 0000 1110 1011"),
        "{whole}"
    );
}

#[test]
fn picks_become_a_profile_with_the_dump_as_read() {
    let seen = [
        block(0, &[1, 0, 0, 0, 0x0000, 0x41BC, 235, 0x0020]),
        Seen { table: RegisterTable::Discrete, start: 0, words: vec![0, 1] },
    ];
    let pick = |text: &str| RegisterPick::parse(text, &VOCABULARY).unwrap();
    let picks = [
        pick("holding@4 f32 CDAB temperature"),
        pick("holding@6 i16 x0.1 环境湿度 %"),
        pick("holding@0 u16 smoke_alarm"),
        pick("holding@7 u16 bit=5 water_leak"),
        pick("discrete@1 tamper"),
    ];
    let identity = Identity { vendor: "acme".into(), model: "m1".into(), ..Identity::default() };
    let drafted = draft_registers(identity, &seen, &picks, false, &VOCABULARY).unwrap();
    let profile = whole(&drafted);
    let classes: Vec<&str> = profile.points.iter().map(|point| point.class.as_str()).collect();
    assert_eq!(classes, ["ambient_temperature", "ambient_humidity", "smoke_alarm", "water_leak", "tamper"]);
    for told in ["23.5 ℃", "23.5 %", "holding@4: 0000 41BC", "\"alarm\"", "bit = 5"] {
        assert!(drafted.text.contains(told), "{told}\n{}", drafted.text);
    }
    let beyond =
        draft_registers(Identity::default(), &seen, &[pick("input@4 u16 battery")], false, &VOCABULARY);
    assert!(beyond.unwrap_err().why.contains("--range"));
}

#[test]
fn a_pick_that_is_written_wrong_says_how_it_is_written() {
    for (wrong, said) in [
        ("", "holding@4"),
        ("holding 4", "holding@4"),
        ("attic@4 u16 battery", "table"),
        ("holding@x u16 battery", "address"),
        ("holding@4 battery", "u16 i16 u32 i32 f32"),
        ("holding@4 u16", "class"),
        ("holding@4 u16 zzz", "zzz"),
        ("holding@4 u16 battery kPa", "%"),
        ("holding@4 u16 x0.1 smoke_alarm", "scale"),
        ("holding@4 u16 battery % more", "more"),
        ("holding@4 i16 bit=3 tamper", "bit="),
    ] {
        let why = RegisterPick::parse(wrong, &VOCABULARY).unwrap_err();
        assert!(why.contains(said), "{wrong:?}: {why}");
    }
}

#[test]
fn a_word_finds_its_classes_and_nonsense_finds_none() {
    let ids = |word: &str| -> Vec<String> {
        classes_of_word(word, &VOCABULARY).iter().map(|class| class.id.to_string()).collect()
    };
    assert_eq!(ids("battery"), ["battery"]);
    assert_eq!(ids("温度")[0], "ambient_temperature");
    assert!(
        ids("烟").contains(&"smoke_alarm".to_owned()) && ids("smoke").contains(&"smoke_density".to_owned())
    );
    assert_eq!(ids("qwertz"), [] as [&str; 0]);
    assert_eq!(ids(""), [] as [&str; 0]);
}
