//! Lists of tasks, and their end.

use runner_core::task::{Progress, TaskState};

use crate::sql::{Arg, Ask, Connection, Row, Statement, args, first_column};
use crate::writer::Write;
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
        let (statement, args) = query(filter, limit);
        let rows = reader.rows(&statement, &args).await;
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

/// The statement for a filter, and its arguments.
fn query(filter: &TaskFilter, limit: u32) -> (Statement, Vec<Arg<'_>>) {
    let mut sql = "SELECT id, plugin, state, labels, progress, created_at, finished_at FROM tasks \
                   WHERE true"
        .to_owned();
    let mut args: Vec<Arg<'_>> = Vec::new();
    let mut placeholder = |argument: Arg<'static>| {
        args.push(argument);
        format!("?{}", args.len())
    };
    if !filter.states.is_empty() {
        let states = filter.states.iter();
        let states: Vec<_> = states
            .map(|state| placeholder(state.as_str().into()))
            .collect();
        sql.push_str(&format!(" AND state IN ({})", states.join(", ")));
    }
    if let Some(plugin) = &filter.plugin {
        match plugin.contains('@') {
            true => {
                let plugin = placeholder(plugin.clone().into());
                sql.push_str(&format!(" AND plugin = {plugin}"));
            }
            // Names hold no @, so what begins like this has this name.
            false => {
                let from = placeholder(format!("{plugin}@").into());
                let below = placeholder(format!("{plugin}A").into());
                sql.push_str(&format!(" AND plugin >= {from} AND plugin < {below}"));
            }
        };
    }
    for label in &filter.labels {
        let label = placeholder(label.clone().into());
        sql.push_str(&format!(
            " AND id IN (SELECT task FROM task_labels WHERE label = {label})"
        ));
    }
    if let Some(before) = filter.before {
        sql.push_str(&format!(" AND id < {}", placeholder(before.into())));
    }
    let limit = placeholder(limit.into());
    sql.push_str(&format!(" ORDER BY id DESC LIMIT {limit}"));
    (Statement::once(sql), args)
}

fn summary(row: &Row) -> Result<TaskSummary, StoreError> {
    let failed = |source| StoreError::sql("listing tasks", source);
    let corrupt = |column, reason: String| StoreError::Corrupt {
        attempt: "listing tasks".to_owned(),
        column,
        reason,
    };
    let state: String = row.get(2).map_err(failed)?;
    let labels: String = row.get(3).map_err(failed)?;
    let progress: Option<String> = row.get(4).map_err(failed)?;
    let progress = progress.map(|text| serde_json::from_str(&text)).transpose();
    Ok(TaskSummary {
        id: row.get(0).map_err(failed)?,
        plugin: row.get(1).map_err(failed)?,
        state: TaskState::parse(&state).ok_or_else(|| corrupt("state", state))?,
        labels: serde_json::from_str(&labels).map_err(|e| corrupt("labels", e.to_string()))?,
        progress: progress.map_err(|e| corrupt("progress", e.to_string()))?,
        created_at: row.get(5).map_err(failed)?,
        finished_at: row.get(6).map_err(failed)?,
    })
}

struct DeleteTask {
    id: i64,
}

impl Write for DeleteTask {
    /// The keys of its files in the file store.
    type Answer = Option<Vec<String>>;

    async fn apply(
        &self,
        connection: &mut Connection,
        _is_again: bool,
    ) -> Result<Self::Answer, StoreError> {
        let id = self.id;
        let failed = |source| StoreError::sql(format!("deleting task {id}"), source);
        let keys = connection.rows(&KEYS, args![id]).await;
        let keys = keys.and_then(|rows| first_column(&rows)).map_err(failed)?;
        let deleted = connection.execute(&DELETE, args![id]).await;
        Ok((deleted.map_err(failed)?.hit > 0).then_some(keys))
    }
}

static KEYS: Statement = Statement::new(
    "SELECT file_key FROM files WHERE task = ?1 AND url IS NULL AND content IS NULL",
);
static DELETE: Statement = Statement::new("DELETE FROM tasks WHERE id = ?1");
