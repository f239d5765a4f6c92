//! The charts of one point.

use super::*;
use fengsui::model::{Span, Value as Measured};

#[tokio::test]
async fn a_chart_shows_states_limits_and_hazards() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let body = json(
        send(&room, ask("GET", "/api/v1/points/ef-01/residual_current/series?buckets=120", &cookie)).await,
    )
    .await;
    assert!(body["rows"].as_array().unwrap().len() > 50, "{body}");
    assert_eq!(body["limits"][0]["text"], "≥ 300 mA");
    assert_eq!(body["hazards"][0]["signal"], "supervisory");
    let path = "/api/v1/points/sd-203/smoke_state/series?buckets=60";
    let states = json(send(&room, ask("GET", path, &cookie)).await).await;
    let rows = states["rows"].as_array().unwrap();
    assert_eq!(states["states"][1]["code"], "alarm");
    assert!(rows.iter().any(|row| row[5] == 1.0), "the alarm is not on the chart: {rows:?}");
    // The fire is over and closed: its shade stays on the chart.
    let closed =
        json(send(&room, ask("GET", "/api/v1/points/hy-01/pressure/series?from=0", &cookie)).await).await;
    assert_eq!(closed["closed_hazards"][0]["closed"]["by"], "陈晓", "{closed}");
    assert_eq!(closed["hazards"].as_array().unwrap().len(), 0);
    let later = "/api/v1/points/hy-01/pressure/series";
    let later = json(send(&room, ask("GET", later, &cookie)).await).await;
    assert_eq!(later["closed_hazards"].as_array().unwrap().len(), 0, "it closed before this hour: {later}");
    for refused in ["/api/v1/points/ef-01/nothing/series", "/api/v1/points/EF/x/series"] {
        assert_eq!(send(&room, ask("GET", refused, &cookie)).await.status(), StatusCode::NOT_FOUND);
    }
    let backwards = "/api/v1/points/ef-01/residual_current/series?from=5&to=5";
    assert_eq!(send(&room, ask("GET", backwards, &cookie)).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_chart_never_loses_a_state() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let at = |ago: i64, state: &str| fengsui::model::Reading {
        point: fengsui::model::PointId::parse("sd-102/smoke_state").unwrap(),
        value: Measured::Code(state.into()),
        quality: fengsui::model::Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at: room.clock.now() - Span::from_secs(ago),
        late: false,
    };
    // The alarm lies between the others, and the device says a word that nobody knows.
    let states = ["normal", "alarm", "self-check", "normal"];
    let readings = (0i64..).zip(states).map(|(n, state)| at(600 - n, state)).collect();
    room.stage.append(readings, vec![], vec![]).await;
    while !room.series.step().await.unwrap().idle {}
    let path = "/api/v1/points/sd-102/smoke_state/series?buckets=1";
    let chart = json(send(&room, ask("GET", path, &cookie)).await).await;
    let row = &chart["rows"][0];
    assert_eq!(row[8], serde_json::json!([0, 1, 2]), "{chart}");
    assert_eq!((&row[4], &row[5], &row[7]), (&0.into(), &2.into(), &0.into()), "{chart}");
    let states: Vec<_> =
        chart["states"].as_array().unwrap().iter().map(|s| (&s["code"], &s["priority"])).collect();
    assert_eq!(states[1], (&"alarm".into(), &"red".into()));
    assert_eq!(states[2], (&"self-check".into(), &Value::Null));
}
