//! WIRE → FRAMES, HTTP, `format = "json"`: what is posted is the payload as it came; the topic is made of the address.
//!
//! `POST …/{link}/site/a/device/203/up`: the rest of the address is the topic. `POST …/{link}/203`: one level is the
//! device's address, put into the topic form of the link. `POST …/{link}`: the address stands in a field of the body.

use super::field::{TOPIC_BYTES_MAX, level, level_at, parse, text_at};
use super::{Heard, Unreadable};
use crate::model::LinkId;
use bytes::Bytes;
use serde_json::Value;

/// How a generic platform's posts are read.
#[derive(Debug, Clone)]
pub struct JsonForm {
    /// The topic of a message whose address alone is known.
    pub topic: TopicForm,
    /// The field that holds the device's address, when the posted address does not: `deviceInfo.devEui`.
    pub address_field: Option<String>,
    /// The field that names the message, the same when it is posted again: `deduplicationId`.
    pub message_id_field: Option<String>,
}

/// `application/{link}/device/{address}/event/{event}`: `{address}` once, `{link}` is the link's name, any other
/// `{word}` is the parameter of that name in the posted address (`?event=up`).
#[derive(Debug, Clone, PartialEq)]
pub struct TopicForm(String);

impl TopicForm {
    /// Fits the profiles of the gateway's own contract, `site/{site}/device/{address}/up`.
    pub const DEFAULT: &'static str = "site/{link}/device/{address}/up";

    /// Parses a form; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let levels = || text.split('/');
        let is_placeholder = |level: &str| level.starts_with('{') && level.ends_with('}') && level.len() > 2;
        if levels().any(|level| !is_placeholder(level) && level.contains(['{', '}', '+', '#'])) {
            return Err("a placeholder is a whole level; + and # are not used here".to_owned());
        }
        if levels().filter(|level| *level == "{address}").count() != 1 {
            return Err("{address} has to stand in it exactly once".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    fn topic(&self, link: &LinkId, address: &str, query: &[(String, String)]) -> Result<String, Unreadable> {
        let mut levels = Vec::new();
        for part in self.0.split('/') {
            let word = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            levels.push(match word {
                None => part.to_owned(),
                Some("address") => level(address)?,
                Some("link") => link.to_string(),
                Some(word) => {
                    let given = query.iter().find(|(name, _)| name == word).map(|(_, value)| value.as_str());
                    level(given.ok_or_else(|| {
                        Unreadable::new(
                            &format!("地址里缺少参数 {word}：推送地址末尾应有 ?{word}=…"),
                            &format!("the address lacks the parameter {word}: it should end in ?{word}=…"),
                        )
                    })?)?
                }
            });
        }
        Ok(levels.join("/"))
    }
}

/// What stands beside the body.
pub(super) struct Beside<'r> {
    pub(super) link: &'r LinkId,
    /// What follows the link in the address.
    pub(super) path: Option<&'r str>,
    pub(super) query: &'r [(String, String)],
    /// `Idempotency-Key`.
    pub(super) message_id: Option<&'r str>,
}

impl JsonForm {
    pub(super) fn read(&self, beside: &Beside<'_>, body: &Bytes) -> Result<Vec<Heard>, Unreadable> {
        // A device that posts plain text to its own address is heard as well: only a field that says which device it is must
        // be there.
        let is_addressed = beside.path.is_some() || self.address_field.is_none();
        let value: Value = if is_addressed { parse(body).unwrap_or_default() } else { parse(body)? };
        let topic = match (beside.path, &self.address_field) {
            (Some(path), _) if path.contains('/') => whole_topic(path)?,
            (Some(address), _) => self.topic.topic(beside.link, address, beside.query)?,
            (None, Some(field)) => self.topic.topic(beside.link, &level_at(&value, field)?, beside.query)?,
            (None, None) => {
                return Err(Unreadable::new(
                    "不知道是哪台设备：推送地址末尾加上设备地址，或在 [[push]] 写 address_field",
                    "which device? add its address to the posted address, or set address_field in [[push]]",
                ));
            }
        };
        let in_body = || text_at(&value, self.message_id_field.as_ref()?);
        let name = beside.message_id.map(str::to_owned).or_else(in_body);
        Ok(vec![Heard { topic, payload: body.clone(), name, presence: None }])
    }
}

fn whole_topic(path: &str) -> Result<String, Unreadable> {
    let strange = |c: char| c.is_control() || matches!(c, '+' | '#');
    if path.len() > TOPIC_BYTES_MAX || path.starts_with('$') || path.contains(strange) {
        return Err(Unreadable::new(
            "推送地址里的主题不能用：太长，或含有 + # $",
            "the topic in the posted address cannot be used: too long, or with + # $ in it",
        ));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &JsonForm, path: Option<&str>, query: &str, body: &str) -> Result<Heard, Unreadable> {
        let link = LinkId::parse("lora").unwrap();
        let query: Vec<(String, String)> = query
            .split_terminator('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let beside = Beside { link: &link, path, query: &query, message_id: None };
        form.read(&beside, &Bytes::copy_from_slice(body.as_bytes())).map(|mut heard| heard.remove(0))
    }

    #[test]
    fn the_topic_is_the_address_itself_or_is_made_of_one_level_or_of_a_field() {
        let plain = JsonForm {
            topic: TopicForm::parse(TopicForm::DEFAULT).unwrap(),
            address_field: None,
            message_id_field: None,
        };
        let heard = read(&plain, Some("203"), "", "{}").unwrap();
        assert_eq!((heard.topic.as_str(), heard.name), ("site/lora/device/203/up", None));
        assert_eq!(read(&plain, Some("a/b/203"), "", "no JSON").unwrap().topic, "a/b/203");
        let error = read(&plain, None, "", "{}").unwrap_err();
        assert!(error.0.en.contains("address_field"), "{error:?}");
        let chirpstack = JsonForm {
            topic: TopicForm::parse("application/{link}/device/{address}/event/{event}").unwrap(),
            address_field: Some("deviceInfo.devEui".into()),
            message_id_field: Some("deduplicationId".into()),
        };
        let body = r#"{"deduplicationId":"57433366","deviceInfo":{"devEui":"24e124136b502217"}}"#;
        let heard = read(&chirpstack, None, "event=up", body).unwrap();
        assert_eq!(heard.topic, "application/lora/device/24e124136b502217/event/up");
        assert_eq!((heard.name.as_deref(), heard.payload.as_ref()), (Some("57433366"), body.as_bytes()));
        for (query, body) in [
            ("", body),
            ("event=a/b", body),
            ("event=up", "{}"),
            ("event=up", "no"),
            ("event=up", r#"{"deviceInfo":{"devEui":"a/b"}}"#),
        ] {
            assert!(read(&chirpstack, None, query, body).is_err(), "{query} {body}");
        }
    }

    #[test]
    fn a_topic_form_without_one_address_is_refused() {
        for bad in ["a/b", "{address}/{address}", "a/x{address}", "{address}/#", "{}/{address}"] {
            assert!(TopicForm::parse(bad).is_err(), "{bad}");
        }
    }
}
