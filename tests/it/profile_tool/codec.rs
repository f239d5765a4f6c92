//! `fengsui profile new --codec`: messages of bytes, read by the vendor's own codec before anything is drafted.

use super::new::passes;
use super::tool;

/// In the manner of vendors.
const CODEC: &str = "function Decode(fPort, bytes) { if (bytes.length < 3) throw new Error('too short');
  return { BatV: ((bytes[0] << 8) | bytes[1]) / 1000, smoke: bytes[2] === 1 ? 'alarm' : 'normal', port: fPort }; }";

fn uplink(data: &str) -> String {
    format!(
        r#"{{"time":"2026-01-15T02:30:05+00:00","deviceInfo":{{"devEui":"a8404100"}},"fPort":2,"data":"{data}","rxInfo":[{{"rssi":-88,"snr":7}}]}}"#
    )
}

fn new(folder: &std::path::Path, codec: &str, samples: &[&str], more: &[&str]) -> (Option<i32>, String) {
    let file = folder.join("vendor.js");
    std::fs::write(&file, codec).unwrap();
    let samples: Vec<String> = samples.iter().map(|data| uplink(data)).collect();
    let models = folder.join("models");
    let mut arguments = vec![
        "new",
        models.to_str().unwrap(),
        "--codec",
        file.to_str().unwrap(),
        "--topic",
        "application/{app}/device/{address}/event/up",
        "--vendor",
        "Acme",
    ];
    if !more.contains(&"--model") {
        arguments.extend(["--model", "L1"]);
    }
    for sample in &samples {
        arguments.extend(["--sample", sample]);
    }
    arguments.extend(more);
    tool(&arguments)
}

#[test]
fn bytes_that_a_codec_reads_become_a_profile_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    // 3.3 V at rest, 3.2 V and smoke.
    let (code, said) = new(folder.path(), CODEC, &["DOQA", "DIAB"], &["--pick", "rxInfo[max rssi].snr -"]);
    assert_eq!(code, Some(0), "{said}");
    let text = passes(&folder.path().join("models/acme/l1.toml"));
    for part in [
        "payload = { json = \"data\", encoding = \"base64\" }\ncodec = \"vendor.js\"\nport = \"fPort\"\n",
        "from = { codec = \"smoke\" }",
        "from = { codec = \"BatV\" }",
        "from = { json = \"rxInfo[max rssi].rssi\" }",
        "\\\"data\\\":\\\"DOQA\\\"",
        "[[hazard_example]]",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(!text.contains("snr\"") && !text.contains("json = \"codec"), "{text}");
    assert_eq!(std::fs::read_to_string(folder.path().join("models/acme/vendor.js")).unwrap(), CODEC);
}

#[test]
fn a_state_that_never_came_is_not_made_up_out_of_bytes_and_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = new(folder.path(), CODEC, &["DOQA"], &[]);
    assert_eq!(code, Some(0), "{said}");
    let path = folder.path().join("models/acme/l1.toml");
    let (code, said) = tool(&["test", path.to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("no example shows smoke = \"alarm\""), "{said}");
    assert_eq!(tool(&["check", path.to_str().unwrap()]).0, Some(0));
}

#[test]
fn a_codec_that_is_none_or_refuses_everything_says_why_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (codec, samples, why) in [
        ("function Encode() {}", ["DOQA"], "has no function decodeUplink, Decode or Decoder"),
        (CODEC, ["DA=="], "too short"),
        (CODEC, [""], "the codec threw"),
    ] {
        let (code, said) = new(folder.path(), codec, &samples, &[]);
        assert!(code == Some(64) && said.contains(why), "{why}: {said}");
    }
    assert!(!folder.path().join("models").exists());
}

#[test]
fn another_codec_of_that_name_is_not_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(new(folder.path(), CODEC, &["DOQA", "DIAB"], &[]).0, Some(0));
    let other = CODEC.replace("BatV", "Battery");
    let (code, said) = new(folder.path(), &other, &["DOQA", "DIAB"], &["--model", "L2"]);
    assert!(code == Some(64) && said.contains("another codec of that name is there"), "{said}");
    assert!(!folder.path().join("models/acme/l2.toml").exists());
    let there = || std::fs::read_to_string(folder.path().join("models/acme/vendor.js")).unwrap();
    assert_eq!(there(), CODEC);
    assert_eq!(new(folder.path(), &other, &["DOQA", "DIAB"], &["--force"]).0, Some(0));
    assert_eq!(there(), other);
}
