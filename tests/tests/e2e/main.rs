//! End-to-end tests against the built binary; see `cargo doc -p runner-tests` for the harness.
//!
//! # Layout
//! - `transcripts`: the recorded requests and responses of the reference.
//! - `contract`: what the contract says beyond them.
//! - `data`: where inputs come from, and what is refused.
//! - `bad_input`: clients, plugins and disks that misbehave.
//! - `live`: tasks as they are followed, listed, cancelled and deleted.
//! - `crash`: kill -9, second starts, what is left behind.
//! - `start`: how fast and how small.

mod bad_input;
mod contract;
mod crash;
mod data;
mod live;
mod shared;
mod start;
mod transcripts;
