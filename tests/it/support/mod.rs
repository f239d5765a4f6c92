//! What several tests share.

pub(crate) mod mosquitto;
pub(crate) mod ports;
pub(crate) mod modbus_unit;
