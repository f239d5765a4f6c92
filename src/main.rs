//! arguments → config → app → exit code
fn main() {}
