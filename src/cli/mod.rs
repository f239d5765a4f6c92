//! The sub-commands, one file each. The only place that prints.

pub mod check;
