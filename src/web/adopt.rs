//! WEB · 接入: an unknown sender becomes a device of the plan: what it may be, what its message reads as, and the button.

use super::Shared;
use super::api::{Problem, read_again, unreadable};
use super::auth::Who;
use super::pages::{Chrome, Visit, render};
use super::rows::{self, DeviceRow};
use super::texts::Lang;
use super::wire;
use crate::adopt::{
    Candidate, Candidates, InForce, NewDevice, Reach, Refusal, Sender, Sent, Why, Wish, Zone, snippet,
};
use crate::journal::{Stray, StrayKind};
use crate::model::{Body, DeviceId, Wanted};
use askama::Template;
use axum::extract::{Extension, Form, Path, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

/// Kept frames that are read to find the model: a detector's heartbeat, its alarm and its battery are seldom one message.
const FRAMES_TRIED: usize = 4;

/// Characters of the sample on the page: enough to recognise it. The whole is on 待接入.
const SAMPLE_CHARS: usize = 400;

/// Which sender, and which model a person wants to see.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    key: String,
    #[serde(default)]
    profile: String,
}

/// What a person filled in.
#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct Filled {
    #[serde(default)]
    key: String,
    #[serde(default)]
    seen: String,
    #[serde(default)]
    profile: String,
    #[serde(default)]
    name: String,
    /// `site/zone`; `site/` for a new one.
    #[serde(default)]
    zone: String,
    #[serde(default)]
    zone_name: String,
    #[serde(default)]
    place: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    address: String,
    /// What the page had put there.
    #[serde(default)]
    address_was: String,
}

#[derive(Template)]
#[template(path = "adopt.html")]
struct AdoptPage {
    c: Chrome,
    key: String,
    sample: String,
    cards: Vec<Card>,
    more: usize,
    alike: Vec<Card>,
    /// The model that was asked for, when it does not listen to this topic.
    misheard: String,
    models: Vec<(String, String)>,
    zones: Vec<(String, String)>,
    filled: Filled,
    /// Why it was not done, and the whole report.
    refusal: String,
    report: String,
    /// Lines to copy where the gateway may not write.
    copy: String,
}

/// A model that it may be.
struct Card {
    profile: String,
    name: String,
    maker: String,
    verified: bool,
    understood: usize,
    points: usize,
    readings: Vec<(String, String, bool)>,
    problems: Vec<String>,
    topics: String,
}

impl Card {
    fn new(candidate: &Candidate, lang: Lang) -> Self {
        let readings = candidate.readings.iter();
        let text = |text| lang.pick(text).to_owned();
        Self {
            profile: candidate.profile.clone(),
            name: text(&candidate.name),
            maker: candidate.maker.clone(),
            verified: candidate.verified,
            understood: candidate.understood,
            points: candidate.points,
            readings: readings.map(|one| (text(&one.name), text(&one.value), one.good)).collect(),
            problems: candidate.problems.clone(),
            topics: candidate.topics.join("、"),
        }
    }
}

/// A sender of the page 待接入, with what is kept of it.
struct Known {
    sender: Sender,
    stray: Stray,
    sent: Vec<Sent>,
    in_force: Arc<InForce>,
}

/// `None`: there is none of that key whom a person could adopt here.
async fn known(shared: &Shared, key: &str) -> Result<Option<Known>, Problem> {
    let in_force = shared.room.adopt.now();
    let Some(sender) = Sender::of(key).filter(|sender| in_force.has_topics(&sender.link)) else {
        return Ok(None);
    };
    let journal = &shared.room.journal;
    let strays = journal.strays().await.map_err(unreadable)?;
    let mine = |stray: &Stray| stray.kind == StrayKind::Unknown && *stray.key == *key;
    let Some(stray) = strays.into_iter().find(mine) else { return Ok(None) };
    let wanted = Wanted { device: None, key: Some(key.into()) };
    let kept = journal.quarantined(&wanted, 0).await.map_err(unreadable)?;
    let mut sent: Vec<Sent> = (kept.iter().rev().take(FRAMES_TRIED))
        .filter_map(|frame| match &frame.body {
            Body::Message { payload, .. } => Some(Sent { payload: payload.to_vec(), at: frame.at }),
            Body::Presence { .. } | Body::Registers { .. } => None,
        })
        .collect();
    sent.reverse();
    if sent.is_empty() {
        sent.push(Sent { payload: stray.sample.clone(), at: stray.last_at });
    }
    Ok(Some(Known { sender, stray, sent, in_force }))
}

/// Reading frames with every profile is work for another thread than the one that tells of alarms.
async fn candidates(known: &Known, first: &str) -> Candidates {
    let (in_force, sender, sent) = (known.in_force.clone(), known.sender.clone(), known.sent.clone());
    let first = first.to_owned();
    let work = tokio::task::spawn_blocking(move || in_force.candidates(&sender, &sent, Some(&first)));
    work.await.unwrap_or_else(|panicked| {
        tracing::error!(error = %panicked, "looking for the model ended by a defect");
        Candidates::default()
    })
}

/// `GET /adopt`.
pub(super) async fn page(visit: Visit, Query(which): Query<Which>) -> Response {
    match known(visit.shared(), &which.key).await {
        Ok(Some(known)) => {
            if let Some(device) = known.in_force.planned(&known.sender) {
                return Redirect::to(&device_path(device, &which.key)).into_response();
            }
            let filled = Filled { key: which.key, profile: which.profile, ..Filled::default() };
            render(&form(&visit, &known, filled, None).await)
        }
        Ok(None) => visit.missing(visit.lang().texts().adopt_gone),
        Err(problem) => visit.broken(&problem),
    }
}

async fn form(visit: &Visit, known: &Known, mut filled: Filled, refusal: Option<Refusal>) -> AdoptPage {
    let lang = visit.lang();
    let typed = filled.profile.trim().to_owned();
    if let Some(meant) = known.in_force.meant(&typed, &known.sender).filter(|_| !typed.is_empty()) {
        filled.profile = meant;
    }
    let found = candidates(known, &filled.profile).await;
    let asked = filled.profile.clone();
    let listens = |profile: &str| found.fitting.iter().any(|one| one.profile == profile);
    let misheard = if asked.is_empty() || listens(&asked) { String::new() } else { asked };
    if let Some(first) = found.fitting.first().filter(|_| !listens(&filled.profile)) {
        filled.profile.clone_from(&first.profile);
    }
    let chosen = found.fitting.iter().find(|one| one.profile == filled.profile);
    if filled.address.is_empty() {
        filled.address = chosen.map(|one| one.address.clone()).unwrap_or_default();
        filled.address_was.clone_from(&filled.address);
    }
    if filled.id.is_empty() {
        filled.id = known.in_force.free_id(&filled.address);
    }
    // A person can do by hand what the gateway could not.
    let may_write = refusal.as_ref().is_none_or(|refusal| matches!(refusal.why, Why::Changed | Why::Typed));
    filled.seen = visit.shared().room.adopt.plan_seen().await;
    let copy = if may_write && !filled.seen.is_empty() { String::new() } else { snippet(&filled.device()) };
    let models = known.in_force.models_on_topics();
    let t = lang.texts();
    AdoptPage {
        c: visit.chrome(),
        key: filled.key.clone(),
        sample: wire::sample_text(&known.stray.sample).chars().take(SAMPLE_CHARS).collect(),
        cards: found.fitting.iter().map(|one| Card::new(one, lang)).collect(),
        more: found.more,
        alike: found.alike.iter().map(|one| Card::new(one, lang)).collect(),
        misheard,
        models: (models.iter())
            .map(|model| {
                (model.id.clone(), format!("{} {} {}", model.vendor, model.number, lang.pick(&model.name)))
            })
            .collect(),
        zones: (known.in_force.places().into_iter())
            .map(|place| {
                let ((site, site_name), zone) = (place.site, place.zone);
                let (zone, zone_name) = zone.unwrap_or_else(|| (String::new(), t.adopt_zone_new.to_owned()));
                (format!("{site}/{zone}"), format!("{site_name} · {zone_name}"))
            })
            .collect(),
        refusal: refusal.as_ref().map(|refusal| lang.pick(&refusal.text).to_owned()).unwrap_or_default(),
        report: refusal.map(|refusal| refusal.report).unwrap_or_default(),
        copy,
        filled,
    }
}

impl Filled {
    fn device(&self) -> NewDevice {
        let link = Sender::of(&self.key).map(|sender| sender.link.to_string());
        NewDevice {
            id: self.id.trim().to_owned(),
            name: self.name.trim().to_owned(),
            place: self.place.trim().to_owned(),
            profile: self.profile.trim().to_owned(),
            link: link.unwrap_or_default(),
            at: Reach::Address(self.address.trim().to_owned()),
        }
    }

    fn zone(&self, in_force: &InForce) -> Zone {
        let (site, zone) = self.zone.split_once('/').unwrap_or((&self.zone, ""));
        let name = self.zone_name.trim();
        match zone {
            "" => Zone::New {
                site: site.to_owned(),
                zone: in_force.free_zone_id(site, name),
                name: name.to_owned(),
            },
            zone => Zone::Known { site: site.to_owned(), zone: zone.to_owned() },
        }
    }
}

/// `POST /adopt`: the button. Whoever is signed in may: there is one kind of account, and the duty log names the person.
pub(super) async fn adopt(
    visit: Visit,
    Extension(Who(session)): Extension<Who>,
    Form(mut filled): Form<Filled>,
) -> Response {
    let shared = visit.shared();
    let known = match known(shared, &filled.key).await {
        Ok(Some(known)) => known,
        Ok(None) => return visit.missing(visit.lang().texts().adopt_gone),
        Err(problem) => return visit.broken(&problem),
    };
    // Another model may have the address in another level of the topic.
    if (filled.address.trim().is_empty() || filled.address == filled.address_was)
        && let Some(address) = known.in_force.address_of(&filled.profile, &known.sender, &known.sent)
    {
        filled.address.clone_from(&address);
        filled.address_was = address;
    }
    if filled.id.trim().is_empty() {
        filled.id = known.in_force.free_id(&filled.address);
    }
    let device = filled.device();
    let wish = Wish {
        zone: filled.zone(&known.in_force),
        sender: known.sender.clone(),
        seen: filled.seen.clone(),
        device: device.clone(),
    };
    if let Err(refusal) = shared.room.adopt.write(wish).await {
        tracing::warn!(device = %device.id, person = %session.person, reason = %refusal.text.en, "a device was not adopted");
        let status = match refusal.why {
            Why::Changed => StatusCode::CONFLICT,
            Why::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Why::ReadOnly | Why::Wrong | Why::Typed => StatusCode::UNPROCESSABLE_ENTITY,
        };
        return (status, render(&form(&visit, &known, filled, Some(refusal)).await)).into_response();
    }
    tracing::info!(device = %device.id, profile = %device.profile, person = %session.person, account = %session.account, "a device was adopted");
    let t = visit.lang().texts();
    let untaken = match read_again(shared, &session).await {
        Ok(told) => told.state.refused.map(|misfit| (misfit.first, misfit.report)),
        Err(problem) => {
            let why = if visit.lang() == Lang::Zh { problem.zh } else { problem.en };
            Some((why.to_owned(), String::new()))
        }
    };
    if let Some((why, report)) = untaken {
        let mut page = form(&visit, &known, filled, None).await;
        (page.refusal, page.report) = (format!("{}{why}", t.adopt_untaken), report);
        return (StatusCode::UNPROCESSABLE_ENTITY, render(&page)).into_response();
    }
    match DeviceId::parse(&device.id) {
        Ok(id) => Redirect::to(&device_path(&id, &filled.key)).into_response(),
        Err(_) => Redirect::to("/strays").into_response(),
    }
}

/// The device's page, which offers the frames of its row of 待接入.
pub(super) fn device_path(device: &DeviceId, key: &str) -> String {
    let mut path = format!("/devices/{device}?key=");
    for byte in key.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() => path.push(char::from(byte)),
            byte => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// From which row it was adopted.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    key: String,
}

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage {
    c: Chrome,
    device: DeviceRow,
    site: String,
    zone: String,
    profile: String,
    model: String,
    link: String,
    /// It was adopted from this row just now; empty: the page was opened for itself.
    key: String,
    /// Frames that are kept under that row, or of the device.
    frames: u64,
}

/// `GET /devices/{device}`: everything that one device says.
pub(super) async fn device(visit: Visit, Path(id): Path<String>, Query(from): Query<From>) -> Response {
    let (shared, lang) = (visit.shared(), visit.lang());
    let plan = shared.plan();
    let Some((site, zone, device)) = plan.device(&id) else {
        return visit.missing(lang.texts().not_on_plan);
    };
    let groups = match shared.room.journal.quarantine().await {
        Ok(groups) => groups,
        Err(error) => return visit.broken(&unreadable(error)),
    };
    let kept = groups.iter().filter(|group| !from.key.is_empty() && *group.key == *from.key);
    render(&DevicePage {
        c: visit.chrome(),
        device: rows::device_row(device, &shared.board.snapshot(), shared.room.clock.now(), lang),
        site: site.name.to_string(),
        zone: zone.name.to_string(),
        profile: device.profile.to_string(),
        model: lang.pick(&device.model).to_owned(),
        link: device.link.to_string(),
        frames: kept.map(|group| group.frames).sum(),
        key: from.key,
    })
}
