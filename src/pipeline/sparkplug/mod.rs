//! THE LOOP, Sparkplug B: births, data and deaths of edge nodes and their devices, on their way to the decoder.
//!
//! A death is the loss of a link, never the end of an alarm. Only edge nodes with a planned device are remembered and
//! asked for anything: others on the same broker are somebody else's.

mod nodes;

pub(super) use nodes::Nodes;

use super::{Binding, Pipeline};
use crate::journal::{Stray, StrayKind};
use crate::model::{Frame, Timestamp, Value};
use crate::profile::sparkplug::{
    NamedMetric, Payload, SparkplugKind, SparkplugTopic, rebirth_command, unknown_aliases,
};
use crate::sources::Ask;

impl Pipeline {
    /// Takes a message whose topic is Sparkplug's. False: no profile in use on this link speaks Sparkplug.
    pub(super) fn sparkplug(
        &mut self,
        frame: &Frame,
        topic: &str,
        bytes: &[u8],
        judged_at: Timestamp,
    ) -> bool {
        let Some(topic) = SparkplugTopic::parse(topic) else { return false };
        let Some(profile) = self.router.sparkplug_profile(&frame.link) else { return false };
        let below = self.router.sparkplug_below(&frame.link, &topic.node());
        let binding = below.iter().find(|binding| binding.address == topic.address()).cloned();
        let death = matches!(topic.kind, SparkplugKind::NodeDeath | SparkplugKind::DeviceDeath);
        if below.is_empty() {
            if !death {
                self.not_planned(frame, &topic, bytes, &profile);
            }
            return true;
        }
        let payload = match Payload::decode(bytes) {
            Ok(payload) => payload,
            Err(problem) => {
                self.metrics.frames_unreadable.inc();
                let device = binding.or_else(|| below.first().cloned()).map(|binding| binding.device.clone());
                self.stray(StrayKind::Unreadable, frame, &topic.to_string(), bytes, device, problem);
                return true;
            }
        };
        let understood = if frame.retained {
            // The broker kept it: nobody knows which connection it belongs to, so only names are believed.
            let metrics: Vec<_> = payload.metrics.iter().filter_map(NamedMetric::of).collect();
            nodes::Understood {
                unknown: payload.metrics.len() - metrics.len(),
                metrics,
                ..Default::default()
            }
        } else {
            self.nodes.take(&frame.link, &topic, &payload)
        };
        self.metrics.sparkplug_gaps.inc_by(u64::from(understood.gap));
        self.metrics.sparkplug_unknown_aliases.inc_by(understood.unknown as u64);
        if understood.incomplete {
            self.ask_for_births(frame, &topic);
        }
        match topic.kind {
            SparkplugKind::NodeDeath if understood.outdated || frame.retained => {}
            SparkplugKind::NodeDeath => {
                for binding in &below {
                    self.device_link(binding, false, frame.received_at);
                }
            }
            SparkplugKind::DeviceDeath => {
                for binding in binding.iter().filter(|_| !frame.retained) {
                    self.device_link(binding, false, frame.received_at);
                }
            }
            SparkplugKind::NodeBirth | SparkplugKind::DeviceBirth => {
                for binding in binding.iter().filter(|_| !frame.retained) {
                    self.device_link(binding, true, frame.received_at);
                }
            }
            SparkplugKind::NodeData | SparkplugKind::DeviceData => {}
        }
        match binding {
            _ if death => {}
            Some(binding) => {
                let metrics = &understood.metrics;
                let mut decoded = binding.profile.decode_metrics(metrics, payload.timestamp, judged_at);
                if understood.unknown > 0 {
                    decoded.problems.push(unknown_aliases(understood.unknown));
                }
                self.decoded(frame, &binding, decoded);
            }
            None if topic.device.is_some() => self.not_planned(frame, &topic, bytes, &profile),
            // A node whose devices are planned need not be planned itself.
            None => {}
        }
        true
    }

    /// One row for a device, whatever it sends: births and data have topics of their own.
    fn not_planned(&mut self, frame: &Frame, topic: &SparkplugTopic<'_>, bytes: &[u8], profile: &str) {
        let kind = if topic.device.is_some() { SparkplugKind::DeviceBirth } else { SparkplugKind::NodeBirth };
        let key = SparkplugTopic { kind, ..*topic }.to_string();
        self.unknown(frame, &key, bytes, Stray::not_planned(profile, &topic.address()));
    }

    /// A rebirth, when this link may be asked for anything and the node was not asked a moment ago.
    fn ask_for_births(&mut self, frame: &Frame, topic: &SparkplugTopic<'_>) {
        let Some(asks) = self.asks.get(&frame.link) else { return };
        let now = self.clock.now();
        if !self.nodes.may_ask(&frame.link, topic, now) {
            return;
        }
        let ask = Ask { topic: topic.command_topic().into(), payload: rebirth_command(now).into() };
        tracing::info!(link = %frame.link, topic = &*ask.topic, "an edge node is asked for its births");
        // Nobody listens while the source is stopping; the next start asks again.
        if asks.send(ask).is_ok() {
            self.metrics.sparkplug_rebirths.inc();
        }
    }

    fn device_link(&mut self, binding: &Binding, online: bool, at: Timestamp) {
        let state = if online { "online" } else { "offline" };
        self.own_reading(&format!("{}/link", binding.device), Value::Code(state.into()), at);
    }
}
