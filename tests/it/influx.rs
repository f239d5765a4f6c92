//! Tests of: influx.
