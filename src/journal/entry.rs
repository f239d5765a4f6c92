//! What the journal holds: the shapes that go in and come out, before any SQL.

use super::Restamp;
use crate::model::{DeviceId, Fact, Quarantined, Reading, Text, Timestamp, Transition};
use std::sync::Arc;

/// One commit: what arrived together and what came of it. Numbered without a gap; the number is the clock of every cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// 1, 2, 3 … An unrecorded entry bears the number under which it is appended later.
    pub no: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// False while the journal cannot be written: shown live, marked 未记录, and gone at the next start.
    pub recorded: bool,
    /// Readings, in the order they arrived.
    pub readings: Vec<Reading>,
    /// The duty log's new lines.
    pub transitions: Vec<Transition>,
    /// Everything else that happened.
    pub notes: Vec<Note>,
}

impl Entry {
    /// Whether its readings are history: decoded again out of the quarantine. They are in the charts and in the stores at
    /// their own times, and never what is true now: no rule has seen them, so nothing may pass for known because of them.
    pub fn is_history(&self) -> bool {
        self.notes.iter().any(|note| note.kind == NoteKind::History)
    }
}

/// Something that happened and is neither a reading nor a hazard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What kind.
    pub kind: NoteKind,
    /// About what: a link, an account, a file.
    pub subject: Arc<str>,
    /// For the duty log.
    pub text: Text,
}

/// The kinds of notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// The gateway started.
    Started,
    /// The gateway was asked to stop.
    Stopped,
    /// The wall clock was stepped.
    ClockStepped,
    /// A link came up or went down.
    Link,
    /// A plan came into force.
    Plan,
    /// A person signed in or out, or failed to.
    Access,
    /// A person told a device to do something, and what became of it.
    Command,
    /// The journal itself: recovered, trimmed, full, writable again.
    Journal,
    /// A person had frames of the quarantine decoded again: see [`Entry::is_history`].
    History,
}

impl NoteKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Started,
        Self::Stopped,
        Self::ClockStepped,
        Self::Link,
        Self::Plan,
        Self::Access,
        Self::Command,
        Self::Journal,
        Self::History,
    ];

    /// The name in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::ClockStepped => "clock_stepped",
            Self::Link => "link",
            Self::Plan => "plan",
            Self::Access => "access",
            Self::Command => "command",
            Self::Journal => "journal",
            Self::History => "history",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One line of the duty log (值班日志): a hazard changed, or something else worth writing down happened.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// The entry that holds it.
    pub no: u64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub what: Logged,
}

/// What a line of the duty log tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Logged {
    /// A hazard changed.
    Transition(Box<Transition>),
    /// Anything else.
    Note(Note),
}

/// Everything that one transaction writes. If it fails, none of it is there.
#[derive(Debug, Clone)]
pub struct Write {
    /// The entry; its number must be the journal's head plus one.
    pub entry: Arc<Entry>,
    /// The engine's rows that changed.
    pub facts: Vec<Fact>,
    /// Fingerprints of the acknowledged-after-this messages, so that a redelivery after a crash is recognised.
    pub receipts: Vec<u64>,
    /// Who sent what could not be read.
    pub strays: Vec<Stray>,
    /// The frames themselves, and what became of earlier ones.
    pub quarantine: Vec<QuarantineChange>,
    /// The clock was set: earlier entries are dated anew.
    pub restamp: Option<Restamp>,
}

impl Write {
    /// An entry, and nothing beside it.
    pub fn of(entry: Entry) -> Self {
        Self {
            entry: Arc::new(entry),
            facts: vec![],
            receipts: vec![],
            strays: vec![],
            quarantine: vec![],
            restamp: None,
        }
    }
}

/// What happens to a frame in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuarantineChange {
    /// It is put there.
    Keep(Quarantined),
    /// It was decoded again, or in part: its reason, its device and what was read from it are as of now.
    Renew(Quarantined),
    /// It was decoded and leaves.
    Release(i64),
}

/// How many frames of one sender's key are in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineGroup {
    /// Of a sender that nobody planned, or of a planned device.
    pub kind: StrayKind,
    /// The device, when it is planned.
    pub device: Option<DeviceId>,
    /// The link, and the topic or the device.
    pub key: String,
    /// How many.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Who sends what cannot be read, or is not planned: one row a key, with the newest. Kept where a person can see it; bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// A sender that nobody planned, or a planned device's unreadable frames.
    pub kind: StrayKind,
    /// The link, and the topic or the device: one row a key.
    pub key: Arc<str>,
    /// The device, if it is known.
    pub device: Option<DeviceId>,
    /// Why it could not be read, for a person.
    pub reason: Arc<str>,
    /// The newest frame's bytes, cut at [`SAMPLE_BYTES_MAX`]. Whole frames are in the quarantine.
    pub sample: Vec<u8>,
    /// When it was first seen.
    pub first_at: Timestamp,
    /// When it was last seen.
    pub last_at: Timestamp,
    /// How often.
    pub count: u64,
}

/// The words around the guess in the reason of a stray; [`Stray::guess`] reads what [`Stray::not_planned`] wrote.
const GUESS: [&str; 3] = ["主题符合型号 ", "，但计划里没有地址 ", " / looks like "];

impl Stray {
    /// The reason of a message that looks like a known model's, from an address that nobody planned.
    pub fn not_planned(profile: &str, address: &str) -> String {
        let [looks, lacks, english] = GUESS;
        format!(
            "{looks}{profile}{lacks}{address}{english}{profile}, but no device of the plan has the address {address}"
        )
    }

    /// The profile and the address that the reason names.
    pub fn guess(&self) -> Option<(&str, &str)> {
        let [looks, lacks, english] = GUESS;
        let (profile, rest) = self.reason.strip_prefix(looks)?.split_once(lacks)?;
        // The address is whatever a stranger sent: it may hold the words after it.
        let tail = format!("{english}{profile}, but no device of the plan has the address ");
        rest.match_indices(&tail)
            .map(|(at, tail)| (&rest[..at], &rest[at + tail.len()..]))
            .find_map(|(address, again)| (address == again).then_some((profile, address)))
    }
}

/// How much of a frame is kept: the longest vendor frame in the profiles is below 2 KiB, so 4 KiB keeps all of it.
pub const SAMPLE_BYTES_MAX: usize = 4096;

/// The two kinds of strays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StrayKind {
    /// 待接入: nobody planned this device.
    Unknown,
    /// 隔离: a planned device sent what its profile cannot read.
    Unreadable,
}

impl StrayKind {
    /// The name in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unreadable => "unreadable",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Unknown, Self::Unreadable].into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_read_back_whatever_the_address_is() {
        let stray = |reason: &str| Stray {
            kind: StrayKind::Unknown,
            key: "broker t".into(),
            device: None,
            reason: reason.into(),
            sample: Vec::new(),
            first_at: Timestamp::EPOCH,
            last_at: Timestamp::EPOCH,
            count: 1,
        };
        let profile = "zigbee2mqtt/heiman-hs1sa-e";
        let twice = Stray::not_planned(profile, "x");
        for address in ["0x00158d00aabbccdd", "", " / looks like ", "，但计划里没有地址 ", twice.as_str()]
        {
            let stray = stray(&Stray::not_planned(profile, address));
            assert_eq!(stray.guess(), Some((profile, address)));
        }
        assert_eq!(stray("计划里没有任何设备使用这个主题").guess(), None);
        assert_eq!(stray("主题符合型号 a，但计划里没有地址 b").guess(), None);
    }
}
