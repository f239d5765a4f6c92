//! WIRE → FRAMES, by MQTT: settings that can never work, told before anything is tried.

use super::MqttSettings;
use crate::model::Text;
use std::time::Duration;

/// Why these settings can never work, if they cannot.
pub(super) fn fault(settings: &MqttSettings) -> Option<Text> {
    if settings.client_id.is_empty() {
        return Some(Text::new(
            "客户端标识是空的，无法保持会话",
            "the client id is empty: a session cannot be kept without one",
        ));
    }
    if settings.keep_alive < Duration::from_secs(1) {
        return Some(Text::new("心跳间隔不到一秒", "the keep-alive is shorter than a second"));
    }
    if let Some(filter) = settings.filters.iter().find(|filter| !rumqttc::valid_filter(filter)) {
        return Some(Text::new(
            &format!("{filter:?} 不是 MQTT 主题过滤器"),
            &format!("{filter:?} is no MQTT topic filter"),
        ));
    }
    let will = settings.will_topic.as_ref();
    will.filter(|topic| !rumqttc::valid_topic(topic))
        .map(|topic| Text::new(&format!("{topic:?} 不是 MQTT 主题"), &format!("{topic:?} is no MQTT topic")))
}
