//! Tests of: mqtt.
