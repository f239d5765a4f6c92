//! What the journal may use, how it is, and what can go wrong with it.

use super::store::is_damage;
use super::{AuditHead, Room};
use crate::model::{Span, Text, Timestamp};

/// What the journal may use. The defaults suit a box with an 8 GB card.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of the database. 2 GiB: at 100 readings/s entries take 60 MB a day (5 bytes a reading, 8 a message) for a week,
    /// and sealed chunks (0.7 B a reading) 6 MB a day: 420 MB of entries and 1.6 GB, 265 days, of charts at full detail;
    /// roll-ups carry them through the year. The log and the ledger have at most 620 MB of it.
    pub bytes_max: u64,
    /// Entries (their readings) older than this are deleted once every follower has them; the series keeps the
    /// compressed samples. A week: long enough to import again what a follower got wrong.
    pub readings_age_max: Span,
    /// How long the series keeps its chunks, for the forecast: a year of charts
    /// and a month to look at it (this system's own figure). The series itself deletes them.
    pub series_age_max: Span,
    /// Charts younger than this are kept as long as entries can make room for them: a year (this system's own figure).
    pub series_age_min: Span,
    /// Newest entries that are kept although everybody has read them, as long as anything else can make room: their
    /// fingerprints say after a crash what was acknowledged. Half an hour at one a second; the brokers' redelivery comes
    /// within minutes.
    pub entries_min: u64,
    /// Notes older than this are deleted: 13 months.
    pub notes_age_max: Span,
    /// Notes younger than this are kept as long as entries can make room: half a year, as 网络安全法 Art. 23(3) asks for.
    pub notes_age_min: Span,
    /// Notes kept at most: 400 000 × 300 bytes are 120 MB; a thousand a day (a link that comes and goes) for 13 months.
    pub notes_max: u64,
    /// Transitions, and closed hazards beyond the newest `hazards_closed_min`, older than this are deleted: ten years.
    pub ledger_age_max: Span,
    /// Transitions kept at most: 250 000 × 2 kB are 500 MB, a quarter of the room; 68 a day for ten years.
    pub ledger_max: u64,
    /// Closed hazards that are kept until there is nothing else left to delete. 10 000 × 2 kB are 20 MB.
    pub hazards_closed_min: u64,
    /// Entries kept in memory for followers that are nearly up to date. 1024 ≈ a quarter of an hour at one a second.
    pub ring_entries_max: usize,
    /// Readings kept in memory with them. 50 000 × about 150 bytes ≈ 7.5 MB.
    pub ring_readings_max: usize,
    /// Unknown senders kept for a person to see. 200 rows × 4 KiB = 0.8 MB.
    pub strays_unknown_max: usize,
    /// Topics of one planned device with something unreadable. 50 × 4 KiB = 0.2 MB a device.
    pub strays_unreadable_per_device_max: usize,
    /// The same of all planned devices. 2000 × 4 KiB = 8 MB.
    pub strays_unreadable_max: usize,
    /// Frames of one sender in quarantine. 200 at one in five minutes are 16 hours: time to see it and to mend the profile.
    pub quarantine_sender_frames_max: u64,
    /// Their bytes: 1 MiB are 200 frames of 5 kB, or four of the largest that a decoder looks into.
    pub quarantine_sender_bytes_max: u64,
    /// Frames of planned devices in quarantine. 5000 are 200 from each of 25 devices.
    pub quarantine_frames_max: u64,
    /// Their bytes: 16 MiB, less than a hundredth of the journal.
    pub quarantine_bytes_max: u64,
    /// Frames of senders that nobody planned. 2000 are ten from each of the 200 that are listed.
    pub quarantine_unknown_frames_max: u64,
    /// Their bytes: 4 MiB are 2000 of 2 kB.
    pub quarantine_unknown_bytes_max: u64,
    /// Frames older than this are deleted: three months to get a profile (this system's own figure).
    pub quarantine_age_max: Span,
    /// Message fingerprints kept. A redelivery follows a crash at once and brings at most the broker's window
    /// (1000) a link; 20 000 serves 20 links.
    pub receipts_max: u64,
    /// The file given back when the disk is full: 8 MiB is room for some 600 commits of 13 kB.
    pub ballast_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 2 << 30,
            readings_age_max: Span::from_secs(7 * 86_400),
            series_age_max: Span::from_secs(400 * 86_400),
            series_age_min: Span::from_secs(365 * 86_400),
            entries_min: 1800,
            notes_age_max: Span::from_secs(400 * 86_400),
            notes_age_min: Span::from_secs(183 * 86_400),
            notes_max: 400_000,
            ledger_age_max: Span::from_secs(3653 * 86_400),
            ledger_max: 250_000,
            hazards_closed_min: 10_000,
            ring_entries_max: 1024,
            ring_readings_max: 50_000,
            strays_unknown_max: 200,
            strays_unreadable_per_device_max: 50,
            strays_unreadable_max: 2000,
            quarantine_sender_frames_max: 200,
            quarantine_sender_bytes_max: 1 << 20,
            quarantine_frames_max: 5000,
            quarantine_bytes_max: 16 << 20,
            quarantine_unknown_frames_max: 2000,
            quarantine_unknown_bytes_max: 4 << 20,
            quarantine_age_max: Span::from_secs(90 * 86_400),
            receipts_max: 20_000,
            ballast_bytes: 8 << 20,
        }
    }
}

/// How the journal is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalHealth {
    /// Whether the last append succeeded (or none was tried yet).
    pub writable: bool,
    /// The time of the first entry that could not be written since the last one that could.
    pub failing_since: Option<Timestamp>,
    /// Bytes of the database and its write-ahead log.
    pub bytes: u64,
    /// The time of the oldest entry that is still held.
    pub oldest: Option<Timestamp>,
    /// The newest recorded entry.
    pub head: u64,
    /// What the last failure said; kept after recovery.
    pub last_error: Option<String>,
    /// The same for a person, and what to do; kept after recovery.
    pub reason: Option<Text>,
    /// Whether the ballast file is in place. False: the disk was full.
    pub ballast: bool,
    /// Where the hash chain over the duty log stands.
    pub audit: AuditHead,
    /// What takes how much room, and how long it lasts: renewed each quarter of an hour, each minute until it is known.
    pub room: Room,
}

/// Why the journal could not be opened. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the journal in {dir} is in use by another gateway (process {holder}): stop that one first, or give this one another directory"
    )]
    InUse {
        /// The directory.
        dir: String,
        /// What the lock file says; `unknown` when it says nothing.
        holder: String,
    },
    /// The directory or a file in it cannot be used.
    #[error(
        "the journal cannot use {path}: {cause}: check that the disk is mounted, has room and may be written by this account"
    )]
    Directory {
        /// Which file or directory.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// A later version of the program wrote it.
    #[error(
        "{path} was written by a later version of this program (format {found}, this one knows {known}): install that version again, or give this one another directory; nothing was changed"
    )]
    Newer {
        /// Which file.
        path: String,
        /// Its format.
        found: usize,
        /// The newest format known here.
        known: usize,
    },
    /// An earlier version of the program wrote it, and it was to be read only.
    #[error(
        "{path} was written by an earlier version of this program (format {found}, this one knows {known}): start the gateway once, it will bring the file forward"
    )]
    Older {
        /// Which file.
        path: String,
        /// Its format.
        found: usize,
        /// The format known here.
        known: usize,
    },
    /// It is damaged, and it was to be read only.
    #[error("{path} is damaged: {cause}: start the gateway, it will save what can be read")]
    Damaged {
        /// Which file.
        path: String,
        /// What SQLite said.
        cause: String,
    },
    /// SQLite could not open it, and it is not damaged.
    #[error(
        "the journal {path} cannot be opened: {cause}: check that the disk has room and may be written by this account"
    )]
    Database {
        /// Which file.
        path: String,
        /// What SQLite said.
        cause: String,
    },
}

/// Why a write is not in the journal. Nothing of it is there; the same write may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No room, on the disk or under the size limit.
    #[error("the journal is full: {0}: free space on its disk, or raise its size limit")]
    Full(String),
    /// The disk or the file failed.
    #[error("the journal could not be written: {0}")]
    Failed(String),
    /// The disk may not be written: systems set one so when it has failed.
    #[error(
        "the journal's disk is read-only: {0}: check the card and the system's log, then mount it writable again"
    )]
    ReadOnly(String),
    /// The file was deleted or replaced under the open connection, and could not be put back.
    #[error(
        "the journal's file was deleted or replaced, and cannot be put back: {0}: nothing is written until it can"
    )]
    Lost(String),
    /// The entry's number is not the next one.
    #[error("entry {got} is out of order: the next one is {expected}")]
    OutOfOrder {
        /// The next number.
        expected: u64,
        /// The entry's.
        got: u64,
    },
    /// The writer has ended.
    #[error("the journal is closed")]
    Closed,
}

/// Why a question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The disk or the file failed.
    #[error("the journal could not be read: {0}")]
    Failed(String),
    /// The file is damaged: the next start checks it and saves what can be saved.
    #[error("the journal is damaged: {0}: restart the gateway; it will save what can be read")]
    Damaged(String),
    /// The gateway is stopping.
    #[error("the journal is closed")]
    Closed,
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        if is_damage(&error) { Self::Damaged(text) } else { Self::Failed(text) }
    }
}

impl AppendError {
    /// In both languages, with what to do.
    pub fn text(&self) -> Text {
        let zh = match self {
            Self::Full(_) => "存储空间已满：请清理磁盘，或调大容量上限".to_owned(),
            Self::Failed(cause) => format!("磁盘或文件写入失败（{cause}）"),
            Self::ReadOnly(_) => {
                "磁盘变为只读，可能已损坏：请检查存储卡和系统日志，并重新挂载为可写".to_owned()
            }
            Self::Lost(cause) => format!("数据库文件被删除或替换，且无法恢复（{cause}）：恢复之前不写入"),
            Self::OutOfOrder { expected, got } => format!("记录编号不连续：应为 {expected}，实为 {got}"),
            Self::Closed => "日志已关闭".to_owned(),
        };
        Text::new(&zh, &self.to_string())
    }
}

impl From<rusqlite::Error> for AppendError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full(error.to_string()),
            Some(rusqlite::ErrorCode::ReadOnly) => Self::ReadOnly(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
