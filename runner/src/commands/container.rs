//! `runner container`: what a container does, as its variables say.

use anyhow::bail;
use clap::Args;

use crate::service::{self, Role};
use crate::settings::Flags;
use crate::settings::sources::Sources;

/// Arguments of `runner container`: none. All is said by variables, as for the container of the QHAna plugin runner.
#[derive(Debug, Args)]
#[command(after_help = "\
CONTAINER_MODE chooses between server, worker and up; WAIT_HOSTS, LOCALHOST_PROXY_PORTS and all other
settings are read as by those commands. `runner config` prints them.")]
pub(crate) struct Container {}

impl Container {
    /// Serves until it is told to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let sources = Sources::read(Flags::new())?;
        let role = match sources.text("CONTAINER_MODE").trim() {
            "server" | "" => Role::Server,
            "worker" => Role::Worker,
            "up" => Role::Both,
            other => bail!(
                "CONTAINER_MODE is {other:?}; expected server, worker, or up ({})",
                sources.origin("CONTAINER_MODE")
            ),
        };
        service::run(role, Flags::new())
    }
}
