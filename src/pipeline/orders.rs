//! THE LOOP, commands to devices: a person's wish → a line in the duty log → the device's source → its fate, a second line.
//!
//! The first line is in the journal before the order goes out: nobody moves a relay without it. While the journal cannot
//! be written it is on the screens, marked 未记录. An order goes out once; what became of it is told and never repaired.

use super::Pipeline;
use crate::commands::{Done, Ordered, Refused, Wish};
use crate::journal::NoteKind;
use crate::model::{DeviceId, Fate, LinkId, Order, RegisterWrite, Text};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Orders whose fate is not known yet. Each is a person who waits at a button; a source answers each within its longest
/// time-out and ten seconds.
const UNDER_WAY_MAX: usize = 16;

/// What may be ordered, and where orders go. The default one allows nothing.
#[derive(Debug, Default)]
pub struct Desk {
    /// Every command that the plan allows, by device and name.
    pub permits: HashMap<(DeviceId, Arc<str>), Permit>,
    /// The way to the source of each link.
    pub ways: BTreeMap<LinkId, mpsc::Sender<Order>>,
}

/// A command that the plan allows on a device.
#[derive(Debug, Clone)]
pub struct Permit {
    /// By which link the device is reached.
    pub link: LinkId,
    /// What the device is called.
    pub device_name: Arc<str>,
    /// What the command does.
    pub text: Text,
    /// How.
    pub write: RegisterWrite,
}

type Reply = oneshot::Sender<Result<Ordered, Refused>>;

/// An order that waits for its line to be in the journal.
#[derive(Debug)]
pub(super) struct Departure {
    link: LinkId,
    order: Order,
}

/// Somebody who is told what became of his order once the journal has it.
#[derive(Debug)]
pub(super) struct Told {
    fate: Fate,
    reply: Reply,
}

/// An order whose fate is not known yet.
#[derive(Debug)]
struct UnderWay {
    device: DeviceId,
    what: Text,
    reply: Reply,
}

/// The desk at work.
#[derive(Debug, Default)]
pub(super) struct Orders {
    desk: Desk,
    next_no: u64,
    under_way: HashMap<u64, UnderWay>,
}

impl Orders {
    pub(super) fn new(desk: Desk) -> Self {
        Self { desk, ..Self::default() }
    }

    /// Other devices, other permits, other ways. What is under way stays so.
    pub(super) fn replan(&mut self, desk: Desk) {
        self.desk = desk;
    }
}

impl Pipeline {
    /// Writes the wish down; it goes out with the commit.
    pub(super) fn order(&mut self, wish: Wish, reply: Reply) {
        let Wish { device, command, by } = wish;
        let Some(permit) = self.orders.desk.permits.get(&(device.clone(), command)).cloned() else {
            // Nobody is left to answer when the page was closed meanwhile.
            drop(reply.send(Err(Refused::NotAllowed)));
            return;
        };
        if self.orders.under_way.len() >= UNDER_WAY_MAX {
            drop(reply.send(Err(Refused::Busy)));
            return;
        }
        let Permit { link, device_name, text, write } = permit;
        let what = Text::new(
            &format!("命令“{}”（{device_name}，{by}）", text.zh),
            &format!("command {:?} ({device_name}, {by})", text.en),
        );
        let line = Text::new(
            &format!("{by} 对 {device_name} 下达命令：{}", text.zh),
            &format!("{by} told {device_name}: {}", text.en),
        );
        self.note(NoteKind::Command, device.as_str(), line);
        let no = self.orders.next_no;
        self.orders.next_no += 1;
        self.orders.under_way.insert(no, UnderWay { device: device.clone(), what, reply });
        self.batch.departures.push(Departure { link, order: Order { no, device, write } });
        self.batch.urgent = true;
    }

    /// Writes down what became of an order; the person is told with the commit.
    pub(super) fn ordered(&mut self, no: u64, fate: Fate) {
        let Some(UnderWay { device, what, reply }) = self.orders.under_way.remove(&no) else { return };
        let Text { zh, en } = fate.text();
        let line = Text::new(&format!("{}：{zh}", what.zh), &format!("{}: {en}", what.en));
        self.note(NoteKind::Command, device.as_str(), line);
        self.batch.told.push(Told { fate, reply });
        self.batch.urgent = true;
    }

    /// The journal has these lines, or the screens have them: orders go out, people are told.
    pub(super) fn depart(&mut self, departures: Vec<Departure>, told: Vec<Told>, done: Done) {
        for Told { fate, reply } in told {
            drop(reply.send(Ok(Ordered { fate, done })));
        }
        for Departure { link, order } in departures {
            let no = order.no;
            let sent = self.orders.desk.ways.get(&link).is_some_and(|way| way.try_send(order).is_ok());
            if !sent {
                self.ordered(no, Fate::NotSent);
            }
        }
    }
}
