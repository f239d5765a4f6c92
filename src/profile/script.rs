//! FRAMES → READINGS, a vendor's codec: what its JavaScript makes of the bytes of a message is read by paths, as JSON is.

use super::draft::{Problems, Spanned};
use super::json::{self, Paths};
use super::meaning::Raw;
use crate::codec::{Codec, Uplink};
use crate::model::Timestamp;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The text of a file that lies beside the profile, by its name.
pub type Beside<'f> = dyn Fn(&str) -> Option<String> + 'f;

/// Where the `LoRaWAN` port of a message is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Port<P> {
    /// It is always this one.
    Fixed(u8),
    /// There.
    At(P),
}

/// `[mqtt] codec`, as the file has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ScriptOf {
    pub(super) codec: Arc<Codec>,
    pub(super) port: Option<Port<String>>,
}

/// The same for one topic.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Script {
    pub(super) codec: Arc<Codec>,
    pub(super) port: Option<Port<usize>>,
    /// In what it says.
    pub(super) paths: Paths,
}

impl Script {
    /// What the codec says, as JSON; the error says in Chinese why there is nothing.
    pub(super) fn answer(
        &self,
        found: &[Option<&RawValue>],
        bytes: &[u8],
        received_at: Timestamp,
    ) -> Result<String, String> {
        let port = match &self.port {
            None => None,
            Some(Port::Fixed(port)) => Some(*port),
            Some(Port::At(slot)) => match found.get(*slot).copied().flatten().map(json::raw) {
                None | Some(Raw::Null) => None,
                Some(raw) => Some(port_of(&raw).ok_or_else(|| format!("端口应为 0 到 255，收到 {raw}"))?),
            },
        };
        let variables = serde_json::Value::Object(serde_json::Map::new());
        let uplink = Uplink { bytes, port, received_at, recv_time: None, variables: &variables };
        self.codec.data(&uplink).map_err(|refused| refused.text().zh.to_string())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a whole number from 0 to 255"
)]
fn port_of(raw: &Raw<'_>) -> Option<u8> {
    match raw {
        Raw::Number(number) if number.fract() == 0.0 && (0.0..=255.0).contains(number) => Some(*number as u8),
        Raw::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// `codec = "file.js"` and `port = "fPort"`, or a number.
pub(super) fn build_script(
    codec: Option<&Spanned<String>>,
    port: Option<&Spanned<toml::Value>>,
    has_bytes: bool,
    beside: &Beside<'_>,
    problems: &mut Problems,
) -> Option<ScriptOf> {
    let port = port.and_then(|written| {
        let port = match written.get_ref() {
            _ if codec.is_none() => None,
            toml::Value::Integer(port) => u8::try_from(*port).ok().map(Port::Fixed),
            toml::Value::String(path) if Paths::default().add(path).is_ok() => Some(Port::At(path.clone())),
            _ => None,
        };
        if port.is_none() {
            let help =
                "写 port = \"fPort\"，即消息中 LoRaWAN 端口的路径，或不大于 255 的数 / write port = \"fPort\", the path of the LoRaWAN port in the message, or a number up to 255";
            problems.error(written.span(), "解码脚本的端口是路径或数字 / the port of a codec is a path or a number", help);
        }
        port
    });
    let written = codec?;
    if !has_bytes {
        problems.error(
            written.span(),
            "解码脚本读的是字节，这个 payload 没有字节 / a codec reads bytes, and this payload has none",
            "在 [mqtt] 写 payload = { json = \"data\", encoding = \"base64\" }、\"hex\"、\"base64\" 或 \"binary\" / say in [mqtt] payload = { json = \"data\", encoding = \"base64\" }, \"hex\", \"base64\" or \"binary\"",
        );
        return None;
    }
    let name = written.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_plain = name.ends_with(".js") && !name.starts_with('.') && name.chars().all(plain);
    let Some(text) = Some(name).filter(|_| is_plain).and_then(|name| beside(name)) else {
        let help = if is_plain {
            "把厂商的文件放进这个型号文件所在的文件夹 / put the vendor's file into the folder of this profile"
        } else {
            "解码脚本是型号文件旁边的一个文件，如 em300-th.js / a codec is a file beside the profile, such as em300-th.js"
        };
        problems.error(
            written.span(),
            format!("这里没有解码脚本 {name:?} / there is no codec {name:?} here"),
            help,
        );
        return None;
    };
    match Codec::new(text) {
        Ok(codec) => Some(ScriptOf { codec: Arc::new(codec), port }),
        Err(refused) => {
            let text = refused.text();
            problems.error(
                written.span(),
                format!("{} / {}", text.zh, text.en),
                "用 fengsui codec FILE.js --batch - 单独试运行 / fengsui codec FILE.js --batch - tries it alone",
            );
            None
        }
    }
}
