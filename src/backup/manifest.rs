//! `manifest.json`: what a backup holds, what was left out, and the sums that show whether it is still what it was.

use super::{BackupError, Household, JOURNAL, Role, Trouble};
use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// The manifest's name in a backup.
pub const MANIFEST: &str = "manifest.json";

/// What the manifest calls itself, so that no other JSON file is taken for one.
const WHAT: &str = "fengsui-backup";

/// The newest format of a backup that this program knows. Raised when an older program must not restore it.
const FORMAT: u32 = 1;

/// The longest manifest that is read, bytes: 10 000 profiles at 300 bytes each.
const BYTES_MAX: u64 = 3_000_000;

/// Bytes read at once while a sum is made.
const AT_ONCE: usize = 256 * 1024;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `fengsui-backup`.
    what: String,
    /// The format of the folder.
    pub format: u32,
    /// The program that made it.
    pub program: String,
    /// When, ms since 1970, UTC.
    pub at_ms: i64,
    /// The same for people.
    pub at: String,
    /// Whose it is.
    pub of: Whence,
    /// What its journal holds.
    pub journal: Journalled,
    /// Every file, the journal first.
    pub files: Vec<Stored>,
    /// What must be copied by hand.
    pub left_out: Vec<LeftOut>,
}

/// Whose a backup is. Only backups of the very same gateway count as one's own when the oldest are deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whence {
    /// The site or the host.
    pub name: String,
    /// The host.
    pub host: String,
    /// The data directory there.
    pub journal_dir: PathBuf,
    /// The folder of `gateway.toml` there.
    pub folder: PathBuf,
}

impl Whence {
    /// The gateway of this box.
    pub fn of(household: &Household) -> Self {
        Self {
            name: household.name.clone(),
            host: household.host.clone(),
            journal_dir: absolute(&household.journal_dir),
            folder: absolute(&household.folder),
        }
    }
}

pub(super) fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// What the journal in a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journalled {
    /// The format of the database.
    pub format: u64,
    /// The number of its newest entry.
    pub head: u64,
    /// The newest entry's time, ms; what was written after it is not in the backup.
    pub newest_ms: Option<i64>,
    /// The duty log's chain, as it is written down: `count:sum`. Empty: its format had none yet.
    #[serde(default)]
    pub audit: String,
    /// Hazards that stood.
    pub open_hazards: u64,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Below the backup's folder, with `/`.
    pub path: String,
    /// What it is for.
    pub role: Role,
    /// Where it lay.
    pub from: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// A file that is not in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Where it lies.
    pub from: PathBuf,
    /// `secret`, or why it could not be read.
    pub why: String,
}

/// Why a secret is left out.
pub(super) const SECRET: &str = "secret";

impl Manifest {
    pub(super) fn new(
        at: Timestamp,
        of: Whence,
        journal: Journalled,
        files: Vec<Stored>,
        left_out: Vec<LeftOut>,
    ) -> Self {
        Self {
            what: WHAT.to_owned(),
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            at_ms: at.as_millis(),
            at: at.to_string(),
            of,
            journal,
            files,
            left_out,
        }
    }

    /// When it was made.
    pub fn made_at(&self) -> Timestamp {
        Timestamp::from_millis(self.at_ms)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads the manifest of a backup.
    ///
    /// Errors: it is missing, no manifest, of a later format, or names files outside the backup.
    pub fn read(backup: &Path) -> Result<Self, BackupError> {
        let path = backup.join(MANIFEST);
        if backup.extension().is_some_and(|extension| extension == "part") {
            return Err(BackupError::not_whole(backup, "没有写完", "was never finished"));
        }
        let mut text = String::new();
        File::open(&path)
            .and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| no_backup(backup, &error.to_string()))?;
        let manifest: Self =
            serde_json::from_str(&text).map_err(|error| no_backup(backup, &error.to_string()))?;
        if manifest.what != WHAT {
            return Err(no_backup(backup, MANIFEST));
        }
        if manifest.format > FORMAT {
            let format = manifest.format;
            return Err(BackupError::new(
                Trouble::Failed,
                &format!(
                    "这个备份由更新的版本制作（格式 {format}，本程序认识 {FORMAT}）：请安装 {} 或更新的版本",
                    manifest.program
                ),
                &format!(
                    "a later version made this backup (format {format}, known here: {FORMAT}): install {} or newer",
                    manifest.program
                ),
            ));
        }
        let strange = manifest.files.iter().find(|file| !is_below(&file.path));
        if let Some(file) = strange {
            return Err(BackupError::not_whole(
                &path,
                &format!("指向备份之外：{}", file.path),
                &format!("names a file outside of it: {}", file.path),
            ));
        }
        if !manifest.files.iter().any(|file| file.path == JOURNAL && file.role == Role::Journal) {
            return Err(BackupError::not_whole(&path, "没有列出日志数据库", "lists no journal"));
        }
        Ok(manifest)
    }
}

fn no_backup(backup: &Path, cause: &str) -> BackupError {
    let path = backup.display();
    BackupError::new(
        Trouble::Missing,
        &format!("{path} 不是备份（要指向 fengsui-… 这一层目录）：{cause}"),
        &format!("{path} is no backup (name the folder fengsui-… itself): {cause}"),
    )
}

/// Whether a name stays below the folder: no `..`, not absolute.
pub(super) fn is_below(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A file's size and SHA-256. `go_on` is asked now and then; `None`: it said no.
pub(super) fn sum(path: &Path, go_on: &dyn Fn() -> bool) -> io::Result<Option<(u64, String)>> {
    let mut file = File::open(path)?;
    let (mut sum, mut bytes) = (Sha256::new(), 0_u64);
    let mut part = vec![0; AT_ONCE];
    loop {
        let read = file.read(&mut part)?;
        let Some(read @ [_, ..]) = part.get(..read) else { break };
        sum.update(read);
        bytes += read.len() as u64;
        if !go_on() {
            return Ok(None);
        }
    }
    Ok(Some((bytes, hex(&sum.finalize()))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes everything.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leaves_the_folder_is_refused() {
        for good in ["journal.db", "config/models/acme/meter.toml"] {
            assert!(is_below(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "config/../../x", "."] {
            assert!(!is_below(bad), "{bad}");
        }
    }

    #[test]
    fn the_sum_of_a_file_is_what_sha256sum_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sum(&path, &|| true).unwrap(), Some((3, known.to_owned())));
        assert_eq!(sum(&path, &|| false).unwrap(), None);
    }
}
