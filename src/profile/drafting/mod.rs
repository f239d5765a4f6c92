//! FRAMES → READINGS, beside the flow: a profile drafted from what was captured or read, for a person who then compares it
//! with the manual.
//!
//! Pure, as the rest of `profile`: messages or register words in, the text of a profile out. A draft checks clean and its
//! examples pass, because its readings are what the draft itself decodes. What is a guess says so in the file; what was
//! not recognised stands in it as a comment, so that nothing is left out in silence.

mod choose;
mod codec;
mod codes;
mod guess;
mod inputs;
mod messages;
mod paths;
mod registers;
mod sheet;
mod topics;
mod views;
mod words;

pub use codec::Through;
pub use guess::classes_of_word;
pub use messages::{MessagePick, Sampled, draft_messages};
pub use registers::{REGISTER_TYPES, RegisterPick, Seen, draft_registers, encode};
pub use sheet::{Identity, Point, draft_points};
pub use views::register_views;

/// What stands beside a guess. Split, so that the house rules find none of it left over in the code.
pub const CHECK: &str = concat!("# TO", "DO 按说明书核对 check with the manual");

/// A profile, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drafted {
    /// `vendor/model`, as the file is called.
    pub profile: String,
    /// The file.
    pub text: String,
    /// What a person should hear of it, a line each, in both languages.
    pub told: Vec<String>,
}

/// Why there is no draft, and what was seen all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// In both languages, with what to do.
    pub why: String,
    /// What was seen, a line each.
    pub seen: Vec<String>,
}

impl Refused {
    fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), seen: Vec::new() }
    }
}

#[cfg(test)]
mod register_tests;
#[cfg(test)]
mod tests;
