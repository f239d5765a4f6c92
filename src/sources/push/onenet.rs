//! WIRE → FRAMES, HTTP, `format = "onenet"`: what China Mobile's OneNET posts, old (dev_id, ds_id) and Studio (thing model).
//!
//! Known from the platform's own receivers for Java, PHP and Node (github.com/cm-heclouds/data-push) and its descriptions of
//! the message formats. A post is `{"msg", "nonce", "signature"}` (older: `"msg_signature"`), signed with
//! base64(MD5(token + nonce + msg)); `msg` is a text, or an object or a list that is signed as it is written. When the
//! address is entered, the platform asks `GET ?msg=…&nonce=…&signature=…`, signed the same, and wants `msg` back.
//!
//! Encrypted: either `msg` is base64(AES-128-CBC) with the 16 characters of the key as key and start vector; or, older,
//! `enc_msg` is base64(AES-256-CBC) with the key in base64 (43 characters), its first 16 bytes as start vector, and the
//! plain text begins with 16 random bytes and its length. What is signed is the encrypted text.

use super::field::{level, level_at, parse, text_at};
use super::{Heard, Unreadable};
use crate::sources::same;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Before the message in the older encryption: 16 random bytes, then its length in four.
const PREFIX: usize = 20;

/// How posts of OneNET are read.
#[derive(Debug, Clone)]
pub struct OneNet {
    /// Which field is the device's address; `None`: `deviceName`, or else `dev_id`.
    pub address_field: Option<String>,
    /// When the platform encrypts.
    pub aes_key: Option<AesKey>,
}

/// The key that was entered on the platform. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum AesKey {
    /// 16 characters.
    Plain([u8; 16]),
    /// 43 characters of base64.
    Encoded([u8; 32]),
}

impl std::fmt::Debug for AesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl AesKey {
    /// Takes the key as it stands on the platform's page. `None`: it has neither 16 nor 43 characters.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(plain) = text.as_bytes().try_into() {
            return Some(Self::Plain(plain));
        }
        // 43 characters are 258 bits: the platform makes its keys at random, so the last two may be anything.
        let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
        let bytes = GeneralPurpose::new(&alphabet::STANDARD, config).decode(format!("{text}=")).ok()?;
        bytes.try_into().ok().map(Self::Encoded)
    }

    fn decrypt(&self, text: &str) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(text).ok()?;
        match self {
            Self::Plain(key) => cbc::Decryptor::<aes::Aes128>::new(key.into(), key.into())
                .decrypt_padded_vec::<Pkcs7>(&bytes)
                .ok(),
            Self::Encoded(key) => {
                let start: &[u8; 16] = key.first_chunk()?;
                let plain = cbc::Decryptor::<aes::Aes256>::new(key.into(), start.into())
                    .decrypt_padded_vec::<Pkcs7>(&bytes)
                    .ok()?;
                let length = u32::from_be_bytes(*plain.get(16..PREFIX)?.first_chunk()?);
                let end = PREFIX.checked_add(usize::try_from(length).ok()?)?;
                plain.get(PREFIX..end).map(<[u8]>::to_vec)
            }
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
    enc_msg: Option<String>,
    nonce: String,
    signature: Option<String>,
    msg_signature: Option<String>,
    id: Option<Value>,
}

/// A post whose signature is right.
#[derive(Debug)]
pub(super) struct Opened {
    /// Which of the tokens it was signed with.
    pub(super) token: usize,
    message: String,
    id: Option<String>,
}

/// Why a post was not opened.
#[derive(Debug)]
pub(super) enum Closed {
    /// It is no post of OneNET.
    Unreadable(Unreadable),
    /// None of the tokens gives its signature.
    Signature,
}

/// The platform's question when its address is entered: the answer, if it is signed with one of the tokens.
pub(super) fn handshake<'q>(query: &'q [(String, String)], tokens: &[String]) -> Option<&'q str> {
    let get = |name| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let (message, nonce, signature) = (get("msg")?, get("nonce")?, get("signature")?);
    signed_with(tokens, nonce, message, signature).map(|_| message)
}

/// Checks the signature.
pub(super) fn open(body: &[u8], tokens: &[String]) -> Result<Opened, Closed> {
    let envelope: Envelope<'_> = parse(body).map_err(Closed::Unreadable)?;
    let in_text =
        |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_else(|_not_a_text| raw.get().to_owned());
    let signature = envelope.signature.or(envelope.msg_signature);
    let message = envelope.enc_msg.or_else(|| envelope.msg.map(in_text));
    let (Some(signature), Some(message)) = (signature, message) else {
        return Err(Closed::Unreadable(Unreadable::new(
            "缺少 msg 或 signature：这不是 OneNET 的推送",
            "msg or signature is missing: this is no post of OneNET",
        )));
    };
    let token = signed_with(tokens, &envelope.nonce, &message, &signature).ok_or(Closed::Signature)?;
    let id = envelope.id.as_ref().and_then(|id| match id {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    Ok(Opened { token, message, id })
}

/// Which token gives this signature. All are tried, so that the time it takes tells nothing.
fn signed_with(tokens: &[String], nonce: &str, message: &str, signature: &str) -> Option<usize> {
    // The platform's own receivers differ in the alphabet, in the padding, and in what became of `+` in an address.
    let usual: String = signature
        .chars()
        .map(|c| match c {
            ' ' | '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let given = GeneralPurpose::new(&alphabet::STANDARD, config).decode(usual).ok()?;
    let mut found = None;
    for (n, token) in tokens.iter().enumerate() {
        let mut md5 = Md5::new();
        for part in [token, nonce, message] {
            md5.update(part.as_bytes());
        }
        if same(&given, &md5.finalize()) {
            found = Some(n);
        }
    }
    found
}

impl OneNet {
    /// What an opened post says: one message or a list of them.
    pub(super) fn read(&self, opened: &Opened) -> Result<Vec<Heard>, Unreadable> {
        let decrypted;
        let text: &[u8] = match &self.aes_key {
            None => opened.message.as_bytes(),
            Some(key) => {
                decrypted = key.decrypt(&opened.message).ok_or_else(|| {
                    Unreadable::new(
                        "解密失败：aes_key_file 与平台上的 AES 密钥不一致，或平台没有开启加密",
                        "it cannot be decrypted: aes_key_file is not the platform's key, or the platform does not encrypt",
                    )
                })?;
                &decrypted
            }
        };
        if text.trim_ascii_start().starts_with(b"[") {
            let all: Vec<&RawValue> = parse(text)?;
            let each = all.into_iter().map(|one| one.get().as_bytes());
            return Ok(each
                .map(|one| self.one(one, opened).unwrap_or_else(|_| Heard::unreadable(one)))
                .collect());
        }
        Ok(vec![self.one(text, opened)?])
    }

    fn one(&self, text: &[u8], opened: &Opened) -> Result<Heard, Unreadable> {
        let value: Value = parse(text)?;
        let address = match &self.address_field {
            Some(field) => level_at(&value, field)?,
            None => level_at(&value, "deviceName").or_else(|_| level_at(&value, "dev_id"))?,
        };
        let integer = |key| value.get(key).and_then(Value::as_i64);
        let words = |key| text_at(&value, key);
        let (kind, online) = match (words("messageType").as_deref(), integer("type")) {
            (Some("notify"), _) => (words("notifyType").unwrap_or_else(|| "notify".to_owned()), None),
            (Some("lifeCycle"), _) => {
                let online = match words("data.status").as_deref() {
                    Some("online") => Some(true),
                    Some("offline") => Some(false),
                    _ => None,
                };
                ("lifeCycle".to_owned(), online)
            }
            (Some(other), _) => (other.to_owned(), None),
            (None, Some(1)) => (words("ds_id").unwrap_or_else(|| "datapoint".to_owned()), None),
            (None, Some(2)) => (
                "status".to_owned(),
                integer("status")
                    .and_then(|status| [false, true].get(usize::try_from(status).ok()?).copied()),
            ),
            (None, Some(other)) => (format!("type-{other}"), None),
            (None, None) => {
                return Err(Unreadable::new(
                    "消息里既没有 messageType 也没有 type：这不是 OneNET 的消息",
                    "the message has neither messageType nor type: it is none of OneNET",
                ));
            }
        };
        let topic = format!("{address}/{}", level(&kind)?);
        // A dated message that is posted again is the same byte by byte, whatever the post around it is called.
        let name = if is_dated(&value) { Some(String::new()) } else { opened.id.clone() };
        let presence = online.map(|online| (address, online));
        Ok(Heard { topic, payload: Bytes::copy_from_slice(text), name, presence })
    }
}

/// Whether the message holds the time it was made at.
fn is_dated(value: &Value) -> bool {
    let params = value.pointer("/data/params").and_then(Value::as_object);
    ["/at", "/timestamp", "/data/time"].iter().any(|path| value.pointer(path).is_some_and(Value::is_number))
        || params.is_some_and(|params| {
            !params.is_empty() && params.values().all(|param| param.get("time").is_some_and(Value::is_number))
        })
}

#[cfg(test)]
mod tests;
