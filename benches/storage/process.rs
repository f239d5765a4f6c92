//! What the kernel says of a process, a folder and a block device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server under measurement. It ends with its handle.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// The end without a warning.
    pub(crate) fn kill(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn proc_file(id: Option<u32>, name: &str) -> String {
    let who = id.map_or("self".to_owned(), |id| id.to_string());
    std::fs::read_to_string(format!("/proc/{who}/{name}")).unwrap()
}

/// Bytes that a process (`None`: this one) has caused to be written to disks.
pub(crate) fn bytes_written(id: Option<u32>) -> u64 {
    let text = proc_file(id, "io");
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap()
}

/// User and system seconds of all its threads.
pub(crate) fn cpu_seconds(id: Option<u32>) -> f64 {
    let text = proc_file(id, "stat");
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Resident memory now and at its largest, in MiB.
pub(crate) fn memory_mib(id: Option<u32>) -> (f64, f64) {
    let text = proc_file(id, "status");
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// Bytes of the files in a folder; 0 while it is not there.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => folder_bytes(&entry.path()),
        Ok(found) => found.len(),
        // Gone meanwhile: servers tidy up.
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, most: Duration, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + most;
    while !so() {
        assert!(Instant::now() < deadline, "not within {most:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A block device of its own: an ext4 file system in a file, on a loop device. Needs root and goes with its handle.
pub(crate) struct Disk {
    device: String,
    folder: PathBuf,
    mounted: bool,
}

/// Room for an hour of the busiest rate with plain rows.
const DISK_BYTES: u64 = 768 << 20;

impl Disk {
    /// `None` where this account may not mount.
    pub(crate) fn make(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let image = folder.with_extension("img");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        // The tables are written now and not by a kernel thread while we measure.
        let quick = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-N", "4096", "-E", quick]).arg(&image))?;
        let device = run(Command::new("/usr/sbin/losetup").args(["--find", "--show"]).arg(&image))?;
        let mut disk = Self { device: device.trim().to_owned(), folder: folder.to_owned(), mounted: false };
        run(Command::new("/usr/bin/mount").arg(&disk.device).arg(folder))?;
        disk.mounted = true;
        Some(disk)
    }

    pub(crate) fn device(&self) -> &str {
        &self.device
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted && run(Command::new("/usr/bin/umount").arg(&self.folder)).is_none() {
            eprintln!("{} is still mounted", self.folder.display());
        }
        if run(Command::new("/usr/sbin/losetup").args(["--detach", &self.device])).is_none() {
            eprintln!("{} is still there", self.device);
        }
    }
}

fn run(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    if !output.status.success() {
        eprintln!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Bytes written to a block device so far, after all that waits for it was written.
pub(crate) fn device_bytes(device: &str, folder: &Path) -> u64 {
    rustix::fs::syncfs(File::open(folder).unwrap()).unwrap();
    let name = device.rsplit('/').next().unwrap();
    let text = std::fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
    // The seventh figure of a block device's statistics: sectors of 512 bytes written.
    text.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap() * 512
}

/// Takes a file's pages out of the kernel's cache, as after a power cut.
pub(crate) fn forget_pages(file: &Path) {
    if let Ok(file) = File::open(file) {
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}
