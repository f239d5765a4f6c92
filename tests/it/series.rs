//! Tests of: series.
