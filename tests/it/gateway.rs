//! Tests of: gateway.
