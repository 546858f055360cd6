//! The writes of workers and of pages to a task.
//!
//! A worker's write is fenced by the run and the holder, a page's by the version. Both write the task as
//! it is after [`Task::apply`], and what belongs to the change, in one transaction.

mod columns;
mod statements;
mod update;

use runner_core::file::{File, Upload};
use runner_core::task::{Task, TaskEvent, without_nul};

use crate::recent::{MAX_TEXT, Recent};
use crate::sql::{Ask, Connection, Dialect, Statement, args};
use crate::writer::Write;
use crate::{Store, StoreError, StoredFile, files};
use columns::{Columns, harmless};
use statements::{UPDATE_PAGE, UPDATE_RUN};
use update::{CHUNK, Update, finish, insert_outputs};

pub(crate) use columns::{Events, token};

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

/// An output that has no row yet.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its content.
    pub stored: StoredFile,
    /// Where the content stands, if that is not the file store.
    pub url: Option<String>,
    /// Plain file name.
    pub name: String,
    /// What it means, such as `entity/list`.
    pub data_type: String,
    /// Its media type.
    pub content_type: String,
}

impl NewFile {
    /// As it is in SQL.
    fn recorded(&self, id: i64, tag: &str, created_at_ms: i64) -> File {
        File {
            id,
            tag: tag.to_owned(),
            name: without_nul(&self.name).into_owned(),
            data_type: without_nul(&self.data_type).into_owned(),
            content_type: without_nul(&self.content_type).into_owned(),
            size: self.stored.size,
            digest: self.stored.digest.clone(),
            key: self.stored.key.clone(),
            url: self.url.clone(),
            is_in_row: self.stored.text.is_some(),
            created_at: created_at_ms / 1000,
        }
    }
}

/// What became of the write of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Another run or worker has the task, or it has ended: nothing was written.
    No,
    /// It is written.
    Yes {
        /// Whether webhooks may have to be told.
        is_subscribed: bool,
    },
}

impl Recorded {
    /// It was written before; who is to be told then is not known any more.
    const BEFORE: Self = Self::Yes {
        is_subscribed: true,
    };
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
    /// has it, or the task has ended; nothing was written, and its outputs may be discarded.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn write_run(&self, write: RunWrite) -> Result<bool, StoreError> {
        Ok(self.record_run(write).await? != Recorded::No)
    }

    /// As [`write_run`](Self::write_run), and says whether somebody is to be told.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn record_run(&self, write: RunWrite) -> Result<Recorded, StoreError> {
        let outputs = write.outputs.into_iter();
        let files: Vec<_> = outputs.map(|file| (file, files::new_tag())).collect();
        let prepared = PreparedRun {
            columns: Columns::of(&write.task, self.process(), write.log),
            run: write.run,
            outputs: (!files.is_empty()).then(|| files::outputs_json(&files)),
            events: Events::new(&write.events),
            task: write.task,
            files,
        };
        Ok(self.writer().write(prepared).await?.recorded)
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

struct PreparedRun {
    columns: Columns,
    run: i64,
    /// Of `files`, as SQL takes it apart.
    outputs: Option<String>,
    events: Events,
    /// What the columns were made of.
    task: Task,
    /// Outputs with their tags.
    files: Vec<(NewFile, String)>,
}

impl PreparedRun {
    fn is_only_update(&self) -> bool {
        self.outputs.is_none() && self.events.json().is_none() && self.columns.log.is_empty()
    }

    fn output_count(&self) -> i64 {
        i64::try_from(self.files.len()).unwrap_or(i64::MAX)
    }

    /// The key of the first output, by which the whole is recognised.
    fn first_key(&self) -> Option<&str> {
        self.files.first().map(|(file, _)| &*file.stored.key)
    }

    /// Does to a task what the update did to its row; false where that is not known.
    fn apply_to(&self, task: &mut Task, numbers: &[(i64, String)]) -> bool {
        let columns = &self.columns;
        if columns
            .data
            .as_ref()
            .is_some_and(|data| data.len() > MAX_TEXT)
        {
            return false;
        }
        for (file, tag) in &self.files {
            let number = numbers.iter().find(|(_, key)| *key == file.stored.key);
            let Some((id, _)) = number else { return false };
            task.outputs.push(file.recorded(*id, tag, columns.now));
        }
        task.outputs.sort_unstable_by_key(|file| file.id);
        let now = &self.task;
        task.state = now.state;
        task.run = now.run;
        task.attempts = now.attempts;
        task.failures = now.failures;
        task.dispatch.run_at = now.dispatch.run_at;
        task.ran_by.clone_from(&now.ran_by);
        task.version += 1;
        task.finished_at = columns.finished_at();
        task.progress.clone_from(&now.progress);
        task.step.clone_from(&now.step);
        task.steps.clone_from(&now.steps);
        task.links.clone_from(&now.links);
        task.data.clone_from(&now.data);
        task.log.push_str(&columns.log);
        task.log_length += columns.log.len() as u64;
        true
    }

    /// No row was hit; it may have been asked for before by who was told that nobody knows.
    async fn without_hit(&self, connection: &mut Connection) -> Result<Recorded, StoreError> {
        match is_recorded(connection, self.first_key()).await? {
            true => Ok(Recorded::BEFORE),
            false => Ok(Recorded::No),
        }
    }
}

/// What became of the write of a run.
struct RunAnswer {
    recorded: Recorded,
    /// Numbers and keys of its outputs, where the database has told them; None where nothing was written now.
    numbers: Option<Vec<(i64, String)>>,
}

impl From<Recorded> for RunAnswer {
    fn from(recorded: Recorded) -> Self {
        Self {
            recorded,
            numbers: None,
        }
    }
}

impl Write for PreparedRun {
    type Answer = RunAnswer;

    fn remember(&self, answer: &RunAnswer, recent: &Recent) {
        recent.change(self.columns.id, |task| {
            match (&answer.recorded, &answer.numbers) {
                (_, Some(numbers)) => self.apply_to(task, numbers),
                (Recorded::No, None) => true,
                (Recorded::Yes { .. }, None) => false,
            }
        });
    }

    fn is_one_statement(&self, dialect: Dialect) -> bool {
        self.is_only_update() || dialect == Dialect::Postgres && self.columns.log.len() <= CHUNK
    }

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<RunAnswer, StoreError> {
        let columns = &self.columns;
        if is_again && was_committed(connection, columns, self.first_key()).await? {
            return Ok(Recorded::BEFORE.into());
        }
        let update = Update {
            statement: &UPDATE_RUN,
            fence: self.run,
            output_count: self.output_count(),
            files: self.outputs.as_deref(),
            events: &self.events,
        };
        let Some(hit) = update.apply(connection, columns).await? else {
            return Ok(self.without_hit(connection).await?.into());
        };
        let numbers = match &self.outputs {
            Some(outputs) if connection.dialect() != Dialect::Postgres => {
                insert_outputs(connection, columns, outputs).await?
            }
            _ => Vec::new(),
        };
        finish(connection, columns, &hit, &self.events).await?;
        Ok(RunAnswer {
            recorded: Recorded::Yes {
                is_subscribed: hit.subscribed,
            },
            numbers: Some(numbers),
        })
    }
}

/// Whether an earlier time of this write was committed. The rows of its files say so even when others have changed
/// the task since: files of rows must never be discarded.
async fn was_committed(
    connection: &mut Connection,
    columns: &Columns,
    first_key: Option<&str>,
) -> Result<bool, StoreError> {
    if last_write(connection, columns.id).await? == Some(columns.token) {
        return Ok(true);
    }
    is_recorded(connection, first_key).await
}

/// Whether files of a write have rows. Their keys are its own.
async fn is_recorded(
    connection: &mut Connection,
    first_key: Option<&str>,
) -> Result<bool, StoreError> {
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

    fn is_only_update(&self) -> bool {
        self.uploads.is_none() && self.events.json().is_none() && self.columns.log.is_empty()
    }

    /// Makes it known by the number of a larger write.
    pub(crate) fn set_token(&mut self, token: i64) {
        self.columns.token = token;
    }
}

impl Write for PreparedPage {
    type Answer = bool;

    fn remember(&self, _answer: &bool, recent: &Recent) {
        recent.change(self.columns.id, |_| false);
    }

    fn is_one_statement(&self, dialect: Dialect) -> bool {
        self.is_only_update() || dialect == Dialect::Postgres && self.columns.log.len() <= CHUNK
    }

    async fn apply(&self, connection: &mut Connection, is_again: bool) -> Result<bool, StoreError> {
        let columns = &self.columns;
        if is_again && was_committed(connection, columns, self.first_key.as_deref()).await? {
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
