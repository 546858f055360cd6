//! Making and reading tasks.

use runner_core::job::{Job, Offer};
use runner_core::task::{Dispatch, NewTask, Priority, Task, TaskState};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::sql::{Arg, Ask, Column, Connection, Dialect, Row, Statement, args, json_rows};
use crate::writer::Write;
use crate::{Store, StoreError, files, now_ms};

/// What became of a task that was to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It was made.
    New(i64),
    /// The same request made this one before.
    Same(i64),
    /// Another request with the same idempotency key made this one before.
    Other(i64),
}

impl Inserted {
    /// The task, whenever it was made.
    pub fn id(self) -> i64 {
        match self {
            Self::New(id) | Self::Same(id) | Self::Other(id) => id,
        }
    }
}

/// What the queue is told of a task that is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedJob {
    /// The task.
    pub task: i64,
    /// Its run.
    pub run: i64,
    /// Which of two jobs is taken first.
    pub priority: Priority,
    /// Who asked for it.
    pub submitter: String,
    /// Not before this moment, in milliseconds since 1970 (UTC).
    pub run_at: Option<i64>,
}

impl From<QueuedJob> for Offer {
    fn from(queued: QueuedJob) -> Self {
        Self {
            job: Job {
                task: queued.task,
                run: queued.run,
            },
            priority: queued.priority,
            submitter: queued.submitter,
            not_before: queued.run_at,
        }
    }
}

impl QueuedJob {
    /// The job of a task as it is.
    pub fn of(task: &Task) -> Self {
        Self {
            task: task.id,
            run: task.run,
            priority: task.dispatch.priority,
            submitter: task.dispatch.submitter.clone(),
            run_at: task.dispatch.run_at,
        }
    }
}

impl Store {
    /// Makes a queued task with its first run, and the rows of its uploads.
    ///
    /// # Errors
    /// Why it was not made. [`StoreError::Unknown`]: it may have been made; only one with an idempotency key is
    /// tried again then.
    pub async fn insert_task(&self, task: NewTask) -> Result<Inserted, StoreError> {
        let uploads = (!task.uploads.is_empty()).then(|| files::uploads_json(&task.uploads));
        let labels = task.labels.iter().map(|label| json!(label)).collect();
        self.writer()
            .write(InsertTask {
                parameters: to_json(&task.parameters),
                labels_column: to_json(&task.labels),
                labels: (!task.labels.is_empty()).then(|| json_rows(labels)),
                uploads,
                created_at: now_ms(),
                queue: self.queue().to_owned(),
                origin: self.process().to_owned(),
                task,
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
            ..
        }) = task_row(&mut reader, id, &READ).await?
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
            ..
        }) = task_row(&mut reader, id, &READ).await?
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
        let row = task_row(&mut reader, id, &READ).await?;
        let current = |task: &Task| {
            task.run == run && matches!(task.state, TaskState::Queued | TaskState::Running)
        };
        Ok(row.map(|row| row.task).filter(current))
    }
}

struct InsertTask {
    task: NewTask,
    parameters: String,
    labels_column: String,
    labels: Option<String>,
    uploads: Option<String>,
    created_at: i64,
    queue: String,
    origin: String,
}

impl InsertTask {
    fn args(&self) -> Vec<Arg<'_>> {
        let task = &self.task;
        let dispatch = &task.dispatch;
        let idempotency = task.idempotency.as_ref();
        let args: &[Arg<'_>] = args![
            self.created_at,
            &self.queue,
            &self.origin,
            priority_number(dispatch.priority),
            &dispatch.submitter,
            dispatch.run_at,
            dispatch.retries.map(i64::from),
            dispatch
                .timeout_ms
                .map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)),
            task.caller.map(|(caller, _)| caller),
            task.caller.map_or(0, |(_, depth)| depth + 1),
            &task.plugin,
            &task.digest,
            &task.base_url,
            idempotency.map(|known| known.key.as_str()),
            idempotency.map(|known| known.fingerprint.as_str()),
            &self.labels_column,
            &self.parameters,
        ];
        args.to_vec()
    }

    fn failed(&self, source: sqlx::Error) -> StoreError {
        StoreError::sql(format!("inserting a task of {}", self.task.plugin), source)
    }

    /// The task that has the idempotency key. `is_again`: it may be that of this very write.
    async fn known(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<Option<Inserted>, StoreError> {
        let Some(idempotency) = &self.task.idempotency else {
            return Ok(None);
        };
        let known = connection
            .row(&KNOWN, args![&idempotency.key])
            .await
            .map_err(|source| self.failed(source))?;
        let Some(row) = known else { return Ok(None) };
        let known = || -> Result<Inserted, sqlx::Error> {
            let id = row.get(0)?;
            if row.get::<Option<String>>(1)?.as_ref() != Some(&idempotency.fingerprint) {
                return Ok(Inserted::Other(id));
            }
            let is_own =
                row.get::<String>(2)? == self.origin && row.get::<i64>(3)? == self.created_at;
            Ok(match is_again && is_own {
                true => Inserted::New(id),
                false => Inserted::Same(id),
            })
        };
        known().map(Some).map_err(|source| self.failed(source))
    }
}

impl Write for InsertTask {
    type Answer = Inserted;

    fn is_one_statement(&self, dialect: Dialect) -> bool {
        let is_alone = self.uploads.is_none() && self.labels.is_none();
        is_alone || dialect == Dialect::Postgres
    }

    fn is_repeatable(&self) -> bool {
        self.task.idempotency.is_some()
    }

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<Inserted, StoreError> {
        let inserted = match connection.dialect() {
            Dialect::Postgres => self.insert_with_rows(connection).await?,
            _ => self.insert(connection).await?,
        };
        if let Some(id) = inserted {
            return Ok(Inserted::New(id));
        }
        let known = self.known(connection, is_again).await?;
        // Whoever had the key was deleted between the two: the caller may ask again.
        known.ok_or_else(|| self.failed(sqlx::Error::RowNotFound))
    }
}

/// The columns and values of a new task; arguments 1 to 17.
macro_rules! insert_task {
    ($prefix:literal, $suffix:literal) => {
        concat!(
            $prefix,
            "INSERT INTO tasks (state, run, attempts, failures, version, last_write, output_count, log_length, \
             created_at, queued_at, queue, origin, priority, submitter, run_at, retries, timeout_ms, caller, depth, \
             plugin, digest, base_url, idempotency_key, fingerprint, steps, links, labels, parameters, log) \
             VALUES ('queued', 1, 0, 0, 0, 0, 0, 0, \
             ?1, {now}, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
             ?11, ?12, ?13, ?14, ?15, '[]', '[]', ?16, ?17, '')",
            $suffix
        )
    };
}

// Not RETURNING: a statement must run to its end, or the error of its commit is not seen.
static INSERT: Statement = Statement::new(insert_task!(
    "",
    " ON CONFLICT (idempotency_key) DO NOTHING"
))
.mysql(insert_task!("", ""));

/// With its labels (18) and uploads (19) in one trip.
static INSERT_WITH_ROWS: Statement = Statement::new(insert_task!(
    "WITH made AS (",
    " ON CONFLICT (idempotency_key) DO NOTHING RETURNING id), \
     labelled AS (INSERT INTO task_labels (label, task) \
        SELECT l.value, made.id FROM made, {list ?18} l), \
     uploaded AS (INSERT INTO files (task, kind, created_at, data_type, file_key, name, content_type, size) \
        SELECT made.id, 'upload', ?1, '', u.value ->> 0, u.value ->> 1, u.value ->> 2, \
        CAST(u.value ->> 3 AS BIGINT) \
        FROM made, json_array_elements(CAST(?19 AS JSON)) WITH ORDINALITY AS u (value, n) ORDER BY u.n) \
     SELECT id FROM made"
));

static INSERT_LABELS: Statement =
    Statement::new("INSERT INTO task_labels (label, task) SELECT value, ?1 FROM {list ?2} j");

static KNOWN: Statement = Statement::new(
    "SELECT id, fingerprint, origin, created_at FROM tasks WHERE idempotency_key = ?1",
);

impl InsertTask {
    /// None: another task has the idempotency key.
    async fn insert_with_rows(
        &self,
        connection: &mut Connection,
    ) -> Result<Option<i64>, StoreError> {
        let mut args = self.args();
        args.push(self.labels.as_deref().unwrap_or("[]").into());
        args.push(self.uploads.as_deref().unwrap_or("[]").into());
        let row = connection.row(&INSERT_WITH_ROWS, &args).await;
        let id = row.and_then(|row| row.map(|row| row.get(0)).transpose());
        id.map_err(|source| self.failed(source))
    }

    async fn insert(&self, connection: &mut Connection) -> Result<Option<i64>, StoreError> {
        let done = connection.execute(&INSERT, &self.args()).await;
        let id = match done.map_err(|source| self.failed(source)) {
            Ok(done) if done.hit == 0 => return Ok(None),
            Ok(done) => done.id,
            Err(error) if self.task.idempotency.is_some() && error.is_duplicate() => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if let Some(uploads) = &self.uploads {
            files::insert_uploads(connection, id, uploads, self.created_at).await?;
        }
        if let Some(labels) = &self.labels {
            connection
                .execute(&INSERT_LABELS, args![id, labels])
                .await
                .map_err(|source| {
                    StoreError::sql(format!("writing the labels of task {id}"), source)
                })?;
        }
        Ok(Some(id))
    }
}

/// The row of a task: without outputs, and with as much of the log as stands in it.
pub(crate) struct TaskRow {
    pub(crate) task: Task,
    pub(crate) output_count: i64,
    /// The last change.
    pub(crate) last_write: i64,
}

macro_rules! select_task {
    ($suffix:literal) => {
        concat!(
            "SELECT state, run, attempts, version, created_at, finished_at, output_count, log_length, \
             plugin, digest, base_url, progress, step, steps, links, data, parameters, log, labels, depth, \
             failures, priority, submitter, run_at, retries, timeout_ms, last_write \
             FROM tasks WHERE id = ?1",
            $suffix
        )
    };
}

/// Reads a task.
pub(crate) static READ: Statement = Statement::new(select_task!(""));
/// Reads a task that is changed in the same transaction.
pub(crate) static READ_TO_CHANGE: Statement = Statement::new(select_task!(" {for update}"));

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
