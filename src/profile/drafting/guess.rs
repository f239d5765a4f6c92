//! FRAMES → READINGS, drafting: what a field is, by its name (English, Chinese, pinyin) and by the values it had.

use super::super::vocabulary::{PointClass, Vocabulary};
use super::words::{ALARM, ALARM_WORDS, AMOUNT, DETECTORS, ROWS, Row, STATE, TEMPERATURE};
use serde_json::Value;

/// Words of this length and longer are also found inside a longer one.
const INSIDE_BYTES_MIN: usize = 5;

/// A field's name in pieces.
struct Name {
    whole: String,
    pieces: Vec<String>,
}

impl Name {
    /// `waterPressure_2` is `water`, `pressure`, and as a whole `waterpressure`.
    fn of(key: &str) -> Self {
        let mut pieces: Vec<String> = vec![String::new()];
        let mut small = false;
        for c in key.chars() {
            let ends = !c.is_alphanumeric() || (c.is_uppercase() && small);
            if ends {
                pieces.push(String::new());
            }
            if let Some(piece) = pieces.last_mut().filter(|_| c.is_alphanumeric()) {
                piece.extend(c.to_lowercase());
            }
            small = c.is_lowercase() || c.is_ascii_digit();
        }
        let whole = pieces.concat();
        let bare = |piece: &String| piece.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        let bares: Vec<String> = pieces.iter().map(bare).collect();
        pieces.extend(bares);
        pieces.retain(|piece| !piece.is_empty());
        Self { whole, pieces }
    }

    fn has(&self, word: &str) -> bool {
        let inside = word.len() >= INSIDE_BYTES_MIN || !word.is_ascii();
        self.pieces.iter().any(|piece| piece == word)
            || self.whole == word
            || (inside && self.whole.contains(word))
    }

    fn row(&self) -> Option<&'static Row> {
        ROWS.iter().find(|row| row.groups.iter().all(|words| words.iter().any(|word| self.has(word))))
    }
}

/// Whether a level of a topic says what is measured, and so is no device.
pub(super) fn is_known(word: &str) -> bool {
    Name::of(word).row().is_some()
}

/// What values a field had. A few odd ones (a sentinel, a fault in words) do not change what it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Coded,
    Numbers {
        /// In order.
        values: Vec<f64>,
        /// All are small whole numbers.
        small: bool,
    },
    /// Neither: numbers in quotes, or only null.
    Other,
}

/// The largest whole number that still looks like a code.
const CODE_MAX: f64 = 15.0;
/// More different words than this are no states.
const WORDS_MAX: usize = 12;

impl Shape {
    pub(super) fn of(values: &[Value]) -> Self {
        let values: Vec<&Value> = values.iter().filter(|value| !value.is_null()).collect();
        let mut numbers: Vec<f64> = values.iter().filter_map(|value| value.as_f64()).collect();
        numbers.sort_by(f64::total_cmp);
        let small = |number: &f64| number.fract() == 0.0 && (0.0..=CODE_MAX).contains(number);
        let small = numbers.iter().all(small);
        let quoted = |value: &&&Value| {
            value.as_str().is_some_and(|text| text.parse::<f64>().is_ok() && text.len() > 2)
        };
        let single = |value: &&Value| value.is_boolean() || value.is_string() || value.is_number();
        if values.is_empty() || !values.iter().all(single) {
            Self::Other
        } else if numbers.len() == values.len() {
            Self::Numbers { values: numbers, small }
        } else if values.iter().filter(quoted).count() * 2 > values.len() {
            Self::Other
        } else if small && values.len() <= WORDS_MAX {
            Self::Coded
        } else if numbers.len() * 2 > values.len() {
            Self::Numbers { values: numbers, small: false }
        } else {
            Self::Other
        }
    }

    /// `surely`: the name says that it is a state. Otherwise one of the numbers has to be 0 or 1.
    fn may_be_codes(&self, surely: bool) -> bool {
        match self {
            Self::Coded => true,
            Self::Numbers { values, small } => *small && (surely || values.iter().any(|value| *value <= 1.0)),
            Self::Other => false,
        }
    }
}

/// Of values that a class can have, so many: two thirds. The rest are sentinels, and readings off the scale.
fn most(values: &[f64], fits: impl Fn(f64) -> bool) -> bool {
    3 * values.iter().filter(|value| fits(**value)).count() >= 2 * values.len()
}

/// What the other fields and the topics say of the device.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context {
    smoke: bool,
    heat: bool,
    gas: bool,
    button: bool,
    arc: bool,
}

impl Context {
    pub(super) fn of<'k>(names: impl Iterator<Item = &'k str>) -> Self {
        let mut context = Self::default();
        for name in names {
            // A temperature alone is no fire detector.
            match Name::of(name).row().filter(|row| row.number != TEMPERATURE).map(|row| row.coded) {
                Some("smoke_alarm") => context.smoke = true,
                Some("heat_alarm") => context.heat = true,
                Some("gas_alarm") => context.gas = true,
                Some("manual_call_point") => context.button = true,
                Some("arc") => context.arc = true,
                _ => {}
            }
        }
        context
    }

    fn alarm(self) -> &'static str {
        match self {
            Self { smoke: true, .. } => "smoke_alarm",
            Self { heat: true, .. } => "heat_alarm",
            Self { gas: true, .. } => "gas_alarm",
            Self { button: true, .. } => "manual_call_point",
            Self { arc: true, .. } => "arc",
            // On the safe side: an alarm of nobody knows what.
            _ => "panel_alarm",
        }
    }
}

/// A class, and how the number is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Guess {
    pub(super) class: String,
    pub(super) unit: Option<String>,
    pub(super) scale: Option<&'static str>,
    pub(super) doubt: Option<String>,
}

/// The first of the names (the field's own, then what it lies in) that says something decides.
pub(super) fn guess<'k>(
    names: impl Iterator<Item = &'k str>,
    (shape, values): (&Shape, &[Value]),
    context: Context,
    vocabulary: &Vocabulary,
) -> Option<Guess> {
    let names: Vec<&str> = names.collect();
    // A word of alarm says more than any name.
    let says_alarm = |value: &Value| {
        value.as_str().is_some_and(|text| ALARM_WORDS.contains(&text.to_lowercase().as_str()))
    };
    if *shape == Shape::Coded
        && values.iter().any(says_alarm)
        && names.first().is_none_or(|name| Name::of(name).row().is_none())
    {
        return Some(Guess { class: context.alarm().to_owned(), unit: None, scale: None, doubt: None });
    }
    // `battery.voltage` is more than `voltage`, and `alarm.smoke` more than `smoke`.
    let joined = names.iter().rev().take(2).copied().collect::<Vec<_>>().join("_");
    let own = names.first().copied().unwrap_or_default();
    let candidates = [own, joined.as_str()].into_iter().chain(names.iter().skip(1).copied());
    for name in candidates {
        let name = Name::of(name);
        let Some(row) = name.row() else { continue };
        let number = match row.number {
            TEMPERATURE if context.smoke || context.heat => "heat_temperature",
            TEMPERATURE => "ambient_temperature",
            class => class,
        };
        let coded = if row.coded == ALARM { context.alarm() } else { row.coded };
        let few = matches!(shape, Shape::Numbers { values, .. } if values.iter().all(|value| *value <= 1.0));
        let amount = AMOUNT.iter().any(|word| name.has(word));
        let measured = matches!(number, "battery" | "ambient_temperature" | "heat_temperature") && !few;
        let prefers_number = measured || (amount && !number.is_empty());
        let is_state = STATE.iter().any(|word| name.has(word));
        let surely = is_state || DETECTORS.contains(&coded);
        let is_number = matches!(shape, Shape::Numbers { .. }) && !is_state;
        if !coded.is_empty() && shape.may_be_codes(surely) && !(is_number && prefers_number) {
            return Some(Guess { class: coded.to_owned(), unit: None, scale: None, doubt: None });
        }
        if !number.is_empty()
            && (!is_state || coded.is_empty())
            && let Shape::Numbers { values, .. } = shape
            && let Some(guess) = number_of(number, &name, values, vocabulary)
        {
            return Some(guess);
        }
    }
    None
}

/// Classes of which another one is tried when the values do not fit.
const INSTEAD: [(&str, &str); 5] = [
    ("battery", "battery_voltage"),
    ("combustible_gas", "gas_ppm"),
    ("water_depth", "tank_level"),
    ("signal", "link_quality"),
    ("smoke_level", "contamination"),
];

/// Units in the order in which they are tried; those of other quantities are tried as the table of quantities has them.
const RARE_UNITS: [&str; 6] = ["bar", "psi", "°F", "K", "1", "kV"];

fn number_of(class: &str, name: &Name, values: &[f64], vocabulary: &Vocabulary) -> Option<Guess> {
    let instead = INSTEAD.iter().find(|(first, _)| *first == class).map(|(_, second)| *second);
    // 3.6 is no state of charge but a cell's voltage.
    let classes = if class == "battery" && most(values, |value| value > 1.0 && value < 5.0) {
        [instead, Some(class)]
    } else {
        [Some(class), instead]
    };
    let classes: Vec<&PointClass> =
        classes.into_iter().flatten().filter_map(|id| vocabulary.class(id)).collect();
    for scale in [None, Some("0.1"), Some("0.01"), Some("0.001")] {
        for class in &classes {
            let (least, greatest) = class.range?;
            let times: f64 = scale.and_then(|scale| scale.parse().ok()).unwrap_or(1.0);
            let said = |unit: &&str| {
                !unit.is_empty() && name.pieces.iter().any(|piece| *piece == unit.to_lowercase())
            };
            let mut units: Vec<&str> =
                class.quantity.units().filter(|unit| !RARE_UNITS.contains(unit) || said(unit)).collect();
            units.sort_by_key(|unit| !said(unit));
            let fits = |unit: &&str| {
                class.quantity.conversion(unit).is_some_and(|by| {
                    most(values, |raw| (least..=greatest).contains(&(raw * times * by.factor + by.offset)))
                })
            };
            if let Some(unit) = units.iter().copied().find(fits) {
                let sure = said(&unit) && scale.is_none();
                let doubt = (!sure && !unit.is_empty())
                    .then(|| format!("单位和倍率是猜的 unit and scale are a guess: {unit}"));
                return Some(Guess {
                    class: class.id.to_string(),
                    unit: Some(unit.to_owned()),
                    scale,
                    doubt,
                });
            }
        }
    }
    None
}

/// The classes that a word may mean, in Chinese, pinyin or English, the likeliest first: for a person who types one.
pub fn classes_of_word<'v>(word: &str, vocabulary: &'v Vocabulary) -> Vec<&'v PointClass> {
    let typed = word.trim().to_lowercase();
    if typed.is_empty() {
        return Vec::new();
    }
    if let Some(class) = vocabulary.class(&typed.replace([' ', '-'], "_")) {
        return vec![class];
    }
    let mut ids: Vec<&str> = Vec::new();
    if let Some(row) = Name::of(word).row() {
        let temperatures =
            ["ambient_temperature", "heat_temperature", "cable_temperature", "pipe_temperature"];
        match row.number {
            TEMPERATURE => ids.extend(temperatures),
            number => ids.extend([row.coded, number]),
        }
    }
    let named = |class: &&PointClass| {
        let words = [class.id.as_str(), &*class.name.zh, &*class.name.en].map(str::to_lowercase);
        words.iter().any(|word| word.contains(&typed))
    };
    let by_row = ids.into_iter().filter_map(|id| vocabulary.class(id));
    let mut found: Vec<&PointClass> = Vec::new();
    for class in by_row.chain(vocabulary.classes().filter(named)) {
        if !found.iter().any(|known| known.id == class.id) {
            found.push(class);
        }
    }
    found
}
