//! BESIDE THE FLOW · a new device by somebody who writes no code: the catalogue of models, which of them an unknown sender may be,
//! and the lines in the plan file. The hot path knows nothing of it; a changed plan comes in as every change of a file does.

pub mod catalogue;
pub mod guess;
pub mod plan_file;
mod store;
#[cfg(test)]
mod tests;

pub use catalogue::{GROUPS, Group, Model, ModelPage, PointWords, Reached};
pub use guess::{Candidate, Candidates, Sender, Sent};
pub use plan_file::{NewDevice, Reach, Zone, snippet};
pub use store::{Refusal, Why, Wish};

use crate::config::{Config, Library, LinkKind, system};
use crate::model::{DeviceId, LinkId, Plan, ProfileId};
use crate::profile::Profile;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

/// What adopting needs of the running gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Adopt(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    in_force: RwLock<Arc<InForce>>,
    /// Devices whose profile changed while the gateway ran, until their frames were decoded again. A start forgets them: the
    /// button on each row stays.
    renewed: Mutex<BTreeSet<DeviceId>>,
    /// Held while the plan file is changed: one person after the other.
    writing: tokio::sync::Mutex<()>,
}

/// The configuration in force, as far as a new device is concerned.
#[derive(Debug)]
pub struct InForce {
    gateway_file: PathBuf,
    /// `None`: the configuration came from no file, and there is none to write to.
    plan_file: Option<PathBuf>,
    library: Arc<Library>,
    plan: Arc<Plan>,
    links: BTreeMap<LinkId, LinkKind>,
    profiles: Vec<(DeviceId, Arc<Profile>)>,
    /// Who is heard on topics: by link and model, and there by address.
    heard: BTreeMap<(LinkId, ProfileId), Heard>,
}

/// The devices of one model on one link, by address.
type Heard = (Arc<Profile>, BTreeMap<String, DeviceId>);

impl Adopt {
    /// Over the configuration that the gateway starts with.
    pub fn new(config: &Config) -> Self {
        Self(Arc::new(Inner {
            in_force: RwLock::new(Arc::new(InForce::of(config))),
            renewed: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }))
    }

    /// Another configuration is in force. Devices whose profile differs are remembered.
    pub fn take(&self, config: &Config) {
        let next = Arc::new(InForce::of(config));
        let before = self.now();
        let known: BTreeMap<&DeviceId, &Arc<Profile>> =
            before.profiles.iter().map(|(device, profile)| (device, profile)).collect();
        let differs =
            |device: &DeviceId, new: &Arc<Profile>| known.get(device).is_some_and(|old| *old != new);
        let renewed = next.profiles.iter().filter(|(device, new)| differs(device, new));
        self.renewed_lock().extend(renewed.map(|(device, _)| device.clone()));
        *self.0.in_force.write().expect("no holder of this lock panics") = next;
    }

    /// What is in force.
    pub fn now(&self) -> Arc<InForce> {
        self.0.in_force.read().expect("no holder of this lock panics").clone()
    }

    /// The devices whose profile changed and whose frames nobody decoded again since.
    pub fn renewed(&self) -> BTreeSet<DeviceId> {
        self.renewed_lock().clone()
    }

    /// Frames of this device were decoded again; `None`: of all.
    pub fn decoded(&self, device: Option<&DeviceId>) {
        let mut renewed = self.renewed_lock();
        match device {
            Some(device) => _ = renewed.remove(device),
            None => renewed.clear(),
        }
    }

    fn renewed_lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<DeviceId>> {
        self.0.renewed.lock().expect("no holder of this lock panics")
    }
}

/// A zone that a device can be put into.
#[derive(Debug, Clone)]
pub struct Place {
    /// The site's id and name.
    pub site: (String, String),
    /// The zone's id and name; `None`: one that is made for it.
    pub zone: Option<(String, String)>,
}

impl InForce {
    fn of(config: &Config) -> Self {
        let mut heard: BTreeMap<_, Heard> = BTreeMap::new();
        for binding in config.bindings.iter().filter(|binding| binding.unit.is_none()) {
            let of = (binding.link.clone(), binding.profile.id.clone());
            let (_, by_address) =
                heard.entry(of).or_insert_with(|| (binding.profile.clone(), BTreeMap::new()));
            by_address.insert(binding.address.clone(), binding.device.clone());
        }
        let profile = |binding: &crate::config::Binding| (binding.device.clone(), binding.profile.clone());
        Self {
            gateway_file: config.gateway.file.clone(),
            plan_file: (!config.watched.is_empty()).then(|| config.gateway.plan_file.clone()),
            library: config.library.clone(),
            plan: config.plan.clone(),
            links: config.gateway.links().map(|(link, kind)| (link.clone(), kind)).collect(),
            profiles: config.bindings.iter().map(profile).collect(),
            heard,
        }
    }

    /// Whether devices on this link are told apart by topics: only those are adopted from what they sent.
    pub fn has_topics(&self, link: &LinkId) -> bool {
        self.links.get(link).is_some_and(|kind| kind.has_topics())
    }

    /// The device of the plan that sends there.
    pub fn planned(&self, sender: &Sender) -> Option<&DeviceId> {
        let mut here = self.heard.iter().filter(|((link, _), _)| *link == sender.link);
        here.find_map(|(_, (profile, by_address))| by_address.get(&guess::listens(profile, sender)?.1))
    }

    /// What people call a device of the plan.
    pub fn name(&self, device: &DeviceId) -> String {
        self.plan
            .device(device.as_str())
            .map_or_else(|| device.to_string(), |(.., known)| known.name.to_string())
    }

    /// Every zone of the plan, and a new one of each site.
    pub fn places(&self) -> Vec<Place> {
        let name = |id: &str, name: &str| (id.to_owned(), name.to_owned());
        let mut places = Vec::new();
        for site in self.plan.sites.iter().filter(|site| site.id.as_str() != system::SITE) {
            let of = name(site.id.as_str(), &site.name);
            let zones = site.zones.iter().map(|zone| Some(name(zone.id.as_str(), &zone.name)));
            places.extend(zones.chain([None]).map(|zone| Place { site: of.clone(), zone }));
        }
        places
    }

    /// An id for a new device that is like this text and that no device of the plan has.
    pub fn free_id(&self, like: &str) -> String {
        let slug = slug(like, "device");
        free(&slug, |id| self.plan.device(id).is_some())
    }

    /// An id for a new zone of that name; Chinese names give `zone-2`.
    pub fn free_zone_id(&self, site: &str, name: &str) -> String {
        let slug = slug(name, "zone");
        let taken = |id: &str| {
            let mut sites = self.plan.sites.iter().filter(|known| known.id.as_str() == site);
            sites.any(|site| site.zones.iter().any(|zone| zone.id.as_str() == id))
        };
        free(&slug, taken)
    }

    /// Ids of the models that a message on topics can be of, for a list to choose from.
    pub fn models_on_topics(&self) -> Vec<Model> {
        let mut models = self.catalogue();
        models.retain(|model| matches!(model.reached, Reached::Mqtt(_)));
        models
    }
}

/// The longest beginning of a text that is an id: its letters and digits, others as `-`.
fn slug(text: &str, otherwise: &str) -> String {
    /// An id may have 64 bytes: this leaves room for `-999`, and for the points' names beside it on a screen.
    const CHARS_MAX: usize = 36;
    let mut slug = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => slug.push(c.to_ascii_lowercase()),
            '_' if !slug.is_empty() => slug.push('_'),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
        if slug.len() >= CHARS_MAX {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    if DeviceId::parse(slug).is_ok() { slug.to_owned() } else { otherwise.to_owned() }
}

/// The text itself, or with the first number that makes it new.
fn free(slug: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(slug) {
        return slug.to_owned();
    }
    let mut numbered = (2_u32..).map(|n| format!("{slug}-{n}"));
    numbered.find(|id| !taken(id)).unwrap_or_else(|| slug.to_owned())
}
