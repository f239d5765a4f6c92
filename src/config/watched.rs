//! Before the flow: which files a configuration was read from, and whether they still say the same.
//!
//! Every file that is read for a configuration is read through here, secrets too, so none can be forgotten.

use super::{Disk, Files};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a file says, in 32 bytes; `None`: it could not be read.
type Content = Option<[u8; 32]>;

/// Every file and folder that a configuration was read from, and what stood there. Empty for one that came from no disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    files: BTreeMap<PathBuf, Content>,
    folders: BTreeMap<PathBuf, Option<Vec<PathBuf>>>,
}

impl Watched {
    /// Whether nothing was read from the disk.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Files whose reading is written down.
pub(super) struct Recorder<'f> {
    files: &'f dyn Files,
    seen: RefCell<Watched>,
}

impl<'f> Recorder<'f> {
    pub(super) fn new(files: &'f dyn Files) -> Self {
        Self { files, seen: RefCell::default() }
    }

    pub(super) fn into_watched(self) -> Watched {
        self.seen.into_inner()
    }
}

impl Files for Recorder<'_> {
    fn text(&self, path: &Path) -> io::Result<String> {
        let text = self.files.text(path);
        self.seen.borrow_mut().files.insert(path.to_owned(), content(text.as_deref().ok()));
        text
    }

    fn models_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let paths = self.files.models_below(folder);
        self.seen.borrow_mut().folders.insert(folder.to_owned(), paths.as_ref().ok().cloned());
        paths
    }

    fn place(&self, path: &Path) -> PathBuf {
        self.files.place(path)
    }
}

fn content(text: Option<&str>) -> Content {
    text.map(|text| Sha256::digest(text).into())
}

/// Looks at files again and again. Reads only those whose time or size has changed since the last look.
#[derive(Debug, Default)]
pub struct Lookout {
    known: BTreeMap<PathBuf, (Stamp, Content)>,
}

/// What a glance at a file tells.
type Stamp = Option<(Option<SystemTime>, u64)>;

impl Lookout {
    /// What stands there now, when it differs from what was read. Reads the disk.
    pub fn look(&mut self, watched: &Watched) -> Option<Watched> {
        let mut now = Watched::default();
        for path in watched.files.keys() {
            now.files.insert(path.clone(), self.content(path));
        }
        for folder in watched.folders.keys() {
            now.folders.insert(folder.clone(), Disk.models_below(folder).ok());
        }
        self.known.retain(|path, _| watched.files.contains_key(path));
        (now != *watched).then_some(now)
    }

    fn content(&mut self, path: &Path) -> Content {
        let stamp = std::fs::metadata(path).ok().map(|metadata| (metadata.modified().ok(), metadata.len()));
        if let Some((known, content)) = self.known.get(path)
            && *known == stamp
        {
            return *content;
        }
        let content = content(Disk.text(path).ok().as_deref());
        self.known.insert(path.to_owned(), (stamp, content));
        content
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const GATEWAY: &str = "plan = \"plan.toml\"\nprofiles_dir = \"models\"\n[broker]\nlisten = \"127.0.0.1:0\"\ncredentials_file = \"users\"\n";
    const PLAN: &str = "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"s\"\n";

    fn house() -> tempfile::TempDir {
        let dir = tempfile::TempDir::new().unwrap();
        std::fs::write(dir.path().join("gateway.toml"), GATEWAY).unwrap();
        std::fs::write(dir.path().join("plan.toml"), PLAN).unwrap();
        std::fs::write(dir.path().join("users"), "a:secret-word\n").unwrap();
        std::fs::create_dir(dir.path().join("models")).unwrap();
        dir
    }

    #[test]
    fn every_file_of_a_configuration_is_watched_also_its_secrets_and_what_is_new() {
        let dir = house();
        let at = |name: &str| dir.path().join(name);
        let (loaded, mut watched) = Config::load_watched(&at("gateway.toml"), &|_| None);
        assert!(loaded.is_ok(), "{:?}", loaded.err());
        let mut lookout = Lookout::default();
        assert_eq!(lookout.look(&watched), None);
        let changes: [(&str, &str); 4] = [
            ("plan.toml", "[[site]]\nid = \"s\"\nname = \"t\"\naddress = \"s\"\n"),
            ("users", "a:another-word\n"),
            ("models/new.toml", "nothing"),
            ("gateway.toml", "a mistake"),
        ];
        for (name, text) in changes {
            std::fs::write(at(name), text).unwrap();
            assert!(lookout.look(&watched).is_some(), "{name}");
            watched = Config::load_watched(&at("gateway.toml"), &|_| None).1;
            assert_eq!(lookout.look(&watched), None, "{name}, right or wrong, was read");
        }
        // A file with mistakes is all that was read; what it names is watched again once it is mended.
        std::fs::write(at("gateway.toml"), GATEWAY).unwrap();
        assert!(lookout.look(&watched).is_some());
        watched = Config::load_watched(&at("gateway.toml"), &|_| None).1;
        std::fs::remove_file(at("models/new.toml")).unwrap();
        assert!(lookout.look(&watched).is_some());
    }

    #[test]
    fn a_file_that_was_saved_again_with_the_same_words_says_the_same() {
        let dir = house();
        let (_, watched) = Config::load_watched(&dir.path().join("gateway.toml"), &|_| None);
        let mut lookout = Lookout::default();
        assert_eq!(lookout.look(&watched), None);
        std::fs::remove_file(dir.path().join("plan.toml")).unwrap();
        assert!(lookout.look(&watched).is_some(), "it is gone");
        std::fs::write(dir.path().join("plan.toml"), PLAN).unwrap();
        assert_eq!(lookout.look(&watched), None);
    }

    #[test]
    fn what_came_from_no_disk_has_nothing_to_be_watched() {
        let config =
            Config::from_texts(&[("gateway.toml", "plan = \"plan.toml\"\n"), ("plan.toml", PLAN)], &|_| None);
        assert!(config.unwrap().0.watched.is_empty());
    }
}
