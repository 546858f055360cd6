//! Schedules that are made, changed and removed.

use runner_core::schedule::{MAX_SCHEDULES, NewSchedule, Schedule};

use crate::recent::Recent;
use crate::runs::token;
use crate::sql::{Arg, Ask, Connection, Statement, args};
use crate::tasks::{priority_number, to_json};
use crate::writer::Write;
use crate::{Store, StoreError, now_ms};

/// What became of a schedule that was to be made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is as it was to be.
    Done(i64),
    /// Another one has its name.
    NameTaken,
    /// There are [`MAX_SCHEDULES`] of them.
    TooMany,
    /// It was changed since it was read, or it is gone.
    Overtaken,
}

impl Store {
    /// Makes a schedule of this queue. `due_at` and `next_at`: when it is due and fired first.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn make_schedule(
        &self,
        what: NewSchedule,
        due_at: Option<i64>,
        next_at: Option<i64>,
    ) -> Result<Changed, StoreError> {
        let make = Make {
            queue: self.queue().to_owned(),
            what,
            due_at,
            next_at,
            token: token(),
            created_at: now_ms(),
        };
        named(self.writer().write(make).await)
    }

    /// Changes a schedule that is as it was read.
    ///
    /// # Errors
    /// Why it was not changed.
    pub async fn change_schedule(
        &self,
        schedule: &Schedule,
        what: NewSchedule,
        due_at: Option<i64>,
        next_at: Option<i64>,
    ) -> Result<Changed, StoreError> {
        let change = Change {
            id: schedule.id,
            version: schedule.version,
            what,
            due_at,
            next_at,
            token: token(),
        };
        named(self.writer().write(change).await)
    }

    /// Removes a schedule of this queue that nobody declared. Its tasks stay. Answers whether there was one.
    ///
    /// # Errors
    /// Why it was not removed.
    pub async fn remove_schedule(&self, id: i64) -> Result<bool, StoreError> {
        let queue = self.queue().to_owned();
        self.writer().write(Remove { id, queue }).await
    }
}

/// Another row has the name.
fn named(outcome: Result<Changed, StoreError>) -> Result<Changed, StoreError> {
    match outcome {
        Err(error) if error.is_duplicate() => Ok(Changed::NameTaken),
        outcome => outcome,
    }
}

/// What a schedule is to do, as arguments 1 to 19.
pub(super) fn what_args<'a>(
    what: &'a NewSchedule,
    due_at: Option<i64>,
    next_at: Option<i64>,
) -> Vec<Arg<'a>> {
    let rule = &what.rule;
    let is_due = |moment: Option<i64>| moment.filter(|_| what.enabled);
    let args: &[Arg<'_>] = args![
        &what.name,
        i64::from(what.enabled),
        is_due(due_at),
        is_due(next_at),
        rule.kind.as_str(),
        &rule.expression,
        &rule.time_zone,
        rule.jitter_ms,
        rule.anchor,
        what.overlap.as_str(),
        what.missed.as_str(),
        priority_number(what.dispatch.priority),
        what.dispatch.retries.map(i64::from),
        what.dispatch
            .timeout_ms
            .map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        &what.plugin,
        &what.base_url,
        to_json(&what.labels),
        to_json(&what.parameters),
    ];
    args.to_vec()
}

/// A new row; its token is 19, its queue 20, its owner 22 and the digest of what that declared 23.
pub(super) static INSERT: Statement = Statement::new(
    "INSERT INTO schedules (name, enabled, due_at, next_at, kind, expression, time_zone, jitter_ms, anchor, overlap, \
     missed, priority, retries, timeout_ms, plugin, base_url, labels, parameters, last_write, queue, created_at, \
     owner, declared, version, pending) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, \
     ?23, 0, 0)",
);

/// Its token is 19, its number 20, its version 21, the digest of what a module declared 22. What went wrong before
/// says nothing of it any more, and what waited for a task of it does so no longer when it was disabled.
pub(super) static UPDATE: Statement = Statement::new(
    "UPDATE schedules SET name = ?1, enabled = ?2, due_at = ?3, next_at = ?4, kind = ?5, expression = ?6, \
     time_zone = ?7, jitter_ms = ?8, anchor = ?9, overlap = ?10, missed = ?11, priority = ?12, retries = ?13, \
     timeout_ms = ?14, plugin = ?15, base_url = ?16, labels = ?17, parameters = ?18, last_write = ?19, \
     declared = coalesce(?22, declared), \
     pending = CASE WHEN ?2 = 0 THEN 0 ELSE pending END, last_error = NULL, version = version + 1 \
     WHERE id = ?20 AND version = ?21",
);

static COUNT: Statement = Statement::new("SELECT count(*) FROM schedules WHERE queue = ?1");
static MADE: Statement = Statement::new("SELECT id FROM schedules WHERE last_write = ?1");

/// The schedule that a write left as it is now, if there is one.
async fn written(connection: &mut Connection, token: i64) -> Result<Option<i64>, StoreError> {
    let row = connection.row(&MADE, args![token]).await;
    row.and_then(|row| row.map(|row| row.get(0)).transpose())
        .map_err(|source| StoreError::sql("reading a schedule", source))
}

struct Make {
    queue: String,
    what: NewSchedule,
    due_at: Option<i64>,
    next_at: Option<i64>,
    token: i64,
    created_at: i64,
}

impl Write for Make {
    type Answer = Changed;

    fn remember(&self, _answer: &Changed, _recent: &Recent) {}

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<Changed, StoreError> {
        let failed = |source| StoreError::sql("making a schedule", source);
        if is_again && let Some(id) = written(connection, self.token).await? {
            return Ok(Changed::Done(id));
        }
        let row = connection.row(&COUNT, args![&self.queue]).await;
        let count = row.and_then(|row| row.map_or(Ok(0), |row| row.get::<i64>(0)));
        if count.map_err(failed)? >= i64::from(MAX_SCHEDULES) {
            return Ok(Changed::TooMany);
        }
        let mut args = what_args(&self.what, self.due_at, self.next_at);
        let none: Option<&str> = None;
        let more: &[Arg<'_>] = args![self.token, &self.queue, self.created_at, none, none];
        args.extend_from_slice(more);
        connection.execute(&INSERT, &args).await.map_err(failed)?;
        let made = written(connection, self.token).await?;
        Ok(made.map_or(Changed::Overtaken, Changed::Done))
    }
}

struct Change {
    id: i64,
    version: i64,
    what: NewSchedule,
    due_at: Option<i64>,
    next_at: Option<i64>,
    token: i64,
}

impl Write for Change {
    type Answer = Changed;

    fn remember(&self, _answer: &Changed, _recent: &Recent) {}

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<Changed, StoreError> {
        if is_again && written(connection, self.token).await?.is_some() {
            return Ok(Changed::Done(self.id));
        }
        let mut args = what_args(&self.what, self.due_at, self.next_at);
        let none: Option<&str> = None;
        let more: &[Arg<'_>] = args![self.token, self.id, self.version, none];
        args.extend_from_slice(more);
        let done = connection.execute(&UPDATE, &args).await;
        let done = done.map_err(|source| {
            StoreError::sql(format!("changing the schedule {}", self.id), source)
        })?;
        Ok(match done.hit {
            0 => Changed::Overtaken,
            _ => Changed::Done(self.id),
        })
    }
}

struct Remove {
    id: i64,
    queue: String,
}

static REMOVE: Statement =
    Statement::new("DELETE FROM schedules WHERE id = ?1 AND queue = ?2 AND owner IS NULL");

impl Write for Remove {
    type Answer = bool;

    fn remember(&self, _answer: &bool, _recent: &Recent) {}

    async fn apply(&self, connection: &mut Connection, is_again: bool) -> Result<bool, StoreError> {
        let done = connection
            .execute(&REMOVE, args![self.id, &self.queue])
            .await;
        let done = done.map_err(|source| {
            StoreError::sql(format!("removing the schedule {}", self.id), source)
        })?;
        Ok(done.hit > 0 || is_again)
    }
}
