//! One test binary: linked once, run by the README's second command.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod mqtt;
mod broker;
mod push;
mod modbus;
mod journal;
mod series;
mod sinks;
mod web;
mod browser;
mod story;
mod scenarios;
mod profile_tool;
mod profiles;
mod codec;
mod config;
mod dashboards;
mod gateway;
mod backup;
mod doctor;
mod pipeline;
mod torture;
mod tutorial;
mod faults;
mod tidy;
mod support;
