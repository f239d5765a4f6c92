//! FRAMES → READINGS, the profile: the file's shape, and the [`Profile`] that is compiled from it.

use super::command::{Command, CommandFile, build_commands};
use super::decode::TopicPlan;
use super::draft::{Problems, Spanned, TextFile, read};
use super::each::Each;
use super::example::{Example, ExampleFile, build_examples};
use super::hazard_example::{HazardExampleFile, HazardExamples, build_hazard_examples};
use super::meaning::Meaning;
use super::message::{When, Where};
use super::registers::{WordOrder, WordType};
use super::schema_bytes::FrameFile;
use super::schema_mqtt::{Mqtt, build_each, build_mqtt, build_topic_plans};
use super::schema_point::build_point;
use super::schema_register::{ModbusDefaults, ModbusFile, build_modbus};
use super::script::Beside;
use super::shape_mqtt::{MqttFile, TimeFile};
use super::shape_point::PointFile;
use super::topic::TopicPattern;
use super::variant::{VariantFile, each_variant};
use super::vocabulary::Vocabulary;
use crate::model::{ClassId, LINK_POINT, Problem, ProfileId, Quantity, RegisterTable, Span, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;

/// The most points of one profile. The richest shipped profile has fewer than 32; a device with more is several.
const POINTS_MAX: usize = 256;

/// What a model's messages or registers mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// `vendor/model`.
    pub id: ProfileId,
    /// What the model is called.
    pub model: Text,
    /// Who makes it.
    pub vendor: String,
    /// Its model number, as it stands on the box.
    pub model_number: String,
    /// Under which other names, vendor and model, the same device is sold.
    pub also_sold_as: Vec<String>,
    /// Where the format comes from: manual with revision and page, or public code.
    pub source: String,
    /// Of which firmware it speaks, as the source says; `None`: it makes no difference, or nobody said.
    pub firmware: Option<String>,
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
    /// What series of them have to raise.
    pub hazard_examples: HazardExamples,
    /// By topic: what to look for. Empty for Modbus.
    pub(super) topic_plans: Vec<TopicPlan>,
    /// A message tells of several devices.
    pub(super) each: Option<Each>,
    /// Topics of its devices that have nothing to read.
    ignored: Vec<TopicPattern>,
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
        /// The number that the manual gives to the first register: 0 or 1; `None`: it was not said, and is 0. Examples
        /// and commands count the same way.
        address_base: Option<u16>,
    },
}

/// One measurable thing of a model.
#[derive(Debug, Clone, PartialEq)]
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
    /// The unit as the profile writes it, before anything is converted.
    pub(super) unit: Option<String>,
    pub(super) source: Source,
    /// It is only in messages that say so.
    pub(super) when: Option<When<Where>>,
    pub(super) meaning: Meaning,
}

/// Where a point's raw value is found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// On one topic, or on all of them.
    Message {
        /// `None`: only in the samples.
        at: Option<Where>,
        /// Its path in each of several samples.
        sample: Option<String>,
        topic: Option<usize>,
        required: bool,
    },
    Text {
        topic: usize,
    },
    /// A SenML record or a Sparkplug metric of that name.
    Named {
        name: String,
    },
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
        Self::parse_beside(id, file, text, vocabulary, &|_| None)
    }

    /// The same for a profile that may name a codec; `beside` gives the texts of the files of its folder.
    pub fn parse_beside(
        id: ProfileId,
        file: &str,
        text: &str,
        vocabulary: &Vocabulary,
        beside: &Beside<'_>,
    ) -> Result<Self, Vec<Problem>> {
        Self::parse_all(id, file, text, vocabulary, beside).map(|(model, _)| model)
    }

    /// The model, and each variant that its file has, `vendor/model@name`. One that is wrong is all that is wrong with the file.
    pub fn parse_all(
        id: ProfileId,
        file: &str,
        text: &str,
        vocabulary: &Vocabulary,
        beside: &Beside<'_>,
    ) -> Result<(Self, Vec<Self>), Vec<Problem>> {
        let mut problems = Problems::new(file);
        let Some(shape) = read::<ProfileFile>(text, &mut problems) else { return Err(problems.list) };
        let model = build(id.clone(), &shape, vocabulary, beside, &mut problems);
        // A variant repeats what is wrong with its model.
        let (Some(model), false) = (model, problems.has_errors()) else { return Err(problems.list) };
        let files = each_variant(&id, &shape, &mut problems);
        let built = files.iter().map(|(id, file)| build(id.clone(), file, vocabulary, beside, &mut problems));
        let variants: Vec<Self> = built.flatten().collect();
        if problems.has_errors() { Err(problems.list) } else { Ok((model, variants)) }
    }

    /// The topics it speaks on; empty for Modbus. A frame's `topic_kind` is an index into these.
    pub fn topics(&self) -> &[TopicPattern] {
        match &self.link {
            ProfileLink::Mqtt { topics } => topics,
            ProfileLink::Modbus { .. } => &[],
        }
    }

    /// Topics on which its devices say nothing that is read: nobody misses what comes there.
    pub fn ignored_topics(&self) -> &[TopicPattern] {
        &self.ignored
    }

    /// Whether it is told, by somebody else, when a device is gone.
    pub fn reports_link(&self) -> bool {
        self.topic_plans
            .iter()
            .any(|plan| matches!(plan, TopicPlan::Availability(_) | TopicPlan::Sparkplug(_)))
    }

    /// Whether it is reached through Sparkplug B: its address is `group/edge node[/device]`, and its frames need the
    /// names that births gave.
    pub fn is_sparkplug(&self) -> bool {
        matches!(self.topic_plans.first(), Some(TopicPlan::Sparkplug(_)))
    }

    /// Whether one message may bring several values of a point, each with a time of its own.
    pub fn brings_history(&self) -> bool {
        self.topic_plans.iter().any(|plan| match plan {
            TopicPlan::SenMl(_) | TopicPlan::Sparkplug(_) => true,
            TopicPlan::Fields(fields) => fields.samples.is_some(),
            TopicPlan::Text(_) | TopicPlan::Availability(_) => false,
        })
    }

    /// The place of a point of that name in [`Profile::points`].
    pub fn point(&self, name: &str) -> Option<usize> {
        self.points.iter().position(|point| point.name == name)
    }
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "型号文件 / device profile",
    extend("required" = ["device", "point", "example"]),
    extend("if" = { "not": { "required": ["modbus"] } }, "then" = { "required": ["mqtt"] }),
    extend("dependencies" = {
        "modbus": { "properties": { "mqtt": false, "frame": false, "time": false } },
        "command": ["modbus"]
    })
)]
pub(super) struct ProfileFile {
    /// 型号是什么 / which model it is
    pub(super) device: DeviceFile,
    /// 通过 MQTT 报告：主题和消息 / it publishes: topics and messages
    pub(super) mqtt: Option<MqttFile>,
    /// 通过 Modbus 轮询 / it is polled over Modbus
    pub(super) modbus: Option<ModbusFile>,
    /// 字节消息的校验 / what a message of bytes must be before anything in it is believed
    pub(super) frame: Option<Spanned<FrameFile>>,
    /// 设备自己的时间 / the device's own time
    pub(super) time: Option<Spanned<TimeFile>>,
    /// 测点 / what it reports
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) point: Vec<PointFile>,
    /// 可下达的命令（仅 Modbus） / what it can be told to do (Modbus only)
    #[serde(default)]
    pub(super) command: Vec<Spanned<CommandFile>>,
    /// 示例：至少一条能读，一条 refused = true / examples: at least one that is read and one with refused = true
    #[serde(default)]
    #[schemars(length(min = 2))]
    pub(super) example: Vec<ExampleFile>,
    /// 报警示例：一串示例应当报出什么 / what a series of the examples has to raise
    #[serde(default)]
    pub(super) hazard_example: Vec<HazardExampleFile>,
    /// 变型：其他固件、其他接入方式 / other firmware, other ways to be reached
    #[serde(default)]
    pub(super) variant: Vec<VariantFile>,
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceFile {
    /// 厂商 / who makes it
    #[schemars(length(min = 1))]
    vendor: Spanned<String>,
    /// 型号，与铭牌一致 / its model number, as on the box
    #[schemars(length(min = 1))]
    model: Spanned<String>,
    /// 名称 / what it is called
    pub(super) name: TextFile,
    /// 出处：说明书、版本、页码，或公开代码 / manual with revision and page, or public code
    #[schemars(length(min = 1))]
    pub(super) source: Spanned<String>,
    /// 谁、何时在实物上核对过；没有就不写 / who tried it on the hardware, and when; leave out if nobody has
    pub(super) verified: Option<String>,
    /// 适用的固件 / of which firmware it speaks
    pub(super) firmware: Option<Spanned<String>>,
    /// 同一设备的其他品牌型号 / the same device under other names
    #[serde(default)]
    also_sold_as: Vec<Spanned<String>>,
    /// 正常情况下最长的沉默，秒；有事才报的设备不写 / the longest normal silence, in seconds; leave out: it speaks only when something happens
    #[schemars(range(min = 1))]
    pub(super) silent_after_secs: Option<Spanned<u32>>,
}

/// What a point needs to know of the rest of its file.
pub(super) struct Surroundings<'v> {
    pub(super) vocabulary: &'v Vocabulary,
    pub(super) mqtt: Option<Mqtt>,
    pub(super) modbus: Option<ModbusDefaults>,
}

fn build(
    id: ProfileId,
    file: &ProfileFile,
    vocabulary: &Vocabulary,
    beside: &Beside<'_>,
    problems: &mut Problems,
) -> Option<Profile> {
    check_device(&file.device, problems);
    let (link, surroundings) = build_link(file, vocabulary, beside, problems)?;
    let mut names = HashSet::new();
    let mut points = Vec::new();
    for point in &file.point {
        if !names.insert(point.name.get_ref()) || point.name.get_ref() == LINK_POINT {
            problems.error(
                point.name.span(),
                format!("名称 {0:?} 已被占用 / the name {0:?} is taken", point.name.get_ref()),
                "测点名称不能重复；\"link\" 代表设备本身 / names are unique; \"link\" stands for the device itself",
            );
        }
        points.extend(build_point(point, &surroundings, problems));
    }
    if file.point.is_empty() || file.point.len() > POINTS_MAX {
        problems.whole_file(
            format!("型号文件有 {0} 个测点 / the profile has {0} points", file.point.len()),
            format!("应为 1 到 {POINTS_MAX} 个 / it needs 1 to {POINTS_MAX}"),
        );
    }
    let commands = build_commands(&file.command, &link, problems);
    // Examples name points; with a broken point they would only repeat its problem.
    if problems.has_errors() {
        return None;
    }
    let each = match (&file.mqtt, &surroundings.mqtt) {
        (Some(written), Some(mqtt)) => build_each(written, file.time.as_ref(), mqtt.made_of, problems),
        _ => None,
    };
    let topic_plans = match &surroundings.mqtt {
        Some(mqtt) => build_topic_plans(mqtt, file.time.as_ref(), file.frame.as_ref(), &points, problems),
        None => {
            refuse_message_tables(file, problems);
            Vec::new()
        }
    };
    let examples = build_examples(&file.example, &link, &topic_plans, each.is_some(), &points, problems);
    let hazard_examples =
        build_hazard_examples(&file.hazard_example, &examples, &points, vocabulary, problems.fresh());
    Some(Profile {
        id,
        model: file.device.name.text(),
        vendor: file.device.vendor.get_ref().clone(),
        model_number: file.device.model.get_ref().clone(),
        also_sold_as: file.device.also_sold_as.iter().map(|name| name.get_ref().clone()).collect(),
        source: file.device.source.get_ref().clone(),
        verified: file.device.verified.clone(),
        firmware: file.device.firmware.as_ref().map(|firmware| firmware.get_ref().clone()),
        link,
        silent_after: file
            .device
            .silent_after_secs
            .as_ref()
            .map(|secs| Span::from_secs(i64::from(*secs.get_ref()))),
        points,
        commands,
        examples,
        hazard_examples,
        topic_plans,
        each,
        ignored: surroundings.mqtt.map_or_else(Vec::new, |mqtt| mqtt.ignore_topics),
    })
}

fn check_device(device: &DeviceFile, problems: &mut Problems) {
    for (field, wrong) in [
        (&device.vendor, "厂商是空的 / the vendor is empty"),
        (&device.model, "型号是空的 / the model is empty"),
        (
            &device.source,
            "出处（说明书、版本、页码，或公开代码）是空的 / the source (manual with revision and page, or public code) is empty",
        ),
    ] {
        if field.get_ref().trim().is_empty() {
            problems.error(field.span(), wrong, "补上 / say it");
        }
    }
    for name in device.also_sold_as.iter().filter(|name| name.get_ref().trim().is_empty()) {
        problems.error(
            name.span(),
            "also_sold_as 里有空的名称 / another name is empty",
            "写厂商和型号，或删去 / write vendor and model, or remove it",
        );
    }
    if let Some(secs) = device.silent_after_secs.as_ref().filter(|secs| *secs.get_ref() == 0) {
        problems.error(
            secs.span(),
            "0 秒会使任何静默都算过长 / every silence would be too long",
            "只在有事时才发消息的设备，不写 silent_after_secs / leave silent_after_secs out for a device that only speaks when something happens",
        );
    }
}

fn build_link<'v>(
    file: &ProfileFile,
    vocabulary: &'v Vocabulary,
    beside: &Beside<'_>,
    problems: &mut Problems,
) -> Option<(ProfileLink, Surroundings<'v>)> {
    match (&file.mqtt, &file.modbus) {
        (Some(mqtt), None) => {
            let mqtt = build_mqtt(mqtt, beside, problems)?;
            let link = ProfileLink::Mqtt { topics: mqtt.all_topics() };
            Some((link, Surroundings { vocabulary, mqtt: Some(mqtt), modbus: None }))
        }
        (None, Some(modbus)) => {
            let (link, defaults) = build_modbus(modbus, problems);
            Some((link, Surroundings { vocabulary, mqtt: None, modbus: Some(defaults) }))
        }
        _ => {
            problems.whole_file(
                "型号文件要有 [mqtt] 或 [modbus] 之一 / a profile has either [mqtt] or [modbus]",
                "两种都支持的型号写成两个型号文件 / a model that speaks both gets two profiles",
            );
            None
        }
    }
}

fn refuse_message_tables(file: &ProfileFile, problems: &mut Problems) {
    if let Some(time) = &file.time {
        problems.error(
            time.span(),
            "寄存器不带设备时间 / registers carry no device time",
            "删去 [time] / remove [time]",
        );
    }
    if let Some(frame) = &file.frame {
        problems.error(
            frame.span(),
            "寄存器没有自己的报文格式 / registers come in no frame of their own",
            "删去 [frame] / remove [frame]",
        );
    }
}
