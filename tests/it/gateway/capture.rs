//! A field problem becomes a test: frames of a running gateway go into a file, and the file is played anywhere.

use crate::support::gateway::{BROKER, House, Running, device, ended, smoke, topic};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

fn house() -> House {
    let heat = device("gas-1", "fengsui/gas-json", "broker", "address = \"gas-1\"");
    House::build(BROKER, &[smoke("sd-1", "broker"), smoke("sd-2", "broker"), heat].concat())
        .with_a_known_page()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn frames_of_a_running_gateway_are_captured_by_device_and_played_again() {
    let house = house();
    let gateway = house.launch().await;
    let file = house.data().join("../night.jsonl");
    let capture = Command::new(env!("CARGO_BIN_EXE_fengsui"))
        .args([
            "capture",
            "--frames",
            "3",
            "--device",
            "sd-1",
            "--config",
            path(&house.config()),
            "--out",
            path(&file),
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut capture = Running(capture);
    let mut pen = gateway.pen("pen").await;
    while capture.0.try_wait().unwrap().is_none() {
        // Until it listens it sees nothing of this.
        pen.publish(&topic("sd-2"), r#"{"smoke":1}"#).await;
        pen.publish(&topic("sd-1"), r#"{"smoke":1,"temperature":30}"#).await;
    }
    assert_eq!(ended(&mut capture.0).await.code(), Some(0));
    gateway.stop().await;
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[..3].iter().all(|line| line["device"] == "sd-1" && line["topic"] == json!(topic("sd-1"))));
    assert_eq!(lines[3], json!({ "end": "frames", "frames": 3, "dropped": 0 }));

    let replay = |more: &[&str]| {
        let config = house.config();
        let arguments = [&["replay", path(&file), "--config", path(&config)], more].concat();
        House::tool(&arguments)
    };
    let (code, said) = replay(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("火警") && !said.contains("sd-2"), "{said}");
    let log: String =
        said.lines().filter(|line| line.contains(" | ")).map(|line| format!("{line}\n")).collect();
    assert_eq!(log.lines().count(), 1, "one fire, told three times: {said}");
    let expected = house.data().join("../expected.txt");
    std::fs::write(&expected, format!("# what the duty room saw\n{log}")).unwrap();
    let (code, said) = replay(&["--expect", path(&expected)]);
    assert!(code == Some(0) && said.contains("与预期一致"), "{said}");
    std::fs::write(&expected, log.replace("sd-1", "sd-7")).unwrap();
    let (code, said) = replay(&["--expect", path(&expected)]);
    assert_eq!(code, Some(1), "{said}");
    let told =
        |mark: &str, what: &str| said.lines().any(|line| line.starts_with(mark) && line.contains(what));
    assert!(told("- ", "sd-7") && told("+ ", "sd-1"), "{said}");
}

#[tokio::test]
async fn a_capture_without_a_gateway_or_without_the_token_says_what_to_do() {
    let house = house();
    let capture = || House::tool(&["capture", "--seconds", "1", "--config", path(&house.config())]);
    let (code, said) = capture();
    assert!(code == Some(1) && said.contains("capture.token") && said.contains("root"), "{said}");
    std::fs::create_dir_all(house.data()).unwrap();
    std::fs::write(house.data().join("capture.token"), "x").unwrap();
    let (code, said) = capture();
    assert!(code == Some(1) && said.contains("is the gateway running?"), "{said}");
}

/// A file by hand: what a maintainer is sent by e-mail.
const FRAMES: &str = r#"# the night of the 15th
{"at":"2026-01-15T10:00:00+08:00","link":"broker","topic":"site/a/device/sd-1/up","payload":"{\"smoke\":0,\"temperature\":21}"}
{"at":"2026-01-15T10:00:05+08:00","link":"broker","topic":"site/a/device/gas-1/up","payload":"{\"gas\":"}
{"at":"2026-01-15T10:00:10+08:00","link":"broker","topic":"site/a/device/sd-1/up","payload":"{\"smoke\":1}"}
{"at":"2026-01-15T10:00:20+08:00","link":"broker","topic":"site/a/device/sd-9/up","payload":"{\"smoke\":1}"}
{"at":"2026-01-15T10:00:30+08:00","link":"broker","topic":"site/a/device/sd-1/up","payload":"{\"smoke\":2}"}
"#;

#[tokio::test]
async fn a_replay_tells_the_duty_log_at_the_frames_own_times_and_what_could_not_be_read() {
    let house = house();
    let file = house.config().with_file_name("night.jsonl");
    std::fs::write(&file, FRAMES).unwrap();
    let replay = |more: &[&str]| {
        let config = house.config();
        let arguments = [&["replay", path(&file), "--config", path(&config)], more].concat();
        House::tool(&arguments)
    };
    let (code, said) = replay(&["--readings", "--wait", "120"]);
    assert_eq!(code, Some(0), "{said}");
    let log: Vec<&str> = said.lines().filter(|line| line.starts_with("2026-01-15T")).collect();
    assert_eq!(
        log[..2],
        [
            "2026-01-15T10:00:00+08:00 | sd-1/smoke = 正常",
            "2026-01-15T10:00:00+08:00 | sd-1/temperature = 21.0 ℃"
        ]
    );
    let at = |time: &str, what: &str| {
        log.iter().any(|line| line.starts_with(&format!("2026-01-15T{time}+08:00")) && line.contains(what))
    };
    assert!(at("10:00:10", "火警") && at("10:00:30", "故障"), "{said}");
    assert!(said.contains("night.jsonl:3 gas-1: 不是有效的 JSON"), "{said}");
    assert!(said.contains("night.jsonl:5 broker: ") && said.contains("sd-9"), "{said}");
    assert!(said.contains("文件不完整") && said.contains("5 条报文，4 个读数，2 条读不懂"), "{said}");
    assert!(!house.data().exists(), "a replay writes nothing");
    let (_, said) = replay(&["--lang", "en"]);
    assert!(said.contains("fire") && !said.contains("火警"), "{said}");
    std::fs::write(&file, format!("{FRAMES}nonsense\n")).unwrap();
    let (code, said) = replay(&[]);
    assert!(code == Some(1) && said.contains("night.jsonl:7: "), "{said}");
}
