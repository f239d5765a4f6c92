//! The configuration is changed while the gateway runs: what did not change never notices, what is wrong changes nothing,
//! and a fire stands through all of it.

use crate::support::browser::{self, Browser};
use crate::support::gateway::{BROKER, Gateway, House, device, find_hazard, find_last, smoke, topic};
use crate::support::modbus_unit::ModbusServer;
use crate::support::mosquitto::{Mosquitto, Peer};
use crate::support::pen::Pen;
use crate::support::ports::{free_port, until};
use crate::support::witness::{self, Pace, Witness, moment};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A hundred messages a second: enough to be under way at every moment.
const STEADY: Pace = Pace { in_flight: 5, rest: Duration::from_millis(10) };

fn plan_of(house: &House) -> PathBuf {
    house.config().with_file_name("plan.toml")
}

/// Adds a text at the end of the plan.
fn add(house: &House, devices: &str) {
    let plan = std::fs::read_to_string(plan_of(house)).unwrap();
    std::fs::write(plan_of(house), plan + devices).unwrap();
}

fn edit(file: PathBuf, from: &str, to: &str) {
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

async fn taken(gateway: &Gateway) -> Value {
    let (status, answer) = gateway.reload().await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn the_log_says(gateway: &Gateway, words: &str) {
    gateway.wait(words, "/api/v1/log", |answer| answer.to_string().contains(words)).await;
}

fn bus(name: &str, server: &ModbusServer, timeout_ms: u32) -> String {
    format!(
        "[[modbus]]\nname = \"{name}\"\nurl = \"tcp://{}\"\ntimeout_ms = {timeout_ms}\nsecond_connection = false\n",
        server.address
    )
}

fn pressure(id: &str, link: &str) -> String {
    device(id, "generic/rs485-pressure", link, "unit = 1\nsilent_after_secs = 60")
}

fn hall(mosquitto: &Mosquitto) -> String {
    format!("[[mqtt]]\nname = \"hall\"\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"box\"\n", mosquitto.port)
}

async fn is_up(gateway: &Gateway, link: &str) {
    let up = |health: &Value| {
        let mut links = health["links"].as_array().unwrap().iter();
        links.any(|state| state["link"] == link && state["up"] == true)
    };
    gateway.wait("the link is up", "/api/v1/health", up).await;
}

/// How often the box has come to mosquitto.
fn arrivals(mosquitto: &Mosquitto) -> usize {
    mosquitto
        .log()
        .lines()
        .filter(|line| line.contains("New client connected") && line.contains(" as box "))
        .count()
}

/// Waits until what mosquitto was given before has come through.
async fn all_came_through(gateway: &Gateway, to: SocketAddr, id: &str, battery: f64) {
    let mut pen = Pen::connect(to, "last").await.unwrap();
    pen.publish(&topic(id), &json!({ "battery": battery }).to_string()).await;
    gateway.last(&format!("{id}/battery"), |last| last["value"] == battery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_files_again_a_hundred_times_disturb_no_connection_and_lose_nothing() {
    let (mosquitto, server) = (Mosquitto::start().await, ModbusServer::start().await);
    let links = [BROKER.to_owned(), hall(&mosquitto), bus("pump-room", &server, 1000)].concat();
    let devices = [witness::devices("broker"), smoke("far", "hall"), pressure("pressure-1", "pump-room")];
    let house = House::build(&links, &devices.concat());
    let gateway = house.open().await;
    is_up(&gateway, "hall").await;
    gateway.last("pressure-1/pressure", |last| last["quality"] == "good").await;
    let far_away = SocketAddr::from(([127, 0, 0, 1], mosquitto.port));
    let near = Witness::start(gateway.broker.unwrap());
    let far = Witness::at_a_pace(far_away, "far", STEADY);
    let mut quiet = gateway.pen("quiet").await;
    near.progress().await;
    far.progress().await;
    for n in 0..100 {
        if n % 10 == 0 {
            // As an editor does that writes what was there.
            let text = std::fs::read(plan_of(&house)).unwrap();
            std::fs::write(plan_of(&house), text).unwrap();
        }
        assert_eq!(taken(&gateway).await["changes"], Value::Null);
    }
    near.progress().await;
    far.progress().await;
    // One more for each answer that a busy machine kept waiting, and none for a reload.
    let failures = gateway.counter("modbus_failures").await;
    assert!(server.connections() <= 1 + failures, "{} connections to the bus", server.connections());
    assert_eq!(arrivals(&mosquitto), 1, "connections to mosquitto");
    assert_eq!(gateway.counter("mqtt_connects").await, 1);
    assert_eq!(gateway.counter("config_reloads").await, 0);
    quiet.publish(&topic("writer"), r#"{"battery":77}"#).await;
    let (near, far) = (near.end().await, far.end().await);
    all_came_through(&gateway, far_away, "far", 55.0).await;
    let log = gateway.get("/api/v1/log").await.to_string();
    assert!(!log.contains("配置已更新"), "nothing changed, nothing is written down: {log}");
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    near.compare(&entries, &facts);
    far.compare(&entries, &facts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_waiting_is_taken_in_while_it_speaks_and_while_others_speak() {
    let house = House::build(BROKER, &witness::devices("broker"));
    let gateway = house.open().await;
    let known = Witness::start(gateway.broker.unwrap());
    let mut stranger = gateway.pen("newcomer").await;
    stranger.publish(&topic("newcomer"), r#"{"temperature":21.5}"#).await;
    gateway.stray("unknown", "newcomer").await;
    // Nobody asks: the file is seen to have changed.
    add(&house, &smoke("newcomer", "broker"));
    gateway
        .wait("it is planned", "/api/v1/sites", |sites| sites.to_string().contains("newcomer/temperature"))
        .await;
    the_log_says(&gateway, "配置已更新（文件有改动）：新增设备 newcomer").await;
    stranger.publish(&topic("newcomer"), r#"{"temperature":22.5}"#).await;
    gateway.last("newcomer/temperature", |last| last["value"] == 22.5).await;
    stranger.publish(&topic("newcomer"), r#"{"smoke":1}"#).await;
    gateway.hazard("newcomer/smoke", "smoke-fire", |_| true).await;
    known.progress().await;
    let known = known.end().await;
    assert_eq!(gateway.counter("config_reloads").await, 1);
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    known.compare(&entries, &facts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_needs_another_topic_comes_back_to_its_session_and_loses_nothing() {
    let mosquitto = Mosquitto::with("allow_anonymous true\npersistence false\nmax_queued_messages 0\n").await;
    let far_away = SocketAddr::from(([127, 0, 0, 1], mosquitto.port));
    let house = House::build(&hall(&mosquitto), &smoke("far", "hall"));
    let gateway = house.open().await;
    is_up(&gateway, "hall").await;
    let far = Witness::at_a_pace(far_away, "far", STEADY);
    for n in 1..=4 {
        far.progress().await;
        let other = device("plug", "zigbee2mqtt/heiman-hs1sa-e", "hall", "address = \"plug\"");
        match n % 2 {
            1 => add(&house, &other),
            _ => edit(plan_of(&house), &other, ""),
        }
        let answer = taken(&gateway).await;
        let words = answer["changes"]["zh"].as_str().unwrap();
        assert!(words.contains("plug") && words.contains("修改连接 hall"), "{words}");
    }
    far.progress().await;
    let far = far.end().await;
    all_came_through(&gateway, far_away, "far", 55.0).await;
    assert_eq!(arrivals(&mosquitto), 5);
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    far.compare(&entries, &facts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bus_of_two_is_changed_and_the_other_never_notices() {
    let (one, two) = (ModbusServer::start().await, ModbusServer::start().await);
    let links = [bus("one", &one, 1000), bus("two", &two, 1000)].concat();
    let house = House::build(&links, &[pressure("p-1", "one"), pressure("p-2", "two")].concat());
    let gateway = house.open().await;
    for point in ["p-1/pressure", "p-2/pressure"] {
        gateway.last(point, |last| last["quality"] == "good").await;
    }
    edit(house.config(), &bus("two", &two, 1000), &bus("two", &two, 900));
    assert_eq!(taken(&gateway).await["changes"]["zh"], "修改连接 two");
    let at = |last: &Value| last["received_at"].as_i64().unwrap();
    for point in ["p-1/pressure", "p-2/pressure"] {
        let then = at(&gateway.last(point, |_| true).await);
        gateway.last(point, |last| at(last) > then && last["quality"] == "good").await;
    }
    assert!(two.connections() >= 2, "the changed one came again");
    let failures = gateway.counter("modbus_failures").await;
    assert!(one.connections() <= 1 + failures, "{} connections to the other", one.connections());
    // One goes for good, with its device: it is no link any more, and no fault.
    edit(house.config(), &bus("two", &two, 900), "");
    edit(plan_of(&house), &pressure("p-2", "two"), "");
    assert_eq!(taken(&gateway).await["changes"]["zh"], "移除设备 p-2；移除连接 two");
    let only_one = |health: &Value| health["links"].as_array().unwrap().len() == 1;
    gateway.wait("the link is gone", "/api/v1/health", only_one).await;
    let asked = two.asked(1);
    let then = at(&gateway.last("p-1/pressure", |_| true).await);
    gateway.last("p-1/pressure", |last| at(last) > then).await;
    assert_eq!(two.asked(1), asked, "nobody asks it any more");
    let hazards = gateway.get("/api/v1/hazards").await;
    assert_eq!(hazards["hazards"], json!([]));
    gateway.stop().await;
}

#[tokio::test]
async fn wrong_files_change_nothing_and_every_page_says_so_until_they_are_mended() {
    let house = House::build(BROKER, &smoke("sd-1", "broker"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("sd-1").await;
    let bar = "文件有错，仍按原配置运行";
    assert!(!gateway.page("/log").await.contains(bar));
    edit(plan_of(&house), "fengsui/smoke-json", "fengsui/smoke-jsn");
    add(&house, &smoke("sd-2", "broker"));
    let refused = |health: &Value| !health["config"]["refused"].is_null();
    let health = gateway.wait("it is refused", "/api/v1/health", refused).await;
    let report = health["config"]["refused"]["report"].as_str().unwrap();
    assert!(
        report.contains("plan.toml:") && report.contains("^^^") && report.contains("smoke-json"),
        "{report}"
    );
    for page in ["/", "/log", "/health", "/strays"] {
        assert!(gateway.page(page).await.contains(bar), "{page}");
    }
    assert!(gateway.page("/health").await.contains("smoke-jsn"), "with the line that is wrong");
    the_log_says(&gateway, "新的配置没有采用（文件有改动），仍按原配置运行").await;
    // All or nothing: the second device is right and is not taken either; the first goes on as ever.
    assert!(!gateway.get("/api/v1/sites").await.to_string().contains("sd-2"));
    pen.publish(&topic("sd-1"), r#"{"temperature":21.5}"#).await;
    gateway.last("sd-1/temperature", |last| last["value"] == 21.5).await;
    let (status, answer) = gateway.reload().await;
    assert_eq!((status, &answer["error"]), (422, &json!("wrong_files")), "{answer}");
    edit(plan_of(&house), "fengsui/smoke-jsn", "fengsui/smoke-json");
    gateway.wait("it is mended", "/api/v1/health", |health| !refused(health)).await;
    the_log_says(&gateway, "新增设备 sd-2").await;
    for page in ["/", "/log", "/health", "/strays"] {
        assert!(!gateway.page(page).await.contains(bar), "{page}");
    }
    // The address of the page is no mistake, only for later.
    edit(house.config(), "[web]\nlisten = \"127.0.0.1:0\"", "[web]\nlisten = \"127.0.0.1:1\"");
    assert_eq!(taken(&gateway).await["config"]["next_start"], json!(["web"]));
    the_log_says(&gateway, "这些改动要到下次启动才生效：web").await;
    // A file that is gone for a moment is a file with a mistake.
    std::fs::rename(plan_of(&house), plan_of(&house).with_extension("away")).unwrap();
    assert_eq!(gateway.reload().await.0, 422);
    std::fs::rename(plan_of(&house).with_extension("away"), plan_of(&house)).unwrap();
    assert_eq!(taken(&gateway).await["config"]["refused"], Value::Null);
    gateway.stop().await;
}

#[tokio::test]
async fn a_fire_stands_through_every_reload_until_a_person_resets_it() {
    let house = House::build(BROKER, &[smoke("sd-1", "broker"), smoke("sd-2", "broker")].concat());
    let gateway = house.open().await;
    let mut pen = gateway.pen("sd").await;
    pen.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
    let fire = gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
    let id = fire["id"].as_str().unwrap().to_owned();
    edit(plan_of(&house), "二层", "三层");
    assert_eq!(taken(&gateway).await["changes"]["zh"], "修改站点信息");
    let same =
        gateway.hazard("sd-1/smoke", "smoke-fire", |hazard| hazard["where"]["zone_name"] == "三层").await;
    assert_eq!(
        (&same["id"], &same["raised_at"], &same["phase"]),
        (&fire["id"], &fire["raised_at"], &json!("active"))
    );
    assert_eq!(gateway.command(&id, "acknowledge", "").await.0, 200);
    edit(plan_of(&house), &smoke("sd-1", "broker"), "");
    assert_eq!(taken(&gateway).await["changes"]["zh"], "移除设备 sd-1");
    let orphan = gateway.hazard("sd-1/smoke", "smoke-fire", |hazard| hazard["planned"] == false).await;
    assert_eq!(orphan["id"], fire["id"]);
    assert_eq!(orphan["acknowledged"]["by"], "李四");
    assert!(gateway.page("/").await.contains("已从计划中移除"), "the officer sees why it will not end");
    assert_eq!(gateway.get("/api/v1/hazards").await["lamps"]["fire"], 1);
    // The detector says that all is well, and is nobody's.
    pen.publish(&topic("sd-1"), r#"{"smoke":0}"#).await;
    gateway.stray("unknown", "sd-1").await;
    let hazards = gateway.get("/api/v1/hazards").await;
    assert_eq!(find_hazard(&hazards, "sd-1/smoke", "smoke-fire").unwrap()["phase"], "active");
    // It comes back, and the fire is the same one.
    add(&house, &smoke("sd-1", "broker"));
    taken(&gateway).await;
    pen.publish(&topic("sd-1"), r#"{"smoke":0}"#).await;
    let over = gateway.hazard("sd-1/smoke", "smoke-fire", |hazard| hazard["phase"] == "returned").await;
    assert_eq!((&over["id"], &over["planned"]), (&fire["id"], &json!(true)));
    edit(plan_of(&house), &smoke("sd-1", "broker"), "");
    taken(&gateway).await;
    assert_eq!(gateway.command(&id, "reset", "").await.0, 200);
    assert_eq!(gateway.get("/api/v1/hazards").await["hazards"], json!([]));
    gateway.stop().await;
}

#[tokio::test]
async fn kill_9_right_after_a_reload_starts_with_the_new_plan_and_what_stood() {
    let port = free_port();
    let house = House::build(
        &BROKER.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")),
        &[smoke("sd-1", "broker"), smoke("sd-2", "broker")].concat(),
    );
    let mut gateway = house.launch().await;
    gateway.pen("sd-1").await.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
    let fire = gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
    for n in 3..6 {
        add(&house, &smoke(&format!("sd-{n}"), "broker"));
        let pid = gateway.pid().to_string();
        assert!(Command::new("kill").args(["-s", "HUP", &pid]).status().unwrap().success());
        if n == 3 {
            the_log_says(&gateway, "配置已更新（系统信号）：新增设备 sd-3").await;
        } else {
            moment(400).await;
        }
        gateway.kill();
        gateway = house.launch().await;
        let stands = gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
        assert_eq!((&stands["id"], &stands["phase"]), (&fire["id"], &json!("active")));
        let payload = json!({ "temperature": 20.0 + f64::from(n) }).to_string();
        gateway.pen("new").await.publish(&topic(&format!("sd-{n}")), &payload).await;
        gateway.last(&format!("sd-{n}/temperature"), |last| last["value"] == 20.0 + f64::from(n)).await;
    }
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    let numbers: Vec<u64> = entries.iter().map(|entry| entry.no).collect();
    assert_eq!(numbers, (1..=entries.len() as u64).collect::<Vec<_>>(), "the journal has a gap");
    assert_eq!(facts.iter().filter(|fact| fact.hazard.is_some()).count(), 1);
}

#[tokio::test]
async fn users_of_the_broker_come_and_go_while_the_others_stay_connected() {
    let users = "[broker]\nlisten = \"127.0.0.1:0\"\ncredentials_file = \"users\"\n";
    let house = House::build(users, &smoke("sd-1", "broker"));
    let file = house.config().with_file_name("users");
    std::fs::write(&file, "sd-1:first-word\n").unwrap();
    let gateway = house.open().await;
    let port = gateway.broker.unwrap().port();
    let topic = topic("sd-1");
    let listener = Peer::subscriber(
        port,
        &["-u", "sd-1", "-P", "first-word", "-t", &topic, "-q", "1", "-i", "ear", "-d"],
    );
    let admitted = async |user: &str, word: &str| {
        let mut peer = Peer::publisher(
            port,
            &["-u", user, "-P", word, "-t", &topic, "-q", "1", "-m", "{\"battery\":50}"],
        );
        peer.ended().await == 0
    };
    assert!(admitted("sd-1", "first-word").await);
    assert!(!admitted("guest/sd-1", "another-word").await);
    std::fs::write(&file, "sd-1:first-word\nsd-2:another-word\n").unwrap();
    assert_eq!(taken(&gateway).await["changes"]["zh"], "修改连接 broker");
    let mut newcomer = Peer::publisher(
        port,
        &["-u", "sd-2", "-P", "another-word", "-t", "site/a/device/sd-2/up", "-q", "1", "-m", "{}"],
    );
    assert_eq!(newcomer.ended().await, 0);
    assert!(admitted("sd-1", "first-word").await);
    // It prints what it did so far together with the message.
    let heard = |words: &str| listener.lines().iter().filter(|line| line.contains(words)).count();
    until("the listener hears of it", || heard("battery") >= 1).await;
    assert_eq!(heard("received CONNACK"), 1, "{:?}", listener.lines());
    std::fs::write(&file, "sd-1:first-word\n").unwrap();
    taken(&gateway).await;
    let mut gone = Peer::publisher(
        port,
        &["-u", "sd-2", "-P", "another-word", "-t", "site/a/device/sd-2/up", "-q", "1", "-m", "{}"],
    );
    assert_ne!(gone.ended().await, 0);
    assert!(find_last(&gateway.get("/api/v1/sites").await, "sd-1/battery").is_some());
    gateway.stop().await;
}

#[tokio::test]
async fn an_open_page_shows_a_new_device_without_loading_itself_anew() {
    assert!(browser::is_installed(), "install chromium and chromium-driver");
    let house = House::build(BROKER, &smoke("sd-1", "broker"));
    let gateway = house.open().await;
    let browser = Browser::start().await;
    browser.go(&format!("http://{}", gateway.web)).await;
    browser.fill("input[name=password]", &house.password()).await;
    browser.fill("input[name=person]", "张伟").await;
    browser.click("button[type=submit]").await;
    browser
        .until("document.querySelector('[data-device=sd-1]') && document.body.classList.contains('live')")
        .await;
    // A page that loads itself anew forgets this, and could not be heard until somebody touches it.
    browser.run("window.mark = 'here'").await;
    add(&house, &smoke("sd-2", "broker"));
    taken(&gateway).await;
    browser.until("document.querySelector('[data-device=sd-2]')").await;
    assert_eq!(browser.run("return window.mark").await, "here");
    // Its first value comes to the new tile.
    gateway.pen("sd-2").await.publish(&topic("sd-2"), r#"{"temperature":21.5}"#).await;
    browser.until("document.querySelector('[data-point=\"sd-2/temperature\"] .value b')?.textContent.startsWith('21.5')").await;
    browser.quit().await;
    gateway.stop().await;
}
