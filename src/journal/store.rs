//! The files: the lock, the database and its connections, a damaged one set aside, the ballast.

use super::schema::{MigrateError, STEPS, migrate};
use super::{Limits, OpenError};
use crate::model::Text;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A writer waits this long for SQLite's own locks. Only a checkpoint holds one, for milliseconds.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// Bytes of a page of a new file; one that is there keeps its own. A commit of readings changes one or two pages, and whole
/// pages go into the log: measured (see the journal's page), 2048 writes a sixth less than SQLite's 4096 at 100 readings a
/// second and a quarter less at 500. 1024 would save no more at 100 and put most chunks of the series on overflow pages.
pub(super) const PAGE_BYTES: u64 = 2048;
/// Pages in the log at which it is put into the database: 4 MiB. A page that changed often goes there once.
const LOG_PAGES_MAX: i64 = 2000;
/// Files up to this size are checked whole at every start: 64 MiB at the 40 MB/s of an SD card are 1.6 s, and a start is to
/// take 2 s at most. Larger ones are checked whole only when the last run met damage; their small tables (hazards, facts,
/// cursors) always, and a chunk or an entry that is damaged is met by its check sum when it is read.
const CHECK_WHOLE_BYTES_MAX: u64 = 64 << 20;
/// The tables that are checked at every start: without them a hazard could be hidden.
const LEDGER_TABLES: [&str; 7] = ["fact", "hazard", "transition", "note", "cursor", "document", "point"];

/// The folder and the database are the gateway's alone: password hashes, sessions and telephone numbers are in it.
/// Only what we make is made so; rights that somebody gave on purpose stay.
const FOLDER_MODE: u32 = 0o700;
pub(super) const FILE_MODE: u32 = 0o600;

/// Where the journal's files are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    dir: PathBuf,
}

impl Place {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }
    pub(super) fn database(&self) -> PathBuf {
        self.dir.join("journal.db")
    }
    fn wal(&self) -> PathBuf {
        self.dir.join("journal.db-wal")
    }
    /// The database, its log and the log's index.
    pub(super) fn files(&self) -> [PathBuf; 3] {
        [self.database(), self.wal(), self.dir.join("journal.db-shm")]
    }
    /// A file beside the database.
    pub(super) fn beside(&self, what: &str) -> PathBuf {
        self.dir.join(format!("journal.db.{what}"))
    }
    /// A name beside the database that nothing has yet.
    pub(super) fn free_name(&self, what: &str) -> PathBuf {
        let name = |n: u32| self.beside(&format!("{what}-{n}"));
        (1..u32::MAX).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0))
    }
    pub(super) fn lock_file(&self) -> PathBuf {
        self.dir.join("lock")
    }
    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }
    fn suspect(&self) -> PathBuf {
        self.dir.join("check-at-next-start")
    }

    /// Bytes of the database and its write-ahead log.
    pub(super) fn bytes(&self) -> u64 {
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
        length(self.database()) + length(self.wal())
    }

    /// Bytes that may still be written on its file system, as far as the system says.
    pub(super) fn disk_free(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.dir).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Whether its file system was made read-only, as systems do when a disk has failed.
    pub(super) fn is_read_only(&self) -> bool {
        let opened = OpenOptions::new().append(true).open(self.database());
        opened.is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
    }

    /// Whether the log can be put into the database without filling the disk.
    pub(super) fn has_room_for_log(&self) -> bool {
        let log = fs::metadata(self.wal()).map_or(0, |found| found.len());
        self.disk_free().is_none_or(|free| free > log)
    }

    /// Remembers that damage was met, so that the next start checks the whole file.
    pub(super) fn mark_suspect(&self) {
        let _best_effort = File::create(self.suspect());
    }

    /// Takes the lock that keeps a second process out. It is held as long as the file is.
    pub(super) fn lock(&self) -> Result<File, OpenError> {
        let refused = |path: &Path, error: std::io::Error| OpenError::Directory {
            path: path.display().to_string(),
            cause: error.to_string(),
        };
        let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.dir);
        made.map_err(|error| refused(&self.dir, error))?;
        let path = self.lock_file();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| refused(&path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let told = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
                let holder = if told { holder.trim().to_owned() } else { "unknown".to_owned() };
                return Err(OpenError::InUse { dir: self.dir.display().to_string(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(refused(&path, error)),
        }
        // Only told to people; a full disk must not keep the gateway from starting.
        let _told = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        Ok(file)
    }

    /// Puts the ballast in place. False when there is no room for it.
    pub(super) fn lay_ballast(&self, bytes: u64) -> bool {
        let path = self.ballast();
        if fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
            return true;
        }
        let written = File::create(&path).and_then(|mut file| {
            // Real bytes: a hole would give nothing back.
            std::io::copy(&mut std::io::repeat(0xB5).take(bytes), &mut file)?;
            file.sync_all()
        });
        if written.is_err() {
            let _freed = fs::remove_file(&path);
        }
        written.is_ok()
    }

    /// Gives the ballast's room back. False when it was already gone.
    pub(super) fn drop_ballast(&self) -> bool {
        fs::remove_file(self.ballast()).is_ok()
    }

    /// Opens the database: checked, migrated, or begun afresh with what could be saved of a damaged one.
    pub(super) fn open(&self, limits: &Limits) -> Result<(Connection, Option<Text>), OpenError> {
        let path = self.database().display().to_string();
        if let Err(error) = super::rescue::finish(self) {
            return Err(OpenError::Directory { path, cause: error.to_string() });
        }
        let opened = match self.open_checked(limits) {
            // A disk that is full to the last page: the ballast was laid for this.
            Err(Refused::Full(_)) if self.drop_ballast() => self.open_checked(limits),
            opened => opened,
        };
        match opened {
            Ok(conn) => Ok((conn, None)),
            Err(Refused::Newer { found, known }) => Err(OpenError::Newer { path, found, known }),
            Err(Refused::Other(cause) | Refused::Full(cause)) => Err(OpenError::Database { path, cause }),
            Err(Refused::Damaged(cause)) => {
                let aside = self.set_aside()?;
                let fresh = self.open_checked(limits).and_then(|mut conn| {
                    let saved = super::salvage::salvage(&aside, &mut conn)?;
                    Ok((conn, saved))
                });
                let (conn, saved) =
                    fresh.map_err(|refused| OpenError::Database { path, cause: refused.text() })?;
                tracing::error!(%cause, aside = %aside.display(), "the journal was damaged and was set aside");
                Ok((conn, Some(saved.told(&aside, &cause))))
            }
        }
    }

    fn open_checked(&self, limits: &Limits) -> Result<Connection, Refused> {
        // SQLite gives its log the rights of the database. A disk that refuses is told by the connection itself.
        let _made =
            OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(self.database()).is_ok();
        let mut conn = connect_writer(&self.database(), limits)?;
        self.check(&conn)?;
        migrate(&mut conn, STEPS)?;
        let _gone = fs::remove_file(self.suspect());
        Ok(conn)
    }

    fn check(&self, conn: &Connection) -> Result<(), Refused> {
        let whole = self.suspect().exists() || self.bytes() <= CHECK_WHOLE_BYTES_MAX;
        let fresh: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if fresh == 0 {
            return Ok(());
        }
        let questions = if whole {
            vec!["PRAGMA quick_check(1)".to_owned()]
        } else {
            LEDGER_TABLES.iter().map(|table| format!("PRAGMA quick_check('{table}')")).collect()
        };
        for question in questions {
            let answer: String = conn.query_row(&question, [], |row| row.get(0))?;
            if answer != "ok" {
                return Err(Refused::Damaged(answer));
            }
        }
        Ok(())
    }

    fn set_aside(&self) -> Result<PathBuf, OpenError> {
        let free = self.free_name("damaged");
        fs::rename(self.database(), &free).map_err(|error| OpenError::Directory {
            path: self.database().display().to_string(),
            cause: error.to_string(),
        })?;
        // The log belongs to the file; the index beside it is rebuilt.
        let mut log = free.clone().into_os_string();
        log.push("-wal");
        let _moved_if_there = fs::rename(self.wal(), log);
        let _gone = fs::remove_file(self.dir.join("journal.db-shm"));
        Ok(free)
    }
}

/// Why `open_checked` gave up.
enum Refused {
    Damaged(String),
    Full(String),
    Newer { found: usize, known: usize },
    Other(String),
}

impl Refused {
    fn text(self) -> String {
        match self {
            Self::Damaged(cause) | Self::Full(cause) | Self::Other(cause) => cause,
            Self::Newer { found, known } => format!("format {found}, this program knows {known}"),
        }
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        let cause = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(cause),
            _ if is_damage(&error) => Self::Damaged(cause),
            _ => Self::Other(cause),
        }
    }
}

impl From<MigrateError> for Refused {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Newer { found, known } => Self::Newer { found, known },
            MigrateError::Sql(error) => error.into(),
        }
    }
}

/// Whether the file itself is bad, rather than the disk, the account or the moment.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// The one connection that writes.
pub(super) fn connect_writer(path: &Path, limits: &Limits) -> rusqlite::Result<Connection> {
    // The file is made beforehand, with the right rights: a connection that is opened anew must never begin an empty one.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_MAX)?;
    conn.pragma_update(None, "page_size", PAGE_BYTES.cast_signed())?;
    // Before the first table: it cannot be changed later without rewriting the file.
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let _mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", LOG_PAGES_MAX)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -4096)?; // 4 MiB
    let _bytes: i64 = conn.query_row("PRAGMA journal_size_limit = 16777216", [], |row| row.get(0))?;
    // The fuse behind retention: an eighth above the limit, and never so low that the empty schema does not fit.
    let pages = ((limits.bytes_max + limits.bytes_max / 8) / PAGE_BYTES).max(64);
    let _pages: i64 = conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))?;
    // The writer does it itself when there is room: a full disk must keep the log, and a few free pages for the next start.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// A connection that only reads. It may write the shared index of the log, so it is not opened read-only.
pub(super) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_MAX)?;
    conn.pragma_update(None, "query_only", true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "cache_size", -2048)?; // 2 MiB
    Ok(conn)
}

/// A connection that changes nothing, beside a running gateway or without one.
pub(super) fn connect_archive(path: &Path) -> rusqlite::Result<Connection> {
    let open = |path: &str, flags: OpenFlags| -> rusqlite::Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY_MAX)?;
        // A log that a killed gateway left stays as it is.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        conn.pragma_update(None, "cache_size", -2048)?; // 2 MiB
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(conn)
    };
    let text = path.to_string_lossy();
    match open(&text, OpenFlags::empty()) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && !has_log(path) => {
            // A read-only medium: there is no place for the index of the log, and no log that would need one.
            let escaped = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            open(&format!("file:{escaped}?immutable=1"), OpenFlags::SQLITE_OPEN_URI)
        }
        result => result,
    }
}

fn has_log(database: &Path) -> bool {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(PathBuf::from(log)).is_ok_and(|found| found.len() > 0)
}

/// Copies a database as one snapshot into a file that is empty or not there.
pub(super) fn copy_into(conn: &Connection, file: &Path) -> rusqlite::Result<()> {
    conn.execute("VACUUM INTO ?", [file.to_string_lossy()]).map(|_| ())
}

/// Makes a new or renamed file's name durable.
pub(super) fn sync_folder_of(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// SQLite's integers are signed; our numbers never come near the difference.
pub(crate) fn to_sql(no: u64) -> i64 {
    i64::try_from(no).unwrap_or(i64::MAX)
}

/// A number that was written by [`to_sql`].
pub(crate) fn from_sql(no: i64) -> u64 {
    u64::try_from(no).unwrap_or(0)
}
