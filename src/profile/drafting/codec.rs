//! FRAMES → READINGS, drafting: messages whose bytes only a vendor's codec understands. The codec is run first, what it says is laid
//! beside the message, and the draft of that becomes one that names the codec.

use super::super::bytes::Encoding;
use super::super::writing::quoted;
use super::messages::Sampled;
use crate::codec::{Codec, Uplink};
use crate::model::Timestamp;
use serde_json::{Map, Value};

/// Where network servers put the bytes, the port, and what they themselves made of the bytes: ChirpStack 3 and 4; The Things Stack 3;
/// The Things Network 2.
const LAYOUTS: [[&str; 3]; 3] = [
    ["data", "fPort", "object"],
    ["uplink_message.frm_payload", "uplink_message.f_port", "uplink_message.decoded_payload"],
    ["payload_raw", "port", "payload_fields"],
];

/// The key under which the codec's words stand while the draft is made.
const SAID: &str = "codec";

/// Messages with the codec's words in them, and the way back.
#[derive(Debug)]
pub struct Through {
    /// For the draft.
    pub samples: Vec<Sampled>,
    layout: [&'static str; 3],
    /// With the codec's words, and as it came.
    texts: Vec<(String, String)>,
}

impl Through {
    /// Runs the codec on the messages that have bytes.
    ///
    /// # Errors
    ///
    /// None has, or the codec refuses all of them; why, in both languages.
    pub fn new(codec: &Codec, samples: &[Sampled]) -> Result<Self, String> {
        let mut why = "没有一条报文带着 base64 的字节（data、frm_payload、payload_raw） / no message has its bytes in base64 (data, frm_payload, payload_raw)".to_owned();
        let (mut opened, mut texts, mut layout) = (Vec::new(), Vec::new(), None);
        for sample in samples {
            let Some(value) = object(&sample.payload) else { continue };
            let Some(found) = LAYOUTS.into_iter().find(|[bytes, ..]| text_at(&value, bytes).is_some()) else {
                continue;
            };
            match said(codec, &value, found, sample.at.unwrap_or(Timestamp::EPOCH)) {
                Ok(with) => {
                    texts.push((with.clone(), String::from_utf8_lossy(&sample.payload).into_owned()));
                    opened.push(Sampled { payload: with.into_bytes(), ..sample.clone() });
                    layout.get_or_insert(found);
                }
                Err(refused) => why = refused,
            }
        }
        layout.map(|layout| Self { samples: opened, layout, texts }).ok_or(why)
    }

    /// The draft, with the codec named: `file` is the codec's name beside the profile.
    pub fn back(&self, draft: &str, file: &str) -> String {
        let [bytes, port, _] = self.layout;
        let mut text: String = draft.replace(&format!("json = \"{SAID}."), "codec = \"");
        for (with, came) in &self.texts {
            text = text.replace(&quoted(with), &quoted(came));
        }
        // What nobody received cannot be made up either: no codec says which bytes would say so.
        let made_up =
            |block: &&str| block.starts_with("[[example]]") && block.contains(&format!("\\\"{SAID}\\\":"));
        let blocks: Vec<&str> = text.split("\n\n").filter(|block| !made_up(block)).collect();
        let text = blocks.join("\n\n");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if let Some(place) = lines.iter().position(|line| line.starts_with("topics = ")) {
            let file = quoted(file);
            lines.insert(
                place + 1,
                format!("payload = {{ json = \"{bytes}\", encoding = \"base64\" }}\ncodec = {file}\nport = \"{port}\""),
            );
        }
        lines.join("\n") + "\n"
    }
}

fn object(payload: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(payload) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

/// The message without its bytes, and with what the codec says of them.
fn said(
    codec: &Codec,
    message: &Map<String, Value>,
    layout: [&str; 3],
    at: Timestamp,
) -> Result<String, String> {
    let [bytes, port, decoded] = layout;
    let written = text_at(message, bytes).unwrap_or_default();
    let bytes_of = Encoding::parse("base64").ok_or_else(String::new)?;
    let payload = bytes_of.decode(written.as_bytes())?;
    let number = at_path(message, port).and_then(Value::as_u64).and_then(|port| u8::try_from(port).ok());
    let variables = Value::Object(Map::new());
    let uplink =
        Uplink { bytes: &payload, port: number, received_at: at, recv_time: None, variables: &variables };
    let answer = codec.data(&uplink).map_err(|refused| {
        let text = refused.text();
        format!("{} / {}", text.zh, text.en)
    })?;
    let mut with = message.clone();
    for path in [bytes, port, decoded] {
        remove(&mut with, path);
    }
    with.insert(SAID.to_owned(), serde_json::from_str(&answer).unwrap_or(Value::Null));
    Ok(Value::Object(with).to_string())
}

fn at_path<'m>(message: &'m Map<String, Value>, path: &str) -> Option<&'m Value> {
    let mut steps = path.split('.');
    let first = message.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(step))
}

fn text_at<'m>(message: &'m Map<String, Value>, path: &str) -> Option<&'m str> {
    at_path(message, path)?.as_str()
}

fn remove(message: &mut Map<String, Value>, path: &str) {
    match path.split_once('.') {
        None => {
            message.remove(path);
        }
        Some((first, rest)) => {
            if let Some(Value::Object(inner)) = message.get_mut(first) {
                remove(inner, rest);
            }
        }
    }
}
