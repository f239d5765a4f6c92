//! The live stream: what changes on a screen without a reload.

use super::*;
use fengsui::model::{Change, Number, Reading, Value as Measured};
use fengsui::web::board::Frame;
use futures::StreamExt;
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::time::Instant;

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
    assert!(change.contains("9.sd-101.smoke_state.fire-smoke"), "{change}");
    assert!(!change.contains("id: "), "a page would resume behind readings it was not told of: {change}");
    assert!(change.contains("\"sound\":\"fire\"") && change.contains("\"fire\":4"), "{change}");
    let whole = read_until(&mut stream, "change").await;
    assert!(whole.last().unwrap().contains(&format!("id: {no}")), "{whole:?}");
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

fn reading(room: &DutyRoom, point: &str, value: u32) -> Reading {
    let value = Measured::Number(Number::new(f64::from(value)).unwrap());
    Reading { value, ..duty_room::code(point, "normal", room.clock.now()) }
}

fn fire(room: &DutyRoom) -> (Change, fengsui::model::Hazard) {
    let alarm = Measured::Code("alarm".into());
    (Change::Raised, duty_room::hazard(&duty_room::plan(), 9, "sd-101/smoke_state", alarm, room.clock.now()))
}

async fn next(frames: &mut broadcast::Receiver<Arc<Frame>>) -> (Arc<Frame>, Value) {
    let frame =
        tokio::time::timeout(Duration::from_secs(30), frames.recv()).await.expect("no frame").unwrap();
    let json = serde_json::from_str(&frame.json).unwrap();
    (frame, json)
}

fn points(frame: &Value) -> Vec<&str> {
    frame["points"].as_array().unwrap().iter().map(|point| point["point"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_hazards_frame_comes_before_the_readings_of_its_batch() {
    let room = filled().await;
    let mut frames = room.board.subscribe();
    let readings = vec![reading(&room, "sd-203/smoke_state", 1), reading(&room, "sd-101/smoke_state", 2)];
    let no = room.stage.append(readings, vec![fire(&room)], vec![]).await;
    let (frame, json) = next(&mut frames).await;
    assert_eq!(json["hazards"][0]["id"], "9.sd-101.smoke_state.fire-smoke");
    assert_eq!(json["hazards"][0]["recorded"], true);
    assert_eq!((json["sound"].as_str(), json["lamps"]["fire"].as_u64()), (Some("fire"), Some(4)));
    assert_eq!(points(&json), ["sd-101/smoke_state"], "only the hazard's own point");
    assert!(!frame.whole);
    let (frame, json) = next(&mut frames).await;
    assert_eq!((frame.no, frame.whole), (no, true));
    let mut told = points(&json);
    told.sort_unstable();
    assert_eq!(told, ["sd-101/smoke_state", "sd-203/smoke_state"]);
    assert_eq!(json["hazards"], serde_json::json!([]));
}

#[tokio::test]
async fn a_resume_after_a_cut_loses_nothing_and_no_transition() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let mut stream = send(&room, ask("GET", "/api/v1/live", &cookie)).await.into_body().into_data_stream();
    read_until(&mut stream, "beat").await;
    let whole = room.stage.append(vec![reading(&room, "sd-203/smoke_state", 1)], vec![], vec![]).await;
    let seen = read_until(&mut stream, "change").await;
    assert!(seen.last().unwrap().contains(&format!("id: {whole}")), "{seen:?}");
    // The cut comes when the fire was told and the reading of its batch was not: within a quarter of a second of a
    // frame of readings, only the fire goes out.
    room.stage.append(vec![reading(&room, "sd-204/smoke_state", 2)], vec![fire(&room)], vec![]).await;
    let seen = read_until(&mut stream, "change").await;
    assert!(seen.last().unwrap().contains("9.sd-101") && !seen.last().unwrap().contains("id: "), "{seen:?}");
    drop(stream);
    let last = room.stage.append(vec![reading(&room, "sd-203/smoke_state", 3)], vec![], vec![]).await;
    reached(&room, last).await;
    let mut request = ask("GET", "/api/v1/live", &cookie);
    request.headers_mut().insert("last-event-id", whole.to_string().parse().unwrap());
    let mut stream = send(&room, request).await.into_body().into_data_stream();
    let events = read_until(&mut stream, "change").await;
    let change = events.last().unwrap();
    assert!(change.contains(&format!("id: {last}")) && change.contains("9.sd-101.smoke_state"), "{change}");
    let line = change.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let json: Value = serde_json::from_str(line).unwrap();
    let mut told: Vec<_> =
        json["points"].as_array().unwrap().iter().map(|p| (&p["point"], &p["value"])).collect();
    told.sort_by_key(|(point, _)| point.to_string());
    let told: Vec<_> =
        told.iter().map(|(point, value)| (point.as_str().unwrap(), value.as_f64().unwrap())).collect();
    assert_eq!(told, [("sd-203/smoke_state", 3.0), ("sd-204/smoke_state", 2.0)]);
}

#[tokio::test]
async fn a_resume_behind_entries_of_thousands_of_readings_tells_all_of_them() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let before = *room.journal.head().borrow();
    // More than the journal keeps in memory: they come from the disk, one at a time.
    let many = |point: &str| vec![reading(&room, point, 1); 20_000];
    room.stage.append(many("sd-203/smoke_state"), vec![], vec![]).await;
    room.stage.append(many("sd-204/smoke_state"), vec![], vec![]).await;
    room.stage.append(many("sd-203/smoke_state"), vec![], vec![]).await;
    let last =
        room.stage.append(vec![reading(&room, "sd-101/smoke_state", 2)], vec![fire(&room)], vec![]).await;
    reached(&room, last).await;
    let mut request = ask("GET", "/api/v1/live", &cookie);
    request.headers_mut().insert("last-event-id", before.to_string().parse().unwrap());
    let mut stream = send(&room, request).await.into_body().into_data_stream();
    let events = read_until(&mut stream, "change").await;
    let change = events.last().unwrap();
    assert!(change.contains(&format!("id: {last}")) && change.contains("9.sd-101.smoke_state"), "{change}");
    let line = change.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let json: Value = serde_json::from_str(line).unwrap();
    let mut told = points(&json);
    told.sort_unstable();
    assert_eq!(told, ["sd-101/smoke_state", "sd-203/smoke_state", "sd-204/smoke_state"]);
}

#[tokio::test]
async fn a_flood_of_readings_is_told_at_most_four_times_a_second() {
    const COMMITS: u32 = 60;
    let room = filled().await;
    let mut frames = room.board.subscribe();
    let begun = Instant::now();
    let flood = async {
        let mut no = 0;
        for commit in 1..=COMMITS {
            no = room.stage.append(vec![reading(&room, "sd-203/smoke_state", commit)], vec![], vec![]).await;
        }
        no
    };
    let told = async {
        let mut told = Vec::new();
        loop {
            let (frame, json) = next(&mut frames).await;
            assert!(frame.whole);
            assert_eq!(points(&json), ["sd-203/smoke_state"], "each point once");
            let value = json["points"][0]["value"].as_f64().unwrap();
            told.push(frame.no);
            if value >= f64::from(COMMITS) {
                return told;
            }
        }
    };
    let (no, told) = tokio::join!(flood, told);
    assert_eq!(told.last(), Some(&no), "the last value is told, with the newest number");
    let quarters = begun.elapsed().as_millis() / 250;
    assert!(told.len() as u128 <= quarters + 1, "{} frames in {quarters} quarters of a second", told.len());
}

#[tokio::test]
async fn readings_that_nobody_looks_at_are_not_gathered() {
    let room = filled().await;
    let frames = room.board.subscribe();
    drop(frames);
    let no =
        room.stage.append(vec![reading(&room, "sd-203/smoke_state", 1)], vec![fire(&room)], vec![]).await;
    reached(&room, no).await;
    let mut frames = room.board.subscribe();
    assert!(!room.board.owes(), "readings were gathered for nobody");
    assert!(frames.try_recv().is_err());
    let no = room.stage.append(vec![reading(&room, "sd-204/smoke_state", 2)], vec![], vec![]).await;
    let (frame, json) = next(&mut frames).await;
    assert_eq!((frame.no, points(&json)), (no, vec!["sd-204/smoke_state"]));
}
