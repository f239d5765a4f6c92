//! JOURNAL → WORLD: packed NDJSON files in a folder, so that a site without any network can be read out.
//!
//! After the journal in the flow, with the cursor `folder:<name>`. A USB stick is carried away, or rsync fetches the files.
//! `ndjson.rs` documents the lines.
//!
//! - A file is written under a name that ends in `.part`, forced to the disk, renamed to
//!   `fengsui-<gateway>-<first entry>-<last entry>.ndjson.gz` (ten digits each, so that names stand in order), and the folder forced to the disk. Only then does the cursor
//!   move. So a file that has its name is whole.
//! - The folder must exist already, and a marker file in it if one is asked for: an empty mount point is not filled.
//! - A missing stick, a full one, a broken one: it waits and tries again. Nothing is deleted, nothing is lost.
//! - Killed between the renaming and the cursor, it finds its own file at the next start, by its name and the times in it,
//!   and goes on behind it. Only when that stick was changed in between are the same entries written twice; the number of
//!   the entry is in every line.

use super::{Progress, Worker, ndjson, of_journal};
use crate::clock::Clock;
use crate::journal::{Entry, Journal};
use crate::metrics::{Metrics, Sink};
use crate::model::{Plan, Span, Text, Timestamp};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How the cursors' names in the journal begin: `folder:<name>`.
pub const CURSOR: &str = "folder";

/// Entries packed at once: at 500 readings each 15 MB of text in memory, far less at a usual site.
const ENTRIES_AT_ONCE: usize = 64;

/// How often a missing, full or broken folder is looked at again. A look is three system calls.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often the lag is counted anew while nothing is due.
const LAG_EVERY: Duration = Duration::from_secs(60);

/// Files of one name that may lie in the folder, from other journals that a stick has seen: a replaced box counts
/// from 1 again.
const NAMESAKES_MAX: u32 = 1000;

/// Where to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSettings {
    /// What the sink is called.
    pub name: String,
    /// Its cursor in the journal: `folder:<name>`.
    pub cursor: String,
    /// What the gateway is called, in file names and lines: letters, digits, `-`, `_` and `.`.
    pub gateway: String,
    /// The folder. It must exist.
    pub dir: PathBuf,
    /// A file that must lie in it.
    pub require: Option<String>,
    /// A file ends at about this size, bytes.
    pub file_max_bytes: u64,
    /// A file is written when its oldest entry is this old.
    pub file_every: Span,
    /// Bytes that stay free.
    pub keep_free_bytes: u64,
}

/// The worker.
pub struct Folder {
    settings: Arc<FolderSettings>,
    journal: Journal,
    recorded: watch::Receiver<u64>,
    plan: watch::Receiver<Arc<Plan>>,
    clock: Clock,
    metrics: Metrics,
    sink: Sink,
    cursor: Option<u64>,
    /// When the oldest waiting entry is old enough; `None`: not known.
    due: Option<Timestamp>,
    /// The folder was searched for files that the cursor does not know of.
    searched: bool,
}

impl Folder {
    /// Touches nothing yet.
    pub fn new(
        settings: FolderSettings,
        journal: Journal,
        plan: watch::Receiver<Arc<Plan>>,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let (recorded, sink) = (journal.settled(), Sink::named(&settings.name));
        let settings = Arc::new(settings);
        Self {
            settings,
            journal,
            recorded,
            plan,
            clock,
            metrics,
            sink,
            cursor: None,
            due: None,
            searched: false,
        }
    }

    async fn deliver(&mut self) -> Result<Progress, Text> {
        let mut cursor = match self.cursor {
            Some(cursor) => cursor,
            None => self.journal.cursor(&self.settings.cursor).await.map_err(|error| of_journal(&error))?,
        };
        self.cursor = Some(cursor);
        self.show_lag();
        self.recorded.mark_unchanged();
        let now = self.clock.now();
        if self.due.is_some_and(|due| due > now) {
            return Ok(Progress::Idle);
        }
        let Some(mut next) = self.entry_after(cursor).await? else {
            self.due = None;
            return Ok(Progress::Idle);
        };
        // An entry from the future was written under another clock: it waits for nothing.
        let due = next.at + self.settings.file_every;
        if due > now && next.at <= now {
            self.due = Some(due);
            return Ok(Progress::Idle);
        }
        self.due = None;
        let settings = self.settings.clone();
        blocking(move || settings.look()).await?;
        while !self.searched {
            let Some(last) = self.written_before(&next).await? else {
                self.searched = true;
                break;
            };
            cursor = self.confirm(last).await?;
            match self.entry_after(cursor).await? {
                Some(entry) => next = entry,
                None => return Ok(Progress::Delivered { entries: 0, lines: 0 }),
            }
        }
        let (last, entries, lines) = self.write_file(&next).await?;
        self.confirm(last).await?;
        self.metrics.sink_lines.get_or_create(&self.sink).inc_by(lines as u64);
        Ok(Progress::Delivered { entries, lines })
    }

    /// Writes one file, from this entry on; says its last entry, and how many entries and lines it has.
    async fn write_file(&self, first: &Arc<Entry>) -> Result<(u64, usize, usize), Text> {
        let head = *self.recorded.borrow();
        let settings = self.settings.clone();
        let mut part = blocking(move || Part::begin(settings)).await?;
        let mut through = first.no - 1;
        let mut taken = 0;
        while through < head && part.bytes() < self.settings.file_max_bytes {
            let entries = self.journal.read_settled_after(through, ENTRIES_AT_ONCE).await;
            let entries = entries.map_err(|error| of_journal(&error))?;
            let Some(last) = entries.last() else { break };
            (through, taken) = (last.no, taken + entries.len());
            let plan = self.plan.borrow().clone();
            part = blocking(move || part.pack(&entries, &plan)).await?;
        }
        let (first, lines) = (first.no, part.lines);
        blocking(move || part.finish(first, through)).await?;
        Ok((through, taken, lines))
    }

    /// The last entry of a file in the folder that begins with this entry and is of this very journal.
    async fn written_before(&self, next: &Arc<Entry>) -> Result<Option<u64>, Text> {
        let (settings, first) = (self.settings.clone(), next.no);
        let found = blocking(move || settings.files_from(first)).await?;
        for file in found {
            let mut ours = true;
            for (no, at) in file.ends {
                let entry = self.entry_after(no.saturating_sub(1)).await?;
                ours &= entry.is_some_and(|entry| entry.no == no && entry.at.to_string() == at);
            }
            if ours {
                let sink = &self.settings.name;
                tracing::info!(%sink, through = file.last, "A file was already there; it is not written again.");
                return Ok(Some(file.last));
            }
        }
        Ok(None)
    }

    async fn entry_after(&self, no: u64) -> Result<Option<Arc<Entry>>, Text> {
        let entries = self.journal.read_settled_after(no, 1).await;
        Ok(entries.map_err(|error| of_journal(&error))?.into_iter().next())
    }

    async fn confirm(&mut self, last: u64) -> Result<u64, Text> {
        self.journal.move_cursor(&self.settings.cursor, last).await.map_err(|error| of_journal(&error))?;
        self.cursor = Some(last);
        self.show_lag();
        Ok(last)
    }

    fn show_lag(&self) {
        let lag = self.recorded.borrow().saturating_sub(self.cursor.unwrap_or(0));
        self.metrics.sink_lag.get_or_create(&self.sink).set(i64::try_from(lag).unwrap_or(i64::MAX));
    }
}

impl Worker for Folder {
    async fn step(&mut self) -> Progress {
        let result = self.deliver().await;
        self.metrics.sink_failing.get_or_create(&self.sink).set(result.is_err().into());
        match result {
            Ok(progress) => progress,
            Err(reason) => {
                // Perhaps a file got its name and the folder failed afterwards, or this is another stick.
                self.searched = false;
                tracing::warn!(sink = %self.settings.name, reason = %reason.en, "The folder cannot be written to.");
                Progress::BackOff { wait: LOOK_EVERY, reason }
            }
        }
    }

    async fn woken(&mut self) {
        if let Some(due) = self.due {
            // Not for every new entry: until then nothing of them is wanted.
            let lag = tokio::time::sleep_until(Instant::now() + LAG_EVERY);
            tokio::select! {
                () = self.clock.sleep_until(due) => {}
                () = lag => self.show_lag(),
            }
        } else if self.recorded.changed().await.is_err() {
            // The journal is gone and the gateway stops.
            std::future::pending::<()>().await;
        }
    }
}

/// A file of the folder, as far as it must be known.
struct Found {
    last: u64,
    ends: [EntryAndTime; 2],
}

/// As they stand in a line.
type EntryAndTime = (u64, String);

impl FolderSettings {
    /// Whether it may be written to.
    fn look(&self) -> Result<(), Text> {
        let dir = self.dir.display();
        if !self.dir.is_dir() {
            return Err(Text::new(
                &format!("文件夹 {dir} 不存在：请插上 U 盘或检查挂载，记录都留着"),
                &format!("the folder {dir} is missing: put the stick back or mount it; everything is kept"),
            ));
        }
        if let Some(file) = &self.require
            && !self.dir.join(file).is_file()
        {
            return Err(Text::new(
                &format!("{dir} 里没有标记文件 {file}：可能没有挂载 U 盘"),
                &format!("the marker file {file} is not in {dir}: is the stick mounted?"),
            ));
        }
        let space = rustix::fs::statvfs(&self.dir).map_err(|error| self.failed(&error.into()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let wanted = self.keep_free_bytes.saturating_add(self.file_max_bytes);
        if free < wanted {
            let (free, wanted) = (free >> 20, wanted >> 20);
            return Err(Text::new(
                &format!("{dir} 只剩 {free} MiB，少于 {wanted} MiB：请换一只 U 盘或清理旧文件，不会自动删除"),
                &format!(
                    "{dir} has {free} MiB left, less than {wanted}: change the stick or remove old files; nothing is deleted by itself"
                ),
            ));
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Text {
        let dir = self.dir.display();
        Text::new(
            &format!("写入 {dir} 失败，稍后重试，记录都留着：{error}"),
            &format!("writing to {dir} failed, tried again later, everything is kept: {error}"),
        )
    }

    fn part(&self) -> PathBuf {
        self.dir.join(format!("fengsui-{}-{}.part", self.gateway, self.name))
    }

    /// The files that begin with this entry, by their names, and whose first and last lines can be read.
    fn files_from(&self, first: u64) -> Result<Vec<Found>, Text> {
        let mut found = Vec::new();
        let begin = format!("fengsui-{}-{first:010}-", self.gateway);
        for entry in std::fs::read_dir(&self.dir).map_err(|error| self.failed(&error))? {
            let entry = entry.map_err(|error| self.failed(&error))?;
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(&begin)?.strip_suffix(".ndjson.gz"));
            let last = rest.and_then(|rest| rest.split('-').next()?.parse().ok());
            // One that cannot be read is not ours to judge: what is in it is written again under another name.
            if let Some(last) = last
                && let Ok(Some(ends)) = ends(&entry.path())
            {
                found.push(Found { last, ends });
            }
        }
        Ok(found)
    }
}

/// Entry and time of a file's first and last line. Reads it whole, so that its checksum is checked.
fn ends(path: &Path) -> io::Result<Option<[EntryAndTime; 2]>> {
    let mut lines = BufReader::new(GzDecoder::new(File::open(path)?));
    let mut line = String::new();
    let (mut first, mut last) = (None, String::new());
    while lines.read_line(&mut line)? > 0 {
        if first.is_none() {
            first = entry_and_time(&line);
        }
        std::mem::swap(&mut line, &mut last);
        line.clear();
    }
    Ok(first.zip(entry_and_time(&last)).map(<[EntryAndTime; 2]>::from))
}

fn entry_and_time(line: &str) -> Option<EntryAndTime> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some((line["entry"].as_u64()?, line["recorded_at"].as_str()?.to_owned()))
}

/// A file that is being written. Lives on threads that may wait for a slow stick.
struct Part {
    settings: Arc<FolderSettings>,
    packed: GzEncoder<Counted>,
    lines: usize,
}

struct Counted {
    file: BufWriter<File>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Part {
    fn begin(settings: Arc<FolderSettings>) -> Result<Self, Text> {
        let file = File::create(settings.part()).map_err(|error| settings.failed(&error))?;
        let counted = Counted { file: BufWriter::new(file), bytes: 0 };
        Ok(Self { settings, packed: GzEncoder::new(counted, Compression::default()), lines: 0 })
    }

    fn bytes(&self) -> u64 {
        self.packed.get_ref().bytes
    }

    fn pack(mut self, entries: &[Arc<Entry>], plan: &Plan) -> Result<Self, Text> {
        let mut text = Vec::new();
        for entry in entries {
            text.clear();
            self.lines += ndjson::lines(entry, plan, &self.settings.gateway, &mut text);
            self.packed.write_all(&text).map_err(|error| self.settings.given_up(&error))?;
        }
        Ok(self)
    }

    /// Gives the file its name once it is safely there. One without a line is not kept.
    fn finish(self, first: u64, last: u64) -> Result<(), Text> {
        let Self { settings, packed, lines } = self;
        let part = settings.part();
        let named = || -> io::Result<()> {
            let file = packed.finish()?.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            if lines == 0 {
                return std::fs::remove_file(&part);
            }
            let name = format!("fengsui-{}-{first:010}-{last:010}", settings.gateway);
            let namesakes = (2..NAMESAKES_MAX).map(|n| format!("{name}-{n}.ndjson.gz"));
            let free = std::iter::once(format!("{name}.ndjson.gz"))
                .chain(namesakes)
                .map(|name| settings.dir.join(name))
                .find(|path| !path.exists());
            std::fs::rename(&part, free.ok_or(io::ErrorKind::AlreadyExists)?)?;
            match File::open(&settings.dir)?.sync_all() {
                // Some file systems have nothing to force for a folder.
                Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
                _ => Ok(()),
            }
        };
        named().map_err(|error| settings.given_up(&error))
    }
}

impl FolderSettings {
    /// What was begun is removed, if the folder is still there: a full stick needs the room.
    fn given_up(&self, error: &io::Error) -> Text {
        std::fs::remove_file(self.part()).ok();
        self.failed(error)
    }
}

/// Waits for the disk on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Text> + Send + 'static,
) -> Result<T, Text> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Text::new(&format!("内部错误：{error}"), &error.to_string())))
}
