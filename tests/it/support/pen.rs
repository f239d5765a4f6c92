//! A publisher that shares no code with the gateway.

use super::gateway::topic;
use super::ports::soon;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A publisher of MQTT 3.1.1 on a bare socket: it decides itself about packet ids, DUP and what is in flight.
pub(crate) struct Pen {
    pub(crate) stream: TcpStream,
    next: u16,
}

impl Pen {
    pub(crate) async fn connect(to: SocketAddr, id: &str) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60];
        body.extend(text(id));
        stream.write_all(&packet(0x10, &body)).await?;
        let (kind, body) = read(&mut stream).await?;
        if kind != 0x20 || body.get(1) != Some(&0) {
            return Err(std::io::Error::other(format!("refused: {kind:#x} {body:?}")));
        }
        Ok(Self { stream, next: 1 })
    }

    /// Sends a message with QoS 1 under that packet id.
    pub(crate) async fn send(
        &mut self,
        topic: &str,
        payload: &[u8],
        id: u16,
        dup: bool,
    ) -> std::io::Result<()> {
        let mut body = text(topic);
        body.extend(id.to_be_bytes());
        body.extend(payload);
        self.stream.write_all(&packet(if dup { 0x3A } else { 0x32 }, &body)).await
    }

    /// The packet id of the next acknowledgement.
    pub(crate) async fn acknowledged(&mut self) -> std::io::Result<u16> {
        loop {
            let (kind, body) = read(&mut self.stream).await?;
            if kind == 0x40 {
                return Ok(u16::from_be_bytes([body[0], body[1]]));
            }
        }
    }

    /// Sends temperatures of n tenths of a degree until all are acknowledged: ten under way at once, from `sd-0` to
    /// `sd-9` in turn, so that no point has two in one millisecond.
    pub(crate) async fn burst(&mut self, tenths: std::ops::RangeInclusive<u32>) {
        let (mut left, mut under_way) = (tenths, 0);
        loop {
            while under_way < 10
                && let Some(n) = left.next()
            {
                let id = u16::try_from(n % 60_000 + 1).unwrap();
                let payload = format!(r#"{{"temperature":{}}}"#, f64::from(n) / 10.0);
                let topic = topic(&format!("sd-{}", n % 10));
                self.send(&topic, payload.as_bytes(), id, false).await.unwrap();
                under_way += 1;
            }
            if under_way == 0 {
                return;
            }
            soon("the PUBACK", self.acknowledged()).await.unwrap();
            under_way -= 1;
        }
    }

    /// Sends a message and waits for its acknowledgement.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str) {
        let id = self.next;
        self.next = self.next % 60_000 + 1;
        self.send(topic, payload.as_bytes(), id, false).await.unwrap();
        assert_eq!(soon("the PUBACK", self.acknowledged()).await.unwrap(), id);
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
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

async fn read(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let first = stream.read_u8().await?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((first & 0xf0, body))
}
