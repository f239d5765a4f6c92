//! Tests of the duty room's router: who may come in, what is shown, what a page may load.

use crate::support::duty_room::{self, DutyRoom};
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use fengsui::clock::Clock;
use fengsui::model::{Change, Span, Timestamp, Value as Measured};
use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tower::ServiceExt;

const HOST: &str = "duty.example:8080";

fn clock() -> Clock {
    Clock::simulated(Timestamp::from_secs(1_800_000_000))
}

async fn filled() -> DutyRoom {
    let plan = duty_room::plan();
    let room = duty_room::room(plan.clone(), clock(), None).await;
    duty_room::fill(&room, &plan).await;
    let head = *room.journal.head().borrow();
    reached(&room, head).await;
    room
}

/// Waits until the board has followed the journal that far.
async fn reached(room: &DutyRoom, no: u64) {
    let followed = async {
        while room.board.snapshot().no < no {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), followed)
        .await
        .expect("the board did not follow the journal");
}

fn ask(method: &str, path: &str, cookie: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, HOST);
    if method != "GET" {
        request = request.header(header::ORIGIN, format!("http://{HOST}"));
    }
    request.header(header::COOKIE, cookie).body(Body::empty()).unwrap()
}

fn post(path: &str, cookie: &str, body: &Value) -> Request<Body> {
    let mut request = ask("POST", path, cookie);
    request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    *request.body_mut() = Body::from(body.to_string());
    request
}

async fn send(room: &DutyRoom, request: Request<Body>) -> Response {
    room.router.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn json(response: Response) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

async fn try_sign_in(room: &DutyRoom, password: &str) -> Response {
    let body = serde_json::json!({ "password": password, "person": "张伟" });
    send(room, post("/api/v1/session", "", &body)).await
}

async fn sign_in(room: &DutyRoom) -> String {
    let before = *room.journal.recorded().borrow();
    let response = try_sign_in(room, &room.password).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    // It is in the duty log, and on the board, before the test goes on.
    reached(room, before + 1).await;
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

const PAGES: [&str; 8] = [
    "/",
    "/fragments/hazards",
    "/points/sd-203/smoke_state",
    "/log",
    "/log.csv",
    "/history",
    "/strays",
    "/health",
];

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
        let response = send(&room, ask(method, &filled_in(path), &cookie)).await;
        assert_eq!(response.status(), StatusCode::OK, "{method} {path}");
    }
    let source = ["mod.rs", "pages.rs"].map(|file| {
        std::fs::read_to_string(format!("{}/src/web/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    });
    let routes: Vec<&str> = source
        .iter()
        .flat_map(|source| source.split("\"/api/v1/").skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(routes.len() >= 12, "{routes:?}");
    for route in routes {
        let path = format!("/api/v1/{route}");
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
    room.clock.step_simulated(Span::from_millis(fengsui::web::sessions::IDLE_MAX.as_millis() + 1000));
    room.clock.take_step();
    assert_eq!(send(&room, ask("GET", "/", &cookie)).await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn an_acknowledgement_carries_the_persons_name_and_a_refusal_is_in_chinese() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let id = "4.sd-204.smoke_state.fire-smoke";
    let path = format!("/api/v1/hazards/{id}/acknowledge");
    let done =
        json(send(&room, post(&path, &cookie, &serde_json::json!({ "note": "已打电话" }))).await).await;
    reached(&room, done["no"].as_u64().unwrap()).await;
    let page = text(send(&room, ask("GET", "/", &cookie)).await).await;
    assert!(page.contains("已打电话"));
    let again = send(&room, ask("POST", &path, &cookie)).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert_eq!(json(again).await["message_zh"], "已有人确认");
    let history = json(send(&room, ask("GET", &format!("/api/v1/hazards/{id}"), &cookie)).await).await;
    assert_eq!(history["history"][1]["operator"]["by"], "张伟");
}

#[tokio::test]
async fn no_page_and_no_asset_names_another_host_and_the_policy_forbids_it() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let mut looked = 0;
    let assets = [
        "/assets/duty.css",
        "/assets/duty.js",
        "/assets/chart.js",
        "/assets/uPlot.min.css",
        "/assets/uPlot.iife.min.js",
        "/assets/icon.svg",
    ];
    for path in
        PAGES.into_iter().chain(["/sign-in", "/hazards/4.sd-204.smoke_state.fire-smoke"]).chain(assets)
    {
        let response = send(&room, ask("GET", path, &cookie)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        // uPlot names its home page in its first comment; an SVG names its own language. Neither is ever fetched.
        let body = text(response).await.replacen("/*! https://github.com/leeoniya/uPlot (v1.6.32) */", "", 1);
        let body = body.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!body.contains("http://") && !body.contains("https://"), "{path} names another host");
        assert!(!body.contains(" style=\""), "{path} has an inline style, which the policy refuses");
        looked += 1;
    }
    assert_eq!(looked, 16);
}

#[tokio::test]
async fn hostile_names_notes_and_samples_are_only_text() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    for path in PAGES.into_iter().filter(|path| !path.ends_with("csv")) {
        let body = text(send(&room, ask("GET", path, &cookie)).await).await;
        assert!(!body.contains("<script>alert"), "{path}");
        assert!(!body.contains("<b>0.31"), "{path}");
    }
    let strays = text(send(&room, ask("GET", "/strays", &cookie)).await).await;
    assert!(strays.contains("&#60;script&#62;alert(3)") && strays.contains("40 40 01 FF"), "{strays}");
}

#[tokio::test]
async fn the_screen_says_what_burns_where_and_whom_to_call() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let page = text(send(&room, ask("GET", "/", &cookie)).await).await;
    for words in [
        "感烟火警",
        "阳光养老院",
        "203 房间床头上方",
        "GB 4715-2024",
        "138 0000 0001",
        "青石镇阳光路 18 号",
        "首火警",
        "最新火警",
        "正在报警",
        "已恢复 未复位",
        "迟报",
        "超量程",
        "未接传感器",
        "从未收到",
    ] {
        assert!(page.contains(words), "the page does not say {words}");
    }
    let first = page.split("<article").nth(1).unwrap();
    assert!(first.contains("id=\"h-2.sd-203.smoke_state.fire-smoke\""), "the first fire is not on top");
    let quality = |point: &str| {
        let at = page.find(&format!("data-point=\"{point}\"")).unwrap();
        let tag = &page[page[..at].rfind('<').unwrap()..at];
        tag.split("q-").nth(1).unwrap().split(['"', ' ']).next().unwrap().to_owned()
    };
    assert_eq!(quality("sd-205/temperature"), "bad");
    assert_eq!(quality("ef-02/cable_temperature"), "absent");
    assert_eq!(quality("sd-302/smoke_state"), "none");
    assert_eq!(quality("sd-203/temperature"), "good");
}

/// Reads whole events from a stream until one of that kind came.
async fn read_until(body: &mut axum::body::BodyDataStream, kind: &str) -> Vec<String> {
    let mut seen = String::new();
    let reading = async {
        loop {
            if let Some(at) = seen.find(&format!("event: {kind}\n"))
                && seen[at..].contains("\n\n")
            {
                return seen.split("\n\n").filter(|event| !event.is_empty()).map(str::to_owned).collect();
            }
            let chunk = body.next().await.expect("the stream ended").unwrap();
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reading)
        .await
        .unwrap_or_else(|_| panic!("no {kind} in {kind:?}"))
}

#[tokio::test]
async fn a_live_stream_tells_of_a_fire_at_once() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let mut stream = send(&room, ask("GET", "/api/v1/live", &cookie)).await.into_body().into_data_stream();
    read_until(&mut stream, "beat").await;
    let plan = duty_room::plan();
    let fire =
        duty_room::hazard(&plan, 9, "sd-101/smoke_state", Measured::Code("alarm".into()), room.clock.now());
    let no = room.stage.append(vec![], vec![(Change::Raised, fire)], vec![]).await;
    let events = read_until(&mut stream, "change").await;
    let change = events.last().unwrap();
    assert!(
        change.contains(&format!("id: {no}")) && change.contains("9.sd-101.smoke_state.fire-smoke"),
        "{change}"
    );
    assert!(change.contains("\"sound\":\"fire\"") && change.contains("\"fire\":4"), "{change}");
    assert_eq!(room.metrics.web_streams.get(), 1);
    drop(stream);
    assert_eq!(room.metrics.web_streams.get(), 0);
}

#[tokio::test]
async fn a_browser_that_was_asleep_catches_up_from_where_it_stopped() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let mut request = ask("GET", "/api/v1/live?after=1", &cookie);
    request.headers_mut().insert("last-event-id", "3".parse().unwrap());
    let mut stream = send(&room, request).await.into_body().into_data_stream();
    let events = read_until(&mut stream, "change").await;
    let change = events.last().unwrap();
    assert!(change.contains("4.sd-204.smoke_state.fire-smoke"), "{change}");
    assert!(!change.contains("2.sd-203"), "it was told again what it knew: {change}");
}

#[tokio::test]
async fn a_browser_that_knows_another_journal_loads_itself_anew() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let response = send(&room, ask("GET", "/api/v1/live?after=999999", &cookie)).await;
    let mut stream = response.into_body().into_data_stream();
    read_until(&mut stream, "reload").await;
}

#[tokio::test]
async fn streams_are_bounded() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let mut open = Vec::new();
    for _ in 0..fengsui::web::live::STREAMS_MAX {
        let response = send(&room, ask("GET", "/api/v1/live", &cookie)).await;
        assert_eq!(response.status(), StatusCode::OK);
        open.push(response);
    }
    let one_more = send(&room, ask("GET", "/api/v1/live", &cookie)).await;
    assert_eq!(one_more.status(), StatusCode::SERVICE_UNAVAILABLE);
    open.pop();
    assert_eq!(send(&room, ask("GET", "/api/v1/live", &cookie)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_the_journal_could_not_take_is_marked_until_it_could() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let plan = duty_room::plan();
    let fire =
        duty_room::hazard(&plan, 7, "sd-101/smoke_state", Measured::Code("alarm".into()), room.clock.now());
    room.stage.publish_unrecorded(Change::Raised, fire.clone());
    reached(&room, *room.journal.head().borrow()).await;
    let unrecorded = |page: String| page.contains("mark unrecorded");
    assert!(unrecorded(text(send(&room, ask("GET", "/fragments/hazards", &cookie)).await).await));
    room.stage.append(vec![], vec![(Change::Raised, fire)], vec![]).await;
    let settled = async {
        while unrecorded(text(send(&room, ask("GET", "/fragments/hazards", &cookie)).await).await) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled).await.expect("it stayed marked as not recorded");
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

#[tokio::test]
async fn the_second_language_says_the_same() {
    let room = filled().await;
    let cookie = format!("{}; fengsui_lang=en", sign_in(&room).await);
    let page = text(send(&room, ask("GET", "/", &cookie)).await).await;
    assert!(page.contains("smoke fire alarm") && page.contains("Acknowledge") && !page.contains(">确认<"));
    let away = send(&room, ask("GET", "/lang/en?back=//evil.example/", "")).await;
    assert_eq!(away.headers()[header::LOCATION], "/");
}

#[tokio::test]
async fn a_chart_shows_states_limits_and_hazards() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let body = json(
        send(&room, ask("GET", "/api/v1/points/ef-01/residual_current/series?buckets=120", &cookie)).await,
    )
    .await;
    assert!(body["rows"].as_array().unwrap().len() > 50, "{body}");
    assert_eq!(body["limits"][0]["text"], "≥ 300 mA");
    assert_eq!(body["hazards"][0]["signal"], "supervisory");
    let path = "/api/v1/points/sd-203/smoke_state/series?buckets=60";
    let states = json(send(&room, ask("GET", path, &cookie)).await).await;
    let rows = states["rows"].as_array().unwrap();
    assert_eq!(states["states"][1]["code"], "alarm");
    assert!(rows.iter().any(|row| row[5] == 1.0), "the alarm is not on the chart: {rows:?}");
    // The fire is over and closed: its shade stays on the chart.
    let closed =
        json(send(&room, ask("GET", "/api/v1/points/hy-01/pressure/series?from=0", &cookie)).await).await;
    assert_eq!(closed["closed_hazards"][0]["closed"]["by"], "陈晓", "{closed}");
    assert_eq!(closed["hazards"].as_array().unwrap().len(), 0);
    let later = "/api/v1/points/hy-01/pressure/series";
    let later = json(send(&room, ask("GET", later, &cookie)).await).await;
    assert_eq!(later["closed_hazards"].as_array().unwrap().len(), 0, "it closed before this hour: {later}");
    for refused in ["/api/v1/points/ef-01/nothing/series", "/api/v1/points/EF/x/series"] {
        assert_eq!(send(&room, ask("GET", refused, &cookie)).await.status(), StatusCode::NOT_FOUND);
    }
    let backwards = "/api/v1/points/ef-01/residual_current/series?from=5&to=5";
    assert_eq!(send(&room, ask("GET", backwards, &cookie)).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_chart_never_loses_a_state() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let at = |ago: i64, state: &str| fengsui::model::Reading {
        point: fengsui::model::PointId::parse("sd-102/smoke_state").unwrap(),
        value: Measured::Code(state.into()),
        quality: fengsui::model::Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at: room.clock.now() - Span::from_secs(ago),
        late: false,
    };
    // The alarm lies between the others, and the device says a word that nobody knows.
    let states = ["normal", "alarm", "self-check", "normal"];
    let readings = (0i64..).zip(states).map(|(n, state)| at(600 - n, state)).collect();
    room.stage.append(readings, vec![], vec![]).await;
    while !room.series.step().await.unwrap().idle {}
    let path = "/api/v1/points/sd-102/smoke_state/series?buckets=1";
    let chart = json(send(&room, ask("GET", path, &cookie)).await).await;
    let row = &chart["rows"][0];
    assert_eq!(row[8], serde_json::json!([0, 1, 2]), "{chart}");
    assert_eq!((&row[4], &row[5], &row[7]), (&0.into(), &2.into(), &0.into()), "{chart}");
    let states: Vec<_> =
        chart["states"].as_array().unwrap().iter().map(|s| (&s["code"], &s["priority"])).collect();
    assert_eq!(states[1], (&"alarm".into(), &"red".into()));
    assert_eq!(states[2], (&"self-check".into(), &Value::Null));
}

#[tokio::test]
async fn a_stale_value_is_struck_even_while_its_device_is_heard_and_without_scripts() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    room.clock.step_simulated(Span::from_secs(70));
    room.clock.take_step();
    let reading = |point: &str| fengsui::model::Reading {
        point: fengsui::model::PointId::parse(point).unwrap(),
        value: Measured::Number(fengsui::model::Number::new(231.0).unwrap()),
        quality: fengsui::model::Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at: room.clock.now(),
        late: false,
    };
    let no = room.stage.append(vec![reading("ef-01/phase_voltage")], vec![], vec![]).await;
    reached(&room, no).await;
    let class = |page: &str, name: &str| {
        let at = page.find(name).unwrap_or_else(|| panic!("no {name} on the page"));
        let tag = &page[page[..at].rfind('<').unwrap()..at];
        tag.split("class=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let page = text(send(&room, ask("GET", "/", &cookie)).await).await;
    let is = |name: &str, word: &str| class(&page, name).split(' ').any(|one| one == word);
    // Heard a moment ago by one value; the others are older than the 60 s of this device.
    assert!(!is("data-device=\"ef-01\"", "stale"));
    assert!(!is("data-point=\"ef-01/phase_voltage\"", "old"));
    assert!(
        is("data-point=\"ef-01/residual_current\"", "old")
            && is("data-point=\"ef-01/cable_temperature\"", "old")
    );
    assert!(is("data-device=\"hy-01\"", "stale"), "nothing of it was heard for too long");
    let own = text(send(&room, ask("GET", "/points/ef-01/residual_current", &cookie)).await).await;
    assert!(class(&own, "data-point=\"ef-01/residual_current\"").contains("old"));
    // Green is the script's to give: nothing that a page without scripts shows may be green.
    let css = include_str!("../../src/web/assets/duty.css");
    let green: Vec<&str> = css.split('}').filter(|rule| rule.contains("--green)")).collect();
    assert!(!green.is_empty());
    for rule in green {
        let selector = rule.split('{').next().unwrap().trim();
        assert!(selector.starts_with(".live ") || selector == ".ok", "{selector} is green without a script");
    }
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

#[tokio::test]
async fn an_unknown_address_is_a_page_for_a_person_and_json_for_a_program() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let browser = |method: &str, path: &str| {
        let mut request = ask(method, path, &cookie);
        request
            .headers_mut()
            .insert(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8".parse().unwrap());
        request
    };
    for (path, status, words) in [
        ("/nowhere", StatusCode::NOT_FOUND, "没有这个页面"),
        ("/points/ef-01/nothing", StatusCode::NOT_FOUND, "没有这个页面"),
        ("/assets/nothing.js", StatusCode::NOT_FOUND, "没有这个页面"),
        ("/log?before=abc", StatusCode::BAD_REQUEST, "地址或提交的内容有错"),
        ("/sign-out", StatusCode::METHOD_NOT_ALLOWED, "这个地址不能这样打开"),
    ] {
        let response = send(&room, browser("GET", path)).await;
        assert_eq!(response.status(), status, "{path}");
        assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY), "{path}");
        let page = text(response).await;
        assert!(page.contains(words) && page.contains("<html lang=\"zh\">"), "{path}: {page}");
    }
    for (method, path) in [
        ("GET", "/api/nowhere"),
        ("GET", "/api/v1/log?before=abc"),
        ("POST", "/api/v1/log"),
        ("POST", "/api/v1/session"),
    ] {
        let response = send(&room, browser(method, path)).await;
        assert!(response.status().is_client_error(), "{path}");
        assert!(json(response).await["message_zh"].is_string(), "{method} {path}");
    }
    let plain = send(&room, ask("GET", "/nowhere", "")).await;
    assert_eq!(json(plain).await["error"], "not_found");
}

#[tokio::test]
async fn a_stray_is_ready_to_paste_into_the_plan_and_can_be_removed() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let address = "0x00158D\"><script>alert(4)</script>";
    room.stage
        .stray(fengsui::journal::Stray {
            kind: fengsui::journal::StrayKind::Unknown,
            key: format!("broker zigbee2mqtt/{address}").into(),
            device: None,
            reason: fengsui::journal::Stray::not_planned("zigbee2mqtt/heiman-hs1sa-e", address).into(),
            sample: b"{}".to_vec(),
            first_at: room.clock.now(),
            last_at: room.clock.now(),
            count: 1,
        })
        .await;
    let page = text(send(&room, ask("GET", "/strays", &cookie)).await).await;
    assert!(!page.contains("<script>alert"));
    let paste = page.split("class=\"paste\">").nth(1).unwrap().split("</pre>").next().unwrap();
    let plain =
        paste.replace("&#34;", "\"").replace("&#60;", "<").replace("&#62;", ">").replace("&#38;", "&");
    let plan: toml::Table = format!("[[site]]\n[[site.zone]]\n{plain}").parse().unwrap();
    let device = &plan["site"][0]["zone"][0]["device"][0];
    assert_eq!(device["profile"].as_str(), Some("zigbee2mqtt/heiman-hs1sa-e"));
    assert_eq!((device["link"].as_str(), device["address"].as_str()), (Some("broker"), Some(address)));
    let remove = |cookie: &str, origin: Option<&str>| {
        let mut request = ask("POST", "/strays", cookie);
        request.headers_mut().remove(header::ORIGIN);
        if let Some(origin) = origin {
            request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        }
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
        *request.body_mut() = Body::from("kind=unreadable&key=zigbee2mqtt%2Fsd-102");
        request
    };
    let ours = format!("http://{HOST}");
    assert_eq!(send(&room, remove("", Some(&ours))).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        send(&room, remove(&cookie, Some("http://evil.example"))).await.status(),
        StatusCode::FORBIDDEN
    );
    assert_eq!(room.journal.strays().await.unwrap().len(), 3);
    assert_eq!(send(&room, remove(&cookie, Some(&ours))).await.status(), StatusCode::SEE_OTHER);
    let left = room.journal.strays().await.unwrap();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|stray| &*stray.key != "zigbee2mqtt/sd-102"));
}

#[tokio::test]
async fn the_health_page_speaks_chinese_and_says_how_far_back_the_journal_goes() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let page = text(send(&room, ask("GET", "/health", &cookie)).await).await;
    for words in [
        "收到的报文",
        "登录失败次数",
        "最早记录",
        "全部读数",
        "待送 <b class=\"num\">214</b> 批，恢复后自动补送",
    ] {
        assert!(page.contains(words), "the health page does not say {words}");
    }
    assert!(!page.contains("Frames taken"));
    let health = json(send(&room, ask("GET", "/api/v1/health", &cookie)).await).await;
    assert!(health["journal"]["oldest"].is_i64(), "{health}");
}

#[tokio::test]
async fn two_hundred_half_open_requests_do_not_keep_the_duty_officer_out() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let room = filled().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = fengsui::web::connections::serve(listener, room.router.clone(), room.cancel.clone());
    let serving = tokio::spawn(serving);
    let mut dawdling = Vec::new();
    for n in 0..200 {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        // Half of them say nothing at all.
        if n % 2 == 0 {
            client.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        }
        dawdling.push(client);
    }
    let ask = async {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), ask).await.expect("nobody answered");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    // Each of them is shown out in time.
    let shown_out = async {
        for client in &mut dawdling {
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.ok();
        }
    };
    let within = fengsui::web::connections::HEAD_MAX + Duration::from_secs(20);
    tokio::time::timeout(within, shown_out).await.expect("a client that dawdles was kept");
    room.cancel.cancel();
    tokio::time::timeout(Duration::from_secs(20), serving).await.expect("it did not stop").unwrap();
}
