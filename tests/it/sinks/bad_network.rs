//! The Influx sink over a bad way to a real InfluxDB 1: whatever happens to posts and answers, each reading is there once.

use super::influx::drain;
use super::*;
use crate::support::fault_proxy::{Fault, FaultProxy, WAYS, Way as Direction};
use crate::support::influxd::Influxd;

/// Readings in an entry; a post takes a hundred.
const READINGS: i64 = 150;

async fn behind(seed: u64) -> (Influxd, FaultProxy) {
    let mut influxd = Influxd::new();
    influxd.start().await;
    influxd.create_database("site").await;
    let (_, port) =
        influxd.url().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.parse().unwrap())).unwrap();
    let proxy = FaultProxy::to(([127, 0, 0, 1], port).into(), seed).await;
    (influxd, proxy)
}

fn through(house: &House, proxy: &FaultProxy) -> Influx {
    house.sink_with(&format!("http://{}", proxy.address), |settings| {
        settings.way = Way::V1 { database: "site".into(), retention_policy: None, login: None };
        settings.timeout = Duration::from_millis(300);
        settings.backfill_lines_per_second = 1_000_000;
    })
}

/// Time and value of everything that is there.
async fn there(influxd: &Influxd) -> Vec<(i64, i64)> {
    let rows = influxd.rows("site", "SELECT value FROM residual_current").await;
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers")]
    let rows = rows.iter().map(|row| (row[0].as_i64().unwrap(), row[1].as_f64().unwrap() as i64));
    rows.collect()
}

/// Every reading of these is there once with its own value and time, and nothing else is.
async fn all_are_there(influxd: &Influxd, count: i64, when: &str) {
    let all: Vec<_> = (0..count).map(|n| ((START + Span::from_secs(n)).as_millis(), n)).collect();
    let there = there(influxd).await;
    let missing: Vec<_> = all.iter().filter(|one| !there.contains(one)).collect();
    let foreign: Vec<_> = there.iter().filter(|one| !all.contains(one)).collect();
    assert!(missing.is_empty() && foreign.is_empty(), "{when}: missing {missing:?}, foreign {foreign:?}");
    assert_eq!(there.len(), all.len(), "{when}");
}

#[tokio::test]
async fn over_a_bad_way_to_a_store_every_reading_arrives_once_and_the_cursor_is_right() {
    let (influxd, proxy) = behind(51).await;
    let mut house = House::new();
    let mut sink = through(&house, &proxy);
    let faults = [
        Fault::Delay,
        Fault::Halve,
        Fault::Cut,
        Fault::CutAmid,
        Fault::Stall,
        Fault::Swallow,
        Fault::HalveForGood,
        Fault::Duplicate,
    ];
    let (mut sent, mut pauses) = (0, 0);
    for fault in faults {
        for way in WAYS {
            house.append_numbers(sent, READINGS).await;
            sent += READINGS;
            proxy.once(way, fault);
            pauses += drain(&mut sink).await;
            assert_eq!(proxy.did(way, fault), 1, "{way:?} {fault:?}");
            assert_eq!(house.cursor().await, house.head, "{way:?} {fault:?}");
            all_are_there(&influxd, sent, &format!("{way:?} {fault:?}")).await;
        }
    }
    assert_eq!((house.metrics.influx_refused.get(), house.refused().await.len()), (0, 0));
    assert!(pauses >= 8, "{pauses}");
    println!("a store: {sent} readings, {pauses} pauses; {}", proxy.account());
}

/// A packed post has a checksum: the store refuses it, and it is sent again. No wrong value is stored, and none is given up
/// for a post that was only hurt on its way, also where it is a single line.
#[tokio::test]
async fn wrong_bits_in_a_packed_post_store_no_wrong_value_and_cost_none() {
    let (influxd, proxy) = behind(52).await;
    let mut house = House::new();
    let mut sink = through(&house, &proxy);
    let mut sent = 0;
    for at in 0..40 {
        let readings = if at % 2 == 0 { READINGS } else { 1 };
        house.append_numbers(sent, readings).await;
        sent += readings;
        proxy.once(Direction::Up, Fault::FlipBeforeEnd(at));
        drain(&mut sink).await;
        assert_eq!(house.cursor().await, house.head);
    }
    assert_eq!(proxy.did_something(Direction::Up), 40, "{}", proxy.account());
    all_are_there(&influxd, sent, &proxy.account()).await;
    assert_eq!((house.metrics.influx_refused.get(), house.refused().await.len()), (0, 0));
}
