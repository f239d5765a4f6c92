//! Tests of the duty room's router: who may come in, what is shown, what a page may load.

mod access;
mod catalogue;
mod charts;
mod health;
mod live;
mod pages;
mod quarantine;
mod refusals;

use crate::support::duty_room::{self, DutyRoom};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use fengsui::clock::Clock;
use fengsui::model::Timestamp;
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;
use tower::ServiceExt;

pub(super) const HOST: &str = "duty.example:8080";

pub(super) fn clock() -> Clock {
    Clock::simulated(Timestamp::from_secs(1_800_000_000))
}

pub(super) async fn filled() -> DutyRoom {
    let plan = duty_room::plan();
    let room = duty_room::room(plan.clone(), clock(), None).await;
    duty_room::fill(&room, &plan).await;
    let head = *room.journal.head().borrow();
    reached(&room, head).await;
    room
}

/// Waits until the board has followed the journal that far.
pub(super) async fn reached(room: &DutyRoom, no: u64) {
    let followed = async {
        while room.board.snapshot().no < no {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), followed)
        .await
        .expect("the board did not follow the journal");
}

pub(super) fn ask(method: &str, path: &str, cookie: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, HOST);
    if method != "GET" {
        request = request.header(header::ORIGIN, format!("http://{HOST}"));
    }
    request.header(header::COOKIE, cookie).body(Body::empty()).unwrap()
}

pub(super) fn post(path: &str, cookie: &str, body: &Value) -> Request<Body> {
    let mut request = ask("POST", path, cookie);
    request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    *request.body_mut() = Body::from(body.to_string());
    request
}

pub(super) async fn send(room: &DutyRoom, request: Request<Body>) -> Response {
    room.router.clone().oneshot(request).await.unwrap()
}

pub(super) async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

pub(super) async fn json(response: Response) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

pub(super) async fn try_sign_in(room: &DutyRoom, password: &str) -> Response {
    let body = serde_json::json!({ "password": password, "person": "张伟" });
    send(room, post("/api/v1/session", "", &body)).await
}

pub(super) async fn sign_in(room: &DutyRoom) -> String {
    let before = *room.journal.recorded().borrow();
    let response = try_sign_in(room, &room.password).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    // It is in the duty log, and on the board, before the test goes on.
    reached(room, before + 1).await;
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

pub(super) const PAGES: [&str; 11] = [
    "/",
    "/fragments/hazards",
    "/points/sd-203/smoke_state",
    "/log",
    "/log.csv",
    "/history",
    "/strays",
    "/catalogue",
    "/catalogue/fengsui/smoke-json",
    "/devices/sd-203",
    "/health",
];
