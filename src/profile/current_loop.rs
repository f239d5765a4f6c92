//! FRAMES → READINGS, the 4–20 mA loop: a transmitter's current is a measurement, or the transmitter's word that it is broken.

use super::draft::{Problems, Spanned};
use super::meaning::Scale;
use crate::model::Flaw;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a transmitter means by its current: NAMUR NE 43 (2003). Between a limit of the measurement and the failure behind it
/// stands a value that is off the scale; it is kept, and bad.
const MEASURING_MA: (f64, f64) = (3.8, 20.5);

/// NAMUR NE 43: at or below the first, at or above the second, the loop tells of a failure. 0 mA is a broken wire, not 0 MPa.
const FAILURE_MA: (f64, f64) = (3.6, 21.0);

/// The ends of the loop, and what lies between them.
const LOW_MA: f64 = 4.0;
const SPAN_MA: f64 = 16.0;

/// `current_loop = { scale = 0.001, at_4_ma = 0.0, at_20_ma = 1.6 }`.
#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct CurrentLoopFile {
    /// 原始值乘以它得 mA，默认 1 / the raw value times this is mA; 1 by default
    scale: Option<f64>,
    /// 4 mA 时的值，用测点的单位 / the value at 4 mA, in the point's unit
    at_4_ma: f64,
    /// 20 mA 时的值，用测点的单位 / the value at 20 mA, in the point's unit
    at_20_ma: f64,
}

/// From the wire to the current.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CurrentLoop {
    milliamps: Scale,
}

impl CurrentLoop {
    /// Why this raw value is no measurement.
    pub(super) fn failure(self, raw: f64) -> Option<Flaw> {
        let current = self.milliamps.apply(raw);
        (current <= FAILURE_MA.0 || current >= FAILURE_MA.1).then_some(Flaw::SensorFault)
    }
}

/// The loop, how its raw value becomes the point's, and the range of what it can measure, both in the point's unit.
pub(super) fn build_current_loop(
    written: &Spanned<CurrentLoopFile>,
    problems: &mut Problems,
) -> Option<(CurrentLoop, Scale, (f64, f64))> {
    let file = written.get_ref();
    let scale = file.scale.unwrap_or(1.0);
    let (low, high) = (file.at_4_ma, file.at_20_ma);
    #[expect(clippy::float_cmp, reason = "as written")]
    let is_one = low == high;
    if is_one || ![low, high, scale].into_iter().all(f64::is_finite) || scale == 0.0 {
        problems.error(
            written.span(),
            "电流环的两端须不同，scale 把线上的数变成毫安 / a loop has two different ends, and a scale that makes milliamperes of the wire's number",
            "写 { scale = 0.001, at_4_ma = 0.0, at_20_ma = 1.6 }：线上是微安，量程为测点单位的 0 到 1.6 / write { scale = 0.001, at_4_ma = 0.0, at_20_ma = 1.6 }: microamperes, 0 to 1.6 of the point's unit",
        );
        return None;
    }
    let milliamps = Scale::new(scale, 0.0);
    let slope = (high - low) / SPAN_MA;
    let of_current = Scale::new(slope, low - slope * LOW_MA);
    let (a, b) = (of_current.apply(MEASURING_MA.0), of_current.apply(MEASURING_MA.1));
    Some((CurrentLoop { milliamps }, milliamps.then(of_current), (a.min(b), a.max(b))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn microamps(low: f64, high: f64) -> (CurrentLoop, Scale, (f64, f64)) {
        let text = format!("l = {{ scale = 0.001, at_4_ma = {low:?}, at_20_ma = {high:?} }}");
        #[derive(Deserialize, Clone)]
        struct File {
            l: Spanned<CurrentLoopFile>,
        }
        let file: File = toml::from_str(&text).unwrap();
        build_current_loop(&file.l, &mut Problems::new("f")).unwrap()
    }

    #[test]
    fn a_broken_wire_is_a_sensor_fault_and_no_pressure_of_zero() {
        let (current, scale, (low, high)) = microamps(0.0, 1.6);
        for failure in [0.0, 3600.0, 21_000.0, 23_000.0] {
            assert_eq!(current.failure(failure), Some(Flaw::SensorFault), "{failure}");
        }
        for measured in [3601.0, 4000.0, 12_000.0, 20_000.0, 20_999.0] {
            assert_eq!(current.failure(measured), None, "{measured}");
        }
        assert!((scale.apply(4000.0)).abs() < 1e-12 && (scale.apply(12_000.0) - 0.8).abs() < 1e-12);
        assert!((scale.apply(20_000.0) - 1.6).abs() < 1e-12);
        // 3.7 mA and 20.8 mA are neither: off the scale.
        assert!(scale.apply(3700.0) < low && scale.apply(20_800.0) > high);
        assert!(scale.apply(3850.0) > low && scale.apply(20_400.0) < high);
    }

    #[test]
    fn a_loop_may_run_backwards() {
        let (_, scale, (low, high)) = microamps(5.0, 0.0);
        assert!((scale.apply(20_000.0)).abs() < 1e-12 && (scale.apply(4000.0) - 5.0).abs() < 1e-12);
        assert!(low < 0.0 && high > 5.0);
    }
}
