//! FRAMES → READINGS, availability: what a bridge or a last will says about whether a device is there. It is no word of the
//! device's own: it may raise the loss of a link, and is no sign of life.

use super::decode::Decoded;
use super::json::{self, Paths, find_repaired};
use super::meaning::{Key, Raw};
use std::borrow::Cow;

/// The messages of one topic: JSON, or the plain words.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Availability {
    /// The one path at which JSON has the word.
    pub(super) paths: Paths,
    pub(super) online: Vec<Key>,
    pub(super) offline: Vec<Key>,
}

impl Availability {
    pub(super) fn decode(&self, payload: &[u8]) -> Decoded {
        let Ok(message) = std::str::from_utf8(payload) else {
            return Decoded::refused("不是 UTF-8 文本".to_owned());
        };
        let text = message.trim();
        if text.is_empty() {
            // A retained message that somebody cleared: nothing is said any more.
            return Decoded { understood: true, ..Decoded::nothing(0) };
        }
        if !text.starts_with('{') {
            return self.judge(&plain(text));
        }
        match find_repaired(&self.paths, text, &mut |_, found| {
            found.first().copied().flatten().map(|value| self.judge(&json::raw(value)))
        }) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => Decoded::refused("消息中没有在线状态".to_owned()),
            Err(problem) => Decoded::refused(problem),
        }
    }

    fn judge(&self, raw: &Raw<'_>) -> Decoded {
        let is = |keys: &[Key]| keys.iter().any(|key| key.matches(raw));
        let link = match (is(&self.online), is(&self.offline)) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => return Decoded::refused(format!("未知的在线状态 {raw}")),
        };
        Decoded { link, understood: true, ..Decoded::nothing(0) }
    }
}

/// A payload that is one word.
pub(super) fn plain(text: &str) -> Raw<'_> {
    match text {
        "true" => Raw::Flag(true),
        "false" => Raw::Flag(false),
        _ => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Raw::Number(number),
            _ => Raw::Text(Cow::Borrowed(text)),
        },
    }
}
