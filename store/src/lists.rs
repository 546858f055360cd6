//! Lists of tasks, and their end.

use runner_core::task::{Progress, TaskState};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::sqlite::Write;
use crate::{Store, StoreError};

/// Which tasks are wanted.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// In one of these states; none means any.
    pub states: Vec<TaskState>,
    /// Identifier of the plugin, or its name.
    pub plugin: Option<String>,
    /// All of these labels.
    pub labels: Vec<String>,
    /// Older than this one.
    pub before: Option<i64>,
}

/// A task in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSummary {
    /// Its number.
    pub id: i64,
    /// Identifier of the plugin.
    pub plugin: String,
    /// Where it is.
    pub state: TaskState,
    /// Its labels.
    pub labels: Vec<String>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub created_at: i64,
    /// When it ended.
    pub finished_at: Option<i64>,
}

impl Store {
    /// Tasks from the newest to the oldest, at most `limit`.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn tasks(
        &self,
        filter: &TaskFilter,
        limit: u32,
    ) -> Result<Vec<TaskSummary>, StoreError> {
        let attempt = "listing tasks";
        let mut reader = self.reader(attempt).await?;
        let rows = query(filter, limit).build().fetch_all(&mut *reader).await;
        let rows = rows.map_err(|source| StoreError::sql(attempt, source))?;
        rows.iter().map(summary).collect()
    }

    /// Deletes a task with its log, subscriptions and files. Answers whether there was one. A run in
    /// progress finds no row any more and stops.
    ///
    /// # Errors
    /// Why it was not deleted.
    pub async fn delete_task(&self, id: i64) -> Result<bool, StoreError> {
        let Some(keys) = self.writer().write(DeleteTask { id }).await? else {
            return Ok(false);
        };
        let files = self.files().clone();
        let removed = tokio::task::spawn_blocking(move || {
            // A key that stays is found by the sweep.
            keys.iter().filter(|key| files.remove(key).is_err()).count()
        });
        if let Ok(left @ 1..) = removed.await {
            tracing::warn!(
                task = id,
                "{left} files of a deleted task could not be removed yet"
            );
        }
        Ok(true)
    }
}

fn query(filter: &TaskFilter, limit: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "SELECT id, plugin, state, labels, progress, created_at, finished_at FROM tasks WHERE 1",
    );
    if !filter.states.is_empty() {
        query.push(" AND state IN (");
        let mut states = query.separated(", ");
        for state in &filter.states {
            states.push_bind(state.as_str());
        }
        query.push(")");
    }
    if let Some(plugin) = &filter.plugin {
        match plugin.contains('@') {
            true => query.push(" AND plugin = ").push_bind(plugin.clone()),
            // Names hold no @, so what begins like this has this name.
            false => {
                let from = format!("{plugin}@");
                let below = format!("{plugin}A");
                query
                    .push(" AND plugin >= ")
                    .push_bind(from)
                    .push(" AND plugin < ")
                    .push_bind(below)
            }
        };
    }
    for label in &filter.labels {
        query.push(" AND id IN (SELECT task FROM task_labels WHERE label = ");
        query.push_bind(label.clone()).push(")");
    }
    if let Some(before) = filter.before {
        query.push(" AND id < ").push_bind(before);
    }
    query
        .push(" ORDER BY id DESC LIMIT ")
        .push_bind(i64::from(limit));
    query
}

fn summary(row: &SqliteRow) -> Result<TaskSummary, StoreError> {
    let failed = |source| StoreError::sql("listing tasks", source);
    let corrupt = |column, reason: String| StoreError::Corrupt {
        attempt: "listing tasks".to_owned(),
        column,
        reason,
    };
    let state: &str = row.try_get(2).map_err(failed)?;
    let labels: &str = row.try_get(3).map_err(failed)?;
    let progress: Option<&str> = row.try_get(4).map_err(failed)?;
    let progress = progress.map(serde_json::from_str).transpose();
    Ok(TaskSummary {
        id: row.try_get(0).map_err(failed)?,
        plugin: row.try_get(1).map_err(failed)?,
        state: TaskState::parse(state).ok_or_else(|| corrupt("state", state.to_owned()))?,
        labels: serde_json::from_str(labels).map_err(|e| corrupt("labels", e.to_string()))?,
        progress: progress.map_err(|e| corrupt("progress", e.to_string()))?,
        created_at: row.try_get(5).map_err(failed)?,
        finished_at: row.try_get(6).map_err(failed)?,
    })
}

struct DeleteTask {
    id: i64,
}

impl Write for DeleteTask {
    /// The keys of its files in the file store.
    type Answer = Option<Vec<String>>;

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<Self::Answer, StoreError> {
        let failed = |source| StoreError::sql(format!("deleting task {}", self.id), source);
        let keys = sqlx::query_scalar("SELECT key FROM files WHERE task = ?1")
            .bind(self.id)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        let deleted = sqlx::query("DELETE FROM tasks WHERE id = ?1")
            .bind(self.id)
            .execute(connection)
            .await
            .map_err(failed)?;
        Ok((deleted.rows_affected() > 0).then_some(keys))
    }
}
