//! WIRE → FRAMES, the other way round: orders wait for their turn on the bus, are sent once, and get one fate.

use super::connection::Connection;
use super::request::Request;
use super::schedule::{Lane, Write};
use super::unit::Answer;
use super::{Bus, Gone, failures};
use crate::model::{Fate, Order, RegisterWrite};
use crate::sources::{Arrival, ORDERS_MAX, Orders};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

/// How long an order may wait for its turn. On a bus that works it waits for one question; ten seconds forgive a
/// connection that is just being made. Later nobody expects the device to move any more.
const ORDER_WAIT_MAX: Duration = Duration::from_secs(10);

/// The orders of one bus that were not sent yet, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<(usize, Duration, Order)>);

impl Waiting {
    /// The next order of that unit.
    fn take(&mut self, unit: usize) -> Option<Order> {
        let place = self.0.iter().position(|(other, ..)| *other == unit)?;
        self.0.remove(place).map(|(.., order)| order)
    }

    /// Those that have waited too long.
    fn take_expired(&mut self, now: Duration) -> Vec<(usize, Order)> {
        let count = self.0.iter().take_while(|(_, until, _)| *until <= now).count();
        self.0.drain(..count).map(|(unit, _, order)| (unit, order)).collect()
    }
}

impl Bus {
    /// Takes orders in, and gives up those that wait too long.
    pub(super) async fn take_orders(&self, orders: &mut Orders) -> Result<Infallible, Gone> {
        let mut open = true;
        loop {
            let until = self.lock().waiting.0.front().map(|(_, until, _)| *until);
            let wait = until.map(|until| until.saturating_sub(self.now()));
            tokio::select! {
                order = orders.recv(), if open => match order {
                    Some(order) => self.take_order(order).await?,
                    None => open = false,
                },
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    let expired = {
                        let mut state = self.lock();
                        let expired = state.waiting.take_expired(self.now());
                        expired.iter().for_each(|(unit, _)| state.schedule.unqueue_write(*unit));
                        expired
                    };
                    for (_, order) in expired {
                        self.tell_fate(&order, Fate::NotSent).await?;
                    }
                }
                // Nobody will ever order anything again, and nothing waits.
                () = std::future::pending(), if !open && wait.is_none() => {}
            }
        }
    }

    /// The bus ends: what was not sent never will be, of what was sent nobody will know, and whoever waits is told so.
    pub(super) async fn give_orders_up(&self, mut orders: Orders) {
        orders.close();
        let (sent, mut waiting) = {
            let mut state = self.lock();
            let waiting: Vec<Order> = state.waiting.0.drain(..).map(|(.., order)| order).collect();
            (state.sent.take(), waiting)
        };
        while let Ok(order) = orders.try_recv() {
            waiting.push(order);
        }
        let sent = sent.into_iter().map(|order| (order, Fate::Disconnected));
        let all = sent.chain(waiting.into_iter().map(|order| (order, Fate::NotSent)));
        for (order, fate) in all {
            if self.tell_fate(&order, fate).await.is_err() {
                return;
            }
        }
    }

    async fn take_order(&self, order: Order) -> Result<(), Gone> {
        let unit = self.settings.units.iter().position(|unit| unit.device == order.device);
        let refused = {
            let mut state = self.lock();
            match unit {
                Some(unit) if state.waiting.0.len() < ORDERS_MAX => {
                    state.waiting.0.push_back((unit, self.now() + ORDER_WAIT_MAX, order));
                    state.schedule.queue_write(unit);
                    None
                }
                _ => Some(order),
            }
        };
        if let Some(order) = refused {
            return self.tell_fate(&order, Fate::NotSent).await;
        }
        self.wake(Lane::Main);
        self.wake(Lane::Side);
        Ok(())
    }

    /// Sends the order whose turn it is. False: the connection is not to be used any longer.
    pub(super) async fn write(&self, connection: &mut Connection, write: &Write) -> Result<bool, Gone> {
        let order = {
            let mut state = self.lock();
            let order = state.waiting.take(write.unit);
            if order.is_some() {
                state.schedule.unqueue_write(write.unit);
            } else {
                state.schedule.put_back(write.unit);
            }
            order
        };
        let (Some(order), Some(unit)) = (order, self.settings.units.get(write.unit)) else { return Ok(true) };
        self.lock().sent = Some(order.clone());
        // Never asked again by itself, whatever becomes of it: a relay that moves twice is another command.
        let (answer, took) = connection.ask(unit.unit, request(&order.write), write.timeout).await;
        failures::count(&self.metrics, &self.settings.link, &unit.device, &answer);
        let (keep, fate) = (connection.keeps(&answer), fate(&answer));
        {
            let mut state = self.lock();
            state.sent = None;
            state.schedule.wrote(write, matches!(fate, Fate::Done | Fate::Refused(_)), took, self.now());
            self.hold(&mut state, connection, write.unit);
        }
        tracing::info!(link = %self.settings.link, device = %order.device, unit = unit.unit, write = %order.write,
            fate = fate.name(), "A command was sent to a device.");
        self.wake(if write.lane == Lane::Main { Lane::Side } else { Lane::Main });
        self.tell_fate(&order, fate).await?;
        Ok(keep)
    }

    async fn tell_fate(&self, order: &Order, fate: Fate) -> Result<(), Gone> {
        self.metrics.device_commands.inc();
        if fate != Fate::Done {
            self.metrics.device_commands_failed.inc();
        }
        self.intake.send(Arrival::Ordered { no: order.no, fate }).await.map_err(|_| Gone)
    }
}

fn request(write: &RegisterWrite) -> Request {
    match write {
        RegisterWrite::Coil { address, on } => Request::WriteCoil { address: *address, on: *on },
        RegisterWrite::Register { address, word } => {
            Request::WriteRegister { address: *address, word: *word }
        }
        RegisterWrite::Coils { address, on } => Request::WriteCoils { start: *address, states: on.to_vec() },
        RegisterWrite::Registers { address, words } => {
            Request::WriteRegisters { start: *address, words: words.to_vec() }
        }
    }
}

/// What the answer says of a command. The right one repeats its two words; anything else is no confirmation.
fn fate(answer: &Answer) -> Fate {
    match answer {
        Answer::Words(_) => Fate::Done,
        Answer::Refused(code) => Fate::Refused(*code),
        Answer::Silent => Fate::NoAnswer,
        Answer::Broken => Fate::Disconnected,
        Answer::Short | Answer::Wrong(_) => Fate::WrongAnswer,
    }
}
