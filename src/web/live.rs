//! WEB · live: one stream of numbered events per open page. A page that lost its stream says the last number it saw
//! and is brought up to date from the journal.

use super::Shared;
use super::auth::Who;
use super::board::Frame;
use super::sessions::COOKIE;
use super::{api::Problem, auth};
use crate::model::Plan;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::{Interval, MissedTickBehavior};

/// Streams open at once: a township's screens and phones, with room. Each costs about 20 kB.
pub const STREAMS_MAX: usize = 64;

/// A page believes itself cut off after 10 s without a sign of life: two beats fit in.
pub const BEAT_EVERY: Duration = Duration::from_secs(4);

/// Journal entries read to bring a page up to date; one that slept for longer loads itself anew.
/// About a quarter of an hour at one commit a second, some 10 MB of JSON at the worst.
pub const CATCH_UP_MAX: u64 = 1000;

/// Where the page stopped.
#[derive(Debug, Deserialize)]
pub struct After {
    after: Option<u64>,
}

struct Stream {
    shared: Shared,
    token: String,
    frames: broadcast::Receiver<Arc<Frame>>,
    /// Everything up to this number was sent, or was in what was sent.
    sent: u64,
    waiting: VecDeque<Event>,
    beat: Interval,
    /// Changes when another plan is in force.
    plan: watch::Receiver<Arc<Plan>>,
    ending: bool,
    _permit: OwnedSemaphorePermit,
}

/// `GET /api/v1/live`: server-sent events. `change` has an id (the journal number), except a hazard's own, which goes ahead
/// of the readings committed with it; `beat`, `plan` and `reload` have none.
pub async fn live(
    State(shared): State<Shared>,
    Extension(_): Extension<Who>,
    Query(after): Query<After>,
    headers: HeaderMap,
) -> Response {
    let Ok(permit) = shared.streams.clone().try_acquire_owned() else {
        return Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_streams",
            "打开的监控页面太多，请关闭一些",
            "too many monitor pages are open; close some",
        )
        .into_response();
    };
    let last_seen =
        headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let last_seen = last_seen.or(after.after);
    // Subscribed before the snapshot is taken: what comes between is in both and is sent once.
    let frames = shared.board.subscribe();
    let snapshot = shared.board.snapshot();
    let mut waiting = VecDeque::from([beat(&shared)]);
    match last_seen {
        None => {}
        Some(no) if no == snapshot.no => {}
        Some(no) if no < snapshot.no && snapshot.no - no <= CATCH_UP_MAX => {
            match catch_up(&shared, no, snapshot.no).await {
                Some(frame) => waiting.push_back(change(&frame)),
                None => waiting.push_back(reload()),
            }
        }
        // Too old, or of another journal.
        Some(_) => waiting.push_back(reload()),
    }
    let mut beat = tokio::time::interval(BEAT_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    shared.room.metrics.web_streams.inc();
    let token = auth::cookie(&headers, COOKIE).unwrap_or_default().to_owned();
    let sent = snapshot.no;
    let mut plan = shared.room.plan.clone();
    plan.mark_unchanged();
    let stream = Stream { shared, token, frames, sent, waiting, beat, plan, ending: false, _permit: permit };
    let events = futures::stream::unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    // The beat is an event of ours, not a comment: a page cannot hear comments. nginx must not hold events back.
    ([("x-accel-buffering", "no")], Sse::new(events)).into_response()
}

impl Stream {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.ending {
                return None;
            }
            tokio::select! {
                biased;
                () = self.shared.cancel.cancelled() => return None,
                frame = self.frames.recv() => match frame {
                    // Not less than what was sent: a frame may mark anew what is shown.
                    Ok(frame) if frame.no >= self.sent => {
                        if frame.whole {
                            self.sent = frame.no;
                        }
                        self.waiting.push_back(change(&frame));
                    }
                    Ok(_) => {}
                    // Too slow: the stream ends, and the page resumes where it stopped.
                    Err(_) => return None,
                },
                Ok(()) = self.plan.changed() => self.waiting.push_back(replanned()),
                _ = self.beat.tick() => self.beat().await,
            }
        }
    }

    async fn beat(&mut self) {
        let room = &self.shared.room;
        // The look keeps the session in use. One that was signed out elsewhere stops the stream; one that is over
        // by age keeps its stream, so that no screen goes dark on its own.
        let signed_in = self.shared.sessions.find(&room.journal, &room.clock, &self.token).await.is_some();
        if !signed_in && self.shared.sessions.was_ended(&self.token) {
            self.waiting.push_back(Event::default().event("signed_out").data("{}"));
            self.ending = true;
        } else {
            self.waiting.push_back(beat(&self.shared));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.room.metrics.web_streams.dec();
    }
}

async fn catch_up(shared: &Shared, after: u64, until: u64) -> Option<Frame> {
    let (mut points, mut changes) = (HashSet::new(), Vec::new());
    let mut told = after;
    while told < until {
        let limit = usize::try_from(until - told).ok()?;
        let entries = shared.room.journal.read_after(told, limit).await.ok()?;
        // Trimmed in between: nobody can say what is missing.
        if entries.first().is_none_or(|first| first.no != told + 1) {
            return None;
        }
        for entry in entries.into_iter().take_while(|entry| entry.no <= until) {
            told = entry.no;
            // A page wants each point's newest value once, and the board has it.
            for reading in &entry.readings {
                if !points.contains(&reading.point) {
                    points.insert(reading.point.clone());
                }
            }
            changes.extend((!entry.transitions.is_empty()).then_some(entry));
        }
    }
    Some(Frame { no: until, ..shared.board.frame(&points, &changes, &shared.board.snapshot()) })
}

fn change(frame: &Frame) -> Event {
    let event = Event::default().event("change").data(&frame.json);
    if frame.whole { event.id(frame.no.to_string()) } else { event }
}

/// Another plan is in force: the page lays its devices out anew. It does not load itself anew, which would silence it
/// until somebody touches it.
fn replanned() -> Event {
    Event::default().event("plan").data("{}")
}

fn reload() -> Event {
    Event::default().event("reload").data("{}")
}

/// The sign of life, with the time of the gateway and what is wrong with the gateway itself.
fn beat(shared: &Shared) -> Event {
    let room = &shared.room;
    let troubles: Vec<_> = super::upkeep::troubles(shared).iter().map(super::wire::text).collect();
    let body = json!({
        "now": room.clock.now().as_millis(),
        "no": shared.board.snapshot().no,
        "troubles": troubles,
        "sound": shared.board.snapshot().sound().name(),
    });
    Event::default().event("beat").data(body.to_string())
}
