//! What a disk with a volatile cache holds: what everybody sees now, and what is there after the power was cut.
//!
//! The model, as harsh as POSIX allows and harsher than ext4 with `data=ordered`:
//! - `fsync` and `fdatasync` of a file make its blocks and its length safe, and nothing else: not its name.
//! - Names (create, remove, rename, make a directory) change in one order for the whole disk, as in a journal of
//!   metadata. `fsync` of a directory makes safe what changed in it, and all that changed before. At a cut some first
//!   part of the other changes is kept.
//! - At a cut each 4 KiB block written since its file's last `fsync` is kept, dropped, or torn: each of its 512-byte
//!   sectors is then as it was or as one of the last writes left it. Blocks come in no order.
//! - A length that was not synced is the old one, the new one or any block's end between; what was not written reads
//!   as zeros. A file that was cut off may be whole again.
//! - After a failed `fsync` the blocks it should have written are lost to later ones too, as Linux has it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

pub(crate) const BLOCK: usize = 4096;
const SECTOR: usize = 512;
/// Of a block that is written again and again between two syncs, the last so many versions may be met after a cut.
const VERSIONS_MAX: usize = 4;
/// The root directory's number.
pub(crate) const ROOT: u64 = 1;

/// A file or a directory.
pub(crate) enum Node {
    File(File),
    Folder(Folder),
}

#[derive(Default)]
pub(crate) struct File {
    pub(crate) now: Vec<u8>,
    pub(crate) mode: u16,
    safe: Vec<u8>,
    /// The versions of each block that was written since the last sync.
    written: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The least length since the last sync, if the file was cut off.
    cut_to: Option<usize>,
}

#[derive(Default)]
pub(crate) struct Folder {
    pub(crate) now: BTreeMap<OsString, u64>,
    pub(crate) mode: u16,
    safe: BTreeMap<OsString, u64>,
}

/// A change of names that is not yet safe.
enum Renamed {
    Put { folder: u64, name: OsString, node: u64 },
    Gone { folder: u64, name: OsString },
    Moved { from: (u64, OsString), to: (u64, OsString), node: u64 },
}

impl Node {
    pub(crate) fn file(mode: u16) -> Self {
        Self::File(File { mode, ..File::default() })
    }

    pub(crate) fn folder(mode: u16) -> Self {
        Self::Folder(Folder { mode, ..Folder::default() })
    }
}

impl Renamed {
    fn touches(&self, number: u64) -> bool {
        match self {
            Self::Put { folder, .. } | Self::Gone { folder, .. } => *folder == number,
            Self::Moved { from, to, .. } => from.0 == number || to.0 == number,
        }
    }
}

/// What a cut took away.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Lost {
    pub(crate) names: usize,
    pub(crate) blocks: usize,
    pub(crate) torn: usize,
}

pub(crate) struct Platter {
    nodes: BTreeMap<u64, Node>,
    /// What a process that outlived the power may still look at (its memory maps), not change.
    ghosts: BTreeMap<u64, Node>,
    pending: Vec<Renamed>,
    next: u64,
}

impl Platter {
    pub(crate) fn new() -> Self {
        let root = Node::folder(0o755);
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            ghosts: BTreeMap::new(),
            pending: Vec::new(),
            next: ROOT + 1,
        }
    }

    pub(crate) fn node(&self, number: u64) -> Option<&Node> {
        self.nodes.get(&number).or_else(|| self.ghosts.get(&number))
    }

    pub(crate) fn folder(&self, number: u64) -> Option<&Folder> {
        match self.node(number) {
            Some(Node::Folder(folder)) => Some(folder),
            _ => None,
        }
    }

    /// Only one that is there: nothing is written to a ghost.
    fn file(&mut self, number: u64) -> Option<&mut File> {
        match self.nodes.get_mut(&number) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    fn living(&mut self, number: u64) -> Option<&mut Folder> {
        match self.nodes.get_mut(&number) {
            Some(Node::Folder(folder)) => Some(folder),
            _ => None,
        }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        let length = |node: &Node| if let Node::File(file) = node { file.now.len() as u64 } else { 0 };
        self.nodes.values().map(length).sum()
    }

    pub(crate) fn make(&mut self, folder: u64, name: &OsStr, node: Node) -> Option<u64> {
        let number = self.next;
        self.living(folder)?.now.insert(name.to_owned(), number);
        self.next += 1;
        self.nodes.insert(number, node);
        self.pending.push(Renamed::Put { folder, name: name.to_owned(), node: number });
        Some(number)
    }

    pub(crate) fn remove(&mut self, folder: u64, name: &OsStr) -> Option<()> {
        self.living(folder)?.now.remove(name)?;
        self.pending.push(Renamed::Gone { folder, name: name.to_owned() });
        Some(())
    }

    pub(crate) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Option<()> {
        let node = self.living(from.0)?.now.remove(from.1)?;
        self.living(to.0)?.now.insert(to.1.to_owned(), node);
        let (from, to) = ((from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
        self.pending.push(Renamed::Moved { from, to, node });
        Some(())
    }

    pub(crate) fn write(&mut self, number: u64, at: usize, bytes: &[u8]) -> Option<()> {
        let file = self.file(number)?;
        let end = at + bytes.len();
        if file.now.len() < end {
            file.now.resize(end, 0);
        }
        file.now[at..end].copy_from_slice(bytes);
        for block in at / BLOCK..end.div_ceil(BLOCK) {
            let part = &file.now[block * BLOCK..file.now.len().min((block + 1) * BLOCK)];
            let versions = file.written.entry(block).or_default();
            if versions.len() == VERSIONS_MAX {
                versions.remove(0);
            }
            versions.push(part.to_vec());
        }
        Some(())
    }

    pub(crate) fn resize(&mut self, number: u64, length: usize) -> Option<()> {
        let file = self.file(number)?;
        if length < file.now.len() {
            file.cut_to = Some(file.cut_to.unwrap_or(length).min(length));
            file.written.retain(|block, _| block * BLOCK < length);
        }
        file.now.resize(length, 0);
        Some(())
    }

    pub(crate) fn sync_file(&mut self, number: u64) -> Option<()> {
        let file = self.file(number)?;
        if let Some(cut_to) = file.cut_to.take() {
            file.safe.truncate(cut_to);
        }
        file.safe.resize(file.now.len(), 0);
        for block in std::mem::take(&mut file.written).into_keys() {
            let place = block * BLOCK..file.now.len().min((block + 1) * BLOCK);
            if !place.is_empty() {
                file.safe[place.clone()].copy_from_slice(&file.now[place]);
            }
        }
        Some(())
    }

    /// The sync failed: what it should have written is lost, and no later sync knows of it.
    pub(crate) fn sync_failed(&mut self, number: u64) {
        if let Some(file) = self.file(number) {
            file.written.clear();
        }
    }

    pub(crate) fn sync_folder(&mut self, number: u64) {
        let last = self.pending.iter().rposition(|change| change.touches(number));
        let safe: Vec<Renamed> = self.pending.drain(..last.map_or(0, |last| last + 1)).collect();
        safe.into_iter().for_each(|change| self.settle(change));
    }

    fn settle(&mut self, change: Renamed) {
        match change {
            Renamed::Put { folder, name, node } => {
                self.living(folder).map(|folder| folder.safe.insert(name, node));
            }
            Renamed::Gone { folder, name } => {
                self.living(folder).map(|folder| folder.safe.remove(&name));
            }
            Renamed::Moved { from, to, node } => {
                self.living(from.0).map(|folder| folder.safe.remove(&from.1));
                self.living(to.0).map(|folder| folder.safe.insert(to.1, node));
            }
        }
    }

    /// The power goes and comes back: what was not safe is gone, all or in part. Everything gets a new number, so that
    /// whoever still has a file open finds it dead.
    pub(crate) fn cut(&mut self, seed: u64) -> Lost {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pending = std::mem::take(&mut self.pending);
        let kept = random.usize(0..=pending.len());
        let mut lost = Lost { names: pending.len() - kept, ..Lost::default() };
        pending.drain(..kept).for_each(|change| self.settle(change));
        // Sometimes the cache was nearly all written, sometimes not at all.
        let kept_percent = [0, 50, 90, 100][random.usize(0..4)];
        let mut old = std::mem::take(&mut self.nodes);
        self.carry_over(&mut old, ROOT, ROOT, kept_percent, &mut random, &mut lost);
        self.ghosts = old;
        lost
    }

    fn carry_over(
        &mut self,
        old: &mut BTreeMap<u64, Node>,
        number: u64,
        new: u64,
        kept_percent: u8,
        random: &mut fastrand::Rng,
        lost: &mut Lost,
    ) {
        let Some(node) = old.get_mut(&number) else { return };
        match node {
            Node::File(file) => {
                let now = file.after_cut(kept_percent, random, lost);
                let file = File { safe: now.clone(), now, mode: file.mode, ..File::default() };
                self.nodes.insert(new, Node::File(file));
            }
            Node::Folder(folder) => {
                let (names, mode) = (folder.safe.clone(), folder.mode);
                let mut fresh = Folder { mode, ..Folder::default() };
                for (name, number) in names {
                    let new = self.next;
                    self.next += 1;
                    fresh.now.insert(name, new);
                    self.carry_over(old, number, new, kept_percent, random, lost);
                }
                fresh.safe.clone_from(&fresh.now);
                self.nodes.insert(new, Node::Folder(fresh));
            }
        }
    }
}

impl File {
    fn after_cut(&self, kept_percent: u8, random: &mut fastrand::Rng, lost: &mut Lost) -> Vec<u8> {
        let mut left = self.safe.clone();
        let mut written: Vec<_> = self.written.iter().collect();
        match self.cut_to {
            Some(cut_to) if random.bool() => left.truncate(cut_to),
            // Neither that it was cut off nor anything behind the cut has come to the disk.
            Some(cut_to) => written.retain(|(block, _)| (*block + 1) * BLOCK <= cut_to),
            None => {}
        }
        let grown = self.cut_to.is_none() || left.len() < self.safe.len();
        if grown && left.len() < self.now.len() {
            let between = left.len().div_ceil(BLOCK)..=self.now.len() / BLOCK;
            let some = if between.is_empty() { left.len() } else { random.usize(between) * BLOCK };
            let lengths = [left.len(), self.now.len(), some];
            left.resize(lengths[random.usize(0..3)].max(left.len()), 0);
        }
        for (block, versions) in written {
            let place = block * BLOCK..left.len().min((block + 1) * BLOCK);
            if place.is_empty() || random.u8(0..100) >= kept_percent {
                lost.blocks += 1;
                continue;
            }
            let torn = random.u8(0..4) == 0;
            lost.torn += usize::from(torn);
            let newest = versions.len() - 1;
            for (sector, place) in place.clone().step_by(SECTOR).enumerate() {
                let version = match (torn, random.bool()) {
                    (false, _) => newest,
                    (true, true) => random.usize(0..versions.len()),
                    (true, false) => continue,
                };
                let from = sector * SECTOR;
                let to = versions[version].len().min(from + SECTOR).min(from + left.len() - place);
                if from < to {
                    left[place..place + to - from].copy_from_slice(&versions[version][from..to]);
                }
            }
        }
        left
    }
}
