//! A real mosquitto on a free port, stopped with the test; and its command-line publisher.

use super::ports::{free_port, soon};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What to do when it is not installed. The README's test command installs the peers.
const MISSING: &str =
    "mosquitto is not installed: run the README's test command (apt-get install mosquitto mosquitto-clients)";

/// A running mosquitto.
pub(crate) struct Mosquitto {
    child: Option<Child>,
    dir: TempDir,
    pub(crate) port: u16,
}

impl Mosquitto {
    /// Anonymous, no persistence.
    pub(crate) async fn start() -> Self {
        Self::with("allow_anonymous true\npersistence false\n").await
    }

    /// Remembers sessions over a kill: the file is written after every change.
    pub(crate) async fn persistent() -> Self {
        Self::with("allow_anonymous true\npersistence true\nautosave_on_changes true\nautosave_interval 1\n")
            .await
    }

    /// With these lines of configuration; `{dir}` is its own directory.
    pub(crate) async fn with(config: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let port = free_port();
        let place = dir.path().display();
        // As root mosquitto changes to a user that could not write here.
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\nset_tcp_nodelay true\npersistence_location {place}/\n{}",
            config.replace("{dir}", &place.to_string())
        );
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        let mut broker = Self { child: None, dir, port };
        broker.run().await;
        broker
    }

    /// Starts it (again) with the same configuration, port and directory.
    pub(crate) async fn run(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("mosquitto.log")).unwrap();
        let child = Command::new(binary())
            .arg("-v")
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect(MISSING);
        self.child = Some(child);
        let port = self.port;
        soon("mosquitto listens", async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Kills it at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends it in order: it saves its sessions.
    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// Its connections stay open and nothing answers: half-open.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Goes on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// What it wrote to its log (`-v`): connections, packets.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("mosquitto.log")).unwrap_or_default()
    }

    /// Publishes one message and waits until mosquitto has it.
    pub(crate) async fn publish(&self, topic: &str, payload: &str, more: &[&str]) {
        let mut arguments = vec!["-t", topic, "-m", payload];
        arguments.extend_from_slice(more);
        let done = publisher(self.port, &arguments).status();
        assert!(soon("mosquitto_pub ends", done).await.unwrap().success(), "mosquitto_pub {arguments:?}");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// `mosquitto_pub` towards a port; it is killed when the test ends.
pub(crate) fn publisher(port: u16, arguments: &[&str]) -> tokio::process::Command {
    client("mosquitto_pub", port, arguments)
}

/// `mosquitto_sub` towards a port, its output piped.
pub(crate) fn subscriber(port: u16, arguments: &[&str]) -> tokio::process::Command {
    let mut command = client("mosquitto_sub", port, arguments);
    command.stdout(Stdio::piped());
    command
}

fn client(name: &str, port: u16, arguments: &[&str]) -> tokio::process::Command {
    assert!(on_path(name), "{name}: {MISSING}");
    let mut command = tokio::process::Command::new(name);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments).kill_on_drop(true);
    command
}

fn binary() -> &'static Path {
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
        .expect(MISSING)
}

fn on_path(name: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(name).exists())
}
