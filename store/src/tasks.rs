//! Making and reading tasks.

use runner_core::task::{NewTask, Task, TaskState};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Decode, Row, Sqlite, Type};

use crate::sqlite::Write;
use crate::{Store, StoreError, files, now_ms};

impl Store {
    /// Makes a queued task with its first run, and the rows of its uploads. Answers its number.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn insert_task(&self, task: NewTask) -> Result<i64, StoreError> {
        let parameters = to_json(&task.parameters);
        let created_at = now_ms();
        self.writer()
            .write(InsertTask {
                task,
                parameters,
                created_at,
            })
            .await
    }

    /// A task with all its log and its outputs, as it was at one moment.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn task(&self, id: i64) -> Result<Option<Task>, StoreError> {
        let mut reader = self.reader("reading a task").await?;
        let Some(TaskRow {
            mut task,
            output_count,
        }) = task_row(&mut reader, id).await?
        else {
            return Ok(None);
        };
        // Log and outputs only grow: as far as the row says, they are those of its moment.
        if task.log_length > task.log.len() as u64 {
            for text in log_chunks(&mut reader, id, task.log_length).await? {
                task.log.push_str(&text);
            }
        }
        if output_count > 0 {
            task.outputs = files::outputs(&mut reader, id, output_count).await?;
        }
        Ok(Some(task))
    }

    /// A task with its outputs, and its log from byte `from` on: about `most` bytes of it, so that who
    /// follows a long one holds a piece at a time. There is more when `log_length` is beyond it.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn task_since(
        &self,
        id: i64,
        from: u64,
        most: u64,
    ) -> Result<Option<Task>, StoreError> {
        let mut reader = self.reader("reading a task's news").await?;
        let Some(TaskRow {
            mut task,
            output_count,
        }) = task_row(&mut reader, id).await?
        else {
            return Ok(None);
        };
        let inline = std::mem::take(&mut task.log);
        let inline_length = inline.len() as u64;
        if from < inline_length {
            let at = inline.floor_char_boundary(usize::try_from(from).unwrap_or(usize::MAX));
            task.log = inline[at..].to_owned();
        }
        let until = task.log_length.min(from.saturating_add(most));
        if until > inline_length {
            for (start, text) in chunks_since(&mut reader, id, from, until).await? {
                let skip = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX);
                task.log
                    .push_str(&text[text.floor_char_boundary(skip.min(text.len()))..]);
            }
        }
        if output_count > 0 {
            task.outputs = files::outputs(&mut reader, id, output_count).await?;
        }
        Ok(Some(task))
    }

    /// A task whose run `run` may begin or go on: it is queued or running, and that is its run. Without
    /// what the log has beyond the row, and without outputs.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn task_for_run(&self, id: i64, run: i64) -> Result<Option<Task>, StoreError> {
        let mut reader = self.reader("reading a task for its run").await?;
        let row = task_row(&mut reader, id).await?;
        let current = |task: &Task| {
            task.run == run && matches!(task.state, TaskState::Queued | TaskState::Running)
        };
        Ok(row.map(|row| row.task).filter(current))
    }
}

struct InsertTask {
    task: NewTask,
    parameters: String,
    created_at: i64,
}

impl Write for InsertTask {
    type Answer = i64;

    fn is_one_statement(&self) -> bool {
        self.task.uploads.is_empty() && self.task.labels.is_empty()
    }

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<i64, StoreError> {
        let task = insert_row(connection, self).await?;
        if !self.task.uploads.is_empty() {
            files::insert_uploads(connection, task, &self.task.uploads, self.created_at).await?;
        }
        if !self.task.labels.is_empty() {
            insert_labels(connection, task, &self.task.labels).await?;
        }
        Ok(task)
    }
}

async fn insert_row(
    connection: &mut SqliteConnection,
    write: &InsertTask,
) -> Result<i64, StoreError> {
    // Not RETURNING: a statement must run to its end, or the error of its commit is not seen.
    let done = sqlx::query(
        "INSERT INTO tasks (state, run, attempts, version, created_at, output_count, log_length, \
         plugin, digest, base_url, steps, links, labels, parameters, log, caller, depth) \
         VALUES ('queued', 1, 0, 0, ?1, 0, 0, ?2, ?3, ?4, '[]', '[]', ?6, ?5, '', ?7, ?8)",
    )
    .bind(write.created_at)
    .bind(&write.task.plugin)
    .bind(&write.task.digest)
    .bind(&write.task.base_url)
    .bind(&write.parameters)
    .bind(to_json(&write.task.labels))
    .bind(write.task.caller.map(|(caller, _)| caller))
    .bind(write.task.caller.map_or(0, |(_, depth)| depth + 1))
    .execute(connection)
    .await;
    done.map(|done| done.last_insert_rowid()).map_err(|source| {
        let attempt = format!("inserting a task of {}", write.task.plugin);
        StoreError::sql(attempt, source)
    })
}

async fn insert_labels(
    connection: &mut SqliteConnection,
    task: i64,
    labels: &[String],
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO task_labels (label, task) SELECT value, ?1 FROM json_each(?2)")
        .bind(task)
        .bind(to_json(&labels))
        .execute(connection)
        .await
        .map(drop)
        .map_err(|source| StoreError::sql(format!("writing the labels of task {task}"), source))
}

/// The row of a task: without outputs, and with as much of the log as stands in it.
pub(crate) struct TaskRow {
    pub(crate) task: Task,
    pub(crate) output_count: i64,
}

pub(crate) async fn task_row(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<TaskRow>, StoreError> {
    let row = sqlx::query(
        "SELECT state, run, attempts, version, created_at, finished_at, output_count, log_length, \
         plugin, digest, base_url, progress, step, steps, links, data, parameters, log, labels, depth \
         FROM tasks WHERE id = ?1",
    )
    .bind(id)
    .fetch_optional(connection)
    .await
    .map_err(|source| StoreError::sql(format!("reading task {id}"), source))?;
    row.map(|row| Columns { row, id }.task()).transpose()
}

async fn log_chunks(
    connection: &mut SqliteConnection,
    id: i64,
    length: u64,
) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT text FROM task_log WHERE task = ?1 AND from_byte < ?2 ORDER BY from_byte",
    )
    .bind(id)
    .bind(length.cast_signed())
    .fetch_all(connection)
    .await
    .map_err(|source| StoreError::sql(format!("reading the log of task {id}"), source))
}

/// Chunks of a log that end after byte `from` and begin before byte `until`, with where they begin.
async fn chunks_since(
    connection: &mut SqliteConnection,
    id: i64,
    from: u64,
    until: u64,
) -> Result<Vec<(u64, String)>, StoreError> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT from_byte, text FROM task_log WHERE task = ?1 AND from_byte < ?3 \
         AND from_byte >= coalesce((SELECT max(from_byte) FROM task_log \
                                    WHERE task = ?1 AND from_byte <= ?2), 0) \
         ORDER BY from_byte",
    )
    .bind(id)
    .bind(from.cast_signed())
    .bind(until.cast_signed())
    .fetch_all(connection)
    .await
    .map_err(|source| StoreError::sql(format!("reading the log of task {id}"), source))?;
    Ok(rows
        .into_iter()
        .map(|(start, text)| (start.cast_unsigned(), text))
        .collect())
}

/// A row as `task_row` selects it.
struct Columns {
    row: SqliteRow,
    id: i64,
}

impl Columns {
    fn task(&self) -> Result<TaskRow, StoreError> {
        let state: &str = self.get(0)?;
        let task = Task {
            id: self.id,
            state: TaskState::parse(state).ok_or_else(|| self.corrupt("state", state))?,
            run: self.get(1)?,
            attempts: self.get(2)?,
            version: self.get(3)?,
            created_at: self.get(4)?,
            finished_at: self.get(5)?,
            log_length: self.get::<i64>(7)?.cast_unsigned(),
            plugin: self.get(8)?,
            digest: self.get(9)?,
            base_url: self.get(10)?,
            progress: self.json(11, "progress")?,
            step: self.json(12, "step")?,
            steps: self.json(13, "steps")?.unwrap_or_default(),
            links: self.json(14, "links")?.unwrap_or_default(),
            data: self.json(15, "data")?.unwrap_or(Value::Null),
            parameters: self.json(16, "parameters")?.unwrap_or_default(),
            log: self.get(17)?,
            labels: self.json(18, "labels")?.unwrap_or_default(),
            depth: self.get(19)?,
            outputs: Vec::new(),
        };
        let output_count = self.get(6)?;
        Ok(TaskRow { task, output_count })
    }

    fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
        &'r self,
        index: usize,
    ) -> Result<T, StoreError> {
        let value = self.row.try_get(index);
        value.map_err(|source| StoreError::sql(format!("reading task {}", self.id), source))
    }

    fn json<T: DeserializeOwned>(
        &self,
        index: usize,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        // What most tasks do not have.
        match self.get::<Option<&str>>(index)? {
            None | Some("[]") => Ok(None),
            Some(text) => {
                let parsed = serde_json::from_str(text).map(Some);
                parsed.map_err(|error| self.corrupt(column, error))
            }
        }
    }

    fn corrupt(&self, column: &'static str, reason: impl ToString) -> StoreError {
        StoreError::Corrupt {
            attempt: format!("reading task {}", self.id),
            column,
            reason: reason.to_string(),
        }
    }
}

/// What stands in a JSON column.
pub(crate) fn to_json(value: &impl serde::Serialize) -> String {
    #[expect(clippy::expect_used, reason = "their maps have strings as keys")]
    serde_json::to_string(value).expect("the types of core are JSON")
}
