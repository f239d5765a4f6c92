//! The gateway watches itself: a synthetic site whose devices are its links, its journal, its clock and its disk, so
//! that a broken connection is a hazard like any other.

use super::gateway::{Gateway, LinkKind};
use super::reader::Page;
use crate::model::{
    Device, DeviceId, LinkId, Point, PointId, ProfileId, Rule, Site, SiteId, Text, Zone, ZoneId,
};
use crate::profile::{PointClass, Vocabulary};
use std::sync::Arc;

/// The id of the synthetic site, and of the device in it that is the gateway itself.
pub const SITE: &str = "gateway";
/// Its only zone.
pub const ZONE: &str = "system";
/// The point of a link's device that says whether the connection works: `up` or `down`.
pub const STATE_POINT: &str = "state";
/// The points of the gateway's own device, each `normal` or `fault`, with their names.
pub const FAULT_POINTS: [(&str, &str, &str); 3] = [
    ("journal", "日志写入故障", "journal not writable"),
    ("clock", "时钟异常", "clock suspect"),
    ("disk", "磁盘空间不足", "disk full"),
];

const CONNECTION_CLASS: &str = "connection_state";
const FAULT_CLASS: &str = "gateway_fault";

/// The device that stands for a link: `link-<name>`.
pub fn link_device(link: &LinkId) -> Option<DeviceId> {
    DeviceId::parse(&format!("link-{link}")).ok()
}

/// The point that is `up` or `down` with the link.
pub fn link_point(link: &LinkId) -> Option<PointId> {
    PointId::new(&link_device(link)?, STATE_POINT).ok()
}

/// One of [`FAULT_POINTS`].
pub fn fault_point(name: &str) -> Option<PointId> {
    PointId::new(&DeviceId::parse(SITE).ok()?, name).ok()
}

/// The synthetic site. Classes that the vocabulary lacks are a problem of the whole.
pub(super) fn site(gateway: &Gateway, vocabulary: &Vocabulary, page: &Page) -> Site {
    let class = |id: &str| {
        let class = vocabulary.class(id);
        if class.is_none() {
            let message = format!("词汇表缺少 / the vocabulary lacks the class \"{id}\"");
            page.whole_file(message, "device-profiles/vocabulary.toml");
        }
        class
    };
    class(super::site_plan::LINK_CLASS);
    let mut devices = Vec::new();
    if let Some(class) = class(CONNECTION_CLASS) {
        devices.extend(gateway.links().filter_map(|(link, kind)| link_box(link, kind, class)));
    }
    if let Some(class) = class(FAULT_CLASS) {
        devices.extend(own_box(class));
    }
    let zone = Zone { id: fixed(ZoneId::parse(ZONE)), name: "系统".into(), devices };
    Site {
        id: fixed(SiteId::parse(SITE)),
        name: "本网关".into(),
        address: "".into(),
        contacts: Vec::new(),
        zones: vec![zone],
    }
}

fn fixed<T, E: std::fmt::Debug>(id: Result<T, E>) -> T {
    id.expect("the ids written in this file are slugs")
}

fn link_box(link: &LinkId, kind: LinkKind, class: &PointClass) -> Option<Device> {
    Some(Device {
        id: link_device(link)?,
        name: format!("{} 连接 {link}", kind.name()).into(),
        place: "".into(),
        profile: fixed(ProfileId::parse("gateway/link")),
        model: Text::new("通信连接", "connection"),
        link: link.clone(),
        silent_after: None,
        commands: Vec::new(),
        points: vec![point(link_point(link)?, class, rules(class))],
    })
}

fn own_box(class: &PointClass) -> Option<Device> {
    let points = FAULT_POINTS.iter().filter_map(|(name, zh, en)| {
        let mut point = point(fault_point(name)?, class, rules(class));
        point.name = Text::new(zh, en);
        Some(point)
    });
    Some(Device {
        id: fixed(DeviceId::parse(SITE)),
        name: "网关".into(),
        place: "".into(),
        profile: fixed(ProfileId::parse("gateway/self")),
        model: Text::new("烽燧网关", "fengsui gateway"),
        link: LinkId::parse(SITE).ok()?,
        silent_after: None,
        commands: Vec::new(),
        points: points.collect(),
    })
}

/// Nothing is heard of these devices over a wire, so no silence can be measured.
fn rules(class: &PointClass) -> Vec<Arc<Rule>> {
    let silent = |rule: &&Rule| matches!(rule.condition, crate::model::Condition::Silent { .. });
    class.rules.iter().filter(|rule| !silent(rule)).cloned().map(Arc::new).collect()
}

/// A point that is just what its class says.
pub(super) fn point(id: PointId, class: &PointClass, rules: Vec<Arc<Rule>>) -> Point {
    Point {
        id,
        class: class.id.clone(),
        name: class.name.clone(),
        quantity: class.quantity,
        range: class.range,
        states: class.states.clone(),
        decimals: class.decimals,
        rules,
    }
}
