//! `fengsui audit`: whether the duty log is still what was written, line by line.

use super::check::EXIT_CONFIG;
use super::known::{Known, say, tell};
use crate::backup::{MANIFEST, Manifest, local};
use crate::journal::{Archive, AuditReport, Compared, OpenError, ReadError};
use std::path::{Path, PathBuf};

/// What can be asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Verify the hash chain over the duty log of a gateway (running or not) or of a backup.
    Verify {
        /// The gateway's configuration.
        #[arg(long, conflicts_with_all = ["data", "place"])]
        config: Option<PathBuf>,
        /// A data directory.
        #[arg(long, conflicts_with = "place")]
        data: Option<PathBuf>,
        /// A backup's folder, a data directory, or the file journal.db in one of them.
        place: Option<PathBuf>,
        /// A head that was written down elsewhere, as `count:sum`: shows whether the log was cut short or rewritten since.
        #[arg(long)]
        expect: Option<String>,
    },
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let What::Verify { config, data, place, expect } = &arguments.what;
    let dir = match (config, data, place) {
        (_, Some(data), _) => data.clone(),
        (_, _, Some(place)) => folder_of(place),
        (config, None, None) => {
            let config = config.clone().unwrap_or_else(|| PathBuf::from("gateway.toml"));
            match Known::insist(&config) {
                Ok(known) => known.gateway.journal.dir,
                Err(code) => return code,
            }
        }
    };
    if let Some(Err(error)) = expect.as_deref().map(str::parse::<crate::journal::AuditHead>) {
        tell(&format!("✘ --expect 不是链头，应形如 1234:9f86d0…（冒号后 64 位）\n  {error}\n"));
        return EXIT_CONFIG;
    }
    // A backup says itself what its head was.
    let own = dir.join(MANIFEST).exists().then(|| Manifest::read(&dir)).transpose();
    let own = match own {
        Ok(own) => own.map(|manifest| manifest.journal.audit),
        Err(error) => {
            super::known::refuse(&error);
            return 1;
        }
    };
    let expect = expect.clone().or(own);
    match verify(&dir, expect.as_deref()) {
        Ok(Answer { report, from, to }) => {
            say(&told(&dir, &report, from.as_deref(), to.as_deref()));
            u8::from(!report.sound())
        }
        Err(text) => {
            tell(&format!("✘ {} 无法核对：{text}\n", dir.display()));
            1
        }
    }
}

fn folder_of(place: &Path) -> PathBuf {
    match place.parent() {
        Some(folder) if place.is_file() => {
            if folder.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                folder.to_owned()
            }
        }
        _ => place.to_owned(),
    }
}

struct Answer {
    report: AuditReport,
    from: Option<String>,
    to: Option<String>,
}

fn verify(dir: &Path, expect: Option<&str>) -> Result<Answer, String> {
    let archive = Archive::open(dir).map_err(|error| match error {
        OpenError::Older { found, known, .. } => format!(
            "旧格式（{found}，现在是 {known}）的日志：启动一次网关会自动升级，备份先用 fengsui restore 恢复，再核对 / an older format ({found}, now {known}): start the gateway once, or restore the backup with fengsui restore, then verify"
        ),
        error => error.to_string(),
    })?;
    let words = |error: ReadError| error.to_string();
    let report = archive.audit(expect).map_err(words)?;
    let (from, to) = archive
        .log_span()
        .map_err(words)?
        .map_or((None, None), |(from, to)| (Some(local(from)), Some(local(to))));
    Ok(Answer { report, from, to })
}

fn told(dir: &Path, report: &AuditReport, from: Option<&str>, to: Option<&str>) -> String {
    let (dir, head, lines) = (dir.display(), report.head, report.lines);
    let (from, to) = (from.unwrap_or("-"), to.unwrap_or("-"));
    if report.sound() {
        let (zh, en) = match report.compared {
            Compared::NotAsked => (
                "没有可比对的链头：末尾是否被截去要靠另处抄下的链头（--expect）",
                "no head to compare with: whether the end was cut off only a head written down elsewhere shows (--expect)",
            ),
            Compared::Holds => ("与给出的链头相符", "it holds the head that was given"),
            Compared::TooOld => (
                "给出的链头所在的行已按保存期限删除，无法比对",
                "the row of the head that was given was deleted by age: nothing can be said about it",
            ),
            Compared::Differs => ("与给出的链头不符", "it differs from the head that was given"),
        };
        let deleted = match report.deleted {
            0 => String::new(),
            n => format!("，另有 {n} 条按保存期限删除，链上有记载"),
        };
        return format!(
            "✔ {dir}：值班日志 {lines} 条（{from} 至 {to}）{deleted}，校验链完整\n  链头：{head}\n  {zh}\n  {lines} lines of the duty log, the chain is intact; {en}\n"
        );
    }
    let mut text = format!("✘ {dir}：值班日志与校验链不符，第一处：\n");
    let shown = report.findings.iter().take(SHOWN);
    for finding in shown {
        let at = finding.at.map_or_else(String::new, |at| format!("（{}）", local(at)));
        text += &format!("  {}{at}\n    {}\n", finding.text.zh, finding.text.en);
    }
    let rest = report.findings.len().saturating_sub(SHOWN) as u64 + report.more;
    if rest > 0 {
        text += &format!("  还有 {rest} 处 / {rest} more\n");
    }
    text + &format!("  链头 / head: {head}，相符的 / lines that agree: {lines}\n")
}

/// The first ones are told; a rewritten log has as many as lines.
const SHOWN: usize = 5;
