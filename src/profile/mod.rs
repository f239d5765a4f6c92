//! FRAMES → READINGS. Pure: no I/O, no clock, no state; bad input is a value, never an error.
