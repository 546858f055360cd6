//! Making tasks.

use runner_core::task::{NewTask, Task, without_nul};
use serde_json::json;

use crate::recent::{MAX_TEXT, Recent};
use crate::sql::{Arg, Ask, Connection, Dialect, Statement, args, json_rows};
use crate::tasks::{priority_number, to_json};
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

impl Store {
    /// Makes a queued task with its first run, and the rows of its uploads.
    ///
    /// # Errors
    /// Why it was not made. [`StoreError::Unknown`]: it may have been made; only one with an idempotency key is
    /// tried again then.
    pub async fn insert_task(&self, task: NewTask) -> Result<Inserted, StoreError> {
        self.writer().write(InsertTask::new(self, task)).await
    }
}

/// Makes a task; also as a part of another write.
pub(crate) struct InsertTask {
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
    pub(crate) fn new(store: &Store, task: NewTask) -> Self {
        let uploads = (!task.uploads.is_empty()).then(|| files::uploads_json(&task.uploads));
        let labels = task.labels.iter().map(|label| json!(label)).collect();
        Self {
            parameters: to_json(&task.parameters),
            labels_column: to_json(&task.labels),
            labels: (!task.labels.is_empty()).then(|| json_rows(labels)),
            uploads,
            created_at: now_ms(),
            queue: store.queue().to_owned(),
            origin: store.process().to_owned(),
            task,
        }
    }

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

    /// The task as it is in SQL.
    fn made(&self, id: i64) -> Task {
        let mut task = self.task.made(id, self.created_at);
        for text in [&mut task.plugin, &mut task.base_url] {
            *text = without_nul(text).into_owned();
        }
        task
    }

    /// Whether it has neither labels nor uploads.
    fn has_one_row(&self) -> bool {
        self.uploads.is_none() && self.labels.is_none()
    }

    /// What became of it. `id`: none where another task has the idempotency key.
    async fn inserted(
        &self,
        connection: &mut Connection,
        id: Option<i64>,
        is_again: bool,
    ) -> Result<Inserted, StoreError> {
        if let Some(id) = id {
            return Ok(Inserted::New(id));
        }
        let known = self.known(connection, is_again).await?;
        // Whoever had the key was deleted between the two: the caller may ask again.
        known.ok_or_else(|| self.failed(sqlx::Error::RowNotFound))
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
        self.has_one_row() || dialect == Dialect::Postgres
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
        self.inserted(connection, inserted, is_again).await
    }

    fn remember(&self, answer: &Inserted, recent: &Recent) {
        if let Inserted::New(id) = answer
            && self.parameters.len() <= MAX_TEXT
        {
            recent.put(self.made(*id));
        }
    }
}

/// The columns and values of a new task; arguments 1 to 17.
macro_rules! insert_task {
    ($prefix:literal, $suffix:expr) => {
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
