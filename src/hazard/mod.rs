//! READINGS → TRANSITIONS. Pure: fully deterministic, owns no clock, does no I/O, cannot fail on input.
