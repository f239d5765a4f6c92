//! `[series]` and `[series.class.<class>]`: how long samples are kept in which detail.

use super::library::Library;
use super::overrides::suggest_or_list;
use super::reader::{Page, Table};
use crate::model::{ClassId, Problem, Span};
use std::ops::Range;

/// How long samples are kept in which detail, counted from the time of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesKeep {
    /// Every sample.
    pub raw: Span,
    /// A record a minute.
    pub minute: Span,
    /// A record an hour.
    pub hour: Span,
}

/// `[series]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSettings {
    /// Of all points but those of the classes below.
    pub keep: SeriesKeep,
    /// Of the points of a class.
    pub classes: Vec<(ClassId, SeriesKeep)>,
    /// Where each class stands in the file.
    spans: Vec<Range<usize>>,
}

/// Days. More than a year fits 2 GiB at 100 readings a second: the arithmetic is at `series::Keep`.
const RAW_DAYS: i64 = 60;
const MINUTE_DAYS: i64 = 400;
const HOUR_DAYS: i64 = 3650;
/// A hundred years: no card lasts so long.
const DAYS_MAX: i64 = 36_500;

const fn days(days: i64) -> Span {
    Span::from_secs(days * 86_400)
}

impl Default for SeriesSettings {
    fn default() -> Self {
        let keep = SeriesKeep { raw: days(RAW_DAYS), minute: days(MINUTE_DAYS), hour: days(HOUR_DAYS) };
        Self { keep, classes: Vec::new(), spans: Vec::new() }
    }
}

/// Reads the table; `None`: there is none.
pub(super) fn read(table: Option<Table<'_>>) -> SeriesSettings {
    let mut settings = SeriesSettings::default();
    let Some(table) = table else { return settings };
    settings.keep = keep(&table, settings.keep);
    for (name, class) in table.table("class").map(Table::into_tables).unwrap_or_default() {
        let span = name.span();
        let kept = keep(&class, settings.keep);
        if let Some(id) = class.parse_id::<ClassId>("class", &name) {
            settings.classes.push((id.into_inner(), kept));
            settings.spans.push(span);
        }
        class.finish();
    }
    table.finish();
    settings
}

fn keep(table: &Table<'_>, otherwise: SeriesKeep) -> SeriesKeep {
    let read = |key: &'static str, otherwise: Span| {
        table.integer(key, 1..=DAYS_MAX).map_or(otherwise, |number| days(number.into_inner()))
    };
    let keep = SeriesKeep {
        raw: read("raw_days", otherwise.raw),
        minute: read("minute_days", otherwise.minute),
        hour: read("hour_days", otherwise.hour),
    };
    for (narrow, wide, shorter, longer) in [
        ("raw_days", "minute_days", keep.raw, keep.minute),
        ("minute_days", "hour_days", keep.minute, keep.hour),
    ] {
        if shorter > longer {
            table.page.error(
                if table.has(narrow) { table.span_of(narrow) } else { table.span_of(wide) },
                format!("{narrow} 比 {wide} 长 / {narrow} is longer than {wide}"),
                "从样本时间算起 / both are counted from the sample's time: raw_days ≤ minute_days ≤ hour_days",
            );
        }
    }
    keep
}

/// Says which classes the vocabulary does not have.
pub(super) fn check(file: &str, settings: &SeriesSettings, library: &Library) -> Vec<Problem> {
    let page = Page::new(file);
    for ((class, _), span) in settings.classes.iter().zip(&settings.spans) {
        if library.vocabulary.class(class.as_str()).is_none() {
            let known = library.vocabulary.classes().map(|class| class.id.as_str());
            let help = suggest_or_list(class.as_str(), known);
            page.error(span.clone(), format!("未知的类别 / unknown class {:?}", class.as_str()), help);
        }
    }
    page.into_problems()
}
