//! The way to devices on a bus: to a Modbus TCP server, to a serial server, and from a DTU that dials in.

use super::here;
use crate::support::fault_proxy::{Fault, FaultProxy, SLOW_NETWORK, WAYS, WRONG_BYTES, Way};
use crate::support::modbus_unit::{ModbusServer, word};
use crate::support::ports::{PATIENCE, free_port};
use crate::support::rtu_line::RtuLine;
use fengsui::clock::Clock;
use fengsui::metrics::Metrics;
use fengsui::model::{Body, DeviceId, LinkId, Order, RegisterBlock, RegisterTable, SourceIndex};
use fengsui::sources::modbus::{
    BusSettings, Buses as DialInBuses, DialIn, DialInPort, Framing, LineSettings, Read, Slot, UnitSettings,
    Wire, listen, run,
};
use fengsui::sources::{Arrival, ORDERS_MAX};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Long enough for a unit that failed to be asked in a gap between the others' turns.
const PERIOD: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_millis(100);

/// Longer than the proxy delays anything.
const LATE_MAX: Duration = Duration::from_millis(200);

const UNITS: [u8; 4] = [1, 2, 3, 4];

/// What came of one unit's reads.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    right: usize,
    wrong: usize,
    failed: usize,
}

/// A bus under test beside one that nothing happens to; both speak into one channel, as in the gateway.
struct Buses {
    arrivals: mpsc::Receiver<Arrival>,
    tallies: HashMap<(SourceIndex, u8), Tally>,
    links: HashMap<SourceIndex, Vec<bool>>,
    cancel: CancellationToken,
    /// Nobody orders anything here.
    _orders: Vec<mpsc::Sender<Order>>,
}

const SICK: SourceIndex = SourceIndex(0);
const WELL: SourceIndex = SourceIndex(1);

impl Buses {
    /// Two reads of one shape of each unit: an answer to the one would pass for one to the other.
    fn start(sick: Wire, well: Wire) -> Self {
        let (intake, arrivals) = mpsc::channel(1000);
        let (metrics, cancel, mut orders) = (Metrics::new(), CancellationToken::new(), Vec::new());
        for (wire, source) in [(sick, SICK), (well, WELL)] {
            let read =
                |start| Read { table: RegisterTable::Holding, start, count: 4, every: PERIOD, urgent: false };
            let unit = |unit| UnitSettings { device: device(unit), unit, reads: vec![read(0), read(20)] };
            let settings = BusSettings {
                link: LinkId::parse(&format!("bus-{}", source.0)).unwrap(),
                wire,
                line: LineSettings { late_answer_max: LATE_MAX, ..LineSettings::default() },
                units: UNITS.map(unit).to_vec(),
                timeout: TIMEOUT,
                pause_after_connect: Duration::ZERO,
                second_connection: true,
            };
            let (order, to_bus) = mpsc::channel(ORDERS_MAX);
            orders.push(order);
            let clock = Clock::system();
            tokio::spawn(run(
                settings,
                source,
                intake.clone(),
                to_bus,
                clock,
                metrics.clone(),
                cancel.clone(),
            ));
        }
        Self { arrivals, tallies: HashMap::new(), links: HashMap::new(), cancel, _orders: orders }
    }

    async fn until(&mut self, what: &str, proxy: &FaultProxy, so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            match tokio::time::timeout(left, self.arrivals.recv()).await {
                Err(_) => panic!("in vain until {what}: {:?}; {}", self.tallies, proxy.account()),
                Ok(arrival) => self.take(arrival.expect("the buses run")),
            }
        }
    }

    fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Ordered { no, .. } => panic!("nobody ordered {no}"),
            Arrival::Link(change) => {
                let source = if change.link.as_str() == "bus-0" { SICK } else { WELL };
                self.links.entry(source).or_default().push(change.up);
            }
            Arrival::Frame(frame) => {
                let Body::Registers { device, blocks } = frame.body else { panic!("not a poll") };
                let unit: u8 = device.as_str().strip_prefix("unit-").unwrap().parse().unwrap();
                let tally = self.tallies.entry((frame.source, unit)).or_default();
                for block in &blocks {
                    match is_right(unit, block) {
                        Some(true) => tally.right += 1,
                        Some(false) => tally.wrong += 1,
                        None => tally.failed += 1,
                    }
                }
            }
        }
    }

    fn of(&self, source: SourceIndex) -> Tally {
        let mut all = Tally::default();
        for unit in UNITS {
            let Tally { right, wrong, failed } =
                self.tallies.get(&(source, unit)).copied().unwrap_or_default();
            (all.right, all.wrong, all.failed) = (all.right + right, all.wrong + wrong, all.failed + failed);
        }
        all
    }

    /// The slowest unit's right reads.
    fn least(&self, source: SourceIndex) -> usize {
        UNITS
            .iter()
            .map(|unit| self.tallies.get(&(source, *unit)).map_or(0, |tally| tally.right))
            .min()
            .unwrap()
    }

    /// All units of the sick bus are read again after this moment, eight times each; how long that took.
    async fn recovered(&mut self, proxy: &FaultProxy) -> Duration {
        let (begun, before) = (Instant::now(), self.tallies.clone());
        let read = |buses: &Self, unit: u8| {
            let right =
                |tallies: &HashMap<_, Tally>| tallies.get(&(SICK, unit)).map_or(0, |tally| tally.right);
            right(&buses.tallies) >= right(&before) + 8
        };
        self.until("all are read again", proxy, |buses| UNITS.iter().all(|unit| read(buses, *unit))).await;
        begun.elapsed()
    }

    /// The neighbour noticed nothing.
    fn neighbour_is_well(&self, proxy: &FaultProxy) {
        let well = self.of(WELL);
        assert!(well.right > 0 && (well.wrong, well.failed) == (0, 0), "{well:?}; {}", proxy.account());
        assert_eq!(self.links[&WELL], [true]);
    }
}

impl Drop for Buses {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn device(unit: u8) -> DeviceId {
    DeviceId::parse(&format!("unit-{unit}")).unwrap()
}

/// `None`: no value, and said so.
fn is_right(unit: u8, block: &RegisterBlock) -> Option<bool> {
    let words = block.words.as_ref().ok()?;
    let right = (block.start..block.start + block.count).map(|at| word(unit, 3, at));
    Some(words.iter().copied().eq(right))
}

fn tcp(to: SocketAddr) -> Wire {
    Wire::Tcp { host: to.ip().to_string(), port: to.port() }
}

fn rtu_tcp(to: SocketAddr) -> Wire {
    Wire::RtuTcp { host: to.ip().to_string(), port: to.port() }
}

/// Everything that can happen to bytes, and the values that come of it.
async fn through_everything(buses: &mut Buses, proxy: &FaultProxy, faults: &[Fault], right: usize) {
    buses.until("both are read", proxy, |buses| buses.least(SICK) >= 2 && buses.least(WELL) >= 2).await;
    proxy.set_both(faults, 8);
    buses
        .until("everything happened and much was read", proxy, |buses| {
            proxy.did_all(faults, 1) && buses.of(SICK).right >= right
        })
        .await;
    proxy.calm();
    let took = buses.recovered(proxy).await;
    // Half-open: what is asked is never answered, and nobody hangs up.
    let connections = proxy.connections();
    proxy.once(Way::Down, Fault::Stall);
    buses.until("it is opened anew", proxy, |_| proxy.connections() > connections).await;
    let after_a_stall = buses.recovered(proxy).await;
    let Tally { right, wrong, failed } = buses.of(SICK);
    println!(
        "{right} right, {wrong} wrong, {failed} told as failed; well again in {took:?}, after a stall in {after_a_stall:?}"
    );
    println!("{}", proxy.account());
}

#[tokio::test]
async fn no_wrong_value_is_accepted_over_a_bad_way_to_a_serial_server() {
    let (line, well) = (RtuLine::start().await, RtuLine::start().await);
    let proxy = FaultProxy::to(line.address, 41).await;
    let mut buses = Buses::start(rtu_tcp(proxy.address), rtu_tcp(well.address));
    let faults = [&SLOW_NETWORK[..], &WRONG_BYTES, &[Fault::Cut, Fault::CutAmid]].concat();
    through_everything(&mut buses, &proxy, &faults, 120).await;
    assert_eq!(buses.of(SICK).wrong, 0, "of {:?}; {}", buses.of(SICK), proxy.account());
    buses.neighbour_is_well(&proxy);
}

#[tokio::test]
async fn no_wrong_value_is_accepted_over_a_bad_way_to_a_modbus_tcp_server() {
    let (server, well) = (ModbusServer::start().await, ModbusServer::start().await);
    let proxy = FaultProxy::to(server.address, 42).await;
    let mut buses = Buses::start(tcp(proxy.address), tcp(well.address));
    // No bit of a value: that is told by nothing there. Everything else is.
    let faults = [
        &SLOW_NETWORK[..],
        &[Fault::Cut, Fault::CutAmid, Fault::Duplicate, Fault::HalveForGood, Fault::Swallow],
    ]
    .concat();
    through_everything(&mut buses, &proxy, &faults, 120).await;
    // Number, protocol, length, unit, function, count of bytes: each is looked at.
    for at in 0..=8 {
        let before = buses.of(SICK).failed;
        proxy.set(Way::Down, &[Fault::FlipAt(at)], 3);
        buses
            .until("wrong heads are told", &proxy, |buses| {
                proxy.did(Way::Down, Fault::FlipAt(at)) >= 2 && buses.of(SICK).failed > before
            })
            .await;
    }
    proxy.calm();
    buses.recovered(&proxy).await;
    assert_eq!(buses.of(SICK).wrong, 0, "of {:?}; {}", buses.of(SICK), proxy.account());
    buses.neighbour_is_well(&proxy);
}

/// A DTU that dials in over a bad way, on which it is the one that connects.
#[tokio::test]
async fn no_wrong_value_is_accepted_from_a_dtu_that_dials_in_over_a_bad_way() {
    let listen_at = here(free_port());
    let (slot, ports) = (Slot::new(b"FS-1".to_vec()), DialInBuses::default());
    ports.set(LinkId::parse("bus-0").unwrap(), slot.clone());
    let port = DialInPort { listen: listen_at, buses: ports, source: SICK };
    let (intake, _strays) = mpsc::channel(10);
    let listener = tokio::spawn(listen(port, intake, Clock::system(), Metrics::new()));
    let proxy = FaultProxy::to(listen_at, 43).await;
    let _line = RtuLine::dial(proxy.address, b"FS-1");
    let well = RtuLine::start().await;
    let dial_in = DialIn { slot, framing: Framing::Rtu, heartbeat: Vec::new(), silent_max: None };
    let mut buses = Buses::start(Wire::DialIn(dial_in), rtu_tcp(well.address));
    let faults = [&SLOW_NETWORK[..], &WRONG_BYTES, &[Fault::Cut, Fault::CutAmid]].concat();
    for fault in faults {
        for way in WAYS {
            buses
                .until("all are read", &proxy, |buses| buses.least(SICK) >= 2 && buses.least(WELL) >= 2)
                .await;
            proxy.once(way, fault);
            buses.until("the fault happens", &proxy, |_| proxy.did(way, fault) == 1).await;
            let right = buses.of(SICK).right;
            buses.until("it goes on", &proxy, |buses| buses.of(SICK).right >= right + 8).await;
        }
    }
    buses.recovered(&proxy).await;
    let Tally { right, wrong, failed } = buses.of(SICK);
    println!("{right} right, {wrong} wrong, {failed} told as failed; {}", proxy.account());
    assert_eq!(wrong, 0, "{}", proxy.account());
    buses.neighbour_is_well(&proxy);
    listener.abort();
}
