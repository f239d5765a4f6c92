//! NOUNS: what arrived on a wire, before anybody understood it, and what became of the wire itself.

use super::{DeviceId, LinkId, Text, Timestamp};
use bytes::Bytes;
use std::sync::Arc;

/// Which source of this process sent a frame, so that its acknowledgement finds the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceIndex(pub u16);

/// A message whose sender waits for an acknowledgement. Given back to the source once the journal holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// Which connection it came on; an acknowledgement for an older connection is dropped.
    pub epoch: u32,
    /// The source's own key. Its low 16 bits are the packet id (MQTT): the same when the sender sends it again.
    pub key: u32,
    /// The sender says it may have sent this before.
    pub duplicate: bool,
}

/// One message or one poll as it was received.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Who received it.
    pub source: SourceIndex,
    /// The link it came by.
    pub link: LinkId,
    /// What came.
    pub body: Body,
    /// When.
    pub received_at: Timestamp,
    /// Kept by the broker and sent at connect: it describes the past.
    pub retained: bool,
    /// Present when the sender waits for an acknowledgement.
    pub delivery: Option<Delivery>,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A message on a topic. Which device it belongs to is found from the plan.
    Message {
        /// The topic it was published on.
        topic: Arc<str>,
        /// Its bytes.
        payload: Bytes,
    },
    /// The answers to one round of register reads of one device.
    Registers {
        /// Whose registers.
        device: DeviceId,
        /// What was asked and what came.
        blocks: Vec<RegisterBlock>,
    },
    /// A platform between the device and us says whether it can hear it (a network operator's online or offline report).
    Presence {
        /// Where the platform said it, for whoever looks at the message.
        topic: Arc<str>,
        /// The device's address on the link.
        address: Arc<str>,
        /// Whether the platform hears it.
        online: bool,
        /// The report as it came.
        payload: Bytes,
    },
}

/// The four Modbus tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RegisterTable {
    /// Function 01.
    Coil,
    /// Function 02.
    Discrete,
    /// Function 03.
    Holding,
    /// Function 04.
    Input,
}

/// One contiguous read. Coils and discrete inputs are words of 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterBlock {
    /// Which table.
    pub table: RegisterTable,
    /// The address of the first word, counted from 0.
    pub start: u16,
    /// The words, or why there are none.
    pub words: Result<Vec<u16>, Trouble>,
    /// How many words were asked for.
    pub count: u16,
}

/// Why a block was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The unit answered with this Modbus exception code.
    Exception(u8),
    /// No answer within the time-out.
    NoAnswer,
    /// An answer of another length than was asked for, or for another unit or function.
    WrongAnswer,
    /// The connection broke.
    Disconnected,
}

/// A link came up or went down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkChange {
    /// Which link.
    pub link: LinkId,
    /// Whether it now works.
    pub up: bool,
    /// Why, for the health page and the duty log; the log has the English.
    pub reason: Text,
}
