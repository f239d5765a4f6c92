//! What several tests share.

pub(crate) mod bad_disk;
pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod doctor;
pub(crate) mod duty_room;
pub(crate) mod fault_proxy;
pub(crate) mod gateway;
pub(crate) mod influxd;
pub(crate) mod journal;
pub(crate) mod mosquitto;
pub(crate) mod pen;
pub(crate) mod ports;
pub(crate) mod modbus_peers;
pub(crate) mod modbus_unit;
pub(crate) mod rtu_line;
pub(crate) mod socat;
pub(crate) mod victoria;
pub(crate) mod witness;
