//! WEB · the pages. Each is a template over rows; what a person typed or a device sent is escaped by the templates.

use super::api::{Before, Problem, unreadable};
use super::auth::{InLang, Who};
use super::rows::{self, Cards, HazardRow, Lamp, Moment, Place, PointRow, SiteRow};
use super::sessions::Session;
use super::texts::{Lang, Texts};
use super::{Shared, wire};
use crate::journal::{LogLine, Logged, NoteKind};
use crate::model::{Cause, HazardId, Plan, PointId, Span, Timestamp};
use askama::Template;
use axum::Router;
use axum::extract::{Extension, FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;

/// The pages behind the sign-in.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(monitor))
        .route("/fragments/hazards", get(hazards_fragment))
        .route("/points/{device}/{point}", get(point))
        .route("/log", get(log))
        .route("/log.csv", get(super::csv::log))
        .route("/history", get(history))
        .route("/hazards/{id}", get(hazard))
        .route("/strays", get(super::strays::page).post(super::strays::forget))
        .route("/strays/decode", axum::routing::post(super::quarantine::decode_form))
        .route("/adopt", get(super::adopt::page).post(super::adopt::adopt))
        .route("/devices/{device}", get(super::adopt::device))
        .route("/catalogue", get(super::catalogue::page))
        .route("/catalogue/{vendor}/{model}", get(super::catalogue::model))
        .route("/health", get(super::upkeep::page))
        .route("/health/reload", post(super::upkeep::reload))
}

/// What every page shows around its own part.
pub(super) struct Chrome {
    pub(super) t: &'static Texts,
    pub(super) lang: Lang,
    pub(super) session: Session,
    pub(super) here: String,
    pub(super) now: i64,
    pub(super) no: u64,
    pub(super) lamps: Vec<Lamp>,
    pub(super) sound: &'static str,
    /// What is wrong with the gateway itself; empty: nothing.
    pub(super) troubles: String,
    pub(super) demo: bool,
}

/// What a handler of a page needs.
pub(super) struct Visit {
    shared: Shared,
    plan: Arc<Plan>,
    board: Arc<super::board::Snapshot>,
    now: Timestamp,
    lang: Lang,
    session: Session,
    here: String,
}

impl FromRequestParts<Shared> for Visit {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Response> {
        let Ok(InLang(lang)) = InLang::from_request_parts(parts, shared).await;
        let Extension(Who(session)) =
            Extension::from_request_parts(parts, shared).await.map_err(IntoResponse::into_response)?;
        Ok(Self {
            plan: shared.plan(),
            board: shared.board.snapshot(),
            now: shared.room.clock.now(),
            here: parts.uri.path().to_owned(),
            shared: shared.clone(),
            lang,
            session,
        })
    }
}

impl Visit {
    pub(super) fn lang(&self) -> Lang {
        self.lang
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn chrome(&self) -> Chrome {
        Chrome {
            t: self.lang.texts(),
            lang: self.lang,
            session: self.session.clone(),
            here: self.here.clone(),
            now: self.now.as_millis(),
            no: self.board.no,
            lamps: rows::lamps(&self.board, self.lang),
            sound: self.board.sound().name(),
            troubles: self.troubles(),
            demo: self.shared.room.demo,
        }
    }

    fn troubles(&self) -> String {
        let troubles = super::upkeep::troubles(&self.shared);
        troubles.iter().map(|text| self.lang.pick(text)).collect::<Vec<_>>().join(" · ")
    }

    fn cards(&self) -> Cards {
        rows::cards(&self.plan, &self.board, self.now, self.lang)
    }

    /// There is nothing of that name, or no longer.
    pub(super) fn missing(&self, why: &'static str) -> Response {
        let page = Message { c: self.chrome(), title: self.lang.texts().not_found, why };
        (StatusCode::NOT_FOUND, render(&page)).into_response()
    }

    pub(super) fn broken(&self, problem: &Problem) -> Response {
        let t = self.lang.texts();
        let page = Message { c: self.chrome(), title: t.broken, why: t.broken_why };
        (problem.status, render(&page)).into_response()
    }
}

pub(super) fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    t: &'static Texts,
    lang: Lang,
    failure: &'a str,
    person: &'a str,
}

/// The sign-in page, with why the last attempt failed.
pub fn sign_in(lang: Lang, problem: Option<&Problem>, person: &str) -> Response {
    let failure = problem.map_or("", |problem| if lang == Lang::Zh { problem.zh } else { problem.en });
    render(&SignIn { t: lang.texts(), lang, failure, person })
}

/// `GET /sign-in`.
pub async fn sign_in_page(InLang(lang): InLang) -> Response {
    sign_in(lang, None, "")
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    c: Chrome,
    title: &'static str,
    why: &'static str,
}

#[derive(Template)]
#[template(path = "monitor.html")]
struct Monitor {
    c: Chrome,
    cards: Cards,
    sites: Vec<SiteRow>,
}

async fn monitor(visit: Visit) -> Response {
    let sites = rows::sites(&visit.plan, &visit.board, visit.now, visit.lang);
    render(&Monitor { c: visit.chrome(), cards: visit.cards(), sites })
}

#[derive(Template)]
#[template(path = "hazards.html")]
struct HazardsFragment {
    c: Chrome,
    cards: Cards,
}

/// The fire strip and the cards again, when one of them changed: one template for the first look and for every later one.
async fn hazards_fragment(visit: Visit) -> Response {
    render(&HazardsFragment { c: visit.chrome(), cards: visit.cards() })
}

#[derive(Template)]
#[template(path = "point.html")]
struct PointPage {
    c: Chrome,
    place: Place,
    id: String,
    silent_after: i64,
    old_after: i64,
    unwatched: bool,
    numeric: bool,
    row: PointRow,
    rules: Vec<RuleRow>,
    hazards: Vec<HazardRow>,
    device: String,
    /// The name and the words of each command that the plan allows on the device.
    commands: Vec<(String, String)>,
}

struct RuleRow {
    title: String,
    signal: &'static str,
    signal_label: &'static str,
    priority: &'static str,
    limit: String,
    basis: String,
}

async fn point(visit: Visit, Path((device, name)): Path<(String, String)>) -> Response {
    let lang = visit.lang;
    let found = PointId::parse(&format!("{device}/{name}")).ok();
    let found = found.as_ref().and_then(|id| Some((id, visit.plan.point(id)?)));
    let Some((id, (_, _, device, point))) = found else {
        let t = lang.texts();
        let page = Message { c: visit.chrome(), title: t.not_found, why: t.not_on_plan };
        return (StatusCode::NOT_FOUND, render(&page)).into_response();
    };
    let open: Vec<_> = visit.board.on_point(id).collect();
    let priority = open.first().map_or("", |open| open.hazard.priority.name());
    let rules = point.rules.iter().map(|rule| RuleRow {
        title: lang.pick(&rule.title).to_owned(),
        signal: rule.signal.name(),
        signal_label: rows::signal_label(rule.signal, lang),
        priority: rule.priority.name(),
        limit: rule.condition.limit_text(point.unit()),
        basis: rule.basis.to_string(),
    });
    render(&PointPage {
        c: visit.chrome(),
        place: Place::of(&visit.plan, id),
        id: id.to_string(),
        silent_after: device.silent_after.map_or(0, Span::as_millis),
        old_after: rows::old_after(device).as_millis(),
        unwatched: device.silent_after.is_none(),
        numeric: point.quantity.is_numeric(),
        row: rows::point_row(device, point, visit.board.last.get(id), priority, visit.now, lang),
        rules: rules.collect(),
        device: device.id.to_string(),
        commands: (device.commands.iter())
            .map(|command| (command.name.to_string(), lang.pick(&command.text).to_owned()))
            .collect(),
        hazards: open
            .iter()
            .map(|open| HazardRow::new(&visit.plan, &open.hazard, open.recorded, visit.now, lang))
            .collect(),
    })
}

/// One line of the duty log in words; the CSV writes the same.
pub(super) struct LogRow {
    pub(super) no: u64,
    pub(super) at: Moment,
    pub(super) time: Timestamp,
    pub(super) signal: &'static str,
    pub(super) signal_label: &'static str,
    pub(super) what: String,
    pub(super) place: Place,
    pub(super) why: String,
    pub(super) who: String,
    pub(super) note: String,
    pub(super) hazard: String,
}

impl LogRow {
    pub(super) fn new(plan: &Plan, line: &LogLine, lang: Lang) -> Self {
        let at = line.at;
        match &line.what {
            Logged::Note(note) => Self {
                no: line.no,
                at: at.into(),
                time: at,
                signal: "",
                signal_label: "",
                what: lang.pick(&note.text).to_owned(),
                place: Place::default(),
                why: String::new(),
                who: if note.kind == NoteKind::Access { note.subject.to_string() } else { String::new() },
                note: String::new(),
                hazard: String::new(),
            },
            Logged::Transition(change) => {
                let hazard = &change.hazard;
                let word = if lang == Lang::Zh { change.change.zh() } else { change.change.name() };
                let (who, note) = match &change.cause {
                    Cause::Operator(by) => (by.by.to_string(), by.note.to_string()),
                    Cause::Reading { .. } | Cause::Deadline | Cause::Silence { .. } | Cause::Plan => {
                        Default::default()
                    }
                };
                let raised =
                    matches!(change.change, crate::model::Change::Raised | crate::model::Change::RaisedAgain);
                let why = match (&change.cause, raised, lang) {
                    (Cause::Operator(_), ..) => String::new(),
                    (_, true, Lang::Zh) => hazard.evidence.zh(),
                    (_, true, Lang::En) => hazard.evidence.en(),
                    (cause, false, _) => {
                        let point = plan.point(&hazard.point).map(|(.., point)| point);
                        lang.pick(&wire::cause_text(cause, point)).to_owned()
                    }
                };
                Self {
                    no: line.no,
                    at: at.into(),
                    time: at,
                    signal: hazard.signal.name(),
                    signal_label: rows::signal_label(hazard.signal, lang),
                    what: format!("{} {word}", lang.pick(&hazard.title)),
                    place: Place::of(plan, &hazard.point),
                    why,
                    who,
                    note,
                    hazard: hazard.id.to_string(),
                }
            }
        }
    }
}

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage {
    c: Chrome,
    lines: Vec<LogRow>,
    /// Where the next older page starts; 0: nowhere.
    older: u64,
    paged: bool,
}

async fn log(visit: Visit, Query(page): Query<Before>) -> Response {
    let lines = match visit.shared.room.journal.duty_log(page.no(), page.limit()).await {
        Ok(lines) => lines,
        Err(error) => return visit.broken(&unreadable(error)),
    };
    let full = lines.len() >= page.limit();
    let older = if full { lines.last().map_or(0, |line| line.no) } else { 0 };
    let lines = lines.iter().map(|line| LogRow::new(&visit.plan, line, visit.lang)).collect();
    render(&LogPage { c: visit.chrome(), lines, older, paged: page.before.is_some() })
}

#[derive(Template)]
#[template(path = "history.html")]
struct HistoryPage {
    c: Chrome,
    hazards: Vec<(HazardRow, Place)>,
    older: i64,
    paged: bool,
}

async fn history(visit: Visit, Query(page): Query<Before>) -> Response {
    let before = page.before.map(Timestamp::from_millis);
    let closed = match visit.shared.room.journal.closed_hazards(before, page.limit()).await {
        Ok(closed) => closed,
        Err(error) => return visit.broken(&unreadable(error)),
    };
    let full = closed.len() >= page.limit();
    let oldest = closed.last().and_then(|hazard| hazard.closed.as_ref()).map_or(0, |by| by.at.as_millis());
    let hazards = closed.iter().map(|hazard| {
        let end = hazard.closed.as_ref().map_or(visit.now, |by| by.at);
        (HazardRow::new(&visit.plan, hazard, true, end, visit.lang), Place::of(&visit.plan, &hazard.point))
    });
    let hazards = hazards.collect();
    render(&HistoryPage {
        c: visit.chrome(),
        hazards,
        older: if full { oldest } else { 0 },
        paged: before.is_some(),
    })
}

#[derive(Template)]
#[template(path = "hazard.html")]
struct HazardPage {
    c: Chrome,
    row: HazardRow,
    place: Place,
    lines: Vec<LogRow>,
}

async fn hazard(visit: Visit, Path(id): Path<String>) -> Response {
    let id = HazardId::from_text(&id);
    let history = match visit.shared.room.journal.history(&id).await {
        Ok(history) => history,
        Err(error) => return visit.broken(&unreadable(error)),
    };
    let open = visit.board.open.get(&id);
    let newest =
        open.map(|open| (&open.hazard, open.recorded)).or(history.last().map(|last| (&last.hazard, true)));
    let Some((hazard, recorded)) = newest else {
        let t = visit.lang.texts();
        let page = Message { c: visit.chrome(), title: t.not_found, why: "" };
        return (StatusCode::NOT_FOUND, render(&page)).into_response();
    };
    let lines = history.iter().map(|change| {
        let line = LogLine { no: 0, at: change.at, what: Logged::Transition(Box::new(change.clone())) };
        LogRow::new(&visit.plan, &line, visit.lang)
    });
    render(&HazardPage {
        c: visit.chrome(),
        row: HazardRow::new(&visit.plan, hazard, recorded, visit.now, visit.lang),
        place: Place::of(&visit.plan, &hazard.point),
        lines: lines.collect(),
    })
}
