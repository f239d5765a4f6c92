//! FRAMES → READINGS, beside the flow: the two tables that a folder of profiles is read by: which models there are, and which
//! classes a point may have.

use super::schema::{Profile, ProfileLink};
use super::vocabulary::{PointClass, Vocabulary};
use crate::model::{Condition, Quantity, Rule};

/// Behind these markers a page has its tables; each ends at [`END`].
pub const MARKERS: [&str; 2] = ["<!-- catalogue -->", "<!-- classes -->"];

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

/// A page with both of its tables written anew.
///
/// # Errors
///
/// The marker that the page does not have, or that has no end.
pub fn with_tables<'p>(
    page: &str,
    profiles: impl IntoIterator<Item = &'p Profile>,
    vocabulary: &Vocabulary,
) -> Result<String, &'static str> {
    let tables = [catalogue_table(profiles), class_table(vocabulary)];
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
