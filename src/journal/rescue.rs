//! The files under the open connection: whether they are still those that it has open, and what to do when not.
//!
//! Somebody may delete the database while the gateway runs, or put another in its place (a restored copy, say). The open
//! connection would go on writing into a file without a name, and the next start would find nothing. But it still sees
//! everything: it is copied to where it belongs, and the journal goes on with the copy.

use super::OpenError;
use super::store::{FILE_MODE, Place, copy_into, sync_folder_of};
use crate::model::Text;
use rusqlite::Connection;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// How often the files are looked at: what is written in between would be lost only if the power went as well.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Which files the connection has open: the database, its log, the log's index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity([Option<(u64, u64)>; 3]);

/// What was found in place of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing.
    Deleted,
    /// Another file.
    Replaced,
    /// The files with the same numbers on another device: the disk was mounted anew.
    Remounted,
}

impl Lost {
    /// What the duty log says once everything is in place again.
    pub(super) fn told(self) -> Text {
        match self {
            Self::Deleted => Text::new(
                "数据库文件被删除，已从内存中的连接恢复",
                "the database's file was deleted; it was restored from the open connection",
            ),
            Self::Replaced | Self::Remounted => Text::new(
                "数据库文件在运行中被替换，已从内存中的连接恢复；外来的文件另存为 journal.db.replaced-*。还原备份前请先停止网关",
                "the database's file was replaced while the gateway ran; it was restored from the open connection, and the foreign file kept as journal.db.replaced-*. Stop the gateway before you restore a backup",
            ),
        }
    }
}

impl Identity {
    /// The files as they are now.
    pub(super) fn of(place: &Place) -> Self {
        Self(place.files().map(|file| identity(&file).ok()))
    }

    /// Whether an open file is no longer where it was. A disk that does not answer has lost nothing yet.
    pub(super) fn lost(&self, place: &Place) -> Option<Lost> {
        self.against(place.files().map(|file| identity(&file)))
    }

    fn against(&self, there: [std::io::Result<(u64, u64)>; 3]) -> Option<Lost> {
        let mut lost = None;
        for (known, found) in self.0.iter().zip(there) {
            match (known, found) {
                (Some(known), Ok(found)) if found == *known => {}
                (Some(known), Ok(found)) if found.1 == known.1 => lost = lost.or(Some(Lost::Remounted)),
                (Some(_), Ok(_)) => return Some(Lost::Replaced),
                (Some(_), Err(error))
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
                {
                    lost = Some(Lost::Deleted);
                }
                _ => {}
            }
        }
        lost
    }
}

fn identity(file: &Path) -> std::io::Result<(u64, u64)> {
    let found = fs::metadata(file)?;
    Ok((found.dev(), found.ino()))
}

/// Copies what the open connection sees to where the database belongs. A lock is given back when the old one went with
/// its folder.
pub(super) fn rescue(conn: &Connection, place: &Place) -> Result<Option<File>, String> {
    let lock = if place.lock_file().exists() {
        None
    } else {
        Some(place.lock().map_err(|error: OpenError| error.to_string())?)
    };
    let [database, log, index] = place.files();
    let (copy, whole) = (place.beside("rescue"), place.beside("rescued"));
    let said = |error: std::io::Error| error.to_string();
    let _left_over = fs::remove_file(&copy);
    let made = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&copy).map_err(said)?;
    copy_into(conn, &copy)
        .map_err(|error| error.to_string())
        .inspect_err(|_| drop(fs::remove_file(&copy)))?;
    made.sync_all().map_err(said)?;
    // From here on a crash loses nothing: the next start finds the whole copy under its second name.
    fs::rename(&copy, &whole).map_err(said)?;
    sync_folder_of(&whole).map_err(said)?;
    if database.exists() {
        fs::rename(&database, place.free_name("replaced")).map_err(said)?;
    }
    // They belong to a database that has no name any more; a new one must not read them.
    for file in [log, index] {
        let _gone = fs::remove_file(file);
    }
    finish(place).map_err(said)?;
    Ok(lock)
}

/// Puts a copy that was rescued in its place, if the database itself is not there: also after a crash in between.
pub(super) fn finish(place: &Place) -> std::io::Result<()> {
    let ([database, log, index], whole) = (place.files(), place.beside("rescued"));
    if database.exists() || !whole.exists() {
        return Ok(());
    }
    for file in [log, index] {
        let _gone = fs::remove_file(file);
    }
    fs::rename(&whole, &database)?;
    sync_folder_of(&database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_replaced_and_mounted_anew_are_told_apart() {
        let known = Identity([Some((8, 3)), Some((8, 4)), None]);
        let gone = || Err(ErrorKind::NotFound.into());
        assert_eq!(known.against([Ok((8, 3)), Ok((8, 4)), Ok((8, 5))]), None);
        assert_eq!(known.against([gone(), Ok((8, 4)), gone()]), Some(Lost::Deleted));
        assert_eq!(known.against([Ok((8, 3)), gone(), gone()]), Some(Lost::Deleted));
        assert_eq!(known.against([Ok((8, 9)), Ok((8, 4)), gone()]), Some(Lost::Replaced));
        assert_eq!(known.against([Ok((9, 3)), Ok((9, 4)), gone()]), Some(Lost::Remounted));
        assert_eq!(known.against([Ok((9, 3)), Ok((8, 7)), gone()]), Some(Lost::Replaced));
        let deaf = || Err(ErrorKind::Other.into());
        assert_eq!(
            known.against([deaf(), deaf(), deaf()]),
            None,
            "a disk that does not answer has lost nothing"
        );
    }
}
