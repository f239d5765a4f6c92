//! WIRE → FRAMES, by the embedded broker.
