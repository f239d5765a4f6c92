//! Tests of the duty room in a real browser, against a board of fixture values.

use crate::support::browser::{self, Browser};
use crate::support::duty_room::{self, DutyRoom};
use fengsui::clock::Clock;
use fengsui::model::{Change, Value};
use std::net::SocketAddr;
use tokio::net::TcpListener;

async fn open(room: &DutyRoom) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = room.router.clone().into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    (url, serving)
}

async fn sign_in(browser: &Browser, url: &str, password: &str) {
    browser.go(url).await;
    browser.fill("input[name=password]", password).await;
    browser.fill("input[name=person]", "张伟").await;
    browser.fill("input[name=phone]", "0710-5550100").await;
    browser.click("button[type=submit]").await;
    browser.until("document.querySelector('.lamps')").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_duty_officer_sees_acknowledges_and_resets() {
    assert!(browser::is_installed(), "install chromium and chromium-driver");
    let plan = duty_room::plan();
    let room = duty_room::room(plan.clone(), Clock::system(), None).await;
    duty_room::fill(&room, &plan).await;
    let (url, serving) = open(&room).await;
    let browser = Browser::start().await;
    browser.resize(1366, 768).await;
    browser.go(&url).await;
    browser.screenshot("sign-in").await;
    sign_in(&browser, &url, &room.password).await;
    browser.until("document.querySelector('[data-lamp=fire] b').textContent === '3'").await;
    for (name, width, height) in [("1366x768", 1366, 768), ("1920x1080", 1920, 1080), ("390x844", 390, 844)] {
        browser.resize(width, height).await;
        browser.screenshot(&format!("monitor-{name}")).await;
        let wider = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(wider.as_i64().unwrap() <= 0, "the page is wider than a screen of {width}");
    }
    browser.resize(1366, 768).await;
    for (name, path) in [
        ("log", "/log"),
        ("history", "/history"),
        ("strays", "/strays"),
        ("health", "/health"),
        ("point", "/points/ef-01/residual_current"),
        ("point-state", "/points/sd-203/smoke_state"),
    ] {
        browser.go(&format!("{url}{path}")).await;
        if name.starts_with("point") {
            browser.until("document.querySelector('#chart canvas, #chart .none')").await;
        }
        browser.screenshot(name).await;
    }
    browser.go(&url).await;
    // A new fire appears without a reload, on top of all but the first.
    let fire =
        duty_room::hazard(&plan, 9, "sd-101/smoke_state", Value::Code("alarm".into()), room.clock.now());
    let id = fire.id.clone();
    room.stage.append(vec![], vec![(Change::Raised, fire.clone())], vec![]).await;
    browser.until(&format!("document.getElementById('h-{id}')")).await;
    browser.click(&format!("[data-hazard='{id}'] [data-verb=acknowledge]")).await;
    browser.until(&format!("document.getElementById('h-{id}').innerText.includes('张伟')")).await;
    // It still burns: a reset is refused in words.
    browser.click(&format!("[data-hazard='{id}'] [data-verb=reset]")).await;
    browser.fill("#reset-note", "已到现场").await;
    browser.click("#reset-ask button[value=reset]").await;
    browser.until("document.getElementById('reset-refusal').innerText").await;
    assert!(browser.text("#reset-refusal").await.contains("不能复位"));
    browser.screenshot("reset-refused").await;
    browser.click("#reset-ask button[value=cancel]").await;
    // It is over: a reset closes it.
    let acknowledged = room.board.snapshot().open[&id].hazard.acknowledged.clone();
    let over = fengsui::model::Hazard { returned_at: Some(room.clock.now()), acknowledged, ..fire };
    room.stage.append(vec![], vec![(Change::Returned, over)], vec![]).await;
    browser.until(&format!("document.getElementById('h-{id}').innerText.includes('已恢复')")).await;
    browser.click(&format!("[data-hazard='{id}'] [data-verb=reset]")).await;
    browser.click("#reset-ask button[value=reset]").await;
    browser.until(&format!("!document.getElementById('h-{id}')")).await;
    // Two complaints are the browser's own: sound before the first touch, and the refused reset.
    let mut console = browser.console().await;
    console.retain(|line| !line.contains("AudioContext was not allowed") && !line.contains("409 (Conflict)"));
    assert_eq!(console, Vec::<String>::new(), "the page complained");
    // The gateway goes away: the screen may not look alive.
    room.cancel.cancel();
    serving.abort();
    browser.until("!document.getElementById('lost').hidden").await;
    browser.screenshot("lost").await;
    browser.quit().await;
}
