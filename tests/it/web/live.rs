//! The live stream: what changes on a screen without a reload.

use super::*;
use fengsui::model::{Change, Value as Measured};
use futures::StreamExt;

/// Reads whole events from a stream until one of that kind came.
pub(super) async fn read_until(body: &mut axum::body::BodyDataStream, kind: &str) -> Vec<String> {
    let mut seen = String::new();
    let reading = async {
        loop {
            if let Some(at) = seen.find(&format!("event: {kind}\n"))
                && seen[at..].contains("\n\n")
            {
                return seen.split("\n\n").filter(|event| !event.is_empty()).map(str::to_owned).collect();
            }
            let chunk = body.next().await.expect("the stream ended").unwrap();
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reading)
        .await
        .unwrap_or_else(|_| panic!("no {kind} in {kind:?}"))
}

#[tokio::test]
async fn a_live_stream_tells_of_a_fire_at_once() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let mut stream = send(&room, ask("GET", "/api/v1/live", &cookie)).await.into_body().into_data_stream();
    read_until(&mut stream, "beat").await;
    let plan = duty_room::plan();
    let fire =
        duty_room::hazard(&plan, 9, "sd-101/smoke_state", Measured::Code("alarm".into()), room.clock.now());
    let no = room.stage.append(vec![], vec![(Change::Raised, fire)], vec![]).await;
    let events = read_until(&mut stream, "change").await;
    let change = events.last().unwrap();
    assert!(
        change.contains(&format!("id: {no}")) && change.contains("9.sd-101.smoke_state.fire-smoke"),
        "{change}"
    );
    assert!(change.contains("\"sound\":\"fire\"") && change.contains("\"fire\":4"), "{change}");
    assert_eq!(room.metrics.web_streams.get(), 1);
    drop(stream);
    assert_eq!(room.metrics.web_streams.get(), 0);
}

#[tokio::test]
async fn a_browser_that_was_asleep_catches_up_from_where_it_stopped() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let mut request = ask("GET", "/api/v1/live?after=1", &cookie);
    request.headers_mut().insert("last-event-id", "3".parse().unwrap());
    let mut stream = send(&room, request).await.into_body().into_data_stream();
    let events = read_until(&mut stream, "change").await;
    let change = events.last().unwrap();
    assert!(change.contains("4.sd-204.smoke_state.fire-smoke"), "{change}");
    assert!(!change.contains("2.sd-203"), "it was told again what it knew: {change}");
}

#[tokio::test]
async fn a_browser_that_knows_another_journal_loads_itself_anew() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let response = send(&room, ask("GET", "/api/v1/live?after=999999", &cookie)).await;
    let mut stream = response.into_body().into_data_stream();
    read_until(&mut stream, "reload").await;
}

#[tokio::test]
async fn streams_are_bounded() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let mut open = Vec::new();
    for _ in 0..fengsui::web::live::STREAMS_MAX {
        let response = send(&room, ask("GET", "/api/v1/live", &cookie)).await;
        assert_eq!(response.status(), StatusCode::OK);
        open.push(response);
    }
    let one_more = send(&room, ask("GET", "/api/v1/live", &cookie)).await;
    assert_eq!(one_more.status(), StatusCode::SERVICE_UNAVAILABLE);
    open.pop();
    assert_eq!(send(&room, ask("GET", "/api/v1/live", &cookie)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_the_journal_could_not_take_is_marked_until_it_could() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let plan = duty_room::plan();
    let fire =
        duty_room::hazard(&plan, 7, "sd-101/smoke_state", Measured::Code("alarm".into()), room.clock.now());
    room.stage.publish_unrecorded(Change::Raised, fire.clone());
    reached(&room, *room.journal.head().borrow()).await;
    let unrecorded = |page: String| page.contains("mark unrecorded");
    assert!(unrecorded(text(send(&room, ask("GET", "/fragments/hazards", &cookie)).await).await));
    room.stage.append(vec![], vec![(Change::Raised, fire)], vec![]).await;
    let settled = async {
        while unrecorded(text(send(&room, ask("GET", "/fragments/hazards", &cookie)).await).await) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled).await.expect("it stayed marked as not recorded");
}
