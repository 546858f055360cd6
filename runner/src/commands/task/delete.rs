//! `runner task delete`.

use clap::Args;

use super::each::each;
use crate::client::At;

/// Arguments of `runner task delete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner task delete 17
  runner task list --state failed --json | jq '.tasks[].id' | xargs runner task delete")]
pub(crate) struct Delete {
    /// The numbers of the tasks.
    #[arg(value_name = "ID", required = true, value_parser = clap::value_parser!(i64).range(1..))]
    tasks: Vec<i64>,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Delete {
    /// Deletes one after the other; one that is not there is an error, and no reason to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.at.server()?;
        each(&self.tasks, "deleted", self.json, async |task| {
            server.delete(&format!("tasks/{task}/")).await.map(drop)
        })
    }
}
