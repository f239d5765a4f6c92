//! THE LOOP, step 1: what a frame says: its devices, their readings, and what of it could not be read. Pure but for the
//! router's memory, and shared by the loop, by decoding again and by a replay.
//!
//! Most frames are of one device. A message that tells of several is read in parts, each for its own device, by every
//! profile that takes it for such a one: models may be mixed in one message, and what one profile does not know another may.

use super::announcements::{self, Announcements};
use super::route::{Binding, Route, Router, Shared};
use super::sparkplug::{self, Nodes, Noticed};
use crate::journal::Stray;
use crate::model::{Body, DeviceId, Flaw, LINK_POINT, LinkId, PointId, Quality, Reading, Timestamp, Value};
use crate::profile::{Decoded, Part, Profile, Sample};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Stands between a message's topic and the address of one of its parts in what a part is kept under. No topic that
/// somebody publishes on has a `#` in it.
const PART: char = '#';

/// What reading remembers from frame to frame, bounded and in memory alone, and what it noticed beside what was said.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) nodes: Nodes,
    pub(super) announcements: Announcements,
    pub(super) noticed: Noticed,
}

/// One thing that a frame says.
pub(super) struct Said {
    /// The part of the frame that says it; `None`: the whole.
    pub(super) part: Option<Body>,
    /// What.
    pub(super) what: What,
}

/// What became of a frame, or of a part of it.
pub(super) enum What {
    /// A planned device's.
    Known(Arc<Binding>, Decoded),
    /// Nobody planned its sender; why that is thought, for a person.
    Stranger(String),
    /// A profile of the plan should have read it, and no device can be named; why not, for a person.
    Unreadable(String),
    /// A device that nobody planned announces itself: the row of 待接入 that it stands in, and a draft for a person.
    /// Nothing is read of it and nothing is lost with it.
    Announced { key: String, reason: String },
    /// A profile of the plan says that nothing is to be read there.
    PassedOver,
    /// Registers of a device that is no longer planned.
    Gone,
}

impl From<What> for Said {
    fn from(what: What) -> Self {
        Self { part: None, what }
    }
}

/// Reads a frame. A device's own time is judged by `judged_at`. `kept`: it does not come from its sender now, but from a
/// broker or from the quarantine, which have kept it.
pub(super) fn read(
    router: &mut Router,
    memory: &mut Memory,
    link: &LinkId,
    body: &Body,
    kept: bool,
    judged_at: Timestamp,
) -> Vec<Said> {
    match body {
        Body::Message { topic, payload } => match topic.split_once(PART) {
            Some((topic, address)) => vec![part(router, link, topic, address, payload, judged_at).into()],
            None => {
                let of_node = sparkplug::read(router, memory, link, topic, payload, kept, judged_at);
                of_node.unwrap_or_else(|| message(router, memory, link, topic, payload, judged_at))
            }
        },
        Body::Presence { address, online, .. } => vec![
            match router.at(link, address) {
                Some(binding) => What::Known(binding, Decoded::presence(*online)),
                None => What::Stranger(
                    "平台报告了一台计划里没有的设备 / a platform reported a device that is not in the plan"
                        .to_owned(),
                ),
            }
            .into(),
        ],
        Body::Registers { device, blocks } => vec![
            match router.device(device) {
                Some(binding) => {
                    let decoded = binding.profile.decode_registers(blocks, judged_at);
                    What::Known(binding, decoded)
                }
                None => What::Gone,
            }
            .into(),
        ],
    }
}

fn message(
    router: &mut Router,
    memory: &mut Memory,
    link: &LinkId,
    topic: &Arc<str>,
    payload: &Bytes,
    judged_at: Timestamp,
) -> Vec<Said> {
    let shared = router.shared(link, topic);
    let own = match router.topic(link, topic) {
        Route::Known(binding, kind) => {
            let decoded = binding.profile.decode_message(kind, payload, judged_at);
            Some(What::Known(binding, decoded))
        }
        // What it says of others is looked at below.
        Route::NotPlanned { .. } | Route::Ignored | Route::Foreign if !shared.is_empty() => None,
        Route::NotPlanned { profile, address } => {
            Some(What::Stranger(Stray::not_planned(&profile, &address)))
        }
        Route::Ignored => Some(What::PassedOver),
        Route::Foreign => {
            let announced = announcements::read(router, &mut memory.announcements, link, topic, payload);
            Some(announced.unwrap_or_else(foreign))
        }
    };
    let mut said: Vec<Said> = own.map(Said::from).into_iter().collect();
    if !shared.is_empty() {
        several(router, link, topic, payload, &shared, judged_at, &mut said);
    }
    said
}

fn foreign() -> What {
    What::Stranger("计划里没有任何设备使用这个主题 / no device of the plan uses this topic".to_owned())
}

/// A part that no planned device claimed: the profile that named it, and what came.
type Unclaimed = BTreeMap<String, (Arc<Profile>, Bytes)>;

fn several(
    router: &Router,
    link: &LinkId,
    topic: &str,
    payload: &Bytes,
    shared: &[Shared],
    judged_at: Timestamp,
    said: &mut Vec<Said>,
) {
    let (mut claimed, mut unclaimed) = (HashSet::new(), Unclaimed::new());
    let (mut nameless, mut refused) = (None, None);
    for one in shared {
        let read = one.profile.parts(payload, &mut |part| {
            let sample = || Bytes::copy_from_slice(part.sample);
            let Some(address) = &part.address else {
                nameless.get_or_insert_with(|| (part.place, sample()));
                return;
            };
            let address = one.address(address);
            let Some(binding) = router.part(link, one, &address) else {
                unclaimed.entry(address).or_insert_with(|| (one.profile.clone(), sample()));
                return;
            };
            let decoded = one.profile.decode_part(one.topic, part, judged_at);
            let part = Some(kept_as(topic, &address, sample()));
            said.push(Said { part, what: What::Known(binding, decoded) });
            claimed.insert(address);
        });
        if let Err(reason) = read {
            refused.get_or_insert(reason);
        }
    }
    for (address, (profile, sample)) in unclaimed {
        if !claimed.contains(&address) {
            let what = What::Stranger(Stray::not_planned(profile.id.as_str(), &address));
            said.push(Said { part: Some(kept_as(topic, &address, sample)), what });
        }
    }
    if let Some((place, sample)) = nameless {
        said.push(Said { part: Some(kept_as(topic, "", sample)), what: What::Unreadable(no_address(place)) });
    }
    if let Some(reason) = refused {
        said.push(What::Unreadable(reason).into());
    }
}

/// A part as a message of its own.
fn kept_as(topic: &str, address: &str, sample: Bytes) -> Body {
    Body::Message { topic: format!("{topic}{PART}{address}").into(), payload: sample }
}

fn no_address(place: usize) -> String {
    format!("第 {} 项没有可读的地址 / item {} has no address", place + 1, place + 1)
}

/// A part that was kept. The time that held for the whole message is not kept with it: it has the time of its arrival.
fn part(
    router: &Router,
    link: &LinkId,
    topic: &str,
    address: &str,
    sample: &Bytes,
    judged_at: Timestamp,
) -> What {
    if address.is_empty() {
        return What::Unreadable(no_address(0));
    }
    let mut nobodys = foreign();
    for one in router.shared(link, topic) {
        if let Some(binding) = router.part(link, &one, address) {
            let decoded = one.profile.decode_part(one.topic, &Part::alone(sample), judged_at);
            return What::Known(binding, decoded);
        }
        nobodys = What::Stranger(Stray::not_planned(one.profile.id.as_str(), address));
    }
    nobodys
}

/// Whose frame it is, as far as it is one device's.
pub(super) fn device(said: &[Said]) -> Option<&DeviceId> {
    said.iter().find_map(|said| match &said.what {
        What::Known(binding, _) => Some(&binding.device),
        _ => None,
    })
}

/// A sample as a reading of its point.
pub(super) fn reading(
    binding: &Binding,
    sample: &Sample,
    received_at: Timestamp,
    late: bool,
) -> Option<Reading> {
    Some(Reading {
        point: binding.points.get(sample.point)?.clone(),
        value: sample.value.clone(),
        quality: sample.quality,
        flaw: sample.flaw,
        sampled_at: sample.sampled_at,
        received_at,
        late: sample.late || late,
    })
}

/// What a bridge, a platform or a last will says of a device. The newest word holds, also one that the broker kept for us: it
/// is a state, not a report about the past.
pub(super) fn link_reading(device: &DeviceId, online: bool, received_at: Timestamp) -> Option<Reading> {
    let state = if online { "online" } else { "offline" };
    Some(Reading {
        point: PointId::new(device, LINK_POINT).ok()?,
        value: Value::Code(state.into()),
        quality: Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at,
        late: false,
    })
}

/// Whether a better profile could make more of this sample than was made: an impossible value may be a wrong scale.
pub(super) fn could_be_mended(sample: &Sample) -> bool {
    matches!(sample.flaw, Some(Flaw::Unreadable | Flaw::OffScaleHigh | Flaw::OffScaleLow))
}

/// Why a frame goes into quarantine; `None`: it was read. A register that was not answered is a bad reading, shown as such,
/// and there is nothing of it to keep: a mute unit fills no quarantine.
pub(super) fn refusal(body: &Body, decoded: &Decoded) -> Option<String> {
    let refused = match body {
        Body::Message { .. } | Body::Presence { .. } => !decoded.understood || !decoded.problems.is_empty(),
        Body::Registers { blocks, .. } => {
            blocks.iter().any(|block| block.words.is_ok())
                && (!decoded.understood || decoded.samples.iter().any(could_be_mended))
        }
    };
    refused.then(|| decoded.problems.join("；"))
}

/// Whether it was understood and says nothing.
pub(super) fn says_nothing(decoded: &Decoded) -> bool {
    let silent = decoded.samples.is_empty() && decoded.link.is_none();
    silent && decoded.understood && decoded.problems.is_empty()
}

/// The names of the points that were read from a frame, with spaces between.
pub(super) fn had(binding: &Binding, decoded: &Decoded) -> Arc<str> {
    let read = decoded.samples.iter().filter(|sample| !could_be_mended(sample));
    let names: Vec<&str> = read.filter_map(|sample| Some(binding.points.get(sample.point)?.name())).collect();
    names.join(" ").into()
}
