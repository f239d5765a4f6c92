//! A whole gateway with two stores that come and go: every acknowledged reading is in both exactly once.

use crate::support::doctor::Told;
use crate::support::gateway::{BROKER, House, smoke, topic};
use crate::support::influxd::{ADMIN, Influxd};
use crate::support::ports::soon;
use crate::support::victoria::Victoria;
use fengsui::cli::doctor::{Patient, examine};
use fengsui::clock::Clock;
use fengsui::model::Span;
use std::time::Duration;

#[tokio::test]
async fn readings_and_a_hazard_are_in_influxdb_1_and_victoria_metrics_once_although_both_went_away() {
    let (mut influxd, mut victoria) = (Influxd::with_sign_in(), Victoria::new());
    influxd.start().await;
    influxd.create_database("site").await;
    victoria.start().await;
    let stores = format!(
        "name = \"box-7\"\n{BROKER}\n[[influx]]\nname = \"one\"\nversion = 1\nurl = \"{}\"\ndatabase = \"site\"\n\
         user = \"{}\"\npassword_file = \"password\"\n[[influx]]\nname = \"two\"\nurl = \"{}\"\norg = \"o\"\nbucket = \"b\"\n",
        influxd.url(),
        ADMIN.0,
        victoria.url()
    );
    // The name belongs to the top of the file.
    let (name, rest) = stores.split_once('\n').unwrap();
    let house = House::build(rest, &(0..10).map(|n| smoke(&format!("sd-{n}"), "broker")).collect::<String>())
        .with_a_known_page();
    let written = std::fs::read_to_string(house.config()).unwrap();
    std::fs::write(house.config(), format!("{name}\n{written}")).unwrap();
    std::fs::write(house.config().with_file_name("password"), ADMIN.1).unwrap();
    let mut gateway = house.launch().await;
    let mut sent: u32 = 0;
    let mut pen = gateway.pen("sd-1").await;
    let publish = async |pen: &mut crate::support::pen::Pen, sent: &mut u32, count: u32| {
        pen.burst(*sent + 1..=*sent + count).await;
        *sent += count;
    };
    publish(&mut pen, &mut sent, 100).await;
    influxd.stop().await;
    publish(&mut pen, &mut sent, 50).await;
    victoria.stop().await;
    publish(&mut pen, &mut sent, 50).await;
    pen.publish(&topic("sd-1"), r#"{"smoke":true}"#).await;
    gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
    soon("both are missed on the health page", async {
        while gateway.page("/health").await.matches("连不上 http").count() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let told = Told::to_a_person(&house).await;
    for name in ["influx:one", "influx:two"] {
        let words = ["转发", name, "现在送不出去", "记录都在本机排队，连上后会补传", "检查对方的地址"];
        told.says("follower-failing", "warning", &words);
    }
    told.nothing_but(&["follower-failing"]);
    // An hour later it would be told for how long.
    let later = Clock::system().now() + Span::from_secs(3600);
    let found = examine(&Patient::Config(house.config()), later);
    let behind =
        found.iter().filter(|finding| finding.id == "follower-behind").map(|finding| &finding.what.zh);
    assert_eq!(behind.filter(|zh| zh.contains("没有转出") && zh.contains("分钟")).count(), 2, "{found:#?}");
    gateway.kill();
    influxd.start().await;
    victoria.start().await;
    gateway = house.launch().await;
    let mut pen = gateway.pen("sd-1").await;
    publish(&mut pen, &mut sent, 50).await;

    let expected: Vec<f64> = (1..=sent).map(|n| f64::from(n) / 10.0).collect();
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    soon("InfluxDB has them all", async {
        while influxd.count("site", "heat_temperature", "value").await < u64::from(sent) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    soon("VictoriaMetrics has them all", async {
        while victoria.samples("heat_temperature_value").await.len() < expected.len() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    // A store that came back late is still told as away until the next post to it.
    let all_well = |health: &serde_json::Value| {
        health["sinks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|sink| sink["last_error"].is_null() && sink["lag"] == 0)
    };
    gateway.wait("every store is caught up with", "/api/v1/health", all_well).await;
    Told::to_a_person(&house).await.nothing_but(&["unclean-stop"]);
    gateway.stop().await;
    let told = Told::to_a_person(&house).await;
    told.says("follower", "good", &["转发 influx:one 跟得上"]);
    told.nothing_but(&["not-running"]);
    let rows = influxd.rows("site", "SELECT value FROM heat_temperature WHERE site = 'sunshine'").await;
    assert_eq!(sorted(rows.iter().map(|row| row[1].as_f64().unwrap()).collect()), expected);
    let samples = victoria.samples("heat_temperature_value").await;
    assert_eq!(sorted(samples.iter().map(|(_, value, _)| *value).collect()), expected);
    for (raised, count) in [
        (
            influxd.rows("site", "SELECT sum(raised) FROM hazard WHERE \"rule\" = 'smoke-fire'").await[0][1]
                .as_f64(),
            1.0,
        ),
        (
            Some(
                victoria
                    .samples("hazard_raised")
                    .await
                    .iter()
                    .filter(|(.., tags)| tags["rule"] == "smoke-fire")
                    .map(|(_, value, _)| value)
                    .sum(),
            ),
            1.0,
        ),
    ] {
        assert_eq!(raised, Some(count));
    }
    let own =
        influxd.rows("site", "SELECT last(frames_received), gateway FROM gateway GROUP BY gateway").await;
    assert!(own[0][1].as_f64().is_some(), "{own:?}");
    assert!(!victoria.samples("gateway_readings").await.is_empty());
}

#[tokio::test]
async fn a_store_that_was_never_reached_is_told_by_the_doctor_as_one_that_went_away_is() {
    let nobody = crate::support::ports::free_port();
    let store = format!(
        "{BROKER}[[influx]]\nname = \"two\"\nurl = \"http://127.0.0.1:{nobody}\"\norg = \"o\"\nbucket = \"b\"\n"
    );
    let house = House::build(&store, &smoke("sd-1", "broker")).with_a_known_page();
    let gateway = house.launch().await;
    gateway.pen("sd-1").await.publish(&topic("sd-1"), r#"{"smoke":false}"#).await;
    soon("it is missed on the health page", async {
        while !gateway.page("/health").await.contains("连不上 http") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let told = Told::to_a_person(&house).await;
    told.says("follower-failing", "warning", &["转发", "influx:two", "现在送不出去"]);
    gateway.stop().await;
}
