//! WEB · what the gateway needs a person for: its own state in a few words each, on the health page and, when something
//! is wrong, in the bar of every page.

use super::api::unreadable;
use super::auth::Who;
use super::health::Health;
use super::pages::{Chrome, Visit, render};
use super::rows::{self, Moment};
use super::texts::{Lang, Texts};
use super::{Shared, SinkHealth};
use crate::commands::ConfigState;
use crate::journal::{JournalHealth, Room, Used};
use crate::model::{LinkId, Text, Timestamp};
use askama::Template;
use axum::extract::{Extension, State as Given};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

/// With less than this until it is full, somebody has to come: a week is a technician's round and a parcel.
pub(super) const FULL_SOON_DAYS: u32 = 7;

/// A store that is away longer than the buffer loses history: less than a day is no time to repair a line.
pub(super) const BUFFER_SHORT_HOURS: u32 = 24;

/// A forecast beyond this is only "years".
const FAR_HOURS: u32 = 3650 * 24;

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
    pub(super) started_at: Timestamp,
    pub(super) now: Timestamp,
}

impl<'f> Facts<'f> {
    fn of(shared: &Shared, journal: &'f JournalHealth, health: &'f Health) -> Self {
        let clock = &shared.room.clock;
        Self { journal, health, clock_set: clock.is_set(), started_at: shared.started_at, now: clock.now() }
    }

    /// Whether a scheduled backup is overdue. One that was never made counts from the start, and nothing by a clock that
    /// nobody has set.
    fn backup_is_late(&self) -> bool {
        let good_at = self.health.backup.as_ref().and_then(|backup| backup.good_at);
        let since = self.now.since(good_at.unwrap_or(self.started_at));
        self.clock_set && self.health.backup_late_after.is_some_and(|late| since > late)
    }
}

/// Everything that may need a person, in the order of its weight.
pub(super) fn states(facts: &Facts<'_>, lang: Lang) -> Vec<State> {
    let t = lang.texts();
    let set_aside = &facts.health.set_aside;
    let mut states = vec![
        journal(facts.journal, lang),
        room(&facts.journal.room, facts.journal.bytes, lang),
        buffer(&facts.health.sinks, lang),
        clock(facts.clock_set, t),
        backup(facts, lang),
    ];
    states.push(config(&facts.health.config, lang));
    if !facts.journal.ballast {
        states.push(State {
            title: t.ballast,
            words: t.ballast_gone.to_owned(),
            more: t.ballast_gone_why.to_owned(),
            level: Level::Notice,
        });
    }
    if !set_aside.is_empty() {
        let names: Vec<String> =
            set_aside.iter().map(|(name, bytes)| format!("{name} ({})", bytes_text(*bytes))).collect();
        states.push(State {
            title: t.set_aside,
            words: format!("{}", names.len()),
            more: format!("{}：{}", t.set_aside_why, names.join("、")),
            level: Level::Notice,
        });
    }
    states
}

/// How what is in force stands to what is in the files.
fn config(config: &ConfigState, lang: Lang) -> State {
    let t = lang.texts();
    let (words, more, level) = match (&config.refused, config.next_start.as_slice()) {
        (Some(misfit), _) => (t.config_refused, misfit.first.clone(), Level::Fault),
        (None, []) => {
            let taken = config.taken_at.map(|at| format!("{} {}", t.config_taken, rows::clock_text(at)));
            (t.config_ok, taken.unwrap_or_default(), Level::Well)
        }
        (None, keys) => (t.config_later, keys.join(", "), Level::Notice),
    };
    State { title: t.config, words: words.to_owned(), more, level }
}

/// What the bar of every page says, in both languages.
pub(super) fn troubles(shared: &Shared) -> Vec<Text> {
    let room = &shared.room;
    let (journal, health) = (room.journal.health(), room.health.borrow().clone());
    let facts = Facts::of(shared, &journal, &health);
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

fn journal(journal: &JournalHealth, lang: Lang) -> State {
    let t = lang.texts();
    let (words, level) =
        if journal.writable { (t.journal_ok, Level::Well) } else { (t.journal_off, Level::Fault) };
    let more = journal
        .reason
        .as_ref()
        .filter(|_| !journal.writable)
        .map_or("", |reason| lang.pick(reason))
        .to_owned();
    State { title: t.journal, words: words.to_owned(), more, level }
}

fn room(room: &Room, bytes: u64, lang: Lang) -> State {
    let t = lang.texts();
    let (words, level) = match room.days_until_full() {
        None if room.entries_a_day.is_none() => (t.not_known_yet.to_owned(), Level::Unknown),
        None => (t.years.to_owned(), Level::Well),
        Some(0) => (t.full.to_owned(), Level::Fault),
        Some(days) => {
            let level = if days < FULL_SOON_DAYS { Level::Fault } else { Level::Well };
            (long_text(days.saturating_mul(24), lang), level)
        }
    };
    let mut more = format!("{} {} / {}", t.journal_size, bytes_text(bytes), bytes_text(room.bytes_allowed()));
    match room.entries_a_day {
        Some(a_day) => more.push_str(&format!("，{} {}", t.a_day, bytes_text(a_day + room.series_a_day))),
        None => more.push_str(&format!("，{}", t.known_soon)),
    }
    State { title: t.until_full, words, more, level }
}

fn buffer(sinks: &[SinkHealth], lang: Lang) -> State {
    let t = lang.texts();
    let shortest =
        sinks.iter().filter_map(|sink| Some((sink.hours_left?, sink))).min_by_key(|(hours, _)| *hours);
    let (words, more, level) = match shortest {
        _ if sinks.is_empty() => (t.none_configured.to_owned(), String::new(), Level::Unknown),
        None => (t.not_known_yet.to_owned(), String::new(), Level::Unknown),
        Some((hours, sink)) => {
            let level = if hours < BUFFER_SHORT_HOURS { Level::Fault } else { Level::Well };
            (long_text(hours, lang), sink.name.clone(), level)
        }
    };
    State { title: t.buffer_left, words, more, level }
}

fn clock(set: bool, t: &Texts) -> State {
    let (words, more, level) =
        if set { (t.clock_ok, "", Level::Well) } else { (t.clock_bad, t.clock_bad_why, Level::Fault) };
    State { title: t.clock, words: words.to_owned(), more: more.to_owned(), level }
}

fn backup(facts: &Facts<'_>, lang: Lang) -> State {
    let t = lang.texts();
    let backup = facts.health.backup.as_ref();
    let ago = |at| format!("{}{}", rows::span_text(facts.now.since(at), lang), t.ago);
    // One that failed says why; this one says nothing by itself.
    if facts.backup_is_late() && backup.is_none_or(|backup| backup.error.is_none()) {
        let good_at = backup.and_then(|backup| backup.good_at);
        let words = good_at
            .map_or_else(|| t.backup_late_never.to_owned(), |at| format!("{} {}", t.backup_late, ago(at)));
        return State { title: t.backup, words, more: t.backup_late_why.to_owned(), level: Level::Fault };
    }
    let Some(backup) = backup else {
        let (words, more) = (t.backup_none.to_owned(), t.backup_none_why.to_owned());
        return State { title: t.backup, words, more, level: Level::Unknown };
    };
    let ago = ago(backup.at);
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
pub(super) fn long_text(hours: u32, lang: Lang) -> String {
    let t = lang.texts();
    let gap = if lang == Lang::Zh { "" } else { " " };
    match hours {
        0..72 => format!("{hours}{gap}{}", t.hour),
        72..FAR_HOURS => format!("{}{gap}{}", hours / 24, t.day),
        _ => t.years.to_owned(),
    }
}

/// What takes the room, by kind; a kind that takes nothing is not named.
pub(super) fn kinds(used: &Used) -> Vec<(Text, u64)> {
    let kinds = [
        ("读数", "readings", used.entries),
        ("曲线", "charts", used.series),
        ("日志记事", "notes", used.notes),
        ("报警经过", "the ledger", used.ledger),
        ("报警", "hazards", used.hazards),
        ("空闲页", "free pages", used.free),
    ];
    kinds.iter().filter(|kind| kind.2 > 0).map(|(zh, en, bytes)| (Text::new(zh, en), *bytes)).collect()
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
    /// Missing in what earlier versions kept: then `reason` is in both languages.
    reason_en: Option<String>,
    #[serde(default)]
    alike: u64,
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    c: Chrome,
    states: Vec<State>,
    links: Vec<LinkRow>,
    sinks: Vec<SinkRow>,
    head: u64,
    /// The oldest record, and how far back that is, in words.
    oldest: Option<(Moment, String)>,
    kinds: Vec<(String, String)>,
    /// Count and fingerprint, as `fengsui audit verify` takes it.
    audit: String,
    refused: Vec<(Refused, Moment)>,
    /// Whether the configuration can be read again.
    reloads: bool,
    /// What is wrong in its files, as `fengsui check` prints it.
    mistakes: String,
    uptime: String,
    counters: Vec<(String, String)>,
}

struct LinkRow {
    link: LinkId,
    up: bool,
    since: Moment,
    reason: String,
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
        Ok(documents) => newest_refused(&documents, lang),
        Err(error) => return visit.broken(&unreadable(error)),
    };
    let facts = Facts::of(&shared, &journal, &health);
    let states = states(&facts, lang);
    let sink = |sink: SinkHealth| SinkRow {
        left: sink.hours_left.map_or_else(String::new, |hours| long_text(hours, lang)),
        short: sink.hours_left.is_some_and(|hours| hours < BUFFER_SHORT_HOURS),
        name: sink.name,
        lag: sink.lag,
        last_error: sink.last_error.map(|error| lang.pick(&error).to_owned()),
    };
    let link = |link: super::LinkHealth| LinkRow {
        since: link.since.into(),
        reason: if link.up { String::new() } else { lang.pick(&link.reason).to_owned() },
        link: link.link,
        up: link.up,
    };
    render(&HealthPage {
        c: visit.chrome(),
        states,
        links: health.links.into_iter().map(link).collect(),
        sinks: health.sinks.into_iter().map(sink).collect(),
        head: journal.head,
        oldest: journal.oldest.map(|at| (at.into(), rows::span_text(now.since(at), lang))),
        kinds: kinds(&journal.room.used)
            .iter()
            .map(|(name, bytes)| (lang.pick(name).to_owned(), bytes_text(*bytes)))
            .collect(),
        audit: journal.audit.to_string(),
        refused,
        reloads: room.door.bell().is_some(),
        mistakes: health.config.refused.map(|misfit| misfit.report).unwrap_or_default(),
        uptime: rows::span_text(now.since(shared.started_at), lang),
        counters: counters(&room.metrics.render(), lang),
    })
}

/// `POST /health/reload`: the configuration is read again; the page then says what became of it.
pub(super) async fn reload(
    Given(shared): Given<Shared>,
    Extension(Who(session)): Extension<Who>,
) -> Response {
    match super::api::read_again(&shared, &session).await {
        Ok(_) => Redirect::to("/health").into_response(),
        Err(problem) => problem.into_response(),
    }
}

fn newest_refused(documents: &[(String, String)], lang: Lang) -> Vec<(Refused, Moment)> {
    let mut refused: Vec<Refused> =
        documents.iter().filter_map(|(_, json)| serde_json::from_str(json).ok()).collect();
    refused.sort_by_key(|refused| std::cmp::Reverse(refused.at));
    refused.truncate(REFUSED_SHOWN);
    refused
        .into_iter()
        .map(|mut refused| {
            if let (Lang::En, Some(reason)) = (lang, refused.reason_en.take()) {
                refused.reason = reason;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries_a_day: Option<u64>, free: u64) -> Room {
        // A file that may grow by what the disk has left; everything is kept for ten years.
        let kept = crate::model::Span::from_secs(3650 * 86_400);
        Room {
            bytes_max: u64::MAX,
            disk_free: Some(free),
            entries_a_day,
            entries_kept: kept,
            series_kept: kept,
            ..Room::default()
        }
    }

    #[test]
    fn a_disk_that_is_full_within_a_week_is_a_fault_and_one_that_nobody_knows_is_not() {
        let told = |a_day, free| {
            let state = room(&of(a_day, free), 0, Lang::Zh);
            (state.words, state.level)
        };
        let words = |text: &str| text.to_owned();
        assert_eq!(told(None, 1000), (words("尚不能估计"), Level::Unknown));
        assert!(room(&of(None, 1000), 0, Lang::Zh).more.ends_with("，记录满 10 分钟后给出"), "it says when");
        assert_eq!(told(Some(100), 0), (words("已满，最旧的读数提前删除"), Level::Fault));
        assert_eq!(told(Some(100), 200), (words("48小时"), Level::Fault));
        assert_eq!(told(Some(100), 600), (words("6天"), Level::Fault));
        assert_eq!(told(Some(100), 700), (words("7天"), Level::Well));
        assert_eq!(told(Some(1), 1_000_000), (words("10 年以上"), Level::Well));
    }

    #[test]
    fn a_journal_that_cannot_be_written_says_why_in_the_language_of_the_page() {
        let reason = Some(Text::new("磁盘已满", "the disk is full"));
        let failing = JournalHealth { reason, ..JournalHealth::default() };
        assert_eq!(journal(&failing, Lang::Zh).more, "磁盘已满");
        assert_eq!(journal(&failing, Lang::En).more, "the disk is full");
        assert_eq!(journal(&JournalHealth { writable: true, ..failing }, Lang::Zh).more, "", "it is over");
    }

    #[test]
    fn the_shortest_buffer_counts_and_less_than_a_day_is_a_fault() {
        let sink =
            |name: &str, hours_left| SinkHealth { name: name.into(), lag: 0, last_error: None, hours_left };
        let told = |sinks: &[SinkHealth]| {
            let state = buffer(sinks, Lang::En);
            (state.words, state.more, state.level)
        };
        let (a, b) = (sink("a", Some(23)), sink("b", Some(24)));
        assert_eq!(told(&[]).2, Level::Unknown);
        assert_eq!(told(&[sink("a", None)]).2, Level::Unknown);
        assert_eq!(told(&[b.clone(), sink("c", None)]), ("24 h".into(), "b".into(), Level::Well));
        assert_eq!(told(&[b, a]), ("23 h".into(), "a".into(), Level::Fault));
    }
}
