//! One thing done to several tasks.

use serde_json::json;

use super::block_on;
use crate::screen::{self, Exit, note};

/// Does it to one task after the other; a failure is told, and no reason to stop. `done` is the word for what
/// was done, and its key in the JSON document.
pub(super) fn each(
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
