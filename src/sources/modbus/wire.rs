//! WIRE → FRAMES: how a bus is reached: by TCP, by a serial server, by a serial line, or by waiting to be dialled.

use super::dial_in::Slot;
use super::serial::{SerialPort, SerialSettings};
use crate::model::Text;
use rustix::net::sockopt;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The shortest wait for a connection. A lost SYN is sent again after 1 s (RFC 6298), so 3 s forgive one loss.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(3);

/// A question that the far side's TCP has not confirmed after this means a dead connection: a mobile network's longest
/// pauses (a change of cell) are about 10 s.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(30);

/// A connection without traffic is tried after 60 s, then three times every 10 s: it is known dead after 90 s.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMES: u32 = 3;

/// The longest wait between two attempts to connect over a network.
const CONNECT_AFTER_MAX: Duration = Duration::from_secs(30);

/// The longest wait between two attempts to open a serial line: looking costs nothing, and a stick is back at once.
const OPEN_AFTER_MAX: Duration = Duration::from_secs(1);

/// How a bus is reached.
#[derive(Debug, Clone)]
pub enum Wire {
    /// Modbus TCP.
    Tcp {
        /// Host name or address.
        host: String,
        /// 502 by the standard.
        port: u16,
    },
    /// RTU frames over TCP: a transparent serial server.
    RtuTcp {
        /// Host name or address.
        host: String,
        /// As the serial server is set.
        port: u16,
    },
    /// RTU on a serial line of this machine.
    Serial(SerialSettings),
    /// A DTU that connects to us.
    DialIn(DialIn),
}

/// A DTU that connects to us.
#[derive(Debug, Clone)]
pub struct DialIn {
    /// Where the listener leaves its connection.
    pub slot: Slot,
    /// What it speaks.
    pub framing: Framing,
    /// What it sends now and then although nobody asked; may be empty.
    pub heartbeat: Vec<u8>,
    /// Nothing heard for so long: the connection is dead. `None`: only TCP itself finds out.
    pub silent_max: Option<Duration>,
}

/// How frames are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The header of Modbus TCP.
    Tcp,
    /// Checksums and lengths.
    Rtu,
}

impl Wire {
    /// What is spoken on it.
    pub fn framing(&self) -> Framing {
        match self {
            Self::Tcp { .. } => Framing::Tcp,
            Self::RtuTcp { .. } | Self::Serial(_) => Framing::Rtu,
            Self::DialIn(dial_in) => dial_in.framing,
        }
    }

    /// Whether a second connection is another way to the units. On a line there is only one question at a time,
    /// however many connections a serial server takes.
    pub(super) fn can_have_second(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// The longest wait between two attempts.
    pub(super) fn retry_after_max(&self) -> Duration {
        match self {
            Self::Serial(_) => OPEN_AFTER_MAX,
            Self::Tcp { .. } | Self::RtuTcp { .. } | Self::DialIn(_) => CONNECT_AFTER_MAX,
        }
    }

    /// Comes to its end when an attempt is worth while before its time: somebody dialled in.
    pub(super) async fn called(&self) {
        match self {
            Self::DialIn(dial_in) => dial_in.slot.filled().await,
            _ => std::future::pending().await,
        }
    }

    /// The place where a newer connection of the same DTU may appear.
    pub(super) fn slot(&self) -> Option<&Slot> {
        if let Self::DialIn(dial_in) = self { Some(&dial_in.slot) } else { None }
    }

    /// Connects, opens, or takes the connection that was made to us.
    pub(super) async fn open(&self, limit: Duration) -> io::Result<Port> {
        match self {
            Self::Tcp { host, port } | Self::RtuTcp { host, port } => {
                let stream =
                    timeout(limit.max(CONNECT_TIMEOUT_MIN), TcpStream::connect((host.as_str(), *port)))
                        .await
                        .map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
                watch(&stream)?;
                Ok(Port::Tcp(stream))
            }
            Self::Serial(settings) => SerialPort::open(settings).map(Port::Serial),
            Self::DialIn(dial_in) => dial_in.slot.take().map(Port::Tcp),
        }
    }

    /// Why it is down, for a person.
    pub(super) fn why_down(&self, error: &io::Error) -> Text {
        let Text { zh, en } = super::super::of_connection(error);
        let (zh, en) = match self {
            Self::Tcp { host, port } | Self::RtuTcp { host, port } => {
                (format!("连不上 {host}:{port}：{zh}"), format!("cannot connect to {host}:{port}: {en}"))
            }
            Self::Serial(SerialSettings { device, .. }) => match error.kind() {
                ErrorKind::NotFound => (
                    format!("找不到串口 {device}：转换器拔掉了？"),
                    format!("the serial device {device} is not there: was the adapter pulled out?"),
                ),
                ErrorKind::PermissionDenied => (
                    format!("没有权限打开串口 {device}：把运行网关的用户加入 dialout 组"),
                    format!("may not open {device}: put the gateway's user into the group dialout"),
                ),
                ErrorKind::ResourceBusy => (
                    format!("串口 {device} 被别的程序占用"),
                    format!("{device} is in use by another program"),
                ),
                _ => (format!("打不开串口 {device}：{zh}"), format!("cannot open {device}: {en}")),
            },
            Self::DialIn(dial_in) => {
                let name = dial_in.slot.name();
                match error.kind() {
                    ErrorKind::NotConnected => {
                        (format!("DTU {name} 没有拨入"), format!("the DTU {name} has not dialled in"))
                    }
                    ErrorKind::AddrInUse => (
                        format!("DTU {name} 的监听端口被别的程序占用"),
                        format!("the port for the DTU {name} is in use by another program"),
                    ),
                    _ => (
                        format!("不能等待 DTU {name} 拨入：{zh}"),
                        format!("cannot wait for the DTU {name}: {en}"),
                    ),
                }
            }
        };
        Text::new(&zh, &en)
    }
}

/// Sends at once, and finds out when nobody is there any more.
pub(super) fn watch(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_TIMES)?;
    let unconfirmed = u32::try_from(UNCONFIRMED_MAX.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, unconfirmed)?;
    Ok(())
}

/// An open way for bytes.
pub(super) enum Port {
    Tcp(TcpStream),
    Serial(SerialPort),
}

impl Port {
    /// What has come, at least one byte. The end of it is an error.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Tcp(stream) => stream.read(buffer).await?,
            Self::Serial(port) => port.read(buffer).await?,
        };
        if read == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Serial(port) => port.write_all(bytes).await,
        }
    }
}
