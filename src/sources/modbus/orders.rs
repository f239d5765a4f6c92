//! WIRE → FRAMES, the other way round: orders wait for their turn on the bus, are sent once, and get one fate.

use super::connection::Connection;
use super::schedule::{Lane, Write};
use super::{Bus, Gone};
use crate::model::{Fate, Order};
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
    pub(super) async fn take_orders(&self, mut orders: Orders) -> Result<Infallible, Gone> {
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
        let (fate, took) = connection.write(unit.unit, &order.write, write.timeout).await;
        let keep = matches!(fate, Fate::Done | Fate::Refused(_));
        self.lock().schedule.wrote(write, keep, took, self.now());
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
