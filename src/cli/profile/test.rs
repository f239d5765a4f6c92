//! `fengsui profile test`: the examples and hazard examples of the files, each with what came out instead of what stands
//! there.

use super::{Asked, EXIT_CONFIG, whole};
use crate::pipeline::{Due, Rehearsal, Why};
use crate::profile::drafting::CHECK;
use crate::profile::{Profile, Vocabulary};
use std::fmt::Write;
use std::sync::Arc;

/// Exit code of a run in which an example failed.
const EXIT_FAILED: u8 = 1;

/// What was run.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    /// Of the passed ones, hazard examples.
    hazards: usize,
    /// Of the failed ones, those that can be drafted.
    draftable: usize,
}

pub(super) fn run(read: &Asked, draft: bool, out: &mut String) -> u8 {
    out.push_str(&read.problems());
    let mut count = Count::default();
    for profile in &read.profiles {
        let mut lines = String::new();
        // Of a folder only what fails is worth a line; of one file every example is.
        let before = count.failed;
        examples(profile, read.count == 1, &mut count, &mut lines);
        hazard_examples(profile, &read.vocabulary, read.count == 1, &mut count, &mut lines);
        let good = count.failed == before;
        _ = writeln!(out, "{} {} {}", mark(good), profile.id, profile.model.zh);
        out.push_str(&lines);
        if let (true, Some(rehearsal)) = (draft, Rehearsal::new(profile, &read.vocabulary)) {
            for example in rehearsal.drafted() {
                let text = example.text(&profile.examples);
                let is_variant = profile.id.as_str().contains('@');
                let text = if is_variant { text.replacen("[[", "[[variant.", 1) } else { text };
                _ = write!(out, "\n{text}");
            }
        }
    }
    let broken = read.count - read.usable();
    let Count { passed, failed, hazards, draftable } = count;
    if draftable > 0 && !draft {
        out.push_str("加 --draft 草拟缺少的报警示例 / --draft prints the missing hazard examples, to read and to put into the file\n");
    }
    _ = writeln!(
        out,
        "{} 个型号，{passed} 项通过（其中报警示例 {hazards} 项），{failed} 项不符，{broken} 个文件有错 / {} profiles, {passed} passed ({hazards} hazard examples), {failed} failed, {broken} broken files",
        read.profiles.len(),
        read.profiles.len()
    );
    match (read.is_wrong(), failed) {
        (true, _) => EXIT_CONFIG,
        (false, 0) => 0,
        (false, _) => EXIT_FAILED,
    }
}

/// Puts the drafted hazard examples at the end of their files.
pub(super) fn write_drafts(read: &Asked) -> Result<(), String> {
    for (profile, file) in read.profiles.iter().zip(&read.names) {
        let Some(rehearsal) = Rehearsal::new(profile, &read.vocabulary) else { continue };
        if profile.id.as_str().contains('@') {
            continue;
        }
        let mut text = String::new();
        for example in rehearsal.drafted() {
            _ = write!(text, "\n{CHECK}\n{}", example.text(&profile.examples));
        }
        let append = |file: &str| whole::replace(file.as_ref(), &(std::fs::read_to_string(file)? + &text));
        if !text.is_empty() {
            append(file).map_err(|error| format!("写不了 {file} / cannot write it: {error}"))?;
        }
    }
    Ok(())
}

fn mark(good: bool) -> &'static str {
    if good { "✓" } else { "✗" }
}

fn examples(profile: &Profile, all: bool, count: &mut Count, out: &mut String) {
    let failures = profile.check_examples();
    for example in &profile.examples {
        let wrong: Vec<&str> = failures
            .iter()
            .filter(|failure| failure.example.as_deref() == Some(&example.name))
            .map(|failure| failure.message.as_str())
            .collect();
        let good = wrong.is_empty();
        *if good { &mut count.passed } else { &mut count.failed } += 1;
        if !good || all {
            _ = writeln!(out, "  {} {}", mark(good), example.name);
        }
        for message in wrong {
            _ = writeln!(out, "      {message}");
        }
    }
    for failure in failures.iter().filter(|failure| failure.example.is_none()) {
        count.failed += 1;
        _ = writeln!(out, "  ✗ {}", failure.message);
    }
}

fn hazard_examples(
    profile: &Arc<Profile>,
    vocabulary: &Vocabulary,
    all: bool,
    count: &mut Count,
    out: &mut String,
) {
    let Some(rehearsal) = Rehearsal::new(profile, vocabulary) else { return };
    for example in &profile.hazard_examples.list {
        let came = rehearsal.play(example);
        let compared = example.compare(&came);
        let good = compared.is_none();
        if good {
            (count.passed, count.hazards) = (count.passed + 1, count.hazards + 1);
        } else {
            count.failed += 1;
        }
        if !good || all {
            _ = writeln!(out, "  {} ▲ {}", mark(good), example.name);
        }
        for line in compared.as_deref().unwrap_or("").lines() {
            _ = writeln!(out, "      {line}");
        }
    }
    for due in rehearsal.unshown() {
        count.failed += 1;
        count.draftable += usize::from(matches!(due.why, Why::Example(_)));
        _ = writeln!(out, "  ✗ {}", unshown(&due));
    }
}

/// What is missing, for a person.
fn unshown(due: &Due) -> String {
    let Due { point, rule, why, .. } = due;
    let why = match why {
        Why::Example(example) => format!("示例会触发 / the example {example:?} meets it"),
        Why::FireLimit => "火警阈值必须有示例 / a limit of fire needs an example".to_owned(),
        Why::NothingShown => "没有任何报警示例 / nothing that the device can raise is shown".to_owned(),
    };
    format!("没有报警示例显示 / no [[hazard_example]] raises {rule} on {point}: {why}")
}
