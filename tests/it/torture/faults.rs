//! The whole gateway on a disk that is full, fails, is read-only or slow: a fire is on the screen all the same, and what
//! was acknowledged is in the journal when the disk works again; the doctor says what it was.

use super::seed;
use crate::support::bad_disk::{BadDisk, Errno};
use crate::support::doctor::Told;
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
    let house = House::build(&links, &(devices("broker") + &more)).with_a_known_page();
    std::fs::create_dir(house.data()).unwrap();
    let disk = BadDisk::mount(&house.data());
    let gateway = house.launch().await;
    (house, disk, gateway)
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

/// `id` and `words`: what the doctor says while it lasts.
async fn a_fault(trouble: impl Fn(&BadDisk), (id, words): (&str, &[&str])) {
    let (house, disk, gateway) = at_work().await;
    let witness = Witness::start(gateway.broker.unwrap());
    witness.progress().await;
    trouble(&disk);
    soon("the journal is known to be broken", async { while gateway.status("/readyz").await == 200 {} })
        .await;
    let (took, seen) = fire(&gateway, "sd-1").await;
    assert_eq!(seen["recorded"], false, "{seen}");
    assert!(took < ON_THE_SCREEN, "a fire took {took:?}");
    let told = Told::to_a_person(&house).await;
    told.says(id, "serious", words);
    told.says("running", "good", &["网关正在运行"]);
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
    let told = Told::to_a_person(&house).await;
    told.says("journal-was-unwritable", "warning", &["日志写不进去", "恢复", "查磁盘"]);
    told.nothing_but(&["journal-was-unwritable", "not-running"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_without_room_a_fire_is_shown_and_everything_is_recorded_once_there_is_room() {
    let words = ["磁盘已满", "只剩", "报警照常显示但标“未记录”", "网关会自己恢复"];
    a_fault(|disk| disk.room(0), ("disk-full", &words)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_fails_a_fire_is_shown_and_everything_is_recorded_once_it_works() {
    let words = ["日志现在写不进去", "磁盘或文件写入失败", "dmesg", "不要断电"];
    a_fault(|disk| disk.fail(1, 1 << 40, Errno::EIO), ("journal-unwritable", &words)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_turned_read_only_a_fire_is_shown_and_everything_is_recorded_once_it_is_writable() {
    let words = ["日志现在写不进去", "磁盘变为只读", "请检查存储卡"];
    a_fault(|disk| disk.read_only(true), ("journal-unwritable", &words)).await;
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
    let words = ["数据库文件被删除", "没有丢记录", "查清是谁"];
    Told::to_a_person(&house).await.says("database-deleted", "warning", &words);
    // Then the power goes: what was acknowledged is in the file that was put back.
    disk.cut();
    gateway.kill();
    disk.power_on(seed());
    let told = Told::to_a_person(&house).await;
    told.says("database-deleted", "warning", &words);
    told.says("unclean-stop", "warning", &["没有正常停止", "停电"]);
    let gateway = house.launch().await;
    witness.progress().await;
    let testimony = witness.end().await;
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    Told::to_a_person(&house).await.nothing_but(&["database-deleted", "not-running"]);
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
    let told = Told::to_a_person(&house).await;
    told.says("journal-was-unwritable", "warning", &["日志写入超时", "慢了"]);
    told.says("database", "good", &["日志数据库完好"]);
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
    let told = Told::to_a_person(&house).await;
    told.says("journal-was-unwritable", "warning", &["日志写入超时", "慢了"]);
    told.nothing_but(&["journal-was-unwritable", "not-running"]);
}
