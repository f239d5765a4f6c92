//! Ten times the planned load: acknowledgements are withheld and nothing is lost, memory stays bounded, fires go first.

use super::by_hand;
use crate::support::doctor::Told;
use crate::support::gateway::{BROKER, House, smoke, topic};
use crate::support::ports::free_port;
use crate::support::witness::{Pace, Witness};
use std::time::Duration;

/// Seconds in the test command; `FENGSUI_OVERLOAD_SECS` for more.
const SECONDS: u64 = 15;
/// Publishers without a rest, each with as much under way as brokers usually allow; `FENGSUI_OVERLOAD_REST_MS` for a rest
/// after each acknowledgement, so that a fast program gets ten times the planned load and not a hundred.
const PUBLISHERS: usize = 8;
const IN_FLIGHT: usize = 64;
/// Fires spread over the time.
const FIRES: u32 = 12;
/// A debug build under the load of its own test: in use it is a tenth of this.
const FIRE_MAX: Duration = Duration::from_secs(2);
/// Limits of the gateway's buffers, added up, and the program itself.
const RESIDENT_KIB_MAX: u64 = 160 << 10;

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_planned_load_loses_nothing_and_delays_no_fire() {
    let seconds = by_hand("FENGSUI_OVERLOAD_SECS", SECONDS);
    let links = BROKER.replace("127.0.0.1:0", &format!("127.0.0.1:{}", free_port()));
    let floods: Vec<String> = (1..=PUBLISHERS).map(|n| format!("flood-{n}")).collect();
    let fires: Vec<String> = (1..=FIRES).map(|n| format!("sd-{n}")).collect();
    let devices: String = floods.iter().chain(&fires).map(|id| smoke(id, "broker")).collect();
    let house = House::build(&links, &devices);
    let gateway = house.launch().await;
    let to = gateway.broker.unwrap();
    let begun = tokio::time::Instant::now();
    let rest = Duration::from_millis(by_hand("FENGSUI_OVERLOAD_REST_MS", 0));
    let pace = Pace { in_flight: IN_FLIGHT, rest };
    let floods: Vec<Witness> = floods.iter().map(|id| Witness::at_a_pace(to, id, pace)).collect();
    let (mut times, mut most) = (Vec::new(), 0);
    for (n, detector) in (1..).zip(&fires) {
        let next = begun + Duration::from_secs(seconds) * n / FIRES;
        while tokio::time::Instant::now() < next {
            most = most.max(resident_kib(gateway.pid()));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let sent = tokio::time::Instant::now();
        // A detector that says nothing for minutes comes anew: the broker has given up a silent one.
        gateway.pen(detector).await.publish(&topic(detector), r#"{"smoke":1}"#).await;
        gateway.hazard(&format!("{detector}/smoke"), "smoke-fire", |_| true).await;
        times.push(sent.elapsed());
    }
    times.sort();
    let mut readings = 0;
    let mut all = Vec::new();
    let took = begun.elapsed();
    for flood in floods {
        let testimony = flood.end().await;
        readings += testimony.acknowledged();
        all.push(testimony);
    }
    println!(
        "{:.0} readings/s for {took:?}; fires took {:?} in the middle, {:?} at most; {} MiB resident",
        readings as f64 / took.as_secs_f64(),
        times[times.len() / 2],
        times[times.len() - 1],
        most >> 10
    );
    assert!(times[times.len() - 1] < FIRE_MAX, "{times:?}");
    assert!(most < RESIDENT_KIB_MAX, "{most} KiB");
    assert_eq!(gateway.counter("readings_lost").await, 0);
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    all.iter().for_each(|testimony| testimony.compare(&entries, &facts));
    Told::to_a_person(&house).await.nothing_but(&["not-running"]);
}
