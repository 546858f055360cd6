//! End-to-end tests against the built binary; see `cargo doc -p runner-tests` for the harness.
//!
//! # Layout
//! - `transcripts`: the recorded requests and responses of the reference.
//! - `contract`: what the contract says beyond them.
//! - `data`: where inputs come from, and what is refused.
//! - `bad_input`: clients, plugins and disks that misbehave.
//! - `calls`: plugins that call plugins.
//! - `live`: tasks as they are followed, listed, cancelled and deleted.
//! - `crash`: kill -9, second starts, what is left behind.
//! - `routes`: own routes of plugins, and the webhook that wakes one.
//! - `start`: how fast and how small.
//! - `sight`: numbers, health, workers, logs.
//! - `readme`: what the documents say: examples, commands, links, floors.

mod bad_input;
mod calls;
mod contract;
mod crash;
mod data;
mod live;
mod readme;
mod routes;
mod shared;
mod sight;
mod start;
mod transcripts;
