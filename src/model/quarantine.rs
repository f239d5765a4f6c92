//! NOUNS: a frame that could not be read, or not wholly, as it is kept until its profile or its plan is mended.

use super::{Body, DeviceId, LinkId, Timestamp};
use std::borrow::Cow;
use std::sync::Arc;

/// One such frame, whole (隔离报文).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its number in quarantine; 0 before it is there.
    pub id: i64,
    /// The planned device that it came from; `None`: a sender that nobody planned, or a message that names no device.
    pub device: Option<DeviceId>,
    /// A profile of the plan should have read it; else nobody planned its sender.
    pub planned: bool,
    /// The link it came by.
    pub link: LinkId,
    /// What came, byte by byte.
    pub body: Body,
    /// When: the time that its readings have, or will have.
    pub at: Timestamp,
    /// Kept by the broker and sent at connect: it describes the past.
    pub retained: bool,
    /// Why it is here, for a person.
    pub reason: Arc<str>,
    /// The names of the points that were read from it already, with spaces between: they are not read twice.
    pub had: Arc<str>,
}

impl Quarantined {
    /// The link, and the topic or the device: what a person knows it by.
    pub fn key(&self) -> String {
        match &self.body {
            Body::Message { topic, .. } | Body::Presence { topic, .. } => {
                format!("{} {}", self.link, one_row(topic))
            }
            Body::Registers { device, .. } => format!("{} {device}", self.link),
        }
    }

    /// By what its number is bounded: the device, or the topic of a sender that nobody planned.
    pub fn sender(&self) -> String {
        self.device.as_ref().map_or_else(|| self.key(), ToString::to_string)
    }

    /// Whether this point was read from it already.
    pub fn had(&self, point: &str) -> bool {
        self.had.split(' ').any(|name| name == point)
    }
}

/// A device of Sparkplug B has a topic for its births and another for its data: one row for it, under the topic of births.
fn one_row(topic: &str) -> Cow<'_, str> {
    let Some(below) = topic.strip_prefix("spBv1.0/") else { return topic.into() };
    let mut levels = below.splitn(3, '/');
    match (levels.next(), levels.next(), levels.next()) {
        (Some(group), Some("NDATA"), Some(node)) => format!("spBv1.0/{group}/NBIRTH/{node}").into(),
        (Some(group), Some("DDATA"), Some(device)) => format!("spBv1.0/{group}/DBIRTH/{device}").into(),
        _ => topic.into(),
    }
}

/// Which frames of the quarantine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those of this planned device.
    pub device: Option<DeviceId>,
    /// Those of this link and topic, or link and device: see [`Quarantined::key`].
    pub key: Option<Arc<str>>,
}

/// What came of decoding frames again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodedAgain {
    /// Frames that could now be read and have left the quarantine.
    pub decoded: usize,
    /// Frames that stay, each with the reason of today.
    pub kept: usize,
    /// Readings that went into the history.
    pub readings: usize,
}

impl std::ops::AddAssign for DecodedAgain {
    fn add_assign(&mut self, more: Self) {
        self.decoded += more.decoded;
        self.kept += more.kept;
        self.readings += more.readings;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_and_data_of_a_sparkplug_device_are_one_row() {
        for (topic, row) in [
            ("spBv1.0/g/DDATA/e/d", "spBv1.0/g/DBIRTH/e/d"),
            ("spBv1.0/g/DBIRTH/e/d", "spBv1.0/g/DBIRTH/e/d"),
            ("spBv1.0/g/NDATA/e", "spBv1.0/g/NBIRTH/e"),
            ("spBv1.0/g/NDATA", "spBv1.0/g/NDATA"),
            ("spBv1.0/", "spBv1.0/"),
            ("a/g/DDATA/e/d", "a/g/DDATA/e/d"),
        ] {
            assert_eq!(one_row(topic), row);
        }
    }
}
