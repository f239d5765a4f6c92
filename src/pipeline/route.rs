//! THE LOOP, step 1: which planned device a frame belongs to.

use crate::model::{DeviceId, LinkId, PointId};
use crate::profile::{Profile, TopicPattern};
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
    /// Patterns of messages that tell of several devices.
    shared: Vec<Pattern>,
    ignored: Vec<Ignored>,
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

/// Topics on which a profile says that nothing is to be read.
#[derive(Debug)]
struct Ignored {
    link: LinkId,
    profile: Arc<Profile>,
    topic: TopicPattern,
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
    /// A profile of the plan says that nothing is to be read there.
    Ignored,
    /// No profile in the plan has such a topic.
    Foreign,
}

/// A message that tells of several devices, as one profile reads it.
#[derive(Debug)]
pub struct Shared {
    /// The profile.
    pub profile: Arc<Profile>,
    /// Which of its topics this is.
    pub topic: usize,
    /// The address in the topic, of who passes the message on; empty where the topic has none.
    pub through: String,
}

impl Shared {
    /// What stands as `address` in the plan for a part of the message: `gw-1:12`, or the part's own address alone.
    pub fn address(&self, part: &str) -> String {
        match self.through.as_str() {
            "" => part.to_owned(),
            through => format!("{through}:{part}"),
        }
    }
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
                    let patterns =
                        if binding.profile.is_shared() { &mut router.shared } else { &mut router.patterns };
                    patterns.push(Pattern {
                        link: binding.link.clone(),
                        profile: binding.profile.clone(),
                        topic,
                    });
                    HashMap::new()
                });
                addresses.insert(binding.address.clone(), slot);
            }
            for topic in binding.profile.ignored_topics() {
                let known = |known: &Ignored| {
                    known.link == binding.link
                        && known.profile.id == binding.profile.id
                        && known.topic == *topic
                };
                if !router.ignored.iter().any(known) {
                    router.ignored.push(Ignored {
                        link: binding.link.clone(),
                        profile: binding.profile.clone(),
                        topic: topic.clone(),
                    });
                }
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

    /// The device that has this address on this link. Two with one address and different topics: the first of the plan.
    pub fn at(&self, link: &LinkId, address: &str) -> Option<Arc<Binding>> {
        self.bindings.iter().find(|binding| binding.link == *link && binding.address == address).cloned()
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
            let Some((slot, binding)) = self.planned(link, &pattern.profile, pattern.topic, address) else {
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
        if self.ignored.iter().any(|ignored| ignored.link == *link && self.ignores(ignored, topic)) {
            return Route::Ignored;
        }
        not_planned
    }

    /// A pattern with an address speaks of planned devices only: it must not hide one that nobody planned.
    fn ignores(&self, ignored: &Ignored, topic: &str) -> bool {
        match ignored.topic.matches(topic) {
            None => false,
            Some("") => true,
            Some(address) => self.planned(&ignored.link, &ignored.profile, 0, address).is_some(),
        }
    }

    /// The profiles to which a message on this topic tells of several devices.
    pub fn shared(&self, link: &LinkId, topic: &str) -> Vec<Shared> {
        let here = self.shared.iter().filter(|pattern| pattern.link == *link);
        here.filter_map(|pattern| {
            let through = pattern.profile.topics().get(pattern.topic)?.matches(topic)?.to_owned();
            Some(Shared { profile: pattern.profile.clone(), topic: pattern.topic, through })
        })
        .collect()
    }

    /// The planned device of a part of such a message.
    pub fn part(&self, link: &LinkId, shared: &Shared, address: &str) -> Option<Arc<Binding>> {
        self.planned(link, &shared.profile, shared.topic, address).map(|(_, binding)| binding)
    }

    fn planned(
        &self,
        link: &LinkId,
        profile: &Profile,
        topic: usize,
        address: &str,
    ) -> Option<(usize, Arc<Binding>)> {
        let key = (link.clone(), Arc::from(profile.id.as_str()), topic);
        let slot = *self.by_address.get(&key)?.get(address)?;
        Some((slot, self.bindings.get(slot)?.clone()))
    }
}
