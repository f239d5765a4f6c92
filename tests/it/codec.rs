//! `fengsui codec`: a vendor's JavaScript on a file of cases, beside Node.

mod in_profile;

use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A codec of the kind that vendors publish: undeclared variables, `Buffer`, dates, and all that goes wrong.
const CODEC: &str = include_str!("codec/vendor.js");

/// Calls it in Node for each line, in a realm of its own, and writes what `JSON.stringify` says.
const NODE: &str = include_str!("codec/node.js");

fn run(mut command: Command, input: &str) -> (Option<i32>, Vec<String>) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().ok();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (output.status.code(), lines)
}

fn ours(codec: &Path, cases: &str) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fengsui"));
    command.arg("codec").arg(codec).args(["--batch", "-"]);
    run(command, cases)
}

#[test]
fn a_codec_answers_line_by_line_as_node_does() {
    let folder = tempfile::tempdir().unwrap();
    let codec = folder.path().join("vendor.js");
    std::fs::write(&codec, CODEC).unwrap();
    let mut cases = String::new();
    // Every port is another trial of `vendor.js`; each over frames of several lengths.
    for port in 0..=10 {
        for bytes in [
            "",
            "00",
            "ff7f",
            "0175640367f8000468650500016a01",
            "e783bde787a7ff80000000c03fdb0f4940182d4454fb210940",
        ] {
            cases.push_str(
                &json!({ "bytes": bytes, "fPort": port, "recvTime": "2026-01-15T10:30:05.25+08:00" })
                    .to_string(),
            );
            cases.push('\n');
        }
    }
    let script = folder.path().join("node.js");
    std::fs::write(&script, NODE).unwrap();
    let mut node = Command::new("node");
    node.arg(script).arg(&codec);
    let (_, expected) = run(node, &cases);
    let (code, answers) = ours(&codec, &cases);
    assert_eq!(code, Some(0));
    assert_eq!((answers.len(), expected.len()), (55, 55));
    for ((case, answer), expected) in cases.lines().zip(&answers).zip(&expected) {
        let (answer, expected): (Value, Value) =
            (serde_json::from_str(answer).unwrap(), serde_json::from_str(expected).unwrap());
        assert_eq!(answer, expected, "{case}");
    }
    let answered = answers.iter().filter(|answer| !answer.starts_with(r#"{"error""#)).count();
    assert!(answered > 35, "{answered} of 55 are answers: the trial compares errors only");
}

#[test]
fn a_frame_that_runs_wild_is_an_error_and_the_next_one_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let codec = folder.path().join("wild.js");
    let script = "function Decoder(bytes, port) { if (port === 1) for (;;) {} if (port === 2) throw new Error('no such port');
        if (port === 3) return 'x'.repeat(100000000); return { n: bytes.length } }";
    std::fs::write(&codec, script).unwrap();
    let cases = r#"{"bytes":"01","fPort":1}
{"bytes":"0102","fPort":9}
{"bytes":"01","fPort":2}

{"bytes":[1,2,3],"fPort":9,"name":"a key that is passed over"}
{"bytes":"01","fPort":3}
no case
{"bytes":"0102030405"}"#;
    let (code, answers) = ours(&codec, cases);
    assert_eq!(code, Some(1), "a line was no case");
    let error = |text: &str| json!({ "error": text }).to_string();
    assert_eq!(answers[0], error("the codec went on without an end (a loop?) and was stopped"));
    assert_eq!(answers[1], r#"{"n":2}"#);
    assert_eq!(answers[2], error("Error: no such port"));
    assert_eq!(answers[3], r#"{"n":3}"#);
    assert_eq!(answers[4], error("the codec wanted more than 32 MiB and was stopped"));
    assert!(answers[5].starts_with(r#"{"error":"line 7: "#), "{}", answers[5]);
    assert_eq!(answers[6], r#"{"n":5}"#);
    std::fs::write(&codec, "function Encoder() {}").unwrap();
    assert_eq!(ours(&codec, cases), (Some(64), Vec::new()));
}
