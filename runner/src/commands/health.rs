//! `runner health`: whether a runner on this machine can do its work, for scripts and health checks of containers.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use super::task::block_on;
use crate::client::{At, Server};
use crate::instance::base_url;
use crate::screen;
use crate::settings::sources::Sources;
use crate::settings::{Flags, Settings};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Arguments of `runner health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Asks /health/ready of --url or RUNNER_URL, else of METRICS_ADDRESS where that is set (so workers are
asked too), else of the runner in the instance folder. The exit code is 1 if it cannot do its work.")]
pub(crate) struct Health {
    /// Asks only whether it answers.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    at: At,
    /// Prints what it answers.
    #[arg(long)]
    json: bool,
}

impl Health {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.server()?;
        let path = match self.live {
            true => "health/live",
            false => "health/ready",
        };
        let answer = block_on(async {
            match tokio::time::timeout(PATIENCE, server.get(path)).await {
                Ok(answer) => answer,
                Err(_elapsed) => bail!("no answer within {} s", PATIENCE.as_secs()),
            }
        })?;
        if self.json {
            return screen::print_json(&answer);
        }
        let key = if self.live { "live" } else { "ready" };
        match answer.get(key).and_then(Value::as_bool) {
            Some(true) => screen::print(key),
            _ => bail!("what answers is no runner: its answer has no {key:?}"),
        }
    }

    fn server(&self) -> anyhow::Result<Server> {
        let settings = Settings::read(&Sources::read(Flags::new())?)?;
        match (self.at.given()?, settings.metrics_address) {
            (None, Some(address)) if address.port() != 0 => Server::new(&base_url(&address)),
            _ => self.at.server(),
        }
    }
}
