//! Subscriptions of webhooks, and what is to be sent to them.

use runner_core::task::TaskEvent;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::error::{code, sqlite_code};
use crate::sqlite::Write;
use crate::tasks::to_json;
use crate::{Store, StoreError};

/// A webhook that is to be told of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Number of the delivery.
    pub id: i64,
    /// The task to which it happened.
    pub task: i64,
    /// Whom to tell.
    pub webhook: String,
    /// What happened.
    pub event: TaskEvent,
    /// How often it was tried.
    pub attempts: i64,
    /// Base URL of the task.
    pub base_url: String,
}

/// The most subscriptions of a task: each of its changes is a delivery to each of them.
pub const MAX_SUBSCRIPTIONS: u32 = 100;
/// In SQL, a subscription to all events.
const ALL_EVENTS: &str = "";

impl Store {
    /// Lets a webhook be told of an event of a task, or of all. Once is enough. False: the task has
    /// [`MAX_SUBSCRIPTIONS`] others.
    ///
    /// # Errors
    /// [`StoreError::UnknownTask`], or why it was not stored.
    pub async fn subscribe(
        &self,
        task: i64,
        webhook: &str,
        event: Option<TaskEvent>,
    ) -> Result<bool, StoreError> {
        let webhook = webhook.to_owned();
        self.writer()
            .write(Subscribe {
                task,
                webhook,
                event,
            })
            .await
    }

    /// Ends a subscription, or with no event all of a webhook to a task. Answers how many.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn unsubscribe(
        &self,
        task: i64,
        webhook: &str,
        event: Option<TaskEvent>,
    ) -> Result<u64, StoreError> {
        let webhook = webhook.to_owned();
        self.writer()
            .write(Unsubscribe {
                task,
                webhook,
                event,
            })
            .await
    }

    /// Deliveries that are due, in the order in which things happened. Of those for one webhook and
    /// task there is only the first, so that they are sent in order: after it is done, ask again.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn due_deliveries(
        &self,
        now_ms: i64,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let attempt = "reading the deliveries that are due";
        let mut reader = self.reader(attempt).await?;
        let rows = sqlx::query(
            "SELECT d.id, d.task, d.webhook, d.event, d.attempts, t.base_url \
             FROM deliveries d JOIN tasks t ON t.id = d.task \
             WHERE d.due_at <= ?1 AND NOT EXISTS (SELECT 1 FROM deliveries e \
             WHERE e.task = d.task AND e.webhook = d.webhook AND e.id < d.id) \
             ORDER BY d.id LIMIT ?2",
        )
        .bind(now_ms)
        .bind(limit)
        .fetch_all(&mut *reader)
        .await
        .map_err(|source| StoreError::sql(attempt, source))?;
        rows.iter().map(delivery).collect()
    }

    /// When the next delivery is due, in milliseconds since 1970.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn next_delivery_at(&self) -> Result<Option<i64>, StoreError> {
        let attempt = "reading when a delivery is due";
        let mut reader = self.reader(attempt).await?;
        sqlx::query_scalar(
            "SELECT d.due_at FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM deliveries e \
             WHERE e.task = d.task AND e.webhook = d.webhook AND e.id < d.id) \
             ORDER BY d.due_at LIMIT 1",
        )
        .fetch_optional(&mut *reader)
        .await
        .map_err(|source| StoreError::sql(attempt, source))
    }

    /// Forgets a delivery: it arrived, or is given up.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn delivery_done(&self, id: i64) -> Result<(), StoreError> {
        self.writer().write(Done { id }).await
    }

    /// Counts an attempt and says when to try again.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn delivery_failed(&self, id: i64, retry_at_ms: i64) -> Result<(), StoreError> {
        let retry_at = retry_at_ms;
        self.writer().write(Failed { id, retry_at }).await
    }
}

fn delivery(row: &SqliteRow) -> Result<Delivery, StoreError> {
    let failed = |source| StoreError::sql("reading a delivery", source);
    let event: &str = row.try_get(3).map_err(failed)?;
    Ok(Delivery {
        id: row.try_get(0).map_err(failed)?,
        task: row.try_get(1).map_err(failed)?,
        webhook: row.try_get(2).map_err(failed)?,
        event: TaskEvent::parse(event).ok_or_else(|| StoreError::Corrupt {
            attempt: "reading a delivery".to_owned(),
            column: "event",
            reason: format!("{event:?} is no event"),
        })?,
        attempts: row.try_get(4).map_err(failed)?,
        base_url: row.try_get(5).map_err(failed)?,
    })
}

/// Adds a delivery for each event and each subscription to it, due now.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    task: i64,
    events: &[TaskEvent],
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO deliveries (task, webhook, event, attempts, due_at) \
         SELECT s.task, s.webhook, e.value, 0, ?3 \
         FROM json_each(?2) e JOIN subscriptions s ON s.event IN ('', e.value) \
         WHERE s.task = ?1 ORDER BY e.key, s.id",
    )
    .bind(task)
    .bind(to_json(&events))
    .bind(now)
    .execute(connection)
    .await
    .map(drop)
    .map_err(|source| StoreError::sql(format!("adding the deliveries of task {task}"), source))
}

struct Subscribe {
    task: i64,
    webhook: String,
    event: Option<TaskEvent>,
}

impl Write for Subscribe {
    type Answer = bool;

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<bool, StoreError> {
        let task = self.task;
        let event = self.event.map_or(ALL_EVENTS, TaskEvent::as_str);
        let failed = |source| match sqlite_code(&source) {
            Some(code::CONSTRAINT_FOREIGN_KEY) => StoreError::UnknownTask(task),
            _ => StoreError::sql(format!("subscribing to task {task}"), source),
        };
        let done = sqlx::query(
            "INSERT INTO subscriptions (task, webhook, event) SELECT ?1, ?2, ?3 \
             WHERE (SELECT count(*) FROM subscriptions WHERE task = ?1) < ?4 \
             ON CONFLICT (task, webhook, event) DO NOTHING",
        )
        .bind(task)
        .bind(&self.webhook)
        .bind(event)
        .bind(MAX_SUBSCRIPTIONS)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
        if done.rows_affected() > 0 {
            return Ok(true);
        }
        let is_there = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM subscriptions \
             WHERE task = ?1 AND webhook = ?2 AND event = ?3)",
        );
        is_there
            .bind(task)
            .bind(&self.webhook)
            .bind(event)
            .fetch_one(connection)
            .await
            .map_err(failed)
    }
}

struct Unsubscribe {
    task: i64,
    webhook: String,
    event: Option<TaskEvent>,
}

impl Write for Unsubscribe {
    type Answer = u64;

    fn is_one_statement(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<u64, StoreError> {
        let task = self.task;
        sqlx::query(
            "DELETE FROM subscriptions WHERE task = ?1 AND webhook = ?2 \
             AND (?3 IS NULL OR event = ?3)",
        )
        .bind(task)
        .bind(&self.webhook)
        .bind(self.event.map(TaskEvent::as_str))
        .execute(connection)
        .await
        .map(|done| done.rows_affected())
        .map_err(|source| StoreError::sql(format!("unsubscribing from task {task}"), source))
    }
}

struct Done {
    id: i64,
}

impl Write for Done {
    type Answer = ();

    fn is_one_statement(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let id = self.id;
        sqlx::query("DELETE FROM deliveries WHERE id = ?1")
            .bind(id)
            .execute(connection)
            .await
            .map(drop)
            .map_err(|source| StoreError::sql(format!("removing delivery {id}"), source))
    }
}

struct Failed {
    id: i64,
    retry_at: i64,
}

impl Write for Failed {
    type Answer = ();

    fn is_one_statement(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let id = self.id;
        sqlx::query("UPDATE deliveries SET attempts = attempts + 1, due_at = ?2 WHERE id = ?1")
            .bind(id)
            .bind(self.retry_at)
            .execute(connection)
            .await
            .map(drop)
            .map_err(|source| StoreError::sql(format!("postponing delivery {id}"), source))
    }
}
