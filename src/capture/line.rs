//! FRAMES → A FILE: one frame as one line of JSON, and back. Pure.

use crate::model::{
    Body, DeviceId, Frame, LinkId, Quarantined, RegisterBlock, RegisterTable, Timestamp, Trouble,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// A frame as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// When it was received.
    pub at: Timestamp,
    /// The link it came by.
    pub link: LinkId,
    /// The device, as far as it was known: for a person. Whose message it is, is found from the plan again.
    pub device: Option<DeviceId>,
    /// What came.
    pub body: Body,
    /// Kept by the broker and sent at connect.
    pub retained: bool,
    /// Why it was kept in quarantine; empty: it was not.
    pub reason: String,
}

/// How a capture ended: its last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why: `seconds`, `frames`, `bytes`, `stopped`, `interrupted`, `complete`.
    pub end: String,
    /// Frames in the file.
    pub frames: u64,
    /// Frames that are missing, because whoever wrote the file was too slow for them.
    pub dropped: u64,
}

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A frame.
    Frame(Captured),
    /// The last line.
    End(End),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FrameText {
    at: String,
    link: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// A platform's word about the device at this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    online: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocks: Option<Vec<BlockText>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    retained: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockText {
    table: String,
    start: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    words: Option<Vec<u16>>,
    /// How many were asked for, when that is not how many came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u16>,
    /// `no_answer`, `wrong_answer`, `disconnected`, `exception 2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

const TABLES: [(&str, RegisterTable); 4] = [
    ("coil", RegisterTable::Coil),
    ("discrete", RegisterTable::Discrete),
    ("holding", RegisterTable::Holding),
    ("input", RegisterTable::Input),
];
const TROUBLES: [(&str, Trouble); 3] = [
    ("no_answer", Trouble::NoAnswer),
    ("wrong_answer", Trouble::WrongAnswer),
    ("disconnected", Trouble::Disconnected),
];
const EXCEPTION: &str = "exception ";

impl Captured {
    /// A frame as it arrives.
    pub fn of(frame: &Frame, device: Option<&DeviceId>) -> Self {
        Self {
            at: frame.received_at,
            link: frame.link.clone(),
            device: device.cloned(),
            body: frame.body.clone(),
            retained: frame.retained,
            reason: String::new(),
        }
    }

    /// One line of JSON, without its end.
    pub fn to_line(&self) -> String {
        let (mut topic, mut payload, mut base64, mut blocks) = (None, None, None, None);
        let (mut address, mut online) = (None, None);
        if let Body::Presence { address: of, online: is, .. } = &self.body {
            (address, online) = (Some(of.to_string()), Some(*is));
        }
        match &self.body {
            Body::Message { topic: on, payload: bytes }
            | Body::Presence { topic: on, payload: bytes, .. } => {
                topic = Some(on.to_string());
                match std::str::from_utf8(bytes) {
                    Ok(text) => payload = Some(text.to_owned()),
                    Err(_) => base64 = Some(STANDARD.encode(bytes)),
                }
            }
            Body::Registers { blocks: read, .. } => blocks = Some(read.iter().map(BlockText::of).collect()),
        }
        let device = match &self.body {
            Body::Registers { device, .. } => Some(device),
            Body::Message { .. } | Body::Presence { .. } => self.device.as_ref(),
        };
        text(&FrameText {
            at: self.at.to_string(),
            link: self.link.to_string(),
            device: device.map(ToString::to_string),
            topic,
            address,
            online,
            payload,
            base64,
            blocks,
            retained: self.retained,
            reason: self.reason.clone(),
        })
    }

    /// What it takes in memory, about.
    pub(super) fn weight(&self) -> usize {
        /// The frame itself, its link and its place in a queue.
        const FRAME_BYTES: usize = 256;
        FRAME_BYTES
            + match &self.body {
                Body::Message { topic, payload } | Body::Presence { topic, payload, .. } => {
                    topic.len() + payload.len()
                }
                Body::Registers { blocks, .. } => {
                    blocks.iter().map(|block| 64 + 2 * usize::from(block.count)).sum()
                }
            }
    }
}

impl From<&Quarantined> for Captured {
    fn from(from: &Quarantined) -> Self {
        Self {
            at: from.at,
            link: from.link.clone(),
            device: from.device.clone(),
            body: from.body.clone(),
            retained: from.retained,
            reason: from.reason.to_string(),
        }
    }
}

impl End {
    /// One line of JSON, without its end.
    pub fn to_line(&self) -> String {
        text(self)
    }
}

impl Line {
    /// Reads a line; why not, in both languages. Never panics, whatever the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(end) = serde_json::from_str::<End>(text) {
            return Ok(Self::End(end));
        }
        let from: FrameText = serde_json::from_str(text)
            .map_err(|error| format!("不是报文记录 / this is no line of a capture: {error}"))?;
        let presence =
            match (from.address, from.online) {
                (None, None) => None,
                (Some(address), Some(online)) if from.topic.is_some() => Some((address, online)),
                _ => return Err(
                    "address 和 online 与 topic 一起写 / address and online belong together, and to a topic"
                        .to_owned(),
                ),
            };
        let body = match (from.topic, from.payload, from.base64, from.blocks) {
            (Some(topic), Some(payload), None, None) => {
                Body::Message { topic: topic.into(), payload: payload.into() }
            }
            (Some(topic), None, Some(coded), None) => {
                let bytes = STANDARD
                    .decode(&coded)
                    .map_err(|error| format!("base64 写错了 / base64 is not well formed: {error}"))?;
                Body::Message { topic: topic.into(), payload: bytes.into() }
            }
            (None, None, None, Some(blocks)) => {
                let device =
                    from.device.as_deref().ok_or("寄存器报文要写明 device / registers need a device")?;
                let blocks = blocks.into_iter().map(BlockText::block).collect::<Result<_, _>>()?;
                Body::Registers { device: named(DeviceId::parse(device))?, blocks }
            }
            _ => {
                return Err(
                    "要么是 topic 加 payload 或 base64，要么是 device 加 blocks / a frame has a topic and a payload or base64, or a device and blocks"
                        .to_owned(),
                );
            }
        };
        let body = match (body, presence) {
            (Body::Message { topic, payload }, Some((address, online))) => {
                Body::Presence { topic, address: address.into(), online, payload }
            }
            (body, _) => body,
        };
        let at = from.at.parse::<jiff::Timestamp>();
        let at = at.map_err(|error| format!("at 不是时间 / {:?} is no time: {error}", from.at))?;
        Ok(Self::Frame(Captured {
            at: Timestamp::from_millis(at.as_millisecond()),
            link: named(LinkId::parse(&from.link))?,
            device: from
                .device
                .as_deref()
                .map(DeviceId::parse)
                .transpose()
                .map_err(|error| error.to_string())?,
            body,
            retained: from.retained,
            reason: from.reason,
        }))
    }
}

impl BlockText {
    fn of(block: &RegisterBlock) -> Self {
        let table = TABLES.iter().find(|(_, table)| *table == block.table).map_or("", |(name, _)| name);
        let (words, trouble) = match &block.words {
            Ok(words) => (Some(words.clone()), None),
            Err(Trouble::Exception(code)) => (None, Some(format!("{EXCEPTION}{code}"))),
            Err(trouble) => {
                let name = TROUBLES.iter().find(|(_, known)| known == trouble).map_or("", |(name, _)| name);
                (None, Some(name.to_owned()))
            }
        };
        let came = words.as_ref().map(Vec::len) == Some(usize::from(block.count));
        Self {
            table: table.to_owned(),
            start: block.start,
            words,
            count: (!came).then_some(block.count),
            trouble,
        }
    }

    fn block(self) -> Result<RegisterBlock, String> {
        let table = TABLES.iter().find(|(name, _)| *name == self.table);
        let (_, table) =
            *table.ok_or_else(|| format!("没有这种寄存器表 / no such table: {:?}", self.table))?;
        let words = match (self.words, self.trouble) {
            (Some(words), None) => Ok(words),
            (None, Some(trouble)) => Err(parse_trouble(&trouble)?),
            _ => return Err("words 和 trouble 只能有一个 / a block has words or a trouble".to_owned()),
        };
        let came = words.as_ref().map_or(0, |words| u16::try_from(words.len()).unwrap_or(u16::MAX));
        Ok(RegisterBlock { table, start: self.start, count: self.count.unwrap_or(came), words })
    }
}

fn parse_trouble(text: &str) -> Result<Trouble, String> {
    if let Some(code) = text.strip_prefix(EXCEPTION).and_then(|code| code.parse().ok()) {
        return Ok(Trouble::Exception(code));
    }
    let known = TROUBLES.iter().find(|(name, _)| *name == text).map(|(_, trouble)| *trouble);
    known.ok_or_else(|| format!("没有这种故障 / no such trouble: {text:?}"))
}

/// The blocks of a round of register reads as text.
pub fn blocks_to_text(blocks: &[RegisterBlock]) -> String {
    text(&blocks.iter().map(BlockText::of).collect::<Vec<_>>())
}

/// The blocks of such a text.
pub fn blocks_from_text(text: &str) -> Result<Vec<RegisterBlock>, String> {
    let blocks: Vec<BlockText> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    blocks.into_iter().map(BlockText::block).collect()
}

fn text(from: &impl Serialize) -> String {
    serde_json::to_string(from).expect("every key is a string and writing to memory does not fail")
}

fn named<T, E: Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_block() -> impl Strategy<Value = RegisterBlock> {
        let words = prop_oneof![
            prop::collection::vec(any::<u16>(), 0..20).prop_map(Ok),
            any::<u8>().prop_map(|code| Err(Trouble::Exception(code))),
            prop::sample::select(TROUBLES.map(|(_, trouble)| trouble).to_vec()).prop_map(Err),
        ];
        (prop::sample::select(TABLES.map(|(_, table)| table).to_vec()), any::<u16>(), words, any::<u16>())
            .prop_map(|(table, start, words, count)| RegisterBlock { table, start, words, count })
    }

    fn any_frame() -> impl Strategy<Value = Captured> {
        let device = DeviceId::parse("meter-1").unwrap();
        let message = (any::<String>(), prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(topic, payload)| Body::Message { topic: topic.into(), payload: payload.into() });
        let registers = prop::collection::vec(any_block(), 0..5)
            .prop_map(move |blocks| Body::Registers { device: device.clone(), blocks });
        let presence = (any::<String>(), any::<String>(), any::<bool>(), any::<String>()).prop_map(
            |(topic, address, online, payload)| Body::Presence {
                topic: topic.into(),
                address: address.into(),
                online,
                payload: payload.into(),
            },
        );
        (prop_oneof![message, registers, presence], 0i64..4_000_000_000_000, any::<bool>(), any::<String>())
            .prop_map(|(body, at, retained, reason)| {
                let device = DeviceId::parse("meter-1").ok();
                let link = LinkId::parse("hall").unwrap();
                Captured { at: Timestamp::from_millis(at), link, device, body, retained, reason }
            })
    }

    proptest! {
        #[test]
        fn any_frame_comes_back_from_its_line(frame in any_frame()) {
            let line = frame.to_line();
            prop_assert!(!line.contains('\n'), "{}", line);
            prop_assert_eq!(Line::parse(&line), Ok(Line::Frame(frame)));
        }

        #[test]
        fn any_text_is_a_line_or_an_error(text in any::<String>()) {
            let _line = Line::parse(&text);
            let _blocks = blocks_from_text(&text);
        }

        #[test]
        fn any_blocks_come_back_from_their_text(blocks in prop::collection::vec(any_block(), 0..5)) {
            prop_assert_eq!(blocks_from_text(&blocks_to_text(&blocks)), Ok(blocks));
        }
    }

    #[test]
    fn a_line_is_as_a_person_would_write_it() {
        let frame = Captured {
            at: Timestamp::from_millis(1_800_000_000_123),
            link: LinkId::parse("hall").unwrap(),
            device: None,
            body: Body::Message { topic: "site/a/up".into(), payload: "{\"smoke\":1}".to_owned().into() },
            retained: false,
            reason: String::new(),
        };
        let line = r#"{"at":"2027-01-15T08:00:00.123Z","link":"hall","topic":"site/a/up","payload":"{\"smoke\":1}"}"#;
        assert_eq!(frame.to_line(), line);
        let other_zone = line.replace("08:00:00.123Z", "16:00:00.123+08:00");
        assert_eq!(Line::parse(&other_zone), Ok(Line::Frame(frame)));
        let end = End { end: "seconds".into(), frames: 7, dropped: 2 };
        assert_eq!(end.to_line(), r#"{"end":"seconds","frames":7,"dropped":2}"#);
        assert_eq!(Line::parse(&end.to_line()), Ok(Line::End(end)));
    }

    #[test]
    fn a_wrong_line_says_what_is_missing() {
        for (line, part) in [
            ("hello", "no line of a capture"),
            (r#"{"at":"2027-01-15T08:00:00Z","link":"hall","topic":"a"}"#, "a topic and a payload"),
            (r#"{"at":"yesterday","link":"hall","topic":"a","payload":""}"#, "yesterday"),
            (r#"{"at":"2027-01-15T08:00:00Z","link":"hall","topic":"a","base64":"?"}"#, "base64"),
            (r#"{"at":"2027-01-15T08:00:00Z","link":"hall","blocks":[]}"#, "device"),
        ] {
            let error = Line::parse(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
