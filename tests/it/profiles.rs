//! Tests of: profiles.
