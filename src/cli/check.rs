//! `fengsui check`: whether the configuration, the site plan and the profiles are right. Opens nothing.

use crate::config::render::Colour;
use crate::config::{Config, Env, LinkKind, Report};
use clap::Args;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// A wrong command line or configuration (EX_USAGE of sysexits.h).
pub const EXIT_CONFIG: u8 = 64;

/// Checks gateway.toml, the site plan and the device profiles, and prints what the gateway would do.
#[derive(Debug, Args)]
pub struct Check {
    /// The gateway's file; everything else is found from it.
    #[arg(long, default_value = "gateway.toml")]
    pub config: PathBuf,
}

impl Check {
    /// Prints the problems and a summary; returns the exit code, 0 or [`EXIT_CONFIG`].
    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "a person reads it in his terminal")]
    pub fn run(&self) -> u8 {
        let env = |name: &str| std::env::var(name).ok();
        let colour = if std::io::stderr().is_terminal() { Colour::Yes } else { Colour::No };
        let (problems, summary, code) = check(&self.config, &env, colour);
        eprint!("{problems}");
        println!("{summary}");
        code
    }
}

/// The problems, the summary, and the exit code.
pub fn check(path: &Path, env: Env<'_>, colour: Colour) -> (String, String, u8) {
    match Config::load(path, env) {
        Ok((config, report)) => (report.render(colour), summary(&config, &report), 0),
        Err(report) => {
            let summary = format!(
                "{}: {} 个错误，{} 个警告 / {} errors, {} warnings",
                path.display(),
                report.errors(),
                report.warnings(),
                report.errors(),
                report.warnings()
            );
            (report.render(colour), summary, EXIT_CONFIG)
        }
    }
}

/// What the gateway would watch, and how: what an installer compares with what hangs on the walls.
fn summary(config: &Config, report: &Report) -> String {
    let mut lines: Vec<String> = Vec::new();
    for site in &config.plan.sites {
        let devices = site.zones.iter().flat_map(|zone| &zone.devices);
        let points = || devices.clone().flat_map(|device| &device.points);
        let rules: usize = points().map(|point| point.rules.len()).sum();
        lines.push(format!(
            "{} {}: {} 区 zones, {} 设备 devices, {} 点 points, {rules} 规则 rules",
            site.id,
            site.name,
            site.zones.len(),
            devices.clone().count(),
            points().count(),
        ));
    }
    for (link, kind) in config.gateway.links() {
        let bound = || config.bindings.iter().filter(|binding| binding.link == *link);
        let count = bound().count();
        let topics: BTreeSet<String> =
            bound().flat_map(|binding| binding.profile.topics()).map(|topic| topic.filter()).collect();
        let reads: usize = bound().map(|binding| binding.profile.poll_plan().len()).sum();
        let how = if topics.is_empty() {
            format!("{reads} 轮询 block reads")
        } else if kind == LinkKind::Push {
            format!(
                "推送到 posts to /api/v1/ingest/{link}, {}",
                topics.into_iter().collect::<Vec<_>>().join(", ")
            )
        } else {
            format!("订阅 subscribes {}", topics.into_iter().collect::<Vec<_>>().join(", "))
        };
        lines.push(format!("{link} {}: {count} 设备 devices, {how}", kind.name()));
    }
    lines.push(format!("配置正确 / the configuration is right ({} 个警告 warnings)", report.warnings()));
    lines.join("\n")
}
