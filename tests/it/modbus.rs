//! Tests of: modbus.
