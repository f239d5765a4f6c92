//! From our settings to rumqttc's.

use super::{MqttSettings, OFFLINE, WIRE_BYTES_MAX};
use crate::model::Text;
use rumqttc::{LastWill, MqttOptions, QoS};
use std::time::Duration;

/// rumqttc's options, or why these settings can never work. Checked here because rumqttc panics on some.
pub(super) fn options(settings: &MqttSettings) -> Result<MqttOptions, Text> {
    if settings.client_id.is_empty() {
        return Err(Text::new(
            "客户端标识是空的，无法保持会话",
            "the client id is empty: a session cannot be kept without one",
        ));
    }
    if settings.keep_alive < Duration::from_secs(1) {
        return Err(Text::new("心跳间隔不到一秒", "the keep-alive is shorter than a second"));
    }
    if let Some(filter) = settings.filters.iter().find(|f| !rumqttc::valid_filter(f)) {
        return Err(Text::new(
            &format!("{filter:?} 不是 MQTT 主题过滤器"),
            &format!("{filter:?} is no MQTT topic filter"),
        ));
    }
    let mut options = MqttOptions::new(&settings.client_id, &settings.host, settings.port);
    options.set_keep_alive(settings.keep_alive);
    options.set_clean_session(false);
    options.set_manual_acks(true);
    options.set_max_packet_size(WIRE_BYTES_MAX, WIRE_BYTES_MAX);
    if let Some((name, password)) = &settings.user {
        options.set_credentials(name, password);
    }
    if let Some(topic) = &settings.will_topic {
        if !rumqttc::valid_topic(topic) {
            return Err(Text::new(
                &format!("{topic:?} 不是 MQTT 主题"),
                &format!("{topic:?} is no MQTT topic"),
            ));
        }
        options.set_last_will(LastWill::new(topic, OFFLINE, QoS::AtLeastOnce, true));
    }
    if let Some(tls) = &settings.tls {
        options.set_transport(super::tls::transport(tls)?);
    }
    Ok(options)
}
