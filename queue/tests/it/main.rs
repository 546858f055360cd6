//! The queue at its door: what holds for both backends is tested with both, and Redis is a real one.
#![expect(
    clippy::unwrap_used,
    reason = "what helpers of tests unwrap fails the test"
)]

mod close;
mod connect;
mod delay;
mod failures;
mod groups;
mod hints;
mod idle;
mod lease;
mod links;
mod once;
mod order;
mod server;
mod slots;
mod support;
mod worker;
