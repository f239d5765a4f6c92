//! Between a client's socket and the broker inside: everything passes, but a PUBACK waits for the journal.
//!
//! The broker inside takes the next message of a connection only when the hook of the one before has returned. If the hook
//! waited for the journal, a concentrator with twenty messages in flight would get one through a commit, and its fire
//! would stand behind its telemetry. So the hook returns at once, the broker writes its acknowledgement, and here, on
//! the way out, the acknowledgement is held until the journal has the message. Pings, deliveries and a take-over
//! of the client id pass meanwhile.

use bytes::{Buf, BytesMut};
use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// Messages of one connection under way to the journal. Five times the usual window of a publisher (20); a thousand
/// connections with all of them of 300 bytes are 30 MB.
pub(super) const UNDER_WAY_MAX: u16 = 100;

/// Read at a time, in bytes. Packets of any length pass; only acknowledgements (4 to a few dozen bytes) are looked into.
const CHUNK: usize = 8192;

/// The longest acknowledgement that is held. One of MQTT 3.1.1 has 4 bytes; one of MQTT 5 may carry a reason.
const ACK_BYTES_MAX: usize = 1024;

const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;

/// A message on its way to the journal.
struct UnderWay {
    packet_id: u16,
    kept: oneshot::Receiver<()>,
    give_up: Instant,
    _place: OwnedSemaphorePermit,
}

/// The messages of one connection that wait for the journal, in the order of their coming.
pub(super) struct Pending {
    messages: Mutex<VecDeque<UnderWay>>,
    /// Packet ids whose sender says that he may have sent them before.
    duplicates: Mutex<HashSet<u16>>,
    places: Arc<Semaphore>,
}

impl Pending {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            messages: Mutex::new(VecDeque::new()),
            duplicates: Mutex::new(HashSet::new()),
            places: Arc::new(Semaphore::new(usize::from(UNDER_WAY_MAX))),
        })
    }

    /// Waits until fewer than [`UNDER_WAY_MAX`] are under way.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Notes whether the message now coming in with that packet id is sent again.
    fn note(&self, packet_id: u16, duplicate: bool) {
        let mut duplicates = self.duplicates.lock().expect("no holder of this lock panics");
        if duplicate {
            duplicates.insert(packet_id);
        } else {
            duplicates.remove(&packet_id);
        }
    }

    /// Whether the message with that packet id was sent again.
    pub(super) fn is_duplicate(&self, packet_id: u16) -> bool {
        self.duplicates.lock().expect("no holder of this lock panics").contains(&packet_id)
    }

    /// Notes a message, before the broker inside can acknowledge it.
    pub(super) fn add(
        &self,
        packet_id: u16,
        kept: oneshot::Receiver<()>,
        wait_max: Duration,
        place: OwnedSemaphorePermit,
    ) {
        let give_up = Instant::now() + wait_max;
        self.lock().push_back(UnderWay { packet_id, kept, give_up, _place: place });
    }

    /// The message that an acknowledgement belongs to. None: it was refused and never came to the journal.
    fn take(&self, packet_id: u16) -> Option<UnderWay> {
        let mut messages = self.lock();
        let place = messages.iter().position(|message| message.packet_id == packet_id)?;
        messages.remove(place)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<UnderWay>> {
        self.messages.lock().expect("no holder of this lock panics")
    }
}

/// A connected pair of sockets of this machine: the broker inside takes nothing but TCP.
pub(super) async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let me = ours.local_addr()?;
    loop {
        let (theirs, peer) = listener.accept().await?;
        // Somebody else on this machine may have been faster.
        if peer == me {
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            return Ok((ours, theirs));
        }
    }
}

/// Relays until one side closes, or a message was not kept in time: then the client is left without its PUBACK. A
/// packet longer than `packet_bytes_max` ends it as well; the broker inside would do the same without a word.
pub(super) async fn relay(
    (from_client, to_client): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    inside: TcpStream,
    pending: Arc<Pending>,
    packet_bytes_max: usize,
) -> io::Result<()> {
    let (from_inside, to_inside) = inside.into_split();
    let inward = inward(from_client, to_inside, &pending, packet_bytes_max);
    let outward = outward(from_inside, to_client, &pending);
    tokio::pin!(inward, outward);
    tokio::select! {
        done = &mut outward => return done,
        done = &mut inward => done?,
    }
    outward.await
}

async fn inward(
    mut client: impl AsyncRead + Unpin,
    mut inside: OwnedWriteHalf,
    pending: &Pending,
    packet_bytes_max: usize,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    let mut pass: usize = 0;
    while client.read_buf(&mut buffer).await? > 0 {
        let out = noted(&mut buffer, &mut pass, pending, packet_bytes_max)?;
        inside.write_all(&out).await?;
    }
    // The client said all it had to say; what the broker answers still goes out.
    inside.write_all(&buffer).await?;
    inside.shutdown().await
}

/// What may go in now, after the DUP flags were noted that the hook of the broker inside is not told.
fn noted(
    buffer: &mut BytesMut,
    pass: &mut usize,
    pending: &Pending,
    packet_bytes_max: usize,
) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let now = (*pass).min(buffer.len());
        out.extend_from_slice(&buffer[..now]);
        buffer.advance(now);
        *pass -= now;
        let Some((kind, header, rest)) = header(buffer)? else { return Ok(out) };
        if header + rest > packet_bytes_max {
            let told = format!("a packet of {} bytes; {packet_bytes_max} are allowed", header + rest);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, told));
        }
        let (duplicate, with_id) = (buffer[0] & 0x08 != 0, buffer[0] & 0x06 != 0);
        if kind == PUBLISH && with_id && rest >= 4 {
            let Some(length) = buffer.get(header..header + 2) else { return Ok(out) };
            let at = header + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            // A topic longer than its packet: the broker inside says what it thinks of that.
            if at + 2 <= header + rest {
                let Some(id) = buffer.get(at..at + 2) else { return Ok(out) };
                pending.note(u16::from_be_bytes([id[0], id[1]]), duplicate);
            }
        }
        *pass = header + rest;
    }
}

async fn outward(
    mut inside: OwnedReadHalf,
    mut client: impl AsyncWrite + Unpin,
    pending: &Pending,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    // Bytes of a packet under way that is none of our business.
    let mut pass: usize = 0;
    let mut held: VecDeque<(Option<UnderWay>, Vec<u8>)> = VecDeque::new();
    loop {
        let ready = ready(&mut held, &mut buffer, &mut pass, pending)?;
        if !ready.is_empty() {
            client.write_all(&ready).await?;
        }
        let first = held.front_mut().and_then(|(message, _)| message.as_mut());
        tokio::select! {
            // The journal's answer first: when the broker stops, an acknowledgement that may go out still does.
            biased;
            kept = journal(first) => {
                if !kept {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "not written to the journal in time"));
                }
                if let Some((message, _)) = held.front_mut() {
                    *message = None;
                }
            }
            read = inside.read_buf(&mut buffer) => if read? == 0 {
                return client.shutdown().await;
            },
        }
    }
}

/// Whether the journal has it; never, when there is nothing to wait for.
async fn journal(message: Option<&mut UnderWay>) -> bool {
    match message {
        Some(message) => {
            matches!(tokio::time::timeout_at(message.give_up, &mut message.kept).await, Ok(Ok(())))
        }
        None => std::future::pending().await,
    }
}

/// What may go out now: whole or part packets of other kinds, and acknowledgements whose turn has come. MQTT wants
/// them in the order of the messages.
fn ready(
    held: &mut VecDeque<(Option<UnderWay>, Vec<u8>)>,
    buffer: &mut BytesMut,
    pass: &mut usize,
    pending: &Pending,
) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let now = (*pass).min(buffer.len());
        out.extend_from_slice(&buffer[..now]);
        buffer.advance(now);
        *pass -= now;
        let Some((kind, header, rest)) = header(buffer)? else { break };
        if kind != PUBACK && kind != PUBREC {
            *pass = header + rest;
            continue;
        }
        if !(2..=ACK_BYTES_MAX).contains(&rest) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an acknowledgement of a wrong length"));
        }
        if buffer.len() < header + rest {
            break;
        }
        let packet = buffer.split_to(header + rest);
        let packet_id = u16::from_be_bytes([packet[header], packet[header + 1]]);
        held.push_back((pending.take(packet_id), packet.to_vec()));
    }
    while let Some((None, _)) = held.front() {
        out.extend(held.pop_front().map(|(_, packet)| packet).unwrap_or_default());
    }
    Ok(out)
}

/// Kind, length of the fixed header and of the rest of the next packet, once they can be read.
fn header(buffer: &[u8]) -> io::Result<Option<(u8, usize, usize)>> {
    let Some(first) = buffer.first() else { return Ok(None) };
    let mut rest = 0;
    for (n, byte) in buffer.iter().skip(1).take(4).enumerate() {
        rest |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Ok(Some((first >> 4, n + 2, rest)));
        }
    }
    if buffer.len() >= 5 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet length of more than four bytes"));
    }
    Ok(None)
}

/// For `crate::fuzz`: any bytes, in two parts, from a client and from the broker inside. Nothing is lost or invented on the
/// way in, and nothing but acknowledgements is held back on the way out.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(data: &[u8]) {
    const PACKET_BYTES_MAX: usize = 1 << 16;
    let cut = data.first().map_or(0, |first| usize::from(*first) % (data.len() + 1));
    let (first, second) = data.split_at(cut);
    let pending = Pending::new();
    let (mut buffer, mut pass, mut out) = (BytesMut::new(), 0, Vec::new());
    let whole = [first, second].into_iter().all(|part| {
        buffer.extend_from_slice(part);
        let noted = noted(&mut buffer, &mut pass, &pending, PACKET_BYTES_MAX);
        noted.map(|bytes| out.extend(bytes)).is_ok()
    });
    assert!(!whole || [&out[..], &buffer[..]].concat() == data, "the bytes changed on the way");
    let (mut held, mut buffer, mut pass, mut out) = (VecDeque::new(), BytesMut::new(), 0, Vec::new());
    let whole = [first, second].into_iter().all(|part| {
        buffer.extend_from_slice(part);
        ready(&mut held, &mut buffer, &mut pass, &pending).map(|bytes| out.extend(bytes)).is_ok()
    });
    // Nothing is under way, so nothing is held; acknowledgements may change places with what is none.
    assert!(!whole || held.is_empty() && out.len() + buffer.len() == data.len(), "bytes were held back");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_cut_anywhere_pass_unchanged_and_acknowledgements_wait_their_turn() {
        let publish = [[0x30, 200, 1].as_slice(), &[7; 200]].concat();
        let stream =
            [&publish[..], &[0x40, 2, 0, 1], &[0xd0, 0], &[0x40, 2, 0, 2], &[0x40, 2, 0, 3]].concat();
        for cut in 1..stream.len() {
            let pending = Pending::new();
            let (first, kept_first) = oneshot::channel();
            let (_second, kept_second) = oneshot::channel();
            for (id, kept) in [(1, kept_first), (2, kept_second)] {
                let place = pending.place().await.unwrap();
                pending.add(id, kept, Duration::from_secs(1), place);
            }
            let (mut held, mut buffer, mut pass) = (VecDeque::new(), BytesMut::new(), 0);
            let mut out = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                buffer.extend_from_slice(part);
                out.extend(ready(&mut held, &mut buffer, &mut pass, &pending).unwrap());
            }
            assert_eq!(out, [&publish[..], &[0xd0, 0]].concat(), "cut at {cut}");
            assert_eq!(held.len(), 3, "the third, refused one waits for its turn");
            first.send(()).unwrap();
            let message = held.front_mut().unwrap().0.as_mut();
            assert!(journal(message).await);
            held.front_mut().unwrap().0 = None;
            let more = ready(&mut held, &mut buffer, &mut pass, &pending).unwrap();
            assert_eq!(more, [0x40, 2, 0, 1], "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_goes_in_is_unchanged_wherever_it_is_cut_and_repetitions_are_noted() {
        let first = [0x32, 6, 0, 1, b't', 0, 5, b'x'];
        let again = [0x3a, 6, 0, 1, b't', 0, 6, b'x'];
        let broken = [0x32, 5, 0xff, 0xff, b't', 0, 7];
        let stream =
            [&[0x10, 2, 0, 0][..], &first, &[0x30, 3, 0, 1, b't'], &again, &broken, &[0xc0, 0]].concat();
        for cut in 0..stream.len() {
            let pending = Pending::new();
            let (mut buffer, mut pass, mut out) = (BytesMut::new(), 0, Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                buffer.extend_from_slice(part);
                out.extend(noted(&mut buffer, &mut pass, &pending, 1 << 20).unwrap());
            }
            assert_eq!(out, stream, "cut at {cut}");
            assert!(pending.is_duplicate(6) && !pending.is_duplicate(5));
            pending.note(6, false);
            assert!(!pending.is_duplicate(6), "the id was used for something new");
        }
    }

    #[test]
    fn a_length_that_never_ends_is_refused() {
        assert!(header(&[0x30, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert_eq!(header(&[0x30, 0xff, 0xff]).unwrap(), None);
        assert_eq!(header(&[]).unwrap(), None);
        assert_eq!(header(&[0x40, 2, 0, 1]).unwrap(), Some((4, 2, 2)));
    }
}
