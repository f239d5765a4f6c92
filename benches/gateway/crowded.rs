//! 2000 messages always on their way: how long a breach that comes among them takes to be told.

use crate::load::{Mosquitto, Publisher};
use crate::subject::{BREACHING, Bare, DEVICES, FRAMES, Gateway};
use crate::{Latencies, WIDE};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Messages between the publisher and the subscriber, topped up all the time.
const ON_THE_WAY: u64 = 2000;

/// How often the receiver is asked how many it has: at 30 000 messages a second 150 between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) fn run(folder: &Path, length: Duration) {
    println!("\n{ON_THE_WAY} messages always on their way, {} s each\n", length.as_secs());
    println!("| | messages a second | p50 / p99 / max ms (told of sent) |\n|---|---:|---:|");
    let broker = Mosquitto::start(&folder.join("crowded-floor"), 0);
    let mut bare = Bare::start(broker.port, true);
    let (rate, breaches) = load(broker.port, length, || bare.count());
    let told: Vec<_> = breaches.iter().map(|_| bare.answer()).collect();
    let floor = Latencies::new(&breaches, &told);
    println!("| floor | {rate:.0} | {floor} |");
    drop((bare, broker));

    let place = folder.join("crowded");
    let broker = Mosquitto::start(&place, 0);
    let gateway = Gateway::begin(&place, &broker, WIDE, "");
    let (sender, seen) = mpsc::channel();
    gateway.page.live(sender);
    let before = gateway.page.counter(FRAMES);
    let (rate, breaches) = load(broker.port, length, || gateway.page.counter(FRAMES) - before);
    gateway.settle();
    let own = Latencies::new(&breaches, &seen.try_iter().collect::<Vec<_>>());
    println!("| gateway | {rate:.0} | {own} |");
    println!("\np99: {:.2} times the floor's", own.at(0.99) / floor.at(0.99));
}

/// Keeps [`ON_THE_WAY`] messages between here and `received`. Ten breaches a second go in between, on a connection of
/// their own, as a detector has one. Returns messages a second, and when each breach was sent.
fn load(port: u16, length: Duration, mut received: impl FnMut() -> u64) -> (f64, Vec<(String, Instant)>) {
    let mut crowd = Publisher::connect(port, "crowd");
    let mut detector = Publisher::connect(port, "detector");
    let (start, mut sent, mut breaches) = (Instant::now(), 0_u64, Vec::new());
    while start.elapsed() < length {
        let missing = (received() + ON_THE_WAY).saturating_sub(sent);
        for _ in 0..missing {
            crowd.send(&format!("d{:04}", sent as usize % DEVICES), false);
            sent += 1;
        }
        crowd.flush();
        let due = start.elapsed().as_millis() as usize / 100;
        if breaches.len() < due.min(BREACHING) {
            let device = format!("b{:04}", breaches.len());
            breaches.push((device.clone(), Instant::now()));
            detector.send(&device, true);
            detector.flush();
            sent += 1;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let rate = sent as f64 / start.elapsed().as_secs_f64();
    crowd.wait_all();
    detector.wait_all();
    let deadline = Instant::now() + Duration::from_secs(60);
    while received() < sent {
        assert!(Instant::now() < deadline, "not every message arrived");
        std::thread::sleep(LOOK_EVERY);
    }
    (rate, breaches)
}
