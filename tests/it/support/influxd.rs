//! A real InfluxDB 1 (Debian's package `influxdb`), on free ports with its files in a temporary directory. The
//! package's own service is neither used nor needed.

use super::ports::{free_port, soon};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The user that [`Influxd::with_sign_in`] makes, and his password.
pub(crate) const ADMIN: (&str, &str) = ("admin", "four words, no secret");

pub(crate) struct Influxd {
    dir: tempfile::TempDir,
    http: u16,
    rpc: u16,
    /// More lines of its `[http]` section.
    http_settings: String,
    sign_in: bool,
    child: Option<Child>,
}

impl Influxd {
    /// Not yet started: nobody listens on its port.
    pub(crate) fn new() -> Self {
        Self::with(String::new(), false)
    }

    /// One that answers 413 to a body of more bytes, unpacked.
    pub(crate) fn with_body_max(bytes: usize) -> Self {
        Self::with(format!("max-body-size = {bytes}\n"), false)
    }

    /// One that wants a user and a password: [`ADMIN`].
    pub(crate) fn with_sign_in() -> Self {
        Self::with("auth-enabled = true\n".to_owned(), true)
    }

    fn with(http_settings: String, sign_in: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, http: free_port(), rpc: free_port(), http_settings, sign_in, child: None }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    pub(crate) async fn start(&mut self) {
        let dir = self.dir.path().display();
        let config = self.dir.path().join("influxdb.conf");
        let text = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{}\"\n\
             [meta]\ndir = \"{dir}/meta\"\n[data]\ndir = \"{dir}/data\"\nwal-dir = \"{dir}/wal\"\n\
             [monitor]\nstore-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{}\"\nlog-enabled = false\n{}",
            self.rpc, self.http, self.http_settings
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("influxd")
            .arg("-config")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.dir.path().join("log")).unwrap())
            .spawn()
            .expect("influxd is installed (apt-get install influxdb)");
        self.child = Some(child);
        soon("InfluxDB answers", async {
            while !self.answers().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        if self.sign_in {
            let (user, password) = ADMIN;
            self.query("", &format!("CREATE USER {user} WITH PASSWORD '{password}' WITH ALL PRIVILEGES"))
                .await;
        }
    }

    /// Asks it to end, as an update would, and waits until it has: a confirmed point is on its disk then.
    pub(crate) async fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        soon("InfluxDB ends", async {
            while child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Makes a database that keeps its points for ever.
    pub(crate) async fn create_database(&self, name: &str) {
        self.query("", &format!("CREATE DATABASE \"{name}\"")).await;
    }

    /// Asks by InfluxQL; an empty database name where none is needed. The first statement's result, as the server
    /// wrote it: `series` is missing when nothing matches.
    pub(crate) async fn query(&self, database: &str, influxql: &str) -> serde_json::Value {
        let (user, password) = ADMIN;
        let mut form = vec![("q", influxql), ("db", database), ("epoch", "ms")];
        if self.sign_in {
            form.extend([("u", user), ("p", password)]);
        }
        // All in the address: both `q` in a POST's address and `db` beside it are read.
        let answer = client().post(format!("{}/query", self.url())).query(&form).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{influxql}: {status}: {text}");
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let result = &answer["results"][0];
        assert!(result["error"].is_null(), "{influxql}: {answer}");
        result.clone()
    }

    /// The rows of a query's first series, each with its time in ms first; empty when nothing matches.
    pub(crate) async fn rows(&self, database: &str, influxql: &str) -> Vec<Vec<serde_json::Value>> {
        let result = self.query(database, influxql).await;
        let rows = result["series"][0]["values"].as_array().cloned().unwrap_or_default();
        rows.into_iter().map(|row| row.as_array().unwrap().clone()).collect()
    }

    /// How many points of a measurement have the field.
    pub(crate) async fn count(&self, database: &str, measurement: &str, field: &str) -> u64 {
        let question = format!("SELECT count(\"{field}\") FROM \"{measurement}\"");
        self.rows(database, &question).await.first().map_or(0, |row| row[1].as_u64().unwrap())
    }

    async fn answers(&self) -> bool {
        let answer = client().get(format!("{}/ping", self.url())).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

impl Drop for Influxd {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn client() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::new()
}

#[tokio::test]
async fn a_real_influxdb_1_starts_answers_and_keeps_its_points_over_a_restart() {
    let mut influxd = Influxd::new();
    influxd.start().await;
    influxd.create_database("site").await;
    let write = |line: &'static str| {
        client().post(format!("{}/write?db=site&precision=ms", influxd.url())).body(line).send()
    };
    assert_eq!(write("a value=1 1000").await.unwrap().status(), 204);
    influxd.stop().await;
    influxd.start().await;
    assert_eq!(influxd.rows("site", "SELECT value FROM a").await, [[1000, 1]]);
    assert_eq!(
        (influxd.count("site", "a", "value").await, influxd.count("site", "b", "value").await),
        (1, 0)
    );
}
