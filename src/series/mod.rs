//! THE TIME SERIES. A follower of the journal: tail in memory, sealed compressed chunks.
