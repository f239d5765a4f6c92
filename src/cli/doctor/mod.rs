//! `fengsui doctor`: what is wrong with a gateway, what it means and what to do, in plain words. Looks, and changes nothing.
//!
//! One file for each place that is looked at. Every finding has a lasting English name, so that programs and tests can ask
//! for it; `about` tells several of a kind apart.

mod backups;
mod content;
mod finding;
mod followers;
mod living;
mod log;
mod place;

pub use finding::{Finding, Grade};

use super::check::EXIT_CONFIG;
use super::known::{Known, say};
use crate::backup::local;
use crate::clock::Clock;
use crate::config::{Gateway, Report};
use crate::journal::{Archive, Limits};
use crate::model::{Problem, Timestamp};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What can be asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The gateway's configuration.
    #[arg(long, default_value = "gateway.toml")]
    config: PathBuf,
    /// Look at a data directory alone, without a configuration.
    #[arg(long)]
    data: Option<PathBuf>,
    /// One JSON object for programs.
    #[arg(long)]
    json: bool,
    /// `en`: English beneath each line.
    #[arg(long, default_value = "zh", value_parser = ["zh", "en"])]
    lang: String,
}

/// Where the doctor looks.
#[derive(Debug, Clone)]
pub enum Patient {
    /// At the gateway of this configuration.
    Config(PathBuf),
    /// At a data directory.
    Data(PathBuf),
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let clock = Clock::system();
    let patient = match &arguments.data {
        Some(data) => Patient::Data(data.clone()),
        None => Patient::Config(arguments.config.clone()),
    };
    let now = clock.now();
    let mut findings = examine(&patient, now);
    let worst = findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Good);
    if arguments.json {
        let list: Vec<_> = findings.iter().map(Finding::json).collect();
        let all = json!({ "at_ms": now.as_millis(), "at": now.to_string(), "exit": worst.code(), "findings": list });
        say(&format!("{all:#}\n"));
        return worst.code();
    }
    let english = arguments.lang == "en";
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.grade));
    let mut text = format!("烽燧网关体检 {}\n", local(now));
    text.extend(findings.iter().map(|finding| finding.line(english)));
    let count = |grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let (serious, warnings) = (count(Grade::Serious), count(Grade::Warning));
    text += &match (serious, warnings) {
        (0, 0) => "一切正常\n".to_owned(),
        _ => format!("严重 {serious} 项，注意 {warnings} 项\n"),
    };
    if english {
        text += &format!("    {serious} serious, {warnings} warnings\n");
    }
    say(&text);
    worst.code()
}

/// Everything that is found, in the order of looking.
pub fn examine(patient: &Patient, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    let known = match patient {
        Patient::Data(_) => None,
        Patient::Config(file) => match Known::read(file) {
            Ok(known) => {
                configuration(file, &known.report, &mut found);
                Some(known)
            }
            Err(report) => {
                configuration(file, &report, &mut found);
                return found;
            }
        },
    };
    let data = match (patient, &known) {
        (Patient::Data(data), _) => data.clone(),
        (_, Some(known)) => known.gateway.journal.dir.clone(),
        (Patient::Config(_), None) => return found,
    };
    clock(now, &mut found);
    let Some(place) = place::look(&data, &mut found) else { return found };
    let failing = match &known {
        Some(known) if place.holder.is_some() => living::look(&known.gateway, &mut found)
            .into_iter()
            .map(|sink| cursor_of(&known.gateway, &sink))
            .collect(),
        _ => BTreeSet::new(),
    };
    let archive = content::open(&data, &place, &mut found);
    if let Some(archive) = &archive {
        let limits = known.as_ref().map(|known| limits(&known.gateway)).unwrap_or_default();
        look_inside(archive, &place, now, &limits, &failing, &mut found);
    }
    backups::look(known.as_ref(), archive.as_ref(), now, &mut found);
    found
}

/// A cursor is called by its kind and its name.
fn cursor_of(gateway: &Gateway, sink: &str) -> String {
    let is_folder = gateway.folder.iter().any(|folder| folder.name == sink);
    let kind = if is_folder { crate::sinks::folder::CURSOR } else { crate::sinks::influx::CURSOR };
    format!("{kind}:{sink}")
}

fn look_inside(
    archive: &Archive,
    place: &place::Place,
    now: Timestamp,
    limits: &Limits,
    failing: &BTreeSet<String>,
    found: &mut Vec<Finding>,
) {
    let summary = match archive.summary() {
        Ok(summary) => summary,
        Err(error) => return found.push(content::refused(&error)),
    };
    content::look(archive, &summary, now, found);
    let room = archive.room(limits).ok();
    if let Some(room) = &room {
        place::forecast(room, found);
    }
    let lines = log::lines(archive);
    log::look(archive, &lines, &summary, place.holder.is_some(), now, found);
    place::set_aside(place, &lines, found);
    let reference = if place.holder.is_some() { Some(now) } else { None };
    followers::look(archive, &summary, room.as_ref(), reference, failing, found);
    followers::refused(archive, found);
}

/// As `app` sets them.
fn limits(gateway: &Gateway) -> Limits {
    let usual = Limits::default();
    let readings_age_max = gateway.journal.keep.unwrap_or(usual.readings_age_max);
    Limits { bytes_max: gateway.journal.size_max_bytes, readings_age_max, ..usual }
}

fn configuration(file: &Path, report: &Report, found: &mut Vec<Finding>) {
    let file = file.display();
    let first = |warning: bool| report.problems.iter().find(|problem| problem.warning == warning).map(told);
    let (errors, warnings) = (report.errors(), report.warnings());
    if let Some((zh, en)) = first(false) {
        found.push(
            Finding::new(
                Grade::Serious,
                "config-wrong",
                &format!("配置有 {errors} 个错误，第一个：{zh}"),
                &format!("the configuration has {errors} errors, the first: {en}"),
            )
            .means("网关用这份配置启动不了", "the gateway does not start with it")
            .todo(
                &format!("运行 fengsui check --config {file} 看全部错误"),
                &format!("run fengsui check --config {file} to see all of them"),
            ),
        );
    } else if let Some((zh, en)) = first(true) {
        found.push(
            Finding::new(
                Grade::Warning,
                "config-warnings",
                &format!("配置可用，有 {warnings} 个提醒，第一个：{zh}"),
                &format!("the configuration can be used and has {warnings} warnings, the first: {en}"),
            )
            .todo(
                &format!("运行 fengsui check --config {file}"),
                &format!("run fengsui check --config {file}"),
            ),
        );
    } else {
        found.push(Finding::new(Grade::Good, "config", "配置正确", "the configuration is right"));
    }
}

/// A problem's words in both languages: they are written as `中文 / English`.
fn told(problem: &Problem) -> (String, String) {
    let words = format!("{}: {}", problem.file, problem.message);
    (words.clone(), words)
}

fn clock(now: Timestamp, found: &mut Vec<Finding>) {
    let shown = local(now);
    if now >= crate::clock::EARLIEST_BELIEVABLE {
        found.push(Finding::new(
            Grade::Good,
            "clock",
            &format!("系统时间 {shown}"),
            &format!("the system's time is {shown}"),
        ));
        return;
    }
    found.push(
        Finding::new(
            Grade::Serious,
            "clock-unset",
            &format!("系统时间不可信：{shown}"),
            &format!("the system's time cannot be right: {shown}"),
        )
        .means("记录的时间会是错的", "what is recorded bears a wrong time")
        .todo(
            "检查网络和 NTP（timedatectl），或换主板上的时钟电池",
            "check the network and NTP (timedatectl), or the battery of the board's clock",
        ),
    );
}

/// The exit code of a wrong command line stands apart from the findings' 0, 1 and 2.
const _: () = assert!(EXIT_CONFIG > 2);
