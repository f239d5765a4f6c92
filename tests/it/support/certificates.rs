//! Authorities and certificates, made by openssl while the test runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What an authority must know to issue with dates of our choice.
const RULES: &str = "[ca]\ndefault_ca = here\n[here]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\ndefault_md = sha256\n\
                     policy = any\ncopy_extensions = copy\nunique_subject = no\n[any]\ncommonName = supplied\n";

/// When a certificate is good, in openssl's way of writing it.
#[derive(Clone, Copy)]
pub(crate) struct Valid(pub(crate) &'static str, pub(crate) &'static str);

/// Longer than this test will be run.
pub(crate) const GOOD: Valid = Valid("20200101000000Z", "21200101000000Z");

/// Over for years.
pub(crate) const EXPIRED: Valid = Valid("20200101000000Z", "20210228000000Z");

/// Who issues.
pub(crate) struct Authority {
    dir: TempDir,
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("rules"), RULES).unwrap();
        std::fs::write(dir.path().join("index.txt"), "").unwrap();
        let authority = Self { dir };
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "3650",
            "-subj",
            "/CN=authority",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ]);
        authority
    }

    /// Its own certificate, by which the others are known.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for this host name.
    pub(crate) fn issue(&self, host: &str, valid: Valid) -> Issued {
        let name = format!("{host}-{}", std::fs::read_dir(self.dir.path()).unwrap().count());
        let [request, certificate, key] = ["csr", "pem", "key"].map(|kind| format!("{name}.{kind}"));
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            &format!("/CN={host}"),
            "-addext",
            &format!("subjectAltName=DNS:{host}"),
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        self.openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-rand_serial",
            "-config",
            "rules",
            "-cert",
            "ca.pem",
            "-keyfile",
            "ca.key",
            "-in",
            &request,
            "-out",
            &certificate,
            "-startdate",
            valid.0,
            "-enddate",
            valid.1,
        ]);
        let at = |name: &str| self.dir.path().join(name);
        Issued { certificate: at(&certificate), key: at(&key) }
    }

    fn openssl(&self, arguments: &[&str]) {
        let made = Command::new("openssl")
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .expect("openssl is not installed: run the README's test command (apt-get install openssl)");
        assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

impl Issued {
    /// mosquitto's lines for a listener with this certificate.
    pub(crate) fn listener(&self) -> String {
        let at = |path: &Path| path.display().to_string();
        format!("allow_anonymous true\ncertfile {}\nkeyfile {}\n", at(&self.certificate), at(&self.key))
    }
}
