//! BESIDE THE FLOW · a new device as lines of the plan file. Text in, text out: pure. Every line that a person wrote stays as it is,
//! comments and blank lines too; lines are only added.

use crate::model::Text;
use std::fmt::Write;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

/// A device as it is written into the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// Its id, new on this gateway.
    pub id: String,
    /// What the duty officer calls it.
    pub name: String,
    /// Where exactly it hangs; may be empty.
    pub place: String,
    /// `vendor/model`.
    pub profile: String,
    /// The link it is reached by.
    pub link: String,
    /// How it is found there.
    pub at: Reach,
}

/// How a device is found on its link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// What stands for it in its topics.
    Address(String),
    /// The unit id on a Modbus bus.
    Unit(u8),
}

/// Under which zone it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    /// One of the plan.
    Known {
        /// The site's id.
        site: String,
        /// The zone's id.
        zone: String,
    },
    /// One that is made for it, at the end of its site.
    New {
        /// The site's id.
        site: String,
        /// Its id, new in the site.
        zone: String,
        /// What people call it.
        name: String,
    },
}

/// The plan's text with the device in it.
///
/// # Errors
///
/// In words: the text is no TOML, has no such place, or is written in a form that is not edited here.
pub fn insert(plan: &str, device: &NewDevice, zone: &Zone) -> Result<String, Text> {
    let mut document: DocumentMut = plan.parse().map_err(|error: toml_edit::TomlError| {
        let message = error.message();
        Text::new(
            &format!("plan.toml 现在不是正确的 TOML：{message}"),
            &format!("plan.toml is no TOML now: {message}"),
        )
    })?;
    let (site, zone_id) = match zone {
        Zone::Known { site, zone } | Zone::New { site, zone, .. } => (site, zone),
    };
    let site = named(tables(document.as_table_mut(), "site")?, site).ok_or_else(no_such_place)?;
    let zones = tables(site, "zone")?;
    if let Zone::New { name, .. } = zone {
        let mut table = Table::new();
        table.insert("id", value(zone_id));
        table.insert("name", value(name));
        push(zones, table);
    }
    let zone = named(zones, zone_id).ok_or_else(no_such_place)?;
    push(tables(zone, "device")?, table(device));
    let written = document.to_string();
    // A file of Windows has its own line ends, all of them.
    let crlf = plan.contains("\r\n") && plan.matches('\n').count() == plan.matches("\r\n").count();
    let written = if crlf { written.replace("\r\n", "\n").replace('\n', "\r\n") } else { written };
    match only_adds(plan, &written) {
        true => Ok(written),
        false => Err(another_form()),
    }
}

/// The same as lines to copy, for a plan that is not ours to write.
pub fn snippet(device: &NewDevice) -> String {
    let mut text = String::from("[[site.zone.device]]\n");
    // Writing to a string cannot fail.
    _ = write!(text, "{}", table(device));
    text
}

fn table(device: &NewDevice) -> Table {
    let mut table = Table::new();
    table.insert("id", value(&device.id));
    table.insert("name", value(&device.name));
    if !device.place.is_empty() {
        table.insert("place", value(&device.place));
    }
    table.insert("profile", value(&device.profile));
    table.insert("link", value(&device.link));
    match &device.at {
        Reach::Address(address) => table.insert("address", value(address)),
        Reach::Unit(unit) => table.insert("unit", value(i64::from(*unit))),
    };
    table
}

/// With a blank line before it.
fn push(tables: &mut ArrayOfTables, mut table: Table) {
    table.decor_mut().set_prefix("\n");
    tables.push(table);
}

/// The list of tables of that name, made when there is none.
fn tables<'t>(table: &'t mut Table, name: &str) -> Result<&'t mut ArrayOfTables, Text> {
    let item = table.entry(name).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut().ok_or_else(another_form)
}

fn named<'t>(tables: &'t mut ArrayOfTables, id: &str) -> Option<&'t mut Table> {
    tables.iter_mut().find(|table| table.get("id").and_then(Item::as_str) == Some(id))
}

fn no_such_place() -> Text {
    Text::new(
        "plan.toml 里已没有这个分区：请重新打开这一页再选",
        "this zone is no longer in plan.toml: open the page again and choose",
    )
}

fn another_form() -> Text {
    Text::new(
        "plan.toml 的写法不是 [[site.zone.device]] 这样逐段列出的：请把下面这一段手工加进去",
        "plan.toml is not written in tables like [[site.zone.device]]: add the lines below by hand",
    )
}

/// Whether every line of the old text is in the new one, in its order.
fn only_adds(old: &str, new: &str) -> bool {
    let mut lines = new.lines();
    old.trim_start_matches('\u{feff}').lines().all(|line| lines.any(|new| new == line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAN: &str = "# 阳光养老院，张工维护\n[[site]]\nid = \"sunshine\"   # 不要改\nname = '阳光养老院'\naddress = \"某路 8 号\"\n\n\
        [[site.contact]]\nrole = \"值班室\"\nphone = \"119\"\n\n\
        # 一层\n[[site.zone]]\nid = \"floor-1\"\nname = \"一层\"\n\n\
        \x20 # 门厅\n\x20 [[site.zone.device]]\n\x20 id = \"sd-1\"\n\x20 name = \"门厅烟感\"\n\x20 profile=\"fengsui/smoke-json\"\n\x20 link = \"broker\"\n\x20 address = \"sd-1\"\n\
        [[site.zone.device.override]]\npoint = \"temperature\"   # 厨房旁\n\n\
        # 二层，还没有设备\n[[site.zone]]\nid = \"floor-2\"\nname = \"二层\"\n\
        [[site.zone.override]]\nclass = \"battery\"\n\n# 完\n";

    fn smoke() -> NewDevice {
        NewDevice {
            id: "sd-9".into(),
            name: "203 房间烟感".into(),
            place: "床头".into(),
            profile: "fengsui/smoke-json".into(),
            link: "broker".into(),
            at: Reach::Address("sd-9".into()),
        }
    }

    fn known(zone: &str) -> Zone {
        Zone::Known { site: "sunshine".into(), zone: zone.into() }
    }

    const LINES: &str = "\n[[site.zone.device]]\nid = \"sd-9\"\nname = \"203 房间烟感\"\nplace = \"床头\"\nprofile = \"fengsui/smoke-json\"\nlink = \"broker\"\naddress = \"sd-9\"\n";

    #[test]
    fn a_device_goes_to_the_end_of_its_zone_and_every_comment_stays() {
        let written = insert(PLAN, &smoke(), &known("floor-1")).unwrap();
        let place = "point = \"temperature\"   # 厨房旁\n";
        assert_eq!(written, PLAN.replace(place, &format!("{place}{LINES}")));
        let written = insert(PLAN, &smoke(), &known("floor-2")).unwrap();
        let place = "class = \"battery\"\n";
        assert_eq!(written, PLAN.replace(place, &format!("{place}{LINES}")));
    }

    #[test]
    fn a_new_zone_is_made_at_the_end_of_its_site() {
        let zone = Zone::New { site: "sunshine".into(), zone: "kitchen".into(), name: "厨房".into() };
        let written = insert(PLAN, &smoke(), &zone).unwrap();
        let place = "class = \"battery\"\n";
        let new = format!("{place}\n[[site.zone]]\nid = \"kitchen\"\nname = \"厨房\"\n{LINES}");
        assert_eq!(written, PLAN.replace(place, &new));
    }

    #[test]
    fn line_ends_of_windows_stay() {
        let plan = PLAN.replace('\n', "\r\n");
        let written = insert(&plan, &smoke(), &known("floor-1")).unwrap();
        assert_eq!(written.matches('\n').count(), written.matches("\r\n").count());
        assert_eq!(written.replace("\r\n", "\n"), insert(PLAN, &smoke(), &known("floor-1")).unwrap());
    }

    #[test]
    fn what_cannot_be_edited_is_refused_in_words() {
        for (plan, zone, word) in [
            ("[[site", known("floor-1"), "TOML"),
            (PLAN, known("attic"), "no longer"),
            ("site = [{ id = \"sunshine\", zone = [{ id = \"floor-1\" }] }]", known("floor-1"), "by hand"),
            ("[[site]]\nid = \"sunshine\"\nzone = [{ id = \"floor-1\" }]", known("floor-1"), "by hand"),
        ] {
            let refused = insert(plan, &smoke(), &zone).unwrap_err();
            assert!(refused.en.contains(word), "{}", refused.en);
        }
    }

    #[test]
    fn the_lines_to_copy_are_those_that_would_be_written() {
        assert_eq!(snippet(&smoke()), LINES.trim_start());
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_one_device_and_every_old_line_stays(name in any::<String>(), address in any::<String>()) {
            let device = NewDevice { name: name.clone(), at: Reach::Address(address.clone()), ..smoke() };
            let written = insert(PLAN, &device, &known("floor-1")).unwrap();
            prop_assert!(only_adds(PLAN, &written));
            let table: toml_edit::DocumentMut = written.parse().unwrap();
            let devices = table["site"][0]["zone"][0]["device"].as_array_of_tables().unwrap();
            prop_assert_eq!(devices.len(), 2);
            let last = devices.iter().last().unwrap();
            prop_assert_eq!(last["name"].as_str(), Some(&*name));
            prop_assert_eq!(last["address"].as_str(), Some(&*address));
        }
    }
}
