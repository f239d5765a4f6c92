//! An RS-485 line with units on it, behind a transparent serial server: it misbehaves on demand and shares no code with
//! the client it tests. Like a real one it has no idea of connections: whatever a unit says goes to whoever is connected
//! at that moment, however long ago it was asked.

use super::modbus_unit::word;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How a unit behaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Manner {
    Good,
    /// Every register of it says this.
    Says(u16),
    Mute,
    /// Every n-th answer comes only after that time; the others at once.
    LateEvery(u64, Duration),
    /// One byte of every n-th answer is wrong.
    TornEvery(u64),
    /// Only so many bytes of the answer.
    Cut(usize),
    WrongUnit,
    WrongFunction,
    /// One register too few, with a right checksum.
    Short,
    Exception(u8),
    /// These bytes before every answer.
    Noise(Vec<u8>),
    /// These bytes in the middle of every answer.
    Amid(Vec<u8>),
}

#[derive(Default)]
struct Inside {
    manners: HashMap<u8, Manner>,
    asked: HashMap<u8, u64>,
    connections: u64,
    echo: bool,
    /// Where the line's bytes go now.
    ear: Option<mpsc::UnboundedSender<Vec<u8>>>,
}

/// The line. Ends with the value.
pub(crate) struct RtuLine {
    pub(crate) address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    cancel: CancellationToken,
}

/// CRC-16/MODBUS, the other way round than the gateway computes it: by polynomial division of the whole message.
pub(crate) fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut register = 0xFFFF_u32;
    for byte in bytes {
        register ^= u32::from(byte.reverse_bits()) << 8;
        for _ in 0..8 {
            register <<= 1;
            if register & 0x1_0000 != 0 {
                register ^= 0x1_8005;
            }
        }
    }
    let [_, _, high, low] = register.to_be_bytes();
    [high.reverse_bits(), low.reverse_bits()]
}

/// The frame with its checksum.
pub(crate) fn framed(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let body = [&[unit], pdu].concat();
    [&body[..], &crc(&body)].concat()
}

impl RtuLine {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Self::at(listener.local_addr().unwrap());
        let (inside, cancel) = (line.inside.clone(), line.cancel.clone());
        tokio::spawn(async move {
            let serve = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    // One at a time, the newest: as serial servers with one connection do.
                    tokio::spawn(cancel.clone().run_until_cancelled_owned(serve(stream, inside.clone())));
                }
            };
            cancel.run_until_cancelled(serve).await;
        });
        line
    }

    /// The line of a DTU: it dials by itself, says these bytes, and is then like any other. Dials again when it is cut.
    pub(crate) fn dial(to: SocketAddr, registration: &[u8]) -> Self {
        let line = Self::at(to);
        let (inside, cancel, registration) =
            (line.inside.clone(), line.cancel.clone(), registration.to_vec());
        tokio::spawn(async move {
            let dial = async {
                loop {
                    if let Ok(mut stream) = TcpStream::connect(to).await
                        && stream.write_all(&registration).await.is_ok()
                    {
                        serve(stream, inside.clone()).await;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            cancel.run_until_cancelled(dial).await;
        });
        line
    }

    fn at(address: SocketAddr) -> Self {
        Self { address, inside: Arc::default(), cancel: CancellationToken::new() }
    }

    pub(crate) fn set(&self, unit: u8, manner: Manner) {
        self.inside.lock().unwrap().manners.insert(unit, manner);
    }

    /// An adapter that gives back what is sent.
    pub(crate) fn set_echo(&self, echo: bool) {
        self.inside.lock().unwrap().echo = echo;
    }

    pub(crate) fn asked(&self, unit: u8) -> u64 {
        self.inside.lock().unwrap().asked.get(&unit).copied().unwrap_or(0)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.inside.lock().unwrap().connections
    }

    /// Bytes that nobody asked for.
    pub(crate) fn say(&self, bytes: &[u8]) {
        hear(&self.inside, bytes.to_vec());
    }
}

impl Drop for RtuLine {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn hear(inside: &Arc<Mutex<Inside>>, bytes: Vec<u8>) {
    if let Some(ear) = &inside.lock().unwrap().ear {
        ear.send(bytes).ok();
    }
}

async fn serve(stream: TcpStream, inside: Arc<Mutex<Inside>>) {
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let (ear, mut said) = mpsc::unbounded_channel::<Vec<u8>>();
    {
        let mut inside = inside.lock().unwrap();
        inside.ear = Some(ear);
        inside.connections += 1;
    }
    let write = async {
        while let Some(bytes) = said.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let read = async {
        let (mut waiting, mut buffer) = (Vec::new(), [0; 512]);
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            waiting.extend_from_slice(&buffer[..length]);
            while let Some((at, length)) = request(&waiting) {
                let frame: Vec<u8> = waiting.drain(..at + length).skip(at).collect();
                asked(&frame, &inside);
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}

/// Where the first sound request stands, and how long it is.
fn request(bytes: &[u8]) -> Option<(usize, usize)> {
    (0..bytes.len()).find_map(|at| {
        let rest = &bytes[at..];
        let length = match rest.get(1)? {
            1..=6 => 8,
            15 | 16 => 9 + usize::from(*rest.get(6)?),
            _ => return None,
        };
        let (body, sum) = rest.get(..length)?.split_at(length - 2);
        (crc(body) == *sum).then_some((at, length))
    })
}

fn asked(frame: &[u8], inside: &Arc<Mutex<Inside>>) {
    let &[unit, function, s0, s1, c0, c1, ..] = frame else { panic!("not a request: {frame:?}") };
    let (start, count) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([c0, c1]));
    let (manner, times, echo) = {
        let mut inside = inside.lock().unwrap();
        let times = inside.asked.entry(unit).or_default();
        *times += 1;
        let times = *times;
        (inside.manners.get(&unit).cloned().unwrap_or(Manner::Good), times, inside.echo)
    };
    if echo {
        hear(inside, frame.to_vec());
    }
    let word = |function: u8, address: u16| match manner {
        Manner::Says(word) => word,
        _ => word(unit, function, address),
    };
    let read = |function: u8, count: u16| match function {
        1 | 2 => {
            let bit = |at: u16| (at < count && word(function, start + at) >> 2 & 1 == 1) as u8;
            let bytes = (0..count.div_ceil(8)).map(|byte| (0..8).map(|at| bit(byte * 8 + at) << at).sum());
            [function, u8::try_from(count.div_ceil(8)).unwrap()].into_iter().chain(bytes).collect::<Vec<u8>>()
        }
        3 | 4 => {
            let words = (0..count).flat_map(|at| word(function, start + at).to_be_bytes());
            [function, u8::try_from(count * 2).unwrap()].into_iter().chain(words).collect()
        }
        _ => vec![function, s0, s1, c0, c1],
    };
    let good = framed(unit, &read(function, count));
    let answer = match manner.clone() {
        Manner::Good | Manner::Says(_) => good,
        Manner::Mute => return,
        Manner::LateEvery(n, time) if times % n == 0 => {
            let inside = inside.clone();
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                hear(&inside, good);
            });
            return;
        }
        Manner::TornEvery(n) if times % n == 0 => {
            let mut torn = good;
            let at = usize::try_from(times).unwrap() % torn.len();
            torn[at] ^= 0x10;
            torn
        }
        Manner::LateEvery(..) | Manner::TornEvery(_) => good,
        Manner::Cut(length) => good[..length].to_vec(),
        Manner::WrongUnit => framed(unit ^ 0x40, &read(function, count)),
        Manner::WrongFunction => framed(unit, &read(if function == 3 { 4 } else { 3 }, count)),
        Manner::Short => framed(unit, &read(function, count - 1)),
        Manner::Exception(code) => framed(unit, &[function | 0x80, code]),
        Manner::Noise(noise) => [&noise[..], &good].concat(),
        Manner::Amid(noise) => {
            let (front, back) = good.split_at(good.len() / 2);
            [front, &noise, back].concat()
        }
    };
    hear(inside, answer);
}
