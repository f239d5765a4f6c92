//! `fengsui profile`: what the person who adds a device is told.

mod codec;
mod doc;
mod live;
mod new;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn tool(arguments: &[&str]) -> (Option<i32>, String) {
    tool_with("", arguments)
}

/// With that on its standard input.
fn tool_with(input: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fengsui"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("profile").args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // It may end without reading any of it.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn shipped(id: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("device-profiles/{id}.toml")))
        .unwrap()
}

/// A copy of a shipped profile with one thing changed, as `<vendor>/<model>.toml` of a folder.
fn changed(folder: &Path, id: &str, from: &str, to: &str) -> PathBuf {
    let text = shipped(id);
    assert!(text.contains(from), "{id} has no {from:?}");
    let path = folder.join(format!("{id}.toml"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    path
}

#[test]
fn every_shipped_example_is_run_and_counted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("device-profiles");
    let (mut files, mut profiles, mut examples, mut hazards) = (0, 0, 0, 0);
    for vendor in
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        for file in std::fs::read_dir(vendor).unwrap().map(|entry| entry.unwrap().path()) {
            let text = std::fs::read_to_string(file).unwrap();
            let count = |heads: [&str; 2]| text.lines().filter(|line| heads.contains(line)).count();
            files += 1;
            profiles += count(["[device]", "[[variant]]"]);
            examples += count(["[[example]]", "[[variant.example]]"]);
            hazards += count(["[[hazard_example]]", "[[variant.hazard_example]]"]);
        }
    }
    assert!(profiles >= 136 && examples >= 845 && hazards >= 321, "the catalogue shrank");
    let (code, said) = tool(&["test"]);
    assert_eq!(code, Some(0), "{said}");
    let passed = examples + hazards;
    let counted =
        format!("{profiles} profiles, {passed} passed ({hazards} hazard examples), 0 failed, 0 broken files");
    assert!(said.trim_end().ends_with(&counted), "{said}");
    let (code, said) = tool(&["check", "device-profiles"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{files} files, {files} usable, 0 errors, 0 warnings")), "{said}");
}

#[test]
fn all_that_is_wrong_is_told_at_once_at_its_line_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    changed(folder.path(), "zigbee2mqtt/heiman-hs1sa-e", "class = \"battery\"", "class = \"batery\"");
    changed(folder.path(), "xy/xy-md02", "unit = \"℃\"", "unit = \"MPa\"");
    changed(folder.path(), "shelly/flood-gen1", "[device]", "[device");
    std::fs::write(folder.path().join("shelly/notes.txt"), "no profile").unwrap();
    let (code, said) = tool(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code, Some(64), "{said}");
    for told in [
        "class \"batery\" is unknown",
        "did you mean \"battery\"?",
        "heiman-hs1sa-e.toml:50:9",
        "xy-md02.toml:",
        "MPa",
        "flood-gen1.toml:",
    ] {
        assert!(said.contains(told), "{told:?} is missing:\n{said}");
    }
    assert!(said.contains("3 files, 0 usable"), "{said}");
    let (code, said) = tool(&["check", folder.path().join("nowhere").to_str().unwrap()]);
    assert_eq!(code, Some(64));
    assert!(said.contains("读不了这个文件"), "{said}");
}

#[test]
fn an_example_that_comes_out_otherwise_is_named_with_what_came_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = changed(
        folder.path(),
        "xy/xy-md02",
        "readings = { temperature = \"",
        "readings = { temperature = \"1",
    );
    let (code, said) = tool(&["test", file.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("✗ xy/xy-md02") && said.contains("temperature") && said.contains("1 failed"),
        "{said}"
    );
    // And an example that is taken out leaves something unseen.
    let text = shipped("shelly/flood-gen1");
    let first = text.find("[[example]]").unwrap();
    let second = first + 1 + text[first + 1..].find("[[example]]").unwrap();
    let path = folder.path().join("shelly/flood-gen1.toml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let hazards = text.find("[[hazard_example]]").unwrap();
    std::fs::write(&path, format!("{}{}", &text[..first], &text[second..hazards])).unwrap();
    let (code, said) = tool(&["test", path.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("leak"), "{said}");
}

#[test]
fn a_hazard_example_that_comes_out_otherwise_is_shown_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let fire = "\"alarm: smoke fire smoke-fire raised\"";
    // It would not be a fire, if nothing were expected of it.
    let file =
        changed(folder.path(), "shelly/smoke-gen1", fire, "\"alarm +5s: smoke fire smoke-fire raised\"");
    let (code, said) = tool(&["test", file.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    for line in [
        "  ✗ ▲ alarm\n",
        "\n      + alarm: smoke fire smoke-fire raised\n",
        "\n        at rest (2): smoke fire smoke-fire returned, latched\n",
        "\n      - alarm +5s: smoke fire smoke-fire raised\n",
        "1 failed",
    ] {
        assert!(said.contains(line), "{line:?} is missing:\n{said}");
    }
    let file = changed(folder.path(), "shelly/smoke-gen1", &format!("    {fire},\n"), "");
    let (code, said) = tool(&["test", file.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no [[hazard_example]] raises smoke-fire on smoke: "), "{said}");
    assert!(said.contains("the example \"alarm\" meets it"), "{said}");
}

#[test]
fn a_device_that_can_alarm_and_shows_no_alarm_is_told_and_used_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for id in ["shelly/smoke-gen1", "eastron/sdm120"] {
        let text = shipped(id);
        let file = folder.path().join(format!("{id}.toml"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &text[..text.find("[[hazard_example]]").unwrap()]).unwrap();
    }
    let (code, said) = tool(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 files, 2 usable, 0 errors, 2 warnings"), "{said}");
    for told in [
        "smoke-gen1.toml",
        "smoke smoke-fire",
        "temperature heat-temperature-fire",
        "voltage phase-voltage-low",
    ] {
        assert!(said.contains(told), "{told:?} is missing:\n{said}");
    }
    let (code, said) = tool(&["test", folder.path().to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("raises heat-temperature-fire on temperature"), "{said}");
}

#[test]
fn a_mistake_in_a_hazard_example_is_told_at_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = changed(
        folder.path(),
        "shelly/smoke-gen1",
        "smoke fire smoke-fire raised",
        "smoke fire smok-fire raised",
    );
    for command in ["check", "test"] {
        let (code, said) = tool(&[command, file.to_str().unwrap()]);
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains("did you mean \"smoke-fire\"?") && said.contains("smoke-gen1.toml:"), "{said}");
        assert!(command != "check" || said.contains("1 files, 1 usable, 1 errors"), "{said}");
    }
}

#[test]
fn a_device_is_explained_in_plain_words_with_the_standard_behind_each_limit() {
    let (code, said) = tool(&["explain", "device-profiles/fengsui/water-json.toml"]);
    assert_eq!(code, Some(0));
    for told in [
        "消火栓无水",
        "< 0.02 MPa",
        "GB 50974-2014",
        "出处：",
        "还没有人在实物上核对过",
        "主题 site/+/device/+/up",
    ] {
        assert!(said.contains(told), "{told:?} is missing:\n{said}");
    }
    let (_, smoke) = tool(&["explain", "device-profiles/fengsui/smoke-json.toml"]);
    let fire = smoke.lines().find(|line| line.contains("【感烟火警】")).unwrap();
    assert!(fire.contains("立即") && fire.contains("红，须由人复位"), "{fire}");
    let (_, bus) = tool(&["explain", "device-profiles/waveshare/modbus-rtu-io-8ch.toml"]);
    assert!(bus.contains("通信：Modbus") && bus.contains("可下达的命令"), "{bus}");
}

#[test]
fn a_frame_is_tried_and_says_what_it_means_and_what_it_would_raise() {
    let smoke = "device-profiles/fengsui/smoke-json.toml";
    let (code, said) = tool(&["try", smoke, "--frame", r#"{"smoke":1,"temperature":23.5,"battery":"much"}"#]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("alarm") && said.contains("23.5 ℃") && said.contains("▲ 立即报【感烟火警】（红）"),
        "{said}"
    );
    assert!(said.lines().any(|line| line.contains("battery") && line.contains("unreadable")), "{said}");
    let (code, said) = tool(&["try", smoke, "--frame", r#"{"smoke":0,"temperature":23.5}"#]);
    assert!(code == Some(0) && !said.contains('▲'), "{said}");
    let (code, said) = tool(&["try", smoke, "--frame", "fire!"]);
    assert!(code == Some(1) && said.contains("隔离区"), "{said}");

    let meokon = "device-profiles/meokon/water-terminal.toml";
    let (code, said) = tool(&["try", meokon, "--frame", "A5 5A 00 00 29 55 AA"]);
    assert!(code == Some(1) && said.contains('!'), "{said}");

    let modbus = "device-profiles/generic/rs485-pressure.toml";
    let (code, said) = tool(&["try", modbus, "--frame", "@0: 00zz"]);
    assert!(code == Some(64) && said.contains("write input@0"), "{said}");

    let shared = "device-profiles/fengsui/smoke-concentrator-json.toml";
    let both = r#"{"devices":[{"id":"12","smoke":1},{"id":"13","smoke":0}]}"#;
    let (code, said) = tool(&["try", shared, "--frame", both]);
    assert_eq!(code, Some(0), "{said}");
    let (first, second) = said.split_once("device 13").unwrap();
    assert!(first.contains("device 12") && first.contains("▲") && !second.contains("▲"), "{said}");

    let (code, _) = tool(&["try", smoke, "--frame", r#"{"smoke":1}"#, "--at", "yesterday"]);
    assert_eq!(code, Some(64));
}

#[test]
fn the_schema_for_editors_is_printed_as_it_lies_beside_the_profiles() {
    let (code, said) = tool(&["schema"]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("device-profiles/profile.schema.json");
    assert_eq!(code, Some(0));
    assert_eq!(said, std::fs::read_to_string(path).unwrap());
}
