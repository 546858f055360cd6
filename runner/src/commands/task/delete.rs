//! `runner task delete`.

use clap::Args;

use super::each::Tasks;

/// Arguments of `runner task delete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner task delete 17
  runner task list --state failed --json | jq '.tasks[].id' | xargs runner task delete")]
pub(crate) struct Delete {
    #[command(flatten)]
    tasks: Tasks,
}

impl Delete {
    /// Deletes one after the other; one that is not there is an error, and no reason to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        self.tasks.each("deleted", async |server, task| {
            server.delete(&format!("tasks/{task}/")).await.map(drop)
        })
    }
}
