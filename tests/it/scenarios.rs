//! Tests of: the hazard engine, told as stories. Each file of `tests/scenarios/` is story, input and golden output in
//! one; lines that begin with `>` are what the engine says. `UPDATE=1` writes them anew: then read the diff.

mod script;
mod stage;

use std::path::PathBuf;

/// How many stories there are, so that none is lost unnoticed.
const STORIES: usize = 28;

fn files() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = std::fs::read_dir(&folder).expect("tests/scenarios is there");
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "txt"));
    files.sort();
    files
}

#[test]
fn every_story_is_told_as_it_was_written_down() {
    let update = std::env::var_os("UPDATE").is_some();
    let (mut checked, mut lines, mut failures) = (0, 0, Vec::new());
    for path in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let written = std::fs::read_to_string(&path).unwrap();
        let told = stage::tell(&written).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let count = told.lines().filter(|line| line.starts_with('>')).count();
        assert!(count > 0, "{name} expects nothing, so it cannot fail");
        if update && told != written {
            std::fs::write(&path, &told).unwrap();
        } else if told != written {
            failures.push(format!("{name}\n{}", difference(&written, &told)));
        }
        checked += 1;
        lines += count;
    }
    assert!(failures.is_empty(), "UPDATE=1 accepts what the engine says now:\n{}", failures.join("\n"));
    assert_eq!(checked, STORIES, "the number of stories");
    let on_disk: usize =
        files().iter().map(|path| std::fs::read_to_string(path).unwrap().matches("\n>").count()).sum();
    assert_eq!(lines, on_disk, "the number of golden lines");
    println!("{checked} stories, {lines} golden lines");
}

#[test]
fn extra_ticks_change_no_story() {
    for path in files() {
        let written = std::fs::read_to_string(&path).unwrap();
        let plain = stage::tell(&written).unwrap();
        let ticking = stage::tell_with_ticks(&written).unwrap();
        assert!(plain == ticking, "{}\n{}", path.display(), difference(&plain, &ticking));
    }
}

/// The first line that differs, from both.
fn difference(written: &str, told: &str) -> String {
    let (mut left, mut right) = (written.lines(), told.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => return format!("  line {number}\n  written: {a:?}\n  told:    {b:?}"),
        }
    }
    "  only in blank space at the end".to_owned()
}
