//! WIRE → FRAMES: what went wrong, by name and by unit.
//!
//! The names are a closed list, because they become labels: they say where to look. `silent`: power, address, wires.
//! `wrong_crc`: speed, parity, earthing, a second master. `wrong_unit`, `wrong_function`, `wrong_length`: a device that
//! is not what the plan says. `late`: a time-out that is too short. `exception_…`: the device itself refuses.

use super::request::Mismatch;
use super::unit::Answer;
use crate::metrics::{Metrics, ModbusFailure};
use crate::model::{DeviceId, LinkId};

/// The exceptions of the standard (V1.1b3, section 7), by code; 07 and 09 are only in older papers.
const EXCEPTIONS: [&str; 11] = [
    "exception_01",
    "exception_02",
    "exception_03",
    "exception_04",
    "exception_05",
    "exception_06",
    "exception_07",
    "exception_08",
    "exception_09",
    "exception_0a",
    "exception_0b",
];

/// The name of a failure; `None`: it is none.
pub(super) fn name(answer: &Answer) -> Option<&'static str> {
    Some(match answer {
        Answer::Words(_) => return None,
        Answer::Refused(code) => usize::from(*code)
            .checked_sub(1)
            .and_then(|at| EXCEPTIONS.get(at))
            .copied()
            .unwrap_or("exception_other"),
        Answer::Silent => "silent",
        Answer::Short | Answer::Wrong(Mismatch::Length) => "wrong_length",
        Answer::Wrong(Mismatch::Crc) => "wrong_crc",
        Answer::Wrong(Mismatch::Unit) => "wrong_unit",
        Answer::Wrong(Mismatch::Function) => "wrong_function",
        Answer::Wrong(Mismatch::Content) => "wrong_content",
        Answer::Wrong(Mismatch::Late) => LATE,
        Answer::Wrong(Mismatch::Undecodable) => "undecodable",
        Answer::Broken => "disconnected",
    })
}

const LATE: &str = "late";

pub(super) fn count(metrics: &Metrics, link: &LinkId, device: &DeviceId, answer: &Answer) {
    let Some(failure) = name(answer) else { return };
    metrics.modbus_failures.inc();
    metrics.modbus_failures_by_name.get_or_create(&label(link, device, failure)).inc();
}

/// Answers of a device that came when nobody waited for them any more. Their polls were counted as silent before.
pub(super) fn count_late(metrics: &Metrics, link: &LinkId, device: &DeviceId, times: u64) {
    metrics.modbus_failures_by_name.get_or_create(&label(link, device, LATE)).inc_by(times);
}

fn label(link: &LinkId, device: &DeviceId, failure: &'static str) -> ModbusFailure {
    ModbusFailure { link: link.to_string(), device: device.to_string(), failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_failure_has_a_name_and_the_names_are_few() {
        let mut answers = vec![Answer::Silent, Answer::Short, Answer::Broken];
        answers.extend((0..=255).map(Answer::Refused));
        use Mismatch::{Content, Crc, Function, Late, Length, Undecodable, Unit};
        answers.extend([Crc, Unit, Function, Length, Content, Late, Undecodable].map(Answer::Wrong));
        let names: BTreeSet<_> = answers.iter().map(|answer| name(answer).expect("a failure")).collect();
        assert_eq!(names.len(), 21, "{names:?}");
        assert_eq!(name(&Answer::Refused(2)), Some("exception_02"));
        assert_eq!(name(&Answer::Refused(0x0B)), Some("exception_0b"));
        assert_eq!(name(&Answer::Refused(0)), Some("exception_other"));
        assert_eq!(name(&Answer::Words(vec![])), None);
        let page = include_str!("../../../docs/modbus.md");
        let untold: Vec<_> = names.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
        assert!(untold.is_empty(), "docs/modbus.md does not say what to do about {untold:?}");
    }
}
