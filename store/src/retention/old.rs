//! What is old, and what of it something needs that has not ended.

use std::collections::HashSet;

use runner_core::retention::{Ages, Retention};
use runner_core::task::TaskState;
use serde_json::json;

use crate::deliveries::milliseconds;
use crate::sql::{Ask, Row, Statement, args, first_column, json_rows};
use crate::{Store, StoreError};

/// Rows that are read at a time.
const PAGE: i64 = 500;
/// Rows of one task's log, and of its files, in a megabyte.
const FILE_COST: i64 = 500;
/// What stands in a URL before the number of a file, and after it.
const FILE_PATH: &str = "/files/";
const FILE_TAG: &str = "/?file-id=";

/// A task that is old enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Old {
    pub(super) id: i64,
    /// What it costs to remove it, in bytes of its log.
    pub(super) cost: i64,
}

impl Store {
    /// What has ended before this moment is old, by the clock of the database.
    pub(super) async fn cutoff(
        &self,
        ages: &Ages,
        state: TaskState,
    ) -> Result<Option<i64>, StoreError> {
        match ages.of(state) {
            Some(age) => Ok(Some(self.database_now().await? - milliseconds(age))),
            None => Ok(None),
        }
    }

    /// The old ones of the next tasks in a state beyond `after`, and the last that was looked at. None: there are no
    /// more.
    pub(super) async fn old_tasks(
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
    pub(super) async fn old_files(
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
    pub(super) async fn not_needed(
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
    pub(super) async fn kept_for_longer(
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

    pub(super) async fn files_of(&self, tasks: &[Old]) -> Result<(u64, u64), StoreError> {
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
    pub(super) async fn referenced_tasks(
        &self,
        retention: &Retention,
    ) -> Result<HashSet<i64>, StoreError> {
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

pub(super) fn ids_json(old: &[Old]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_values() {
        let text = r#"{"a":"http://h/files/12/?file-id=x","b":["/files/x/?file-id=","http://h/files/7/?file-id=y"]}"#;
        assert_eq!(numbers_in(text).collect::<Vec<_>>(), [12, 7]);
        assert_eq!(numbers_in("/files/12/").count(), 0);
    }
}
