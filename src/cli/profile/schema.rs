//! `fengsui profile schema`: the JSON Schema of profile files, for editors.

use super::{Asked, EXIT_CONFIG};
use crate::profile::profile_schema;

pub(super) fn run(asked: &Asked, out: &mut String) -> u8 {
    let Ok(text) = serde_json::to_string_pretty(&profile_schema(&asked.vocabulary)) else {
        return EXIT_CONFIG;
    };
    out.push_str(&text);
    out.push('\n');
    0
}
