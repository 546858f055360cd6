//! `runner task cancel`.

use clap::Args;

use super::each::each;
use crate::client::At;

/// Arguments of `runner task cancel`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner task cancel 17
  runner task list --state running --json | jq '.tasks[].id' | xargs runner task cancel")]
pub(crate) struct Cancel {
    /// The numbers of the tasks.
    #[arg(value_name = "ID", required = true, value_parser = clap::value_parser!(i64).range(1..))]
    tasks: Vec<i64>,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Cancel {
    /// Cancels one after the other; one that has ended already is an error, and no reason to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.at.server()?;
        each(&self.tasks, "cancelled", self.json, async |task| {
            server.post(&format!("tasks/{task}/cancel")).await.map(drop)
        })
    }
}
