//! WEB · 隔离: the frames that could not be read: how many, whole as a file, and decoded again once their profile or plan
//! was mended.

use super::Shared;
use super::api::{Answer, Problem, refused, unreadable};
use super::auth::Who;
use crate::adopt::Sender;
use crate::capture::{Captured, End};
use crate::commands::Refused;
use crate::journal::{QuarantineGroup, StrayKind};
use crate::model::{DecodedAgain, DeviceId, Quarantined, Wanted};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Form, Json, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;

/// Lots of frames decoded for one press: at 256 a lot more than the quarantine holds, so that frames which arrive meanwhile
/// do not make it endless.
const LOTS_MAX: usize = 64;

/// Whose frames: of a planned device, or of one key; neither: all.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Whose {
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    key: Option<String>,
    /// Of everybody whose profile or plan changed meanwhile.
    #[serde(default)]
    renewed: Option<String>,
}

impl Whose {
    fn wanted(self) -> Result<Wanted, Problem> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let device = given(self.device).map(|device| DeviceId::parse(&device)).transpose();
        Ok(Wanted { device: device.map_err(|_| Problem::missing())?, key: given(self.key).map(Into::into) })
    }
}

/// `GET /api/v1/quarantine`: how many frames of whom.
pub(super) async fn groups(State(shared): State<Shared>) -> Answer {
    let groups = shared.room.journal.quarantine().await.map_err(unreadable)?;
    Ok(Json(json!({ "senders": groups.iter().map(group).collect::<Vec<_>>() })))
}

fn group(group: &QuarantineGroup) -> serde_json::Value {
    json!({
        "kind": group.kind.name(), "device": group.device.as_ref().map(DeviceId::as_str), "key": &group.key,
        "frames": group.frames, "bytes": group.bytes,
    })
}

/// `GET /api/v1/quarantine/frames`: the frames as a capture file.
pub(super) async fn frames(
    State(shared): State<Shared>,
    Query(whose): Query<Whose>,
) -> Result<Response, Problem> {
    let wanted = whose.wanted()?;
    let name = wanted.device.as_ref().map_or("all", |device| device.as_str());
    let attachment = format!("attachment; filename=\"quarantine-{name}.jsonl\"");
    // The first lot is read before the answer begins, so that a journal that cannot be read is told as such.
    let first = shared.room.journal.quarantined(&wanted, 0).await.map_err(unreadable)?;
    let download = Download { shared, wanted, lot: Some(first), frames: 0 };
    let lines = futures::stream::unfold(download, |mut download| async move {
        let lines = download.next().await?;
        Some((Ok::<_, Infallible>(lines), download))
    });
    let head = [
        (header::CONTENT_TYPE, "application/x-ndjson; charset=utf-8"),
        (header::CONTENT_DISPOSITION, &attachment),
    ];
    Ok((head, Body::from_stream(lines)).into_response())
}

/// A file that is being written; after its last line `lot` is `None`.
struct Download {
    shared: Shared,
    wanted: Wanted,
    lot: Option<Vec<Quarantined>>,
    frames: u64,
}

impl Download {
    async fn next(&mut self) -> Option<Bytes> {
        let lot = self.lot.take()?;
        let Some(last) = lot.last().map(|frame| frame.id) else {
            let end = End { end: "complete".into(), frames: self.frames, dropped: 0 };
            return Some((end.to_line() + "\n").into());
        };
        self.frames += lot.len() as u64;
        let text: String = lot.iter().map(|frame| Captured::from(frame).to_line() + "\n").collect();
        // A file without its last line is not whole, and `replay` says so.
        self.lot = self.shared.room.journal.quarantined(&self.wanted, last).await.map_err(unreadable).ok();
        Some(text.into())
    }
}

/// `POST /api/v1/quarantine/decode`.
pub(super) async fn decode(
    State(shared): State<Shared>,
    Extension(Who(session)): Extension<Who>,
    whose: Option<Json<Whose>>,
) -> Answer {
    let wanted = whose.map(|Json(whose)| whose).unwrap_or_default().wanted()?;
    let told = decode_again(&shared, wanted, &session.person).await?;
    Ok(Json(json!({ "decoded": told.decoded, "kept": told.kept, "readings": told.readings })))
}

/// `POST /strays/decode`: the button of the page.
pub(super) async fn decode_form(
    State(shared): State<Shared>,
    Extension(Who(session)): Extension<Who>,
    Form(whose): Form<Whose>,
) -> Result<Response, Problem> {
    let mut told = DecodedAgain::default();
    if whose.renewed.is_some() {
        let groups = shared.room.journal.quarantine().await.map_err(unreadable)?;
        for wanted in waiting(&shared, &groups).whose {
            told += decode_again(&shared, wanted, &session.person).await?;
        }
    } else {
        told = decode_again(&shared, whose.wanted()?, &session.person).await?;
    }
    let DecodedAgain { decoded, kept, readings } = told;
    Ok(Redirect::to(&format!("/strays?decoded={decoded}&kept={kept}&readings={readings}")).into_response())
}

/// The most senders that one press of the banner is for: a page of them. The banner counts the rest anew.
const RENEWED_MAX: usize = 64;

/// Frames of which more may be read today than when they came.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// How many.
    pub(super) frames: u64,
    /// Of whom.
    pub(super) whose: Vec<Wanted>,
}

/// Frames of devices whose profile changed while the gateway ran, and of senders that are in the plan by now.
pub(super) fn waiting(shared: &Shared, groups: &[QuarantineGroup]) -> Waiting {
    let (renewed, in_force) = (shared.room.adopt.renewed(), shared.room.adopt.now());
    let mut waiting = Waiting::default();
    for group in groups {
        let wanted = match &group.device {
            Some(device) if renewed.contains(device) => Wanted { device: Some(device.clone()), key: None },
            None if group.kind == StrayKind::Unknown
                && Sender::of(&group.key).is_some_and(|sender| in_force.planned(&sender).is_some()) =>
            {
                Wanted { device: None, key: Some(group.key.as_str().into()) }
            }
            _ => continue,
        };
        let known = waiting.whose.contains(&wanted);
        if known || waiting.whose.len() < RENEWED_MAX {
            waiting.frames += group.frames;
        }
        if !known && waiting.whose.len() < RENEWED_MAX {
            waiting.whose.push(wanted);
        }
    }
    waiting
}

/// One press at a time: the frames of a lot are read only when the journal has what came of the lot before, so that none is
/// decoded twice. In a task of its own: it goes on when the browser has gone away.
async fn decode_again(shared: &Shared, wanted: Wanted, by: &str) -> Result<DecodedAgain, Problem> {
    let what = match (&wanted.device, &wanted.key) {
        (Some(device), _) => {
            let named = shared.plan().device(device.as_str()).map(|(.., planned)| planned.name.to_string());
            named.unwrap_or_else(|| device.to_string())
        }
        (None, Some(key)) => key.to_string(),
        (None, None) => "全部设备".to_owned(),
    };
    let (shared, by) = (shared.clone(), by.to_owned());
    let work = tokio::spawn(async move {
        let _alone = shared.decoding.lock().await;
        let (mut told, mut after) = (DecodedAgain::default(), 0);
        for _ in 0..LOTS_MAX {
            let frames = shared.room.journal.quarantined(&wanted, after).await.map_err(unreadable)?;
            let Some(last) = frames.last() else { break };
            after = last.id;
            told += shared.room.door.decode_again(frames, &by, &what).await.map_err(refused)?;
        }
        if wanted.key.is_none() {
            shared.room.adopt.decoded(wanted.device.as_ref());
        }
        Ok(told)
    });
    match work.await {
        Ok(told) => told,
        Err(panicked) => {
            tracing::error!(error = %panicked, "decoding again ended by a defect");
            Err(refused(Refused::Busy))
        }
    }
}

/// What a page shows after the button was pressed.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    pub(super) decoded: Option<usize>,
    #[serde(default)]
    pub(super) kept: usize,
    #[serde(default)]
    pub(super) readings: usize,
}

/// Too many captures are open.
pub(super) fn too_many() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_captures",
        "同时进行的抓包太多，请先结束一个",
        "too many captures are under way; end one first",
    )
}
