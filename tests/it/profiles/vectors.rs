//! Register decoding against another project's test vectors, read when they are at hand.

use fengsui::profile::{WordOrder, WordType};
use std::path::{Path, PathBuf};

/// The folder with third-party test data, when it is there: named by the environment, or found beside the project.
fn fixture(name: &str) -> Option<String> {
    let named = std::env::var_os("FENGSUI_FIXTURES").map(|folder| PathBuf::from(folder).join(name));
    let beside = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/fixtures").join(name))
        .find(|path| path.exists());
    std::fs::read_to_string(named.or(beside)?).ok()
}

/// The type and order of one vector in our words; `None` for what we do not have (text).
fn ours(kind: &str, order: &str, words: usize, is_old_style: bool) -> Option<(WordType, WordOrder)> {
    let order = match order {
        "" | "AB" | "ABCD" | "ABCDEFGH" => WordOrder::Abcd,
        "CDAB" | "GHEFCDAB" => WordOrder::Cdab,
        "BA" | "BADC" | "BADCFEHG" => WordOrder::Badc,
        "DCBA" | "HGFEDCBA" => WordOrder::Dcba,
        other => panic!("order {other}"),
    };
    // The old style calls scaled integers FIXED and UFIXED; both styles agree on the IEEE types.
    let kind = match (kind.trim_end_matches("-IEEE"), words) {
        ("UINT8H", _) => WordType::U8High,
        ("UINT8L", _) => WordType::U8Low,
        ("INT8H", _) => WordType::I8High,
        ("INT8L", _) => WordType::I8Low,
        ("FIXED", 1) | ("INT16", _) => WordType::I16,
        ("FIXED", 2) | ("INT32", _) => WordType::I32,
        ("FIXED", 4) | ("INT64", _) => WordType::I64,
        ("UFIXED", 1) | ("UINT16", _) => WordType::U16,
        ("UFIXED", 2) | ("UINT32", _) => WordType::U32,
        ("UFIXED", 4) | ("UINT64", _) => WordType::U64,
        ("FLOAT16", _) => WordType::F16,
        ("FLOAT32", _) => WordType::F32,
        ("FLOAT64", _) => WordType::F64,
        ("STRING", _) => return None,
        other => panic!("type {other:?}, old style: {is_old_style}"),
    };
    Some((kind, order))
}

/// `float64(-4.2)`, `uint8(1)`.
fn wanted(expect: &str) -> Option<(bool, f64)> {
    let (kind, rest) = expect.split_once('(')?;
    Some((kind.starts_with("float"), rest.strip_suffix(')')?.parse().ok()?))
}

#[test]
fn registers_decode_as_telegraf_decodes_them() {
    let Some(text) = fixture("telegraf_modbus.json") else {
        println!("SKIPPED: telegraf_modbus.json is not here; set FENGSUI_FIXTURES to its folder");
        return;
    };
    let vectors: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let (mut checked, mut bits, mut without_number) = (0, 0, 0);
    for vector in &vectors {
        let field = |name: &str| vector[name].as_str().unwrap_or("");
        let wire: Vec<u8> = (0..field("wire").len() / 2)
            .map(|place| u8::from_str_radix(&field("wire")[2 * place..2 * place + 2], 16).unwrap())
            .collect();
        let words: Vec<u16> = wire
            .chunks(2)
            .filter(|pair| pair.len() == 2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        if field("type") == "BIT" {
            let bit: u32 = field("bit").parse().unwrap();
            let got = f64::from(words[0] >> bit & 1);
            assert_eq!(Some(got), wanted(field("expect")).map(|(_, number)| number), "{}", field("name"));
            bits += 1;
            continue;
        }
        let Some((is_float, expected)) = wanted(field("expect")).filter(|_| !field("type").is_empty()) else {
            without_number += 1;
            continue;
        };
        let is_old_style = field("test") == "TestRegisterHoldingRegisters";
        let Some((kind, order)) = ours(field("type"), field("order"), words.len(), is_old_style) else {
            without_number += 1;
            continue;
        };
        let scale = vector["scale"].as_str().map_or(1.0, |scale| scale.parse::<f64>().unwrap());
        let got = kind.decode(&words, order).unwrap() * scale;
        // It scales integers in their own type: the fraction is cut.
        let got = if is_float { got } else { got.trunc() };
        // Its output type, which we do not have, wraps a negative number.
        let got = if field("outType") == "UINT64" && got < 0.0 { got + 2f64.powi(64) } else { got };
        let error = (got - expected).abs();
        assert!(error <= 1e-6 * expected.abs().max(1e-3), "{}: {got}, expected {expected}", field("name"));
        checked += 1;
    }
    println!("{} vectors: {checked} numbers, {bits} bits, {without_number} coils and texts", vectors.len());
    assert_eq!((vectors.len(), checked + bits), (207, 189));
}
