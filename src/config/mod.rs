//! gateway.toml + site plan + profiles → one validated [`Config`], all errors at once, with file, line and what to do.
//!
//! Before the flow: everything behind it may trust what stands in a `Config`. Nothing is opened and nothing is
//! connected here; the only files read are the ones that are named. Secrets come from a file or the environment,
//! never from the two TOML files, and never get out by `Debug`.

pub mod gateway;
pub mod site_plan;
pub mod library;
pub mod render;
mod reader;

pub use gateway::{
    BrokerSettings, Gateway, InfluxSettings, JournalSettings, LogFormat, Login, ModbusSettings, MqttSettings,
    Secret,
};
pub use library::Library;
pub use site_plan::Binding;

use crate::model::{Plan, Problem};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
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
}

/// What was found while reading: the problems, and the texts they point into, so that the place can be shown.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Errors and warnings, in the order they were found. Warnings alone leave a usable [`Config`].
    pub problems: Vec<Problem>,
    /// Every text that was read, by the name its problems carry.
    pub texts: BTreeMap<Arc<str>, Arc<str>>,
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
    /// Every `.toml` file below a folder, sorted.
    fn toml_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

impl Config {
    /// Reads the gateway file and everything it names from the disk.
    pub fn load(path: &Path, env: Env<'_>) -> Result<(Self, Report), Report> {
        Self::read(path, &Disk, env)
    }

    /// The same from texts: `[("gateway.toml", "…"), ("plan.toml", "…")]`. The first is the gateway file; the
    /// others are found by the names it uses. For tests and for the demo.
    pub fn from_texts(texts: &[(&str, &str)], env: Env<'_>) -> Result<(Self, Report), Report> {
        let first = texts.first().map_or("gateway.toml", |(name, _)| *name);
        let files: BTreeMap<PathBuf, String> =
            texts.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
        Self::read(Path::new(first), &files, env)
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
