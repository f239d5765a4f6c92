//! Commands to devices on a real bus: each goes out once, its echo is checked, and it gets one fate.

use super::{PATIENCE, Poller, device, four_units, read};
use crate::support::fault_proxy::{Fault, FaultProxy, WAYS, Way};
use crate::support::modbus_unit::{Manner, ModbusServer};
use fengsui::model::{Fate, Order, RegisterTable, RegisterWrite};
use fengsui::sources::modbus::Read;
use std::time::Duration;

impl Poller {
    pub(super) async fn order(&mut self, no: u64, unit: u8, write: RegisterWrite) -> Fate {
        self.orders.send(Order { no, device: device(unit), write }).await.unwrap();
        self.until("the order has its fate", |poller| poller.fates.iter().any(|(known, _)| *known == no))
            .await;
        let fates: Vec<Fate> =
            self.fates.iter().filter(|(known, _)| *known == no).map(|(_, fate)| *fate).collect();
        assert_eq!(fates.len(), 1, "one fate");
        fates[0]
    }
}

fn register(address: u16, word: u16) -> RegisterWrite {
    RegisterWrite::Register { address, word }
}

#[tokio::test]
async fn each_kind_of_write_reaches_its_unit_once_and_is_echoed() {
    let server = ModbusServer::start().await;
    let mut poller = Poller::start(server.address, four_units());
    let writes = [
        RegisterWrite::Coil { address: 3, on: true },
        RegisterWrite::Coil { address: 3, on: false },
        register(10, 0xBEEF),
        RegisterWrite::Coils {
            address: 0,
            on: [true, false, true, true, false, false, true, false, true].into(),
        },
        RegisterWrite::Registers { address: 40, words: [1, 0xFFFF, 3].into() },
    ];
    for (no, write) in (1..).zip(writes) {
        assert_eq!(poller.order(no, 2, write).await, Fate::Done);
    }
    assert_eq!(
        server.written(),
        [
            (2, 5, 3, vec![1]),
            (2, 5, 3, vec![0]),
            (2, 6, 10, vec![0xBEEF]),
            (2, 15, 0, vec![1, 0, 1, 1, 0, 0, 1, 0, 1]),
            (2, 16, 40, vec![1, 0xFFFF, 3]),
        ]
    );
    assert!((1..=4).all(|unit| poller.troubles(unit).is_empty()));
}

#[tokio::test]
async fn a_write_without_its_echo_is_told_and_never_sent_again() {
    let server = ModbusServer::start().await;
    let cases = [
        (Manner::Mute, Fate::NoAnswer),
        (Manner::Exception(4), Fate::Refused(4)),
        (Manner::WrongUnit, Fate::WrongAnswer),
        (Manner::WrongFunction, Fate::WrongAnswer),
        (Manner::CloseMidAnswer, Fate::Disconnected),
    ];
    for (no, (manner, fate)) in (1..).zip(cases) {
        let mut poller = Poller::start_with(server.address, four_units(), 1000, |bus| {
            bus.timeout = Duration::from_millis(300);
        });
        poller.until("all are read", |poller| (1..=4).all(|unit| poller.is_well(unit))).await;
        let before = server.written().len();
        server.set(3, manner.clone());
        assert_eq!(poller.order(no, 3, register(7, 1)).await, fate, "{manner:?}");
        let rounds = poller.rounds(1);
        poller.until("the others go on", |poller| poller.rounds(1) >= rounds + 5).await;
        assert_eq!(server.written().len(), before + 1, "{manner:?}: sent once");
        server.set(3, Manner::Good);
    }
}

#[tokio::test]
async fn an_order_without_a_connection_or_for_nobody_is_never_sent() {
    let server = ModbusServer::start().await;
    let mut poller = Poller::start(server.address, four_units());
    assert_eq!(poller.order(1, 77, register(0, 1)).await, Fate::NotSent);

    let address = server.address;
    drop(server);
    let mut poller = Poller::start(address, four_units());
    let asked = tokio::time::Instant::now();
    assert_eq!(poller.order(2, 1, register(0, 1)).await, Fate::NotSent);
    assert!(asked.elapsed() < PATIENCE);
    let server = ModbusServer::start_at(address, usize::MAX).await;
    poller.until("the bus is back", |poller| poller.is_well(1)).await;
    assert_eq!(server.written(), [], "what was given up stays given up");
}

#[tokio::test]
async fn when_a_bus_ends_every_order_still_has_its_one_fate() {
    let server = ModbusServer::start().await;
    let mut poller = Poller::start(server.address, four_units());
    poller.until("all are well", |poller| (1..=4).all(|unit| poller.is_well(unit))).await;
    server.set(2, Manner::Mute);
    for no in 1..=3 {
        poller.orders.send(Order { no, device: device(2), write: register(10, 1) }).await.unwrap();
    }
    poller.cancel.cancel();
    poller.until("each has its fate", |poller| poller.fates.len() >= 3).await;
    let mut fates: Vec<(u64, Fate)> = poller.fates.clone();
    fates.sort_by_key(|(no, _)| *no);
    assert_eq!(fates.iter().map(|(no, _)| *no).collect::<Vec<_>>(), [1, 2, 3]);
    let unknown = |fate: &Fate| matches!(fate, Fate::NotSent | Fate::Disconnected | Fate::NoAnswer);
    assert!(fates.iter().all(|(_, fate)| unknown(fate)), "{fates:?}");
}

/// Whatever the way does to a command and its echo: the gateway sends it once, and says that it was done only when it was.
#[tokio::test]
async fn a_command_over_a_bad_way_goes_out_once_and_is_done_only_when_it_was() {
    let server = ModbusServer::start().await;
    let proxy = FaultProxy::to(server.address, 71).await;
    let faults = [Fault::Delay, Fault::Halve, Fault::Cut, Fault::CutAmid, Fault::Stall, Fault::Swallow]
        .into_iter()
        .chain([Fault::HalveForGood, Fault::Duplicate])
        .chain((0..=8).map(Fault::FlipAt));
    let cases: Vec<(Way, Fault)> = faults.flat_map(|fault| WAYS.map(|way| (way, fault))).collect();
    let mut told = Vec::new();
    for (no, (way, fault)) in (1..).zip(cases) {
        // Read once and then never: the next chunk is the command's, or its echo's.
        let reads = vec![Read { every: Duration::from_secs(3600), ..read(RegisterTable::Holding, 0, 2) }];
        let mut poller = Poller::start_with(proxy.address, vec![(1, reads)], 1000, |bus| {
            bus.timeout = Duration::from_millis(100);
        });
        poller.until("it is read", |poller| poller.is_well(1)).await;
        let before = server.written().len();
        proxy.once(way, fault);
        let fate = poller.order(no, 1, register(10, u16::try_from(no).unwrap())).await;
        assert_eq!(proxy.did(way, fault), 1, "{way:?} {fault:?}");
        let written = server.written().split_off(before);
        // What the way says twice arrives twice.
        let most = if (way, fault) == (Way::Up, Fault::Duplicate) { 2 } else { 1 };
        assert!(written.len() <= most, "{way:?} {fault:?}: {fate:?}, {written:?}");
        let right = written.first() == Some(&(1, 6, 10, vec![u16::try_from(no).unwrap()]));
        assert!(fate != Fate::Done || right, "{way:?} {fault:?}: {fate:?}, {written:?}");
        assert!(fate != Fate::NotSent, "{way:?} {fault:?}");
        if matches!(fault, Fault::Delay | Fault::Halve) {
            assert_eq!(fate, Fate::Done, "{way:?} {fault:?}");
        }
        told.push((way, fault, fate));
        proxy.calm();
    }
    println!("{told:?}");
}
