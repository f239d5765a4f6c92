//! The device models: `device-profiles/`, built into the program, with a folder of the site's own laid over it.

use super::{Files, Report};
use crate::model::{Problem, ProfileId};
use crate::profile::{Catalogue, Profile, Vocabulary, profile_id};
use rust_embed::Embed;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The vocabulary and every device model that could be read.
#[derive(Debug, Clone)]
pub struct Library {
    /// The closed list of point classes.
    pub vocabulary: Arc<Vocabulary>,
    /// The models by id.
    pub profiles: BTreeMap<ProfileId, Arc<Profile>>,
    /// The models whose file has errors: they are known, but cannot be used.
    pub broken: Vec<ProfileId>,
}

/// The folder `device-profiles/` as it was when the program was built.
#[derive(Embed)]
#[folder = "device-profiles"]
struct Shipped;

/// What a message about a built-in file calls the folder it came from.
const SHIPPED_FOLDER: &str = "device-profiles";
const VOCABULARY: &str = "vocabulary.toml";

/// Reads the built-in models and the overlay. A file of the overlay replaces the built-in one of the same name;
/// the vocabulary cannot be replaced, because the rules in it are what makes an alarm an alarm.
pub(super) fn read(overlay: Option<&Path>, files: &dyn Files, report: &mut Report) -> Option<Library> {
    let mut texts = shipped();
    if let Some(folder) = overlay {
        lay_over(folder, files, &mut texts, report);
    }
    parse(texts, report)
}

/// The built-in models alone: for the tools that need no gateway file.
pub fn shipped_library(report: &mut Report) -> Option<Library> {
    parse(shipped(), report)
}

/// By the path below the folder: the name a problem carries, and the text.
type Texts = BTreeMap<String, (Arc<str>, Arc<str>)>;

fn shipped() -> Texts {
    Shipped::iter()
        .filter(|path| path.ends_with(".toml") || path.ends_with(".js"))
        .filter_map(|path| {
            let text = String::from_utf8_lossy(&Shipped::get(&path)?.data).into();
            Some((path.to_string(), (format!("{SHIPPED_FOLDER}/{path}").into(), text)))
        })
        .collect()
}

fn lay_over(folder: &Path, files: &dyn Files, texts: &mut Texts, report: &mut Report) {
    let name: Arc<str> = folder.display().to_string().into();
    let paths = match files.models_below(folder) {
        Ok(paths) => paths,
        Err(error) => {
            report.problems.push(Problem::error(
                &name,
                None,
                format!("读不了这个文件夹 / cannot read this folder: {error}"),
                "检查 profiles_dir / check profiles_dir",
            ));
            return;
        }
    };
    for path in paths {
        let below = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let name: Arc<str> = path.display().to_string().into();
        if below == VOCABULARY {
            report.problems.push(Problem::error(
                &name,
                None,
                "词汇表不能被替换 / the vocabulary cannot be replaced",
                "删除此文件；限值在站点文件里改 / remove it; limits are changed in the site plan",
            ));
            continue;
        }
        match files.text(&path) {
            Ok(text) => {
                texts.insert(below, (name, text.into()));
            }
            Err(error) => report.problems.push(Problem::error(
                &name,
                None,
                format!("读不了这个文件 / cannot read this file: {error}"),
                super::unreadable_help(&error).unwrap_or(""),
            )),
        }
    }
}

fn parse(texts: Texts, report: &mut Report) -> Option<Library> {
    let files: Vec<(Arc<str>, Arc<str>)> = texts.into_values().collect();
    report.texts.extend(files.iter().cloned());
    let (catalogue, problems) =
        Catalogue::parse(files.iter().map(|(file, text)| (file.to_string(), text.to_string())));
    report.problems.extend(problems);
    let models = files.iter().filter(|(file, _)| file.ends_with(".toml"));
    let ids = models.filter_map(|(file, _)| profile_id(file).ok());
    let broken = ids.filter(|id| !catalogue.profiles.contains_key(id)).collect();
    // Without its vocabulary nothing of a plan can be checked; the catalogue has said why.
    catalogue.vocabulary.classes().next()?;
    Some(Library { vocabulary: catalogue.vocabulary, profiles: catalogue.profiles, broken })
}
