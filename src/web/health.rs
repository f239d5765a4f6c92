//! WEB · how the gateway itself is: for the health page, for the machines that watch it.

use super::Shared;
use super::auth::{self, From};
use super::sessions::COOKIE;
use crate::commands::ConfigState;
use crate::journal::Journal;
use crate::model::{LinkId, Span, Text, Timestamp};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;

/// What `app` knows of the gateway and the screen should show.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// Every link of the configuration.
    pub links: Vec<LinkHealth>,
    /// Every reader of the journal that sends something on.
    pub sinks: Vec<SinkHealth>,
    /// Damaged files of the journal that were set aside and wait for a person, with their sizes in bytes.
    pub set_aside: Vec<(String, u64)>,
    /// The last backup that was tried.
    pub backup: Option<Backup>,
    /// A backup is late when the last good one is older than this; `None`: none is scheduled.
    pub backup_late_after: Option<Span>,
    /// How what is in force stands to what is in the files.
    pub config: ConfigState,
}

/// One link.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkHealth {
    /// Which.
    pub link: LinkId,
    /// Whether it works.
    pub up: bool,
    /// Since when it is so.
    pub since: Timestamp,
    /// Why, for a person.
    pub reason: Text,
}

/// One sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkHealth {
    /// What it is called.
    pub name: String,
    /// Journal entries it is behind.
    pub lag: u64,
    /// What went wrong last, if it has not worked since.
    pub last_error: Option<Text>,
    /// How many hours more can be kept for it until what it has not got is deleted; `None`: nobody can say yet.
    pub hours_left: Option<u32>,
}

/// The kind and the key of the journal's document that says how the last backup went.
const BACKUP: (&str, &str) = ("backup", "last");

/// How the last backup went.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    /// When it was tried.
    pub at: Timestamp,
    /// Where it is; empty when it failed.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Why it failed.
    pub error: Option<Text>,
    /// When the last good one was made.
    pub good_at: Option<Timestamp>,
}

impl Backup {
    /// What the journal holds of it. A document that cannot be read is a backup that failed: somebody has to look.
    pub async fn last(journal: &Journal) -> Option<Self> {
        let (kind, key) = BACKUP;
        journal.document(kind, key).await.ok()?.map(|json| Self::parse(&json))
    }

    fn parse(json: &str) -> Self {
        #[derive(serde::Deserialize)]
        struct Kept {
            at: i64,
            ok: bool,
            file: Option<String>,
            #[serde(default)]
            bytes: u64,
            error: Option<String>,
            error_en: Option<String>,
            good_at: Option<i64>,
        }
        let unknown = || Text::new("原因不明", "nobody knows why");
        let Ok(kept) = serde_json::from_str::<Kept>(json) else {
            let at = Timestamp::from_millis(0);
            return Self { at, file: String::new(), bytes: 0, error: Some(unknown()), good_at: None };
        };
        let error = kept.error.map(|zh| Text::new(&zh, kept.error_en.as_deref().unwrap_or(&zh)));
        Self {
            at: Timestamp::from_millis(kept.at),
            file: kept.file.unwrap_or_default(),
            bytes: kept.bytes,
            error: (!kept.ok).then(|| error.unwrap_or_else(unknown)),
            good_at: kept.good_at.map(Timestamp::from_millis),
        }
    }
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: 503 while the journal cannot be written; to this machine a line in Chinese and one in English say why.
pub async fn readyz(State(shared): State<Shared>, From(address): From) -> Response {
    let journal = shared.room.journal.health();
    if journal.writable {
        return "ready\n".into_response();
    }
    let mut text = "the journal cannot be written\n".to_owned();
    if let Some(Text { zh, en }) = journal.reason.filter(|_| is_here(address)) {
        text += &[&*zh, &*en].map(|line| line.replace('\n', " ") + "\n").concat();
    }
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// Whether somebody on this machine asks.
fn is_here(address: Option<SocketAddr>) -> bool {
    address.is_some_and(|address| address.ip().to_canonical().is_loopback())
}

/// `GET /metrics`: Prometheus text. Counters tell an outsider how a site lives, so only this machine and people who
/// are signed in may read them.
pub async fn metrics(State(shared): State<Shared>, From(address): From, headers: HeaderMap) -> Response {
    let room = &shared.room;
    let here = is_here(address);
    let signed_in = match auth::cookie(&headers, COOKIE) {
        Some(token) if !here => shared.sessions.find(&room.journal, &room.clock, token).await.is_some(),
        _ => false,
    };
    if !here && !signed_in {
        return super::api::Problem::new(
            StatusCode::UNAUTHORIZED,
            "signed_out",
            "只有本机和已登录的人可以读取",
            "only this machine and people who are signed in may read this",
        )
        .into_response();
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], room.metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_nobody_can_read_about_has_failed() {
        let failed = |json: &str| Backup::parse(json).error.map(|error| error.zh.to_string());
        assert_eq!(failed(r#"{"at":5,"ok":true,"file":"/mnt/usb/1","bytes":7}"#), None);
        assert_eq!(failed(r#"{"at":5,"ok":false,"error":"写不进"}"#), Some("写不进".to_owned()));
        assert_eq!(failed(r#"{"at":5,"ok":false}"#), Some("原因不明".to_owned()));
        assert_eq!(failed("nothing"), Some("原因不明".to_owned()));
    }
}
