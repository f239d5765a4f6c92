//! The doctor asks the running gateway itself, where only its memory knows: whether it can write now, what it gave up, which
//! sink does not get through.

use super::{Finding, Grade};
use crate::config::Gateway;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A gateway that does not answer its own box within this does not answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The metrics are some 10 kB.
const ANSWER_MAX: u64 = 1 << 20;

/// Gives the names of the sinks that do not get through at this moment.
pub(super) fn look(gateway: &Gateway, found: &mut Vec<Finding>) -> BTreeSet<String> {
    let nobody = BTreeSet::new();
    let Some(listen) = gateway.web_listen.filter(|listen| listen.port() != 0) else { return nobody };
    let address = match listen.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listen.port()),
        ip => SocketAddr::new(ip, listen.port()),
    };
    let (ready, why) = match ask(address, "/readyz") {
        Ok((status, why)) => (status == 200, why),
        Err(error) => {
            found.push(
                Finding::new(
                    Grade::Serious,
                    "not-answering",
                    &format!("网关的进程在，但 {address} 没有应答：{error}"),
                    &format!("the process is there, but {address} does not answer: {error}"),
                )
                .means("值班页面打不开", "the duty-room page cannot be opened")
                .todo(
                    "刚启动就再等一会儿；否则看运行日志，重启网关",
                    "wait a little after a start; else read its log and restart it",
                ),
            );
            return nobody;
        }
    };
    if !ready {
        let mut lines = why.lines().skip(1);
        let mut because = |colon: &str| lines.next().map(|why| format!("{colon}{why}")).unwrap_or_default();
        found.push(
            Finding::new(
                Grade::Serious,
                "journal-unwritable",
                &format!("日志现在写不进去{}", because("：")),
                &format!("the journal cannot be written now{}", because(": ")),
            )
            .means(
                "报警照常显示，但标“未记录”；停电就没了",
                "alarms are shown, marked as not recorded; a power cut loses them",
            )
            .todo(
                "看上面关于磁盘的各项和 dmesg；不要断电",
                "see what is said of the disk, and dmesg; do not cut the power",
            ),
        );
    }
    let Ok((200, text)) = ask(address, "/metrics") else { return nobody };
    let figures = figures(&text);
    let count = |name: &str| figures.get(format!("fengsui_{name}_total").as_str()).copied().unwrap_or(0);
    let (unrecorded, lost) = (count("frames_acked_unrecorded"), count("readings_lost"));
    if unrecorded > 0 || lost > 0 {
        found.push(
            Finding::new(Grade::Warning, "readings-unrecorded", &format!("本次运行中，有 {unrecorded} 条消息还没记录就答复了发送方，{lost} 个读数因内存已满放弃"), &format!("in this run {unrecorded} messages were acknowledged before they were recorded, {lost} readings were given up because memory was full"))
                .means("日志写不进去时，为了让火警能进来，只好这样；这段时间的遥测可能有缺", "while the journal could not be written this let fire reports through; telemetry of that time may be missing")
                .todo("查磁盘当时出了什么问题", "find out what happened to the disk"),
        );
    }
    failing(&text)
}

/// The sinks of `fengsui_sink_failing{sink="town"} 1`.
fn failing(text: &str) -> BTreeSet<String> {
    let failing = text.lines().filter_map(|line| line.strip_prefix("fengsui_sink_failing{sink=\""));
    failing.filter_map(|line| line.strip_suffix("\"} 1")).map(str::to_owned).collect()
}

/// Whole numbers by name.
fn figures(text: &str) -> BTreeMap<&str, u64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, figure)| Some((name, figure.parse().ok()?)))
        .collect()
}

/// A question without a library: the doctor must work when little else does.
fn ask(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept-Encoding: identity\r\n\r\n"
        )
        .as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no HTTP"))?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
