//! One thing done to several tasks.

use clap::Args;
use serde_json::json;

use super::block_on;
use crate::client::{At, Server};
use crate::screen::{self, Exit, note};

/// Arguments of the commands that do it.
#[derive(Debug, Args)]
pub(super) struct Tasks {
    /// The numbers of the tasks.
    #[arg(value_name = "ID", required = true, value_parser = clap::value_parser!(i64).range(1..))]
    tasks: Vec<i64>,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Tasks {
    /// Does it to one task after the other; a failure is told, and no reason to stop. `done` is the word for what
    /// was done, and its key in the JSON document.
    pub(super) fn each(
        &self,
        done: &str,
        act: impl AsyncFn(&Server, i64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let server = self.at.server()?;
        each(&self.tasks, done, self.json, async |task| {
            act(&server, task).await
        })
    }
}

/// Does it to one task after the other; a failure is told, and no reason to stop. `done` is the word for what
/// was done, and its key in the JSON document.
fn each(
    tasks: &[i64],
    done: &str,
    as_json: bool,
    act: impl AsyncFn(i64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut outcomes = Vec::new();
    let mut has_failed = false;
    block_on(async {
        for task in tasks {
            let outcome = act(*task).await;
            has_failed |= outcome.is_err();
            let message = match &outcome {
                Ok(()) => done.to_owned(),
                Err(error) => format!("{error:#}"),
            };
            match (as_json, outcome.is_ok()) {
                (true, _) => {}
                (false, true) => screen::print(&format!("task {task}: {message}"))?,
                (false, false) => note(&format!("task {task}: {message}")),
            }
            outcomes.push(json!({ "id": task, done: outcome.is_ok(), "message": message }));
        }
        Ok(())
    })?;
    if as_json {
        screen::print_json(&json!({ "tasks": outcomes }))?;
    }
    match has_failed {
        true => Err(Exit(1).into()),
        false => Ok(()),
    }
}
