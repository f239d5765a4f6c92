//! FRAMES → READINGS, the catalogue: the vocabulary and every profile, from the texts of `device-profiles/`.

use super::draft::{Problems, no_id};
use super::schema::Profile;
use super::variant::VARIANT;
use super::vocabulary::Vocabulary;
use crate::model::{Problem, ProfileId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The vocabulary's file name, directly in the folder.
const VOCABULARY_FILE: &str = "vocabulary.toml";

/// Everything the folder `device-profiles/` says.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// The point classes; empty when its file is missing or broken, and then there are no profiles either.
    pub vocabulary: Arc<Vocabulary>,
    /// The profiles that are right, by id.
    pub profiles: BTreeMap<ProfileId, Arc<Profile>>,
}

impl Catalogue {
    /// Parses the files of the folder, given as path and text; a later file of the same id replaces an earlier one,
    /// so that a site's own folder may come after the built-in one. A broken profile is a problem, and the rest
    /// goes on. A codec, `.js`, is read by the profile that names it; other files are left alone.
    pub fn parse(files: impl Iterator<Item = (String, String)>) -> (Self, Vec<Problem>) {
        let (files, others): (Vec<_>, Vec<_>) = files.partition(|(path, _)| path.ends_with(".toml"));
        let codecs: BTreeMap<String, String> = others.into_iter().collect();
        let (vocabularies, profiles): (Vec<_>, Vec<_>) =
            files.iter().partition(|(path, _)| path.rsplit(['/', '\\']).next() == Some(VOCABULARY_FILE));
        let mut problems = Vec::new();
        let mut vocabulary = None;
        for (path, text) in vocabularies {
            match Vocabulary::parse(path, text) {
                Ok(parsed) => vocabulary = Some(Arc::new(parsed)),
                Err(wrong) => problems.extend(wrong),
            }
        }
        let mut catalogue = Self { vocabulary: vocabulary.unwrap_or_default(), profiles: BTreeMap::new() };
        if catalogue.vocabulary.classes().next().is_none() {
            // Every profile would only complain of unknown classes.
            if problems.is_empty() {
                let mut missing = Problems::new(VOCABULARY_FILE);
                missing.whole_file(
                    "缺少词汇表 / the vocabulary is missing",
                    "把 vocabulary.toml 放进 device-profiles/ / put vocabulary.toml into device-profiles/",
                );
                problems.extend(missing.list);
            }
            return (catalogue, problems);
        }
        for (path, text) in profiles {
            let folder = path.rfind(['/', '\\']).map_or("", |end| &path[..=end]);
            let beside = |name: &str| codecs.get(&format!("{folder}{name}")).cloned();
            let vocabulary = &catalogue.vocabulary;
            match profile_id(path).and_then(|id| Profile::parse_all(id, path, text, vocabulary, &beside)) {
                Ok((model, variants)) => catalogue.replace(model, variants),
                Err(wrong) => problems.extend(wrong),
            }
        }
        (catalogue, problems)
    }

    /// With a model go the variants of the file that it replaces.
    fn replace(&mut self, model: Profile, variants: Vec<Profile>) {
        let variant_of = format!("{}{VARIANT}", model.id);
        self.profiles.retain(|id, _| !id.as_str().starts_with(&variant_of));
        for profile in std::iter::once(model).chain(variants) {
            self.profiles.insert(profile.id.clone(), Arc::new(profile));
        }
    }
}

/// The id that a path below the folder gives its profile: its last two parts without `.toml`.
pub fn profile_id(path: &str) -> Result<ProfileId, Vec<Problem>> {
    let refuse = |why: String| {
        let mut problems = Problems::new(path);
        problems.whole_file(why, "文件应名为 device-profiles/<厂商>/<型号>.toml，用小写字母 / name it device-profiles/<vendor>/<model>.toml, in lower case");
        problems.list
    };
    let mut parts = path.trim_end_matches(".toml").rsplit(['/', '\\']);
    match (parts.next(), parts.next()) {
        (Some(model), Some(vendor))
            if [model, vendor].iter().all(|part| !part.is_empty() && !part.contains(VARIANT)) =>
        {
            ProfileId::parse(&format!("{vendor}/{model}")).map_err(|error| refuse(no_id(&error).0))
        }
        _ => Err(refuse("从路径看不出厂商和型号 / the path does not say vendor and model".to_owned())),
    }
}
