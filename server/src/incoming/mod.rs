//! What comes in, before any route sees it: connections, hosts, limits, and what every answer has.
//!
//! # Layout
//! - `serve`: connections, with their limits. `seat`: the place of one, also when it becomes a WebSocket. `stream`: cuts who does not take an answer.
//! - `envelope`: a number for each request, the limit of those in progress, headers of every answer.
//! - `slow`: cuts who does not send the body.
//! - [`Hosts`]: which hosts are served. `client`: whom a request comes from. [`Limits`]: how much, how long.

pub(crate) mod client;
pub(crate) mod envelope;
mod hosts;
pub(crate) mod seat;
mod serve;
pub(crate) mod slow;
mod stream;

use std::time::Duration;

pub use self::hosts::Hosts;
pub use self::serve::serve;

/// Bytes that the head of a request may have at least; less cannot be set.
pub const MIN_HEAD: usize = 8 * 1024;

/// Limits of requests.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a client may be silent: in the head of a request, in its body, between two requests, and when
    /// it does not take an answer.
    pub client: Duration,
    /// How long the body of a request may take.
    pub upload: Duration,
    /// Requests in progress at a time.
    pub requests: usize,
    /// Bytes of the head of a request.
    pub head: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            client: Duration::from_secs(60),
            upload: Duration::from_secs(3600),
            requests: 5000,
            head: 64 * 1024,
        }
    }
}
