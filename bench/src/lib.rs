//! Measures a runner from outside, as its clients see it: closed loop, burst, latency, reads. The figures
//! stand beside those of the reference (`bench/README.md` says where these come from) and beside a bare
//! handler in the same run, so that the speed of the machine falls out of the ratios.
//!
//! # Layout
//! - [`Target`]: what is measured. [`measure`]: all scenarios, one after the other.
//! - `client`: HTTP that costs less than what it measures. `scenarios`: what is done. `bare`: the limit.
//! - [`Report`]: the figures.

mod bare;
mod client;
mod report;
mod scenarios;

use std::net::SocketAddr;
use std::time::Duration;

pub use client::BenchError;
pub use report::{Figure, Report};

/// What is measured.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the runner listens.
    pub address: SocketAddr,
    /// Identifier of the plugin that is run.
    pub plugin: String,
    /// The form that is submitted, urlencoded.
    pub form: String,
    /// Clients at a time.
    pub clients: usize,
    /// How long each scenario goes on.
    pub duration: Duration,
    /// Tasks of the burst.
    pub burst: usize,
}

/// Runs all scenarios.
///
/// # Errors
/// The runner does not answer, or not as it should: then the figures would mean nothing.
pub async fn measure(target: &Target) -> Result<Report, BenchError> {
    let mut report = Report::default();
    scenarios::latency(target, &mut report).await?;
    scenarios::closed_loop(target, &mut report).await?;
    scenarios::burst(target, &mut report).await?;
    scenarios::reads(target, &mut report).await?;
    Ok(report)
}
