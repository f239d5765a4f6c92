//! FRAMES → READINGS, beside the flow: what drafts of profiles are written with: paths, slugs, strings of TOML.

use crate::model::DeviceId;
use std::fmt::Write;

/// One step of a path into JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Key(String),
    Item(usize),
    /// Of an array, the element whose number of that name is the largest.
    Max(&'static str),
}

/// A path as a profile writes it.
pub(super) fn written(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Max(by) => write!(text, "[max {by}]").expect("writing to a string cannot fail"),
            Step::Item(item) => write!(text, "[{item}]").expect("writing to a string cannot fail"),
            Step::Key(key) if key.contains(['.', '[', ']', '"', ' ']) => {
                write!(text, "[\"{key}\"]").expect("writing to a string cannot fail");
            }
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
        }
    }
    text
}

/// A slug of the letters and digits of a text.
pub(super) fn slug(text: &str, otherwise: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => slug.push(c.to_ascii_lowercase()),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.truncate(40);
    let slug = slug.trim_end_matches('-');
    if DeviceId::parse(slug).is_ok() { slug.to_owned() } else { otherwise.to_owned() }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                write!(quoted, "\\U{:08X}", u32::from(c)).expect("writing to a string cannot fail")
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
