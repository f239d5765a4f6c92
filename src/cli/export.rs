//! `fengsui export`: the time series of any range as text, beside a running gateway or without one.

use super::check::EXIT_CONFIG;
use super::exchange::{self, CSV_HEAD, Format};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::render::Colour;
use crate::journal::{Archive, Limits};
use crate::model::{Plan, PointId, Span, Timestamp};
use crate::series::{self, ExportError, Told};
use anyhow::Context;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Which gateway: by its configuration, which knows units and states, or by its data directory alone.
#[derive(Debug, Args)]
pub struct Place {
    /// The gateway's configuration.
    #[arg(long, default_value = "gateway.toml", conflicts_with = "data")]
    config: PathBuf,
    /// The data directory, when there is no configuration: units and the states of line protocol are then unknown.
    #[arg(long)]
    data: Option<PathBuf>,
}

/// A place that was found.
pub(super) struct Found {
    pub(super) dir: PathBuf,
    pub(super) plan: Arc<Plan>,
    pub(super) limits: Limits,
}

impl Place {
    /// Reads the configuration. Secrets are of no use here: one that is missing is no mistake.
    pub(super) fn find(&self) -> Result<Found, String> {
        if let Some(dir) = &self.data {
            return Ok(Found { dir: dir.clone(), plan: Arc::default(), limits: Limits::default() });
        }
        let env = |name: &str| std::env::var(name).ok().or_else(|| Some("-".to_owned()));
        match Config::load(&self.config, &env) {
            Ok((config, _)) => {
                let bytes_max = config.gateway.journal.size_max_bytes;
                let limits = Limits { bytes_max, ..Limits::default() };
                Ok(Found { dir: config.gateway.journal.dir, plan: config.plan, limits })
            }
            Err(report) => Err(report.render(Colour::No)),
        }
    }
}

/// Writes every sample of a range, also those that are not sealed yet, and where samples were rolled up the records of a
/// minute or an hour in their place.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    place: Place,
    /// The first time: 2026-11-01 (midnight UTC), 2026-11-01T08:00:00+08:00, or -30d, -12h, -90m before now. Without an
    /// offset it is UTC. Without --from: the oldest.
    #[arg(long, allow_hyphen_values = true)]
    from: Option<String>,
    /// The first time that is not written, likewise. Without --to: now.
    #[arg(long, allow_hyphen_values = true)]
    to: Option<String>,
    /// Which points, `*` for anything: `sd-01/*`, `*/residual`. May be given several times. Without it: all.
    #[arg(long)]
    point: Vec<String>,
    /// csv, ndjson, or lp: line protocol with times in ms, to be written with precision=ms.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// The file; compressed when its name ends in .gz. Without it: standard output.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What is written, once the words of the command line are understood.
#[derive(Debug)]
pub struct Wanted {
    /// From the first time, up to before the second.
    pub range: (Timestamp, Timestamp),
    /// Patterns of points; none: all.
    pub points: Vec<String>,
    /// As what.
    pub format: Format,
}

impl Export {
    /// Exit codes: 0 written, 64 something is wrong with the words or the configuration, 1 it failed.
    #[expect(clippy::print_stderr, reason = "a person reads it in his terminal")]
    pub(super) fn run(&self) -> ExitCode {
        let now = Clock::system().now();
        let time = |text: &Option<String>, otherwise: Timestamp| {
            text.as_ref().map_or(Ok(otherwise), |text| read_time(text, now))
        };
        let range = time(&self.from, Timestamp::from_millis(i64::MIN))
            .and_then(|from| Ok((from, time(&self.to, now + Span::from_millis(1))?)));
        let found = range.and_then(|range| Ok((range, self.place.find()?)));
        let (range, found) = match found {
            Ok(found) => found,
            Err(wrong) => {
                eprintln!("{wrong}");
                return ExitCode::from(EXIT_CONFIG);
            }
        };
        let wanted = Wanted { range, points: self.point.clone(), format: self.format };
        match self.write(&found, &wanted) {
            Ok((told, unsaid)) => {
                eprintln!("{}", summary(&told, unsaid));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("导出失败 / the export failed: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn write(&self, found: &Found, wanted: &Wanted) -> anyhow::Result<(Told, u64)> {
        let archive = Archive::open(&found.dir)?;
        let Some(path) = &self.out else {
            let mut out = BufWriter::new(io::stdout().lock());
            let told = write_all(&archive, &found.plan, wanted, &mut out)?;
            out.flush()?;
            return Ok(told);
        };
        // Under another name until it is whole, so that nobody takes a half one for all.
        let mut part: OsString = path.clone().into();
        part.push(".part");
        let part = PathBuf::from(part);
        let written = write_file(&archive, &found.plan, wanted, path, &part);
        if written.is_err() {
            let _half = fs::remove_file(&part);
        }
        let told = written.with_context(|| path.display().to_string())?;
        fs::rename(&part, path).with_context(|| path.display().to_string())?;
        Ok(told)
    }
}

fn write_file(
    archive: &Archive,
    plan: &Plan,
    wanted: &Wanted,
    path: &Path,
    part: &Path,
) -> Result<(Told, u64), ExportError> {
    let file = BufWriter::new(File::create(part)?);
    let (told, file) = if path.extension().is_some_and(|extension| extension == "gz") {
        let mut out = GzEncoder::new(file, Compression::default());
        let told = write_all(archive, plan, wanted, &mut out)?;
        (told, out.finish()?)
    } else {
        let mut out = file;
        (write_all(archive, plan, wanted, &mut out)?, out)
    };
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(told)
}

/// Writes all lines. The second figure counts lines that the format could not say.
pub fn write_all(
    archive: &Archive,
    plan: &Plan,
    wanted: &Wanted,
    out: &mut dyn Write,
) -> Result<(Told, u64), ExportError> {
    if wanted.format == Format::Csv {
        writeln!(out, "{CSV_HEAD}")?;
    }
    let mut unsaid = 0;
    let mut line = String::with_capacity(256);
    let these = |point: &PointId| {
        wanted.points.is_empty() || wanted.points.iter().any(|pattern| fits(pattern, point.as_str()))
    };
    let told = series::export(archive, wanted.range, these, |point, item| {
        line.clear();
        unsaid += u64::from(!exchange::write(&mut line, wanted.format, plan, point, &item));
        out.write_all(line.as_bytes())
    })?;
    Ok((told, unsaid))
}

fn summary(told: &Told, unsaid: u64) -> String {
    let Told { points, samples, records, damaged } = told;
    let mut text = format!(
        "{points} 个测点，{samples} 个样本，{records} 条汇总 / {points} points, {samples} samples, {records} rolled-up records"
    );
    if *damaged > 0 {
        text += &format!("；{damaged} 块已损坏，已跳过 / {damaged} damaged pieces were passed over");
    }
    if unsaid > 0 {
        text += &format!(
            "；{unsaid} 行无法用此格式表示，请加 --config 或改用 csv / {unsaid} lines cannot be said in this format: give --config, or use csv"
        );
    }
    text
}

/// A time as a person writes it.
fn read_time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "看不懂的时间 / {text:?} is no time: 2026-11-01, 2026-11-01T08:00:00+08:00, 2026-11-01T00:00:00Z, -30d, -12h, -90m"
        )
    };
    if let Some(ago) = text.strip_prefix('-') {
        let unit = ago.chars().next_back().ok_or_else(wrong)?;
        let secs = match unit {
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            _ => return Err(wrong()),
        };
        let count: u32 = ago.trim_end_matches(unit).parse().map_err(|_| wrong())?;
        return Ok(now - Span::from_secs(i64::from(count) * secs));
    }
    let midnight = text.len() == "2026-11-01".len();
    let without_offset = format!("{text}{}", if midnight { "T00:00:00Z" } else { "Z" });
    exchange::read_time(text)
        .ok()
        .filter(|_| text.contains('-'))
        .or_else(|| exchange::read_time(&without_offset).ok())
        .ok_or_else(wrong)
}

/// Whether a pattern with `*` and `?` fits a text.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Where the last star was, and how much of the text it has taken.
    let (mut at, mut place, mut star) = (0, 0, None);
    while place < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(&c) if c == '?' || c == text[place] => (at, place) = (at + 1, place + 1),
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (at, place) = (after + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_utc_unless_an_offset_is_written() {
        let now = Timestamp::from_secs(1_800_000_000);
        let read = |text: &str| read_time(text, now).map(|time| time.to_string());
        for (text, time) in [
            ("2026-11-01", "2026-11-01T00:00:00.000Z"),
            ("2026-11-01T08:00:00", "2026-11-01T08:00:00.000Z"),
            ("2026-11-01T08:00:00+08:00", "2026-11-01T00:00:00.000Z"),
            ("2026-11-01T08:00:00.250Z", "2026-11-01T08:00:00.250Z"),
            ("-30d", "2026-12-16T08:00:00.000Z"),
            ("-12h", "2027-01-14T20:00:00.000Z"),
            ("-90m", "2027-01-15T06:30:00.000Z"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(time), "{text}");
        }
        for bad in ["", "-", "-3", "-3y", "yesterday", "2026", "2026-13-01", "01.11.2026"] {
            assert!(read(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn a_pattern_fits_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("*", "sd-01/smoke", true),
            ("sd-01/*", "sd-01/smoke", true),
            ("*/smoke", "sd-01/smoke", true),
            ("*/smok", "sd-01/smoke", false),
            ("sd-0?/s*e", "sd-01/smoke", true),
            ("sd-01", "sd-01/smoke", false),
            ("*1*k*", "sd-01/smoke", true),
            ("", "sd-01/smoke", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
