//! The way from devices to the embedded broker, in the clear and under TLS.

use super::{QUIET_MAX, WRONG_BYTES_UNDER_TLS, hanging_up_until, here, one_by_one, witness};
use crate::support::certificates::{Authority, GOOD};
use crate::support::fault_proxy::{Fault, FaultProxy, SLOW_NETWORK, WAYS, WRONG_BYTES, Way};
use crate::support::gateway::{BROKER, House, topic};
use crate::support::pen::Pen;
use crate::support::ports::{free_port, soon};
use crate::support::witness::devices;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What is unfinished on its way is ended as well.
fn calm(proxy: &FaultProxy) {
    proxy.calm();
    proxy.sever();
}

#[tokio::test]
async fn devices_on_a_way_that_cuts_halves_delays_and_stalls_lose_and_repeat_nothing() {
    let house = House::build(BROKER, &devices("broker"));
    let gateway = house.open().await;
    let proxy = FaultProxy::to(gateway.broker.unwrap(), 11).await;
    let witness = witness(proxy.address);
    witness.progress().await;
    let faults = [Fault::Cut, Fault::CutAmid, Fault::Stall].map(|fault| WAYS.map(|way| (way, fault)));
    one_by_one(&proxy, &faults.concat(), || witness.count()).await;
    let enough = witness.count() + 40;
    hanging_up_until("it gets on", &proxy, || witness.count(), || witness.count() >= enough).await;
    let slow = SLOW_NETWORK.iter().map(|fault| proxy.did(Way::Up, *fault)).sum::<u64>();
    assert!(
        slow >= 1 && proxy.did_all(&[Fault::Cut, Fault::CutAmid, Fault::Stall], 1),
        "{}",
        proxy.account()
    );
    calm(&proxy);
    let testimony = witness.end().await;
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    println!("devices in the clear: {} acknowledged; {}", testimony.acknowledged(), proxy.account());
}

/// Takes connections in the clear and carries them on under TLS, as a device that speaks it would.
async fn under_tls(to: SocketAddr, authority: &Path) -> SocketAddr {
    tokio_rustls::rustls::crypto::ring::default_provider().install_default().ok();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            let connector = connector.clone();
            tokio::spawn(async move {
                let name = ServerName::try_from("localhost").unwrap();
                let Ok(stream) = TcpStream::connect(to).await else { return };
                stream.set_nodelay(true).ok();
                let Ok(mut stream) = connector.connect(name, stream).await else { return };
                tokio::io::copy_bidirectional(&mut plain, &mut stream).await.ok();
            });
        }
    });
    address
}

/// Under TLS no wrong byte passes for a right one, in either direction: it is one more broken connection.
#[tokio::test]
async fn under_tls_wrong_bytes_between_devices_and_broker_break_the_connection_and_nothing_else() {
    let authority = Authority::new();
    let issued = authority.issue("localhost", GOOD);
    let port = free_port();
    let links = format!(
        "{BROKER}[broker.tls]\nlisten = \"127.0.0.1:{port}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        issued.certificate.display(),
        issued.key.display()
    );
    let house = House::build(&links, &devices("broker"));
    let gateway = house.open().await;
    let proxy = FaultProxy::to(here(port), 12).await;
    let witness = witness(under_tls(proxy.address, &authority.certificate()).await);
    witness.progress().await;
    let faults = WRONG_BYTES_UNDER_TLS.map(|fault| WAYS.map(|way| (way, fault)));
    one_by_one(&proxy, &faults.concat(), || witness.count()).await;
    let enough = witness.count() + 40;
    hanging_up_until("it gets on", &proxy, || witness.count(), || witness.count() >= enough).await;
    calm(&proxy);
    let testimony = witness.end().await;
    let strays = gateway.get("/api/v1/strays").await;
    assert_eq!(strays["strays"].as_array().unwrap().len(), 0, "a wrong byte was believed: {strays}");
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    println!("devices under TLS: {} acknowledged; {}", testimony.acknowledged(), proxy.account());
}

/// Nothing tells a wrong byte in the clear. What can be promised: for every acknowledgement something was taken, whatever
/// it was by then, and everybody else goes on.
#[tokio::test]
async fn wrong_bytes_in_the_clear_from_a_device_bring_nothing_down_and_harm_no_other() {
    let house = House::build(BROKER, &devices("broker"));
    let gateway = house.open().await;
    let proxy = FaultProxy::to(gateway.broker.unwrap(), 13).await;
    let well = witness(gateway.broker.unwrap());
    let mut acknowledged = 0;
    for fault in WRONG_BYTES.repeat(2) {
        let mut pen = soon("it is let in", Pen::connect(proxy.address, "sick")).await.unwrap();
        proxy.once(Way::Up, fault);
        for n in 1..=8_u16 {
            let payload = format!("{{\"battery\":{n}}}");
            if pen.send(&topic("fire-11"), payload.as_bytes(), n, false).await.is_err() {
                break;
            }
        }
        // Whatever comes of it: answers, an end, or silence.
        let mut heard = Vec::new();
        tokio::time::timeout(QUIET_MAX, pen.stream.read_to_end(&mut heard)).await.ok();
        acknowledged += heard.chunks(4).filter(|packet| packet.starts_with(&[0x40, 2])).count();
    }
    assert!(WRONG_BYTES.iter().all(|fault| proxy.did(Way::Up, *fault) >= 1), "{}", proxy.account());
    // The same device on a good way, and its neighbour, which noticed nothing.
    calm(&proxy);
    let mut pen = soon("it is let in", Pen::connect(proxy.address, "sick")).await.unwrap();
    pen.publish(&topic("fire-11"), r#"{"smoke":1}"#).await;
    gateway.hazard("fire-11/smoke", "smoke-fire", |fire| fire["phase"] == "active").await;
    well.progress().await;
    let testimony = well.end().await;
    let received = usize::try_from(gateway.counter("frames_received").await).unwrap();
    assert!(received > acknowledged + testimony.acknowledged(), "{acknowledged} of the sick one's");
    gateway.stop().await;
    let (entries, facts) = house.journal().await;
    testimony.compare(&entries, &facts);
    println!("devices in the clear, wrong bytes: {acknowledged} acknowledged; {}", proxy.account());
}
