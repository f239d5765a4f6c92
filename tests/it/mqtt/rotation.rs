//! Tests of: passwords and certificates that are replaced while the gateway runs.

use super::rig::{Rig, settings, text};
use crate::support::certificates::{Authority, GOOD};
use crate::support::mosquitto::Mosquitto;
use crate::support::ports::until;
use fengsui::sources::Arrival;
use fengsui::sources::mqtt::{Password, Protocol, TlsSettings};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

in_both! {
    a_new_password_is_used_and_no_message_is_lost,
}

/// As `until` looks: several looks fit into a test.
const LOOK: Duration = Duration::from_millis(20);

async fn with_users(users: &Path) -> Mosquitto {
    Mosquitto::with(&format!("allow_anonymous false\npassword_file {}\n", users.display())).await
}

async fn a_new_password_is_used_and_no_message_is_lost(protocol: Protocol) {
    let dir = TempDir::new().unwrap();
    let (users, file) = (dir.path().join("users"), dir.path().join("secret"));
    Mosquitto::set_password(&users, "hall", "first");
    Mosquitto::set_password(&users, "sensor", "s");
    let broker = with_users(&users).await;
    std::fs::write(&file, "first\n").unwrap();
    let mut with_file = settings(protocol, broker.port);
    with_file.user = Some(("hall".to_owned(), Password::File(file.clone())));
    with_file.secrets_every = LOOK;
    let mut rig = Rig::with(with_file, 1000);
    rig.any_up().await;
    let send = async |n: u32| {
        broker.publish("site/a/up", &n.to_string(), &["-q", "1", "-u", "sensor", "-P", "s"]).await;
    };
    send(1).await;
    let first = rig.any_frame().await;
    // Not acknowledged: it must come again on the new connection.
    std::fs::write(&file, "second").unwrap();
    Mosquitto::set_password(&users, "hall", "second");
    broker.reload();
    until("it is connected anew", || rig.metrics.mqtt_connects.get() >= 2).await;
    send(2).await;
    let again = rig.any_frame().await;
    assert_eq!((text(&first).as_str(), text(&again).as_str()), ("1", "1"));
    assert!(again.delivery.unwrap().duplicate);
    let second = rig.any_frame().await;
    assert_eq!(text(&second), "2");
    for frame in [&again, &second] {
        rig.acknowledge(frame).await;
    }
    // The same content written again is no reason to leave.
    let connects = rig.metrics.mqtt_connects.get();
    std::fs::write(&file, "second\n").unwrap();
    send(3).await;
    assert_eq!(text(&rig.any_frame().await), "3");
    assert_eq!(rig.metrics.mqtt_connects.get(), connects);
}

#[tokio::test]
async fn a_refused_password_is_tried_again_as_soon_as_the_file_has_another() {
    let dir = TempDir::new().unwrap();
    let (users, file) = (dir.path().join("users"), dir.path().join("secret"));
    Mosquitto::set_password(&users, "hall", "right");
    let broker = with_users(&users).await;
    let mut with_file = settings(Protocol::V3_1_1, broker.port);
    with_file.user = Some(("hall".to_owned(), Password::File(file.clone())));
    with_file.secrets_every = LOOK;
    let mut rig = Rig::with(with_file, 10);
    let reason = rig.down().await;
    assert!(reason.contains("cannot read") && reason.contains("secret"), "{reason}");
    std::fs::write(&file, "right").unwrap();
    rig.any_up().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_and_one_that_cannot_work_is_not() {
    let authority = Authority::new();
    let server = authority.issue("localhost", GOOD);
    let ca = authority.certificate();
    let lines = format!("{}cafile {}\nrequire_certificate true\n", server.listener(), ca.display());
    // The certificate's name is the user: the log shows which one was used.
    let broker = Mosquitto::with(&format!("{lines}use_identity_as_username true\n")).await;
    let (certificate, key) = (broker.file("own.pem"), broker.file("own.key"));
    let install = |name: &str| {
        let issued = authority.issue(name, GOOD);
        std::fs::copy(&issued.key, &key).unwrap();
        std::fs::copy(&issued.certificate, &certificate).unwrap();
    };
    install("first");
    let mut encrypted = settings(Protocol::V5, broker.port);
    encrypted.host = "localhost".to_owned();
    encrypted.tls = Some(TlsSettings { ca_file: Some(ca), client: Some((certificate.clone(), key.clone())) });
    encrypted.secrets_every = LOOK;
    let mut rig = Rig::with(encrypted, 10);
    rig.up().await;
    assert!(broker.log().contains("u'first'"));
    install("second");
    until("the new one is used", || broker.log().contains("u'second'")).await;
    until("subscribed anew", || broker.log().matches("Sending SUBACK to gateway-under-test").count() == 2)
        .await;
    assert!(rig.intake.try_recv().is_err(), "the link was never down");
    // Half a certificate, and a key that is not its own: the link stays.
    std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let pings = || broker.log().matches("Received PINGREQ from gateway-under-test").count();
    let before = pings();
    until("many looks at the broken file", || pings() >= before + 2).await;
    assert_eq!(rig.metrics.mqtt_connects.get(), 2);
    install("third");
    until("the next good one is used", || broker.log().contains("u'third'")).await;
    while let Ok(arrival) = rig.intake.try_recv() {
        assert!(!matches!(arrival, Arrival::Link(_)), "{arrival:?}");
    }
}
