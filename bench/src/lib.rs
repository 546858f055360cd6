//! Measures a runner from outside, as its clients see it: closed loop, burst, latency, reads. The figures
//! stand beside those of the reference (`bench/README.md` says where these come from) and beside a bare
//! handler in the same run, so that the speed of the machine falls out of the ratios.
//!
//! # Layout
//! - [`Target`]: what is measured. [`Scenario`]: what is done to it. [`measure`]: scenarios, one after the other.
//! - `client`: HTTP that costs less than what it measures. `scenarios`: what is done. `bare`: the limit.
//! - [`Report`]: the figures.

mod bare;
mod client;
mod report;
mod scenarios;

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

pub use client::BenchError;
pub use report::{Figure, Report};

/// What is measured.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the runner listens.
    pub address: SocketAddr,
    /// The token that requests show, if any.
    pub token: Option<String>,
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

/// What is done to the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// One client: submit, wait, again.
    Latency,
    /// Some clients, each: submit, wait, again.
    ClosedLoop,
    /// Many tasks at once, until all have succeeded.
    Burst,
    /// The reads that clients do most, beside a bare handler.
    Reads,
    /// Many tasks at once, without waiting for any: for a queue that is drained later.
    Fill,
}

impl Scenario {
    /// What is measured where nothing is chosen. [`Scenario::Fill`] leaves tasks behind, and is not among them.
    pub const USUAL: [Self; 4] = [Self::Latency, Self::ClosedLoop, Self::Burst, Self::Reads];
    /// Every scenario.
    pub const ALL: [Self; 5] = [
        Self::Latency,
        Self::ClosedLoop,
        Self::Burst,
        Self::Reads,
        Self::Fill,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::ClosedLoop => "closed-loop",
            Self::Burst => "burst",
            Self::Reads => "reads",
            Self::Fill => "fill",
        }
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no scenario {name:?}, only {names}")
        })
    }
}

/// Runs scenarios, one after the other.
///
/// # Errors
/// The runner does not answer, or not as it should: then the figures would mean nothing.
pub async fn measure(target: &Target, chosen: &[Scenario]) -> Result<Report, BenchError> {
    let mut report = Report::default();
    for scenario in chosen {
        match scenario {
            Scenario::Latency => scenarios::latency(target, &mut report).await?,
            Scenario::ClosedLoop => scenarios::closed_loop(target, &mut report).await?,
            Scenario::Burst => scenarios::burst(target, &mut report).await?,
            Scenario::Reads => scenarios::reads(target, &mut report).await?,
            Scenario::Fill => scenarios::fill(target, &mut report).await?,
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name_and_others_are_refused_with_the_names() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse(), Ok(scenario));
        }
        let refused = "drain".parse::<Scenario>().unwrap_err();
        assert!(refused.contains("closed-loop"), "{refused}");
    }
}
