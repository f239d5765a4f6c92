//! FRAMES → READINGS, beside the flow: the tables that a folder of profiles is read by: which models there are, which classes a
//! point may have, and which models tell of which category of hazard.

use super::schema::{Profile, ProfileLink};
use super::vocabulary::{PointClass, Vocabulary};
use crate::model::{Condition, Quantity, Rule, Text};

/// Behind these markers a page has its tables; each ends at [`END`].
pub const MARKERS: [&str; 3] = ["<!-- catalogue -->", "<!-- classes -->", "<!-- hazard categories -->"];

/// Where a table of a page ends.
pub const END: &str = "<!-- end -->";

/// The models: file, name, link, points, and who tried it on hardware. In the order that is given.
pub fn catalogue_table<'p>(profiles: impl IntoIterator<Item = &'p Profile>) -> String {
    let head = "| profile · 文件 | 型号 | link | points | tried on hardware |\n|---|---|---|---|---|\n";
    std::iter::once(head.to_owned()).chain(profiles.into_iter().map(catalogue_row)).collect()
}

/// The classes: id, name, units or states, default rules.
pub fn class_table(vocabulary: &Vocabulary) -> String {
    let head = "| class · 类别 | 名称 | units or states | default rules · 默认规则 |\n|---|---|---|---|\n";
    std::iter::once(head.to_owned()).chain(vocabulary.classes().map(class_row)).collect()
}

/// The hazard categories: which classes and which models tell of each, or that no sensor does, and what is left to a person.
fn hazard_category_table(profiles: &[&Profile], vocabulary: &Vocabulary) -> String {
    let head = "| 隐患类别 · hazard category | classes | profiles · 型号文件 | 传感器说不了的 · beyond sensors |\n|---|---|---|---|\n";
    let rows = vocabulary.hazard_categories().map(|category| {
        let serves =
            |profile: &&&Profile| profile.points.iter().any(|point| category.classes.contains(&point.class));
        let models: Vec<String> =
            profiles.iter().filter(serves).map(|profile| format!("`{}`", profile.id)).collect();
        let classes: Vec<String> = category.classes.iter().map(|class| format!("`{class}`")).collect();
        let models = match models.len() {
            0 => "没有传感器能说明 · no sensor does".to_owned(),
            count => format!("{count}: {}", models.join(" ")),
        };
        let Text { zh, en } = &category.beyond_sensors;
        format!(
            "| {} · {} | {} | {models} | {zh} · {en} |\n",
            category.name.zh,
            category.name.en,
            classes.join(" ")
        )
    });
    std::iter::once(head.to_owned()).chain(rows).collect()
}

/// A page with its tables written anew.
///
/// # Errors
///
/// The marker that the page does not have, or that has no end.
pub fn with_tables<'p>(
    page: &str,
    profiles: impl IntoIterator<Item = &'p Profile>,
    vocabulary: &Vocabulary,
) -> Result<String, &'static str> {
    let profiles: Vec<&Profile> = profiles.into_iter().collect();
    let tables = [
        catalogue_table(profiles.iter().copied()),
        class_table(vocabulary),
        hazard_category_table(&profiles, vocabulary),
    ];
    let mut fresh = page.to_owned();
    for (marker, table) in MARKERS.into_iter().zip(tables) {
        fresh = replaced(&fresh, marker, &table).ok_or(marker)?;
    }
    Ok(fresh)
}

/// The text with what stands between the marker and its end replaced.
fn replaced(text: &str, marker: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(marker)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{marker}\n{table}{END}{after}"))
}

fn catalogue_row(profile: &Profile) -> String {
    let link = match &profile.link {
        ProfileLink::Mqtt { topics } => {
            let first = topics.first().map(|topic| topic.as_str()).unwrap_or_default();
            format!("MQTT `{first}`")
        }
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
