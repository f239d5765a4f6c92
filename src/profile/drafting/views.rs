//! FRAMES → READINGS, drafting: everything that register words could mean, for a person who compares it with a display.

use super::super::registers::{WordOrder, WordType};
use super::super::schema_register::table_name;
use super::super::vocabulary::Vocabulary;
use super::registers::Seen;
use crate::model::RegisterTable;

/// What is usual in a building, by class: narrower than what its sensor may report, so that chance hits are few.
const TYPICAL: [(&str, f64, f64); 6] = [
    ("ambient_temperature", -30.0, 120.0),
    ("phase_voltage", 180.0, 260.0),
    ("frequency", 48.0, 52.0),
    ("ambient_humidity", 5.0, 100.0),
    ("pipe_pressure", 0.05, 2.5),
    ("residual_current", 1.0, 1000.0),
];

/// Scales in which whole numbers are sent.
const SCALES: [(&str, f64); 3] = [("×0.1", 0.1), ("×0.01", 0.01), ("", 1.0)];

/// A float outside these is none that a sensor sends, but 0.
const FLOAT_LEAST: f64 = 1e-3;
const FLOAT_MOST: f64 = 1e7;
/// Below this a float of three decimals is told from a chance one: above, every float has as few.
const SHORT_BELOW: f64 = 4096.0;

/// A table of everything that the registers could mean, a line each.
pub fn register_views(seen: &[Seen], vocabulary: &Vocabulary) -> Vec<String> {
    let mut lines = Vec::new();
    for block in seen {
        let table = table_name(block.table);
        if matches!(block.table, RegisterTable::Coil | RegisterTable::Discrete) {
            let bits: Vec<String> = block.words.iter().map(u16::to_string).collect();
            lines.push(format!("{table}@{}: {}", block.start, bits.join(" ")));
            continue;
        }
        for (place, word) in block.words.iter().enumerate() {
            let address = usize::from(block.start) + place;
            let signed = word.cast_signed();
            let hints = hints(f64::from(signed), true, vocabulary);
            lines.push(format!(
                "{table}@{address:<5} 0x{word:04X}  u16 {word:<5}  i16 {signed:<6}  {:04b} {:04b} {:04b} {:04b}  {hints}",
                word >> 12,
                word >> 8 & 15,
                word >> 4 & 15,
                word & 15
            ));
            // Two registers that are both zero say nothing in any order.
            if let Some(pair) = block.words.get(place..place + 2).filter(|pair| **pair != [0, 0]) {
                lines.extend(pair_lines(pair, vocabulary));
            }
        }
    }
    lines
}

fn pair_lines(pair: &[u16], vocabulary: &Vocabulary) -> Vec<String> {
    let all = |kind: WordType| {
        let one =
            |order: WordOrder| format!("{} {}", order.name(), kind.decode(pair, order).unwrap_or(f64::NAN));
        WordOrder::ALL.map(one).join("  ")
    };
    let mut lines = vec![format!("        +1 u32 {}", all(WordType::U32))];
    if pair.iter().any(|word| word & 0x8080 != 0) {
        lines.push(format!("        +1 i32 {}", all(WordType::I32)));
    }
    let floats = WordOrder::ALL.map(|order| {
        let value = WordType::F32.decode(pair, order).unwrap_or(f64::NAN);
        // What no sensor sends is only noise on the screen.
        let text = if is_float(value) || value == 0.0 { format!("{value:.7}") } else { "—".to_owned() };
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        };
        let mark = match () {
            () if is_surely_float(value) => "★",
            () if is_float(value) => "?",
            () => "",
        };
        (value, format!("{} {text}{mark}", order.name()))
    });
    lines.push(format!("        +1 f32 {}", floats.clone().map(|(_, text)| text).join("  ")));
    for (order, (value, _)) in WordOrder::ALL.into_iter().zip(floats) {
        if is_surely_float(value) {
            lines.push(format!(
                "        ★ 几乎肯定是浮点 almost surely a float: f32 {} = {value}  {}",
                order.name(),
                hints(value, false, vocabulary)
            ));
        }
    }
    lines
}

fn is_float(value: f64) -> bool {
    value.is_finite() && (FLOAT_LEAST..FLOAT_MOST).contains(&value.abs())
}

/// A float with at most three decimals: by chance one pair in hundreds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    reason = "whether it is the float nearest to such a number is the question"
)]
fn is_surely_float(value: f64) -> bool {
    let short = (value * 1000.0).round() / 1000.0;
    is_float(value) && value.abs() < SHORT_BELOW && value.abs() >= 0.01 && f64::from(short as f32) == value
}

/// What a number could be, by what is usual.
fn hints(value: f64, scaled: bool, vocabulary: &Vocabulary) -> String {
    let mut found: Vec<String> = Vec::new();
    for (class, low, high) in TYPICAL {
        let Some(class) = vocabulary.class(class).filter(|_| value != 0.0) else { continue };
        let scales = if scaled { &SCALES[..] } else { &SCALES[2..] };
        let fits = scales.iter().find(|(_, by)| (low..=high).contains(&(value * by)));
        if let Some((name, by)) = fits {
            let number = (value * by * 1000.0).round() / 1000.0;
            found.push(format!("{number} {}{name}?", class.quantity.unit()));
        }
    }
    found.join(" ")
}
