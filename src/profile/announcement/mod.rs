//! FRAMES → READINGS, beside the flow: a device announces itself the way Home Assistant is told of it, and a profile for
//! it is drafted.
//!
//! Topic and JSON in, text out; pure, as the rest of `profile`. A draft is never used by itself: a person reads it,
//! mends it and puts it into the profiles. What cannot be translated is said, so that nothing is missed in silence.

mod draft;
mod read;

pub use draft::Proposal;
pub use read::{AnnouncedDevice, Announcement, Entity};

/// The most entities of one device that are looked at. The richest Zigbee2MQTT device has about 60.
pub const ENTITIES_MAX: usize = 128;

/// The longest text that is taken from an announcement, in characters: names, units, topics.
const TEXT_CHARS_MAX: usize = 200;

/// A stranger's text on one line: what is no printable character becomes a space, and what is too long is cut.
fn one_line(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
