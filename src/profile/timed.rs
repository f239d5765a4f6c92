//! FRAMES → READINGS, several samples in one message: a device that slept, or was out of reach, tells what it measured meanwhile,
//! each sample with a time of its own. They are named values, as SenML's and Sparkplug's are: what a newer one has overtaken is history.

use super::decode::Decoded;
use super::device_time::{Taken, TimeUnit, judge, judge_time};
use super::draft::{Problems, Spanned};
use super::json::{self, Paths};
use super::json_schema::{NewestWord, OneOrMore};
use super::message::Where;
use super::named::{NamedValue, Names};
use super::schema::Profile;
use super::schema_bytes::MadeOf;
use crate::model::{Span, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashSet;

/// The most samples that one message may bring of each point: a day of minutes.
const SAMPLES_MAX: usize = 1440;

/// The most values of one message, so that it fits into one entry of the journal (10 000 readings).
const VALUES_MAX: usize = 8192;

/// The longest time between two samples that `every_secs` may say: a week. What is rarer has a time of its own.
const EVERY_SECS_MAX: u32 = 604_800;

/// The word for an element that is itself the value.
const ITSELF: &str = "$";

/// `[mqtt.samples]`.
#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct SamplesFile {
    /// 样本列表在 JSON 中的路径 / the path of their list in the JSON
    json: Option<Spanned<String>>,
    /// 样本列表在解码脚本输出中的路径 / the path of their list in what the codec says
    codec: Option<Spanned<String>>,
    /// 每个样本中时间的路径 / where each sample has its time
    time: Option<Spanned<String>>,
    /// 时间单位 / the unit of that time
    #[schemars(with = "Option<OneOrMore<TimeUnit>>")]
    pub(super) unit: Option<Spanned<toml::Value>>,
    /// 样本没有时间时：相邻样本的间隔，秒 / where samples have no time: seconds from one to the next
    #[schemars(range(min = 1, max = EVERY_SECS_MAX))]
    every_secs: Option<Spanned<u32>>,
    /// 与 every_secs 一起：最新的样本在最前还是最后 / with every_secs: is the newest sample the first or the last
    #[schemars(with = "Option<NewestWord>")]
    newest: Option<Spanned<String>>,
}

/// How the time of a sample is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum When {
    /// It stands at this path of the element.
    Own(String, Vec<TimeUnit>),
    /// So much lies between two of them; the newest is of the message's time.
    Every { span: Span, newest_first: bool },
}

/// Where the samples are, as the file has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SamplesOf {
    pub(super) container: Where,
    pub(super) when: When,
}

/// The same for one topic, with what its points read of each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Samples {
    pub(super) when: When,
    paths: Paths,
    time: Option<usize>,
    /// Point and slot; no slot: the element itself.
    lookups: Vec<(usize, Option<usize>)>,
    /// Each point under its own name.
    names: Names,
}

impl Samples {
    /// Nothing is read of the elements yet.
    pub(super) fn new(when: When) -> Result<Self, String> {
        let mut paths = Paths::default();
        let time = match &when {
            When::Own(path, _) => Some(paths.add(path)?),
            When::Every { .. } => None,
        };
        Ok(Self { when, paths, time, lookups: Vec::new(), names: Names::new() })
    }

    /// This point lies at that path of each element.
    pub(super) fn look(&mut self, point: usize, name: &str, path: &str) -> Result<(), String> {
        let slot = if path == ITSELF { None } else { Some(self.paths.add(path)?) };
        self.lookups.push((point, slot));
        self.names.entry(name.into()).or_default().push(point);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lookups.is_empty()
    }

    /// Reads the list. `present`: points of which the message also told the present.
    pub(super) fn read(
        &self,
        profile: &Profile,
        list: &RawValue,
        present: &HashSet<usize>,
        taken: Taken,
        received_at: Timestamp,
    ) -> Decoded {
        let elements: Vec<&RawValue> = match serde_json::from_str(list.get()) {
            Ok(elements) => elements,
            Err(_) => return Decoded::refused("历史数据不是数组".to_owned()),
        };
        if elements.is_empty() {
            return Decoded { understood: true, ..Decoded::nothing(0) };
        }
        let limit = SAMPLES_MAX.min(VALUES_MAX / self.lookups.len().max(1));
        let count = elements.len();
        // Of too many the newest are read, where it is known which they are.
        let skip = match self.when {
            When::Every { newest_first: false, .. } => count.saturating_sub(limit),
            When::Own(..) | When::Every { .. } => 0,
        };
        let mut values = Vec::new();
        let mut broken = None;
        for (place, element) in elements.iter().enumerate().skip(skip).take(limit) {
            let found = if self.paths_are_read() { self.paths.find(element.get()) } else { Ok(Vec::new()) };
            let Ok(found) = found else {
                broken.get_or_insert(place);
                continue;
            };
            let at = |slot: usize| found.get(slot).copied().flatten();
            let taken = self.taken(place, count, self.time.and_then(at), taken, received_at);
            for (point, slot) in &self.lookups {
                let Some(name) = profile.points.get(*point).map(|point| point.name.as_str()) else {
                    continue;
                };
                let raw = match slot {
                    None => json::raw(element),
                    Some(slot) => match at(*slot) {
                        Some(value) => json::raw(value),
                        None => continue,
                    },
                };
                let late = present.contains(point);
                values.push(NamedValue { name: name.into(), raw, unit: None, taken, late, flaw: None });
            }
        }
        let mut decoded = profile.decode_named(&self.names, values);
        if let Some(place) = broken {
            decoded.complain(format!("历史数据第 {} 项无法读取", place + 1));
        }
        if count > limit {
            decoded.complain(format!("历史数据有 {count} 项，只读取其中 {limit} 项"));
        }
        decoded
    }

    fn paths_are_read(&self) -> bool {
        self.time.is_some() || self.lookups.iter().any(|(_, slot)| slot.is_some())
    }

    fn taken(
        &self,
        place: usize,
        count: usize,
        own: Option<&RawValue>,
        message: Taken,
        received_at: Timestamp,
    ) -> Taken {
        match (&self.when, own) {
            (When::Own(_, units), Some(raw)) => judge(&json::raw(raw), units, received_at),
            // A sample of which nobody knows when it was taken is not the present.
            (When::Own(..), None) => Taken::Impossible,
            (When::Every { span, newest_first }, _) => {
                let newest = match message {
                    Taken::At { time, .. } => time,
                    Taken::Unknown => received_at,
                    Taken::Impossible => return Taken::Impossible,
                };
                let steps = if *newest_first { place } else { count.saturating_sub(place + 1) };
                let back = i64::try_from(steps).unwrap_or(i64::MAX).saturating_mul(span.as_millis());
                judge_time(Some(newest - Span::from_millis(back)), received_at)
            }
        }
    }
}

/// What `[mqtt.samples]` says.
pub(super) fn build_samples(
    written: &Spanned<SamplesFile>,
    units: Option<Vec<TimeUnit>>,
    made_of: MadeOf,
    problems: &mut Problems,
) -> Option<SamplesOf> {
    let file = written.get_ref();
    let container = match (&file.json, &file.codec) {
        (Some(path), None) => made_of.check_path(path.get_ref(), path.span(), problems)?,
        (None, Some(path)) => made_of.check_codec(path.get_ref(), path.span(), problems)?,
        _ => {
            problems.error(
                written.span(),
                "样本列表由 `json` 或 `codec` 指定 / the samples lie at `json` or at `codec`",
                "写其中一个 / say one of the two",
            );
            return None;
        }
    };
    let when = match (&file.time, &file.every_secs) {
        (Some(path), None) => {
            if file.unit.is_none() {
                problems.error(
                    path.span(),
                    "时间没有写单位 / the time has no unit",
                    "写 unit = \"s\"、\"ms\" 或 \"iso8601\" / write unit = \"s\", \"ms\" or \"iso8601\"",
                );
            }
            if let Err(wrong) = Paths::default().add(path.get_ref()) {
                problems.error(
                    path.span(),
                    wrong,
                    "写时间在每个样本内的路径 / write the path of the time inside each sample",
                );
            }
            When::Own(path.get_ref().clone(), units?)
        }
        (None, Some(secs)) => {
            let newest_first = match file.newest.as_ref().map(|newest| newest.get_ref().as_str()) {
                Some("first") => true,
                Some("last") => false,
                _ => {
                    let span = file.newest.as_ref().map_or_else(|| secs.span(), Spanned::span);
                    problems.error(span, "哪个样本最新？ / which sample is the newest?", "加 newest = \"first\"（第一个）或 \"last\"（最后一个） / add newest = \"first\" or \"last\"");
                    return None;
                }
            };
            let every = *secs.get_ref();
            if !(1..=EVERY_SECS_MAX).contains(&every) {
                let help = format!(
                    "每两个样本相隔的秒数，最多 {EVERY_SECS_MAX} / seconds from one sample to the next, up to {EVERY_SECS_MAX}"
                );
                problems.error(secs.span(), "样本的间隔不合理 / samples do not follow each other so", help);
                return None;
            }
            When::Every { span: Span::from_secs(i64::from(every)), newest_first }
        }
        _ => {
            problems.error(
                written.span(),
                "样本要么有 `time`，要么每隔若干秒一个 / a sample has a `time`, or comes every so many seconds",
                "写 time = \"ts\" 及其单位，或 every_secs = 60 和 newest = \"last\" / say time = \"ts\" and its unit, or every_secs = 60 and newest = \"last\"",
            );
            return None;
        }
    };
    Some(SamplesOf { container, when })
}
