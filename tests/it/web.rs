//! Tests of: web.
