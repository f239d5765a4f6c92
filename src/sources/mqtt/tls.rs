//! TLS to the broker: rustls with ring, never a system library.

use super::TlsSettings;
use crate::model::Text;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;

/// Where Linux distributions keep the authorities they trust (Debian and Alpine; Fedora).
const SYSTEM_BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The transport, or what is wrong with the settings, for a person.
pub(super) fn transport(settings: &TlsSettings) -> Result<rumqttc::Transport, Text> {
    let pem = match &settings.ca {
        Some(pem) => pem.clone(),
        None => SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read(path).ok()).ok_or_else(|| {
            let bundle = SYSTEM_BUNDLES[0];
            Text::new(
                &format!("{bundle} 里没有受信任的证书机构：请安装 ca-certificates 或指定 CA 文件"),
                &format!(
                    "no trusted authorities found in {bundle}: install ca-certificates or name a CA file"
                ),
            )
        })?,
    };
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| said("CA 文件不是 PEM", "the CA file is not PEM", &error))?;
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(Text::new("CA 文件里没有证书", "the CA file holds no certificate"));
    }
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| said("TLS 无法建立", "TLS cannot be set up", &error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(Arc::new(config))))
}

fn said(zh: &str, en: &str, error: &dyn std::fmt::Display) -> Text {
    Text::new(&format!("{zh}：{error}"), &format!("{en}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_ca_file_is_refused_with_a_reason() {
        let error = transport(&TlsSettings { ca: Some(b"hello".to_vec()) }).err().unwrap();
        assert!(error.en.contains("no certificate"), "{error:?}");
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n".to_vec();
        let error = transport(&TlsSettings { ca: Some(broken) }).err().unwrap();
        assert!(error.en.contains("PEM"), "{error:?}");
    }
}
