//! WEB · the duty log as a file that a spreadsheet opens.

use super::Shared;
use super::api::{Before, PAGE_LINES_MAX, Problem, unreadable};
use super::auth::InLang;
use super::pages::LogRow;
use super::rows::file_time;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

/// Lines in one file: ten reads of [`PAGE_LINES_MAX`], some 2 MB; older ones by `?before=`.
const LINES_MAX: usize = 10 * PAGE_LINES_MAX;

/// `GET /log.csv`: newest first, like the page.
pub(super) async fn log(
    State(shared): State<Shared>,
    InLang(lang): InLang,
    Query(page): Query<Before>,
) -> Result<Response, Problem> {
    let (t, plan) = (lang.texts(), shared.plan());
    // The mark tells spreadsheet programs that it is UTF-8.
    let mut file = String::from("\u{feff}");
    line(&mut file, &[t.number, t.when, t.class, t.what, t.site, t.position, t.device, t.why, t.who, t.note]);
    let mut before = page.no();
    let mut lines = 0;
    while lines < LINES_MAX {
        let read = shared.room.journal.duty_log(before, PAGE_LINES_MAX).await.map_err(unreadable)?;
        lines += read.len();
        before = read.last().map(|last| last.no);
        let full = read.len() >= PAGE_LINES_MAX;
        for row in read.iter().map(|read| LogRow::new(&plan, read, lang)) {
            let place = format!("{} {}", row.place.zone, row.place.place);
            line(
                &mut file,
                &[
                    &row.no.to_string(),
                    &file_time(row.time),
                    row.signal_label,
                    &row.what,
                    &row.place.site,
                    place.trim(),
                    &row.place.device,
                    &row.why,
                    &row.who,
                    &row.note,
                ],
            );
        }
        if !full {
            break;
        }
    }
    let head = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"duty-log.csv\""),
    ];
    Ok((head, file).into_response())
}

/// One line by RFC 4180. A cell that a spreadsheet would take for a formula gets an apostrophe before it.
fn line(file: &mut String, cells: &[&str]) {
    for (i, cell) in cells.iter().enumerate() {
        if i > 0 {
            file.push(',');
        }
        file.push('"');
        if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
            file.push('\'');
        }
        file.push_str(&cell.replace('"', "\"\""));
        file.push('"');
    }
    file.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_can_neither_break_the_line_nor_be_a_formula() {
        let mut file = String::new();
        line(&mut file, &["a\"b", "=cmd()", "一,二"]);
        assert_eq!(file, "\"a\"\"b\",\"'=cmd()\",\"一,二\"\r\n");
    }
}
