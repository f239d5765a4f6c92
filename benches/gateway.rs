//! The whole gateway against a bare subscriber, on the same broker, in the same run.
//!
//! `cargo bench --bench gateway` starts a mosquitto on 127.0.0.1 and, in interleaved rounds, a rumqttc subscriber that
//! only counts (*bare*) and the gateway as users run it (`fengsui run`, journal on, page on). A raw publisher sends
//! QoS 1 messages of 1000 devices. Printed: messages a second, CPU seconds a million messages, peak memory, and the
//! time from the publication of a breach to the live event on the duty-room page. These machines are noisy: the
//! ratios to *bare* in the same round are the figures; the absolute ones are not.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks to a person")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop loudly")]
#![expect(clippy::disallowed_methods, reason = "a bench is about wall-clock time and runs beside no test")]
#![expect(clippy::cast_precision_loss, reason = "counts below 2^52")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const DEVICES: usize = 1000;
const PUBLISHERS: usize = 4;
/// Unacknowledged messages a publisher sends before it waits.
const WINDOW: u64 = 500;
/// One message in a thousand breaches a limit in the paced run.
const BREACH_EVERY: usize = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, otherwise: usize| {
        arguments
            .iter()
            .position(|argument| argument == name)
            .and_then(|at| arguments.get(at + 1)?.parse().ok())
            .unwrap_or(otherwise)
    };
    if arguments.get(1).map(String::as_str) == Some("bare") {
        return bare(arguments[2].parse().unwrap(), arguments[3].parse().unwrap());
    }
    let messages = number("--messages", 200_000);
    let rounds = number("--rounds", 3);
    let paced_secs = number("--paced-secs", 20);

    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(folder.path());
    let mut results = Vec::new();
    for round in 0..rounds {
        // Interleaved, and the order turned each round, so that a slow minute of the machine hits both alike.
        let mut subjects = [Kind::Bare, Kind::Gateway];
        if round % 2 == 1 {
            subjects.reverse();
        }
        for kind in subjects {
            let result = flat_out(kind, &broker, messages, &folder.path().join(format!("{kind:?}-{round}")));
            eprintln!(
                "round {round} {kind:?}: {:.0} msg/s, {:.1} CPU s per million, {} KiB",
                result.rate, result.cpu, result.memory_kib
            );
            results.push((kind, result));
        }
    }
    let paced = paced(&broker, paced_secs, &folder.path().join("paced"));
    print_table(&results, &paced, messages, rounds);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bare,
    Gateway,
}

struct FlatOut {
    rate: f64,
    /// CPU seconds per million messages.
    cpu: f64,
    memory_kib: u64,
}

struct Paced {
    sent: usize,
    /// Milliseconds from the publication of a breach to its live event, sorted.
    latencies: Vec<f64>,
    breaches: usize,
    /// Share of one core.
    core: f64,
    memory_kib: u64,
}

fn flat_out(kind: Kind, broker: &Mosquitto, messages: usize, folder: &Path) -> FlatOut {
    let mut subject = Subject::start(kind, broker, folder, messages);
    let before = (Instant::now(), cpu_seconds(subject.child.id()));
    let sent = publish(broker.port, messages);
    subject.wait_for(messages as u64);
    let elapsed = before.0.elapsed().as_secs_f64();
    let cpu = cpu_seconds(subject.child.id()) - before.1;
    let memory_kib = peak_memory_kib(subject.child.id());
    assert_eq!(sent, messages as u64, "the broker acknowledged every message");
    FlatOut { rate: messages as f64 / elapsed, cpu: cpu * 1e6 / messages as f64, memory_kib }
}

/// 1000 messages a second; the breaches are timed to the live event stream of the page.
fn paced(broker: &Mosquitto, seconds: usize, folder: &Path) -> Paced {
    let subject = Subject::start(Kind::Gateway, broker, folder, 0);
    let page = subject.page.clone().unwrap();
    let seen: Arc<Mutex<Vec<(String, Instant)>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let stream = page.live(seen.clone(), stop.clone());

    let (start, cpu) = (Instant::now(), cpu_seconds(subject.child.id()));
    let mut client = Publisher::connect(broker.port, "paced");
    let mut breaches = Vec::new();
    let total = seconds * 1000;
    for number in 0..total {
        let due = start + Duration::from_millis(number as u64);
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        let breach = number % BREACH_EVERY == BREACH_EVERY / 2;
        let device = if breach { breaches.len() } else { number % (DEVICES - 100) + 100 };
        if breach {
            breaches.push((format!("d{device:04}"), Instant::now()));
        }
        client.send(device, breach);
    }
    client.wait_all();
    let deadline = Instant::now() + Duration::from_secs(10);
    while seen.lock().unwrap().len() < breaches.len() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let core = (cpu_seconds(subject.child.id()) - cpu) / start.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let seen = seen.lock().unwrap();
    let mut latencies: Vec<f64> = breaches
        .iter()
        .filter_map(|(device, at)| {
            let (_, shown) = seen.iter().find(|(name, _)| name == device)?;
            Some(shown.duration_since(*at).as_secs_f64() * 1000.0)
        })
        .collect();
    latencies.sort_by(f64::total_cmp);
    drop(stream);
    let memory_kib = peak_memory_kib(subject.child.id());
    Paced { sent: total, latencies, breaches: breaches.len(), core, memory_kib }
}

fn print_table(results: &[(Kind, FlatOut)], paced: &Paced, messages: usize, rounds: usize) {
    let median = |kind: Kind, value: fn(&FlatOut) -> f64| {
        let mut values: Vec<f64> = results.iter().filter(|(of, _)| *of == kind).map(|(_, r)| value(r)).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let line = |name: &str, value: fn(&FlatOut) -> f64, digits: usize| {
        let (bare, gateway) = (median(Kind::Bare, value), median(Kind::Gateway, value));
        println!("| {name} | {bare:.digits$} | {gateway:.digits$} | {:.2} |", gateway / bare);
    };
    println!("\nQoS 1, {DEVICES} devices, {messages} messages, median of {rounds} interleaved rounds\n");
    println!("| | bare rumqttc subscriber | fengsui | ratio |");
    println!("|---|---:|---:|---:|");
    line("messages a second", |r| r.rate, 0);
    line("CPU seconds a million messages", |r| r.cpu, 1);
    line("peak RSS, MiB", |r| r.memory_kib as f64 / 1024.0, 1);
    let at = |share: f64| {
        let last = paced.latencies.len().saturating_sub(1);
        let index = ((paced.latencies.len() as f64 * share) as usize).min(last);
        paced.latencies.get(index).copied().unwrap_or(f64::NAN)
    };
    println!("\nAt 1000 messages a second, {} sent, {} breaches, {} seen live\n", paced.sent, paced.breaches, paced.latencies.len());
    println!("| publish → live event p50 | p99 | max | CPU of a core | peak RSS, MiB |");
    println!("|---:|---:|---:|---:|---:|");
    println!(
        "| {:.1} ms | {:.1} ms | {:.1} ms | {:.1} % | {:.1} |",
        at(0.5),
        at(0.99),
        at(1.0),
        paced.core * 100.0,
        paced.memory_kib as f64 / 1024.0
    );
}

// ---- the subjects --------------------------------------------------------------------------------------------------

struct Subject {
    child: Child,
    kind: Kind,
    page: Option<Page>,
    output: Option<BufReader<std::process::ChildStdout>>,
}

impl Drop for Subject {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Subject {
    fn start(kind: Kind, broker: &Mosquitto, folder: &Path, messages: usize) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        match kind {
            Kind::Bare => {
                let mut child = Command::new(std::env::current_exe().unwrap())
                    .args(["bare", &broker.port.to_string(), &messages.to_string()])
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut output = BufReader::new(child.stdout.take().unwrap());
                let mut line = String::new();
                output.read_line(&mut line).unwrap();
                assert_eq!(line.trim(), "ready");
                Self { child, kind, page: None, output: Some(output) }
            }
            Kind::Gateway => {
                let port = free_port();
                write_config(folder, broker.port, port);
                let mut child = Command::new(env!("CARGO_BIN_EXE_fengsui"))
                    .args(["run", "--config"])
                    .arg(folder.join("gateway.toml"))
                    .env("RUST_LOG", "error")
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut output = BufReader::new(child.stdout.take().unwrap());
                let password = read_password(&mut output);
                let page = Page::sign_in(port, &password);
                // Connected and subscribed: a message to a device that no round uses comes through.
                let probe = Instant::now() + Duration::from_secs(20);
                let mut client = Publisher::connect(broker.port, "probe");
                while page.counter("fengsui_frames_received_total") == 0 {
                    assert!(Instant::now() < probe, "the gateway did not subscribe");
                    client.send(DEVICES - 1, false);
                    client.wait_all();
                    std::thread::sleep(Duration::from_millis(50));
                }
                let mut subject = Self { child, kind, page: Some(page), output: Some(output) };
                subject.settle();
                subject
            }
        }
    }

    /// Waits until the probes are counted, and starts counting from there.
    fn settle(&mut self) {
        let Some(page) = &mut self.page else { return };
        let mut last = 0;
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = page.counter("fengsui_frames_received_total");
            if now == last {
                break;
            }
            last = now;
        }
        page.counted_before = last;
    }

    fn wait_for(&mut self, messages: u64) {
        match self.kind {
            Kind::Bare => {
                let mut line = String::new();
                self.output.as_mut().unwrap().read_line(&mut line).unwrap();
                assert_eq!(line.trim(), "done");
            }
            Kind::Gateway => {
                let page = self.page.as_ref().unwrap();
                let deadline = Instant::now() + Duration::from_secs(300);
                // The counter moves when a frame is taken, at most one commit before it is durable.
                while page.counter("fengsui_frames_received_total") < page.counted_before + messages {
                    assert!(Instant::now() < deadline, "the gateway did not take every message");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

/// The bare subscriber: what no gateway can beat.
fn bare(port: u16, messages: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let mut options = rumqttc::MqttOptions::new("bare", "127.0.0.1", port);
        options.set_clean_session(true);
        let (client, mut events) = rumqttc::AsyncClient::new(options, 100);
        client.subscribe("site/+/device/+/up", rumqttc::QoS::AtLeastOnce).await.unwrap();
        let mut count = 0;
        loop {
            match events.poll().await.unwrap() {
                rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_)) => {
                    println!("ready");
                    std::io::stdout().flush().unwrap();
                }
                rumqttc::Event::Incoming(rumqttc::Packet::Publish(_)) => {
                    count += 1;
                    if count == messages {
                        break;
                    }
                }
                _ => {}
            }
        }
        println!("done");
        std::io::stdout().flush().unwrap();
        // Stays until it is ended, so that its memory and time can be read; 600 s at the most.
        tokio::time::sleep(Duration::from_secs(600)).await;
    });
}

fn write_config(folder: &Path, broker: u16, page: u16) {
    let gateway = format!(
        "plan = \"plan.toml\"\n\n[journal]\ndir = \"data\"\n\n[web]\nlisten = \"127.0.0.1:{page}\"\n\n\
         [[mqtt]]\nname = \"main\"\nurl = \"mqtt://127.0.0.1:{broker}\"\nclient_id = \"fengsui-bench-{page}\"\n\
         inflight_window = 1000\n"
    );
    let mut plan = String::from(
        "[[site]]\nid = \"bench\"\nname = \"bench\"\naddress = \"bench\"\n\
         [[site.contact]]\nrole = \"bench\"\nname = \"bench\"\nphone = \"1\"\n\
         [[site.zone]]\nid = \"hall\"\nname = \"hall\"\n",
    );
    for device in 0..DEVICES {
        plan.push_str(&format!(
            "[[site.zone.device]]\nid = \"d{device:04}\"\nname = \"d{device:04}\"\nplace = \"hall\"\n\
             profile = \"fengsui/smoke-json\"\nlink = \"main\"\naddress = \"d{device:04}\"\n"
        ));
    }
    std::fs::write(folder.join("gateway.toml"), gateway).unwrap();
    std::fs::write(folder.join("plan.toml"), plan).unwrap();
}

/// The first start prints the password once.
fn read_password(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, after)) = line.split_once("password: ") {
            return after.split_whitespace().next().unwrap().to_owned();
        }
        line.clear();
    }
    panic!("the gateway ended without printing its first password");
}

// ---- the page ------------------------------------------------------------------------------------------------------

#[derive(Clone)]
struct Page {
    address: SocketAddr,
    cookie: String,
    counted_before: u64,
}

impl Page {
    fn sign_in(port: u16, password: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let body = format!("{{\"account\":\"duty\",\"password\":\"{password}\",\"name\":\"bench\"}}");
        let request = format!(
            "POST /api/v1/session HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(answer) = exchange(address, &request)
                && let Some(cookie) = answer.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("set-cookie").then(|| value.trim().split(';').next().map(str::to_owned))?
                })
            {
                return Self { address, cookie, counted_before: 0 };
            }
            assert!(Instant::now() < deadline, "could not sign in");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn counter(&self, name: &str) -> u64 {
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\nConnection: close\r\n\r\n",
            self.address, self.cookie
        );
        let text = exchange(self.address, &request).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
            .map_or(0, |value| value as u64)
    }

    /// Reads the live stream and notes when each device's hazard was first seen.
    fn live(&self, seen: Arc<Mutex<Vec<(String, Instant)>>>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        write!(
            stream,
            "GET /api/v1/live HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\nAccept: text/event-stream\r\n\r\n",
            self.address, self.cookie
        )
        .unwrap();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while !stop.load(Ordering::Relaxed) {
                match reader.read_line(&mut line) {
                    Ok(0) => break,
                    Ok(_) => {
                        let now = Instant::now();
                        // A hazard's id is `<no>.<device>.<point>.<rule>`.
                        for part in line.split('"').filter(|part| part.contains(".smoke.")) {
                            let Some(device) = part.split('.').nth(1) else { continue };
                            let mut seen = seen.lock().unwrap();
                            if !seen.iter().any(|(name, _)| name == device) {
                                seen.push((device.to_owned(), now));
                            }
                        }
                        line.clear();
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
        })
    }
}

fn exchange(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

// ---- the publisher and the broker ----------------------------------------------------------------------------------

/// Sends `messages` over [`PUBLISHERS`] connections as fast as the broker acknowledges them. Returns how many it did.
fn publish(port: u16, messages: usize) -> u64 {
    let threads: Vec<_> = (0..PUBLISHERS)
        .map(|index| {
            let share = messages / PUBLISHERS + usize::from(index < messages % PUBLISHERS);
            std::thread::spawn(move || {
                let mut client = Publisher::connect(port, &format!("publisher-{index}"));
                for number in 0..share {
                    client.send((number * PUBLISHERS + index) % DEVICES, false);
                }
                client.wait_all()
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}

/// A QoS 1 publisher that costs as little as possible: MQTT 3.1.1 packets written by hand.
struct Publisher {
    stream: std::io::BufWriter<TcpStream>,
    sent: u64,
    acknowledged: Arc<AtomicU64>,
}

impl Publisher {
    fn connect(port: u16, client_id: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut packet = vec![0, 4];
        packet.extend_from_slice(b"MQTT");
        packet.extend_from_slice(&[4, 2, 0, 0, 0, client_id.len() as u8]);
        packet.extend_from_slice(client_id.as_bytes());
        let mut connect = vec![0x10, packet.len() as u8];
        connect.extend_from_slice(&packet);
        stream.write_all(&connect).unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!(connack[3], 0, "the broker refused the publisher");
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (mut reader, counter) = (stream.try_clone().unwrap(), acknowledged.clone());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut pending = 0;
            // Only PUBACKs come, each of four bytes.
            while let Ok(count) = reader.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                pending += count;
                counter.fetch_add((pending / 4) as u64, Ordering::Release);
                pending %= 4;
            }
        });
        Self { stream: std::io::BufWriter::with_capacity(16 * 1024, stream), sent: 0, acknowledged }
    }

    fn send(&mut self, device: usize, breach: bool) {
        if self.sent - self.acknowledged.load(Ordering::Acquire) >= WINDOW {
            self.stream.flush().unwrap();
            while self.sent - self.acknowledged.load(Ordering::Acquire) >= WINDOW {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        let topic = format!("site/bench/device/d{device:04}/up");
        let payload = format!(
            "{{\"smoke\":{},\"temperature\":23.4,\"battery\":98,\"rssi\":-71}}",
            if breach { 1 } else { 0 }
        );
        self.sent += 1;
        let id = ((self.sent - 1) % 65_535 + 1) as u16;
        let length = 2 + topic.len() + 2 + payload.len();
        let mut packet = vec![0x32, (length % 128) as u8 | if length > 127 { 0x80 } else { 0 }];
        if length > 127 {
            packet.push((length / 128) as u8);
        }
        packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        packet.extend_from_slice(topic.as_bytes());
        packet.extend_from_slice(&id.to_be_bytes());
        packet.extend_from_slice(payload.as_bytes());
        self.stream.write_all(&packet).unwrap();
        if breach {
            self.stream.flush().unwrap();
        }
    }

    fn wait_all(&mut self) -> u64 {
        self.stream.flush().unwrap();
        let deadline = Instant::now() + Duration::from_secs(300);
        while self.acknowledged.load(Ordering::Acquire) < self.sent && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.acknowledged.load(Ordering::Acquire)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        drop(self.stream.flush());
        drop(self.stream.get_ref().shutdown(std::net::Shutdown::Both));
    }
}

struct Mosquitto {
    child: Child,
    port: u16,
}

impl Mosquitto {
    fn start(folder: &Path) -> Self {
        let port = free_port();
        let file = folder.join("mosquitto.conf");
        std::fs::write(
            &file,
            format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n\
                 max_queued_messages 0\nset_tcp_nodelay true\npersistence false\nlog_type error\n"
            ),
        )
        .unwrap();
        let binary = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].map(PathBuf::from);
        let binary = binary.iter().find(|path| path.exists()).expect("mosquitto is missing: run tests/run once");
        let child = Command::new(binary).arg("-c").arg(&file).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// User and system time of a process, in seconds.
fn cpu_seconds(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Fields 14 and 15 of stat(5), counted from the state; 100 ticks a second on every Linux that we run on.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_memory_kib(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
