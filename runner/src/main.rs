//! The `runner` command: flags, environment, wiring.
fn main() {}
