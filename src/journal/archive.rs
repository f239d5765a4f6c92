//! A data directory's journal, read beside a running gateway or without one: for backup, export, audit and the doctor.
//!
//! It takes no lock and changes no row. SQLite's own index of the log (`journal.db-shm`) may be made beside the file; where
//! even that is not allowed (a read-only medium) a file without a log is read as it lies there.

use super::audit_check::{self, AuditReport};
use super::live::Names;
use super::schema::STEPS;
use super::store::{Place, connect_archive, is_damage};
use super::{AuditHead, Entry, Limits, LogLine, Logged, Note, OpenError, ReadError, Room, forecast, read};
use crate::metrics::Metrics;
use crate::model::{Code, PointId, Timestamp};
use rusqlite::{Connection, OptionalExtension};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// How many findings of the check of the file are told: a ruined file has thousands.
const CHECK_LINES_MAX: u32 = 20;
/// SQLite's own steps between two questions whether to go on: some thirty rows of a copy, each of a few kB.
const STEPS_PER_QUESTION: std::ffi::c_int = 100;
/// Notes that a summary shows.
const NOTES_SHOWN: usize = 20;

/// The journal of a data directory, for reading only.
pub struct Archive {
    conn: Connection,
    place: Place,
    names: Mutex<Names>,
    metrics: Metrics,
}

/// What is in a journal, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The format of the file.
    pub format: usize,
    /// The newest entry ever recorded; 0: none.
    pub head: u64,
    /// The number before the first entry of this file, when it was begun after a damaged one.
    pub begun_after: Option<u64>,
    /// The oldest entry held, and its time.
    pub oldest: Option<(u64, Timestamp)>,
    /// The newest entry held, and its time.
    pub newest: Option<(u64, Timestamp)>,
    /// How far each follower has come, by name. What the running gateway knows may be up to half a minute ahead.
    pub cursors: Vec<(String, u64)>,
    /// Hazards that nobody has closed.
    pub open_hazards: u64,
    /// Hazards that were closed.
    pub closed_hazards: u64,
    /// Lines of the duty log: transitions, notes.
    pub lines: (u64, u64),
    /// Bytes of the database and its log.
    pub bytes: u64,
    /// The newest notes, newest first.
    pub notes: Vec<(Timestamp, Note)>,
    /// Where the audit chain stands.
    pub audit: AuditHead,
}

impl Archive {
    /// Opens the database file of that data directory.
    ///
    /// Errors: there is none, it is no database, it may not be read, or another version of the program wrote it (an older
    /// file is brought forward by `fengsui run`, which is the only one to change a file).
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let place = Place::new(dir);
        let file = place.database();
        let path = file.display().to_string();
        if let Err(error) = File::open(&file) {
            return Err(OpenError::Directory { path, cause: error.to_string() });
        }
        let refused = |error: rusqlite::Error| {
            let cause = error.to_string();
            let path = file.display().to_string();
            if is_damage(&error) {
                OpenError::Damaged { path, cause }
            } else {
                OpenError::Database { path, cause }
            }
        };
        let conn = connect_archive(&file).map_err(refused)?;
        let format: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(refused)?;
        let (found, known) = (usize::try_from(format).unwrap_or(usize::MAX), STEPS.len());
        if found > known {
            return Err(OpenError::Newer { path, found, known });
        }
        if found < known {
            return Err(OpenError::Older { path, found, known });
        }
        let names = read::names(&conn).map_err(refused)?.1;
        Ok(Self { conn, place, names: Mutex::new(names), metrics: Metrics::new() })
    }

    /// Where the database is.
    pub fn file(&self) -> PathBuf {
        self.place.database()
    }

    /// A question, in one snapshot.
    pub(crate) fn read<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let snapshot = self.conn.unchecked_transaction()?;
        let answer = question(&snapshot)?;
        snapshot.finish()?;
        Ok(answer)
    }

    /// Entries after a number, oldest first; at most `limit`, and fewer when they are large: only an empty answer says that
    /// there are no more. Readings that fail their check are left out, and a note in
    /// their entry says so.
    pub fn entries_after(&self, no: u64, limit: usize) -> Result<Vec<Arc<Entry>>, ReadError> {
        self.read(|conn| {
            let names = self.refreshed(conn)?;
            read::entries(conn, |blob| names.decode(blob), &self.metrics, no, u64::MAX, limit)
        })
    }

    /// The duty log, newest first: the lines of entries before a number, or the newest, at most about `limit`.
    pub fn duty_log(&self, before: Option<u64>, limit: usize) -> Result<Vec<LogLine>, ReadError> {
        self.read(|conn| read::duty_log(conn, &self.metrics, before, limit))
    }

    /// The times of the duty log's oldest and newest line, by the order they were written in.
    pub fn log_span(&self) -> Result<Option<(Timestamp, Timestamp)>, ReadError> {
        self.read(|conn| {
            let edge = |order: &str| {
                let question = format!(
                    "SELECT at FROM (SELECT no, at FROM transition UNION ALL SELECT no, at FROM note) ORDER BY no {order} LIMIT 1"
                );
                conn.query_row(&question, [], |row| row.get(0).map(Timestamp::from_millis)).optional()
            };
            Ok(edge("ASC")?.zip(edge("DESC")?))
        })
    }

    /// How much room there is and how long it lasts, under these limits.
    pub fn room(&self, limits: &Limits) -> Result<Room, ReadError> {
        self.read(|conn| Ok(forecast::look(conn, &self.place, limits)?))
    }

    /// One document.
    pub fn document(&self, kind: &str, key: &str) -> Result<Option<String>, ReadError> {
        let question = "SELECT json FROM document WHERE kind = ? AND key = ?";
        self.read(|conn| Ok(conn.query_row(question, [kind, key], |row| row.get(0)).optional()?))
    }

    /// All documents of a kind, as key and JSON, by key.
    pub fn documents(&self, kind: &str) -> Result<Vec<(String, String)>, ReadError> {
        self.read(|conn| {
            let mut statement = conn.prepare("SELECT key, json FROM document WHERE kind = ? ORDER BY key")?;
            let rows = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The number that stands for a point in the database.
    pub fn point_number(&self, point: &PointId) -> Result<Option<u32>, ReadError> {
        self.read(|conn| Ok(self.refreshed(conn)?.point_number(point)))
    }

    /// Every point that was ever recorded, with its number, in the order of the names.
    pub fn point_names(&self) -> Result<Vec<(u32, PointId)>, ReadError> {
        self.read(|conn| {
            let names = self.refreshed(conn)?;
            let mut points: Vec<_> = names.points().map(|(id, point)| (id, point.clone())).collect();
            points.sort_by(|a, b| a.1.cmp(&b.1));
            Ok(points)
        })
    }

    /// The state of a number.
    pub fn code(&self, number: u32) -> Result<Option<Code>, ReadError> {
        self.read(|conn| Ok(self.refreshed(conn)?.code(number)))
    }

    /// Verifies the hash chain of the duty log. `expected_head` is a head that was written down elsewhere, as
    /// [`AuditHead`] shows it: without one, a log that was cut short at its end or rewritten to its end looks sound.
    pub fn audit(&self, expected_head: Option<&str>) -> Result<AuditReport, ReadError> {
        let expected = expected_head
            .map(str::parse)
            .transpose()
            .map_err(|no_head: super::NoHead| ReadError::Failed(no_head.to_string()))?;
        self.read(|conn| audit_check::check(conn, expected))
    }

    /// What is wrong with the file; empty: it is sound.
    pub fn check(&self) -> Result<Vec<String>, ReadError> {
        self.read(|conn| {
            let mut statement = conn.prepare(&format!("PRAGMA quick_check({CHECK_LINES_MAX})"))?;
            let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
            let mut lines = lines.collect::<rusqlite::Result<Vec<_>>>()?;
            lines.retain(|line| line != "ok");
            Ok(lines)
        })
    }

    /// Copies the whole journal, as it is at this moment, into one new file that nobody else may read. How many bytes it
    /// has. On the disk when `Ok`; a copy that failed is removed.
    pub fn copy_to(&self, file: &Path) -> Result<u64, ReadError> {
        let failed = |error: std::io::Error| ReadError::Failed(format!("{}: {error}", file.display()));
        // Made by us so that its rights are right from the first byte; SQLite fills an empty file.
        let made = OpenOptions::new().write(true).create_new(true).mode(super::store::FILE_MODE).open(file);
        let made = made.map_err(failed)?;
        let copied = super::store::copy_into(&self.conn, file)
            .map_err(ReadError::from)
            .and_then(|()| made.sync_all().map_err(failed))
            .and_then(|()| super::store::sync_folder_of(file).map_err(failed))
            .and_then(|()| Ok(made.metadata().map_err(failed)?.len()));
        if copied.is_err() {
            let _half = std::fs::remove_file(file);
        }
        copied
    }

    /// Everything that is asked of this archive from now on is given up when `go_on` says no; it is asked every few
    /// milliseconds at most. For what may take minutes: a copy (while it is made, the journal's log cannot be used again and
    /// grows), the check of a large file.
    pub fn only_while(&mut self, mut go_on: impl FnMut() -> bool + Send + 'static) -> Result<(), ReadError> {
        Ok(self.conn.progress_handler(STEPS_PER_QUESTION, Some(move || !go_on()))?)
    }

    /// What is in it.
    pub fn summary(&self) -> Result<Summary, ReadError> {
        let bytes = self.place.bytes();
        self.read(|conn| {
            let figure = |question: &str| conn.query_row(question, [], |row| row.get::<_, i64>(0));
            let count = |question: &str| figure(question).map(super::from_sql);
            let edge = |order: &str| {
                // As it is to be read: entries that were dated anew keep their first time in their row.
                let question = format!(
                    "SELECT no, at + ifnull((SELECT sum(shift) FROM restamp WHERE no BETWEEN first AND last), 0)
                     FROM entry ORDER BY no {order} LIMIT 1"
                );
                conn.query_row(&question, [], |row| {
                    Ok((super::from_sql(row.get(0)?), Timestamp::from_millis(row.get(1)?)))
                })
                .optional()
            };
            let mut cursors: Vec<_> = read::cursors(conn)?.into_iter().collect();
            cursors.sort();
            let notes = read::newest_notes(conn, NOTES_SHOWN)?.into_iter();
            let notes = notes.filter_map(|line| match line.what {
                Logged::Note(note) => Some((line.at, note)),
                Logged::Transition(_) => None,
            });
            Ok(Summary {
                format: usize::try_from(figure("PRAGMA user_version")?).unwrap_or(0),
                head: read::head(conn)?,
                begun_after: figure("SELECT value FROM meta WHERE key = 'begun_after'")
                    .optional()?
                    .map(super::from_sql),
                oldest: edge("ASC")?,
                newest: edge("DESC")?,
                cursors,
                open_hazards: count("SELECT count(*) FROM fact WHERE hazard IS NOT NULL")?,
                closed_hazards: count("SELECT count(*) FROM hazard WHERE closed_at IS NOT NULL")?,
                lines: (count("SELECT count(*) FROM transition")?, count("SELECT count(*) FROM note")?),
                bytes,
                notes: notes.collect(),
                audit: super::audit::head(conn)?,
            })
        })
    }

    /// The names, with those that a running gateway has added meanwhile.
    fn refreshed(&self, conn: &Connection) -> Result<MutexGuard<'_, Names>, ReadError> {
        let mut names = self.names.lock().expect("no holder of this lock panics");
        let count = |table: &str| {
            conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
        };
        let there = (count("point")?, count("code")?);
        if (usize::try_from(there.0), usize::try_from(there.1))
            != (Ok(names.counts().0), Ok(names.counts().1))
        {
            *names = read::names(conn)?.1;
        }
        Ok(names)
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Archive({})", self.file().display())
    }
}
