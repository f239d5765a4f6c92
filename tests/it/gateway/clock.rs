//! A box without a clock, from its start to the chart on the screen.

use crate::support::doctor::find;
use crate::support::gateway::{BROKER, House, smoke, topic};
use crate::support::ports::{soon, until};
use crate::support::victoria::Victoria;
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
    let by = Span::from_secs(3 * 3600 + 30);
    clock.step_simulated(by);
    until("the step is taken over", || clock.now() > EVE + Span::from_secs(3 * 3600)).await;
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
    clock.step_simulated(Span::from_millis(-by.as_millis()));
    until("the step is taken over", || clock.now() < EVE + Span::from_secs(3600)).await;
    gateway.stop().await;
    let found = doctor();
    let stepped = find(&found, "clock-stepped").unwrap();
    assert!(
        stepped.what.zh.contains("时钟跳变 2 次") && stepped.what.zh.contains("拨慢 3 小时"),
        "{stepped:?}"
    );
}

/// The store keeps what it gets: what came under a wrong time would stay there.
#[tokio::test]
async fn a_box_that_boots_in_1970_delivers_nothing_before_it_is_set_and_then_everything_at_its_right_time() {
    let mut store = Victoria::new();
    store.start().await;
    let influx = format!("[[influx]]\nurl = \"{}\"\norg = \"o\"\nbucket = \"b\"\n", store.url());
    let house = House::build(&format!("{BROKER}{influx}"), &smoke("sd-1", "broker"));
    let temperatures = async || -> Vec<(Timestamp, f64)> {
        let samples = store.samples("heat_temperature_value").await.into_iter();
        samples.map(|(time, value, _)| (Timestamp::from_millis(time), value)).collect()
    };
    let wait_for = async |count: usize| {
        soon("the store has them", async { while temperatures().await.len() < count {} }).await;
    };
    // The store takes nothing that is far ahead of its own clock; who is signed in stays so for twelve hours.
    let (truth, hour) = (Clock::system().now(), Span::from_secs(3600));
    let eve = truth - Span::from_secs(10 * 3600);
    let gateway = house.open_at(Clock::simulated(eve)).await;
    gateway.pen("sd-1").await.publish(&topic("sd-1"), r#"{"temperature":20}"#).await;
    wait_for(1).await;
    gateway.stop().await;

    let clock = Clock::simulated(Timestamp::from_secs(40));
    let gateway = house.open_at(clock.clone()).await;
    let mut pen = gateway.pen("sd-1").await;
    for n in 21..=25 {
        pen.publish(&topic("sd-1"), &format!(r#"{{"temperature":{n}}}"#)).await;
    }
    pen.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
    // By its own count the sink has sent all that it may have.
    let caught_up = async || {
        let metrics = gateway.page("/metrics").await;
        metrics.lines().any(|line| line.starts_with("fengsui_sink_lag{") && line.ends_with(" 0"))
    };
    soon("the sink has caught up", async { while !caught_up().await {} }).await;
    assert_eq!(temperatures().await.len(), 1, "nothing while its time is a guess");

    clock.step_simulated(truth.since(Timestamp::from_secs(40)));
    until("the clock is set", || clock.is_set()).await;
    pen.publish(&topic("sd-1"), r#"{"temperature":26}"#).await;
    wait_for(7).await;
    soon("the sink has caught up", async { while !caught_up().await {} }).await;
    gateway.stop().await;
    let (first, rest) = (temperatures().await[0], temperatures().await.split_off(1));
    assert!(first.1 == 20.0 && first.0 < eve + hour, "{first:?}");
    assert!(rest.iter().all(|(time, _)| (truth - hour..truth + hour).contains(time)), "{truth}: {rest:?}");
    let mut values: Vec<f64> = rest.iter().map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, [21.0, 22.0, 23.0, 24.0, 25.0, 26.0], "each once");
    let fires = store.samples("hazard_raised").await;
    let fires: Vec<_> = fires.iter().filter(|(.., labels)| labels["rule"] == "smoke-fire").collect();
    assert_eq!(fires.len(), 1, "{fires:?}");
    let at = Timestamp::from_millis(fires[0].0);
    assert!(
        (truth - hour..truth + hour).contains(&at),
        "the fire is in the store at {at}, it was at {truth}"
    );
}
