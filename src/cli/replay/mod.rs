//! `fengsui replay`: frames of a file through the profiles and rules of a configuration, without a gateway: the duty log that
//! the duty room would have seen. With an expected log beside it a problem from the field is a test.

mod diff;

use super::check::EXIT_CONFIG;
use crate::capture::{Captured, Line};
use crate::config::Config;
use crate::config::render::Colour;
use crate::journal::LogLine;
use crate::model::{Device, DeviceId, Plan, Reading, Site, Span, Timestamp, Zone};
use crate::pipeline::{Binding, Player};
use crate::web::log_text::{line_text, reading_text};
use crate::web::texts::Lang;
use anyhow::{Context, bail};
use clap::Args;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Frames of one file: as many as a capture has at most. About 1 kB each in memory.
const FRAMES_MAX: usize = 1_000_000;
/// Problems that are written out; beyond, they are counted.
const PROBLEMS_MAX: usize = 200;

/// Plays a capture, or a download of the quarantine, and prints the duty log to standard output; what could not be read and
/// a summary go to standard error. Nothing is written, no gateway is touched.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The file: JSON lines as `fengsui capture` or the quarantine page write them.
    file: PathBuf,
    /// The configuration whose plan and profiles are used.
    #[arg(long, default_value = "gateway.toml")]
    config: PathBuf,
    /// The language of the duty log: zh or en.
    #[arg(long, default_value = "zh", value_parser = ["zh", "en"])]
    lang: String,
    /// Compare with this log instead of printing it: exit code 1 and the difference, unless it is the same.
    #[arg(long)]
    expect: Option<PathBuf>,
    /// Print every reading as well.
    #[arg(long)]
    readings: bool,
    /// Let so many seconds pass after the last frame: delays run out, silence is noticed.
    #[arg(long, default_value_t = 0)]
    wait: u32,
    /// Watch every device of the plan. Without it, those that the file has frames of: the others would all fall silent.
    #[arg(long)]
    all_devices: bool,
}

/// What a replay came to.
struct Outcome {
    /// The duty log, and the readings if they were asked for.
    text: String,
    problems: Vec<String>,
    frames: usize,
    readings: usize,
    unread: usize,
}

impl Replay {
    /// Exit codes: 0 played (and as expected), 64 the configuration is wrong, 1 not as expected, or it failed.
    #[expect(clippy::print_stderr, reason = "a person reads it in his terminal")]
    pub(super) fn run(&self) -> ExitCode {
        // Secrets are of no use here: one that is missing is no mistake.
        let env = |name: &str| std::env::var(name).ok().or_else(|| Some("-".to_owned()));
        let config = match Config::load(&self.config, &env) {
            Ok((config, _)) => config,
            Err(report) => {
                eprintln!("{}", report.render(Colour::No));
                return ExitCode::from(EXIT_CONFIG);
            }
        };
        match self.play(&config) {
            Ok(as_expected) => {
                if as_expected {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                }
            }
            Err(error) => {
                eprintln!("重放失败 / the replay failed: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    #[expect(clippy::print_stderr, reason = "a person reads it in his terminal")]
    fn play(&self, config: &Config) -> anyhow::Result<bool> {
        let (frames, whole) = read_file(&self.file)?;
        if !whole {
            eprintln!("文件不完整，缺少末行 / the file has no last line: it is not whole");
        }
        let lang = Lang::parse(&self.lang).unwrap_or_default();
        let outcome = self.outcome(config, &frames, lang);
        outcome.problems.iter().for_each(|problem| eprintln!("{problem}"));
        let hidden = outcome.unread.saturating_sub(outcome.problems.len());
        if hidden > 0 {
            eprintln!("另有 {hidden} 条读不懂 / {hidden} more could not be read");
        }
        let lines = outcome.text.lines().count();
        let Outcome { frames, readings, unread, .. } = outcome;
        eprintln!(
            "{frames} 条报文，{readings} 个读数，{unread} 条读不懂，{lines} 行日志 / {frames} frames, {readings} readings, {unread} that could not be read, {lines} lines of log"
        );
        let Some(expected) = &self.expect else {
            std::io::stdout().lock().write_all(outcome.text.as_bytes())?;
            return Ok(true);
        };
        let text = fs::read_to_string(expected).with_context(|| expected.display().to_string())?;
        let Some(difference) = diff::diff(&diff::lines(&text), &diff::lines(&outcome.text)) else {
            eprintln!("与预期一致 / as expected");
            return Ok(true);
        };
        eprintln!("与预期不同（- 缺少，+ 多出）/ not as expected (- missing, + too much):");
        std::io::stdout().lock().write_all(difference.as_bytes())?;
        Ok(false)
    }

    fn outcome(&self, config: &Config, frames: &[(usize, Captured)], lang: Lang) -> Outcome {
        let mut outcome = Outcome {
            text: String::new(),
            problems: Vec::new(),
            frames: frames.len(),
            readings: 0,
            unread: 0,
        };
        let (Some((_, first)), Some((_, last))) = (frames.first(), frames.last()) else { return outcome };
        let bindings: Vec<Binding> = config.bindings.iter().map(crate::app::binding).collect();
        let plan = match self.all_devices {
            true => config.plan.clone(),
            false => {
                let mut player = Player::new(config.plan.clone(), bindings.clone(), first.at);
                let heard = frames.iter().flat_map(|(_, frame)| player.devices(frame)).collect();
                Arc::new(only(&config.plan, &heard))
            }
        };
        let mut player = Player::new(plan.clone(), bindings, first.at);
        for (number, frame) in frames {
            let played = player.frame(frame);
            outcome.readings += played.readings.len();
            if self.readings {
                played.readings.iter().for_each(|reading| outcome.reading(&plan, reading, lang));
            }
            played.lines.iter().for_each(|line| outcome.line(&plan, line, lang));
            outcome.unread += usize::from(!played.problems.is_empty());
            for problem in played.problems {
                if outcome.problems.len() < PROBLEMS_MAX {
                    let whose = (played.device.as_ref())
                        .map_or_else(|| frame.link.to_string(), |device| device.to_string());
                    outcome.problems.push(format!("{}:{number} {whose}: {problem}", self.file.display()));
                }
            }
        }
        let end = last.at + Span::from_secs(self.wait.into());
        player.wait_until(end).iter().for_each(|line| outcome.line(&plan, line, lang));
        outcome
    }
}

impl Outcome {
    fn line(&mut self, plan: &Plan, line: &LogLine, lang: Lang) {
        writeln!(self.text, "{}", line_text(plan, line, lang)).expect("writing to a string cannot fail");
    }

    fn reading(&mut self, plan: &Plan, reading: &Reading, lang: Lang) {
        writeln!(self.text, "{}", reading_text(plan, reading, lang))
            .expect("writing to a string cannot fail");
    }
}

/// The plan with these devices only.
fn only(plan: &Plan, heard: &BTreeSet<DeviceId>) -> Plan {
    let devices = |zone: &Zone| -> Vec<Device> {
        zone.devices.iter().filter(|device| heard.contains(&device.id)).cloned().collect()
    };
    let zones = |site: &Site| {
        site.zones.iter().map(|zone| Zone { devices: devices(zone), ..zone.clone() }).collect::<Vec<_>>()
    };
    Plan::new(plan.sites.iter().map(|site| Site { zones: zones(site), ..site.clone() }).collect())
}

/// The frames with the numbers of their lines, in the order of their times, and whether the file has its last line.
fn read_file(path: &Path) -> anyhow::Result<(Vec<(usize, Captured)>, bool)> {
    let named = || path.display().to_string();
    let file = BufReader::new(File::open(path).with_context(named)?);
    let (mut frames, mut whole) = (Vec::new(), false);
    for (line, number) in file.lines().zip(1..) {
        let line = line.with_context(named)?;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match Line::parse(&line) {
            Ok(Line::Frame(frame)) => frames.push((number, frame)),
            Ok(Line::End(_)) => whole = true,
            Err(error) => bail!("{}:{number}: {error}", path.display()),
        }
        if frames.len() > FRAMES_MAX {
            bail!("报文太多，请分成几个文件 / more than {FRAMES_MAX} frames: make several files of it");
        }
    }
    // A download of the quarantine is in the order of arrival, which a clock that was set need not be.
    frames.sort_by_key(|(_, frame): &(usize, Captured)| -> Timestamp { frame.at });
    Ok((frames, whole))
}
