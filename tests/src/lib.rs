//! End-to-end tests against the built binary: the harness.
//!
//! # Layout
//! - [`runner`]: a started `runner up` or `runner server`: where it is, what it printed, how it is ended.
//! - [`worker`]: a started `runner worker`. [`process`]: what these and the services have in common.
//! - [`services`]: Redis, PostgreSQL and MariaDB of the tests' own, and networks that can be cut.
//! - [`api`]: what clients do with it: submit, poll, download.
//! - [`events`]: what a task tells as it happens.
//! - [`kernel`]: a client of a kernel, over a WebSocket.
//! - [`lines`]: a pipeline that is sent, and what is streamed back. [`socket`]: a WebSocket.
//! - [`http`]: requests sent byte for byte as written, and their responses.
//! - [`hook`]: a small server for webhooks, inputs, redirects and bodies that wait for a test.
//! - [`metrics`]: numbers as Prometheus reads them.
//! - [`page`]: the structure of a form's page.
//! - [`diff`]: what differs between two JSON values, and where.
//! - [`proc`]: what the system knows about processes.
//! - [`scratch`]: folders that are gone when the tests are. [`disk`]: one that can be full.
//! - [`wait`]: waiting for a condition, with a deadline.
//!
//! Nothing in here links against the crates of the workspace: the tests know what a user knows.

pub mod api;
pub mod diff;
pub mod disk;
pub mod events;
pub mod hook;
pub mod http;
pub mod kernel;
pub mod lines;
pub mod metrics;
pub mod page;
pub mod proc;
pub mod process;
pub mod runner;
pub mod scratch;
pub mod services;
pub mod socket;
mod stream;
pub mod wait;
pub mod worker;

pub use hook::{Gate, HookServer, Reply};
pub use http::{Request, Response};
pub use runner::Runner;
pub use wait::eventually;
pub use worker::Worker;

use std::path::{Path, PathBuf};

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).join(path)
}
