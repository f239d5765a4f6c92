//! `[[mqtt]]`: what it may say, and what it says of mistakes.

use fengsui::config::render::Colour;
use fengsui::config::{Config, MqttSettings};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

/// The link, and what was warned of; or everything that is wrong.
fn read(mqtt: &str) -> Result<(MqttSettings, String), String> {
    let gateway = format!("plan = \"plan.toml\"\n[[mqtt]]\nname = \"town\"\n{mqtt}");
    let plan = format!("{}{}", super::SITE, super::SMOKE.replace("link = \"broker\"", "link = \"town\""));
    let texts = [
        ("gateway.toml", &*gateway),
        ("plan.toml", &*plan),
        ("ca.pem", CERTIFICATE),
        ("own.pem", CERTIFICATE),
        ("own.key", KEY),
        ("secret", "hunter2\n"),
    ];
    match Config::from_texts(&texts, &|_| None) {
        Ok((config, report)) => Ok((config.gateway.mqtt[0].clone(), report.render(Colour::No))),
        Err(report) => Err(report.render(Colour::No)),
    }
}

#[test]
fn everything_that_a_broker_may_demand_can_be_said() {
    let (link, warned) = read(
        "url = \"mqtts://mqtt.example.org\"\nprotocol = 5\nca_file = \"ca.pem\"\nclient_cert_file = \"own.pem\"\n\
         client_key_file = \"own.key\"\nuser = \"gw\"\npassword_file = \"secret\"\ninflight_window = 100\n\
         topics = [\"building-7/#\", \"site/+/device/+/up\"]\n",
    )
    .unwrap();
    assert_eq!(warned, "");
    assert!(link.version_5);
    let tls = link.tls.unwrap();
    assert_eq!(tls.ca_file.unwrap().to_str(), Some("ca.pem"));
    let (certificate, key) = tls.client.unwrap();
    assert_eq!((certificate.to_str(), key.to_str()), (Some("own.pem"), Some("own.key")));
    assert_eq!(link.password_file.unwrap().to_str(), Some("secret"));
    assert_eq!((link.port, link.inflight_window), (8883, 100));
    assert_eq!(link.topics, ["building-7/#", "site/+/device/+/up"]);
}

#[test]
fn without_a_word_it_is_mqtt_3_1_1_with_mosquittos_window() {
    let (link, _) = read("url = \"mqtt://10.0.0.7\"\n").unwrap();
    assert!(!link.version_5 && link.tls.is_none() && link.topics.is_empty() && link.share.is_none());
    assert_eq!(link.inflight_window, 20);
}

#[test]
fn every_mistake_of_a_broker_is_told_at_once_with_what_to_do() {
    for (mqtt, expected) in [
        ("url = \"mqtt://a\"\nca_file = \"ca.pem\"\n", vec!["encrypted connections only", "mqtts://"]),
        ("url = \"mqtts://a\"\nclient_cert_file = \"own.pem\"\n", vec!["client_key_file = "]),
        ("url = \"mqtts://a\"\nclient_key_file = \"own.key\"\n", vec!["client_cert_file = "]),
        ("url = \"mqtts://a\"\nca_file = \"secret\"\n", vec!["ca_file holds no CERTIFICATE"]),
        ("url = \"mqtts://a\"\nca_file = \"missing.pem\"\n", vec!["cannot read it", "missing.pem"]),
        ("url = \"mqtt://a\"\nprotocol = 3\n", vec!["out of range", "4..=5"]),
        (
            "url = \"mqtt://a\"\ntopics = [\"a/#/b\", 7, \"$share/g/a\"]\nshare = \"a/b\"\n",
            vec!["'#' stands at the end only", "a list of texts", "the key share", "cannot name a group"],
        ),
        ("url = \"mqtt://a\"\ntopics = \"a/#\"\n", vec!["a list of texts"]),
    ] {
        let shown = read(mqtt).unwrap_err();
        for part in expected {
            assert!(shown.contains(part), "{mqtt}: {part} is missing in:\n{shown}");
        }
    }
    let many =
        format!("url = \"mqtt://a\"\ntopics = {:?}\n", (0..80).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(read(&many).unwrap_err().contains("more than 64 topics"));
}

#[test]
fn a_shared_subscription_is_warned_of() {
    let (link, warned) = read("url = \"mqtt://a\"\nshare = \"duty\"\n").unwrap();
    assert_eq!(link.share.as_deref(), Some("duty"));
    assert!(warned.contains("no gateway sees all of them") && warned.contains("share"), "{warned}");
}
