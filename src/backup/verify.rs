//! Whether a backup is still what it was: every sum, the database, the duty log's chain.

use super::make::{GoOn, stopped};
use super::manifest::{self, Journalled, Manifest};
use super::{BackupError, JOURNAL, Trouble};
use crate::journal::{Archive, OpenError};
use std::path::Path;
use std::sync::Arc;

/// A backup that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What is in it.
    pub manifest: Manifest,
    /// False: its journal is of an older format, so only the sums were compared; a start brings it forward.
    pub looked_inside: bool,
}

/// Verifies a backup: reads every file.
///
/// Errors: it is no backup, is not whole, or was made by a later version.
pub fn verify(backup: &Path) -> Result<Verified, BackupError> {
    let manifest = Manifest::read(backup)?;
    for file in &manifest.files {
        let path = backup.join(&file.path);
        let found = manifest::sum(&path, &|| true);
        let found = found.map_err(|error| {
            BackupError::not_whole(&path, &format!("读不出来：{error}"), &format!("cannot be read: {error}"))
        })?;
        if found != Some((file.bytes, file.sha256.clone())) {
            return Err(BackupError::not_whole(
                &path,
                "和备份时不一样（校验和不符）",
                "is not what it was (its sum differs)",
            ));
        }
    }
    let looked_inside = match Archive::open(backup) {
        Err(OpenError::Older { .. }) => false,
        _ => {
            check_journal(backup, Some(&manifest.journal.audit), &always())?;
            true
        }
    };
    Ok(Verified { manifest, looked_inside })
}

fn always() -> GoOn {
    Arc::new(|| true)
}

/// Checks the database of a backup's folder and the chain of its duty log.
pub(super) fn check_journal(dir: &Path, head: Option<&str>, go_on: &GoOn) -> Result<Journalled, BackupError> {
    let path = dir.join(JOURNAL);
    let mut archive = Archive::open(dir).map_err(|error| match error {
        OpenError::Newer { .. } => BackupError::failed(&path, &error),
        error => BackupError::not_whole(&path, &error.to_string(), &error.to_string()),
    })?;
    let unread = |error| if go_on() { BackupError::failed(&path, &error) } else { stopped() };
    let asked = go_on.clone();
    archive.only_while(move || asked()).map_err(unread)?;
    if let Some(first) = archive.check().map_err(unread)?.first() {
        return Err(BackupError::not_whole(
            &path,
            &format!("数据库损坏：{first}"),
            &format!("is damaged: {first}"),
        ));
    }
    let report = archive.audit(head).map_err(unread)?;
    if !report.sound() {
        let findings = report.findings.len();
        return Err(BackupError::new(
            Trouble::NotWhole,
            &format!(
                "{} 的值班日志和校验链不符（{findings} 处）：请运行 fengsui audit verify",
                path.display()
            ),
            &format!(
                "the duty log of {} does not agree with its chain ({findings} places): run fengsui audit verify",
                path.display()
            ),
        ));
    }
    let summary = archive.summary().map_err(unread)?;
    Ok(Journalled {
        format: summary.format as u64,
        head: summary.head,
        newest_ms: summary.newest.map(|(_, at)| at.as_millis()),
        audit: report.head.to_string(),
        open_hazards: summary.open_hazards,
    })
}
