//! WIRE → FRAMES: one TCP connection to a bus and one question on it at a time.
//!
//! What tokio-modbus leaves to its caller is done here: every wait has a limit, the answer's length is checked, and
//! after a time-out or a mismatch the connection is given up, so that a late answer can never be taken for the next.

use super::gaps::Stretch;
use super::unit::Answer;
use crate::model::{Fate, RegisterTable, RegisterWrite};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::{Error, ExceptionCode, Request, Response, Slave};

/// The shortest wait for a connection. A lost SYN is sent again after 1 s (RFC 6298), so 3 s forgive one loss.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(3);

/// A connection to a Modbus TCP server.
pub(super) struct Connection {
    context: Context,
    answers: u64,
}

impl Connection {
    /// Connects, then leaves the server in peace for `pause`: some gateways drop what comes at once.
    pub(super) async fn open(host: &str, port: u16, limit: Duration, pause: Duration) -> io::Result<Self> {
        let stream = timeout(limit.max(CONNECT_TIMEOUT_MIN), TcpStream::connect((host, port)))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        tokio::time::sleep(pause).await;
        Ok(Self { context: tcp::attach(stream), answers: 0 })
    }

    /// Whether it has worked before: then a break may only mean that the server tidied up an idle connection.
    pub(super) fn has_answered(&self) -> bool {
        self.answers > 0
    }

    /// Asks a unit for words. The second value is how long it took.
    pub(super) async fn ask(
        &mut self,
        unit: u8,
        table: RegisterTable,
        at: Stretch,
        limit: Duration,
    ) -> (Answer, Duration) {
        use tokio_modbus::slave::SlaveContext;
        self.context.set_slave(Slave(unit));
        let request = match table {
            RegisterTable::Coil => Request::ReadCoils(at.start, at.count),
            RegisterTable::Discrete => Request::ReadDiscreteInputs(at.start, at.count),
            RegisterTable::Holding => Request::ReadHoldingRegisters(at.start, at.count),
            RegisterTable::Input => Request::ReadInputRegisters(at.start, at.count),
        };
        let asked_at = Instant::now();
        // `call`, not the reader's methods: those only assert the length, and only in debug builds.
        let answer = match timeout(limit, self.context.call(request)).await {
            Err(_) => Answer::Silent,
            Ok(Ok(Ok(response))) => words(response, at.count),
            Ok(Ok(Err(code))) => Answer::Refused(exception(code)),
            Ok(Err(Error::Protocol(_))) => Answer::Wrong,
            Ok(Err(Error::Transport(error))) if error.kind() == io::ErrorKind::InvalidData => Answer::Wrong,
            // A protocol data unit that ends too early is an end of its buffer, not of the connection; both break it.
            Ok(Err(Error::Transport(_))) => Answer::Broken,
        };
        self.answers += u64::from(answer.keeps_connection());
        (answer, asked_at.elapsed())
    }
}

impl Connection {
    /// Writes, and checks the echo. The second value is how long it took.
    pub(super) async fn write(
        &mut self,
        unit: u8,
        write: &RegisterWrite,
        limit: Duration,
    ) -> (Fate, Duration) {
        use tokio_modbus::slave::SlaveContext;
        self.context.set_slave(Slave(unit));
        let (request, echo) = match write {
            RegisterWrite::Coil { address, on } => {
                (Request::WriteSingleCoil(*address, *on), Response::WriteSingleCoil(*address, *on))
            }
            RegisterWrite::Register { address, word } => (
                Request::WriteSingleRegister(*address, *word),
                Response::WriteSingleRegister(*address, *word),
            ),
            RegisterWrite::Coils { address, on } => {
                let request = Request::WriteMultipleCoils(*address, on[..].into());
                (request, Response::WriteMultipleCoils(*address, count_of(on)))
            }
            RegisterWrite::Registers { address, words } => {
                let request = Request::WriteMultipleRegisters(*address, words[..].into());
                (request, Response::WriteMultipleRegisters(*address, count_of(words)))
            }
        };
        let asked_at = Instant::now();
        let fate = match timeout(limit, self.context.call(request)).await {
            Err(_) => Fate::NoAnswer,
            Ok(Ok(Ok(response))) if response == echo => Fate::Done,
            Ok(Ok(Err(code))) => Fate::Refused(exception(code)),
            Ok(Ok(Ok(_)) | Err(Error::Protocol(_))) => Fate::WrongAnswer,
            Ok(Err(Error::Transport(error))) if error.kind() == io::ErrorKind::InvalidData => {
                Fate::WrongAnswer
            }
            Ok(Err(Error::Transport(_))) => Fate::Disconnected,
        };
        self.answers += u64::from(matches!(fate, Fate::Done | Fate::Refused(_)));
        (fate, asked_at.elapsed())
    }
}

/// At most 1968 coils or 123 registers go into one request.
fn count_of<T>(list: &[T]) -> u16 {
    u16::try_from(list.len()).unwrap_or(u16::MAX)
}

fn words(response: Response, count: u16) -> Answer {
    let count = usize::from(count);
    match response {
        Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words)
            if words.len() == count =>
        {
            Answer::Words(words)
        }
        // Bits come in whole bytes.
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits)
            if bits.len() == count.div_ceil(8) * 8 =>
        {
            Answer::Words(bits.into_iter().take(count).map(u16::from).collect())
        }
        _ => Answer::Short,
    }
}

fn exception(code: ExceptionCode) -> u8 {
    code.into()
}
