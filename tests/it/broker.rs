//! Tests of: broker.
