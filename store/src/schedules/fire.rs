//! A schedule that is fired.

use runner_core::schedule::{Overlap, Settled, settle};
use runner_core::task::{Idempotency, NewTask};

use super::last_task_is_live;
use crate::cancel::CancelTask;
use crate::insert::InsertTask;
use crate::runs::token;
use crate::sql::{Ask, Connection, Statement, args};
use crate::writer::Write;
use crate::{Inserted, Store, StoreError};

/// How a schedule is fired.
#[derive(Debug, Clone)]
pub struct Fire {
    /// Its number.
    pub id: i64,
    /// Its version when it was read: who raises it first fires.
    pub version: i64,
    /// How often it is fired; zero when only what waits is looked at, or all that was due is left out.
    pub firings: u32,
    /// When it is due next.
    pub due_at: Option<i64>,
    /// When it is fired next.
    pub next_at: Option<i64>,
    /// The task that each firing makes, or why none can be made.
    pub task: Result<NewTask, String>,
    /// What else is to be known of it.
    pub note: Option<String>,
    /// Whether somebody wants it now, also if it is disabled.
    pub by_hand: bool,
}

/// What became of a firing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fired {
    /// Somebody else fired or changed it, or it was disabled or removed: nothing was done.
    Overtaken,
    /// It was fired.
    Done {
        /// Tasks that were made.
        tasks: Vec<i64>,
        /// Tasks that were cancelled for them.
        cancelled: Vec<i64>,
        /// What the schedule says of it: what was left out, or what went wrong.
        said: Option<String>,
        /// Firings that wait.
        pending: u32,
    },
}

impl Store {
    /// Fires a schedule: moves it to when it is due next, and makes its tasks, in one transaction.
    ///
    /// # Errors
    /// Why nothing was done.
    pub async fn fire_schedule(&self, fire: Fire) -> Result<Fired, StoreError> {
        let store = self.clone();
        let token = token();
        self.writer().write(Firing { store, fire, token }).await
    }
}

struct Firing {
    store: Store,
    fire: Fire,
    token: i64,
}

static READ: Statement = Statement::new(concat!(
    "SELECT version, last_write, pending, last_task, overlap, enabled, last_error, ",
    last_task_is_live!(),
    " FROM schedules s WHERE s.id = ?1 {for update}"
));

static MOVE: Statement = Statement::new(
    "UPDATE schedules SET version = version + 1, last_write = ?3, due_at = ?4, next_at = ?5, pending = ?6, \
     last_error = ?7 WHERE id = ?1 AND version = ?2",
);

static REMEMBER: Statement =
    Statement::new("UPDATE schedules SET last_task = ?2, last_at = {now} WHERE id = ?1");

static MADE: Statement = Statement::new(
    "SELECT id FROM tasks WHERE idempotency_key >= ?1 AND idempotency_key < ?2 ORDER BY id",
);

/// The row of a schedule, locked.
struct Row {
    version: i64,
    last_write: i64,
    pending: u32,
    last_task: Option<i64>,
    overlap: Overlap,
    is_enabled: bool,
    last_error: Option<String>,
    is_live: bool,
}

impl Firing {
    fn failed(&self, source: sqlx::Error) -> StoreError {
        StoreError::sql(format!("firing the schedule {}", self.fire.id), source)
    }

    /// By what the tasks of this firing are known; digits that follow say which.
    fn key(&self) -> String {
        format!("schedule:{}:{}:", self.fire.id, self.fire.version)
    }

    async fn read(&self, connection: &mut Connection) -> Result<Option<Row>, StoreError> {
        let row = connection.row(&READ, args![self.fire.id]).await;
        let row = row.map_err(|source| self.failed(source))?;
        let columns = |row: &crate::sql::Row| {
            Ok(Row {
                version: row.get(0)?,
                last_write: row.get(1)?,
                pending: u32::try_from(row.get::<i64>(2)?).unwrap_or(0),
                last_task: row.get(3)?,
                overlap: Overlap::parse(&row.get::<String>(4)?).unwrap_or_default(),
                is_enabled: row.get::<i64>(5)? != 0,
                last_error: row.get(6)?,
                is_live: row.get(7)?,
            })
        };
        let row = row.as_ref().map(columns).transpose();
        row.map_err(|source| self.failed(source))
    }

    /// The answer to a commit was lost, and it was one.
    async fn done_before(
        &self,
        connection: &mut Connection,
        row: Row,
    ) -> Result<Fired, StoreError> {
        let key = self.key();
        let beyond = format!("{};", key.trim_end_matches(':'));
        let rows = connection.rows(&MADE, args![&key, beyond]).await;
        let tasks = rows.and_then(|rows| crate::sql::first_column(&rows));
        Ok(Fired::Done {
            tasks: tasks.map_err(|source| self.failed(source))?,
            // Workers find out by themselves what was cancelled.
            cancelled: Vec::new(),
            said: row.last_error,
            pending: row.pending,
        })
    }

    fn said(&self, row: &Row, settled: Settled) -> Option<String> {
        let mut said: Vec<String> = self.fire.note.iter().cloned().collect();
        if let Err(reason) = &self.fire.task {
            said.push(reason.clone());
        } else if settled.left_out > 0 {
            let why = match (row.overlap, row.last_task) {
                (Overlap::Queue, _) => "too many wait".to_owned(),
                (_, Some(task)) => format!("task {task} has not ended"),
                (_, None) => "one is enough".to_owned(),
            };
            said.push(match settled.left_out {
                1 => format!("a firing is left out: {why}"),
                count => format!("{count} firings are left out: {why}"),
            });
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    async fn make(
        &self,
        connection: &mut Connection,
        template: &NewTask,
        count: u32,
    ) -> Result<Vec<i64>, StoreError> {
        let mut tasks = Vec::new();
        for number in 0..count {
            let key = format!("{}{number}", self.key());
            let task = NewTask {
                idempotency: Some(Idempotency {
                    fingerprint: key.clone(),
                    key,
                }),
                ..template.clone()
            };
            let insert = InsertTask::new(&self.store, task);
            match insert.apply(connection, false).await? {
                Inserted::New(id) => tasks.push(id),
                Inserted::Same(_) | Inserted::Other(_) => {}
            }
        }
        Ok(tasks)
    }
}

impl Write for Firing {
    type Answer = Fired;

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<Fired, StoreError> {
        let fire = &self.fire;
        let Some(row) = self.read(connection).await? else {
            return Ok(Fired::Overtaken);
        };
        if is_again && row.last_write == self.token {
            return self.done_before(connection, row).await;
        }
        if row.version != fire.version || !(row.is_enabled || fire.by_hand) {
            return Ok(Fired::Overtaken);
        }
        let settled = match &fire.task {
            Ok(_) => settle(row.overlap, row.is_live, row.pending, fire.firings),
            // What cannot be made does not wait, either.
            Err(_) => Settled::default(),
        };
        let said = self.said(&row, settled);
        let args = args![
            fire.id,
            fire.version,
            self.token,
            fire.due_at,
            fire.next_at,
            settled.pending,
            &said,
        ];
        let moved = connection.execute(&MOVE, args).await;
        if moved.map_err(|source| self.failed(source))?.hit == 0 {
            return Ok(Fired::Overtaken);
        }
        let mut cancelled = Vec::new();
        if settled.cancels
            && let Some(task) = row.last_task
        {
            let cancel = CancelTask::new(&self.store, task);
            cancelled = cancel.apply(connection, false).await?.unwrap_or_default();
        }
        let mut tasks = Vec::new();
        if let Ok(template) = &fire.task {
            tasks = self.make(connection, template, settled.start).await?;
        }
        if let Some(last) = tasks.last() {
            let remembered = connection.execute(&REMEMBER, args![fire.id, *last]).await;
            remembered.map_err(|source| self.failed(source))?;
        }
        Ok(Fired::Done {
            tasks,
            cancelled,
            said,
            pending: settled.pending,
        })
    }
}
