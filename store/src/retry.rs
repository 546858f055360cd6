//! One task that is run once more: its run was lost, or somebody wants it.

use runner_core::job::Offer;
use runner_core::task::{Change, TaskState};

use crate::recover::give_up;
use crate::runs::{Events, PreparedPage, token};
use crate::sql::Connection;
use crate::tasks::{READ_TO_CHANGE, TaskRow, task_row};
use crate::writer::Write;
use crate::{Store, StoreError};

/// What became of a run that was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostRun {
    /// Its task is queued again.
    Again(Offer),
    /// Its task was lost too often, and has failed.
    Failed,
    /// It was not the current run of the task any more, or the task has ended.
    Overtaken,
}

/// What became of a task that is to be run once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// It is queued again.
    Queued(Offer),
    /// It is in a state in which this cannot happen.
    Refused(TaskState),
    /// There is no such task.
    Unknown,
}

impl Store {
    /// A run was lost with its worker or host: its task gets another, as [`Change::Lost`] does, or fails with `why` in
    /// its log when it was lost more than `max_attempts` times.
    ///
    /// # Errors
    /// Why nothing was done.
    pub async fn lost_run(
        &self,
        task: i64,
        run: i64,
        max_attempts: i64,
        why: &str,
    ) -> Result<LostRun, StoreError> {
        self.writer()
            .write(Lost {
                task,
                run,
                max_attempts,
                why: why.to_owned(),
                process: self.process().to_owned(),
                token: token(),
            })
            .await
    }

    /// Runs a task once more that failed or was cancelled, as [`Change::Retried`] does.
    ///
    /// # Errors
    /// Why nothing was done.
    pub async fn retry_task(&self, id: i64) -> Result<Retried, StoreError> {
        self.writer()
            .write(Retry {
                id,
                process: self.process().to_owned(),
                token: token(),
            })
            .await
    }
}

struct Lost {
    task: i64,
    run: i64,
    max_attempts: i64,
    why: String,
    process: String,
    token: i64,
}

impl Write for Lost {
    type Answer = LostRun;

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<LostRun, StoreError> {
        let row = task_row(connection, self.task, &READ_TO_CHANGE).await?;
        let Some(TaskRow {
            mut task,
            last_write,
            ..
        }) = row
        else {
            return Ok(LostRun::Overtaken);
        };
        if is_again && last_write == self.token {
            return Ok(match task.state {
                TaskState::Failed => LostRun::Failed,
                _ => LostRun::Again(Offer::of(&task)),
            });
        }
        let is_current = matches!(task.state, TaskState::Queued | TaskState::Running);
        if task.run != self.run || !is_current {
            return Ok(LostRun::Overtaken);
        }
        if task.attempts + 1 > self.max_attempts {
            let done = give_up(connection, task, &self.why, &self.process, self.token).await?;
            return Ok(if done {
                LostRun::Failed
            } else {
                LostRun::Overtaken
            });
        }
        let version = task.version;
        if task.apply(Change::Lost).is_err() {
            return Ok(LostRun::Overtaken);
        }
        let mut write = PreparedPage::new(&task, version, &self.process);
        write.set_token(self.token);
        Ok(match write.apply(connection, false).await? {
            true => LostRun::Again(Offer::of(&task)),
            false => LostRun::Overtaken,
        })
    }
}

struct Retry {
    id: i64,
    process: String,
    token: i64,
}

impl Write for Retry {
    type Answer = Retried;

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<Retried, StoreError> {
        let row = task_row(connection, self.id, &READ_TO_CHANGE).await?;
        let Some(TaskRow {
            mut task,
            last_write,
            ..
        }) = row
        else {
            return Ok(Retried::Unknown);
        };
        if is_again && last_write == self.token {
            return Ok(Retried::Queued(Offer::of(&task)));
        }
        let version = task.version;
        let Ok(events) = task.apply(Change::Retried) else {
            return Ok(Retried::Refused(task.state));
        };
        let mut write = PreparedPage::new(&task, version, &self.process);
        write.events = Events::new(&events);
        write.set_token(self.token);
        Ok(match write.apply(connection, false).await? {
            true => Retried::Queued(Offer::of(&task)),
            false => Retried::Refused(TaskState::Queued),
        })
    }
}
