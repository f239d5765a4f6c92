//! NOUNS: one value of one point at one time, with how far it can be trusted.

use super::{PointId, Timestamp};
use std::fmt;
use std::sync::Arc;

/// A finite number in the canonical unit of its point's quantity. Never NaN, never infinite, never -0.
#[derive(Clone, Copy, PartialEq)]
pub struct Number(f64);

impl Number {
    /// Zero.
    pub const ZERO: Self = Self(0.0);

    /// Refuses NaN and the infinities.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl std::hash::Hash for Number {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// At most four decimals, trailing zeros cut: what a person reads. Precision beyond it is in the series.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.4}", self.0);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A named state such as `alarm` or `low`; the profile maps raw codes to these names, the vocabulary lists them.
pub type Code = Arc<str>;

/// What a point said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// A measurement in the canonical unit.
    Number(Number),
    /// Yes or no.
    Flag(bool),
    /// One of the vocabulary's states.
    Code(Code),
    /// Nothing could be read; the flaw says why. Always of bad quality.
    Absent,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Code(code) => f.write_str(code),
            Self::Absent => f.write_str("—"),
        }
    }
}

/// How far a value can be trusted: OPC UA's words. Bad values never clear a hazard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// As measured.
    Good,
    /// Measured, but something about it is doubtful (its device's clock, say).
    Uncertain,
    /// Not to be used as a measurement.
    Bad,
}

/// Why a reading is not simply good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    /// Above the plausible range of its point; the value is kept as it came. 超量程.
    OffScaleHigh,
    /// Below the plausible range of its point; the value is kept as it came. 超量程.
    OffScaleLow,
    /// The profile's sentinel for "no sensor fitted". 未接传感器.
    NotFitted,
    /// The profile's sentinel for a broken sensor or wire. 传感器故障.
    SensorFault,
    /// The register was refused or not answered. 读取失败.
    NoAnswer,
    /// The field was there but could not be understood. 无法解析.
    Unreadable,
    /// The device's own time is impossible; the time of reception stands in. 设备时钟异常.
    ClockSuspect,
}

impl Flaw {
    /// All flaws, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::OffScaleHigh,
        Self::OffScaleLow,
        Self::NotFitted,
        Self::SensorFault,
        Self::NoAnswer,
        Self::Unreadable,
        Self::ClockSuspect,
    ];

    /// The name in the API and in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::OffScaleHigh => "off_scale_high",
            Self::OffScaleLow => "off_scale_low",
            Self::NotFitted => "not_fitted",
            Self::SensorFault => "sensor_fault",
            Self::NoAnswer => "no_answer",
            Self::Unreadable => "unreadable",
            Self::ClockSuspect => "clock_suspect",
        }
    }

    /// What the duty officer reads.
    pub fn zh(self) -> &'static str {
        match self {
            Self::OffScaleHigh | Self::OffScaleLow => "超量程",
            Self::NotFitted => "未接传感器",
            Self::SensorFault => "传感器故障",
            Self::NoAnswer => "读取失败",
            Self::Unreadable => "无法解析",
            Self::ClockSuspect => "设备时钟异常",
        }
    }
}

/// One value of one point at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What was read.
    pub point: PointId,
    /// What it said, in the canonical unit.
    pub value: Value,
    /// How far to trust it.
    pub quality: Quality,
    /// Why it is not simply good.
    pub flaw: Option<Flaw>,
    /// The device's own time, when it sent a believable one.
    pub sampled_at: Option<Timestamp>,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// Known to describe the past: retained at connect, or stored by the device and sent later. 迟报.
    pub late: bool,
}

impl Reading {
    /// The time to file it under: the device's, when it gave one.
    pub fn time(&self) -> Timestamp {
        self.sampled_at.unwrap_or(self.received_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_always_finite() {
        assert!(Number::new(f64::NAN).is_none() && Number::new(f64::INFINITY).is_none());
        assert_eq!(Number::new(-0.0), Number::new(0.0));
    }

    #[test]
    fn a_number_prints_as_a_person_would_write_it() {
        let shown = |value: f64| Number::new(value).unwrap().to_string();
        assert_eq!([342.0, 0.14, 23.40004, -0.00001].map(shown), ["342", "0.14", "23.4", "0"]);
    }
}
