//! End-to-end tests against the built binary; see `cargo doc -p runner-tests` for the harness.
//!
//! # Layout
//! - `transcripts`: the recorded requests and responses of the reference.
//! - `contract`: what the contract says beyond them.
//! - `data`: where inputs come from, and what is refused.
//! - `bad_input`: clients, plugins and disks that misbehave.
//! - `auth`: who may ask for what, and what is refused to whom.
//! - `git_plugins`: plugins from repositories, and the list of those that may be loaded.
//! - `incoming`: limits of requests, slow clients, proxies, hosts, origins.
//! - `calls`: plugins that call plugins.
//! - `links`: outputs that stand elsewhere.
//! - `live`: tasks as they are followed, listed, cancelled and deleted.
//! - `modules`: modules that are loaded, replaced and removed while the runner runs.
//! - `crash`: kill -9, second starts, what is left behind.
//! - `keeping`: schedules and retention.
//! - `routes`: own routes of plugins, and the webhook that wakes one.
//! - `pipelines`: graphs in a plugin folder. `taxonomy`: one over plugins of many kinds, and these.
//! - `sandbox`: plugins that try to get out, or to use up everything.
//! - `sessions`: kernels of clients, and what they do to each other, to the runner and to their limits.
//! - `start`: how fast and how small.
//! - `sight`: numbers, health, workers, logs.
//! - `readme`: what the documents say: examples, commands, links, floors.

mod auth;
mod bad_input;
mod calls;
mod contract;
mod crash;
mod data;
mod git_plugins;
mod incoming;
mod keeping;
mod links;
mod live;
mod modules;
mod pipelines;
mod readme;
mod routes;
mod sandbox;
mod sessions;
mod shared;
mod sight;
mod start;
mod taxonomy;
mod transcripts;
