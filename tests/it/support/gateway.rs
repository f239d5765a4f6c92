//! A whole gateway, in this process or as a child, with its page's API and a publisher that shares no code with it.

use super::journal::everything;
use super::pen::Pen;
use super::ports::{PATIENCE, free_port, soon, until};
use fengsui::app::{self, Options};
use fengsui::clock::Clock;
use fengsui::config::Config;
use fengsui::config::render::Colour;
use fengsui::journal::{Entry, Journal, Limits};
use fengsui::metrics::Metrics;
use fengsui::model::{Fact, Value as Measured};
use reqwest::header;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The embedded broker, on a free port.
pub(crate) const BROKER: &str = "[broker]\nlisten = \"127.0.0.1:0\"\nanonymous = true\n";

const LOOK_EVERY: Duration = Duration::from_millis(15);

/// The files and the data directory of one gateway. They outlive its runs.
pub(crate) struct House {
    dir: TempDir,
    password: Mutex<Option<String>>,
}

/// One device of a plan.
pub(crate) fn device(id: &str, profile: &str, link: &str, place: &str) -> String {
    format!(
        "[[site.zone.device]]\nid = \"{id}\"\nname = \"{id}\"\nprofile = \"{profile}\"\nlink = \"{link}\"\n{place}\n"
    )
}

/// A smoke detector `id` with the address `id` on a link.
pub(crate) fn smoke(id: &str, link: &str) -> String {
    device(id, "fengsui/smoke-json", link, &format!("address = \"{id}\""))
}

/// Its topic.
pub(crate) fn topic(id: &str) -> String {
    format!("site/a/device/{id}/up")
}

impl House {
    /// With these links and devices.
    pub(crate) fn build(links: &str, devices: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let gateway = format!(
            "plan = \"plan.toml\"\n[journal]\ndir = \"data\"\n[web]\nlisten = \"127.0.0.1:0\"\n[commit]\nwindow_ms = 100\n{links}"
        );
        let plan = format!(
            "[[site]]\nid = \"sunshine\"\nname = \"阳光养老院\"\naddress = \"某路 8 号\"\n[[site.contact]]\nrole = \"值班室\"\nphone = \"119\"\n[[site.zone]]\nid = \"floor-2\"\nname = \"二层\"\n{devices}"
        );
        std::fs::write(dir.path().join("gateway.toml"), gateway).unwrap();
        std::fs::write(dir.path().join("plan.toml"), plan).unwrap();
        Self { dir, password: Mutex::new(None) }
    }

    /// Puts its page on a port that the doctor can know.
    pub(crate) fn with_a_known_page(self) -> Self {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let web = format!("[web]\nlisten = \"127.0.0.1:{}\"", free_port());
        std::fs::write(self.config(), text.replace("[web]\nlisten = \"127.0.0.1:0\"", &web)).unwrap();
        self
    }

    /// Another box, with nothing on it yet; whoever could sign in here can sign in there once it has our accounts.
    pub(crate) fn another_box(&self) -> Self {
        let password = self.password.lock().unwrap().clone();
        Self { dir: TempDir::new().unwrap(), password: Mutex::new(password) }
    }

    /// Runs another sub-command of the real program: its exit code, and all that it said.
    pub(crate) fn tool(arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_fengsui")).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("gateway.toml")
    }

    /// What the first start told.
    pub(crate) fn password(&self) -> String {
        self.password.lock().unwrap().clone().unwrap()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What all its runs as a child have logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Where its runs log to.
    pub(crate) fn log_file(&self) -> std::fs::File {
        std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap()
    }

    /// Puts a profile of the site's own into its folder, in place of the one that was there.
    pub(crate) fn profile(&self, id: &str, text: &str) {
        let file = self.dir.path().join("models").join(format!("{id}.toml"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        let gateway = std::fs::read_to_string(self.config()).unwrap();
        if !gateway.contains("profiles_dir") {
            std::fs::write(self.config(), format!("profiles_dir = \"models\"\n{gateway}")).unwrap();
        }
    }

    /// Hangs more devices on the walls, for its next start.
    pub(crate) fn plan_more(&self, devices: &str) {
        let file = self.dir.path().join("plan.toml");
        let plan = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, plan + devices).unwrap();
    }

    /// Starts it in this process.
    pub(crate) async fn open(&self) -> Gateway {
        self.open_at(Clock::system()).await
    }

    /// Starts it in this process, with a clock of its own.
    pub(crate) async fn open_at(&self, clock: Clock) -> Gateway {
        let config = match Config::load(&self.config(), &|_| None) {
            Ok((config, _)) => config,
            Err(report) => panic!("{}", report.render(Colour::No)),
        };
        let app = app::start(config, Options { clock, extra: None, demo: false }).await.unwrap();
        if let Some(password) = &app.first_password {
            *self.password.lock().unwrap() = Some(password.clone());
        }
        let (web, broker) = (app.web.unwrap(), app.broker);
        let (stop, asked) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async {
            // Dropped with the test: that is an end as well.
            asked.await.ok();
        }));
        self.enter(web, broker, Body::Here { stop, running }).await
    }

    /// A command line of the real program.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fengsui"));
        command.arg("run").arg("--config").arg(self.config());
        command
    }

    /// Starts the real program as a child.
    pub(crate) async fn launch(&self) -> Gateway {
        self.launch_by(self.command()).await
    }

    /// The same by another command line.
    pub(crate) async fn launch_by(&self, mut command: Command) -> Gateway {
        let log = self.log_file();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::<String>::new()));
        let (lines, stdout) = (said.clone(), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut child = Running(child);
        let find = |mark: &str| said.lock().unwrap().iter().find(|line| line.contains(mark)).cloned();
        let first = self.password.lock().unwrap().is_none();
        let with_broker = std::fs::read_to_string(self.config()).unwrap().contains("[broker]");
        until("the gateway says where it is", || {
            assert!(child.0.try_wait().unwrap().is_none(), "the gateway ended at once: {}", self.log());
            find("http://").is_some()
                && (!with_broker || find("MQTT: ").is_some())
                && (!first || find("password: ").is_some())
        })
        .await;
        let after = |mark: &str| find(mark).map(|line| line.split(mark).nth(1).unwrap().trim().to_owned());
        if let Some(password) = after("password: ") {
            *self.password.lock().unwrap() = Some(password);
        }
        let web = after("http://").unwrap().trim_end_matches('/').parse().unwrap();
        let broker = after("MQTT: ").map(|address| address.parse().unwrap());
        self.enter(web, broker, Body::Child(child)).await
    }

    async fn enter(&self, web: SocketAddr, broker: Option<SocketAddr>, body: Body) -> Gateway {
        rustls::crypto::ring::default_provider().install_default().ok();
        let password = self.password.lock().unwrap().clone().expect("the first start told it");
        let mut gateway = Gateway { web, broker, http: reqwest::Client::new(), cookie: String::new(), body };
        gateway.sign_in(&password).await;
        gateway
    }

    /// What the journal holds, once the gateway has ended: every entry, and what stands.
    pub(crate) async fn journal(&self) -> (Vec<Arc<Entry>>, Vec<Fact>) {
        let (journal, restored) = Journal::open(&self.data(), Limits::default(), Metrics::new()).unwrap();
        (everything(&journal).await, restored.facts)
    }
}

/// The numbers that a point was told, in the order of the journal.
pub(crate) fn numbers_of(entries: &[Arc<Entry>], point: &str) -> Vec<f64> {
    let readings = entries.iter().flat_map(|entry| &entry.readings);
    readings
        .filter(|reading| reading.point.as_str() == point)
        .filter_map(|reading| match &reading.value {
            Measured::Number(number) => Some(number.get()),
            _ => None,
        })
        .collect()
}

enum Body {
    Here { stop: oneshot::Sender<()>, running: JoinHandle<anyhow::Result<()>> },
    Child(Running),
}

/// A child that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A gateway that runs, and a person signed in to it.
pub(crate) struct Gateway {
    pub(crate) web: SocketAddr,
    pub(crate) broker: Option<SocketAddr>,
    http: reqwest::Client,
    cookie: String,
    body: Body,
}

impl Gateway {
    async fn sign_in(&mut self, password: &str) {
        let body = json!({ "password": password, "person": "李四" });
        let cookie = soon("the sign-in", async {
            loop {
                let answer = self.send("POST", "/api/v1/session", Some(&body)).await;
                if answer.status().is_success() {
                    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
                    return cookie.split(';').next().unwrap().to_owned();
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        self.cookie = cookie.await;
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> reqwest::Response {
        let url = format!("http://{}{path}", self.web);
        let mut request = self
            .http
            .request(method.parse().unwrap(), url)
            .header(header::ORIGIN, format!("http://{}", self.web))
            .header(header::COOKIE, &self.cookie);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        request.send().await.unwrap()
    }

    /// What the API answers.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", path, None).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn status(&self, path: &str) -> u16 {
        self.send("GET", path, None).await.status().as_u16()
    }

    /// A page, as a browser gets it.
    pub(crate) async fn page(&self, path: &str) -> String {
        self.send("GET", path, None).await.text().await.unwrap()
    }

    /// Asks for something to be done; status and answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.send("POST", path, Some(body)).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Sends a page's form as a browser does; status, the path where it led, and the page there.
    pub(crate) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> (u16, String, String) {
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = self
            .http
            .post(format!("http://{}{path}", self.web))
            .header(header::ORIGIN, format!("http://{}", self.web))
            .header(header::COOKIE, &self.cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = request.body(pairs.join("&")).send().await.unwrap();
        let (status, path) = (answer.status().as_u16(), answer.url().path().to_owned());
        (status, path, answer.text().await.unwrap())
    }

    /// A command to a hazard; status and answer.
    pub(crate) async fn command(&self, hazard: &str, verb: &str, note: &str) -> (u16, Value) {
        let path = format!("/api/v1/hazards/{hazard}/{verb}");
        let answer = self.send("POST", &path, Some(&json!({ "note": note }))).await;
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }

    /// Asks that the configuration be read again; status and answer.
    pub(crate) async fn reload(&self) -> (u16, Value) {
        let answer = self.send("POST", "/api/v1/reload", None).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// A command to a device; status and answer.
    pub(crate) async fn tell_device(&self, device: &str, command: &str) -> (u16, Value) {
        let answer = self.send("POST", &format!("/api/v1/devices/{device}/commands/{command}"), None).await;
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }

    /// The counter of that name.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let text = self.send("GET", "/metrics", None).await.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("fengsui_{name}_total ")));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
    }

    /// Asks again and again until it is so.
    pub(crate) async fn wait(&self, what: &str, path: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(PATIENCE, what, path, so).await
    }

    pub(crate) async fn wait_for(
        &self,
        patience: Duration,
        what: &str,
        path: &str,
        so: impl Fn(&Value) -> bool,
    ) -> Value {
        let begun = tokio::time::Instant::now();
        loop {
            let answer = self.get(path).await;
            if so(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < patience, "did not come: {what}; last: {answer:#}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The hazard of a rule on a point, once it stands so.
    pub(crate) async fn hazard(&self, point: &str, rule: &str, so: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{rule} on {point}");
        self.wait_part(&what, "/api/v1/hazards", |answer| find_hazard(answer, point, rule), so).await
    }

    /// The last value of a point, once it is so.
    pub(crate) async fn last(&self, point: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.wait_part(point, "/api/v1/sites", |answer| find_last(answer, point), so).await
    }

    /// Asks until there is such a part of the answer, and gives it.
    async fn wait_part(
        &self,
        what: &str,
        path: &str,
        part: impl Fn(&Value) -> Option<Value>,
        so: impl Fn(&Value) -> bool,
    ) -> Value {
        let begun = tokio::time::Instant::now();
        loop {
            let found = part(&self.get(path).await);
            match found {
                Some(found) if so(&found) => return found,
                _ => assert!(begun.elapsed() < PATIENCE, "did not come: {what}; last: {found:?}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What is kept of a topic that could not be read or belongs to nobody.
    pub(crate) async fn stray(&self, kind: &str, key_part: &str) -> Value {
        let found = |answer: &Value| {
            let mut all = answer["strays"].as_array().unwrap().iter();
            all.find(|stray| stray["kind"] == kind && stray["key"].as_str().unwrap().contains(key_part))
                .cloned()
        };
        let what = format!("a stray {kind} of {key_part}");
        let answer = self.wait(&what, "/api/v1/strays", |answer| found(answer).is_some()).await;
        found(&answer).unwrap()
    }

    /// The live stream of the page.
    pub(crate) async fn live(&self) -> Live {
        Live { answer: self.send("GET", "/api/v1/live", None).await, text: String::new() }
    }

    /// A publisher at the embedded broker.
    pub(crate) async fn pen(&self, id: &str) -> Pen {
        let broker = self.broker.unwrap();
        soon("the broker lets us in", async {
            loop {
                match Pen::connect(broker, id).await {
                    Ok(pen) => return pen,
                    Err(_) => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        })
        .await
    }

    /// The child's process id.
    pub(crate) fn pid(&self) -> u32 {
        let Body::Child(child) = &self.body else { panic!("it runs in this process") };
        child.0.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(self) {
        assert!(matches!(self.body, Body::Child(_)), "it runs in this process");
    }

    /// Asks it to stop (SIGTERM, or the same in this process) and insists that it ends well.
    pub(crate) async fn stop(self) {
        match self.body {
            Body::Here { stop, running } => {
                stop.send(()).unwrap();
                soon("the gateway stops", running).await.unwrap().unwrap();
            }
            Body::Child(mut child) => {
                let id = child.0.id().to_string();
                assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
                assert_eq!(ended(&mut child.0).await.code(), Some(0), "its exit code");
            }
        }
    }
}

/// A text as a part of an address or a form.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Waits for a process.
pub(crate) async fn ended(child: &mut Child) -> ExitStatus {
    soon("the process ends", async {
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
}

pub(crate) fn find_hazard(answer: &Value, point: &str, rule: &str) -> Option<Value> {
    let mut all = answer["hazards"].as_array()?.iter();
    all.find(|hazard| hazard["point"] == point && hazard["rule"] == rule).cloned()
}

pub(crate) fn find_last(answer: &Value, point: &str) -> Option<Value> {
    let sites = answer["sites"].as_array()?.iter();
    let zones = sites.flat_map(|site| site["zones"].as_array().unwrap());
    let devices = zones.flat_map(|zone| zone["devices"].as_array().unwrap());
    let mut points = devices.flat_map(|device| device["points"].as_array().unwrap());
    points
        .find(|candidate| candidate["id"] == point)
        .map(|point| point["last"].clone())
        .filter(|l| !l.is_null())
}

/// Server-sent events.
pub(crate) struct Live {
    answer: reqwest::Response,
    text: String,
}

impl Live {
    /// Reads until something of it is so.
    pub(crate) async fn until(&mut self, what: &str, so: impl Fn(&Value) -> bool) {
        soon(what, async {
            loop {
                while let Some(end) = self.text.find("\n\n") {
                    let event: String = self.text.drain(..end + 2).collect();
                    let data = event.lines().find_map(|line| line.strip_prefix("data:"));
                    if data.and_then(|data| serde_json::from_str(data.trim()).ok()).is_some_and(|v| so(&v)) {
                        return;
                    }
                }
                let chunk = self.answer.chunk().await.unwrap().expect("the stream goes on");
                self.text.push_str(&String::from_utf8_lossy(&chunk));
            }
        })
        .await;
    }
}

/// Holds the database as another writer would: the journal waits for it, and fails after a while.
pub(crate) struct Stuck(rusqlite::Connection);

impl Stuck {
    pub(crate) fn hold(data: &Path) -> Self {
        let conn = rusqlite::Connection::open(data.join("journal.db")).unwrap();
        conn.busy_timeout(PATIENCE).unwrap();
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(conn)
    }

    pub(crate) fn release(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}
