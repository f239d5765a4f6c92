//! The doctor looks at the data directory: whether it is there, who has it, which files lie in it, how much room is left.

use super::{Finding, Grade};
use crate::backup::{Mounts, Room, room};
use crate::journal::{self, DirectoryLock, LogLine, Logged};
use crate::model::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Below this the disk counts as full: the ballast (8 MiB) and a checkpoint of the log (16 MiB) no longer fit.
const FULL_BYTES: u64 = 24 << 20;
/// Below this somebody should look: a day of a site with 500 readings a second writes less than this anew.
const LOW_BYTES: u64 = 256 << 20;
/// Somebody should look when the disk will be full in less than a month, the time between two visits.
const LOW_DAYS: u32 = 30;

/// What is known of the directory.
pub(super) struct Place {
    pub(super) data: PathBuf,
    /// The process that runs on it.
    pub(super) holder: Option<String>,
    /// Whether the journal's file is there.
    pub(super) database: bool,
    room: Option<Room>,
}

/// `None`: there is nothing to look into.
pub(super) fn look(data: &Path, found: &mut Vec<Finding>) -> Option<Place> {
    let shown = data.display();
    let full = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    if let Err(error) = fs::read_dir(data)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        found.push(unwritable(data));
        return None;
    }
    if !data.is_dir() {
        let bare = Mounts::read().bare(&full);
        let (zh, en) = match bare {
            Some(point) => (
                format!("，{} 没有挂载", point.display()),
                format!(", nothing is mounted on {}", point.display()),
            ),
            None => (String::new(), String::new()),
        };
        found.push(
            Finding::new(
                Grade::Serious,
                "data-missing",
                &format!("数据目录 {shown} 不存在{zh}"),
                &format!("the data directory {shown} is not there{en}"),
            )
            .means("没有任何记录：网关从未启动过，或者目录被删、磁盘没挂上", "nothing is recorded: the gateway never ran, or the directory or its disk is gone")
            .todo("检查磁盘是否挂载；目录被删就用 fengsui restore 恢复备份", "see whether the disk is mounted; if the directory was deleted, restore a backup with fengsui restore"),
        );
        return None;
    }
    let holder = DirectoryLock::holder(data);
    found.push(match &holder {
        Some(pid) => Finding::new(
            Grade::Good,
            "running",
            &format!("网关正在运行（进程 {pid}）"),
            &format!("the gateway runs (process {pid})"),
        ),
        None => Finding::new(
            Grade::Warning,
            "not-running",
            "没有网关在这个数据目录上运行",
            "no gateway runs on this data directory",
        )
        .means("现在没有人看着传感器", "nobody watches the sensors now")
        .todo(
            "启动网关：systemctl start fengsui，或 fengsui run",
            "start it: systemctl start fengsui, or fengsui run",
        ),
    });
    let place = Place {
        data: data.to_owned(),
        database: data.join("journal.db").is_file(),
        holder,
        room: room(data),
    };
    writable(&place, found);
    database(&place, found);
    if data.join("check-at-next-start").exists() {
        found.push(
            Finding::new(
                Grade::Warning,
                "check-pending",
                "上次运行时读到损坏的数据，已标记在下次启动时全面检查",
                "the last run met damage: the next start checks the whole file",
            )
            .todo(
                "方便时重启网关；启动后看值班日志里的说明",
                "restart the gateway when it suits, then read the duty log",
            ),
        );
    }
    disk(&place, found);
    Some(place)
}

fn writable(place: &Place, found: &mut Vec<Finding>) {
    let shown = place.data.display();
    let Some(room) = place.room else { return };
    if room.read_only {
        found.push(
            Finding::new(Grade::Serious, "read-only", &format!("数据目录 {shown} 所在的文件系统是只读的"), &format!("the file system of {shown} is read-only"))
                .means("什么都记录不下来，报警照常显示但标“未记录”；SD 卡坏了时系统会这样做", "nothing can be recorded; alarms are shown, marked as not recorded. Linux does this when a card fails")
                .todo("看 dmesg；先备份（fengsui backup），再换卡或 mount -o remount,rw", "see dmesg; make a backup first (fengsui backup), then change the card or mount -o remount,rw"),
        );
    } else if !room.writable {
        found.push(unwritable(&place.data));
    }
}

fn unwritable(data: &Path) -> Finding {
    let shown = data.display();
    Finding::new(
        Grade::Serious,
        "data-unwritable",
        &format!("当前账号不能读写数据目录 {shown}"),
        &format!("this account may not read or write {shown}"),
    )
    .means("以这个账号启动的网关什么都记录不下来", "a gateway under this account can record nothing")
    .todo(
        &format!("用网关的账号体检；或改属主：chown -R fengsui: {shown}"),
        &format!(
            "run the doctor under the gateway's account, or change the owner: chown -R fengsui: {shown}"
        ),
    )
}

fn database(place: &Place, found: &mut Vec<Finding>) {
    let todo = (
        "用 fengsui restore 恢复最近的备份；没有备份就重启网关，从空库开始",
        "restore the last backup with fengsui restore; without one, restart the gateway: it begins an empty one",
    );
    if let Some(pid) = &place.holder
        && holds_deleted(pid, &place.data)
    {
        found.push(
            Finding::new(Grade::Serious, "database-deleted", "运行中的网关的日志数据库被删除或换掉了", "the journal of the running gateway was deleted or replaced")
                .means("网关还在往已删除的文件里写，一停就全没了", "it writes into a file that has no name any more: all of it is gone when it stops")
                .todo("不要停网关：先把页面上未关闭的报警抄下来，再重启并恢复最近的备份", "write down the open hazards from the page before it stops, then restart it and restore the last backup"),
        );
        return;
    }
    if place.database {
        return;
    }
    let used = ["lock", "ballast"].iter().any(|name| place.data.join(name).exists());
    found.push(if used {
        Finding::new(
            Grade::Serious,
            "database-deleted",
            "日志数据库 journal.db 不见了",
            "the journal's file journal.db is gone",
        )
        .means("报警、值班日志、曲线、账号都在里面", "hazards, duty log, charts and accounts were in it")
        .todo(todo.0, todo.1)
    } else {
        Finding::new(
            Grade::Warning,
            "database-missing",
            "数据目录里还没有日志数据库",
            "there is no journal in the data directory yet",
        )
        .means("网关还没有在这里启动过", "no gateway ever ran here")
        .todo(
            "新装的网关启动一次即可；原来有数据就检查 [journal] dir 是否写对",
            "start it once; if there was one, see whether [journal] dir is right",
        )
    });
}

/// Whether a process has a deleted `journal.db` of this directory open. What cannot be looked at is taken as sound.
fn holds_deleted(pid: &str, data: &Path) -> bool {
    let file = data.canonicalize().unwrap_or_else(|_| data.to_owned()).join("journal.db");
    let gone = format!("{} (deleted)", file.display());
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.any(|link| link.as_os_str() == gone.as_str())
}

fn disk(place: &Place, found: &mut Vec<Finding>) {
    let Some(Room { free, size, read_only, .. }) = place.room else { return };
    let ballast = fs::metadata(place.data.join("ballast")).is_ok_and(|found| found.len() > 0);
    let (free_mib, size_mib) = (free >> 20, size >> 20);
    if free < FULL_BYTES && !read_only {
        let zh = format!(
            "磁盘已满：{size_mib} MiB 只剩 {free_mib} MiB{}",
            if ballast { "" } else { "，预留空间也已用掉" }
        );
        let en = format!(
            "the disk is full: {free_mib} of {size_mib} MiB are free{}",
            if ballast { "" } else { ", the ballast is used up" }
        );
        found.push(
            Finding::new(Grade::Serious, "disk-full", &zh, &en)
                .means("记录即将或已经写不进去；报警照常显示但标“未记录”", "soon or already nothing can be recorded; alarms are shown, marked as not recorded")
                .todo("删掉这块盘上不要的文件（不要删 journal.db）；网关会自己恢复", "delete what is not needed on this disk (never journal.db); the gateway recovers by itself"),
        );
    } else if place.database && !ballast {
        found.push(
            Finding::new(
                Grade::Warning,
                "ballast-gone",
                "预留空间（ballast）不在：磁盘曾经满过",
                "the ballast is gone: the disk was full",
            )
            .means(
                &format!("现在剩 {free_mib} MiB；网关每 10 分钟试着重新预留"),
                &format!("{free_mib} MiB are free now; the gateway lays it again within ten minutes"),
            )
            .todo("弄清是什么占满了磁盘", "find out what filled the disk"),
        );
    } else if free < LOW_BYTES && !read_only {
        found.push(low(
            &format!("磁盘快满了：只剩 {free_mib} MiB"),
            &format!("the disk is nearly full: {free_mib} MiB are free"),
        ));
    } else {
        found.push(Finding::new(
            Grade::Good,
            "disk",
            &format!("磁盘剩余 {free_mib} MiB，共 {size_mib} MiB"),
            &format!("{free_mib} of {size_mib} MiB are free"),
        ));
    }
}

fn low(zh: &str, en: &str) -> Finding {
    Finding::new(Grade::Warning, "disk-low", zh, en).todo(
        "清理磁盘，或把 [journal] size_max_mib 调小",
        "free space, or make [journal] size_max_mib smaller",
    )
}

/// How long the room lasts.
pub(super) fn forecast(room: &journal::Room, found: &mut Vec<Finding>) {
    let Some(days) = room.days_until_full().filter(|days| *days < LOW_DAYS) else { return };
    if room.bytes_allowed() < room.bytes_max {
        found.push(low(
            &format!("按现在的速度，约 {days} 天后磁盘写满"),
            &format!("at this rate the disk is full in about {days} days"),
        ));
        return;
    }
    found.push(
        Finding::new(
            Grade::Warning,
            "limit-near",
            &format!("按现在的速度，约 {days} 天后日志达到容量上限（{} MiB）", room.bytes_max >> 20),
            &format!(
                "at this rate the journal is at its limit of {} MiB in about {days} days",
                room.bytes_max >> 20
            ),
        )
        .means(
            "到时最旧的曲线会提前删除；报警记录不受影响",
            "the oldest charts are deleted before their time then; hazards are not affected",
        )
        .todo(
            "盘上有余地就把 [journal] size_max_mib 调大",
            "if the disk has room, make [journal] size_max_mib larger",
        ),
    );
}

/// Damaged files that were set aside at an earlier start, and journals that a restore replaced.
pub(super) fn set_aside(place: &Place, lines: &[LogLine], found: &mut Vec<Finding>) {
    let Ok(files) = fs::read_dir(&place.data) else { return };
    let mut names: Vec<String> =
        files.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    for name in names.iter().filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm")) {
        let Ok(file) = fs::metadata(place.data.join(name)) else { continue };
        let mib = file.len().div_ceil(1 << 20);
        let at = file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let at = at.and_then(|at| i64::try_from(at.as_millis()).ok()).map(Timestamp::from_millis);
        if name.starts_with("journal.db.damaged-") {
            let told = lines.iter().find_map(|line| match &line.what {
                Logged::Note(note) if note.text.zh.contains(name.as_str()) => {
                    Some((line.at, note.text.clone()))
                }
                _ => None,
            });
            let (saved_zh, saved_en) = told.as_ref().map_or(("", ""), |(_, text)| (&*text.zh, &*text.en));
            found.push(
                Finding::new(Grade::Warning, "damaged-set-aside", &format!("以前有一个损坏的数据库被另存为 {name}（{mib} MiB）"), &format!("a damaged database was set aside as {name} ({mib} MiB)"))
                    .about(name)
                    .since(told.as_ref().map(|(at, _)| *at).or(at))
                    .means(saved_zh, saved_en)
                    .todo("核对未关闭的报警；确认不再需要后可以删掉这个文件；反复出现就换存储卡", "check the open hazards; delete the file when nobody needs it; if it happens again, change the card"),
            );
        } else if name.starts_with("journal.db.replaced-") {
            found.push(
                Finding::new(
                    Grade::Warning,
                    "foreign-set-aside",
                    &format!("网关运行时有人换过数据库文件，换上来的那个另存为 {name}（{mib} MiB）"),
                    &format!("somebody replaced the database while the gateway ran; the foreign file was kept as {name} ({mib} MiB)"),
                )
                .about(name)
                .since(at)
                .means("网关继续用原来的数据", "the gateway went on with its own")
                .todo("恢复备份要先停网关，用 fengsui restore；不要直接换文件", "stop the gateway and use fengsui restore; never put a file in its place"),
            );
        } else if name.starts_with("journal.db.before-restore-") {
            found.push(
                Finding::new(
                    Grade::Good,
                    "restore-set-aside",
                    &format!("恢复备份时换下的日志还在：{name}（{mib} MiB）"),
                    &format!("a journal that a restore replaced is still there: {name} ({mib} MiB)"),
                )
                .about(name)
                .since(at)
                .todo("确认不再需要后可以删掉", "delete it when nobody needs it"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    #[test]
    fn a_disk_that_fills_within_a_month_is_told_and_one_that_lasts_is_not() {
        let told = |bytes_max: u64, disk_free: u64, a_day: u64| {
            let mut found = Vec::new();
            let room = journal::Room {
                bytes_max,
                disk_free: Some(disk_free),
                entries_a_day: Some(a_day),
                entries_kept: Span::from_secs(3650 * 86_400),
                ..journal::Room::default()
            };
            forecast(&room, &mut found);
            found.first().map(|finding| (finding.id, finding.what.zh.to_string()))
        };
        let (id, zh) = told(2 << 30, 500 << 20, 50 << 20).unwrap();
        assert_eq!((id, zh.contains("约 10 天")), ("disk-low", true), "{zh}");
        let (id, zh) = told(500 << 20, 9 << 30, 50 << 20).unwrap();
        assert_eq!((id, zh.contains("约 10 天")), ("limit-near", true), "{zh}");
        assert_eq!(told(2 << 30, 9 << 30, 1 << 20), None);
    }
}
