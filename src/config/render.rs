//! Problems → text for a person: file, line, the line itself with a caret, and what to do.

use super::Report;
use crate::model::Problem;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::ops::Range;

/// Whether the terminal understands colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Escape sequences.
    Yes,
    /// Plain text.
    No,
}

impl Report {
    /// Every problem as a person reads it, errors after warnings, so that they are what stands last on the screen.
    pub fn render(&self, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Yes => Renderer::styled(),
            Colour::No => Renderer::plain(),
        };
        let mut problems: Vec<&Problem> = self.problems.iter().collect();
        problems.sort_by_key(|problem| !problem.warning);
        let mut text = String::new();
        for problem in problems {
            text.push_str(&renderer.render(&[self.group(problem)]));
            text.push_str("\n\n");
        }
        text
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = if problem.warning { Level::WARNING } else { Level::ERROR };
        let title = level.primary_title(&problem.message);
        let file: &str = &problem.file;
        let source = self.texts.get(&problem.file);
        let group = match (source, &problem.span) {
            (Some(source), Some(span)) => {
                let span = within(source, span);
                title.element(
                    Snippet::source(&**source).path(file).annotation(AnnotationKind::Primary.span(span)),
                )
            }
            _ => title.element(Origin::path(file)),
        };
        if problem.help.is_empty() { group } else { group.element(Level::HELP.message(&problem.help)) }
    }
}

/// The first line of a span, on character boundaries: a table's span may run over its whole body, and a caret
/// below twenty lines points at nothing.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let boundary = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = boundary(span.start);
    let end = boundary(span.end).max(start);
    let line_end = text.get(start..end).and_then(|part| part.find('\n')).map_or(end, |at| start + at);
    start..line_end
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[test]
    fn a_problem_shows_its_line_a_caret_and_what_to_do() {
        let file: Arc<str> = "plan.toml".into();
        let text: Arc<str> = "# 计划\nprofil = \"x\"\n".into();
        let start = text.find("profil").unwrap();
        let problem = Problem::error(&file, Some(start..start + 6), "未知的键", "did you mean \"profile\"?");
        let report = Report { problems: vec![problem], texts: BTreeMap::from([(file, text)]) };
        let shown = report.render(Colour::No);
        assert!(shown.contains("plan.toml:2:1"), "{shown}");
        assert!(shown.contains("^^^^^^"), "{shown}");
        assert!(shown.contains("did you mean"), "{shown}");
    }

    #[test]
    fn a_span_that_does_not_fit_its_text_is_shown_all_the_same() {
        let file: Arc<str> = "plan.toml".into();
        for span in [0..1, 1..900, 900..901, 2..2] {
            let problem = Problem::error(&file, Some(span.clone()), "错误", "");
            let texts = BTreeMap::from([(file.clone(), Arc::from("火\n警"))]);
            let shown = Report { problems: vec![problem], texts }.render(Colour::No);
            assert!(shown.contains("plan.toml"), "{span:?}: {shown}");
        }
    }
}
