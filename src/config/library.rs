//! The device models: `device-profiles/`, built into the program, with a folder of the site's own laid over it.

use crate::model::ProfileId;
use crate::profile::{Profile, Vocabulary};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The vocabulary and every device model that could be read.
#[derive(Debug, Clone)]
pub struct Library {
    /// The closed list of point classes.
    pub vocabulary: Arc<Vocabulary>,
    /// The models by id.
    pub profiles: BTreeMap<ProfileId, Arc<Profile>>,
}
