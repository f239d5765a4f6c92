//! FRAMES → READINGS, decoding: one message or one round of register reads becomes samples. The hot path.

use super::availability::{Availability, plain};
use super::device_time::Taken;
use super::meaning::{Raw, Read};
use super::message::Fields;
use super::named::Names;
use super::schema::{Field, Profile, ProfilePoint, Source};
use super::schema_register::table_name;
use super::senml;
use crate::model::{Flaw, Quality, RegisterBlock, RegisterTable, Timestamp, Trouble, Value};

/// The largest message that is looked into, in bytes. The longest real one, a ChirpStack uplink heard by ten
/// gateways, has 8 KiB; sources refuse more than this as well.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// The most sentences about one message: what goes wrong everywhere is understood after a few.
pub(super) const PROBLEMS_MAX: usize = 8;

/// What one frame said.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The values, in the order of the profile's points; named values (SenML, Sparkplug B) in the order of their
    /// times, so that one point may have several, and so those of a list of samples. A point that the frame does not mention has none.
    pub samples: Vec<Sample>,
    /// What could not be read, in Chinese, for a person.
    pub problems: Vec<String>,
    /// What was said about whether the device is there; `None`: nothing. It is no sign of life of the device.
    pub link: Option<bool>,
    /// False: nothing of it could be read; the frame belongs into quarantine.
    pub understood: bool,
}

/// One value of one point.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The place in [`Profile::points`].
    pub point: usize,
    /// What it said, in the canonical unit.
    pub value: Value,
    /// How far to trust it.
    pub quality: Quality,
    /// Why it is not simply good.
    pub flaw: Option<Flaw>,
    /// The device's own time, when it is believable.
    pub sampled_at: Option<Timestamp>,
    /// By the device's own time it describes the past.
    pub late: bool,
}

/// How messages of one topic are read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TopicPlan {
    /// Values at their places.
    Fields(Box<Fields>),
    /// The whole payload is the value of these points.
    Text(Vec<usize>),
    /// Whether the device is there.
    Availability(Availability),
    /// SenML records, by their names.
    SenMl(Names),
    /// Sparkplug B metrics, by their names.
    Sparkplug(Names),
}

impl TopicPlan {
    /// Its messages are bytes that no text editor shows.
    pub(super) fn is_binary(&self) -> bool {
        match self {
            Self::Fields(fields) => fields.is_binary(),
            Self::Sparkplug(_) => true,
            Self::Text(_) | Self::Availability(_) | Self::SenMl(_) => false,
        }
    }
}

impl Decoded {
    pub(super) fn nothing(samples: usize) -> Self {
        Self { samples: Vec::with_capacity(samples), problems: Vec::new(), link: None, understood: false }
    }

    /// Nothing but a word about whether the device is there.
    pub fn presence(online: bool) -> Self {
        Self { samples: Vec::new(), problems: Vec::new(), link: Some(online), understood: true }
    }

    /// Nothing could be read, and why.
    pub fn refused(problem: String) -> Self {
        Self { samples: Vec::new(), problems: vec![problem], link: None, understood: false }
    }

    pub(super) fn complain(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// Puts what was before the present, so that the newest value of a point comes last.
    pub(super) fn add_history(&mut self, history: Self) {
        let present = std::mem::replace(&mut self.samples, history.samples);
        self.samples.extend(present);
        self.understood |= history.understood;
        history.problems.into_iter().for_each(|problem| self.complain(problem));
    }

    pub(super) fn push(&mut self, index: usize, point: &ProfilePoint, read: Read, taken: Taken) {
        if let Some(problem) = read.problem {
            self.complain(format!("{}：{problem}", point.name));
        }
        let (sampled_at, late) = match taken {
            Taken::At { time, late } => (Some(time), late),
            Taken::Unknown | Taken::Impossible => (None, false),
        };
        let (quality, flaw) = match (taken, read.quality) {
            (Taken::Impossible, Quality::Good) => (Quality::Uncertain, Some(Flaw::ClockSuspect)),
            _ => (read.quality, read.flaw),
        };
        self.samples.push(Sample { point: index, value: read.value, quality, flaw, sampled_at, late });
    }
}

impl Profile {
    /// Decodes a message on the topic of that place in [`Profile::topics`]. Never fails, never panics; takes time
    /// and memory linear in the payload.
    pub fn decode_message(&self, topic_kind: usize, payload: &[u8], received_at: Timestamp) -> Decoded {
        let Some(plan) = self.topic_plans.get(topic_kind) else {
            return Decoded::refused("该型号没有这个主题".to_owned());
        };
        if let Err(problem) = Self::too_long(payload) {
            return Decoded::refused(problem);
        }
        match plan {
            TopicPlan::Fields(fields) => self.decode_fields(payload, fields, None, received_at),
            TopicPlan::Text(points) => match std::str::from_utf8(payload) {
                Ok(message) => self.decode_text(message, points),
                Err(_) => Decoded::refused("不是 UTF-8 文本".to_owned()),
            },
            TopicPlan::Availability(availability) => availability.decode(payload),
            TopicPlan::SenMl(names) => {
                let text = std::str::from_utf8(payload).map_err(|_| "不是 UTF-8 文本".to_owned());
                let values = text.and_then(|text| senml::resolve(text, received_at));
                match values.and_then(|values| senml::known(values, names)) {
                    Ok(values) => self.decode_named(names, values),
                    Err(problem) => Decoded::refused(problem),
                }
            }
            TopicPlan::Sparkplug(_) => self.decode_sparkplug(payload, received_at),
        }
    }

    pub(super) fn too_long(payload: &[u8]) -> Result<(), String> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(format!("消息过长：{} 字节，上限 {PAYLOAD_BYTES_MAX}", payload.len()));
        }
        Ok(())
    }

    fn decode_text(&self, message: &str, points: &[usize]) -> Decoded {
        let text = message.trim();
        if text.is_empty() {
            return Decoded::refused("消息为空".to_owned());
        }
        let raw = plain(text);
        let mut decoded = Decoded::nothing(points.len());
        for &index in points {
            let Some(point) = self.points.get(index) else { continue };
            if let Some(read) = point.meaning.read(&raw) {
                decoded.understood |= read.flaw != Some(Flaw::Unreadable);
                decoded.push(index, point, read, Taken::Unknown);
            } else {
                decoded.understood = true;
            }
        }
        decoded
    }

    /// Decodes one round of register reads. A refused or short block spoils its own points only; a point that no
    /// block covers was not polled this time and has no sample.
    pub fn decode_registers(&self, blocks: &[RegisterBlock], _received_at: Timestamp) -> Decoded {
        let mut decoded = Decoded::nothing(self.points.len());
        for block in blocks {
            if let Err(trouble) = &block.words {
                decoded.complain(trouble_text(block, *trouble));
            }
        }
        for (index, point) in self.points.iter().enumerate() {
            let Source::Register(field) = &point.source else { continue };
            let Some(block) = blocks.iter().find(|block| field.is_in(block)) else { continue };
            decoded.understood = true;
            if let Some(read) = read_field(point, field, block) {
                decoded.push(index, point, read, Taken::Unknown);
            }
        }
        if !decoded.understood {
            decoded.problems.push("没有该型号的任何寄存器".to_owned());
        }
        decoded
    }
}

impl Field {
    fn is_in(&self, block: &RegisterBlock) -> bool {
        let (first, end) = (u32::from(self.address), u32::from(self.address) + u32::from(self.kind.words()));
        let (start, stop) = (u32::from(block.start), u32::from(block.start) + u32::from(block.count));
        block.table == self.table && start <= first && end <= stop
    }
}

fn read_field(point: &ProfilePoint, field: &Field, block: &RegisterBlock) -> Option<Read> {
    let Ok(words) = &block.words else { return Some(Read::absent(Flaw::NoAnswer, None)) };
    let first = usize::from(field.address - block.start);
    let Some(words) = words.get(first..first + usize::from(field.kind.words())) else {
        return Some(Read::absent(Flaw::Unreadable, Some("应答过短".to_owned())));
    };
    let number = match field.bits {
        Some((shift, mask)) => Some(pick_bits(field.order.assemble(words), shift, mask)),
        None => field.kind.decode(words, field.order),
    };
    match number {
        Some(number) => point.meaning.read(&Raw::Number(number)),
        None => Some(Read::absent(Flaw::Unreadable, Some(format!("不是有效的 {}", field.kind.name())))),
    }
}

#[expect(clippy::cast_precision_loss, reason = "codes and bit fields are far below 2^53")]
fn pick_bits(number: u64, shift: u32, mask: u64) -> f64 {
    ((number >> shift) & mask) as f64
}

fn trouble_text(block: &RegisterBlock, trouble: Trouble) -> String {
    let unit = match block.table {
        RegisterTable::Coil | RegisterTable::Discrete => "位",
        RegisterTable::Holding | RegisterTable::Input => "寄存器",
    };
    let what = match trouble {
        Trouble::Exception(code) => format!("设备返回异常码 {code}"),
        Trouble::NoAnswer => "无应答".to_owned(),
        Trouble::WrongAnswer => "应答不符".to_owned(),
        Trouble::Disconnected => "连接断开".to_owned(),
    };
    format!("{unit} {}@{} 起 {} 个：{what}", table_name(block.table), block.start, block.count)
}
