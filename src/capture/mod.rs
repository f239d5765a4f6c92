//! FRAMES → A FILE, and back: the text form of a frame, and the tap that hands out copies of frames as they arrive.
//!
//! Beside the flow, behind the sources. A capture file is JSON lines, a frame a line, in the order they were taken; the last
//! line says how it ended and how many frames the tap had to leave out. The same lines are what a download of the quarantine
//! holds and what `fengsui replay` plays.

mod line;
mod tap;

pub use line::{Captured, End, Line, blocks_from_text, blocks_to_text};
pub use tap::{Filter, Listening, TAPS_MAX, Tap};
