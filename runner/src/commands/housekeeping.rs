//! `runner housekeeping`.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use runner_core::age;
use runner_store::Removed;
use serde_json::json;

use super::files::{Here, size};
use super::task::block_on;
use crate::screen::{self, Exit, note};

/// When workers do it again after it was done by hand.
const PAUSE: Duration = Duration::from_secs(3_600);

/// Arguments of `runner housekeeping`.
#[derive(Debug, Args)]
#[command(after_help = "\
It may be used while runners serve; one that is alone in the instance folder does it itself, by its own settings.
What something needs that has not ended is kept: tasks that called one another,
files that are named by tasks or schedules, tasks whose webhooks are still to be told.")]
pub(crate) struct Housekeeping {
    /// Says what would be removed, and removes nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    here: Here,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Housekeeping {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let settings = self.here.settings()?;
        let retention = settings.retention;
        let keep = format!(
            "tasks are kept {}, files {}, files of no task {}",
            retention.tasks.show(),
            retention.files.show(),
            age::show(retention.temporary)
        );
        block_on(async {
            let store = self.here.store(&settings).await?;
            if self.dry_run {
                let due = store.due_removals(&retention).await;
                store.close().await;
                let due = due?;
                return match self.json {
                    true => screen::print_json(&json!({ "due": due })),
                    false => screen::print(&format!(
                        "{keep}\nwould be removed: {} tasks, {} files ({})\nkept, since something needs them: {} tasks",
                        due.tasks,
                        due.files,
                        size(due.bytes),
                        due.kept
                    )),
                };
            }
            if let Some(server) = self.here.lonely(&settings)? {
                store.close().await;
                let answer = server.post("retention/run").await?;
                return self.tell(None, &serde_json::from_value(answer)?);
            }
            let removed = store.keep_house(&retention, PAUSE, true).await;
            store.close().await;
            let Some(removed) = removed? else {
                bail!("another process is at it: try again in a minute");
            };
            self.tell(Some(&keep), &removed)
        })
    }

    /// `keep`: what was kept, unless a runner that serves has done it by its own settings.
    fn tell(&self, keep: Option<&str>, removed: &Removed) -> anyhow::Result<()> {
        match self.json {
            true => screen::print_json(&json!({ "removed": removed }))?,
            false => screen::print(&format!(
                "{}\nremoved: {} tasks, {} files ({}), {} files of no task, {} permalinks\nkept, since \
                 something needs them: {} tasks",
                keep.unwrap_or("by the settings of the runner that serves"),
                removed.due.tasks,
                removed.due.files,
                size(removed.due.bytes),
                removed.temporary,
                removed.permalinks,
                removed.due.kept
            ))?,
        }
        for error in &removed.errors {
            note(error);
        }
        match removed.errors.is_empty() {
            true => Ok(()),
            false => Err(Exit(1).into()),
        }
    }
}
