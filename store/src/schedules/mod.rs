//! Schedules: work that comes again.
//!
//! All times are the database's. A schedule is fired by whoever raises its version first, in the transaction that makes
//! its tasks: however many processes look at one that is due, its tasks are made once, and none is made without the
//! schedule knowing of it.

mod change;
mod declared;
mod fire;

use std::time::Duration;

use runner_core::schedule::{Kind, Missed, NewSchedule, Overlap, Rule, Schedule};
use runner_core::task::Dispatch;
use serde::de::DeserializeOwned;

use crate::sql::{Ask, Column, Row, Statement, args, first_column};
use crate::tasks::priority_of;
use crate::{Store, StoreError};

pub use change::Changed;
pub use declared::Declared;
pub use fire::{Fire, Fired};

/// Schedules that are read at a time when they are due.
const DUE: u32 = 100;

impl Store {
    /// The schedules of this queue, by their names.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn schedules(&self) -> Result<Vec<Schedule>, StoreError> {
        let attempt = "listing the schedules";
        let mut reader = self.reader(attempt).await?;
        let rows = reader.rows(&LIST, args![self.queue()]).await;
        let rows = rows.map_err(|source| StoreError::sql(attempt, source))?;
        rows.iter().map(schedule).collect()
    }

    /// A schedule of this queue.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn schedule(&self, id: i64) -> Result<Option<Schedule>, StoreError> {
        let attempt = "reading a schedule";
        let mut reader = self.reader(attempt).await?;
        let row = reader.row(&ONE, args![id, self.queue()]).await;
        let row = row.map_err(|source| StoreError::sql(attempt, source))?;
        row.as_ref().map(schedule).transpose()
    }

    /// The schedules of this queue that are to be fired, and the moment by the clock of the database; those with
    /// firings that waited for a task are among them.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn due_schedules(&self) -> Result<(Vec<Schedule>, i64), StoreError> {
        let attempt = "reading which schedules are due";
        let now = self.database_now().await?;
        let mut reader = self.reader(attempt).await?;
        let rows = reader
            .rows(&TO_BE_FIRED, args![self.queue(), now, DUE])
            .await;
        let rows = rows.map_err(|source| StoreError::sql(attempt, source))?;
        let due = rows.iter().map(schedule).collect::<Result<_, _>>()?;
        Ok((due, now))
    }

    /// How long it is until a schedule of this queue is fired.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn next_schedule_in(&self) -> Result<Option<Duration>, StoreError> {
        let attempt = "reading when a schedule is due";
        let mut reader = self.reader(attempt).await?;
        let row = reader.row(&NEXT, args![self.queue()]).await;
        let wait = row.and_then(|row| row.map_or(Ok(None), |row| row.get::<Option<i64>>(0)));
        let wait = wait.map_err(|source| StoreError::sql(attempt, source))?;
        Ok(wait.map(|wait| Duration::from_millis(wait.max(0).cast_unsigned())))
    }

    /// The tasks for whose end firings wait.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn tasks_that_schedules_wait_for(&self) -> Result<Vec<i64>, StoreError> {
        let attempt = "reading what schedules wait for";
        let mut reader = self.reader(attempt).await?;
        let rows = reader.rows(&WAITED_FOR, args![self.queue()]).await;
        rows.and_then(|rows| first_column(&rows))
            .map_err(|source| StoreError::sql(attempt, source))
    }

    /// Milliseconds since 1970 (UTC), by the clock of the database.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn database_now(&self) -> Result<i64, StoreError> {
        let attempt = "asking for the time";
        let failed = |source| StoreError::sql(attempt, source);
        let row = self.reader(attempt).await?.row(&NOW, args![]).await;
        let row = row.map_err(failed)?;
        row.map_or(Ok(0), |row| row.get(0)).map_err(failed)
    }
}

static NOW: Statement = Statement::new("SELECT {now}");

macro_rules! select_schedule {
    ($($rest:expr),+) => {
        concat!(
            "SELECT id, name, owner, enabled, version, due_at, next_at, pending, last_at, last_task, created_at, \
             kind, expression, time_zone, jitter_ms, anchor, overlap, missed, priority, retries, timeout_ms, plugin, \
             base_url, last_error, labels, parameters FROM schedules s WHERE ",
            $($rest),+
        )
    };
}

static LIST: Statement = Statement::new(select_schedule!("queue = ?1 ORDER BY name, id"));
static ONE: Statement = Statement::new(select_schedule!("id = ?1 AND queue = ?2"));

/// Whether the task that the schedule `s` made last has not ended.
macro_rules! last_task_is_live {
    () => {
        "EXISTS (SELECT 1 FROM tasks t WHERE t.id = s.last_task AND t.state IN ('queued', 'running', 'waiting'))"
    };
}
use last_task_is_live;

static TO_BE_FIRED: Statement = Statement::new(select_schedule!(
    "queue = ?1 AND enabled = 1 AND (next_at <= ?2 OR (pending > 0 AND NOT ",
    last_task_is_live!(),
    ")) ORDER BY next_at LIMIT ?3"
));

static NEXT: Statement =
    Statement::new("SELECT min(next_at) - {now} FROM schedules WHERE queue = ?1 AND enabled = 1");

static WAITED_FOR: Statement = Statement::new(
    "SELECT last_task FROM schedules WHERE queue = ?1 AND enabled = 1 AND pending > 0 AND last_task IS NOT NULL",
);

fn schedule(row: &Row) -> Result<Schedule, StoreError> {
    let columns = Columns { row };
    let kind: String = columns.get(11)?;
    let overlap: String = columns.get(16)?;
    let missed: String = columns.get(17)?;
    let corrupt = |column, word: &str| columns.corrupt(column, format!("{word:?} is unknown"));
    Ok(Schedule {
        id: columns.get(0)?,
        owner: columns.get(2)?,
        version: columns.get(4)?,
        due_at: columns.get(5)?,
        next_at: columns.get(6)?,
        pending: u32::try_from(columns.get::<i64>(7)?).unwrap_or(0),
        last_at: columns.get(8)?,
        last_task: columns.get(9)?,
        created_at: columns.get(10)?,
        last_error: columns.get(23)?,
        what: NewSchedule {
            name: columns.get(1)?,
            enabled: columns.get::<i64>(3)? != 0,
            rule: Rule {
                kind: Kind::parse(&kind).ok_or_else(|| corrupt("kind", &kind))?,
                expression: columns.get(12)?,
                time_zone: columns.get(13)?,
                jitter_ms: columns.get(14)?,
                anchor: columns.get(15)?,
            },
            overlap: Overlap::parse(&overlap).ok_or_else(|| corrupt("overlap", &overlap))?,
            missed: Missed::parse(&missed).ok_or_else(|| corrupt("missed", &missed))?,
            dispatch: Dispatch {
                priority: priority_of(columns.get(18)?),
                submitter: String::new(),
                run_at: None,
                retries: columns
                    .get::<Option<i64>>(19)?
                    .map(|retries| u32::try_from(retries).unwrap_or(u32::MAX)),
                timeout_ms: columns.get::<Option<i64>>(20)?.map(i64::cast_unsigned),
            },
            plugin: columns.get(21)?,
            base_url: columns.get(22)?,
            labels: columns.json(24, "labels")?,
            parameters: columns.json(25, "parameters")?,
        },
    })
}

struct Columns<'a> {
    row: &'a Row,
}

impl Columns<'_> {
    fn get<T: Column>(&self, at: usize) -> Result<T, StoreError> {
        let value = self.row.get(at);
        value.map_err(|source| StoreError::sql("reading a schedule", source))
    }

    fn json<T: DeserializeOwned>(&self, at: usize, column: &'static str) -> Result<T, StoreError> {
        let text: String = self.get(at)?;
        serde_json::from_str(&text).map_err(|error| self.corrupt(column, error.to_string()))
    }

    fn corrupt(&self, column: &'static str, reason: String) -> StoreError {
        StoreError::Corrupt {
            attempt: "reading a schedule".to_owned(),
            column,
            reason,
        }
    }
}
