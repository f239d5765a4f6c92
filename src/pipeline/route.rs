//! THE LOOP, step 1: which planned device a frame belongs to.

use crate::model::{DeviceId, LinkId, PointId};
use crate::profile::Profile;
use std::collections::HashMap;
use std::sync::Arc;

/// One planned device as the pipeline needs it: how it is found, how it is read, and what its points are called.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The device.
    pub device: DeviceId,
    /// The link it is reached by.
    pub link: LinkId,
    /// What stands for `{address}` in its profile's topics; empty for Modbus.
    pub address: String,
    /// Reads its frames.
    pub profile: Arc<Profile>,
    /// Its points, in the order of the profile's.
    pub points: Vec<PointId>,
}

/// Topics remembered beside the planned ones, so that placeholders other than the address are matched only once.
/// 16 384 × about 100 bytes is 1.6 MB; past it a topic is matched again each time, which is slower and no worse.
const TOPICS_REMEMBERED_MAX: usize = 16_384;

/// Finds the device of a frame.
#[derive(Debug, Default)]
pub struct Router {
    bindings: Vec<Arc<Binding>>,
    by_device: HashMap<DeviceId, usize>,
    by_address: HashMap<(LinkId, Arc<str>, usize), HashMap<String, usize>>,
    patterns: Vec<Pattern>,
    remembered: HashMap<LinkId, HashMap<Arc<str>, (usize, usize)>>,
    /// The devices that are reached through Sparkplug B: a few edge nodes with a few dozen devices each.
    sparkplug: HashMap<LinkId, Vec<Arc<Binding>>>,
}

#[derive(Debug)]
struct Pattern {
    link: LinkId,
    profile: Arc<Profile>,
    topic: usize,
}

/// What a topic leads to.
#[derive(Debug)]
pub enum Route {
    /// A planned device, and which of its profile's topics this is.
    Known(Arc<Binding>, usize),
    /// The topic has the form of this profile, but nobody planned this address.
    NotPlanned {
        /// The profile whose topic it looks like.
        profile: String,
        /// The address in it.
        address: String,
    },
    /// No profile in the plan has such a topic.
    Foreign,
}

impl Router {
    /// Builds the tables from the plan's devices.
    pub fn new(bindings: Vec<Binding>) -> Self {
        let mut router = Self::default();
        for binding in bindings {
            let slot = router.bindings.len();
            router.by_device.insert(binding.device.clone(), slot);
            for topic in 0..binding.profile.topics().len() {
                let key = (binding.link.clone(), Arc::from(binding.profile.id.as_str()), topic);
                let addresses = router.by_address.entry(key).or_insert_with(|| {
                    router.patterns.push(Pattern {
                        link: binding.link.clone(),
                        profile: binding.profile.clone(),
                        topic,
                    });
                    HashMap::new()
                });
                addresses.insert(binding.address.clone(), slot);
            }
            let binding = Arc::new(binding);
            if binding.profile.is_sparkplug() {
                router.sparkplug.entry(binding.link.clone()).or_default().push(binding.clone());
            }
            router.bindings.push(binding);
        }
        router
    }

    /// The binding of a device that its source already knows by name.
    pub fn device(&self, device: &DeviceId) -> Option<Arc<Binding>> {
        self.by_device.get(device).and_then(|&slot| self.bindings.get(slot)).cloned()
    }

    /// The Sparkplug devices of one edge node, `group/edge node`, and the node itself where it is planned.
    pub(super) fn sparkplug_below(&self, link: &LinkId, node: &str) -> Vec<Arc<Binding>> {
        let below = |address: &str| {
            address.strip_prefix(node).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let of_link = self.sparkplug.get(link).into_iter().flatten();
        of_link.filter(|binding| below(&binding.address)).cloned().collect()
    }

    /// A profile in use on this link that speaks Sparkplug; `None`: there is none.
    pub(super) fn sparkplug_profile(&self, link: &LinkId) -> Option<String> {
        Some(self.sparkplug.get(link)?.first()?.profile.id.to_string())
    }

    /// The device that publishes on this topic of this link.
    pub fn topic(&mut self, link: &LinkId, topic: &Arc<str>) -> Route {
        if let Some(&(slot, kind)) = self.remembered.get(link).and_then(|topics| topics.get(topic))
            && let Some(binding) = self.bindings.get(slot)
        {
            return Route::Known(binding.clone(), kind);
        }
        let mut not_planned = Route::Foreign;
        for pattern in self.patterns.iter().filter(|pattern| pattern.link == *link) {
            let Some(address) =
                pattern.profile.topics().get(pattern.topic).and_then(|form| form.matches(topic))
            else {
                continue;
            };
            let key = (link.clone(), Arc::from(pattern.profile.id.as_str()), pattern.topic);
            let slot = self.by_address.get(&key).and_then(|addresses| addresses.get(address)).copied();
            let Some((slot, binding)) = slot.and_then(|slot| Some((slot, self.bindings.get(slot)?.clone())))
            else {
                not_planned = Route::NotPlanned {
                    profile: pattern.profile.id.to_string(),
                    address: address.to_owned(),
                };
                continue;
            };
            let topics = self.remembered.entry(link.clone()).or_default();
            if topics.len() < TOPICS_REMEMBERED_MAX {
                topics.insert(topic.clone(), (slot, pattern.topic));
            }
            return Route::Known(binding, pattern.topic);
        }
        not_planned
    }
}
