//! THE LOOP, step 1: what a frame says: its device, its readings, and what of it could not be read. Pure but for the
//! router's memory, and shared by the loop, by decoding again and by a replay.

use super::route::{Binding, Route, Router};
use crate::journal::Stray;
use crate::model::{Body, Flaw, LinkId, Reading, Timestamp};
use crate::profile::{Decoded, Sample};
use std::sync::Arc;

/// What became of a frame.
pub(super) enum Said {
    /// A planned device's.
    Known(Arc<Binding>, Decoded),
    /// Nobody planned its sender; why that is thought, for a person.
    Stranger(String),
    /// Registers of a device that is no longer planned.
    Gone,
}

/// Reads a frame. A device's own time is judged by `judged_at`.
pub(super) fn read(router: &mut Router, link: &LinkId, body: &Body, judged_at: Timestamp) -> Said {
    match body {
        Body::Message { topic, payload } => match router.topic(link, topic) {
            Route::Known(binding, kind) => {
                let decoded = binding.profile.decode_message(kind, payload, judged_at);
                Said::Known(binding, decoded)
            }
            Route::NotPlanned { profile, address } => Said::Stranger(Stray::not_planned(&profile, &address)),
            Route::Foreign => Said::Stranger(
                "计划里没有任何设备使用这个主题 / no device of the plan uses this topic".to_owned(),
            ),
        },
        Body::Registers { device, blocks } => match router.device(device) {
            Some(binding) => {
                let decoded = binding.profile.decode_registers(blocks, judged_at);
                Said::Known(binding, decoded)
            }
            None => Said::Gone,
        },
    }
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

/// Whether a better profile could make more of this sample than was made: an impossible value may be a wrong scale.
pub(super) fn could_be_mended(sample: &Sample) -> bool {
    matches!(sample.flaw, Some(Flaw::Unreadable | Flaw::OffScaleHigh | Flaw::OffScaleLow))
}

/// Why a frame goes into quarantine; `None`: it was read. A register that was not answered is a bad reading, shown as such,
/// and there is nothing of it to keep: a mute unit fills no quarantine.
pub(super) fn refusal(body: &Body, decoded: &Decoded) -> Option<String> {
    let refused = match body {
        Body::Message { .. } => !decoded.understood || !decoded.problems.is_empty(),
        Body::Registers { blocks, .. } => {
            blocks.iter().any(|block| block.words.is_ok())
                && (!decoded.understood || decoded.samples.iter().any(could_be_mended))
        }
    };
    refused.then(|| decoded.problems.join("；"))
}

/// The names of the points that were read from a frame, with spaces between.
pub(super) fn had(binding: &Binding, decoded: &Decoded) -> Arc<str> {
    let read = decoded.samples.iter().filter(|sample| !could_be_mended(sample));
    let names: Vec<&str> = read.filter_map(|sample| Some(binding.points.get(sample.point)?.name())).collect();
    names.join(" ").into()
}
