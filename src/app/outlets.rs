//! THE COMPOSITION ROOT, its sinks: from their configuration to a running follower of the journal.

use super::{Group, Sink};
use crate::config;
use crate::sinks;
use tokio::sync::watch;

/// Each store has its own cursor, so that a new one starts at the oldest entry and an old one goes on.
pub(super) fn influx_cursor(name: &str) -> String {
    format!("{}:{name}", sinks::influx::CURSOR)
}

pub(super) fn folder_cursor(name: &str) -> String {
    format!("{}:{name}", sinks::folder::CURSOR)
}

/// The machine's name, of letters that may stand in a file name and a tag.
pub(super) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
    let name: String = name.chars().take(64).map(fit).collect();
    if name.is_empty() { "fengsui".to_owned() } else { name }
}

pub(super) fn influx_settings(from: &config::InfluxSettings, gateway: &str) -> sinks::influx::InfluxSettings {
    let way = match &from.way {
        config::InfluxWay::V1 { database, retention_policy, login } => sinks::influx::Way::V1 {
            database: database.clone(),
            retention_policy: retention_policy.clone(),
            login: login.as_ref().map(|login| (login.user.clone(), login.password.reveal().to_owned())),
        },
        config::InfluxWay::V2 { org, bucket, token } => sinks::influx::Way::V2 {
            org: org.clone(),
            bucket: bucket.clone(),
            token: token.as_ref().map(|token| token.reveal().to_owned()),
        },
    };
    let settings = sinks::influx::InfluxSettings::new(&from.name, &from.url, way);
    sinks::influx::InfluxSettings {
        cursor: influx_cursor(&from.name),
        batch_lines_max: from.batch_lines_max.unwrap_or(settings.batch_lines_max),
        backfill_lines_per_second: from
            .backfill_lines_per_second
            .unwrap_or(settings.backfill_lines_per_second),
        retention: from.retention,
        future_max: from.future_max,
        gateway: Some(gateway.to_owned()),
        ..settings
    }
}

pub(super) fn folder_settings(from: &config::FolderSettings, gateway: &str) -> sinks::folder::FolderSettings {
    sinks::folder::FolderSettings {
        name: from.name.clone(),
        cursor: folder_cursor(&from.name),
        gateway: gateway.to_owned(),
        dir: from.dir.clone(),
        require: from.require.clone(),
        file_max_bytes: from.file_max_bytes,
        file_every: from.file_every,
        keep_free_bytes: from.keep_free_bytes,
    }
}

/// Starts a follower of the journal that delivers to somebody.
pub(super) fn start_sink(
    tasks: &mut Group,
    name: &str,
    cursor: String,
    worker: impl sinks::Worker + 'static,
) -> Sink {
    let (trouble, told) = watch::channel(None);
    let cancel = tasks.cancel.clone();
    tasks.spawn("sink", async move {
        sinks::run(worker, trouble, cancel).await;
        Ok(())
    });
    Sink { name: name.to_owned(), cursor, trouble: told }
}
