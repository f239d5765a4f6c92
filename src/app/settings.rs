//! THE COMPOSITION ROOT, the words: what the configuration says of a link, as what its source takes. Pure.

use crate::config::modbus_file::{ModbusWire, SerialDevice, SerialParity};
use crate::config::{self, Config};
use crate::model::{SignalClass, Span};
use crate::sources::{broker, modbus, mqtt, push};
use anyhow::Context;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A port of this machine only, until the configuration says otherwise.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);

pub(super) fn broker(from: &config::BrokerSettings) -> broker::BrokerSettings {
    let credentials = match from.anonymous {
        true => broker::Credentials::Anonymous,
        false => broker::Credentials::Users(broker_users(&from.users)),
    };
    let mut settings = broker::BrokerSettings::new(from.link.clone(), LOOPBACK, credentials);
    settings.listen = from.listen;
    settings.tls = from.tls.as_ref().map(|tls| {
        let (cert, key) = (tls.cert_file.clone(), tls.key_file.clone());
        (tls.listen, broker::TlsFiles { cert, key, client_ca: tls.client_ca_file.clone() })
    });
    settings
}

pub(super) fn broker_users(users: &[config::BrokerUser]) -> HashMap<String, broker::User> {
    let user = |from: &config::BrokerUser| {
        let rights = match from.everything {
            true => broker::Rights::Everything,
            false => broker::Rights::Device,
        };
        (from.login.user.clone(), broker::User { password: from.login.password.reveal().to_owned(), rights })
    };
    users.iter().map(user).collect()
}

pub(super) fn mqtt(from: &config::MqttSettings, filters: &[String]) -> mqtt::MqttSettings {
    let mut settings =
        mqtt::MqttSettings::new(from.link.clone(), from.host.clone(), from.port, from.client_id.clone());
    settings.user = from.login.as_ref().map(|login| {
        let fixed = || mqtt::Password::Fixed(login.password.reveal().to_owned());
        (login.user.clone(), from.password_file.clone().map_or_else(fixed, mqtt::Password::File))
    });
    if from.version_5 {
        settings.protocol = mqtt::Protocol::V5;
    }
    settings.tls = from
        .tls
        .as_ref()
        .map(|tls| mqtt::TlsSettings { ca_file: tls.ca_file.clone(), client: tls.client.clone() });
    settings.inflight_window = from.inflight_window;
    settings.filters = filters.to_vec();
    settings.will_topic = Some(format!("fengsui/{}/state", from.client_id));
    settings
}

pub(super) fn bus(
    from: &config::ModbusSettings,
    units: &[modbus::UnitSettings],
    slot: Option<modbus::Slot>,
) -> modbus::BusSettings {
    modbus::BusSettings {
        link: from.link.clone(),
        wire: wire(&from.wire, slot),
        line: modbus::LineSettings {
            late_answer_max: from.late_answer_max.to_std(),
            turnaround: from.turnaround.to_std(),
            echo: from.echo,
        },
        units: units.to_vec(),
        timeout: from.timeout.to_std(),
        pause_after_connect: from.pause_after_connect.to_std(),
        second_connection: from.second_connection,
    }
}

/// How a bus is reached. `slot` is where the DTU that dials in is left for it.
fn wire(from: &ModbusWire, slot: Option<modbus::Slot>) -> modbus::Wire {
    match from {
        ModbusWire::Tcp { host, port } => modbus::Wire::Tcp { host: host.clone(), port: *port },
        ModbusWire::RtuTcp { host, port } => modbus::Wire::RtuTcp { host: host.clone(), port: *port },
        ModbusWire::Serial { device, baud, parity, stop_bits } => {
            modbus::Wire::Serial(modbus::SerialSettings {
                device: match device {
                    SerialDevice::Path(path) => modbus::Device::Path(path.clone()),
                    SerialDevice::Usb { vendor, product, serial } => {
                        modbus::Device::Usb { vendor: *vendor, product: *product, serial: serial.clone() }
                    }
                },
                baud: *baud,
                parity: match parity {
                    SerialParity::None => modbus::Parity::None,
                    SerialParity::Even => modbus::Parity::Even,
                    SerialParity::Odd => modbus::Parity::Odd,
                },
                stop_bits: *stop_bits,
            })
        }
        ModbusWire::DialIn(dial_in) => modbus::Wire::DialIn(modbus::DialIn {
            slot: slot.unwrap_or_else(|| modbus::Slot::new(dial_in.registration.clone())),
            framing: if dial_in.rtu { modbus::Framing::Rtu } else { modbus::Framing::Tcp },
            heartbeat: dial_in.heartbeat.clone(),
            silent_max: dial_in.silent_max.map(Span::to_std),
        }),
    }
}

/// Errors: a topic or a key cannot be used. The configuration has checked both.
pub(super) fn push(from: &config::PushSettings) -> anyhow::Result<push::PushSettings> {
    let format = match &from.format {
        config::PushFormat::Json { topic, address_field, message_id_field } => {
            let form = push::TopicForm::parse(topic.as_deref().unwrap_or(push::TopicForm::DEFAULT));
            push::Format::Json(push::JsonForm {
                topic: form.map_err(anyhow::Error::msg)?,
                address_field: address_field.clone(),
                message_id_field: message_id_field.clone(),
            })
        }
        config::PushFormat::Ctwing { address_field } => {
            push::Format::Ctwing { address_field: address_field.clone() }
        }
        config::PushFormat::OneNet { address_field, aes_key } => {
            let parse = |key: &config::Secret| push::AesKey::parse(key.reveal());
            let key = aes_key.as_ref().map(|key| parse(key).context("the AES key is no key of OneNET"));
            push::Format::OneNet(push::OneNet {
                address_field: address_field.clone(),
                aes_key: key.transpose()?,
            })
        }
    };
    let tokens = from.tokens.iter().map(|token| token.reveal().to_owned()).collect();
    Ok(push::PushSettings::new(from.link.clone(), format, tokens))
}

/// What must be subscribed on a link: each topic of each profile that is used on it, and what else the installer wants to
/// see, once.
pub(super) fn filters(config: &Config, from: &config::MqttSettings) -> Vec<String> {
    let bindings = config.bindings.iter().filter(|binding| binding.link == from.link);
    let mut filters: Vec<String> =
        bindings.flat_map(|binding| binding.profile.topics().iter().map(|topic| topic.filter())).collect();
    filters.extend(from.topics.iter().cloned());
    filters.sort();
    filters.dedup();
    match &from.share {
        Some(group) => filters.iter().map(|filter| format!("$share/{group}/{filter}")).collect(),
        None => filters,
    }
}

/// A unit and what is read of it. The profile knows no hazard, so it is told here which points fire rules watch.
pub(super) fn unit(config: &Config, binding: &config::Binding) -> Option<modbus::UnitSettings> {
    let is_urgent = |place: usize| {
        let point = binding.points.get(place).and_then(|point| config.plan.point(point));
        point.is_some_and(|(.., point)| point.rules.iter().any(|rule| rule.signal == SignalClass::Fire))
    };
    let reads = binding.profile.poll_plan_with(&is_urgent).into_iter().map(|block| modbus::Read {
        table: block.table,
        start: block.start,
        count: block.count,
        every: block.every.to_std(),
        urgent: block.urgent,
    });
    Some(modbus::UnitSettings { device: binding.device.clone(), unit: binding.unit?, reads: reads.collect() })
}
