//! WIRE → FRAMES, by MQTT: why a connection ended, for the person who has to do something about it.

use super::codec::Broken;
use super::packet::{Protocol, Refusal, Said};
use super::{CONNECT_MAX, MqttSettings, WIRE_BYTES_MAX, WRITE_MAX};
use crate::model::Text;
use crate::sources::of_connection;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};
use std::io;

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum Lost {
    /// Passwords or certificates of ours cannot be read or used.
    Secrets(Text),
    /// The broker's name has no address.
    Unresolved(io::Error),
    /// The broker's name can stand in no certificate.
    NoServerName,
    /// TLS did not come about.
    Handshake(io::Error),
    /// Nobody answered within [`CONNECT_MAX`].
    NoAnswer,
    /// The broker said no.
    Refused(Refusal, Said),
    /// The broker hung up before it said anything.
    ClosedAtOnce,
    /// The broker hung up, with its reason (MQTT 5).
    Left(Said),
    /// The broker hung up.
    Closed,
    Io(io::Error),
    Broken(Broken),
    /// Nothing could be written for [`WRITE_MAX`].
    TakesNothing,
    /// A ping was not answered.
    HalfOpen,
    /// No SUBACK came.
    NotSubscribed,
    /// By ourselves: the secrets were replaced.
    NewSecrets,
}

fn text(zh: impl AsRef<str>, en: impl AsRef<str>) -> Text {
    Text::new(zh.as_ref(), en.as_ref())
}

impl Lost {
    /// The far side closed the connection, with or without manners.
    pub(super) fn is_hanging_up(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match self {
            Self::Closed => true,
            Self::Io(error) => matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof),
            _ => false,
        }
    }

    /// What happened, where, and what to do.
    pub(super) fn reason(&self, settings: &MqttSettings) -> Text {
        let Text { zh, en } = self.what(settings);
        let place = format!("{}:{}", settings.host, settings.port);
        text(format!("{place}：{zh}"), format!("{place}: {en}"))
    }

    fn what(&self, settings: &MqttSettings) -> Text {
        let host = &settings.host;
        match self {
            Self::Secrets(what) => what.clone(),
            Self::Unresolved(error) => text(
                format!("找不到 {host} 的地址：请检查名称和 DNS（{error}）"),
                format!("{host} has no address: check the name and the DNS ({error})"),
            ),
            Self::NoServerName => text(
                format!("{host} 不能作为证书里的名称：请用域名或 IP 地址"),
                format!("{host} cannot stand in a certificate: use a host name or an address"),
            ),
            Self::Handshake(error) => handshake(error, settings),
            Self::NoAnswer => {
                let seconds = CONNECT_MAX.as_secs();
                text(
                    format!("{seconds} 秒内没有应答（连接时）"),
                    format!("no answer while connecting, for {seconds} s"),
                )
            }
            Self::Refused(refusal, said) => refused(*refusal, said, settings),
            Self::ClosedAtOnce if settings.tls.is_none() => text(
                "服务器不作应答就关闭了连接：这个端口是否要求 TLS（mqtts://，常用 8883）？",
                "the broker closed the connection without an answer: does this port want TLS (mqtts://, usually 8883)?",
            ),
            Self::ClosedAtOnce => text(
                "服务器不作应答就关闭了连接：它是否要求客户端证书（client_cert_file）？",
                "the broker closed the connection without an answer: does it want a client certificate \
                 (client_cert_file)?",
            ),
            Self::Left(said) => left(said, settings),
            Self::Closed => {
                let id = &settings.client_id;
                text(
                    format!("服务器关闭了连接；如果反复出现，是别的客户端在用同一个标识 {id:?}"),
                    format!(
                        "the broker closed the connection; if this repeats, another client uses the id {id:?}"
                    ),
                )
            }
            Self::Io(error) => {
                tls_error(error).map_or_else(|| of_connection(error), |tls| of_tls(tls, settings))
            }
            Self::Broken(broken) => broken_stream(broken, settings),
            Self::TakesNothing => {
                let seconds = WRITE_MAX.as_secs();
                text(
                    format!("服务器不再接收数据（{seconds} 秒写不出去）"),
                    format!("the broker takes nothing any more (nothing for {seconds} s)"),
                )
            }
            Self::HalfOpen => {
                let seconds = settings.keep_alive.as_secs();
                text(
                    format!("{seconds} 秒内心跳没有应答（连接半断）"),
                    format!("no answer to a ping within {seconds} s (half-open)"),
                )
            }
            Self::NotSubscribed => text("服务器没有答复订阅", "the broker did not answer the subscription"),
            Self::NewSecrets => {
                text("密码或证书已更换，重新连接", "the password or a certificate was replaced")
            }
        }
    }
}

fn broken_stream(broken: &Broken, settings: &MqttSettings) -> Text {
    match broken {
        Broken::Io(error) => of_connection(error),
        Broken::TooLarge(bytes) => text(
            format!(
                "服务器上有一个 {bytes} 字节的报文，超过 {WIRE_BYTES_MAX}：请在那里删除它，并限制服务器的报文大小"
            ),
            format!(
                "a packet of {bytes} bytes waits at the broker, more than {WIRE_BYTES_MAX}: \
                 remove it there and limit the packet size of the broker"
            ),
        ),
        Broken::NotMqtt { tls: true } => {
            text("这个端口要求 TLS：请写 mqtts://", "this port speaks TLS: write mqtts://")
        }
        Broken::NotMqtt { tls: false } => {
            text("对方不是 MQTT 服务器：请检查端口", "what answers there is no MQTT broker: check the port")
        }
        Broken::OlderMqtt => text(
            "服务器不支持 MQTT 5：请写 protocol = 4（MQTT 3.1.1）",
            "the broker does not speak MQTT 5: write protocol = 4 (MQTT 3.1.1)",
        ),
        Broken::Malformed(what) => text(
            format!("{} 报文不合规：{what}", settings.protocol.name()),
            format!("no {}: {what}", settings.protocol.name()),
        ),
    }
}

/// The broker's own words behind ours.
fn with_words(ours: Text, said: &Said) -> Text {
    match &said.words {
        Some(words) => text(format!("{}（{words}）", ours.zh), format!("{} ({words})", ours.en)),
        None => ours,
    }
}

fn refused(refusal: Refusal, said: &Said, settings: &MqttSettings) -> Text {
    let ours = match refusal {
        Refusal::Credentials => {
            let user = settings.user.as_ref().map_or("(none)", |(name, _)| name);
            text(
                format!("服务器拒绝用户 {user:?}：请检查用户、密码和它的访问控制"),
                format!("the broker refused user {user:?}: check user, password and its access list"),
            )
        }
        Refusal::ClientId => {
            let id = &settings.client_id;
            text(format!("服务器拒绝客户端标识 {id:?}"), format!("the broker refused the client id {id:?}"))
        }
        Refusal::Protocol => {
            let name = settings.protocol.name();
            let other = if settings.protocol == Protocol::V5 { 4 } else { 5 };
            text(
                format!("服务器不支持 {name}：请试 protocol = {other}"),
                format!("the broker does not speak {name}: try protocol = {other}"),
            )
        }
        Refusal::Unavailable => {
            text("服务器拒绝连接：服务不可用", "the broker refused the connection: it is not available")
        }
        Refusal::Busy => text("服务器拒绝连接：太忙", "the broker refused the connection: it is busy"),
        Refusal::Banned => text(
            "服务器禁止这个网关连接：请联系服务器管理员",
            "the broker has banned this gateway: ask whoever runs it",
        ),
        Refusal::Quota => {
            text("服务器拒绝连接：超出配额", "the broker refused the connection: a quota is used up")
        }
        Refusal::Will => text(
            "服务器不接受网关的遗嘱消息（主题、保留或 QoS）：请检查它的设置",
            "the broker does not take our last will (its topic, retain or QoS): check its settings",
        ),
        Refusal::Moved => text(
            "服务器要求改用另一台服务器：请更改 url",
            "the broker says that another one is to be used: change the url",
        ),
        Refusal::Other => {
            let code = said.code;
            text(
                format!("服务器拒绝连接：原因 0x{code:02x}"),
                format!("the broker refused the connection: reason 0x{code:02x}"),
            )
        }
    };
    with_words(ours, said)
}

/// MQTT 5, section 3.14.2.1.
fn left(said: &Said, settings: &MqttSettings) -> Text {
    let id = &settings.client_id;
    let ours = match said.code {
        0x8E => text(
            format!("别的客户端用同一个标识 {id:?} 连接，接管了会话：每个网关的 client_id 必须不同"),
            format!(
                "another client uses the id {id:?} and took the session over: each gateway needs its own client_id"
            ),
        ),
        0x87 => text(
            "服务器不再允许这个网关：请检查用户、密码和它的访问控制",
            "the broker no longer allows this gateway: check user, password and its access list",
        ),
        0x8B => text("服务器正在关闭", "the broker is shutting down"),
        0x8D => text("服务器没有收到心跳", "the broker heard no ping from us"),
        0x89 | 0x96 | 0x97 => text("服务器太忙或超出配额", "the broker is busy, or a quota is used up"),
        0x95 => text("服务器认为报文太大", "a packet is too large for the broker"),
        0x98 => text("服务器管理员断开了连接", "whoever runs the broker closed the connection"),
        0x9C | 0x9D => {
            text("服务器要求改用另一台服务器：请更改 url", "another broker is to be used: change the url")
        }
        0x9E => text(
            "服务器不支持共享订阅：请去掉 share",
            "the broker knows no shared subscriptions: remove share",
        ),
        code => text(
            format!("服务器断开了连接：原因 0x{code:02x}"),
            format!("the broker closed the connection: reason 0x{code:02x}"),
        ),
    };
    with_words(ours, said)
}

// ---- TLS -----------------------------------------------------------------------------------------------------------

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn handshake(error: &io::Error, settings: &MqttSettings) -> Text {
    match tls_error(error) {
        Some(error) => of_tls(error, settings),
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            no_tls(settings)
        }
        None => of_connection(error),
    }
}

fn no_tls(settings: &MqttSettings) -> Text {
    let port = settings.port;
    text(
        format!("TLS 失败：端口 {port} 不使用 TLS：请检查端口（TLS 常用 8883），或写 mqtt://"),
        format!(
            "TLS failed: port {port} does not speak TLS: check the port (with TLS usually 8883), or write mqtt://"
        ),
    )
}

fn of_tls(error: &rustls::Error, settings: &MqttSettings) -> Text {
    let what = match error {
        rustls::Error::InvalidCertificate(error) => certificate(error, settings),
        rustls::Error::AlertReceived(alert) => alert_received(*alert, settings),
        rustls::Error::InvalidMessage(_) => return no_tls(settings),
        other => text(other.to_string(), other.to_string()),
    };
    text(format!("TLS 失败：{}", what.zh), format!("TLS failed: {}", what.en))
}

fn certificate(error: &CertificateError, settings: &MqttSettings) -> Text {
    let host = &settings.host;
    match error {
        CertificateError::ExpiredContext { not_after, .. } => text(
            format!("服务器的证书已于 {} 过期：请更换它", day(*not_after)),
            format!("the broker's certificate expired on {}: it must be renewed", day(*not_after)),
        ),
        CertificateError::NotValidYetContext { time, not_before } => text(
            format!("服务器的证书从 {} 起才有效（现在 {}）：请检查网关的时间", day(*not_before), day(*time)),
            format!(
                "the broker's certificate is valid from {} only (now {}): check the gateway's clock",
                day(*not_before),
                day(*time)
            ),
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature if has_own_ca(settings) => text(
            "服务器的证书不是由 ca_file 里的机构签发的：请检查 ca_file",
            "the broker's certificate was not issued by an authority in ca_file: check ca_file",
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => text(
            "服务器的证书不是由系统信任的机构签发的：请用 ca_file 指定签发机构",
            "the broker's certificate was not issued by an authority that the system trusts: name it with ca_file",
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented.join(", ");
            text(
                format!("服务器的证书不是给 {host} 的，而是给 {names}：请检查 url 里的名称"),
                format!(
                    "the broker's certificate is not for {host} but for {names}: check the name in the url"
                ),
            )
        }
        CertificateError::NotValidForName => text(
            format!("服务器的证书不是给 {host} 的：请检查 url 里的名称"),
            format!("the broker's certificate is not for {host}: check the name in the url"),
        ),
        CertificateError::Revoked => text("服务器的证书已吊销", "the broker's certificate is revoked"),
        other => text(
            format!("服务器的证书无法使用：{other}"),
            format!("the broker's certificate cannot be used: {other}"),
        ),
    }
}

fn has_own_ca(settings: &MqttSettings) -> bool {
    settings.tls.as_ref().is_some_and(|tls| tls.ca_file.is_some())
}

/// The broker's complaint about us.
fn alert_received(alert: AlertDescription, settings: &MqttSettings) -> Text {
    let with_certificate = settings.tls.as_ref().is_some_and(|tls| tls.client.is_some());
    match alert {
        AlertDescription::CertificateExpired => text(
            "网关的客户端证书已过期：请更换 client_cert_file",
            "our client certificate has expired: renew client_cert_file",
        ),
        AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure if !with_certificate => {
            text(
                "服务器要求客户端证书：请设置 client_cert_file 和 client_key_file",
                "the broker wants a client certificate: set client_cert_file and client_key_file",
            )
        }
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied
            if with_certificate =>
        {
            text(
                format!("服务器不接受网关的客户端证书（{alert:?}）：请检查它由谁签发、是否有效"),
                format!("the broker does not accept our client certificate ({alert:?}): check who issued it"),
            )
        }
        other => text(format!("服务器报错 {other:?}"), format!("the broker says {other:?}")),
    }
}

/// A day. No finer: a reason that changes with every attempt would be told with every attempt.
fn day(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("{seconds} s"), |time| time.strftime("%Y-%m-%d").to_string())
}
