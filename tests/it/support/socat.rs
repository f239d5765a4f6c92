//! Serial lines out of nothing: socat's pseudo-terminals, stopped with the value.

use super::ports::until;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// A line, by the path of the gateway's end.
pub(crate) struct Socat {
    _child: Child,
    dir: TempDir,
}

impl Socat {
    /// A line whose far end is a TCP server's.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self::start(&["pty,raw,echo=0,link=ours", &format!("tcp:{server},nodelay")]).await
    }

    async fn start(ends: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let child = Command::new("socat")
            .args(ends)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("socat is not installed: run the README's test command (apt-get install socat)");
        let links =
            ends.iter().filter_map(|end| end.split_once("link=")).map(|(_, name)| dir.path().join(name));
        let links: Vec<PathBuf> = links.collect();
        until("the line is there", || links.iter().all(|link| link.exists())).await;
        Self { _child: child, dir }
    }

    /// The gateway's end.
    pub(crate) fn ours(&self) -> PathBuf {
        self.dir.path().join("ours")
    }

    /// The device itself, as a link to it points.
    pub(crate) fn device(link: &Path) -> PathBuf {
        std::fs::read_link(link).unwrap()
    }
}
