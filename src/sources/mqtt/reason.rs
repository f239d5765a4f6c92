//! Why a connection ended, for the person who has to do something about it.

use super::{MqttSettings, WIRE_BYTES_MAX};
use crate::model::Text;
use crate::sources::of_connection;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError};

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum Lost {
    /// rumqttc's word for it.
    Broken(ConnectionError),
    /// A write failed or took too long.
    WriteFailed(Text),
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
    pub(super) fn reason(&self, settings: &MqttSettings) -> Text {
        let Text { zh, en } = match self {
            Self::WriteFailed(why) => Text::new(
                &format!("服务器不再接收数据（{}）", why.zh),
                &format!("the broker takes nothing any more ({})", why.en),
            ),
            Self::NotSubscribed => {
                Text::new("服务器没有答复订阅", "the broker did not answer the subscription")
            }
            Self::Broken(error) => broken(error, settings),
        };
        let place = format!("{}:{}", settings.host, settings.port);
        Text::new(&format!("{place}：{zh}"), &format!("{place}: {en}"))
    }
}

fn broken(error: &ConnectionError, settings: &MqttSettings) -> Text {
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code, settings),
        ConnectionError::NetworkTimeout => Text::new("连接时没有应答", "no answer while connecting"),
        ConnectionError::FlushTimeout => Text::new("服务器不再接收数据", "the broker takes nothing any more"),
        ConnectionError::Tls(error) => {
            Text::new(&format!("TLS 失败：{error}"), &format!("TLS failed: {error}"))
        }
        ConnectionError::Io(error) => of_connection(error),
        ConnectionError::MqttState(error) => state(error, settings),
        ConnectionError::NotConnAck(_) => {
            Text::new("对方不是 MQTT 3.1.1 服务器", "what answers there is no MQTT 3.1.1 broker")
        }
        ConnectionError::RequestsDone => Text::new("由网关关闭", "closed by ourselves"),
    }
}

fn refused(code: ConnectReturnCode, settings: &MqttSettings) -> Text {
    let (zh, en) = match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            let user = settings.user.as_ref().map_or("(none)", |(name, _)| name);
            return Text::new(
                &format!("服务器拒绝用户 {user:?}：请检查用户、密码和它的访问控制"),
                &format!("the broker refused user {user:?}: check user, password and its access list"),
            );
        }
        ConnectReturnCode::BadClientId => {
            let id = &settings.client_id;
            return Text::new(
                &format!("服务器拒绝客户端标识 {id:?}"),
                &format!("the broker refused the client id {id:?}"),
            );
        }
        ConnectReturnCode::RefusedProtocolVersion => ("不支持 MQTT 3.1.1", "it does not speak MQTT 3.1.1"),
        ConnectReturnCode::ServiceUnavailable => ("服务不可用", "it is not available"),
        ConnectReturnCode::Success => ("应答不合规", "it said yes to something else"),
    };
    Text::new(&format!("服务器拒绝连接：{zh}"), &format!("the broker refused the connection: {en}"))
}

fn state(error: &StateError, settings: &MqttSettings) -> Text {
    match error {
        StateError::AwaitPingResp => {
            let seconds = settings.keep_alive.as_secs();
            Text::new(
                &format!("{seconds} 秒内心跳没有应答（连接半断）"),
                &format!("no answer to a ping within {seconds} s (half-open)"),
            )
        }
        StateError::ConnectionAborted => {
            let id = &settings.client_id;
            Text::new(
                &format!("服务器关闭了连接；如果反复出现，是别的客户端在用同一个标识 {id:?}"),
                &format!(
                    "the broker closed the connection; if this repeats, another client uses the id {id:?}"
                ),
            )
        }
        StateError::Deserialization(rumqttc::Error::PayloadSizeLimitExceeded(bytes)) => Text::new(
            &format!(
                "服务器上有一个 {bytes} 字节的报文，超过 {WIRE_BYTES_MAX}：请在那里删除它，并限制服务器的报文大小"
            ),
            &format!(
                "a packet of {bytes} bytes waits at the broker, more than {WIRE_BYTES_MAX}: \
                 remove it there and limit the packet size of the broker"
            ),
        ),
        StateError::Deserialization(rumqttc::Error::Io(error)) | StateError::Io(error) => {
            of_connection(error)
        }
        other => Text::new(&format!("协议错误：{other}"), &other.to_string()),
    }
}
