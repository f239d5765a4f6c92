//! Tests of: TLS to the broker, with certificates made while the test runs.

use super::rig::{Rig, settings, text};
use crate::support::certificates::{Authority, EXPIRED, GOOD, Valid};
use crate::support::mosquitto::Mosquitto;
use fengsui::sources::mqtt::{MqttSettings, Protocol, TlsSettings};

/// Towards this broker as `localhost`, trusting this authority only.
fn trusting(broker: &Mosquitto, authority: &Authority) -> MqttSettings {
    let mut settings = settings(Protocol::V3_1_1, broker.port);
    settings.host = "localhost".to_owned();
    settings.tls = Some(TlsSettings { ca_file: Some(authority.certificate()), client: None });
    settings
}

async fn why(settings: MqttSettings) -> String {
    let mut rig = Rig::with(settings, 10);
    let reason = rig.down().await;
    assert_eq!(rig.metrics.mqtt_connects.get(), 0);
    reason
}

#[tokio::test]
async fn a_broker_with_tls_is_checked_against_the_named_authority() {
    let authority = Authority::new();
    let broker = Mosquitto::with(&authority.issue("localhost", GOOD).listener()).await;
    for protocol in [Protocol::V3_1_1, Protocol::V5] {
        let mut settings = trusting(&broker, &authority);
        settings.protocol = protocol;
        settings.client_id = format!("{protocol:?}");
        let mut rig = Rig::with(settings, 10);
        rig.up().await;
        let mut sender = trusting(&broker, &authority);
        sender.client_id = "sender".to_owned();
        sender.will_topic = Some("site/sender".to_owned());
        let _sender = Rig::with(sender, 10);
        assert_eq!(text(&rig.any_frame().await), "online");
    }
    // Another authority of the same name: nothing else is trusted, the system's list neither.
    let reason = why(trusting(&broker, &Authority::new())).await;
    assert!(reason.contains("not issued by an authority in ca_file"), "{reason}");
    let mut by_the_system = trusting(&broker, &authority);
    by_the_system.tls = Some(TlsSettings::default());
    let reason = why(by_the_system).await;
    assert!(reason.contains("ca_file") || reason.contains("ca-certificates"), "{reason}");
}

#[tokio::test]
async fn certificates_that_are_over_or_not_yet_good_are_told_with_their_date() {
    let authority = Authority::new();
    for (valid, expected) in [
        (EXPIRED, "expired on 2021-02-28"),
        (Valid("21000101000000Z", "21200101000000Z"), "valid from 2100-01-01 only"),
    ] {
        let broker = Mosquitto::with(&authority.issue("localhost", valid).listener()).await;
        let reason = why(trusting(&broker, &authority)).await;
        assert!(reason.contains(expected), "{reason}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told_with_both_names() {
    let authority = Authority::new();
    let broker = Mosquitto::with(&authority.issue("mqtt.example.org", GOOD).listener()).await;
    let reason = why(trusting(&broker, &authority)).await;
    assert!(reason.contains("not for localhost") && reason.contains("mqtt.example.org"), "{reason}");
}

#[tokio::test]
async fn a_broker_that_wants_to_know_us_takes_our_certificate_and_no_other() {
    let authority = Authority::new();
    let server = authority.issue("localhost", GOOD);
    let demanding = format!(
        "{}cafile {}\nrequire_certificate true\n",
        server.listener(),
        authority.certificate().display()
    );
    let broker = Mosquitto::with(&demanding).await;
    let with = |who: &Authority, valid: Valid| {
        let own = who.issue("gateway", valid);
        let mut settings = trusting(&broker, &authority);
        settings.tls.as_mut().unwrap().client = Some((own.certificate, own.key));
        settings
    };
    let mut rig = Rig::with(with(&authority, GOOD), 10);
    rig.up().await;
    let reason = why(trusting(&broker, &authority)).await;
    assert!(reason.contains("client_cert_file"), "{reason}");
    let stranger = Authority::new();
    let reason = why(with(&stranger, GOOD)).await;
    assert!(reason.contains("does not accept our client certificate"), "{reason}");
    let reason = why(with(&authority, EXPIRED)).await;
    assert!(reason.contains("our client certificate has expired"), "{reason}");
}

#[tokio::test]
async fn plain_and_encrypted_that_meet_are_told_apart() {
    let authority = Authority::new();
    let plain = Mosquitto::start().await;
    let reason = why(trusting(&plain, &authority)).await;
    assert!(reason.contains("does not speak TLS") && reason.contains("mqtt://"), "{reason}");
    let encrypted = Mosquitto::with(&authority.issue("localhost", GOOD).listener()).await;
    let reason = why(settings(Protocol::V3_1_1, encrypted.port)).await;
    assert!(reason.contains("mqtts://"), "{reason}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let authority = Authority::new();
    let broker = Mosquitto::with(&authority.issue("localhost", GOOD).listener()).await;
    let (one, other) = (authority.issue("gateway", GOOD), authority.issue("gateway", GOOD));
    let with = |ca: std::path::PathBuf, client: Option<(std::path::PathBuf, std::path::PathBuf)>| {
        let mut settings = trusting(&broker, &authority);
        settings.tls = Some(TlsSettings { ca_file: Some(ca), client });
        settings
    };
    let missing = broker.file("missing.pem");
    let reason = why(with(missing, None)).await;
    assert!(reason.contains("cannot read") && reason.contains("missing.pem"), "{reason}");
    let reason = why(with(one.key.clone(), None)).await;
    assert!(reason.contains("CA file holds no certificate"), "{reason}");
    let mixed = Some((one.certificate.clone(), other.key.clone()));
    let reason = why(with(authority.certificate(), mixed)).await;
    assert!(reason.contains("do not belong together"), "{reason}");
}
