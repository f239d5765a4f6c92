//! gateway.toml + site plan + profiles → one validated [`Config`], all errors at once, with file, line and what to do.
//!
//! Before the flow: everything behind it may trust what stands in a `Config`. Nothing is opened and nothing is
//! connected here; the only files read are the ones that are named. Secrets come from a file or the environment,
//! never from the two TOML files, and never get out by `Debug`.

pub mod gateway;
pub mod site_plan;
pub mod library;
pub mod render;
pub mod system;
mod gateway_file;
pub mod modbus_file;
mod mqtt_file;
mod overrides;
pub mod push_table;
mod reader;
pub mod series_table;
mod sinks_file;
pub mod watched;

pub use gateway::{
    BackupSettings, BrokerSettings, BrokerTls, BrokerUser, FolderSettings, Gateway, InfluxSettings,
    InfluxWay, JournalSettings, LinkKind, LogFormat, Login, MqttSettings, MqttTls, Secret,
};
pub use library::Library;
pub use modbus_file::ModbusSettings;
pub use mqtt_file::broker_users;
pub use push_table::{PushFormat, PushSettings};
pub use series_table::{SeriesKeep, SeriesSettings};
pub use site_plan::Binding;
pub use watched::{Lookout, Watched};

use crate::model::{Plan, Problem};
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The largest file that is read, bytes. A plan of 1000 devices at about 300 bytes each is 0.3 MB; four of them
/// are in it. Anything larger is a mistake (a log, an image) and must not fill the memory of a small box.
pub const FILE_SIZE_MAX: u64 = 4 * 300 * 1000 + 800_000;

/// How the environment is read: `std::env::var(name).ok()` in the program, a map in tests.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Everything the gateway was told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// How this gateway is connected and where it keeps things.
    pub gateway: Gateway,
    /// What it watches, with the synthetic site `gateway` (its own links, journal, clock and disk) at the end.
    pub plan: Arc<Plan>,
    /// How each device of the plan file is reached, in the order of the file. The synthetic devices have none.
    pub bindings: Vec<Binding>,
    /// The device models that were available.
    pub library: Arc<Library>,
    /// The files that all of it was read from.
    pub watched: Watched,
}

/// What was found while reading: the problems, and the texts they point into, so that the place can be shown.
#[derive(Clone, Default)]
pub struct Report {
    /// Errors and warnings, in the order they were found. Warnings alone leave a usable [`Config`].
    pub problems: Vec<Problem>,
    /// Every text that was read, by the name its problems carry.
    pub texts: BTreeMap<Arc<str>, Arc<str>>,
}

/// The names of the texts, not the texts.
impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<_> = self.texts.keys().collect();
        f.debug_struct("Report").field("problems", &self.problems).field("files", &files).finish()
    }
}

impl Report {
    /// How many problems make the configuration unusable.
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| !problem.warning).count()
    }

    /// How many problems should be looked at but do not stop the gateway.
    pub fn warnings(&self) -> usize {
        self.problems.iter().filter(|problem| problem.warning).count()
    }
}

/// Where the texts come from: the disk, or a map of names and texts.
pub trait Files {
    /// The text of a file.
    fn text(&self, path: &Path) -> io::Result<String>;
    /// Every device model below a folder, `.toml`, and every codec that one may name, `.js`; sorted.
    fn models_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    /// Where a path leads, however it is spelt, so that two can be compared: absolute, without `.` and `..`.
    fn place(&self, path: &Path) -> PathBuf {
        plain(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
    }
}

fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

impl Config {
    /// Reads the gateway file and everything it names from the disk.
    pub fn load(path: &Path, env: Env<'_>) -> Result<(Self, Report), Report> {
        Self::load_watched(path, env).0
    }

    /// The same, and which files were read for it, right or wrong.
    pub fn load_watched(path: &Path, env: Env<'_>) -> (Result<(Self, Report), Report>, Watched) {
        let recorder = watched::Recorder::new(&Disk);
        let mut read = Self::read(path, &recorder, env);
        let watched = recorder.into_watched();
        if let Ok((config, _)) = &mut read {
            config.watched = watched.clone();
        }
        (read, watched)
    }

    /// The same from texts: `[("gateway.toml", "…"), ("plan.toml", "…")]`. The first is the gateway file; the
    /// others are found by the names it uses. For tests and for the demo.
    pub fn from_texts(texts: &[(&str, &str)], env: Env<'_>) -> Result<(Self, Report), Report> {
        let first = texts.first().map_or("gateway.toml", |(name, _)| *name);
        let files: BTreeMap<PathBuf, String> =
            texts.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
        Self::read(Path::new(first), &files, env)
    }

    /// What the gateway file says as far as it can be read, with everything wrong in it: for those who must go on when
    /// something else is wrong (a backup, the doctor). `None`: it cannot be read at all.
    pub fn gateway_alone(path: &Path, env: Env<'_>) -> (Option<Gateway>, Report) {
        let mut report = Report::default();
        let gateway = gateway_alone(path, &Disk, env, &mut report).map(|parsed| parsed.gateway);
        (gateway, report)
    }

    /// Reads the gateway file and everything it names from `files`.
    pub fn read(path: &Path, files: &dyn Files, env: Env<'_>) -> Result<(Self, Report), Report> {
        let mut report = Report::default();
        let config = assemble(path, files, env, &mut report);
        match config {
            Some(config) if report.errors() == 0 => Ok((config, report)),
            _ => Err(report),
        }
    }
}

fn assemble(path: &Path, files: &dyn Files, env: Env<'_>, report: &mut Report) -> Option<Config> {
    // The plan is checked even when gateway.toml has errors, as far as its links are known: all errors at once.
    let partial = gateway_alone(path, files, env, report)?;
    let library = library::read(partial.gateway.profiles_dir.as_deref(), files, report)?;
    report.problems.extend(series_table::check(&name_of(path), &partial.gateway.series, &library));
    let plan_file = &partial.gateway.plan_file;
    let help = format!("写在 / it is named in {} (plan = …)", path.display());
    let plan_text = read_text(plan_file, files, report, &help)?;
    let built = site_plan::build(
        &site_plan::Source {
            file: &name_of(plan_file),
            text: &plan_text,
            gateway: &partial.gateway,
            links_complete: partial.complete,
            library: &library,
        },
        &mut report.problems,
    )?;
    Some(Config {
        gateway: partial.gateway,
        plan: Arc::new(built.plan),
        bindings: built.bindings,
        library: Arc::new(library),
        watched: Watched::default(),
    })
}

fn gateway_alone(
    path: &Path,
    files: &dyn Files,
    env: Env<'_>,
    report: &mut Report,
) -> Option<gateway_file::Parsed> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let text = read_text(path, files, report, "--config 指向它 / point --config at it")?;
    let surroundings = gateway_file::Surroundings { folder, files, env };
    gateway_file::parse(&name_of(path), &text, &surroundings, &mut report.problems)
}

fn name_of(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

/// What to do about a file that is there and is no text: editors on Windows still save Chinese as GBK.
fn unreadable_help(error: &io::Error) -> Option<&'static str> {
    (error.kind() == io::ErrorKind::InvalidData)
        .then_some("请用 UTF-8 编码保存（不是 GBK） / save it as UTF-8, not as GBK")
}

/// Reads a file and keeps its text for the report; says so when it cannot be read.
fn read_text(path: &Path, files: &dyn Files, report: &mut Report, help: &str) -> Option<Arc<str>> {
    let name = name_of(path);
    match files.text(path) {
        Ok(text) => {
            let text: Arc<str> = text.into();
            report.texts.insert(name, text.clone());
            Some(text)
        }
        Err(error) => {
            let message = format!("读不了这个文件 / cannot read this file: {error}");
            let help = unreadable_help(&error).unwrap_or(help);
            report.problems.push(Problem::error(&name, None, message, help));
            None
        }
    }
}

/// The files of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl Files for Disk {
    fn text(&self, path: &Path) -> io::Result<String> {
        let size = std::fs::metadata(path)?.len();
        if size > FILE_SIZE_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{size} bytes, at most {FILE_SIZE_MAX} are read"),
            ));
        }
        std::fs::read_to_string(path)
    }

    fn models_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() && depth < OVERLAY_DEPTH_MAX {
                    folders.push((path, depth + 1));
                } else if is_of_a_model(&path) {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Also without links, as far as it exists: a stick may not be plugged in yet.
    fn place(&self, path: &Path) -> PathBuf {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let real = path.ancestors().find_map(|there| {
            let rest = path.strip_prefix(there).ok()?;
            Some(std::fs::canonicalize(there).ok()?.join(rest))
        });
        plain(&real.unwrap_or(path))
    }
}

/// A device model, or the vendor's codec that it names.
fn is_of_a_model(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml" || extension == "js")
}

/// How deep the overlay folder is searched: `<vendor>/<model>.toml` needs one level; a link that points back up
/// must not turn into an endless walk.
const OVERLAY_DEPTH_MAX: usize = 2;

impl Files for BTreeMap<PathBuf, String> {
    fn text(&self, path: &Path) -> io::Result<String> {
        self.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn models_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let below = self.keys().filter(|path| path.starts_with(folder) && is_of_a_model(path));
        Ok(below.cloned().collect())
    }
}
