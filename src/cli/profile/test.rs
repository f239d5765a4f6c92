//! `fengsui profile test`: the examples of the files, each with what came out instead of what stands there.

use super::{Asked, EXIT_CONFIG};
use std::fmt::Write;

/// Exit code of a run in which an example failed.
const EXIT_FAILED: u8 = 1;

pub(super) fn run(read: &Asked, out: &mut String) -> u8 {
    out.push_str(&read.problems());
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for profile in &read.profiles {
        let failures = profile.check_examples();
        let of = |name: &str| -> Vec<&str> {
            let named = failures.iter().filter(|failure| failure.example.as_deref() == Some(name));
            named.map(|failure| failure.message.as_str()).collect()
        };
        let mark = |good: bool| if good { "✓" } else { "✗" };
        _ = writeln!(out, "{} {} {}", mark(failures.is_empty()), profile.id, profile.model.zh);
        for example in &profile.examples {
            let wrong = of(&example.name);
            let good = wrong.is_empty();
            if good {
                passed += 1;
            } else {
                failed += 1;
            }
            // Of a folder only what fails is worth a line; of one file every example is.
            if !good || read.count == 1 {
                _ = writeln!(out, "  {} {}", mark(good), example.name);
            }
            for message in wrong {
                _ = writeln!(out, "      {message}");
            }
        }
        for failure in failures.iter().filter(|failure| failure.example.is_none()) {
            failed += 1;
            _ = writeln!(out, "  ✗ {}", failure.message);
        }
    }
    let broken = read.count - read.profiles.len();
    _ = writeln!(
        out,
        "{} 个型号，{passed} 项通过，{failed} 项不符，{broken} 个文件有错 / {} profiles, {passed} passed, {failed} failed, {broken} broken files",
        read.profiles.len(),
        read.profiles.len()
    );
    match (read.is_wrong(), failed) {
        (true, _) => EXIT_CONFIG,
        (false, 0) => 0,
        (false, _) => EXIT_FAILED,
    }
}
