//! FRAMES → READINGS: device profiles, text files that say what a model's messages and registers mean.
//!
//! Second in the flow, between `sources` and `hazard`. Pure: strings and bytes in, values out; no I/O, no clock,
//! no state. A decoder cannot fail: what it could not read is a sample of bad quality and a sentence for a person.
//! Nothing here knows a threshold; the vocabulary carries the default rules of each point class, and the plan
//! decides which of them watch a point.

pub mod announcement;
mod availability;
mod bytes;
mod catalogue;
mod command;
mod current_loop;
mod decode;
mod device_time;
mod draft;
pub mod drafting;
mod each;
mod example;
pub mod explain;
mod frame;
mod hazard_example;
mod json;
mod json_schema;
mod listing;
mod meaning;
mod message;
mod named;
mod poll;
mod registers;
mod schema;
mod schema_bytes;
mod schema_mqtt;
mod schema_point;
mod schema_register;
mod script;
mod shape_error;
mod shape_read;
mod senml;
mod shape_mqtt;
mod shape_point;
pub mod sparkplug;
mod timed;
mod topic;
mod variant;
mod vocabulary;
mod writing;

pub use self::bytes::hex;
pub use catalogue::{Catalogue, profile_id};
pub use command::Command;
pub use decode::{Decoded, PAYLOAD_BYTES_MAX, Sample};
pub use device_time::parse_iso8601;
pub use draft::suggest;
pub use each::{EACH_MAX, Part};
pub use example::{Example, ExampleFailure, ExampleInput};
pub use hazard_example::{HazardExample, HazardExamples, Step, Told};
pub use json_schema::profile_schema;
pub use listing::{END, MARKERS, catalogue_table, class_table, with_tables};
pub use poll::{BITS_PER_READ_MAX, BlockRead, REGISTERS_PER_READ_MAX, URGENT_EVERY_MAX};
pub use registers::{WordOrder, WordType};
pub use schema::{Profile, ProfileLink, ProfilePoint};
pub use script::Beside;
pub use topic::TopicPattern;
pub use vocabulary::{HazardCategory, PointClass, Vocabulary};
