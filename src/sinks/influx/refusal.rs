//! JOURNAL → WORLD, pure: which lines of a post a server means when it refuses some of them.
//!
//! InfluxDB stores the good lines of a post and answers 400 (version 1), 422 (version 2) or 500 (2.0) all the same:
//! "partial write: … dropped=N". It does not say which lines those were. Where the reason and the number leave no doubt they are set aside
//! at once; otherwise the caller cuts the post in halves. In both cases the other lines are posted again until the
//! server says yes to them, so a wrong guess cannot lose a line in silence.

use super::line::Line;

/// Whether an answer, whatever its status, is about single lines.
pub(super) fn is_partial(reason: &str) -> bool {
    reason.split_once("partial write: ").and_then(|(_, reason)| dropped(reason)).is_some()
}

/// Whether each line was refused; `None`: it cannot be told, or all of them were for a reason nobody knows.
pub(super) fn refused(reason: &str, lines: &[Line]) -> Option<Vec<bool>> {
    let (_, reason) = reason.split_once("partial write: ")?;
    let dropped = dropped(reason)?;
    if dropped == 0 || dropped > lines.len() {
        return None;
    }
    let marks: Vec<bool> = if let Some((field, measurement)) = conflict(reason) {
        lines.iter().map(|line| line.measurement() == measurement && line.has_field(field)).collect()
    } else if is_too_old(reason) {
        let mut times: Vec<_> = lines.iter().map(|line| line.at).collect();
        times.sort_unstable();
        let newest_dropped = *times.get(dropped - 1)?;
        lines.iter().map(|line| line.at <= newest_dropped).collect()
    } else {
        return None;
    };
    (marks.iter().filter(|refused| **refused).count() == dropped).then_some(marks)
}

/// Whether every dropped line was older than the retention. The second wording is that of 1.12 and 2.7.12 and later, which
/// name the bound of the oldest and the newest dropped point: with another bound among them it cannot be told.
fn is_too_old(reason: &str) -> bool {
    let words = |text: &str| reason.contains(text);
    reason.starts_with("points beyond retention policy")
        || (words("outside retention policy")
            && words("Retention Policy Lower Bound")
            && !["Upper Bound", "Write Window", "write window"].into_iter().any(words))
}

/// The number behind the last `dropped=`.
fn dropped(reason: &str) -> Option<usize> {
    let (_, number) = reason.rsplit_once("dropped=")?;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number.get(..end)?.parse().ok()
}

/// The field and the measurement of a type conflict. The answer is JSON, so its quotes may be escaped.
fn conflict(reason: &str) -> Option<(&str, &str)> {
    let rest = reason.strip_prefix("field type conflict: input field ")?;
    let (field, rest) = quoted(rest)?;
    let (measurement, _) = quoted(rest.strip_prefix(" on measurement ")?)?;
    Some((field, measurement))
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let (quote, rest) = match text.strip_prefix("\\\"") {
        Some(rest) => ("\\\"", rest),
        None => ("\"", text.strip_prefix('"')?),
    };
    rest.split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn lines() -> Vec<Line> {
        let line = |text: &str, at| Line { text: format!("{text} {at}\n"), at: Timestamp::from_millis(at) };
        vec![
            line("a,device=x value=1,quality=0i", 30),
            line("b,device=x value=1,quality=0i", 10),
            line("a,device=x quality=2i", 20),
            line("a,device=y value=2,quality=0i", 20),
        ]
    }

    #[test]
    fn the_lines_are_known_when_reason_and_number_agree() {
        let of = |reason: &str| refused(reason, &lines());
        let conflict = r#"{"error":"partial write: field type conflict: input field \"value\" on measurement \"a\" is type float, already exists as type integer dropped="#;
        assert_eq!(of(&format!("{conflict}2\"}}")), Some(vec![true, false, false, true]));
        assert_eq!(of(&format!("{conflict}1\"}}")), None, "another shard refused others");
        let old = "partial write: points beyond retention policy dropped=";
        assert_eq!(of(&format!("{old}1")), Some(vec![false, true, false, false]));
        assert_eq!(of(&format!("{old}2")), None, "two lines have the same time");
        assert_eq!(of(&format!("{old}3")), Some(vec![false, true, true, true]));
        assert_eq!(of(&format!("{old}4")), Some(vec![true; 4]));
        let new = |bound: &str| {
            format!(
                "failure writing points to database: partial write: dropped 1 points outside retention policy of duration 24h0m0s - \
             oldest point b,device=x at 1970-01-01T00:00:00.01Z dropped because it violates a Retention Policy Lower Bound at \
             2025-05-20T19:06:17.6Z, newest point b,device=x at 1970-01-01T00:00:00.01Z dropped because it violates a {bound} at \
             2025-05-20T19:06:17.6Z dropped=1 for database: 9f282d63c7d3a5c0 for retention policy: autogen"
            )
        };
        assert_eq!(of(&new("Retention Policy Lower Bound")), Some(vec![false, true, false, false]));
        assert_eq!(of(&new("Write Window Upper Bound")), None);
        assert!(
            is_partial(&new("x")) && !is_partial("partial write") && !is_partial("partial write: timeout")
        );
        for unknown in [
            "",
            "dropped=1",
            "partial write: dropped=",
            "partial write: points beyond retention policy dropped=5",
            "partial write: points beyond retention policy dropped=0",
            "partial write: unable to parse 'x': missing fields dropped=0",
            "partial write: max-series-per-database limit exceeded: (9) dropped=1",
            "partial write: field type conflict: input field \"value on measurement a dropped=1",
        ] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }
}
