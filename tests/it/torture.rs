//! Torture: a disk whose power is cut, that is full, broken, slow or read-only; more load than planned; a month without
//! the store. Bounded in the test command, longer by hand: see docs/torture.md.

#![expect(clippy::print_stdout, reason = "the seed and the figures, for whoever looks")]

mod every_operation;
mod faults;
mod overload;
mod power;
mod simulator;
mod story;

/// The number in an environment variable, for the longer runs by hand.
pub(crate) fn by_hand(variable: &str, usual: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")),
        Err(_) => usual,
    }
}

/// Another seed in each run unless `FENGSUI_SEED` gives one; it is printed, so that a failure can be had again.
pub(crate) fn seed() -> u64 {
    by_hand("FENGSUI_SEED", fastrand::u64(0..1 << 32))
}
