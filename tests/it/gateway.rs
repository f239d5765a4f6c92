//! The whole gateway, from a sensor's message to the duty officer's screen: what it does when all is well, and what
//! becomes of bad input, a full disk, a second gateway and `kill -9`.

mod adopt;
mod bad_bus;
mod bad_files;
mod bad_messages;
mod brokers;
mod broker_users;
mod capture;
mod clock;
mod dialects;
mod commands;
mod disk;
mod kill;
mod lines;
mod push;
mod reload;
mod reload_ports;
mod quarantine;
mod spark;
mod story;
