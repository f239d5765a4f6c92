//! Frames as files: captured as they arrive, and downloaded from the quarantine.

use super::*;
use crate::support::duty_room::TOKEN;
use fengsui::capture::TAPS_MAX;
use fengsui::model::{Body as Carried, DeviceId, Frame, LinkId, SourceIndex};
use futures::StreamExt;

fn frame(n: usize) -> Frame {
    Frame {
        source: SourceIndex(0),
        link: LinkId::parse("broker").unwrap(),
        body: Carried::Message { topic: format!("site/{n}").into(), payload: vec![b'x'; 10].into() },
        received_at: Timestamp::from_secs(1_800_000_000),
        retained: n == 0,
        delivery: None,
    }
}

fn with_token(path: &str, token: &str) -> Request<Body> {
    let mut request = ask("GET", path, "");
    request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    request
}

/// The lines of a file that ends by itself.
async fn lines(response: Response) -> Vec<Value> {
    let file = text(response).await;
    file.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_capture_has_the_frames_that_arrive_and_says_how_it_ended() {
    let room = filled().await;
    let response = send(&room, with_token("/api/v1/capture?frames=3", TOKEN)).await;
    assert_eq!(response.status(), StatusCode::OK);
    (0..5).for_each(|n| room.tap.offer(&frame(n), DeviceId::parse("sd-203").ok().as_ref()));
    let file = lines(response).await;
    assert_eq!(file.len(), 4);
    assert_eq!((&file[0]["topic"], &file[0]["device"]), (&"site/0".into(), &"sd-203".into()));
    assert_eq!((&file[0]["retained"], &file[1]["retained"]), (&true.into(), &Value::Null));
    assert_eq!(file[3], serde_json::json!({ "end": "frames", "frames": 3, "dropped": 0 }));
}

#[tokio::test]
async fn a_capture_is_bounded_in_bytes_and_in_time_and_ends_with_the_gateway() {
    let room = filled().await;
    let line = fengsui::capture::Captured::of(&frame(1), None).to_line().len() + 1;
    let small = send(&room, with_token(&format!("/api/v1/capture?bytes={}", 2 * line), TOKEN)).await;
    let short = send(&room, with_token("/api/v1/capture?seconds=0", TOKEN)).await;
    let long = send(&room, with_token("/api/v1/capture?seconds=3600", TOKEN)).await;
    (1..4).for_each(|n| room.tap.offer(&frame(n), None));
    let (small, short) = (lines(small).await, lines(short).await);
    assert_eq!((small.len(), &small[2]["end"]), (3, &"bytes".into()));
    assert_eq!(short, [serde_json::json!({ "end": "seconds", "frames": 0, "dropped": 0 })]);
    room.cancel.cancel();
    assert_eq!(lines(long).await.last().unwrap()["end"], "stopped");
}

#[tokio::test]
async fn nobody_captures_without_the_token_or_a_sign_in_and_captures_are_bounded() {
    let room = filled().await;
    for token in ["", "0123456789abcdee", "0123456789abcdef0"] {
        let refused = send(&room, with_token("/api/v1/capture", token)).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{token}");
    }
    // The token is for captures and for nothing else.
    assert_eq!(send(&room, with_token("/api/v1/strays", TOKEN)).await.status(), StatusCode::UNAUTHORIZED);
    let wrong = send(&room, with_token("/api/v1/capture?device=A%20B", TOKEN)).await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    let cookie = sign_in(&room).await;
    let mut open = Vec::new();
    for _ in 0..TAPS_MAX {
        let response = send(&room, ask("GET", "/api/v1/capture", &cookie)).await;
        assert_eq!(response.status(), StatusCode::OK);
        open.push(response.into_body().into_data_stream());
    }
    let one_more = send(&room, ask("GET", "/api/v1/capture", &cookie)).await;
    assert_eq!(one_more.status(), StatusCode::SERVICE_UNAVAILABLE);
    room.tap.offer(&frame(1), None);
    assert!(open[0].next().await.unwrap().is_ok());
    open.pop();
    assert_eq!(send(&room, ask("GET", "/api/v1/capture", &cookie)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_page_after_the_button_says_what_came_of_it() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let page = text(send(&room, ask("GET", "/strays?decoded=12&kept=3&readings=36", &cookie)).await).await;
    assert!(page.contains("<b>12</b>") && page.contains("<b>36</b>") && page.contains("<b>3</b>"), "{page}");
    let mut press = ask("POST", "/strays/decode", &cookie);
    let form = header::HeaderValue::from_static("application/x-www-form-urlencoded");
    press.headers_mut().insert(header::CONTENT_TYPE, form);
    let done = send(&room, press).await;
    assert_eq!(done.status(), StatusCode::SEE_OTHER, "nothing is kept: nothing to do");
    assert_eq!(done.headers()[header::LOCATION], "/strays?decoded=0&kept=0&readings=0");
}
