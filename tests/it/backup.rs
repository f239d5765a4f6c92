//! Backups: made from a gateway at work, put back on another box, by the clock, and what is refused.

mod older;
mod refused;
mod scheduled;

use crate::support::gateway::{BROKER, House, device, numbers_of, smoke, topic};
use crate::support::pen::Pen;
use crate::support::ports::{soon, until};
use crate::support::victoria::Victoria;
use fengsui::journal::Archive;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The one backup in a folder.
fn backup_in(folder: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.pop().unwrap()
}

/// A publisher of one rising figure, and how far it was acknowledged.
struct Writer {
    acknowledged: Arc<Mutex<u32>>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Writer {
    fn start(to: SocketAddr) -> Self {
        let (acknowledged, stop) = (Arc::<Mutex<u32>>::default(), CancellationToken::new());
        let (told, asked) = (acknowledged.clone(), stop.clone());
        let running = tokio::spawn(async move {
            let Ok(mut pen) = Pen::connect(to, "writer").await else { return };
            let mut sent: u32 = 0;
            while !asked.is_cancelled() {
                sent += 1;
                let id = u16::try_from(sent % 60_000 + 1).unwrap();
                let payload = format!(r#"{{"temperature":{}}}"#, value(sent));
                let work = async {
                    pen.send(&topic("writer"), payload.as_bytes(), id, false).await?;
                    pen.acknowledged().await
                };
                match work.await {
                    Ok(_) => *told.lock().unwrap() = sent,
                    Err(_) => return,
                }
            }
        });
        Self { acknowledged, stop, running }
    }

    fn acknowledged(&self) -> u32 {
        *self.acknowledged.lock().unwrap()
    }

    async fn end(self) -> u32 {
        self.stop.cancel();
        soon("the writer ends", self.running).await.unwrap();
        *self.acknowledged.lock().unwrap()
    }
}

/// The n-th figure.
fn value(n: u32) -> f64 {
    20.0 + f64::from(n) / 1024.0
}

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

/// A profile of the site's own: a shipped one under another name.
fn probe() -> String {
    let shipped = include_str!("../../device-profiles/fengsui/smoke-json.toml");
    let own = shipped
        .replace("vendor = \"fengsui\"", "vendor = \"acme\"")
        .replace("model = \"smoke-json\"", "model = \"probe\"");
    own.replace("site/{site}/device/{address}/up", "probe/{address}")
}

/// A house with everything that a backup must keep: a plan, a profile of its own, a store, passwords.
fn house(store: &Victoria) -> House {
    let influx = format!("[[influx]]\nurl = \"{}\"\norg = \"o\"\nbucket = \"b\"\n", store.url());
    let devices: String = ["sd-1", "sd-2", "sd-3", "writer"].map(|id| smoke(id, "broker")).concat();
    let planned = device("probe", "acme/probe", "broker", "address = \"p1\"");
    let house = House::build(&format!("{BROKER}{influx}"), &(devices + &planned));
    let profiles = house.config().with_file_name("models").join("acme");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("probe.toml"), probe()).unwrap();
    std::fs::write(profiles.join("probe.js"), "function Decode() { return {} }").unwrap();
    let written = std::fs::read_to_string(house.config()).unwrap();
    let written =
        written.replace("anonymous = true", "anonymous = true\ncredentials_file = \"broker.users\"");
    std::fs::write(house.config(), format!("profiles_dir = \"models\"\n{written}")).unwrap();
    std::fs::write(house.config().with_file_name("broker.users"), "hall:secret-word\n").unwrap();
    house
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_that_died_goes_on_from_its_backup_on_another_box() {
    let mut store = Victoria::new();
    store.start().await;
    let house = house(&store);
    let gateway = house.launch().await;
    let mut pen = gateway.pen("detectors").await;
    for n in 1..=3 {
        pen.publish(&topic(&format!("sd-{n}")), r#"{"smoke":1}"#).await;
    }
    pen.publish(&topic("sd-3"), r#"{"smoke":0}"#).await;
    let fire = gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
    gateway.hazard("sd-3/smoke", "smoke-fire", |fire| fire["phase"] == "returned").await;
    let (status, answer) = gateway.command(fire["id"].as_str().unwrap(), "acknowledge", "去看了").await;
    assert_eq!(status, 200, "{answer}");
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["acknowledged"]["by"] == "李四").await;
    let before = standing(&gateway.get("/api/v1/hazards").await);
    let log = gateway.get("/api/v1/log?limit=500").await;
    let stored = |health: &Value| health["sinks"][0]["lag"].as_u64().is_some_and(|lag| lag < 3);
    gateway.wait("the store has what there is", "/api/v1/health", stored).await;
    // Cursors are written now and then, and when the gateway stops.
    gateway.stop().await;
    let gateway = house.launch().await;

    let writer = Writer::start(gateway.broker.unwrap());
    until("the load runs", || writer.acknowledged() > 20).await;
    let usb = tempfile::tempdir().unwrap();
    let known = writer.acknowledged();
    let config = house.config();
    let (code, said) = House::tool(&["backup", "--config", text(&config), "--to", text(usb.path())]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("备份完成并已验证") && said.contains("broker.users"), "{said}");
    let meanwhile = writer.acknowledged();
    until("the load goes on after the backup", || writer.acknowledged() > meanwhile + 20).await;
    let broken = gateway.get("/api/v1/hazards").await;
    assert_eq!(standing(&broken), before);
    gateway.kill();
    let acknowledged = writer.end().await;
    assert!(acknowledged > known);

    let backup = backup_in(usb.path());
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(backup.join("manifest.json")).unwrap()).unwrap();
    let head = manifest["journal"]["head"].as_u64().unwrap();
    assert_eq!(manifest["journal"]["open_hazards"], 3);
    assert_eq!(manifest["left_out"][0]["why"], "secret", "{manifest:#}");
    let name = backup.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("fengsui-sunshine-") && name.ends_with('Z'), "{name}");
    for (path, mode) in
        [(backup.clone(), 0o700), (backup.join("journal.db"), 0o600), (backup.join("manifest.json"), 0o600)]
    {
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            mode,
            "{}",
            path.display()
        );
    }
    let everything = std::fs::read_dir(&backup).unwrap().map(|entry| entry.unwrap().file_name());
    let everything: std::collections::BTreeSet<_> =
        everything.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(everything, ["config", "journal.db", "manifest.json"].map(str::to_owned).into());
    assert!(
        !String::from_utf8_lossy(&std::fs::read(backup.join("config/gateway.toml")).unwrap())
            .contains("secret-word")
    );

    // Another box: nothing on it.
    let other = house.another_box();
    let config = other.config();
    let restore = ["restore", text(&backup), "--config", text(&config), "--config-files"];
    let (code, said) = House::tool(&restore);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("已恢复到") && said.contains("请人工核对现场") && said.contains("broker.users"),
        "{said}"
    );
    for file in ["models/acme/probe.toml", "models/acme/probe.js"] {
        assert!(other.config().with_file_name(file).exists(), "{file}");
    }
    std::fs::write(other.config().with_file_name("broker.users"), "hall:secret-word\n").unwrap();
    let cursors = |dir: &Path| Archive::open(dir).unwrap().summary().unwrap().cursors;
    assert_eq!(cursors(&other.data()), cursors(&backup));
    let store_cursor = cursors(&other.data()).into_iter().find(|(name, _)| name.starts_with("influx"));
    assert!(store_cursor.is_some_and(|(_, no)| no > 0), "{:?}", cursors(&other.data()));
    let audit = manifest["journal"]["audit"].as_str().unwrap();
    for place in [text(&backup), text(&other.data())] {
        let (code, said) = House::tool(&["audit", "verify", place, "--expect", audit]);
        assert_eq!(
            (code, said.contains("校验链完整"), said.contains("与给出的链头相符")),
            (Some(0), true, true),
            "{said}"
        );
    }

    let gateway = other.launch().await;
    assert_eq!(
        standing(&gateway.get("/api/v1/hazards").await),
        before,
        "the same hazards, under the same names"
    );
    let lines = |log: &Value| log["lines"].as_array().unwrap().clone();
    let now = lines(&gateway.get("/api/v1/log?limit=500").await);
    let told = now.iter().filter(|line| line.to_string().contains("由备份恢复")).count();
    assert_eq!(told, 1, "{now:#?}");
    for line in lines(&log) {
        assert!(now.contains(&line), "the duty log lost {line:#}");
    }
    let chart = gateway.get("/api/v1/points/writer/temperature/series").await;
    let drawn: u64 = chart["rows"].as_array().unwrap().iter().map(|row| row[2].as_u64().unwrap()).sum();
    assert!(drawn >= u64::from(known), "{drawn} of {known} on the chart: {chart:#}");
    // It works on: a new fire, under a number that the lost entries never had.
    let mut pen = gateway.pen("detectors").await;
    pen.publish(&topic("writer"), r#"{"smoke":1}"#).await;
    let fresh = gateway.hazard("writer/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
    let number: u64 = fresh["id"].as_str().unwrap().split('.').next().unwrap().parse().unwrap();
    assert!(number > head + 50_000, "{number} may have been given before, head was {head}");
    gateway.wait("the store goes on", "/api/v1/health", stored).await;
    gateway.stop().await;

    let (entries, _) = other.journal().await;
    let mut times: BTreeMap<u32, usize> = BTreeMap::new();
    for figure in numbers_of(&entries, "writer/temperature") {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
        let n = ((figure - 20.0) * 1024.0).round() as u32;
        *times.entry(n).or_default() += 1;
    }
    let newest = *times.keys().last().unwrap();
    assert!(newest >= known, "{newest} of {known}, which were acknowledged before the backup");
    assert_eq!(times, (1..=newest).map(|n| (n, 1)).collect(), "each of them once, without a gap");
    let (code, said) = House::tool(&["audit", "verify", "--data", text(&other.data()), "--expect", audit]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_are_acknowledged_while_a_large_backup_is_made() {
    let house = House::build(BROKER, &smoke("writer", "broker"));
    let gateway = house.launch().await;
    // 60 MB of documents: a copy takes long enough to look at.
    gateway.stop().await;
    crowd(&house.data(), 60).await;
    let gateway = house.launch().await;
    let writer = Writer::start(gateway.broker.unwrap());
    until("the load runs", || writer.acknowledged() > 5).await;
    let usb = tempfile::tempdir().unwrap();
    let config = house.config();
    let (to, file) = (usb.path().to_owned(), config.clone());
    let backing_up = tokio::task::spawn_blocking(move || {
        House::tool(&["backup", "--config", text(&file), "--to", text(&to)])
    });
    let (begun, mut last, mut longest) = (tokio::time::Instant::now(), writer.acknowledged(), 0.0_f64);
    let (first, mut since) = (last, begun);
    while !backing_up.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let now = writer.acknowledged();
        if now > last {
            (last, since) = (now, tokio::time::Instant::now());
        }
        longest = longest.max(since.elapsed().as_secs_f64());
    }
    let (code, said) = backing_up.await.unwrap();
    assert_eq!(code, Some(0), "{said}");
    let took = begun.elapsed().as_secs_f64();
    println!("{} acknowledged in {took:.2} s of backup, the longest pause {longest:.2} s", last - first);
    assert!(last > first, "nothing was acknowledged in {took:.2} s");
    assert!(longest < 2.0, "{longest:.2} s without an acknowledgement");
    assert_eq!(gateway.counter("journal_failures").await, 0);
    writer.end().await;
    gateway.stop().await;
}

/// Puts so many megabytes of documents into a journal.
async fn crowd(data: &Path, megabytes: u32) {
    use fengsui::journal::{Journal, Limits};
    let (journal, _) = Journal::open(data, Limits::default(), fengsui::metrics::Metrics::new()).unwrap();
    let filler = json!({ "filler": "x".repeat(1 << 20) }).to_string();
    for n in 0..megabytes {
        let at = fengsui::model::Timestamp::from_secs(1_800_000_000);
        journal.put_document("filler", &n.to_string(), Some(&filler), at).await.unwrap();
    }
}
