//! Tests of: scenarios.
