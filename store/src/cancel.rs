//! Cancelling tasks, with those that they called.

use runner_core::task::{Change, LogWriter, TaskEvent};
use sqlx::sqlite::SqliteConnection;

use crate::runs::PreparedPage;
use crate::sqlite::Write;
use crate::tasks::task_row;
use crate::{Store, StoreError, deliveries, now_ms};

impl Store {
    /// Cancels a task and the tasks that it called. Answers those that this ended: none, if it had ended
    /// already. `None`: there is no such task.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn cancel_task(&self, id: i64) -> Result<Option<Vec<i64>>, StoreError> {
        self.writer().write(CancelTask { id }).await
    }
}

impl Store {
    /// Fails a task without reading it, for where it cannot be read or written as it is. Answers whether
    /// that was its current run.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn fail_task(&self, id: i64, run: i64, reason: &str) -> Result<bool, StoreError> {
        let reason = reason.to_owned();
        self.writer().write(FailTask { id, run, reason }).await
    }
}

struct FailTask {
    id: i64,
    run: i64,
    reason: String,
}

impl Write for FailTask {
    type Answer = bool;

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<bool, StoreError> {
        let failed = |source| StoreError::sql(format!("failing task {}", self.id), source);
        let now = now_ms();
        let done = sqlx::query(
            "UPDATE tasks SET state = 'failed', holder = NULL, version = version + 1, \
             finished_at = ?3, step = NULL, log = ?4, log_length = length(cast(?4 AS BLOB)) \
             WHERE id = ?1 AND run = ?2 AND state IN ('queued', 'running')",
        )
        .bind(self.id)
        .bind(self.run)
        .bind(now)
        .bind(&self.reason)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        // The chunks of a log that is replaced belong to nothing any more.
        sqlx::query("DELETE FROM task_log WHERE task = ?1")
            .bind(self.id)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        deliveries::insert(
            connection,
            self.id,
            &[TaskEvent::Status, TaskEvent::Details],
            now,
        )
        .await?;
        Ok(true)
    }
}

struct CancelTask {
    id: i64,
}

impl Write for CancelTask {
    type Answer = Option<Vec<i64>>;

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<Self::Answer, StoreError> {
        if task_row(connection, self.id).await?.is_none() {
            return Ok(None);
        }
        let mut cancelled = Vec::new();
        let mut wanted = vec![self.id];
        while let Some(id) = wanted.pop() {
            wanted.extend(unfinished_called_by(connection, id).await?);
            let Some(mut row) = task_row(connection, id).await? else {
                continue;
            };
            let version = row.task.version;
            let Ok(events) = row.task.apply(Change::Cancelled) else {
                continue;
            };
            let mut log = LogWriter::new(row.task.log_length);
            log.entry("cancelled");
            let mut write = PreparedPage::new(&row.task, version);
            write.events = events;
            write.log = log.finish();
            write.apply(connection).await?;
            cancelled.push(id);
        }
        Ok(Some(cancelled))
    }
}

async fn unfinished_called_by(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Vec<i64>, StoreError> {
    sqlx::query_scalar(
        "SELECT id FROM tasks WHERE caller = ?1 AND state IN ('queued', 'running', 'waiting')",
    )
    .bind(id)
    .fetch_all(connection)
    .await
    .map_err(|source| StoreError::sql(format!("reading what task {id} called"), source))
}
