//! Deletes the oldest of one's own backups, and what was left of one that never got finished. Touches nothing else.

use super::{JOURNAL, MANIFEST, Manifest, Whence};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Deletes the oldest backups of `of` in `dir` until `keep` are left; `newest` is never deleted. Which went. A backup that
/// somebody put a file of his own into loses ours and stays as a folder.
pub(super) fn prune(dir: &Path, of: &Whence, keep: usize, newest: &Path) -> Vec<PathBuf> {
    let mut own = own(dir, of);
    own.retain(|(path, _)| path != newest);
    let surplus = (own.len() + 1).saturating_sub(keep.max(1));
    own.into_iter().take(surplus).filter_map(|(path, manifest)| remove(&path, &manifest)).collect()
}

/// The backups of a gateway in a folder, oldest first.
pub fn own(dir: &Path, of: &Whence) -> Vec<(PathBuf, Manifest)> {
    let whole = folders(dir, of).filter(|path| !is_left_over(path));
    let mut own: Vec<(PathBuf, Manifest)> = whole
        .filter_map(|path| {
            let manifest = Manifest::read(&path).ok()?;
            Some((path, manifest))
        })
        .filter(|(_, manifest)| manifest.of == *of)
        .collect();
    // By the journal's own numbers first: the clock may have been unset.
    own.sort_by_key(|(path, manifest)| (manifest.journal.head, manifest.at_ms, path.clone()));
    own
}

/// The folders that are named like backups of it.
fn folders(dir: &Path, of: &Whence) -> impl Iterator<Item = PathBuf> {
    let prefix = format!("fengsui-{}-", of.name);
    let found = fs::read_dir(dir).into_iter().flatten();
    found.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(move |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let named = name.strip_prefix(&prefix).is_some_and(is_stamp);
        // A link is somebody else's doing.
        named && !path.is_symlink() && path.is_dir()
    })
}

/// `20261122T055735Z`, with what may stand after it: `-2`, `.part`, `.old`. The site `a` must not take `a-b`'s for its own.
fn is_stamp(text: &str) -> bool {
    let stamp: Vec<u8> =
        text.bytes().take(16).map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }).collect();
    let rest = text.get(16..).unwrap_or("");
    stamp == b"00000000T000000Z" && (rest.is_empty() || rest.starts_with(['-', '.']))
}

fn is_left_over(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "part" || extension == "old")
}

/// Under another name first: half a backup must not look whole.
fn remove(path: &Path, manifest: &Manifest) -> Option<PathBuf> {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    let old = PathBuf::from(old);
    if let Err(error) = fs::rename(path, &old) {
        tracing::warn!(%error, backup = %path.display(), "an old backup could not be deleted");
        return None;
    }
    let names = manifest.files.iter().map(|file| file.path.as_str());
    remove_files(&old, names);
    Some(path.to_owned())
}

/// Removes what interrupted backups and deletions left of this gateway's.
pub(super) fn sweep_all(dir: &Path, of: &Whence) {
    folders(dir, of).filter(|path| is_left_over(path)).for_each(|path| sweep(&path));
}

/// Removes what is left of a backup that was interrupted, unless somebody may be writing it now.
fn sweep(part: &Path) {
    let free = File::open(part.join(MANIFEST)).is_ok_and(|file| file.try_lock_shared().is_ok());
    if free {
        remove_half(part);
    }
}

/// Removes a backup that was not finished.
pub(super) fn remove_half(part: &Path) {
    let below = ["config", "outside", "secrets"].iter().flat_map(|folder| files_below(&part.join(folder), 0));
    let names: Vec<String> = below
        .filter_map(|path| Some(path.strip_prefix(part).ok()?.to_string_lossy().into_owned()))
        .chain([JOURNAL.to_owned()])
        .collect();
    remove_files(part, names.iter().map(String::as_str));
}

/// Removes these files below a folder, its manifest, and every folder that is empty then.
fn remove_files<'n>(dir: &Path, names: impl Iterator<Item = &'n str>) {
    let mut folders = vec![dir.to_owned()];
    // What SQLite may have left beside the copy.
    let beside = ["-wal", "-shm", "-journal"].map(|end| format!("{JOURNAL}{end}"));
    let names = names.map(str::to_owned).chain(beside).chain([MANIFEST.to_owned()]);
    for name in names {
        let path = dir.join(&name);
        let _gone = fs::remove_file(&path);
        folders.extend(path.ancestors().skip(1).take_while(|folder| *folder != dir).map(Path::to_owned));
    }
    // The deepest first. One that holds somebody else's file stays.
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
    for folder in folders {
        let _gone_if_empty = fs::remove_dir(folder);
    }
}

fn files_below(folder: &Path, depth: usize) -> Vec<PathBuf> {
    /// `config/models/<vendor>/<model>.toml`, and a little more.
    const DEPTH_MAX: usize = 8;
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let found = found.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    found
        .flat_map(|path| match !path.is_symlink() && path.is_dir() && depth < DEPTH_MAX {
            true => files_below(&path, depth + 1),
            false => vec![path],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Journalled, Role, Stored};
    use super::*;
    use crate::model::Timestamp;

    fn whence(host: &str) -> Whence {
        Whence { name: "a".into(), host: host.into(), journal_dir: "/data".into(), folder: "/etc".into() }
    }

    fn backup(dir: &Path, name: &str, host: &str, head: u64) -> PathBuf {
        let path = dir.join(name);
        fs::create_dir_all(path.join("config/models")).unwrap();
        fs::write(path.join(JOURNAL), "x").unwrap();
        fs::write(path.join("config/models/m.toml"), "x").unwrap();
        let file = |path: &str, role| Stored {
            path: path.into(),
            role,
            from: "/x".into(),
            bytes: 1,
            sha256: String::new(),
        };
        let files = vec![file(JOURNAL, Role::Journal), file("config/models/m.toml", Role::Profile)];
        let journal = Journalled { format: 3, head, newest_ms: None, audit: String::new(), open_hazards: 0 };
        let manifest = Manifest::new(Timestamp::EPOCH, whence(host), journal, files, Vec::new());
        fs::write(path.join(MANIFEST), manifest.text()).unwrap();
        path
    }

    #[test]
    fn the_oldest_of_our_own_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        // Made under an unset clock, and yet newer than the second.
        let newest = backup(dir, "fengsui-a-19700101T000000Z", "box", 40);
        let kept = backup(dir, "fengsui-a-20260103T000000Z", "box", 30);
        let old = backup(dir, "fengsui-a-20260102T000000Z", "box", 20);
        let oldest = backup(dir, "fengsui-a-20260101T000000Z", "box", 10);
        let neighbour = backup(dir, "fengsui-a-20250101T000000Z", "other-box", 1);
        fs::write(oldest.join("notes.txt"), "a person's own").unwrap();
        backup(dir, "fengsui-a-b-20230101T000000Z.part", "box", 1);
        fs::create_dir(dir.join("fengsui-a-photos")).unwrap();
        fs::write(dir.join("fengsui-a-20240101T000000Z"), "a file").unwrap();
        fs::create_dir(dir.join("fengsui-a-20230101T000000Z.part")).unwrap();
        fs::write(dir.join("fengsui-a-20230101T000000Z.part").join(MANIFEST), "").unwrap();
        let writing = dir.join("fengsui-a-20230102T000000Z.part");
        fs::create_dir(&writing).unwrap();
        let held = File::create(writing.join(MANIFEST)).unwrap();
        held.lock().unwrap();

        sweep_all(dir, &whence("box"));
        let gone = prune(dir, &whence("box"), 2, &newest);
        assert_eq!(gone, [oldest.clone(), old.clone()]);
        let left: std::collections::BTreeSet<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = [
            name(&newest),
            name(&kept),
            name(&neighbour),
            name(&oldest) + ".old",
            "fengsui-a-photos".into(),
            "fengsui-a-b-20230101T000000Z.part".into(),
            "fengsui-a-20240101T000000Z".into(),
            name(&writing),
        ];
        assert_eq!(left, expected.into_iter().collect());
        let notes = dir.join(name(&oldest) + ".old").join("notes.txt");
        assert_eq!(fs::read_to_string(notes).unwrap(), "a person's own");
        assert_eq!(prune(dir, &whence("box"), 2, &newest), Vec::<PathBuf>::new());
    }
}
