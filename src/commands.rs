//! THE DOOR: operators' commands, and lines about who came and went, on their way to the pipeline. The only way back in
//! from the web. Beside it the bell: somebody asks that the configuration be read again.

use crate::model::{Command, DecodedAgain, DeviceId, Fate, HazardId, Quarantined, Refusal, Text, Timestamp};
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
    /// Frames of the quarantine are to be decoded again.
    DecodeAgain(DecodeAgain),
}

/// Frames of the quarantine that a person wants decoded again with the profiles in force. History only: nothing is raised.
#[derive(Debug)]
pub struct DecodeAgain {
    /// The frames, as they are in quarantine now: whoever asks waits for the answer before he reads any again.
    pub frames: Vec<Quarantined>,
    /// Who asks, for the duty log.
    pub by: Arc<str>,
    /// Whose frames, for the duty log.
    pub what: Arc<str>,
    /// Answered once the journal has it on the disk, or once it is refused.
    pub reply: oneshot::Sender<Result<DecodedAgain, Refused>>,
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
    /// Something else must be well first.
    #[error("{en}")]
    NotNow {
        /// What, in Chinese.
        zh: &'static str,
        /// What, in English.
        en: &'static str,
    },
}

/// Who asks that the configuration be read again. When several do at once, the last of this list is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    /// A file that was changed.
    File,
    /// A signal to the process.
    Signal,
    /// A person at the page.
    Person {
        /// Who is on duty.
        person: Arc<str>,
        /// The account that he is signed in with.
        account: Arc<str>,
    },
}

impl Asker {
    /// For the duty log.
    pub fn text(&self) -> Text {
        match self {
            Self::Signal => Text::new("系统信号", "a signal"),
            Self::File => Text::new("文件有改动", "a file was changed"),
            Self::Person { person, account } => {
                Text::new(&format!("{person}，账号 {account}"), &format!("{person}, account {account}"))
            }
        }
    }
}

/// Somebody asks that the configuration be read again.
#[derive(Debug)]
pub struct Ring {
    /// Who.
    pub by: Asker,
    /// Answered when it was taken or refused.
    pub reply: oneshot::Sender<Reloaded>,
}

/// What became of reading the configuration again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// What changed, in words; `None`: nothing, or it was refused.
    pub changes: Option<Text>,
    /// How things stand now.
    pub state: ConfigState,
}

/// How what is in force stands to what is in the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigState {
    /// When a change was taken in last; `None`: not since the start.
    pub taken_at: Option<Timestamp>,
    /// Why what is in the files is not in force; `None`: it is.
    pub refused: Option<Misfit>,
    /// Keys whose change takes effect at the next start.
    pub next_start: Vec<&'static str>,
}

/// Files that were refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// When.
    pub at: Timestamp,
    /// How many mistakes are in them.
    pub errors: usize,
    /// The first mistake, with its place.
    pub first: String,
    /// All of them, as `fengsui check` prints them.
    pub report: String,
}

/// Reloads that may wait; they become one.
pub const RINGS_MAX: usize = 16;

/// Asks that the configuration be read again. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bell(mpsc::Sender<Ring>);

/// A bell, and the end that hears it.
pub fn bell() -> (Bell, mpsc::Receiver<Ring>) {
    let (sender, receiver) = mpsc::channel(RINGS_MAX);
    (Bell(sender), receiver)
}

impl Bell {
    /// Asks, and waits for what becomes of it.
    pub async fn ring(&self, by: Asker) -> Result<Reloaded, Refused> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Ring { by, reply }).map_err(|_| Refused::Busy)?;
        answer.await.map_err(|_| Refused::Busy)
    }
}

/// The web's end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door {
    requests: mpsc::Sender<Request>,
    bell: Option<Bell>,
}

/// The pipeline's end.
pub type Requests = mpsc::Receiver<Request>;

/// A door with room for [`WAITING_MAX`] commands.
pub fn door() -> (Door, Requests) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Door { requests: sender, bell: None }, receiver)
}

impl Door {
    /// A door with a bell: the configuration can be read again.
    #[must_use]
    pub fn with_bell(self, bell: Bell) -> Self {
        Self { bell: Some(bell), ..self }
    }

    /// The bell; `None` where the configuration came from no file.
    pub fn bell(&self) -> Option<&Bell> {
        self.bell.as_ref()
    }

    /// Hands a command in and waits for its answer.
    pub async fn ask(&self, command: Command) -> Result<Done, Refused> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Command { command, reply }).map_err(|_| Refused::Busy)?;
        answer.await.unwrap_or(Err(Refused::Busy))
    }

    /// Hands frames of the quarantine in and waits until the journal has what came of them.
    pub async fn decode_again(
        &self,
        frames: Vec<Quarantined>,
        by: &str,
        what: &str,
    ) -> Result<DecodedAgain, Refused> {
        let (reply, answer) = oneshot::channel();
        let request = DecodeAgain { frames, by: by.into(), what: what.into(), reply };
        self.requests.try_send(Request::DecodeAgain(request)).map_err(|_| Refused::Busy)?;
        answer.await.unwrap_or(Err(Refused::Busy))
    }

    /// Hands a wish in and waits for what becomes of it.
    pub async fn order(&self, wish: Wish) -> Result<Ordered, Refused> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Order { wish, reply }).map_err(|_| Refused::Busy)?;
        answer.await.unwrap_or(Err(Refused::Busy))
    }

    /// Hands a line about the gateway itself in. `Err`: too much is waiting, or the gateway is stopping; it was not taken.
    pub fn tell_own(&self, own: Own) -> Result<(), Refused> {
        self.requests.try_send(Request::Own(own)).map_err(|_| Refused::Busy)
    }

    /// Hands a line for the duty log in. `Err`: too much is waiting, or the gateway is stopping; it was not taken.
    pub fn tell(&self, access: Access) -> Result<(), Refused> {
        self.requests.try_send(Request::Access(access)).map_err(|_| Refused::Busy)
    }
}
