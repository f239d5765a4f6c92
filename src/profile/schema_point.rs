//! FRAMES → READINGS, the profile's points: from `[[point]]` to where a value is found and what it means.

use super::current_loop::build_current_loop;
use super::draft::{Problems, Spanned, TextFile, no_id, one_of, suggest, suggest_or_list};
use super::meaning::{Key, Kind, Meaning, Scale, Sense, Sentinel};
use super::message::{When, Where};
use super::schema::{ProfilePoint, Source, Surroundings};
use super::schema_bytes::{ByteFile, WhenFile, build_when};
use super::schema_mqtt::Mqtt;
use super::schema_register::{BitsFile, build_register};
use super::shape_point::{CodeFile, FromFile, PointFile, SentinelFile};
use super::vocabulary::{PointClass, parse_word};
use crate::model::{Code, DeviceId, Flaw, Quantity};

/// The words of `means`.
pub(super) const SENSES: [(&str, Sense); 3] = [
    ("not_fitted", Sense::Flaw(Flaw::NotFitted)),
    ("sensor_fault", Sense::Flaw(Flaw::SensorFault)),
    ("unreported", Sense::Unreported),
];

pub(super) fn build_point(
    file: &PointFile,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<ProfilePoint> {
    // A point's name obeys the rules of every slug.
    if let Err(error) = DeviceId::parse(file.name.get_ref()) {
        let (message, help) = no_id(&error);
        problems.error(file.name.span(), message, help);
    }
    let source = build_source(&file.from, around, problems);
    let when = file.when.as_ref().and_then(|when| build_point_when(when, file, around, problems));
    let Some(class) = around.vocabulary.class(file.class.get_ref()) else {
        let ids = around.vocabulary.classes().map(|class| class.id.as_str());
        let mut help = suggest(file.class.get_ref(), ids);
        if help.is_empty() {
            help = "类别列在 device-profiles/vocabulary.toml / the classes are listed in device-profiles/vocabulary.toml".to_owned();
        }
        problems.error(
            file.class.span(),
            format!("未知的类别 {0:?} / class {0:?} is unknown", file.class.get_ref()),
            help,
        );
        return None;
    };
    let (kind, range) = build_kind(file, class, problems)?;
    let sentinels = file.sentinels.iter().filter_map(|sentinel| build_sentinel(sentinel, problems)).collect();
    Some(ProfilePoint {
        name: file.name.get_ref().clone(),
        class: class.id.clone(),
        label: file.label.as_ref().map(TextFile::text),
        quantity: class.quantity,
        range,
        single_example: file.single_example.clone(),
        unit: file.unit.as_ref().map(|unit| unit.get_ref().clone()),
        source: source?,
        when,
        meaning: Meaning { kind, sentinels },
    })
}

fn build_sentinel(file: &SentinelFile, problems: &mut Problems) -> Option<Sentinel> {
    let raw = match &file.raw {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => file.raw.to_string(),
        _ => {
            problems.error(
                file.means.span(),
                "哨兵值是单个值 / a sentinel is a single value",
                "写数字、文本或 true/false / write a number, text or true/false",
            );
            return None;
        }
    };
    let sense = |word: &str| SENSES.into_iter().find(|(known, _)| *known == word).map(|(_, sense)| sense);
    let means = parse_word(&file.means, sense, SENSES.map(|(word, _)| word), problems)?;
    Some(Sentinel { raw: Key::new(&raw), means })
}

type KindAndRange = (Kind, Option<(f64, f64)>);

fn build_kind(file: &PointFile, class: &PointClass, problems: &mut Problems) -> Option<KindAndRange> {
    match class.quantity {
        Quantity::State => build_state(file, class, problems),
        Quantity::Flag => build_flag(file, problems),
        _ => build_number(file, class, problems),
    }
}

fn refuse_number_keys(file: &PointFile, problems: &mut Problems) {
    let spans = [
        file.unit.as_ref().map(Spanned::span),
        file.scale.as_ref().map(Spanned::span),
        file.offset.as_ref().map(Spanned::span),
        file.range.as_ref().map(Spanned::span),
        file.current_loop.as_ref().map(Spanned::span),
    ];
    for span in spans.into_iter().flatten() {
        problems.error(
            span,
            "状态和开关量没有单位、scale、offset、量程和电流环 / a state or flag has no unit, scale, offset, range or current loop",
            "删去 / remove it",
        );
    }
}

fn build_state(file: &PointFile, class: &PointClass, problems: &mut Problems) -> Option<KindAndRange> {
    refuse_number_keys(file, problems);
    let states: Vec<&str> = class.states.iter().map(|(code, _)| &**code).collect();
    let known = |written: &str, span, problems: &mut Problems| -> Code {
        if !states.contains(&written) {
            problems.error(
                span,
                format!(
                    "{written:?} 不是类别 {0:?} 的状态 / {written:?} is not a state of class {0:?}",
                    class.id.as_str()
                ),
                suggest_or_list(written, states.clone()),
            );
        }
        written.into()
    };
    let mut codes = Vec::new();
    for (raw, written) in &file.codes {
        match written.get_ref() {
            CodeFile::State(state) => codes.push((Key::new(raw), known(state, written.span(), problems))),
            CodeFile::Flag(_) => problems.error(
                written.span(),
                "状态是文本 / a state is a text",
                "写 \"normal\"、\"alarm\" … / write \"normal\", \"alarm\" …",
            ),
        }
    }
    let otherwise = file.otherwise.as_ref().map(|state| known(state.get_ref(), state.span(), problems));
    if codes.is_empty() {
        problems.error(
            file.name.span(),
            "状态要写 `codes` / a state needs `codes`",
            "加 codes = { 0 = \"normal\", 1 = \"alarm\" } / add codes = { 0 = \"normal\", 1 = \"alarm\" }",
        );
    }
    Some((Kind::State { codes, otherwise }, None))
}

fn build_flag(file: &PointFile, problems: &mut Problems) -> Option<KindAndRange> {
    refuse_number_keys(file, problems);
    if let Some(otherwise) = &file.otherwise {
        problems.error(
            otherwise.span(),
            "开关量没有 `otherwise` / a flag has no `otherwise`",
            "逐个写出 codes / list its codes",
        );
    }
    let mut codes = Vec::new();
    for (raw, written) in &file.codes {
        match written.get_ref() {
            CodeFile::Flag(flag) => codes.push((Key::new(raw), *flag)),
            CodeFile::State(_) => problems.error(
                written.span(),
                "开关量只有 true 和 false / a flag is true or false",
                "写 true 或 false / write true or false",
            ),
        }
    }
    Some((Kind::Flag { codes }, None))
}

fn build_number(file: &PointFile, class: &PointClass, problems: &mut Problems) -> Option<KindAndRange> {
    if !file.codes.is_empty() || file.otherwise.is_some() {
        problems.error(
            file.name.span(),
            "数值没有代码 / a number has no codes",
            "删去 `codes` 和 `otherwise` / remove `codes` and `otherwise`",
        );
    }
    let units = || class.quantity.units().collect::<Vec<_>>();
    let unit = match &file.unit {
        Some(unit) => unit.get_ref().as_str(),
        None if class.quantity.unit().is_empty() => "",
        None => {
            problems.error(file.name.span(), "数值要写单位 / a number needs its unit", one_of(&units()));
            return None;
        }
    };
    let Some(conversion) = class.quantity.conversion(unit) else {
        problems.error(
            file.unit.as_ref().map_or_else(|| file.name.span(), Spanned::span),
            format!("{unit:?} 不是 {0} 的单位 / {unit:?} is no unit of {0}", class.quantity.name()),
            suggest_or_list(unit, units()),
        );
        return None;
    };
    let to_canonical = Scale::new(conversion.factor, conversion.offset);
    let (scale, offset) = (file.scale.as_ref(), file.offset.as_ref());
    for number in [scale, offset].into_iter().flatten() {
        if !number.get_ref().is_finite() || (Some(number) == scale && *number.get_ref() == 0.0) {
            problems.error(
                number.span(),
                "scale 和 offset 须是有限的数，scale 不能是 0 / scale and offset are finite, and a scale is not 0",
                "改正数值 / mend the figure",
            );
        }
    }
    let own = Scale::new(scale.map_or(1.0, |s| *s.get_ref()), offset.map_or(0.0, |o| *o.get_ref()));
    let range = match &file.range {
        Some(written) => {
            let [low, high] = written.get_ref().map(|bound| to_canonical.apply(bound));
            if low.is_nan() || high.is_nan() || low >= high {
                problems.error(
                    written.span(),
                    "量程是空的 / the range is empty",
                    "按测点的单位写 [最低, 最高] / write [lowest, highest] in the point's unit",
                );
            }
            Some((low, high))
        }
        None => class.range,
    };
    let Some(written) = &file.current_loop else {
        return Some((Kind::Number { scale: own.then(to_canonical), range, current: None }, range));
    };
    if let Some(number) = scale.or(offset) {
        problems.error(
            number.span(),
            "电流环有自己的 scale / a current loop has its own scale",
            "写进 current_loop，4 mA 和 20 mA 对应的值也写在那里 / say it inside current_loop, and the values at 4 and 20 mA there",
        );
    }
    let (current, scale, measuring) = build_current_loop(written, problems)?;
    let (a, b) = (to_canonical.apply(measuring.0), to_canonical.apply(measuring.1));
    // Narrower by the profile's own word; the class's range is for sensors that do not say theirs.
    let range = if file.range.is_some() { range } else { Some((a.min(b), a.max(b))) };
    Some((Kind::Number { scale: scale.then(to_canonical), range, current: Some(current) }, range))
}

fn build_point_when(
    when: &Spanned<WhenFile>,
    file: &PointFile,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<When<Where>> {
    match &around.mqtt {
        Some(mqtt) if !file.from.get_ref().text => build_when(when, mqtt.made_of, problems),
        _ => {
            problems.error(
                when.span(),
                "`when` 只用于消息的字段 / `when` goes with the fields of a message",
                "删去 `when` / remove `when`",
            );
            None
        }
    }
}

fn build_source(
    from: &Spanned<FromFile>,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<Source> {
    let file = from.get_ref();
    if let Some(defaults) = around.modbus {
        let names = file.senml.is_some() || file.metric.is_some();
        if names
            || file.json.is_some()
            || file.codec.is_some()
            || file.sample.is_some()
            || file.text
            || file.topic.is_some()
            || file.byte.is_some()
            || file.required
        {
            problems.error(
                from.span(),
                "`json`、`byte`、`text`、`topic` 属于 [mqtt] / `json`, `byte`, `text` and `topic` belong to [mqtt]",
                "写 table 和 address / say table and address",
            );
            return None;
        }
        return build_register(from, defaults, problems).map(Source::Register);
    }
    let mqtt = around.mqtt.as_ref()?;
    if mqtt.payload.named().is_some() || file.senml.is_some() || file.metric.is_some() {
        return build_named(from, mqtt.payload.named(), problems);
    }
    let ways = [file.json.is_some(), file.codec.is_some(), file.text, file.byte.is_some()];
    let has_number_keys = file.kind.is_some()
        || file.order.is_some()
        || file.bits.is_some()
        || file.bit.is_some()
        || file.mask.is_some();
    let has_register_keys = file.table.is_some() || file.address.is_some() || file.every_secs.is_some();
    let ways = ways.iter().filter(|way| **way).count();
    let one_way = ways == 1 || (ways == 0 && file.sample.is_some());
    if let (Some(path), false) = (&file.sample, mqtt.has_samples()) {
        problems.error(
            from.span(),
            format!("`sample = {path:?}` 要读样本，但没有样本 / `sample = {path:?}` looks into samples, and there are none"),
            "加 [mqtt.samples]，写出样本列表的路径 / add [mqtt.samples] with the path of their list",
        );
        return None;
    }
    if has_register_keys || !one_way || (has_number_keys && file.byte.is_none()) {
        problems.error(
            from.span(),
            "消息中的测点由 `json` 或 `codec` 指定，或是纯文本 `text`，或在某个 `byte` 处 / a message's point is found by `json` or `codec`, or is plain `text`, or lies at a `byte`",
            "写其中一个；type、order、bit、bits、mask 与 byte 同用 / say one of them; type, order, bit, bits and mask go with byte",
        );
        return None;
    }
    if file.topic.is_some_and(|topic| topic >= mqtt.topics.len()) {
        problems.error(
            from.span(),
            "`topic` 是在 `topics` 中的位置，从 0 数起 / `topic` is the place in `topics`, from 0",
            "改用较小的数 / use a smaller number",
        );
        return None;
    }
    if file.text && (file.required || file.sample.is_some()) {
        problems.error(
            from.span(),
            "纯文本就是整条消息，总在，也只有它 / plain text is always there, and all there is",
            "删去其他键 / remove the other keys",
        );
    }
    if file.text {
        return build_text(from, mqtt, problems);
    }
    let at = match (&file.json, &file.codec, &file.byte) {
        (Some(path), ..) => Some(mqtt.made_of.check_path(path, from.span(), problems)?),
        (None, Some(path), _) => Some(mqtt.made_of.check_codec(path, from.span(), problems)?),
        (None, None, None) => None,
        (None, None, Some(byte)) => {
            let field = ByteFile {
                span: from.span(),
                byte,
                kind: file.kind.as_ref(),
                order: file.order.as_ref(),
                bits: BitsFile::of(from),
            };
            Some(mqtt.made_of.check_bytes(&field, problems)?)
        }
    };
    if let (None, true) = (&at, file.required) {
        problems.error(
            from.span(),
            "样本不一定有 / samples are not always there",
            "删去 `required` / remove `required`",
        );
    }
    Some(Source::Message { at, sample: file.sample.clone(), topic: file.topic, required: file.required })
}

/// `key` is the one that this profile's messages have; `None`: their values have no names.
fn build_named(
    from: &Spanned<FromFile>,
    key: Option<&'static str>,
    problems: &mut Problems,
) -> Option<Source> {
    let file = from.get_ref();
    let Some(key) = key else {
        let help = "在 [mqtt] 写 payload = \"senml\" 或 \"sparkplug_b\"，或换一种方式找测点 / say payload = \"senml\" or \"sparkplug_b\" in [mqtt], or find the point otherwise";
        problems.error(from.span(), "这些消息里没有名称 / these messages have no names", help);
        return None;
    };
    let (own, other) = if key == "senml" { (&file.senml, &file.metric) } else { (&file.metric, &file.senml) };
    let more = other.is_some()
        || file.json.is_some()
        || file.codec.is_some()
        || file.sample.is_some()
        || file.text
        || file.topic.is_some()
        || file.byte.is_some()
        || file.table.is_some()
        || file.address.is_some()
        || file.kind.is_some()
        || file.bit.is_some()
        || file.bits.is_some()
        || file.mask.is_some()
        || file.every_secs.is_some()
        || file.required;
    let name = own.clone().filter(|name| !name.is_empty() && !more);
    if name.is_none() {
        problems.error(
            from.span(),
            format!("这种 `payload` 按名称 `{key}` 找测点 / with this `payload` a point is found by its name, `{key}`"),
            format!("写 from = {{ {key} = \"…\" }} / write from = {{ {key} = \"…\" }}"),
        );
    }
    name.map(|name| Source::Named { name })
}

fn build_text(from: &Spanned<FromFile>, mqtt: &Mqtt, problems: &mut Problems) -> Option<Source> {
    match from.get_ref().topic {
        Some(topic) => Some(Source::Text { topic }),
        None if mqtt.topics.len() == 1 => Some(Source::Text { topic: 0 }),
        None => {
            problems.error(
                from.span(),
                "纯文本只来自一个主题 / plain text comes on one topic",
                "加 topic = 0、1、… / add topic = 0, 1, …",
            );
            None
        }
    }
}
