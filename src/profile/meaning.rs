//! FRAMES → READINGS, meaning: what one raw value (a JSON scalar, a number from registers) says about its point:
//! scale, unit, range, codes and declared sentinels. The same code for every wire.

use super::current_loop::CurrentLoop;
use crate::model::{Code, Flaw, Number, Quality, Value};
use std::borrow::Cow;
use std::fmt;

/// The longest piece of a payload that is quoted in a problem, in characters: a line of the quarantine page.
const QUOTE_CHARS_MAX: usize = 40;

/// A value as it stood on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw<'m> {
    Number(f64),
    Flag(bool),
    Text(Cow<'m, str>),
    Null,
    /// An array or an object where a single value was expected.
    Other,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    pub(super) value: Value,
    pub(super) quality: Quality,
    pub(super) flaw: Option<Flaw>,
    /// For a person, in Chinese, without the point's name.
    pub(super) problem: Option<String>,
}

impl Read {
    fn good(value: Value) -> Self {
        Self { value, quality: Quality::Good, flaw: None, problem: None }
    }

    pub(super) fn absent(flaw: Flaw, problem: Option<String>) -> Self {
        Self { value: Value::Absent, quality: Quality::Bad, flaw: Some(flaw), problem }
    }
}

/// How a point's raw values are understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Meaning {
    pub(super) kind: Kind,
    pub(super) sentinels: Vec<Sentinel>,
}

/// By the quantity of its class.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Number { scale: Scale, range: Option<(f64, f64)>, current: Option<CurrentLoop> },
    Flag { codes: Vec<(Key, bool)> },
    State { codes: Vec<(Key, Code)>, otherwise: Option<Code> },
}

/// A raw value that the device documents as "no measurement". Compared before scaling.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sentinel {
    pub(super) raw: Key,
    pub(super) means: Sense,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    Flaw(Flaw),
    /// The device has nothing to say yet: no sample at all.
    Unreported,
}

/// A raw value as a file names it: `1`, `true`, `ALARM`, `null`, `nan`. A number on the wire and the same number
/// written as text are the same key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) text: String,
    number: Option<f64>,
}

impl Key {
    pub(super) fn new(text: &str) -> Self {
        let number = match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok().map(f64::from),
            None => text.parse().ok(),
        };
        Self { text: text.to_owned(), number }
    }

    pub(super) fn matches(&self, raw: &Raw<'_>) -> bool {
        match raw {
            Raw::Number(number) => {
                self.number.is_some_and(|own| own == *number || (own.is_nan() && number.is_nan()))
            }
            Raw::Flag(flag) => self.text == if *flag { "true" } else { "false" },
            Raw::Text(text) => self.text == **text,
            Raw::Null => self.text == "null",
            Raw::Other => false,
        }
    }
}

/// `canonical = raw × times ÷ over + plus`. A scale such as 0.001 is kept as ÷ 1000: the quotient is the double
/// nearest to the decimal a person would write, so that a raw 140 kPa is exactly 0.14 MPa, not a hair below the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    times: f64,
    over: f64,
    plus: f64,
}

impl Scale {
    #[cfg(test)]
    pub(super) const ONE: Self = Self { times: 1.0, over: 1.0, plus: 0.0 };

    pub(super) fn new(factor: f64, plus: f64) -> Self {
        let inverse = (1.0 / factor).round();
        let is_inverse = factor.abs() < 1.0 && inverse.is_finite() && (inverse * factor - 1.0).abs() < 1e-12;
        if is_inverse {
            Self { times: 1.0, over: inverse, plus }
        } else {
            Self { times: factor, over: 1.0, plus }
        }
    }

    /// First `self`, then `outer`.
    pub(super) fn then(self, outer: Self) -> Self {
        Self {
            times: self.times * outer.times,
            over: self.over * outer.over,
            plus: self.plus * outer.times / outer.over + outer.plus,
        }
    }

    pub(super) fn apply(self, raw: f64) -> f64 {
        raw * self.times / self.over + self.plus
    }
}

impl Meaning {
    /// `None`: the device has nothing to say about this point yet.
    pub(super) fn read(&self, raw: &Raw<'_>) -> Option<Read> {
        if let Some(sentinel) = self.sentinels.iter().find(|sentinel| sentinel.raw.matches(raw)) {
            return match sentinel.means {
                Sense::Flaw(flaw) => Some(Read::absent(flaw, None)),
                Sense::Unreported => None,
            };
        }
        Some(match &self.kind {
            Kind::Number { scale, range, current } => read_number(*scale, *range, *current, raw),
            Kind::Flag { codes } => read_flag(codes, raw),
            Kind::State { codes, otherwise } => read_state(codes, otherwise.as_ref(), raw),
        })
    }
}

fn read_number(scale: Scale, range: Option<(f64, f64)>, current: Option<CurrentLoop>, raw: &Raw<'_>) -> Read {
    let Raw::Number(number) = raw else {
        return Read::absent(Flaw::Unreadable, Some(format!("应为数字，收到 {raw}")));
    };
    if let Some(flaw) = current.and_then(|current| current.failure(*number)) {
        return Read::absent(flaw, None);
    }
    let Some(value) = Number::new(scale.apply(*number)) else {
        return Read::absent(Flaw::Unreadable, Some(format!("不是有限的数字：{raw}")));
    };
    let flaw = match range {
        Some((_, high)) if value.get() > high => Flaw::OffScaleHigh,
        Some((low, _)) if value.get() < low => Flaw::OffScaleLow,
        _ => return Read::good(Value::Number(value)),
    };
    Read {
        value: Value::Number(value),
        quality: Quality::Bad,
        flaw: Some(flaw),
        problem: Some(format!("超出合理范围：{value}")),
    }
}

fn read_flag(codes: &[(Key, bool)], raw: &Raw<'_>) -> Read {
    let coded = codes.iter().find(|(key, _)| key.matches(raw)).map(|(_, flag)| *flag);
    let plain = match raw {
        Raw::Flag(flag) => Some(*flag),
        Raw::Number(number) if *number == 0.0 => Some(false),
        Raw::Number(number) if *number == 1.0 => Some(true),
        _ => None,
    };
    match coded.or(if codes.is_empty() { plain } else { None }) {
        Some(flag) => Read::good(Value::Flag(flag)),
        None => Read::absent(Flaw::Unreadable, Some(format!("未知代码 {raw}"))),
    }
}

fn read_state(codes: &[(Key, Code)], otherwise: Option<&Code>, raw: &Raw<'_>) -> Read {
    if let Some((_, code)) = codes.iter().find(|(key, _)| key.matches(raw)) {
        return Read::good(Value::Code(code.clone()));
    }
    match (otherwise, raw) {
        (Some(code), Raw::Number(_) | Raw::Flag(_) | Raw::Text(_)) => Read::good(Value::Code(code.clone())),
        _ => Read::absent(Flaw::Unreadable, Some(format!("未知代码 {raw}"))),
    }
}

/// As a person sees it in a problem: short, whatever came.
impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Text(text) => {
                let quote: String = text.chars().take(QUOTE_CHARS_MAX).collect();
                write!(f, "{quote:?}")
            }
            Self::Null => f.write_str("null"),
            Self::Other => f.write_str("对象或数组"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_value_is_exactly_the_decimal_a_person_would_write() {
        let scale = Scale::new(0.1, 0.0).then(Scale::new(0.001, 0.0));
        assert_eq!(scale.apply(1400.0), 0.14);
        assert_eq!(Scale::new(0.001, 0.0).apply(140.0), 0.14);
        assert_eq!(Scale::new(0.1, 0.0).apply(235.0), 23.5);
        let fahrenheit = Scale::new(0.1, 0.0).then(Scale::new(5.0 / 9.0, -160.0 / 9.0));
        assert!((fahrenheit.apply(2120.0) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn an_unknown_code_keeps_the_raw_value_in_its_problem() {
        let kind = Kind::State { codes: vec![(Key::new("1"), "alarm".into())], otherwise: None };
        let meaning = Meaning { kind, sentinels: vec![] };
        let read = meaning.read(&Raw::Number(7.0)).unwrap();
        assert_eq!((read.quality, read.flaw), (Quality::Bad, Some(Flaw::Unreadable)));
        assert_eq!(read.problem.as_deref(), Some("未知代码 7"));
        assert_eq!(meaning.read(&Raw::Text("1".into())).unwrap().value, Value::Code("alarm".into()));
    }

    #[test]
    fn a_value_beyond_its_range_is_kept_and_bad() {
        let meaning = Meaning {
            kind: Kind::Number { scale: Scale::ONE, range: Some((0.0, 100.0)), current: None },
            sentinels: vec![],
        };
        let read = meaning.read(&Raw::Number(140.0)).unwrap();
        assert_eq!(read.value, Value::Number(Number::new(140.0).unwrap()));
        assert_eq!((read.quality, read.flaw), (Quality::Bad, Some(Flaw::OffScaleHigh)));
    }
}
