//! A disk that fails as disks do, mounted by FUSE from this process: a power cut takes what was not synced, writes find
//! no room or an I/O error, syncs stall, the whole of it is suddenly read-only. What a cut leaves is in [`platter`].

#![expect(clippy::cast_possible_truncation, reason = "a block's size, and offsets on a 64-bit machine")]

mod platter;

pub(crate) use fuser::Errno;
use fuser::{
    BsdFileFlags, Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use platter::{BLOCK, Node, Platter, ROOT};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Requests served at the same time: one that stalls must not hold up the others.
const THREADS: usize = 4;
/// Names are asked for each time, since a cut gives new numbers; what a number stands for never changes behind the
/// kernel's back.
const NAMES_KEPT: Duration = Duration::ZERO;
const ATTRIBUTES_KEPT: Duration = Duration::from_secs(3600);

/// The disk, as a test holds it. It is served by a process of its own: SQLite maps a file of the disk into memory, and a
/// process that has to serve its own page faults would wait for itself.
pub(crate) struct BadDisk {
    at: PathBuf,
    server: Mutex<Server>,
    _home: Option<TempDir>,
}

struct Server {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Before each answer of the server, since the test harness says things as well.
const ANSWER: &str = "@ ";
/// Where the server mounts.
const AT: &str = "FENGSUI_BAD_DISK_AT";

struct Shared {
    platter: Mutex<Platter>,
    trouble: Mutex<Trouble>,
}

/// What goes wrong, and what was done so far.
#[derive(Default)]
struct Trouble {
    /// Operations that change something or sync it.
    operations: u64,
    syncs: u64,
    dead: bool,
    dies_at: Option<u64>,
    failing: Option<(Range<u64>, Errno)>,
    read_only: bool,
    stall: Option<(Duration, u64)>,
    room: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Remove,
    Sync,
}

impl BadDisk {
    /// In a directory of its own.
    pub(crate) fn new() -> Self {
        let home = TempDir::new().unwrap();
        let mut disk = Self::mount(home.path());
        disk._home = Some(home);
        disk
    }

    /// Over a directory that is there.
    pub(crate) fn mount(at: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "support::bad_disk::serve_a_bad_disk", "--ignored", "--nocapture"])
            .env(AT, at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let disk =
            Self { at: at.to_owned(), server: Mutex::new(Server { child, orders, answers }), _home: None };
        disk.order("operations");
        disk
    }

    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    fn order(&self, order: &str) -> u64 {
        let mut server = self.server.lock().unwrap();
        writeln!(server.orders, "{order}").expect(MOUNTS);
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(server.answers.read_line(&mut line).unwrap(), 0, "{MOUNTS}");
            if let Some(at) = line.find(ANSWER) {
                return line[at + ANSWER.len()..].trim().parse().unwrap();
            }
        }
    }

    /// Changes and syncs that were asked for so far.
    pub(crate) fn operations(&self) -> u64 {
        self.order("operations")
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.order("syncs")
    }

    /// From the `nth` operation from now on (1: the next one), `times` of them fail.
    pub(crate) fn fail(&self, nth: u64, times: u64, error: Errno) {
        self.order(&format!("fail {nth} {times} {}", error.code()));
    }

    /// Nothing fails or stalls any more, and there is room.
    pub(crate) fn heal(&self) {
        self.order("heal");
    }

    pub(crate) fn read_only(&self, read_only: bool) {
        self.order(&format!("read-only {}", u8::from(read_only)));
    }

    /// One sync in `one_in` takes so long.
    pub(crate) fn stall(&self, long: Duration, one_in: u64) {
        self.order(&format!("stall {} {one_in}", long.as_millis()));
    }

    /// So many more bytes, and then it is full.
    pub(crate) fn room(&self, more: u64) {
        self.order(&format!("room {more}"));
    }

    /// The power goes, and from now on nothing can be written.
    pub(crate) fn cut(&self) {
        self.order("cut");
    }

    /// The power goes before the `nth` operation from now.
    pub(crate) fn cut_before(&self, nth: u64) {
        self.order(&format!("cut-before {nth}"));
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.order("is-dead") == 1
    }

    /// The power is back. What was not synced is gone, all or in part, as the seed has it. Says how many blocks and
    /// names were lost.
    pub(crate) fn power_on(&self, seed: u64) -> u64 {
        self.order(&format!("power-on {seed}"))
    }
}

const MOUNTS: &str = "FUSE can be mounted: run as root, or install fuse3 (apt-get install fuse3)";

impl Drop for BadDisk {
    fn drop(&mut self) {
        // The end of the process ends the file system, whoever may still have a file of it open.
        if let Ok(server) = self.server.get_mut() {
            server.child.kill().ok();
            server.child.wait().ok();
        }
        let undone = Command::new("umount").arg("-l").arg(&self.at).stderr(Stdio::null()).status();
        if !undone.is_ok_and(|status| status.success()) {
            Command::new("fusermount3").arg("-uz").arg(&self.at).stderr(Stdio::null()).status().ok();
        }
    }
}

/// The process that serves a disk, as long as the test that started it lives.
#[test]
#[ignore = "started by the tests that need a disk"]
fn serve_a_bad_disk() {
    let Some(at) = std::env::var_os(AT) else { return };
    let shared =
        Arc::new(Shared { platter: Mutex::new(Platter::new()), trouble: Mutex::new(Trouble::default()) });
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("bad-disk".to_owned()), MountOption::NoAtime];
    config.n_threads = Some(THREADS);
    let _session = fuser::spawn_mount(Driver(shared.clone()), Path::new(&at), &config).expect(MOUNTS);
    for order in std::io::stdin().lines().map_while(Result::ok) {
        println!("{ANSWER}{}", shared.obey(&order));
    }
}

impl Shared {
    fn obey(&self, order: &str) -> u64 {
        let mut words = order.split(' ');
        let verb = words.next().unwrap();
        let number: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
        let used = self.platter.lock().unwrap().used();
        let mut trouble = self.trouble.lock().unwrap();
        let now = trouble.operations;
        match verb {
            "operations" => return now,
            "syncs" => return trouble.syncs,
            "is-dead" => return u64::from(trouble.dead),
            "fail" => {
                let from = now + number[0];
                let error = Errno::from_i32(i32::try_from(number[2]).unwrap());
                trouble.failing = Some((from..from.saturating_add(number[1]), error));
            }
            "heal" => {
                (trouble.failing, trouble.read_only) = (None, false);
                (trouble.stall, trouble.room) = (None, None);
            }
            "read-only" => trouble.read_only = number[0] == 1,
            "stall" => trouble.stall = Some((Duration::from_millis(number[0]), number[1])),
            "room" => trouble.room = Some(used + number[0]),
            "cut" => trouble.dead = true,
            "cut-before" => trouble.dies_at = Some(now + number[0]),
            "power-on" => {
                (trouble.dead, trouble.dies_at) = (false, None);
                drop(trouble);
                let lost = self.platter.lock().unwrap().cut(number[0]);
                return (lost.names + lost.blocks + lost.torn) as u64;
            }
            _ => panic!("{order}"),
        }
        0
    }

    /// Whether such an operation may go on.
    fn admit(&self, kind: Kind) -> Result<(), Errno> {
        let stall = {
            let mut trouble = self.trouble.lock().unwrap();
            trouble.operations += 1;
            trouble.syncs += u64::from(kind == Kind::Sync);
            let (now, syncs) = (trouble.operations, trouble.syncs);
            trouble.dead |= trouble.dies_at.is_some_and(|at| now >= at);
            if trouble.dead {
                return Err(Errno::EIO);
            }
            if trouble.read_only {
                return Err(Errno::EROFS);
            }
            if let Some((range, error)) = &trouble.failing
                && range.contains(&now)
                && !(kind == Kind::Remove && *error == Errno::ENOSPC)
            {
                return Err(*error);
            }
            trouble.stall.filter(|(_, one_in)| kind == Kind::Sync && syncs.is_multiple_of(*one_in))
        };
        if let Some((long, _)) = stall {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is the stall itself, on the disk's own thread"
            )]
            std::thread::sleep(long);
        }
        Ok(())
    }

    fn has_room(&self, more: usize) -> Result<(), Errno> {
        let room = self.trouble.lock().unwrap().room;
        match room {
            Some(room) if self.platter.lock().unwrap().used() + more as u64 > room => Err(Errno::ENOSPC),
            _ => Ok(()),
        }
    }

    fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        let platter = self.platter.lock().unwrap();
        let (kind, mode, size) = match platter.node(number).ok_or(Errno::ENOENT)? {
            Node::File(file) => (FileType::RegularFile, file.mode, file.now.len() as u64),
            Node::Folder(folder) => (FileType::Directory, folder.mode, BLOCK as u64),
        };
        let owner = std::os::unix::fs::MetadataExt::uid;
        let myself = std::fs::metadata("/proc/self").map_or(0, |found| owner(&found));
        let time = SystemTime::UNIX_EPOCH;
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: mode,
            nlink: 1,
            uid: myself,
            gid: myself,
            rdev: 0,
            blksize: BLOCK as u32,
            flags: 0,
        })
    }

    fn find(&self, folder: u64, name: &OsStr) -> Result<u64, Errno> {
        let platter = self.platter.lock().unwrap();
        platter.folder(folder).and_then(|folder| folder.now.get(name).copied()).ok_or(Errno::ENOENT)
    }

    fn make(&self, folder: u64, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        self.admit(Kind::Write)?;
        self.has_room(1)?;
        let made = self.platter.lock().unwrap().make(folder, name, node);
        self.attributes(made.ok_or(Errno::EIO)?)
    }

    fn remove(&self, folder: u64, name: &OsStr) -> Result<(), Errno> {
        self.admit(Kind::Remove)?;
        self.platter.lock().unwrap().remove(folder, name).ok_or(Errno::ENOENT)
    }

    fn write(&self, number: u64, at: u64, bytes: &[u8], from_map: bool) -> Result<(), Errno> {
        // What the kernel writes back of a memory map comes whenever it likes: it is neither counted nor refused.
        if !from_map {
            self.admit(Kind::Write)?;
            self.has_room(bytes.len())?;
        }
        let at = usize::try_from(at).map_err(|_| Errno::EINVAL)?;
        self.platter.lock().unwrap().write(number, at, bytes).ok_or(Errno::EIO)
    }

    fn resize(&self, number: u64, length: u64) -> Result<(), Errno> {
        self.admit(Kind::Write)?;
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        self.platter.lock().unwrap().resize(number, length).ok_or(Errno::EIO)
    }

    fn sync(&self, number: u64) -> Result<(), Errno> {
        match self.admit(Kind::Sync) {
            Ok(()) => self.platter.lock().unwrap().sync_file(number).ok_or(Errno::EIO),
            Err(error) => {
                if error == Errno::EIO && !self.trouble.lock().unwrap().dead {
                    self.platter.lock().unwrap().sync_failed(number);
                }
                Err(error)
            }
        }
    }
}

/// What the kernel talks to.
struct Driver(Arc<Shared>);

impl Filesystem for Driver {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.0.find(parent.0, name).and_then(|number| self.0.attributes(number)) {
            Ok(found) => reply.entry_with_ttls(&ATTRIBUTES_KEPT, &NAMES_KEPT, &found, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.attributes(ino.0) {
            Ok(found) => reply.attr(&ATTRIBUTES_KEPT, &found),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = size.map_or(Ok(()), |size| self.0.resize(ino.0, size));
        match resized.and_then(|()| self.0.attributes(ino.0)) {
            Ok(found) => reply.attr(&ATTRIBUTES_KEPT, &found),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        match self.0.make(parent.0, name, Node::folder(rights(mode, umask))) {
            Ok(made) => reply.entry_with_ttls(&ATTRIBUTES_KEPT, &NAMES_KEPT, &made, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.0.remove(parent.0, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.0.remove(parent.0, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.0.admit(Kind::Write).and_then(|()| {
            let (from, to) = ((parent.0, name), (newparent.0, newname));
            self.0.platter.lock().unwrap().rename(from, to).ok_or(Errno::ENOENT)
        });
        done(renamed, reply);
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let refused = self.0.trouble.lock().unwrap().read_only && flags.acc_mode() != OpenAccMode::O_RDONLY;
        if refused {
            reply.error(Errno::EROFS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.0.make(parent.0, name, Node::file(rights(mode, umask))) {
            Ok(made) => {
                reply.created(&NAMES_KEPT, &made, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE)
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let platter = self.0.platter.lock().unwrap();
        let Some(Node::File(file)) = platter.node(ino.0) else { return reply.error(Errno::EIO) };
        let from = usize::try_from(offset).unwrap().min(file.now.len());
        reply.data(&file.now[from..file.now.len().min(from + size as usize)]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        write_flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let from_map = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        match self.0.write(ino.0, offset, bytes, from_map) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap()),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.0.sync(ino.0), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = self.0.admit(Kind::Sync).map(|()| self.0.platter.lock().unwrap().sync_folder(ino.0));
        done(synced, reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let platter = self.0.platter.lock().unwrap();
        let Some(folder) = platter.folder(ino.0) else { return reply.error(Errno::ENOENT) };
        let dots = [(OsStr::new("."), ino.0), (OsStr::new(".."), ROOT)];
        let names = folder.now.iter().map(|(name, number)| (name.as_os_str(), *number));
        for (index, (name, number)) in (1_u64..).zip(dots.into_iter().chain(names)).skip(offset as usize) {
            let kind = match platter.node(number) {
                Some(Node::File(_)) => FileType::RegularFile,
                _ => FileType::Directory,
            };
            if reply.add(INodeNo(number), index, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let used = self.0.platter.lock().unwrap().used();
        let room = self.0.trouble.lock().unwrap().room.unwrap_or(used + (8 << 30));
        let block = BLOCK as u64;
        let free = room.saturating_sub(used) / block;
        reply.statfs(room / block, free, free, 1 << 20, 1 << 20, BLOCK as u32, 255, BLOCK as u32);
    }
}

fn done(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn rights(mode: u32, umask: u32) -> u16 {
    u16::try_from(mode & 0o7777 & !umask).unwrap()
}
