//! `runner server`: answers requests, and leaves the work to workers.

use clap::Args;

use crate::service::{self, ListenFlags, QueueFlags, Role, ServiceFlags};

/// Arguments of `runner server`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner server --broker-url redis://127.0.0.1/0
  runner server --broker-url redis://cache/0 --database-url postgresql://runner:secret@db/runner \\
    --host 0.0.0.0        # with AUTH=required and AUTH_SECRET, or another key, in the environment

Workers need the same --broker-url, --database-url and --queue, and the same file store
(FILE_STORE_ROOT_PATH, or the same instance folder).")]
pub(crate) struct Server {
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    queue: QueueFlags,
    #[command(flatten)]
    service: ServiceFlags,
}

impl Server {
    /// Serves until it is told to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut flags = self.listen.flags();
        flags.extend(self.queue.flags());
        flags.extend(self.service.flags());
        service::run(Role::Server, flags)
    }
}
