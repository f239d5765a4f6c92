//! THE ONE DURABLE LOG. Fourth in the flow: after it, everybody reads from a cursor of his own.

mod entry;

pub use entry::{Entry, Note, NoteKind, SAMPLE_BYTES_MAX, Stray, StrayKind, Write};
