//! `runner task retry`.

use clap::Args;

use super::each::Tasks;

/// Arguments of `runner task retry`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner task retry 17
  runner task list --state failed --json | jq '.tasks[].id' | xargs runner task retry")]
pub(crate) struct Retry {
    #[command(flatten)]
    tasks: Tasks,
}

impl Retry {
    /// Queues one after the other; one that has not failed is an error, and no reason to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        self.tasks.each("queued again", async |server, task| {
            server.post(&format!("tasks/{task}/retry")).await.map(drop)
        })
    }
}
