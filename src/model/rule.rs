//! NOUNS: when a point's value calls for a person. Rules speak of points, never of registers.

use super::{Code, Number, RuleId, Span};
use std::fmt;
use std::sync::Arc;

/// A text in the two languages of the product.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text {
    /// Chinese: what the screen shows first.
    pub zh: Arc<str>,
    /// English.
    pub en: Arc<str>,
}

impl Text {
    /// Both languages.
    pub fn new(zh: &str, en: &str) -> Self {
        Self { zh: zh.into(), en: en.into() }
    }
}

/// What kind of signal it is: the axis of the lamp strip. The order is the order of the lamps (GB 4717 practice).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignalClass {
    /// 火警.
    Fire,
    /// 启动: equipment was started.
    Activation,
    /// 反馈: equipment says it moved.
    Feedback,
    /// 监管: supervised condition, such as low water pressure or an electrical-fire limit.
    Supervisory,
    /// 故障.
    Fault,
    /// 屏蔽: disabled by a person.
    Disabled,
    /// 离线: nothing heard.
    Offline,
    /// 测试.
    Test,
}

impl SignalClass {
    /// All classes, in lamp order.
    pub const ALL: [Self; 8] = [
        Self::Fire,
        Self::Activation,
        Self::Feedback,
        Self::Supervisory,
        Self::Fault,
        Self::Disabled,
        Self::Offline,
        Self::Test,
    ];

    /// The name in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fire => "fire",
            Self::Activation => "activation",
            Self::Feedback => "feedback",
            Self::Supervisory => "supervisory",
            Self::Fault => "fault",
            Self::Disabled => "disabled",
            Self::Offline => "offline",
            Self::Test => "test",
        }
    }

    /// The lamp's label.
    pub fn zh(self) -> &'static str {
        match self {
            Self::Fire => "火警",
            Self::Activation => "启动",
            Self::Feedback => "反馈",
            Self::Supervisory => "监管",
            Self::Fault => "故障",
            Self::Disabled => "屏蔽",
            Self::Offline => "离线",
            Self::Test => "测试",
        }
    }

    /// The class of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// How urgent: four colours, red first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// 红: life.
    Red,
    /// 橙.
    Orange,
    /// 黄.
    Yellow,
    /// 蓝.
    Blue,
}

impl Priority {
    /// All, most urgent first.
    pub const ALL: [Self; 4] = [Self::Red, Self::Orange, Self::Yellow, Self::Blue];

    /// The name in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Yellow => "yellow",
            Self::Blue => "blue",
        }
    }

    /// The Chinese name.
    pub fn zh(self) -> &'static str {
        match self {
            Self::Red => "红",
            Self::Orange => "橙",
            Self::Yellow => "黄",
            Self::Blue => "蓝",
        }
    }

    /// The priority of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.name() == name)
    }
}

/// What must be true of a point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// `value ≥ limit`; over again when `value < limit − deadband`.
    AtLeast {
        /// In the canonical unit.
        limit: Number,
        /// Not negative.
        deadband: Number,
    },
    /// `value < limit`; over again when `value ≥ limit + deadband`.
    Below {
        /// In the canonical unit.
        limit: Number,
        /// Not negative.
        deadband: Number,
    },
    /// The state is one of these.
    OneOf(Vec<Code>),
    /// The flag has this value.
    Is(bool),
    /// Nothing was heard of the point's device for this long.
    Silent {
        /// The longest silence that is normal.
        after: Span,
    },
    /// The reading is of bad quality: off its scale, broken, refused. Sensors that are declared absent do not count.
    Unusable,
}

/// One alarm rule on one point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique within the point.
    pub id: RuleId,
    /// What must be true.
    pub condition: Condition,
    /// Which lamp.
    pub signal: SignalClass,
    /// How urgent.
    pub priority: Priority,
    /// How long it must be true before the hazard is raised.
    pub on_delay: Span,
    /// How long it must be false before the hazard has returned to normal.
    pub off_delay: Span,
    /// Whether it stands until a person resets it. Always true for fire.
    pub latching: bool,
    /// What it is called.
    pub title: Text,
    /// The standard and clause the figure comes from, or that it is this product's own default.
    pub basis: Arc<str>,
}

impl Condition {
    /// The comparison as a person writes it: `≥ 300 mA`. Empty for conditions without a figure.
    pub fn limit_text(&self, unit: &str) -> String {
        let with_unit = |sign: &str, limit: &Number| {
            if unit.is_empty() { format!("{sign} {limit}") } else { format!("{sign} {limit} {unit}") }
        };
        match self {
            Self::AtLeast { limit, .. } => with_unit("≥", limit),
            Self::Below { limit, .. } => with_unit("<", limit),
            Self::Silent { after } => format!("> {after}"),
            Self::OneOf(_) | Self::Is(_) | Self::Unusable => String::new(),
        }
    }
}

impl fmt::Display for SignalClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
