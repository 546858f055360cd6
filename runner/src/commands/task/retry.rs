//! `runner task retry`.

use clap::Args;

use super::each::each;
use crate::client::At;

/// Arguments of `runner task retry`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner task retry 17
  runner task list --state failed --json | jq '.tasks[].id' | xargs runner task retry")]
pub(crate) struct Retry {
    /// The numbers of the tasks.
    #[arg(value_name = "ID", required = true, value_parser = clap::value_parser!(i64).range(1..))]
    tasks: Vec<i64>,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Retry {
    /// Queues one after the other; one that has not failed is an error, and no reason to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.at.server()?;
        each(&self.tasks, "queued again", self.json, async |task| {
            server.post(&format!("tasks/{task}/retry")).await.map(drop)
        })
    }
}
