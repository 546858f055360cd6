//! The writes of workers and of pages to a task.
//!
//! A worker's write is fenced by the run and the holder, a page's by the version. Both write the task as
//! it is after [`Task::apply`], and what belongs to the change, in one transaction.

use std::sync::{Arc, LazyLock};

use runner_core::file::Upload;
use runner_core::task::{INLINE_LOG, Task, TaskEvent, TaskState, split_log};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::sqlite::Write;
use crate::tasks::to_json;
use crate::{Store, StoreError, StoredFile, deliveries, files, now_ms};

/// What a worker writes.
#[derive(Debug, Clone)]
pub struct RunWrite {
    /// The task after the change. Its state, data, step, progress, steps and links are written.
    pub task: Task,
    /// The worker. It stays in the row while the task is running.
    pub holder: String,
    /// What is added to the log.
    pub log: String,
    /// Outputs that were put into the file store.
    pub outputs: Vec<NewFile>,
    /// What subscribers are told.
    pub events: Vec<TaskEvent>,
}

/// An output that is in the file store and has no row yet.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its content.
    pub stored: StoredFile,
    /// Plain file name.
    pub name: String,
    /// What it means, such as `entity/list`.
    pub data_type: String,
    /// Its media type.
    pub content_type: String,
}

/// What a page writes.
#[derive(Debug, Clone, Copy)]
pub struct PageWrite<'a> {
    /// The task after the change.
    pub task: &'a Task,
    /// The version that it had before.
    pub expected_version: i64,
    /// What subscribers are told.
    pub events: &'a [TaskEvent],
    /// Files that were submitted with a step.
    pub uploads: &'a [Upload],
    /// What is added to the log.
    pub log: &'a str,
}

impl Store {
    /// Writes what a run did. False: it is not the current run of the task any more, or another worker
    /// has it, or the task has ended; nothing was written.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn write_run(&self, write: RunWrite) -> Result<bool, StoreError> {
        let outputs = (!write.outputs.is_empty()).then(|| files::outputs_json(&write.outputs));
        let prepared = PreparedRun {
            columns: Columns::of(&write.task),
            holder: write.holder,
            output_count: i64::try_from(write.outputs.len()).unwrap_or(i64::MAX),
            outputs,
            log: write.log,
            events: write.events,
        };
        self.writer().write(prepared).await
    }

    /// Writes a change that somebody made on a page. False: the task has another version, or is gone;
    /// nothing was written.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn write_page(
        &self,
        task: &Task,
        expected_version: i64,
        events: &[TaskEvent],
    ) -> Result<bool, StoreError> {
        self.write_page_with(PageWrite {
            task,
            expected_version,
            events,
            uploads: &[],
            log: "",
        })
        .await
    }

    /// As [`write_page`](Self::write_page), with the rows of uploads and an addition to the log.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn write_page_with(&self, write: PageWrite<'_>) -> Result<bool, StoreError> {
        let mut prepared = PreparedPage::new(write.task, write.expected_version);
        prepared.events = write.events.to_vec();
        prepared.uploads = write.uploads.to_vec();
        prepared.log = write.log.to_owned();
        self.writer().write(prepared).await
    }
}

/// The columns that a change may change, as they stand in SQL.
struct Columns {
    id: i64,
    run: i64,
    attempts: i64,
    state: TaskState,
    now: i64,
    progress: Option<String>,
    step: Option<String>,
    steps: String,
    links: String,
    data: Option<String>,
}

impl Columns {
    fn of(task: &Task) -> Self {
        Self {
            id: task.id,
            run: task.run,
            attempts: task.attempts,
            state: task.state,
            now: now_ms(),
            progress: task.progress.as_ref().map(to_json),
            step: task.step.as_ref().map(to_json),
            steps: to_json(&task.steps),
            links: to_json(&task.links),
            data: (!task.data.is_null()).then(|| to_json(&task.data)),
        }
    }

    fn finished_at(&self) -> Option<i64> {
        self.state.is_finished().then_some(self.now)
    }
}

/// A row that was hit.
struct Hit {
    /// Bytes of the log, with what was added.
    log_length: u64,
    /// Whether somebody wants to be told.
    subscribed: bool,
}

struct PreparedRun {
    columns: Columns,
    holder: String,
    log: String,
    outputs: Option<String>,
    output_count: i64,
    events: Vec<TaskEvent>,
}

impl Write for PreparedRun {
    type Answer = bool;

    fn is_one_statement(&self) -> bool {
        self.outputs.is_none() && self.events.is_empty() && self.log.is_empty()
    }

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<bool, StoreError> {
        let Some(hit) = update_run(connection, self).await? else {
            return Ok(false);
        };
        let Columns { id, now, .. } = self.columns;
        add_to_chunks(connection, id, hit.log_length, &self.log).await?;
        if hit.subscribed && !self.events.is_empty() {
            deliveries::insert(connection, id, &self.events, now).await?;
        }
        Ok(true)
    }
}

const UPDATE_RUN: &str = "UPDATE tasks SET state = ?1, \
    holder = CASE ?1 WHEN 'running' THEN ?2 END, version = version + 1, finished_at = ?3, \
    progress = ?4, step = ?5, steps = ?6, links = ?7, data = ?8, \
    output_count = output_count + ?9, log_length = log_length + ?10, \
    log = CASE WHEN log_length + ?10 <= ?11 THEN log || ?12 ELSE log END \
    WHERE id = ?13 AND run = ?14 AND state IN ('queued', 'running') \
    AND (holder IS NULL OR holder = ?2) \
    RETURNING log_length, EXISTS (SELECT 1 FROM subscriptions WHERE task = tasks.id)";

/// Adds any number of outputs, if the statement before it hit a row.
const INSERT_OUTPUTS: &str = "INSERT INTO files (task, kind, created_at, \
    key, tag, name, data_type, content_type, size, digest) \
    SELECT ?13, 'output', ?15, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
    value ->> 5, value ->> 6 FROM json_each(?16) WHERE changes() > 0 ORDER BY json_each.key";

/// Both at once: every trip to the thread of the connection costs more than the statement.
static UPDATE_RUN_WITH_OUTPUTS: LazyLock<Arc<str>> =
    LazyLock::new(|| format!("{UPDATE_RUN}; {INSERT_OUTPUTS}").into());

async fn update_run(
    connection: &mut SqliteConnection,
    write: &PreparedRun,
) -> Result<Option<Hit>, StoreError> {
    let columns = &write.columns;
    let statement = match write.outputs {
        None => sqlx::query(UPDATE_RUN),
        Some(_) => sqlx::query(AssertSqlSafe(Arc::clone(&UPDATE_RUN_WITH_OUTPUTS))),
    };
    let rows = statement
        .bind(columns.state.as_str())
        .bind(&write.holder)
        .bind(columns.finished_at())
        .bind(&columns.progress)
        .bind(&columns.step)
        .bind(&columns.steps)
        .bind(&columns.links)
        .bind(&columns.data)
        .bind(write.output_count)
        .bind(write.log.len() as i64)
        .bind(INLINE_LOG as i64)
        .bind(&write.log)
        .bind(columns.id)
        .bind(columns.run)
        .bind(columns.now)
        .bind(&write.outputs)
        .fetch_all(connection)
        .await;
    let failed = |source| {
        let attempt = format!("writing run {} of task {}", columns.run, columns.id);
        StoreError::sql(attempt, source)
    };
    hit(rows.map_err(failed)?).map_err(failed)
}

/// The answer of an update. It is read to its end, or the error of its commit would not be seen.
fn hit(rows: Vec<sqlx::sqlite::SqliteRow>) -> Result<Option<Hit>, sqlx::Error> {
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(Hit {
        log_length: row.try_get::<i64, _>(0)?.cast_unsigned(),
        subscribed: row.try_get(1)?,
    }))
}

/// Bytes of a chunk of a log, at most: it is read as a whole.
const MAX_CHUNK: usize = 64 * 1024;

/// Keeps what was added to a log and did not fit into the row. `length` is that of the log with it.
async fn add_to_chunks(
    connection: &mut SqliteConnection,
    id: i64,
    length: u64,
    added: &str,
) -> Result<(), StoreError> {
    if added.is_empty() || length <= INLINE_LOG as u64 {
        return Ok(());
    }
    let before = length - added.len() as u64;
    let (inline, rest) = split_log(before, added);
    if !inline.is_empty() {
        extend_inline_log(connection, id, inline).await?;
    }
    let mut from_byte = before + inline.len() as u64;
    let mut rest = rest;
    while !rest.is_empty() {
        let (chunk, others) = rest.split_at(rest.floor_char_boundary(MAX_CHUNK));
        insert_chunk(connection, id, from_byte, chunk).await?;
        from_byte += chunk.len() as u64;
        rest = others;
    }
    Ok(())
}

async fn extend_inline_log(
    connection: &mut SqliteConnection,
    id: i64,
    text: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE tasks SET log = log || ?2 WHERE id = ?1")
        .bind(id)
        .bind(text)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|source| StoreError::sql(format!("writing the log of task {id}"), source))
}

async fn insert_chunk(
    connection: &mut SqliteConnection,
    id: i64,
    from_byte: u64,
    text: &str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO task_log (task, from_byte, text) VALUES (?1, ?2, ?3)")
        .bind(id)
        .bind(from_byte.cast_signed())
        .bind(text)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|source| StoreError::sql(format!("writing the log of task {id}"), source))
}

/// A [`PageWrite`] that owns what it writes.
pub(crate) struct PreparedPage {
    columns: Columns,
    expected_version: i64,
    pub(crate) events: Vec<TaskEvent>,
    pub(crate) uploads: Vec<Upload>,
    pub(crate) log: String,
}

impl PreparedPage {
    pub(crate) fn new(task: &Task, expected_version: i64) -> Self {
        Self {
            columns: Columns::of(task),
            expected_version,
            events: Vec::new(),
            uploads: Vec::new(),
            log: String::new(),
        }
    }
}

impl Write for PreparedPage {
    type Answer = bool;

    fn is_one_statement(&self) -> bool {
        self.events.is_empty() && self.uploads.is_empty() && self.log.is_empty()
    }

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<bool, StoreError> {
        let Some(hit) = update_page(connection, self).await? else {
            return Ok(false);
        };
        let Columns { id, now, .. } = self.columns;
        if !self.uploads.is_empty() {
            files::insert_uploads(connection, id, &self.uploads, now).await?;
        }
        add_to_chunks(connection, id, hit.log_length, &self.log).await?;
        if hit.subscribed && !self.events.is_empty() {
            deliveries::insert(connection, id, &self.events, now).await?;
        }
        Ok(true)
    }
}

async fn update_page(
    connection: &mut SqliteConnection,
    write: &PreparedPage,
) -> Result<Option<Hit>, StoreError> {
    let columns = &write.columns;
    let rows = sqlx::query(
        "UPDATE tasks SET state = ?1, holder = CASE ?1 WHEN 'running' THEN holder END, \
         version = version + 1, finished_at = ?2, progress = ?3, step = ?4, steps = ?5, links = ?6, \
         data = ?7, run = ?8, attempts = ?9, log_length = log_length + ?10, \
         log = CASE WHEN log_length + ?10 <= ?11 THEN log || ?12 ELSE log END \
         WHERE id = ?13 AND version = ?14 \
         RETURNING log_length, EXISTS (SELECT 1 FROM subscriptions WHERE task = tasks.id)",
    )
    .bind(columns.state.as_str())
    .bind(columns.finished_at())
    .bind(&columns.progress)
    .bind(&columns.step)
    .bind(&columns.steps)
    .bind(&columns.links)
    .bind(&columns.data)
    .bind(columns.run)
    .bind(columns.attempts)
    .bind(write.log.len() as i64)
    .bind(INLINE_LOG as i64)
    .bind(&write.log)
    .bind(columns.id)
    .bind(write.expected_version)
    .fetch_all(connection)
    .await;
    let failed = |source| {
        let attempt = format!("changing task {}", columns.id);
        StoreError::sql(attempt, source)
    };
    hit(rows.map_err(failed)?).map_err(failed)
}
