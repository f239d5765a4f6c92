//! Times as a person on the spot reads them: the box's own zone, with its offset, so that nobody has to guess.

use crate::model::Timestamp;

/// `2026-11-22 13:57:35 +08:00`; UTC when the box has no zone.
pub fn local(at: Timestamp) -> String {
    let Ok(moment) = jiff::Timestamp::from_millisecond(at.as_millis()) else { return at.to_string() };
    let zoned = moment.to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// The same of milliseconds that may be missing.
pub fn local_or_unknown(ms: Option<i64>) -> String {
    ms.map_or_else(|| "?".to_owned(), |ms| local(Timestamp::from_millis(ms)))
}
