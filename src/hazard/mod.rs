//! READINGS → TRANSITIONS. Pure: fully deterministic, owns no clock, does no I/O, cannot fail on input.
//!
//! [`Engine`] knows every rule on every point and where each stands. It is told all that happens ([`Event`]) and
//! answers with the duty log's new lines and the rows that changed. `condition` says whether a reading meets a rule,
//! `lifecycle` what follows from that, `board` how the plan is laid out for fast look-up.
//!
//! [`Event`]: crate::model::Event

mod board;
mod condition;
mod engine;
#[cfg(test)]
mod generated;
mod lifecycle;
#[cfg(test)]
mod lifecycle_tests;
mod order;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod replan_properties;
mod record;
mod silence;

pub use condition::meets;
pub use engine::{Engine, FRESH_FOR};
pub use order::REORDER_MAX;
pub use record::BY_ITSELF;
