//! What is removed when it is old.
//!
//! A task that has ended is removed when it is older than is said, unless something that has not ended needs it:
//! - a task that it called, or that called it;
//! - a task that has not ended, or a schedule, whose values name a file of it by its URL;
//! - a webhook that is still to be told of it.
//!
//! Rows go before content. There is no index of when tasks ended, which each task would pay for: numbers grow with
//! time, so that the old ones are at the beginning of the index of states.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use runner_core::retention::{Ages, ENDED, Retention};
use runner_core::task::{Change, LogWriter, TaskState};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::deliveries::milliseconds;
use crate::files::blocking;
use crate::runs::{PreparedPage, token};
use crate::sql::{Ask, Connection, Row, Statement, args, first_column, json_rows};
use crate::tasks::{READ_TO_CHANGE, task_row};
use crate::writer::Write;
use crate::{Store, StoreError};

/// Rows that are read at a time.
const PAGE: i64 = 500;
/// Tasks that are removed by one write, and bytes of their logs: others wait for it.
const BATCH: usize = 50;
const BATCH_BYTES: i64 = 4 * 1024 * 1024;
/// Rows of one task's log, and of its files, in a megabyte.
const FILE_COST: i64 = 500;
/// The shortest pause after a write, so that others come in between.
const BREATH: Duration = Duration::from_millis(5);
/// What stands in a URL before the number of a file, and after it.
const FILE_PATH: &str = "/files/";
const FILE_TAG: &str = "/?file-id=";

/// What is old enough to be removed, or was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Due {
    /// Finished tasks.
    pub tasks: u64,
    /// Files of finished tasks.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Finished tasks that are old, and needed by something that has not ended.
    pub kept: u64,
}

/// What a round of housekeeping did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Removed {
    /// Tasks and their files.
    #[serde(flatten)]
    pub due: Due,
    /// Files that belonged to no task.
    pub temporary: u64,
    /// What could not be done, in words. The rest was done all the same.
    pub errors: Vec<String>,
}

/// For whom it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Whatever others do.
    Own,
    /// For all processes, as long as it is this one's turn.
    ForAll,
}

/// A task that is old enough.
#[derive(Debug, Clone, Copy)]
struct Old {
    id: i64,
    /// What it costs to remove it, in bytes of its log.
    cost: i64,
}

impl Store {
    /// What is old enough to be removed now. Nothing is changed.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn due_removals(&self, retention: &Retention) -> Result<Due, StoreError> {
        let mut due = Due::default();
        let referenced = self.referenced_tasks(retention).await?;
        for state in ENDED {
            let Some(before) = self.cutoff(&retention.tasks, state).await? else {
                continue;
            };
            let mut after = 0;
            while let Some((old, last)) = self.old_tasks(state, before, after).await? {
                after = last;
                let free = self.not_needed(&old, &referenced).await?;
                due.tasks += free.len() as u64;
                due.kept += (old.len() - free.len()) as u64;
                let (files, bytes) = self.files_of(&free).await?;
                due.files += files;
                due.bytes += bytes;
            }
        }
        let mut after = 0;
        while let Some((old, last)) = self.old_files(retention, after).await? {
            after = last;
            let free = self.not_needed(&old, &referenced).await?;
            let free = self.kept_for_longer(free, retention).await?;
            let (files, bytes) = self.files_of(&free).await?;
            due.files += files;
            due.bytes += bytes;
        }
        Ok(due)
    }

    /// Removes what is old, in small writes with pauses in between. What fails is told, and the rest is done.
    pub async fn remove_old(&self, retention: &Retention) -> Removed {
        self.remove_while(retention, Turn::Own).await
    }

    /// Ends early where another process has taken over.
    pub(crate) async fn remove_while(&self, retention: &Retention, turn: Turn) -> Removed {
        let mut removed = Removed::default();
        // First what needs no room in the database, which may be full.
        match self
            .sweep_files(SystemTime::now() - retention.temporary)
            .await
        {
            Ok(count) => removed.temporary = count,
            Err(error) => removed.failed("files that belong to no task", &error),
        }
        if let Err(error) = self.remove_tasks(retention, turn, &mut removed).await {
            removed.failed("old tasks", &error);
        }
        if let Err(error) = self.remove_files(retention, turn, &mut removed).await {
            removed.failed("files of old tasks", &error);
        }
        removed
    }

    async fn goes_on(&self, turn: Turn) -> bool {
        match turn {
            Turn::Own => true,
            Turn::ForAll => self.keeps_house().await,
        }
    }

    async fn remove_tasks(
        &self,
        retention: &Retention,
        turn: Turn,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        if retention.tasks.shortest().is_none() {
            return Ok(());
        }
        let referenced = self.referenced_tasks(retention).await?;
        for state in ENDED {
            let Some(before) = self.cutoff(&retention.tasks, state).await? else {
                continue;
            };
            let mut after = 0;
            while let Some((old, last)) = self.old_tasks(state, before, after).await? {
                after = last;
                let free = self.not_needed(&old, &referenced).await?;
                removed.due.kept += (old.len() - free.len()) as u64;
                for batch in batches(&free) {
                    if !self.goes_on(turn).await {
                        return Ok(());
                    }
                    let begin = Instant::now();
                    let ids = ids_json(batch);
                    let (tasks, files) = self.writer().write(RemoveTasks { ids, before }).await?;
                    removed.due.tasks += tasks;
                    self.remove_content(files, removed).await;
                    tokio::time::sleep(begin.elapsed().max(BREATH)).await;
                }
            }
        }
        Ok(())
    }

    async fn remove_files(
        &self,
        retention: &Retention,
        turn: Turn,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        if retention.files.shortest().is_none() {
            return Ok(());
        }
        let referenced = self.referenced_tasks(retention).await?;
        let mut after = 0;
        while let Some((old, last)) = self.old_files(retention, after).await? {
            after = last;
            for batch in batches(&self.not_needed(&old, &referenced).await?) {
                if !self.goes_on(turn).await {
                    return Ok(());
                }
                let begin = Instant::now();
                let files = self
                    .writer()
                    .write(RemoveFiles {
                        tasks: batch.iter().map(|old| old.id).collect(),
                        process: self.process().to_owned(),
                        token: token(),
                    })
                    .await?;
                self.remove_content(files, removed).await;
                tokio::time::sleep(begin.elapsed().max(BREATH)).await;
            }
        }
        Ok(())
    }

    /// Their rows are gone; what stays is found by the sweep.
    async fn remove_content(&self, files: Vec<Content>, removed: &mut Removed) {
        removed.due.files += files.len() as u64;
        removed.due.bytes += files.iter().map(|file| file.size).sum::<u64>();
        let store = self.files().clone();
        let removing = blocking(move || {
            let mut first = None;
            for file in files {
                if let Some(key) = &file.key
                    && let Err(error) = store.remove(key)
                {
                    first.get_or_insert(error);
                }
            }
            Ok(first)
        });
        match removing.await {
            Ok(Some(error)) | Err(error) => removed.failed("content of removed files", &error),
            Ok(None) => {}
        }
    }

    /// What has ended before this moment is old, by the clock of the database.
    async fn cutoff(&self, ages: &Ages, state: TaskState) -> Result<Option<i64>, StoreError> {
        match ages.of(state) {
            Some(age) => Ok(Some(self.database_now().await? - milliseconds(age))),
            None => Ok(None),
        }
    }

    /// The old ones of the next tasks in a state beyond `after`, and the last that was looked at. None: there are no
    /// more.
    async fn old_tasks(
        &self,
        state: TaskState,
        before: i64,
        after: i64,
    ) -> Result<Option<(Vec<Old>, i64)>, StoreError> {
        let attempt = "looking for old tasks";
        let failed = |source| StoreError::sql(attempt, source);
        let args = args![state.as_str(), after, PAGE];
        let rows = self.reader(attempt).await?.rows(&ENDED_TASKS, args).await;
        let (mut old, mut last) = (Vec::new(), None);
        for row in rows.map_err(failed)? {
            let id = row.get(0).map_err(failed)?;
            let made: i64 = row.get(1).map_err(failed)?;
            if made > before {
                break;
            }
            last = Some(id);
            let ended: Option<i64> = row.get(2).map_err(failed)?;
            if ended.unwrap_or(made) <= before {
                let log: i64 = row.get(3).map_err(failed)?;
                let outputs: i64 = row.get(4).map_err(failed)?;
                let cost = log.saturating_add(outputs.saturating_mul(FILE_COST));
                old.push(Old { id, cost });
            }
        }
        Ok(last.map(|last| (old, last)))
    }

    /// The tasks of the next files beyond `after` whose files are old.
    async fn old_files(
        &self,
        retention: &Retention,
        after: i64,
    ) -> Result<Option<(Vec<Old>, i64)>, StoreError> {
        let attempt = "looking for old files";
        let failed = |source| StoreError::sql(attempt, source);
        let Some(shortest) = retention.files.shortest() else {
            return Ok(None);
        };
        let now = self.database_now().await?;
        let args = args![after, PAGE];
        let rows = self.reader(attempt).await?.rows(&FILES_OF_ALL, args).await;
        let (mut old, mut last): (Vec<Old>, _) = (Vec::new(), None);
        for row in rows.map_err(failed)? {
            if row.get::<i64>(1).map_err(failed)? > now - milliseconds(shortest) {
                break;
            }
            last = Some(row.get(0).map_err(failed)?);
            let id = row.get(2).map_err(failed)?;
            let state: String = row.get(3).map_err(failed)?;
            let ended: Option<i64> = row.get(4).map_err(failed)?;
            let age = TaskState::parse(&state).and_then(|state| retention.files.of(state));
            let is_old = match (age, ended) {
                (Some(age), Some(ended)) => ended <= now - milliseconds(age),
                _ => false,
            };
            match old.iter_mut().find(|other| other.id == id) {
                Some(other) => other.cost += FILE_COST,
                None if is_old => old.push(Old { id, cost: 0 }),
                None => {}
            }
        }
        Ok(last.map(|last| (old, last)))
    }

    /// Those that nothing needs which has not ended.
    async fn not_needed(
        &self,
        old: &[Old],
        referenced: &HashSet<i64>,
    ) -> Result<Vec<Old>, StoreError> {
        if old.is_empty() {
            return Ok(Vec::new());
        }
        let attempt = "reading which old tasks are needed";
        let mut reader = self.reader(attempt).await?;
        let rows = reader.rows(&NEEDED, args![ids_json(old)]).await;
        let needed = rows.and_then(|rows| first_column::<i64>(&rows));
        let needed = needed.map_err(|source| StoreError::sql(attempt, source))?;
        let is_free = |old: &&Old| !needed.contains(&old.id) && !referenced.contains(&old.id);
        Ok(old.iter().filter(is_free).copied().collect())
    }

    /// Those whose tasks are not removed with all their files before.
    async fn kept_for_longer(
        &self,
        old: Vec<Old>,
        retention: &Retention,
    ) -> Result<Vec<Old>, StoreError> {
        if retention.tasks.shortest().is_none() || old.is_empty() {
            return Ok(old);
        }
        let attempt = "reading which tasks are kept";
        let failed = |source| StoreError::sql(attempt, source);
        let now = self.database_now().await?;
        let mut reader = self.reader(attempt).await?;
        let rows = reader.rows(&STATES, args![ids_json(&old)]).await;
        let mut removed = HashSet::new();
        for row in rows.map_err(failed)? {
            let state: String = row.get(1).map_err(failed)?;
            let ended: Option<i64> = row.get(2).map_err(failed)?;
            let age = TaskState::parse(&state).and_then(|state| retention.tasks.of(state));
            if let (Some(age), Some(ended)) = (age, ended)
                && ended <= now - milliseconds(age)
            {
                removed.insert(row.get::<i64>(0).map_err(failed)?);
            }
        }
        Ok(old
            .into_iter()
            .filter(|old| !removed.contains(&old.id))
            .collect())
    }

    async fn files_of(&self, tasks: &[Old]) -> Result<(u64, u64), StoreError> {
        if tasks.is_empty() {
            return Ok((0, 0));
        }
        let attempt = "counting files of old tasks";
        let failed = |source| StoreError::sql(attempt, source);
        let mut reader = self.reader(attempt).await?;
        let row = reader.row(&COUNT_FILES, args![ids_json(tasks)]).await;
        let Some(row) = row.map_err(failed)? else {
            return Ok((0, 0));
        };
        let number = |at| row.get::<i64>(at).map_err(failed);
        Ok((number(0)?.cast_unsigned(), number(1)?.cast_unsigned()))
    }

    /// The tasks whose files are named by what has not ended, and by schedules.
    async fn referenced_tasks(&self, retention: &Retention) -> Result<HashSet<i64>, StoreError> {
        let mut tasks = HashSet::new();
        if retention.tasks.shortest().is_none() && retention.files.shortest().is_none() {
            return Ok(tasks);
        }
        let attempt = "reading which files are still needed";
        let failed = |source| StoreError::sql(attempt, source);
        let mut reader = self.reader(attempt).await?;
        let mut files = HashSet::new();
        let mut after = 0;
        loop {
            let rows = reader.rows(&LIVE_VALUES, args![after, PAGE]).await;
            let rows = rows.map_err(failed)?;
            let Some(last) = rows.last() else { break };
            after = last.get(0).map_err(failed)?;
            named_files(&rows, 1..=4, &mut files).map_err(failed)?;
        }
        let rows = reader.rows(&SCHEDULED_VALUES, args![]).await;
        named_files(&rows.map_err(failed)?, 0..=0, &mut files).map_err(failed)?;
        let files: Vec<_> = files.into_iter().collect();
        for some in files.chunks(1_000) {
            let ids = json_rows(some.iter().map(|id| json!(id)).collect());
            let rows = reader.rows(&TASKS_OF_FILES, args![ids]).await;
            tasks.extend(
                rows.and_then(|rows| first_column::<i64>(&rows))
                    .map_err(failed)?,
            );
        }
        Ok(tasks)
    }
}

impl Removed {
    fn failed(&mut self, what: &str, error: &StoreError) {
        let mut text = format!("{what}: {error}");
        // What the system said is the reason that helps.
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            text.push_str(&format!(": {source}"));
            cause = source;
        }
        self.errors.push(text);
    }
}

/// The numbers of files whose URLs stand in some columns.
fn named_files(
    rows: &[Row],
    columns: std::ops::RangeInclusive<usize>,
    files: &mut HashSet<i64>,
) -> Result<(), sqlx::Error> {
    for row in rows {
        for at in columns.clone() {
            if let Some(text) = row.get::<Option<String>>(at)? {
                files.extend(numbers_in(&text));
            }
        }
    }
    Ok(())
}

fn numbers_in(text: &str) -> impl Iterator<Item = i64> + '_ {
    text.match_indices(FILE_PATH).filter_map(|(at, _)| {
        let rest = &text[at + FILE_PATH.len()..];
        let (number, _) = rest.split_once(FILE_TAG)?;
        number.parse().ok()
    })
}

/// As many as one write removes.
fn batches(old: &[Old]) -> impl Iterator<Item = &[Old]> {
    let mut cost = 0;
    let mut count = 0;
    old.chunk_by(move |one, _| {
        cost += one.cost;
        count += 1;
        let goes_on = count < BATCH && cost < BATCH_BYTES;
        if !goes_on {
            (cost, count) = (0, 0);
        }
        goes_on
    })
}

fn ids_json(old: &[Old]) -> String {
    json_rows(old.iter().map(|old| json!(old.id)).collect())
}

static ENDED_TASKS: Statement = Statement::new(
    "SELECT id, created_at, finished_at, log_length, output_count FROM tasks \
     WHERE state = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
);

static FILES_OF_ALL: Statement = Statement::new(
    "SELECT f.id, f.created_at, t.id, t.state, t.finished_at FROM files f JOIN tasks t ON t.id = f.task \
     WHERE f.id > ?1 ORDER BY f.id LIMIT ?2",
);

static STATES: Statement = Statement::new(
    "SELECT id, state, finished_at FROM tasks WHERE id IN (SELECT id FROM {ids ?1} j)",
);

static COUNT_FILES: Statement = Statement::new(
    "SELECT count(*), CAST(coalesce(sum(size), 0) AS INTEGER) FROM files \
     WHERE task IN (SELECT id FROM {ids ?1} j)",
)
.postgres(
    "SELECT count(*), CAST(coalesce(sum(size), 0) AS BIGINT) FROM files \
     WHERE task IN (SELECT id FROM {ids ?1} j)",
)
.mysql(
    "SELECT count(*), CAST(coalesce(sum(size), 0) AS SIGNED) FROM files \
     WHERE task IN (SELECT id FROM {ids ?1} j)",
);

/// Of some tasks those that something needs which has not ended.
static NEEDED: Statement = Statement::new(
    "SELECT j.id FROM {ids ?1} j JOIN tasks o ON o.id = j.id WHERE \
     EXISTS (SELECT 1 FROM tasks c WHERE c.caller = o.id AND c.state IN ('queued', 'running', 'waiting')) \
     OR EXISTS (SELECT 1 FROM tasks p WHERE p.id = o.caller AND p.state IN ('queued', 'running', 'waiting')) \
     OR EXISTS (SELECT 1 FROM deliveries d WHERE d.task = o.id AND d.gave_up_at IS NULL)",
);

static LIVE_VALUES: Statement = Statement::new(
    "SELECT id, parameters, step, steps, data FROM tasks \
     WHERE state IN ('queued', 'running', 'waiting') AND id > ?1 ORDER BY id LIMIT ?2",
);

static SCHEDULED_VALUES: Statement = Statement::new("SELECT parameters FROM schedules");

static TASKS_OF_FILES: Statement =
    Statement::new("SELECT DISTINCT task FROM files WHERE id IN (SELECT id FROM {ids ?1} j)");

/// A file whose row is gone.
struct Content {
    /// None: the row was all there was.
    key: Option<String>,
    size: u64,
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

struct RemoveTasks {
    ids: String,
    before: i64,
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

struct RemoveFiles {
    tasks: Vec<i64>,
    process: String,
    token: i64,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_values() {
        let text = r#"{"a":"http://h/files/12/?file-id=x","b":["/files/x/?file-id=","http://h/files/7/?file-id=y"]}"#;
        assert_eq!(numbers_in(text).collect::<Vec<_>>(), [12, 7]);
        assert_eq!(numbers_in("/files/12/").count(), 0);
    }

    #[test]
    fn a_write_is_neither_too_many_tasks_nor_too_much_text() {
        let old = |id, cost| Old { id, cost };
        let many: Vec<_> = (0..120).map(|id| old(id, 1)).collect();
        let sizes: Vec<_> = batches(&many).map(<[Old]>::len).collect();
        assert_eq!(sizes, [50, 50, 20]);
        let large: Vec<_> = (0..5).map(|id| old(id, 3 * 1024 * 1024)).collect();
        let sizes: Vec<_> = batches(&large).map(<[Old]>::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
    }
}
