//! THE LOOP, Sparkplug B: births, data and deaths of edge nodes and their devices, on their way to the decoder.
//!
//! A death is the loss of a link, never the end of an alarm. Only edge nodes with a planned device are remembered and
//! asked for anything: others on the same broker are somebody else's.
//!
//! A message that was kept, by a broker or in the quarantine, is read without the births that are known now: nobody knows
//! which connection of its node it belongs to, and an alias may mean another metric since. So it gives what it names
//! itself (births name everything), and what has an alias alone stays in quarantine. It says nothing of a link either, and
//! changes nothing that is remembered. A replay knows the births that its file holds before the data.

mod nodes;

pub(super) use nodes::Nodes;

use super::read::{Memory, Said, What};
use super::{Pipeline, Router};
use crate::journal::Stray;
use crate::model::{Body, Frame, LinkId, Timestamp};
use crate::profile::Decoded;
use crate::profile::sparkplug::{
    NamedMetric, Payload, SparkplugKind, SparkplugTopic, rebirth_command, unknown_aliases,
};
use crate::sources::Ask;
use bytes::Bytes;
use nodes::Understood;

/// What an edge node's message told about the node, beside what it said. Only the loop does something about it.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    /// Messages before it are missing.
    gap: bool,
    /// Metrics under an alias that no birth explained.
    unknown: usize,
    /// The node should send its births again.
    incomplete: bool,
}

/// Reads a message whose topic is Sparkplug's; `None`: it is none, or no profile in use on this link speaks Sparkplug.
pub(super) fn read(
    router: &Router,
    memory: &mut Memory,
    link: &LinkId,
    topic: &str,
    bytes: &Bytes,
    kept: bool,
    judged_at: Timestamp,
) -> Option<Vec<Said>> {
    let topic = SparkplugTopic::parse(topic)?;
    let profile = router.sparkplug_profile(link)?;
    let below = router.sparkplug_below(link, &topic.node());
    let binding = below.iter().find(|binding| binding.address == topic.address());
    let death = matches!(topic.kind, SparkplugKind::NodeDeath | SparkplugKind::DeviceDeath);
    let birth = matches!(topic.kind, SparkplugKind::NodeBirth | SparkplugKind::DeviceBirth);
    let not_planned = || What::Stranger(Stray::not_planned(&profile, &topic.address()));
    let only = |what: What| Some(vec![what.into()]);
    let Some(first) = below.first() else {
        return only(if death { What::PassedOver } else { not_planned() });
    };
    let payload = match Payload::decode(bytes) {
        Ok(payload) => payload,
        Err(problem) => {
            return only(What::Known(binding.unwrap_or(first).clone(), Decoded::refused(problem)));
        }
    };
    let understood = if kept { by_names(&payload) } else { memory.nodes.take(link, &topic, &payload) };
    if !kept {
        let Understood { gap, unknown, incomplete, .. } = understood;
        memory.noticed = Noticed { gap, unknown, incomplete };
    }
    if death {
        // A last will of a connection that a newer birth has replaced: nobody died.
        let lost = match topic.kind {
            _ if kept || understood.outdated => &[],
            SparkplugKind::NodeDeath => &below[..],
            _ => binding.map_or(&[][..], std::slice::from_ref),
        };
        let lost = lost.iter().map(|binding| What::Known(binding.clone(), Decoded::presence(false)).into());
        let lost: Vec<Said> = lost.collect();
        return if lost.is_empty() { only(What::PassedOver) } else { Some(lost) };
    }
    let what = match binding {
        Some(binding) => {
            let mut decoded =
                binding.profile.decode_metrics(&understood.metrics, payload.timestamp, judged_at);
            if understood.unknown > 0 {
                decoded.problems.push(unknown_aliases(understood.unknown));
            }
            decoded.link = (birth && !kept).then_some(true);
            What::Known(binding.clone(), decoded)
        }
        None if topic.device.is_some() => not_planned(),
        // A node whose devices are planned need not be planned itself.
        None => What::PassedOver,
    };
    only(what)
}

/// What a message says without any birth.
fn by_names<'m>(payload: &'m Payload<'m>) -> Understood<'m> {
    let metrics: Vec<_> = payload.metrics.iter().filter_map(NamedMetric::of).collect();
    Understood { unknown: payload.metrics.len() - metrics.len(), metrics, ..Default::default() }
}

impl Pipeline {
    /// Counts what was noticed, and asks an edge node for its births when this link may be asked for anything and the node
    /// was not asked a moment ago.
    pub(super) fn node_noticed(&mut self, frame: &Frame) {
        let Noticed { gap, unknown, incomplete } = std::mem::take(&mut self.memory.noticed);
        self.metrics.sparkplug_gaps.inc_by(u64::from(gap));
        self.metrics.sparkplug_unknown_aliases.inc_by(unknown as u64);
        let Body::Message { topic, .. } = &frame.body else { return };
        if !incomplete || !self.ways.may_ask(frame.source) {
            return;
        }
        let (Some(topic), now) = (SparkplugTopic::parse(topic), self.clock.now()) else { return };
        if !self.memory.nodes.may_ask(&frame.link, &topic, now) {
            return;
        }
        let ask = Ask { topic: topic.command_topic().into(), payload: rebirth_command(now).into() };
        tracing::info!(link = %frame.link, topic = &*ask.topic, "an edge node is asked for its births");
        if self.ways.ask(frame.source, ask) {
            self.metrics.sparkplug_rebirths.inc();
        }
    }
}
