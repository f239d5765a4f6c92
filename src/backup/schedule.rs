//! Backups by the clock: a task of the running gateway, without cron.
//!
//! It reads the journal on a connection of its own and on a thread where blocking is allowed; the pipeline and the
//! journal's writer never wait for it, and whatever becomes of it, the gateway runs on.

use super::{BackupError, GoOn, Household, Made, Order, WAL_BYTES_MAX, make};
use crate::clock::Clock;
use crate::commands::{Door, Own};
use crate::config::Config;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::model::{Span, Text, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The kind and the key of the document in the journal that says how the last backup went: [`Last`].
pub const DOCUMENT: (&str, &str) = ("backup", "last");

/// When what is due is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// One that was missed while the box was off is made so long after the start: the sources have connected and what
    /// waited at their brokers is taken in by then.
    pub after_start: Duration,
    /// One that failed is tried again after this (or at the next time, if that is sooner): a stick may be plugged in.
    pub again_after: Span,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { after_start: Duration::from_secs(20), again_after: Span::from_secs(600) }
    }
}

/// A scheduled backup is late when the last good one is older than this: two were missed, and there was a day to make it
/// up in. It says so although nothing failed: a disk that hangs, a clock that jumped, a box that was off.
pub fn late_after(every: Span) -> Span {
    Span::from_millis(every.as_millis().saturating_mul(2).saturating_add(86_400_000))
}

/// The wall clock may be stepped while the task waits: it looks again at least this often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How the last backup went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// When it was tried, ms since 1970.
    pub at: i64,
    /// Whether it was made and verified.
    pub ok: bool,
    /// The folder; `None`: it failed.
    pub file: Option<PathBuf>,
    /// Bytes of it.
    pub bytes: u64,
    /// Why it failed, in Chinese.
    pub error: Option<String>,
    /// The same in English.
    pub error_en: Option<String>,
    /// When the last good one was made, ms since 1970.
    pub good_at: Option<i64>,
    /// Where that is.
    pub good_file: Option<PathBuf>,
}

impl Last {
    /// What the journal says of it.
    pub fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

/// What the task needs.
pub struct Schedule {
    /// Of whom.
    pub household: Household,
    /// In which folder.
    pub dir: PathBuf,
    /// How often.
    pub every: Span,
    /// How many are kept.
    pub keep: usize,
    /// Where the result is kept.
    pub journal: Journal,
    /// Where the duty log is told.
    pub door: Door,
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// When it looks.
    pub rhythm: Rhythm,
}

impl Schedule {
    /// As the configuration wants it; `None`: it wants none.
    pub fn of(
        config: &Config,
        journal: &Journal,
        door: &Door,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Option<Self> {
        let settings = config.gateway.backup.as_ref()?;
        Some(Self {
            household: Household::of(&config.gateway, Some(&config.plan)),
            dir: settings.dir.clone(),
            every: settings.every?,
            keep: settings.keep,
            journal: journal.clone(),
            door: door.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            rhythm: Rhythm::default(),
        })
    }

    /// Makes backups until it is cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let work = async {
            tokio::time::sleep(self.rhythm.after_start).await;
            let mut made_at = Instant::now();
            loop {
                let wait = self.due_in(made_at).await;
                if wait > Duration::ZERO {
                    tokio::time::sleep(wait.min(LOOK_EVERY)).await;
                    continue;
                }
                self.make(&cancel).await;
                made_at = Instant::now();
            }
        };
        cancel.run_until_cancelled(work).await;
    }

    /// How long until the next one. `made_at`: the last one of this run, or its start.
    async fn due_in(&self, made_at: Instant) -> Duration {
        if !self.clock.is_set() {
            // Nobody can say what is due by this clock: count from the start.
            return self.every.to_std().saturating_sub(made_at.elapsed());
        }
        let Some(last) = self.last().await else { return Duration::ZERO };
        let (now, tried) = (self.clock.now(), Timestamp::from_millis(last.at));
        let pause = if last.ok { self.every } else { self.every.min(self.rhythm.again_after) };
        // One from the future was made under a wrong clock.
        if tried > now { Duration::ZERO } else { (tried + pause).since(now).to_std() }
    }

    async fn last(&self) -> Option<Last> {
        let (kind, key) = DOCUMENT;
        match self.journal.document(kind, key).await {
            Ok(json) => json.as_deref().and_then(Last::parse),
            Err(error) => {
                tracing::warn!(%error, "it is not known when the last backup was made");
                None
            }
        }
    }

    async fn make(&self, cancel: &CancellationToken) {
        let now = self.clock.now();
        let order = Order {
            household: self.household.clone(),
            to: self.dir.clone(),
            with_secrets: false,
            keep: Some(self.keep),
            now,
            log_max: WAL_BYTES_MAX,
        };
        let asked = cancel.clone();
        let go_on: GoOn = Arc::new(move || !asked.is_cancelled());
        let made = tokio::task::spawn_blocking(move || make(&order, &go_on)).await;
        if cancel.is_cancelled() {
            return;
        }
        let made = made.unwrap_or_else(|defect| Err(BackupError::failed(&self.dir, &defect)));
        let before = self.last().await.unwrap_or_default();
        let known = before.at != 0;
        let last = self.result(now, &made, &before);
        if let Some(text) = news(&made, known && !before.ok) {
            let own = Own { subject: "backup".into(), text };
            if let Err(error) = self.door.tell_own(own) {
                tracing::warn!(%error, "the duty log was not told of the backup");
            }
        }
        let json = serde_json::to_string(&last).unwrap_or_default();
        let (kind, key) = DOCUMENT;
        if let Err(error) = self.journal.put_document(kind, key, Some(&json), now).await {
            tracing::warn!(%error, "the result of the backup was not kept");
            // Not again at once: the disk needs the rest.
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn result(&self, now: Timestamp, made: &Result<Made, BackupError>, before: &Last) -> Last {
        let at = now.as_millis();
        match made {
            Ok(Made { dir, manifest, pruned, .. }) => {
                self.metrics.backups.inc();
                let (bytes, deleted) = (manifest.bytes(), pruned.len());
                tracing::info!(backup = %dir.display(), bytes, deleted, "a backup was made and verified");
                let file = Some(dir.clone());
                Last {
                    at,
                    ok: true,
                    bytes,
                    good_at: Some(at),
                    good_file: file.clone(),
                    file,
                    ..Last::default()
                }
            }
            Err(error) => {
                self.metrics.backups_failed.inc();
                tracing::error!(%error, "the backup failed");
                Last {
                    at,
                    error: Some(error.text.zh.to_string()),
                    error_en: Some(error.text.en.to_string()),
                    good_at: before.good_at,
                    good_file: before.good_file.clone(),
                    ..Last::default()
                }
            }
        }
    }
}

/// The duty log is told when backups begin to fail and when they work again; not of every day's success, and not of every
/// further failure.
fn news(made: &Result<Made, BackupError>, failed_before: bool) -> Option<Text> {
    match (made, failed_before) {
        (Err(error), false) => {
            let Text { zh, en } = &error.text;
            Some(Text::new(&format!("备份失败：{zh}"), &format!("the backup failed: {en}")))
        }
        (Ok(made), true) => {
            let dir = made.dir.display();
            Some(Text::new(&format!("备份恢复正常：{dir}"), &format!("backups work again: {dir}")))
        }
        _ => None,
    }
}
