//! WIRE → FRAMES, HTTP: who may post, how much at once, and what is answered. Every answer that is no 200 says what to do.
//!
//! 200: the journal has it. 400: not understood, kept under 待接入; sending it again helps nobody. 401: wrong token. 403: wrong
//! signature. 404: no such link. 408, 413: too slow, too large. 429: too often. 503: not written in time; send again.

use super::json::Beside;
use super::{Door, Doors, Format, Heard, Inner, Push, Unreadable, ctwing, onenet};
use crate::model::Text;
use crate::sources::same;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tracing::{debug, warn};

/// The largest post. A device's message has below 1 KiB; a platform that gathers sends a hundred of them at once.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Posts of one link that are answered at once: with [`BODY_BYTES_MAX`] 16 MiB. Each waits for a commit, at most a second
/// in ordinary times, so one link gets at least 64 posts a second through; the pipeline commits earlier when many wait.
/// An eighth of the connections that the duty room takes.
pub const ANSWERS_AT_ONCE_MAX: usize = 64;

/// How long a body may take to come. At 256 KiB that is 50 kB/s; a message of 1 KiB comes through at 200 bytes/s.
pub const BODY_WITHIN: Duration = Duration::from_secs(5);

/// After how long a post that could not be written or found no place is to be sent again: two commit windows.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// `/api/v1/ingest/…`, for the duty room's address (`None`) or one of its own. Only the doors that are open there are found.
pub fn router(doors: Doors, at: Option<SocketAddr>) -> Router {
    Router::new()
        .route("/api/v1/ingest/{link}", get(ask).post(post))
        .route("/api/v1/ingest/{link}/{*path}", axum::routing::post(post_to))
        .with_state(Served { doors, at })
}

#[derive(Clone)]
struct Served {
    doors: Doors,
    at: Option<SocketAddr>,
}

type Pairs = Query<Vec<(String, String)>>;

/// OneNET's question whether we know its token.
async fn ask(State(served): State<Served>, Path(link): Path<String>, Query(query): Pairs) -> Response {
    let Some(push) = served.find(&link) else { return Refused::nowhere().into_response() };
    let settings = &push.0.door.settings;
    let Format::OneNet(_) = settings.format else { return Refused::wrong_method().into_response() };
    match onenet::handshake(&query, &settings.tokens) {
        Some(message) => message.to_owned().into_response(),
        None => push.refuse(Refused::signature()),
    }
}

async fn post(
    State(served): State<Served>,
    Path(link): Path<String>,
    Query(query): Pairs,
    headers: HeaderMap,
    body: Body,
) -> Response {
    served.answer(&link, Request { path: None, query, headers, body }).await
}

async fn post_to(
    State(served): State<Served>,
    Path((link, path)): Path<(String, String)>,
    Query(query): Pairs,
    headers: HeaderMap,
    body: Body,
) -> Response {
    served.answer(&link, Request { path: Some(path), query, headers, body }).await
}

struct Request {
    path: Option<String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Body,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Authorization: Bearer …`, `X-Api-Key: …`, or `?token=…` for a platform that cannot set headers.
    fn token(&self) -> Option<&str> {
        let bearer = self.header("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let in_address = || self.query.iter().find(|(name, _)| name == "token").map(|(_, value)| &**value);
        bearer.or_else(|| self.header("x-api-key")).or_else(in_address)
    }
}

impl Served {
    fn find(&self, link: &str) -> Option<Push> {
        self.doors.find(self.at, link)
    }

    async fn answer(&self, link: &str, request: Request) -> Response {
        let Some(push) = self.find(link) else { return Refused::nowhere().into_response() };
        match push.take(request).await {
            Ok(count) => axum::Json(json!({ "recorded": count })).into_response(),
            Err(refused) => push.refuse(refused),
        }
    }
}

impl Push {
    fn refuse(&self, refused: Refused) -> Response {
        let Inner { door, ingest, .. } = &*self.0;
        let (link, metrics) = (&door.settings.link, &ingest.metrics);
        let again = refused.again_after.is_some();
        if again {
            metrics.push_deferred.inc()
        } else {
            metrics.push_refused.inc()
        };
        match refused.status {
            // Anybody may knock; only the counter tells.
            StatusCode::UNAUTHORIZED => debug!(%link, "a post was refused: {}", refused.text.en),
            status => warn!(%link, status = status.as_u16(), "a post was refused: {}", refused.text.en),
        }
        refused.into_response()
    }

    /// How many messages of the post the journal now has.
    async fn take(&self, request: Request) -> Result<usize, Refused> {
        let Inner { door, ingest, cancel } = &*self.0;
        if cancel.is_cancelled() {
            return Err(Refused::stopping());
        }
        // OneNET shows no token, it signs.
        if !matches!(door.settings.format, Format::OneNet(_)) {
            let token = request.token().and_then(|given| find(&door.settings.tokens, given));
            throttle(door, token.ok_or_else(Refused::token)?)?;
        }
        let _place = door.places.try_acquire().map_err(|_none_free| Refused::busy())?;
        let (path, query) = (request.path.as_deref(), &request.query);
        let message_id = request.headers.get("idempotency-key").and_then(|value| value.to_str().ok());
        let body = read_body(request.body).await?;
        let link = &door.settings.link;
        let read = match &door.settings.format {
            Format::Json(form) => form.read(&Beside { link, path, query, message_id }, &body),
            Format::Ctwing { address_field } => ctwing::read(address_field, &body),
            Format::OneNet(form) => match onenet::open(&body, &door.settings.tokens) {
                Err(onenet::Closed::Signature) => return Err(Refused::signature()),
                // It shows no sign of coming from the platform: nothing of it is kept.
                Err(onenet::Closed::Unreadable(why)) => return Err(Refused::unreadable(why, false)),
                Ok(opened) => {
                    throttle(door, opened.token)?;
                    form.read(&opened)
                }
            },
        };
        match read {
            Ok(heard) => {
                let count = heard.len();
                if ingest.keep(&door.settings, heard).await { Ok(count) } else { Err(Refused::not_written()) }
            }
            Err(why) => {
                if ingest.keep(&door.settings, vec![Heard::unreadable(&body)]).await {
                    Err(Refused::unreadable(why, true))
                } else {
                    Err(Refused::not_written())
                }
            }
        }
    }
}

/// Which token it is. All are compared, so that the time it takes tells nothing.
fn find(tokens: &[String], given: &str) -> Option<usize> {
    let mut found = None;
    for (n, token) in tokens.iter().enumerate() {
        if same(given.as_bytes(), token.as_bytes()) {
            found = Some(n);
        }
    }
    found
}

fn throttle(door: &Door, token: usize) -> Result<(), Refused> {
    match door.throttle(token) {
        Some(wait) => Err(Refused::too_often(wait)),
        None => Ok(()),
    }
}

async fn read_body(body: Body) -> Result<Bytes, Refused> {
    match tokio::time::timeout(BODY_WITHIN, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // A sender that hangs up reads no answer, so a failure is an excess.
        Ok(Err(_)) => Err(Refused::too_large()),
        Err(_) => Err(Refused::too_slow()),
    }
}

/// Rounded up: who comes a moment too early is sent away once more.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Why a post is not answered with 200.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    error: &'static str,
    text: Text,
    again_after: Option<Duration>,
}

impl Refused {
    fn new(status: StatusCode, error: &'static str, zh: &str, en: &str) -> Self {
        Self { status, error, text: Text::new(zh, en), again_after: None }
    }

    fn again(self, after: Duration) -> Self {
        Self { again_after: Some(after), ..self }
    }

    fn nowhere() -> Self {
        let zh = "没有这个推送连接：检查地址里的名称和 gateway.toml 的 [[push]] name";
        let en = "no such link: compare the name in the address with [[push]] name in gateway.toml";
        Self::new(StatusCode::NOT_FOUND, "not_found", zh, en)
    }

    fn wrong_method() -> Self {
        let (zh, en) = ("这里用 POST 推送", "POST to this address");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", zh, en)
    }

    fn token() -> Self {
        let zh = "令牌不对或没有令牌：用 Authorization: Bearer 令牌（或 X-Api-Key，或地址末尾 ?token=…），令牌在 tokens_file 里";
        let en = "no token or a wrong one: send Authorization: Bearer, X-Api-Key or ?token= with one of tokens_file";
        Self::new(StatusCode::UNAUTHORIZED, "wrong_token", zh, en)
    }

    fn signature() -> Self {
        let zh = "签名不对：平台上填写的 token 与 tokens_file 里的不一致";
        let en = "wrong signature: the token entered on the platform is none of tokens_file";
        Self::new(StatusCode::FORBIDDEN, "wrong_signature", zh, en)
    }

    fn too_large() -> Self {
        let (zh, en) =
            ("推送的内容超过 256 KiB，请分成几次", "the body is longer than 256 KiB; send it in parts");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", zh, en)
    }

    fn too_slow() -> Self {
        let (zh, en) = ("内容没有在 5 秒内送完", "the body did not come within 5 s");
        Self::new(StatusCode::REQUEST_TIMEOUT, "too_slow", zh, en).again(AGAIN_AFTER)
    }

    fn too_often(wait: Duration) -> Self {
        let (zh, en) =
            ("推送太频繁，请按 Retry-After 稍后重发", "too often; send it again after Retry-After");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_often", zh, en).again(wait)
    }

    fn busy() -> Self {
        let (zh, en) = ("同时推送的请求太多，请稍后重发", "too many posts at once; send it again");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", zh, en).again(AGAIN_AFTER)
    }

    fn not_written() -> Self {
        let zh = "没有及时写入日志，请重发；见运行状况页";
        let en = "not written to the journal in time; send it again; see the health page";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_written", zh, en).again(AGAIN_AFTER)
    }

    fn stopping() -> Self {
        let (zh, en) = ("网关正在停止，请稍后重发", "the gateway is stopping; send it again");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", zh, en).again(AGAIN_AFTER)
    }

    fn unreadable(Unreadable(why): Unreadable, kept: bool) -> Self {
        let (zh, en) = if kept {
            ("；原文保存在待接入页", "; it is kept on the page 待接入")
        } else {
            ("", "")
        };
        let text = Text::new(&format!("{}{zh}", why.zh), &format!("{}{en}", why.en));
        Self { status: StatusCode::BAD_REQUEST, error: "unreadable", text, again_after: None }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "message_zh": &*self.text.zh, "message_en": &*self.text.en });
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.again_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
