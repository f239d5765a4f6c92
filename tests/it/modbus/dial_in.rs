//! DTUs that dial in.

use super::line::poll;
use super::*;
use crate::support::ports::free_port;
use crate::support::rtu_line::{Manner, RtuLine};
use fengsui::sources::modbus::{Buses, DialIn, DialInPort, Framing, Network, Slot, listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEARTBEAT: &[u8] = b"<HB>";

/// A port with some DTUs behind it, and what it said of those it did not know.
struct Port {
    address: SocketAddr,
    slots: Vec<Slot>,
    strays: mpsc::Receiver<Arrival>,
    metrics: Metrics,
    listener: tokio::task::JoinHandle<()>,
}

impl Port {
    fn open(registrations: &[&str], allow: Vec<Network>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let slots: Vec<Slot> = registrations.iter().map(|text| Slot::new(text.as_bytes().to_vec())).collect();
        let buses = Buses::default();
        buses.allow(allow);
        for (n, slot) in slots.iter().enumerate() {
            buses.set(LinkId::parse(&format!("bus-{n}")).unwrap(), slot.clone());
        }
        let port = DialInPort { listen: address, buses, source: SourceIndex(7) };
        let (intake, strays) = mpsc::channel(10);
        let metrics = Metrics::new();
        let listener = tokio::spawn(listen(port, intake, Clock::system(), metrics.clone()));
        Self { address, slots, strays, metrics, listener }
    }

    fn wire(&self, index: usize, framing: Framing) -> Wire {
        Wire::DialIn(DialIn {
            slot: self.slots[index].clone(),
            framing,
            heartbeat: HEARTBEAT.to_vec(),
            silent_max: None,
        })
    }

    /// A connection that says so much and nothing more.
    async fn mute(&self, registration: &[u8]) -> TcpStream {
        let connected = async {
            loop {
                match TcpStream::connect(self.address).await {
                    Ok(stream) => break stream,
                    Err(_) => tokio::time::sleep(PERIOD / 10).await,
                }
            }
        };
        let mut stream = tokio::time::timeout(PATIENCE, connected).await.expect("the port is opened");
        stream.write_all(registration).await.unwrap();
        stream
    }

    async fn stranger(&mut self) -> Frame {
        match tokio::time::timeout(PATIENCE, self.strays.recv()).await.expect("in time") {
            Some(Arrival::Frame(frame)) => frame,
            other => panic!("not a stray: {other:?}"),
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

fn reads() -> Vec<Read> {
    vec![read(RegisterTable::Holding, 0, 4), read(RegisterTable::Coil, 0, 9)]
}

#[tokio::test]
async fn dtus_on_one_port_are_told_apart_by_what_they_say_first() {
    let mut port = Port::open(&["FS-1", "FS-12"], vec![]);
    let mut pollers = [
        poll(port.wire(0, Framing::Rtu), vec![(1, reads()), (2, reads())]),
        poll(port.wire(1, Framing::Rtu), vec![(7, reads())]),
    ];
    pollers[0].until("nobody dialled in", |poller| poller.links == [false]).await;
    assert!(pollers[0].reasons[0].zh.contains("DTU FS-1 没有拨入"), "{:?}", pollers[0].reasons);

    // The registration may come in pieces, with a line end behind it; one is the beginning of the other.
    let (one, twelve) = (RtuLine::dial(port.address, b"FS-1"), RtuLine::dial(port.address, b"FS-12\r\n"));
    pollers[0].until("all are well", |poller| poller.is_well(1) && poller.is_well(2)).await;
    pollers[1].until("it is well", |poller| poller.is_well(7)).await;
    assert_eq!((one.asked(7), twelve.asked(1)), (0, 0), "each bus has its own units");
    assert_eq!(pollers[0].links, [false, true]);

    let mut stranger = port.mute(b"FS-99").await;
    let frame = port.stranger().await;
    let Body::Message { topic, payload } = frame.body else { panic!("not a message") };
    assert_eq!((&*topic, &payload[..]), ("dtu/FS-99", &b"FS-99"[..]));
    assert_eq!(stranger.read(&mut [0; 8]).await.unwrap(), 0, "it is refused");
    assert_eq!(port.metrics.modbus_dial_ins_refused.get(), 1);
}

#[tokio::test]
async fn a_heartbeat_between_and_in_the_middle_of_frames_disturbs_nothing() {
    let port = Port::open(&["FS-1"], vec![]);
    let line = RtuLine::dial(port.address, b"FS-1");
    line.set(1, Manner::Noise(HEARTBEAT.to_vec()));
    line.set(2, Manner::Amid(HEARTBEAT.to_vec()));
    let mut poller = poll(port.wire(0, Framing::Rtu), vec![(1, reads()), (2, reads())]);
    for rounds in 1..=20 {
        line.say(HEARTBEAT);
        poller.until("a round", |poller| poller.rounds(1) >= rounds && poller.rounds(2) >= rounds).await;
    }
    // Before the DTU dialled in there is nothing to read; after that nothing fails.
    for unit in [1, 2] {
        assert!(poller.troubles(unit).iter().all(|trouble| *trouble == Trouble::Disconnected));
    }
}

#[tokio::test]
async fn a_dtu_that_dials_again_replaces_its_older_connection() {
    let port = Port::open(&["FS-1"], vec![]);
    // Its first connection stays open and says nothing more, as after a change of the mobile cell.
    let mut dead = port.mute(b"FS-1").await;
    let mut poller = poll(port.wire(0, Framing::Rtu), vec![(1, reads()), (2, reads())]);
    poller.until("nobody answers there", |poller| poller.troubles(1).contains(&Trouble::NoAnswer)).await;
    let _line = RtuLine::dial(port.address, b"FS-1");
    poller.until("all are well", |poller| poller.is_well(1) && poller.is_well(2)).await;
    let closed = async { while let Ok(1..) = dead.read(&mut [0; 64]).await {} };
    tokio::time::timeout(PATIENCE, closed).await.expect("the older connection is closed");
}

#[tokio::test]
async fn a_dtu_without_heartbeat_and_without_answers_is_disconnected_in_time() {
    let port = Port::open(&["FS-1"], vec![]);
    let mut dead = port.mute(b"FS-1").await;
    let Wire::DialIn(dial_in) = port.wire(0, Framing::Rtu) else { panic!("it dials in") };
    let wire = Wire::DialIn(DialIn { silent_max: Some(Duration::from_millis(500)), ..dial_in });
    let mut poller = poll(wire, vec![(1, reads()), (2, reads())]);
    poller
        .until("it is given up", |poller| {
            poller.reasons.last().is_some_and(|reason| reason.en.contains("has not dialled in"))
                && poller.links.contains(&true)
        })
        .await;
    let closed = async { while let Ok(1..) = dead.read(&mut [0; 64]).await {} };
    tokio::time::timeout(PATIENCE, closed).await.expect("its connection is closed");
}

#[tokio::test]
async fn who_says_nothing_takes_no_place_and_who_may_not_come_is_refused() {
    let port = Port::open(&["FS-1"], vec![Network::new("127.0.0.0".parse().unwrap(), 8).unwrap()]);
    // More than may wait: the others are closed at once, and the port still works when some of them leave.
    let mut silent = Vec::new();
    until("the port is open", || std::net::TcpStream::connect(port.address).is_ok()).await;
    for _ in 0..40 {
        silent.push(TcpStream::connect(port.address).await.unwrap());
    }
    until("the surplus is refused", || port.metrics.modbus_dial_ins_refused.get() >= 20).await;
    drop(silent);
    let _line = RtuLine::dial(port.address, b"FS-1");
    let mut poller = poll(port.wire(0, Framing::Rtu), vec![(1, reads())]);
    poller.until("it is well", |poller| poller.is_well(1)).await;

    let elsewhere = Port::open(&["FS-1"], vec![Network::new("10.0.0.0".parse().unwrap(), 8).unwrap()]);
    let _line = RtuLine::dial(elsewhere.address, b"FS-1");
    until("it is refused", || elsewhere.metrics.modbus_dial_ins_refused.get() >= 2).await;
}

#[tokio::test]
async fn a_port_that_is_in_use_is_told_and_taken_once_it_is_free() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slot = Slot::new(b"FS-1".to_vec());
    let (intake, _strays) = mpsc::channel(1);
    let buses = Buses::default();
    buses.set(LinkId::parse("bus").unwrap(), slot.clone());
    let port = DialInPort { listen: taken.local_addr().unwrap(), buses, source: SourceIndex(7) };
    let address = port.listen;
    let listener = tokio::spawn(listen(port, intake, Clock::system(), Metrics::new()));
    tokio::task::yield_now().await;
    let wire = Wire::DialIn(DialIn { slot, framing: Framing::Rtu, heartbeat: vec![], silent_max: None });
    let mut poller = poll(wire, vec![(1, reads())]);
    poller
        .until("the link says why", |poller| {
            poller.reasons.iter().any(|reason| reason.en.contains("in use by another program"))
        })
        .await;
    drop(taken);
    let _line = RtuLine::dial(address, b"FS-1");
    poller.until("it is well", |poller| poller.is_well(1)).await;
    listener.abort();
}

/// The DTU translates: it speaks Modbus TCP to us.
#[tokio::test]
async fn a_dtu_that_speaks_modbus_tcp_is_a_bus_as_well() {
    let port = Port::open(&["FS-1"], vec![]);
    let server = ModbusServer::start().await;
    let (to, from) = (port.address, server.address);
    let dtu = tokio::spawn(async move {
        let mut inner = TcpStream::connect(from).await.unwrap();
        let mut outer = loop {
            match TcpStream::connect(to).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        outer.write_all(b"FS-1\r\n").await.unwrap();
        outer.write_all(HEARTBEAT).await.unwrap();
        let (mut question, mut answer) = ([0; 256], [0; 256]);
        loop {
            let Ok(length @ 1..) = outer.read(&mut question).await else { return };
            inner.write_all(&question[..length]).await.unwrap();
            let length = inner.read(&mut answer).await.unwrap();
            // Its heartbeat may stand before any frame.
            outer.write_all(&[HEARTBEAT, &answer[..length]].concat()).await.unwrap();
        }
    });
    let mut poller = poll(port.wire(0, Framing::Tcp), vec![(1, reads()), (255, reads())]);
    poller.until("all are well", |poller| poller.is_well(1) && poller.is_well(255)).await;
    let before = poller.rounds(1);
    poller.until("ten more rounds", |poller| poller.rounds(1) >= before + 10).await;
    assert!(poller.is_well(1) && poller.is_well(255));
    dtu.abort();
}
