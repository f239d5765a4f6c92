//! THE DOOR: operators' commands, and lines about who came and went, on their way to the pipeline. The only way back in
//! from the web.

use crate::model::{Command, DeviceId, Fate, HazardId, Refusal, Text};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for the pipeline. People type slowly: 64 is a whole duty room pressing at once.
pub const WAITING_MAX: usize = 64;

/// What comes through the door.
#[derive(Debug)]
pub enum Request {
    /// An operator's command.
    Command {
        /// What is asked.
        command: Command,
        /// Answered once the journal has it (or once it is refused).
        reply: oneshot::Sender<Result<Done, Refused>>,
    },
    /// A person tells a device to do something.
    Order {
        /// What is asked.
        wish: Wish,
        /// Answered once the journal has what became of it (or once it is refused).
        reply: oneshot::Sender<Result<Ordered, Refused>>,
    },
    /// A line for the duty log.
    Access(Access),
    /// A line for the duty log about the gateway itself.
    Own(Own),
}

/// What a person wants a device to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which device.
    pub device: DeviceId,
    /// Which of its commands.
    pub command: Arc<str>,
    /// The person.
    pub by: Arc<str>,
}

/// The command went its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordered {
    /// What became of it.
    pub fate: Fate,
    /// The journal entry that says so.
    pub done: Done,
}

/// Something that the gateway did, or failed to do, for itself: a backup. One line of the duty log. Nobody waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// About what.
    pub subject: Arc<str>,
    /// What happened, for the duty log.
    pub text: Text,
}

/// Somebody signed in or out, or failed to: one line of the duty log. Nobody waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The account.
    pub account: Arc<str>,
    /// What happened, for the duty log.
    pub text: Text,
}

/// The command was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// The journal entry that holds it.
    pub no: u64,
    /// False when the journal cannot be written: the command is in force but not recorded.
    pub recorded: bool,
}

/// The command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The engine refused it.
    #[error("{}: {}", .0, .1.en())]
    Rule(HazardId, Refusal),
    /// The plan does not allow it on this device.
    #[error("the plan does not allow this command on this device")]
    NotAllowed,
    /// Too many commands are waiting, or the gateway is stopping.
    #[error("the gateway is busy or stopping; try again")]
    Busy,
}

/// The web's end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door(mpsc::Sender<Request>);

/// The pipeline's end.
pub type Requests = mpsc::Receiver<Request>;

/// A door with room for [`WAITING_MAX`] commands.
pub fn door() -> (Door, Requests) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Door(sender), receiver)
}

impl Door {
    /// Hands a command in and waits for its answer.
    pub async fn ask(&self, command: Command) -> Result<Done, Refused> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Request::Command { command, reply }).map_err(|_| Refused::Busy)?;
        answer.await.unwrap_or(Err(Refused::Busy))
    }

    /// Hands a wish in and waits for what becomes of it.
    pub async fn order(&self, wish: Wish) -> Result<Ordered, Refused> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Request::Order { wish, reply }).map_err(|_| Refused::Busy)?;
        answer.await.unwrap_or(Err(Refused::Busy))
    }

    /// Hands a line about the gateway itself in. `Err`: too much is waiting, or the gateway is stopping; it was not taken.
    pub fn tell_own(&self, own: Own) -> Result<(), Refused> {
        self.0.try_send(Request::Own(own)).map_err(|_| Refused::Busy)
    }

    /// Hands a line for the duty log in. `Err`: too much is waiting, or the gateway is stopping; it was not taken.
    pub fn tell(&self, access: Access) -> Result<(), Refused> {
        self.0.try_send(Request::Access(access)).map_err(|_| Refused::Busy)
    }
}
