//! THE LOOP, between step 1 and 2: what a frame says goes to the rules, and what of it could not be read is kept, whole.

use super::Pipeline;
use super::read::{self, Said, What};
use crate::capture::blocks_to_text;
use crate::journal::{SAMPLE_BYTES_MAX, Stray, StrayKind};
use crate::model::{Body, DeviceId, Frame, Quarantined, Timestamp};
use std::sync::Arc;

impl Pipeline {
    pub(super) fn said(&mut self, frame: &Frame, said: Said) {
        let Said { part, what } = said;
        let body = part.as_ref().unwrap_or(&frame.body);
        match what {
            What::Known(binding, decoded) => {
                let received_at = self.heard_at(&binding.device, frame.received_at);
                for sample in &decoded.samples {
                    let reading = read::reading(&binding, sample, received_at, frame.retained);
                    let Some(reading) = reading else { continue };
                    // Once more at every connection: no reading, no sign of life, no sample in a store.
                    if frame.retained && self.engine.knows(&reading) {
                        self.metrics.retained_known.inc();
                        continue;
                    }
                    self.reading(reading);
                }
                let online = decoded.link;
                let link = online.and_then(|online| read::link_reading(&binding.device, online, received_at));
                if let Some(reading) = link {
                    self.reading(reading);
                }
                if let Some(reason) = read::refusal(body, &decoded) {
                    self.metrics.frames_unreadable.inc();
                    let had = read::had(&binding, &decoded);
                    let device = Some(binding.device.clone());
                    self.keep(Quarantined {
                        device,
                        had,
                        at: received_at,
                        ..kept(frame, body, true, reason)
                    });
                } else if read::says_nothing(&decoded) {
                    self.metrics.frames_passed_over.inc();
                }
            }
            What::Stranger(reason) => {
                self.metrics.frames_unknown.inc();
                self.keep(kept(frame, body, false, reason));
            }
            What::Unreadable(reason) => {
                self.metrics.frames_unreadable.inc();
                self.keep(kept(frame, body, true, reason));
            }
            What::Announced { key, reason } => {
                self.metrics.frames_unknown.inc();
                let sent = stray(&kept(frame, body, false, reason));
                self.stray(Stray { key: key.into(), ..sent });
            }
            What::PassedOver => _ = self.metrics.frames_passed_over.inc(),
            What::Gone => {}
        }
    }

    fn heard_at(&mut self, device: &DeviceId, received_at: Timestamp) -> Timestamp {
        self.heard.receive(device, received_at).unwrap_or_else(|shared| {
            self.metrics.frames_sharing_a_millisecond.inc();
            shared
        })
    }

    /// Keeps a frame that could not be read, whole, and who sent it.
    fn keep(&mut self, frame: Quarantined) {
        self.stray(stray(&frame));
        self.metrics.quarantine_dropped.inc_by(self.batch.keep(frame));
    }

    fn stray(&mut self, stray: Stray) {
        if !self.batch.take_stray(stray) {
            self.metrics.strays_dropped.inc();
        }
    }
}

/// Who sent it, and its beginning.
fn stray(frame: &Quarantined) -> Stray {
    let sample = match &frame.body {
        Body::Message { payload, .. } | Body::Presence { payload, .. } => {
            payload.get(..SAMPLE_BYTES_MAX).unwrap_or(payload).to_vec()
        }
        Body::Registers { blocks, .. } => {
            let mut text = blocks_to_text(blocks).into_bytes();
            text.truncate(SAMPLE_BYTES_MAX);
            text
        }
    };
    Stray {
        kind: if frame.planned { StrayKind::Unreadable } else { StrayKind::Unknown },
        key: frame.key().into(),
        device: frame.device.clone(),
        reason: frame.reason.clone(),
        sample,
        first_at: frame.at,
        last_at: frame.at,
        count: 1,
    }
}

/// A frame, or a part of it, as it is kept. `planned`: a profile of the plan should have read it.
pub(super) fn kept(frame: &Frame, body: &Body, planned: bool, reason: String) -> Quarantined {
    Quarantined {
        id: 0,
        device: None,
        planned,
        link: frame.link.clone(),
        body: as_message(body),
        at: frame.received_at,
        retained: frame.retained,
        reason: reason.into(),
        had: Arc::from(""),
    }
}

/// A platform's word is kept as the message that it came in.
fn as_message(body: &Body) -> Body {
    match body {
        Body::Presence { topic, payload, .. } => {
            Body::Message { topic: topic.clone(), payload: payload.clone() }
        }
        other => other.clone(),
    }
}
