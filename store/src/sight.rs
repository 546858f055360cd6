//! What is to be seen of an installation from outside: how much there is to do, what runs where, and whether SQL and
//! the file store can be used. Nothing here reads more rows than a limit, however many tasks there are.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::deliveries::{NEVER, milliseconds};
use crate::recent::Recent;
use crate::sql::{Ask, Connection, Dialect, Row, Statement, args};
use crate::writer::Write;
use crate::{Store, StoreError, WorkerKind};

/// Beyond this many of a kind they are not counted.
pub const MOST_COUNTED: u32 = 10_000;
/// The most runs that are listed.
const MOST_RUNNING: u32 = 10_000;

/// How much there is, in all queues. A number that is [`MOST_COUNTED`] stands for any above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Tasks that are queued.
    pub queued: i64,
    /// Tasks that are running, and for longer than a moment.
    pub running: i64,
    /// Tasks that wait for a step.
    pub waiting: i64,
    /// Deliveries that did not arrive yet.
    pub deliveries: i64,
    /// Deliveries that were given up.
    pub given_up: i64,
    /// Processes that serve and do not work.
    pub servers: i64,
    /// Processes that work and do not serve.
    pub workers: i64,
    /// Processes that do both.
    pub both: i64,
    /// Processes that went silent in the last hour, and did not say that they would.
    pub silent: i64,
}

/// A task that is running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningTask {
    /// Its number.
    pub id: i64,
    /// The number of its run.
    pub run: i64,
    /// Identifier of its plugin.
    pub plugin: String,
    /// The process that runs it.
    pub holder: String,
}

impl Store {
    /// Counts what there is. `lease`: how long a process may be silent.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn counts(&self, lease: Duration) -> Result<Counts, StoreError> {
        let attempt = "counting what there is";
        let failed = |source| StoreError::sql(attempt, source);
        let args = args![MOST_COUNTED, NEVER, milliseconds(lease)];
        let row = self.reader(attempt).await?.row(&COUNTS, args).await;
        let Some(row) = row.map_err(failed)? else {
            return Ok(Counts::default());
        };
        let count = |at| row.get::<i64>(at).map_err(failed);
        Ok(Counts {
            queued: count(0)?,
            running: count(1)?,
            waiting: count(2)?,
            deliveries: count(3)?,
            given_up: count(4)?,
            servers: count(5)?,
            workers: count(6)?,
            both: count(7)?,
            silent: count(8)?,
        })
    }

    /// The tasks that are running, by their number, at most ten thousand. One that is done in a moment never is.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn running(&self) -> Result<Vec<RunningTask>, StoreError> {
        let attempt = "listing what runs";
        let failed = |source| StoreError::sql(attempt, source);
        let rows = self
            .reader(attempt)
            .await?
            .rows(&RUNNING, args![MOST_RUNNING])
            .await;
        let task = |row: &Row| {
            Ok(RunningTask {
                id: row.get(0)?,
                run: row.get(1)?,
                plugin: row.get(2)?,
                holder: row.get(3)?,
            })
        };
        let tasks = rows.and_then(|rows| rows.iter().map(task).collect());
        tasks.map_err(failed)
    }

    /// How many tasks are queued for each plugin that has any. Of those beyond [`MOST_COUNTED`] nothing is known.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn queued_by_plugin(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let attempt = "counting tasks by their plugins";
        let failed = |source| StoreError::sql(attempt, source);
        let mut reader = self.reader(attempt).await?;
        let rows = reader.rows(&QUEUED, args![MOST_COUNTED]).await;
        let count = |row: &Row| {
            let count: i64 = row.get(1)?;
            Ok((row.get(0)?, count.unsigned_abs()))
        };
        rows.and_then(|rows| rows.iter().map(count).collect())
            .map_err(failed)
    }

    /// Writes something that changes nothing, as every other write is done: so it waits for those before it, and for
    /// a server that is away.
    ///
    /// # Errors
    /// Why nothing can be written.
    pub async fn check_sql(&self) -> Result<(), StoreError> {
        self.writer().write(Touch).await
    }

    /// Looks whether the file store is the one that it was at the start, and takes files. Blocks for as long as the
    /// disk takes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn probe_files(&self) -> Result<(), StoreError> {
        self.check_marker()?;
        // Dropped, it leaves nothing.
        self.files().create()?.append(b"x")
    }
}

// Each count is of an index, and ends at its limit.
static COUNTS: Statement = Statement::new(
    "SELECT (SELECT count(*) FROM (SELECT id FROM tasks WHERE state = 'queued' LIMIT ?1) a), \
     (SELECT count(*) FROM (SELECT id FROM tasks WHERE state = 'running' LIMIT ?1) b), \
     (SELECT count(*) FROM (SELECT id FROM tasks WHERE state = 'waiting' LIMIT ?1) c), \
     (SELECT count(*) FROM (SELECT id FROM deliveries WHERE due_at < ?2 LIMIT ?1) d), \
     (SELECT count(*) FROM (SELECT id FROM deliveries WHERE due_at = ?2 LIMIT ?1) e), \
     (SELECT count(*) FROM workers WHERE kind = 'server' AND stopped_at IS NULL AND beat_at > {now} - ?3), \
     (SELECT count(*) FROM workers WHERE kind = 'worker' AND stopped_at IS NULL AND beat_at > {now} - ?3), \
     (SELECT count(*) FROM workers WHERE kind = 'both' AND stopped_at IS NULL AND beat_at > {now} - ?3), \
     (SELECT count(*) FROM workers WHERE stopped_at IS NULL AND beat_at <= {now} - ?3 \
     AND beat_at > {now} - 3600000)",
);

static QUEUED: Statement = Statement::new(
    "SELECT plugin, count(*) FROM (SELECT plugin FROM tasks WHERE state = 'queued' LIMIT ?1) a GROUP BY plugin",
);

static RUNNING: Statement = Statement::new(
    "SELECT id, run, plugin, holder FROM tasks WHERE state = 'running' AND holder IS NOT NULL \
     ORDER BY id LIMIT ?1",
);

impl Counts {
    /// The processes of a kind that live.
    pub fn living(&self, kind: WorkerKind) -> i64 {
        match kind {
            WorkerKind::Server => self.servers,
            WorkerKind::Worker => self.workers,
            WorkerKind::Both => self.both,
        }
    }
}

/// A write that leaves everything as it was. The row is there since the file store was looked at.
struct Touch;

static TOUCH: Statement = Statement::new("UPDATE file_stores SET path = path WHERE name = 'files'");

impl Write for Touch {
    type Answer = ();

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    fn is_one_statement(&self, _dialect: Dialect) -> bool {
        true
    }

    async fn apply(&self, connection: &mut Connection, _is_again: bool) -> Result<(), StoreError> {
        let done = connection.execute(&TOUCH, args![]).await;
        done.map(drop)
            .map_err(|source| StoreError::sql("trying whether SQL can be written", source))
    }
}
