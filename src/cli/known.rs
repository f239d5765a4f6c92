//! What the tools know of a gateway: its configuration as far as it can be read, even when something in it is wrong.

use super::check::EXIT_CONFIG;
use crate::backup::BackupError;
use crate::config::render::Colour;
use crate::config::{Config, Gateway, Report};
use crate::model::Plan;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// A gateway's configuration, as far as it can be read.
pub(super) struct Known {
    pub(super) gateway: Gateway,
    /// `None`: the configuration as a whole is wrong.
    pub(super) plan: Option<Arc<Plan>>,
    /// What is wrong with it.
    pub(super) report: Report,
}

impl Known {
    /// `Err`: `gateway.toml` cannot be read at all.
    pub(super) fn read(path: &Path) -> Result<Self, Report> {
        // A token in the environment belongs to the gateway's service, not to the person who looks after it.
        let env = |name: &str| Some(std::env::var(name).unwrap_or_else(|_| "?".to_owned()));
        match Config::load(path, &env) {
            Ok((config, report)) => Ok(Self { gateway: config.gateway, plan: Some(config.plan), report }),
            Err(report) => match Config::gateway_alone(path, &env).0 {
                Some(gateway) => Ok(Self { gateway, plan: None, report }),
                None => Err(report),
            },
        }
    }

    /// The same for a tool that cannot go on without: says what is wrong and gives the exit code.
    pub(super) fn insist(path: &Path) -> Result<Self, u8> {
        Self::read(path).map_err(|report| {
            tell(&report.render(Colour::No));
            EXIT_CONFIG
        })
    }
}

/// Ends a line.
pub(super) const LINE_END: &str = "\n";

/// Writes to stderr; a closed terminal is no reason to fail.
pub(super) fn tell(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// Writes to stdout.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Tells of a refusal in both languages.
pub(super) fn refuse(error: &BackupError) {
    tell(&format!("✘ {}\n  {}\n", error.text.zh, error.text.en));
}
