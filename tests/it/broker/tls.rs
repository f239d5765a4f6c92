//! Tests of: the embedded broker with TLS, with mosquitto's publisher and certificates made by OpenSSL.

use super::*;
use fengsui::sources::broker::TlsFiles;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority `<name>.pem` with its key.
fn authority(dir: &Path, name: &str) {
    let at = |end: &str| dir.join(format!("{name}.{end}")).display().to_string();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
        "-subj",
        &format!("/CN={name}"),
        "-keyout",
        &at("key"),
        "-out",
        &at("pem"),
    ]);
}

/// A certificate for `localhost` by that authority, under that name.
fn certificate(dir: &Path, by: &str, name: &str) {
    let at = |name: &str, end: &str| dir.join(format!("{name}.{end}")).display().to_string();
    openssl(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-keyout",
        &at(name, "key"),
        "-out",
        &at(name, "csr"),
    ]);
    std::fs::write(dir.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(&[
        "x509",
        "-req",
        "-days",
        "1",
        "-in",
        &at(name, "csr"),
        "-CA",
        &at(by, "pem"),
        "-CAkey",
        &at(by, "key"),
        "-CAcreateserial",
        "-extfile",
        &dir.join("names").display().to_string(),
        "-out",
        &at(name, "pem"),
    ]);
}

fn files(dir: &Path, client_ca: Option<&str>) -> TlsFiles {
    TlsFiles {
        cert: dir.join("server.pem"),
        key: dir.join("server.key"),
        client_ca: client_ca.map(|name| dir.join(format!("{name}.pem"))),
    }
}

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A publisher that trusts that authority, and whether its message was acknowledged.
async fn publishes(rig: &mut Rig, port: u16, dir: &Path, authority: &str, more: &[&str]) -> bool {
    let ca = dir.join(format!("{authority}.pem")).display().to_string();
    let mut arguments = vec!["-h", "localhost", "-q", "1", "-t", "site/a/up", "-m", "1", "--cafile", &ca];
    arguments.extend_from_slice(more);
    let mut publisher = Peer::publisher(port, &arguments);
    tokio::select! {
        code = publisher.ended() => code == 0,
        frame = rig.intake.recv() => {
            let Some(Arrival::Frame(frame)) = frame else { panic!("{frame:?}") };
            rig.acknowledge(&frame).await;
            publisher.ended().await == 0
        }
    }
}

#[tokio::test]
async fn it_speaks_tls_and_a_renewed_certificate_needs_no_restart() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    for name in ["old", "new"] {
        authority(dir, name);
    }
    certificate(dir, "old", "server");
    let mut rig = Rig::with(|settings| settings.tls = Some((ANYWHERE, files(dir, None)))).await;
    let port = rig.broker.tls_addr().unwrap().port();
    assert_ne!(port, rig.port, "beside the plain one");
    assert!(publishes(&mut rig, port, dir, "old", &[]).await);
    assert!(!publishes(&mut rig, port, dir, "new", &[]).await, "a certificate that it does not trust");
    // Half a file: the old certificate stays.
    let whole = std::fs::read(dir.join("server.pem")).unwrap();
    std::fs::write(dir.join("server.pem"), &whole[..whole.len() / 2]).unwrap();
    assert!(publishes(&mut rig, port, dir, "old", &[]).await);
    certificate(dir, "new", "server");
    assert!(publishes(&mut rig, port, dir, "new", &[]).await);
    let plain = rig.publish(&["-t", "site/a/up", "-m", "plain"]).await;
    assert_eq!(message(&plain).1, "plain");
}

#[tokio::test]
async fn with_an_authority_for_clients_only_theirs_are_let_in_and_nobody_listens_in_the_clear() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    for name in ["ours", "theirs"] {
        authority(dir, name);
        certificate(dir, name, &format!("client-of-{name}"));
    }
    certificate(dir, "ours", "server");
    let only_tls = |settings: &mut BrokerSettings| {
        settings.listen = None;
        settings.tls = Some((ANYWHERE, files(dir, Some("ours"))));
    };
    let mut rig = Rig::with(only_tls).await;
    assert_eq!(rig.broker.local_addr(), None);
    let port = rig.port;
    let shows = |name: &str| {
        ["--cert".to_owned(), path(dir, name, "pem"), "--key".to_owned(), path(dir, name, "key")]
    };
    let ours = shows("client-of-ours");
    let theirs = shows("client-of-theirs");
    let as_str = |all: &[String; 4]| -> Vec<String> { all.to_vec() };
    for (shown, let_in) in [(as_str(&ours), true), (as_str(&theirs), false), (Vec::new(), false)] {
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        assert_eq!(publishes(&mut rig, port, dir, "ours", &shown).await, let_in, "{shown:?}");
    }
}

fn path(dir: &Path, name: &str, end: &str) -> String {
    dir.join(format!("{name}.{end}")).display().to_string()
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_at_the_start() {
    let dir = TempDir::new().unwrap();
    let (to_pipeline, _intake) = mpsc::channel(1);
    let (_acks, from_pipeline) = mpsc::channel(1);
    let mut settings = settings("127.0.0.1:0");
    settings.tls = Some((ANYWHERE, files(dir.path(), None)));
    let (clock, metrics, cancel) = (Clock::system(), Metrics::new(), CancellationToken::new());
    let started =
        Broker::start(settings, SourceIndex(0), to_pipeline, from_pipeline, clock, metrics, cancel).await;
    let error = started.unwrap_err().to_string();
    assert!(error.contains("server.pem"), "{error}");
}
