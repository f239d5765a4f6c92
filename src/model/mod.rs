//! NOUNS. What the whole gateway talks about: ids, time, quantities, readings, frames, rules, hazards, the site plan.
//!
//! First in the flow and below everything: this module uses no other module, does no I/O, reads no clock
//! and derives no serialisation. Each boundary (journal, API, config) owns its own copies of these shapes.

pub mod id;
pub mod time;
pub mod quantity;
pub mod reading;
pub mod frame;
pub mod quarantine;
pub mod rule;
pub mod hazard;
pub mod order;
mod plan;
pub mod problem;

pub use frame::{Body, Delivery, Frame, LinkChange, RegisterBlock, RegisterTable, SourceIndex, Trouble};
pub use hazard::{
    Cause, Change, Command, CommandKind, Event, Evidence, Fact, Hazard, HazardId, Outcome, Phase, Refusal,
    Signature, Transition,
};
pub use id::{ClassId, DeviceId, IdError, LinkId, PointId, ProfileId, RuleId, SiteId, ZoneId};
pub use order::{DeviceCommand, Fate, Order, RegisterWrite};
pub use plan::{Contact, Device, LINK_POINT, Plan, Point, Site, Zone};
pub use problem::Problem;
pub use quantity::Quantity;
pub use quarantine::{DecodedAgain, Quarantined, Wanted};
pub use reading::{Code, Flaw, Number, Quality, Reading, Value};
pub use rule::{Condition, Priority, Rule, SignalClass, Text};
pub use time::{Span, Timestamp};
