//! WEB · the duty log as plain lines: the page's words without the page, for a terminal and for a file that is compared.

use super::pages::LogRow;
use super::rows::file_time;
use super::texts::Lang;
use super::wire;
use crate::journal::LogLine;
use crate::model::{Plan, Reading, Value};

/// `time | class | what | where | why | who | note`, without what is empty.
pub fn line_text(plan: &Plan, line: &LogLine, lang: Lang) -> String {
    let row = LogRow::new(plan, line, lang);
    let place = format!("{} {} {} {}", row.place.site, row.place.zone, row.place.place, row.place.device);
    let place = place.split_whitespace().collect::<Vec<_>>().join(" ");
    let cells =
        [file_time(row.time), row.signal_label.to_owned(), row.what, place, row.why, row.who, row.note];
    cells.into_iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" | ")
}

/// `time | device/point = value unit`, with how far it can be trusted where that is not all the way.
pub fn reading_text(plan: &Plan, reading: &Reading, lang: Lang) -> String {
    let point = plan.point(&reading.point).map(|(.., point)| point);
    let mut value = lang.pick(&wire::value_text(point, &reading.value)).to_owned();
    if let (Some(point), Value::Number(_)) = (point, &reading.value) {
        value = format!("{value} {}", point.unit()).trim_end().to_owned();
    }
    if let Some(flaw) = reading.flaw {
        let word = if lang == Lang::Zh { flaw.zh() } else { wire::flaw_en(flaw) };
        value = format!("{value} | {word}");
    }
    let late = if reading.late { format!(" | {}", lang.texts().late) } else { String::new() };
    format!("{} | {} = {value}{late}", file_time(reading.time()), reading.point)
}
