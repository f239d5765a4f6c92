//! THE LOOP, step 1 for a message that tells of several devices: its parts, each to its own device. The message itself is
//! acknowledged once, like any other.

use super::Pipeline;
use super::route::Shared;
use crate::journal::{Stray, StrayKind};
use crate::model::{DeviceId, Frame, Timestamp};
use crate::profile::Profile;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// A part that no planned device claimed: the profile that named it, and what came.
type Unclaimed = BTreeMap<String, (Arc<Profile>, Vec<u8>)>;

impl Pipeline {
    /// Reads a message by every profile that takes it for several devices: models may be mixed in one message, and what one
    /// profile does not know another may.
    pub(super) fn several(
        &mut self,
        frame: &Frame,
        topic: &str,
        payload: &[u8],
        shared: &[Shared],
        judged_at: Timestamp,
    ) {
        let (mut claimed, mut unclaimed) = (HashSet::new(), Unclaimed::new());
        let (mut nameless, mut refused) = (None, None);
        for one in shared {
            let read = one.profile.parts(payload, &mut |part| {
                let Some(address) = &part.address else {
                    nameless.get_or_insert_with(|| (part.place, part.sample.to_vec()));
                    return;
                };
                let address = one.address(address);
                let Some(binding) = self.router.part(&frame.link, one, &address) else {
                    let sample = || (one.profile.clone(), part.sample.to_vec());
                    unclaimed.entry(address).or_insert_with(sample);
                    return;
                };
                let decoded = one.profile.decode_part(one.topic, part, judged_at);
                self.decoded(frame, &binding, (&part_of(topic, &address), part.sample), decoded);
                claimed.insert(address);
            });
            if let Err(reason) = read {
                refused.get_or_insert(reason);
            }
        }
        for (address, (profile, sample)) in unclaimed {
            if !claimed.contains(&address) {
                let reason = Stray::not_planned(profile.id.as_str(), &address);
                self.unknown(frame, &part_of(topic, &address), &sample, reason);
            }
        }
        if let Some((place, sample)) = nameless {
            let reason = format!("第 {} 项没有可读的地址 / item {} has no address", place + 1, place + 1);
            self.unreadable(frame, &part_of(topic, ""), &sample, None, reason);
        }
        if let Some(reason) = refused {
            self.unreadable(frame, topic, payload, None, reason);
        }
    }

    pub(super) fn unreadable(
        &mut self,
        frame: &Frame,
        topic: &str,
        payload: &[u8],
        device: Option<DeviceId>,
        reason: String,
    ) {
        self.metrics.frames_unreadable.inc();
        self.stray(StrayKind::Unreadable, frame, topic, payload, device, reason);
    }
}

/// What a part is kept under. No topic that somebody publishes on has a `#` in it.
fn part_of(topic: &str, address: &str) -> String {
    format!("{topic}#{address}")
}
