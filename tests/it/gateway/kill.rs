//! `kill -9` at random moments: what was acknowledged is there once, and every hazard stands as it stood.

#![expect(clippy::print_stdout, reason = "the figures, for whoever looks")]

use crate::support::doctor::Told;
use crate::support::gateway::{BROKER, Gateway, House, Running, numbers_of, smoke, topic};
use crate::support::mosquitto::Mosquitto;
use crate::support::pen::Pen;
use crate::support::ports::{free_port, soon};
use crate::support::victoria::Victoria;
use crate::support::witness::{self, Witness, spawn};
use crate::torture::by_hand;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Rounds; each kills a gateway at work and one that is still starting.
const ROUNDS: usize = 4;

/// Messages of the writer under way.
const IN_FLIGHT: usize = 10;

/// A publisher that never forgets what it has not been acknowledged.
struct Writer {
    acknowledged: Arc<Mutex<Vec<u32>>>,
    enough: CancellationToken,
    writing: tokio::task::JoinHandle<u32>,
}

impl Writer {
    fn start(to: SocketAddr) -> Self {
        let (acknowledged, enough) = (Arc::<Mutex<Vec<u32>>>::default(), CancellationToken::new());
        let writing = tokio::spawn(write(to, acknowledged.clone(), enough.clone()));
        Self { acknowledged, enough, writing }
    }

    /// Writes nothing new; when all is acknowledged, what was, and how many were sent.
    async fn end(self) -> (Vec<u32>, u32) {
        self.enough.cancel();
        let sent = soon("the last acknowledgement", self.writing).await.unwrap();
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        (acknowledged, sent)
    }
}

async fn write(to: SocketAddr, acknowledged: Arc<Mutex<Vec<u32>>>, enough: CancellationToken) -> u32 {
    let mut under_way: VecDeque<u32> = VecDeque::new();
    let mut sent = 0;
    let id = |n: u32| u16::try_from(n % 60_000 + 1).unwrap();
    let payload = |n: u32| format!(r#"{{"temperature":{}}}"#, value(n));
    while !(enough.is_cancelled() && under_way.is_empty()) {
        let work = async {
            let mut pen = Pen::connect(to, "writer").await?;
            for n in &under_way {
                pen.send(&topic("writer"), payload(*n).as_bytes(), id(*n), true).await?;
            }
            while !(enough.is_cancelled() && under_way.is_empty()) {
                while under_way.len() < IN_FLIGHT && !enough.is_cancelled() {
                    sent += 1;
                    under_way.push_back(sent);
                    pen.send(&topic("writer"), payload(sent).as_bytes(), id(sent), false).await?;
                }
                let known = pen.acknowledged().await?;
                under_way.retain(|n| {
                    let now = id(*n) == known;
                    if now {
                        acknowledged.lock().unwrap().push(*n);
                    }
                    !now
                });
                // About two hundred a second.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            std::io::Result::Ok(())
        };
        if work.await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    sent
}

/// The n-th message's temperature.
fn value(n: u32) -> f64 {
    20.0 + f64::from(n) / 1024.0
}

/// What must not change: id, phase and acknowledgement of each hazard of the detectors.
fn standing(hazards: &Value) -> BTreeMap<String, (Value, Value, Value)> {
    let all = hazards["hazards"].as_array().unwrap().iter();
    let detectors = all.filter(|hazard| hazard["point"].as_str().unwrap().starts_with("sd-"));
    detectors
        .map(|hazard| {
            let what = (hazard["point"].clone(), hazard["phase"].clone(), hazard["acknowledged"].clone());
            (hazard["id"].as_str().unwrap().to_owned(), what)
        })
        .collect()
}

/// One fire seen by a person, one unseen, one that has cleared itself.
async fn three_fires(gateway: &Gateway, to: SocketAddr) -> BTreeMap<String, (Value, Value, Value)> {
    let mut pen = Pen::connect(to, "detectors").await.unwrap();
    for n in 1..=3 {
        pen.publish(&topic(&format!("sd-{n}")), r#"{"smoke":1}"#).await;
    }
    pen.publish(&topic("sd-3"), r#"{"smoke":0}"#).await;
    let fire = gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
    gateway.hazard("sd-2/smoke", "smoke-fire", |_| true).await;
    gateway.hazard("sd-3/smoke", "smoke-fire", |fire| fire["phase"] == "returned").await;
    let (status, answer) = gateway.command(fire["id"].as_str().unwrap(), "acknowledge", "去看了").await;
    assert_eq!(status, 200, "{answer}");
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["acknowledged"]["by"] == "李四").await;
    standing(&gateway.get("/api/v1/hazards").await)
}

async fn moment(millis_max: u64) {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..millis_max))).await;
}

async fn the_story(house: House, to: SocketAddr, ready: impl AsyncFn(&Gateway)) {
    let gateway = house.launch().await;
    ready(&gateway).await;
    let before = three_fires(&gateway, to).await;
    assert_eq!(before.len(), 3);
    let writer = Writer::start(to);
    moment(400).await;
    gateway.kill();
    for round in 0..ROUNDS {
        // Killed while it starts.
        let mut starting = house.command();
        starting.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let starting = Running(starting.spawn().unwrap());
        moment(300).await;
        drop(starting);
        // Killed at work.
        let gateway = house.launch().await;
        assert_eq!(standing(&gateway.get("/api/v1/hazards").await), before, "after round {round}");
        moment(400).await;
        gateway.kill();
    }
    let told = Told::to_a_person(&house).await;
    told.says("unclean-stop", "warning", &["上次运行没有正常停止", "被强行结束", "已确认收到的数据都在"]);
    told.says("unclean-often", "warning", &["最近 7 天有", "次没有正常停止"]);
    told.nothing_but(&["unclean-stop", "unclean-often", "not-running"]);
    let gateway = house.launch().await;
    // Asked to stop in the middle of work: what is queued is not lost.
    moment(400).await;
    gateway.stop().await;
    let gateway = house.launch().await;
    let (acknowledged, sent) = writer.end().await;
    let mut pen = Pen::connect(to, "detectors").await.unwrap();
    pen.publish(&topic("writer"), r#"{"battery":55}"#).await;
    gateway.last("writer/battery", |last| last["value"] == 55.0).await;
    assert_eq!(standing(&gateway.get("/api/v1/hazards").await), before);
    gateway.stop().await;

    let (entries, facts) = house.journal().await;
    let open = facts.iter().filter_map(|fact| fact.hazard.as_ref()).map(|hazard| hazard.id.to_string());
    let open: std::collections::BTreeSet<String> = open.collect();
    assert!(before.keys().all(|id| open.contains(id)), "{open:?}");
    let mut times: BTreeMap<u32, usize> = BTreeMap::new();
    let values = numbers_of(&entries, "writer/temperature");
    for n in 1..=sent {
        times.insert(n, 0);
    }
    for value in values {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
        let n = ((value - 20.0) * 1024.0).round() as u32;
        *times.get_mut(&n).expect("nobody sent this") += 1;
    }
    assert!(acknowledged.len() > 50, "only {} were acknowledged: nothing was tried", acknowledged.len());
    let wrong: Vec<_> = acknowledged.iter().filter(|n| times[n] != 1).map(|n| (*n, times[n])).collect();
    assert_eq!(wrong, [], "of {} acknowledged, these are not there exactly once", acknowledged.len());
    assert!(times.values().all(|times| *times <= 1), "something is there twice");
    let numbers: Vec<u64> = entries.iter().map(|entry| entry.no).collect();
    assert_eq!(numbers, (1..=entries.len() as u64).collect::<Vec<_>>(), "the journal has a gap");
    Told::to_a_person(&house).await.nothing_but(&["unclean-often", "not-running"]);
}

fn devices(link: &str) -> String {
    ["sd-1", "sd-2", "sd-3", "writer"].map(|id| smoke(id, link)).concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_behind_a_broker_of_its_own_loses_and_repeats_nothing() {
    let mosquitto = Mosquitto::with("allow_anonymous true\npersistence false\nmax_queued_messages 0\n").await;
    let link = format!("[[mqtt]]\nname = \"hall\"\nurl = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let house = House::build(&link, &devices("hall"));
    let ready = async |gateway: &Gateway| {
        gateway.wait("the link is up", "/api/v1/health", |h| h["links"][0]["up"] == true).await;
    };
    the_story(house, ([127, 0, 0, 1], mosquitto.port).into(), ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_gateway_with_its_broker_loses_and_repeats_nothing() {
    let port = free_port();
    let house =
        House::build(&BROKER.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")), &devices("broker"));
    the_story(house, ([127, 0, 0, 1], port).into(), async |_: &Gateway| {}).await;
}

/// Kills in the test command, over all lanes; `FENGSUI_KILLS` for more.
const KILLS: u64 = 320;
/// Gateways that are killed at the same time.
const LANES: u64 = 4;
/// The store goes away and comes back every so many kills.
const STORE_TURNS_EVERY: u64 = 12;

/// Kills a gateway again and again, at random moments of its start and of its work, in quick succession.
async fn lane(name: &str, kills: u64, links: &str, link: &str, to: SocketAddr, mut store: Option<Victoria>) {
    let links = match &store {
        Some(store) => {
            let url = store.url();
            format!("{links}[[influx]]\nurl = \"{url}\"\norg = \"o\"\nbucket = \"b\"\n")
        }
        None => links.to_owned(),
    };
    let house = House::build(&links, &witness::devices(link));
    let gateway = house.launch().await;
    if link != "broker" {
        // From now on mosquitto keeps for it what is published while it is away.
        gateway.wait("the link is up", "/api/v1/health", |h| h["links"][0]["up"] == true).await;
    }
    gateway.kill();
    let witness = Witness::start(to);
    let mut at_work = 0;
    for kill in 0..kills {
        let running = spawn(&house);
        if fastrand::bool() {
            moment(250).await;
        } else {
            at_work += 1;
            witness.progress().await;
            moment(250).await;
        }
        drop(running);
        if let Some(store) = &mut store {
            match kill % (2 * STORE_TURNS_EVERY) {
                0 => store.start().await,
                STORE_TURNS_EVERY => store.stop().await,
                _ => {}
            }
        }
    }
    let gateway = house.launch().await;
    let testimony = witness.end().await;
    println!("{name}: {kills} kills, {at_work} of them at work; {} acknowledged", testimony.acknowledged());
    if let Some(store) = &mut store {
        if (kills - 1) % (2 * STORE_TURNS_EVERY) >= STORE_TURNS_EVERY {
            store.start().await;
        }
        in_the_store_once(store, &testimony.temperatures()).await;
    }
    let mut pen = Pen::connect(to, "last").await.unwrap();
    pen.publish(&topic("writer"), r#"{"battery":55}"#).await;
    gateway.last("writer/battery", |last| last["value"] == 55.0).await;
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    assert!(!house.log().contains("set aside"), "a kill damages nothing");
    assert!(testimony.acknowledged() as u64 > at_work, "hardly anything was acknowledged");
    let told = Told::to_a_person(&house).await;
    // On a busy machine most ends come before the program has written that it began, and so nobody knows of them.
    let often = if told.has("unclean-often") { "unclean-often" } else { "not-running" };
    told.nothing_but(&[often, "not-running"]);
}

/// Every temperature under exactly one time: what was sent twice went to the same place.
async fn in_the_store_once(store: &Victoria, expected: &std::collections::BTreeSet<u64>) {
    let begun = tokio::time::Instant::now();
    loop {
        let mut times: BTreeMap<u64, std::collections::BTreeSet<i64>> = BTreeMap::new();
        for (time, value, _) in store.samples("heat_temperature_value").await {
            times.entry(value.to_bits()).or_default().insert(time);
        }
        if expected.iter().all(|value| times.contains_key(value)) {
            let twice = times.values().filter(|times| times.len() > 1).count();
            assert_eq!(twice, 0, "readings stand in the store at two times");
            return;
        }
        let missing = expected.iter().filter(|value| !times.contains_key(value)).count();
        assert!(begun.elapsed() < Duration::from_secs(60), "{missing} readings never came to the store");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_kills_in_quick_succession_lose_and_repeat_nothing() {
    let mosquitto = Mosquitto::with("allow_anonymous true\npersistence false\nmax_queued_messages 0\n").await;
    let begun = tokio::time::Instant::now();
    let kills = by_hand("FENGSUI_KILLS", KILLS).div_ceil(LANES);
    let own = |store| {
        let port = free_port();
        let links = BROKER.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
        async move { lane("own broker", kills, &links, "broker", ([127, 0, 0, 1], port).into(), store).await }
    };
    // A broker of its own for each: the devices of two houses have the same topics.
    let other = Mosquitto::with("allow_anonymous true\npersistence false\nmax_queued_messages 0\n").await;
    let behind = |mosquitto: &Mosquitto, store| {
        let port = mosquitto.port;
        let links = format!("[[mqtt]]\nname = \"hall\"\nurl = \"mqtt://127.0.0.1:{port}\"\n");
        async move { lane("mosquitto", kills, &links, "hall", ([127, 0, 0, 1], port).into(), store).await }
    };
    tokio::join!(
        own(None),
        own(Some(Victoria::new())),
        behind(&mosquitto, None),
        behind(&other, Some(Victoria::new())),
    );
    println!("{} kills in {:?}", kills * LANES, begun.elapsed());
}
