//! FRAMES → READINGS, Sparkplug B: its topics, `spBv1.0/group/KIND/edge node[/device]`.

use std::fmt;

/// The namespace of Sparkplug B, the same in version 2.2 and 3.0 of the specification.
const NAMESPACE: &str = "spBv1.0";

/// What a host application has to subscribe: births, data and deaths. Not the commands, which are for the edge nodes,
/// nor STATE, which is for them as well.
pub const TOPIC_FILTERS: [&str; 6] = [
    "spBv1.0/+/NBIRTH/+",
    "spBv1.0/+/NDATA/+",
    "spBv1.0/+/NDEATH/+",
    "spBv1.0/+/DBIRTH/+/+",
    "spBv1.0/+/DDATA/+/+",
    "spBv1.0/+/DDEATH/+/+",
];

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SparkplugKind {
    /// An edge node came: all its metrics, with their aliases.
    NodeBirth,
    /// Metrics of an edge node that changed.
    NodeData,
    /// The broker says that an edge node is gone: its last will.
    NodeDeath,
    /// A device of an edge node came.
    DeviceBirth,
    /// Metrics of a device that changed.
    DeviceData,
    /// The edge node says that it lost a device.
    DeviceDeath,
}

/// A topic of births, data or deaths, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparkplugTopic<'t> {
    /// The group.
    pub group: &'t str,
    /// What the message is about.
    pub kind: SparkplugKind,
    /// The edge node.
    pub edge: &'t str,
    /// The device; `None`: the edge node itself.
    pub device: Option<&'t str>,
}

impl<'t> SparkplugTopic<'t> {
    /// Takes a topic apart; `None` for every other one, also commands and STATE.
    pub fn parse(topic: &'t str) -> Option<Self> {
        let mut levels = topic.strip_prefix(NAMESPACE)?.strip_prefix('/')?.split('/');
        let (group, kind, edge) = (levels.next()?, levels.next()?, levels.next()?);
        let device = levels.next();
        let kind = match (kind, device.is_some()) {
            ("NBIRTH", false) => SparkplugKind::NodeBirth,
            ("NDATA", false) => SparkplugKind::NodeData,
            ("NDEATH", false) => SparkplugKind::NodeDeath,
            ("DBIRTH", true) => SparkplugKind::DeviceBirth,
            ("DDATA", true) => SparkplugKind::DeviceData,
            ("DDEATH", true) => SparkplugKind::DeviceDeath,
            _ => return None,
        };
        let whole = levels.next().is_none()
            && !group.is_empty()
            && !edge.is_empty()
            && device.is_none_or(|device| !device.is_empty());
        whole.then_some(Self { group, kind, edge, device })
    }

    /// What a plan calls it: `group/edge` or `group/edge/device`.
    pub fn address(&self) -> String {
        match self.device {
            Some(device) => format!("{}/{}/{device}", self.group, self.edge),
            None => self.node(),
        }
    }

    /// What a plan calls its edge node: `group/edge`.
    pub fn node(&self) -> String {
        format!("{}/{}", self.group, self.edge)
    }

    /// Where commands for its edge node are published.
    pub fn command_topic(&self) -> String {
        format!("{NAMESPACE}/{}/NCMD/{}", self.group, self.edge)
    }
}

impl SparkplugKind {
    /// The level of the topic.
    pub fn name(self) -> &'static str {
        match self {
            Self::NodeBirth => "NBIRTH",
            Self::NodeData => "NDATA",
            Self::NodeDeath => "NDEATH",
            Self::DeviceBirth => "DBIRTH",
            Self::DeviceData => "DDATA",
            Self::DeviceDeath => "DDEATH",
        }
    }
}

impl fmt::Display for SparkplugTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAMESPACE}/{}/{}/{}", self.group, self.kind.name(), self.edge)?;
        self.device.map_or(Ok(()), |device| write!(f, "/{device}"))
    }
}
