//! One named test for each profile file: `profile::milesight/gs524n.toml … ok`. It parses the file with the shipped
//! vocabulary and proves its examples, with every problem at its line.

use fengsui::model::Problem;
use fengsui::profile::{Profile, Vocabulary, profile_id};
use std::path::Path;

const VOCABULARY: &str = "device-profiles/vocabulary.toml";

#[expect(clippy::print_stdout, reason = "the counts guard against a check that visits nothing")]
fn profile(path: &Path) -> datatest_stable::Result<()> {
    let name = path.to_str().ok_or("the path is not UTF-8")?;
    if name.ends_with("vocabulary.toml") {
        let text = std::fs::read_to_string(path)?;
        Vocabulary::parse(name, &text).map_err(|wrong| lines(&text, &wrong))?;
        return Ok(());
    }
    let vocabulary_text = std::fs::read_to_string(VOCABULARY)?;
    let vocabulary =
        Vocabulary::parse(VOCABULARY, &vocabulary_text).map_err(|wrong| lines(&vocabulary_text, &wrong))?;
    let text = std::fs::read_to_string(path)?;
    let id = profile_id(name).map_err(|wrong| lines(&text, &wrong))?;
    let profile = Profile::parse(id, name, &text, &vocabulary).map_err(|wrong| lines(&text, &wrong))?;
    let failures: Vec<String> = profile
        .check_examples()
        .into_iter()
        .map(|failure| format!("{}: {}", failure.example.unwrap_or_default(), failure.message))
        .collect();
    if !failures.is_empty() {
        return Err(failures.join("\n").into());
    }
    println!("{}: {} points, {} examples", profile.id, profile.points.len(), profile.examples.len());
    Ok(())
}

/// The problems with their line numbers.
fn lines(text: &str, problems: &[Problem]) -> String {
    let line = |problem: &Problem| {
        let at = problem.span.as_ref().map_or(0, |span| span.start);
        text.get(..at).map_or(0, |before| before.matches('\n').count() + 1)
    };
    problems.iter().map(|problem| format!("line {}: {problem}\n", line(problem))).collect()
}

datatest_stable::harness! {
    { test = profile, root = "device-profiles", pattern = r"\.toml$" },
}
