#![doc = include_str!("README.md")]

// In the order of the flow.
pub mod model;
pub mod sources;
pub mod profile;
pub mod hazard;
pub mod capture;
pub mod journal;
pub mod series;
pub mod sinks;
pub mod web;
// The loop that joins them, and what stands beside it.
pub mod pipeline;
pub mod codec;
pub mod commands;
pub mod clock;
pub mod metrics;
pub mod config;
pub mod adopt;
pub mod backup;
pub mod app;
pub mod cli;
// The parsers, for whoever breaks them.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
// The world that the demo's gateway looks at.
pub mod demo;
