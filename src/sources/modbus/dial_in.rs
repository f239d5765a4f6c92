//! WIRE → FRAMES: the port that 4G DTUs dial, and who is who by the text they send first.
//!
//! A DTU (a modem with a serial line behind it) has no address of its own; it connects to us, says its registration, and
//! is then a bus like any other. When its mobile network drops it, it dials again long before TCP here has noticed: so
//! the newer connection replaces the older one.

use super::super::{Arrival, Intake};
use super::wire::watch;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{Body, Frame, LinkId, SourceIndex};
use bytes::Bytes;
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

/// How long a connection may take to say who it is. A DTU sends its registration as soon as it is connected; over a
/// mobile network that is seconds.
pub const REGISTRATION_WAIT: Duration = Duration::from_secs(10);

/// The longest registration: DTUs allow 20 to 128 bytes.
pub const REGISTRATION_BYTES_MAX: usize = 128;

/// A registration that begins another one is believed when nothing more came for so long.
const REGISTRATION_PAUSE: Duration = Duration::from_millis(300);

/// Connections that have not said who they are. Twice as many as a site has DTUs; each holds 128 bytes for 10 s at the
/// most.
const UNREGISTERED_MAX: usize = 16;

/// How soon a port that could not be opened is tried again.
const LISTEN_AFTER: Duration = Duration::from_secs(5);

/// Where the listener leaves the connection of one DTU for its bus: the newest, and only that.
#[derive(Debug, Clone)]
pub struct Slot(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    registration: Vec<u8>,
    content: Mutex<Content>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Content {
    arrived: Option<TcpStream>,
    /// Why nobody can arrive.
    fault: Option<ErrorKind>,
}

impl Slot {
    /// An empty one for the DTU with that registration.
    pub fn new(registration: Vec<u8>) -> Self {
        Self(Arc::new(Inside { registration, content: Mutex::default(), bell: Notify::new() }))
    }

    /// The registration, for a person.
    pub(super) fn name(&self) -> String {
        printable(&self.0.registration)
    }

    /// The newest connection, if it was not taken yet.
    pub(super) fn take(&self) -> io::Result<TcpStream> {
        let mut content = self.lock();
        match (content.arrived.take(), content.fault) {
            (Some(stream), _) => Ok(stream),
            (None, Some(fault)) => Err(fault.into()),
            (None, None) => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Comes to its end when there is a connection to take.
    pub(super) async fn filled(&self) {
        while self.lock().arrived.is_none() {
            self.0.bell.notified().await;
        }
    }

    fn put(&self, stream: TcpStream) {
        self.lock().arrived = Some(stream);
        self.0.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.content.lock().expect("no holder of this lock panics")
    }
}

/// One port and the buses that wait behind it.
#[derive(Debug, Clone)]
pub struct DialInPort {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The links behind it.
    pub buses: Buses,
    /// Under whose name a refused connection is told.
    pub source: SourceIndex,
}

/// The links behind a port, with their places; they may come and go while it listens. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Buses(Arc<Mutex<Behind>>);

#[derive(Debug, Clone, Default)]
struct Behind {
    buses: Vec<(LinkId, Slot)>,
    allow: Vec<Network>,
    fault: Option<ErrorKind>,
}

impl Buses {
    /// From where a connection may come; empty: from anywhere.
    pub fn allow(&self, networks: Vec<Network>) {
        self.lock().allow = networks;
    }

    /// This link waits in that place now, and in no other.
    pub fn set(&self, link: LinkId, slot: Slot) {
        let mut behind = self.lock();
        slot.lock().fault = behind.fault;
        behind.buses.retain(|(known, _)| *known != link);
        behind.buses.push((link, slot));
    }

    /// Forgets all other links.
    pub fn keep_only(&self, wanted: impl Fn(&LinkId) -> bool) {
        self.lock().buses.retain(|(link, _)| wanted(link));
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.lock().buses.is_empty()
    }

    fn set_fault(&self, fault: Option<ErrorKind>) {
        let mut behind = self.lock();
        behind.fault = fault;
        for (_, slot) in &behind.buses {
            slot.lock().fault = fault;
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        let allow = &self.lock().allow;
        allow.is_empty() || allow.iter().any(|net| net.holds(address))
    }

    fn now(&self) -> Vec<(LinkId, Slot)> {
        self.lock().buses.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Behind> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// A range of addresses, as `10.8.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The addresses whose first so many bits are those; `None`: an address has not as many.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (bits <= longest).then_some(Self { address, bits })
    }

    /// Whether an address is in it.
    pub fn holds(self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            let rest = width.saturating_sub(u32::from(self.bits));
            ours.checked_shr(rest) == theirs.checked_shr(rest)
        };
        // An IPv4 peer of a socket that listens on both kinds.
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                same(ours.to_bits().into(), theirs.to_bits().into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}

/// What a listener needs besides.
#[derive(Debug, Clone)]
struct Hall {
    port: Arc<DialInPort>,
    intake: Intake,
    clock: Clock,
    metrics: Metrics,
}

/// Listens until it is cancelled (dropped). Never fails: a port that cannot be opened is tried again, and its links say
/// why they are down.
pub async fn listen(port: DialInPort, intake: Intake, clock: Clock, metrics: Metrics) {
    let hall = Hall { port: Arc::new(port), intake, clock, metrics };
    let unregistered = Arc::new(Semaphore::new(UNREGISTERED_MAX));
    loop {
        let listener = match TcpListener::bind(hall.port.listen).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(listen = %hall.port.listen, %error, "Cannot listen for DTUs.");
                hall.port.buses.set_fault(Some(error.kind()));
                tokio::time::sleep(LISTEN_AFTER).await;
                continue;
            }
        };
        hall.port.buses.set_fault(None);
        while let Ok((stream, from)) = listener.accept().await {
            let room = unregistered.clone().try_acquire_owned();
            let allowed = hall.port.buses.allows(from.ip());
            match room {
                Ok(room) if allowed => {
                    let hall = hall.clone();
                    tokio::spawn(async move {
                        hall.welcome(stream, from).await;
                        drop(room);
                    });
                }
                room => {
                    hall.metrics.modbus_dial_ins_refused.inc();
                    let reason =
                        if room.is_err() { "too many that have not registered" } else { "not allowed" };
                    tracing::debug!(%from, reason, "A connection to the DTU port was closed.");
                }
            }
        }
        // Out of descriptors or memory: others may give some back.
        tokio::time::sleep(LISTEN_AFTER).await;
    }
}

impl Hall {
    /// Finds out who it is and hands the connection over.
    async fn welcome(&self, mut stream: TcpStream, from: SocketAddr) {
        let buses = self.port.buses.now();
        let registrations: Vec<&[u8]> =
            buses.iter().map(|(_, slot)| slot.0.registration.as_slice()).collect();
        let mut said = Vec::new();
        let who = timeout(REGISTRATION_WAIT, async {
            let mut buffer = [0; REGISTRATION_BYTES_MAX];
            loop {
                let wait = if matches!(who(&registrations, &said), Who::Perhaps(_)) {
                    REGISTRATION_PAUSE
                } else {
                    REGISTRATION_WAIT
                };
                match timeout(wait, stream.read(&mut buffer)).await {
                    Ok(Ok(read @ 1..)) => said.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                    // Nothing more comes: what there is must do.
                    _ => break,
                }
                match who(&registrations, &said) {
                    Who::Known(_) | Who::Unknown => break,
                    Who::Perhaps(_) | Who::Nobody => {}
                }
            }
        });
        // A time-out leaves what was said.
        let _in_time = who.await.is_ok();
        match who_at_last(&registrations, &said) {
            Some(index) => {
                let Some((link, slot)) = buses.get(index) else { return };
                match watch(&stream) {
                    Ok(()) => {
                        tracing::info!(%link, %from, "A DTU dialled in.");
                        slot.put(stream);
                    }
                    Err(error) => tracing::debug!(%link, %from, %error, "A DTU was gone at once."),
                }
            }
            None => self.refuse(&said, from).await,
        }
    }

    /// Counted, and kept where a person sees it: a new DTU, or one with a typing error in it.
    async fn refuse(&self, said: &[u8], from: SocketAddr) {
        self.metrics.modbus_dial_ins_refused.inc();
        let name = printable(said.get(..said.len().min(REGISTRATION_BYTES_MAX)).unwrap_or_default());
        tracing::debug!(%from, registration = name, "A DTU with an unknown registration was refused.");
        // Who says nothing at all is a scanner or a health check: counted, not shown.
        let Some((link, _)) = self.port.buses.now().into_iter().next().filter(|_| !said.is_empty()) else {
            return;
        };
        let frame = Frame {
            source: self.port.source,
            link,
            body: Body::Message {
                topic: format!("dtu/{name}").into(),
                payload: Bytes::copy_from_slice(said),
            },
            received_at: self.clock.now(),
            retained: false,
            delivery: None,
        };
        // A gateway that has no room now has better things to do; the count stands.
        let _told = self.intake.try_send(Arrival::Frame(frame)).is_ok();
    }
}

/// Who somebody is who has said that much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// That one, by its index.
    Known(usize),
    /// That one, unless more comes: another registration goes on where its ends.
    Perhaps(usize),
    /// Nobody yet: it may become one.
    Nobody,
    /// None of ours, whatever else comes.
    Unknown,
}

fn who(registrations: &[&[u8]], said: &[u8]) -> Who {
    let longest = (registrations.iter().enumerate())
        .filter(|(_, registration)| said.starts_with(registration))
        .max_by_key(|(_, registration)| registration.len());
    let may_become_longer = registrations.iter().any(|all| all.len() > said.len() && all.starts_with(said));
    match (longest, may_become_longer) {
        (Some((index, _)), false) => Who::Known(index),
        (Some((index, _)), true) => Who::Perhaps(index),
        (None, true) => Who::Nobody,
        (None, false) => Who::Unknown,
    }
}

fn who_at_last(registrations: &[&[u8]], said: &[u8]) -> Option<usize> {
    match who(registrations, said) {
        Who::Known(index) | Who::Perhaps(index) => Some(index),
        Who::Nobody | Who::Unknown => None,
    }
}

/// The text, or its bytes where it is none.
fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c: char| c.is_control() && c != '\r' && c != '\n') => {
            text.trim().to_owned()
        }
        _ => bytes.iter().fold(String::from("hex:"), |mut text, byte| {
            // Writing to a text cannot fail.
            let _written = write!(text, "{byte:02X}").is_ok();
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_registration_that_was_said_wins() {
        let known: [&[u8]; 3] = [b"FS-1", b"FS-12", b"\x00\x01"];
        for (said, expected) in [
            (&b""[..], Who::Nobody),
            (b"FS", Who::Nobody),
            (b"FS-1", Who::Perhaps(0)),
            (b"FS-12", Who::Known(1)),
            (b"FS-1\r\n", Who::Known(0)),
            (b"FS-13", Who::Known(0)),
            (b"\x00\x01\x05", Who::Known(2)),
            (b"GET / HTTP/1.1", Who::Unknown),
        ] {
            assert_eq!(who(&known, said), expected, "{said:?}");
        }
        assert_eq!(who_at_last(&known, b"FS-1"), Some(0));
        assert_eq!(who_at_last(&known, b"FS"), None);
    }

    #[test]
    fn a_network_holds_its_own_addresses() {
        let net = |address: &str, bits| Network::new(address.parse().unwrap(), bits);
        let ours = net("10.8.0.0", 16).unwrap();
        assert!(ours.holds("10.8.255.1".parse().unwrap()) && ours.holds("::ffff:10.8.0.1".parse().unwrap()));
        assert!(!ours.holds("10.9.0.1".parse().unwrap()) && !ours.holds("::1".parse().unwrap()));
        assert!(net("::1", 128).unwrap().holds("::1".parse().unwrap()));
        assert!(net("0.0.0.0", 0).unwrap().holds("8.8.8.8".parse().unwrap()));
        assert!(!net("::", 0).unwrap().holds("8.8.8.8".parse().unwrap()));
        assert_eq!(net("10.8.0.0", 33), None);
    }

    #[test]
    fn a_registration_is_shown_as_text_or_as_bytes() {
        assert_eq!(printable(b"FS-0001\r\n"), "FS-0001");
        assert_eq!(printable("三号楼".as_bytes()), "三号楼");
        assert_eq!(printable(b"\x00\xFF"), "hex:00FF");
    }

    proptest! {
        #[test]
        fn whoever_is_known_began_with_a_registration(said in prop::collection::vec(any::<u8>(), 0..20)) {
            let known: [&[u8]; 2] = [b"a", b"ab"];
            if let Some(index) = who_at_last(&known, &said) {
                prop_assert!(said.starts_with(known[index]));
            }
        }
    }
}
