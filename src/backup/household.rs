//! What belongs to a gateway besides its journal: the files of its configuration, and whose they are.

use crate::config::{Disk, Files, Gateway, system};
use crate::model::{Plan, SiteId};
use std::path::{Path, PathBuf};

/// What a configuration file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The database.
    Journal,
    /// `gateway.toml`.
    Gateway,
    /// The site plan.
    Plan,
    /// A device profile of the site's own.
    Profile,
    /// A file with passwords or a token.
    Secret,
}

/// One file to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is for.
    pub role: Role,
    /// Where it lies.
    pub path: PathBuf,
}

/// A gateway, as a backup sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Household {
    /// The site, or the host where the plan names none: it is in the backup's name.
    pub name: String,
    /// The host.
    pub host: String,
    /// The data directory.
    pub journal_dir: PathBuf,
    /// The folder of `gateway.toml`: what lies below it keeps its relative name.
    pub folder: PathBuf,
    /// The files of the configuration, secrets too.
    pub parts: Vec<Part>,
}

/// A name in a folder's name, bytes. A site's id has at most 64.
const NAME_MAX: usize = 64;

impl Household {
    /// The gateway of a configuration; `plan` as far as it could be read.
    pub fn of(gateway: &Gateway, plan: Option<&Plan>) -> Self {
        let folder = gateway.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        let mut parts = vec![
            Part { role: Role::Gateway, path: gateway.file.clone() },
            Part { role: Role::Plan, path: gateway.plan_file.clone() },
        ];
        let profiles = profiles_of(gateway);
        parts.extend(profiles.into_iter().map(|path| Part { role: Role::Profile, path }));
        parts.extend(gateway.secret_files.iter().map(|path| Part { role: Role::Secret, path: path.clone() }));
        let host = host();
        let site = plan.and_then(|plan| plan.sites.iter().map(|site| &site.id).find(is_real));
        let name = site.map_or_else(|| host.clone(), ToString::to_string);
        Self { name: tidy(&name), host, journal_dir: gateway.journal.dir.clone(), folder, parts }
    }

    /// A data directory without its configuration.
    pub fn of_data(dir: &Path) -> Self {
        let host = host();
        Self {
            name: tidy(&host),
            host,
            journal_dir: dir.to_owned(),
            folder: dir.to_owned(),
            parts: Vec::new(),
        }
    }
}

/// The gateway's own links, journal and clock are a site as well, the last one, and the same on every box.
fn is_real(site: &&SiteId) -> bool {
    site.as_str() != system::SITE
}

/// The site's own profiles; those that cannot be listed are not there for the gateway either.
fn profiles_of(gateway: &Gateway) -> Vec<PathBuf> {
    let Some(dir) = &gateway.profiles_dir else { return Vec::new() };
    Disk.models_below(dir).unwrap_or_default()
}

fn host() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let told = told.trim();
    if told.is_empty() { "gateway".to_owned() } else { told.to_owned() }
}

/// A name that every file system takes, a stick's FAT too.
fn tidy(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    name.chars().take(NAME_MAX).map(plain).collect()
}
