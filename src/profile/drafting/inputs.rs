//! FRAMES → READINGS, drafting: the device's own time in messages, and which of them may become examples.

use super::super::device_time::parse_iso8601;
use super::codes::{self, Codes};
use super::messages::Message;
use super::paths::{Found, Seen, lookup, replace};
use super::sheet::{Input, Point, RECEIVED_AT};
use crate::model::{Span, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The longest message that becomes an example. A file with a larger one is not read by people.
const EXAMPLE_BYTES_MAX: usize = 8 << 10;
/// Messages of one topic that may become examples.
const INPUTS_MAX: usize = 256;

/// Names of the field that has the device's time.
const TIME_KEYS: [&str; 14] = [
    "ts",
    "time",
    "timestamp",
    "datetime",
    "date_time",
    "utc",
    "t_ms",
    "reporttime",
    "report_time",
    "eventtime",
    "event_time",
    "shijian",
    "时间",
    "time_ms",
];

/// 2025 to 2100, in seconds.
const SECONDS: std::ops::Range<f64> = 1.735e9..4.1e9;

/// The path of the device's time and its unit, where the values are believable ones. A clock that is years off is left out:
/// it would put every reading in doubt.
pub(super) fn find_time<'f>(found: &'f Found, messages: &[Message<'_>]) -> Option<(&'f Seen, &'static str)> {
    let named =
        |seen: &&Seen| seen.keys().next().is_some_and(|key| TIME_KEYS.contains(&key.to_lowercase().as_str()));
    found.seen.iter().filter(named).find_map(|seen| {
        // A clock that is off now and then is a clock.
        let fits = |unit: &&str| {
            2 * seen.values.iter().filter(|value| instant(value, unit).is_some()).count() >= seen.values.len()
        };
        let unit = ["s", "ms", "iso8601"].into_iter().find(fits)?;
        let newest = seen.values.iter().filter_map(|value| instant(value, unit)).max()?;
        let received = messages.iter().filter_map(|message| message.at).max();
        let believable =
            received.is_none_or(|at| at.since(newest).as_millis().abs() < CLOCK_OFF_MAX.as_millis());
        believable.then_some((seen, unit))
    })
}

/// A device's clock that is further off than this is none.
const CLOCK_OFF_MAX: Span = Span::from_secs(86_400);

fn instant(value: &Value, unit: &str) -> Option<Timestamp> {
    let millis = match (unit, value.as_f64()) {
        ("s", Some(seconds)) if SECONDS.contains(&seconds) => seconds * 1000.0,
        ("ms", Some(millis)) if SECONDS.contains(&(millis / 1000.0)) => millis,
        ("iso8601", None) => {
            let at = parse_iso8601(value.as_str()?)?;
            #[expect(
                clippy::cast_precision_loss,
                reason = "milliseconds of this century are exact in a double"
            )]
            let seconds = at.as_millis() as f64 / 1000.0;
            return SECONDS.contains(&seconds).then_some(at);
        }
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "it is within this century")]
    Some(Timestamp::from_millis(millis as i64))
}

/// What may become an example: what came, and of states that nobody saw a message that is like one that came.
pub(super) fn inputs(
    messages: &[Message<'_>],
    made: &[(Point, &Seen, Codes)],
    time: Option<(&Seen, &'static str)>,
) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    let mut taken: BTreeSet<(usize, &str)> = BTreeSet::new();
    let mut counts = BTreeMap::<usize, usize>::new();
    // Without a time of arrival the newest time that a message tells is as good: it is believed, and nothing is late.
    let own = |message: &Message<'_>| {
        let (seen, unit) = time?;
        message.at.or_else(|| instant(lookup(&message.value, &seen.path)?, unit))
    };
    let newest = messages.iter().filter_map(own).max();
    let at = |message: &Message<'_>| time.map(|_| own(message).or(newest).unwrap_or(RECEIVED_AT));
    // A code that comes once, behind a thousand messages of rest, is what the examples are for.
    let mut shown: BTreeSet<(usize, String)> = BTreeSet::new();
    for message in messages.iter().filter(|message| message.text.len() <= EXAMPLE_BYTES_MAX) {
        let mut news = false;
        for (place, (point, seen, codes)) in made.iter().enumerate() {
            let value =
                reads(point, seen, message.topic).then(|| lookup(&message.value, &seen.path)).flatten();
            if let Some(key) =
                value.map(codes::key).filter(|key| codes.codes.iter().any(|(code, _)| code == key))
            {
                news |= shown.insert((place, key));
            }
        }
        let count = counts.entry(message.topic).or_default();
        if (news || *count < INPUTS_MAX) && taken.insert((message.topic, message.text)) {
            *count += 1;
            inputs.push(Input {
                topic: message.topic,
                text: message.text.to_owned(),
                at: at(message),
                made_up: None,
            });
        }
    }
    for (place, (point, seen, codes)) in made.iter().enumerate() {
        for (key, means) in codes.codes.iter().filter(|(key, _)| !shown.contains(&(place, key.clone()))) {
            let values = seen.values.iter().chain(codes.unseen.iter().map(|(value, _)| value));
            let Some(value) = values.filter(|value| !value.is_null()).find(|value| codes::key(value) == *key)
            else {
                continue;
            };
            let like = messages.iter().filter(|message| {
                reads(point, seen, message.topic) && message.text.len() <= EXAMPLE_BYTES_MAX
            });
            let made_up = like.filter_map(|message| {
                let mut tree = message.value.clone();
                replace(&mut tree, &seen.path, value).then_some((message, tree))
            });
            let Some((message, tree)) = made_up.min_by_key(|(message, _)| message.text.len()) else {
                continue;
            };
            let text = if seen.path.is_empty() { codes::key(&tree) } else { tree.to_string() };
            let what = format!("拟造 made up: {} = {means}", point.name);
            inputs.push(Input { topic: message.topic, text, at: at(message), made_up: Some(what) });
        }
    }
    inputs
}

/// Whether a point reads the messages of a topic.
fn reads(point: &Point, seen: &Seen, topic: usize) -> bool {
    seen.topics.contains(&topic) && point.topic.is_none_or(|bound| bound == topic)
}
