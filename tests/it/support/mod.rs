//! What several tests share.

pub(crate) mod modbus_unit;
pub(crate) mod victoria;
