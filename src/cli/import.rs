//! `fengsui import`: files of `fengsui export` back into a data directory, while its gateway is stopped.

use super::check::EXIT_CONFIG;
use super::exchange::{self, CSV_HEAD, Format};
use super::export::Place;
use crate::config::Report;
use crate::config::library::shipped_library;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::profile::Vocabulary;
use crate::series::{self, Imported};
use anyhow::Context;
use clap::Args;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A line of an export has 200 bytes; one of many states a thousand. A longer one is another kind of file.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Wrong lines that are shown one by one; the rest is counted.
const WRONG_SHOWN: u64 = 100;

/// Takes samples and rolled-up records in. The same file twice changes nothing; no alarm is raised by what is taken in.
#[derive(Debug, Args)]
pub struct Import {
    /// Files of `fengsui export`: CSV, NDJSON or line protocol with times in ms, compressed by gzip or not.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// What the files are; told by their first line otherwise.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// What was read besides what was taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lines {
    /// Lines that were understood.
    pub read: u64,
    /// Lines that were not.
    pub wrong: u64,
}

impl Import {
    /// Exit codes: 0 all lines are in, 1 it failed or some lines were wrong, 64 something is wrong with the configuration.
    #[expect(clippy::print_stderr, reason = "a person reads it in his terminal")]
    pub(super) fn run(&self) -> ExitCode {
        let found = match self.place.find() {
            Ok(found) => found,
            Err(wrong) => {
                eprintln!("{wrong}");
                return ExitCode::from(EXIT_CONFIG);
            }
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("cannot start the runtime: {error}");
                return ExitCode::FAILURE;
            }
        };
        let taken = runtime.block_on(async {
            // The lock of the journal: a gateway that runs on it makes this fail, with words.
            let (journal, _) = Journal::open(&found.dir, found.limits.clone(), Metrics::new())?;
            take_all(&journal, &self.files, self.format, &mut |wrong| eprintln!("{wrong}")).await
        });
        match taken {
            Ok((lines, imported)) => {
                eprintln!("{}", summary(&lines, &imported));
                if lines.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => {
                eprintln!("导入失败 / the import failed: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Takes all files in. Wrong lines are told with their place.
pub async fn take_all(
    journal: &Journal,
    files: &[PathBuf],
    format: Option<Format>,
    tell: &mut dyn FnMut(String),
) -> anyhow::Result<(Lines, Imported)> {
    let library = shipped_library(&mut Report::default()).context("the built-in vocabulary is broken")?;
    let mut import = series::Import::new(journal);
    let mut lines = Lines::default();
    for path in files {
        take_file(&mut import, path, format, &library.vocabulary, &mut lines, tell)
            .await
            .with_context(|| path.display().to_string())?;
    }
    if lines.wrong > WRONG_SHOWN {
        let more = lines.wrong - WRONG_SHOWN;
        tell(format!("还有 {more} 行有错 / {more} more lines are wrong"));
    }
    Ok((lines, import.finish().await?))
}

async fn take_file(
    import: &mut series::Import<'_>,
    path: &Path,
    mut format: Option<Format>,
    vocabulary: &Vocabulary,
    lines: &mut Lines,
    tell: &mut dyn FnMut(String),
) -> anyhow::Result<()> {
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    for number in 1u64.. {
        bytes.clear();
        if file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        anyhow::ensure!(
            bytes.ends_with(b"\n") || (bytes.len() as u64) < LINE_BYTES_MAX,
            "第 {number} 行太长，不是导出文件 / line {number} is too long: this is no file of an export"
        );
        let read = match std::str::from_utf8(&bytes) {
            Err(_) => Err("not UTF-8".to_owned()),
            Ok(text) => {
                // Spreadsheet programs put a mark before the first line.
                let line = text.trim_end_matches(['\r', '\n']).trim_start_matches('\u{feff}');
                if line.is_empty() || line == CSV_HEAD {
                    format = format.or((!line.is_empty()).then_some(Format::Csv));
                    continue;
                }
                let format = *format.get_or_insert_with(|| guess(line));
                exchange::read(format, vocabulary, line)
            }
        };
        match read {
            Ok((point, item)) => {
                lines.read += 1;
                import.take(point, item).await?;
            }
            Err(wrong) => {
                lines.wrong += 1;
                if lines.wrong <= WRONG_SHOWN {
                    tell(format!("{}:{number}: {wrong}", path.display()));
                }
            }
        }
    }
    Ok(())
}

fn open(path: &Path) -> std::io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    let packed = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if packed { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) })
}

fn guess(line: &str) -> Format {
    match line {
        line if line.starts_with('{') => Format::Ndjson,
        line if line.contains(",device=") => Format::Lp,
        _ => Format::Csv,
    }
}

fn summary(lines: &Lines, imported: &Imported) -> String {
    let Imported { samples, samples_known, records, records_known, passed_over, .. } = imported;
    let mut text = format!(
        "读取 {} 行：新增 {samples} 个样本、{records} 条汇总；已有 {samples_known} 个样本、{records_known} 条汇总 / {} lines read: {samples} new samples, {records} new records; {samples_known} samples and {records_known} records were there already",
        lines.read, lines.read
    );
    if *passed_over > 0 {
        text += &format!(
            "\n{passed_over} 行所属时间已汇总或有另一精度的数据，未导入 / {passed_over} lines are of a time that is rolled up, or held in another detail, and were passed over"
        );
    }
    if lines.wrong > 0 {
        text +=
            &format!("\n{} 行有错，未导入 / {} lines are wrong and were left out", lines.wrong, lines.wrong);
    }
    text
}
