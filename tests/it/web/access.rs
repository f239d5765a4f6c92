//! Who may come in, who stays, and what of it stands in the duty log.

use super::*;
use axum::extract::ConnectInfo;
use fengsui::model::Span;
use std::net::SocketAddr;

fn documented() -> Vec<(String, String)> {
    let doc: Value = serde_json::from_str(fengsui::web::api::OPENAPI).unwrap();
    let paths = doc["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

fn filled_in(path: &str) -> String {
    path.replace("{id}", "4.sd-204.smoke_state.fire-smoke")
        .replace("{verb}", "acknowledge")
        .replace("{device}", "ef-01")
        .replace("{command}", "mute")
        .replace("{point}", "residual_current")
}

#[tokio::test]
async fn nothing_is_shown_or_done_without_a_sign_in() {
    let room = filled().await;
    for page in PAGES {
        let response = send(&room, ask("GET", page, "")).await;
        let refused =
            if page.starts_with("/fragments") { StatusCode::UNAUTHORIZED } else { StatusCode::SEE_OTHER };
        assert_eq!(response.status(), refused, "{page}");
    }
    for (method, path) in documented() {
        if path.ends_with("openapi.json") || (method == "POST" && path.ends_with("/session")) {
            continue;
        }
        if path.contains("/ingest/") {
            continue; // A platform shows a token: `push.rs` and `gateway/push.rs` tell the story.
        }
        let response = send(&room, ask(&method, &filled_in(&path), "fengsui_session=0123")).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
    }
    for open in ["/sign-in", "/healthz", "/readyz", "/assets/duty.css", "/api/v1/openapi.json"] {
        assert_eq!(send(&room, ask("GET", open, "")).await.status(), StatusCode::OK, "{open}");
    }
}

#[tokio::test]
async fn every_documented_path_answers_and_every_route_is_documented() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let documented = documented();
    assert!(documented.len() >= 14, "{documented:?}");
    for (method, path) in &documented {
        if path.ends_with("/session") && method != "GET" {
            continue; // The cookie is needed for the rest.
        }
        if path.ends_with("/reload") {
            continue; // This room came from no file; `gateway/reload.rs` tells the story.
        }
        if path.contains("/ingest/") {
            continue; // No platform posts to this room.
        }
        let response = send(&room, ask(method, &filled_in(path), &cookie)).await;
        assert_eq!(response.status(), StatusCode::OK, "{method} {path}");
    }
    let source = ["web/mod.rs", "web/pages.rs", "sources/push/http.rs"]
        .map(|file| std::fs::read_to_string(format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap());
    let routes: Vec<&str> = source
        .iter()
        .flat_map(|source| source.split("\"/api/v1/").skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(routes.len() >= 12, "{routes:?}");
    for route in routes {
        let path = format!("/api/v1/{}", route.replace("{*", "{"));
        assert!(documented.iter().any(|(_, known)| *known == path), "{path} is not in openapi.json");
    }
}

#[tokio::test]
async fn five_wrong_passwords_lock_the_account_for_this_address_and_are_counted() {
    let room = filled().await;
    for _ in 0..5 {
        assert_eq!(try_sign_in(&room, "wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    let locked = try_sign_in(&room, &room.password).await;
    assert_eq!(locked.status(), StatusCode::TOO_MANY_REQUESTS, "the right password opened a locked account");
    assert_eq!(room.metrics.web_sign_in_failures.get(), 6);
    let body = serde_json::json!({ "password": room.password, "person": "李强" });
    let mut elsewhere = post("/api/v1/session", "", &body);
    elsewhere.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 1))));
    assert_eq!(send(&room, elsewhere).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_act() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let path = "/api/v1/hazards/4.sd-204.smoke_state.fire-smoke/acknowledge";
    for origin in [Some("http://evil.example"), Some("null"), None] {
        let mut request = ask("POST", path, &cookie);
        request.headers_mut().remove(header::ORIGIN);
        if let Some(origin) = origin {
            request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        }
        assert_eq!(send(&room, request).await.status(), StatusCode::FORBIDDEN, "{origin:?}");
    }
    assert!(
        room.board
            .snapshot()
            .open
            .values()
            .all(|open| &*open.hazard.id.to_string() != "4.sd-204.smoke_state.fire-smoke"
                || open.hazard.acknowledged.is_none())
    );
}

#[tokio::test]
async fn a_session_survives_a_restart_and_ends_with_a_sign_out() {
    let plan = duty_room::plan();
    let room = duty_room::room(plan.clone(), clock(), None).await;
    let cookie = sign_in(&room).await;
    let dir = room.dir.clone();
    room.cancel.cancel();
    drop(room);
    // The journal's lock is free once its last handle is gone.
    let room = loop {
        let opened = fengsui::journal::Journal::open(dir.path(), Default::default(), Default::default());
        if opened.is_ok() {
            drop(opened);
            break duty_room::room_in(dir, plan, clock(), None).await;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(room.password, "", "a second start made a second password");
    assert_eq!(send(&room, ask("GET", "/", &cookie)).await.status(), StatusCode::OK);
    assert_eq!(send(&room, ask("DELETE", "/api/v1/session", &cookie)).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(send(&room, ask("GET", "/", &cookie)).await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn an_idle_session_ends() {
    let room = duty_room::room(duty_room::plan(), clock(), None).await;
    let cookie = sign_in(&room).await;
    tokio::time::pause();
    tokio::time::advance(fengsui::web::sessions::IDLE_MAX.to_std() + Duration::from_secs(1)).await;
    tokio::time::resume();
    assert_eq!(send(&room, ask("GET", "/", &cookie)).await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_clock_that_is_set_signs_nobody_out() {
    let room = duty_room::room(duty_room::plan(), clock(), None).await;
    let cookie = sign_in(&room).await;
    let years = fengsui::web::sessions::AGE_MAX.as_millis() * 12;
    for step in [years, -2 * years, years] {
        room.clock.step_simulated(Span::from_millis(step));
        room.clock.take_step();
        assert_eq!(send(&room, ask("GET", "/", &cookie)).await.status(), StatusCode::OK, "{step}");
    }
}

#[tokio::test]
async fn counters_are_for_this_machine_and_for_people_who_are_signed_in() {
    let room = filled().await;
    let from = |address: [u8; 4], cookie: &str| {
        let mut request = ask("GET", "/metrics", cookie);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((address, 1))));
        request
    };
    assert_eq!(send(&room, from([127, 0, 0, 1], "")).await.status(), StatusCode::OK);
    assert_eq!(send(&room, from([192, 0, 2, 7], "")).await.status(), StatusCode::UNAUTHORIZED);
    let cookie = sign_in(&room).await;
    let metrics = text(send(&room, from([192, 0, 2, 7], &cookie)).await).await;
    assert!(metrics.contains("fengsui_web_streams"), "{metrics}");
}

#[tokio::test]
async fn the_demonstrations_routes_are_behind_the_sign_in_too() {
    let extra = axum::Router::new().route("/api/v1/demo", axum::routing::get(|| async { "[]" }));
    let room = duty_room::room(duty_room::plan(), clock(), Some(extra)).await;
    assert_eq!(send(&room, ask("GET", "/api/v1/demo", "")).await.status(), StatusCode::UNAUTHORIZED);
    let cookie = sign_in(&room).await;
    assert_eq!(send(&room, ask("GET", "/api/v1/demo", &cookie)).await.status(), StatusCode::OK);
    assert!(text(send(&room, ask("GET", "/", &cookie)).await).await.contains("id=\"demo\""));
}

/// The texts of the newest lines of the duty log.
async fn logged(room: &DutyRoom) -> Vec<String> {
    let lines = room.journal.duty_log(None, 100).await.unwrap();
    let note = |line: fengsui::journal::LogLine| match line.what {
        fengsui::journal::Logged::Note(note) => Some(note.text.zh.to_string()),
        fengsui::journal::Logged::Transition(_) => None,
    };
    lines.into_iter().filter_map(note).collect()
}

#[tokio::test]
async fn who_came_and_went_is_in_the_duty_log_and_guessing_does_not_flood_it() {
    let room = filled().await;
    for _ in 0..4 {
        try_sign_in(&room, "wrong").await;
    }
    let before = *room.journal.recorded().borrow();
    let body = serde_json::json!({ "account": "<b>root</b>", "password": "x", "person": "张伟" });
    send(&room, post("/api/v1/session", "", &body)).await;
    let cookie = sign_in(&room).await;
    send(&room, ask("DELETE", "/api/v1/session", &cookie)).await;
    let told = async {
        while !logged(&room).await.iter().any(|line| line.contains("退出登录")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("the sign-out is not in the duty log");
    assert!(before < *room.journal.recorded().borrow());
    let lines = logged(&room).await;
    let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!(count("登录失败（账号 duty，来自 unknown）"), 1, "{lines:?}");
    assert_eq!(count("登录失败（账号不存在，来自 unknown）"), 1, "{lines:?}");
    assert_eq!(count("张伟 登录（账号 duty，来自 unknown）"), 1, "{lines:?}");
    assert_eq!(count("登录失败"), 2, "four failures made more than one line: {lines:?}");
    let cookie = sign_in(&room).await;
    let page = text(send(&room, ask("GET", "/log", &cookie)).await).await;
    assert!(page.contains("退出登录") && !page.contains("root"));
}
