//! How manuals count registers: from 0, from 1, or with the table as the first digit.

use super::{NOW, parse, pointed};
use fengsui::model::{RegisterBlock, RegisterTable, Value};
use fengsui::profile::Profile;
use proptest::prelude::*;

const TABLES: [(&str, RegisterTable); 4] = [
    ("coil", RegisterTable::Coil),
    ("discrete", RegisterTable::Discrete),
    ("holding", RegisterTable::Holding),
    ("input", RegisterTable::Input),
];

/// A model with one point at that address.
fn text(table: &str, address: u32, base: &str) -> String {
    let (what, kind, values) = if matches!(table, "coil" | "discrete") {
        ("class = \"smoke_alarm\"\ncodes = { 0 = \"normal\", 1 = \"alarm\" }", "", ["normal", "alarm"])
    } else {
        ("class = \"residual_current\"\nunit = \"mA\"", ", type = \"u16\"", ["0 mA", "1 mA"])
    };
    let examples: String = (0..2)
        .map(|n| {
            let value = values[n];
            format!("[[example]]\nname = \"{n}\"\ninput = \"@{address}: 000{n}\"\nreadings = {{ p = \"{value}\" }}\n")
        })
        .collect();
    format!(
        "[device]\nvendor = \"a\"\nmodel = \"b\"\nname = {{ zh = \"甲\", en = \"a\" }}\nsource = \"a test\"\n\
         [modbus]\npoll_every_secs = 1\n{base}\n[[point]]\nname = \"p\"\n{what}\n\
         from = {{ table = \"{table}\", address = {address}{kind} }}\n{examples}\
         [[example]]\nname = \"mute\"\ninput = \"@{address}+1: no_answer\"\nrefused = true\n"
    )
}

fn polled(profile: &Profile) -> (RegisterTable, u16, u16) {
    let plan = profile.poll_plan();
    let [read] = plan[..] else { panic!("{plan:?}") };
    (read.table, read.start, read.count)
}

#[test]
fn the_ways_of_manuals_to_count_all_name_the_same_register() {
    // The fifth holding register, as three manuals call it.
    for (address, base) in [(4, ""), (4, "address_base = 0"), (5, "address_base = 1")] {
        let profile = parse(&text("holding", address, base)).unwrap();
        assert_eq!(polled(&profile), (RegisterTable::Holding, 4, 1), "{address} {base}");
        assert_eq!(profile.check_examples(), [], "{address} {base}: the examples count as the points do");
    }
    let last = parse(&text("input", 65_536, "address_base = 1")).unwrap();
    assert_eq!(polled(&last), (RegisterTable::Input, 65_535, 1));
    let really = parse(&text("holding", 40_005, "address_base = 0")).unwrap();
    assert_eq!(polled(&really), (RegisterTable::Holding, 40_005, 1));
    // The digit of another table is an ordinary number.
    let other = parse(&text("holding", 30_005, "")).unwrap();
    assert_eq!(polled(&other), (RegisterTable::Holding, 30_005, 1));
}

#[test]
fn an_address_that_is_counted_wrongly_is_refused_with_what_to_write() {
    for (table, address, base, wrong, help) in [
        ("holding", 0, "address_base = 1", "no address 0", "address_base = 0"),
        ("coil", 0, "address_base = 1", "no address 0", "address_base = 0"),
        ("holding", 65_536, "", "beyond the last one, 65535", "0x10"),
        ("holding", 65_537, "address_base = 1", "beyond the last one, 65536", "0x10"),
        ("holding", 40_108, "", "holding number 108", "address = 108 with address_base = 1"),
        ("holding", 40_108, "", "holding number 108", "address = 40108 with address_base = 0"),
        (
            "holding",
            40_108,
            "address_base = 1",
            "holding number 108",
            "address = 40107 with address_base = 0",
        ),
        ("input", 30_001, "", "input number 1", "address = 1 with address_base = 1"),
        ("discrete", 10_012, "", "discrete number 12", "address = 12 with address_base = 1"),
        ("input", 300_001, "", "input number 1", "address = 1 with address_base = 1"),
        ("holding", 465_536, "", "holding number 65536", "address = 65536 with address_base = 1"),
        ("holding", 400_001, "address_base = 0", "holding number 1", "address = 1 with address_base = 1"),
    ] {
        let text = text(table, address, base);
        let problems = pointed(&text, &parse(&text).unwrap_err());
        let (word, told) = &problems[0];
        assert_eq!(*word, address.to_string(), "{problems:?}");
        assert!(told.contains(wrong) && told.contains(help), "{table} {address} {base}: {told}");
    }
    let text = text("holding", 5, "address_base = 40001");
    let problems = pointed(&text, &parse(&text).unwrap_err());
    assert!(problems[0].0 == "40001" && problems[0].1.contains("address_base is 0 or 1"), "{problems:?}");
}

#[test]
fn an_example_counts_its_addresses_as_the_points_do() {
    let right = text("holding", 5, "address_base = 1");
    let wrong = right.replace("\"@5: 0001\"", "\"@0: 0001\"");
    let problems = pointed(&wrong, &parse(&wrong).unwrap_err());
    assert!(problems[0].1.contains("it counts from address_base"), "{problems:?}");
}

proptest! {
    #[test]
    fn what_is_written_from_0_and_from_1_is_one_address_on_the_wire(
        table in 0usize..4, wire: u16, word in 0u16..2,
    ) {
        let (name, table) = TABLES[table];
        let from_0 = parse(&text(name, u32::from(wire), "address_base = 0")).unwrap();
        prop_assert_eq!(polled(&from_0), (table, wire, 1));
        // Numbers with a table in front are asked back about; all others are taken.
        if let Ok(from_1) = parse(&text(name, u32::from(wire) + 1, "address_base = 1")) {
            prop_assert_eq!(polled(&from_1), (table, wire, 1));
            prop_assert_eq!(from_1.check_examples(), []);
            let block = RegisterBlock { table, start: wire, count: 1, words: Ok(vec![word]) };
            let samples = from_1.decode_registers(&[block], NOW).samples;
            let is_bit = matches!(table, RegisterTable::Coil | RegisterTable::Discrete);
            let states = ["normal", "alarm"].map(|code| Value::Code(code.into()).to_string());
            let expected = if is_bit { states[usize::from(word)].clone() } else { word.to_string() };
            prop_assert_eq!(samples[0].value.to_string(), expected);
            prop_assert_eq!(samples.len(), 1);
        } else {
            let first = [("discrete", 10_001), ("input", 30_001), ("holding", 40_001)];
            let written = u32::from(wire) + 1;
            let refused = first.iter().any(|(of, first)| *of == name && (*first..first + 9_999).contains(&written));
            prop_assert!(refused, "{} {}", name, wire);
        }
    }
}
