//! The way from the duty room's screens: the page in a real browser, and a client of the API.

use super::QUIET_MAX;
use crate::support::browser::{self, Browser};
use crate::support::duty_room;
use crate::support::fault_proxy::{Fault, FaultProxy, Way};
use crate::support::gateway::{BROKER, House, topic};
use crate::support::ports::{soon, until};
use crate::support::witness::devices;
use fengsui::clock::Clock;
use fengsui::model::{Change, Value as Measured};
use reqwest::header;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// A page whose stream or whose requests hang says so, and comes back by itself with every hazard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_whose_stream_is_cut_or_hangs_comes_back_and_misses_no_hazard() {
    assert!(browser::is_installed(), "install chromium and chromium-driver");
    let plan = duty_room::plan();
    let room = duty_room::room(plan.clone(), Clock::system(), None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::to(listener.local_addr().unwrap(), 61).await;
    let service = room.router.clone().into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    let browser = Browser::start().await;
    browser.go(&format!("http://{}", proxy.address)).await;
    browser.fill("input[name=password]", &room.password).await;
    browser.fill("input[name=person]", "张伟").await;
    browser.click("button[type=submit]").await;
    browser.until("document.body.classList.contains('live')").await;
    let fire = async |no: u64, point: &str| {
        let alarm = Measured::Code("alarm".into());
        let fire = duty_room::hazard(&plan, no, point, alarm, room.clock.now());
        room.stage.append(vec![], vec![(Change::Raised, fire)], vec![]).await;
    };
    let listed = async |count: u32| {
        browser.until(&format!("document.querySelectorAll('#hazards article').length === {count}")).await;
    };
    fire(20, "sd-203/smoke_state").await;
    listed(1).await;

    proxy.sever();
    fire(21, "sd-101/smoke_state").await;
    listed(2).await;

    // The stream goes on, and what the page asks for then never arrives.
    proxy.set(Way::Up, &[Fault::Stall], 1);
    fire(22, "sd-102/smoke_state").await;
    until("it was asked for", || proxy.did(Way::Up, Fault::Stall) >= 1).await;
    proxy.calm();
    listed(3).await;

    // The stream itself says nothing any more and stays open. The page's clock is put on, so as not to wait for it.
    proxy.set(Way::Down, &[Fault::Stall], 1);
    fire(23, "sd-204/smoke_state").await;
    until("it is stalled", || proxy.did(Way::Down, Fault::Stall) >= 1).await;
    let later = "const real = performance.now.bind(performance); performance.now = () => real() + 11000;";
    browser.run(later).await;
    browser.until("!document.getElementById('lost').hidden").await;
    proxy.calm();
    listed(4).await;
    browser.until("document.getElementById('lost').hidden && document.body.classList.contains('live')").await;
    println!("a page: {}", proxy.account());
    serving.abort();
    browser.quit().await;
}

/// What a screen has been told.
#[derive(Default)]
struct Told {
    points: BTreeSet<String>,
    streams: usize,
}

/// A client of the live stream: resumes behind the last number it saw, loads anew when it is told to, and hangs up when
/// it hears nothing.
async fn watch(at: SocketAddr, cookie: String, told: Arc<Mutex<Told>>) {
    let client = reqwest::Client::new();
    let ask = |path: String| client.get(format!("http://{at}{path}")).header(header::COOKIE, &cookie).send();
    let hazards = |told: &Mutex<Told>, answer: &Value| {
        let points =
            answer["hazards"].as_array().into_iter().flatten().map(|hazard| hazard["point"].as_str());
        told.lock().unwrap().points.extend(points.flatten().map(str::to_owned));
    };
    let mut after = None;
    loop {
        let query = after.map_or(String::new(), |no: u64| format!("?after={no}"));
        let asked = tokio::time::timeout(QUIET_MAX, ask(format!("/api/v1/live{query}")));
        let Ok(Ok(mut stream)) = asked.await else { continue };
        told.lock().unwrap().streams += 1;
        let mut text = String::new();
        // Longer than two beats lie apart would be 8 s; a test is in a hurry, and a resume costs nothing.
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout(QUIET_MAX, stream.chunk()).await {
            text.push_str(&String::from_utf8_lossy(&chunk));
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let data: Value =
                    field("data:").map_or(Value::Null, |data| serde_json::from_str(data).unwrap());
                match field("event:") {
                    Some("change") => {
                        hazards(&told, &data);
                        after = field("id:").map(|id| id.parse().unwrap()).or(after);
                    }
                    Some("beat") => after = after.or(data["no"].as_u64()),
                    Some("reload") => after = None,
                    _ => {}
                }
            }
        }
        if after.is_none()
            && let Ok(Ok(answer)) = tokio::time::timeout(QUIET_MAX, ask("/api/v1/hazards".to_owned())).await
            && let Ok(answer) = answer.json::<Value>().await
        {
            hazards(&told, &answer);
        }
    }
}

#[tokio::test]
async fn a_live_stream_that_is_cut_halved_and_stalled_tells_of_every_hazard() {
    let house = House::build(BROKER, &devices("broker"));
    let gateway = house.open().await;
    let proxy = FaultProxy::to(gateway.web, 62).await;
    let body = json!({ "password": house.password(), "person": "李四" }).to_string();
    let request = reqwest::Client::new().post(format!("http://{}/api/v1/session", proxy.address));
    let request = request
        .header(header::ORIGIN, format!("http://{}", proxy.address))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body);
    let answer = soon("the sign-in", request.send()).await.unwrap();
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let told = Arc::<Mutex<Told>>::default();
    let watching = tokio::spawn(watch(proxy.address, cookie, told.clone()));
    until("it watches", || told.lock().unwrap().streams > 0).await;
    let mut pen = gateway.pen("fires").await;
    let faults = [Fault::Cut, Fault::CutAmid, Fault::Halve, Fault::Stall, Fault::Delay, Fault::Cut];
    for (n, fault) in (1..=12_u64).zip(faults.iter().cycle()) {
        // Six on the way down, where the fires come; six on the way up, where the stream is asked for.
        let way = if n <= 6 { Way::Down } else { Way::Up };
        proxy.once(way, *fault);
        if way == Way::Up {
            proxy.sever();
        }
        pen.publish(&topic(&format!("fire-{n}")), r#"{"smoke":1}"#).await;
        until("the fault happened", || proxy.did_something(Way::Up) + proxy.did_something(Way::Down) >= n)
            .await;
    }
    proxy.calm();
    let all: BTreeSet<String> = (1..=12).map(|n| format!("fire-{n}/smoke")).collect();
    until("it was told of every fire", || told.lock().unwrap().points == all).await;
    assert!(told.lock().unwrap().streams >= 3, "{}", proxy.account());
    watching.abort();
    gateway.stop().await;
    println!("a live stream: {} streams; {}", told.lock().unwrap().streams, proxy.account());
}
