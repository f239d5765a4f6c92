//! WEB · the door: nobody passes without a session, and no other site's page can act in his name.

use super::accounts::Verdict;
use super::sessions::{COOKIE, NAME_CHARS_MAX, Session};
use super::texts::Lang;
use super::{Shared, api::Problem, pages};
use axum::extract::{ConnectInfo, Form, FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::net::SocketAddr;

/// The cookie that keeps the language.
pub(super) const LANG_COOKIE: &str = "fengsui_lang";

/// Seconds the browser keeps the cookies; the gateway itself decides when a session is over.
const COOKIE_SECS: i64 = super::sessions::AGE_MAX.as_millis() / 1000;

/// The person behind a request, put there by [`require`].
#[derive(Debug, Clone)]
pub struct Who(pub Session);

/// The language a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct InLang(pub Lang);

/// Where a request came from, for the lock; `unknown` in tests without a socket.
#[derive(Debug, Clone)]
pub struct From(pub Option<SocketAddr>);

impl<S: Sync> FromRequestParts<S> for InLang {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(cookie(&parts.headers, LANG_COOKIE).and_then(Lang::parse).unwrap_or_default()))
    }
}

impl<S: Sync> FromRequestParts<S> for From {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0)))
    }
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Lets a signed-in request through, with its [`Who`]; sends a person to the sign-in page and a program a 401.
pub async fn require(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let session = match cookie(request.headers(), COOKIE) {
        Some(token) => shared.sessions.find(&shared.room.journal, &shared.room.clock, token).await,
        None => None,
    };
    let Some(session) = session else {
        let path = request.uri().path();
        if path.starts_with("/api/") || path.starts_with("/fragments/") || request.method() != Method::GET {
            return Problem::new(StatusCode::UNAUTHORIZED, "signed_out", "请先登录", "sign in first")
                .into_response();
        }
        return Redirect::to("/sign-in").into_response();
    };
    request.extensions_mut().insert(Who(session));
    next.run(request).await
}

/// Refuses everything that changes something unless it comes from our own page: `Origin` must name our `Host`.
pub async fn same_origin(request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if safe || is_ours(request.headers()) {
        return next.run(request).await;
    }
    Problem::new(
        StatusCode::FORBIDDEN,
        "other_origin",
        "请求不是从本页面发出的，已拒绝",
        "the request does not come from this page (its Origin is not its Host)",
    )
    .into_response()
}

fn is_ours(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    origin.is_some() && origin == text(header::HOST)
}

/// What a person types to sign in.
#[derive(Deserialize)]
pub struct Credentials {
    #[serde(default = "first_account")]
    account: String,
    password: String,
    #[serde(default)]
    person: String,
    #[serde(default)]
    phone: String,
}

fn first_account() -> String {
    super::accounts::FIRST_ACCOUNT.to_owned()
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials of {:?}", self.account)
    }
}

/// Signs in: the cookie, or why not.
pub async fn begin(shared: &Shared, given: &Credentials, from: &From) -> Result<HeaderValue, Problem> {
    let room = &shared.room;
    let person = given.person.trim();
    let unfit = |text: &str| text.chars().count() > NAME_CHARS_MAX || text.chars().any(char::is_control);
    if person.is_empty() || unfit(person) || unfit(&given.phone) {
        let texts = (Lang::Zh.texts(), Lang::En.texts());
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "name_needed",
            texts.0.name_needed,
            texts.1.name_needed,
        ));
    }
    let address = from.0.map_or_else(|| "unknown".to_owned(), |address| address.ip().to_string());
    let at = room.clock.now();
    let verdict = shared.gate.check(&room.journal, &given.account, &given.password, &address, at).await;
    let (status, error, pick): (_, _, fn(&super::texts::Texts) -> &'static str) = match verdict {
        Verdict::Welcome => {
            let token = shared
                .sessions
                .begin(&room.journal, &room.clock, &given.account, person, given.phone.trim())
                .await
                .ok_or_else(Problem::unreadable)?;
            tracing::info!(account = %given.account, person, address, "signed in");
            shared.access.came(&room.door, &room.metrics, &given.account, person, &address);
            return Ok(session_cookie(&token, COOKIE_SECS));
        }
        Verdict::Wrong => (StatusCode::UNAUTHORIZED, "wrong_password", |t| t.wrong),
        Verdict::Locked => (StatusCode::TOO_MANY_REQUESTS, "locked", |t| t.locked),
        Verdict::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", |t| t.busy),
    };
    if verdict != Verdict::Busy {
        room.metrics.web_sign_in_failures.inc();
        tracing::warn!(account = ?given.account, address, reason = error, "a sign-in was refused");
        let known = super::accounts::exists(&room.journal, &given.account).await;
        let account = known.then_some(given.account.as_str());
        shared.access.failed(&room.door, &room.metrics, account, &address, at);
    }
    Err(Problem::new(status, error, pick(Lang::Zh.texts()), pick(Lang::En.texts())))
}

fn session_cookie(token: &str, max_age: i64) -> HeaderValue {
    let text = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age}");
    HeaderValue::from_str(&text).expect("a token is hex digits")
}

/// `POST /sign-in`: the form of the sign-in page.
pub async fn sign_in(
    State(shared): State<Shared>,
    InLang(lang): InLang,
    from: From,
    Form(given): Form<Credentials>,
) -> Response {
    match begin(&shared, &given, &from).await {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        Err(problem) => (problem.status, pages::sign_in(lang, Some(&problem), &given.person)).into_response(),
    }
}

/// `POST /sign-out`.
pub async fn sign_out(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let cookie = end(&shared, &headers).await;
    ([(header::SET_COOKIE, cookie)], Redirect::to("/sign-in")).into_response()
}

/// Ends the session of a request; the cookie that forgets it.
pub async fn end(shared: &Shared, headers: &HeaderMap) -> HeaderValue {
    if let Some(token) = cookie(headers, COOKIE) {
        let room = &shared.room;
        if let Some(session) = shared.sessions.end(&room.journal, &room.clock, token).await {
            shared.access.went(&room.door, &room.metrics, &session.account, &session.person);
        }
    }
    session_cookie("", 0)
}

/// Where the language switch leads back to.
#[derive(Debug, Deserialize)]
pub struct Back {
    #[serde(default)]
    back: String,
}

/// `GET /lang/{tag}`: keeps the language in a cookie.
pub async fn language(
    axum::extract::Path(tag): axum::extract::Path<String>,
    Query(back): Query<Back>,
) -> Response {
    let lang = Lang::parse(&tag).unwrap_or_default();
    let cookie = format!("{LANG_COOKIE}={}; Path=/; SameSite=Strict; Max-Age=31536000", lang.tag());
    // Only a path of ours: `//host` and `/\host` would lead away.
    let ours = back.back.starts_with('/')
        && !back.back.starts_with("//")
        && back.back.chars().all(|c| c.is_ascii_graphic() && c != '\\');
    let to = if ours { back.back.as_str() } else { "/" };
    ([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response()
}
