//! Tasks whose worker or job is gone: what a start and a sweep do with them.
//!
//! Whoever queues a task again gives it a new run, compared and set: of two who try, one does. What was changed so is
//! found again by the number of the write, also when the answer to a commit was lost.

use std::collections::BTreeMap;
use std::time::Duration;

use runner_core::job::{Job, Offer};
use runner_core::task::{Change, LogWriter, Task, TaskState};
use serde_json::json;

use crate::deliveries::milliseconds;
use crate::runs::{Events, PreparedPage, token};
use crate::sql::{Ask, Connection, Row, Statement, args, json_rows};
use crate::tasks::{READ_TO_CHANGE, TaskRow, priority_of, task_row};
use crate::writer::Write;
use crate::{Store, StoreError};

/// The most tasks that one sweep looks at, and that get new runs at once.
const SWEEP: i64 = 1_000;

/// What is to be done after a start or a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// What is to be queued, in the order of tasks.
    pub jobs: Vec<Offer>,
    /// Tasks that were lost too often, and have failed.
    pub failed: Vec<i64>,
    /// Whether a sweep left some for the next, which is to follow at once.
    pub has_more: bool,
}

impl Store {
    /// Gives all queued and running tasks of this queue a new run, as [`Change::Lost`] does, and fails those that were
    /// lost more than `max_attempts` times. Only to be called while no worker of the queue is alive.
    ///
    /// # Errors
    /// Why nothing was done.
    pub async fn recover(&self, max_attempts: i64) -> Result<Recovered, StoreError> {
        self.writer()
            .write(Recover {
                queue: self.queue().to_owned(),
                process: self.process().to_owned(),
                max_attempts,
                token: token(),
            })
            .await
    }

    /// Does the same for tasks of this queue whose worker is gone: its last beat is older than the lease, or it has
    /// left, or nobody knows it; and gives a new run to those that were queued by a process that died, since nobody
    /// knows whether the queue was told. Any number of processes may do it at the same time.
    ///
    /// # Errors
    /// Why nothing was done.
    pub async fn sweep(&self, lease: Duration, max_attempts: i64) -> Result<Recovered, StoreError> {
        self.writer()
            .write(Sweep {
                queue: self.queue().to_owned(),
                process: self.process().to_owned(),
                lease_ms: milliseconds(lease),
                max_attempts,
                token: token(),
            })
            .await
    }

    /// Gives a new run to queued tasks of this queue that have been queued for so long, in the order of their numbers
    /// beyond `after`, at most `limit` and 1,000: the queue has lost their jobs. With no answer there are no more.
    ///
    /// # Errors
    /// Why nothing was done.
    pub async fn requeue_queued(
        &self,
        older_than: Duration,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Offer>, StoreError> {
        self.writer()
            .write(Requeue {
                queue: self.queue().to_owned(),
                process: self.process().to_owned(),
                older_than_ms: milliseconds(older_than),
                after,
                limit,
                token: token(),
            })
            .await
    }
}

/// Fails a task that was lost too often. Answers whether it did.
pub(crate) async fn give_up(
    connection: &mut Connection,
    mut task: Task,
    why: &str,
    process: &str,
    token: i64,
) -> Result<bool, StoreError> {
    let version = task.version;
    // Neither can be refused: the task is queued or running.
    let _events = task.apply(Change::Lost);
    let events = task.apply(Change::Failed).unwrap_or_default();
    let mut log = LogWriter::new(task.log_length);
    log.entry(why);
    let mut write = PreparedPage::new(&task, version, process);
    write.events = Events::new(&events);
    write.set_log(log.finish());
    write.set_token(token);
    write.apply(connection, false).await
}

/// Why a task fails whose worker was lost too often.
fn lost_too_often(times: i64) -> String {
    format!(
        "The runner or its worker ended {times} times while this task was running. It is not tried again."
    )
}

/// Of some tasks those that are lost too often fail; answers which did.
async fn fail_all(
    connection: &mut Connection,
    ids: Vec<i64>,
    is_due: impl Fn(&Task) -> bool,
    process: &str,
    token: i64,
) -> Result<Vec<i64>, StoreError> {
    let mut failed = Vec::new();
    for id in ids {
        let Some(TaskRow { task, .. }) = task_row(connection, id, &READ_TO_CHANGE).await? else {
            continue;
        };
        if is_due(&task) {
            let why = lost_too_often(task.attempts + 1);
            if give_up(connection, task, &why, process, token).await? {
                failed.push(id);
            }
        }
    }
    Ok(failed)
}

/// The jobs among these tasks that a write has queued, in their order.
async fn jobs_of(
    connection: &mut Connection,
    token: i64,
    ids: &str,
) -> Result<Vec<Offer>, StoreError> {
    let rows = connection.rows(&JOBS_OF, args![token, ids]).await;
    jobs(rows)
}

static JOBS_OF: Statement = Statement::new(
    "SELECT id, run, priority, submitter, run_at FROM tasks \
     WHERE id IN (SELECT id FROM {ids ?2} j) AND last_write = ?1 AND state = 'queued' ORDER BY id",
);

fn jobs(rows: Result<Vec<Row>, sqlx::Error>) -> Result<Vec<Offer>, StoreError> {
    let job = |row: &Row| {
        Ok(Offer {
            job: Job {
                task: row.get(0)?,
                run: row.get(1)?,
            },
            priority: priority_of(row.get(2)?),
            submitter: row.get(3)?,
            not_before: row.get(4)?,
        })
    };
    rows.and_then(|rows| rows.iter().map(job).collect())
        .map_err(|source| StoreError::sql("reading the tasks that are queued again", source))
}

struct Recover {
    queue: String,
    process: String,
    max_attempts: i64,
    token: i64,
}

static LOST_TOO_OFTEN: Statement = Statement::new(
    "SELECT id FROM tasks WHERE state IN ('queued', 'running') AND queue = ?1 \
     AND attempts + CASE state WHEN 'running' THEN 1 ELSE 0 END > ?2 ORDER BY id",
);

static DISPATCH_ALL: Statement = Statement::new(
    "UPDATE tasks SET attempts = attempts + CASE state WHEN 'running' THEN 1 ELSE 0 END, run = run + 1, \
     state = 'queued', holder = NULL, origin = ?2, queued_at = {now}, version = version + 1, last_write = ?3 \
     WHERE state IN ('queued', 'running') AND queue = ?1",
);

static ALL_JOBS_OF: Statement = Statement::new(
    "SELECT id, run, priority, submitter, run_at FROM tasks \
     WHERE state = 'queued' AND last_write = ?1 ORDER BY id",
);

impl Write for Recover {
    type Answer = Recovered;

    async fn apply(
        &self,
        connection: &mut Connection,
        _is_again: bool,
    ) -> Result<Recovered, StoreError> {
        let failed_with =
            |source| StoreError::sql("queueing the tasks of the last start again", source);
        let rows = connection
            .rows(&LOST_TOO_OFTEN, args![&self.queue, self.max_attempts])
            .await;
        let ids = rows.and_then(|rows| crate::sql::first_column(&rows));
        let ids = ids.map_err(failed_with)?;
        let failed = fail_all(connection, ids, |_| true, &self.process, self.token).await?;
        let args = args![&self.queue, &self.process, self.token];
        let done = connection.execute(&DISPATCH_ALL, args).await;
        done.map_err(failed_with)?;
        let rows = connection.rows(&ALL_JOBS_OF, args![self.token]).await;
        Ok(Recovered {
            jobs: jobs(rows)?,
            failed,
            has_more: false,
        })
    }
}

struct Sweep {
    queue: String,
    process: String,
    lease_ms: i64,
    max_attempts: i64,
    token: i64,
}

static LOST_RUNS: Statement = Statement::new(
    "SELECT id, run, attempts FROM tasks WHERE state = 'running' AND queue = ?1 AND NOT EXISTS \
     (SELECT 1 FROM workers w WHERE w.id = tasks.holder AND w.stopped_at IS NULL AND w.beat_at >= {now} - ?2) \
     ORDER BY id LIMIT ?3",
);

// After two leases: a job that a worker had is given out again by the queue after one, and then it is known that a run
// was lost, which counts as an attempt.
static LOST_JOBS: Statement = Statement::new(
    "SELECT id, run, attempts FROM tasks WHERE state = 'queued' AND queue = ?1 AND origin <> ?4 AND NOT EXISTS \
     (SELECT 1 FROM workers w WHERE w.id = tasks.origin \
     AND (w.stopped_at IS NOT NULL OR w.beat_at >= {now} - 2 * ?2)) \
     ORDER BY id LIMIT ?3",
);

/// A task that is to get a new run.
struct Candidate {
    id: i64,
    run: i64,
    attempts: i64,
}

fn candidates(rows: Result<Vec<Row>, sqlx::Error>) -> Result<Vec<Candidate>, StoreError> {
    let candidate = |row: &Row| {
        Ok(Candidate {
            id: row.get(0)?,
            run: row.get(1)?,
            attempts: row.get(2)?,
        })
    };
    rows.and_then(|rows| rows.iter().map(candidate).collect())
        .map_err(|source| StoreError::sql("reading the tasks that were lost", source))
}

/// Gives new runs to tasks in this state, unless others were faster. Answers the jobs.
async fn dispatch(
    connection: &mut Connection,
    found: &[Candidate],
    state: TaskState,
    process: &str,
    token: i64,
) -> Result<Vec<Offer>, StoreError> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let attempts = i64::from(state == TaskState::Running);
    let args = args![process, token, attempts, state.as_str()];
    let done = connection.execute(&new_runs(found), args).await;
    done.map_err(|source| StoreError::sql("queueing tasks again", source))?;
    let ids = json_rows(found.iter().map(|task| json!(task.id)).collect());
    jobs_of(connection, token, &ids).await
}

/// New runs, compared and set. The numbers stand in the text, since the three have no common way to update by a list
/// of pairs.
fn new_runs(found: &[Candidate]) -> Statement {
    let mut by_run = BTreeMap::<i64, Vec<String>>::new();
    for task in found {
        by_run
            .entry(task.run)
            .or_default()
            .push(task.id.to_string());
    }
    let those: Vec<_> = by_run
        .iter()
        .map(|(run, ids)| format!("run = {run} AND id IN ({})", ids.join(", ")))
        .collect();
    Statement::once(format!(
        "UPDATE tasks SET attempts = attempts + ?3, run = run + 1, state = 'queued', holder = NULL, \
         origin = ?1, queued_at = {{now}}, version = version + 1, last_write = ?2 \
         WHERE state = ?4 AND ({})",
        those.join(" OR ")
    ))
}

impl Write for Sweep {
    type Answer = Recovered;

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<Recovered, StoreError> {
        let mut swept = Recovered::default();
        if is_again {
            let rows = connection.rows(&ALL_JOBS_OF, args![self.token]).await;
            swept.jobs = jobs(rows)?;
            if !swept.jobs.is_empty() {
                swept.has_more = true;
                return Ok(swept);
            }
        }
        let args = args![&self.queue, self.lease_ms, SWEEP];
        let running = candidates(connection.rows(&LOST_RUNS, args).await)?;
        let args = args![&self.queue, self.lease_ms, SWEEP, &self.process];
        let queued = candidates(connection.rows(&LOST_JOBS, args).await)?;
        swept.has_more = [&running, &queued]
            .iter()
            .any(|found| i64::try_from(found.len()).is_ok_and(|count| count >= SWEEP));
        let (spent, again): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|task| task.attempts + 1 > self.max_attempts);
        for task in spent {
            let is_same = |read: &Task| read.run == task.run && read.state == TaskState::Running;
            let ids = vec![task.id];
            let failed = fail_all(connection, ids, is_same, &self.process, self.token).await?;
            swept.failed.extend(failed);
        }
        swept.jobs = dispatch(
            connection,
            &again,
            TaskState::Running,
            &self.process,
            self.token,
        )
        .await?;
        swept.jobs.extend(
            dispatch(
                connection,
                &queued,
                TaskState::Queued,
                &self.process,
                self.token,
            )
            .await?,
        );
        swept.jobs.sort_by_key(|offer| offer.job.task);
        Ok(swept)
    }
}

struct Requeue {
    queue: String,
    process: String,
    older_than_ms: i64,
    after: i64,
    limit: u32,
    token: i64,
}

static QUEUED: Statement = Statement::new(
    "SELECT id, run, attempts FROM tasks WHERE state = 'queued' AND queue = ?1 AND id > ?2 \
     AND queued_at <= {now} - ?3 ORDER BY id LIMIT ?4",
);

impl Write for Requeue {
    type Answer = Vec<Offer>;

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<Vec<Offer>, StoreError> {
        if is_again {
            // They are queued since a moment ago, and would not be found again.
            let rows = connection.rows(&ALL_JOBS_OF, args![self.token]).await;
            let before = jobs(rows)?;
            if !before.is_empty() {
                return Ok(before);
            }
        }
        let limit = i64::from(self.limit).min(SWEEP);
        let args = args![&self.queue, self.after, self.older_than_ms, limit];
        let found = candidates(connection.rows(&QUEUED, args).await)?;
        dispatch(
            connection,
            &found,
            TaskState::Queued,
            &self.process,
            self.token,
        )
        .await
    }
}
