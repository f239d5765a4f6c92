//! The doctor looks at those who read the journal: how far behind each of them is, and for how long.

use super::{Finding, Grade};
use crate::journal::{Archive, Room, Summary};
use crate::model::{Span, Timestamp};
use std::collections::BTreeSet;

/// A store that is away for less than this is no news: a router restarts, a link is dialled again.
const BEHIND_MAX: Span = Span::from_secs(15 * 60);
/// The series moves its cursor when it seals, which is due after half an hour and waits for its turn.
const SERIES_BEHIND_MAX: Span = Span::from_secs(6 * 3600);
/// The series' cursor.
const SERIES: &str = crate::series::CURSOR;

/// `now`: of a gateway that runs. One that does not sends nothing, and what counts is how far it had come. `failing`: the
/// cursors of the sinks that the gateway cannot reach at this moment. One that it never reached has left no cursor yet.
pub(super) fn look(
    archive: &Archive,
    summary: &Summary,
    room: Option<&Room>,
    now: Option<Timestamp>,
    failing: &BTreeSet<String>,
    found: &mut Vec<Finding>,
) {
    let Some((newest, newest_at)) = summary.newest else { return };
    let has_one = |name: &&String| summary.cursors.iter().any(|(known, _)| known == *name);
    let never = failing.iter().filter(|name| !has_one(name)).map(|name| (name, &0));
    for (name, at) in summary.cursors.iter().map(|(name, at)| (name, at)).chain(never) {
        let lag = newest.saturating_sub(*at);
        let since = match archive.entries_after(*at, 1) {
            Ok(entries) => entries.first().map(|entry| entry.at),
            Err(_) => None,
        };
        let waited = since.map_or(Span::ZERO, |since| now.unwrap_or(newest_at).since(since));
        let hours = room.and_then(|room| room.hours_of_buffer(*at));
        found.push(if name == SERIES {
            series(lag, since, waited)
        } else {
            follower(name, lag, since, waited, failing.contains(name), hours)
        });
    }
}

/// What a store refused is kept for a person to see; the newest of it.
pub(super) fn refused(archive: &Archive, found: &mut Vec<Finding>) {
    let kept = archive.documents(crate::sinks::influx::REFUSED_KIND).unwrap_or_default();
    let documents = kept.iter().filter_map(|(_, json)| serde_json::from_str::<serde_json::Value>(json).ok());
    let mut documents: Vec<_> = documents.collect();
    documents.sort_by_key(|document| document["number"].as_u64());
    let Some(newest) = documents.last() else { return };
    let sink = newest["sink"].as_str().unwrap_or("influx");
    let why = newest["reason"].as_str().unwrap_or("?");
    let count = documents.len();
    found.push(
        Finding::new(
            Grade::Warning,
            "points-refused",
            &format!("时序库 {sink} 拒收过数据，留存 {count} 条备查，最近一条的原因：{why}"),
            &format!("the store {sink} refused points, {count} are kept, the newest because: {why}"),
        )
        .about(sink)
        .todo(
            "看页面的“健康”；多半是时间不对，或字段类型变了",
            "see the health page: mostly a wrong time, or a field whose type has changed",
        ),
    );
}

fn series(lag: u64, since: Option<Timestamp>, waited: Span) -> Finding {
    if waited <= SERIES_BEHIND_MAX {
        return Finding::new(Grade::Good, "series", "曲线跟得上日志", "the charts follow the journal");
    }
    Finding::new(
        Grade::Warning,
        "series-behind",
        &format!("曲线落后日志 {lag} 条"),
        &format!("the charts are {lag} entries behind the journal"),
    )
    .since(since)
    .means("启动会变慢；记录不会丢", "starts take longer; nothing is lost")
    .todo("看网关的运行日志里 series 的错误", "look for errors of the series in the gateway's log")
}

fn follower(
    name: &str,
    lag: u64,
    since: Option<Timestamp>,
    waited: Span,
    failing: bool,
    left: Option<u32>,
) -> Finding {
    let finding = if waited > BEHIND_MAX {
        let (zh, en) = hours(waited);
        Finding::new(
            Grade::Warning,
            "follower-behind",
            &format!("转发 {name} 落后 {lag} 条，{zh} 没有转出"),
            &format!("{name} is {lag} entries behind, nothing went out for {en}"),
        )
    } else if failing {
        Finding::new(
            Grade::Warning,
            "follower-failing",
            &format!("转发 {name} 现在送不出去（差 {lag} 条）"),
            &format!("{name} does not get through at this moment ({lag} entries behind)"),
        )
    } else {
        return Finding::new(
            Grade::Good,
            "follower",
            &format!("转发 {name} 跟得上（差 {lag} 条）"),
            &format!("{name} keeps up ({lag} entries behind)"),
        )
        .about(name);
    };
    let (left_zh, left_en) = left.map_or_else(Default::default, |hours| {
        (
            format!("；约 {hours} 小时后地方用完，最旧的遥测会丢"),
            format!("; in about {hours} hours there is no room left and the oldest telemetry is lost"),
        )
    });
    finding
        .about(name)
        .since(since)
        .means(
            &format!("记录都在本机排队，连上后会补传{left_zh}"),
            &format!("everything waits here and goes out when it is back{left_en}"),
        )
        .todo(
            "检查对方的地址、令牌和网络；页面的“健康”里有最近的错误",
            "check the far side's address, token and network; the health page shows the last error",
        )
}

fn hours(span: Span) -> (String, String) {
    let minutes = span.as_millis() / 60_000;
    match minutes {
        0..=119 => (format!("{minutes} 分钟"), format!("{minutes} minutes")),
        120..=2879 => (format!("{} 小时", minutes / 60), format!("{} hours", minutes / 60)),
        _ => (format!("{} 天", minutes / 1440), format!("{} days", minutes / 1440)),
    }
}
