//! WEB · the gateway's counters in words, Chinese first: the metrics describe themselves in English only.

use super::texts::Lang;

/// The Chinese of each counter and gauge that the health page shows, by its name in `/metrics`.
const ZH: &[(&str, &str)] = &[
    ("frames_received", "收到的报文"),
    ("frames_unknown", "不在现场计划中的设备发来的报文（见“待接入”）"),
    ("frames_unreadable", "读不懂的报文（见“待接入”）"),
    ("frames_repeated", "重复送来、日志中已有的报文"),
    ("frames_acked_unrecorded", "日志无法写入时先应答、只在内存中的报文"),
    ("strays_dropped", "“待接入”已满而未保留的报文"),
    ("readings", "读数"),
    ("readings_bad", "不可信的读数"),
    ("readings_lost", "日志无法写入且内存已满而放弃的读数"),
    ("hazards_raised", "发生的报警"),
    ("hazards_open", "当前报警"),
    ("journal_head", "日志最新序号"),
    ("journal_commits", "日志写入次数"),
    ("journal_failures", "日志写入失败次数"),
    ("journal_trimmed", "因容量上限、在送出之前就删除的日志"),
    ("journal_damaged", "校验失败而跳过的存储行"),
    ("journal_bytes", "日志文件大小（字节）"),
    ("modbus_polls", "Modbus 轮询次数"),
    ("modbus_failures", "Modbus 没有正确应答的轮询"),
    ("modbus_skipped", "Modbus 跳过的轮询（设备无应答或总线忙）"),
    ("mqtt_connects", "MQTT 连接次数"),
    ("mqtt_stale_acks", "连接断开而作废的 MQTT 应答（服务器会重发）"),
    ("mqtt_oversize", "超长而只保留开头的 MQTT 报文"),
    ("frames_lost", "停机时放弃、不会重发的报文"),
    ("broker_clients", "内置 MQTT 服务器的在线客户端"),
    ("broker_refused", "内置 MQTT 服务器拒绝的连接、登录和报文"),
    ("influx_points", "已送出到 InfluxDB 的数据点"),
    ("influx_refused", "InfluxDB 拒收的数据行（已留存）"),
    ("influx_retries", "InfluxDB 写入失败、将重试的次数"),
    ("influx_lag", "InfluxDB 待送的日志条数"),
    ("web_streams", "打开着的值班页面"),
    ("web_sign_in_failures", "失败的登录"),
    ("clock_steps", "系统时钟跳变次数"),
];

/// Each counter of the Prometheus text with its description, without the histograms.
pub(super) fn counters(text: &str, lang: Lang) -> Vec<(String, String)> {
    let mut counters = Vec::new();
    let (mut described, mut help) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').unwrap_or((rest, ""));
            (described, help) = (name.to_owned(), words.to_owned());
        } else if let Some((name, value)) = line.split_once(' ')
            && (name == described || name.strip_suffix("_total") == Some(&described))
        {
            let known = described.strip_prefix("fengsui_").unwrap_or(&described);
            let zh = ZH.iter().find(|(name, _)| *name == known).filter(|_| lang == Lang::Zh);
            let words = zh.map_or(help.trim_end_matches('.'), |(_, words)| words);
            counters.push((words.to_owned(), value.to_owned()));
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn every_counter_has_chinese_words() {
        let text = Metrics::new().render();
        let (zh, en) = (counters(&text, Lang::Zh), counters(&text, Lang::En));
        assert_eq!(zh.len(), ZH.len());
        for ((zh, _), (en, _)) in zh.iter().zip(&en) {
            assert_ne!(zh, en, "this counter has no Chinese words");
        }
    }
}
