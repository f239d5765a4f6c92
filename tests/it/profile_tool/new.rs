//! `fengsui profile new`: what it writes passes `check` and `test` at once, whatever it was made from.

use super::{shipped, tool, tool_with};
use crate::support::modbus_peers::Peer;
use std::path::{Path, PathBuf};
use std::process::Stdio;

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The file passes both, and its text. A limit of fire that nothing of what came reaches is left to the person.
pub(super) fn passes(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (code, said) = tool(&["check", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}\n{text}");
    let (code, said) = tool(&["test", path.to_str().unwrap()]);
    let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("  ✗")).collect();
    assert!(failed.iter().all(|line| line.contains("a limit of fire needs an example")), "{said}\n{text}");
    assert_eq!(code, Some(i32::from(!failed.is_empty())), "{said}\n{text}");
    text
}

fn captured(topic: &str, second: u32, payload: &str) -> String {
    let payload = serde_json::to_string(payload).unwrap();
    format!(r#"{{"at":"2026-11-20T08:00:{second:02}Z","link":"hall","topic":"{topic}","payload":{payload}}}"#)
}

#[test]
fn a_capture_becomes_a_profile_that_passes_at_once_and_is_never_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> = [
        r#"{"ts":1795161601000,"烟感":0,"wendu":23.5,"dianliang":97,"rssi":-71,"fw":"1.2"}"#,
        r#"{"ts":1795161611000,"烟感":1,"wendu":41.5,"dianliang":97,"rssi":-75,"fw":"1.2"}"#,
        r#"{"ts":1795161621000,"烟感":1,"wendu":43,"dianliang":96,"rssi":-75,"fw":"1.2"}"#,
    ]
    .iter()
    .zip([1, 11, 21])
    .map(|(payload, second)| captured("site/home/device/yg-01/up", second, payload))
    .collect();
    lines.push(r#"{"end":"seconds","frames":3,"dropped":0}"#.to_owned());
    let capture = write(folder.path(), "capture.jsonl", &lines.join("\n"));
    let profiles = folder.path().join("profiles");
    let arguments =
        ["new", profiles.to_str().unwrap(), "--from", &capture, "--vendor", "Acme", "--model", "YG 01"];
    let (code, said) = tool(&arguments);
    assert_eq!(code, Some(0), "{said}");
    for told in
        ["✓ 已写", "acme/yg-01.toml", "smoke_alarm", "未识别 not recognised: fw", "fengsui profile check"]
    {
        assert!(said.contains(told), "{told:?} is missing:\n{said}");
    }
    let path = profiles.join("acme/yg-01.toml");
    let text = passes(&path);
    for part in [
        "site/home/device/{address}/up",
        "json = \"ts\"\nunit = \"ms\"",
        "class = \"smoke_alarm\"",
        "class = \"heat_temperature\"\nunit = \"℃\"",
        "class = \"battery\"",
        "class = \"signal\"",
        "按说明书核对",
        "refused = true",
    ] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    let (code, said) = tool(&["try", path.to_str().unwrap(), "--frame", r#"{"烟感":1}"#]);
    assert!(code == Some(0) && said.contains("▲ 立即报【感烟火警】"), "{said}");

    std::fs::write(&path, "# mine\n").unwrap();
    let (code, said) = tool(&arguments);
    assert!(code == Some(64) && said.contains("--force"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "# mine\n");
    let (code, _) = tool(&[&arguments[..], &["--force"]].concat());
    assert_eq!(code, Some(0));
    passes(&path);
}

/// Messages as they stand in the examples of shipped profiles: what others' devices really say.
#[test]
fn messages_of_shipped_profiles_are_drafted_again() {
    let folder = tempfile::tempdir().unwrap();
    for (id, topic, classes) in [
        ("fengsui/smoke-json", "site/home/device/sd-01/up", &["smoke_alarm", "heat_temperature"][..]),
        ("fengsui/water-json", "site/home/device/w-01/up", &["pressure"]),
        ("zigbee2mqtt/heiman-hs1sa-e", "zigbee2mqtt/smoke-hall", &["smoke_alarm", "battery", "link_quality"]),
        ("milesight/gs524n", "application/1/device/24e124136b000001/event/up", &["smoke", "signal"]),
        ("shelly/flood-gen1", "shellies/shellyflood-7A8B/sensor/flood", &[]),
    ] {
        let file: toml::Table = shipped(id).parse().unwrap();
        let examples = file["example"].as_array().unwrap();
        let read = examples
            .iter()
            .filter(|example| example.get("refused").is_none() && example.get("topic").is_none());
        let inputs: Vec<&str> = read.map(|example| example["input"].as_str().unwrap()).collect();
        let path = folder.path().join(format!("{id}.toml"));
        let mut arguments = vec!["new", path.to_str().unwrap(), "--topic", topic];
        inputs.iter().for_each(|input| arguments.extend(["--sample", input]));
        let (code, said) = tool(&arguments);
        assert_eq!(code, Some(0), "{id}: {said}");
        let text = passes(&path);
        assert!(text.contains("{address}"), "{id}\n{text}");
        for class in classes {
            assert!(
                text.lines().any(|line| line.starts_with("class") && line.contains(class)),
                "{id} {class}\n{text}"
            );
        }
    }
}

#[test]
fn what_cannot_be_drafted_says_why_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("profiles");
    let into = into.to_str().unwrap();
    for (arguments, code, told) in [
        (&["--sample", r#"{"smoke":1}"#][..], 64, "--topic"),
        (&["--sample", r#"{"foo":17}"#, "--topic", "a/b"], 1, "foo = 17"),
        (&["--sample", r#"{"foo":17}"#, "--topic", "a/b", "--pick", "foo"], 64, "PATH CLASS UNIT"),
        (
            &["--sample", r#"{"foo":17}"#, "--topic", "a/b", "--pick", "foo batery"],
            1,
            "did you mean \"battery\"?",
        ),
        (&["--from", "/nowhere/capture.jsonl"], 64, "读不了"),
        (&["--probe", "tcp://127.0.0.1"], 64, "127.0.0.1:502"),
        (&["--probe", "serial"], 64, "tcp://host:port/unit"),
        (&["--probe", "tcp://127.0.0.1:1/1", "--range", "9..3"], 64, "0..63"),
        (&["--probe", "tcp://127.0.0.1:1/1", "--pick", "holding@4 battery"], 64, "u16 i16"),
    ] {
        let (ended, said) = tool(&[&["new", into], arguments].concat());
        assert!(ended == Some(code) && said.contains(told), "{arguments:?} ended with {ended:?}: {said}");
    }
    assert!(!Path::new(into).exists());
    let (code, said) =
        tool(&["new", into, "--sample", r#"{"foo":17}"#, "--topic", "a/b", "--pick", "foo battery"]);
    assert_eq!(code, Some(0), "{said}");
    passes(&PathBuf::from(into).join("unknown/device.toml"));
}

/// A float by mbpoll in its own word order, two addresses before the end of what the unit has.
async fn write_float(port: u16, address: u16, value: &str) {
    let mut command = tokio::process::Command::new("mbpoll");
    command.args(["-1", "-0", "-m", "tcp", "-a", "1", "-t", "4:float", "-p"]).arg(port.to_string());
    command
        .arg("-r")
        .arg(address.to_string())
        .args(["127.0.0.1", value])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.expect("mbpoll is not installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registers_of_pymodbus_are_shown_as_all_that_they_may_be_and_picked_into_a_profile() {
    let peer = Peer::pymodbus_tcp(0, &[1]).await;
    write_float(peer.port, 500, "23.5").await;
    let url = format!("tcp://127.0.0.1:{}/1", peer.port);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acme/m1.toml");
    let file = path.to_str().unwrap();
    let said = tokio::task::block_in_place(|| {
        let (code, said) = tool(&["new", file, "--probe", &url, "--range", "496..519"]);
        assert_eq!(code, Some(0), "{said}");
        said
    });
    // Unit 1, function 3, address 496 is 0x01C3; those from 512 it does not have.
    for told in
        ["holding@496", "0x01C3", "512..519", "★", "f32 CDAB = 23.5", "23.5 ℃?", "input@496", "--pick"]
    {
        assert!(said.contains(told), "{told:?} is missing:\n{said}");
    }
    assert!(!path.exists(), "nothing is written without a pick");

    let picks = ["holding@500 f32 CDAB temperature", "input@8 u16 x0.1 phase_voltage", "coil@3 tamper"];
    let mut arguments = vec!["new", file, "--probe", &url];
    picks.iter().for_each(|pick| arguments.extend(["--pick", pick]));
    tokio::task::block_in_place(|| {
        let (code, said) = tool(&arguments);
        assert_eq!(code, Some(0), "{said}");
        let text = passes(&path);
        assert!(text.contains("23.5 ℃") && text.contains("order = \"CDAB\""), "{text}");
        // The gateway's own reading of the device by that file.
        let (code, said) = tool(&["try", file, "--live", &url, "--count", "1"]);
        assert!(
            code == Some(0) && said.contains("holding@500: 0000 41BC") && said.contains("23.5 ℃"),
            "{said}"
        );
        let (code, said) = tool(&["try", file, "--live", "tcp://127.0.0.1:1/1", "--count", "1"]);
        assert_eq!(code, Some(1), "{said}");
    });
}

#[test]
fn by_questions_and_answers_a_profile_of_messages_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().to_str().unwrap().to_owned();
    let answers = [
        "Acme",
        "SD-9",
        "感烟探测器",
        "Smoke detector",
        "SD-9 manual, p. 3",
        "mqtt",
        "acme/{address}/up",
        "", // no message at hand
        "smoke",
        "烟感",
        "1",
        "0=normal 1=alarm 2=fault", //
        "d.t",
        "nonsense",
        "温度",
        "ambient_temperature",
        "℃",
        "0.1",
        "235 240", //
        "smoke",   // there already
        "",
    ];
    let (code, said) = tool_with(&answers.join("\n"), &["new", &into]);
    assert_eq!(code, Some(0), "{said}");
    let text = passes(&folder.path().join("acme/sd-9.toml"));
    for part in
        ["SD-9 manual, p. 3", "\"2\" = \"fault\"", "scale = 0.1", "23.5 ℃", "感烟探测器", "json = \"d.t\""]
    {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    assert!(said.contains("no class is called so") && said.contains("each once"), "{said}");

    // With a message at hand the fields are recognised, and a person mends one.
    let answers = [
        "Acme",
        "SD-8",
        "",
        "",
        "",
        "1",
        "acme/{address}/up",
        r#"{"smoke":0,"x":7}"#,
        "",
        "x",
        "y",
        "battery",
        "%",
        "",
    ];
    let (code, said) = tool_with(&answers.join("\n"), &["new", &into]);
    assert_eq!(code, Some(0), "{said}");
    let text = passes(&folder.path().join("acme/sd-8.toml"));
    assert!(
        text.contains("class = \"smoke_alarm\"") && text.contains("class = \"battery\"\nunit = \"%\""),
        "{text}"
    );
}

#[test]
fn by_questions_and_answers_a_profile_of_registers_is_made_and_an_early_end_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().to_str().unwrap().to_owned();
    let answers = [
        "Acme",
        "M-1",
        "电表",
        "Meter",
        "manual",
        "modbus", //
        "holding@4",
        "f32",
        "CDAB",
        "电压",
        "phase_voltage",
        "V",
        "",
        "229.5 231.5", //
        "discrete@2",
        "漏水",
        "0=false 1=true", //
        "attic@1",
        "u16",
        "battery", // no such table
        "",
    ];
    let (code, said) = tool_with(&answers.join("\n"), &["new", &into]);
    assert_eq!(code, Some(0), "{said}");
    let text = passes(&folder.path().join("acme/m-1.toml"));
    for part in
        ["address_base = 0", "order = \"CDAB\"", "229.5 V", "class = \"water_leak\"", "table = \"discrete\""]
    {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    let (code, said) = tool_with("Acme\nM-2\n", &["new", &into]);
    assert!(code == Some(1) && said.contains("nothing was written"), "{said}");
    assert!(!folder.path().join("acme/m-2.toml").exists());
}
