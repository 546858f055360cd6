//! `runner task cancel`.

use clap::Args;

use super::each::Tasks;

/// Arguments of `runner task cancel`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner task cancel 17
  runner task list --state running --json | jq '.tasks[].id' | xargs runner task cancel")]
pub(crate) struct Cancel {
    #[command(flatten)]
    tasks: Tasks,
}

impl Cancel {
    /// Cancels one after the other; one that has ended already is an error, and no reason to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        self.tasks.each("cancelled", async |server, task| {
            server.post(&format!("tasks/{task}/cancel")).await.map(drop)
        })
    }
}
