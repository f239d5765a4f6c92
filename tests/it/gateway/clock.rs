//! A box without a clock, from its start to the chart on the screen.

use crate::support::doctor::find;
use crate::support::gateway::{BROKER, House, smoke, topic};
use crate::support::ports::until;
use fengsui::cli::doctor::{Grade, Patient, examine};
use fengsui::clock::Clock;
use fengsui::model::{Span, Timestamp};

/// 2026-12-31T23:00:00Z.
const EVE: Timestamp = Timestamp::from_secs(1_798_758_000);

#[tokio::test]
async fn a_box_that_boots_in_1970_watches_at_once_and_draws_its_charts_at_the_right_time_once_it_is_set() {
    let house = House::build(BROKER, &smoke("sd-1", "broker"));
    let gateway = house.open_at(Clock::simulated(EVE)).await;
    gateway.pen("sd-1").await.publish(&topic("sd-1"), r#"{"temperature":20}"#).await;
    gateway.last("sd-1/temperature", |last| last["value"] == 20.0).await;
    gateway.stop().await;

    let clock = Clock::simulated(Timestamp::from_secs(40));
    let gateway = house.open_at(clock.clone()).await;
    assert!(!clock.is_set() && clock.now() > EVE);
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"temperature":21,"smoke":1}"#).await;
    gateway.last("sd-1/temperature", |last| last["value"] == 21.0).await;
    gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
    gateway.hazard("gateway/clock", "gateway-fault", |fault| fault["phase"] == "active").await;
    assert_eq!(gateway.get("/api/v1/health").await["clock_believable"], false);

    let doctor = || examine(&Patient::Data(house.data()), clock.now());
    let (found, id) = (doctor(), "clock-unset");
    let unset = find(&found, id).unwrap();
    assert_eq!(unset.grade, Grade::Serious);
    assert!(
        unset.what.zh.contains("网关的时间未校准") && unset.means.zh.contains("校时后会自动更正"),
        "{unset:?}"
    );
    assert!(unset.todo.zh.contains("NTP"), "{unset:?}");

    let truth = EVE + Span::from_secs(7200);
    let chart = |from: Timestamp, to: Timestamp| {
        let (from, to) = (from.as_millis(), to.as_millis());
        format!("/api/v1/points/sd-1/temperature/series?from={from}&to={to}&buckets=10")
    };
    let counted = |chart: &serde_json::Value| {
        let rows = chart["rows"].as_array().unwrap().iter();
        rows.map(|row| row[2].as_u64().unwrap()).sum::<u64>()
    };
    let early = chart(EVE, EVE + Span::from_secs(3600));
    assert_eq!(counted(&gateway.get(&early).await), 2, "until then it stands behind what came before");
    clock.step_simulated(truth.since(Timestamp::from_secs(40)));
    until("the clock is set", || clock.is_set()).await;
    let late = chart(truth - Span::from_secs(60), truth + Span::from_secs(3600));
    gateway.wait("the sample under its right time", &late, |chart| counted(chart) == 1).await;
    assert_eq!(counted(&gateway.get(&early).await), 1, "and no longer under the other");
    gateway.hazard("gateway/clock", "gateway-fault", |fault| fault["phase"] == "returned").await;
    assert_eq!(gateway.get("/api/v1/health").await["clock_believable"], true);
    let log = gateway.get("/api/v1/log").await.to_string();
    assert!(log.contains("时间未校准") && log.contains("时间已校准：拨快 1 小时 59 分"), "{log}");
    let found = doctor();
    assert!(
        find(&found, "clock-unset").is_none() && find(&found, "clock-behind-journal").is_none(),
        "{found:#?}"
    );
    let set = find(&found, "clock-stepped").unwrap();
    assert!(set.what.zh.contains("时间已校准：拨快 1 小时 59 分"), "{set:?}");
    assert!(set.means.zh.contains("已按校准后的时间更正") && set.todo.zh.contains("时钟电池"), "{set:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_clock_that_somebody_steps_at_work_is_told_by_the_doctor_with_how_far() {
    let house = House::build(BROKER, &smoke("sd-1", "broker"));
    let clock = Clock::simulated(EVE);
    let gateway = house.open_at(clock.clone()).await;
    gateway.pen("sd-1").await.publish(&topic("sd-1"), r#"{"temperature":20}"#).await;
    let doctor = || examine(&Patient::Data(house.data()), clock.now());
    assert!(find(&doctor(), "clock-stepped").is_none());
    clock.step_simulated(Span::from_secs(3 * 3600));
    until("the step is taken over", || clock.now() > EVE + Span::from_secs(3 * 3600 - 60)).await;
    gateway.pen("sd-1").await.publish(&topic("sd-1"), r#"{"temperature":21}"#).await;
    let found = doctor();
    let stepped = find(&found, "clock-stepped").unwrap();
    assert_eq!(stepped.grade, Grade::Warning);
    assert!(
        stepped.what.zh.contains("时钟跳变 1 次") && stepped.what.zh.contains("拨快 3 小时"),
        "{stepped:?}"
    );
    assert!(stepped.means.zh.contains("限时报警不受影响"), "{stepped:?}");
    // Back again: what was recorded meanwhile lies ahead of the clock.
    clock.step_simulated(Span::from_secs(-3 * 3600));
    until("the step is taken over", || clock.now() < EVE + Span::from_secs(3600)).await;
    gateway.stop().await;
    let found = doctor();
    let stepped = find(&found, "clock-stepped").unwrap();
    assert!(
        stepped.what.zh.contains("时钟跳变 2 次") && stepped.what.zh.contains("拨慢 3 小时"),
        "{stepped:?}"
    );
}
