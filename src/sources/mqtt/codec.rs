//! WIRE → FRAMES, by MQTT: the bytes of both versions, by rumqttc's packets. Pure.
//!
//! rumqttc's own connection hides what an unattended box must tell a person: it drops the reason that an MQTT 5 broker
//! gives with its refusal, does not see the short form of DISCONNECT (mosquitto's when another client takes the session
//! over), and keeps the MQTT 5 socket to itself, so that each acknowledgement would cost a system call of its own. So its
//! packets are used here and its loop is not.

use super::WIRE_BYTES_MAX;
use super::packet::{
    ConnAck, Connect, Granted, Incoming, Outgoing, Protocol, Publish, Receipt, Refusal, Said, Welcome,
};
use bytes::BytesMut;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::{QoS as QoS5, v5};
use std::io;
use tokio_util::codec::{Decoder, Encoder};

/// The only packet id we ever use: one SUBSCRIBE a connection.
const SUBSCRIBE_ID: u16 = 1;

/// First bytes: the type of a packet is in the upper half.
const CONNACK: u8 = 0x20;
const DISCONNECT: u8 = 0xE0;
/// The first byte of a TLS alert: that port speaks TLS.
const TLS_ALERT: u8 = 0x15;

/// What a broker says in words is cut here: it goes into the log and onto a page.
const WORDS_MAX: usize = 200;

/// The session is kept for ever, as in MQTT 3.1.1: the broker has said yes to the publishers of what waits in it.
const SESSION_NEVER_ENDS: u32 = u32::MAX;

/// Why a stream is no stream of packets any more.
#[derive(Debug)]
pub(super) enum Broken {
    Io(io::Error),
    /// A packet of so many bytes.
    TooLarge(usize),
    /// Whatever answers there, it is no broker; with TLS it may be one.
    NotMqtt {
        tls: bool,
    },
    /// It answers in MQTT 3.1.1 although MQTT 5 was spoken.
    OlderMqtt,
    Malformed(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) struct Codec {
    protocol: Protocol,
    /// Whether CONNACK has come: before it, anything else shows that this is no broker.
    greeted: bool,
}

impl Codec {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, greeted: false }
    }
}

impl Decoder for Codec {
    type Item = Incoming;
    type Error = Broken;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Incoming>, Broken> {
        let Some(&first) = src.first() else { return Ok(None) };
        if !self.greeted && first != CONNACK && first != DISCONNECT {
            return Err(Broken::NotMqtt { tls: first == TLS_ALERT });
        }
        let Some((head, length)) = head(src)? else { return Ok(None) };
        let whole = head + length;
        if whole > WIRE_BYTES_MAX {
            return Err(Broken::TooLarge(length));
        }
        if src.len() < whole {
            src.reserve(whole - src.len());
            return Ok(None);
        }
        let mut packet = src.split_to(whole);
        let short_or_older = match self.protocol {
            Protocol::V5 => short(&packet, head)?,
            Protocol::V3_1_1 => None,
        };
        let incoming = match (short_or_older, self.protocol) {
            (Some(incoming), _) => incoming,
            (None, Protocol::V3_1_1) => {
                from_v4(v4::Packet::read(&mut packet, WIRE_BYTES_MAX).map_err(malformed)?)
            }
            (None, Protocol::V5) => from_v5(v5::Packet::read(&mut packet, None).map_err(malformed)?)?,
        };
        self.greeted = true;
        Ok(Some(incoming))
    }
}

/// How long the fixed header and what follows it are, or `None` while it is not there.
fn head(src: &[u8]) -> Result<Option<(usize, usize)>, Broken> {
    let mut length = 0;
    for (at, byte) in src.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Ok(Some((at + 1, length)));
        }
    }
    match src.len() {
        0..5 => Ok(None),
        _ => Err(Broken::Malformed("a length of more than four bytes".to_owned())),
    }
}

/// What rumqttc cannot read of MQTT 5: DISCONNECT without properties, and the refusal of an older broker.
fn short(packet: &[u8], head: usize) -> Result<Option<Incoming>, Broken> {
    match (packet.first().copied().unwrap_or(0) & 0xF0, packet.get(head..).unwrap_or(&[])) {
        (DISCONNECT, []) => Ok(Some(Incoming::Disconnect(Said::default()))),
        (DISCONNECT, &[code]) => Ok(Some(Incoming::Disconnect(Said { code, words: None }))),
        (CONNACK, [_, _]) => Err(Broken::OlderMqtt),
        _ => Ok(None),
    }
}

fn malformed(error: impl std::fmt::Display) -> Broken {
    Broken::Malformed(error.to_string())
}

fn from_v4(packet: v4::Packet) -> Incoming {
    match packet {
        v4::Packet::ConnAck(connack) => Incoming::ConnAck(match connack.code {
            v4::ConnectReturnCode::Success => ConnAck::Welcome(Welcome {
                session: connack.session_present,
                keep_alive: None,
                retains: true,
            }),
            code => ConnAck::Refused(
                match code {
                    v4::ConnectReturnCode::BadUserNamePassword | v4::ConnectReturnCode::NotAuthorized => {
                        Refusal::Credentials
                    }
                    v4::ConnectReturnCode::BadClientId => Refusal::ClientId,
                    v4::ConnectReturnCode::RefusedProtocolVersion => Refusal::Protocol,
                    v4::ConnectReturnCode::ServiceUnavailable => Refusal::Unavailable,
                    v4::ConnectReturnCode::Success => Refusal::Other,
                },
                Said { code: code as u8, words: None },
            ),
        }),
        v4::Packet::Publish(publish) => Incoming::Publish(Publish {
            receipt: match publish.qos {
                rumqttc::QoS::AtMostOnce => Receipt::None,
                rumqttc::QoS::AtLeastOnce => Receipt::PubAck(publish.pkid),
                rumqttc::QoS::ExactlyOnce => Receipt::PubRec(publish.pkid),
            },
            topic: publish.topic,
            payload: publish.payload,
            dup: publish.dup,
            retain: publish.retain,
        }),
        v4::Packet::SubAck(suback) => {
            let granted = |code| match code {
                v4::SubscribeReasonCode::Success(rumqttc::QoS::AtMostOnce) => Granted::WithoutAcknowledgement,
                v4::SubscribeReasonCode::Success(_) => Granted::Yes,
                v4::SubscribeReasonCode::Failure => Granted::No,
            };
            Incoming::SubAck(suback.return_codes.into_iter().map(granted).collect())
        }
        v4::Packet::PingResp => Incoming::PingResp,
        v4::Packet::PubRel(pubrel) => Incoming::PubRel(pubrel.pkid),
        _ => Incoming::Other,
    }
}

fn from_v5(packet: v5::Packet) -> Result<Incoming, Broken> {
    Ok(match packet {
        v5::Packet::ConnAck(connack) => Incoming::ConnAck(connack_v5(connack)),
        v5::Packet::Publish(publish) => {
            let topic = String::from_utf8(publish.topic.into()).map_err(malformed)?;
            if topic.is_empty() {
                return Err(Broken::Malformed("a topic alias, although we allow none".to_owned()));
            }
            Incoming::Publish(Publish {
                topic,
                payload: publish.payload,
                dup: publish.dup,
                retain: publish.retain,
                receipt: match publish.qos {
                    QoS5::AtMostOnce => Receipt::None,
                    QoS5::AtLeastOnce => Receipt::PubAck(publish.pkid),
                    QoS5::ExactlyOnce => Receipt::PubRec(publish.pkid),
                },
            })
        }
        v5::Packet::SubAck(suback) => {
            let granted = |code| match code {
                v5::SubscribeReasonCode::Success(QoS5::AtMostOnce) => Granted::WithoutAcknowledgement,
                v5::SubscribeReasonCode::Success(_) => Granted::Yes,
                _ => Granted::No,
            };
            Incoming::SubAck(suback.return_codes.into_iter().map(granted).collect())
        }
        v5::Packet::PingResp(_) => Incoming::PingResp,
        v5::Packet::PubRel(pubrel) => Incoming::PubRel(pubrel.pkid),
        v5::Packet::Disconnect(disconnect) => Incoming::Disconnect(Said {
            code: disconnect.reason_code as u8,
            words: disconnect.properties.and_then(|properties| properties.reason_string).and_then(words),
        }),
        _ => Incoming::Other,
    })
}

fn connack_v5(connack: v5::ConnAck) -> ConnAck {
    use v5::ConnectReturnCode as Code;
    let properties = connack.properties.as_ref();
    let refusal = match connack.code {
        Code::Success => {
            return ConnAck::Welcome(Welcome {
                session: connack.session_present,
                keep_alive: properties.and_then(|properties| properties.server_keep_alive),
                retains: properties.and_then(|properties| properties.retain_available) != Some(0),
            });
        }
        Code::BadUserNamePassword | Code::NotAuthorized | Code::BadAuthenticationMethod => {
            Refusal::Credentials
        }
        Code::ClientIdentifierNotValid | Code::BadClientId => Refusal::ClientId,
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => Refusal::Protocol,
        Code::ServerUnavailable | Code::ServiceUnavailable => Refusal::Unavailable,
        Code::ServerBusy | Code::ConnectionRateExceeded => Refusal::Busy,
        Code::Banned => Refusal::Banned,
        Code::QuotaExceeded => Refusal::Quota,
        Code::TopicNameInvalid | Code::RetainNotSupported | Code::QoSNotSupported => Refusal::Will,
        Code::UseAnotherServer | Code::ServerMoved => Refusal::Moved,
        _ => Refusal::Other,
    };
    let words = connack.properties.and_then(|properties| properties.reason_string).and_then(words);
    ConnAck::Refused(refusal, Said { code: connack.code as u8, words })
}

/// What a broker says, fit for a log and a page.
fn words(text: String) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
    (!text.trim().is_empty()).then_some(text)
}

impl Encoder<Outgoing> for Codec {
    type Error = Broken;

    fn encode(&mut self, packet: Outgoing, to: &mut BytesMut) -> Result<(), Broken> {
        match self.protocol {
            Protocol::V3_1_1 => to_v4(packet).write(to, usize::MAX).map_err(malformed)?,
            Protocol::V5 => to_v5(packet).write(to, None).map_err(malformed)?,
        };
        Ok(())
    }
}

fn to_v4(packet: Outgoing) -> v4::Packet {
    match packet {
        Outgoing::Connect(from) => {
            let Connect { client_id, keep_alive, login, will, keep_session, receive_maximum: _ } = *from;
            let mut connect = v4::Connect::new(client_id);
            connect.keep_alive = keep_alive;
            connect.clean_session = !keep_session;
            connect.login = login.map(|(user, password)| v4::Login::new(user, password));
            connect.last_will =
                will.map(|(topic, text)| v4::LastWill::new(topic, text, rumqttc::QoS::AtLeastOnce, true));
            v4::Packet::Connect(connect)
        }
        Outgoing::Subscribe(filters) => {
            let filters = filters.into_iter();
            let mut subscribe = v4::Subscribe::new_many(
                filters.map(|filter| v4::SubscribeFilter::new(filter, rumqttc::QoS::AtLeastOnce)),
            );
            subscribe.pkid = SUBSCRIBE_ID;
            v4::Packet::Subscribe(subscribe)
        }
        Outgoing::Publish { topic, payload, retain } => {
            let mut publish = v4::Publish::from_bytes(topic, rumqttc::QoS::AtMostOnce, payload);
            publish.retain = retain;
            v4::Packet::Publish(publish)
        }
        Outgoing::Acknowledge(Receipt::PubAck(id)) => v4::Packet::PubAck(v4::PubAck::new(id)),
        Outgoing::Acknowledge(Receipt::PubRec(id)) => v4::Packet::PubRec(v4::PubRec::new(id)),
        Outgoing::PubComp(id) => v4::Packet::PubComp(v4::PubComp::new(id)),
        // A message without a receipt is not acknowledged; a ping instead harms nobody.
        Outgoing::PingReq | Outgoing::Acknowledge(Receipt::None) => v4::Packet::PingReq,
        Outgoing::Disconnect => v4::Packet::Disconnect,
    }
}

fn to_v5(packet: Outgoing) -> v5::Packet {
    match packet {
        Outgoing::Connect(from) => {
            let Connect { client_id, keep_alive, login, will, keep_session, receive_maximum } = *from;
            let properties = v5::ConnectProperties {
                session_expiry_interval: Some(if keep_session { SESSION_NEVER_ENDS } else { 0 }),
                receive_maximum: Some(receive_maximum.max(1)),
                // A broker leaves out what is larger, and the link lives; without it we would have to hang up.
                max_packet_size: u32::try_from(WIRE_BYTES_MAX).ok(),
                topic_alias_max: Some(0),
                request_response_info: None,
                // Reasons in words.
                request_problem_info: Some(1),
                user_properties: Vec::new(),
                authentication_method: None,
                authentication_data: None,
            };
            let connect = v5::Connect {
                keep_alive,
                client_id,
                clean_start: !keep_session,
                properties: Some(properties),
            };
            let will =
                will.map(|(topic, text)| v5::LastWill::new(topic, text, QoS5::AtLeastOnce, true, None));
            v5::Packet::Connect(connect, will, login.map(|(user, password)| v5::Login::new(user, password)))
        }
        Outgoing::Subscribe(filters) => {
            let filters = filters.into_iter().map(|filter| v5::Filter {
                path: filter,
                qos: QoS5::AtLeastOnce,
                nolocal: false,
                // Only what was kept is marked as retained, not what is live and will be kept.
                preserve_retain: false,
                // Also when the session was kept: an alarm with QoS 0 that was published while we were away is nowhere
                // but in the retained message. The pipeline knows what is no news.
                retain_forward_rule: v5::RetainForwardRule::OnEverySubscribe,
            });
            let mut subscribe = v5::Subscribe::new_many(filters, None);
            subscribe.pkid = SUBSCRIBE_ID;
            v5::Packet::Subscribe(subscribe)
        }
        Outgoing::Publish { topic, payload, retain } => {
            let mut publish = v5::Publish::new(topic, QoS5::AtMostOnce, payload, None);
            publish.retain = retain;
            v5::Packet::Publish(publish)
        }
        Outgoing::Acknowledge(Receipt::PubAck(id)) => v5::Packet::PubAck(v5::PubAck::new(id, None)),
        Outgoing::Acknowledge(Receipt::PubRec(id)) => v5::Packet::PubRec(v5::PubRec::new(id, None)),
        Outgoing::PubComp(id) => v5::Packet::PubComp(v5::PubComp::new(id, None)),
        Outgoing::PingReq | Outgoing::Acknowledge(Receipt::None) => v5::Packet::PingReq(v5::PingReq),
        Outgoing::Disconnect => {
            v5::Packet::Disconnect(v5::Disconnect::new(v5::DisconnectReasonCode::NormalDisconnection))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(protocol: Protocol, greeted: bool, bytes: &[u8], steps: usize) -> (Vec<Incoming>, bool) {
        let mut codec = Codec { protocol, greeted };
        let (mut buffer, mut packets) = (BytesMut::new(), Vec::new());
        for part in bytes.chunks(steps.max(1)) {
            buffer.extend_from_slice(part);
            loop {
                match codec.decode(&mut buffer) {
                    Ok(Some(packet)) => packets.push(packet),
                    Ok(None) => break,
                    Err(_) => return (packets, true),
                }
            }
        }
        (packets, false)
    }

    /// A broker's PUBLISH, written out by hand.
    fn publish(protocol: Protocol, topic: &str, payload: &[u8], id: u16) -> Vec<u8> {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        body.extend(id.to_be_bytes());
        if protocol == Protocol::V5 {
            // A message expiry interval, and nothing else.
            body.extend([5, 2, 0, 0, 1, 0]);
        }
        body.extend(payload);
        let mut bytes = vec![0x3b];
        let mut rest = body.len();
        loop {
            let low = u8::try_from(rest % 128).unwrap();
            rest /= 128;
            bytes.push(if rest > 0 { low | 0x80 } else { low });
            if rest == 0 {
                break;
            }
        }
        bytes.extend(body);
        bytes
    }

    const BOTH: [Protocol; 2] = [Protocol::V3_1_1, Protocol::V5];

    proptest! {
        #[test]
        fn any_bytes_are_packets_or_an_error_and_never_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            greeted: bool,
            steps in 1..64_usize,
        ) {
            for protocol in BOTH {
                decode(protocol, greeted, &bytes, steps);
            }
        }

        /// Nearer to what a broker sends: each packet type with a right length and any content.
        #[test]
        fn any_content_of_any_packet_is_read_or_refused(
            first: u8,
            content in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut bytes = vec![first, u8::try_from(content.len()).unwrap()];
            bytes.extend(content);
            for protocol in BOTH {
                let (packets, failed) = decode(protocol, true, &bytes, 7);
                prop_assert!(packets.len() == 1 || failed, "{first:02x} was passed over");
            }
        }

        #[test]
        fn a_message_is_read_as_it_was_written_however_it_is_cut(
            topic in "[a-z/\u{4e00}-\u{4eff}]{1,20}",
            payload in prop::collection::vec(any::<u8>(), 0..300),
            id in 1..=u16::MAX,
            steps in 1..64_usize,
        ) {
            for protocol in BOTH {
                let bytes = [publish(protocol, &topic, &payload, id), publish(protocol, &topic, &payload, id)].concat();
                let (packets, failed) = decode(protocol, true, &bytes, steps);
                prop_assert!(!failed);
                let expected = || Incoming::Publish(Publish {
                    topic: topic.clone(),
                    payload: payload.clone().into(),
                    dup: true,
                    retain: true,
                    receipt: Receipt::PubAck(id),
                });
                prop_assert_eq!(packets, vec![expected(), expected()]);
            }
        }
    }
}
