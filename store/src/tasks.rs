//! Reading tasks.

use std::sync::Arc;
use std::time::Duration;

use runner_core::task::{Dispatch, Priority, Task, TaskState};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::sql::{Ask, Column, Row, Statement, args};
use crate::{Store, StoreError, files, now_ms};

impl Store {
    /// A task with all its log and its outputs, as it was at one moment.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn task(&self, id: i64) -> Result<Option<Task>, StoreError> {
        if let Some(task) = self.recent().get(id) {
            return Ok(Some(Arc::unwrap_or_clone(task)));
        }
        let mut reader = self.reader("reading a task").await?;
        let Some(mut task) = task_with_outputs(&mut reader, id).await? else {
            return Ok(None);
        };
        // A log only grows: as far as the row says, it is that of its moment.
        if task.log_length > task.log.len() as u64 {
            for text in log_chunks(&mut reader, id, task.log_length).await? {
                task.log.push_str(&text);
            }
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
        let Some(mut task) = task_with_outputs(&mut reader, id).await? else {
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
        Ok(Some(task))
    }

    /// A task whose run `run` may begin or go on: it is queued or running, and that is its run. Without
    /// what the log has beyond the row, and without outputs.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn task_for_run(&self, id: i64, run: i64) -> Result<Option<Current>, StoreError> {
        let is_current = |task: &Task| {
            task.run == run && matches!(task.state, TaskState::Queued | TaskState::Running)
        };
        // When later runs were queued, SQL knows; the first was when its task was made, by the clock of this process.
        if let Some(task) = self
            .recent()
            .get(id)
            .filter(|task| task.run != run || run == 1)
        {
            let due = task
                .created_at
                .max(task.dispatch.run_at.unwrap_or(i64::MIN));
            return Ok(is_current(&task).then(|| Current {
                waited: waited(now_ms().saturating_sub(due)),
                task: Task {
                    outputs: Vec::new(),
                    ..Arc::unwrap_or_clone(task)
                },
            }));
        }
        let mut reader = self.reader("reading a task for its run").await?;
        let row = reader.row(&READ_FOR_RUN, args![id]).await;
        let row = row.map_err(|source| StoreError::sql(format!("reading task {id}"), source))?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { row, id };
        let task = columns.task()?.task;
        if !is_current(&task) {
            return Ok(None);
        }
        let waited = waited(columns.get(28)?);
        Ok(Some(Current { task, waited }))
    }
}

/// A task whose run may begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// The task.
    pub task: Task,
    /// How long it has been queued, or since the moment before which it is not run; by the clock of the database.
    pub waited: Duration,
}

/// Clocks may be set back.
fn waited(milliseconds: i64) -> Duration {
    Duration::from_millis(milliseconds.max(0).cast_unsigned())
}

/// The row of a task: without outputs, and with as much of the log as stands in it.
pub(crate) struct TaskRow {
    pub(crate) task: Task,
    pub(crate) output_count: i64,
    /// The last change.
    pub(crate) last_write: i64,
}

macro_rules! select_task {
    ($more:expr, $suffix:literal) => {
        concat!(
            "SELECT state, run, attempts, version, created_at, finished_at, output_count, log_length, \
             plugin, digest, base_url, progress, step, steps, links, data, parameters, log, labels, depth, \
             failures, priority, submitter, run_at, retries, timeout_ms, last_write, ran_by",
            $more,
            " FROM tasks WHERE id = ?1",
            $suffix
        )
    };
}

/// Reads a task, and how long it has waited.
static READ_FOR_RUN: Statement = Statement::new(select_task!(
    ", {now} - CASE WHEN run_at > queued_at THEN run_at ELSE queued_at END",
    ""
))
.lookup();
/// Reads a task that is changed in the same transaction.
pub(crate) static READ_TO_CHANGE: Statement = Statement::new(select_task!("", " {for update}"));

/// And its outputs, in any order.
macro_rules! outputs_by {
    ($before:literal, $row:literal, $after:literal) => {
        concat!(
            ", CASE WHEN output_count > 0 THEN (SELECT ",
            $before,
            $row,
            "(id, tag, name, data_type, content_type, size, digest, file_key, created_at, url, \
             CASE WHEN content IS NULL THEN 0 ELSE 1 END)",
            $after,
            " FROM files WHERE task = ?1 AND kind = 'output') END"
        )
    };
}

/// Reads a task with its outputs at once: as many as there were at the moment of the row.
static READ_WITH_OUTPUTS: Statement = Statement::new(select_task!(
    outputs_by!("json_group_array(", "json_array", ")"),
    ""
))
.postgres(select_task!(
    outputs_by!("CAST(json_agg(", "json_build_array", ") AS TEXT)"),
    ""
))
.mysql(select_task!(
    outputs_by!("CAST(JSON_ARRAYAGG(", "JSON_ARRAY", ") AS CHAR)"),
    ""
))
.lookup();

/// A task with its outputs, and with as much of the log as stands in its row.
async fn task_with_outputs(connection: &mut impl Ask, id: i64) -> Result<Option<Task>, StoreError> {
    let row = connection.row(&READ_WITH_OUTPUTS, args![id]).await;
    let row = row.map_err(|source| StoreError::sql(format!("reading task {id}"), source))?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns { row, id };
    let TaskRow {
        mut task,
        output_count,
        ..
    } = columns.task()?;
    if output_count > 0 {
        let json: Option<String> = columns.get(28)?;
        drop(columns);
        task.outputs = match json.and_then(|json| files::outputs_of_json(&json, output_count)) {
            Some(outputs) => outputs,
            // MariaDB cuts off a list that is longer than its group_concat_max_len, a megabyte.
            None => files::outputs(connection, id, output_count).await?,
        };
    }
    Ok(Some(task))
}

pub(crate) async fn task_row(
    connection: &mut impl Ask,
    id: i64,
    statement: &Statement,
) -> Result<Option<TaskRow>, StoreError> {
    let row = connection.row(statement, args![id]).await;
    let row = row.map_err(|source| StoreError::sql(format!("reading task {id}"), source))?;
    row.map(|row| Columns { row, id }.task()).transpose()
}

static LOG_CHUNKS: Statement = Statement::new(
    "SELECT text FROM task_log WHERE task = ?1 AND from_byte < ?2 ORDER BY from_byte",
);

async fn log_chunks(
    connection: &mut impl Ask,
    id: i64,
    length: u64,
) -> Result<Vec<String>, StoreError> {
    let rows = connection
        .rows(&LOG_CHUNKS, args![id, length.cast_signed()])
        .await;
    let texts = rows.and_then(|rows| crate::sql::first_column(&rows));
    texts.map_err(|source| StoreError::sql(format!("reading the log of task {id}"), source))
}

static CHUNKS_SINCE: Statement = Statement::new(
    "SELECT from_byte, text FROM task_log WHERE task = ?1 AND from_byte < ?3 \
     AND from_byte >= coalesce((SELECT max(from_byte) FROM task_log \
                                WHERE task = ?1 AND from_byte <= ?2), 0) \
     ORDER BY from_byte",
);

/// Chunks of a log that end after byte `from` and begin before byte `until`, with where they begin.
async fn chunks_since(
    connection: &mut impl Ask,
    id: i64,
    from: u64,
    until: u64,
) -> Result<Vec<(u64, String)>, StoreError> {
    let args = args![id, from.cast_signed(), until.cast_signed()];
    let failed = |source| StoreError::sql(format!("reading the log of task {id}"), source);
    let rows = connection.rows(&CHUNKS_SINCE, args).await.map_err(failed)?;
    rows.iter()
        .map(|row| Ok((row.get::<i64>(0)?.cast_unsigned(), row.get(1)?)))
        .collect::<Result<_, _>>()
        .map_err(failed)
}

/// A row as `select_task` has it.
struct Columns {
    row: Row,
    id: i64,
}

impl Columns {
    fn task(&self) -> Result<TaskRow, StoreError> {
        let state: String = self.get(0)?;
        let task = Task {
            id: self.id,
            state: TaskState::parse(&state).ok_or_else(|| self.corrupt("state", &state))?,
            run: self.get(1)?,
            attempts: self.get(2)?,
            version: self.get(3)?,
            created_at: self.get(4)?,
            finished_at: self.get(5)?,
            log_length: self.get::<i64>(7)?.cast_unsigned(),
            plugin: self.get(8)?,
            digest: self.get(9)?,
            ran_by: self.json(27, "ran_by")?.unwrap_or_default(),
            base_url: self.get(10)?,
            progress: self.json(11, "progress")?,
            step: self.json(12, "step")?,
            steps: self.json(13, "steps")?.unwrap_or_default(),
            links: self.json(14, "links")?.unwrap_or_default(),
            data: self.json(15, "data")?.unwrap_or(Value::Null),
            parameters: self.json(16, "parameters")?.unwrap_or_default(),
            log: self.get(17)?,
            labels: self.json(18, "labels")?.unwrap_or_default(),
            depth: self.unsigned(19)?,
            failures: self.get(20)?,
            dispatch: Dispatch {
                priority: priority_of(self.get(21)?),
                submitter: self.get(22)?,
                run_at: self.get(23)?,
                retries: self
                    .get::<Option<i64>>(24)?
                    .map(|retries| u32::try_from(retries).unwrap_or(u32::MAX)),
                timeout_ms: self.get::<Option<i64>>(25)?.map(i64::cast_unsigned),
            },
            outputs: Vec::new(),
        };
        Ok(TaskRow {
            task,
            output_count: self.get(6)?,
            last_write: self.get(26)?,
        })
    }

    fn get<T: Column>(&self, index: usize) -> Result<T, StoreError> {
        let value = self.row.get(index);
        value.map_err(|source| StoreError::sql(format!("reading task {}", self.id), source))
    }

    fn unsigned(&self, index: usize) -> Result<u32, StoreError> {
        Ok(u32::try_from(self.get::<i64>(index)?).unwrap_or(u32::MAX))
    }

    fn json<T: DeserializeOwned>(
        &self,
        index: usize,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        // What most tasks do not have.
        match self.get::<Option<String>>(index)?.as_deref() {
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

/// In SQL: the greater, the sooner.
pub(crate) fn priority_number(priority: Priority) -> i64 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
        Priority::Called => 3,
    }
}

/// What no runner writes is taken for the nearest.
pub(crate) fn priority_of(number: i64) -> Priority {
    match number {
        ..=0 => Priority::Low,
        1 => Priority::Normal,
        2 => Priority::High,
        3.. => Priority::Called,
    }
}

/// What stands in a JSON column.
pub(crate) fn to_json(value: &impl serde::Serialize) -> String {
    #[expect(clippy::expect_used, reason = "their maps have strings as keys")]
    serde_json::to_string(value).expect("the types of core are JSON")
}
