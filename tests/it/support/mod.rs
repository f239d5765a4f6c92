//! What several tests share.

pub(crate) mod modbus_unit;
