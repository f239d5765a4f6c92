//! FRAMES → READINGS, topics: which MQTT topics a model speaks on, and where in them its address stands.

use std::fmt;

/// The deepest topic pattern. MQTT sets no limit; real topics have fewer than ten levels.
const LEVELS_MAX: usize = 32;

/// A topic with placeholders for whole levels: `site/{site}/device/{address}/up`. `{address}` stands in it exactly
/// once and says which device it is; any other `{word}` matches any one level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern {
    text: String,
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Exactly(String),
    Any,
    Address,
    /// All levels from here on.
    Rest,
}

impl TopicPattern {
    /// Parses a pattern. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pattern = Self::parse_levels(text, false)?;
        match pattern.addresses() {
            1 => Ok(pattern),
            _ => {
                Err("{address} 须出现一次，且只能一次 / {address} has to stand in it exactly once".to_owned())
            }
        }
    }

    /// A pattern of messages that name their devices inside: `{address}`, if it is there, is who passes them on.
    pub(super) fn parse_shared(text: &str) -> Result<Self, String> {
        let pattern = Self::parse_levels(text, false)?;
        match pattern.addresses() {
            0 | 1 => Ok(pattern),
            _ => Err("{address} 最多出现一次 / {address} may stand in it once".to_owned()),
        }
    }

    /// A pattern of topics that nobody reads: with any placeholders, and `#` at its end for all levels below.
    pub(super) fn parse_ignored(text: &str) -> Result<Self, String> {
        Self::parse_levels(text, true)
    }

    fn parse_levels(text: &str, rest_allowed: bool) -> Result<Self, String> {
        let mut levels = Vec::new();
        let mut written = text.split('/').peekable();
        while let Some(level) = written.next() {
            levels.push(match level.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some("address") => Level::Address,
                Some(_) => Level::Any,
                None if level == "#" && rest_allowed && written.peek().is_none() => Level::Rest,
                None if level.contains(['{', '}', '+', '#']) => {
                    return Err(format!(
                        "{level:?}：占位符要占主题的完整一级，这里不用 + 和 # / {level:?}: a placeholder is a whole level; + and # are not used here"
                    ));
                }
                None => Level::Exactly(level.to_owned()),
            });
        }
        if levels.len() > LEVELS_MAX {
            return Err(format!("主题超过 {LEVELS_MAX} 级 / it has more than {LEVELS_MAX} levels"));
        }
        Ok(Self { text: text.to_owned(), levels })
    }

    fn addresses(&self) -> usize {
        self.levels.iter().filter(|level| **level == Level::Address).count()
    }

    /// A filter whose topics give no address by themselves: Sparkplug's stands in three levels of them.
    pub(super) fn without_address(filter: &str) -> Self {
        let level = |level: &str| if level == "+" { Level::Any } else { Level::Exactly(level.to_owned()) };
        Self { text: filter.to_owned(), levels: filter.split('/').map(level).collect() }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The MQTT topic filter that receives every such topic: `site/+/device/+/up`.
    pub fn filter(&self) -> String {
        let levels: Vec<&str> = self
            .levels
            .iter()
            .map(|level| match level {
                Level::Exactly(text) => text.as_str(),
                Level::Any | Level::Address => "+",
                Level::Rest => "#",
            })
            .collect();
        levels.join("/")
    }

    /// The address in that topic, empty where the pattern has none; `None` when the topic is another.
    pub fn matches<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let mut address = None;
        let mut written = topic.split('/');
        for level in &self.levels {
            if *level == Level::Rest {
                return Some(address.unwrap_or(""));
            }
            let text = written.next()?;
            match level {
                Level::Exactly(expected) if text != expected => return None,
                Level::Address if text.is_empty() => return None,
                Level::Address => address = Some(text),
                Level::Exactly(_) | Level::Any | Level::Rest => {}
            }
        }
        written.next().is_none().then_some(address.unwrap_or(""))
    }

    /// The topic of one device. Placeholders other than the address become `placeholder`.
    pub fn topic_of(&self, address: &str, placeholder: &str) -> String {
        let levels: Vec<&str> = self
            .levels
            .iter()
            .map(|level| match level {
                Level::Exactly(text) => text.as_str(),
                Level::Any | Level::Rest => placeholder,
                Level::Address => address,
            })
            .collect();
        levels.join("/")
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_gives_the_address_and_another_topic_gives_none() {
        let pattern = TopicPattern::parse("site/{site}/device/{address}/up").unwrap();
        assert_eq!(pattern.filter(), "site/+/device/+/up");
        assert_eq!(pattern.matches("site/home/device/sd-01/up"), Some("sd-01"));
        for other in
            ["site/home/device/sd-01", "site/home/device/sd-01/up/x", "site/home/device//up", "", "/"]
        {
            assert_eq!(pattern.matches(other), None, "{other:?}");
        }
        assert_eq!(pattern.topic_of("sd-01", "home"), "site/home/device/sd-01/up");
    }

    #[test]
    fn topics_that_name_no_device_match_as_a_whole() {
        let shared = TopicPattern::parse_shared("gw/{site}/report").unwrap();
        assert_eq!((shared.matches("gw/a/report"), shared.matches("gw/a/other")), (Some(""), None));
        assert!(TopicPattern::parse_shared("{address}/{address}").is_err());
        let ignored = TopicPattern::parse_ignored("zigbee2mqtt/bridge/#").unwrap();
        assert_eq!(ignored.filter(), "zigbee2mqtt/bridge/#");
        for (topic, matches) in
            [("zigbee2mqtt/bridge/a/b", true), ("zigbee2mqtt/bridge", true), ("zigbee2mqtt/x/a", false)]
        {
            assert_eq!(ignored.matches(topic).is_some(), matches, "{topic}");
        }
        assert!(TopicPattern::parse_ignored("a/#/b").is_err());
    }

    #[test]
    fn a_pattern_without_one_address_is_refused() {
        for bad in ["a/b", "{address}/{address}", "a/+/{address}", "a/x{address}", "{address}/#"] {
            assert!(TopicPattern::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
