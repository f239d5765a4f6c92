//! `fengsui profile try --live`: what arrives at a broker, beside its readings and hazards.

use crate::support::mosquitto::Mosquitto;
use crate::support::ports::{free_port, soon, until};
use std::process::Stdio;
use tokio::process::{Child, Command};

fn look(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fengsui"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["profile", "try"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap()
}

/// Exit code, and what it said on either way.
async fn ended(child: Child) -> (Option<i32>, String) {
    let output = soon("it ends", child.wait_with_output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

#[tokio::test]
async fn each_message_is_shown_raw_beside_its_readings_and_the_hazards_it_would_raise() {
    let broker = Mosquitto::start().await;
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let file = "device-profiles/fengsui/smoke-json.toml";
    let looking = look(&[file, "--live", "site/#", "--broker", &url, "--count", "3"]);
    until("it has subscribed", || broker.log().contains("Sending SUBACK to fengsui-try-")).await;
    broker.publish("site/a/device/sd-01/up", r#"{"smoke":1,"temperature":23.5}"#, &["-q", "1"]).await;
    broker.publish("site/a/device/sd-02/up", "fire!", &["-q", "1"]).await;
    broker.publish("site/a/other", r#"{"smoke":1}"#, &[]).await;
    let (code, said) = ended(looking).await;
    assert_eq!(code, Some(0), "{said}");
    for told in [
        "site/a/device/sd-01/up\n{\"smoke\":1,\"temperature\":23.5}",
        "地址 address sd-01",
        "23.5 ℃",
        "▲ 立即报【感烟火警】（红）",
        "fire!",
        "隔离区",
        "the profile has other topics",
    ] {
        assert!(said.contains(told), "{told:?} is missing:\n{said}");
    }
    // It looks on: the broker keeps nothing for it.
    let log = broker.log();
    let connected =
        log.lines().find(|line| line.contains("New client connected") && line.contains("fengsui-try-"));
    assert!(connected.is_some_and(|line| line.contains("c1")), "a clean session: {connected:?}");
    assert!(!log.contains("Received PUBLISH from fengsui-try-"), "it publishes nothing");
}

#[tokio::test]
async fn without_a_topic_those_of_the_profile_are_taken_and_a_password_comes_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    Mosquitto::set_password(&users, "looker", "s3cret");
    let config = format!("allow_anonymous false\npassword_file {}\npersistence false\n", users.display());
    let broker = Mosquitto::with(&config).await;
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let password = folder.path().join("password");
    let password = password.to_str().unwrap();
    let arguments =
        ["device-profiles/fengsui/smoke-json.toml", "--broker", &url, "--count", "1", "--user", "looker"];
    std::fs::write(password, "wrong\n").unwrap();
    let (code, said) =
        ended(look(&[&arguments[..], &["--password-file", password, "--live"]].concat())).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(!said.contains("wrong\n") && !said.contains("s3cret"), "{said}");
    std::fs::write(password, "s3cret\n").unwrap();
    let looking = look(&[&arguments[..], &["--password-file", password, "--live"]].concat());
    until("it has subscribed", || broker.log().contains("Sending SUBACK to fengsui-try-")).await;
    let payload = r#"{"smoke":0}"#;
    broker.publish("site/b/device/sd-07/up", payload, &["-u", "looker", "-P", "s3cret", "-q", "1"]).await;
    let (code, said) = ended(looking).await;
    assert!(
        code == Some(0) && said.contains("sd-07") && said.contains("normal") && !said.contains('▲'),
        "{said}"
    );
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_told_at_once() {
    let nobody = format!("mqtt://127.0.0.1:{}", free_port());
    let smoke = "device-profiles/fengsui/smoke-json.toml";
    let meter = "device-profiles/eastron/sdm120.toml";
    for (arguments, code, told) in [
        (&[smoke, "--live", "a/#", "--broker", &nobody][..], 1, "连接被拒绝"),
        (&[smoke, "--live", "a/#", "--broker", "hall"], 64, "mqtt://host:port"),
        (&[smoke, "--live", "tcp://127.0.0.1:1/1"], 64, "--broker"),
        (&[meter, "--live", "a/#"], 64, "tcp://host:port/unit"),
        (&["device-profiles/nowhere.toml", "--live"], 64, "读不了"),
    ] {
        let (ended, said) = ended(look(arguments)).await;
        assert!(ended == Some(code) && said.contains(told), "{arguments:?} ended with {ended:?}: {said}");
    }
}
