//! The load and the broker between: a publisher that costs as little as possible, and a mosquitto of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Unacknowledged messages a publisher sends before it waits.
const WINDOW: u64 = 500;

/// Connections that publish flat out.
const PUBLISHERS: usize = 4;

/// Sends `messages` of the devices `d0000`… over a few connections as fast as the broker takes them, and waits until
/// the broker has acknowledged every one.
pub(crate) fn flat_out(port: u16, messages: usize, devices: usize) {
    flat_out_with(port, messages, devices, 1);
}

/// The same with QoS 0 or 1. With QoS 0 nobody says when the broker has them.
pub(crate) fn flat_out_with(port: u16, messages: usize, devices: usize, qos: u8) {
    let threads: Vec<_> = (0..PUBLISHERS)
        .map(|index| {
            let share = messages / PUBLISHERS + usize::from(index < messages % PUBLISHERS);
            std::thread::spawn(move || {
                let mut client = Publisher::connect(port, &format!("publisher-{index}"));
                client.qos = qos;
                for number in 0..share {
                    client.send(&format!("d{:04}", (number * PUBLISHERS + index) % devices), false);
                }
                client.wait_all();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Sends messages evenly at `rate` a second for `length`. Every `breach_every`-th is of a device `b0000`, `b0001`, … that
/// has never spoken before, and breaches a limit. Returns how many were sent, and when each breach was.
pub(crate) fn paced(
    port: u16,
    rate: usize,
    length: Duration,
    devices: usize,
    breach_every: Option<usize>,
) -> (usize, Vec<(String, Instant)>) {
    let mut client = Publisher::connect(port, "paced");
    let (start, mut breaches) = (Instant::now(), Vec::new());
    let total = (rate as f64 * length.as_secs_f64()) as usize;
    for number in 0..total {
        let due = start + Duration::from_secs_f64(number as f64 / rate as f64);
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            client.stream.flush().unwrap();
            std::thread::sleep(wait);
        }
        if breach_every.is_some_and(|every| number % every == every / 2) {
            let device = format!("b{:04}", breaches.len());
            breaches.push((device.clone(), Instant::now()));
            client.send(&device, true);
            client.stream.flush().unwrap();
        } else {
            client.send(&format!("d{:04}", number % devices), false);
        }
    }
    client.wait_all();
    (total, breaches)
}

/// Messages 0 to `count`, each with its number in it, at `rate` a second (`usize::MAX`: flat out).
pub(crate) fn numbered(port: u16, rate: usize, count: usize) {
    numbered_from(port, rate, 0, count);
}

/// The same from another number on. Each device counts in its temperature, in thousandths from 10 on; 1000 devices have
/// room for 40 000 messages each below every limit.
pub(crate) fn numbered_from(port: u16, rate: usize, from: usize, count: usize) {
    let mut client = Publisher::connect(port, &format!("numbered-{from}"));
    let start = Instant::now();
    for number in 0..count {
        let due = start + Duration::from_secs_f64(number as f64 / rate as f64);
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            client.flush();
            std::thread::sleep(wait);
        }
        let number = from + number;
        let (device, step) = (number % crate::subject::DEVICES, number / crate::subject::DEVICES);
        client.write(&format!("d{device:04}"), false, &format!("{}.{:03}", 10 + step / 1000, step % 1000));
    }
    client.wait_all();
}

/// A publisher with QoS 1, or 0 when it is told so: MQTT 3.1.1 packets written by hand.
pub(crate) struct Publisher {
    stream: std::io::BufWriter<TcpStream>,
    sent: u64,
    acknowledged: Arc<AtomicU64>,
    qos: u8,
}

impl Publisher {
    pub(crate) fn connect(port: u16, client_id: &str) -> Self {
        let (stream, _) = connect(port, client_id, true);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (mut reader, counter) = (stream.try_clone().unwrap(), acknowledged.clone());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut pending = 0;
            // Only PUBACKs come, each of four bytes.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                pending += count;
                counter.fetch_add((pending / 4) as u64, Ordering::Release);
                pending %= 4;
            }
        });
        Self { stream: std::io::BufWriter::with_capacity(16 * 1024, stream), sent: 0, acknowledged, qos: 1 }
    }

    pub(crate) fn send(&mut self, device: &str, breach: bool) {
        self.write(device, breach, "23.4");
    }

    fn write(&mut self, device: &str, breach: bool, temperature: &str) {
        if self.sent - self.acknowledged.load(Ordering::Acquire) >= WINDOW {
            self.stream.flush().unwrap();
            while self.sent - self.acknowledged.load(Ordering::Acquire) >= WINDOW {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        let topic = format!("site/bench/device/{device}/up");
        let smoke = u8::from(breach);
        let payload =
            format!("{{\"smoke\":{smoke},\"temperature\":{temperature},\"battery\":98,\"rssi\":-71}}");
        if self.qos > 0 {
            self.sent += 1;
        }
        let id = (self.sent.saturating_sub(1) % 65_535 + 1) as u16;
        let length = 2 + topic.len() + if self.qos > 0 { 2 } else { 0 } + payload.len();
        let mut packet =
            vec![0x30 | (self.qos << 1), (length % 128) as u8 | if length > 127 { 0x80 } else { 0 }];
        if length > 127 {
            packet.push((length / 128) as u8);
        }
        packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        packet.extend_from_slice(topic.as_bytes());
        if self.qos > 0 {
            packet.extend_from_slice(&id.to_be_bytes());
        }
        packet.extend_from_slice(payload.as_bytes());
        self.stream.write_all(&packet).unwrap();
    }

    /// Sends what is written at once.
    pub(crate) fn flush(&mut self) {
        self.stream.flush().unwrap();
    }

    /// Until the broker has every message.
    pub(crate) fn wait_all(&mut self) {
        self.stream.flush().unwrap();
        let deadline = Instant::now() + Duration::from_secs(300);
        while self.acknowledged.load(Ordering::Acquire) < self.sent {
            assert!(Instant::now() < deadline, "the broker did not acknowledge every message");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        drop(self.stream.flush());
        drop(self.stream.get_ref().shutdown(std::net::Shutdown::Both));
    }
}

/// The connection and whether the broker kept a session of that id.
fn connect(port: u16, client_id: &str, clean: bool) -> (TcpStream, bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut packet = vec![0, 4];
    packet.extend_from_slice(b"MQTT");
    packet.extend_from_slice(&[4, if clean { 2 } else { 0 }, 0, 0, 0, client_id.len() as u8]);
    packet.extend_from_slice(client_id.as_bytes());
    let mut connect = vec![0x10, packet.len() as u8];
    connect.extend_from_slice(&packet);
    stream.write_all(&connect).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack[3], 0, "the broker refused {client_id}");
    (stream, connack[2] == 1)
}

/// Whether the broker still holds a message for this client: one that was never acknowledged.
pub(crate) fn holds_back(port: u16, client_id: &str) -> bool {
    let (mut stream, kept) = connect(port, client_id, false);
    assert!(kept, "the broker kept no session of {client_id}");
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.read(&mut [0; 16]).is_ok_and(|count| count > 0)
}

pub(crate) struct Mosquitto {
    child: Child,
    pub(crate) port: u16,
}

impl Mosquitto {
    /// `window`: messages sent to a subscriber before its acknowledgements; 0 is without limit.
    pub(crate) fn start(folder: &Path, window: usize) -> Self {
        Self::start_on(folder, window, free_port())
    }

    pub(crate) fn start_on(folder: &Path, window: usize, port: u16) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let file = folder.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages {window}\n\
             max_queued_messages 0\nset_tcp_nodelay true\npersistence false\nlog_type error\n"
        );
        std::fs::write(&file, text).unwrap();
        let places = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].map(PathBuf::from);
        let binary =
            places.iter().find(|path| path.exists()).expect("mosquitto is missing: run tests/run once");
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

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
