//! A serial line at 9600 baud: how much of the time that the wire takes is used.
//!
//! A pseudo-terminal has no speed, so the units behind it take the time that the bytes would: the question's and the
//! answer's at 11 bits a character (even parity, as the standard has it), and 3.5 characters of silence after each.

use crate::{REGISTERS, reads};
use fengsui::clock::Clock;
use fengsui::metrics::Metrics;
use fengsui::model::{DeviceId, LinkId, SourceIndex};
use fengsui::sources::ORDERS_MAX;
use fengsui::sources::modbus::{
    BusSettings, Device, LineSettings, Parity, SerialSettings, TIMEOUT_DEFAULT, UnitSettings, Wire, run,
};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const BAUD: u32 = 9600;
const UNITS: u8 = 10;

/// Unit, function, address, count, checksum.
const QUESTION_BYTES: u32 = 8;
/// Unit, function, byte count, the registers, checksum.
const ANSWER_BYTES: u32 = 5 + 2 * REGISTERS as u32;

/// Bits of both frames and of the silence behind each: 3.5 characters.
const EXCHANGE_BITS: f64 = 11.0 * ((QUESTION_BYTES + ANSWER_BYTES) as f64 + 2.0 * 3.5);

/// What one question and its answer take on the wire.
fn exchange() -> Duration {
    Duration::from_secs_f64(EXCHANGE_BITS / f64::from(BAUD))
}

/// The units: each answers when the wire would have brought its answer, less the silence that the asker leaves itself.
async fn units(mut stream: TcpStream) {
    let silence = Duration::from_secs_f64(11.0 * 3.5 / f64::from(BAUD));
    stream.set_nodelay(true).unwrap();
    let mut question = [0; QUESTION_BYTES as usize];
    while stream.read_exact(&mut question).await.is_ok() {
        tokio::time::sleep(exchange() - silence).await;
        let mut answer = vec![question[0], question[1], u8::try_from(2 * REGISTERS).unwrap()];
        answer.extend([question[2], question[3]].repeat(usize::from(REGISTERS)));
        let sum = crc(&answer);
        answer.extend(sum);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// CRC-16/MODBUS, low byte first.
fn crc(bytes: &[u8]) -> [u8; 2] {
    let step = |crc: u16, byte: &u8| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    };
    bytes.iter().fold(0xFFFF, step).to_le_bytes()
}

/// Polls as fast as the line goes.
pub(crate) async fn line(time: Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = listener.local_addr().unwrap();
    tokio::spawn(async move { units(listener.accept().await.unwrap().0).await });
    let dir = tempfile::TempDir::new().unwrap();
    let tty = dir.path().join("line");
    let socat = Command::new("socat")
        .args([&format!("pty,raw,echo=0,link={}", tty.display()), &format!("tcp:{far},nodelay")])
        .stderr(Stdio::null())
        .spawn();
    let mut socat = socat.expect("socat is not installed");
    while !tty.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (metrics, cancel) = (Metrics::new(), CancellationToken::new());
    let (intake, arrivals) = mpsc::channel(1024);
    tokio::spawn(crate::count(arrivals));
    let unit = |unit| UnitSettings {
        device: DeviceId::parse(&format!("unit-{unit}")).unwrap(),
        unit,
        reads: reads(1, Duration::from_millis(100)),
    };
    let bus = BusSettings {
        link: LinkId::parse("line").unwrap(),
        wire: Wire::Serial(SerialSettings {
            device: Device::Path(tty),
            baud: BAUD,
            parity: Parity::Even,
            stop_bits: 1,
        }),
        line: LineSettings::default(),
        units: (1..=UNITS).map(unit).collect(),
        timeout: TIMEOUT_DEFAULT,
        pause_after_connect: Duration::ZERO,
        second_connection: false,
    };
    let (_, orders) = mpsc::channel(ORDERS_MAX);
    tokio::spawn(run(bus, SourceIndex(0), intake, orders, Clock::system(), metrics.clone(), cancel.clone()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let answered = || metrics.modbus_polls.get() - metrics.modbus_failures.get();
    let (before, failed, since) = (answered(), metrics.modbus_failures.get(), Instant::now());
    tokio::time::sleep(time).await;
    let rate = (answered() - before) as f64 / since.elapsed().as_secs_f64();
    let wire = 1.0 / exchange().as_secs_f64();
    println!("\na serial line (pty), {BAUD} baud, {UNITS} units, {REGISTERS} registers a read, {time:?}:");
    println!("{:>16} {:>12} {:>10} {:>8}", "the wire, /s", "source, /s", "of it", "failed");
    println!(
        "{wire:>16.2} {rate:>12.2} {:>9.1}% {:>8}",
        100.0 * rate / wire,
        metrics.modbus_failures.get() - failed
    );
    cancel.cancel();
    socat.kill().unwrap();
    socat.wait().unwrap();
}
