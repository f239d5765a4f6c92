//! Modbus programs of others: what pymodbus and libmodbus serve is what is read, mbpoll reads the same, and of a unit that
//! is wrong on purpose no wrong value is taken and every failure has its own name.

use super::line::{behind_server, poll, serial};
use super::*;
use crate::support::modbus_peers::{Peer, Way, mbpoll};
use crate::support::ports::free_port;
use crate::support::rtu_line::RtuLine;
use crate::support::socat::Socat;
use fengsui::model::{Fate, RegisterWrite};
use std::collections::{BTreeSet, HashSet};

const TABLES: [RegisterTable; 4] =
    [RegisterTable::Coil, RegisterTable::Discrete, RegisterTable::Holding, RegisterTable::Input];

/// How many addresses pymodbus was given in each table.
const ADDRESSES: u16 = 512;

/// A period in which Python answers all that is asked of two units, also on a busy machine.
const UNHURRIED: Duration = Duration::from_secs(1);

fn unhurried(table: RegisterTable, start: u16, count: u16) -> Read {
    Read { every: UNHURRIED, ..read(table, start, count) }
}

/// All four tables, not at their beginning and not whole bytes of bits.
fn four_tables() -> Vec<Read> {
    TABLES.into_iter().zip([3, 5, 10, 40]).map(|(table, start)| unhurried(table, start, 13)).collect()
}

/// What mbpoll reads there is what the poller was given. The poller itself has checked it against what the unit was told
/// to say; this checks the unit.
async fn mbpoll_agrees(way: Way<'_>, unit: u8, given: &[RegisterBlock]) {
    assert_eq!(given.len(), TABLES.len());
    for RegisterBlock { table, start, count, words } in given {
        let read = mbpoll(way, unit, *table, *start, *count).await;
        assert_eq!(&read.unwrap(), words.as_ref().unwrap(), "{table:?} of unit {unit}, {way:?}");
    }
}

fn tcp(port: u16) -> Wire {
    Wire::Tcp { host: "127.0.0.1".into(), port }
}

/// Two units of pymodbus, one of them also with a read that reaches four addresses too far.
async fn pymodbus_is_read(wire: Wire) -> [Vec<RegisterBlock>; 2] {
    let beyond = unhurried(RegisterTable::Holding, ADDRESSES - 4, 8);
    let too_far = four_tables().into_iter().chain([beyond]).collect();
    let mut poller = Poller::start_on(wire, vec![(1, four_tables()), (7, too_far)], 1000, |_| {});
    poller.until("the rounds are made", |poller| poller.rounds(1) >= 2 && poller.rounds(7) >= 2).await;
    assert_eq!((&poller.links[..], poller.troubles(1)), (&[true][..], vec![]));
    assert!(poller.troubles(7).iter().all(|trouble| *trouble == Trouble::Exception(2)));
    let (within, refused): (Vec<_>, Vec<_>) =
        poller.last(7).iter().cloned().partition(|block| block.words.is_ok());
    let place = |block: &RegisterBlock| (block.table, block.start, block.count);
    assert!(within.iter().any(|block| place(block) == (RegisterTable::Holding, ADDRESSES - 4, 4)));
    assert_eq!(refused.iter().map(place).collect::<Vec<_>>(), [(RegisterTable::Holding, ADDRESSES, 4)]);
    assert_named(&poller, &["exception_02".to_owned()].into(), "pymodbus");
    let of_tables = within.into_iter().filter(|block| block.start != ADDRESSES - 4).collect();
    [poller.last(1).to_vec(), of_tables]
}

#[tokio::test]
async fn pymodbus_over_tcp_is_read_as_mbpoll_reads_it() {
    let peer = Peer::pymodbus_tcp(0, &[1, 7]).await;
    let [first, second] = pymodbus_is_read(tcp(peer.port)).await;
    mbpoll_agrees(Way::Tcp(peer.port), 1, &first).await;
    mbpoll_agrees(Way::Tcp(peer.port), 7, &second).await;
}

#[tokio::test]
async fn pymodbus_on_a_serial_line_is_read_as_mbpoll_reads_it() {
    let line = Socat::pair().await;
    let _peer = Peer::pymodbus_rtu(&line.theirs(), &[1, 7]).await;
    let [first, second] = pymodbus_is_read(serial(&line.ours())).await;
    mbpoll_agrees(Way::Rtu(&line.ours()), 1, &first).await;
    mbpoll_agrees(Way::Rtu(&line.ours()), 7, &second).await;
}

#[tokio::test]
async fn pymodbus_behind_a_serial_server_is_read() {
    let port = free_port();
    let server = Socat::server(port).await;
    let _peer = Peer::pymodbus_rtu(&server.theirs(), &[1, 7]).await;
    pymodbus_is_read(behind_server(SocketAddr::from(([127, 0, 0, 1], port)))).await;
}

/// One register by function 06 and two by 16 (and a coil by 05, three by 15), each confirmed; then what is there.
async fn pymodbus_is_written_to(wire: Wire) {
    let mut poller =
        Poller::start_on(wire, vec![(7, vec![unhurried(RegisterTable::Input, 0, 4)])], 1000, |_| {});
    poller.until("it is well", |poller| poller.is_well(7)).await;
    let writes = [
        RegisterWrite::Register { address: 100, word: 0xBEEF },
        RegisterWrite::Registers { address: 200, words: [7, 0xFFFF].into() },
        RegisterWrite::Coil { address: 100, on: true },
        RegisterWrite::Coils { address: 200, on: [true, false, true].into() },
        // An address that it does not have.
        RegisterWrite::Register { address: ADDRESSES, word: 1 },
    ];
    let count = u64::try_from(writes.len()).unwrap();
    for (no, write) in (1..).zip(writes) {
        let fate = if no == count { Fate::Refused(2) } else { Fate::Done };
        assert_eq!(poller.order(no, 7, write.clone()).await, fate, "{write:?}");
    }
    assert_eq!(poller.troubles(7), []);
    // A serial line is opened for one program alone.
    poller.cancel.cancel();
    while poller.arrivals.recv().await.is_some() {}
}

async fn mbpoll_finds_what_was_written(way: Way<'_>) {
    for (table, start, expected) in [
        (RegisterTable::Holding, 100, &[0xBEEF][..]),
        (RegisterTable::Holding, 200, &[7, 0xFFFF]),
        (RegisterTable::Coil, 100, &[1]),
        (RegisterTable::Coil, 200, &[1, 0, 1]),
    ] {
        let count = u16::try_from(expected.len()).unwrap();
        assert_eq!(mbpoll(way, 7, table, start, count).await.unwrap(), expected, "{table:?} {start}");
    }
    // Their neighbours are as they were.
    let after = mbpoll(way, 7, RegisterTable::Holding, 202, 1).await.unwrap();
    assert_eq!(after, [word(7, 3, 202)]);
}

#[tokio::test]
async fn what_is_written_to_pymodbus_is_what_mbpoll_finds_there() {
    let peer = Peer::pymodbus_tcp(0, &[1, 7]).await;
    pymodbus_is_written_to(tcp(peer.port)).await;
    mbpoll_finds_what_was_written(Way::Tcp(peer.port)).await;
    let line = Socat::pair().await;
    let _peer = Peer::pymodbus_rtu(&line.theirs(), &[1, 7]).await;
    pymodbus_is_written_to(serial(&line.ours())).await;
    mbpoll_finds_what_was_written(Way::Rtu(&line.ours())).await;
}

/// Down while it is away, and everything comes back by itself.
async fn comes_back(mut poller: Poller, peer: Peer, again: impl AsyncFnOnce() -> Peer) {
    poller.until("both are well", |poller| poller.is_well(1) && poller.is_well(7)).await;
    peer.stop().await;
    poller.until("the link is down", |poller| poller.links == [true, false]).await;
    poller.until("both are told", |poller| !poller.is_well(1) && !poller.is_well(7)).await;
    let _peer = again().await;
    poller.until("both are well again", |poller| poller.is_well(1) && poller.is_well(7)).await;
    assert_eq!(poller.links, [true, false, true]);
}

#[tokio::test]
async fn pymodbus_that_is_started_anew_is_found_again() {
    let over_tcp = async {
        let port = free_port();
        let peer = Peer::pymodbus_tcp(port, &[1, 7]).await;
        let poller = poll(tcp(port), vec![(1, four_tables()), (7, four_tables())]);
        comes_back(poller, peer, async || Peer::pymodbus_tcp(port, &[1, 7]).await).await;
    };
    let on_a_line = async {
        let line = Socat::pair().await;
        let peer = Peer::pymodbus_rtu(&line.theirs(), &[1, 7]).await;
        let poller = poll(serial(&line.ours()), vec![(1, four_tables()), (7, four_tables())]);
        comes_back(poller, peer, async || Peer::pymodbus_rtu(&line.theirs(), &[1, 7]).await).await;
    };
    tokio::join!(over_tcp, on_a_line);
}

/// The names of all failures that were counted.
fn failures(poller: &Poller) -> BTreeSet<String> {
    let text = poller.metrics.render();
    let of = "fengsui_modbus_failures_by_name_total{link=\"bus\",";
    text.lines()
        .filter_map(|line| line.strip_prefix(of)?.split_once("failure=\"")?.1.split_once('"'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// These and no others. A peer may be slow once on a busy machine: then it was asked again.
fn assert_named(poller: &Poller, names: &BTreeSet<String>, what: &str) {
    let mut named = failures(poller);
    named.retain(|name| names.contains(name) || !matches!(&**name, "silent" | "late"));
    assert_eq!(named, *names, "{what}");
}

/// Long enough for a busy machine, and shorter than the hostile unit's late answers (500 ms).
const TIMEOUT: Duration = Duration::from_millis(250);

/// The numbers of `hostile_unit.c`: the high byte of the address that brings it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    WrongTransaction = 1,
    WrongUnit = 2,
    WrongFunction = 3,
    TooShort = 4,
    TooLong = 5,
    Cut = 6,
    Close = 7,
    Late = 8,
    Mute = 9,
    Torn = 10,
    Twice = 11,
    Exception = 12,
    Noise = 13,
    InPieces = 14,
}

/// What the faults of a unit are told as: the trouble of the block, and the names that are counted.
struct Told {
    trouble: Option<Trouble>,
    names: &'static [&'static str],
}

const RIGHT: Told = Told { trouble: None, names: &[] };

const fn wrong(names: &'static [&'static str]) -> Told {
    Told { trouble: Some(Trouble::WrongAnswer), names }
}

/// A read of the hostile unit that goes well and one that does not, until the fault was told. Every value that comes
/// is checked where it arrives; the read that goes well never fails.
async fn hostile(wire: Wire, fault: Fault, told: Told) {
    let bad = (fault as u16) << 8;
    let reads = vec![read(RegisterTable::Holding, 0, 4), read(RegisterTable::Holding, bad, 3)];
    let mut poller = Poller::start_on(wire, vec![(1, reads)], 1000, |bus| {
        bus.timeout = TIMEOUT;
        // The late answers come 250 ms after that time-out.
        bus.line.late_answer_max = Duration::from_millis(600);
    });
    let counted = |poller: &Poller| told.names.iter().all(|name| failures(poller).contains(*name));
    poller.until("it is told", |poller| counted(poller) && poller.rounds(1) >= 3).await;
    let troubles = |is_bad: bool| -> HashSet<Option<Trouble>> {
        let blocks = poller.frames.values().flatten().flatten();
        blocks
            .filter(|block| (block.start == bad) == is_bad)
            .map(|block| block.words.as_ref().err().copied())
            .collect()
    };
    assert_eq!(troubles(false), [None].into(), "{fault:?}: the other read");
    let mut of_bad = troubles(true);
    assert!(of_bad.remove(&told.trouble), "{fault:?}: {of_bad:?}");
    // A read that failed beside one that did not is left alone for a while.
    of_bad.remove(&Some(Trouble::NoAnswer));
    assert!(of_bad.is_empty(), "{fault:?}: {of_bad:?}");
    let names: BTreeSet<String> = told.names.iter().map(|name| (*name).to_owned()).collect();
    assert_named(&poller, &names, &format!("{fault:?}"));
    assert_eq!(poller.links, [true], "{fault:?}: a unit that answers is no broken link");
}

async fn hostile_over_tcp(fault: Fault, told: Told) {
    let unit = Peer::hostile_tcp().await;
    hostile(tcp(unit.port), fault, told).await;
}

async fn hostile_on_a_line(fault: Fault, told: Told) {
    let line = Socat::pair().await;
    let _unit = Peer::hostile_rtu(&line.theirs()).await;
    hostile(serial(&line.ours()), fault, told).await;
}

#[tokio::test]
async fn over_tcp_no_wrong_value_of_libmodbus_is_taken_and_every_fault_has_its_name() {
    let silent = || Told { trouble: Some(Trouble::NoAnswer), names: &["silent"] };
    let closed = || Told { trouble: Some(Trouble::Disconnected), names: &["disconnected"] };
    tokio::join!(
        hostile_over_tcp(Fault::WrongTransaction, wrong(&["late"])),
        hostile_over_tcp(Fault::WrongUnit, wrong(&["wrong_unit"])),
        hostile_over_tcp(Fault::WrongFunction, wrong(&["wrong_function"])),
        hostile_over_tcp(Fault::TooShort, wrong(&["wrong_length"])),
        hostile_over_tcp(Fault::TooLong, wrong(&["wrong_length"])),
        hostile_over_tcp(Fault::Cut, wrong(&["wrong_length"])),
        hostile_over_tcp(Fault::Close, closed()),
        hostile_over_tcp(Fault::Late, silent()),
        hostile_over_tcp(Fault::Mute, silent()),
        // The second copy is an answer to the question before: it costs the next one a repetition.
        hostile_over_tcp(Fault::Twice, Told { trouble: None, names: &["late"] }),
        hostile_over_tcp(Fault::Noise, wrong(&["undecodable"])),
        hostile_over_tcp(Fault::InPieces, RIGHT),
    );
}

#[tokio::test]
async fn on_a_line_no_wrong_value_of_libmodbus_is_taken_and_every_fault_has_its_name() {
    let silent = |names| Told { trouble: Some(Trouble::NoAnswer), names };
    tokio::join!(
        hostile_on_a_line(Fault::WrongUnit, wrong(&["wrong_unit"])),
        hostile_on_a_line(Fault::WrongFunction, wrong(&["wrong_function"])),
        hostile_on_a_line(Fault::TooShort, wrong(&["wrong_length"])),
        hostile_on_a_line(Fault::TooLong, wrong(&["wrong_length"])),
        hostile_on_a_line(Fault::Cut, wrong(&["wrong_length"])),
        hostile_on_a_line(Fault::Torn, wrong(&["wrong_crc"])),
        hostile_on_a_line(Fault::Late, silent(&["late", "silent"])),
        hostile_on_a_line(Fault::Mute, silent(&["silent"])),
        hostile_on_a_line(Fault::Twice, RIGHT),
        hostile_on_a_line(Fault::Noise, RIGHT),
        hostile_on_a_line(Fault::InPieces, RIGHT),
    );
}

/// The codes of the standard, each asked for with an address whose low byte is the code.
async fn all_exceptions(wire: Wire) {
    let reads = (1..=11).map(|code| read(RegisterTable::Holding, (Fault::Exception as u16) << 8 | code, 1));
    let reads: Vec<Read> = [read(RegisterTable::Holding, 0, 4)].into_iter().chain(reads).collect();
    let mut poller = Poller::start_on(wire, vec![(1, reads)], 1000, |_| {});
    let names: BTreeSet<String> = (1..=11).map(|code| format!("exception_{code:02x}")).collect();
    poller.until("all are counted", |poller| failures(poller).is_superset(&names)).await;
    poller.until("three rounds", |poller| poller.rounds(1) >= 3).await;
    assert_named(&poller, &names, "exceptions");
    for block in poller.frames.values().flatten().flatten() {
        let expected = (block.start > 255).then(|| Trouble::Exception(block.start.to_be_bytes()[1]));
        // Codes 0A and 0B are a gateway's word of a unit that is not there: they are not asked for in every round.
        let left_alone = expected.is_some_and(|_| block.start.to_be_bytes()[1] >= 0x0A)
            && block.words == Err(Trouble::NoAnswer);
        assert!(left_alone || block.words.as_ref().err().copied() == expected, "{block:?}");
    }
}

#[tokio::test]
async fn every_exception_of_libmodbus_is_counted_under_its_code() {
    let over_tcp = async {
        let unit = Peer::hostile_tcp().await;
        all_exceptions(tcp(unit.port)).await;
    };
    let on_a_line = async {
        let line = Socat::pair().await;
        let _unit = Peer::hostile_rtu(&line.theirs()).await;
        all_exceptions(serial(&line.ours())).await;
    };
    tokio::join!(over_tcp, on_a_line);
}

/// mbpoll, which is built on libmodbus, is the judge of these tests' own servers as well: what they say is Modbus.
#[tokio::test]
async fn mbpoll_reads_from_every_server_of_these_tests_what_is_read() {
    let judged = async |wire: Wire, way: Way<'_>, unit: u8| {
        let mut poller = Poller::start_on(wire, vec![(unit, four_tables())], 1000, |_| {});
        poller.until("a round", |poller| poller.rounds(unit) >= 1).await;
        let given = poller.last(unit).to_vec();
        // A serial line is opened for one program alone.
        poller.cancel.cancel();
        while poller.arrivals.recv().await.is_some() {}
        mbpoll_agrees(way, unit, &given).await;
    };
    let hostile = Peer::hostile_tcp().await;
    judged(tcp(hostile.port), Way::Tcp(hostile.port), 1).await;
    let line = Socat::pair().await;
    let _hostile = Peer::hostile_rtu(&line.theirs()).await;
    judged(serial(&line.ours()), Way::Rtu(&line.ours()), 1).await;

    let server = ModbusServer::start().await;
    judged(tcp(server.address.port()), Way::Tcp(server.address.port()), 7).await;
    let units = RtuLine::start().await;
    let line = Socat::to(units.address).await;
    judged(serial(&line.ours()), Way::Rtu(&line.ours()), 7).await;
}
