//! A journal that cannot be written, or keeps everybody waiting: life safety does not wait for it.

use crate::support::gateway::{BROKER, Gateway, House, Stuck, find_hazard, numbers_of, smoke, topic};
use crate::support::ports::soon;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

fn house() -> House {
    House::build(BROKER, &[smoke("sd-1", "broker"), smoke("sd-2", "broker")].concat())
}

/// Every write to a file beyond its first byte fails from now on, as on a disk that is full; or no longer.
fn full(gateway: &Gateway, full: bool) {
    let size = if full { "--fsize=1:unlimited" } else { "--fsize=unlimited:unlimited" };
    let pid = gateway.pid().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, size]).status().unwrap().success());
}

#[tokio::test]
async fn on_a_full_disk_a_fire_is_shown_unrecorded_and_recorded_once_there_is_room() {
    let house = house();
    // The system's signal at the limit is ignored, so that writing fails as it does on a full disk.
    let program = house.command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args());
    let gateway = house.launch_by(command).await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"temperature":20}"#).await;
    gateway.last("sd-1/temperature", |_| true).await;
    full(&gateway, true);

    for id in 100..110_u16 {
        let payload = format!(r#"{{"temperature":{}}}"#, f64::from(id) / 4.0);
        pen.send(&topic("sd-1"), payload.as_bytes(), id, false).await.unwrap();
    }
    let mut other = gateway.pen("sd-2").await;
    other.send(&topic("sd-2"), br#"{"smoke":1}"#, 1, false).await.unwrap();
    let fire = gateway.hazard("sd-2/smoke", "smoke-fire", |_| true).await;
    assert_eq!((&fire["recorded"], &fire["phase"]), (&json!(false), &json!("active")));
    let fault = gateway.hazard("gateway/journal", "gateway-fault", |_| true).await;
    assert_eq!(fault["recorded"], false);
    assert_eq!(gateway.status("/readyz").await, 503);
    assert_eq!(gateway.status("/healthz").await, 200);
    let health = gateway.get("/api/v1/health").await;
    assert_eq!(health["journal"]["writable"], false, "{health}");
    assert!(gateway.page("/").await.contains("未记录"), "the page says that it is not recorded");
    let id = fire["id"].as_str().unwrap();
    let (status, done) = gateway.command(id, "acknowledge", "").await;
    assert_eq!((status, &done["recorded"]), (200, &json!(false)), "a person's word is in force");

    full(&gateway, false);
    let fire = gateway.hazard("sd-2/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
    assert_eq!((&fire["id"], &fire["acknowledged"]["by"]), (&json!(id), &json!("李四")));
    gateway.hazard("gateway/journal", "gateway-fault", |fault| fault["phase"] == "returned").await;
    for id in 100..110 {
        assert_eq!(soon("the PUBACK", pen.acknowledged()).await.unwrap(), id);
    }
    pen.publish(&topic("sd-1"), r#"{"temperature":30}"#).await;
    assert_eq!(gateway.status("/readyz").await, 200);
    gateway.stop().await;

    let (entries, facts) = house.journal().await;
    let numbers: Vec<u64> = entries.iter().map(|entry| entry.no).collect();
    assert_eq!(numbers, (1..=entries.len() as u64).collect::<Vec<_>>());
    let expected: Vec<f64> =
        [20.0].into_iter().chain((100..110_u16).map(|id| f64::from(id) / 4.0)).chain([30.0]).collect();
    assert_eq!(numbers_of(&entries, "sd-1/temperature"), expected, "everything once");
    let stands = facts.iter().filter_map(|fact| fact.hazard.as_ref()).any(|h| h.id.as_str() == id);
    assert!(stands, "{facts:?}");
    assert!(
        house.log().contains("the journal is written again"),
        "the log says so once it can: {}",
        house.log()
    );
}

/// Writes into the disk that only the child sees, until nothing more fits.
fn fill(gateway: &Gateway, house: &House) -> PathBuf {
    let path = PathBuf::from(format!("/proc/{}/root{}/filler", gateway.pid(), house.data().display()));
    let mut filler = std::fs::File::options().create(true).append(true).open(&path).unwrap();
    for bytes in [64 << 10, 4 << 10, 1] {
        while filler.write_all(&vec![0x5A; bytes]).is_ok() {}
    }
    path
}

/// A disk of 24 MiB in a name space of the child's own; it is gone with the child.
#[tokio::test]
async fn a_disk_that_fills_up_takes_the_ballast_first_and_then_a_fire_is_shown_unrecorded() {
    let house = house();
    let program = house.command();
    let mut command = Command::new("unshare");
    let small = "mkdir -p \"$1\" && mount -t tmpfs -o size=24m none \"$1\" && shift && exec \"$@\"";
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", small, "sh"]).arg(house.data());
    command.arg(program.get_program()).args(program.get_args());
    let gateway = house.launch_by(command).await;
    let mut pen = gateway.pen("sd-1").await;
    fill(&gateway, &house);
    let given_back = || house.log().contains("the ballast was given back");
    for n in 0..5000 {
        pen.publish(&topic("sd-1"), &format!(r#"{{"temperature":{}}}"#, n % 50)).await;
        if given_back() {
            break;
        }
    }
    assert!(given_back(), "five thousand commits found room on a full disk");
    assert_eq!(gateway.status("/readyz").await, 200, "the ballast was room enough");
    let filler = fill(&gateway, &house);
    soon("the journal finds no room", async {
        let mut id = 1;
        while gateway.status("/readyz").await == 200 {
            pen.send(&topic("sd-1"), br#"{"temperature":20}"#, id, false).await.unwrap();
            id += 1;
        }
    })
    .await;
    let mut other = gateway.pen("sd-2").await;
    other.send(&topic("sd-2"), br#"{"smoke":1}"#, 1, false).await.unwrap();
    let fire = gateway.hazard("sd-2/smoke", "smoke-fire", |_| true).await;
    assert_eq!(fire["recorded"], false);
    let fault = gateway.hazard("gateway/journal", "gateway-fault", |_| true).await;
    assert_eq!(fault["signal"], "fault");
    std::fs::remove_file(filler).unwrap();
    let settled = gateway.hazard("sd-2/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
    assert_eq!(settled["id"], fire["id"]);
    gateway.hazard("gateway/journal", "gateway-fault", |fault| fault["phase"] == "returned").await;
    let log = gateway.get("/api/v1/log").await;
    assert!(log.to_string().contains("日志无法写入"), "the duty log tells of it: {log}");
    gateway.stop().await;
}

#[tokio::test]
async fn while_the_journal_stands_still_a_fire_is_shown_unrecorded_and_settles_afterwards() {
    let house = house();
    let gateway = house.open().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"temperature":20}"#).await;
    let mut live = gateway.live().await;
    let stuck = Stuck::hold(&house.data());
    pen.send(&topic("sd-1"), br#"{"smoke":1}"#, 77, false).await.unwrap();
    live.until("the fire on the live stream, marked", |event| {
        find_hazard(event, "sd-1/smoke", "smoke-fire").is_some_and(|fire| fire["recorded"] == false)
    })
    .await;
    stuck.release();
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
    assert_eq!(soon("the PUBACK", pen.acknowledged()).await.unwrap(), 77);
    gateway.stop().await;
    let (entries, _) = house.journal().await;
    let raised = entries.iter().flat_map(|entry| &entry.transitions);
    assert_eq!(raised.filter(|moved| moved.hazard.point.as_str() == "sd-1/smoke").count(), 1);
}
