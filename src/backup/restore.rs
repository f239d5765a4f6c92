//! Puts a backup back: all of it is made ready beside its place, then one rename puts it in force.

use super::manifest::{self, Manifest};
use super::place::fits;
use super::words::{local, local_or_unknown};
use super::{BackupError, JOURNAL, Role, Trouble, verify};
use crate::journal::{Archive, DirectoryLock, Entry, Journal, Limits, Note, NoteKind, OpenError, Write};
use crate::metrics::Metrics;
use crate::model::{Text, Timestamp};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the journal is made ready, in the data directory: a rename within one file system is all or nothing.
const READY: &str = "restoring";

/// A whole copy that the journal made of a deleted database and had no time to put in its place; see journal/rescue.rs.
const RESCUED: &str = "journal.db.rescued";

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Where a journal is put back.
#[derive(Debug, Clone)]
pub struct Into {
    /// The data directory; made when it is missing.
    pub data: PathBuf,
    /// Whether a journal that is there is set aside. Without it, it is refused.
    pub replace: bool,
    /// Now.
    pub now: Timestamp,
}

/// What was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup held.
    pub manifest: Manifest,
    /// The old journal, if there was one.
    pub aside: Option<PathBuf>,
    /// What the duty log says of it.
    pub note: Text,
}

/// Verifies a backup and puts its journal into a data directory.
///
/// The numbers after the backup's newest entry were given to entries that are not in it, and hazards are named by them:
/// so a stretch of numbers is left out, and no hazard's name is ever given twice.
///
/// Errors: the backup is not whole, a gateway runs on the directory, there is a journal and `replace` is not set, or there
/// is no room. Nothing that was there is changed then.
pub async fn restore(backup: &Path, into: &Into) -> Result<Restored, BackupError> {
    let manifest = verify(backup)?.manifest;
    let data = &into.data;
    let _lock = DirectoryLock::take(data).map_err(|error| match error {
        OpenError::InUse { holder, .. } => taken(
            data,
            &format!("网关正在使用它（进程 {holder}）：请先停止网关"),
            &format!("a gateway runs on it (process {holder}): stop that first"),
        ),
        error => BackupError::failed(data, &error),
    })?;
    if !into.replace && holds_something(data) {
        return Err(taken(
            data,
            "里面已有日志：确实要换掉，请加 --replace（旧的会另存，不会删除）",
            "there is a journal in it: add --replace to replace it (the old one is set aside, never deleted)",
        ));
    }
    fits(data, manifest.bytes())?;
    let ready = data.join(READY);
    let stale = remove_ready(&ready);
    let made = stale.and_then(|()| DirBuilder::new().mode(FOLDER_MODE).create(&ready));
    made.map_err(|error| BackupError::failed(&ready, &error))?;
    let note = make_ready(backup, &manifest, &ready, into.now).await;
    let note = note.inspect_err(|_| drop(remove_ready(&ready)))?;
    let put = put_in_force(data, &ready, into.now);
    let aside = put.map_err(|error| BackupError::failed(data, &error))?;
    Ok(Restored { manifest, aside, note })
}

fn taken(data: &Path, zh: &str, en: &str) -> BackupError {
    let data = data.display();
    BackupError::new(Trouble::Taken, &format!("{data}：{zh}"), &format!("{data}: {en}"))
}

/// Whether there is a journal that somebody may miss. One that cannot be read may be missed as well.
fn holds_something(data: &Path) -> bool {
    let file = data.join(JOURNAL);
    match fs::metadata(&file) {
        Err(_) => data.join(RESCUED).exists(),
        Ok(found) if found.len() == 0 => false,
        Ok(_) => Archive::open(data)
            .ok()
            .and_then(|archive| archive.summary().ok())
            .is_none_or(|summary| summary.head > 0),
    }
}

/// Copies the database, leaves the stretch of numbers out, and writes the line of the duty log.
async fn make_ready(
    backup: &Path,
    manifest: &Manifest,
    ready: &Path,
    now: Timestamp,
) -> Result<Text, BackupError> {
    let path = ready.join(JOURNAL);
    let stored = manifest.files.iter().find(|file| file.role == Role::Journal);
    let stored =
        stored.ok_or_else(|| BackupError::not_whole(backup, "没有列出日志数据库", "lists no journal"))?;
    copy(&backup.join(&stored.path), &path).map_err(|error| BackupError::failed(&path, &error))?;
    let sum = manifest::sum(&path, &|| true).map_err(|error| BackupError::failed(&path, &error))?;
    if sum != Some((stored.bytes, stored.sha256.clone())) {
        return Err(BackupError::failed(&path, &"the copy differs from the backup"));
    }
    // Room for what is in it, whatever the limit of this box is: retention brings it down later.
    let limits = || Limits {
        bytes_max: stored.bytes.saturating_mul(2).max(Limits::default().bytes_max),
        ballast_bytes: 0,
        ..Limits::default()
    };
    let refused = |error: &dyn std::fmt::Display| BackupError::failed(&path, error);
    let (journal, _) = Journal::open(ready, limits(), Metrics::new()).map_err(|error| refused(&error))?;
    journal.leave_numbers_out().await.map_err(|error| refused(&error))?;
    drop(journal);
    let (journal, restored) =
        Journal::open(ready, limits(), Metrics::new()).map_err(|error| refused(&error))?;
    let text = told(manifest, now);
    let note = Note { kind: NoteKind::Journal, subject: "backup".into(), text: text.clone() };
    let entry = Entry {
        no: restored.head + 1,
        at: now,
        recorded: true,
        readings: Vec::new(),
        transitions: Vec::new(),
        notes: vec![note],
    };
    journal.append(Write::of(entry)).await.map_err(|error| refused(&error))?;
    drop(journal);
    Ok(text)
}

fn told(manifest: &Manifest, now: Timestamp) -> Text {
    let newest = local_or_unknown(manifest.journal.newest_ms);
    let (made, now, host, head) =
        (local(manifest.made_at()), local(now), &manifest.of.host, manifest.journal.head);
    Text::new(
        &format!(
            "由备份恢复（{now}）：备份做于 {made}，主机 {host}，记录到第 {head} 条（{newest}）为止；此后的记录不在这里，请人工核对现场未关闭的报警"
        ),
        &format!(
            "restored from a backup ({now}): made {made} on {host}, it ends with entry {head} ({newest}); what was written after that is not here. Check the open hazards on site"
        ),
    )
}

/// The old journal aside, the new one into its place.
fn put_in_force(data: &Path, ready: &Path, now: Timestamp) -> io::Result<Option<PathBuf>> {
    let file = data.join(JOURNAL);
    let beside = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let name = |n: u32| data.join(format!("{JOURNAL}.before-restore-{}-{n}", super::make::stamp(now)));
    let free = || (1..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
    let mut aside = None;
    let rescued = data.join(RESCUED);
    if rescued.exists() {
        aside = Some(free());
        fs::rename(&rescued, free())?;
    }
    if file.exists() {
        // The log belongs to the file; the index beside it is made anew.
        aside = Some(free());
        fs::rename(&file, free())?;
    }
    let log = beside(&file, "-wal");
    match &aside {
        Some(aside) if log.exists() => fs::rename(&log, beside(aside, "-wal"))?,
        _ => drop(fs::remove_file(&log)),
    }
    let _gone_if_there = fs::remove_file(beside(&file, "-shm"));
    let prepared = ready.join(JOURNAL);
    give_to_owner_of(data, &prepared);
    File::open(&prepared)?.sync_all()?;
    fs::rename(&prepared, &file)?;
    File::open(data)?.sync_all()?;
    remove_ready(ready)?;
    Ok(aside)
}

/// Removes what an earlier attempt left.
fn remove_ready(ready: &Path) -> io::Result<()> {
    match fs::remove_dir_all(ready) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

/// A person restores as root; the gateway runs under its own account, which owns the folder.
fn give_to_owner_of(folder: &Path, path: &Path) {
    if let Ok(owner) = fs::metadata(folder) {
        // Only root may give away, and only root needs to.
        let _given = std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()));
    }
}

/// What became of the configuration files of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// Written.
    pub written: Vec<PathBuf>,
    /// To be copied by hand: where it lies in the backup (if it does), and where it was.
    pub by_hand: Vec<(Option<PathBuf>, PathBuf)>,
}

/// Puts `gateway.toml`, the plan and the profiles of a verified backup into a fresh folder, under their relative names.
/// Files that lay elsewhere, and secrets, are only told: where they belong on this box is for a person to say.
///
/// Errors: one of the files is there already and is another one; nothing is written then.
pub fn place_configuration(backup: &Path, manifest: &Manifest, folder: &Path) -> Result<Placed, BackupError> {
    let mut placed = Placed::default();
    let mut plan: Vec<(PathBuf, PathBuf)> = Vec::new();
    for file in manifest.files.iter().filter(|file| file.role != Role::Journal) {
        let from = backup.join(&file.path);
        match file.path.strip_prefix("config/") {
            Some(below) => plan.push((from, folder.join(below))),
            None => placed.by_hand.push((Some(from), file.from.clone())),
        }
    }
    placed.by_hand.extend(manifest.left_out.iter().map(|left| (None, left.from.clone())));
    let same = |from: &Path, to: &Path| matches!((fs::read(from), fs::read(to)), (Ok(a), Ok(b)) if a == b);
    if let Some((_, there)) = plan.iter().find(|(from, to)| to.exists() && !same(from, to)) {
        return Err(taken(
            there,
            "已有不同的文件，不覆盖：请指定一个新的目录",
            "another file is there and is not overwritten: name a fresh folder",
        ));
    }
    for (from, to) in plan.into_iter().filter(|(_, to)| !to.exists()) {
        let parent = to.parent().unwrap_or(folder);
        let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(parent);
        let written = made.and_then(|()| copy(&from, &to));
        written.map_err(|error| BackupError::failed(&to, &error))?;
        give_to_owner_of(folder, &to);
        placed.written.push(to);
    }
    Ok(placed)
}
