//! The doctor reads the duty log: how the last runs ended, what the clock did, when the journal could not be written.

use super::{Finding, Grade};
use crate::backup::local;
use crate::journal::{Archive, LogLine, Logged, Note, NoteKind, Summary};
use crate::model::{Span, Text, Timestamp};

/// Lines that are read back: years of a quiet site, weeks of a noisy one.
const LINES_MAX: usize = 5000;
/// What is older is history, not news.
const NEWS: Span = Span::from_secs(7 * 86_400);

/// The newest lines, newest first.
pub(super) fn lines(archive: &Archive) -> Vec<LogLine> {
    let mut lines: Vec<LogLine> = Vec::new();
    while lines.len() < LINES_MAX {
        match archive.duty_log(lines.last().map(|line| line.no), 500) {
            Ok(more) if !more.is_empty() => lines.extend(more),
            _ => break,
        }
    }
    lines
}

fn note(line: &LogLine) -> Option<&Note> {
    match &line.what {
        Logged::Note(note) => Some(note),
        Logged::Transition(_) => None,
    }
}

pub(super) fn look(
    archive: &Archive,
    lines: &[LogLine],
    summary: &Summary,
    running: bool,
    now: Timestamp,
    found: &mut Vec<Finding>,
) {
    stops(archive, lines, summary, running, found);
    often(lines, running, now, found);
    unset(lines, running, found);
    steps(lines, now, found);
    rescued(lines, now, found);
    faults(lines, now, found);
}

/// So many runs within a week that ended without a word are a fault of the box and not bad luck.
const OFTEN: usize = 3;

/// Starts and stops of the gateway, and restores, newest first.
fn lives(lines: &[LogLine]) -> impl Iterator<Item = &LogLine> {
    lines.iter().filter(|line| note(line).is_some_and(|note| is_life(note) || restored(note)))
}

fn is_start(line: &LogLine) -> bool {
    note(line).is_some_and(|note| is_life(note) && note.kind == NoteKind::Started)
}

/// Runs of the last week that ended without saying so, when there were many.
fn often(lines: &[LogLine], running: bool, now: Timestamp, found: &mut Vec<Finding>) {
    let killed_now = !running && lives(lines).next().is_some_and(is_start);
    let unsaid = lives(lines)
        .zip(lives(lines).skip(1))
        .filter(|(later, earlier)| is_start(later) && is_start(earlier) && later.at > now - NEWS);
    let count = unsaid.count() + usize::from(killed_now);
    if count >= OFTEN {
        found.push(
            Finding::new(
                Grade::Warning,
                "unclean-often",
                &format!("最近 7 天有 {count} 次没有正常停止"),
                &format!("{count} runs of the last 7 days ended without an orderly stop"),
            )
            .means(
                "供电、散热或存储卡很可能有问题",
                "the power, the cooling or the card is probably at fault",
            )
            .todo("查电源和接头，加 UPS；看 dmesg", "check the supply and its plugs, add a UPS; see dmesg"),
        );
    }
}

/// The last run that ended without saying so.
fn stops(archive: &Archive, lines: &[LogLine], summary: &Summary, running: bool, found: &mut Vec<Finding>) {
    let mut lives = lives(lines);
    let Some(newest) = lives.next() else { return };
    let ended = match (is_start(newest), running) {
        // Nobody runs, and nobody said goodbye.
        (true, false) => summary.newest.map(|(_, at)| at),
        (true, true) => match lives.next() {
            Some(before) if is_start(before) => Some(last_before(archive, newest, before)),
            _ => None,
        },
        _ => None,
    };
    match ended {
        Some(at) => found.push(
            Finding::new(
                Grade::Warning,
                "unclean-stop",
                &format!("上次运行没有正常停止，最后一条记录在 {}", local(at)),
                &format!("the last run ended without an orderly stop, its newest record is of {}", local(at)),
            )
            .since(Some(at))
            .means(
                "停电、死机或被强行结束；已确认收到的数据都在",
                "a power cut, a crash or a kill; everything that was acknowledged is there",
            )
            .todo(
                "看供电和散热；经常出现就加 UPS",
                "look at the power supply; if it happens often, add a UPS",
            ),
        ),
        None => found.push(Finding::new(
            Grade::Good,
            "clean-stop",
            "上次运行正常停止，或从未停过",
            "the last run was stopped in good order, or never ended",
        )),
    }
}

/// The gateway's own start or stop; what else belongs to a start bears another subject.
fn is_life(note: &Note) -> bool {
    matches!(note.kind, NoteKind::Started | NoteKind::Stopped) && &*note.subject == "gateway"
}

/// A start on a restored journal follows the middle of another run, and that is no accident.
fn restored(note: &Note) -> bool {
    note.kind == NoteKind::Journal
        && &*note.subject == "backup"
        && note.text.en.starts_with("restored from a backup")
}

/// The time of the newest entry before a start.
fn last_before(archive: &Archive, start: &LogLine, before: &LogLine) -> Timestamp {
    let entry = archive
        .entries_after(start.no.saturating_sub(2), 1)
        .ok()
        .and_then(|entries| entries.first().cloned());
    entry.filter(|entry| entry.no < start.no).map_or(before.at, |entry| entry.at)
}

/// The words with which the pipeline begins to run without a clock that can be believed.
const UNSET: [&str; 2] = ["the time is not set", "the wall clock fell to before 2025"];

/// Whether the run that goes on has no time of its own, although the system's may look right.
fn unset(lines: &[LogLine], running: bool, found: &mut Vec<Finding>) {
    if !running || found.iter().any(|finding| finding.id == "clock-unset") {
        return;
    }
    // What this run said of its clock last. Its first line is its start, and stands in the same entry.
    let start = lines
        .iter()
        .find(|line| note(line).is_some_and(|note| is_life(note) && note.kind == NoteKind::Started));
    let first = start.map_or(0, |line| line.no);
    let told = lines.iter().take_while(|line| line.no >= first);
    let mut told = told.filter_map(|line| Some((line, note(line).filter(|note| &*note.subject == "clock")?)));
    let Some((line, _)) =
        told.next().filter(|(_, note)| UNSET.iter().any(|words| note.text.en.starts_with(words)))
    else {
        return;
    };
    found.push(
        Finding::new(
            Grade::Serious,
            "clock-unset",
            "网关的时间未校准：开机后系统时钟还没有被校过",
            "the gateway's time is not set: nobody has set the system's clock since it started",
        )
        .since(Some(line.at))
        .means(
            "记录的时间接着上一条走，校时后会自动更正；报警不受影响",
            "records are dated on from the newest one and are corrected once it is set; alarms are not affected",
        )
        .todo(
            "检查网络和 NTP（timedatectl），或换主板上的时钟电池",
            "check the network and NTP (timedatectl), or the battery of the board's clock",
        ),
    );
}

/// The journal's file was deleted or replaced while the gateway ran, which put it back.
fn rescued(lines: &[LogLine], now: Timestamp, found: &mut Vec<Finding>) {
    const WORDS: [&str; 2] = ["the database's file was deleted", "the database's file was replaced"];
    let told = |note: &&Note| WORDS.iter().any(|words| note.text.en.starts_with(words));
    let mut told = lines.iter().filter_map(|line| Some((line.at, note(line).filter(told)?)));
    let Some((at, newest)) = told.next().filter(|(at, _)| *at > now - NEWS) else { return };
    if found.iter().any(|finding| finding.id == "database-deleted") {
        return;
    }
    let Text { zh, en } = &newest.text;
    found.push(
        Finding::new(Grade::Warning, "database-deleted", zh, en)
            .since(Some(at))
            .means("没有丢记录", "nothing was lost")
            .todo(
                "查清是谁或哪个程序动了数据目录",
                "find out who or which program touched the data directory",
            ),
    );
}

fn steps(lines: &[LogLine], now: Timestamp, found: &mut Vec<Finding>) {
    let mut steps = lines
        .iter()
        .filter(|line| line.at > now - NEWS)
        .filter_map(|line| Some((line.at, note(line).filter(|note| note.kind == NoteKind::ClockStepped)?)));
    let Some((at, newest)) = steps.next() else { return };
    let count = 1 + steps.count();
    // The words with which the pipeline ends a stretch without a clock.
    let (means_zh, means_en) = if newest.text.en.starts_with("the clock was set") {
        (
            "开机后一段时间没有校时；那段时间的记录和曲线已按校准后的时间更正，值班日志保留当时的时间",
            "nobody had set it for a while; records and charts of that time were corrected, the duty log keeps the times that were signed",
        )
    } else {
        (
            "那段时间的记录时间可能不准；限时报警不受影响",
            "the times of records around it may be wrong; deadlines are not affected",
        )
    };
    found.push(
        Finding::new(
            Grade::Warning,
            "clock-stepped",
            &format!("最近 7 天时钟跳变 {count} 次，最近一次：{}", newest.text.zh),
            &format!("the clock was stepped {count} times in 7 days, the last time: {}", newest.text.en),
        )
        .since(Some(at))
        .means(means_zh, means_en)
        .todo("检查 NTP 和时钟电池", "check NTP and the battery of the clock"),
    );
}

/// The words that the pipeline writes when the journal cannot take an entry, and when it can again.
const FAULTY: [&str; 2] = ["the journal cannot be written", "the journal did not answer in time"];
const MENDED: &str = "the journal is written again";

fn faults(lines: &[LogLine], now: Timestamp, found: &mut Vec<Finding>) {
    let of_journal = |line: &'_ &LogLine| note(line).is_some_and(|note| note.kind == NoteKind::Journal);
    let says = |line: &LogLine, words: &str| note(line).is_some_and(|note| note.text.en.starts_with(words));
    let faulty = |line: &&LogLine| FAULTY.iter().any(|words| says(line, words));
    let mut told = lines.iter().filter(of_journal);
    let Some(last) = told.clone().find(faulty) else { return };
    let mended = told.find(|line| says(line, MENDED)).filter(|mended| mended.no >= last.no);
    if last.at <= now - NEWS {
        return;
    }
    let count = lines.iter().filter(of_journal).filter(faulty).filter(|line| line.at > now - NEWS).count();
    let cause = note(last).map(|note| note.text.clone());
    let (zh, en) = cause.as_ref().map_or(("", ""), |text| (&*text.zh, &*text.en));
    let until = mended.map(|mended| local(mended.at));
    let (until_zh, until_en) = match &until {
        Some(until) => (format!("，{until} 恢复"), format!(", until {until}")),
        None => ("，没有恢复的记录".to_owned(), ", and nothing says that it ended".to_owned()),
    };
    found.push(
        Finding::new(
            Grade::Warning,
            "journal-was-unwritable",
            &format!("最近 7 天日志写不进去 {count} 次，最近一次：{zh}{until_zh}"),
            &format!(
                "the journal could not be written {count} times in 7 days, the last time: {en}{until_en}"
            ),
        )
        .since(Some(last.at))
        .means(
            "当时的报警标过“未记录”，恢复后已补记；遥测可能有缺",
            "alarms were shown as not recorded and were recorded afterwards; telemetry may be missing",
        )
        .todo("查磁盘：满了，慢了，还是坏了（dmesg）", "look at the disk: full, slow or failing (dmesg)"),
    );
}
