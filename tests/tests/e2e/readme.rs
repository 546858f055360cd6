//! What the documents say: examples, commands, links, floors.
//!
//! # Layout
//! - `blocks`: the fenced blocks of a document.
//! - `examples`: plugins and requests of the README.
//! - `scripts`: its commands, and what they say where something is missing.
//! - `floors`: which room may use which.
//! - `guides`: numbers, variables and commands that the guides name.

mod blocks;
mod examples;
mod floors;
mod guides;
mod scripts;
