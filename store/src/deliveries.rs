//! Subscriptions of webhooks, and what is to be sent to them.
//!
//! All times here are the database's. A delivery is claimed by a process for a while; of those for one webhook and
//! task only the oldest that is pending can be, so that they are sent in order. One that was given up is not pending.

use std::time::Duration;

use runner_core::task::TaskEvent;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::error::Trouble;
use crate::recent::Recent;
use crate::sql::{Ask, Connection, Dialect, Row, Statement, args, first_column, json_rows};
use crate::writer::Write;
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

/// A delivery as it is shown at its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryState {
    /// Number of the delivery.
    pub id: i64,
    /// Whom to tell.
    pub webhook: String,
    /// What happened.
    pub event: TaskEvent,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next, in milliseconds since 1970; None when it was given up.
    pub due_at: Option<i64>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it was given up, in milliseconds since 1970.
    pub gave_up_at: Option<i64>,
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

    /// Claims deliveries that are due, in the order in which things happened: for the time of the lease nobody else
    /// gets them. Of those for one webhook and task there is only the first; after it is done, ask again.
    ///
    /// # Errors
    /// Why none was claimed.
    pub async fn due_deliveries(
        &self,
        limit: u32,
        lease: Duration,
    ) -> Result<Vec<Delivery>, StoreError> {
        // Two claims of one process could not be told from each other.
        let _alone = self.claiming().lock().await;
        self.writer()
            .write(Claim {
                limit,
                lease_ms: milliseconds(lease),
                process: self.process().to_owned(),
            })
            .await
    }

    /// How long it is until the next delivery can be claimed; zero when one can be now.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn next_delivery_at(&self) -> Result<Option<Duration>, StoreError> {
        let attempt = "reading when a delivery is due";
        let row = self.reader(attempt).await?.row(&NEXT, args![]).await;
        let wait = row.and_then(|row| row.map_or(Ok(None), |row| row.get::<Option<i64>>(0)));
        let wait = wait.map_err(|source| StoreError::sql(attempt, source))?;
        Ok(wait.map(|wait| Duration::from_millis(wait.max(0).cast_unsigned())))
    }

    /// Forgets a delivery: it arrived. False: its lease ended, and another process has it.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn delivery_done(&self, id: i64) -> Result<bool, StoreError> {
        self.settle(id, Settled::Done).await
    }

    /// Counts an attempt, and says how long to wait before the next. False: its lease ended, and another process has
    /// it.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn delivery_failed(
        &self,
        id: i64,
        pause: Duration,
        error: &str,
    ) -> Result<bool, StoreError> {
        let pause_ms = milliseconds(pause);
        let error = error.to_owned();
        self.settle(id, Settled::Failed { pause_ms, error }).await
    }

    /// Counts an attempt, and tries no more. It stays visible at its task, and those after it go on. False: its lease
    /// ended, and another process has it.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn delivery_given_up(&self, id: i64, error: &str) -> Result<bool, StoreError> {
        let error = error.to_owned();
        self.settle(id, Settled::GivenUp { error }).await
    }

    async fn settle(&self, id: i64, settled: Settled) -> Result<bool, StoreError> {
        let process = self.process().to_owned();
        self.writer()
            .write(Settle {
                id,
                process,
                settled,
            })
            .await
    }

    /// The deliveries of a task that did not arrive yet, and those that were given up.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn deliveries_of(&self, task: i64) -> Result<Vec<DeliveryState>, StoreError> {
        let attempt = "reading the deliveries of a task";
        let rows = self
            .reader(attempt)
            .await?
            .rows(&OF_TASK, args![task])
            .await;
        let rows = rows.map_err(|source| StoreError::sql(attempt, source))?;
        rows.iter().map(delivery_state).collect()
    }
}

/// What SQL counts in.
pub(crate) fn milliseconds(duration: Duration) -> i64 {
    // Far enough, and a sum with the time of now has room.
    i64::try_from(duration.as_millis())
        .map_or(i64::MAX / 4, |milliseconds| milliseconds.min(i64::MAX / 4))
}

/// What stands in an index instead of a webhook, which may be long.
pub(crate) fn webhook_digest(webhook: &str) -> String {
    let webhook = runner_core::task::without_nul(webhook);
    let digest = Sha256::digest(webhook.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// After this there is nothing: where a delivery that was given up is due.
pub(crate) const NEVER: i64 = i64::MAX;

static CAN_BE_CLAIMED: Statement = Statement::new(
    "SELECT d.id FROM deliveries d WHERE d.due_at <= {now} \
     AND (d.leased_until IS NULL OR d.leased_until <= {now}) \
     AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.task = d.task \
     AND e.webhook_digest = d.webhook_digest AND e.id < d.id AND e.gave_up_at IS NULL) \
     ORDER BY d.id LIMIT ?1",
);

static CLAIMED: Statement = Statement::new(
    "SELECT d.id, d.task, d.webhook, d.event, d.attempts, t.base_url \
     FROM deliveries d JOIN tasks t ON t.id = d.task \
     WHERE d.id IN (SELECT id FROM {ids ?2} j) AND d.holder = ?1 ORDER BY d.id",
);

// The first that nobody has, by the index; and the first whose lease ends, among those that were due.
static NEXT: Statement = Statement::new(
    "SELECT min(n.at) - {now} FROM ( \
     SELECT * FROM (SELECT d.due_at AS at FROM deliveries d \
     WHERE d.leased_until IS NULL AND d.gave_up_at IS NULL \
     AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.task = d.task \
     AND e.webhook_digest = d.webhook_digest AND e.id < d.id AND e.gave_up_at IS NULL) \
     ORDER BY d.due_at LIMIT 1) f \
     UNION ALL SELECT min(l.leased_until) AS at FROM deliveries l \
     WHERE l.due_at <= {now} AND l.leased_until IS NOT NULL) n",
);

static OF_TASK: Statement = Statement::new(
    "SELECT id, webhook, event, attempts, due_at, last_error, gave_up_at FROM deliveries \
     WHERE task = ?1 ORDER BY id",
);

fn event_of(word: &str) -> Result<TaskEvent, StoreError> {
    TaskEvent::parse(word).ok_or_else(|| StoreError::Corrupt {
        attempt: "reading a delivery".to_owned(),
        column: "event",
        reason: format!("{word:?} is no event"),
    })
}

fn delivery(row: &Row) -> Result<Delivery, StoreError> {
    let failed = |source| StoreError::sql("reading a delivery", source);
    Ok(Delivery {
        id: row.get(0).map_err(failed)?,
        task: row.get(1).map_err(failed)?,
        webhook: row.get(2).map_err(failed)?,
        event: event_of(&row.get::<String>(3).map_err(failed)?)?,
        attempts: row.get(4).map_err(failed)?,
        base_url: row.get(5).map_err(failed)?,
    })
}

fn delivery_state(row: &Row) -> Result<DeliveryState, StoreError> {
    let failed = |source| StoreError::sql("reading a delivery", source);
    let gave_up_at: Option<i64> = row.get(6).map_err(failed)?;
    let due_at: i64 = row.get(4).map_err(failed)?;
    Ok(DeliveryState {
        id: row.get(0).map_err(failed)?,
        webhook: row.get(1).map_err(failed)?,
        event: event_of(&row.get::<String>(2).map_err(failed)?)?,
        attempts: row.get(3).map_err(failed)?,
        due_at: gave_up_at.is_none().then_some(due_at),
        last_error: row.get(5).map_err(failed)?,
        gave_up_at,
    })
}

static INSERT: Statement = Statement::new(
    "INSERT INTO deliveries (task, webhook_digest, event, attempts, due_at, webhook) \
     SELECT s.task, s.webhook_digest, e.value, 0, {now}, s.webhook \
     FROM {list ?2} e JOIN subscriptions s ON s.event IN ('', e.value) \
     WHERE s.task = ?1 ORDER BY e.n, s.id",
);

/// Adds a delivery for each event and each subscription to it, due now. `events` is a JSON list.
pub(crate) async fn insert(
    connection: &mut Connection,
    task: i64,
    events: &str,
) -> Result<(), StoreError> {
    let done = connection.execute(&INSERT, args![task, events]).await;
    done.map(drop)
        .map_err(|source| StoreError::sql(format!("adding the deliveries of task {task}"), source))
}

struct Claim {
    limit: u32,
    lease_ms: i64,
    process: String,
}

impl Write for Claim {
    type Answer = Vec<Delivery>;

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    async fn apply(
        &self,
        connection: &mut Connection,
        _is_again: bool,
    ) -> Result<Vec<Delivery>, StoreError> {
        let failed = |source| StoreError::sql("claiming deliveries", source);
        let rows = connection.rows(&CAN_BE_CLAIMED, args![self.limit]).await;
        let ids: Vec<i64> = rows.and_then(|rows| first_column(&rows)).map_err(failed)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // The numbers stand in the text: not all of the three use an index for a list in an update.
        let numbers: Vec<_> = ids.iter().map(i64::to_string).collect();
        let claim = Statement::once(format!(
            "UPDATE deliveries SET holder = ?1, leased_until = {{now}} + ?2 \
             WHERE id IN ({}) AND due_at <= {{now}} \
             AND (leased_until IS NULL OR leased_until <= {{now}})",
            numbers.join(", ")
        ));
        let args = args![&self.process, self.lease_ms];
        connection.execute(&claim, args).await.map_err(failed)?;
        let ids = json_rows(ids.into_iter().map(|id| json!(id)).collect());
        let rows = connection.rows(&CLAIMED, args![&self.process, &ids]).await;
        rows.map_err(failed)?.iter().map(delivery).collect()
    }
}

enum Settled {
    Done,
    Failed { pause_ms: i64, error: String },
    GivenUp { error: String },
}

struct Settle {
    id: i64,
    process: String,
    settled: Settled,
}

static DONE: Statement = Statement::new("DELETE FROM deliveries WHERE id = ?1 AND holder = ?2");

static FAILED: Statement = Statement::new(
    "UPDATE deliveries SET attempts = attempts + 1, due_at = {now} + ?3, last_error = ?4, \
     holder = NULL, leased_until = NULL WHERE id = ?1 AND holder = ?2",
);

static GIVEN_UP: Statement = Statement::new(
    "UPDATE deliveries SET attempts = attempts + 1, due_at = ?3, last_error = ?4, gave_up_at = {now}, \
     holder = NULL, leased_until = NULL WHERE id = ?1 AND holder = ?2",
);

impl Write for Settle {
    type Answer = bool;

    fn is_one_statement(&self, _dialect: Dialect) -> bool {
        true
    }

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    async fn apply(&self, connection: &mut Connection, is_again: bool) -> Result<bool, StoreError> {
        let (id, process) = (self.id, &self.process);
        let done = match &self.settled {
            Settled::Done => connection.execute(&DONE, args![id, process]).await,
            Settled::Failed { pause_ms, error } => {
                let args = args![id, process, *pause_ms, error];
                connection.execute(&FAILED, args).await
            }
            Settled::GivenUp { error } => {
                let args = args![id, process, NEVER, error];
                connection.execute(&GIVEN_UP, args).await
            }
        };
        // An earlier time that was committed left nothing to be hit.
        done.map(|done| done.hit > 0 || is_again)
            .map_err(|source| StoreError::sql(format!("settling delivery {id}"), source))
    }
}

struct Subscribe {
    task: i64,
    webhook: String,
    event: Option<TaskEvent>,
}

static SUBSCRIBE: Statement = Statement::new(
    "INSERT INTO subscriptions (task, webhook_digest, event, webhook) SELECT ?1, ?2, ?3, ?5 \
     WHERE (SELECT count(*) FROM subscriptions WHERE task = ?1) < ?4 \
     ON CONFLICT (task, webhook_digest, event) DO NOTHING",
)
.mysql(
    "INSERT INTO subscriptions (task, webhook_digest, event, webhook) SELECT ?1, ?2, ?3, ?5 FROM DUAL \
     WHERE (SELECT count(*) FROM (SELECT id FROM subscriptions WHERE task = ?1) s) < ?4 \
     AND NOT EXISTS (SELECT 1 FROM (SELECT id FROM subscriptions \
     WHERE task = ?1 AND webhook_digest = ?2 AND event = ?3) s)",
);

static IS_SUBSCRIBED: Statement = Statement::new(
    "SELECT EXISTS (SELECT 1 FROM subscriptions \
     WHERE task = ?1 AND webhook_digest = ?2 AND event = ?3)",
);

// Those who subscribe to one task wait for each other, so that the count is right.
static LOCK_TASK: Statement = Statement::new("SELECT id FROM tasks WHERE id = ?1 {for update}");

impl Write for Subscribe {
    type Answer = bool;

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    async fn apply(
        &self,
        connection: &mut Connection,
        _is_again: bool,
    ) -> Result<bool, StoreError> {
        let task = self.task;
        let event = self.event.map_or(ALL_EVENTS, TaskEvent::as_str);
        let digest = webhook_digest(&self.webhook);
        let failed = |source: sqlx::Error| match crate::error::trouble(&source) {
            Trouble::NoParent => StoreError::UnknownTask(task),
            _ => StoreError::sql(format!("subscribing to task {task}"), source),
        };
        let locked = connection.row(&LOCK_TASK, args![task]).await;
        if locked.map_err(failed)?.is_none() {
            return Err(StoreError::UnknownTask(task));
        }
        let args = args![task, &digest, event, MAX_SUBSCRIPTIONS, &self.webhook];
        let done = connection.execute(&SUBSCRIBE, args).await;
        if done.map_err(failed)?.hit > 0 {
            return Ok(true);
        }
        let row = connection
            .row(&IS_SUBSCRIBED, args![task, &digest, event])
            .await;
        row.and_then(|row| row.map_or(Ok(false), |row| row.get(0)))
            .map_err(failed)
    }
}

struct Unsubscribe {
    task: i64,
    webhook: String,
    event: Option<TaskEvent>,
}

static UNSUBSCRIBE: Statement = Statement::new(
    "DELETE FROM subscriptions WHERE task = ?1 AND webhook_digest = ?2 \
     AND (?3 IS NULL OR event = ?3)",
)
.postgres(
    "DELETE FROM subscriptions WHERE task = ?1 AND webhook_digest = ?2 \
     AND (CAST(?3 AS TEXT) IS NULL OR event = ?3)",
);

impl Write for Unsubscribe {
    type Answer = u64;

    fn is_one_statement(&self, _dialect: Dialect) -> bool {
        true
    }

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    async fn apply(&self, connection: &mut Connection, _is_again: bool) -> Result<u64, StoreError> {
        let task = self.task;
        let event = self.event.map(TaskEvent::as_str);
        let args = args![task, webhook_digest(&self.webhook), event];
        let done = connection.execute(&UNSUBSCRIBE, args).await;
        done.map(|done| done.hit)
            .map_err(|source| StoreError::sql(format!("unsubscribing from task {task}"), source))
    }
}
