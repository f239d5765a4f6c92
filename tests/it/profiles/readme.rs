//! The two tables of `device-profiles/README.md` are those of the files.

use super::{CATALOGUE, folder, parse, pointed, vocabulary};
use fengsui::model::{Condition, Quantity, Rule};
use fengsui::profile::{PointClass, Profile, ProfileLink};

fn catalogue_row(profile: &Profile) -> String {
    let link = match &profile.link {
        ProfileLink::Mqtt { topics } => format!("MQTT `{}`", topics[0]),
        ProfileLink::Modbus { .. } => "Modbus".to_owned(),
    };
    let points: Vec<&str> = profile.points.iter().map(|point| point.name.as_str()).collect();
    let verified = profile.verified.as_deref().unwrap_or("—");
    format!("| `{}` | {} | {link} | {} | {verified} |\n", profile.id, profile.model.zh, points.join(", "))
}

fn class_row(class: &PointClass) -> String {
    let what = match class.quantity {
        Quantity::State => {
            class.states.iter().map(|(code, _)| format!("`{code}`")).collect::<Vec<_>>().join(" ")
        }
        Quantity::Flag => "true / false".to_owned(),
        quantity => quantity.units().collect::<Vec<_>>().join(", "),
    };
    let rules: Vec<String> = class
        .rules
        .iter()
        .filter(|rule| rule.condition != Condition::Unusable)
        .map(|rule| format!("{} {}", rule.title.zh, limit(rule, class)).trim().to_owned())
        .collect();
    format!("| `{}` | {} | {what} | {} |\n", class.id, class.name.zh, rules.join(" · "))
}

fn limit(rule: &Rule, class: &PointClass) -> String {
    match rule.condition {
        Condition::Silent { .. } => "（型号规定的时间）".to_owned(),
        _ => rule.condition.limit_text(class.quantity.unit()),
    }
}

/// The text with what stands between the marker and `<!-- end -->` replaced.
fn replaced(text: &str, marker: &str, table: &str) -> String {
    let start = text.find(marker).unwrap() + marker.len();
    let end = start + text[start..].find("<!-- end -->").unwrap();
    format!("{}\n{table}{}", &text[..start], &text[end..])
}

#[test]
fn the_tables_of_the_readme_are_current() {
    let path = folder().join("README.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let profiles: String = CATALOGUE.profiles.values().map(|profile| catalogue_row(profile)).collect();
    let classes: String = vocabulary().classes().map(class_row).collect();
    let head = "| profile · 文件 | 型号 | link | points | tried on hardware |\n|---|---|---|---|---|\n";
    let fresh = replaced(&written, "<!-- catalogue -->", &format!("{head}{profiles}"));
    let head = "| class · 类别 | 名称 | units or states | default rules · 默认规则 |\n|---|---|---|---|\n";
    let fresh = replaced(&fresh, "<!-- classes -->", &format!("{head}{classes}"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let current = std::fs::read_to_string(&path).unwrap();
    assert!(current == fresh, "run: UPDATE=1 cargo test --test it readme");
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
