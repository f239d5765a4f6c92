//! THE COMPOSITION ROOT, what changed: two configurations → the difference in words. Pure.

use super::links::{Wanted, wanted};
use crate::config::{self, Config, Gateway};
use crate::model::{DeviceId, LinkId, Plan, Text};
use std::collections::BTreeMap;

/// Names that a line of the duty log tells of each kind; the rest is counted. Ten lines on a telephone.
const NAMES_MAX: usize = 10;

/// What is new, gone and otherwise, by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Three {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

/// The difference between two configurations that takes effect while running.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    links: Three,
    devices: Three,
    /// Names, addresses and contacts of sites and zones.
    sites: bool,
    /// `[commit]`.
    commit: bool,
    /// `[series]`.
    series: bool,
    /// The plan differs in another way: the order in which things stand.
    order: bool,
}

impl Changes {
    pub(super) fn between(old: &Config, new: &Config) -> Self {
        let (links, devices) = (links(&wanted(old), &wanted(new)), devices(old, new));
        let sites = sites(&old.plan) != sites(&new.plan);
        let same_things = links == Three::default() && devices == Three::default() && !sites;
        Self {
            order: same_things && old.plan != new.plan,
            commit: old.gateway.commit_window != new.gateway.commit_window,
            series: old.gateway.series != new.gateway.series,
            links,
            devices,
            sites,
        }
    }

    /// In words; `None`: nothing changed.
    pub(super) fn text(&self) -> Option<Text> {
        let mut told: Vec<(String, String)> = Vec::new();
        let lists = [
            (&self.devices.added, "新增设备", "devices added"),
            (&self.devices.removed, "移除设备", "devices removed"),
            (&self.devices.changed, "修改设备", "devices changed"),
            (&self.links.added, "新增连接", "links added"),
            (&self.links.removed, "移除连接", "links removed"),
            (&self.links.changed, "修改连接", "links changed"),
        ];
        for (names, zh, en) in lists {
            if !names.is_empty() {
                let (names_zh, names_en) = listed(names);
                told.push((format!("{zh} {names_zh}"), format!("{en}: {names_en}")));
            }
        }
        let flags = [
            (self.sites, "修改站点信息", "names or contacts of sites changed"),
            (self.order, "修改排列顺序", "things stand in another order"),
            (self.commit, "修改提交间隔", "[commit] changed"),
            (self.series, "修改曲线保留时间", "[series] changed"),
        ];
        told.extend(flags.iter().filter(|flag| flag.0).map(|(_, zh, en)| ((*zh).into(), (*en).into())));
        if told.is_empty() {
            return None;
        }
        let (zh, en): (Vec<String>, Vec<String>) = told.into_iter().unzip();
        Some(Text::new(&zh.join("；"), &en.join("; ")))
    }
}

fn listed(names: &[String]) -> (String, String) {
    let shown = names.get(..NAMES_MAX).unwrap_or(names);
    let (mut zh, mut en) = (shown.join("、"), shown.join(", "));
    if names.len() > NAMES_MAX {
        zh.push_str(&format!(" 等 {} 个", names.len()));
        en.push_str(&format!(" and {} more", names.len() - NAMES_MAX));
    }
    (zh, en)
}

fn three<K: Ord, T: PartialEq>(
    old: &BTreeMap<K, T>,
    new: &BTreeMap<K, T>,
    name: impl Fn(&K, &T) -> String,
) -> Three {
    let mut three = Three::default();
    for (key, old) in old {
        match new.get(key) {
            None => three.removed.push(name(key, old)),
            Some(new) if new != old => three.changed.push(name(key, new)),
            Some(_) => {}
        }
    }
    let added = new.iter().filter(|(key, _)| !old.contains_key(key));
    three.added = added.map(|(key, new)| name(key, new)).collect();
    three
}

fn links(old: &[(LinkId, Wanted)], new: &[(LinkId, Wanted)]) -> Three {
    let by_name = |list: &[(LinkId, Wanted)]| -> BTreeMap<LinkId, Wanted> { list.iter().cloned().collect() };
    three(&by_name(old), &by_name(new), |link, _| link.to_string())
}

fn devices(old: &Config, new: &Config) -> Three {
    three(&by_id(old), &by_id(new), |id, (_, _, device, _)| {
        if *device.name == *id.as_str() { id.to_string() } else { format!("{}（{id}）", device.name) }
    })
}

/// What a device is, where it stands, and how it is reached and read.
type Known<'c> = (
    &'c str,
    &'c str,
    &'c crate::model::Device,
    Option<(&'c LinkId, &'c str, Option<u8>, &'c crate::profile::Profile)>,
);

/// All but the gateway's own.
fn by_id(config: &Config) -> BTreeMap<&DeviceId, Known<'_>> {
    let bindings: BTreeMap<&DeviceId, &config::Binding> =
        config.bindings.iter().map(|binding| (&binding.device, binding)).collect();
    let devices = config.plan.devices().filter(|(site, ..)| site.id.as_str() != config::system::SITE);
    let known = devices.map(|(site, zone, device)| {
        let reached = bindings
            .get(&device.id)
            .map(|binding| (&binding.link, &*binding.address, binding.unit, &*binding.profile));
        (&device.id, (site.id.as_str(), zone.id.as_str(), device, reached))
    });
    known.collect()
}

/// All of the sites but their devices.
fn sites(plan: &Plan) -> Vec<crate::model::Site> {
    let mut sites = plan.sites.clone();
    sites.iter_mut().flat_map(|site| &mut site.zones).for_each(|zone| zone.devices.clear());
    sites
}

/// The keys whose change takes effect at the next start: what is written now against what the gateway started with.
pub(super) fn next_start(started: &Gateway, new: &Gateway) -> Vec<&'static str> {
    let differ = [
        ("journal.dir", started.journal.dir != new.journal.dir),
        ("journal.size_max_mib", started.journal.size_max_bytes != new.journal.size_max_bytes),
        ("journal.keep_days", started.journal.keep != new.journal.keep),
        ("web", started.web_listen != new.web_listen),
        ("log", started.log != new.log),
        ("name", started.name != new.name),
        ("influx", started.influx != new.influx),
        ("folder", started.folder != new.folder),
        ("backup", started.backup != new.backup),
    ];
    let mut keys: Vec<&str> = differ.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect();
    // What is not named here and above takes effect at the next start as well, and is not passed over in silence.
    let mut rest = new.clone();
    rest.journal = started.journal.clone();
    rest.web_listen = started.web_listen;
    rest.log = started.log;
    rest.name.clone_from(&started.name);
    rest.influx.clone_from(&started.influx);
    rest.folder.clone_from(&started.folder);
    rest.backup.clone_from(&started.backup);
    // These take effect at once.
    rest.file.clone_from(&started.file);
    rest.plan_file.clone_from(&started.plan_file);
    rest.profiles_dir.clone_from(&started.profiles_dir);
    rest.series = started.series.clone();
    rest.broker.clone_from(&started.broker);
    rest.mqtt.clone_from(&started.mqtt);
    rest.modbus.clone_from(&started.modbus);
    rest.push.clone_from(&started.push);
    rest.secret_files.clone_from(&started.secret_files);
    rest.commit_window = started.commit_window;
    if rest != *started {
        keys.push("gateway.toml");
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "plan = \"plan.toml\"\n[broker]\nlisten = \"127.0.0.1:0\"\nanonymous = true\n\
        [[modbus]]\nname = \"bus\"\nurl = \"tcp://127.0.0.1:502\"\n";

    fn smoke(id: &str) -> String {
        format!(
            "[[site.zone.device]]\nid = \"{id}\"\nname = \"{id}\"\nprofile = \"fengsui/smoke-json\"\nlink = \"broker\"\naddress = \"{id}\"\n"
        )
    }

    fn meter(unit: u8) -> String {
        format!(
            "[[site.zone.device]]\nid = \"meter\"\nname = \"压力\"\nprofile = \"generic/rs485-pressure\"\nlink = \"bus\"\nunit = {unit}\n"
        )
    }

    fn config(gateway: &str, devices: &str) -> Config {
        let plan = format!(
            "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"s\"\n[[site.zone]]\nid = \"z\"\nname = \"z\"\n{devices}"
        );
        match Config::from_texts(&[("gateway.toml", gateway), ("plan.toml", &plan)], &|_| None) {
            Ok((config, _)) => config,
            Err(report) => panic!("{report:?}"),
        }
    }

    fn told(old: &Config, new: &Config) -> String {
        Changes::between(old, new).text().map_or_else(String::new, |text| text.zh.to_string())
    }

    fn restarts(old: &Config, new: &Config) -> Vec<String> {
        let new = wanted(new);
        let goes_on =
            |link: &LinkId, old: &Wanted| new.iter().any(|(name, new)| name == link && old.goes_on_as(new));
        let old = wanted(old).into_iter().filter(|(link, old)| !goes_on(link, old));
        old.map(|(link, _)| link.to_string()).collect()
    }

    #[test]
    fn the_same_files_read_again_change_nothing() {
        let devices = [smoke("sd-1"), meter(1)].concat();
        let (one, two) = (config(GATEWAY, &devices), config(GATEWAY, &devices));
        assert_eq!(told(&one, &two), "");
        assert_eq!(restarts(&one, &two), [""; 0]);
        assert_eq!(next_start(&one.gateway, &two.gateway), [""; 0]);
    }

    #[test]
    fn what_changed_is_said_in_words_and_touches_only_its_own_link() {
        let one = config(GATEWAY, &[smoke("sd-1"), smoke("sd-2"), meter(1)].concat());
        let two = config(GATEWAY, &[smoke("sd-1"), smoke("sd-3"), meter(2)].concat());
        assert_eq!(told(&one, &two), "新增设备 sd-3；移除设备 sd-2；修改设备 压力（meter）；修改连接 bus");
        assert_eq!(restarts(&one, &two), ["bus"]);
        let renamed =
            config(GATEWAY, &[smoke("sd-1"), smoke("sd-2"), meter(1).replace("压力", "水压")].concat());
        assert_eq!(told(&one, &renamed), "修改设备 水压（meter）");
        assert_eq!(restarts(&one, &renamed), [""; 0]);
        let nobody = config(&GATEWAY.replace("\"bus\"", "\"pump\""), &smoke("sd-1"));
        assert_eq!(told(&one, &nobody), "移除设备 压力（meter）、sd-2；新增连接 pump；移除连接 bus");
    }

    #[test]
    fn another_password_in_its_file_starts_no_link_anew() {
        let with = |password: &str, user: &str| {
            let hall = format!(
                "plan = \"plan.toml\"\n[[mqtt]]\nname = \"hall\"\nurl = \"mqtt://127.0.0.1\"\nclient_id = \"box\"\nuser = \"{user}\"\npassword_file = \"word\"\n"
            );
            let plan = "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"s\"\n";
            let texts = [("gateway.toml", &*hall), ("plan.toml", plan), ("word", password)];
            Config::from_texts(&texts, &|_| None).unwrap().0
        };
        assert_eq!(restarts(&with("one", "box"), &with("two", "box")), [""; 0]);
        assert_eq!(restarts(&with("one", "box"), &with("one", "hut")), ["hall"]);
    }

    #[test]
    fn what_takes_effect_only_at_the_next_start_is_named() {
        let one = config(GATEWAY, &smoke("sd-1"));
        let more = "[journal]\nkeep_days = 30\n[web]\nlisten = \"127.0.0.1:1\"\n[[influx]]\nurl = \"http://127.0.0.1:1\"\norg = \"o\"\nbucket = \"b\"\n[commit]\nwindow_ms = 50\n[series]\nraw_days = 3\n";
        let two = config(&format!("{GATEWAY}{more}"), &smoke("sd-1"));
        assert_eq!(next_start(&one.gateway, &two.gateway), ["journal.keep_days", "web", "influx"]);
        assert_eq!(told(&one, &two), "修改提交间隔；修改曲线保留时间");
    }

    #[test]
    fn another_order_of_the_same_devices_is_a_change_as_well() {
        let one = config(GATEWAY, &[smoke("sd-1"), smoke("sd-2")].concat());
        let two = config(GATEWAY, &[smoke("sd-2"), smoke("sd-1")].concat());
        assert_eq!(told(&one, &two), "修改排列顺序");
        assert_eq!(restarts(&one, &two), [""; 0]);
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let many: String = (10..40).map(|n| smoke(&format!("sd-{n}"))).collect();
        let text = told(&config(GATEWAY, &smoke("sd-1")), &config(GATEWAY, &(smoke("sd-1") + &many)));
        assert!(text.ends_with("、sd-19 等 30 个"), "{text}");
    }
}
