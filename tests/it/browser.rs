//! Tests of: browser.
