//! NOUNS: the site plan in force: Site ▸ Zone ▸ Device ▸ Point, with each point's rules worked out.
//!
//! Built by `config` from the plan file, the profiles and the vocabulary; read by the engine, the sinks and the web.

use super::{
    ClassId, DeviceCommand, DeviceId, LinkId, PointId, ProfileId, Quantity, Rule, SiteId, Span, Text, ZoneId,
};
use std::collections::HashMap;
use std::sync::Arc;

/// A person to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// 消防安全责任人, 值班电话, 微型消防站 …
    pub role: Arc<str>,
    /// The person's or the desk's name.
    pub name: Arc<str>,
    /// As it is dialled.
    pub phone: Arc<str>,
}

/// A protected place.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// Its name, as people say it.
    pub name: Arc<str>,
    /// Where to send the fire brigade.
    pub address: Arc<str>,
    /// Whom to call, in order.
    pub contacts: Vec<Contact>,
    /// Its zones, in the order of the plan.
    pub zones: Vec<Zone>,
}

/// A detection zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// Its id, unique within the site.
    pub id: ZoneId,
    /// Its name.
    pub name: Arc<str>,
    /// Its devices, in the order of the plan.
    pub devices: Vec<Device>,
}

/// One box.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its id, unique on this gateway.
    pub id: DeviceId,
    /// Its name: `203 房间烟感`.
    pub name: Arc<str>,
    /// Where exactly it hangs, for the person who runs there.
    pub place: Arc<str>,
    /// What it is.
    pub profile: ProfileId,
    /// What the model is called.
    pub model: Text,
    /// How it is reached.
    pub link: LinkId,
    /// The longest silence that is normal; `None`: it only speaks when something happens.
    pub silent_after: Option<Span>,
    /// What people may tell it to do; nothing unless the plan file says so.
    pub commands: Vec<DeviceCommand>,
    /// What it reports. The point `link` (class `link_state`) stands for the device being heard at all.
    pub points: Vec<Point>,
}

/// The point that every device has: whether it is there. Being heard is no reading of it; what others say of the device (a
/// bridge's word, a last will) is, and that is no sign of life.
pub const LINK_POINT: &str = "link";

/// One measurable thing, with its rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its id.
    pub id: PointId,
    /// Its class in the vocabulary.
    pub class: ClassId,
    /// What it is called.
    pub name: Text,
    /// What it measures.
    pub quantity: Quantity,
    /// The plausible range in the canonical unit: outside, the reading is bad and says 超量程.
    pub range: Option<(f64, f64)>,
    /// The names of its states, when it has states.
    pub states: Vec<(super::Code, Text)>,
    /// Decimals a screen shows.
    pub decimals: u8,
    /// The rules that watch it.
    pub rules: Vec<Arc<Rule>>,
}

impl Point {
    /// The canonical unit.
    pub fn unit(&self) -> &'static str {
        self.quantity.unit()
    }

    /// What a state is called.
    pub fn state_name(&self, code: &str) -> Option<&Text> {
        self.states.iter().find(|(name, _)| &**name == code).map(|(_, text)| text)
    }
}

/// Everything the gateway watches. Immutable: a change of the plan is a new plan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The sites, in the order of the file.
    pub sites: Vec<Site>,
    index: HashMap<DeviceId, (usize, usize, usize)>,
}

impl Plan {
    /// Builds the index. Device ids must be unique: `config` has checked it; the last one wins otherwise.
    pub fn new(sites: Vec<Site>) -> Self {
        let mut index = HashMap::new();
        for (s, site) in sites.iter().enumerate() {
            for (z, zone) in site.zones.iter().enumerate() {
                for (d, device) in zone.devices.iter().enumerate() {
                    index.insert(device.id.clone(), (s, z, d));
                }
            }
        }
        Self { sites, index }
    }

    /// Every device with its site and zone, in the order of the plan.
    pub fn devices(&self) -> impl Iterator<Item = (&Site, &Zone, &Device)> {
        self.sites.iter().flat_map(|site| {
            site.zones.iter().flat_map(move |zone| zone.devices.iter().map(move |d| (site, zone, d)))
        })
    }

    /// A device with its site and zone.
    pub fn device(&self, id: &str) -> Option<(&Site, &Zone, &Device)> {
        let &(s, z, d) = self.index.get(id)?;
        let site = self.sites.get(s)?;
        let zone = site.zones.get(z)?;
        Some((site, zone, zone.devices.get(d)?))
    }

    /// A point with its device, zone and site.
    pub fn point(&self, id: &PointId) -> Option<(&Site, &Zone, &Device, &Point)> {
        let (site, zone, device) = self.device(id.device())?;
        let point = device.points.iter().find(|point| point.id == *id)?;
        Some((site, zone, device, point))
    }
}
