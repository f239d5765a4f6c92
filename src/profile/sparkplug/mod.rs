//! FRAMES → READINGS, Sparkplug B 3.0 (Eclipse specification): its topics, its payload, and the command that asks for a
//! new birth.
//!
//! Pure, as the rest of `profile`. What a decoder cannot know, the names behind the aliases of an earlier birth message,
//! is kept by the pipeline and handed in; nothing here remembers anything.

mod payload;
mod protobuf;
mod topic;

pub use payload::{DataType, Metric, Payload};
pub use topic::{SparkplugKind, SparkplugTopic, TOPIC_FILTERS};

use super::decode::{Decoded, PAYLOAD_BYTES_MAX, TopicPlan};
use super::named::NamedValue;
use super::schema::Profile;
use crate::model::Timestamp;
use std::borrow::Cow;

/// The metric by which a host application asks an edge node for its births, and its data type.
const REBIRTH: &str = "Node Control/Rebirth";

/// A metric under the name that its birth gave it.
#[derive(Debug, Clone)]
pub struct NamedMetric<'m> {
    /// Its name.
    pub name: Cow<'m, str>,
    /// How its value is written: a data message may leave that to the birth.
    pub datatype: DataType,
    /// Its value and its time.
    pub metric: &'m Metric<'m>,
}

impl<'m> NamedMetric<'m> {
    /// A metric that says itself what it is called; `None` for one that has an alias only.
    pub fn of(metric: &'m Metric<'m>) -> Option<Self> {
        let name = metric.name?;
        Some(Self {
            name: Cow::Borrowed(name),
            datatype: metric.datatype.unwrap_or(DataType::Unknown),
            metric,
        })
    }
}

impl Profile {
    /// What the metrics of one Sparkplug message say. `sent_at` is the time of the whole message, in milliseconds, for
    /// metrics without one of their own. A message without any metric of this model is understood all the same: an
    /// edge node reports what has changed, and that may be something nobody asked about.
    pub fn decode_metrics(
        &self,
        metrics: &[NamedMetric<'_>],
        sent_at: Option<u64>,
        received_at: Timestamp,
    ) -> Decoded {
        let mut values = Vec::with_capacity(metrics.len());
        for named in metrics {
            payload::flatten(named, sent_at, received_at, &mut values);
        }
        let Some(TopicPlan::Sparkplug(names)) = self.topic_plans.first() else {
            return Decoded::refused("该型号不使用 Sparkplug".to_owned());
        };
        let mut decoded = self.decode_named(names, values);
        if !decoded.understood {
            decoded = Decoded { understood: true, ..Decoded::nothing(0) };
        }
        decoded
    }

    /// A message that stands for itself, as in a profile's examples: no birth is known.
    pub(super) fn decode_sparkplug(&self, bytes: &[u8], received_at: Timestamp) -> Decoded {
        let payload = match Payload::decode(bytes) {
            Ok(payload) => payload,
            Err(problem) => return Decoded::refused(problem),
        };
        let named: Vec<NamedMetric<'_>> = payload.metrics.iter().filter_map(NamedMetric::of).collect();
        let mut decoded = self.decode_metrics(&named, payload.timestamp, received_at);
        let nameless = payload.metrics.len() - named.len();
        if nameless > 0 {
            decoded.understood = !named.is_empty();
            decoded.problems.push(unknown_aliases(nameless));
        }
        decoded
    }
}

/// What is said of metrics whose birth was not seen.
pub fn unknown_aliases(count: usize) -> String {
    format!("Sparkplug：{count} 个指标只有别名，网关没有收到它们的出生报文")
}

/// The payload of an NCMD that asks an edge node to send its births again.
pub fn rebirth_command(now: Timestamp) -> Vec<u8> {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    let mut metric = Vec::new();
    protobuf::put_bytes(&mut metric, 1, REBIRTH.as_bytes());
    protobuf::put_varint(&mut metric, 3, millis);
    protobuf::put_varint(&mut metric, 4, DataType::Boolean as u64);
    protobuf::put_varint(&mut metric, 14, 1);
    let mut payload = Vec::new();
    protobuf::put_varint(&mut payload, 1, millis);
    protobuf::put_bytes(&mut payload, 2, &metric);
    payload
}

/// Too large for anybody to look into; the limit of every message.
fn too_large(bytes: &[u8]) -> Option<String> {
    (bytes.len() > PAYLOAD_BYTES_MAX)
        .then(|| format!("消息过长：{} 字节，上限 {PAYLOAD_BYTES_MAX}", bytes.len()))
}

#[cfg(test)]
mod tests;
