//! The Influx sink after long outages, by a server that answers by a script: live ones first, history behind.

use super::influx::{Scripted, drain};
use super::*;
use crate::support::influxd::Influxd;
use fengsui::sinks::{Progress, Worker};
use std::collections::BTreeSet;
use std::sync::Mutex;
use tokio::time::Instant;

/// The number in `value=…` of an accepted line.
fn value(line: &str) -> i64 {
    let (_, rest) = line.split_once("value=").unwrap();
    rest.split([' ', ',']).next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_413_halves_the_posts_and_quick_answers_let_them_grow_again() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = sizes.clone();
    let limit = Arc::new(Mutex::new(300));
    let limited = limit.clone();
    let server = Scripted::start(move |lines| {
        seen.lock().unwrap().push(lines.len());
        (if lines.len() > *limited.lock().unwrap() { 413 } else { 204 }, None)
    })
    .await;
    let mut house = House::new();
    house.append_numbers(0, 2000).await;
    let mut sink = house.sink_with(&server.url, |settings| settings.batch_lines_max = 1000);
    drain(&mut sink).await;
    {
        let mut sizes = sizes.lock().unwrap();
        assert_eq!(sizes[..5], [1000, 500, 250, 250, 270], "{sizes:?}");
        let refused = sizes.iter().filter(|size| **size > 300).count();
        assert!(refused <= 4, "it does not run into the wall all the time: {sizes:?}");
        sizes.clear();
    }
    *limit.lock().unwrap() = 10_000;
    for n in 2..60 {
        house.append_numbers(n * 1000, 1000).await;
    }
    drain(&mut sink).await;
    let sizes = sizes.lock().unwrap();
    assert_eq!(sizes.iter().max(), Some(&1000), "back at the largest: {sizes:?}");
    let accepted: BTreeSet<i64> = server.accepted().iter().map(|line| value(line)).collect();
    assert_eq!(accepted.len(), 60_000);
    assert_eq!(house.metrics.influx_refused.get(), 0);
}

#[tokio::test]
async fn a_server_that_falls_over_gets_smaller_posts() {
    let server = Scripted::start(move |lines| (if lines.len() > 120 { 503 } else { 204 }, None)).await;
    let mut house = House::new();
    house.append_numbers(0, 1000).await;
    let mut sink = house.sink_with(&server.url, |settings| settings.batch_lines_max = 1000);
    let pauses = drain(&mut sink).await;
    assert!((4..=12).contains(&pauses), "{pauses}");
    assert_eq!((server.accepted().len(), house.cursor().await), (1000, 1));
}

#[tokio::test]
async fn one_line_that_is_too_large_by_itself_is_kept_and_the_rest_arrives() {
    let long = |line: &String| line.contains("value=5 ");
    let server = Scripted::start(move |lines| (if lines.iter().any(long) { 413 } else { 204 }, None)).await;
    let mut house = House::new();
    house.append_numbers(0, 10).await;
    drain(&mut house.sink(&server.url)).await;
    assert_eq!(
        (server.accepted().len(), house.metrics.influx_refused.get(), house.cursor().await),
        (9, 1, 1)
    );
}

/// Thirty days at an entry every ten minutes; then the store comes back, and new readings go on coming.
#[tokio::test]
async fn after_thirty_days_away_live_values_go_first_and_everything_arrives_once() {
    const ENTRIES: i64 = 30 * 144;
    const PER_ENTRY: i64 = 4;
    let up = Arc::new(Mutex::new(false));
    let is_up = up.clone();
    let server = Scripted::start(move |_| (if *is_up.lock().unwrap() { 204 } else { 503 }, None)).await;
    let mut house = House::new();
    let begun = START;
    // The store is known from the beginning, so the journal keeps for it what it would delete after a week.
    let mut sink = house.sink_with(&server.url, |settings| settings.backfill_lines_per_second = 500);
    assert_eq!(sink.step().await, Progress::Idle);
    for entry in 0..ENTRIES {
        house.entry_at = begun + Span::from_secs(entry * 600);
        house.append_numbers_at(entry * PER_ENTRY, PER_ENTRY, house.entry_at).await;
    }
    assert!(matches!(sink.step().await, Progress::BackOff { .. }));
    *up.lock().unwrap() = true;

    // The very first posts after it carry what was measured last.
    let mut posts = 0;
    while !server.accepted().iter().any(|line| value(line) == ENTRIES * PER_ENTRY - 1) {
        assert!(matches!(sink.step().await, Progress::Delivered { .. }));
        posts += 1;
        assert!(posts <= 3, "the newest value waits behind history");
    }
    let begun_catching_up = Instant::now();
    let durable = house.cursor().await;
    assert!(durable < 100, "the cursor claims what was not delivered: {durable}");

    // While history is caught up, every new reading is there with the next step.
    let mut newest = ENTRIES;
    let mut live_steps = 0;
    loop {
        if live_steps < 40 {
            house
                .append_numbers_at(newest * PER_ENTRY, PER_ENTRY, begun + Span::from_secs(newest * 600))
                .await;
            newest += 1;
            live_steps += 1;
            // History has its turn in between: two steps at the most.
            let newest_value = || server.accepted().iter().map(|line| value(line)).max();
            assert!(matches!(sink.step().await, Progress::Delivered { .. }));
            if newest_value() != Some(newest * PER_ENTRY - 1) {
                assert!(matches!(sink.step().await, Progress::Delivered { .. }));
            }
            assert_eq!(server.accepted().iter().map(|line| value(line)).max(), Some(newest * PER_ENTRY - 1));
        }
        match sink.step().await {
            Progress::Delivered { .. } => {}
            Progress::Idle if house.cursor().await == house.head => break,
            // The throttle: nothing but time is missing. It is paused time that passes.
            Progress::Idle => {
                tokio::time::pause();
                sink.woken().await;
                tokio::time::resume();
            }
            Progress::BackOff { reason, .. } => panic!("{}", reason.en),
        }
    }
    let took = begun_catching_up.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let least = (ENTRIES * PER_ENTRY) as f64 / 500.0;
    assert!(took > least * 0.9, "history was not slowed down: {took} s, {least} s");
    let mut accepted: Vec<i64> = server.accepted().iter().map(|line| value(line)).collect();
    accepted.sort_unstable();
    assert_eq!(accepted, (0..newest * PER_ENTRY).collect::<Vec<_>>(), "each once");
    assert_eq!(house.cursor().await, house.head);
}

#[tokio::test]
async fn killed_while_history_is_caught_up_it_sends_live_ones_again_and_loses_nothing() {
    let mut influxd = Influxd::new();
    influxd.start().await;
    influxd.create_database("site").await;
    let mut house = House::new();
    for entry in 0..200 {
        house.append_numbers(entry * 10, 10).await;
    }
    let settings = |settings: &mut InfluxSettings| {
        settings.way = Way::V1 { database: "site".into(), retention_policy: None, login: None };
        settings.backfill_lines_per_second = 1_000_000;
    };
    let mut sink = house.sink_with(&influxd.url(), settings);
    let live = sink.step().await;
    assert_eq!(live, Progress::Delivered { entries: 10, lines: 100 });
    let newest = influxd.rows("site", "SELECT max(value) FROM residual_current").await;
    assert_eq!(newest[0][1].as_f64(), Some(1999.0));
    assert_eq!(house.cursor().await, 0, "history is not there yet");
    assert!(matches!(sink.step().await, Progress::Delivered { .. }));
    let between = house.cursor().await;
    assert!(between > 0 && between < 190);

    // What was delivered beyond the cursor is forgotten; it is delivered again and is the same point.
    let mut sink = house.sink_with(&influxd.url(), settings);
    while house.cursor().await < 200 {
        match sink.step().await {
            Progress::Idle => sink.woken().await,
            Progress::Delivered { .. } => {}
            Progress::BackOff { reason, .. } => panic!("{}", reason.en),
        }
    }
    assert_eq!(influxd.count("site", "residual_current", "value").await, 2000);
    assert!(house.metrics.influx_points.get() >= 2100, "some went twice");
}

/// Where entries come faster than posts are answered, there is something new with every step.
#[tokio::test]
async fn history_has_its_turn_although_new_entries_never_stop() {
    let server = Scripted::start(|_| (204, None)).await;
    let mut house = House::new();
    for entry in 0..100 {
        house.append_numbers(entry * 10, 10).await;
    }
    let mut sink = house.sink_with(&server.url, |settings| settings.backfill_lines_per_second = 1_000_000);
    let mut steps = 0;
    while house.cursor().await < 100 {
        house.append_numbers(house.head.cast_signed() * 10, 10).await;
        assert!(matches!(sink.step().await, Progress::Delivered { .. }));
        steps += 1;
        assert!(steps < 60, "history starves at {}", house.cursor().await);
    }
    drain(&mut sink).await;
    let mut accepted: Vec<i64> = server.accepted().iter().map(|line| value(line)).collect();
    accepted.sort_unstable();
    assert_eq!(accepted, (0..(100 + steps) * 10).collect::<Vec<_>>(), "each once");
}
