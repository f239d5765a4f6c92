//! WEB · how the gateway itself is: for the health page, for the machines that watch it.

use super::Shared;
use super::auth::{self, From};
use super::sessions::COOKIE;
use crate::model::{LinkId, Timestamp};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What `app` knows of the gateway and the screen should show.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// Every link of the configuration.
    pub links: Vec<LinkHealth>,
    /// Every reader of the journal that sends something on.
    pub sinks: Vec<SinkHealth>,
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
    pub reason: String,
}

/// One sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkHealth {
    /// What it is called.
    pub name: String,
    /// Journal entries it is behind.
    pub lag: u64,
    /// What went wrong last, if it has not worked since.
    pub last_error: Option<String>,
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: 503 while the journal cannot be written.
pub async fn readyz(State(shared): State<Shared>) -> Response {
    let journal = shared.room.journal.health();
    if journal.writable {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the journal cannot be written\n").into_response()
}

/// `GET /metrics`: Prometheus text. Counters tell an outsider how a site lives, so only this machine and people who
/// are signed in may read them.
pub async fn metrics(State(shared): State<Shared>, From(address): From, headers: HeaderMap) -> Response {
    let room = &shared.room;
    let here = address.is_some_and(|address| address.ip().to_canonical().is_loopback());
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
