//! `fengsui profile check`: everything that is wrong with the files, at once.

use super::{Asked, EXIT_CONFIG};
use crate::model::Problem;
use crate::pipeline::Rehearsal;
use crate::profile::{Profile, Vocabulary};
use std::fmt::Write;
use std::sync::Arc;

pub(super) fn run(read: &mut Asked, out: &mut String) -> u8 {
    let named = read.profiles.iter().zip(&read.names);
    let untold: Vec<Problem> =
        named.filter_map(|(profile, file)| untold(profile, file, &read.vocabulary)).collect();
    read.report.problems.extend(untold);
    out.push_str(&read.problems());
    for profile in &read.profiles {
        _ = writeln!(
            out,
            "✓ {}: {} 测点 points, {} 示例 examples, {} 报警示例 hazard examples",
            profile.id,
            profile.points.len(),
            profile.examples.len(),
            profile.hazard_examples.list.len()
        );
    }
    let (errors, warnings) = (read.report.errors(), read.report.warnings());
    let good = read.usable();
    _ = writeln!(
        out,
        "{} 个文件，{good} 个可用，{errors} 个错误，{warnings} 个警告 / {} files, {good} usable, {errors} errors, {warnings} warnings",
        read.count, read.count
    );
    if read.is_wrong() { EXIT_CONFIG } else { 0 }
}

/// What the examples of a file could raise and no hazard example shows. The file is usable all the same.
fn untold(profile: &Arc<Profile>, file: &Arc<str>, vocabulary: &Vocabulary) -> Option<Problem> {
    let unshown = Rehearsal::new(profile, vocabulary)?.unshown();
    let rules: Vec<String> = unshown.iter().map(|one| format!("{} {}", one.point, one.rule)).collect();
    let message = format!(
        "须由报警示例显示而没有的规则 / rules that have to be shown and that no [[hazard_example]] raises: {}",
        rules.join(", ")
    );
    let help = "写 [[hazard_example]]：name、series、expect；`fengsui profile test` 会给出实际结果 / write name, series and expect; `fengsui profile test` shows what comes of a series";
    (!unshown.is_empty()).then(|| Problem::warning(file, None, message, help))
}
