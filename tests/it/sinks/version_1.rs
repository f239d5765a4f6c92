//! The Influx sink against a real InfluxDB 1: what it answers to good, bad, old and large posts.

use super::influx::drain;
use super::*;
use crate::support::influxd::{ADMIN, Influxd};
use crate::support::victoria::Victoria;
use fengsui::sinks::{Progress, Worker};

fn version_1(settings: &mut InfluxSettings) {
    settings.way = Way::V1 { database: "site".into(), retention_policy: None, login: None };
}

async fn influxd() -> Influxd {
    let mut influxd = Influxd::new();
    influxd.start().await;
    influxd.create_database("site").await;
    influxd
}

/// The values of the leak point, in the order of their times.
async fn values(influxd: &Influxd) -> Vec<(i64, f64)> {
    let rows = influxd.rows("site", "SELECT value FROM residual_current").await;
    rows.iter().map(|row| (row[0].as_i64().unwrap(), row[1].as_f64().unwrap())).collect()
}

#[tokio::test]
async fn every_point_is_in_a_real_influxdb_1_exactly_once_although_it_was_down_in_between() {
    let mut influxd = Influxd::with_sign_in();
    let mut house = House::new();
    let with_login = |settings: &mut InfluxSettings| {
        let login = Some((ADMIN.0.to_owned(), ADMIN.1.to_owned()));
        settings.way = Way::V1 { database: "site".into(), retention_policy: Some("autogen".into()), login };
        settings.gateway = Some("gw-1".to_owned());
    };
    let mut sink = house.sink_with(&influxd.url(), with_login);
    house.append_numbers(0, 250).await;
    assert!(matches!(sink.step().await, Progress::BackOff { .. }), "nobody listens yet");

    influxd.start().await;
    let Progress::BackOff { reason, .. } = sink.step().await else { panic!("there is no database yet") };
    let reason = reason.en;
    assert!(
        reason.contains("check the address, the organisation and the bucket, or the database"),
        "{reason}"
    );
    influxd.create_database("site").await;
    drain(&mut sink).await;
    assert_eq!(house.cursor().await, 1);

    influxd.stop().await;
    for first in [250, 400, 550] {
        house.append_numbers(first, 150).await;
    }
    house.append(Vec::new(), vec![transition(false), transition(true)]).await;
    assert!(matches!(sink.step().await, Progress::BackOff { .. }));
    assert_eq!((house.cursor().await, house.lag()), (1, 4));

    // The gateway is started again as well: only the cursor remembers.
    influxd.start().await;
    let mut sink = house.sink_with(&influxd.url(), with_login);
    drain(&mut sink).await;
    assert_eq!((house.cursor().await, house.lag()), (5, 0));
    let expected: Vec<(i64, f64)> =
        (0..700).map(|n| ((START + Span::from_secs(i64::from(n))).as_millis(), f64::from(n))).collect();
    assert_eq!(values(&influxd).await, expected);
    assert_eq!(influxd.count("site", "residual_current", "quality").await, 700);
    assert_eq!(influxd.count("site", "hazard", "open").await, 2);
    let tags = influxd
        .query("site", "SHOW TAG VALUES FROM residual_current WITH KEY IN (\"site\", \"point\")")
        .await;
    assert_eq!(tags["series"][0]["values"], serde_json::json!([["point", "leak"], ["site", "sunshine"]]));

    // The gateway's own figures, as numbers under the names of the metrics.
    let own = influxd
        .rows(
            "site",
            "SELECT journal_head, journal_commits, hazards_open FROM gateway WHERE gateway = 'gw-1'",
        )
        .await;
    let heads: Vec<Option<u64>> = own.iter().map(|row| row[1].as_u64()).collect();
    assert_eq!(heads, [Some(1), Some(5)], "one line for each start, made when it was sent: {own:?}");
    assert_eq!(influxd.count("site", "gateway", "influx_points").await, 2);
    assert_eq!(house.metrics.influx_refused.get(), 0);
}

#[tokio::test]
async fn a_wrong_password_or_policy_loses_nothing_and_says_what_to_do() {
    let mut influxd = Influxd::with_sign_in();
    influxd.start().await;
    influxd.create_database("site").await;
    let mut house = House::new();
    house.append_numbers(0, 10).await;
    for (policy, password, expected) in [
        (None, "wrong", "check the token, or the user and the password"),
        (Some("nowhere"), ADMIN.1, "check retention_policy"),
    ] {
        let mut sink = house.sink_with(&influxd.url(), |settings| {
            let login = Some((ADMIN.0.to_owned(), password.to_owned()));
            let retention_policy = policy.map(str::to_owned);
            settings.way = Way::V1 { database: "site".into(), retention_policy, login };
        });
        let Progress::BackOff { reason, .. } = sink.step().await else { panic!("it went on") };
        let reason = reason.en;
        assert!(reason.contains(expected) && !reason.contains(password), "{reason}");
        assert_eq!((house.cursor().await, house.metrics.influx_refused.get()), (0, 0));
    }
}

/// InfluxDB 1 stores the good lines of such a post and answers 400 all the same.
#[tokio::test]
async fn a_field_of_another_type_costs_its_own_lines_and_one_more_post() {
    let influxd = influxd().await;
    // Somebody else was here first and wrote whole numbers.
    influxd.query("site", "CREATE RETENTION POLICY other ON site DURATION INF REPLICATION 1").await;
    let foreign = reqwest::Client::new().post(format!("{}/write?db=site&precision=ms", influxd.url()));
    let line = format!("residual_current value=1i {}", START.as_millis());
    assert_eq!(foreign.body(line).send().await.unwrap().status(), 204);

    let mut house = House::new();
    let readings = (0..40).flat_map(|n| {
        let at = START + Span::from_secs(n);
        [reading("rc-01/leak", number(1.5), at), reading("rc-01/tamper", Value::Flag(true), at)]
    });
    house.append(readings.collect(), Vec::new()).await;
    let mut sink = house.sink_with(&influxd.url(), version_1);
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 40 });
    assert_eq!(influxd.count("site", "tamper", "state").await, 40);
    assert_eq!(values(&influxd).await.len(), 1, "the foreign one");
    assert_eq!((house.cursor().await, house.metrics.influx_refused.get()), (1, 40));
    let refused = house.refused().await;
    assert_eq!(refused.len(), 3, "a few of the forty, word for word");
    assert!(refused.iter().all(|one| one["reason_en"].as_str().unwrap().contains("field type conflict")));
    assert!(refused.iter().any(|one| one["alike"] == 37), "{refused:?}");
    let notice = sink.notice().expect("a person is told");
    assert!(notice.zh.contains("40 个") && notice.en.contains("field type conflict"), "{notice:?}");
}

#[tokio::test]
async fn points_beyond_the_retention_policy_are_told_kept_and_hold_nothing_up() {
    let influxd = influxd().await;
    influxd.query("site", "CREATE RETENTION POLICY short ON site DURATION 1d REPLICATION 1 DEFAULT").await;
    let mut house = House::new();
    // The server goes by its own clock: these are young for it, and the others a month old.
    house.clock = Clock::system();
    let now = house.clock.now();
    let at = |age: i64| now - Span::from_secs(age);
    let old = (0..30).map(|n| reading("rc-01/leak", number(1.0), at(30 * 86_400 - n)));
    let young = (0..30).map(|n| reading("rc-01/leak", number(2.0), at(3600 - n)));
    house.append(old.clone().chain(young).collect(), Vec::new()).await;
    let mut sink = house.sink_with(&influxd.url(), version_1);
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 30 });
    assert_eq!(values(&influxd).await.len(), 30);
    assert_eq!((house.cursor().await, house.metrics.influx_refused.get()), (1, 30));
    let reason = |refused: &[serde_json::Value]| refused[0]["reason_en"].as_str().unwrap().to_owned();
    assert!(reason(&house.refused().await).contains("points beyond retention policy"));

    // Told what the store keeps, the gateway does not even send them.
    house.append(old.collect(), Vec::new()).await;
    let mut sink = house.sink_with(&influxd.url(), |settings| {
        version_1(settings);
        settings.retention = Some(Span::from_secs(86_400));
    });
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 0 });
    assert_eq!((house.cursor().await, house.metrics.influx_refused.get()), (2, 60));
    let refused = house.refused().await;
    let last = refused.iter().max_by_key(|one| one["number"].as_u64()).unwrap();
    assert!(last["reason_en"].as_str().unwrap().contains("older than the store keeps, 24 h"), "{last}");
    assert!(sink.notice().unwrap().zh.contains("早于数据库的保留期"));
}

/// VictoriaMetrics says yes to these and drops them: only the gateway can tell.
#[tokio::test]
async fn what_victoria_metrics_would_drop_in_silence_is_kept_and_told() {
    let mut victoria = Victoria::new();
    victoria.start().await;
    let mut house = House::new();
    house.clock = Clock::system();
    // It exports up to the last whole second.
    let now = house.clock.now() - Span::from_secs(10);
    let readings = [-20 * 365 * 86_400, 0, 30 * 86_400]
        .map(|secs| reading("rc-01/leak", number(7.0), now + Span::from_secs(secs)));
    house.append(readings.to_vec(), Vec::new()).await;
    let mut careless = house.sink(&victoria.url());
    assert_eq!(careless.step().await, Progress::Delivered { entries: 1, lines: 3 });
    assert_eq!(victoria.samples("residual_current_value").await.len(), 1, "it took one of the three");

    house.append(readings.to_vec(), Vec::new()).await;
    let mut sink = house.sink_with(&victoria.url(), |settings| {
        settings.retention = Some(Span::from_secs(3650 * 86_400));
        settings.future_max = Some(Span::from_secs(2 * 86_400));
    });
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 1 });
    assert_eq!(house.metrics.influx_refused.get(), 2);
    let reasons: Vec<String> =
        house.refused().await.iter().map(|one| one["reason_en"].as_str().unwrap().to_owned()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("more than 48 h in the future")), "{reasons:?}");
    assert!(
        reasons.iter().any(|reason| reason.contains("older than the store keeps, 87600 h")),
        "{reasons:?}"
    );
}

/// A box whose clock lies twenty years ahead: what it recorded before is not old for the store.
#[tokio::test]
async fn what_a_store_keeps_is_judged_by_its_own_clock() {
    let mut victoria = Victoria::new();
    victoria.start().await;
    let mut house = House::new();
    let now = Clock::system().now() - Span::from_secs(10);
    let wrong = now + Span::from_secs(20 * 365 * 86_400);
    house.clock = Clock::simulated(wrong);
    let readings = [(1.0, now - Span::from_secs(5 * 86_400)), (2.0, now), (3.0, wrong)]
        .map(|(value, at)| reading("rc-01/leak", number(value), at));
    house.append(readings.to_vec(), Vec::new()).await;
    let careful = |settings: &mut InfluxSettings| {
        settings.retention = Some(Span::from_secs(30 * 86_400));
        settings.future_max = Some(Span::from_secs(2 * 86_400));
    };
    // As long as it cannot be asked, nothing is given up.
    let url = victoria.url();
    victoria.stop().await;
    let mut sink = house.sink_with(&url, careful);
    assert!(matches!(sink.step().await, Progress::BackOff { .. }));
    assert_eq!((house.cursor().await, house.metrics.influx_refused.get()), (0, 0));
    victoria.start().await;
    let mut sink = house.sink_with(&url, careful);
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 2 });
    assert_eq!(victoria.samples("residual_current_value").await.len(), 2);
    assert_eq!(house.metrics.influx_refused.get(), 1);
    assert!(house.refused().await[0]["reason_en"].as_str().unwrap().contains("more than 48 h in the future"));
    // The clock is put right: what the store is believed to keep does not move with it.
    house.clock.step_simulated(Span::from_secs(-20 * 365 * 86_400));
    house.clock.take_step();
    house.append(vec![reading("rc-01/leak", number(4.0), now)], Vec::new()).await;
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 1 });
}

#[tokio::test]
async fn a_real_413_makes_the_posts_smaller_until_they_pass() {
    // Some 60 lines of 80 bytes.
    let mut influxd = Influxd::with_body_max(5000);
    influxd.start().await;
    influxd.create_database("site").await;
    let mut house = House::new();
    for first in 0..20 {
        house.append_numbers(first * 100, 100).await;
    }
    let mut sink = house.sink_with(&influxd.url(), |settings| {
        version_1(settings);
        settings.batch_lines_max = 2000;
    });
    drain(&mut sink).await;
    assert_eq!(values(&influxd).await.len(), 2000);
    assert_eq!((house.cursor().await, house.metrics.influx_refused.get()), (20, 0));
}
