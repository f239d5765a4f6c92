//! FRAMES → READINGS, examples: what a profile claims, written down and checked. A profile without them is refused;
//! examples that leave a point, a code or a sentinel unseen are reported.

use super::bytes::hex;
use super::decode::{Decoded, Sample, TopicPlan};
use super::device_time::parse_iso8601;
use super::draft::{Problems, Spanned, suggest_or_list};
use super::meaning::{Kind, Scale, Sense};
use super::schema::{Profile, ProfileLink, ProfilePoint, Source};
use super::schema_register::parse_table;
use crate::model::{
    Flaw, LINK_POINT, Quality, Quantity, RegisterBlock, RegisterTable, Text, Timestamp, Trouble, Value,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// When an example is received unless it says otherwise.
const RECEIVED_AT: Timestamp = Timestamp::from_secs(1_767_225_600); // 2026-01-01T00:00:00Z

/// How far a decoded number may be from the written one, relative to it (and at least to 1): a single-precision
/// float on the wire has 24 bits, 6e-8.
const TOLERANCE: f64 = 1e-6;

/// One message or one round of register reads, and what has to come out.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// What it shows.
    pub name: String,
    /// Index into [`Profile::topics`].
    pub topic: usize,
    /// Which device's part of the message is meant, where it tells of several.
    pub address: Option<String>,
    /// What arrives.
    pub input: ExampleInput,
    /// When it arrives.
    pub received_at: Timestamp,
    /// True: nothing may be understood (a message), or nothing may be usable (registers).
    pub refused: bool,
    /// What every sample says, by the point's name.
    expected: BTreeMap<String, String>,
    sampled_at: Option<Timestamp>,
    late: bool,
    /// What is told of the past, by the point's name: `21.5 ℃ @ 2026-01-15T02:20:05Z`, oldest first.
    history: BTreeMap<String, Vec<String>>,
}

/// What an example feeds to the decoder.
#[derive(Debug, Clone, PartialEq)]
pub enum ExampleInput {
    /// The payload. A profile writes one of bytes in hexadecimal.
    Message(Vec<u8>),
    /// The blocks of a register dump.
    Registers(Vec<RegisterBlock>),
}

/// An example that does not come out as it says, or something that no example shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleFailure {
    /// Which example; `None`: the examples as a whole.
    pub example: Option<String>,
    /// What is wrong.
    pub message: String,
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct ExampleFile {
    /// 它说明什么 / what it shows
    name: Spanned<String>,
    /// topics 中的第几个，从 0 数 / which of the topics, from 0
    #[serde(default)]
    topic: usize,
    /// 消息含多个设备时：指哪一个 / of a message of several devices: which one is meant
    address: Option<Spanned<String>>,
    /// 收到的内容：消息，十六进制字节，或 "@0: 0001 0002" 形式的寄存器 / what arrives: a message, bytes in hexadecimal, or registers, "@0: 0001 0002"
    input: Spanned<String>,
    /// 每个测点应得的读数，如 "23.4 ℃" / what each point has to say, such as "23.4 ℃"
    #[serde(default)]
    readings: BTreeMap<Spanned<String>, Spanned<String>>,
    /// true：必须读不出来 / true: nothing may be understood
    #[serde(default)]
    refused: bool,
    /// 收到的时刻（ISO 8601，带时区），默认 2026-01-01T00:00:00Z / when it arrives (ISO 8601 with its zone); 2026-01-01T00:00:00Z by default
    received_at: Option<Spanned<String>>,
    /// 应得的采样时刻 / the time that the readings must have
    sampled_at: Option<Spanned<String>>,
    /// true：读数应为迟报 / true: the readings must be late
    #[serde(default)]
    late: bool,
    /// 每个测点应得的历史，由旧到新，如 "21.5 ℃ @ 2026-01-15T02:20:05Z" / the past of each point, oldest first, such as "21.5 ℃ @ 2026-01-15T02:20:05Z"
    #[serde(default)]
    history: BTreeMap<Spanned<String>, Vec<String>>,
}

pub(super) fn build_examples(
    files: &[ExampleFile],
    link: &ProfileLink,
    plans: &[TopicPlan],
    is_shared: bool,
    points: &[ProfilePoint],
    problems: &mut Problems,
) -> Vec<Example> {
    if !files.iter().any(|file| file.refused) || files.iter().all(|file| file.refused) {
        problems.whole_file(
            "型号文件须由示例验证：至少一个能读出的，和一个 refused = true 的 / a profile proves itself by examples: at least one that is read and one with refused = true",
            "加 [[example]]，写 name、input 和 readings / add [[example]] with name, input and readings",
        );
    }
    for file in files.iter().filter(|file| file.address.is_some() != is_shared) {
        // Of a message that cannot be read at all, no part is meant.
        if file.refused && is_shared {
            continue;
        }
        problems.error(
            file.name.span(),
            "`address` 说明指的是含几个设备的消息中的哪一个 / `address` says which part of a message of several devices is meant",
            if is_shared { "加 address = \"…\" / add address = \"…\"" } else { "删去 / remove it" },
        );
    }
    files.iter().filter_map(|file| build_example(file, link, plans, points, problems)).collect()
}

fn build_example(
    file: &ExampleFile,
    link: &ProfileLink,
    plans: &[TopicPlan],
    points: &[ProfilePoint],
    problems: &mut Problems,
) -> Option<Example> {
    let link_is_read = plans.iter().any(|plan| matches!(plan, TopicPlan::Availability(_)));
    let named = file.readings.keys().filter(|point| *point.get_ref() != LINK_POINT || !link_is_read);
    for point in named.chain(file.history.keys()) {
        if !points.iter().any(|known| known.name == *point.get_ref()) {
            problems.error(
                point.span(),
                format!("型号文件里没有测点 {0:?} / the profile has no point {0:?}", point.get_ref()),
                suggest_or_list(point.get_ref(), points.iter().map(|known| known.name.as_str())),
            );
        }
    }
    let mut time = |written: &Option<Spanned<String>>| {
        let written = written.as_ref()?;
        let parsed = parse_iso8601(written.get_ref());
        if parsed.is_none() {
            problems.error(
                written.span(),
                "这不是时间 / this is no time",
                "写成 2026-01-15T10:30:05+08:00，带时区 / write 2026-01-15T10:30:05+08:00",
            );
        }
        parsed
    };
    let (received_at, sampled_at) = (time(&file.received_at).unwrap_or(RECEIVED_AT), time(&file.sampled_at));
    let input = match read_input(file.topic, file.input.get_ref(), link, plans, points) {
        Ok(input) => input,
        Err(wrong) => {
            let span = if wrong.is_topic { file.name.span() } else { file.input.span() };
            problems.error(span, wrong.message, wrong.help);
            return None;
        }
    };
    Some(Example {
        name: file.name.get_ref().clone(),
        topic: file.topic,
        address: file.address.as_ref().map(|address| address.get_ref().clone()),
        input,
        received_at,
        refused: file.refused,
        expected: file.readings.iter().map(|(k, v)| (k.get_ref().clone(), v.get_ref().clone())).collect(),
        sampled_at,
        late: file.late,
        history: file.history.iter().map(|(k, v)| (k.get_ref().clone(), v.clone())).collect(),
    })
}

/// Why a text is no input.
struct WrongInput {
    is_topic: bool,
    message: String,
    help: &'static str,
}

/// The text of an example, or of a frame that a person tries, as what arrives.
fn read_input(
    topic: usize,
    text: &str,
    link: &ProfileLink,
    plans: &[TopicPlan],
    points: &[ProfilePoint],
) -> Result<ExampleInput, WrongInput> {
    let refuse = |message: String, help| WrongInput { is_topic: false, message, help };
    match link {
        ProfileLink::Mqtt { .. } if topic < plans.len() => {
            let bytes = match plans.get(topic) {
                Some(plan) if plan.is_binary() => hex(text.as_bytes()),
                _ => Ok(text.as_bytes().to_owned()),
            };
            bytes
                .map(ExampleInput::Message)
                .map_err(|wrong| {
                    refuse(
                        format!("字节写错了：{wrong} / these are no bytes in hexadecimal"),
                        "用十六进制写字节：\"A5 5A 00\" / write the bytes in hexadecimal: \"A5 5A 00\"",
                    )
                })
        }
        ProfileLink::Modbus { address_base, .. } if topic == 0 => {
            let tables: BTreeSet<RegisterTable> = points
                .iter()
                .filter_map(
                    |p| if let Source::Register(field) = &p.source { Some(field.table) } else { None },
                )
                .collect();
            let only_table = tables.first().copied().filter(|_| tables.len() == 1);
            parse_dump(text, address_base.unwrap_or(0), only_table)
                .map(ExampleInput::Registers)
                .map_err(|wrong| refuse(wrong, "写成 input@0: 019A 00EB，或 input@0+2: no_answer / write input@0: 019A 00EB, or input@0+2: no_answer"))
        }
        _ => Err(WrongInput {
            is_topic: true,
            message: "`topic` 是在 [mqtt] topics 中的位置，从 0 数起 / `topic` is the place in [mqtt] topics, from 0".to_owned(),
            help: "改用较小的数 / use a smaller number",
        }),
    }
}

/// Lines such as `input@0: 019A 00EB` (hexadecimal), `@0: 0001`, `input@4+2: no_answer`, `input@4+2: exception 2`.
fn parse_dump(
    text: &str,
    address_base: u16,
    only_table: Option<RegisterTable>,
) -> Result<Vec<RegisterBlock>, String> {
    let mut blocks = Vec::new();
    for line in text.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty()) {
        let refuse = |what: &str| format!("{line:?}: {what}");
        let (place, words) = line.split_once(':').ok_or_else(|| refuse("没有 ':' / there is no ':'"))?;
        let (table, place) = place.split_once('@').ok_or_else(|| refuse("没有 '@' / there is no '@'"))?;
        let table = match table.trim() {
            "" => only_table.ok_or_else(|| refuse("在 @ 前写明寄存器区 / say the table before the @"))?,
            name => parse_table(name).ok_or_else(|| refuse("未知的寄存器区 / the table is unknown"))?,
        };
        let (start, asked) =
            place.split_once('+').map_or((place, None), |(start, asked)| (start, Some(asked)));
        let start = start.trim().parse::<u32>().ok().and_then(|start| start.checked_sub(address_base.into()));
        let start = start.and_then(|start| u16::try_from(start).ok());
        let start = start.ok_or_else(|| {
            refuse("地址不对；它与测点的地址一样，从 address_base 数起 / the address is wrong; it counts from address_base, as those of the points")
        })?;
        let asked: Option<u16> = match asked {
            Some(asked) => Some(asked.trim().parse().map_err(|_| refuse("个数不对 / the count is wrong"))?),
            None => None,
        };
        let words = parse_words(words.trim())
            .ok_or_else(|| refuse("寄存器的值不是十六进制 / the words are not hexadecimal"))?;
        let given = words.as_ref().map_or(0, Vec::len);
        let count = asked.or_else(|| u16::try_from(given).ok()).filter(|count| *count > 0);
        let count = count.ok_or_else(|| refuse("写明读了几个：@0+4 / say how many were asked for: @0+4"))?;
        blocks.push(RegisterBlock { table, start, words, count });
    }
    if blocks.is_empty() {
        Err("一个寄存器也没有 / the dump is empty".to_owned())
    } else {
        Ok(blocks)
    }
}

fn parse_words(text: &str) -> Option<Result<Vec<u16>, Trouble>> {
    if text == "no_answer" {
        return Some(Err(Trouble::NoAnswer));
    }
    if let Some(code) = text.strip_prefix("exception ") {
        return Some(Err(Trouble::Exception(code.trim().parse().ok()?)));
    }
    let words: Option<Vec<u16>> =
        text.split_whitespace().map(|word| u16::from_str_radix(word, 16).ok()).collect();
    words.map(Ok)
}

impl Profile {
    /// Decodes one example as the gateway would.
    pub fn decode_example(&self, example: &Example) -> Decoded {
        match &example.input {
            ExampleInput::Message(payload) if self.is_shared() => self.decode_example_part(example, payload),
            ExampleInput::Message(payload) => {
                self.decode_message(example.topic, payload, example.received_at)
            }
            ExampleInput::Registers(blocks) => self.decode_registers(blocks, example.received_at),
        }
    }

    fn decode_example_part(&self, example: &Example, payload: &[u8]) -> Decoded {
        let mut decoded = None;
        let read = self.parts(payload, &mut |part| {
            if part.address == example.address {
                decoded = Some(self.decode_part(example.topic, part, example.received_at));
            }
        });
        let missing = || match read {
            Err(problem) => problem,
            Ok(()) => "消息中没有这个地址的设备".to_owned(),
        };
        decoded.unwrap_or_else(|| Decoded::refused(missing()))
    }

    /// A frame as a person writes it: the text of a message, the hexadecimal of bytes, or a register dump; as in an example.
    ///
    /// # Errors
    ///
    /// It cannot be read as such; what is wrong and what to write.
    pub fn frame_input(&self, topic: usize, text: &str) -> Result<ExampleInput, String> {
        read_input(topic, text, &self.link, &self.topic_plans, &self.points)
            .map_err(|wrong| format!("{} ({})", wrong.message, wrong.help))
    }

    /// What a sample says, as an example writes it: `23.5 ℃`, `alarm`, `not_fitted`.
    pub fn shown(&self, sample: &Sample) -> String {
        self.points
            .get(sample.point)
            .map(|point| shown(point, &sample.value, sample.flaw))
            .unwrap_or_default()
    }

    /// Checks every example, and that together they show every point twice, every code and every sentinel.
    pub fn check_examples(&self) -> Vec<ExampleFailure> {
        let mut failures = Vec::new();
        for example in &self.examples {
            let wrong = self.check_example(example);
            failures.extend(
                wrong
                    .into_iter()
                    .map(|message| ExampleFailure { example: Some(example.name.clone()), message }),
            );
        }
        let unseen = self.points.iter().flat_map(|point| self.unseen(point));
        failures.extend(unseen.map(|message| ExampleFailure { example: None, message }));
        failures
    }

    fn check_example(&self, example: &Example) -> Vec<String> {
        let decoded = self.decode_example(example);
        if example.refused {
            let usable = match example.input {
                ExampleInput::Message(_) => decoded.understood,
                ExampleInput::Registers(_) => {
                    decoded.samples.iter().any(|sample| sample.quality != Quality::Bad)
                }
            };
            let silent = decoded.problems.is_empty();
            return match (usable, silent) {
                (true, _) => vec!["本应拒绝，却读出了 / it should be refused, but was read".to_owned()],
                (_, true) => vec!["拒绝了，却没有说明原因 / it is refused without a reason".to_owned()],
                _ => vec![],
            };
        }
        let mut wrong = Vec::new();
        let mut seen = BTreeSet::new();
        let (past, present): (Vec<_>, Vec<_>) =
            decoded.samples.iter().partition(|sample| sample.late && !example.history.is_empty());
        wrong.extend(self.check_history(example, &past));
        for sample in present {
            let Some(point) = self.points.get(sample.point) else { continue };
            seen.insert(point.name.as_str());
            let shown = shown(point, &sample.value, sample.flaw);
            match example.expected.get(&point.name) {
                None => wrong.push(format!(
                    "readings 中没有写 {0} = {shown:?} / {0} = {shown:?} is not expected",
                    point.name
                )),
                Some(expected) => {
                    if let Err(Text { zh, en }) = compare(point, expected, &sample.value, sample.flaw) {
                        let name = &point.name;
                        wrong.push(format!(
                            "读出 {name} = {shown:?}，示例写的是 {expected:?}{zh} / {name} = {shown:?}, expected {expected:?}{en}"
                        ));
                    }
                }
            }
            if example.sampled_at.is_some() && sample.sampled_at != example.sampled_at {
                wrong.push(format!(
                    "{0} 的时间是 {1:?} / {0} is sampled at {1:?}",
                    point.name, sample.sampled_at
                ));
            }
            if sample.late != example.late {
                wrong.push(format!("{0} 是否迟报：{1} / {0} is late = {1}", point.name, sample.late));
            }
        }
        let link = decoded.link.map(link_state);
        if link != example.expected.get(LINK_POINT).map(String::as_str) {
            wrong.push(format!("{LINK_POINT} 是 {link:?} / {LINK_POINT} is {link:?}"));
        }
        let unseen = |name: &&String| !seen.contains(name.as_str()) && *name != LINK_POINT;
        for name in example.expected.keys().filter(unseen) {
            wrong.push(format!("{name} 没有读数 / {name} has no sample ({})", decoded.problems.join("; ")));
        }
        wrong
    }

    fn check_history(&self, example: &Example, past: &[&Sample]) -> Vec<String> {
        let mut told: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
        for sample in past {
            let Some(point) = self.points.get(sample.point) else { continue };
            told.entry(&point.name).or_default().push(sample);
        }
        let names: BTreeSet<&str> =
            told.keys().copied().chain(example.history.keys().map(String::as_str)).collect();
        let mut wrong = Vec::new();
        for name in names {
            let Some(point) = self.points.iter().find(|point| point.name == name) else { continue };
            let expected = example.history.get(name).map_or(&[][..], Vec::as_slice);
            let told = told.get(name).map_or(&[][..], Vec::as_slice);
            let is_same = |(sample, line): (&&Sample, &String)| {
                let (value, at) = line.split_once('@').unwrap_or((line, ""));
                let at = parse_iso8601(at.trim());
                at == sample.sampled_at && compare(point, value.trim(), &sample.value, sample.flaw).is_ok()
            };
            if told.len() != expected.len() || !told.iter().zip(expected).all(is_same) {
                let line = |sample: &&Sample| {
                    let at = sample.sampled_at.map_or_else(String::new, |at| format!(" @ {at}"));
                    shown(point, &sample.value, sample.flaw) + &at
                };
                let told: Vec<String> = told.iter().map(line).collect();
                wrong.push(format!(
                    "{name} 的历史数据是 {told:?}，示例写的是 {expected:?} / the history of {name} is {told:?}, expected {expected:?}"
                ));
            }
        }
        wrong
    }

    /// What no example shows of a point.
    fn unseen(&self, point: &ProfilePoint) -> Vec<String> {
        let values: BTreeSet<&str> =
            self.examples.iter().filter_map(|e| e.expected.get(&point.name)).map(String::as_str).collect();
        let mut unseen = Vec::new();
        if values.is_empty() {
            unseen.push(format!("没有示例用到 {0} / no example shows {0}", point.name));
        } else if values.len() < 2 && point.single_example.is_none() {
            unseen.push(format!(
                "{0} 只出现过一个值；再写一个示例，或写明 single_example / {0} is seen with one value only; show a second, or say single_example",
                point.name
            ));
        }
        if let Kind::State { codes, otherwise } = &point.meaning.kind {
            let states: BTreeSet<&str> =
                codes.iter().map(|(_, code)| code).chain(otherwise).map(|code| &**code).collect();
            unseen.extend(states.into_iter().filter(|state| !values.contains(state)).map(|state| {
                format!("没有示例给出 {0} = {state:?} / no example shows {0} = {state:?}", point.name)
            }));
        }
        if matches!(point.meaning.kind, Kind::Number { current: Some(_), .. })
            && !values.contains(Flaw::SensorFault.name())
        {
            unseen.push(format!("没有示例给出 {0} 的电流环断线：\"sensor_fault\" / no example shows {0} with a broken loop: \"sensor_fault\"", point.name));
        }
        for sentinel in &point.meaning.sentinels {
            if let Sense::Flaw(flaw) = sentinel.means
                && !values.contains(flaw.name())
            {
                unseen.push(format!(
                    "没有示例给出 {0} = {1:?} / no example shows {0} = {1:?}",
                    point.name,
                    flaw.name()
                ));
            }
        }
        unseen
    }
}

/// The state of the point `link`.
fn link_state(online: bool) -> &'static str {
    if online { "online" } else { "offline" }
}

/// A sample as an example writes it.
fn shown(point: &ProfilePoint, value: &Value, flaw: Option<Flaw>) -> String {
    let unit = point.quantity.unit();
    let text = match value {
        Value::Absent => String::new(),
        Value::Number(number) => format!("{number} {unit}").trim().to_owned(),
        other => other.to_string(),
    };
    format!("{text} {}", flaw.map_or("", Flaw::name)).trim().to_owned()
}

/// `23.5 ℃`, `alarm`, `true`, `not_fitted`, `140 ℃ off_scale_high`.
fn compare(point: &ProfilePoint, expected: &str, value: &Value, flaw: Option<Flaw>) -> Result<(), Text> {
    let words: Vec<&str> = expected.split_whitespace().collect();
    let (words, expected_flaw) = match words.split_last() {
        Some((last, rest)) => match Flaw::ALL.into_iter().find(|flaw| flaw.name() == *last) {
            Some(flaw) => (rest.to_vec(), Some(flaw)),
            None => (words, None),
        },
        None => return Err(Text::new("：写出读数", ": write the value")),
    };
    let same = match (value, words.as_slice()) {
        (Value::Absent, []) => true,
        (Value::Number(number), [written, unit @ ..]) => {
            let wanted = canonical(point.quantity, written, unit.first().copied().unwrap_or(""))?;
            unit.len() < 2 && (number.get() - wanted).abs() <= TOLERANCE * wanted.abs().max(1.0)
        }
        (Value::Flag(flag), [written]) => flag.to_string() == *written,
        (Value::Code(code), [written]) => **code == **written,
        _ => false,
    };
    if same && flaw == expected_flaw { Ok(()) } else { Err(Text::new("", "")) }
}

fn canonical(quantity: Quantity, written: &str, unit: &str) -> Result<f64, Text> {
    let number: f64 = written
        .parse()
        .map_err(|_| Text::new(&format!("：{written:?} 不是数字"), &format!(": {written:?} is no number")))?;
    let conversion = quantity.conversion(unit).ok_or_else(|| {
        Text::new(&format!("：{unit:?} 不是它的单位"), &format!(": {unit:?} is no unit of it"))
    })?;
    Ok(Scale::new(conversion.factor, conversion.offset).apply(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read_line_by_line() {
        let blocks = parse_dump(
            "input@1: 019A 00EB\n holding@10+2: exception 2; @3+1: no_answer",
            1,
            Some(RegisterTable::Input),
        )
        .unwrap();
        assert_eq!(
            blocks[0],
            RegisterBlock {
                table: RegisterTable::Input,
                start: 0,
                words: Ok(vec![0x019A, 0x00EB]),
                count: 2
            }
        );
        assert_eq!((blocks[1].start, blocks[1].words.clone()), (9, Err(Trouble::Exception(2))));
        assert_eq!((blocks[2].table, blocks[2].count), (RegisterTable::Input, 1));
        for bad in ["", "0001", "@0: xyz", "attic@0: 1", "@0: no_answer", "@99999: 1"] {
            assert!(parse_dump(bad, 0, Some(RegisterTable::Input)).is_err(), "{bad:?} was read");
        }
    }
}
