//! WIRE → FRAMES, by MQTT: passwords and certificates, read again for each connection and watched while it lasts.
//!
//! A certificate lives for ninety days and a gateway for ten years, so they are replaced under way: whoever renews them
//! writes the files and does nothing else.

use super::tls::{self, Pem};
use super::{MqttSettings, Password};
use crate::clock::Clock;
use crate::model::Text;
use rustls::ClientConfig;
use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// The largest file of secrets, bytes: a bundle of all public authorities is 0.2 MB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the files say.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    password: Option<String>,
    tls: Option<Pem>,
}

/// What a connection is made with.
pub(super) struct Material {
    pub(super) password: Option<String>,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// The secrets of one link.
pub(super) struct Secrets {
    files: Files,
    clock: Clock,
    every: Duration,
    /// What the newest attempt was made with; `None`: it could not be read or used.
    used: Option<Contents>,
    /// The watch, kept while other things happen.
    watching: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

#[derive(Clone)]
struct Files {
    password: Option<Password>,
    tls: bool,
    ca: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

impl Secrets {
    pub(super) fn new(settings: &MqttSettings, clock: Clock) -> Self {
        let tls = settings.tls.as_ref();
        let files = Files {
            password: settings.user.as_ref().map(|(_, password)| password.clone()),
            tls: tls.is_some(),
            ca: tls.and_then(|tls| tls.ca_file.clone()),
            client: tls.and_then(|tls| tls.client.clone()),
        };
        Self { files, clock, every: settings.secrets_every, used: None, watching: None }
    }

    /// Reads them. Away from the loop: a disk may be slow.
    pub(super) fn read(&self) -> impl Future<Output = Result<Contents, Text>> + Send + use<> {
        read(self.files.clone())
    }

    /// The next attempt is made with these.
    pub(super) fn use_these(&mut self, contents: Result<Contents, Text>) -> Result<Material, Text> {
        self.watching = None;
        self.used = None;
        let contents = contents?;
        let material = contents.material(&self.clock)?;
        self.used = Some(contents);
        Ok(material)
    }

    /// Until the files say something else that can be used. May be dropped and called again.
    pub(super) async fn changed(&mut self) {
        let Self { files, clock, every, used, watching } = self;
        let in_files = matches!(files.password, Some(Password::File(_))) || files.ca.is_some();
        if !in_files && files.client.is_none() {
            return std::future::pending().await;
        }
        let watch = watching
            .get_or_insert_with(|| Box::pin(watch(files.clone(), clock.clone(), *every, used.clone())));
        watch.await;
        *watching = None;
    }
}

/// Ends when the files hold something else than `used`, the same at two looks (one of them may be half written), and a
/// connection can be made with it. A working connection is not given up for what cannot work.
async fn watch(files: Files, clock: Clock, every: Duration, used: Option<Contents>) {
    let (mut seen, mut refused) = (None, None);
    loop {
        tokio::time::sleep(every).await;
        let Ok(now) = read(files.clone()).await else {
            seen = None;
            continue;
        };
        if used.as_ref() == Some(&now) || refused.as_ref() == Some(&now) || seen.as_ref() != Some(&now) {
            seen = Some(now);
            continue;
        }
        match now.material(&clock) {
            Ok(_) => return,
            Err(text) => {
                warn!("new secrets cannot be used, the old ones stay in use: {}", text.en);
                refused = Some(now);
            }
        }
    }
}

impl Contents {
    fn material(&self, clock: &Clock) -> Result<Material, Text> {
        let tls = self.tls.as_ref().map(|pem| tls::config(pem, clock)).transpose()?;
        Ok(Material { password: self.password.clone(), tls })
    }
}

async fn read(files: Files) -> Result<Contents, Text> {
    let reading = tokio::task::spawn_blocking(move || {
        let password = match &files.password {
            None => None,
            Some(Password::Fixed(text)) => Some(text.clone()),
            Some(Password::File(path)) => Some(password(path)?),
        };
        let tls = files.tls.then(|| {
            let ca = files.ca.as_deref().map(bytes).transpose()?;
            let client = files.client.as_ref();
            let client = client.map(|(cert, key)| Ok::<_, Text>((bytes(cert)?, bytes(key)?))).transpose()?;
            Ok::<_, Text>(Pem { ca, client })
        });
        Ok(Contents { password, tls: tls.transpose()? })
    });
    reading.await.unwrap_or_else(|_| Err(Text::new("网关正在停止", "the gateway is stopping")))
}

fn password(path: &Path) -> Result<String, Text> {
    let text = String::from_utf8(bytes(path)?).unwrap_or_default();
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        let path = path.display();
        return Err(Text::new(
            &format!("密码文件 {path} 是空的，或不是 UTF-8 文本"),
            &format!("the password file {path} is empty or no UTF-8 text"),
        ));
    }
    Ok(text.to_owned())
}

fn bytes(path: &Path) -> Result<Vec<u8>, Text> {
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    read().map_err(|error| {
        let path = path.display();
        Text::new(
            &format!("读不了 {path}：{error}；请检查文件和它的权限"),
            &format!("cannot read {path}: {error}; check the file and who may read it"),
        )
    })
}
