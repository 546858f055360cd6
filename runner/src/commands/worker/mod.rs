//! `runner worker`: takes jobs from the queue and runs them.

mod list;

use clap::{Args, Subcommand};

use crate::screen::note;
use crate::service::{self, QueueFlags, Role, ServiceFlags, given};

/// Arguments of `runner worker`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  runner worker --broker-url redis://127.0.0.1/0 --concurrency 4
  runner worker --broker-url redis://cache/0 --only sessions    # kernels, maybe under another account
  runner worker list
  runner worker --broker-url redis://cache/0 --database-url postgresql://runner:secret@db/runner \\
    --queue gpu --plugin-folders /srv/plugins

Any number of workers may serve one queue, on one or several machines. SIGTERM lets runs end that are
in progress (SHUTDOWN_GRACE), then hands them back to others."
)]
pub(crate) struct Worker {
    /// Tasks that run at a time [CONCURRENCY, default one for each core]
    #[arg(long, short = 'c')]
    concurrency: Option<String>,
    /// What it does: tasks or sessions [WORKER_ONLY, default both]
    #[arg(long)]
    only: Option<String>,
    #[command(flatten)]
    queue: QueueFlags,
    #[command(flatten)]
    service: ServiceFlags,
    /// Accepted for scripts of the QHAna plugin runner: every run has a process of its module, so there are no
    /// pools to choose from
    #[arg(long, short = 'P')]
    pool: Option<String>,
    /// Accepted for scripts of the QHAna plugin runner: nothing has to be started beside workers
    #[arg(long, short = 'B')]
    periodic_scheduler: bool,
    #[command(subcommand)]
    about: Option<About>,
}

/// What can be asked about workers.
#[derive(Debug, Subcommand)]
enum About {
    /// The processes of the installation that a runner belongs to, and what each runs.
    List(list::List),
}

impl Worker {
    /// Works until it is told to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if let Some(About::List(list)) = &self.about {
            return list.run();
        }
        if let Some(pool) = &self.pool {
            note(&format!(
                "--pool {pool} means nothing here: plugins run in processes of their own, --concurrency of them at \
                 a time"
            ));
        }
        if self.periodic_scheduler {
            note(
                "--periodic-scheduler means nothing here: every worker fires schedules (runner schedule)",
            );
        }
        let mut flags = self.queue.flags();
        flags.extend(self.service.flags());
        flags.extend(given([
            ("CONCURRENCY", &self.concurrency),
            ("WORKER_ONLY", &self.only),
        ]));
        service::run(Role::Worker, flags)
    }
}
