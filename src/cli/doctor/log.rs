//! The doctor reads the duty log: how the last runs ended, what the clock did, when the journal could not be written.

use super::{Finding, Grade};
use crate::backup::local;
use crate::journal::{Archive, LogLine, Logged, Note, NoteKind, Summary};
use crate::model::{Span, Timestamp};

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
    steps(lines, now, found);
    faults(lines, now, found);
}

/// The last run that ended without saying so.
fn stops(archive: &Archive, lines: &[LogLine], summary: &Summary, running: bool, found: &mut Vec<Finding>) {
    let mut lives = lines.iter().filter(|line| {
        note(line)
            .is_some_and(|note| matches!(note.kind, NoteKind::Started | NoteKind::Stopped) || restored(note))
    });
    let is_start = |line: &LogLine| note(line).is_some_and(|note| note.kind == NoteKind::Started);
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

fn steps(lines: &[LogLine], now: Timestamp, found: &mut Vec<Finding>) {
    let mut steps = lines
        .iter()
        .filter(|line| line.at > now - NEWS)
        .filter_map(|line| Some((line.at, note(line).filter(|note| note.kind == NoteKind::ClockStepped)?)));
    let Some((at, newest)) = steps.next() else { return };
    let count = 1 + steps.count();
    found.push(
        Finding::new(
            Grade::Warning,
            "clock-stepped",
            &format!("最近 7 天时钟跳变 {count} 次，最近一次：{}", newest.text.zh),
            &format!("the clock was stepped {count} times in 7 days, the last time: {}", newest.text.en),
        )
        .since(Some(at))
        .means(
            "那段时间的记录时间可能不准；限时报警不受影响",
            "the times of records around it may be wrong; deadlines are not affected",
        )
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
