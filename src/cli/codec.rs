//! `fengsui codec`: a vendor's JavaScript codec alone, case by case. Opens nothing but its two files.

use crate::codec::{Codec, Refused, SCRIPT_BYTES_MAX, Uplink};
use crate::model::Timestamp;
use crate::profile::{hex, parse_iso8601};
use clap::Args;
use serde::Deserialize;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The longest line of a file of cases.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Runs a vendor's codec (decodeUplink, Decode or Decoder) on a file of cases, a JSON object a line:
/// {"bytes":"01ff…","fPort":85,"recvTime":"2026-01-15T10:30:05Z"}. For each line comes one line: the codec's own answer, or
/// {"error":"…"}.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The codec, as the vendor published it.
    codec: PathBuf,
    /// The cases; - for standard input.
    #[arg(long, value_name = "CASES.jsonl")]
    batch: PathBuf,
}

/// One case. Other keys (a name, what is expected) are passed over.
#[derive(Debug, Deserialize)]
struct Case {
    bytes: Bytes,
    #[serde(rename = "fPort", alias = "port", default)]
    port: Option<u8>,
    #[serde(rename = "recvTime", default)]
    recv_time: Option<String>,
    #[serde(default)]
    variables: Option<serde_json::Value>,
}

/// Hexadecimal, or an array of numbers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Hex(String),
    List(Vec<u8>),
}

/// Exit codes: 0 every line was a case (whatever the codec made of it), 1 one was not or nothing could be written, 64 the codec or
/// the file cannot be read.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let out = std::io::stdout().lock();
    match batch(&arguments.codec, &arguments.batch, out) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            say(&format!("{wrong} 行不是用例 / {wrong} lines are no cases"));
            ExitCode::FAILURE
        }
        Err(Failed::Input(why)) => {
            say(&why);
            ExitCode::from(super::check::EXIT_CONFIG)
        }
        Err(Failed::Output(why)) => {
            say(&format!("写不出结果 / cannot write: {why}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a person reads it in his terminal")]
fn say(text: &str) {
    eprintln!("{text}");
}

enum Failed {
    Input(String),
    Output(std::io::Error),
}

/// How many lines were no cases.
fn batch(codec: &Path, cases: &Path, out: impl Write) -> Result<usize, Failed> {
    let input =
        |path: &Path, why: &dyn std::fmt::Display| Failed::Input(format!("{}: {why}", path.display()));
    let mut script = Vec::new();
    std::fs::File::open(codec)
        .and_then(|file| file.take(SCRIPT_BYTES_MAX as u64 + 1).read_to_end(&mut script))
        .map_err(|why| input(codec, &why))?;
    let codec =
        Codec::new(String::from_utf8_lossy(&script)).map_err(|refused| input(codec, &both(&refused)))?;
    let mut lines: Box<dyn BufRead> = if cases == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(std::fs::File::open(cases).map_err(|why| input(cases, &why))?))
    };
    let mut out = BufWriter::new(out);
    let mut wrong = 0;
    let mut line = Vec::new();
    for number in 1_usize.. {
        line.clear();
        let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(|why| input(cases, &why))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = match case(&line) {
            Ok((bytes, case)) => answer(&codec, &bytes, &case),
            Err(why) => {
                wrong += 1;
                error(&format!("line {number}: {why}"))
            }
        };
        // A script that waits for each answer gets it.
        writeln!(out, "{answer}").and_then(|()| out.flush()).map_err(Failed::Output)?;
    }
    Ok(wrong)
}

fn case(line: &[u8]) -> Result<(Vec<u8>, Case), String> {
    let case: Case = serde_json::from_slice(line).map_err(|why| why.to_string())?;
    let bytes = match &case.bytes {
        Bytes::List(bytes) => bytes.clone(),
        Bytes::Hex(text) => hex(text.as_bytes()).map_err(|why| why.to_string())?,
    };
    Ok((bytes, case))
}

fn answer(codec: &Codec, bytes: &[u8], case: &Case) -> String {
    let nothing = serde_json::json!({});
    let uplink = Uplink {
        bytes,
        port: case.port,
        received_at: case.recv_time.as_deref().and_then(parse_iso8601).unwrap_or(Timestamp::from_millis(0)),
        recv_time: case.recv_time.as_deref(),
        variables: case.variables.as_ref().unwrap_or(&nothing),
    };
    match codec.decode(&uplink) {
        Ok(answer) => answer,
        Err(Refused::Threw(what)) => error(&what),
        Err(refused) => error(&refused.text().en),
    }
}

fn both(refused: &Refused) -> String {
    let text = refused.text();
    format!("{} / {}", text.zh, text.en)
}

fn error(what: &str) -> String {
    serde_json::json!({ "error": what }).to_string()
}
