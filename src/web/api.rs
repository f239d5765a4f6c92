//! WEB · the JSON API that the page itself uses. Described in `openapi.json`; a test holds the two together.

use super::auth::{From, Who};
use super::sessions::Session;
use super::texts::Lang;
use super::{Shared, auth, wire};
use crate::commands::{Asker, ConfigState, Ordered, Refused, Reloaded, Wish};
use crate::model::{Command, CommandKind, HazardId, Refusal, Timestamp};
use axum::extract::{Extension, Json, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

/// Lines of the duty log on one page, and the most a client may ask for.
pub const PAGE_LINES: usize = 100;
/// See [`PAGE_LINES`]. 1000 lines are about 600 kB of JSON.
pub const PAGE_LINES_MAX: usize = 1000;

/// The longest note on a command, in characters: three lines of the duty log.
const NOTE_CHARS_MAX: usize = 500;

/// The description of this API.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Why a request was not answered as asked.
#[derive(Debug, Clone, Copy)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// A name for programs.
    pub error: &'static str,
    /// For people.
    pub zh: &'static str,
    /// The same in English.
    pub en: &'static str,
}

impl Problem {
    /// A problem.
    pub fn new(status: StatusCode, error: &'static str, zh: &'static str, en: &'static str) -> Self {
        Self { status, error, zh, en }
    }

    /// The journal or the series could not be read.
    pub fn unreadable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unreadable",
            "读取存储失败，请看运行状况页",
            "the store could not be read; see the health page",
        )
    }

    /// Nothing of that name.
    pub fn missing() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "没有找到", "there is nothing of that name")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "message_zh": self.zh, "message_en": self.en });
        // The words go along, for the page that a person gets instead.
        (self.status, Extension(self), Json(body)).into_response()
    }
}

pub(super) type Answer = Result<Json<Value>, Problem>;

/// Logs a failed read and says so to the person.
pub fn unreadable(error: impl std::fmt::Display) -> Problem {
    tracing::error!(error = %error, "a page could not read the store");
    Problem::unreadable()
}

/// `GET /api/v1/openapi.json`.
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// `GET /api/v1/sites`: the plan with the last value of every point.
pub async fn sites(State(shared): State<Shared>) -> Json<Value> {
    let plan = shared.plan();
    let snapshot = shared.board.snapshot();
    let sites: Vec<_> = plan
        .sites
        .iter()
        .map(|site| {
            let zones: Vec<_> = site
                .zones
                .iter()
                .map(|zone| {
                    let devices: Vec<_> = zone
                        .devices
                        .iter()
                        .map(|device| {
                            let points: Vec<_> = device
                                .points
                                .iter()
                                .map(|point| {
                                    json!({
                                        "id": point.id.as_str(), "name": wire::text(&point.name),
                                        "class": point.class.as_str(), "unit": point.unit(),
                                        "last": snapshot.last.get(&point.id).map(|last| wire::reading(&plan, last)),
                                    })
                                })
                                .collect();
                            json!({
                                "id": device.id.as_str(), "name": &*device.name, "place": &*device.place,
                                "model": wire::text(&device.model), "link": device.link.as_str(),
                                "silent_after_ms": device.silent_after.map(crate::model::Span::as_millis),
                                "commands": device.commands.iter()
                                    .map(|command| json!({ "name": &*command.name, "text": wire::text(&command.text) }))
                                    .collect::<Vec<_>>(),
                                "points": points,
                            })
                        })
                        .collect();
                    json!({ "id": zone.id.as_str(), "name": &*zone.name, "devices": devices })
                })
                .collect();
            let contacts: Vec<_> = site
                .contacts
                .iter()
                .map(|c| json!({ "role": &*c.role, "name": &*c.name, "phone": &*c.phone }))
                .collect();
            json!({
                "id": site.id.as_str(), "name": &*site.name, "address": &*site.address,
                "contacts": contacts, "zones": zones,
            })
        })
        .collect();
    Json(json!({ "no": snapshot.no, "now": shared.room.clock.now().as_millis(), "sites": sites }))
}

/// `GET /api/v1/hazards`: the open ones, the most urgent first.
pub async fn hazards(State(shared): State<Shared>) -> Json<Value> {
    let plan = shared.plan();
    let snapshot = shared.board.snapshot();
    let mut open: Vec<_> = snapshot.open.values().collect();
    open.sort_by_key(|open| super::board::urgency(&open.hazard));
    Json(json!({
        "no": snapshot.no,
        "now": shared.room.clock.now().as_millis(),
        "lamps": wire::lamps(&snapshot),
        "sound": snapshot.sound().name(),
        "hazards": open.iter().map(|open| wire::open(&plan, open)).collect::<Vec<_>>(),
    }))
}

/// `GET /api/v1/hazards/{id}`: one hazard, open or closed, with everything that happened to it.
pub async fn hazard(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let id = HazardId::from_text(&id);
    let plan = shared.plan();
    let history = shared.room.journal.history(&id).await.map_err(unreadable)?;
    let snapshot = shared.board.snapshot();
    let body = match (snapshot.open.get(&id), history.last()) {
        (Some(open), _) => wire::open(&plan, open),
        (None, Some(last)) => wire::hazard(&plan, &last.hazard).into(),
        (None, None) => return Err(Problem::missing()),
    };
    let history: Vec<_> = history.iter().map(|change| wire::transition(&plan, change)).collect();
    Ok(Json(json!({ "hazard": body, "history": history })))
}

/// What goes with a command.
#[derive(Debug, Deserialize, Default)]
pub struct Remark {
    #[serde(default)]
    note: String,
}

/// `POST /api/v1/hazards/{id}/{verb}`: acknowledge, silence or reset.
pub async fn command(
    State(shared): State<Shared>,
    Extension(Who(session)): Extension<Who>,
    Path((id, verb)): Path<(String, String)>,
    remark: Option<Json<Remark>>,
) -> Answer {
    let kind = CommandKind::ALL.into_iter().find(|kind| kind.name() == verb).ok_or_else(Problem::missing)?;
    let note = remark.map(|Json(remark)| remark.note).unwrap_or_default();
    if note.chars().count() > NOTE_CHARS_MAX {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "note_too_long",
            "备注不能超过 500 个字",
            "a note has at most 500 characters",
        ));
    }
    let command = Command {
        hazard: HazardId::from_text(&id),
        kind,
        by: session.person.as_str().into(),
        note: note.trim().into(),
    };
    let done = shared.room.door.ask(command).await.map_err(refused)?;
    Ok(Json(json!({ "no": done.no, "recorded": done.recorded })))
}

/// `POST /api/v1/devices/{device}/commands/{command}`: tells a device to do something that the plan allows, and waits for what
/// becomes of it. Everybody who is signed in may: there is one kind of account.
pub async fn device_command(
    State(shared): State<Shared>,
    Extension(Who(session)): Extension<Who>,
    Path((id, name)): Path<(String, String)>,
) -> Answer {
    let plan = shared.plan();
    let (.., device) = plan.device(&id).ok_or_else(Problem::missing)?;
    let command = device.commands.iter().find(|command| *command.name == *name);
    let command = command.ok_or_else(|| refused(Refused::NotAllowed))?;
    let by = session.person.as_str().into();
    let wish = Wish { device: device.id.clone(), command: command.name.clone(), by };
    let Ordered { fate, done } = shared.room.door.order(wish).await.map_err(refused)?;
    Ok(Json(json!({
        "fate": fate.name(), "text": wire::text(&fate.text()), "no": done.no, "recorded": done.recorded,
    })))
}

pub(super) fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::NotAllowed => Problem::new(
            StatusCode::FORBIDDEN,
            "not_allowed",
            "计划不允许对这台设备下达这个命令（plan.toml 的 allow_commands）",
            "the plan does not allow this command on this device (allow_commands in plan.toml)",
        ),
        Refused::Rule(_, refusal) => {
            let status =
                if refusal == Refusal::NoSuchHazard { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
            Problem::new(status, refusal.name(), refusal.zh(), refusal.en())
        }
        Refused::NotNow { zh, en } => Problem::new(StatusCode::CONFLICT, "not_now", zh, en),
        Refused::Busy => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "网关正忙或正在停止，请再试一次",
            "the gateway is busy or stopping; try again",
        ),
    }
}

/// Which page of a list.
#[derive(Debug, Deserialize)]
pub struct Before {
    /// Older than this: a journal number for the log, a time for closed hazards.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl Before {
    /// The limit, bounded.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE_LINES).clamp(1, PAGE_LINES_MAX)
    }

    /// The journal number.
    pub fn no(&self) -> Option<u64> {
        self.before.and_then(|before| u64::try_from(before).ok())
    }
}

/// `GET /api/v1/log`: the duty log, newest first.
pub async fn log(State(shared): State<Shared>, Query(page): Query<Before>) -> Answer {
    let lines = shared.room.journal.duty_log(page.no(), page.limit()).await.map_err(unreadable)?;
    let plan = shared.plan();
    Ok(Json(json!({ "lines": lines.iter().map(|line| wire::log_line(&plan, line)).collect::<Vec<_>>() })))
}

/// `GET /api/v1/history`: closed hazards, newest first.
pub async fn history(State(shared): State<Shared>, Query(page): Query<Before>) -> Answer {
    let before = page.before.map(Timestamp::from_millis);
    let closed = shared.room.journal.closed_hazards(before, page.limit()).await.map_err(unreadable)?;
    let plan = shared.plan();
    Ok(Json(json!({ "hazards": closed.iter().map(|h| wire::hazard(&plan, h)).collect::<Vec<_>>() })))
}

/// `GET /api/v1/strays`.
pub async fn strays(State(shared): State<Shared>) -> Answer {
    let strays = shared.room.journal.strays().await.map_err(unreadable)?;
    Ok(Json(json!({ "strays": strays.iter().map(wire::stray).collect::<Vec<_>>() })))
}

/// `GET /api/v1/health`.
pub async fn health(State(shared): State<Shared>) -> Json<Value> {
    let room = &shared.room;
    let health = room.health.borrow().clone();
    let journal = room.journal.health();
    let links: Vec<_> = health
        .links
        .iter()
        .map(|link| {
            json!({ "link": link.link.as_str(), "up": link.up, "since": link.since.as_millis(), "reason": wire::text(&link.reason) })
        })
        .collect();
    let sinks: Vec<_> = health
        .sinks
        .iter()
        .map(|sink| json!({ "name": &sink.name, "lag": sink.lag, "last_error": sink.last_error.as_ref().map(wire::text), "hours_left": sink.hours_left }))
        .collect();
    let kinds = super::upkeep::kinds(&journal.room.used);
    let kinds: Vec<_> =
        kinds.iter().map(|(name, bytes)| json!({ "name": wire::text(name), "bytes": bytes })).collect();
    let backup = health.backup.as_ref().map(|backup| {
        json!({ "at": backup.at.as_millis(), "ok": backup.error.is_none(), "file": &backup.file, "bytes": backup.bytes,
            "error": backup.error.as_ref().map(wire::text), "good_at": backup.good_at.map(Timestamp::as_millis) })
    });
    Json(json!({
        "now": room.clock.now().as_millis(),
        "clock_believable": room.clock.is_set(),
        "troubles": super::upkeep::troubles(&shared).iter().map(wire::text).collect::<Vec<_>>(),
        "journal": { "writable": journal.writable, "head": journal.head, "bytes": journal.bytes,
            "oldest": journal.oldest.map(Timestamp::as_millis), "last_error": journal.last_error, "reason": journal.reason.as_ref().map(wire::text),
            "ballast": journal.ballast, "bytes_max": journal.room.bytes_allowed(), "days_until_full": journal.room.days_until_full(),
            "kinds": kinds, "set_aside": health.set_aside.iter().map(|(name, _)| name).collect::<Vec<_>>() },
        "audit": journal.audit.to_string(),
        "backup": backup, "links": links, "sinks": sinks, "config": config(&health.config),
    }))
}

/// `POST /api/v1/reload`: the configuration is read again. 200: what is in the files is in force; 422: it is not.
pub async fn reload(
    State(shared): State<Shared>,
    Extension(Who(session)): Extension<Who>,
) -> Result<Response, Problem> {
    let Reloaded { changes, state } = read_again(&shared, &session).await?;
    let refused = state.refused.is_some();
    let mut body = json!({ "changes": changes.as_ref().map(wire::text), "config": config(&state) });
    if !refused {
        return Ok(Json(body).into_response());
    }
    body["error"] = "wrong_files".into();
    body["message_zh"] = Lang::Zh.texts().config_refused.into();
    body["message_en"] = Lang::En.texts().config_refused.into();
    Ok((StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response())
}

/// Asks for it in a person's name.
pub(super) async fn read_again(shared: &Shared, session: &Session) -> Result<Reloaded, Problem> {
    let Some(bell) = shared.room.door.bell() else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "no_files",
            "这个网关的配置不是从文件读取的",
            "the configuration of this gateway came from no file",
        ));
    };
    let by =
        Asker::Person { person: session.person.as_str().into(), account: session.account.as_str().into() };
    bell.ring(by).await.map_err(refused)
}

fn config(state: &ConfigState) -> Value {
    let misfit = state.refused.as_ref().map(|misfit| {
        json!({ "at": misfit.at.as_millis(), "errors": misfit.errors, "first": &misfit.first, "report": &misfit.report })
    });
    json!({ "taken_at": state.taken_at.map(Timestamp::as_millis), "refused": misfit, "next_start": &state.next_start })
}

/// `GET /api/v1/session`: who is signed in.
pub async fn session(Extension(Who(session)): Extension<Who>) -> Json<Value> {
    Json(json!({ "account": session.account, "person": session.person, "phone": session.phone }))
}

/// `POST /api/v1/session`: signs in.
pub async fn sign_in(
    State(shared): State<Shared>,
    from: From,
    Json(given): Json<auth::Credentials>,
) -> Result<Response, Problem> {
    let cookie = auth::begin(&shared, &given, &from).await?;
    Ok(([(header::SET_COOKIE, cookie)], StatusCode::NO_CONTENT).into_response())
}

/// `DELETE /api/v1/session`: signs out.
pub async fn sign_out(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let cookie = auth::end(&shared, &headers).await;
    ([(header::SET_COOKIE, cookie)], StatusCode::NO_CONTENT).into_response()
}
