//! RTU on lines of our own: behind a serial server and on a pseudo-terminal, with units that misbehave.

use super::*;
use crate::support::rtu_line::{Manner, RtuLine, crc};
use crate::support::socat::Socat;
use fengsui::sources::modbus::{Device, SerialSettings};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Short, so that the tests are: an answer is there in well under a millisecond.
const TIMEOUT: Duration = Duration::from_millis(100);
const LATE_MAX: Duration = Duration::from_millis(600);

/// How late a late unit is: behind its time-out and long before it is asked again.
const LATE: Duration = Duration::from_millis(250);

pub(super) fn behind_server(address: SocketAddr) -> Wire {
    Wire::RtuTcp { host: address.ip().to_string(), port: address.port() }
}

pub(super) fn serial(path: &Path) -> Wire {
    Wire::Serial(SerialSettings { baud: 115_200, ..SerialSettings::new(Device::Path(path.to_owned())) })
}

/// Fire depends on all of it: polled ten times a second, the bus has no gap for a unit that failed once.
pub(super) fn poll(wire: Wire, mut units: Vec<(u8, Vec<Read>)>) -> Poller {
    units.iter_mut().flat_map(|(_, reads)| reads).for_each(|read| read.urgent = true);
    Poller::start_on(wire, units, 1000, |bus| {
        bus.timeout = TIMEOUT;
        bus.line.late_answer_max = LATE_MAX;
    })
}

/// Two reads of one shape: an answer to the one would pass for one to the other.
fn alike() -> Vec<Read> {
    vec![read(RegisterTable::Holding, 0, 4), read(RegisterTable::Holding, 20, 4)]
}

fn units(reads: &[Read]) -> Vec<(u8, Vec<Read>)> {
    (1..=4).map(|unit| (unit, reads.to_vec())).collect()
}

/// Rounds of all units, each of two reads.
fn reads_right(poller: &Poller) -> usize {
    let blocks = poller.frames.values().flatten().flatten();
    blocks.filter(|block| block.words.is_ok()).count()
}

/// How often that was counted for one unit.
fn failures_of(poller: &Poller, unit: u8, name: &str) -> u64 {
    let text = poller.metrics.render();
    let device = device(unit);
    let of = format!(
        "fengsui_modbus_failures_by_name_total{{link=\"bus\",device=\"{device}\",failure=\"{name}\"}} "
    );
    text.lines().find_map(|line| line.strip_prefix(&of)).map_or(0, |count| count.parse().unwrap())
}

fn failures(poller: &Poller, name: &str) -> u64 {
    (1..=4).map(|unit| failures_of(poller, unit, name)).sum()
}

#[tokio::test]
async fn a_line_behind_a_serial_server_is_polled_with_one_connection() {
    let line = RtuLine::start().await;
    let reads = vec![
        read(RegisterTable::Holding, 0, 10),
        read(RegisterTable::Input, 40, 3),
        read(RegisterTable::Coil, 3, 13),
        read(RegisterTable::Discrete, 0, 8),
    ];
    let mut poller = poll(behind_server(line.address), units(&reads));
    poller.until("ten rounds", |poller| (1..=4).all(|unit| poller.rounds(unit) >= 10)).await;
    assert_eq!((poller.last(1).len(), &poller.links[..]), (4, &[true][..]));
    assert!((1..=4).all(|unit| poller.troubles(unit).is_empty()));
    assert_eq!(line.connections(), 1);
}

/// What is said of unit 3 when it behaves like that, while its neighbours go on undisturbed, and that it comes back.
async fn a_sick_unit(manner: Manner, expected: Trouble, name: &str) {
    let line = RtuLine::start().await;
    line.set(3, manner.clone());
    let mut poller = poll(behind_server(line.address), units(&alike()));
    poller
        .until("the rounds are made", |poller| [1, 2, 4].iter().all(|unit| poller.rounds(*unit) >= 15))
        .await;
    poller.until("the sick unit is told", |poller| !poller.troubles(3).is_empty()).await;
    for neighbour in [1, 2, 4] {
        assert_eq!(poller.troubles(neighbour), [], "{manner:?}: unit {neighbour}");
    }
    assert!(
        poller.troubles(3).iter().all(|trouble| *trouble == expected),
        "{manner:?}: {:?}",
        poller.troubles(3)
    );
    assert!(failures_of(&poller, 3, name) > 0, "{manner:?}: {}", poller.metrics.render());
    assert_eq!(poller.links, [true], "{manner:?}: a sick unit is not a broken link");
    line.set(3, Manner::Good);
    poller.until("it answers again", |poller| poller.is_well(3)).await;
}

#[tokio::test]
async fn every_failure_on_a_line_is_told_by_its_name_and_costs_no_neighbour_a_value() {
    tokio::join!(
        a_sick_unit(Manner::Mute, Trouble::NoAnswer, "silent"),
        a_sick_unit(Manner::TornEvery(1), Trouble::WrongAnswer, "wrong_crc"),
        a_sick_unit(Manner::Cut(6), Trouble::WrongAnswer, "wrong_length"),
        a_sick_unit(Manner::WrongUnit, Trouble::WrongAnswer, "wrong_unit"),
        a_sick_unit(Manner::WrongFunction, Trouble::WrongAnswer, "wrong_function"),
        a_sick_unit(Manner::Short, Trouble::WrongAnswer, "wrong_length"),
        a_sick_unit(Manner::Exception(4), Trouble::Exception(4), "exception_04"),
    );
}

/// It comes while a neighbour is asked, and is none of the neighbour's doing.
#[tokio::test]
async fn a_late_answer_is_counted_for_the_unit_that_sent_it() {
    let line = RtuLine::start().await;
    line.set(3, Manner::LateEvery(1, LATE));
    let mut poller = poll(behind_server(line.address), units(&alike()));
    poller.until("late answers of unit 3", |poller| failures_of(poller, 3, "late") >= 2).await;
}

#[tokio::test]
async fn noise_before_an_answer_costs_nothing() {
    let line = RtuLine::start().await;
    line.set(1, Manner::Noise(vec![0x00, 0xFF, 0x01, 0x03, 0x08]));
    line.set(2, Manner::Noise(b"boot: 1.0\r\n".to_vec()));
    let mut poller = poll(behind_server(line.address), units(&alike()));
    poller.until("ten rounds", |poller| (1..=4).all(|unit| poller.rounds(unit) >= 10)).await;
    assert!((1..=4).all(|unit| poller.troubles(unit).is_empty()), "{:?}", poller.counts());
}

#[tokio::test]
async fn an_adapter_that_gives_back_what_is_sent_is_found_out_or_told() {
    let line = RtuLine::start().await;
    line.set_echo(true);
    for echo in [None, Some(true)] {
        let mut poller = Poller::start_on(behind_server(line.address), units(&alike()), 1000, |bus| {
            bus.timeout = TIMEOUT;
            bus.line = LineSettings { late_answer_max: LATE_MAX, echo, ..LineSettings::default() };
        });
        poller.until("ten rounds", |poller| (1..=4).all(|unit| poller.rounds(unit) >= 10)).await;
        assert!((1..=4).all(|unit| poller.troubles(unit).is_empty()), "{echo:?}");
        line.set(3, Manner::Mute);
        poller.until("its silence is told", |poller| !poller.troubles(3).is_empty()).await;
        assert!(
            poller.troubles(3).iter().all(|trouble| *trouble == Trouble::NoAnswer),
            "an echo is no answer"
        );
        line.set(3, Manner::Good);
        poller.cancel.cancel();
    }
}

/// What became of the reads of one client.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    right: usize,
    wrong: usize,
    timeouts: usize,
}

/// A client that checks everything in a frame that can be checked, and after a time-out simply goes on.
async fn naive(address: SocketAddr, reads: usize) -> Tally {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut tally = Tally::default();
    for turn in 0..reads {
        let (unit, start) = (1, if turn % 2 == 0 { 0_u16 } else { 20 });
        let [high, low] = start.to_be_bytes();
        let question = [unit, 3, high, low, 0, 4];
        stream.write_all(&[&question[..], &crc(&question)].concat()).await.unwrap();
        let mut answer = [0; 13];
        match tokio::time::timeout(TIMEOUT, stream.read_exact(&mut answer)).await {
            Err(_) => tally.timeouts += 1,
            Ok(read) => {
                read.unwrap();
                let (body, sum) = answer.split_at(11);
                assert!(answer[..3] == [unit, 3, 8] && crc(body) == *sum, "the line tears no frame");
                let words: Vec<u16> =
                    body[3..].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
                let expected: Vec<u16> = (start..start + 4).map(|at| word(unit, 3, at)).collect();
                if words == expected { tally.right += 1 } else { tally.wrong += 1 }
            }
        }
    }
    tally
}

/// The gateway's reads until so many were right. A wrong value fails the test where it arrives.
async fn ours(wire: Wire, right: usize) -> Tally {
    let mut poller = poll(wire, units(&alike()));
    poller.until("hundreds of reads", |poller| reads_right(poller) >= right).await;
    assert!(failures(&poller, "late") > 10, "late answers came: {}", poller.metrics.render());
    Tally {
        right: reads_right(&poller),
        wrong: 0,
        timeouts: usize::try_from(failures(&poller, "silent")).unwrap(),
    }
}

/// Every fifth answer is late: over a serial server and over a serial line no wrong value is accepted, in hundreds of
/// reads. In the same run a client that goes on after a time-out accepts many.
#[tokio::test]
async fn on_a_line_a_late_answer_never_becomes_the_next_ones() {
    const RIGHT: usize = 300;
    let lines = [RtuLine::start().await, RtuLine::start().await, RtuLine::start().await];
    for line in &lines {
        (1..=4).for_each(|unit| line.set(unit, Manner::LateEvery(5, LATE)));
    }
    let pty = Socat::to(lines[1].address).await;
    let (server, serial, naive) = tokio::join!(
        ours(behind_server(lines[0].address), RIGHT),
        ours(serial(&pty.ours()), RIGHT),
        naive(lines[2].address, 100),
    );
    println!(
        "| every fifth answer {LATE:?} late, time-out {TIMEOUT:?} | right | wrong as success | time-outs |\n|---|---|---|---|"
    );
    for (who, Tally { right, wrong, timeouts }) in
        [("fengsui, rtu-tcp", server), ("fengsui, serial (pty)", serial), ("naive: goes on", naive)]
    {
        println!("| {who} | {right} | {wrong} | {timeouts} |");
    }
    assert!(naive.wrong > 3, "the line is no danger to anybody: {naive:?}");
}

#[tokio::test]
async fn what_was_asked_before_a_restart_is_no_answer_to_the_first_question() {
    let line = RtuLine::start().await;
    line.set(1, Manner::LateEvery(1, LATE));
    // Somebody asks and is gone before the answer.
    let mut before = TcpStream::connect(line.address).await.unwrap();
    let question = [1, 3, 0, 20, 0, 4];
    before.write_all(&[&question[..], &crc(&question)].concat()).await.unwrap();
    until("it was asked", || line.asked(1) == 1).await;
    drop(before);
    line.set(1, Manner::Good);
    let mut poller = poll(behind_server(line.address), vec![(1, vec![read(RegisterTable::Holding, 0, 4)])]);
    poller.until("five rounds", |poller| poller.rounds(1) >= 5).await;
    assert_eq!(poller.troubles(1), []);
}

#[tokio::test]
async fn a_serial_line_that_vanishes_is_a_link_that_is_down_and_found_again_under_another_name() {
    let (first, second) = (RtuLine::start().await, RtuLine::start().await);
    let (here, there) = (Socat::to(first.address).await, Socat::to(second.address).await);
    // As udev's link in /dev/serial/by-id: gone with the adapter, back with it, elsewhere.
    let dir = tempfile::TempDir::new().unwrap();
    let by_id = dir.path().join("usb-adapter");
    std::os::unix::fs::symlink(Socat::device(&here.ours()), &by_id).unwrap();
    let mut poller = poll(serial(&by_id), units(&alike()));
    poller.until("all are well", |poller| (1..=4).all(|unit| poller.is_well(unit))).await;

    std::fs::remove_file(&by_id).unwrap();
    drop(here);
    poller.until("the link is down", |poller| poller.links == [true, false]).await;
    let reason = poller.reasons.last().unwrap().clone();
    assert!(reason.zh.contains("usb-adapter") && reason.en.contains("not there"), "{reason:?}");
    poller.until("every unit is told", |poller| (1..=4).all(|unit| !poller.is_well(unit))).await;

    std::os::unix::fs::symlink(Socat::device(&there.ours()), &by_id).unwrap();
    poller.until("all are well again", |poller| (1..=4).all(|unit| poller.is_well(unit))).await;
    assert_eq!(poller.links, [true, false, true]);
    assert!(second.asked(1) > 0);
}

#[tokio::test]
async fn a_serial_device_that_is_not_there_is_named() {
    let mut poller = poll(serial(Path::new("/dev/serial/by-id/no-such-adapter")), units(&alike()));
    poller.until("the link is down", |poller| poller.links == [false]).await;
    let reason = poller.reasons.last().unwrap();
    assert!(reason.zh.contains("找不到串口 /dev/serial/by-id/no-such-adapter"), "{reason:?}");
}
