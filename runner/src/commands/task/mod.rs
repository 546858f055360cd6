//! `runner task`: one file per verb.

mod cancel;
mod delete;
mod each;
mod list;
mod retry;
mod show;
mod wait;

use anyhow::Context;
use clap::Subcommand;

/// What can be done with tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Lists tasks, the newest first.
    List(list::List),
    /// Shows a task: its state, log, steps and outputs.
    Show(show::Show),
    /// Waits for the end of a task, and shows its log and progress until then.
    Wait(wait::Wait),
    /// Ends tasks and everything they started.
    Cancel(cancel::Cancel),
    /// Runs tasks once more that failed or were cancelled.
    Retry(retry::Retry),
    /// Deletes tasks with their files; those that still run are cancelled first.
    Delete(delete::Delete),
}

impl Task {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Wait(wait) => wait.run(),
            Self::Cancel(cancel) => cancel.run(),
            Self::Retry(retry) => retry.run(),
            Self::Delete(delete) => delete.run(),
        }
    }
}

/// Does what a command has to ask of a server.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(work);
    // A name that is being resolved must not hold up the end.
    runtime.shutdown_background();
    done
}
