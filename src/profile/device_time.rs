//! FRAMES → READINGS, device time: how far to believe the time stamp that a device put into its message.

use super::meaning::Raw;
use crate::model::{Span, Timestamp};

/// Before this no device of this gateway existed: the year the program was written. Boxes without a clock say 1970.
const EARLIEST_BELIEVABLE: Timestamp = Timestamp::from_secs(1_735_689_600); // 2025-01-01T00:00:00Z

/// A device's clock may be this far ahead of ours before it is disbelieved, and its message this old before it
/// counts as a late report: quartz without correction drifts 20 ppm, 5 min in six months.
const TOLERANCE: Span = Span::from_secs(300);

/// How a time stamp is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Seconds,
    Milliseconds,
    Iso8601,
}

impl TimeUnit {
    pub(super) const ALL: [Self; 3] = [Self::Seconds, Self::Milliseconds, Self::Iso8601];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Iso8601 => "iso8601",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, and a saturated time is not believed"
    )]
    fn read(self, raw: &Raw<'_>) -> Option<Timestamp> {
        match (self, raw) {
            (Self::Seconds, Raw::Number(secs)) => Some(Timestamp::from_millis((secs * 1000.0) as i64)),
            (Self::Milliseconds, Raw::Number(millis)) => Some(Timestamp::from_millis(*millis as i64)),
            (Self::Iso8601, Raw::Text(text)) => parse_iso8601(text),
            _ => None,
        }
    }
}

/// What a message says about when its values were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing, or nothing that can be judged.
    Unknown,
    /// A believable time, `late` when it is well in the past.
    At { time: Timestamp, late: bool },
    /// A time that cannot be.
    Impossible,
}

/// Judges a device's time by the time of reception. While the gateway's own clock cannot be believed (a box without
/// a clock before its first synchronisation) neither can the judgement: the device's time is left aside.
/// Of several ways to write it, the first that fits the raw value counts.
pub(super) fn judge(raw: &Raw<'_>, units: &[TimeUnit], received_at: Timestamp) -> Taken {
    if received_at < EARLIEST_BELIEVABLE || *raw == Raw::Null {
        return Taken::Unknown;
    }
    judge_time(units.iter().find_map(|unit| unit.read(raw)), received_at)
}

/// The same of a time that was read; `None`: it is written in no known way.
pub(super) fn judge_time(time: Option<Timestamp>, received_at: Timestamp) -> Taken {
    if received_at < EARLIEST_BELIEVABLE {
        return Taken::Unknown;
    }
    match time {
        Some(time) if time < EARLIEST_BELIEVABLE || time > received_at + TOLERANCE => Taken::Impossible,
        Some(time) => Taken::At { time, late: received_at.since(time) > TOLERANCE },
        None => Taken::Impossible,
    }
}

/// RFC 3339: `2026-01-15T02:30:05.250+08:00`. A time without a zone is nobody's time and is refused.
pub fn parse_iso8601(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at_checked(zone_at)?;
    let mut date = date.split('-').map(|part| digits(part, 4));
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.split(':').map(|part| digits(part, 2));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = date.next().is_none()
        && clock.next().is_none()
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range || !fraction.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let millis = fraction
        .chars()
        .chain("000".chars())
        .take(3)
        .filter_map(|c| c.to_digit(10))
        .fold(0, |n, d| n * 10 + i64::from(d));
    let seconds = ((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_millis(seconds * 1000 + millis) - zone_offset(zone)?)
}

fn zone_offset(zone: &str) -> Option<Span> {
    if matches!(zone, "Z" | "z") {
        return Some(Span::ZERO);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(Span::from_secs(sign * (digits(hours, 2)? * 3600 + digits(minutes, 2)? * 60)))
}

fn digits(text: &str, at_most: usize) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= at_most && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Days since 1970-01-01: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_secs(1_768_444_205); // 2026-01-15T02:30:05Z

    #[test]
    fn a_written_time_is_read_with_its_zone() {
        let read = |text| parse_iso8601(text).map(|time| time.to_string());
        assert_eq!(read("2026-01-15T10:30:05.25+08:00").as_deref(), Some("2026-01-15T02:30:05.250Z"));
        assert_eq!(read("2024-02-29T00:00:00Z").as_deref(), Some("2024-02-29T00:00:00.000Z"));
        for bad in [
            "",
            "2026-01-15",
            "2026-01-15T02:30:05",
            "2026-13-15T02:30:05Z",
            "2026-01-15T02:30Z",
            "烟T感Z",
            "2026-01-15T02:30:05+08",
        ] {
            assert_eq!(read(bad), None, "{bad:?} was read");
        }
    }

    #[test]
    fn a_time_from_1970_or_2099_is_impossible_and_an_old_one_is_late() {
        let at = |secs: f64| judge(&Raw::Number(secs), &[TimeUnit::Seconds], NOW);
        assert_eq!(at(12.0), Taken::Impossible);
        assert_eq!(at(4_070_908_800.0), Taken::Impossible);
        assert_eq!(at(1_768_444_200.0), Taken::At { time: Timestamp::from_secs(1_768_444_200), late: false });
        assert_eq!(at(1_768_440_000.0), Taken::At { time: Timestamp::from_secs(1_768_440_000), late: true });
        assert_eq!(judge(&Raw::Flag(true), &[TimeUnit::Seconds], NOW), Taken::Impossible);
        assert_eq!(judge(&Raw::Number(12.0), &[TimeUnit::Seconds], Timestamp::EPOCH), Taken::Unknown);
        let either = [TimeUnit::Iso8601, TimeUnit::Milliseconds];
        for raw in [Raw::Text("2026-01-15T02:30:05Z".into()), Raw::Number(1_768_444_205_000.0)] {
            assert_eq!(judge(&raw, &either, NOW), Taken::At { time: NOW, late: false });
        }
    }

    proptest! {
        #[test]
        fn every_time_comes_back_from_its_text(millis in 0i64..253_402_300_800_000) {
            let time = Timestamp::from_millis(millis);
            prop_assert_eq!(parse_iso8601(&time.to_string()), Some(time));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            if let Some(time) = parse_iso8601(&text) {
                prop_assert!(time.as_millis().abs() < 1_000_000_000_000_000);
            }
        }
    }
}
