//! A real VictoriaMetrics (Debian's package), on a free port with its storage in a temporary directory.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longer than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Victoria {
    storage: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Victoria {
    /// Not yet started: nobody listens on its port.
    pub(crate) fn new() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        Self { storage: tempfile::tempdir().unwrap(), port, child: None }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn start(&mut self) {
        let child = Command::new("victoria-metrics")
            .arg(format!("-httpListenAddr=127.0.0.1:{}", self.port))
            .arg(format!("-storageDataPath={}", self.storage.path().display()))
            // Without the last one it keeps a point that is posted twice as two.
            .args(["-retentionPeriod=10y", "-memory.allowedPercent=5", "-dedup.minScrapeInterval=1ms"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("victoria-metrics is installed (apt-get install victoria-metrics)");
        self.child = Some(child);
        let up = async {
            while self.get("/health").await.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, up).await.expect("VictoriaMetrics answers");
    }

    /// Asks it to end, as an update would, and waits until it has: a confirmed point is on its disk then.
    pub(crate) async fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let ended = async {
            while child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
    }

    /// Every sample of a series name, oldest first: time in ms, value, and the labels.
    pub(crate) async fn samples(&self, name: &str) -> Vec<(i64, f64, serde_json::Value)> {
        self.get("/internal/force_flush").await.expect("it flushes");
        let text = self.get(&format!("/api/v1/export?match[]={name}")).await.expect("it exports");
        let mut samples = Vec::new();
        for line in text.lines() {
            let series: serde_json::Value = serde_json::from_str(line).unwrap();
            let (times, values) = (series["timestamps"].as_array(), series["values"].as_array());
            for (time, value) in times.unwrap().iter().zip(values.unwrap()) {
                samples.push((time.as_i64().unwrap(), value.as_f64().unwrap(), series["metric"].clone()));
            }
        }
        samples.sort_by_key(|(time, ..)| *time);
        samples
    }

    async fn get(&self, path: &str) -> Option<String> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let answer = reqwest::get(format!("{}{path}", self.url())).await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }
}

impl Drop for Victoria {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
