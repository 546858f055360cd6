//! `runner task cancel`.

use clap::Args;
use serde_json::json;

use super::block_on;
use crate::client::At;
use crate::screen::{self, Exit, note};

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
        let mut outcomes = Vec::new();
        let mut has_failed = false;
        block_on(async {
            for task in &self.tasks {
                let outcome = server.post(&format!("tasks/{task}/cancel")).await;
                has_failed |= outcome.is_err();
                let message = match &outcome {
                    Ok(_) => "cancelled".to_owned(),
                    Err(error) => format!("{error:#}"),
                };
                match (self.json, outcome.is_ok()) {
                    (true, _) => {}
                    (false, true) => screen::print(&format!("task {task}: {message}"))?,
                    (false, false) => note(&format!("task {task}: {message}")),
                }
                outcomes
                    .push(json!({ "id": task, "cancelled": outcome.is_ok(), "message": message }));
            }
            Ok(())
        })?;
        if self.json {
            screen::print_json(&json!({ "tasks": outcomes }))?;
        }
        if has_failed {
            Err(Exit(1).into())
        } else {
            Ok(())
        }
    }
}
