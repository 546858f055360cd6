//! Pipelines that run, or did, as tasks: what is seen of them, and what is wanted of them.

use runner_core::pipeline::{TooManyTaps, Want, Wanted};
use serde_json::Value;

use crate::recent::Recent;
use crate::sql::{Ask, Connection, Statement, args};
use crate::tasks::to_json;
use crate::writer::Write;
use crate::{Store, StoreError, now_ms};

/// What is known of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineRow {
    /// The run of the task whose numbers these are.
    pub run: i64,
    /// Counts changes of the numbers.
    pub version: i64,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// Its nodes and edges; absent until it has begun.
    pub graph: Option<Value>,
    /// What they have done.
    pub seen: Option<Value>,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wished {
    /// It stands in SQL, and whoever runs the pipeline follows it.
    Yes(Wanted),
    /// It is beyond a limit.
    Refused(TooManyTaps),
    /// There is no such task.
    Unknown,
}

impl Store {
    /// What is known of the pipeline of a task. `None`: it was never seen, and nothing was wanted of it.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn pipeline(&self, task: i64) -> Result<Option<PipelineRow>, StoreError> {
        let attempt = "reading a pipeline";
        let failed = |source| StoreError::sql(attempt, source);
        let row = self.reader(attempt).await?.row(&READ, args![task]).await;
        let Some(row) = row.map_err(failed)? else {
            return Ok(None);
        };
        let json = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Some(PipelineRow {
            run: row.get(0).map_err(failed)?,
            version: row.get(1).map_err(failed)?,
            wanted: wanted(&row.get::<String>(2).map_err(failed)?),
            graph: json(row.get(3).map_err(failed)?),
            seen: json(row.get(4).map_err(failed)?),
        }))
    }

    /// Writes what is seen of a run; the graph where it was not written yet. Answers whether it is the current one of
    /// its task: where not, nothing was written.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn write_pipeline(
        &self,
        task: i64,
        run: i64,
        graph: Option<&Value>,
        seen: &Value,
    ) -> Result<bool, StoreError> {
        let graph = graph.map(ToString::to_string);
        let seen = seen.to_string();
        let write = WriteSeen {
            task,
            run,
            graph,
            seen,
        };
        self.writer().write(write).await
    }

    /// Writes what is wanted of a pipeline.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn want_pipeline(&self, task: i64, want: Want) -> Result<Wished, StoreError> {
        self.writer().write(WriteWant { task, want }).await
    }
}

/// What a newer runner wrote and is not understood here is not wanted.
fn wanted(text: &str) -> Wanted {
    serde_json::from_str(text).unwrap_or_default()
}

struct WriteSeen {
    task: i64,
    run: i64,
    graph: Option<String>,
    seen: String,
}

impl Write for WriteSeen {
    type Answer = bool;

    async fn apply(&self, connection: &mut Connection, _: bool) -> Result<bool, StoreError> {
        let args = args![self.task, self.run, &self.graph, &self.seen];
        let done = connection.execute(&SEEN, args).await;
        let done =
            done.map_err(|source| StoreError::sql("writing what is seen of a pipeline", source))?;
        Ok(done.hit > 0)
    }

    fn remember(&self, _: &bool, _: &Recent) {}
}

struct WriteWant {
    task: i64,
    want: Want,
}

impl Write for WriteWant {
    type Answer = Wished;

    // Once more is once: all of it says how something is to be.
    async fn apply(&self, connection: &mut Connection, _: bool) -> Result<Wished, StoreError> {
        let failed = |source| StoreError::sql("writing what is wanted of a pipeline", source);
        let made = connection.execute(&MAKE, args![self.task]).await;
        made.map_err(failed)?;
        let row = connection.row(&CHANGE, args![self.task]).await;
        let Some(row) = row.map_err(failed)? else {
            return Ok(Wished::Unknown);
        };
        let run: i64 = row.get(0).map_err(failed)?;
        let mut wanted = wanted(&row.get::<String>(1).map_err(failed)?);
        if let Err(refused) = wanted.apply(&self.want, run, now_ms()) {
            return Ok(Wished::Refused(refused));
        }
        let text = to_json(&wanted);
        let written = connection.execute(&WANT, args![self.task, text]).await;
        written.map_err(failed)?;
        Ok(Wished::Yes(wanted))
    }

    fn remember(&self, _: &Wished, _: &Recent) {}
}

static READ: Statement =
    Statement::new("SELECT run, version, wanted, graph, seen FROM pipelines WHERE task = ?1")
        .lookup();

static SEEN: Statement = Statement::new(
    "INSERT INTO pipelines (task, run, version, wanted, graph, seen) \
     SELECT id, run, 1, '{}', ?3, ?4 FROM tasks WHERE id = ?1 AND run = ?2 \
     ON CONFLICT (task) DO UPDATE SET run = excluded.run, version = pipelines.version + 1, \
     graph = coalesce(excluded.graph, pipelines.graph), seen = excluded.seen",
)
.mysql(
    "INSERT INTO pipelines (task, run, version, wanted, graph, seen) \
     SELECT id, run, 1, '{}', ?3, ?4 FROM tasks WHERE id = ?1 AND run = ?2 \
     ON DUPLICATE KEY UPDATE run = VALUES(run), version = pipelines.version + 1, \
     graph = coalesce(VALUES(graph), pipelines.graph), seen = VALUES(seen)",
);

static MAKE: Statement = Statement::new(
    "INSERT INTO pipelines (task, run, version, wanted) \
     SELECT id, run, 0, '{}' FROM tasks WHERE id = ?1 ON CONFLICT (task) DO NOTHING",
)
.mysql(
    "INSERT IGNORE INTO pipelines (task, run, version, wanted) \
     SELECT id, run, 0, '{}' FROM tasks WHERE id = ?1",
);

static CHANGE: Statement = Statement::new(
    "SELECT t.run, p.wanted FROM pipelines p JOIN tasks t ON t.id = p.task WHERE p.task = ?1 {for update}",
);

static WANT: Statement = Statement::new("UPDATE pipelines SET wanted = ?2 WHERE task = ?1");
