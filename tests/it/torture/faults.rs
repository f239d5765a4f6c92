//! The whole gateway on a disk that is full, fails, is read-only or slow: a fire is on the screen all the same, and what
//! was acknowledged is in the journal when the disk works again; the doctor says what it was.

use super::seed;
use crate::support::bad_disk::{BadDisk, Errno};
use crate::support::gateway::{BROKER, Gateway, House, find_hazard, smoke, topic};
use crate::support::ports::{free_port, soon, until};
use crate::support::witness::{Witness, devices};
use fengsui::model::Change;
use serde_json::Value;
use std::time::Duration;

/// A fire is promised to be on the screen within this.
const ON_THE_SCREEN: Duration = Duration::from_secs(2);
/// Detectors besides the witness's own.
const BURNT: usize = 8;

/// A gateway on a bad disk, its page and its broker on ports that are known.
async fn at_work() -> (House, BadDisk, Gateway) {
    let links = BROKER.replace("127.0.0.1:0", &format!("127.0.0.1:{}", free_port()));
    let more: String = (1..=BURNT).map(|n| smoke(&format!("sd-{n}"), "broker")).collect();
    let house = House::build(&links, &(devices("broker") + &more));
    let text = std::fs::read_to_string(house.config()).unwrap();
    let web = format!("[web]\nlisten = \"127.0.0.1:{}\"", free_port());
    std::fs::write(house.config(), text.replace("[web]\nlisten = \"127.0.0.1:0\"", &web)).unwrap();
    std::fs::create_dir(house.data()).unwrap();
    let disk = BadDisk::mount(&house.data());
    let gateway = house.launch().await;
    (house, disk, gateway)
}

/// The names of what the doctor finds.
async fn doctor(house: &House) -> Vec<String> {
    let config = house.config().to_str().unwrap().to_owned();
    let said = tokio::task::spawn_blocking(move || House::tool(&["doctor", "--json", "--config", &config]));
    let (_, said) = said.await.unwrap();
    let json = said.find('{').map_or("", |from| &said[from..]);
    let mut found = serde_json::Deserializer::from_str(json).into_iter::<Value>();
    let all = found.next().unwrap_or_else(|| panic!("{said}")).unwrap();
    all["findings"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap().to_owned()).collect()
}

/// Sends a fire and says how long it takes until the page has it.
async fn fire(gateway: &Gateway, detector: &str) -> (Duration, Value) {
    let mut pen = gateway.pen(&format!("{detector}-pen")).await;
    let sent = tokio::time::Instant::now();
    pen.send(&topic(detector), br#"{"smoke":1}"#, 1, false).await.unwrap();
    let point = format!("{detector}/smoke");
    let fire = gateway.hazard(&point, "smoke-fire", |_| true).await;
    (sent.elapsed(), fire)
}

async fn a_fault(trouble: impl Fn(&BadDisk), expected: &[&str]) {
    let (house, disk, gateway) = at_work().await;
    let witness = Witness::start(gateway.broker.unwrap());
    witness.progress().await;
    trouble(&disk);
    soon("the journal is known to be broken", async { while gateway.status("/readyz").await == 200 {} })
        .await;
    let (took, seen) = fire(&gateway, "sd-1").await;
    assert_eq!(seen["recorded"], false, "{seen}");
    assert!(took < ON_THE_SCREEN, "a fire took {took:?}");
    let found = doctor(&house).await;
    assert!(expected.iter().any(|id| found.iter().any(|f| f == id)), "{expected:?} are not among {found:?}");
    disk.heal();
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
    gateway.hazard("gateway/journal", "gateway-fault", |fault| fault["phase"] == "returned").await;
    witness.progress().await;
    let testimony = witness.end().await;
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    let raised = entries.iter().flat_map(|entry| &entry.transitions);
    let raised = raised.filter(|moved| moved.hazard.point.as_str() == "sd-1/smoke");
    assert_eq!(raised.filter(|moved| moved.change == Change::Raised).count(), 1);
    assert!(!house.log().contains("set aside"), "{}", house.log());
    let found = doctor(&house).await;
    assert!(found.iter().any(|id| id == "journal-was-unwritable"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_without_room_a_fire_is_shown_and_everything_is_recorded_once_there_is_room() {
    a_fault(|disk| disk.room(0), &["disk-full"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_fails_a_fire_is_shown_and_everything_is_recorded_once_it_works() {
    a_fault(|disk| disk.fail(1, 1 << 40, Errno::EIO), &["journal-unwritable"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_turned_read_only_a_fire_is_shown_and_everything_is_recorded_once_it_is_writable() {
    a_fault(|disk| disk.read_only(true), &["read-only", "journal-unwritable"]).await;
}

/// Somebody deletes the database, its log and its index under the gateway at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_deleted_under_the_gateway_at_work_is_put_back_with_everything() {
    let (house, disk, gateway) = at_work().await;
    let witness = Witness::start(gateway.broker.unwrap());
    witness.progress().await;
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        std::fs::remove_file(house.data().join(name)).unwrap();
    }
    let (took, _) = fire(&gateway, "sd-1").await;
    assert!(took < ON_THE_SCREEN, "a fire took {took:?}");
    until("the database is back", || house.data().join("journal.db").exists()).await;
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
    witness.progress().await;
    // Then the power goes: what was acknowledged is in the file that was put back.
    disk.cut();
    gateway.kill();
    disk.power_on(seed());
    let gateway = house.launch().await;
    witness.progress().await;
    let testimony = witness.end().await;
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
}

/// Syncs that now and then take two seconds: twice as long as the loop waits for the journal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_slow_disk_fires_are_shown_in_time_and_nothing_is_lost() {
    println!("seed {}", seed());
    let (house, disk, gateway) = at_work().await;
    let witness = Witness::start(gateway.broker.unwrap());
    witness.progress().await;
    let before = disk.syncs();
    disk.stall(Duration::from_secs(2), 4);
    let mut slowest = Duration::ZERO;
    for n in 1..=BURNT {
        let (took, _) = fire(&gateway, &format!("sd-{n}")).await;
        slowest = slowest.max(took);
        witness.progress().await;
    }
    let fault = find_hazard(&gateway.get("/api/v1/hazards").await, "gateway/journal", "gateway-fault");
    let stalls = (disk.syncs() - before) / 4;
    disk.heal();
    println!(
        "the slowest of {BURNT} fires took {slowest:?} over {stalls} stalls; fault: {}",
        fault.is_some()
    );
    assert!(slowest < ON_THE_SCREEN, "a fire took {slowest:?}");
    assert!(stalls >= 2, "the disk stalled only {stalls} times");
    let testimony = witness.end().await;
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    let told = entries.iter().flat_map(|entry| &entry.transitions);
    let told = told.filter(|moved| moved.hazard.point.as_str() == "gateway/journal").count() as u64;
    println!("{told} lines of the duty log about it");
    assert!(told <= 2 * stalls + 2, "the fault flaps: {told} lines for {stalls} stalls");
}
