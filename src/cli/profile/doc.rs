//! `fengsui profile doc`: the tables of models and classes in a folder's README.md, written anew from the files.

use super::{Asked, EXIT_CONFIG};
use crate::profile::{END, MARKERS, Profile, catalogue_table, class_table, with_tables};
use clap::Args;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

/// Exit code of `--check` on a page that is not current.
const EXIT_STALE: u8 = 1;

#[derive(Debug, Args)]
pub(in crate::cli) struct Doc {
    /// The folder of profiles.
    #[arg(default_value = "device-profiles")]
    pub(super) folder: PathBuf,
    /// Change nothing; exit code 1 if the tables are not current.
    #[arg(long)]
    check: bool,
}

pub(super) fn run(asked: &Asked, arguments: &Doc, out: &mut String) -> u8 {
    out.push_str(&asked.problems());
    // A table in which a broken profile is missing would say that there is none.
    if asked.is_wrong() {
        return EXIT_CONFIG;
    }
    let mut profiles: Vec<&Profile> = asked.profiles.iter().map(|profile| &**profile).collect();
    profiles.sort_by(|a, b| a.id.cmp(&b.id));
    let page = arguments.folder.join("README.md");
    let Ok(current) = fs::read_to_string(&page) else {
        _ = writeln!(out, "{}\n{}", catalogue_table(profiles), class_table(&asked.vocabulary));
        return 0;
    };
    let shown = page.display();
    let fresh = match with_tables(&current, profiles, &asked.vocabulary) {
        Ok(fresh) => fresh,
        Err(marker) => {
            let both = MARKERS.join(" … ");
            _ = writeln!(
                out,
                "{shown} 里没有 {marker} 到 {END} 这一段：加上 {both}，每处以 {END} 结束 / the page has no {marker} … {END}: put {both} in, each with its {END}"
            );
            return EXIT_CONFIG;
        }
    };
    if fresh == current {
        _ = writeln!(out, "{shown} 的表格是最新的 / the tables are current");
        return 0;
    }
    if arguments.check {
        _ = writeln!(
            out,
            "{shown} 的表格过时了：运行 fengsui profile doc {} / the tables are not current: run it without --check",
            arguments.folder.display()
        );
        return EXIT_STALE;
    }
    match super::whole::replace(&page, &fresh) {
        Ok(()) => {
            _ = writeln!(out, "{shown} 的表格已更新 / the tables were written");
            0
        }
        Err(error) => {
            _ = writeln!(out, "写不了 {shown} / cannot write it: {error}");
            EXIT_CONFIG
        }
    }
}
