//! WIRE → FRAMES, by MQTT: what is said in both versions of the protocol, without the differences of their bytes.

use bytes::Bytes;

/// Which MQTT is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// MQTT 3.1.1 (protocol level 4): every broker speaks it.
    #[default]
    V3_1_1,
    /// MQTT 5: reasons in words, and we say how many unacknowledged messages we take.
    V5,
}

impl Protocol {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V3_1_1 => "MQTT 3.1.1",
            Self::V5 => "MQTT 5",
        }
    }
}

/// A packet from the broker, as far as we care.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    ConnAck(ConnAck),
    Publish(Publish),
    /// For each filter in its order whether and how it was granted.
    SubAck(Vec<Granted>),
    PingResp,
    /// The second half of a QoS 2 message.
    PubRel(u16),
    /// MQTT 5 only: the broker hangs up, and says why.
    Disconnect(Said),
    /// Nothing that concerns us.
    Other,
}

/// The answer to CONNECT.
#[derive(Debug, PartialEq)]
pub(super) enum ConnAck {
    Welcome(Welcome),
    Refused(Refusal, Said),
}

/// What a broker tells with its yes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Welcome {
    /// It has kept our session.
    pub(super) session: bool,
    /// The keep-alive it wants instead of ours, seconds.
    pub(super) keep_alive: Option<u16>,
    /// Whether it keeps retained messages; it hangs up on who sends one to a broker that does not.
    pub(super) retains: bool,
}

/// Why a broker said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Credentials,
    ClientId,
    Protocol,
    Unavailable,
    Busy,
    Banned,
    Quota,
    Will,
    Moved,
    Other,
}

/// The broker's own words (MQTT 5), and the number of its reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: u8,
    pub(super) words: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Granted {
    Yes,
    /// With QoS 0 only: what is sent while we are away is lost.
    WithoutAcknowledgement,
    No,
}

/// A message.
#[derive(Debug, PartialEq)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) dup: bool,
    pub(super) retain: bool,
    pub(super) receipt: Receipt,
}

/// How a message wants to be acknowledged, with its packet id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipt {
    None,
    PubAck(u16),
    PubRec(u16),
}

/// A packet to the broker.
#[derive(Debug)]
pub(super) enum Outgoing {
    Connect(Box<Connect>),
    Subscribe(Vec<String>),
    /// With QoS 0: no packet id, no window, nothing to wait for.
    Publish {
        topic: String,
        payload: Bytes,
        retain: bool,
    },
    Acknowledge(Receipt),
    PubComp(u16),
    PingReq,
    Disconnect,
}

/// The beginning of a connection.
#[derive(Debug)]
pub(super) struct Connect {
    pub(super) client_id: String,
    pub(super) keep_alive: u16,
    pub(super) login: Option<(String, String)>,
    pub(super) will: Option<(String, &'static str)>,
    /// The broker keeps the session, in both versions.
    pub(super) keep_session: bool,
    /// MQTT 5: unacknowledged messages that may be on their way to us.
    pub(super) receive_maximum: u16,
}
