//! From our settings to rumqttc's.

use super::{MqttSettings, OFFLINE, WIRE_BYTES_MAX};
use rumqttc::{LastWill, MqttOptions, QoS};
use std::time::Duration;

/// rumqttc's options, or why these settings can never work. Checked here because rumqttc panics on some.
pub(super) fn options(settings: &MqttSettings) -> Result<MqttOptions, String> {
    if settings.client_id.is_empty() {
        return Err("the client id is empty: a session cannot be kept without one".to_owned());
    }
    if settings.keep_alive < Duration::from_secs(1) {
        return Err("the keep-alive is shorter than a second".to_owned());
    }
    if let Some(filter) = settings.filters.iter().find(|f| !rumqttc::valid_filter(f)) {
        return Err(format!("{filter:?} is no MQTT topic filter"));
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
            return Err(format!("{topic:?} is no MQTT topic"));
        }
        options.set_last_will(LastWill::new(topic, OFFLINE, QoS::AtLeastOnce, true));
    }
    if let Some(tls) = &settings.tls {
        options.set_transport(super::tls::transport(tls)?);
    }
    Ok(options)
}
