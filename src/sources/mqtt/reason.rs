//! Why a connection ended, for the person who has to do something about it.

use super::{MqttSettings, WIRE_BYTES_MAX};
use rumqttc::{ConnectReturnCode, ConnectionError, StateError};
use std::io::ErrorKind;

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum Lost {
    /// rumqttc's word for it.
    Broken(ConnectionError),
    /// A write failed or took too long.
    WriteFailed(String),
    /// No SUBACK came.
    NotSubscribed,
}

impl From<ConnectionError> for Lost {
    fn from(error: ConnectionError) -> Self {
        Self::Broken(error)
    }
}

impl Lost {
    /// What happened, where, and what to do.
    pub(super) fn reason(&self, settings: &MqttSettings) -> String {
        let place = format!("{}:{}", settings.host, settings.port);
        match self {
            Self::WriteFailed(why) => format!("{place}: the broker takes nothing any more ({why})"),
            Self::NotSubscribed => format!("{place}: the broker did not answer the subscription"),
            Self::Broken(error) => broken(error, settings, &place),
        }
    }
}

fn broken(error: &ConnectionError, settings: &MqttSettings, place: &str) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code, settings, place),
        ConnectionError::NetworkTimeout => format!("{place}: no answer while connecting"),
        ConnectionError::FlushTimeout => format!("{place}: the broker takes nothing any more"),
        ConnectionError::Tls(error) => format!("{place}: TLS failed: {error}"),
        ConnectionError::Io(error) => io(error, place),
        ConnectionError::MqttState(error) => state(error, settings, place),
        ConnectionError::NotConnAck(_) => format!("{place}: what answers there is no MQTT 3.1.1 broker"),
        ConnectionError::RequestsDone => format!("{place}: closed by ourselves"),
    }
}

fn refused(code: ConnectReturnCode, settings: &MqttSettings, place: &str) -> String {
    let user = settings.user.as_ref().map_or("(none)", |(name, _)| name);
    let why = match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            return format!(
                "{place}: the broker refused user {user:?}: check user, password and its access list"
            );
        }
        ConnectReturnCode::BadClientId => {
            return format!("{place}: the broker refused the client id {:?}", settings.client_id);
        }
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::ServiceUnavailable => "it is not available",
        ConnectReturnCode::Success => "it said yes to something else",
    };
    format!("{place}: the broker refused the connection: {why}")
}

fn io(error: &std::io::Error, place: &str) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("{place}: nothing listens there (connection refused)"),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => format!("{place}: the connection was reset"),
        _ => format!("{place}: {error}"),
    }
}

fn state(error: &StateError, settings: &MqttSettings, place: &str) -> String {
    match error {
        StateError::AwaitPingResp => {
            format!("{place}: no answer to a ping within {} s (half-open)", settings.keep_alive.as_secs())
        }
        StateError::ConnectionAborted => format!(
            "{place}: the broker closed the connection; if this repeats, another client uses the id {:?}",
            settings.client_id
        ),
        StateError::Deserialization(rumqttc::Error::PayloadSizeLimitExceeded(bytes)) => format!(
            "{place}: a packet of {bytes} bytes waits at the broker, more than {WIRE_BYTES_MAX}: \
             remove it there and limit the packet size of the broker"
        ),
        StateError::Deserialization(rumqttc::Error::Io(error)) | StateError::Io(error) => io(error, place),
        other => format!("{place}: {other}"),
    }
}
