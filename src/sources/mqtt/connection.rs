//! WIRE → FRAMES, by MQTT: one connection, from the name of the broker to its CONNACK, and packets both ways.

use super::codec::{Broken, Codec};
use super::packet::{ConnAck, Connect, Incoming, Outgoing, Welcome};
use super::reason::Lost;
use super::{CONNECT_MAX, MqttSettings, WRITE_MAX};
use futures::{FutureExt, SinkExt, StreamExt};
use rumqttc::tokio_rustls::TlsConnector;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

/// TCP, or TLS on it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) struct Connection {
    framed: Framed<Box<dyn Stream>, Codec>,
}

impl Connection {
    /// The name, TCP, TLS, CONNECT and CONNACK, all within [`CONNECT_MAX`].
    pub(super) async fn open(
        settings: MqttSettings,
        tls: Option<Arc<ClientConfig>>,
        connect: Connect,
    ) -> Result<(Self, Welcome), Lost> {
        let all = async {
            let mut connection = Self::dial(&settings, tls).await?;
            let welcome = connection.greet(connect).await?;
            Ok((connection, welcome))
        };
        tokio::time::timeout(CONNECT_MAX, all).await.unwrap_or(Err(Lost::NoAnswer))
    }

    async fn dial(settings: &MqttSettings, tls: Option<Arc<ClientConfig>>) -> Result<Self, Lost> {
        let place = (settings.host.as_str(), settings.port);
        let mut addresses = tokio::net::lookup_host(place).await.map_err(Lost::Unresolved)?.peekable();
        if addresses.peek().is_none() {
            return Err(Lost::Unresolved(io::ErrorKind::NotFound.into()));
        }
        let mut dialled = Err(Lost::NoAnswer);
        for address in addresses {
            dialled = TcpStream::connect(address).await.map_err(Lost::Io);
            if dialled.is_ok() {
                break;
            }
        }
        let tcp = dialled?;
        tcp.set_nodelay(true).map_err(Lost::Io)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(settings.host.clone()).map_err(|_| Lost::NoServerName)?;
                Box::new(TlsConnector::from(config).connect(name, tcp).await.map_err(Lost::Handshake)?)
            }
        };
        Ok(Self { framed: Framed::new(stream, Codec::new(settings.protocol)) })
    }

    async fn greet(&mut self, connect: Connect) -> Result<Welcome, Lost> {
        let written = self.write([Outgoing::Connect(Box::new(connect))]).await;
        // Also when nothing could be written: what the broker said before it hung up tells why.
        match (self.next().await, written) {
            (Ok(Incoming::ConnAck(ConnAck::Welcome(welcome))), Ok(())) => Ok(welcome),
            (Ok(Incoming::ConnAck(ConnAck::Refused(refusal, said))), _) => Err(Lost::Refused(refusal, said)),
            (Ok(Incoming::Disconnect(said)), _) => Err(Lost::Left(said)),
            (Ok(_), Ok(())) => Err(Lost::Broken(Broken::NotMqtt { tls: false })),
            (Err(lost), _) if lost.is_hanging_up() => Err(Lost::ClosedAtOnce),
            (Ok(_), Err(unwritten)) => Err(unwritten),
            (Err(lost), _) => Err(lost),
        }
    }

    /// The next packet. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Incoming, Lost> {
        match self.framed.next().await {
            Some(Ok(packet)) => Ok(packet),
            Some(Err(Broken::Io(error))) => Err(Lost::Io(error)),
            Some(Err(broken)) => Err(Lost::Broken(broken)),
            None => Err(Lost::Closed),
        }
    }

    /// A packet that is there already.
    pub(super) fn next_at_once(&mut self) -> Option<Result<Incoming, Lost>> {
        self.next().now_or_never()
    }

    /// Packets with one flush.
    pub(super) async fn write(&mut self, packets: impl IntoIterator<Item = Outgoing>) -> Result<(), Lost> {
        let all = async {
            for packet in packets {
                self.framed.feed(packet).await?;
            }
            self.framed.flush().await
        };
        match tokio::time::timeout(WRITE_MAX, all).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Broken::Io(error))) => Err(Lost::Io(error)),
            Ok(Err(broken)) => Err(Lost::Broken(broken)),
            Err(_) => Err(Lost::TakesNothing),
        }
    }
}
