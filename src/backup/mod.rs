//! THE WAY OUT OF A BOX: one folder that holds all that a gateway knows, made while it runs, verified, kept in number,
//! put back on this box or on another.
//!
//! Beside the flow, after the journal: a backup is read through [`Archive`](crate::journal::Archive), on a connection of its own, and takes
//! nothing from those who write. A folder is written under a name that ends in `.part`, made durable, read back, and only
//! then renamed: a folder without `.part` is whole.
//!
//! ```text
//! fengsui-sunshine-20261122T055735Z/
//!   manifest.json    what is in it, with the sum of every file, and what was left out
//!   journal.db       hazards, duty log, charts, accounts, cursors: one consistent file
//!   config/…         gateway.toml, the site plan and the profiles beside it, under their relative names
//!   outside/1-…      such files that lie elsewhere
//!   secrets/1-…      only when it was asked for
//! ```

mod household;
mod make;
mod manifest;
mod place;
mod prune;
mod restore;
mod schedule;
mod verify;
mod words;

pub use household::{Household, Part, Role};
pub use make::{GoOn, Made, Order, WAL_BYTES_MAX, make};
pub use manifest::{Journalled, LeftOut, MANIFEST, Manifest, Stored, Whence};
pub use place::{Mounts, Room, room, usable};
pub use prune::own;
pub use restore::{Into, Placed, Restored, place_configuration, restore};
pub use schedule::{DOCUMENT, Last, Rhythm, Schedule, late_after};
pub use verify::{Verified, verify};
pub use words::{local, local_or_unknown};

use crate::model::Text;
use std::path::Path;

/// The journal's file in a backup. The same name as in a data directory, so that `fengsui audit` reads both.
pub const JOURNAL: &str = "journal.db";

/// Why a backup was not made, is not whole, or was not put back. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .text.en)]
pub struct BackupError {
    /// Which kind, for those who decide by it.
    pub kind: Trouble,
    /// For people.
    pub text: Text,
}

/// The kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The target folder is not there: no stick, or not mounted.
    Missing,
    /// There is no room for it.
    NoRoom,
    /// What was written or is to be restored is not what the manifest says.
    NotWhole,
    /// A running gateway has the directory, or there is a journal that must not be replaced.
    Taken,
    /// It was asked to stop.
    Stopped,
    /// The disk, the file system or the database refused.
    Failed,
}

impl BackupError {
    pub(crate) fn new(kind: Trouble, zh: &str, en: &str) -> Self {
        Self { kind, text: Text::new(zh, en) }
    }

    fn failed(path: &Path, cause: &dyn std::fmt::Display) -> Self {
        let path = path.display();
        Self::new(
            Trouble::Failed,
            &format!("{path} 无法读写：{cause}"),
            &format!("{path} cannot be read or written: {cause}"),
        )
    }

    fn not_whole(path: &Path, zh: &str, en: &str) -> Self {
        let path = path.display();
        Self::new(
            Trouble::NotWhole,
            &format!("备份不完整，不要用它恢复：{path} {zh}"),
            &format!("the backup is not whole, do not restore from it: {path} {en}"),
        )
    }
}
