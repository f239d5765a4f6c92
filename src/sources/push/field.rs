//! WIRE → FRAMES, HTTP: a field of what was posted, and what may be a level of a topic.

use super::Unreadable;
use serde_json::Value;

/// The longest topic made of a post. Real ones have below 100 bytes; what is kept of strangers is kept by topic.
pub(super) const TOPIC_BYTES_MAX: usize = 256;

/// The text or number at `deviceInfo.devEui`.
pub(super) fn text_at(value: &Value, path: &str) -> Option<String> {
    let found = path.split('.').try_fold(value, |value, key| value.get(key))?;
    match found {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The same, fit to be one level of a topic.
pub(super) fn level_at(value: &Value, path: &str) -> Result<String, Unreadable> {
    let text = text_at(value, path).ok_or_else(|| {
        Unreadable::new(
            &format!("内容里没有地址字段 {path}"),
            &format!("the body has no field {path}, which should hold the device's address"),
        )
    })?;
    level(&text)
}

/// A text as one level of a topic.
pub(super) fn level(text: &str) -> Result<String, Unreadable> {
    let strange = |c: char| c.is_control() || matches!(c, '/' | '+' | '#');
    if text.is_empty() || text.len() > TOPIC_BYTES_MAX || text.contains(strange) {
        return Err(Unreadable::new(
            &format!("{text:?} 不能作为主题的一级"),
            &format!("{text:?} cannot be one level of a topic"),
        ));
    }
    Ok(text.to_owned())
}

/// What is no JSON.
pub(super) fn parse<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(text)
        .map_err(|error| Unreadable::new(&format!("内容不是要求的 JSON：{error}"), &error.to_string()))
}
