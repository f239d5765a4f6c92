//! WEB · what could not be answered, in words: a page for a person, JSON for a program. Whatever refused it.

use super::api::Problem;
use super::auth::{self, LANG_COOKIE};
use super::texts::{Lang, Texts};
use askama::Template;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

#[derive(Template)]
#[template(path = "refusal.html")]
struct Refusal {
    t: &'static Texts,
    lang: Lang,
    title: &'static str,
    why: &'static str,
}

/// Unknown addresses.
pub(super) async fn nowhere() -> Problem {
    Problem::missing()
}

/// Gives every refusal its words.
pub(super) async fn in_words(request: Request, next: Next) -> Response {
    let lang = auth::cookie(request.headers(), LANG_COOKIE).and_then(Lang::parse).unwrap_or_default();
    let program = request.uri().path().starts_with("/api/");
    let person = !program && names(request.headers(), header::ACCEPT, "text/html");
    let response = next.run(request).await;
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    let kind = |kind| names(response.headers(), header::CONTENT_TYPE, kind);
    if refused && person && !kind("text/html") {
        let problem = response.extensions().get::<Problem>().copied().unwrap_or_else(|| unnamed(status));
        let t = lang.texts();
        let why = if lang == Lang::Zh { problem.zh } else { problem.en };
        let (title, why) =
            if status == StatusCode::NOT_FOUND { (t.not_found, t.not_found_why) } else { (t.refused, why) };
        let page = Refusal { t, lang, title, why };
        return match page.render() {
            Ok(html) => (status, Html(html)).into_response(),
            Err(_) => response,
        };
    }
    if refused && program && !kind("application/json") {
        return unnamed(status).into_response();
    }
    response
}

fn names(headers: &HeaderMap, name: header::HeaderName, kind: &str) -> bool {
    headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(kind))
}

/// The words for what the framework refused.
fn unnamed(status: StatusCode) -> Problem {
    let (error, zh, en) = match status {
        StatusCode::NOT_FOUND => return Problem::missing(),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("wrong_method", "这个地址不能这样打开", "this address does not take this method")
        }
        StatusCode::REQUEST_TIMEOUT => ("too_slow", "请求没有按时送完", "the request took too long"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "提交的内容太长", "the request is too large"),
        status if status.is_client_error() => (
            "bad_request",
            "地址或提交的内容有错，请返回重试",
            "the request has a mistake in its address or body",
        ),
        _ => (
            "broken",
            "网关处理这个请求时出错，报警不受影响，请再试一次",
            "the gateway failed on this request; alarms are not affected; try again",
        ),
    };
    Problem::new(status, error, zh, en)
}
