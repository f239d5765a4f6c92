//! At every single operation of a journal's life: the power goes, the disk is full, or it fails.

use super::story::{Promised, check, live};
use super::{by_hand, seed};
use crate::support::bad_disk::{BadDisk, Errno};

/// One operation in so many is tried in the test command, beginning with another one each time; all of them by hand.
const STEP: u64 = 15;

/// How many operations a life without trouble asks for.
async fn operations() -> u64 {
    let disk = BadDisk::new();
    let mut promised = Promised::default();
    live(&disk, &mut promised).await.unwrap();
    let operations = disk.operations();
    check(&disk, &promised).await;
    assert!(operations > 100, "only {operations} operations");
    operations
}

/// The operations to try: from a random one on, each `FENGSUI_STEP`th.
async fn tried(seed: u64) -> Vec<u64> {
    let step = by_hand("FENGSUI_STEP", STEP);
    let tried: Vec<u64> = (1 + seed % step..=operations().await).step_by(step.try_into().unwrap()).collect();
    println!("seed {seed}: {} operations are tried", tried.len());
    tried
}

async fn cut_and_check(disk: &BadDisk, promised: &Promised, seed: u64) {
    disk.cut();
    disk.power_on(seed);
    check(disk, promised).await;
}

#[tokio::test]
async fn a_power_cut_before_any_operation_loses_nothing_that_was_promised() {
    let seed = seed();
    let mut cuts = 0;
    for nth in tried(seed).await {
        println!("seed {seed}, cut before operation {nth}");
        let disk = BadDisk::new();
        let mut promised = Promised::default();
        disk.cut_before(nth);
        if live(&disk, &mut promised).await.is_ok() && !disk.is_dead() {
            continue;
        }
        cuts += 1;
        disk.power_on(seed ^ nth);
        check(&disk, &promised).await;
        // It lives on, and stands another cut at its end.
        live(&disk, &mut promised).await.unwrap();
        cut_and_check(&disk, &promised, seed ^ nth ^ 1).await;
    }
    println!("{cuts} cuts");
    assert!(cuts > 10);
}

async fn fails_and_heals(times: u64, error: Errno) {
    let seed = seed();
    let (mut struck, mut failures) = (0, 0);
    for nth in tried(seed).await {
        println!("seed {seed}, operation {nth} and {times} in all fail with {error:?}");
        let disk = BadDisk::new();
        let mut promised = Promised::default();
        disk.fail(nth, times, error);
        live(&disk, &mut promised).await.unwrap();
        failures += promised.failures;
        struck += u64::from(disk.operations() >= nth);
        disk.heal();
        check(&disk, &promised).await;
        cut_and_check(&disk, &promised, seed ^ nth).await;
    }
    println!("{struck} faults struck; {failures} steps failed and were tried again");
    // A disk that is full once mostly goes unnoticed: the ballast takes it.
    assert!(struck > 10 && failures > 0, "{struck} faults struck, {failures} steps failed");
}

#[tokio::test]
async fn a_disk_that_is_full_once_at_any_operation_costs_nothing() {
    fails_and_heals(1, Errno::ENOSPC).await;
}

#[tokio::test]
async fn a_disk_that_is_full_from_any_operation_on_costs_nothing_once_there_is_room() {
    fails_and_heals(1 << 40, Errno::ENOSPC).await;
}

#[tokio::test]
async fn a_write_or_sync_that_fails_once_at_any_operation_costs_nothing() {
    fails_and_heals(1, Errno::EIO).await;
}

#[tokio::test]
async fn a_disk_that_fails_from_any_operation_on_costs_nothing_once_it_works_again() {
    fails_and_heals(1 << 40, Errno::EIO).await;
}
