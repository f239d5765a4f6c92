//! Serial lines out of nothing: socat's pseudo-terminals, stopped with the value.

use super::ports::until;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// A line, by the path of the gateway's end.
pub(crate) struct Socat {
    child: Child,
    ends: Vec<String>,
    dir: TempDir,
}

impl Socat {
    /// A line whose far end is a TCP server's.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self::start(&["pty,raw,echo=0,link=ours", &format!("tcp:{server},nodelay")]).await
    }

    /// A line with a device at both ends.
    pub(crate) async fn pair() -> Self {
        Self::start(&["pty,raw,echo=0,link=ours", "pty,raw,echo=0,link=theirs"]).await
    }

    /// A transparent serial server of one connection on that port; the units hang on `theirs`.
    pub(crate) async fn server(port: u16) -> Self {
        let listen = format!("tcp-listen:{port},bind=127.0.0.1,reuseaddr,nodelay");
        Self::start(&["pty,raw,echo=0,link=theirs", &listen]).await
    }

    async fn start(ends: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let ends: Vec<String> = ends.iter().map(|end| (*end).to_owned()).collect();
        let child = Self::run(&dir, &ends).await;
        Self { child, ends, dir }
    }

    async fn run(dir: &TempDir, ends: &[String]) -> Child {
        let child = Command::new("socat")
            .args(ends)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("socat is not installed: run the README's test command (apt-get install socat)");
        let links = Self::links(dir, ends);
        until("the line is there", || links.iter().all(|link| link.exists())).await;
        child
    }

    /// The names of its devices.
    fn links(dir: &TempDir, ends: &[String]) -> Vec<PathBuf> {
        let names = ends.iter().filter_map(|end| end.split_once("link=")).map(|(_, name)| name);
        names.map(|name| dir.path().join(name)).collect()
    }

    /// Cuts it: its devices are gone, and first their names, as udev removes them. A name that stays would lead to whichever
    /// other test's line is given the same number next.
    pub(crate) async fn cut(&mut self) {
        for link in Self::links(&self.dir, &self.ends) {
            std::fs::remove_file(link).unwrap();
        }
        self.child.kill().await.unwrap();
    }

    /// Puts it back under the names that it had.
    pub(crate) async fn mend(&mut self) {
        self.child = Self::run(&self.dir, &self.ends).await;
    }

    /// The other end of a pair.
    pub(crate) fn theirs(&self) -> PathBuf {
        self.dir.path().join("theirs")
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
