//! WIRE → FRAMES. One file or folder per protocol; each is a task that ends only when it is cancelled.
//!
//! First in the flow. A source understands its protocol and nothing of what the bytes mean. It puts [`Arrival`]s
//! into one bounded channel; when that is full it waits, and so does the far side. It acknowledges a message only
//! when the pipeline gives its [`Delivery`] back.

pub mod broker;
pub mod mqtt;
pub mod modbus;

use crate::model::{Delivery, Frame, LinkChange};
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

/// Deliveries that the journal now holds, on their way back to the source that must acknowledge them.
pub type Acks = mpsc::Receiver<Vec<Delivery>>;
