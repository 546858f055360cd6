//! The command, as people and scripts use it: the built program, in folders of its own.

#![expect(clippy::unwrap_used, reason = "a failure ends a test with its place")]

mod bad_input;
mod building;
mod conformance;
mod doctor;
mod documentation;
mod environments;
mod general;
mod guide;
mod interrupt;
mod isolation;
mod loaders;
mod node_files;
mod node_languages;
mod node_wasm;
mod nodes;
mod pipeline;
mod plugin;
mod plugin_new;
mod schedule;
mod seed;
mod support;
mod task;
