//! `[[push]]` of `gateway.toml`: platforms that post what their devices say. Settings and their reader.

use super::gateway::Secret;
use super::gateway_file::Reader;
use super::reader::Table;
use crate::model::LinkId;
use std::net::SocketAddr;
use toml::Spanned;

/// The shortest token. Sixteen characters of a random text cannot be guessed over a network.
const TOKEN_CHARS_MIN: usize = 16;

/// The most tokens of one link: each is compared with each post. Two are enough while one is being replaced.
const TOKENS_MAX: usize = 100;

/// One `[[push]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PushSettings {
    /// The link its devices name; it stands in the address that is posted to.
    pub link: LinkId,
    /// An address of its own; `None`: the duty room's.
    pub listen: Option<SocketAddr>,
    /// Who may post: one token a line of the tokens file.
    pub tokens: Vec<Secret>,
    /// What is posted.
    pub format: PushFormat,
}

/// `format` of `[[push]]`, with what it needs.
#[derive(Debug, Clone, PartialEq)]
pub enum PushFormat {
    /// `json`: the device's message as it is.
    Json {
        /// The topic of a message whose address alone is known; `None`: the default form.
        topic: Option<String>,
        /// Where in the body the device's address stands.
        address_field: Option<String>,
        /// Where in the body the message's name stands.
        message_id_field: Option<String>,
    },
    /// `ctwing`: China Telecom CTWing AEP.
    Ctwing {
        /// Which field is the device's address.
        address_field: String,
    },
    /// `onenet`: China Mobile OneNET.
    OneNet {
        /// Which field is the device's address; `None`: as the format has it.
        address_field: Option<String>,
        /// The key, when the platform encrypts: 16 or 43 characters.
        aes_key: Option<Secret>,
    },
}

impl Reader<'_> {
    /// `web`: where the duty room listens, if it does.
    pub(super) fn push(&self, table: Table<'_>, web: Option<SocketAddr>) -> Option<PushSettings> {
        let link = self.link(&table);
        let listen = table.has("listen").then(|| self.listen(&table, SocketAddr::from(([0, 0, 0, 0], 8081))));
        let tokens = table.required("tokens_file", "secrets/push").map(|file| self.tokens(&file));
        let format = self.push_format(&table);
        if listen.is_none() && web.is_none() {
            self.page.error(
                table.span.clone(),
                "值班页面已关闭，推送没有地址可用 / the duty room's page is off, so there is no address to post to",
                "listen = \"0.0.0.0:8081\"",
            );
        }
        if listen.is_some_and(|listen| listen.port() != 0 && Some(listen) == web) {
            self.page.error(
                table.span_of("listen"),
                "这是值班页面的地址 / this is the duty room's own address",
                "删除这一行即可共用 / leave this line out to share it",
            );
        }
        table.finish();
        Some(PushSettings { link: link?, listen, tokens: tokens?, format: format? })
    }

    fn push_format(&self, table: &Table<'_>) -> Option<PushFormat> {
        let format = table.required("format", "json");
        let field = |key| table.text(key).map(|text| (*text.get_ref()).to_owned());
        let address_field = field("address_field");
        let (topic, message_id_field) = (field("topic"), field("message_id_field"));
        let aes_key = self.secret(table, "aes_key_file", "aes_key_env");
        let only_for = |name: &str, keys: &[&'static str]| {
            for key in keys.iter().filter(|key| table.has(key)) {
                let message =
                    format!("{key} 属于 format = \"{name}\" / {key} belongs to format = \"{name}\"");
                self.page.error(table.span_of(key), message, "删除这一行 / remove this line");
            }
        };
        let format = format?;
        match *format.get_ref() {
            "json" => {
                only_for("onenet", &["aes_key_file", "aes_key_env"]);
                self.check_topic(table, topic.as_deref());
                Some(PushFormat::Json { topic, address_field, message_id_field })
            }
            "ctwing" => {
                only_for("onenet", &["aes_key_file", "aes_key_env"]);
                only_for("json", &["topic", "message_id_field"]);
                let address_field = address_field.unwrap_or_else(|| "deviceId".to_owned());
                Some(PushFormat::Ctwing { address_field })
            }
            "onenet" => {
                only_for("json", &["topic", "message_id_field"]);
                let length = aes_key.as_ref().map(|key| key.reveal().chars().count());
                if length.is_some_and(|length| length != 16 && length != 43) {
                    let message =
                        "AES 密钥应为 16 或 43 个字符 / an AES key of OneNET has 16 or 43 characters";
                    self.page.error(table.span_of("aes_key_file"), message, "");
                }
                Some(PushFormat::OneNet { address_field, aes_key })
            }
            other => {
                let message = format!("未知的推送格式 / unknown format {other:?}");
                self.page.error(format.span(), message, "format = \"json\" | \"ctwing\" | \"onenet\"");
                None
            }
        }
    }

    /// `{address}` once, no wildcards: `sources` says so too, and cannot be asked from here.
    fn check_topic(&self, table: &Table<'_>, topic: Option<&str>) {
        let Some(topic) = topic else { return };
        let placeholder = |level: &str| level.starts_with('{') && level.ends_with('}') && level.len() > 2;
        let strange = |level: &&str| !placeholder(level) && level.contains(['{', '}', '+', '#']);
        let addresses = topic.split('/').filter(|level| *level == "{address}").count();
        if addresses != 1 || topic.split('/').any(|level| strange(&level)) {
            self.page.error(
                table.span_of("topic"),
                "{address} 必须正好出现一次，占一级；不用 + 和 # / {address} has to stand in it exactly once, as a whole level; no + and #",
                "topic = \"site/{link}/device/{address}/up\"",
            );
        }
    }

    fn tokens(&self, file: &Spanned<&str>) -> Vec<Secret> {
        let Some(text) = self.secret_text(file) else { return Vec::new() };
        let lines = text.lines().map(str::trim).enumerate();
        let tokens: Vec<_> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
        // The tokens themselves are not shown.
        for (at, token) in &tokens {
            let plain = token.chars().all(|c| c.is_ascii_graphic());
            if token.len() < TOKEN_CHARS_MIN || !plain {
                let (file_name, at) = (file.get_ref(), at + 1);
                self.page.error(
                    file.span(),
                    format!("{file_name} 第 {at} 行的令牌太短或含空格、中文 / the token in line {at} is too short or no plain text"),
                    format!("至少 {TOKEN_CHARS_MIN} 个字母数字 / at least {TOKEN_CHARS_MIN} characters: openssl rand -hex 16"),
                );
            }
        }
        if tokens.is_empty() || tokens.len() > TOKENS_MAX {
            let message = format!(
                "{} 里应有 1..={TOKENS_MAX} 个令牌 / it must hold 1..={TOKENS_MAX} tokens",
                file.get_ref()
            );
            self.page.error(file.span(), message, "每行一个 / one a line: openssl rand -hex 16");
        }
        tokens.into_iter().map(|(_, token)| Secret::new(token)).collect()
    }
}
