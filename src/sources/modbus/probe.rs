//! WIRE → FRAMES, beside the flow: single questions to one unit, for a person who looks at a device. Reads only.

use super::connection::Connection;
use super::request::Request;
use super::unit::Answer;
use super::{LineSettings, Wire};
use crate::model::{RegisterTable, Text, Trouble};
use std::time::Duration;
use tokio::time::sleep_until;

/// A way to one unit.
pub struct Probe {
    wire: Wire,
    unit: u8,
    limit: Duration,
    /// Lost after an answer that did not come, so that it is not taken for the next one's.
    connection: Option<Connection>,
}

impl Probe {
    /// Connects. `limit` is how long an answer may take.
    ///
    /// # Errors
    ///
    /// Why it is not reached, for a person.
    pub async fn open(wire: Wire, unit: u8, limit: Duration) -> Result<Self, Text> {
        let mut probe = Self { wire, unit, limit, connection: None };
        probe.connect().await?;
        Ok(probe)
    }

    async fn connect(&mut self) -> Result<&mut Connection, Text> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.wire, &LineSettings::default(), self.limit, Duration::ZERO)
                .await
                .map_err(|error| self.wire.why_down(&error))?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Reads words, or bits as words of 0 and 1: functions 01 to 04, nothing else.
    ///
    /// # Errors
    ///
    /// What came instead.
    pub async fn read(&mut self, table: RegisterTable, start: u16, count: u16) -> Result<Vec<u16>, Trouble> {
        let (unit, limit) = (self.unit, self.limit);
        let connection = self.connect().await.map_err(|_| Trouble::Disconnected)?;
        if let Some(until) = connection.held_until(unit) {
            sleep_until(until).await;
        }
        let (answer, _) = connection.ask(unit, Request::Read { table, start, count }, limit).await;
        if !connection.keeps(&answer) {
            self.connection = None;
        }
        match answer {
            Answer::Words(words) => Ok(words),
            Answer::Refused(code) => Err(Trouble::Exception(code)),
            Answer::Silent => Err(Trouble::NoAnswer),
            Answer::Broken => Err(Trouble::Disconnected),
            Answer::Short | Answer::Wrong(_) => Err(Trouble::WrongAnswer),
        }
    }
}
