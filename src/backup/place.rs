//! The folder that backups go to: whether it is there, mounted, and has room.

use super::{BackupError, Trouble};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Left free on the target beside a backup: what the file system itself needs.
const SPARE_BYTES: u64 = 4 << 20;

/// Folders below which things are plugged in. On the bare folder itself nothing is written: with the stick away it is the
/// box's own card.
const PLUGGED_IN: [&str; 3] = ["/media", "/mnt", "/run/media"];

/// What is mounted, and what should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts {
    /// Mount points there are.
    there: Vec<PathBuf>,
    /// Mount points that `/etc/fstab` names.
    wanted: Vec<PathBuf>,
}

impl Mounts {
    /// Of this machine.
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&text("/proc/self/mounts"), &text("/etc/fstab"))
    }

    fn parse(there: &str, fstab: &str) -> Self {
        let points = |text: &str| {
            let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
            let points = lines.filter_map(|line| line.split_ascii_whitespace().nth(1).map(unescape));
            points.filter(|point| point.starts_with('/')).map(PathBuf::from).collect()
        };
        Self { there: points(there), wanted: points(fstab) }
    }

    /// The mount point on the way to `dir` on which nothing is mounted although something should be.
    pub fn bare(&self, dir: &Path) -> Option<PathBuf> {
        let fstab = self.wanted.iter().filter(|point| dir.starts_with(point) && point.parent().is_some());
        if let Some(point) = fstab.clone().find(|point| !self.there.contains(point)) {
            return Some(point.clone());
        }
        let plugged = PLUGGED_IN.iter().map(Path::new).find(|folder| dir.starts_with(folder))?;
        let mounted = self.there.iter().any(|point| point.starts_with(plugged) && dir.starts_with(point));
        (!mounted).then(|| dir.components().take(plugged.components().count() + 1).collect())
    }
}

/// `/proc/self/mounts` and fstab write a space as `\040`.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

/// Whether backups can be made in this folder.
///
/// Errors: it is not there, no folder, or what should be mounted is not.
pub fn usable(dir: &Path, mounts: &Mounts) -> Result<PathBuf, BackupError> {
    let shown = dir.display();
    // Looked at first: an automounter mounts on this very question.
    let found = fs::metadata(dir);
    let full = dir.canonicalize().or_else(|_| std::path::absolute(dir)).unwrap_or_else(|_| dir.to_owned());
    if let Some(point) = mounts.bare(&full) {
        let point = point.display();
        return Err(BackupError::new(
            Trouble::Missing,
            &format!(
                "备份目录 {shown} 所在的 {point} 没有挂载：U 盘没插好，或没有挂载。为了不写到本机的盘上，没有备份"
            ),
            &format!(
                "nothing is mounted on {point}, where the backup folder {shown} is: is the stick plugged in and mounted? Nothing was written to the box's own disk"
            ),
        ));
    }
    match found {
        Ok(found) if found.is_dir() => Ok(full),
        Ok(_) => Err(BackupError::new(
            Trouble::Missing,
            &format!("{shown} 不是目录：备份目录要是一个目录"),
            &format!("{shown} is no folder: backups are made in a folder"),
        )),
        Err(error) => Err(BackupError::new(
            Trouble::Missing,
            &format!(
                "备份目录 {shown} 不存在（{error}）：请插好并挂载 U 盘；第一次使用，请先在上面建立这个目录：mkdir {shown}"
            ),
            &format!(
                "the backup folder {shown} is not there ({error}): plug the stick in and mount it; the first time make the folder on it: mkdir {shown}"
            ),
        )),
    }
}

/// A file system, as an ordinary account may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes in all.
    pub size: u64,
    /// Whether it may only be read.
    pub read_only: bool,
    /// Whether this account may make files there.
    pub writable: bool,
    /// The device, to tell two file systems apart.
    pub device: u64,
}

/// The room where a file or folder lies; `None`: it cannot be told.
pub fn room(path: &Path) -> Option<Room> {
    let found = rustix::fs::statvfs(path).ok()?;
    let device = fs::metadata(path).ok()?.dev();
    let block = found.f_frsize;
    Some(Room {
        free: found.f_bavail.saturating_mul(block),
        size: found.f_blocks.saturating_mul(block),
        read_only: found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        writable: rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok(),
        device,
    })
}

/// Refuses when so many bytes do not fit.
pub(super) fn fits(dir: &Path, bytes: u64) -> Result<(), BackupError> {
    let Some(Room { free, .. }) = room(dir) else { return Ok(()) };
    let needed = bytes.saturating_add(SPARE_BYTES);
    if free >= needed {
        return Ok(());
    }
    let (shown, needed, free) = (dir.display(), mib(needed), mib(free));
    Err(BackupError::new(
        Trouble::NoRoom,
        &format!(
            "{shown} 放不下：需要 {needed} MiB，只剩 {free} MiB。请换大一点的盘，或删掉旧备份（旧备份要等新的验证完才自动删除）"
        ),
        &format!(
            "{shown} has no room: {needed} MiB are needed, {free} MiB are free. Use a larger disk, or delete old backups (by itself that is done only after a new one was verified)"
        ),
    ))
}

/// Whole MiB, rounded up.
pub(super) fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/dev/mmcblk0p2 / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n";

    fn bare(there: &str, fstab: &str, dir: &str) -> Option<String> {
        let mounts = Mounts::parse(&format!("{ROOT}{there}"), fstab);
        mounts.bare(Path::new(dir)).map(|point| point.display().to_string())
    }

    #[test]
    fn a_stick_that_is_away_is_not_written_to() {
        assert_eq!(bare("", "", "/media/usb/fengsui").as_deref(), Some("/media/usb"));
        assert_eq!(bare("", "", "/run/media/pi/USB/fengsui").as_deref(), Some("/run/media/pi"));
        assert_eq!(bare("/dev/sda1 /media/usb vfat rw 0 0\n", "", "/media/usb/fengsui"), None);
        assert_eq!(
            bare("/dev/sda1 /media/usb2 vfat rw 0 0\n", "", "/media/usb/x").as_deref(),
            Some("/media/usb")
        );
        assert_eq!(bare("/dev/sda1 /mnt/my\\040stick vfat rw 0 0\n", "", "/mnt/my stick/fengsui"), None);
        assert_eq!(bare("/dev/sdb1 /mnt ext4 rw 0 0\n", "", "/mnt/fengsui"), None);
    }

    #[test]
    fn what_fstab_names_must_be_mounted() {
        let fstab = "# a share\nUUID=1 / ext4 defaults 0 1\nnas:/backup /srv/backup nfs nofail 0 0\nUUID=2 none swap sw 0 0\n";
        assert_eq!(bare("", fstab, "/srv/backup/fengsui").as_deref(), Some("/srv/backup"));
        assert_eq!(bare("nas:/backup /srv/backup nfs rw 0 0\n", fstab, "/srv/backup/fengsui"), None);
        assert_eq!(bare("", fstab, "/srv/other"), None);
        assert_eq!(bare("", fstab, "/home/duty/backups"), None, "an ordinary folder is taken as it is");
    }
}
