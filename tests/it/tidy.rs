//! Tests of: tidy.
