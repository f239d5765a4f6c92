//! A Modbus TCP server that misbehaves on demand. It shares no code with the client it tests.
//!
//! Every register says whose it is ([`word`]), so any answer that reaches the wrong question is seen in its values.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How a unit behaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Manner {
    Good,
    Mute,
    /// Answers rightly after that time; the connection waits meanwhile.
    Slow(Duration),
    /// Answers rightly after that time; other questions are answered meanwhile.
    Late(Duration),
    /// One register too few.
    Short,
    WrongUnit,
    WrongFunction,
    WrongTransaction,
    Exception(u8),
    /// Refuses every read that touches these addresses.
    Gap(Range<u16>),
    /// Says nothing to every read that touches these addresses.
    Ignores(Range<u16>),
    Garbage,
    /// Sends half of the answer, then closes.
    CloseMidAnswer,
    /// Answers, then closes, as gateways do with connections that are idle for long.
    CloseAfterAnswer,
    /// Leaves out every n-th answer.
    Flapping(u64),
}

#[derive(Default)]
struct Inside {
    manners: HashMap<u8, Manner>,
    asked: HashMap<u8, u64>,
    largest: HashMap<u8, u16>,
    connections: u64,
    /// What was written: unit, function, address, the words or bits.
    written: Vec<(u8, u8, u16, Vec<u16>)>,
}

/// The server. Ends with the value.
pub(crate) struct ModbusServer {
    pub(crate) address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    cancel: CancellationToken,
}

/// What register `address` of that table (function code) of that unit says.
pub(crate) fn word(unit: u8, function: u8, address: u16) -> u16 {
    u16::from(unit) << 8 | (address & 0x3F) << 2 | u16::from(function & 3)
}

impl ModbusServer {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), usize::MAX).await
    }

    /// Serves that many connections at once; the others wait, accepted by the system alone.
    pub(crate) async fn start_at(address: SocketAddr, connections_max: usize) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inside = Arc::<Mutex<Inside>>::default();
        let cancel = CancellationToken::new();
        let slots = Arc::new(tokio::sync::Semaphore::new(connections_max.min(1000)));
        let (state, ended) = (inside.clone(), cancel.clone());
        tokio::spawn(async move {
            let serve = async {
                loop {
                    let slot = slots.clone().acquire_owned().await.unwrap();
                    let (stream, _) = listener.accept().await.unwrap();
                    state.lock().unwrap().connections += 1;
                    let (state, ended) = (state.clone(), ended.clone());
                    tokio::spawn(async move {
                        let _slot = slot;
                        ended.run_until_cancelled(connection(stream, state)).await;
                    });
                }
            };
            ended.run_until_cancelled(serve).await;
        });
        Self { address, inside, cancel }
    }

    pub(crate) fn set(&self, unit: u8, manner: Manner) {
        self.inside.lock().unwrap().manners.insert(unit, manner);
    }

    /// How often the unit was asked, answered or not.
    pub(crate) fn asked(&self, unit: u8) -> u64 {
        self.inside.lock().unwrap().asked.get(&unit).copied().unwrap_or(0)
    }

    /// What was written, in the order in which it came: unit, function, address, words or bits.
    pub(crate) fn written(&self) -> Vec<(u8, u8, u16, Vec<u16>)> {
        self.inside.lock().unwrap().written.clone()
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> u64 {
        self.inside.lock().unwrap().connections
    }

    /// The longest read the unit was asked for.
    pub(crate) fn largest(&self, unit: u8) -> u16 {
        self.inside.lock().unwrap().largest.get(&unit).copied().unwrap_or(0)
    }
}

impl Drop for ModbusServer {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn connection(stream: TcpStream, inside: Arc<Mutex<Inside>>) {
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = stream.into_split();
    // `None` closes the connection.
    let (answers, mut queue) = mpsc::unbounded_channel::<Option<Vec<u8>>>();
    let write = async {
        while let Some(Some(bytes)) = queue.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = questions(&mut reader, &answers, &inside) => {}
    }
}

/// What functions 05, 06, 15 and 16 write; `None`: it is a read.
fn written(function: u8, value: u16, more: &[u8]) -> Option<Vec<u16>> {
    let bytes = more.get(1..).unwrap_or_default();
    match function {
        5 => Some(vec![u16::from(value == 0xFF00)]),
        6 => Some(vec![value]),
        15 => Some((0..value).map(|at| u16::from(bytes[usize::from(at / 8)] >> (at % 8) & 1)).collect()),
        16 => Some(bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()),
        _ => None,
    }
}

async fn questions(
    reader: &mut OwnedReadHalf,
    answers: &mpsc::UnboundedSender<Option<Vec<u8>>>,
    inside: &Arc<Mutex<Inside>>,
) {
    let mut request = [0; 12];
    while reader.read_exact(&mut request).await.is_ok() {
        let [t0, t1, 0, 0, l0, l1, unit, function, s0, s1, c0, c1] = request else { return };
        let (start, count) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([c0, c1]));
        let mut more = vec![0; usize::from(u16::from_be_bytes([l0, l1])).saturating_sub(6)];
        if reader.read_exact(&mut more).await.is_err() {
            return;
        }
        let (manner, times) = {
            let mut inside = inside.lock().unwrap();
            if let Some(words) = written(function, count, &more) {
                inside.written.push((unit, function, start, words));
            }
            let largest = inside.largest.entry(unit).or_default();
            *largest = (*largest).max(count);
            let times = inside.asked.entry(unit).or_default();
            *times += 1;
            let times = *times;
            (inside.manners.get(&unit).cloned().unwrap_or(Manner::Good), times)
        };
        let frame = |transaction: [u8; 2], unit: u8, pdu: &[u8]| {
            let length = u16::try_from(pdu.len() + 1).unwrap().to_be_bytes();
            [&transaction[..], &[0, 0], &length, &[unit], pdu].concat()
        };
        let refusal = |code| frame([t0, t1], unit, &[function | 0x80, code]);
        let read = |function: u8, count: u16| {
            let mut pdu = vec![function];
            if function <= 2 {
                let bit = |address: u16| (word(unit, function, address) >> 2 & 1) as u8;
                pdu.push(u8::try_from(count.div_ceil(8)).unwrap());
                for byte in 0..count.div_ceil(8) {
                    let in_byte =
                        |at: u16| if byte * 8 + at < count { bit(start + byte * 8 + at) << at } else { 0 };
                    pdu.push((0..8).map(in_byte).sum());
                }
            } else {
                pdu.push(u8::try_from(count * 2).unwrap());
                pdu.extend((0..count).flat_map(|at| word(unit, function, start + at).to_be_bytes()));
            }
            pdu
        };
        // A write is answered with its echo.
        let is_write = matches!(function, 5 | 6 | 15 | 16);
        let echo = |function: u8| [&[function][..], &request[8..]].concat();
        let pdu = |function, count| if is_write { echo(function) } else { read(function, count) };
        let good = frame([t0, t1], unit, &pdu(function, count));
        let touches = |gap: &Range<u16>| start < gap.end && gap.start < start + count;
        let answer = match manner.clone() {
            Manner::Good => good,
            Manner::Mute => continue,
            Manner::Slow(time) => {
                tokio::time::sleep(time).await;
                good
            }
            Manner::Late(time) => {
                let answers = answers.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    answers.send(Some(good)).ok();
                });
                continue;
            }
            Manner::Short => frame([t0, t1], unit, &read(function, count - 1)),
            Manner::WrongUnit => frame([t0, t1], unit ^ 0x40, &pdu(function, count)),
            Manner::WrongFunction => {
                let other = match function {
                    3 => 4,
                    6 => 5,
                    _ => 3,
                };
                frame([t0, t1], unit, &pdu(other, count))
            }
            Manner::WrongTransaction => frame([t0 ^ 0x80, t1], unit, &pdu(function, count)),
            Manner::Exception(code) => refusal(code),
            Manner::Gap(gap) if touches(&gap) => refusal(2),
            Manner::Ignores(gap) if touches(&gap) => continue,
            Manner::Gap(_) | Manner::Ignores(_) => good,
            Manner::Garbage => b"\xFF\xFEthis is not Modbus at all, but long enough".to_vec(),
            Manner::CloseMidAnswer | Manner::CloseAfterAnswer => {
                let end = if manner == Manner::CloseAfterAnswer { good.len() } else { good.len() / 2 };
                answers.send(Some(good[..end].to_vec())).ok();
                answers.send(None).ok();
                // The writer closes once it has written.
                std::future::pending::<()>().await;
                return;
            }
            Manner::Flapping(n) if times % n == 0 => continue,
            Manner::Flapping(_) => good,
        };
        if answers.send(Some(answer)).is_err() {
            return;
        }
    }
}
