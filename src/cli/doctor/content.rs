//! The doctor looks into the journal: whether it can be read, is sound, and agrees with its own chain and with the clock.

use super::place::Place;
use super::{Finding, Grade};
use crate::backup::local;
use crate::journal::{Archive, OpenError, ReadError, Summary};
use crate::model::{Span, Timestamp};
use std::path::Path;

/// A newest entry so far ahead of the clock was not written by a clock that runs a little differently.
const AHEAD_MAX: Span = Span::from_secs(60);

/// Opens the journal beside a running gateway.
pub(super) fn open(data: &Path, place: &Place, found: &mut Vec<Finding>) -> Option<Archive> {
    if !place.database {
        return None;
    }
    match Archive::open(data) {
        Ok(archive) => return Some(archive),
        Err(OpenError::Newer { found: theirs, known, .. }) => found.push(
            Finding::new(
                Grade::Serious,
                "format-newer",
                &format!("日志数据库由更新的版本写成（格式 {theirs}，本程序认识 {known}）"),
                &format!(
                    "a later version of the program wrote the journal (format {theirs}, known here: {known})"
                ),
            )
            .means("这个版本的网关启动不了", "this version does not start on it")
            .todo(
                "装回更新的那个版本；数据没有被动过",
                "install the later version again; nothing was changed",
            ),
        ),
        Err(OpenError::Older { found: theirs, known, .. }) => found.push(
            Finding::new(
                Grade::Warning,
                "format-older",
                &format!("日志数据库是旧格式（{theirs}，现在是 {known}）"),
                &format!("the journal is of an older format ({theirs}, now {known})"),
            )
            .todo("启动一次网关，会自动升级", "start the gateway once: it brings it forward"),
        ),
        Err(OpenError::Damaged { cause, .. }) => found.push(damaged(&cause)),
        Err(error) => found.push(unreadable(&error.to_string())),
    }
    None
}

fn damaged(cause: &str) -> Finding {
    Finding::new(Grade::Serious, "database-damaged", &format!("日志数据库损坏：{cause}"), &format!("the journal is damaged: {cause}"))
        .means("一部分记录可能读不出来", "a part of the records may be lost")
        .todo("重启网关：它会另存坏文件、救出能读的部分；或用 fengsui restore 恢复备份；反复出现就换存储卡", "restart the gateway: it sets the file aside and saves what can be read; or restore a backup; if it happens again, change the card")
}

/// A question that the journal did not answer.
pub(super) fn refused(error: &ReadError) -> Finding {
    match error {
        ReadError::Damaged(cause) => damaged(cause),
        error => unreadable(&error.to_string()),
    }
}

/// The journal is there, not damaged, and yet cannot be read.
fn unreadable(cause: &str) -> Finding {
    Finding::new(
        Grade::Serious,
        "database-unreadable",
        &format!("日志数据库读不了：{cause}"),
        &format!("the journal cannot be read: {cause}"),
    )
    .todo(
        "用网关的账号运行体检；检查磁盘（dmesg）",
        "run the doctor under the gateway's account; check the disk (dmesg)",
    )
}

pub(super) fn look(archive: &Archive, summary: &Summary, now: Timestamp, found: &mut Vec<Finding>) {
    match archive.check() {
        Ok(lines) => match lines.first() {
            Some(first) => found.push(damaged(first)),
            None => found.push(Finding::new(
                Grade::Good,
                "database",
                &format!(
                    "日志数据库完好（{} MiB，到第 {} 条）",
                    summary.bytes.div_ceil(1 << 20),
                    summary.head
                ),
                &format!(
                    "the journal is sound ({} MiB, up to entry {})",
                    summary.bytes.div_ceil(1 << 20),
                    summary.head
                ),
            )),
        },
        Err(error) => found.push(refused(&error)),
    }
    audit(archive, found);
    if let Some((_, newest)) = summary.newest
        && newest > now + AHEAD_MAX
    {
        found.push(
            Finding::new(
                Grade::Serious,
                "clock-behind-journal",
                &format!("系统时间（{}）比最后一条记录（{}）还早", local(now), local(newest)),
                &format!(
                    "the system's time ({}) is before the newest record ({})",
                    local(now),
                    local(newest)
                ),
            )
            .means(
                "时钟倒退过，或记录时的时钟是错的：先后和曲线会乱",
                "the clock went back, or was wrong when this was recorded",
            )
            .todo("检查 NTP（timedatectl）", "check NTP (timedatectl)"),
        );
    }
    let (open, closed) = (summary.open_hazards, summary.closed_hazards);
    found.push(Finding::new(
        Grade::Good,
        "hazards",
        &format!("未关闭的报警 {open} 条，已关闭 {closed} 条"),
        &format!("{open} open hazards, {closed} closed"),
    ));
}

fn audit(archive: &Archive, found: &mut Vec<Finding>) {
    let report = match archive.audit(None) {
        Ok(report) => report,
        Err(error) => return found.push(refused(&error)),
    };
    let (lines, head) = (report.lines, report.head);
    match report.findings.first() {
        None => found.push(Finding::new(
            Grade::Good,
            "audit",
            &format!("值班日志 {lines} 条，校验链完整，链头 {head}"),
            &format!("{lines} lines of the duty log, the chain is intact, head {head}"),
        )),
        Some(first) => found.push(
            Finding::new(
                Grade::Serious,
                "audit-broken",
                &format!("值班日志与校验链不符：{}", first.text.zh),
                &format!("the duty log does not agree with its chain: {}", first.text.en),
            )
            .since(first.at)
            .means("值班日志被人改过，或文件损坏", "somebody changed the duty log, or the file is damaged")
            .todo(
                "运行 fengsui audit verify；保留现场，和最近的备份对照",
                "run fengsui audit verify; keep the file, compare it with the last backup",
            ),
        ),
    }
}
