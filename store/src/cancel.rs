//! The early end of tasks: cancelled with those that they called, or failed without being read.

use runner_core::task::{Change, LogWriter, TaskEvent, TaskState};

use crate::runs::{Events, PreparedPage, last_write, token};
use crate::sql::{Ask, Connection, Statement, args, first_column};
use crate::tasks::{READ_TO_CHANGE, task_row};
use crate::writer::Write;
use crate::{Store, StoreError, deliveries, now_ms};

impl Store {
    /// Cancels a task and the tasks that it called. Answers those that this ended: none, if it had ended
    /// already. `None`: there is no such task.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn cancel_task(&self, id: i64) -> Result<Option<Vec<i64>>, StoreError> {
        self.writer().write(CancelTask::new(self, id)).await
    }

    /// Fails a task without reading it, for where it cannot be read or written as it is. Answers whether
    /// that was its current run.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn fail_task(&self, id: i64, run: i64, reason: &str) -> Result<bool, StoreError> {
        let reason = runner_core::task::without_nul(reason).into_owned();
        self.writer()
            .write(FailTask {
                id,
                run,
                reason,
                token: token(),
            })
            .await
    }
}

struct FailTask {
    id: i64,
    run: i64,
    reason: String,
    token: i64,
}

static FAIL: Statement = Statement::new(
    "UPDATE tasks SET state = 'failed', version = version + 1, last_write = ?6, \
     finished_at = ?3, step = NULL, log = ?4, log_length = ?5 \
     WHERE id = ?1 AND run = ?2 AND state IN ('queued', 'running')",
);

// The chunks of a log that is replaced belong to nothing any more.
static FORGET_LOG: Statement = Statement::new("DELETE FROM task_log WHERE task = ?1");

impl Write for FailTask {
    type Answer = bool;

    async fn apply(&self, connection: &mut Connection, is_again: bool) -> Result<bool, StoreError> {
        let id = self.id;
        let failed = |source| StoreError::sql(format!("failing task {id}"), source);
        if is_again && last_write(connection, id).await? == Some(self.token) {
            return Ok(true);
        }
        let length = i64::try_from(self.reason.len()).unwrap_or(i64::MAX);
        let args = args![id, self.run, now_ms(), &self.reason, length, self.token];
        let done = connection.execute(&FAIL, args).await.map_err(failed)?;
        if done.hit == 0 {
            return Ok(false);
        }
        let forgotten = connection.execute(&FORGET_LOG, args![id]).await;
        forgotten.map_err(failed)?;
        let events = Events::new(&[TaskEvent::Status, TaskEvent::Details]);
        if let Some(events) = events.json() {
            deliveries::insert(connection, id, events).await?;
        }
        Ok(true)
    }
}

/// Cancels a task; also as a part of another write.
pub(crate) struct CancelTask {
    id: i64,
    process: String,
    token: i64,
}

impl CancelTask {
    pub(crate) fn new(store: &Store, id: i64) -> Self {
        Self {
            id,
            process: store.process().to_owned(),
            token: token(),
        }
    }
}

impl Write for CancelTask {
    type Answer = Option<Vec<i64>>;

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<Self::Answer, StoreError> {
        let mut cancelled = Vec::new();
        let mut wanted = vec![self.id];
        while let Some(id) = wanted.pop() {
            let Some(mut row) = task_row(connection, id, &READ_TO_CHANGE).await? else {
                match id == self.id {
                    true => return Ok(None),
                    false => continue,
                }
            };
            wanted.extend(called_by(connection, id, is_again).await?);
            let version = row.task.version;
            let Ok(events) = row.task.apply(Change::Cancelled) else {
                let is_own = row.last_write == self.token && row.task.state == TaskState::Cancelled;
                if is_again && is_own {
                    cancelled.push(id);
                }
                continue;
            };
            let mut log = LogWriter::new(row.task.log_length);
            log.entry("cancelled");
            let mut write = PreparedPage::new(&row.task, version, &self.process);
            write.events = Events::new(&events);
            write.set_log(log.finish());
            write.set_token(self.token);
            if write.apply(connection, false).await? {
                cancelled.push(id);
            }
        }
        Ok(Some(cancelled))
    }
}

static UNFINISHED_CALLED_BY: Statement = Statement::new(
    "SELECT id FROM tasks WHERE caller = ?1 AND state IN ('queued', 'running', 'waiting')",
);

static CALLED_BY: Statement = Statement::new("SELECT id FROM tasks WHERE caller = ?1");

/// What a task called. `all`: also what has ended, perhaps by an earlier time of this write.
async fn called_by(
    connection: &mut Connection,
    id: i64,
    all: bool,
) -> Result<Vec<i64>, StoreError> {
    let statement = if all {
        &CALLED_BY
    } else {
        &UNFINISHED_CALLED_BY
    };
    let rows = connection.rows(statement, args![id]).await;
    rows.and_then(|rows| first_column(&rows))
        .map_err(|source| StoreError::sql(format!("reading what task {id} called"), source))
}
