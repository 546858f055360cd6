//! The writes of workers and of pages to a task.
//!
//! A worker's write is fenced by the run and the holder, a page's by the version. Both write the task as
//! it is after [`Task::apply`], and what belongs to the change, in one transaction.

use runner_core::file::Upload;
use runner_core::task::{INLINE_LOG, Task, TaskEvent, TaskState, without_nul};
use serde_json::json;

use crate::sql::{Arg, Ask, Connection, Dialect, Statement, args, json_rows};
use crate::tasks::to_json;
use crate::writer::Write;
use crate::{Store, StoreError, StoredFile, deliveries, file_store, files, now_ms};

/// What a worker writes.
#[derive(Debug, Clone)]
pub struct RunWrite {
    /// The task after the change. Its state, run, counts, data, step, progress, steps and links are written, and
    /// when it is run next.
    pub task: Task,
    /// The fence: the run that the worker has. That of the task may be the next one already, when it is to be
    /// retried.
    pub run: i64,
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
        let prepared = PreparedRun {
            columns: Columns::of(&write.task, self.process(), write.log),
            run: write.run,
            output_count: i64::try_from(write.outputs.len()).unwrap_or(i64::MAX),
            first_key: write.outputs.first().map(|file| file.stored.key.clone()),
            outputs: (!write.outputs.is_empty()).then(|| files::outputs_json(&write.outputs)),
            events: Events::new(&write.events),
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
        let mut prepared = PreparedPage::new(write.task, write.expected_version, self.process());
        prepared.set_log(write.log.to_owned());
        prepared.events = Events::new(write.events);
        prepared.first_key = write.uploads.first().map(|file| file.key.clone());
        prepared.uploads = (!write.uploads.is_empty()).then(|| files::uploads_json(write.uploads));
        self.writer().write(prepared).await
    }
}

/// The columns that a change may change, as they stand in SQL.
struct Columns {
    id: i64,
    run: i64,
    attempts: i64,
    failures: i64,
    run_at: Option<i64>,
    state: TaskState,
    now: i64,
    progress: Option<String>,
    step: Option<String>,
    steps: String,
    links: String,
    data: Option<String>,
    log: String,
    process: String,
    token: i64,
}

impl Columns {
    fn of(task: &Task, process: &str, log: String) -> Self {
        Self {
            id: task.id,
            run: task.run,
            attempts: task.attempts,
            failures: task.failures,
            run_at: task.dispatch.run_at,
            state: task.state,
            now: now_ms(),
            progress: task.progress.as_ref().map(to_json),
            step: task.step.as_ref().map(to_json),
            steps: to_json(&task.steps),
            links: to_json(&task.links),
            data: (!task.data.is_null()).then(|| to_json(&task.data)),
            log: harmless(log),
            process: process.to_owned(),
            token: token(),
        }
    }

    fn finished_at(&self) -> Option<i64> {
        self.state.is_finished().then_some(self.now)
    }

    /// Arguments 1 to 20 of an update; `fence` is the run or the version. What does not fit into the row is not sent
    /// as if it did, unless the statement wants `all` of it.
    fn args(&self, fence: i64, output_count: i64, all: bool) -> Vec<Arg<'_>> {
        let most = if all { CHUNK } else { INLINE_LOG };
        let inline = match self.log.len() <= most {
            true => self.log.as_str(),
            false => "",
        };
        let args: &[Arg<'_>] = args![
            self.state.as_str(),
            &self.process,
            self.finished_at(),
            &self.progress,
            &self.step,
            &self.steps,
            &self.links,
            &self.data,
            output_count,
            self.log_size(),
            INLINE_LOG as i64,
            inline,
            self.id,
            fence,
            self.now,
            self.run,
            self.attempts,
            self.failures,
            self.run_at,
            self.token,
        ];
        args.to_vec()
    }

    fn log_size(&self) -> i64 {
        i64::try_from(self.log.len()).unwrap_or(i64::MAX)
    }
}

/// Bytes are counted here, so NUL goes before it gets to SQL.
fn harmless(text: String) -> String {
    match without_nul(&text) {
        std::borrow::Cow::Borrowed(_) => text,
        std::borrow::Cow::Owned(changed) => changed,
    }
}

/// A number by which a write is known that may have been committed.
pub(crate) fn token() -> i64 {
    // 63 bits: it is not negative, and not the zero of rows that nobody changed.
    (i64::from_le_bytes(file_store::random()) & i64::MAX).max(1)
}

/// What subscribers are told, as SQL takes it apart.
pub(crate) struct Events(Option<String>);

impl Events {
    pub(crate) fn new(events: &[TaskEvent]) -> Self {
        let rows = events.iter().map(|event| json!(event.as_str()));
        Self((!events.is_empty()).then(|| json_rows(rows.collect())))
    }

    pub(crate) fn json(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// A row that was hit.
struct Hit {
    /// Bytes of the log, with what was added.
    log_length: i64,
    /// Whether somebody wants to be told.
    subscribed: bool,
}

struct PreparedRun {
    columns: Columns,
    run: i64,
    outputs: Option<String>,
    output_count: i64,
    first_key: Option<String>,
    events: Events,
}

impl Write for PreparedRun {
    type Answer = bool;

    fn is_one_statement(&self, dialect: Dialect) -> bool {
        let is_alone =
            self.outputs.is_none() && self.events.json().is_none() && self.columns.log.is_empty();
        is_alone || dialect == Dialect::Postgres && self.columns.log.len() <= CHUNK
    }

    async fn apply(&self, connection: &mut Connection, is_again: bool) -> Result<bool, StoreError> {
        let columns = &self.columns;
        if is_again && was_committed(connection, columns, &self.first_key).await? {
            return Ok(true);
        }
        let update = Update {
            statement: match self.outputs {
                Some(_) => &UPDATE_RUN_WITH_OUTPUTS,
                None => &UPDATE_RUN,
            },
            fence: self.run,
            output_count: self.output_count,
            files: self.outputs.as_deref(),
            events: &self.events,
        };
        let Some(hit) = update.apply(connection, columns).await? else {
            return Ok(false);
        };
        if let (Some(outputs), Dialect::Mysql) = (&self.outputs, connection.dialect()) {
            insert_outputs(connection, columns, outputs).await?;
        }
        finish(connection, columns, &hit, &self.events).await?;
        Ok(true)
    }
}

/// Whether an earlier time of this write was committed. The rows of its files say so even when others have changed
/// the task since: files of rows must never be discarded.
async fn was_committed(
    connection: &mut Connection,
    columns: &Columns,
    first_key: &Option<String>,
) -> Result<bool, StoreError> {
    if last_write(connection, columns.id).await? == Some(columns.token) {
        return Ok(true);
    }
    match first_key {
        Some(key) => files::has_row(connection, key).await,
        None => Ok(false),
    }
}

static LAST_WRITE: Statement = Statement::new("SELECT last_write FROM tasks WHERE id = ?1");

/// The last change of a task.
pub(crate) async fn last_write(
    connection: &mut Connection,
    id: i64,
) -> Result<Option<i64>, StoreError> {
    let row = connection.row(&LAST_WRITE, args![id]).await;
    row.and_then(|row| row.map(|row| row.get(0)).transpose())
        .map_err(|source| StoreError::sql(format!("reading task {id}"), source))
}

/// An update with its fence. On PostgreSQL it brings files, chunks of the log and deliveries with it.
struct Update<'a> {
    statement: &'static Statement,
    /// The run or the version.
    fence: i64,
    output_count: i64,
    files: Option<&'a str>,
    events: &'a Events,
}

impl Update<'_> {
    /// None: no row was hit.
    async fn apply(
        &self,
        connection: &mut Connection,
        columns: &Columns,
    ) -> Result<Option<Hit>, StoreError> {
        let dialect = connection.dialect();
        let is_postgres = dialect == Dialect::Postgres;
        let mut args = columns.args(self.fence, self.output_count, is_postgres);
        if is_postgres {
            args.push(self.files.unwrap_or("[]").into());
            args.push(self.events.json().unwrap_or("[]").into());
        } else if self.files.is_some() {
            args.push(self.files.into());
        }
        let hit = match dialect {
            Dialect::Mysql => connection.execute(self.statement, &args).await.map(|done| {
                (done.hit > 0).then_some(Hit {
                    log_length: done.id / 2,
                    subscribed: done.id % 2 != 0,
                })
            }),
            _ => connection.row(self.statement, &args).await.and_then(|row| {
                let hit = |row: crate::sql::Row| {
                    Ok(Hit {
                        log_length: row.get(0)?,
                        subscribed: row.get(1)?,
                    })
                };
                row.map(hit).transpose()
            }),
        };
        hit.map_err(|source| {
            let attempt = format!("writing run {} of task {}", columns.run, columns.id);
            StoreError::sql(attempt, source)
        })
    }
}

/// The chunks of the log and the deliveries that belong to a change, where the update has not brought them.
async fn finish(
    connection: &mut Connection,
    columns: &Columns,
    hit: &Hit,
    events: &Events,
) -> Result<(), StoreError> {
    if connection.dialect() == Dialect::Postgres {
        return match columns.log.len() <= CHUNK {
            true => Ok(()),
            false => add_to_chunks(connection, columns, hit.log_length).await,
        };
    }
    add_to_chunks(connection, columns, hit.log_length).await?;
    match events.json() {
        Some(events) if hit.subscribed => deliveries::insert(connection, columns.id, events).await,
        _ => Ok(()),
    }
}

/// What every change sets; arguments 1 to 20. `log` stands before `log_length`, since MySQL sees what was set before.
macro_rules! set_columns {
    () => {
        "state = ?1, finished_at = ?3, version = version + 1, last_write = ?20, progress = ?4, step = ?5, \
         steps = ?6, links = ?7, data = ?8, run = ?16, attempts = ?17, failures = ?18, run_at = ?19, \
         origin = CASE ?1 WHEN 'queued' THEN ?2 ELSE origin END, \
         queued_at = CASE ?1 WHEN 'queued' THEN {now} ELSE queued_at END, \
         output_count = output_count + ?9, \
         log = CASE WHEN log_length + ?10 <= ?11 THEN log || ?12 ELSE log END, "
    };
}

macro_rules! of_run {
    () => {
        "holder = CASE ?1 WHEN 'queued' THEN NULL ELSE ?2 END \
         WHERE id = ?13 AND run = ?14 AND state IN ('queued', 'running') \
         AND (holder IS NULL OR holder = ?2)"
    };
}

macro_rules! of_page {
    () => {
        "holder = CASE ?1 WHEN 'queued' THEN NULL ELSE holder END WHERE id = ?13 AND version = ?14"
    };
}

macro_rules! outputs_of_sqlite {
    () => {
        // Only if the statement before it hit a row.
        "; INSERT INTO files (task, kind, created_at, \
         file_key, tag, name, data_type, content_type, size, digest) \
         SELECT ?13, 'output', ?15, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
         value ->> 5, value ->> 6 FROM json_each(?21) WHERE changes() > 0 ORDER BY json_each.key"
    };
}

macro_rules! for_sqlite {
    ($of:expr, $with:expr) => {
        concat!(
            "UPDATE tasks SET ",
            set_columns!(),
            "log_length = log_length + ?10, ",
            $of,
            " RETURNING log_length, EXISTS (SELECT 1 FROM subscriptions WHERE task = tasks.id)",
            $with
        )
    };
}

/// Length and subscription come back as that which MySQL tells of an update beside the rows that it hit.
macro_rules! for_mysql {
    ($of:expr) => {
        concat!(
            "UPDATE tasks SET ",
            set_columns!(),
            "log_length = last_insert_id((log_length + ?10) * 2 + \
             EXISTS (SELECT 1 FROM subscriptions WHERE task = tasks.id)) DIV 2, ",
            $of
        )
    };
}

macro_rules! for_postgres {
    ($of:expr, $files:expr) => {
        concat!(
            "WITH hit AS (UPDATE tasks SET ",
            set_columns!(),
            "log_length = log_length + ?10, ",
            $of,
            " RETURNING id, log_length), ",
            "chunks AS (INSERT INTO task_log (task, from_byte, text) \
             SELECT id, log_length - ?10, ?12 FROM hit WHERE ?12 <> '' AND log_length > ?11), ",
            $files,
            "told AS (INSERT INTO deliveries (task, webhook_digest, event, attempts, due_at, webhook) \
             SELECT s.task, s.webhook_digest, e.value, 0, {now}, s.webhook \
             FROM hit JOIN subscriptions s ON s.task = hit.id \
             JOIN {list ?22} e ON s.event IN ('', e.value) ORDER BY e.n, s.id) \
             SELECT log_length, false FROM hit"
        )
    };
}

macro_rules! outputs_of_postgres {
    () => {
        "made AS (INSERT INTO files (task, kind, created_at, \
         file_key, tag, name, data_type, content_type, size, digest) \
         SELECT hit.id, 'output', ?15, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
         CAST(value ->> 5 AS BIGINT), value ->> 6 \
         FROM hit, json_array_elements(CAST(?21 AS JSON)) WITH ORDINALITY AS j (value, n) ORDER BY n), "
    };
}

macro_rules! uploads_of_postgres {
    () => {
        "made AS (INSERT INTO files (task, kind, created_at, data_type, file_key, name, content_type, size) \
         SELECT hit.id, 'upload', ?15, '', value ->> 0, value ->> 1, value ->> 2, \
         CAST(value ->> 3 AS BIGINT) \
         FROM hit, json_array_elements(CAST(?21 AS JSON)) WITH ORDINALITY AS j (value, n) ORDER BY n), "
    };
}

static UPDATE_RUN: Statement = Statement::new(for_sqlite!(of_run!(), ""))
    .postgres(for_postgres!(of_run!(), outputs_of_postgres!()))
    .mysql(for_mysql!(of_run!()));

/// Both at once: every trip to the thread of SQLite's connection costs more than the statement.
static UPDATE_RUN_WITH_OUTPUTS: Statement =
    Statement::new(for_sqlite!(of_run!(), outputs_of_sqlite!()))
        .postgres(for_postgres!(of_run!(), outputs_of_postgres!()))
        .mysql(for_mysql!(of_run!()));

static UPDATE_PAGE: Statement = Statement::new(for_sqlite!(of_page!(), ""))
    .postgres(for_postgres!(of_page!(), uploads_of_postgres!()))
    .mysql(for_mysql!(of_page!()));

/// On MySQL, where the update cannot bring them.
static INSERT_OUTPUTS: Statement = Statement::new(
    "INSERT INTO files (task, kind, created_at, file_key, tag, name, data_type, content_type, size, digest) \
     SELECT ?1, 'output', ?2, j.file_key, j.tag, j.name, j.data_type, j.content_type, j.size, j.digest \
     FROM JSON_TABLE(?3, '$[*]' COLUMNS (n FOR ORDINALITY, file_key VARCHAR(64) PATH '$[0]', \
     tag VARCHAR(64) PATH '$[1]', name LONGTEXT PATH '$[2]', data_type LONGTEXT PATH '$[3]', \
     content_type LONGTEXT PATH '$[4]', size BIGINT PATH '$[5]', digest LONGTEXT PATH '$[6]')) j \
     ORDER BY j.n",
);

async fn insert_outputs(
    connection: &mut Connection,
    columns: &Columns,
    outputs: &str,
) -> Result<(), StoreError> {
    let Columns { id, now, .. } = *columns;
    let done = connection
        .execute(&INSERT_OUTPUTS, args![id, now, outputs])
        .await;
    done.map(drop).map_err(|source| {
        let attempt = format!("writing run {} of task {id}", columns.run);
        StoreError::sql(attempt, source)
    })
}

/// Bytes of the log that go into one row, which is read as a whole.
const CHUNK: usize = 64 * 1024;

static INSERT_CHUNK: Statement =
    Statement::new("INSERT INTO task_log (task, from_byte, text) VALUES (?1, ?2, ?3)");

/// Keeps what was added to a log and did not fit into the row. `length` is that of the log with it.
async fn add_to_chunks(
    connection: &mut Connection,
    columns: &Columns,
    length: i64,
) -> Result<(), StoreError> {
    if columns.log.is_empty() || length <= INLINE_LOG as i64 {
        return Ok(());
    }
    let id = columns.id;
    let mut from_byte = length - columns.log_size();
    let mut rest = columns.log.as_str();
    while !rest.is_empty() {
        let (text, after) = rest.split_at(rest.floor_char_boundary(CHUNK));
        let done = connection
            .execute(&INSERT_CHUNK, args![id, from_byte, text])
            .await;
        done.map_err(|source| StoreError::sql(format!("writing the log of task {id}"), source))?;
        from_byte += i64::try_from(text.len()).unwrap_or(i64::MAX);
        rest = after;
    }
    Ok(())
}

/// A [`PageWrite`] that owns what it writes.
pub(crate) struct PreparedPage {
    columns: Columns,
    expected_version: i64,
    pub(crate) events: Events,
    uploads: Option<String>,
    first_key: Option<String>,
}

impl PreparedPage {
    pub(crate) fn new(task: &Task, expected_version: i64, process: &str) -> Self {
        Self {
            columns: Columns::of(task, process, String::new()),
            expected_version,
            events: Events::new(&[]),
            uploads: None,
            first_key: None,
        }
    }

    pub(crate) fn set_log(&mut self, log: String) {
        self.columns.log = harmless(log);
    }

    /// Makes it known by the number of a larger write.
    pub(crate) fn set_token(&mut self, token: i64) {
        self.columns.token = token;
    }
}

impl Write for PreparedPage {
    type Answer = bool;

    fn is_one_statement(&self, dialect: Dialect) -> bool {
        let is_alone =
            self.uploads.is_none() && self.events.json().is_none() && self.columns.log.is_empty();
        is_alone || dialect == Dialect::Postgres && self.columns.log.len() <= CHUNK
    }

    async fn apply(&self, connection: &mut Connection, is_again: bool) -> Result<bool, StoreError> {
        let columns = &self.columns;
        if is_again && was_committed(connection, columns, &self.first_key).await? {
            return Ok(true);
        }
        let is_postgres = connection.dialect() == Dialect::Postgres;
        let update = Update {
            statement: &UPDATE_PAGE,
            fence: self.expected_version,
            output_count: 0,
            files: self.uploads.as_deref().filter(|_| is_postgres),
            events: &self.events,
        };
        let Some(hit) = update.apply(connection, columns).await? else {
            return Ok(false);
        };
        if let (Some(uploads), false) = (&self.uploads, is_postgres) {
            files::insert_uploads(connection, columns.id, uploads, columns.now).await?;
        }
        finish(connection, columns, &hit, &self.events).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::token;

    #[test]
    fn writes_are_told_apart_by_their_numbers() {
        let tokens: HashSet<_> = (0..1_000).map(|_| token()).collect();
        assert_eq!(tokens.len(), 1_000);
        assert!(tokens.iter().all(|token| *token > 0));
    }
}
