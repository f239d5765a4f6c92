//! WIRE → FRAMES. One file or folder per protocol; each is a task that ends only when it is cancelled.
//!
//! First in the flow. A source understands its protocol and nothing of what the bytes mean. It puts [`Arrival`]s
//! into one bounded channel; when that is full it waits, and so does the far side. It acknowledges a message only
//! when the pipeline gives its [`Delivery`] back.

pub mod broker;
pub mod mqtt;
pub mod modbus;

use crate::model::{Delivery, Frame, LinkChange, Text};
use std::io::ErrorKind;
use tokio::sync::mpsc;

/// What a source tells the pipeline.
#[derive(Debug)]
pub enum Arrival {
    /// Something was received.
    Frame(Frame),
    /// The link came up or went down.
    Link(LinkChange),
}

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
