//! The tables of `device-profiles/README.md` are those of the files.

use super::{CATALOGUE, folder, parse, pointed, vocabulary};
use fengsui::profile::with_tables;

/// `fengsui profile doc` writes them; this says that it was done.
#[test]
fn the_tables_of_the_readme_are_current() {
    let path = folder().join("README.md");
    let current = std::fs::read_to_string(&path).unwrap();
    let profiles = CATALOGUE.profiles.values().map(|profile| &**profile);
    let fresh = with_tables(&current, profiles, vocabulary()).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    assert!(current == fresh, "run: cargo run -- profile doc");
}

/// What a block needs to be a profile of its own.
const DEVICE: &str =
    "[device]\nvendor = \"a\"\nmodel = \"b\"\nname = { zh = \"甲\", en = \"a\" }\nsource = \"the readme\"\n";

#[test]
fn every_dialect_of_the_readme_is_a_profile() {
    let text = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let blocks: Vec<&str> =
        text.split("```toml dialect\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 9, "only {} blocks were found", blocks.len());
    for block in blocks {
        let address = if block.contains("[mqtt.each]") { "address = \"1\"\n" } else { "" };
        let examples = format!(
            "[[example]]\nname = \"a\"\n{address}input = ''\n[[example]]\nname = \"b\"\n{address}input = ''\nrefused = true\n"
        );
        let profile = format!("{DEVICE}{block}{examples}");
        if let Err(problems) = parse(&profile) {
            panic!("{block}\n{:?}", pointed(&profile, &problems));
        }
    }
}

#[test]
fn every_hazard_category_names_the_models_that_tell_of_it_or_says_that_no_sensor_does() {
    let categories: Vec<_> = vocabulary().hazard_categories().collect();
    assert!(categories.len() >= 8, "{} categories", categories.len());
    for category in categories {
        assert!(
            !category.source.is_empty() && !category.beyond_sensors.zh.is_empty(),
            "{}",
            category.name.zh
        );
        let told = |profile: &&std::sync::Arc<fengsui::profile::Profile>| {
            profile.points.iter().any(|point| category.classes.contains(&point.class))
        };
        let models = CATALOGUE.profiles.values().filter(told).count();
        assert!(category.classes.is_empty() == (models == 0), "{}: {models} models", category.name.zh);
    }
}
