//! WEB · what the gateway needs a person for: its own state in a few words each, on the health page and, when something
//! is wrong, in the bar of every page.

use super::api::unreadable;
use super::health::{Backup, Health, Storage};
use super::pages::{Chrome, Visit, render};
use super::rows::{self, Moment};
use super::texts::{Lang, Texts};
use super::{Shared, SinkHealth};
use crate::journal::JournalHealth;
use crate::model::{Text, Timestamp};
use askama::Template;
use axum::extract::State as Given;
use axum::response::Response;
use serde::Deserialize;

/// With less than this until it is full, somebody has to come: a week is a technician's round and a parcel.
pub(super) const FULL_SOON_DAYS: f64 = 7.0;

/// A store that is away longer than the buffer loses history: less than a day is no time to repair a line.
pub(super) const BUFFER_SHORT_HOURS: f64 = 24.0;

/// A forecast beyond this is only "years".
const FAR_DAYS: f64 = 3650.0;

/// Refused points on the page, newest first: what a person reads before he sees the pattern.
const REFUSED_SHOWN: usize = 50;

/// The journal's documents that keep points which a store refused; written by the sinks.
const REFUSED_KIND: &str = "influx-refused";

/// One thing that is well or is not, in words that are read from two metres.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    pub(super) title: &'static str,
    pub(super) words: String,
    pub(super) more: String,
    pub(super) level: Level,
}

/// How well it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Well,
    /// Nothing to say yet, or nothing that is configured.
    Unknown,
    /// Yellow on this page only: looked at when somebody has time.
    Notice,
    /// Yellow, and in the bar of every page.
    Fault,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Unknown => "unknown",
            Self::Notice => "notice",
            Self::Fault => "fault",
        }
    }
}

/// What [`states`] looks at.
pub(super) struct Facts<'f> {
    pub(super) journal: &'f JournalHealth,
    pub(super) health: &'f Health,
    pub(super) clock_set: bool,
    pub(super) now: Timestamp,
}

/// Everything that may need a person, in the order of its weight.
pub(super) fn states(facts: &Facts<'_>, lang: Lang) -> Vec<State> {
    let t = lang.texts();
    let storage = &facts.health.storage;
    let mut states = vec![
        journal(facts.journal, t),
        room(storage, facts.journal.bytes, lang),
        buffer(&facts.health.sinks, lang),
        clock(facts.clock_set, t),
        backup(facts.health.backup.as_ref(), facts.now, lang),
    ];
    if !facts.journal.ballast {
        states.push(State {
            title: t.ballast,
            words: t.ballast_gone.to_owned(),
            more: t.ballast_gone_why.to_owned(),
            level: Level::Notice,
        });
    }
    if !storage.set_aside.is_empty() {
        let names: Vec<String> = storage
            .set_aside
            .iter()
            .map(|(name, bytes)| format!("{name} ({})", bytes_text(*bytes)))
            .collect();
        states.push(State {
            title: t.set_aside,
            words: format!("{}", names.len()),
            more: format!("{}：{}", t.set_aside_why, names.join("、")),
            level: Level::Notice,
        });
    }
    states
}

/// What the bar of every page says, in both languages.
pub(super) fn troubles(shared: &Shared) -> Vec<Text> {
    let room = &shared.room;
    let (journal, health) = (room.journal.health(), room.health.borrow().clone());
    let facts =
        Facts { journal: &journal, health: &health, clock_set: room.clock.is_set(), now: room.clock.now() };
    let told = |lang| {
        let faults = states(&facts, lang).into_iter().filter(|state| state.level == Level::Fault);
        let mut told: Vec<String> = faults.map(|state| format!("{} {}", state.title, state.words)).collect();
        let down = health.links.iter().filter(|link| !link.up).count();
        if down > 0 {
            told.push(format!("{down} {}", lang.texts().links_off));
        }
        told
    };
    told(Lang::Zh).iter().zip(told(Lang::En)).map(|(zh, en)| Text::new(zh, &en)).collect()
}

fn journal(journal: &JournalHealth, t: &Texts) -> State {
    let (words, level) =
        if journal.writable { (t.journal_ok, Level::Well) } else { (t.journal_off, Level::Fault) };
    let more = journal.last_error.as_ref().filter(|_| !journal.writable).cloned().unwrap_or_default();
    State { title: t.journal, words: words.to_owned(), more, level }
}

fn room(storage: &Storage, bytes: u64, lang: Lang) -> State {
    let t = lang.texts();
    let (words, level) = match storage.days_until_full {
        None => (t.not_known_yet.to_owned(), Level::Unknown),
        Some(days) if days < FULL_SOON_DAYS => (long_text(days, lang), Level::Fault),
        Some(days) => (long_text(days, lang), Level::Well),
    };
    let mut more = format!("{} {}", t.journal_size, bytes_text(bytes));
    if storage.bytes_max > 0 {
        more.push_str(&format!(" / {}", bytes_text(storage.bytes_max)));
    }
    State { title: t.until_full, words, more, level }
}

fn buffer(sinks: &[SinkHealth], lang: Lang) -> State {
    let t = lang.texts();
    let shortest = sinks
        .iter()
        .filter_map(|sink| Some((sink.hours_left?, sink)))
        .min_by(|(a, _), (b, _)| a.total_cmp(b));
    let (words, more, level) = match shortest {
        _ if sinks.is_empty() => (t.none_configured.to_owned(), String::new(), Level::Unknown),
        None => (t.not_known_yet.to_owned(), String::new(), Level::Unknown),
        Some((hours, sink)) => {
            let level = if hours < BUFFER_SHORT_HOURS { Level::Fault } else { Level::Well };
            (long_text(hours / 24.0, lang), sink.name.clone(), level)
        }
    };
    State { title: t.buffer_left, words, more, level }
}

fn clock(set: bool, t: &Texts) -> State {
    let (words, more, level) =
        if set { (t.clock_ok, "", Level::Well) } else { (t.clock_bad, t.clock_bad_why, Level::Fault) };
    State { title: t.clock, words: words.to_owned(), more: more.to_owned(), level }
}

fn backup(backup: Option<&Backup>, now: Timestamp, lang: Lang) -> State {
    let t = lang.texts();
    let Some(backup) = backup else {
        let (words, more) = (t.backup_none.to_owned(), t.backup_none_why.to_owned());
        return State { title: t.backup, words, more, level: Level::Unknown };
    };
    let ago = format!("{}{}", rows::span_text(now.since(backup.at), lang), t.ago);
    match &backup.error {
        Some(error) => {
            let good = backup.good_at.map(|at| format!("；{} {}", t.backup_good, rows::clock_text(at)));
            let more = format!("{}{}", lang.pick(error), good.unwrap_or_default());
            State { title: t.backup, words: format!("{} {ago}", t.backup_failed), more, level: Level::Fault }
        }
        None => State {
            title: t.backup,
            words: format!("{} {ago}", t.backup_ok),
            more: format!("{} {}", backup.file, bytes_text(backup.bytes)),
            level: Level::Well,
        },
    }
}

/// `512 B`, `3.4 MB`, `1.2 GB`.
pub(super) fn bytes_text(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let shown = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", shown / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", shown / 1e6),
        _ => format!("{:.1} GB", shown / 1e9),
    }
}

/// A forecast in the one unit that matters: hours within three days, then days, then "more than 10 years".
pub(super) fn long_text(days: f64, lang: Lang) -> String {
    let t = lang.texts();
    let gap = if lang == Lang::Zh { "" } else { " " };
    if days >= FAR_DAYS {
        return t.years.to_owned();
    }
    let (number, unit) = if days < 3.0 { ((days * 24.0).max(0.0), t.hour) } else { (days, t.day) };
    format!("{number:.0}{gap}{unit}")
}

/// One point that a store refused.
#[derive(Debug, Deserialize)]
struct Refused {
    #[serde(default)]
    sink: String,
    #[serde(default)]
    at: i64,
    #[serde(default)]
    line: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    alike: u64,
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    c: Chrome,
    states: Vec<State>,
    links: Vec<(super::LinkHealth, Moment)>,
    sinks: Vec<SinkRow>,
    head: u64,
    /// The oldest record, and how far back that is, in words.
    oldest: Option<(Moment, String)>,
    kinds: Vec<(String, String)>,
    audit: Option<(u64, String)>,
    refused: Vec<(Refused, Moment)>,
    uptime: String,
    counters: Vec<(String, String)>,
}

struct SinkRow {
    name: String,
    lag: u64,
    left: String,
    short: bool,
    last_error: Option<String>,
}

/// `GET /health`.
pub(super) async fn page(Given(shared): Given<Shared>, visit: Visit) -> Response {
    let (room, lang) = (&shared.room, visit.lang());
    let health = room.health.borrow().clone();
    let journal = room.journal.health();
    let now = room.clock.now();
    let refused = match room.journal.documents(REFUSED_KIND).await {
        Ok(documents) => newest_refused(&documents),
        Err(error) => return visit.broken(&unreadable(error)),
    };
    let facts = Facts { journal: &journal, health: &health, clock_set: room.clock.is_set(), now };
    let states = states(&facts, lang);
    let sink = |sink: SinkHealth| SinkRow {
        left: sink.hours_left.map_or_else(String::new, |hours| long_text(hours / 24.0, lang)),
        short: sink.hours_left.is_some_and(|hours| hours < BUFFER_SHORT_HOURS),
        name: sink.name,
        lag: sink.lag,
        last_error: sink.last_error,
    };
    let since = |link: super::LinkHealth| {
        let since = link.since.into();
        (link, since)
    };
    render(&HealthPage {
        c: visit.chrome(),
        states,
        links: health.links.into_iter().map(since).collect(),
        sinks: health.sinks.into_iter().map(sink).collect(),
        head: journal.head,
        oldest: journal.oldest.map(|at| (at.into(), rows::span_text(now.since(at), lang))),
        kinds: health
            .storage
            .kinds
            .iter()
            .map(|(name, bytes)| (lang.pick(name).to_owned(), bytes_text(*bytes)))
            .collect(),
        audit: health.storage.audit,
        refused,
        uptime: rows::span_text(now.since(shared.started_at), lang),
        counters: counters(&room.metrics.render(), lang),
    })
}

fn newest_refused(documents: &[(String, String)]) -> Vec<(Refused, Moment)> {
    let mut refused: Vec<Refused> =
        documents.iter().filter_map(|(_, json)| serde_json::from_str(json).ok()).collect();
    refused.sort_by_key(|refused| std::cmp::Reverse(refused.at));
    refused.truncate(REFUSED_SHOWN);
    refused
        .into_iter()
        .map(|refused| {
            let at = Timestamp::from_millis(refused.at).into();
            (refused, at)
        })
        .collect()
}

/// Each counter of the Prometheus text in words, without the histograms.
fn counters(text: &str, lang: Lang) -> Vec<(String, String)> {
    let mut counters = Vec::new();
    let (mut described, mut help) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').unwrap_or((rest, ""));
            (described, help) = (name.to_owned(), words.to_owned());
        } else if let Some((name, value)) = line.split_once(' ')
            && (name == described || name.strip_suffix("_total") == Some(&described))
        {
            let zh = described
                .strip_prefix("fengsui_")
                .and_then(super::texts::metric)
                .filter(|_| lang == Lang::Zh);
            counters.push((zh.unwrap_or(help.trim_end_matches('.')).to_owned(), value.to_owned()));
        }
    }
    counters
}
