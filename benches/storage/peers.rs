//! The neighbours, given the same samples: rows in SQLite, VictoriaMetrics, InfluxDB 1 (Debian's packages).

use crate::process::{Server, folder_bytes, wait_until};
use crate::samples::{Plant, Sample, Signal, Tally};
use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Lines of one post: what suited both servers best when 1000 to 20 000 were tried.
pub(crate) const LINES: usize = 5000;

/// The usual way: a row a sample, found by point and time. Durable with each transaction, as the journal is.
pub(crate) struct Rows {
    conn: rusqlite::Connection,
    pub(crate) file: PathBuf,
}

impl Rows {
    pub(crate) fn open(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let file = dir.join("rows.db");
        let conn = rusqlite::Connection::open(&file).unwrap();
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS reading (
               point INTEGER NOT NULL, time INTEGER NOT NULL, value REAL NOT NULL, quality INTEGER NOT NULL,
               PRIMARY KEY (point, time)) STRICT, WITHOUT ROWID",
        )
        .unwrap();
        Self { conn, file }
    }

    /// One transaction.
    pub(crate) fn insert(&mut self, samples: &[Sample]) {
        let transaction = self.conn.transaction().unwrap();
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO reading (point, time, value, quality) VALUES (?, ?, ?, 0)")
                .unwrap();
            for sample in samples {
                insert.execute((sample.point as i64, sample.time, sample.value)).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    pub(crate) fn take(&mut self, samples: &[Sample], batch: usize) {
        samples.chunks(batch).for_each(|some| self.insert(some));
    }

    pub(crate) fn checkpoint(&self) {
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }

    pub(crate) fn tally(&self) -> Tally {
        let question = "SELECT count(*), ifnull(sum(value), 0.0) FROM reading";
        let (count, sum) =
            self.conn.query_row(question, [], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?))).unwrap();
        Tally { count: count as u64, sum }
    }

    /// How many rows a question answers.
    pub(crate) fn ask(&self, question: &str, parameters: &[i64]) -> usize {
        let mut statement = self.conn.prepare_cached(question).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(parameters)).unwrap();
        let mut count = 0;
        while let Some(row) = rows.next().unwrap() {
            // Every column is fetched, as a chart would.
            for column in 0..columns {
                std::hint::black_box(row.get_ref(column).unwrap());
            }
            count += 1;
        }
        count
    }
}

/// The lines that both servers take: measurement = class, one tag, one field.
pub(crate) fn lines(signals: &[Signal], samples: &[Sample]) -> String {
    let mut text = String::with_capacity(samples.len() * 48);
    for Sample { point, time, value } in samples {
        let signal = &signals[*point];
        writeln!(text, "{},point={} value={value} {time}", signal.class.name(), tag(signal)).unwrap();
    }
    text
}

/// A point's name, without the sign that line protocol would have to escape.
pub(crate) fn tag(signal: &Signal) -> String {
    signal.point.as_str().replace('/', ".")
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server of line protocol with an HTTP interface.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    server: Server,
    port: u16,
    pub(crate) dir: PathBuf,
    client: reqwest::Client,
    runtime: Runtime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Victoria,
    Influx,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Victoria, Self::Influx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Victoria => "VictoriaMetrics",
            Self::Influx => "InfluxDB 1",
        }
    }

    fn binary(self) -> &'static Path {
        Path::new(match self {
            Self::Victoria => "/usr/bin/victoria-metrics",
            Self::Influx => "/usr/bin/influxd",
        })
    }
}

/// The database in InfluxDB.
const DATABASE: &str = "bench";

impl Peer {
    /// `None`, and a word about it, when the package is not installed. `dense`: InfluxDB makes its densest files after a second's rest instead of minutes and hours.
    pub(crate) fn start(kind: Kind, dir: &Path, dense: bool) -> Option<Self> {
        if !kind.binary().exists() {
            eprintln!(
                "{} is missing: its rows stay empty (packages victoria-metrics, influxdb)",
                kind.name()
            );
            return None;
        }
        std::fs::create_dir_all(dir).unwrap();
        let port = free_port();
        let server = Server::start(&mut command(kind, dir, port, dense));
        // The bench's servers are on this machine: no proxy.
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let peer = Self { kind, server, port, dir: dir.to_owned(), client, runtime };
        wait_until("the server listens", Duration::from_secs(30), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let ready = if kind == Kind::Victoria { "/health" } else { "/ping" };
        wait_until("the server answers", Duration::from_secs(30), || peer.try_get(ready, &[]).is_ok());
        if kind == Kind::Influx {
            peer.post("/query", &[("q", &format!("CREATE DATABASE {DATABASE}"))], String::new());
        }
        Some(peer)
    }

    pub(crate) fn id(&self) -> u32 {
        self.server.id()
    }

    pub(crate) fn write(&self, lines: String) {
        match self.kind {
            Kind::Victoria => self.post("/write", &[("precision", "ms")], lines),
            Kind::Influx => self.post("/write", &[("db", DATABASE), ("precision", "ms")], lines),
        };
    }

    pub(crate) fn take(&self, plant: &Plant, samples: &[Sample], batch: usize) {
        samples.chunks(batch).for_each(|some| self.write(lines(&plant.signals, some)));
    }

    /// Everything is in files, in the server's densest form.
    pub(crate) fn settle(&self) {
        match self.kind {
            Kind::Victoria => {
                self.get("/internal/force_flush", &[]);
                self.get("/internal/force_merge", &[]);
                wait_until("the merge is over", Duration::from_secs(120), || {
                    let text = self.get("/metrics", &[]);
                    let active =
                        |line: &str| line.starts_with("vm_active_force_merges ") && !line.ends_with(" 0");
                    !text.lines().any(active)
                });
                self.get("/internal/force_flush", &[]);
                // Parts that were merged are removed a moment later.
                self.unchanged_for(Duration::from_secs(2));
            }
            Kind::Influx => {
                // A snapshot after a second without a write, then one file a shard a second later.
                wait_until("the log is in files", Duration::from_secs(120), || {
                    folder_bytes(&self.dir.join("wal")) < 1024
                });
                self.unchanged_for(Duration::from_secs(4));
            }
        }
    }

    fn unchanged_for(&self, span: Duration) {
        let mut last = (std::time::Instant::now(), 0);
        wait_until("the files rest", Duration::from_secs(120), || {
            let bytes = self.bytes();
            if bytes != last.1 {
                last = (std::time::Instant::now(), bytes);
            }
            last.0.elapsed() >= span
        });
    }

    /// Bytes of its files of samples, and their index. Not InfluxDB's `_series`, 32 MiB laid out in advance.
    pub(crate) fn bytes(&self) -> u64 {
        match self.kind {
            Kind::Victoria => folder_bytes(&self.dir),
            Kind::Influx => folder_bytes(&self.dir.join("data").join(DATABASE).join("autogen")),
        }
    }

    /// Everything that it holds.
    pub(crate) fn tally(&self, signals: &[Signal], from: i64, to: i64) -> Tally {
        let mut found = Tally::default();
        let mut classes: Vec<&str> = signals.iter().map(|signal| signal.class.name()).collect();
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            match self.kind {
                Kind::Victoria => {
                    // The export streams one line a point with all its values.
                    let answer = self.export(&format!("{{__name__=\"{class}_value\"}}"), from, to);
                    for line in answer.lines() {
                        let read: serde_json::Value = serde_json::from_str(line).unwrap();
                        let values = read["values"].as_array().unwrap();
                        values.iter().for_each(|value| found.add(value.as_f64().unwrap()));
                    }
                }
                Kind::Influx => {
                    let q = format!("SELECT count(value), sum(value) FROM {class}");
                    let read: serde_json::Value = serde_json::from_str(&self.influx(&q)).unwrap();
                    let row = &read["results"][0]["series"][0]["values"][0];
                    found.count += row[1].as_u64().unwrap_or(0);
                    found.sum += row[2].as_f64().unwrap_or(0.0);
                }
            }
        }
        found
    }

    pub(crate) fn export(&self, selector: &str, from: i64, to: i64) -> String {
        let (from, to) = (seconds(from), seconds(to));
        self.get("/api/v1/export", &[("match[]", selector), ("start", &from), ("end", &to)])
    }

    /// PromQL over a range, past the server's cache of answers.
    pub(crate) fn promql(&self, query: &str, from: i64, to: i64, step: i64) -> String {
        let (from, to, step) = (seconds(from), seconds(to), seconds(step));
        let parameters =
            [("query", query), ("start", &from), ("end", &to), ("step", &step), ("nocache", "1")];
        self.get("/api/v1/query_range", &parameters)
    }

    pub(crate) fn influx(&self, q: &str) -> String {
        self.get("/query", &[("db", DATABASE), ("epoch", "ms"), ("q", q)])
    }

    fn get(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        self.try_get(path, parameters).unwrap_or_else(|error| panic!("{} {path}: {error}", self.kind.name()))
    }

    fn try_get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<String, String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let request = self.client.get(url).query(parameters);
        self.runtime.block_on(answered(request))
    }

    fn post(&self, path: &str, parameters: &[(&str, &str)], body: String) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let request = self.client.post(url).query(parameters).body(body);
        let answer = self.runtime.block_on(answered(request));
        answer.unwrap_or_else(|error| panic!("{} {path}: {error}", self.kind.name()))
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Result<String, String> {
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}")) }
}

fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

fn command(kind: Kind, dir: &Path, port: u16, dense: bool) -> Command {
    let mut command = Command::new(kind.binary());
    match kind {
        Kind::Victoria => {
            command
                .arg(format!("-storageDataPath={}", dir.join("store").display()))
                .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
                .args(["-retentionPeriod=100y", "-search.maxUniqueTimeseries=1000000"])
                .args(["-search.latencyOffset=0s", "-search.maxPointsPerTimeseries=100000"]);
        }
        Kind::Influx => {
            let file = dir.join("influxdb.conf");
            let cold = if dense {
                "cache-snapshot-write-cold-duration = \"1s\"\ncompact-full-write-cold-duration = \"1s\"\n"
            } else {
                ""
            };
            let text = format!(
                "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n\
                 [meta]\ndir = \"{dir}/meta\"\n\
                 [data]\ndir = \"{dir}/data\"\nwal-dir = \"{dir}/wal\"\nquery-log-enabled = false\n\
                 {cold}\
                 [http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\n\
                 [monitor]\nstore-enabled = false\n",
                rpc = free_port(),
                dir = dir.display(),
            );
            std::fs::write(&file, text).unwrap();
            command.arg("-config").arg(file);
        }
    }
    command
}
