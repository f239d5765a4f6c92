//! THE LOOP, Sparkplug B: what the births of the planned edge nodes said, kept for their data messages. Pure.
//!
//! A data message may name its metrics by aliases that only an earlier birth explains, and need not say how a value is
//! written. That table is state, and the only state between a wire and its decoder; it stands here, outside the decoder,
//! bounded, and survives nothing: after a start of the gateway the edge nodes are asked for their births again. What
//! comes before they answer, or under an alias that no birth explained, is read as far as it names itself; the rest is
//! kept in quarantine.

use crate::model::{LinkId, Span, Timestamp};
use crate::profile::sparkplug::{DataType, Metric, NamedMetric, Payload, SparkplugKind, SparkplugTopic};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Metrics remembered of all edge nodes together. A large node has 2000; at about 150 bytes each this is 10 MB. What
/// comes after is not remembered and counts as unknown.
const METRICS_MAX: usize = 65_536;

/// An edge node is asked for its births at most this often: one small message a minute to a node that never answers.
pub(super) const ASK_AGAIN_AFTER: Span = Span::from_secs(60);

/// What the planned edge nodes said of themselves.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Nodes {
    nodes: HashMap<(LinkId, String), Node>,
    /// How many metrics all of them have.
    metrics: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// Nothing is known before the first birth, and nothing holds after a death.
    born: bool,
    /// The number of its last message, 0 to 255.
    seq: Option<u64>,
    /// Which of its connections the last birth spoke of.
    birth_death_seq: Option<u64>,
    metrics: HashMap<MetricKey, Known>,
    asked_at: Option<Timestamp>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum MetricKey {
    Alias(u64),
    /// Of a device, or of the node itself, by its name.
    Name(Option<Box<str>>, Box<str>),
}

#[derive(Debug, Clone)]
struct Known {
    device: Option<Box<str>>,
    name: Arc<str>,
    datatype: DataType,
}

/// What one message says once the births are looked up.
#[derive(Debug, Default)]
pub(super) struct Understood<'m> {
    /// The metrics whose names are known.
    pub(super) metrics: Vec<NamedMetric<'m>>,
    /// How many have only an alias that no birth explained.
    pub(super) unknown: usize,
    /// A message of the node is missing before this one.
    pub(super) gap: bool,
    /// The node should send its births again.
    pub(super) incomplete: bool,
    /// A last will of a connection that a newer birth has replaced: nobody died.
    pub(super) outdated: bool,
}

impl Nodes {
    /// Takes a message into account and names its metrics.
    pub(super) fn take<'m>(
        &mut self,
        link: &LinkId,
        topic: &SparkplugTopic<'_>,
        payload: &'m Payload<'m>,
    ) -> Understood<'m> {
        let node = self.nodes.entry((link.clone(), topic.node())).or_default();
        let mut understood = Understood::default();
        match topic.kind {
            SparkplugKind::NodeBirth => {
                self.metrics -= node.metrics.len();
                let asked_at = node.asked_at;
                *node = Node {
                    born: true,
                    birth_death_seq: payload.birth_death_seq(),
                    asked_at,
                    ..Node::default()
                };
                node.seq = payload.seq;
            }
            SparkplugKind::NodeDeath => {
                let of = payload.birth_death_seq();
                understood.outdated = node.born && of.is_some() && of != node.birth_death_seq;
                if !understood.outdated {
                    self.metrics -= node.metrics.len();
                    *node = Node { asked_at: node.asked_at, ..Node::default() };
                }
                return understood;
            }
            SparkplugKind::NodeData
            | SparkplugKind::DeviceBirth
            | SparkplugKind::DeviceData
            | SparkplugKind::DeviceDeath => {
                understood.gap = node.born && node.misses(payload.seq);
                node.seq = payload.seq;
                understood.incomplete = understood.gap || !node.born;
            }
        }
        if topic.kind == SparkplugKind::DeviceDeath {
            return understood;
        }
        if matches!(topic.kind, SparkplugKind::NodeBirth | SparkplugKind::DeviceBirth) {
            let before = node.metrics.len();
            node.metrics.retain(|_, known| known.device.as_deref() != topic.device);
            self.metrics -= before - node.metrics.len();
            let room = METRICS_MAX.saturating_sub(self.metrics);
            let before = node.metrics.len();
            node.learn(topic.device, &payload.metrics, room);
            self.metrics += node.metrics.len() - before;
        }
        for metric in &payload.metrics {
            match node.name(topic.device, metric) {
                Some(named) => understood.metrics.push(named),
                None => understood.unknown += 1,
            }
        }
        understood.incomplete |= understood.unknown > 0;
        understood
    }

    /// Whether the node may be asked for its births now; noted as asked.
    pub(super) fn may_ask(&mut self, link: &LinkId, topic: &SparkplugTopic<'_>, now: Timestamp) -> bool {
        let Some(node) = self.nodes.get_mut(&(link.clone(), topic.node())) else { return false };
        let may = node.asked_at.is_none_or(|asked| now.since(asked).abs() >= ASK_AGAIN_AFTER);
        if may {
            node.asked_at = Some(now);
        }
        may
    }

    /// Forgets the nodes that are planned no more: births that nobody read meanwhile would leave wrong names behind.
    pub(in crate::pipeline) fn keep_only(&mut self, planned: impl Fn(&LinkId, &str) -> bool) {
        self.nodes.retain(|(link, node), _| planned(link, node));
        self.metrics = self.nodes.values().map(|node| node.metrics.len()).sum();
    }

    /// The clock was moved.
    pub(in crate::pipeline) fn shift(&mut self, by: Span) {
        for node in self.nodes.values_mut() {
            node.asked_at = node.asked_at.map(|at| at + by);
        }
    }
}

impl Node {
    /// Whether messages before this one are missing. The same number again is the same message again.
    fn misses(&self, seq: Option<u64>) -> bool {
        match (self.seq, seq) {
            (Some(last), Some(next)) => next != (last + 1) % 256 && next != last,
            // A node that does not count misses nothing that could be known.
            _ => false,
        }
    }

    fn learn(&mut self, device: Option<&str>, metrics: &[Metric<'_>], room: usize) {
        for metric in metrics.iter().take(room) {
            let (Some(name), Some(datatype)) = (metric.name, metric.datatype) else { continue };
            let key = match metric.alias {
                Some(alias) => MetricKey::Alias(alias),
                None => MetricKey::Name(device.map(Into::into), name.into()),
            };
            self.metrics.insert(key, Known { device: device.map(Into::into), name: name.into(), datatype });
        }
    }

    /// A metric by its own name, or by the name that a birth gave its alias.
    fn name<'m>(&self, device: Option<&str>, metric: &'m Metric<'m>) -> Option<NamedMetric<'m>> {
        let known = match (metric.alias, metric.name) {
            (Some(alias), _) => self.metrics.get(&MetricKey::Alias(alias)),
            (None, Some(name)) if metric.datatype.is_none() => {
                self.metrics.get(&MetricKey::Name(device.map(Into::into), name.into()))
            }
            (None, _) => None,
        };
        // An alias that a birth gave to another device is no alias of this one.
        let known = known.filter(|known| known.device.as_deref() == device);
        let named = NamedMetric::of(metric);
        match (known, named) {
            (Some(known), None) => Some(NamedMetric {
                name: Cow::Owned(known.name.to_string()),
                datatype: metric.datatype.unwrap_or(known.datatype),
                metric,
            }),
            (Some(known), Some(named)) if metric.datatype.is_none() => {
                Some(NamedMetric { datatype: known.datatype, ..named })
            }
            (_, named) => named,
        }
    }
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
