//! WIRE → FRAMES, by MQTT: TLS to the broker, by rustls with ring and never a system library.

use crate::clock::Clock;
use crate::model::Text;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use std::sync::Arc;
use std::time::Duration;

/// Where Linux distributions keep the authorities they trust (Debian and Alpine; Fedora).
const SYSTEM_BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// What the files hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Pem {
    /// The only authorities to trust; without them the system's.
    pub(super) ca: Option<Vec<u8>>,
    /// Our own certificate and its key.
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

/// A certificate is judged by the time that the gateway believes: a box whose clock stands in 1970 goes on from its
/// journal's time, and must not lose its broker over that.
#[derive(Debug)]
struct Believed(Clock);

impl TimeProvider for Believed {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.0.now().as_millis()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

/// How to connect, or what is wrong with the files, for a person.
pub(super) fn config(pem: &Pem, clock: &Clock) -> Result<Arc<ClientConfig>, Text> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trusting = ClientConfig::builder_with_details(provider, Arc::new(Believed(clock.clone())))
        .with_safe_default_protocol_versions()
        .map_err(|error| said("TLS 无法建立", "TLS cannot be set up", &error))?
        .with_root_certificates(roots(pem.ca.as_deref())?);
    let config = match &pem.client {
        None => trusting.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate, "客户端证书文件", "the client certificate's file")?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
                said("客户端密钥文件里没有私钥", "the client key's file holds no private key", &error)
            })?;
            trusting.with_client_auth_cert(chain, key).map_err(|error| {
                said(
                    "客户端证书和密钥不匹配或无法使用",
                    "the client certificate and its key do not belong together or cannot be used",
                    &error,
                )
            })?
        }
    };
    Ok(Arc::new(config))
}

fn roots(ca: Option<&[u8]>) -> Result<rustls::RootCertStore, Text> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(pem) = ca {
        for certificate in certificates(pem, "CA 文件", "the CA file")? {
            roots.add(certificate).map_err(|error| {
                said("CA 文件里的证书无法使用", "a certificate in the CA file cannot be used", &error)
            })?;
        }
        return Ok(roots);
    }
    let pem = SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read(path).ok()).ok_or_else(|| {
        let bundle = SYSTEM_BUNDLES[0];
        Text::new(
            &format!("{bundle} 里没有受信任的证书机构：请安装 ca-certificates 或指定 ca_file"),
            &format!("no trusted authorities found in {bundle}: install ca-certificates or set ca_file"),
        )
    })?;
    // One that nobody can read among a hundred and forty is no reason to trust none.
    roots.add_parsable_certificates(certificates(&pem, "系统证书库", "the system's list of authorities")?);
    Ok(roots)
}

fn certificates(pem: &[u8], zh: &str, en: &str) -> Result<Vec<CertificateDer<'static>>, Text> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| said(&format!("{zh}不是 PEM"), &format!("{en} is not PEM"), &error))?;
    if found.is_empty() {
        return Err(Text::new(&format!("{zh}里没有证书"), &format!("{en} holds no certificate")));
    }
    Ok(found)
}

fn said(zh: &str, en: &str, error: &dyn std::fmt::Display) -> Text {
    Text::new(&format!("{zh}：{error}"), &format!("{en}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_files_are_refused_with_a_reason() {
        let refused = |pem: Pem| config(&pem, &Clock::system()).unwrap_err().en.to_string();
        let ca = |text: &[u8]| Pem { ca: Some(text.to_vec()), client: None };
        assert!(refused(ca(b"hello")).contains("no certificate"));
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        assert!(refused(ca(broken)).contains("PEM"));
        let bogus = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refused(ca(bogus)).contains("cannot be used"));
    }
}
