//! WIRE → FRAMES. One file or folder per protocol; each is a task that ends only when it is cancelled.
//!
//! First in the flow. A source understands its protocol and nothing of what the bytes mean. It puts [`Arrival`]s
//! into one bounded channel; when that is full it waits, and so does the far side. It acknowledges a message only
//! when the pipeline gives its [`Delivery`] back. A source that can write is given [`Orders`] by the pipeline.

pub mod broker;
pub mod mqtt;
pub mod modbus;
pub mod push;

use crate::model::{Delivery, Fate, Frame, LinkChange, Order, Text};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// What a source tells the pipeline.
#[derive(Debug)]
pub enum Arrival {
    /// Something was received.
    Frame(Frame),
    /// The link came up or went down.
    Link(LinkChange),
    /// What became of an order.
    Ordered {
        /// Its number.
        no: u64,
        /// What became of it.
        fate: Fate,
    },
}

/// Orders that may wait for a source. People press buttons: eight is a hand on every one of a page.
pub const ORDERS_MAX: usize = 8;

/// Commands to devices, on their way out: the source answers each with one [`Arrival::Ordered`].
pub type Orders = mpsc::Receiver<Order>;

/// The one channel in. When it is full, `send` waits: that is the back-pressure.
pub type Intake = mpsc::Sender<Arrival>;

/// What became of a connection, for a person.
fn of_connection(error: &std::io::Error) -> Text {
    let (zh, en) = match error.kind() {
        ErrorKind::ConnectionRefused => {
            ("没有程序在监听（连接被拒绝）", "nothing listens there (connection refused)")
        }
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            ("连接被断开", "the connection was reset")
        }
        ErrorKind::TimedOut => ("超时没有应答", "no answer in time"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            ("网络不通", "the network does not lead there")
        }
        _ => return Text::new(&format!("系统报错：{error}"), &error.to_string()),
    };
    Text::new(zh, en)
}

/// Numbers for deliveries of which many are under way: 48 bits of a counter, and in the low half of the key what the
/// pipeline knows the message by when it is sent again, also after a restart.
#[derive(Debug, Default)]
struct Numbers(AtomicU64);

impl Numbers {
    #[expect(clippy::cast_possible_truncation, reason = "the counter wraps after 2⁴⁸ messages")]
    fn next(&self, name: u16, duplicate: bool) -> Delivery {
        let counter = self.0.fetch_add(1, Ordering::Relaxed);
        let key = (counter as u32) << 16 | u32::from(name);
        Delivery { epoch: (counter >> 16) as u32, key, duplicate }
    }
}

/// Compares without telling by the time it takes how much was right.
fn same(given: &[u8], known: &[u8]) -> bool {
    let differences = given.iter().zip(known).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == known.len() && differences == 0
}

/// Something that the pipeline wants to know from a far side: one message, with QoS 0 and not retained. It may get lost.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Where to publish it.
    pub topic: std::sync::Arc<str>,
    /// Its bytes.
    pub payload: bytes::Bytes,
}

/// The way to ask. Bounded by [`ASKS_MAX`]; a source without a connection drops the oldest.
pub type Asks = tokio::sync::broadcast::Sender<Ask>;

/// Asks that may wait for a source: one for each edge node of a large site. A minute later they are asked again.
pub const ASKS_MAX: usize = 64;

/// The next ask; never where nobody may ask.
async fn asked(asks: &mut Option<tokio::sync::broadcast::Receiver<Ask>>) -> Ask {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        let Some(receiver) = asks else { std::future::pending().await };
        match receiver.recv().await {
            Ok(ask) => return ask,
            // The oldest are gone; whoever asked asks again.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => *asks = None,
        }
    }
}

/// Deliveries that the journal now holds, on their way back to the source that must acknowledge them.
pub type Acks = mpsc::Receiver<Vec<Delivery>>;
