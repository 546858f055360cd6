//! The writes that remove old tasks, and files of tasks that stay.

use runner_core::task::{Change, LogWriter};
use serde_json::json;

use crate::StoreError;
use crate::runs::PreparedPage;
use crate::sql::{Ask, Connection, Row, Statement, args, first_column, json_rows};
use crate::tasks::{READ_TO_CHANGE, task_row};
use crate::writer::Write;

/// A file whose row is gone.
pub(super) struct Content {
    /// None: the row was all there was.
    pub(super) key: Option<String>,
    pub(super) size: u64,
}

fn contents(rows: &[Row]) -> Result<Vec<Content>, sqlx::Error> {
    let content = |row: &Row| {
        Ok(Content {
            key: row.get(0)?,
            size: row.get::<i64>(1)?.cast_unsigned(),
        })
    };
    rows.iter().map(content).collect()
}

pub(super) struct RemoveTasks {
    pub(super) ids: String,
    pub(super) before: i64,
}

/// Those that are still as they were found: one that is run once more has not ended.
static STILL_OLD: Statement = Statement::new(
    "SELECT t.id FROM tasks t WHERE t.id IN (SELECT id FROM {ids ?1} j) \
     AND t.state IN ('succeeded', 'failed', 'cancelled') AND coalesce(t.finished_at, t.created_at) <= ?2 {for update}",
);

static KEYS: Statement = Statement::new(
    "SELECT CASE WHEN content IS NULL THEN file_key END, size FROM files \
     WHERE url IS NULL AND task IN (SELECT id FROM {ids ?1} j)",
);

static DELETE: Statement =
    Statement::new("DELETE FROM tasks WHERE id IN (SELECT id FROM {ids ?1} j)");

impl Write for RemoveTasks {
    /// How many, and what they had in the file store.
    type Answer = (u64, Vec<Content>);

    async fn apply(
        &self,
        connection: &mut Connection,
        _is_again: bool,
    ) -> Result<Self::Answer, StoreError> {
        let failed = |source| StoreError::sql("removing old tasks", source);
        let old = connection
            .rows(&STILL_OLD, args![&self.ids, self.before])
            .await;
        let old: Vec<i64> = old.and_then(|rows| first_column(&rows)).map_err(failed)?;
        if old.is_empty() {
            return Ok((0, Vec::new()));
        }
        let ids = json_rows(old.iter().map(|id| json!(id)).collect());
        let keys = connection.rows(&KEYS, args![&ids]).await;
        let keys = keys.and_then(|rows| contents(&rows)).map_err(failed)?;
        let done = connection.execute(&DELETE, args![&ids]).await;
        Ok((done.map_err(failed)?.hit, keys))
    }
}

pub(super) struct RemoveFiles {
    pub(super) tasks: Vec<i64>,
    pub(super) process: String,
    pub(super) token: i64,
}

static FILES_OF: Statement = Statement::new(
    "SELECT CASE WHEN content IS NULL THEN file_key END, size FROM files WHERE task = ?1 AND url IS NULL",
);
static FORGET_FILES: Statement = Statement::new("DELETE FROM files WHERE task = ?1");
/// The change is not the end of the task, which it had before.
static WITHOUT_FILES: Statement =
    Statement::new("UPDATE tasks SET output_count = 0, finished_at = ?2 WHERE id = ?1");

impl Write for RemoveFiles {
    type Answer = Vec<Content>;

    async fn apply(
        &self,
        connection: &mut Connection,
        _is_again: bool,
    ) -> Result<Self::Answer, StoreError> {
        let failed = |source| StoreError::sql("removing the files of old tasks", source);
        let mut all = Vec::new();
        for id in &self.tasks {
            let Some(mut row) = task_row(connection, *id, &READ_TO_CHANGE).await? else {
                continue;
            };
            let (version, ended) = (row.task.version, row.task.finished_at);
            if row.task.apply(Change::FilesRemoved).is_err() {
                continue;
            }
            let files = connection.rows(&FILES_OF, args![*id]).await;
            let files = files.and_then(|rows| contents(&rows)).map_err(failed)?;
            if files.is_empty() {
                continue;
            }
            let mut log = LogWriter::new(row.task.log_length);
            log.entry(&match files.len() {
                1 => "A file of this task was kept for long enough and is removed.".to_owned(),
                count => {
                    format!("{count} files of this task were kept for long enough and are removed.")
                }
            });
            let mut write = PreparedPage::new(&row.task, version, &self.process);
            write.set_log(log.finish());
            write.set_token(self.token);
            if !write.apply(connection, false).await? {
                continue;
            }
            let forgotten = connection.execute(&FORGET_FILES, args![*id]).await;
            forgotten.map_err(failed)?;
            let counted = connection.execute(&WITHOUT_FILES, args![*id, ended]).await;
            counted.map_err(failed)?;
            all.extend(files);
        }
        Ok(all)
    }
}
