//! `fengsui profile check`: everything that is wrong with the files, at once.

use super::{Asked, EXIT_CONFIG};
use std::fmt::Write;

pub(super) fn run(read: &Asked, out: &mut String) -> u8 {
    out.push_str(&read.problems());
    for profile in &read.profiles {
        _ = writeln!(
            out,
            "✓ {}: {} 测点 points, {} 示例 examples",
            profile.id,
            profile.points.len(),
            profile.examples.len()
        );
    }
    let (errors, warnings) = (read.report.errors(), read.report.warnings());
    let good = read.profiles.len();
    _ = writeln!(
        out,
        "{} 个文件，{good} 个可用，{errors} 个错误，{warnings} 个警告 / {} files, {good} usable, {errors} errors, {warnings} warnings",
        read.count, read.count
    );
    if read.is_wrong() { EXIT_CONFIG } else { 0 }
}
