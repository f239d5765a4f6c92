//! WIRE → FRAMES, the embedded broker: TLS for whoever connects, with a certificate that may be renewed while it runs.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{error, info};

/// How long a handshake may take. A detector on NB-IoT needs two round trips of up to 2 s.
pub(super) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// The files of `[broker.tls]`.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Our certificate and those between it and its authority, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authority whose certificate a client must show; `None`: a client needs none.
    pub client_ca: Option<PathBuf>,
}

/// When each file was last written, and how long it is.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// The settings in force. The files are looked at with each connection: three questions to the system.
pub(super) struct Tls {
    files: TlsFiles,
    current: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Tls {
    /// Reads the files. The error names the file and what is wrong with it.
    pub(super) fn load(files: TlsFiles) -> Result<Self, String> {
        let stamp = stamp(&files);
        let config = config(&files)?;
        Ok(Self { files, current: Mutex::new((stamp, config)) })
    }

    /// Shakes hands. Files that are half written or wrong leave the last good ones in force.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.newest());
        match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no TLS handshake in time")),
        }
    }

    fn newest(&self) -> Arc<ServerConfig> {
        let stamp = stamp(&self.files);
        let mut current = self.current.lock().expect("no holder of this lock panics");
        if current.0 != stamp {
            match config(&self.files) {
                Ok(config) => {
                    info!("the broker's certificate was renewed");
                    current.1 = config;
                }
                Err(why) => error!("the broker keeps its old certificate: {why}"),
            }
            current.0 = stamp;
        }
        Arc::clone(&current.1)
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let of = |path: &Path| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()]
        .into_iter()
        .flatten()
        .map(|p| of(p))
        .collect()
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, String> {
    let say = |path: &Path, what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let certificates = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|why| say(&files.key, &why))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(self::certificates(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|why| say(path, &why))?)
        }
    };
    let config = builder.with_single_cert(certificates, key).map_err(|why| say(&files.cert, &why))?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(format!("{}: it holds no certificate", path.display())),
        Ok(found) => Ok(found),
        Err(why) => Err(format!("{}: {why}", path.display())),
    }
}
