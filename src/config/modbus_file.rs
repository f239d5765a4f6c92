//! Reads the buses of `gateway.toml`: `[[modbus]]`. Every limit stands here, with its reason.

use super::gateway::ModbusSettings;
use super::gateway_file::Reader;
use super::reader::Table;
use crate::model::Span;
use toml::Spanned;

/// One Modbus answer, ms. A serial bus behind a gateway at 9600 baud needs about 270 ms for 125 registers.
const MODBUS_TIMEOUT_MS_DEFAULT: i64 = 1000;
const MODBUS_TIMEOUT_MS_MIN: i64 = 50;
const MODBUS_TIMEOUT_MS_MAX: i64 = 30_000;
/// A pause after connecting of more than a few seconds would cost every unit behind the link a round.
const MODBUS_PAUSE_MS_MAX: i64 = 5000;

impl Reader<'_> {
    pub(super) fn modbus(&self, table: Table<'_>) -> Option<ModbusSettings> {
        let link = self.link(&table);
        let url = self.url(&table, "tcp://192.168.1.20:502", &[("tcp", 502)]);
        let timeout = table.integer("timeout_ms", MODBUS_TIMEOUT_MS_MIN..=MODBUS_TIMEOUT_MS_MAX);
        let pause = table.integer("pause_after_connect_ms", 0..=MODBUS_PAUSE_MS_MAX);
        let second_connection = table.flag("second_connection").unwrap_or(true);
        table.finish();
        let (link, url) = (link?, url?);
        let timeout = Span::from_millis(timeout.map_or(MODBUS_TIMEOUT_MS_DEFAULT, Spanned::into_inner));
        let pause_after_connect = Span::from_millis(pause.map_or(0, Spanned::into_inner));
        let (host, port) = (url.host, url.port);
        Some(ModbusSettings { link, host, port, timeout, pause_after_connect, second_connection })
    }
}
