//! The processes that take or make tasks, and what they know of the queue. All times are the database's.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::deliveries::milliseconds;
use crate::recent::Recent;
use crate::sql::{Ask, Connection, Dialect, Row, Statement, args, first_column, json_rows};
use crate::tasks::to_json;
use crate::writer::Write;
use crate::{Store, StoreError};

/// Rows of processes that were not heard of for so long are removed.
const FORGET_AFTER_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerKind {
    /// It makes tasks.
    Server,
    /// It takes tasks.
    Worker,
    /// Both.
    Both,
}

impl WorkerKind {
    /// The word in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Worker => "worker",
            Self::Both => "both",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Server, Self::Worker, Self::Both]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// What a process tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRow {
    /// What it does.
    pub kind: WorkerKind,
    /// The machine that it runs on.
    pub host: String,
    /// Its number on that machine.
    pub pid: u32,
    /// Tasks that it runs at the same time.
    pub concurrency: u32,
    /// Identifiers of the plugins that it can run.
    pub plugins: Vec<String>,
    /// The digest of the module of each of them, by its identifier.
    pub digests: BTreeMap<String, String>,
    /// The generation of what is wanted of modules up to which it followed.
    pub generation: i64,
    /// Why it has not what it should have, by the names of modules.
    pub failing: BTreeMap<String, String>,
}

/// A process that joined.
#[derive(Debug, Clone)]
pub struct WorkerInfo {
    /// The process, as [`StoreConfig::process`](crate::StoreConfig::process).
    pub process: String,
    /// Its queue.
    pub queue: String,
    /// What it told of itself.
    pub row: WorkerRow,
    /// When it joined, in milliseconds since 1970.
    pub started_at: i64,
    /// When it was heard of last.
    pub beat_at: i64,
    /// How long ago that was.
    pub silent_for: Duration,
    /// When it left in peace.
    pub stopped_at: Option<i64>,
}

/// Another process that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// The process, as [`StoreConfig::process`](crate::StoreConfig::process).
    pub process: String,
    /// The machine that it runs on.
    pub host: String,
    /// Its number on that machine.
    pub pid: i64,
}

/// What a beat found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Whether the process is known. One that is not, or that was taken for dead and removed, has to join again, and its
    /// tasks may have been given to others.
    pub known: bool,
}

impl Store {
    /// Says that this process lives, and what it does. Again when something of it changed.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn join(&self, row: WorkerRow) -> Result<(), StoreError> {
        self.writer()
            .write(Join {
                plugins: to_json(&row.plugins),
                digests: to_json(&row.digests),
                failing: to_json(&row.failing),
                row,
                process: self.process().to_owned(),
                queue: self.queue().to_owned(),
            })
            .await
    }

    /// Says that this process still lives.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn beat(&self) -> Result<Beat, StoreError> {
        let process = self.process().to_owned();
        let known = self
            .writer()
            .write(Heard {
                process,
                leaves: false,
            })
            .await?;
        Ok(Beat { known })
    }

    /// Says that this process ends in peace: what it queued is known to the queue, and it runs nothing any more.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn leave(&self) -> Result<(), StoreError> {
        let process = self.process().to_owned();
        let left = self
            .writer()
            .write(Heard {
                process,
                leaves: true,
            })
            .await;
        left.map(drop)
    }

    /// The processes that joined, of all queues, in the order in which they did.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, StoreError> {
        let attempt = "listing the workers";
        let rows = self.reader(attempt).await?.rows(&WORKERS, args![]).await;
        let rows = rows.map_err(|source| StoreError::sql(attempt, source))?;
        rows.iter().map(worker).collect()
    }

    /// The other processes of the queue that were heard of within the lease, at most a thousand.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn others(&self, lease: Duration) -> Result<Vec<Other>, StoreError> {
        let attempt = "listing the other processes";
        let args = args![self.queue(), self.process(), milliseconds(lease)];
        let rows = self.reader(attempt).await?.rows(&OTHERS, args).await;
        let other = |row: &Row| {
            Ok(Other {
                process: row.get(0)?,
                host: row.get(1)?,
                pid: row.get(2)?,
            })
        };
        let others = rows.and_then(|rows| rows.iter().map(other).collect());
        others.map_err(|source| StoreError::sql(attempt, source))
    }

    /// Remembers what the memory of the queue is called now. True for the one process that changed it: the jobs that
    /// the queue had may be lost, and it is to queue them again.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn adopt_incarnation(&self, new: &str) -> Result<bool, StoreError> {
        self.writer()
            .write(Adopt {
                queue: self.queue().to_owned(),
                process: self.process().to_owned(),
                new: new.to_owned(),
            })
            .await
    }

    /// Of some tasks with their runs those whose run is not current any more: the task has ended, was deleted, has
    /// another run, or another process holds it.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn overtaken_runs(&self, runs: &[(i64, i64)]) -> Result<Vec<i64>, StoreError> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let attempt = "reading which runs are current";
        let pairs = json_rows(runs.iter().map(|(task, run)| json!([task, run])).collect());
        let args = args![pairs, self.process()];
        let rows = self.reader(attempt).await?.rows(&NOT_CURRENT, args).await;
        rows.and_then(|rows| first_column(&rows))
            .map_err(|source| StoreError::sql(attempt, source))
    }

    /// The first thousand tasks that stand as run by this process, with their runs.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn held_runs(&self) -> Result<Vec<(i64, i64)>, StoreError> {
        let attempt = "reading which tasks are run here";
        let failed = |source| StoreError::sql(attempt, source);
        let mut reader = self.reader(attempt).await?;
        let rows = reader.rows(&HELD, args![self.process()]).await;
        let pair = |row: &Row| Ok((row.get(0)?, row.get(1)?));
        let pairs: Result<_, sqlx::Error> = rows.map_err(failed)?.iter().map(pair).collect();
        pairs.map_err(failed)
    }
}

fn worker(row: &Row) -> Result<WorkerInfo, StoreError> {
    let failed = |source| StoreError::sql("listing the workers", source);
    let corrupt = |column, reason| StoreError::Corrupt {
        attempt: "listing the workers".to_owned(),
        column,
        reason,
    };
    let kind: String = row.get(1).map_err(failed)?;
    let plugins: String = row.get(9).map_err(failed)?;
    let unsigned = |at| {
        let number = row.get::<i64>(at).map_err(failed)?;
        Ok::<_, StoreError>(u32::try_from(number).unwrap_or(u32::MAX))
    };
    let digests: Option<String> = row.get(11).map_err(failed)?;
    let failing: Option<String> = row.get(13).map_err(failed)?;
    let silent_ms: i64 = row.get(10).map_err(failed)?;
    Ok(WorkerInfo {
        process: row.get(0).map_err(failed)?,
        queue: row.get(2).map_err(failed)?,
        row: WorkerRow {
            kind: WorkerKind::parse(&kind).ok_or_else(|| corrupt("kind", kind))?,
            host: row.get(3).map_err(failed)?,
            pid: unsigned(4)?,
            concurrency: unsigned(5)?,
            plugins: serde_json::from_str(&plugins)
                .map_err(|error| corrupt("plugins", error.to_string()))?,
            digests: serde_json::from_str(digests.as_deref().unwrap_or("{}"))
                .map_err(|error| corrupt("digests", error.to_string()))?,
            generation: row
                .get::<Option<i64>>(12)
                .map_err(failed)?
                .unwrap_or_default(),
            failing: serde_json::from_str(failing.as_deref().unwrap_or("{}"))
                .map_err(|error| corrupt("failing", error.to_string()))?,
        },
        started_at: row.get(6).map_err(failed)?,
        beat_at: row.get(7).map_err(failed)?,
        silent_for: Duration::from_millis(silent_ms.max(0).cast_unsigned()),
        stopped_at: row.get(8).map_err(failed)?,
    })
}

static WORKERS: Statement = Statement::new(
    "SELECT id, kind, queue, host, pid, concurrency, started_at, beat_at, stopped_at, plugins, {now} - beat_at, digests, \
     generation, failing FROM workers ORDER BY started_at, id",
);

static OTHERS: Statement = Statement::new(
    "SELECT id, host, pid FROM workers WHERE queue = ?1 AND id <> ?2 AND stopped_at IS NULL \
     AND beat_at > {now} - ?3 ORDER BY started_at, id LIMIT 1000",
);

static NOT_CURRENT: Statement = Statement::new(
    "SELECT j.id FROM {pairs ?1} j LEFT JOIN tasks t ON t.id = j.id \
     WHERE t.id IS NULL OR t.run <> j.run OR t.state NOT IN ('queued', 'running') \
     OR (t.holder IS NOT NULL AND t.holder <> ?2) ORDER BY j.id",
);

static HELD: Statement = Statement::new(
    "SELECT id, run FROM tasks WHERE state = 'running' AND holder = ?1 ORDER BY id LIMIT 1000",
);

struct Join {
    row: WorkerRow,
    plugins: String,
    digests: String,
    failing: String,
    process: String,
    queue: String,
}

static JOIN: Statement = Statement::new(
    "INSERT INTO workers (id, kind, queue, host, pid, concurrency, plugins, digests, generation, failing, started_at, \
     beat_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, {now}, {now}) \
     ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, queue = excluded.queue, host = excluded.host, \
     pid = excluded.pid, concurrency = excluded.concurrency, plugins = excluded.plugins, \
     digests = excluded.digests, generation = excluded.generation, failing = excluded.failing, beat_at = excluded.beat_at, stopped_at = NULL",
)
.mysql(
    "INSERT INTO workers (id, kind, queue, host, pid, concurrency, plugins, digests, generation, failing, started_at, \
     beat_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, {now}, {now}) \
     ON DUPLICATE KEY UPDATE kind = ?2, queue = ?3, host = ?4, pid = ?5, concurrency = ?6, plugins = ?7, digests = ?8, \
     generation = ?9, failing = ?10, beat_at = {now}, stopped_at = NULL",
);

static FORGET: Statement = Statement::new("DELETE FROM workers WHERE beat_at < {now} - ?1");

impl Write for Join {
    type Answer = ();

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    async fn apply(&self, connection: &mut Connection, _is_again: bool) -> Result<(), StoreError> {
        let failed = |source| StoreError::sql("joining the workers", source);
        let row = &self.row;
        let args = args![
            &self.process,
            row.kind.as_str(),
            &self.queue,
            &row.host,
            row.pid,
            row.concurrency,
            &self.plugins,
            &self.digests,
            row.generation,
            &self.failing,
        ];
        connection.execute(&JOIN, args).await.map_err(failed)?;
        let forgotten = connection.execute(&FORGET, args![FORGET_AFTER_MS]).await;
        forgotten.map(drop).map_err(failed)
    }
}

struct Heard {
    process: String,
    leaves: bool,
}

static BEAT: Statement =
    Statement::new("UPDATE workers SET beat_at = {now} WHERE id = ?1 AND stopped_at IS NULL");

static LEAVE: Statement =
    Statement::new("UPDATE workers SET beat_at = {now}, stopped_at = {now} WHERE id = ?1");

impl Write for Heard {
    type Answer = bool;

    fn is_one_statement(&self, _dialect: Dialect) -> bool {
        true
    }

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    async fn apply(
        &self,
        connection: &mut Connection,
        _is_again: bool,
    ) -> Result<bool, StoreError> {
        let statement = if self.leaves { &LEAVE } else { &BEAT };
        let done = connection.execute(statement, args![&self.process]).await;
        done.map(|done| done.hit > 0)
            .map_err(|source| StoreError::sql("telling that this process lives", source))
    }
}

struct Adopt {
    queue: String,
    process: String,
    new: String,
}

static ADOPT: Statement = Statement::new(
    "INSERT INTO queues (name, incarnation, adopted_by) VALUES (?1, ?2, ?3) \
     ON CONFLICT (name) DO UPDATE SET incarnation = excluded.incarnation, adopted_by = excluded.adopted_by \
     WHERE queues.incarnation <> excluded.incarnation",
)
.mysql("UPDATE queues SET incarnation = ?2, adopted_by = ?3 WHERE name = ?1 AND incarnation <> ?2");

static FIRST_ADOPT: Statement = Statement::new(
    "INSERT INTO queues (name, incarnation, adopted_by) SELECT ?1, ?2, ?3 FROM DUAL \
     WHERE NOT EXISTS (SELECT 1 FROM (SELECT name FROM queues WHERE name = ?1) q)",
);

static ADOPTED_BY: Statement =
    Statement::new("SELECT adopted_by FROM queues WHERE name = ?1 AND incarnation = ?2");

impl Write for Adopt {
    type Answer = bool;

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    async fn apply(&self, connection: &mut Connection, is_again: bool) -> Result<bool, StoreError> {
        let failed = |source| StoreError::sql("remembering the incarnation of the queue", source);
        let args = args![&self.queue, &self.new, &self.process];
        if is_again {
            let row = connection
                .row(&ADOPTED_BY, args![&self.queue, &self.new])
                .await;
            let by = row.and_then(|row| row.map(|row| row.get::<String>(0)).transpose());
            if by.map_err(failed)?.as_ref() == Some(&self.process) {
                return Ok(true);
            }
        }
        if connection.execute(&ADOPT, args).await.map_err(failed)?.hit > 0 {
            return Ok(true);
        }
        if connection.dialect() != Dialect::Mysql {
            return Ok(false);
        }
        match connection.execute(&FIRST_ADOPT, args).await {
            Ok(done) => Ok(done.hit > 0),
            Err(source) if crate::error::trouble(&source) == crate::error::Trouble::Duplicate => {
                Ok(false)
            }
            Err(source) => Err(failed(source)),
        }
    }
}
