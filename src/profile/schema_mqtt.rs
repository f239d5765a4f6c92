//! FRAMES → READINGS, the profile's messages: from `[mqtt]`, `[time]` and `[frame]` to what is looked for on each topic.

use super::availability::Availability;
use super::bytes::{ByteOrder, Encoding};
use super::decode::TopicPlan;
use super::device_time::TimeUnit;
use super::draft::{Problems, Spanned, one_of, suggest_or_list};
use super::each::Each;
use super::frame::Frame;
use super::json::Paths;
use super::message::{BytesIn, Fields, Lookup, Place, When, Where};
use super::named::Names;
use super::schema::{ProfilePoint, Source};
use super::schema_bytes::{FrameFile, MadeOf, build_frame, build_keys, build_when};
use super::script::{Beside, Port, Script, ScriptOf, build_script};
use super::shape_mqtt::{AvailabilityFile, MqttFile, TimeFile};
use super::sparkplug::TOPIC_FILTERS;
use super::timed::{Samples, SamplesOf, build_samples};
use super::topic::TopicPattern;
use super::vocabulary::parse_word;

mod time;
use self::time::{build_time, build_units};

/// `[mqtt] payload`: how a message is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Payload {
    /// `"json"`, and by default. Points with `text = true` may have topics of their own.
    Json,
    /// `"text"`: each message is one value.
    Text,
    /// `"hex"`, `"base64"`, `"binary"`: each message is a row of bytes.
    Bytes(Encoding),
    /// `{ json = "data", encoding = "base64" }`: JSON around a row of bytes.
    Inside { path: String, encoding: Encoding },
    /// `"senml"`: records with names.
    SenMl,
    /// `"sparkplug_b"`: metrics with names, on topics of its own.
    SparkplugB,
}

impl Payload {
    pub(super) const NAMES: [&'static str; 7] =
        ["json", "text", "hex", "base64", "binary", "senml", "sparkplug_b"];

    fn parse(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            "senml" => Some(Self::SenMl),
            "sparkplug_b" => Some(Self::SparkplugB),
            _ => Encoding::parse(name).map(Self::Bytes),
        }
    }

    /// The key of `from` that names one of its values, where they have names.
    pub(super) fn named(&self) -> Option<&'static str> {
        match self {
            Self::SenMl => Some("senml"),
            Self::SparkplugB => Some("metric"),
            Self::Json | Self::Text | Self::Bytes(_) | Self::Inside { .. } => None,
        }
    }
}

/// What `[mqtt]` says, for the points and for the topics' plans.
pub(super) struct Mqtt {
    /// Those that points are read from.
    pub(super) topics: Vec<TopicPattern>,
    pub(super) made_of: MadeOf,
    pub(super) payload: Payload,
    /// Its topic comes behind the others.
    availability: Option<(TopicPattern, Availability)>,
    pub(super) ignore_topics: Vec<TopicPattern>,
    ignore_when: Vec<When<Where>>,
    script: Option<ScriptOf>,
    samples: Option<SamplesOf>,
    is_shared: bool,
}

impl Mqtt {
    /// Whether its messages may hold several samples.
    pub(super) fn has_samples(&self) -> bool {
        self.samples.is_some()
    }

    /// All topics, in the order of their plans.
    pub(super) fn all_topics(&self) -> Vec<TopicPattern> {
        self.topics.iter().chain(self.availability.as_ref().map(|(topic, _)| topic)).cloned().collect()
    }
}

pub(super) fn build_mqtt(file: &MqttFile, beside: &Beside<'_>, problems: &mut Problems) -> Option<Mqtt> {
    let is_shared = file.each.is_some();
    let payload = file.payload.as_ref().and_then(|written| build_payload(written, problems));
    let payload = payload.unwrap_or(Payload::Json);
    let mut topics = Vec::new();
    match &file.topics {
        Some(written) if payload == Payload::SparkplugB => {
            problems.error(
                written.span(),
                "Sparkplug B 自己规定主题 / Sparkplug B prescribes its topics",
                "删去 `topics` / remove `topics`",
            );
        }
        None if payload == Payload::SparkplugB => {
            topics.extend(TOPIC_FILTERS.into_iter().map(TopicPattern::without_address));
        }
        None => {
            problems.whole_file(
                "[mqtt] 没有 topics / [mqtt] has no topics",
                "加 topics = [\"site/{address}/up\"] / add topics = [\"site/{address}/up\"]",
            );
            return None;
        }
        Some(written) if written.get_ref().is_empty() => {
            problems.error(
                written.span(),
                "一个主题也没有 / there is no topic",
                "至少写一个 / add at least one",
            );
        }
        Some(written) => {
            let parse = if is_shared { TopicPattern::parse_shared } else { TopicPattern::parse };
            topics.extend(written.get_ref().iter().filter_map(|topic| build_topic(topic, parse, problems)));
        }
    }
    let order = file
        .byte_order
        .as_ref()
        .and_then(|written| parse_word(written, ByteOrder::parse, ByteOrder::NAMES, problems));
    let bytes = matches!(payload, Payload::Bytes(_) | Payload::Inside { .. });
    let script = build_script(file.codec.as_ref(), file.port.as_ref(), bytes, beside, problems);
    let made_of = MadeOf {
        json: matches!(payload, Payload::Json | Payload::Inside { .. }),
        bytes,
        codec: file.codec.is_some(),
        order,
    };
    let samples = file.samples.as_ref().and_then(|written| {
        let units = written.get_ref().unit.as_ref().and_then(|unit| build_units(unit, problems));
        build_samples(written, units, made_of, problems)
    });
    let ignored = file.ignore_topics.iter();
    let ignore_topics =
        ignored.filter_map(|written| build_topic(written, TopicPattern::parse_ignored, problems)).collect();
    let ignore_when =
        file.ignore_when.iter().filter_map(|when| build_when(when, made_of, problems)).collect();
    let availability = file.availability.as_ref().and_then(|file| build_availability(file, problems));
    if let (true, Some(file)) = (is_shared, &file.availability) {
        problems.error(
            file.span(),
            "在线状态的主题属于单个设备 / a topic of availability is one device's",
            "删去 [mqtt.each] 或这一表 / remove [mqtt.each] or this",
        );
    }
    if let (Payload::SparkplugB, Some(file)) = (&payload, &file.availability) {
        problems.error(
            file.span(),
            "Sparkplug 自己会报告离线 / Sparkplug tells of deaths by itself",
            "删去 [mqtt.availability] / remove [mqtt.availability]",
        );
    }
    Some(Mqtt {
        topics,
        made_of,
        payload,
        availability,
        ignore_topics,
        ignore_when,
        script,
        samples,
        is_shared,
    })
}

fn build_topic(
    written: &Spanned<String>,
    parse: impl Fn(&str) -> Result<TopicPattern, String>,
    problems: &mut Problems,
) -> Option<TopicPattern> {
    match parse(written.get_ref()) {
        Ok(topic) => Some(topic),
        Err(wrong) => {
            problems.error(
                written.span(),
                wrong,
                "写成 site/{site}/device/{address}/up / write site/{site}/device/{address}/up",
            );
            None
        }
    }
}

/// The path at which JSON says whether a device is there: Zigbee2MQTT's.
const AVAILABILITY_PATH: &str = "state";

fn build_availability(
    written: &Spanned<AvailabilityFile>,
    problems: &mut Problems,
) -> Option<(TopicPattern, Availability)> {
    let file = written.get_ref();
    let topic = build_topic(&file.topic, TopicPattern::parse, problems);
    let mut paths = Paths::default();
    let path = file.json.as_ref().map_or(AVAILABILITY_PATH, |path| path.get_ref().as_str());
    if let Err(wrong) = paths.add(path) {
        problems.error(written.span(), wrong, "写路径，如 state / write a path such as state");
    }
    let online = build_keys(&file.online, problems)?;
    let offline = build_keys(&file.offline, problems)?;
    if online.iter().any(|key| offline.contains(key)) {
        problems.error(
            written.span(),
            "同一个词既表示在线又表示离线 / the same word means online and offline",
            "各用各的词 / give each its own",
        );
    }
    Some((topic?, Availability { paths, online, offline }))
}

/// `[mqtt.each]`.
pub(super) fn build_each(
    file: &MqttFile,
    time: Option<&Spanned<TimeFile>>,
    made_of: MadeOf,
    problems: &mut Problems,
) -> Option<Each> {
    let written = file.each.as_ref()?;
    let mut paths = Paths::default();
    let mut add = |path: &Spanned<String>, paths: &mut Paths| match paths.add(path.get_ref()) {
        Ok(slot) => Some(slot),
        Err(wrong) => {
            problems.error(path.span(), wrong, "写路径，如 data.devices / write a path such as data.devices");
            None
        }
    };
    let container = match &written.get_ref().path {
        Some(path) => Some(add(path, &mut paths)?),
        None => None,
    };
    let address = match &written.get_ref().address {
        Some(path) => {
            let mut paths = Paths::default();
            add(path, &mut paths)?;
            Some(paths)
        }
        None => None,
    };
    let of_message = time.map(Spanned::get_ref).filter(|time| time.of.is_some());
    let slot = of_message.and_then(|time| time.json.as_ref()).and_then(|path| add(path, &mut paths));
    if let (Some(time), None) = (of_message, slot) {
        problems.error(
            time.unit.span(),
            "整条消息的时间由 `json` 指定 / the time of a whole message lies at `json`",
            "写 json = \"ts\" / say json = \"ts\"",
        );
    }
    if !made_of.json {
        problems.error(
            written.span(),
            "只有 JSON 能含几个设备 / only JSON holds several devices",
            "改 [mqtt] payload / change [mqtt] payload",
        );
    }
    let units = of_message.and_then(|time| build_units(&time.unit, problems));
    Some(Each { paths, container, time: slot.zip(units), address })
}

fn build_payload(written: &Spanned<toml::Value>, problems: &mut Problems) -> Option<Payload> {
    match written.get_ref() {
        toml::Value::String(name) => {
            let payload = Payload::parse(name);
            if payload.is_none() {
                let help = suggest_or_list(name, Payload::NAMES);
                problems.error(
                    written.span(),
                    format!("未知的 payload {name:?} / the payload {name:?} is unknown"),
                    help,
                );
            }
            payload
        }
        toml::Value::Table(table) => {
            let text = |key: &str| table.get(key).and_then(toml::Value::as_str);
            // Binary bytes are no text and so never inside JSON.
            let encoding = text("encoding").and_then(Encoding::parse).filter(|e| *e != Encoding::Binary);
            let (Some(path), Some(encoding), 2) = (text("json"), encoding, table.len()) else {
                problems.error(
                    written.span(),
                    "JSON 里的字节要写路径和编码 / bytes inside JSON need their path and how they are written",
                    "写 { json = \"data\", encoding = \"base64\" } 或 \"hex\" / write { json = \"data\", encoding = \"base64\" } or \"hex\"",
                );
                return None;
            };
            if let Err(wrong) = Paths::default().add(path) {
                problems.error(
                    written.span(),
                    wrong,
                    "写路径，如 uplink_message.frm_payload / write a path such as uplink_message.frm_payload",
                );
            }
            Some(Payload::Inside { path: path.to_owned(), encoding })
        }
        _ => {
            problems.error(
                written.span(),
                "payload 是一个词，或含 json 和 encoding 的表 / the payload is a word, or a table with json and encoding",
                one_of(&Payload::NAMES),
            );
            None
        }
    }
}

/// What each topic is read by.
pub(super) fn build_topic_plans(
    mqtt: &Mqtt,
    time: Option<&Spanned<TimeFile>>,
    frame: Option<&Spanned<FrameFile>>,
    points: &[ProfilePoint],
    problems: &mut Problems,
) -> Vec<TopicPlan> {
    let mut plans = if mqtt.payload.named().is_some() {
        named_plans(mqtt, time, frame, points, problems)
    } else {
        field_plans(mqtt, time, frame, points, problems)
    };
    plans.extend(
        mqtt.availability.iter().map(|(_, availability)| TopicPlan::Availability(availability.clone())),
    );
    plans
}

fn field_plans(
    mqtt: &Mqtt,
    time: Option<&Spanned<TimeFile>>,
    frame: Option<&Spanned<FrameFile>>,
    points: &[ProfilePoint],
    problems: &mut Problems,
) -> Vec<TopicPlan> {
    let time = time.and_then(|time| build_time(time, mqtt, problems));
    let frame = build_frame(frame, mqtt.made_of, problems);
    let common = Common { mqtt, time: time.as_ref(), frame: &frame, points };
    let topics = mqtt.topics.iter().enumerate();
    topics.map(|(kind, topic)| common.plan(kind, topic, problems)).collect()
}

/// Messages of named values need no plan for each topic: every topic may bring every name.
fn named_plans(
    mqtt: &Mqtt,
    time: Option<&Spanned<TimeFile>>,
    frame: Option<&Spanned<FrameFile>>,
    points: &[ProfilePoint],
    problems: &mut Problems,
) -> Vec<TopicPlan> {
    if let Some(time) = time {
        problems.error(
            time.span(),
            "它的每个值都带时间 / its values carry their own times",
            "删去 [time] / remove [time]",
        );
    }
    if let Some(frame) = frame {
        problems.error(
            frame.span(),
            "它的消息没有另外的报文格式 / its messages come in no frame of their own",
            "删去 [frame] / remove [frame]",
        );
    }
    let mut names = Names::default();
    for (place, point) in points.iter().enumerate() {
        if let Source::Named { name } = &point.source {
            names.entry(name.as_str().into()).or_default().push(place);
        }
    }
    let plan =
        if mqtt.payload == Payload::SenMl { TopicPlan::SenMl(names) } else { TopicPlan::Sparkplug(names) };
    vec![plan; mqtt.topics.len()]
}

/// What all topics share.
struct Common<'a> {
    mqtt: &'a Mqtt,
    time: Option<&'a (Where, Vec<TimeUnit>)>,
    frame: &'a Frame,
    points: &'a [ProfilePoint],
}

impl Common<'_> {
    fn plan(&self, kind: usize, topic: &TopicPattern, problems: &mut Problems) -> TopicPlan {
        let of_kind = |point: &usize| match self.points.get(*point).map(|point| &point.source) {
            Some(Source::Text { topic }) => *topic == kind,
            _ => false,
        };
        let texts: Vec<usize> = (0..self.points.len()).filter(of_kind).collect();
        let fields = self.fields(kind, problems);
        match (texts.is_empty(), fields.lookups.is_empty() && fields.samples.is_none()) {
            (true, true) => problems.whole_file(
                format!("没有测点读取主题 {0:?} / no point reads the topic {0:?}", topic.as_str()),
                "删去这个主题，或加一个测点 / remove the topic or add a point",
            ),
            (false, false) => problems.whole_file(
                format!("主题 {0:?} 既按字段读，又当纯文本读 / the topic {0:?} is read both by its fields and as plain text", topic.as_str()),
                "给其他测点写 `topic` / give the other points a `topic`",
            ),
            _ => {}
        }
        if texts.is_empty() { TopicPlan::Fields(Box::new(fields)) } else { TopicPlan::Text(texts) }
    }

    /// What is read of each of several samples; `None`: nothing.
    fn samples(&self, kind: usize, problems: &mut Problems) -> Option<(&Where, Samples)> {
        let SamplesOf { container, when } = self.mqtt.samples.as_ref()?;
        let mut samples = Samples::new(when.clone())
            .map_err(|wrong| {
                problems.whole_file(format!("[mqtt.samples]: {wrong}"), "改正路径 / mend the path")
            })
            .ok()?;
        for (place, point) in self.points.iter().enumerate() {
            let Source::Message { sample: Some(path), topic, .. } = &point.source else { continue };
            if topic.is_some_and(|topic| topic != kind) {
                continue;
            }
            if let Err(wrong) = samples.look(place, &point.name, path) {
                problems.whole_file(
                    format!("point {:?}: {wrong}", point.name),
                    "改正 `sample` 的路径 / mend the path of `sample`",
                );
            }
        }
        (!samples.is_empty()).then_some((container, samples))
    }

    fn fields(&self, kind: usize, problems: &mut Problems) -> Fields {
        let mut fields = Fields { frame: self.frame.clone(), ..Fields::default() };
        let mut said = Paths::default();
        let samples = self.samples(kind, problems);
        let mut placed = |at: &Where, name: &str| {
            let slot = match at {
                Where::Bytes(field) => return Some(Place::Bytes(*field)),
                Where::Json(path) => fields.paths.add(path).map(Place::Json),
                Where::Codec(path) => said.add(path).map(Place::Codec),
            };
            slot.map_err(|wrong| problems.whole_file(format!("{name}: {wrong}"), "改正路径 / mend the path"))
                .ok()
        };
        for (place, point) in self.points.iter().enumerate() {
            let Source::Message { at, topic, required, .. } = &point.source else { continue };
            if topic.is_some_and(|topic| topic != kind) {
                continue;
            }
            let name = format!("point {:?}", point.name);
            let Some(at) = at else { continue };
            let when = match &point.when {
                Some(when) => match placed(&when.place, &name) {
                    Some(place) => Some(When { place, is: when.is.clone() }),
                    None => continue,
                },
                None => None,
            };
            let Some(at) = placed(at, &name) else { continue };
            fields.lookups.push(Lookup { point: place, place: at, when, required: *required });
        }
        for when in &self.mqtt.ignore_when {
            if let Some(place) = placed(&when.place, "ignore_when") {
                fields.ignore.push(When { place, is: when.is.clone() });
            }
        }
        if let Some((at, units)) = self.time {
            fields.time = placed(at, "[time]").map(|place| (place, units.clone()));
        }
        fields.samples =
            samples.and_then(|(container, samples)| Some((placed(container, "[mqtt.samples]")?, samples)));
        fields.bytes = match &self.mqtt.payload {
            Payload::Json | Payload::Text | Payload::SenMl | Payload::SparkplugB => BytesIn::Nothing,
            Payload::Bytes(encoding) => BytesIn::Whole(*encoding),
            Payload::Inside { path, encoding } => match placed(&Where::Json(path.clone()), "payload") {
                Some(Place::Json(slot)) => BytesIn::Slot(slot, *encoding),
                _ => BytesIn::Nothing,
            },
        };
        if let Some(ScriptOf { codec, port }) = &self.mqtt.script {
            let port = port.as_ref().and_then(|port| match port {
                Port::Fixed(port) => Some(Port::Fixed(*port)),
                Port::At(path) => match placed(&Where::Json(path.clone()), "port") {
                    Some(Place::Json(slot)) => Some(Port::At(slot)),
                    _ => None,
                },
            });
            fields.script = Some(Script { codec: codec.clone(), port, paths: said });
        }
        fields
    }
}
