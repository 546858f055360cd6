//! What a start does with the tasks of workers that are gone.

use runner_core::task::{Change, LogWriter, Task};
use sqlx::sqlite::SqliteConnection;

use crate::runs::PreparedPage;
use crate::sqlite::Write;
use crate::tasks::task_row;
use crate::{Store, StoreError};

/// What is to be done after a start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Task and run of all that is to be queued, in the order of tasks.
    pub jobs: Vec<(i64, i64)>,
    /// Tasks that were lost too often, and have failed.
    pub failed: Vec<i64>,
}

impl Store {
    /// Gives all queued and running tasks a new run, as [`Change::Lost`] does, and fails those that were
    /// lost more than `max_attempts` times. Only to be called while no worker is alive.
    ///
    /// # Errors
    /// Why nothing was done.
    pub async fn recover(&self, max_attempts: i64) -> Result<Recovered, StoreError> {
        self.writer().write(Recover { max_attempts }).await
    }
}

struct Recover {
    max_attempts: i64,
}

impl Write for Recover {
    type Answer = Recovered;

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<Recovered, StoreError> {
        let failed = lost_too_often(connection, self.max_attempts).await?;
        for id in &failed {
            if let Some(row) = task_row(connection, *id).await? {
                give_up(row.task).apply(connection).await?;
            }
        }
        let mut jobs = dispatch_again(connection).await?;
        jobs.sort_unstable();
        Ok(Recovered { jobs, failed })
    }
}

/// The end of a task that was lost too often.
fn give_up(mut task: Task) -> PreparedPage {
    let version = task.version;
    // Neither can be refused: the task is queued or running.
    let _events = task.apply(Change::Lost);
    let events = task.apply(Change::Failed).unwrap_or_default();
    let mut log = LogWriter::new(task.log_length);
    log.entry(&format!(
        "The runner or its worker ended {} times while this task was running. It is not tried again.",
        task.attempts
    ));
    let mut write = PreparedPage::new(&task, version);
    write.events = events;
    write.log = log.finish();
    write
}

async fn lost_too_often(
    connection: &mut SqliteConnection,
    max_attempts: i64,
) -> Result<Vec<i64>, StoreError> {
    sqlx::query_scalar(
        "SELECT id FROM tasks WHERE state IN ('queued', 'running') \
         AND attempts + (state = 'running') > ?1 ORDER BY id",
    )
    .bind(max_attempts)
    .fetch_all(connection)
    .await
    .map_err(|source| StoreError::sql("reading the tasks that were lost too often", source))
}

/// [`Change::Lost`], for all at once.
async fn dispatch_again(connection: &mut SqliteConnection) -> Result<Vec<(i64, i64)>, StoreError> {
    sqlx::query_as(
        "UPDATE tasks SET attempts = attempts + (state = 'running'), run = run + 1, \
         state = 'queued', holder = NULL, version = version + 1 \
         WHERE state IN ('queued', 'running') RETURNING id, run",
    )
    .fetch_all(connection)
    .await
    .map_err(|source| StoreError::sql("queueing the tasks of the last start again", source))
}
