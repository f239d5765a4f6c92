//! The shipped profiles: all of them parse, prove their examples, and survive whatever arrives.

use fengsui::profile::{Catalogue, Profile};
use std::path::{Path, PathBuf};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("device-profiles")
}

/// Path (below the folder) and text of every TOML file.
pub(crate) fn files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder()];
    while let Some(current) = folders.pop() {
        for entry in std::fs::read_dir(current).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "toml") {
                let name = path.strip_prefix(folder()).unwrap().to_str().unwrap().to_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn catalogue() -> Catalogue {
    let (catalogue, problems) = Catalogue::parse(files().into_iter());
    let shown: Vec<String> = problems.iter().map(|problem| format!("{:?} {problem}", problem.span)).collect();
    assert!(problems.is_empty(), "{}", shown.join("\n"));
    catalogue
}

#[test]
fn every_shipped_profile_proves_its_examples() {
    let catalogue = catalogue();
    let mut failures = Vec::new();
    for profile in catalogue.profiles.values() {
        let wrong = Profile::check_examples(profile);
        failures.extend(wrong.into_iter().map(|f| format!("{}: {:?}: {}", profile.id, f.example, f.message)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
