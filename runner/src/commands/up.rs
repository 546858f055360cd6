//! `runner up`: server and worker in one process.

use clap::Args;

use crate::service::{self, ListenFlags, Role, ServiceFlags, given};

/// Arguments of `runner up`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    service: ServiceFlags,
    /// Tasks that run at a time [CONCURRENCY, default one for each core]
    #[arg(long)]
    concurrency: Option<String>,
}

impl Up {
    /// Serves until it is told to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut flags = self.listen.flags();
        flags.extend(self.service.flags());
        flags.extend(given([("CONCURRENCY", &self.concurrency)]));
        service::run(Role::Both, flags)
    }
}
