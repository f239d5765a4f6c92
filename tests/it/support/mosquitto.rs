//! A real mosquitto on a free port, stopped with the test; and its command-line publisher.

use super::ports::{free_port, soon};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
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

    /// Reads its password file again (SIGHUP).
    pub(crate) fn reload(&self) {
        self.signal("HUP");
    }

    /// A file in its own directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sets a user's password in its file `users`, which is made when it is missing.
    pub(crate) fn set_password(users: &Path, user: &str, password: &str) {
        let mut command = Command::new("mosquitto_passwd");
        if !users.exists() {
            command.arg("-c");
        }
        let made = command.arg("-b").arg(users).args([user, password]).output().expect(MISSING);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// What it wrote to its log (`-v`): connections, packets.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("mosquitto.log")).unwrap_or_default()
    }

    /// Publishes one message and waits until mosquitto has it.
    pub(crate) async fn publish(&self, topic: &str, payload: &str, more: &[&str]) {
        let mut arguments = vec!["-t", topic, "-m", payload];
        arguments.extend_from_slice(more);
        let mut publisher = Peer::publisher(self.port, &arguments);
        assert_eq!(publisher.ended().await, 0, "mosquitto_pub {arguments:?}");
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

/// A `mosquitto_pub` or `mosquitto_sub`, killed with the test.
pub(crate) struct Peer {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// `mosquitto_pub` towards a port.
    pub(crate) fn publisher(port: u16, arguments: &[&str]) -> Self {
        Self::run("mosquitto_pub", port, arguments)
    }

    /// `mosquitto_sub` towards a port.
    pub(crate) fn subscriber(port: u16, arguments: &[&str]) -> Self {
        Self::run("mosquitto_sub", port, arguments)
    }

    fn run(name: &str, port: u16, arguments: &[&str]) -> Self {
        assert!(on_path(name), "{name}: {MISSING}");
        let mut child = Command::new(name)
            .args(["-h", "127.0.0.1", "-p", &port.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect(MISSING);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            });
        }
        Self { child, lines }
    }

    /// Writes to its standard input (`-l`: one message a line; `-s`: the message) and closes it.
    pub(crate) fn feed(&mut self, text: &[u8]) {
        self.child.stdin.take().unwrap().write_all(text).unwrap();
    }

    /// What it has printed.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its exit code, once it has ended; killed by a signal: -1.
    pub(crate) async fn ended(&mut self) -> i32 {
        soon("the peer ends", async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code().unwrap_or(-1);
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
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
