//! The power of the whole gateway is cut, again and again, while publishers write.

use super::{by_hand, seed};
use crate::support::bad_disk::BadDisk;
use crate::support::doctor::Told;
use crate::support::gateway::{BROKER, House};
use crate::support::ports::free_port;
use crate::support::witness::{Witness, devices, moment, spawn};
use fengsui::journal::Archive;

/// Cuts in the test command; `FENGSUI_CUTS` for more.
const CUTS: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_of_the_whole_gateway_lose_and_repeat_nothing() {
    let (seed, cuts) = (seed(), by_hand("FENGSUI_CUTS", CUTS));
    println!("seed {seed}");
    let port = free_port();
    let links = BROKER.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let house = House::build(&links, &devices("broker"));
    std::fs::create_dir(house.data()).unwrap();
    let disk = BadDisk::mount(&house.data());
    house.launch().await.kill();
    let witness = Witness::start(([127, 0, 0, 1], port).into());
    let (mut lost, mut at_work) = (0, 0);
    for cut in 0..cuts {
        let running = spawn(&house);
        if fastrand::u8(0..4) == 0 {
            moment(400).await;
        } else {
            at_work += 1;
            witness.progress().await;
            moment(400).await;
        }
        // First the power, then the process: what it still writes goes nowhere.
        disk.cut();
        drop(running);
        lost += disk.power_on(seed.wrapping_add(cut));
        let archive = Archive::open(&house.data()).unwrap();
        let report = archive.audit(None).unwrap();
        assert!(report.sound(), "seed {seed}, cut {cut}: {report:?}");
    }
    let told = Told::to_a_person(&house).await;
    told.says("unclean-stop", "warning", &["上次运行没有正常停止", "停电", "已确认收到的数据都在", "UPS"]);
    told.says("unclean-often", "warning", &["最近 7 天有", "次没有正常停止", "查电源"]);
    told.nothing_but(&["unclean-stop", "unclean-often", "not-running"]);
    let gateway = house.launch().await;
    let testimony = witness.end().await;
    println!("{cuts} cuts, {at_work} at work; {} acknowledged; {lost} blocks lost", testimony.acknowledged());
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    assert!(!house.log().contains("set aside"), "seed {seed}: a power cut damages nothing: {}", house.log());
    assert!(lost > cuts / 4, "only {lost} blocks were ever lost: nothing was tried");
    // Nothing is left of it but how often it was.
    let told = Told::to_a_person(&house).await;
    told.says("clean-stop", "good", &["上次运行正常停止"]);
    told.nothing_but(&["unclean-often", "not-running"]);
}
