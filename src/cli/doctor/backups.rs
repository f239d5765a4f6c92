//! The doctor looks at the backups: whether there are any, how old the last good one is, whether the target is there.

use super::super::known::Known;
use super::{Finding, Grade};
use crate::backup::{self, DOCUMENT, Household, Last, Mounts, Whence, room};
use crate::journal::Archive;
use crate::model::{Span, Timestamp};

/// Backups that somebody makes by hand: one a month.
const BY_HAND: Span = Span::from_secs(31 * 86_400);

pub(super) fn look(
    known: Option<&Known>,
    archive: Option<&Archive>,
    now: Timestamp,
    found: &mut Vec<Finding>,
) {
    let Some(known) = known else { return };
    let Some(settings) = &known.gateway.backup else {
        found.push(
            Finding::new(Grade::Warning, "backup-none", "没有设置备份", "no backups are configured")
                .means(
                    "存储卡坏了，报警记录、值班日志、曲线、账号一起丢",
                    "when the card fails, hazards, duty log, charts and accounts are lost with it",
                )
                .todo(
                    "插一个 U 盘，在 gateway.toml 写 [backup] dir = \"…\"、every_hours = 24",
                    "plug a stick in and write [backup] dir = \"…\", every_hours = 24 in gateway.toml",
                ),
        );
        return;
    };
    let target = backup::usable(&settings.dir, &Mounts::read());
    if let Err(error) = &target {
        found.push(
            Finding::new(Grade::Warning, "backup-target-missing", &error.text.zh, &error.text.en)
                .about(&settings.dir.display().to_string())
                .means("做不了新的备份", "no backup can be made"),
        );
    }
    let (kind, key) = DOCUMENT;
    let last = archive.and_then(|archive| archive.document(kind, key).ok().flatten());
    let last = last.as_deref().and_then(Last::parse);
    if let Some(last) = last.as_ref().filter(|last| !last.ok) {
        let cause = |text: &Option<String>| text.clone().unwrap_or_default();
        found.push(
            Finding::new(
                Grade::Warning,
                "backup-failed",
                &format!("最近一次定时备份失败：{}", cause(&last.error)),
                &format!("the last backup failed: {}", cause(&last.error_en)),
            )
            .since(Some(Timestamp::from_millis(last.at)))
            .todo(
                "排除原因后会自动重试；也可以运行 fengsui backup",
                "it is tried again by itself; or run fengsui backup",
            ),
        );
    }
    let mut newest = last.as_ref().and_then(|last| Some((last.good_at?, last.good_file.clone()?)));
    if let Ok(dir) = &target {
        let household = Household::of(&known.gateway, known.plan.as_deref());
        // Those that somebody made by hand count as well.
        let lies_there = backup::own(dir, &Whence::of(&household)).pop();
        newest = newest.max(lies_there.map(|(path, manifest)| (manifest.at_ms, path)));
        let device = |path| room(path).map(|room| room.device);
        if device(dir) == device(&known.gateway.journal.dir) {
            found.push(
                Finding::new(
                    Grade::Warning,
                    "backup-same-disk",
                    "备份和数据在同一块盘上",
                    "the backups lie on the journal's own disk",
                )
                .means("盘坏了会一起丢", "they die with it")
                .todo(
                    "把 [backup] dir 指到 U 盘或另一块盘",
                    "let [backup] dir be on a stick or on another disk",
                ),
            );
        }
    }
    age(newest.map(|(at, _)| Timestamp::from_millis(at)), settings.every, now, found);
}

fn age(newest: Option<Timestamp>, every: Option<Span>, now: Timestamp, found: &mut Vec<Finding>) {
    let Some(at) = newest else {
        found.push(
            Finding::new(Grade::Warning, "backup-never", "还没有成功做过一次备份", "no backup was ever made")
                .todo("运行 fengsui backup 试一次", "try it: fengsui backup"),
        );
        return;
    };
    let allowed = every.map_or(BY_HAND, backup::late_after);
    let days = now.since(at).as_millis() / 86_400_000;
    if now.since(at) > allowed {
        found.push(
            Finding::new(
                Grade::Warning,
                "backup-old",
                &format!("最近一次成功的备份已是 {days} 天前"),
                &format!("the last good backup is {days} days old"),
            )
            .since(Some(at))
            .todo(
                "检查 U 盘，运行 fengsui backup 看原因",
                "look at the stick and run fengsui backup to see why",
            ),
        );
    } else {
        found.push(
            Finding::new(Grade::Good, "backup", "最近一次备份成功", "the last backup is good")
                .since(Some(at)),
        );
    }
}
