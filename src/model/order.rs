//! NOUNS: a command to a device, from the person who gives it to the unit's answer.

use super::{DeviceId, Text};
use std::fmt;
use std::sync::Arc;

/// A command that the plan allows on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCommand {
    /// Its name in the profile, in the plan and in the API.
    pub name: Arc<str>,
    /// What it does, for the button and the duty log.
    pub text: Text,
}

/// What a command writes, with the function code of the Modbus application protocol (V1.1b3, 6.5, 6.6, 6.11, 6.12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterWrite {
    /// Function 05.
    Coil {
        /// Counted from 0.
        address: u16,
        /// On or off.
        on: bool,
    },
    /// Function 06.
    Register {
        /// Counted from 0.
        address: u16,
        /// Its new value.
        word: u16,
    },
    /// Function 15.
    Coils {
        /// The first, counted from 0.
        address: u16,
        /// On or off, one after the other.
        on: Arc<[bool]>,
    },
    /// Function 16.
    Registers {
        /// The first, counted from 0.
        address: u16,
        /// Their new values.
        words: Arc<[u16]>,
    },
}

impl fmt::Display for RegisterWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coil { address, on } => write!(f, "coil {address} = {}", u8::from(*on)),
            Self::Register { address, word } => write!(f, "holding {address} = {word}"),
            Self::Coils { address, on } => {
                let on: Vec<u8> = on.iter().map(|on| u8::from(*on)).collect();
                write!(f, "coil {address} = {on:?}")
            }
            Self::Registers { address, words } => write!(f, "holding {address} = {words:?}"),
        }
    }
}

/// A command on its way to a device. Sent once; never repeated by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Finds the person who waits for its fate; unique while the gateway runs.
    pub no: u64,
    /// Which device.
    pub device: DeviceId,
    /// What is written.
    pub write: RegisterWrite,
}

/// What became of an [`Order`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The unit echoed it.
    Done,
    /// The unit refused it with this Modbus exception.
    Refused(u8),
    /// No answer within the time-out: nobody knows whether it was done.
    NoAnswer,
    /// An answer that is not the echo: nobody knows whether it was done.
    WrongAnswer,
    /// The connection broke under it: nobody knows whether it was done.
    Disconnected,
    /// It was never sent: no connection, or too many others before it.
    NotSent,
}

impl Fate {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused(_) => "refused",
            Self::NoAnswer => "no_answer",
            Self::WrongAnswer => "wrong_answer",
            Self::Disconnected => "disconnected",
            Self::NotSent => "not_sent",
        }
    }

    /// What the duty log and the screen say.
    pub fn text(self) -> Text {
        let (zh, en) = match self {
            Self::Done => ("设备已执行", "the device did it"),
            Self::Refused(code) => {
                let zh = format!("设备拒绝（异常码 {code}），没有执行");
                return Text::new(&zh, &format!("the device refused it (exception {code}); it was not done"));
            }
            Self::NoAnswer => (
                "设备没有应答，不知道是否执行；不会自动重发，请到现场查看",
                "no answer: nobody knows whether it was done; it is not sent again, go and look",
            ),
            Self::WrongAnswer => (
                "设备应答不符，不知道是否执行；不会自动重发，请到现场查看",
                "a wrong answer: nobody knows whether it was done; it is not sent again, go and look",
            ),
            Self::Disconnected => (
                "连接中断，不知道是否执行；不会自动重发，请到现场查看",
                "the connection broke: nobody knows whether it was done; it is not sent again, go and look",
            ),
            Self::NotSent => {
                ("没有发出：连接不通或总线太忙", "it was not sent: no connection, or the bus is too busy")
            }
        };
        Text::new(zh, en)
    }
}
