//! Who is measured: a process that only subscribes, and the gateway as users run it.

use crate::load::{Mosquitto, Publisher, free_port};
use crate::page::Page;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// A process under measurement. It ends with its handle.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Process {
    /// User and system time, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let fields = self.stat();
        // Fields 14 and 15 of proc(5), counted from the state; 100 ticks a second on every Linux that we run on.
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// The largest and the present resident memory, in MiB.
    pub(crate) fn memory_mib(&self) -> (f64, f64) {
        let text = self.file("status");
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
        };
        (of("VmHWM:"), of("VmRSS:"))
    }

    /// Bytes this process has caused to be written to the disk, in whole pages.
    pub(crate) fn bytes_written(&self) -> u64 {
        let text = self.file("io");
        text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap()
    }

    /// An orderly stop. What `/proc` says of the process can still be read: it is not yet reaped.
    pub(crate) fn stop(&self) {
        let asked = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(asked.success());
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.stat()[0] != "Z" {
            assert!(Instant::now() < deadline, "it did not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The end without a warning.
    pub(crate) fn kill(&self) {
        let asked = Command::new("kill").args(["-9", &self.0.id().to_string()]).status().unwrap();
        assert!(asked.success());
        while self.stat()[0] != "Z" {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stat(&self) -> Vec<String> {
        let text = self.file("stat");
        text.rsplit_once(')').unwrap().1.split_whitespace().map(str::to_owned).collect()
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap()
    }
}

// ---- the subscriber ------------------------------------------------------------------------------------------------

/// What no gateway can beat: a rumqttc subscriber, in a process of its own, that counts; as *floor* it also reads the
/// JSON, applies a limit with a memory and says at once when it is broken. It keeps nothing.
pub(crate) struct Bare {
    pub(crate) process: Process,
    input: std::process::ChildStdin,
    answers: mpsc::Receiver<(String, Instant)>,
    /// Breaches that were told while a count was waited for.
    told: Vec<(String, Instant)>,
}

impl Bare {
    pub(crate) fn start(port: u16, floor: bool) -> Self {
        Self::start_as(if floor { "floor" } else { "bare" }, port)
    }

    /// `bare`, `floor`, or `bare5`: the first in MQTT 5.
    pub(crate) fn start_as(kind: &str, port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([kind, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                drop(sender.send((line, Instant::now())));
            }
        });
        let mut bare = Self { process: Process(child), input, answers, told: Vec::new() };
        assert_eq!(bare.answer().0, "ready");
        bare
    }

    pub(crate) fn answer(&mut self) -> (String, Instant) {
        if !self.told.is_empty() {
            return self.told.remove(0);
        }
        self.next()
    }

    fn next(&self) -> (String, Instant) {
        self.answers.recv_timeout(Duration::from_secs(30)).expect("the subscriber answers")
    }

    /// Messages so far.
    pub(crate) fn count(&mut self) -> u64 {
        self.input.write_all(b"\n").unwrap();
        loop {
            let answer = self.next();
            match answer.0.parse() {
                Ok(count) => return count,
                Err(_) => self.told.push(answer),
            }
        }
    }

    pub(crate) fn wait_for(&mut self, messages: u64) {
        let deadline = Instant::now() + Duration::from_secs(300);
        while self.count() < messages {
            assert!(Instant::now() < deadline, "the subscriber did not get every message");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The child process of [`Bare`] that speaks MQTT 5.
pub(crate) fn subscribe_in_5(port: u16) {
    let count = answering();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions, mqttbytes::QoS};
        let mut options = MqttOptions::new("bare", "127.0.0.1", port);
        options.set_clean_start(true);
        let (client, mut events) = AsyncClient::new(options, 100);
        client.subscribe("site/+/device/+/up", QoS::AtLeastOnce).await.unwrap();
        while let Ok(event) = events.poll().await {
            match event {
                Event::Incoming(Incoming::SubAck(_)) => say("ready"),
                Event::Incoming(Incoming::Publish(_)) => _ = count.fetch_add(1, Ordering::Relaxed),
                _ => {}
            }
        }
    });
}

fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().unwrap();
}

/// The count of messages, told whenever a line is read.
fn answering() -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let shared = count.clone();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            say(&shared.load(Ordering::Relaxed).to_string());
        }
    });
    count
}

/// The child process of [`Bare`].
pub(crate) fn subscribe(port: u16, floor: bool) {
    let count = answering();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let mut options = rumqttc::MqttOptions::new("bare", "127.0.0.1", port);
        options.set_clean_session(true);
        let (client, mut events) = rumqttc::AsyncClient::new(options, 100);
        client.subscribe("site/+/device/+/up", rumqttc::QoS::AtLeastOnce).await.unwrap();
        let mut alarmed: HashMap<String, bool> = HashMap::new();
        while let Ok(event) = events.poll().await {
            match event {
                rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_)) => say("ready"),
                rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) => {
                    count.fetch_add(1, Ordering::Relaxed);
                    if !floor {
                        continue;
                    }
                    let message: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
                    let smoke = message["smoke"].as_f64().unwrap() >= 1.0;
                    if alarmed.insert(publish.topic.clone(), smoke) != Some(true) && smoke {
                        say(publish.topic.split('/').nth(3).unwrap());
                    }
                }
                _ => {}
            }
        }
    });
}

// ---- the gateway ---------------------------------------------------------------------------------------------------

/// Devices `d0000`… that speak all the time, and `b0000`… that speak once, to alarm.
pub(crate) const DEVICES: usize = 1000;
pub(crate) const BREACHING: usize = 200;

pub(crate) const FRAMES: &str = "fengsui_frames_received_total";

pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) page: Page,
    pub(crate) client_id: String,
    password: String,
}

impl Gateway {
    /// A first start in a new folder, connected to the broker and with every device heard once.
    pub(crate) fn begin(folder: &Path, broker: &Mosquitto, window: u16, extra: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let page = free_port();
        let gateway = format!(
            "plan = \"plan.toml\"\n\n[journal]\ndir = \"data\"\n\n[web]\nlisten = \"127.0.0.1:{page}\"\n\n\
             [[mqtt]]\nname = \"main\"\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"fengsui-{page}\"\n\
             inflight_window = {window}\n{extra}",
            broker.port
        );
        std::fs::write(folder.join("gateway.toml"), gateway).unwrap();
        std::fs::write(folder.join("plan.toml"), plan()).unwrap();
        let mut child = spawn(folder);
        let password = read_password(&mut BufReader::new(child.stdout.take().unwrap()));
        let gateway = Self::signed_in(child, page, &password);
        let mut client = Publisher::connect(broker.port, "warm-up");
        let deadline = Instant::now() + Duration::from_secs(20);
        while gateway.page.counter(FRAMES) == 0 {
            assert!(Instant::now() < deadline, "the gateway did not subscribe");
            client.send("d0000", false);
            client.wait_all();
            std::thread::sleep(Duration::from_millis(50));
        }
        (0..DEVICES).for_each(|number| client.send(&format!("d{number:04}"), false));
        client.wait_all();
        gateway.settle();
        gateway
    }

    /// A first start with the embedded broker, and the broker's port.
    pub(crate) fn embedded(folder: &Path) -> (Self, u16) {
        std::fs::create_dir_all(folder).unwrap();
        let (page, port) = (free_port(), free_port());
        let gateway = format!(
            "plan = \"plan.toml\"\n\n[journal]\ndir = \"data\"\n\n[web]\nlisten = \"127.0.0.1:{page}\"\n\n\
             [broker]\nname = \"main\"\nlisten = \"127.0.0.1:{port}\"\nanonymous = true\n"
        );
        std::fs::write(folder.join("gateway.toml"), gateway).unwrap();
        std::fs::write(folder.join("plan.toml"), plan()).unwrap();
        let mut child = spawn(folder);
        let password = read_password(&mut BufReader::new(child.stdout.take().unwrap()));
        (Self::signed_in(child, page, &password), port)
    }

    /// A later start in the same folder.
    pub(crate) fn again(folder: &Path, before: &Self) -> Self {
        let port = before.port();
        let mut child = spawn(folder);
        drop(child.stdout.take());
        Self::signed_in(child, port, &before.password)
    }

    pub(crate) fn port(&self) -> u16 {
        self.client_id.rsplit_once('-').unwrap().1.parse().unwrap()
    }

    fn signed_in(child: Child, port: u16, password: &str) -> Self {
        // First: a sign-in that fails must not leave a gateway behind.
        let process = Process(child);
        let page = Page::sign_in(port, password);
        Self { process, page, client_id: format!("fengsui-{port}"), password: password.to_owned() }
    }

    /// Until nothing more comes and the last commit is surely done: a second without a frame, and the commit window.
    pub(crate) fn settle(&self) -> u64 {
        let mut last = 0;
        loop {
            std::thread::sleep(Duration::from_millis(1200));
            let now = self.page.counter(FRAMES);
            if now == last {
                return now;
            }
            last = now;
        }
    }
}

/// `FENGSUI_BENCH_BINARY` measures another build with the same bench.
pub(crate) fn spawn(folder: &Path) -> Child {
    let built = env!("CARGO_BIN_EXE_fengsui").into();
    Command::new(std::env::var_os("FENGSUI_BENCH_BINARY").unwrap_or(built))
        .args(["run", "--config"])
        .arg(folder.join("gateway.toml"))
        .env("RUST_LOG", "error")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

fn plan() -> String {
    let mut plan = String::from(
        "[[site]]\nid = \"bench\"\nname = \"bench\"\naddress = \"bench\"\n\
         [[site.contact]]\nrole = \"bench\"\nname = \"bench\"\nphone = \"1\"\n\
         [[site.zone]]\nid = \"hall\"\nname = \"hall\"\n",
    );
    let ids = (0..DEVICES).map(|n| format!("d{n:04}")).chain((0..BREACHING).map(|n| format!("b{n:04}")));
    for id in ids {
        plan.push_str(&format!(
            "[[site.zone.device]]\nid = \"{id}\"\nname = \"{id}\"\nplace = \"hall\"\n\
             profile = \"fengsui/smoke-json\"\nlink = \"main\"\naddress = \"{id}\"\n"
        ));
    }
    plan
}

/// The first start prints the password once.
pub(crate) fn read_password(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, after)) = line.split_once("password: ") {
            return after.split_whitespace().next().unwrap().to_owned();
        }
        line.clear();
    }
    panic!("the gateway ended without printing its first password");
}
