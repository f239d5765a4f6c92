//! Tests of the Modbus source against real sockets: a server that misbehaves on demand, and tokio-modbus's own.

mod dial_in;
mod line;
mod peers;
mod their_client;

use crate::support::modbus_unit::{Manner, ModbusServer, word};
use crate::support::ports::until;
use fengsui::clock::Clock;
use fengsui::metrics::Metrics;
use fengsui::model::{
    Body, DeviceId, Fate, Frame, LinkId, Order, RegisterBlock, RegisterTable, SourceIndex, Text, Trouble,
};
use fengsui::sources::modbus::{BusSettings, LineSettings, Read, TIMEOUT_DEFAULT, UnitSettings, Wire, run};
use fengsui::sources::{Arrival, ORDERS_MAX};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_millis(100);

/// Longer than anything takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn read(table: RegisterTable, start: u16, count: u16) -> Read {
    Read { table, start, count, every: PERIOD, urgent: false }
}

fn device(unit: u8) -> DeviceId {
    DeviceId::parse(&format!("unit-{unit}")).unwrap()
}

fn function(table: RegisterTable) -> u8 {
    match table {
        RegisterTable::Coil => 1,
        RegisterTable::Discrete => 2,
        RegisterTable::Holding => 3,
        RegisterTable::Input => 4,
    }
}

/// The poller under test and all that it said. Every value that arrives is checked.
struct Poller {
    arrivals: mpsc::Receiver<Arrival>,
    orders: mpsc::Sender<Order>,
    frames: HashMap<u8, Vec<Vec<RegisterBlock>>>,
    links: Vec<bool>,
    /// Why each of them is so.
    reasons: Vec<Text>,
    fates: Vec<(u64, Fate)>,
    metrics: Metrics,
    cancel: CancellationToken,
}

impl Poller {
    fn start(address: SocketAddr, units: Vec<(u8, Vec<Read>)>) -> Self {
        Self::start_with(address, units, 1000, |_| {})
    }

    fn start_with(
        address: SocketAddr,
        units: Vec<(u8, Vec<Read>)>,
        room: usize,
        change: impl FnOnce(&mut BusSettings),
    ) -> Self {
        let wire = Wire::Tcp { host: address.ip().to_string(), port: address.port() };
        Self::start_on(wire, units, room, change)
    }

    fn start_on(
        wire: Wire,
        units: Vec<(u8, Vec<Read>)>,
        room: usize,
        change: impl FnOnce(&mut BusSettings),
    ) -> Self {
        let unit = |(unit, reads)| UnitSettings { device: device(unit), unit, reads };
        let mut settings = BusSettings {
            link: LinkId::parse("bus").unwrap(),
            wire,
            line: LineSettings::default(),
            units: units.into_iter().map(unit).collect(),
            timeout: TIMEOUT_DEFAULT,
            pause_after_connect: Duration::ZERO,
            second_connection: true,
        };
        change(&mut settings);
        let (intake, arrivals) = mpsc::channel(room);
        let (metrics, cancel) = (Metrics::new(), CancellationToken::new());
        let (orders, to_bus) = mpsc::channel(ORDERS_MAX);
        let poll =
            run(settings, SourceIndex(7), intake, to_bus, Clock::system(), metrics.clone(), cancel.clone());
        tokio::spawn(poll);
        Self {
            arrivals,
            orders,
            frames: HashMap::new(),
            links: Vec::new(),
            reasons: Vec::new(),
            fates: Vec::new(),
            metrics,
            cancel,
        }
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let wait = async {
            while !done(self) {
                match self.arrivals.recv().await.expect("the poller runs") {
                    Arrival::Frame(frame) => self.take(frame),
                    Arrival::Link(change) => {
                        self.links.push(change.up);
                        self.reasons.push(change.reason);
                    }
                    Arrival::Ordered { no, fate } => self.fates.push((no, fate)),
                }
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain until {what}; links {:?}, frames {:?}", self.links, self.counts());
        }
    }

    fn take(&mut self, frame: Frame) {
        assert_eq!(frame.source, SourceIndex(7));
        assert!(frame.delivery.is_none() && !frame.retained);
        let Body::Registers { device, blocks } = frame.body else { panic!("not a poll: {frame:?}") };
        let unit: u8 = device.as_str().strip_prefix("unit-").unwrap().parse().unwrap();
        assert!(!blocks.is_empty());
        for block in &blocks {
            let Ok(words) = &block.words else { continue };
            let function = function(block.table);
            let expected: Vec<u16> = (block.start..block.start + block.count)
                .map(|at| word(unit, function, at))
                .map(|word| if function <= 2 { word >> 2 & 1 } else { word })
                .collect();
            assert_eq!(*words, expected, "unit {unit} was given another's words: {block:?}");
        }
        self.frames.entry(unit).or_default().push(blocks);
    }

    fn counts(&self) -> Vec<(u8, usize)> {
        let mut counts: Vec<_> = self.frames.iter().map(|(unit, frames)| (*unit, frames.len())).collect();
        counts.sort_unstable();
        counts
    }

    fn rounds(&self, unit: u8) -> usize {
        self.frames.get(&unit).map_or(0, Vec::len)
    }

    fn last(&self, unit: u8) -> &[RegisterBlock] {
        self.frames.get(&unit).and_then(|frames| frames.last()).map_or(&[], Vec::as_slice)
    }

    fn is_well(&self, unit: u8) -> bool {
        !self.last(unit).is_empty() && self.last(unit).iter().all(|block| block.words.is_ok())
    }

    fn troubles(&self, unit: u8) -> Vec<Trouble> {
        let blocks = self.frames.get(&unit).into_iter().flatten().flatten();
        blocks.filter_map(|block| block.words.as_ref().err().copied()).collect()
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn four_units() -> Vec<(u8, Vec<Read>)> {
    (1..=4).map(|unit| (unit, vec![read(RegisterTable::Holding, 0, 10)])).collect()
}

#[tokio::test]
async fn a_server_is_left_in_peace_after_connecting_as_long_as_it_was_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pause = Duration::from_millis(300);
    let _poller = Poller::start_with(listener.local_addr().unwrap(), four_units(), 10, |settings| {
        settings.pause_after_connect = pause;
    });
    let first_byte = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let connected = Instant::now();
        tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
        connected.elapsed()
    };
    // Only the lower bound says something; half of it, because the connection stood before it was accepted.
    assert!(tokio::time::timeout(PATIENCE, first_byte).await.unwrap() >= pause / 2);
}

#[tokio::test]
async fn every_unit_is_polled_in_its_period_with_its_own_values() {
    let server = ModbusServer::start().await;
    let reads = vec![
        read(RegisterTable::Holding, 0, 10),
        read(RegisterTable::Input, 40, 3),
        read(RegisterTable::Coil, 3, 13),
        read(RegisterTable::Discrete, 0, 8),
    ];
    let mut poller = Poller::start(server.address, vec![(1, reads.clone()), (2, reads)]);
    poller.until("ten rounds", |poller| poller.rounds(1) >= 10 && poller.rounds(2) >= 10).await;
    assert_eq!(poller.links, [true]);
    assert_eq!(poller.last(1).len(), 4);
    assert_eq!((poller.troubles(1), poller.troubles(2)), (vec![], vec![]));
    assert!(poller.rounds(1).abs_diff(poller.rounds(2)) <= 2, "{:?}", poller.counts());
    assert_eq!(server.connections(), 1);
}

/// One unit of four behaves like that: what is said of it, and its neighbours do not notice.
async fn neighbours_do_not_notice(manner: Manner, expected: &[Trouble]) {
    const ROUNDS: usize = 25;
    let (server, well) = (ModbusServer::start().await, ModbusServer::start().await);
    server.set(3, manner.clone());
    let neighbours = |poller: &Poller| [1, 2, 4].iter().all(|unit| poller.rounds(*unit) >= ROUNDS);
    let mut poller = Poller::start(server.address, four_units());
    let mut twin = Poller::start(well.address, four_units());
    // Both at once and counted against each other: a busy machine slows both.
    tokio::select! {
        biased;
        () = poller.until("the rounds are made", neighbours) => {}
        () = twin.until("half as many more", |twin| twin.rounds(1) >= ROUNDS * 3 / 2) =>
            panic!("{manner:?}: beside it were made {:?} rounds", poller.counts()),
    }
    drop(twin);
    for neighbour in [1, 2, 4] {
        assert_eq!(poller.troubles(neighbour), [], "{manner:?}: unit {neighbour}");
    }
    poller.until("the sick unit is heard of", |poller| poller.rounds(3) > 0).await;
    let troubles = poller.troubles(3);
    assert!(troubles.iter().all(|trouble| expected.contains(trouble)), "{manner:?}: {troubles:?}");
    assert_eq!(troubles.is_empty(), expected.is_empty(), "{manner:?}: the failure was not told");
    assert_eq!(poller.links, [true], "{manner:?}: a sick unit is not a broken link");

    server.set(3, Manner::Good);
    poller.until("it answers again", |poller| poller.is_well(3)).await;
    let before = poller.rounds(3);
    poller.until("it keeps its period again", |poller| poller.rounds(3) >= before + 5).await;
}

#[tokio::test]
async fn a_mute_unit_does_not_delay_its_neighbours() {
    neighbours_do_not_notice(Manner::Mute, &[Trouble::NoAnswer]).await;
}

#[tokio::test]
async fn a_late_answer_never_becomes_the_next_ones() {
    neighbours_do_not_notice(Manner::Late(Duration::from_millis(1200)), &[Trouble::NoAnswer]).await;
}

#[tokio::test]
async fn a_late_answer_within_the_time_out_is_an_answer() {
    neighbours_do_not_notice(Manner::Late(Duration::from_millis(300)), &[]).await;
}

#[tokio::test]
async fn a_slow_unit_is_asked_apart_and_believed() {
    neighbours_do_not_notice(Manner::Slow(Duration::from_millis(400)), &[]).await;
}

#[tokio::test]
async fn a_flapping_unit_does_not_delay_its_neighbours() {
    neighbours_do_not_notice(Manner::Flapping(3), &[]).await;
}

#[tokio::test]
async fn a_short_answer_is_not_an_answer() {
    neighbours_do_not_notice(Manner::Short, &[Trouble::WrongAnswer]).await;
}

#[tokio::test]
async fn an_answer_of_another_unit_is_not_an_answer() {
    neighbours_do_not_notice(Manner::WrongUnit, &[Trouble::WrongAnswer]).await;
}

#[tokio::test]
async fn an_answer_to_another_function_is_not_an_answer() {
    neighbours_do_not_notice(Manner::WrongFunction, &[Trouble::WrongAnswer]).await;
}

#[tokio::test]
async fn an_answer_to_another_transaction_is_not_an_answer() {
    neighbours_do_not_notice(Manner::WrongTransaction, &[Trouble::WrongAnswer]).await;
}

#[tokio::test]
async fn an_exception_is_told_and_the_unit_stays_in_the_round() {
    neighbours_do_not_notice(Manner::Exception(4), &[Trouble::Exception(4)]).await;
}

#[tokio::test]
async fn a_unit_that_its_gateway_cannot_reach_is_mute() {
    neighbours_do_not_notice(Manner::Exception(0x0B), &[Trouble::Exception(0x0B)]).await;
}

#[tokio::test]
async fn garbage_is_not_an_answer() {
    neighbours_do_not_notice(Manner::Garbage, &[Trouble::WrongAnswer, Trouble::NoAnswer]).await;
}

#[tokio::test]
async fn a_connection_closed_in_mid_answer_is_told() {
    neighbours_do_not_notice(Manner::CloseMidAnswer, &[Trouble::Disconnected]).await;
}

#[tokio::test]
async fn a_server_that_closes_an_idle_connection_is_not_a_broken_link() {
    let server = ModbusServer::start().await;
    for unit in 1..=4 {
        server.set(unit, Manner::CloseAfterAnswer);
    }
    let mut poller = Poller::start(server.address, four_units());
    poller.until("ten rounds", |poller| (1..=4).all(|unit| poller.rounds(unit) >= 10)).await;
    assert_eq!(poller.links, [true]);
    assert!((1..=4).all(|unit| poller.troubles(unit).is_empty()));
    assert!(server.connections() >= 40, "each answer was the last of its connection");
}

#[tokio::test]
async fn a_mute_unit_is_asked_less_and_less() {
    let server = ModbusServer::start().await;
    server.set(3, Manner::Mute);
    let mut poller = Poller::start(server.address, four_units());
    poller.until("fifty rounds", |poller| poller.rounds(1) >= 50).await;
    // Two questions, then after 1 s, 2 s, 4 s: each costs 1 s of waiting, so at most 4 in 5 s, and a margin.
    assert!(server.asked(3) <= 6, "{} questions to a mute unit", server.asked(3));
    assert!(poller.rounds(3) <= 5 && poller.rounds(3) >= 1, "{:?}", poller.counts());
    assert!(poller.metrics.modbus_skipped.get() > 0, "its missed slots are counted");
}

#[tokio::test]
async fn a_gap_in_the_map_spoils_nothing_else() {
    let server = ModbusServer::start().await;
    server.set(1, Manner::Gap(7..9));
    let mut poller = Poller::start(server.address, vec![(1, vec![read(RegisterTable::Holding, 0, 40)])]);
    let shape = |poller: &Poller| -> Vec<(u16, u16, bool)> {
        poller.last(1).iter().map(|block| (block.start, block.count, block.words.is_ok())).collect()
    };
    poller
        .until("the gap is known", |poller| shape(poller) == [(0, 7, true), (7, 2, false), (9, 31, true)])
        .await;
    assert!(poller.troubles(1).iter().all(|trouble| *trouble == Trouble::Exception(2)));
    let (asked, rounds) = (server.asked(1), poller.rounds(1));
    poller.until("ten more rounds", |poller| poller.rounds(1) >= rounds + 10).await;
    assert!(server.asked(1) - asked <= 22, "two questions a round, none about the gap");
}

#[tokio::test]
async fn a_read_that_is_silently_ignored_does_not_condemn_the_unit() {
    let server = ModbusServer::start().await;
    server.set(2, Manner::Ignores(30..40));
    let mut units = four_units();
    units[1].1.push(read(RegisterTable::Holding, 30, 4));
    let mut poller = Poller::start(server.address, units);
    poller.until("thirty rounds of the unit", |poller| poller.rounds(2) >= 30).await;
    let last = poller.last(2);
    assert_eq!(last.len(), 2);
    assert!(last[0].words.is_ok());
    assert_eq!(last[1].words, Err(Trouble::NoAnswer));
    assert_eq!(poller.troubles(1), []);
}

#[tokio::test]
async fn more_words_than_one_request_carries_are_read_with_several() {
    let server = ModbusServer::start().await;
    let mut poller = Poller::start(server.address, vec![(1, vec![read(RegisterTable::Input, 100, 300)])]);
    poller.until("two rounds", |poller| poller.rounds(1) >= 2).await;
    let words: usize = poller.last(1).iter().map(|block| block.words.as_ref().map_or(0, Vec::len)).sum();
    assert_eq!((words, server.largest(1)), (300, 125));
}

#[tokio::test]
async fn a_refused_connection_is_a_link_that_is_down_until_it_is_not() {
    let server = ModbusServer::start().await;
    let address = server.address;
    drop(server);
    let mut poller = Poller::start(address, four_units());
    poller.until("every unit is told", |poller| (1..=4).all(|unit| poller.rounds(unit) == 1)).await;
    assert_eq!(poller.links, [false]);
    assert_eq!(poller.troubles(2), [Trouble::Disconnected]);

    let server = ModbusServer::start_at(address, usize::MAX).await;
    poller.until("all are well", |poller| (1..=4).all(|unit| poller.is_well(unit))).await;
    assert_eq!(poller.links, [false, true]);

    drop(server);
    poller.until("the break is told", |poller| (1..=4).all(|unit| !poller.is_well(unit))).await;
    assert_eq!(poller.links, [false, true, false]);
    let _server = ModbusServer::start_at(address, usize::MAX).await;
    poller.until("all are well again", |poller| (1..=4).all(|unit| poller.is_well(unit))).await;
    assert_eq!(poller.links, [false, true, false, true]);
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_a_link_that_is_down() {
    // Nobody accepts: the system completes the handshake and nothing ever comes, as from a frozen gateway.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut poller = Poller::start_with(address, four_units(), 1000, |bus| {
        bus.timeout = Duration::from_millis(200);
    });
    poller.until("the link is told down", |poller| poller.links == [true, false]).await;
    for unit in 1..=4 {
        assert!(poller.troubles(unit).iter().all(|trouble| *trouble == Trouble::NoAnswer));
        assert!(!poller.is_well(unit));
    }
    drop(listener);
    let _server = ModbusServer::start_at(address, usize::MAX).await;
    poller.until("all are well", |poller| (1..=4).all(|unit| poller.is_well(unit))).await;
    assert_eq!(poller.links, [true, false, true]);
}

#[tokio::test]
async fn a_bus_whose_only_unit_is_mute_is_a_link_that_is_down_until_it_answers() {
    let server = ModbusServer::start().await;
    let mut poller = Poller::start(server.address, four_units().into_iter().take(1).collect());
    poller.until("it is well", |poller| poller.is_well(1)).await;
    server.set(1, Manner::Mute);
    poller.until("the link is down", |poller| poller.links.last() == Some(&false)).await;
    let reason = &poller.reasons.last().unwrap().en;
    assert!(reason.contains("no unit answers"), "{reason}");
    server.set(1, Manner::Good);
    poller.until("the link is up", |poller| poller.links.last() == Some(&true)).await;
    poller.until("it is well again", |poller| poller.is_well(1)).await;
}

#[tokio::test]
async fn a_server_of_one_connection_still_gets_its_mute_unit_back() {
    let server = ModbusServer::start_at("127.0.0.1:0".parse().unwrap(), 1).await;
    server.set(3, Manner::Mute);
    let mut poller = Poller::start_with(server.address, four_units(), 1000, |bus| {
        bus.timeout = Duration::from_millis(300);
    });
    poller.until("the silence is told", |poller| !poller.troubles(3).is_empty()).await;
    server.set(3, Manner::Good);
    poller.until("it answers again", |poller| poller.is_well(3)).await;
    for neighbour in [1, 2, 4] {
        assert_eq!(poller.troubles(neighbour), []);
    }
}

#[tokio::test]
async fn a_full_channel_skips_polls_and_queues_nothing() {
    let server = ModbusServer::start().await;
    let mut poller = Poller::start_with(server.address, four_units(), 2, |_| {});
    let metrics = poller.metrics.clone();
    let full = async {
        while metrics.modbus_skipped.get() < 20 {
            tokio::time::sleep(PERIOD / 10).await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("skipped polls are counted");
    // The link's change and one frame fill the channel; one more frame waits on the lane.
    let asked: u64 = (1..=4).map(|unit| server.asked(unit)).sum();
    assert!(asked <= 3, "{asked} polls into a full channel");
    poller.until("it flows again", |poller| (1..=4).all(|unit| poller.rounds(unit) >= 3)).await;
    assert!((1..=4).all(|unit| poller.troubles(unit).is_empty()));
}

#[tokio::test]
async fn it_ends_when_it_is_cancelled_or_nobody_listens() {
    let server = ModbusServer::start().await;
    for cancelled in [true, false] {
        let mut poller = Poller::start(server.address, four_units());
        poller.until("it runs", |poller| poller.rounds(1) > 0).await;
        if cancelled {
            poller.cancel.cancel();
            let closed = async { while poller.arrivals.recv().await.is_some() {} };
            tokio::time::timeout(PATIENCE, closed).await.expect("the sender is dropped");
        } else {
            poller.arrivals.close();
        }
    }
}

mod orders;

mod their_server {
    use super::*;
    use std::future::{Ready, ready};
    use tokio_modbus::server::Service;
    use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
    use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

    struct Device;

    impl Service for Device {
        type Request = SlaveRequest<'static>;
        type Response = Response;
        type Exception = ExceptionCode;
        type Future = Ready<Result<Response, ExceptionCode>>;

        fn call(&self, request: Self::Request) -> Self::Future {
            let SlaveRequest { slave: unit, request } = request;
            let words = |function, start: u16, count| {
                (start..start + count).map(|at| word(unit, function, at)).collect::<Vec<u16>>()
            };
            let bits = |function, start: u16, count| {
                (start..start + count).map(|at| word(unit, function, at) >> 2 & 1 == 1).collect::<Vec<bool>>()
            };
            ready(match request {
                Request::ReadCoils(start, count) => Ok(Response::ReadCoils(bits(1, start, count))),
                Request::ReadDiscreteInputs(start, count) => {
                    Ok(Response::ReadDiscreteInputs(bits(2, start, count)))
                }
                Request::ReadHoldingRegisters(start, count) => {
                    Ok(Response::ReadHoldingRegisters(words(3, start, count)))
                }
                Request::ReadInputRegisters(..) => Err(ExceptionCode::IllegalFunction),
                _ => Err(ExceptionCode::ServerDeviceFailure),
            })
        }
    }

    #[tokio::test]
    async fn the_crates_own_server_is_understood() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = tokio::spawn(async move {
            let accept =
                |stream, from| async move { accept_tcp_connection(stream, from, |_| Ok(Some(Device))) };
            Server::new(listener).serve(&accept, |_| {}).await
        });
        let reads = vec![
            read(RegisterTable::Coil, 0, 9),
            read(RegisterTable::Discrete, 5, 16),
            read(RegisterTable::Holding, 10, 20),
            read(RegisterTable::Input, 0, 2),
        ];
        let mut poller = Poller::start(address, vec![(1, reads.clone()), (9, reads)]);
        poller.until("five rounds", |poller| poller.rounds(1) >= 5 && poller.rounds(9) >= 5).await;
        let shape: Vec<bool> = poller.last(9).iter().map(|block| block.words.is_ok()).collect();
        assert_eq!(shape, [true, true, true, false]);
        assert!(poller.troubles(9).iter().all(|trouble| *trouble == Trouble::Exception(1)));
        serve.abort();
    }
}
