//! A TCP proxy between any two peers that delays, cuts, halves, duplicates, swallows, stalls and corrupts, by a seeded
//! plan that a test changes while it runs. It counts what it did, so that a test can insist that it did happen.
//!
//! What passes is taken in chunks: what one read gives. Each connection and direction draws from a generator of its own,
//! three numbers a chunk whatever the plan is: the same chunks under the same seed have the same fate.

use super::ports::soon;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Taken at a time. Larger than any frame of a bus and than most messages.
const CHUNK_BYTES: usize = 4096;

/// Open at once; more wait in the system's queue. Each costs two sockets and at most two chunks.
const CONNECTIONS_MAX: usize = 256;

/// The longest pause of a delay and between two halves.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// What may happen to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// It comes later, and so does what is behind it.
    Delay,
    /// The connection ends before it, in order or by a reset.
    Cut,
    /// The connection ends in the middle of it.
    CutAmid,
    /// Its first half comes now, the rest later.
    Halve,
    /// Its first half comes, the rest never does, and what is behind it does.
    HalveForGood,
    /// It comes twice.
    Duplicate,
    /// One bit of it is wrong.
    Flip,
    /// One bit of that byte is wrong; a shorter chunk is left alone.
    FlipAt(usize),
    /// One bit of that byte, counted from its end, is wrong; a shorter chunk is left alone.
    FlipBeforeEnd(usize),
    /// It never comes, and what is behind it does.
    Swallow,
    /// From here on nothing comes in this direction, and nothing is said: the connection stays open.
    Stall,
}

/// What a network does to TCP that is only slow, broken or half-open: no byte is wrong, missing or there twice.
pub(crate) const BAD_NETWORK: [Fault; 4] = [Fault::Delay, Fault::Cut, Fault::CutAmid, Fault::Halve];

/// The same without an end.
pub(crate) const SLOW_NETWORK: [Fault; 2] = [Fault::Delay, Fault::Halve];

/// What TCP keeps from us and bad memory or a bad middlebox does not: the bytes are not those that were sent.
pub(crate) const WRONG_BYTES: [Fault; 4] =
    [Fault::HalveForGood, Fault::Duplicate, Fault::Flip, Fault::Swallow];

/// Seen from who connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Up,
    Down,
}

pub(crate) const WAYS: [Way; 2] = [Way::Up, Way::Down];

/// The faults of one direction.
#[derive(Debug, Clone, Default)]
struct Plan {
    faults: Vec<Fault>,
    /// One chunk of so many has one of them.
    every: u64,
    /// So many more of them; `None`: for ever.
    left: Option<u64>,
}

/// Three numbers for one chunk.
#[derive(Debug, Clone, Copy)]
struct Draw([u64; 3]);

impl Plan {
    /// Which fault a chunk of that length has.
    fn fate(&mut self, draw: Draw, length: usize) -> Option<Fault> {
        let Draw([whether, which, _]) = draw;
        if self.faults.is_empty() || self.left == Some(0) || !whether.is_multiple_of(self.every) {
            return None;
        }
        let count = self.faults.len() as u64;
        let fault = self.faults[usize::try_from(which % count).unwrap()];
        match fault {
            Fault::FlipAt(at) if at >= length => return None,
            Fault::FlipBeforeEnd(at) if at >= length => return None,
            _ => {}
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Some(fault)
    }
}

/// The generator of one connection and direction.
struct Dice(fastrand::Rng);

impl Dice {
    fn new(seed: u64, connection: u64, way: Way) -> Self {
        Self(fastrand::Rng::with_seed(seed ^ connection << 1 ^ u64::from(way == Way::Up)))
    }

    fn draw(&mut self) -> Draw {
        Draw([self.0.u64(..), self.0.u64(..), self.0.u64(..)])
    }
}

#[derive(Default)]
struct Inside {
    plans: HashMap<Way, Plan>,
    did: HashMap<(Way, Fault), u64>,
    chunks: HashMap<Way, u64>,
    connections: u64,
    /// Ends the connections that are open now.
    sever: CancellationToken,
}

/// The proxy. Ends with the value.
pub(crate) struct FaultProxy {
    pub(crate) address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    cancel: CancellationToken,
}

impl FaultProxy {
    /// In front of a server that listens there, or will. Nothing is wrong yet.
    pub(crate) async fn to(target: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (inside, cancel) = (Arc::<Mutex<Inside>>::default(), CancellationToken::new());
        let (state, ended) = (inside.clone(), cancel.clone());
        let serve = async move {
            let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            loop {
                let place = places.clone().acquire_owned().await.unwrap();
                let Ok((client, _)) = listener.accept().await else { continue };
                let (number, sever) = {
                    let mut inside = state.lock().unwrap();
                    inside.connections += 1;
                    (inside.connections, inside.sever.clone())
                };
                let (state, ended) = (state.clone(), ended.clone());
                tokio::spawn(async move {
                    let _place = place;
                    let both = connection(client, target, [Way::Up, Way::Down], state, seed, number, sever);
                    ended.run_until_cancelled(both).await;
                });
            }
        };
        tokio::spawn(cancel.clone().run_until_cancelled_owned(serve));
        Self { address, inside, cancel }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on one chunk of `every` has one of these faults.
    pub(crate) fn set(&self, way: Way, faults: &[Fault], every: u64) {
        let plan = Plan { faults: faults.to_vec(), every, left: None };
        self.inside.lock().unwrap().plans.insert(way, plan);
    }

    /// The same in both directions.
    pub(crate) fn set_both(&self, faults: &[Fault], every: u64) {
        WAYS.iter().for_each(|way| self.set(*way, faults, every));
    }

    /// The next chunk has this fault, then all is well in that direction.
    pub(crate) fn once(&self, way: Way, fault: Fault) {
        let plan = Plan { faults: vec![fault], every: 1, left: Some(1) };
        self.inside.lock().unwrap().plans.insert(way, plan);
    }

    /// Nothing more is done to what passes. What is stalled stays so.
    pub(crate) fn calm(&self) {
        self.inside.lock().unwrap().plans.clear();
    }

    /// Resets every connection that is open now.
    pub(crate) fn sever(&self) {
        std::mem::take(&mut self.inside.lock().unwrap().sever).cancel();
    }

    /// How often it did that.
    pub(crate) fn did(&self, way: Way, fault: Fault) -> u64 {
        self.inside.lock().unwrap().did.get(&(way, fault)).copied().unwrap_or(0)
    }

    /// Whether it did each of these at least so often, in each direction.
    pub(crate) fn did_all(&self, faults: &[Fault], times: u64) -> bool {
        WAYS.iter().all(|way| faults.iter().all(|fault| self.did(*way, *fault) >= times))
    }

    /// How often it did anything, in that direction.
    pub(crate) fn did_something(&self, way: Way) -> u64 {
        let inside = self.inside.lock().unwrap();
        inside.did.iter().filter(|((did, _), _)| *did == way).map(|(_, times)| times).sum()
    }

    /// How many connections it took.
    pub(crate) fn connections(&self) -> u64 {
        self.inside.lock().unwrap().connections
    }

    /// What it did, for a failure's message or a table.
    pub(crate) fn account(&self) -> String {
        let inside = self.inside.lock().unwrap();
        let mut did: Vec<String> =
            inside.did.iter().map(|((way, fault), times)| format!("{way:?} {fault:?} {times}")).collect();
        did.sort();
        format!("{} connections, {:?} chunks: {}", inside.connections, inside.chunks, did.join(", "))
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// How a connection ends before its peers end it.
#[derive(Debug)]
enum End {
    InOrder,
    Reset,
}

async fn connection(
    mut client: TcpStream,
    target: SocketAddr,
    ways: [Way; 2],
    inside: Arc<Mutex<Inside>>,
    seed: u64,
    number: u64,
    sever: CancellationToken,
) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        client.set_zero_linger().ok();
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let end = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let [up, down] = ways.map(|way| (way, Dice::new(seed, number, way)));
        let both = async {
            tokio::try_join!(
                relay(from_client, to_server, up, &inside),
                relay(from_server, to_client, down, &inside)
            )
        };
        match sever.run_until_cancelled(both).await {
            None => End::Reset,
            Some(Ok(_)) => End::InOrder,
            Some(Err(end)) => end,
        }
    };
    if matches!(end, End::Reset) {
        client.set_zero_linger().ok();
        server.set_zero_linger().ok();
    }
}

/// One direction, until its sender has nothing more to say.
async fn relay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (way, mut dice): (Way, Dice),
    inside: &Arc<Mutex<Inside>>,
) -> Result<(), End> {
    let mut buffer = [0; CHUNK_BYTES];
    loop {
        let length = from.read(&mut buffer).await.map_err(|_| End::Reset)?;
        if length == 0 {
            to.shutdown().await.ok();
            return Ok(());
        }
        let chunk = &mut buffer[..length];
        let draw = dice.draw();
        let fate = {
            let mut inside = inside.lock().unwrap();
            *inside.chunks.entry(way).or_default() += 1;
            let fate = inside.plans.entry(way).or_default().fate(draw, length);
            if let Some(fault) = fate {
                *inside.did.entry((way, fault)).or_default() += 1;
            }
            fate
        };
        let Draw([_, _, how]) = draw;
        let pause = PAUSE_MAX.mul_f64(f64::from(u8::try_from(how % 256).unwrap()) / 256.0);
        let end = if how.is_multiple_of(2) { End::InOrder } else { End::Reset };
        let (first, rest) = (length / 2, length - length / 2);
        let mut write = async |bytes: &[u8]| to.write_all(bytes).await.map_err(|_| End::Reset);
        match fate {
            None => write(chunk).await?,
            Some(Fault::Delay) => {
                tokio::time::sleep(pause).await;
                write(chunk).await?;
            }
            Some(Fault::Cut) => return Err(end),
            Some(Fault::CutAmid) => {
                write(&chunk[..first]).await?;
                return Err(end);
            }
            Some(Fault::Halve) => {
                write(&chunk[..first]).await?;
                tokio::time::sleep(pause).await;
                write(&chunk[length - rest..]).await?;
            }
            Some(Fault::HalveForGood) => write(&chunk[..first]).await?,
            Some(Fault::Duplicate) => {
                write(chunk).await?;
                write(chunk).await?;
            }
            Some(Fault::Flip | Fault::FlipAt(_) | Fault::FlipBeforeEnd(_)) => {
                let at = match fate {
                    Some(Fault::FlipAt(at)) => at,
                    Some(Fault::FlipBeforeEnd(at)) => length - 1 - at,
                    _ => usize::try_from(how / 8 % length as u64).unwrap(),
                };
                chunk[at] ^= 1 << (how % 8);
                write(chunk).await?;
            }
            Some(Fault::Swallow) => {}
            Some(Fault::Stall) => std::future::pending().await,
        }
    }
}

/// A server that keeps what it is told and says it back.
async fn echo() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
    let kept = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut buffer = [0; CHUNK_BYTES];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    kept.lock().unwrap().extend_from_slice(&buffer[..length]);
                    stream.write_all(&buffer[..length]).await.ok();
                }
            });
        }
    });
    (address, heard)
}

/// Says it and reads so many bytes back; `Err` when the connection ended first.
async fn say(stream: &mut TcpStream, text: &[u8], back: usize) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; back];
    soon("the answer or an end", stream.read_exact(&mut answer)).await?;
    Ok(answer)
}

#[tokio::test]
async fn every_fault_does_what_its_name_says_once_and_is_counted() {
    let (server, heard) = echo().await;
    for (fault, expected) in [
        (Fault::Delay, Some(&b"abcd"[..])),
        (Fault::Halve, Some(b"abcd")),
        (Fault::HalveForGood, Some(b"ab")),
        (Fault::Duplicate, Some(b"abcdabcd")),
        (Fault::Cut, None),
        (Fault::CutAmid, None),
        (Fault::FlipAt(9), Some(b"abcd")),
    ] {
        let proxy = FaultProxy::to(server, 1).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(say(&mut stream, b"well", 4).await.unwrap(), b"well");
        proxy.once(Way::Up, fault);
        let answer = say(&mut stream, b"abcd", expected.map_or(1, <[u8]>::len)).await;
        match (answer, expected) {
            (Ok(answer), Some(expected)) => {
                assert_eq!(answer, expected, "{fault:?}");
                assert_eq!(say(&mut stream, b"well", 4).await.unwrap(), b"well", "{fault:?}: only once");
            }
            (Err(_), None) => {}
            // The half that came before the cut may come back.
            (Ok(answer), None) => assert!(fault == Fault::CutAmid && answer == b"a", "{fault:?}: {answer:?}"),
            (Err(error), Some(_)) => panic!("{fault:?}: {error}"),
        }
        let done = u64::from(fault != Fault::FlipAt(9));
        assert_eq!((proxy.did(Way::Up, fault), proxy.did_something(Way::Down)), (done, 0));
    }
    for (fault, at) in [(Fault::FlipAt(1), Some(1)), (Fault::FlipBeforeEnd(0), Some(3)), (Fault::Flip, None)]
    {
        let proxy = FaultProxy::to(server, 2).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        proxy.once(Way::Down, fault);
        let answer = say(&mut stream, b"\0\0\0\0", 4).await.unwrap();
        let wrong: Vec<usize> = (0..4).filter(|at| answer[*at] != 0).collect();
        assert!(wrong.len() == 1 && at.is_none_or(|at| wrong == [at]), "{fault:?}: {answer:?}");
        assert_eq!(answer[wrong[0]].count_ones(), 1, "{fault:?}: one bit");
    }
    let proxy = FaultProxy::to(server, 3).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    proxy.once(Way::Down, Fault::Swallow);
    stream.write_all(b"gone").await.unwrap();
    super::ports::until("it was swallowed", || proxy.did(Way::Down, Fault::Swallow) == 1).await;
    assert_eq!(say(&mut stream, b"next", 4).await.unwrap(), b"next");
    proxy.once(Way::Down, Fault::Stall);
    heard.lock().unwrap().clear();
    stream.write_all(b"1").await.unwrap();
    super::ports::until("it is stalled", || proxy.did(Way::Down, Fault::Stall) == 1).await;
    stream.write_all(b"2").await.unwrap();
    super::ports::until("the other direction goes on", || *heard.lock().unwrap() == b"12").await;
    assert!(stream.try_read(&mut [0; 1]).is_err(), "open and silent");
    proxy.sever();
    assert!(soon("the end", stream.read(&mut [0; 1])).await.is_err(), "reset");
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(say(&mut stream, b"anew", 4).await.unwrap(), b"anew");
    assert_eq!(proxy.connections(), 2);
}

#[test]
fn the_same_chunks_under_the_same_seed_have_the_same_fate() {
    let all = [&BAD_NETWORK[..], &WRONG_BYTES].concat();
    let fates = |seed| -> Vec<Option<Fault>> {
        let (mut plan, mut dice) =
            (Plan { faults: all.clone(), every: 3, left: None }, Dice::new(seed, 1, Way::Up));
        (0..1000).map(|length| plan.fate(dice.draw(), length)).collect()
    };
    assert_eq!(fates(7), fates(7));
    assert_ne!(fates(7), fates(8));
    let hit = fates(7).iter().flatten().count();
    assert!((250..420).contains(&hit), "one of three, not {hit} of 1000");
    assert!(all.iter().all(|fault| fates(7).contains(&Some(*fault))), "each has its turn");
}
