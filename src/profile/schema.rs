//! FRAMES → READINGS, the profile: the file's shape, and the [`Profile`] that is compiled from it.

use super::command::{Command, CommandFile, build_commands};
use super::decode::TopicPlan;
use super::device_time::TimeUnit;
use super::draft::{Problems, TextFile, read, suggest_or_list};
use super::example::{Example, ExampleFile, build_examples};
use super::json::Paths;
use super::meaning::Meaning;
use super::registers::{WordOrder, WordType};
use super::schema_point::{PointFile, build_point};
use super::schema_register::{ModbusDefaults, ModbusFile, build_modbus};
use super::topic::TopicPattern;
use super::vocabulary::Vocabulary;
use crate::model::{ClassId, Problem, ProfileId, Quantity, RegisterTable, Span, Text};
use serde::Deserialize;
use std::collections::HashSet;
use toml::Spanned;

/// The most points of one profile. The richest shipped profile has fewer than 32; a device with more is several.
const POINTS_MAX: usize = 256;

/// The point that every device gets without its profile saying so: whether anything is heard of it at all.
const RESERVED_POINT: &str = "link";

/// What a model's messages or registers mean.
#[derive(Debug, Clone)]
pub struct Profile {
    /// `vendor/model`.
    pub id: ProfileId,
    /// What the model is called.
    pub model: Text,
    /// Who makes it.
    pub vendor: String,
    /// Its model number, as it stands on the box.
    pub model_number: String,
    /// Where the format comes from: manual with revision and page, or public code.
    pub source: String,
    /// Who tried the profile on the hardware, and when; `None`: nobody yet.
    pub verified: Option<String>,
    /// How the device is reached.
    pub link: ProfileLink,
    /// The longest silence that is normal; `None`: it only speaks when something happens.
    pub silent_after: Option<Span>,
    /// What it reports.
    pub points: Vec<ProfilePoint>,
    /// What it can be told to do, if the plan allows it.
    pub commands: Vec<Command>,
    /// The examples that prove the profile.
    pub examples: Vec<Example>,
    /// By topic: what to look for. Empty for Modbus.
    pub(super) topic_plans: Vec<TopicPlan>,
}

/// How a model is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum ProfileLink {
    /// It publishes on these topics.
    Mqtt {
        /// One or more; a point may be bound to one of them.
        topics: Vec<TopicPattern>,
    },
    /// It is polled.
    Modbus {
        /// How often, unless a point says otherwise.
        every: Span,
        /// How many unwanted registers may lie inside one read. 0: the device refuses reads across gaps.
        hole_limit: u16,
        /// The most registers (or bits) the device gives in one read.
        read_max: u16,
        /// The number that the manual gives to the first register: 0 or 1. Examples count the same way.
        address_base: u16,
    },
}

/// One measurable thing of a model.
#[derive(Debug, Clone)]
pub struct ProfilePoint {
    /// A slug, unique in the profile.
    pub name: String,
    /// Its class in the vocabulary.
    pub class: ClassId,
    /// What it is called here, when the class's name does not say which one it is.
    pub label: Option<Text>,
    /// What it measures.
    pub quantity: Quantity,
    /// The plausible range in the canonical unit: the profile's own, or else the class's.
    pub range: Option<(f64, f64)>,
    /// Why one example value is enough; `None`: two are needed.
    pub single_example: Option<String>,
    pub(super) source: Source,
    pub(super) meaning: Meaning,
}

/// Where a point's raw value is found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    Json { path: String, topic: Option<usize> },
    Text { topic: usize },
    Register(Field),
}

/// Where in the registers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Field {
    pub(super) table: RegisterTable,
    /// Counted from 0, as on the wire.
    pub(super) address: u16,
    pub(super) kind: WordType,
    pub(super) order: WordOrder,
    /// Shift right, then mask: for bits of a register.
    pub(super) bits: Option<(u32, u64)>,
    pub(super) every: Span,
}

impl Profile {
    /// Parses a profile. All that is wrong with it is told at once; `file` is the name used in the problems.
    pub fn parse(
        id: ProfileId,
        file: &str,
        text: &str,
        vocabulary: &Vocabulary,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(file);
        let profile = read::<ProfileFile>(text, &mut problems)
            .and_then(|shape| build(id, &shape, vocabulary, &mut problems));
        match profile {
            Some(profile) if !problems.has_errors() => Ok(profile),
            _ => Err(problems.list),
        }
    }

    /// The topics it speaks on; empty for Modbus. A frame's `topic_kind` is an index into these.
    pub fn topics(&self) -> &[TopicPattern] {
        match &self.link {
            ProfileLink::Mqtt { topics } => topics,
            ProfileLink::Modbus { .. } => &[],
        }
    }

    /// The place of a point of that name in [`Profile::points`].
    pub fn point(&self, name: &str) -> Option<usize> {
        self.points.iter().position(|point| point.name == name)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    device: DeviceFile,
    mqtt: Option<MqttFile>,
    modbus: Option<ModbusFile>,
    time: Option<Spanned<TimeFile>>,
    #[serde(default)]
    point: Vec<PointFile>,
    #[serde(default)]
    command: Vec<Spanned<CommandFile>>,
    #[serde(default)]
    example: Vec<ExampleFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceFile {
    vendor: Spanned<String>,
    model: Spanned<String>,
    name: TextFile,
    source: Spanned<String>,
    verified: Option<String>,
    silent_after_secs: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MqttFile {
    topics: Spanned<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeFile {
    json: Spanned<String>,
    unit: Spanned<String>,
}

/// What a point needs to know of the rest of its file.
pub(super) struct Surroundings<'v> {
    pub(super) vocabulary: &'v Vocabulary,
    pub(super) topics: Option<usize>,
    pub(super) modbus: Option<ModbusDefaults>,
}

fn build(
    id: ProfileId,
    file: &ProfileFile,
    vocabulary: &Vocabulary,
    problems: &mut Problems,
) -> Option<Profile> {
    check_device(&file.device, problems);
    let (link, surroundings) = build_link(file, vocabulary, problems)?;
    let mut names = HashSet::new();
    let mut points = Vec::new();
    for point in &file.point {
        if !names.insert(point.name.get_ref()) || point.name.get_ref() == RESERVED_POINT {
            problems.error(
                point.name.span(),
                format!("the name {:?} is taken", point.name.get_ref()),
                "names are unique; \"link\" stands for the device itself",
            );
        }
        points.extend(build_point(point, &surroundings, problems));
    }
    if file.point.is_empty() || file.point.len() > POINTS_MAX {
        problems.whole_file(
            format!("the profile has {} points", file.point.len()),
            format!("it needs 1 to {POINTS_MAX}"),
        );
    }
    let commands = build_commands(&file.command, &link, problems);
    // Examples name points; with a broken point they would only repeat its problem.
    if problems.has_errors() {
        return None;
    }
    let examples = build_examples(&file.example, &link, &points, problems);
    let topic_plans = build_topic_plans(file, &link, &points, problems);
    Some(Profile {
        id,
        model: file.device.name.text(),
        vendor: file.device.vendor.get_ref().clone(),
        model_number: file.device.model.get_ref().clone(),
        source: file.device.source.get_ref().clone(),
        verified: file.device.verified.clone(),
        link,
        silent_after: file
            .device
            .silent_after_secs
            .as_ref()
            .map(|secs| Span::from_secs(i64::from(*secs.get_ref()))),
        points,
        commands,
        examples,
        topic_plans,
    })
}

fn check_device(device: &DeviceFile, problems: &mut Problems) {
    for (field, what) in [
        (&device.vendor, "vendor"),
        (&device.model, "model"),
        (&device.source, "source (manual with revision and page, or public code)"),
    ] {
        if field.get_ref().trim().is_empty() {
            problems.error(field.span(), format!("the {what} is empty"), "say it");
        }
    }
    if let Some(secs) = device.silent_after_secs.as_ref().filter(|secs| *secs.get_ref() == 0) {
        problems.error(
            secs.span(),
            "every silence would be too long",
            "leave silent_after_secs out for a device that only speaks when something happens",
        );
    }
}

fn build_link<'v>(
    file: &ProfileFile,
    vocabulary: &'v Vocabulary,
    problems: &mut Problems,
) -> Option<(ProfileLink, Surroundings<'v>)> {
    match (&file.mqtt, &file.modbus) {
        (Some(mqtt), None) => {
            let mut topics = Vec::new();
            for written in mqtt.topics.get_ref() {
                match TopicPattern::parse(written.get_ref()) {
                    Ok(topic) => topics.push(topic),
                    Err(wrong) => {
                        problems.error(written.span(), wrong, "write site/{site}/device/{address}/up")
                    }
                }
            }
            if mqtt.topics.get_ref().is_empty() {
                problems.error(mqtt.topics.span(), "there is no topic", "add at least one");
            }
            let surroundings =
                Surroundings { vocabulary, topics: Some(mqtt.topics.get_ref().len()), modbus: None };
            Some((ProfileLink::Mqtt { topics }, surroundings))
        }
        (None, Some(modbus)) => {
            let (link, defaults) = build_modbus(modbus, problems);
            Some((link, Surroundings { vocabulary, topics: None, modbus: Some(defaults) }))
        }
        _ => {
            problems.whole_file(
                "a profile has either [mqtt] or [modbus]",
                "a model that speaks both gets two profiles",
            );
            None
        }
    }
}

fn build_topic_plans(
    file: &ProfileFile,
    link: &ProfileLink,
    points: &[ProfilePoint],
    problems: &mut Problems,
) -> Vec<TopicPlan> {
    let ProfileLink::Mqtt { topics } = link else {
        if let Some(time) = &file.time {
            problems.error(time.span(), "registers carry no device time", "remove [time]");
        }
        return Vec::new();
    };
    let time = file.time.as_ref().and_then(|time| build_time(time.get_ref(), problems));
    let mut plans = Vec::new();
    for (kind, topic) in topics.iter().enumerate() {
        let texts: Vec<usize> =
            (0..points.len()).filter(|&point| points[point].source == Source::Text { topic: kind }).collect();
        let mut paths = Paths::default();
        let mut fields = Vec::new();
        for (place, point) in points.iter().enumerate() {
            let Source::Json { path, topic } = &point.source else { continue };
            if topic.is_some_and(|topic| topic != kind) {
                continue;
            }
            match paths.add(path) {
                Ok(slot) => fields.push((place, slot)),
                Err(wrong) => {
                    problems.whole_file(format!("point {:?}: {wrong}", point.name), "mend the path")
                }
            }
        }
        let time = time.as_ref().and_then(|(path, unit)| Some((paths.add(path).ok()?, *unit)));
        match (texts.is_empty(), fields.is_empty()) {
            (true, true) => problems.whole_file(
                format!("no point reads the topic {:?}", topic.as_str()),
                "remove the topic or add a point",
            ),
            (false, false) => problems.whole_file(
                format!("the topic {:?} is read both as JSON and as plain text", topic.as_str()),
                "give the JSON points a `topic`",
            ),
            _ => {}
        }
        plans.push(if texts.is_empty() {
            TopicPlan::Json { paths, fields, time }
        } else {
            TopicPlan::Text(texts)
        });
    }
    plans
}

fn build_time(time: &TimeFile, problems: &mut Problems) -> Option<(String, TimeUnit)> {
    if let Err(wrong) = Paths::default().add(time.json.get_ref()) {
        problems.error(time.json.span(), wrong, "write a path such as object.ts");
    }
    let unit = TimeUnit::parse(time.unit.get_ref());
    if unit.is_none() {
        problems.error(
            time.unit.span(),
            format!("time unit {:?} is unknown", time.unit.get_ref()),
            suggest_or_list(time.unit.get_ref(), TimeUnit::ALL.map(TimeUnit::name)),
        );
    }
    Some((time.json.get_ref().clone(), unit?))
}
