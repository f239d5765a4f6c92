//! WEB · the duty room's screen: pages, live events, sign-in and the JSON API. Reads the journal and the series like
//! any other follower; the only way back in is the door.
//!
//! Invariant: a page makes no request to any other host, and a value that is not fresh and good never looks so.

pub mod access;
pub mod accounts;
pub mod api;
pub mod auth;
pub mod board;
pub mod capture;
pub mod chart;
pub mod connections;
pub mod health;
pub mod live;
pub mod log_text;
pub mod pages;
pub mod sessions;
pub mod texts;
mod adopt;
mod assets;
mod catalogue;
mod csv;
mod refusal;
mod rows;
mod quarantine;
mod strays;
mod upkeep;
mod wire;

use crate::adopt::Adopt;
use crate::capture::Tap;
use crate::clock::Clock;
use crate::commands::Door;
use crate::journal::{Journal, ReadError};
use crate::metrics::Metrics;
use crate::model::Plan;
use crate::series::Series;
use access::AccessLog;
use accounts::Gate;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::routing::{get, post};
use board::Board;
pub use health::{Backup, Health, LinkHealth, SinkHealth};
use sessions::Sessions;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

/// The largest request body: a sign-in form or a note of 500 characters is below 4 KiB.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// How long a request may take until its answer begins. The slowest is a chart of a year (well below a second) or a
/// sign-in behind seven others; a body that trickles in ends here. Live streams have begun long before.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How often gathered failures are looked through for the duty log; one line a minute needs no more.
const SETTLE_EVERY: Duration = Duration::from_secs(5);

/// Nothing from elsewhere, no inline script or style, no frame around us.
const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Everything the screen needs of the gateway.
pub struct Room {
    /// What happened.
    pub journal: Journal,
    /// What was measured.
    pub series: Series,
    /// What is watched.
    pub plan: watch::Receiver<Arc<Plan>>,
    /// The way in for commands.
    pub door: Door,
    /// The models that there are, and the way of a new device into the plan file.
    pub adopt: Adopt,
    /// The time.
    pub clock: Clock,
    /// The counters.
    pub metrics: Metrics,
    /// Where frames can be captured as they arrive.
    pub tap: Tap,
    /// What captures without a sign-in, for whoever may read the data directory; `None`: nothing does.
    pub token: Option<Arc<str>>,
    /// How the gateway is.
    pub health: watch::Receiver<Health>,
    /// More routes, behind the sign-in: the demonstration's controls.
    pub extra: Option<Router>,
    /// Whether the page shows the demonstration's panel.
    pub demo: bool,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room")
    }
}

/// What all requests share.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Inner>);

/// The inside of [`Shared`].
#[derive(Debug)]
pub struct Inner {
    room: Room,
    board: Arc<Board>,
    sessions: Sessions,
    gate: Gate,
    access: Arc<AccessLog>,
    streams: Arc<Semaphore>,
    /// Held while frames are decoded again: one press at a time.
    decoding: tokio::sync::Mutex<()>,
    cancel: CancellationToken,
    started_at: crate::model::Timestamp,
}

impl std::ops::Deref for Shared {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    fn plan(&self) -> Arc<Plan> {
        self.room.plan.borrow().clone()
    }
}

/// Why the duty room's screen stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// What stands could not be read from the journal.
    #[error("the duty room cannot read what stands from the journal")]
    Read(#[source] ReadError),
}

/// Serves the duty room until cancelled.
pub async fn serve(listener: TcpListener, room: Room, cancel: CancellationToken) -> Result<(), ServeError> {
    serve_with(listener, room, Router::new(), cancel).await
}

/// The same with routes for programs that know nothing of the duty room: no sign-in, no page's origin, limits of their own.
pub async fn serve_with(
    listener: TcpListener,
    room: Room,
    open: Router,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let board =
        Board::load(room.plan.clone(), &room.journal, &room.series).await.map_err(ServeError::Read)?;
    let board = Arc::new(board);
    let journal = room.journal.clone();
    let router = router(room, board.clone(), cancel.clone()).await.merge(open);
    tokio::join!(connections::serve(listener, router, cancel.clone()), board.follow(&journal, &cancel));
    Ok(())
}

/// All routes. `board` must be followed by the caller; [`serve`] does.
pub async fn router(mut room: Room, board: Arc<Board>, cancel: CancellationToken) -> Router {
    let extra = room.extra.take();
    let sessions = Sessions::load(&room.journal).await;
    let started_at = room.clock.now();
    let streams = Arc::new(Semaphore::new(live::STREAMS_MAX));
    let (gate, access) = (Gate::default(), Arc::new(AccessLog::default()));
    settle_access(&room, access.clone(), cancel.clone());
    let decoding = tokio::sync::Mutex::default();
    let shared = Shared(Arc::new(Inner {
        room,
        board,
        sessions,
        gate,
        access,
        streams,
        decoding,
        cancel,
        started_at,
    }));
    let behind_the_door = pages::routes()
        .merge(api_routes())
        .with_state(shared.clone())
        .merge(extra.unwrap_or_default())
        .route_layer(axum::middleware::from_fn_with_state(shared.clone(), auth::require));
    let open = Router::new()
        .route("/sign-in", get(pages::sign_in_page).post(auth::sign_in))
        .route("/sign-out", post(auth::sign_out))
        .route("/lang/{tag}", get(auth::language))
        .route("/assets/{*path}", get(assets::asset))
        .route("/api/v1/openapi.json", get(api::openapi))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        // Asks for a session or the token itself.
        .route("/api/v1/capture", get(capture::capture))
        .with_state(shared.clone());
    let header = |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    behind_the_door
        .merge(open)
        .merge(Router::new().route("/api/v1/session", post(api::sign_in)).with_state(shared))
        .fallback(refusal::nowhere)
        .layer(axum::middleware::from_fn(auth::same_origin))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, ANSWER_WITHIN))
        .layer(CatchPanicLayer::new())
        .layer(axum::middleware::from_fn(refusal::in_words))
        .layer(CompressionLayer::new())
        .layer(header(header::CONTENT_SECURITY_POLICY, POLICY))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::REFERRER_POLICY, "same-origin"))
        .layer(header(header::X_FRAME_OPTIONS, "DENY"))
        .layer(header(header::CACHE_CONTROL, "no-store"))
}

/// Writes gathered failures into the duty log, until cancelled.
fn settle_access(room: &Room, access: Arc<AccessLog>, cancel: CancellationToken) {
    let (door, metrics, clock) = (room.door.clone(), room.metrics.clone(), room.clock.clone());
    tokio::spawn(cancel.run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(SETTLE_EVERY).await;
            access.settle(&door, &metrics, clock.now());
        }
    }));
}

fn api_routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/sites", get(api::sites))
        .route("/api/v1/hazards", get(api::hazards))
        .route("/api/v1/hazards/{id}", get(api::hazard))
        .route("/api/v1/hazards/{id}/{verb}", post(api::command))
        .route("/api/v1/devices/{device}/commands/{command}", post(api::device_command))
        .route("/api/v1/points/{device}/{point}/series", get(chart::series))
        .route("/api/v1/log", get(api::log))
        .route("/api/v1/history", get(api::history))
        .route("/api/v1/strays", get(api::strays))
        .route("/api/v1/catalogue", get(catalogue::api))
        .route("/api/v1/quarantine", get(quarantine::groups))
        .route("/api/v1/quarantine/frames", get(quarantine::frames))
        .route("/api/v1/quarantine/decode", post(quarantine::decode))
        .route("/api/v1/health", get(api::health))
        .route("/api/v1/reload", post(api::reload))
        .route("/api/v1/session", get(api::session).delete(api::sign_out))
        .route("/api/v1/live", get(live::live))
}
