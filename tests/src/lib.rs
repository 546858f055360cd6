//! End-to-end tests against the built binary: the harness.
//!
//! # Layout
//! - [`runner`]: a started `runner up`: where it is, what it printed, how it is ended.
//! - [`api`]: what clients do with it: submit, poll, download.
//! - [`events`]: what a task tells as it happens.
//! - [`http`]: requests sent byte for byte as written, and their responses.
//! - [`hook`]: a small server for webhooks, inputs, redirects and bodies that wait for a test.
//! - [`page`]: the structure of a form's page.
//! - [`diff`]: what differs between two JSON values, and where.
//! - [`proc`]: what the system knows about processes.
//! - [`scratch`]: folders that are gone when the tests are.
//! - [`wait`]: waiting for a condition, with a deadline.
//!
//! Nothing in here links against the crates of the workspace: the tests know what a user knows.

pub mod api;
pub mod diff;
pub mod events;
pub mod hook;
pub mod http;
pub mod page;
pub mod proc;
pub mod runner;
pub mod scratch;
pub mod wait;

pub use hook::{Gate, HookServer, Reply};
pub use http::{Request, Response};
pub use runner::Runner;
pub use wait::eventually;

use std::path::{Path, PathBuf};

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).join(path)
}
