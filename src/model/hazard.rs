//! NOUNS: a hazard, from the first sign to the person who closes it.
//!
//! Acknowledge (seen) ≠ silence (sound off) ≠ return (the condition is over) ≠ reset (a person closes it):
//! the words of ISA-18.2 and OPC UA Part 9, and the practice of fire panels (GB 4717).

use super::{
    Condition, Flaw, LinkId, Number, PointId, Priority, RuleId, SignalClass, Span, Text, Timestamp, Value,
};
use std::fmt;
use std::sync::Arc;

/// Names one hazard for ever, here and in every duty room above. Derived, never random: the journal number of the
/// entry that raised it, the point and the rule, as `1024.sd-01.smoke.fire-smoke`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HazardId(Arc<str>);

impl HazardId {
    /// The id of the hazard that `rule` raised on `point` in journal entry `no`.
    pub fn derive(no: u64, point: &PointId, rule: &RuleId) -> Self {
        Self(format!("{no}.{}.{}.{rule}", point.device(), point.name()).into())
    }

    /// Takes an id that was written by [`HazardId::derive`]: from the journal, or from an operator's command.
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HazardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HazardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where one rule stands on one point. `due` is a deadline that is part of the state: timers are nobody's.
///
/// `Normal`, `Arming`: no hazard exists. All others: one exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The condition is not met.
    Normal,
    /// Met, but not yet for the rule's on-delay.
    Arming {
        /// When the on-delay ends.
        due: Timestamp,
    },
    /// Raised, and the condition is still met.
    Active,
    /// Raised; the condition is over, but not yet for the off-delay.
    Clearing {
        /// When the off-delay ends.
        due: Timestamp,
    },
    /// The condition is over; the hazard stands until a person acknowledged (and, if it latches, reset) it.
    Returned,
    /// Returned, and the condition is met again but not yet for the on-delay.
    Rearming {
        /// When the on-delay ends.
        due: Timestamp,
    },
}

impl Phase {
    /// The name without the deadline, for files and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Arming { .. } => "arming",
            Self::Active => "active",
            Self::Clearing { .. } => "clearing",
            Self::Returned => "returned",
            Self::Rearming { .. } => "rearming",
        }
    }

    /// The deadline, if this phase has one.
    pub fn due(self) -> Option<Timestamp> {
        match self {
            Self::Arming { due } | Self::Clearing { due } | Self::Rearming { due } => Some(due),
            Self::Normal | Self::Active | Self::Returned => None,
        }
    }
}

/// Who did something, when, and what he wrote.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    /// The account's name.
    pub by: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// The operator's own words; may be empty.
    pub note: Arc<str>,
}

/// What a hazard was raised on: enough to say why, years later, whatever became of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The value that raised it; [`Value::Absent`] for silence, a code for one that a platform reported.
    pub value: Value,
    /// What was wrong with the reading, if anything.
    pub flaw: Option<Flaw>,
    /// The unit of the value.
    pub unit: Arc<str>,
    /// What the point is called.
    pub point_name: Text,
    /// The state in words, when the value is a code.
    pub state_name: Option<Text>,
    /// The rule's condition, with its limit.
    pub condition: Condition,
    /// How long it had to last.
    pub on_delay: Span,
    /// The standard, or that it is this product's own default.
    pub basis: Arc<str>,
}

impl Evidence {
    /// Why, in Chinese, in one line: `剩余电流 342 mA ≥ 300 mA 持续 10 s，GB 50116-2013 9.2.3`.
    pub fn zh(&self) -> String {
        let name = &self.point_name.zh;
        let mut text = match (&self.condition, &self.value) {
            (Condition::Silent { .. }, Value::Code(_)) => format!("{name}：平台报告设备离线"),
            (Condition::Silent { after }, _) => format!("{name}：超过 {after} 未收到任何数据"),
            (Condition::Unusable, _) => {
                format!("{name} 读数不可用：{}", self.flaw.map_or("质量差", Flaw::zh))
            }
            (Condition::OneOf(_), value) => {
                let state =
                    self.state_name.as_ref().map_or_else(|| value.to_string(), |state| state.zh.to_string());
                format!("{name}：{state}")
            }
            (Condition::Is(flag), _) => format!("{name}：{}", if *flag { "是" } else { "否" }),
            (Condition::AtLeast { .. } | Condition::Below { .. }, value) => {
                format!("{name} {} {}", self.quantity_text(value), self.condition.limit_text(&self.unit))
            }
        };
        if self.on_delay > Span::ZERO && !matches!(self.condition, Condition::Silent { .. }) {
            text.push_str(&format!(" 持续 {}", self.on_delay));
        }
        if matches!(self.flaw, Some(Flaw::OffScaleHigh | Flaw::OffScaleLow))
            && self.condition != Condition::Unusable
        {
            text.push_str("（超量程）");
        }
        text.push('，');
        text.push_str(&self.basis);
        text
    }

    /// The same in English.
    pub fn en(&self) -> String {
        let name = &self.point_name.en;
        let mut text = match (&self.condition, &self.value) {
            (Condition::Silent { .. }, Value::Code(_)) => {
                format!("{name}: its platform reports the device offline")
            }
            (Condition::Silent { after }, _) => format!("{name}: nothing heard for more than {after}"),
            (Condition::Unusable, _) => {
                format!("{name} unusable: {}", self.flaw.map_or("bad quality", Flaw::name))
            }
            (Condition::OneOf(_), value) => {
                let state =
                    self.state_name.as_ref().map_or_else(|| value.to_string(), |state| state.en.to_string());
                format!("{name}: {state}")
            }
            (Condition::Is(flag), _) => format!("{name}: {}", if *flag { "yes" } else { "no" }),
            (Condition::AtLeast { .. } | Condition::Below { .. }, value) => {
                format!("{name} {} {}", self.quantity_text(value), self.condition.limit_text(&self.unit))
            }
        };
        if self.on_delay > Span::ZERO && !matches!(self.condition, Condition::Silent { .. }) {
            text.push_str(&format!(" for {}", self.on_delay));
        }
        if matches!(self.flaw, Some(Flaw::OffScaleHigh | Flaw::OffScaleLow))
            && self.condition != Condition::Unusable
        {
            text.push_str(" (off scale)");
        }
        text.push_str(", ");
        text.push_str(&self.basis);
        text
    }

    fn quantity_text(&self, value: &Value) -> String {
        if self.unit.is_empty() { value.to_string() } else { format!("{value} {}", self.unit) }
    }
}

/// One instance of a condition that needs a person, from raise to reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hazard {
    /// Its name for ever.
    pub id: HazardId,
    /// Where.
    pub point: PointId,
    /// By which rule.
    pub rule: RuleId,
    /// Which lamp.
    pub signal: SignalClass,
    /// How urgent.
    pub priority: Priority,
    /// Whether only a person's reset closes it.
    pub latching: bool,
    /// What it is called.
    pub title: Text,
    /// Why it was raised (the first time).
    pub evidence: Evidence,
    /// When it was raised first.
    pub raised_at: Timestamp,
    /// The device's own time of the value that raised it.
    pub sampled_at: Option<Timestamp>,
    /// Raised by a report about the past. 迟报.
    pub late: bool,
    /// How often it was raised: 1, and one more for each time it came back before it was closed.
    pub occurrences: u32,
    /// When it was raised last.
    pub last_raised_at: Timestamp,
    /// When the condition ended; `None` while it is met.
    pub returned_at: Option<Timestamp>,
    /// Who has seen it. Cleared when it is raised again.
    pub acknowledged: Option<Signature>,
    /// Who silenced its sound. Cleared when it is raised again.
    pub silenced: Option<Signature>,
    /// Who closed it, or that it closed by itself (acknowledged, returned, not latching).
    pub closed: Option<Signature>,
}

/// One row of the engine's memory: where a rule stands on a point. The same row is kept in the journal, shown on
/// the screen and given back to the engine at start. A row that is `Normal` without a hazard may be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Which point.
    pub point: PointId,
    /// Which rule.
    pub rule: RuleId,
    /// Where it stands.
    pub phase: Phase,
    /// The hazard, in every phase but `Normal` and `Arming`.
    pub hazard: Option<Hazard>,
}

/// What happened to a hazard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It came into being.
    Raised,
    /// The condition was met again before the hazard was closed; it must be acknowledged again.
    RaisedAgain,
    /// The condition is over.
    Returned,
    /// A person has seen it.
    Acknowledged,
    /// A person turned its sound off. Nothing else changed.
    Silenced,
    /// A person closed it.
    Reset,
    /// It closed by itself: acknowledged and returned, and its rule does not latch.
    Ended,
}

impl Change {
    /// All changes.
    pub const ALL: [Self; 7] = [
        Self::Raised,
        Self::RaisedAgain,
        Self::Returned,
        Self::Acknowledged,
        Self::Silenced,
        Self::Reset,
        Self::Ended,
    ];

    /// The name in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::RaisedAgain => "raised_again",
            Self::Returned => "returned",
            Self::Acknowledged => "acknowledged",
            Self::Silenced => "silenced",
            Self::Reset => "reset",
            Self::Ended => "ended",
        }
    }

    /// What the duty log says.
    pub fn zh(self) -> &'static str {
        match self {
            Self::Raised => "发生",
            Self::RaisedAgain => "再次发生",
            Self::Returned => "恢复",
            Self::Acknowledged => "确认",
            Self::Silenced => "消音",
            Self::Reset => "复位",
            Self::Ended => "结束",
        }
    }
}

/// Why a hazard changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A reading of this value.
    Reading {
        /// The value.
        value: Value,
        /// What was wrong with it.
        flaw: Option<Flaw>,
    },
    /// A delay ran out.
    Deadline,
    /// Nothing was heard since then; `None`: never.
    Silence {
        /// When the device was last heard.
        last_heard: Option<Timestamp>,
    },
    /// A person.
    Operator(Signature),
    /// The plan no longer has the point or the rule.
    Plan,
}

/// One line of the duty log: a hazard changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The hazard as it is after the change.
    pub hazard: Hazard,
    /// What happened.
    pub change: Change,
    /// The phase after it.
    pub phase: Phase,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// On which hazard.
    pub hazard: HazardId,
    /// What to do.
    pub kind: CommandKind,
    /// Who asks; the time is the moment the engine handles it.
    pub by: Arc<str>,
    /// His words; required to reset a hazard whose condition cannot be known to be over.
    pub note: Arc<str>,
}

/// The verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandKind {
    /// 确认: I have seen it.
    Acknowledge,
    /// 消音: sound off; a new hazard sounds again.
    Silence,
    /// 复位: the hazard is closed.
    Reset,
}

impl CommandKind {
    /// All verbs.
    pub const ALL: [Self; 3] = [Self::Acknowledge, Self::Silence, Self::Reset];

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Silence => "silence",
            Self::Reset => "reset",
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No open hazard has this id.
    NoSuchHazard,
    /// It was already acknowledged; the first signature stands.
    AlreadyAcknowledged,
    /// Its sound was already off.
    AlreadySilenced,
    /// The condition is still met by fresh, usable data: closing it would hide it.
    StillActive,
    /// It must be acknowledged before it is reset.
    NotAcknowledged,
    /// The sensor is silent or unusable, so nobody can know: a reset needs a note that says who looked.
    NoteRequired,
}

impl Refusal {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSuchHazard => "no_such_hazard",
            Self::AlreadyAcknowledged => "already_acknowledged",
            Self::AlreadySilenced => "already_silenced",
            Self::StillActive => "still_active",
            Self::NotAcknowledged => "not_acknowledged",
            Self::NoteRequired => "note_required",
        }
    }

    /// What the duty officer reads.
    pub fn zh(self) -> &'static str {
        match self {
            Self::NoSuchHazard => "没有这条未关闭的报警，可能已被他人复位",
            Self::AlreadyAcknowledged => "已有人确认",
            Self::AlreadySilenced => "已消音",
            Self::StillActive => "报警条件仍然存在，不能复位",
            Self::NotAcknowledged => "请先确认，再复位",
            Self::NoteRequired => "传感器无数据，无法判断现场情况：请写明何人已到现场核实后再复位",
        }
    }

    /// The same in English.
    pub fn en(self) -> &'static str {
        match self {
            Self::NoSuchHazard => "no open hazard has this id; somebody may have reset it",
            Self::AlreadyAcknowledged => "already acknowledged",
            Self::AlreadySilenced => "already silenced",
            Self::StillActive => "the condition is still met; it cannot be reset",
            Self::NotAcknowledged => "acknowledge it before you reset it",
            Self::NoteRequired => "the sensor is silent: say who looked at the place before you reset it",
        }
    }
}

/// All that the engine can be told. Closed: everything that can happen is on one screen.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A value came.
    Reading(super::Reading),
    /// An operator asks for something.
    Command(Command),
    /// A link came up or went down.
    Link {
        /// Which.
        link: LinkId,
        /// Whether it now works.
        up: bool,
    },
    /// A platform that a device speaks through says whether it hears it.
    Presence {
        /// Which device.
        device: super::DeviceId,
        /// Whether the platform hears it.
        online: bool,
    },
    /// The wall clock moved by this much; everything that was said before was said in the old time.
    ClockStepped {
        /// New minus old.
        by: Span,
    },
    /// A new plan is in force.
    Plan(Arc<super::Plan>),
    /// Time has passed; nothing else happened.
    Tick,
}

/// What came of an event. The caller keeps one and hands it in again, so the hot path allocates nothing.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The duty log's new lines, in order.
    pub transitions: Vec<Transition>,
    /// The rows that changed, each once, as they are now; a row that became `Normal` is among them.
    pub facts: Vec<Fact>,
    /// The answer to a command: at most one an event.
    pub refusal: Option<Refusal>,
}

impl Outcome {
    /// Empties it for the next event.
    pub fn clear(&mut self) {
        self.transitions.clear();
        self.facts.clear();
        self.refusal = None;
    }
}

impl Condition {
    /// The figure the value is compared with, if there is one: what a chart draws as a line.
    pub fn limit(&self) -> Option<Number> {
        match self {
            Self::AtLeast { limit, .. } | Self::Below { limit, .. } => Some(*limit),
            Self::OneOf(_) | Self::Is(_) | Self::Silent { .. } | Self::Unusable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceId;

    fn evidence() -> Evidence {
        Evidence {
            value: Value::Number(Number::new(342.0).unwrap()),
            flaw: None,
            unit: "mA".into(),
            point_name: Text::new("剩余电流", "residual current"),
            state_name: None,
            condition: Condition::AtLeast { limit: Number::new(300.0).unwrap(), deadband: Number::ZERO },
            on_delay: Span::from_secs(10),
            basis: "GB 50116-2013 9.2.3".into(),
        }
    }

    #[test]
    fn a_hazard_says_why_in_one_line() {
        assert_eq!(evidence().zh(), "剩余电流 342 mA ≥ 300 mA 持续 10 s，GB 50116-2013 9.2.3");
        assert_eq!(evidence().en(), "residual current 342 mA ≥ 300 mA for 10 s, GB 50116-2013 9.2.3");
        let burning = Evidence { flaw: Some(Flaw::OffScaleHigh), on_delay: Span::ZERO, ..evidence() };
        assert_eq!(burning.zh(), "剩余电流 342 mA ≥ 300 mA（超量程），GB 50116-2013 9.2.3");
    }

    #[test]
    fn a_hazard_id_is_derived_from_what_raised_it() {
        let point = PointId::new(&DeviceId::parse("sd-01").unwrap(), "smoke").unwrap();
        let rule = RuleId::parse("fire-smoke").unwrap();
        assert_eq!(HazardId::derive(1024, &point, &rule).as_str(), "1024.sd-01.smoke.fire-smoke");
    }
}
