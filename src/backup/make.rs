//! Makes a backup: written beside its place, made durable, read back, renamed.

use super::manifest::{self, LeftOut, MANIFEST, Manifest, SECRET, Stored, Whence};
use super::place::{Mounts, fits, room, usable};
use super::{BackupError, Household, JOURNAL, Part, Role, Trouble, prune, verify};
use crate::journal::{Archive, ReadError};
use crate::model::Timestamp;
use rustix::fs::Advice;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// While the copy is made its snapshot keeps the journal's write-ahead log from being used again, so that grows: by about
/// 35 kB/s at 500 readings a second (3 GB a day). A copy of 2 GiB to a slow stick (5 MB/s) takes 7 minutes: 15 MB. A log
/// of this size means that the target stands still; the backup is given up then, and the log used again.
pub const WAL_BYTES_MAX: u64 = 256 << 20;

/// Nor may the log take the last room of the journal's own disk: the copy is given up when less is free there.
const JOURNAL_ROOM_MIN: u64 = 32 << 20;

/// A configuration file larger than this is left out: the gateway itself would refuse it (see `config::FILE_SIZE_MAX`).
const CONFIG_FILE_MAX: u64 = 4 << 20;

/// The folder and the files are the account's alone: hashes of passwords, telephone numbers and sessions are in them. A
/// stick with FAT knows no rights: keep it in a drawer with a lock.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What is to be made.
#[derive(Debug, Clone)]
pub struct Order {
    /// Of whom.
    pub household: Household,
    /// In which folder.
    pub to: PathBuf,
    /// Whether the files with passwords and tokens go with it.
    pub with_secrets: bool,
    /// How many backups of this gateway are kept; `None`: all.
    pub keep: Option<usize>,
    /// The time that it is named after.
    pub now: Timestamp,
    /// The largest write-ahead log that the copy may lead to; [`WAL_BYTES_MAX`] but for tests.
    pub log_max: u64,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The folder.
    pub dir: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// Older ones of this gateway that were deleted for it.
    pub pruned: Vec<PathBuf>,
    /// Whether it lies on the journal's own disk, and so dies with it.
    pub same_disk: bool,
}

/// Asked now and then; `false`: give up.
pub type GoOn = Arc<dyn Fn() -> bool + Send + Sync>;

/// Makes a backup and verifies it, then deletes the oldest ones beyond `keep`. Blocks, for minutes if the journal is large.
///
/// Errors: the target is not there or has no room, the journal is not there or damaged, what was written is not what is
/// read back, or `go_on` said no. Nothing but whole backups is left behind, and no older one is deleted.
pub fn make(order: &Order, go_on: &GoOn) -> Result<Made, BackupError> {
    let to = usable(&order.to, &Mounts::read())?;
    prune::sweep_all(&to, &Whence::of(&order.household));
    fits(&to, estimate(&order.household))?;
    let (dir, part) = Half::begin(&to, &order.household.name, order.now)?;
    let manifest = fill(order, &part, go_on)?;
    part.finish(&dir)?;
    let device = |path: &Path| room(path).map(|room| room.device);
    let same_disk = device(&to) == device(&order.household.journal_dir);
    let pruned = order.keep.map_or_else(Vec::new, |keep| prune::prune(&to, &manifest.of, keep, &dir));
    Ok(Made { dir, manifest, pruned, same_disk })
}

/// The most that will be written: a copy is never larger than the file and its log.
fn estimate(household: &Household) -> u64 {
    let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let journal = household.journal_dir.join(JOURNAL);
    let parts: u64 = household.parts.iter().map(|part| length(&part.path).min(CONFIG_FILE_MAX)).sum();
    length(&journal) + length(&household.journal_dir.join("journal.db-wal")) + parts
}

fn fill(order: &Order, half: &Half, go_on: &GoOn) -> Result<Manifest, BackupError> {
    let household = &order.household;
    copy_journal(&household.journal_dir, &half.dir.join(JOURNAL), order.log_max, go_on)?;
    let journal = Part { role: Role::Journal, path: household.journal_dir.join(JOURNAL) };
    let mut files = vec![stored(half, JOURNAL.to_owned(), &journal, go_on)?];
    let mut left_out = Vec::new();
    for part in &household.parts {
        let from = part.path.clone();
        if part.role == Role::Secret && !order.with_secrets {
            left_out.push(LeftOut { from, why: SECRET.to_owned() });
            continue;
        }
        match read_small(&part.path) {
            Ok(content) => {
                let name = name_of(part, &household.folder, files.len());
                write_durably(&half.dir, &name, &content)?;
                files.push(stored(half, name, part, go_on)?);
            }
            Err(error) => left_out.push(LeftOut { from, why: error.to_string() }),
        }
    }
    let verified = verify::check_journal(&half.dir, None, go_on)?;
    let of = Whence::of(household);
    let manifest = Manifest::new(order.now, of, verified, files, left_out);
    half.write_manifest(&manifest)?;
    Ok(manifest)
}

fn copy_journal(from: &Path, to: &Path, log_max: u64, go_on: &GoOn) -> Result<(), BackupError> {
    let mut archive = Archive::open(from).map_err(|error| BackupError::failed(from, &error))?;
    let (log, own) = (from.join("journal.db-wal"), from.to_owned());
    let asked = go_on.clone();
    let enough = Arc::new(std::sync::OnceLock::new());
    let told = enough.clone();
    let watch = move || {
        if fs::metadata(&log).is_ok_and(|found| found.len() > log_max) {
            told.get_or_init(|| {
                (
                    "目标盘太慢，日志的写前日志涨得太大",
                    "the target is too slow: the journal's write-ahead log grows too large",
                )
            });
        } else if room(&own).is_some_and(|room| room.free < JOURNAL_ROOM_MIN) {
            told.get_or_init(|| ("日志所在的盘快满了", "the journal's own disk is nearly full"));
        } else {
            return asked();
        }
        false
    };
    match archive.only_while(watch).and_then(|()| archive.copy_to(to)) {
        Ok(_) => Ok(()),
        Err(_) if !go_on() => Err(stopped()),
        Err(error) => match enough.get() {
            Some((zh, en)) => Err(BackupError::new(
                Trouble::Failed,
                &format!("{zh}，备份已放弃；没有影响日志"),
                &format!("{en}; the backup was given up, the journal is not harmed"),
            )),
            None => Err(match error {
                ReadError::Damaged(cause) => BackupError::failed(&from.join(JOURNAL), &cause),
                error => BackupError::failed(to, &error),
            }),
        },
    }
}

pub(super) fn stopped() -> BackupError {
    BackupError::new(Trouble::Stopped, "备份中途停止", "the backup was stopped before its end")
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > CONFIG_FILE_MAX {
        return Err(io::Error::other(format!("{length} bytes")));
    }
    fs::read(path)
}

/// Below the folder of gateway.toml a file keeps its relative name, so that it can be put back by it.
fn name_of(part: &Part, folder: &Path, number: usize) -> String {
    let last = part.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    if part.role == Role::Secret {
        return format!("secrets/{number}-{last}");
    }
    let below = part.path.strip_prefix(folder).ok().and_then(Path::to_str);
    match below {
        Some(below) if manifest::is_below(below) => format!("config/{below}"),
        _ => format!("outside/{number}-{last}"),
    }
}

fn write_durably(dir: &Path, name: &str, content: &[u8]) -> Result<(), BackupError> {
    let path = dir.join(name);
    let written = (|| {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        file.write_all(content)?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    })();
    written.map_err(|error: io::Error| BackupError::failed(&path, &error))
}

/// Reads a written file twice: as the system remembers it, and as the medium gives it back. A stick that lies is found out.
fn stored(half: &Half, name: String, part: &Part, go_on: &GoOn) -> Result<Stored, BackupError> {
    let path = half.dir.join(&name);
    let sum = || {
        let sum = manifest::sum(&path, &**go_on).map_err(|error| BackupError::failed(&path, &error))?;
        sum.ok_or_else(stopped)
    };
    let written = sum()?;
    let forgotten = File::open(&path).and_then(|file| {
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).map_err(io::Error::from)
    });
    forgotten.map_err(|error| BackupError::failed(&path, &error))?;
    let (bytes, sha256) = sum()?;
    if written != (bytes, sha256.clone()) {
        return Err(BackupError::not_whole(
            &path,
            "读回来的和写进去的不一样：这个盘坏了",
            "reads back different from what was written: the medium is bad",
        ));
    }
    Ok(Stored { path: name, role: part.role, from: manifest::absolute(&part.path), bytes, sha256 })
}

/// A backup that is being written: `….part`, with its manifest held, so that nobody takes it for a left-over.
struct Half {
    dir: PathBuf,
    manifest: File,
    done: std::cell::Cell<bool>,
}

impl Half {
    /// The name it will have, and the folder that it is written in.
    fn begin(to: &Path, name: &str, now: Timestamp) -> Result<(PathBuf, Self), BackupError> {
        let stamp = stamp(now);
        let free = (1..100).map(|n| match n {
            1 => format!("fengsui-{name}-{stamp}"),
            n => format!("fengsui-{name}-{stamp}-{n}"),
        });
        let free = free.map(|name| to.join(name)).find(|dir| !dir.exists() && !part_of(dir).exists());
        let dir = free.ok_or_else(|| BackupError::failed(to, &"…-99"))?;
        let part = part_of(&dir);
        let begun = DirBuilder::new().mode(FOLDER_MODE).create(&part).and_then(|()| {
            let path = part.join(MANIFEST);
            let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
            // A file system without locks (some network shares) goes without.
            let _held_if_it_can_be = file.try_lock();
            Ok(file)
        });
        let manifest = begun.map_err(|error| BackupError::failed(&part, &error))?;
        Ok((dir, Self { dir: part, manifest, done: std::cell::Cell::new(false) }))
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let mut file = &self.manifest;
        let written = file.write_all(manifest.text().as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|error| BackupError::failed(&self.dir.join(MANIFEST), &error))
    }

    fn finish(&self, dir: &Path) -> Result<(), BackupError> {
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
        let finished = sync(&self.dir).and_then(|()| fs::rename(&self.dir, dir));
        finished.map_err(|error| BackupError::failed(dir, &error))?;
        self.done.set(true);
        dir.parent().map_or(Ok(()), sync).map_err(|error| BackupError::failed(dir, &error))
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if !self.done.get() {
            prune::remove_half(&self.dir);
        }
    }
}

fn part_of(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// `20261122T055735Z`: no colon, which a stick's FAT would refuse.
pub(super) fn stamp(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or(&text);
    seconds.replace(['-', ':'], "") + "Z"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_named_after_its_second() {
        assert_eq!(stamp(Timestamp::from_millis(1_768_444_205_250)), "20260115T023005Z");
    }

    #[test]
    fn a_file_keeps_its_relative_name_or_gets_one_of_its_own() {
        let folder = Path::new("/etc/fengsui");
        let name = |role, path: &str| name_of(&Part { role, path: path.into() }, folder, 3);
        assert_eq!(name(Role::Gateway, "/etc/fengsui/gateway.toml"), "config/gateway.toml");
        assert_eq!(name(Role::Profile, "/etc/fengsui/models/acme/m.toml"), "config/models/acme/m.toml");
        assert_eq!(name(Role::Plan, "/srv/plan.toml"), "outside/3-plan.toml");
        assert_eq!(name(Role::Plan, "/etc/fengsui/../plan.toml"), "outside/3-plan.toml");
        assert_eq!(name(Role::Secret, "/etc/fengsui/broker.users"), "secrets/3-broker.users");
    }
}
