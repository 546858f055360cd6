//! Schedules that modules declare.

use std::collections::HashSet;

use runner_core::schedule::{MAX_SCHEDULES, NewSchedule};
use sha2::{Digest, Sha256};

use super::change::{INSERT, UPDATE, what_args};
use crate::recent::Recent;
use crate::runs::token;
use crate::sql::{Arg, Ask, Connection, Statement, args, first_column};
use crate::writer::Write;
use crate::{Store, StoreError, now_ms};

/// A schedule that a module declared.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The module.
    pub owner: String,
    /// What it declared, with a name that no other module gives.
    pub what: NewSchedule,
    /// When it is due first, if it is new or was changed.
    pub due_at: Option<i64>,
    /// When it is fired then.
    pub next_at: Option<i64>,
}

impl Declared {
    /// What tells one declaration from another; not when intervals begin, nor under which URL the runner is known.
    fn digest(&self) -> String {
        let what = NewSchedule {
            rule: runner_core::schedule::Rule {
                anchor: 0,
                ..self.what.rule.clone()
            },
            base_url: String::new(),
            ..self.what.clone()
        };
        let digest = Sha256::digest(format!("{what:?}").as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Store {
    /// Makes the schedules of this queue those that modules declare now. `loaded` are the modules that are known to
    /// declare these and no others; `present` are all that there are: what one declared that could not be loaded stays.
    /// One that an administrator disabled stays disabled, and one whose module is not here stays as long as another
    /// process that lives has its plugin. Answers how many were changed.
    ///
    /// # Errors
    /// Why nothing was done; that another schedule has a name is one, too.
    pub async fn declare_schedules(
        &self,
        loaded: Vec<String>,
        present: Vec<String>,
        declared: Vec<Declared>,
    ) -> Result<u32, StoreError> {
        self.writer()
            .write(Declare {
                queue: self.queue().to_owned(),
                process: self.process().to_owned(),
                loaded,
                present,
                declared,
                created_at: now_ms(),
            })
            .await
    }
}

struct Declare {
    queue: String,
    process: String,
    loaded: Vec<String>,
    present: Vec<String>,
    declared: Vec<Declared>,
    created_at: i64,
}

/// A row that a module owns.
struct Owned {
    id: i64,
    name: String,
    owner: String,
    declared: Option<String>,
    is_enabled: bool,
    version: i64,
    plugin: String,
}

static OWNED: Statement = Statement::new(
    "SELECT id, name, owner, declared, enabled, version, plugin FROM schedules \
     WHERE queue = ?1 AND owner IS NOT NULL ORDER BY id {for update}",
);

/// So long a process may be silent that has a plugin, in milliseconds.
const SILENCE_MS: i64 = 60_000;

static OF_OTHERS: Statement = Statement::new(
    "SELECT plugins FROM workers WHERE queue = ?1 AND id <> ?2 AND stopped_at IS NULL AND beat_at > {now} - ?3",
);

static REMOVE: Statement = Statement::new("DELETE FROM schedules WHERE id = ?1");
static IS_TAKEN: Statement =
    Statement::new("SELECT count(*) FROM schedules WHERE queue = ?1 AND name = ?2");
static COUNT: Statement = Statement::new("SELECT count(*) FROM schedules WHERE queue = ?1");

fn failed(source: sqlx::Error) -> StoreError {
    StoreError::sql("storing the schedules of modules", source)
}

impl Declare {
    async fn owned(&self, connection: &mut Connection) -> Result<Vec<Owned>, StoreError> {
        let rows = connection.rows(&OWNED, args![&self.queue]).await;
        let owned = |row: &crate::sql::Row| {
            Ok(Owned {
                id: row.get(0)?,
                name: row.get(1)?,
                owner: row.get(2)?,
                declared: row.get(3)?,
                is_enabled: row.get::<i64>(4)? != 0,
                version: row.get(5)?,
                plugin: row.get(6)?,
            })
        };
        let rows = rows.map_err(failed)?;
        rows.iter()
            .map(owned)
            .collect::<Result<_, _>>()
            .map_err(failed)
    }

    fn is_gone(&self, row: &Owned, of_others: &HashSet<String>) -> bool {
        let is_own = |one: &Declared| one.owner == row.owner && one.what.name == row.name;
        if self.declared.iter().any(is_own) {
            return false;
        }
        match self.present.contains(&row.owner) {
            true => self.loaded.contains(&row.owner),
            false => !of_others.contains(&row.plugin),
        }
    }

    /// The plugins of the other processes of the queue that live.
    async fn plugins_of_others(
        &self,
        connection: &mut Connection,
    ) -> Result<HashSet<String>, StoreError> {
        let args = args![&self.queue, &self.process, SILENCE_MS];
        let rows = connection.rows(&OF_OTHERS, args).await;
        let lists = rows.and_then(|rows| first_column::<String>(&rows));
        let lists = lists.map_err(failed)?;
        let plugins = lists
            .iter()
            .filter_map(|list| serde_json::from_str::<Vec<String>>(list).ok());
        Ok(plugins.flatten().collect())
    }

    async fn update(
        &self,
        connection: &mut Connection,
        row: &Owned,
        declared: &Declared,
        digest: String,
    ) -> Result<(), StoreError> {
        let what = NewSchedule {
            enabled: row.is_enabled,
            ..declared.what.clone()
        };
        let mut args = what_args(&what, declared.due_at, declared.next_at);
        let more: &[Arg<'_>] = args![token(), row.id, row.version, digest];
        args.extend_from_slice(more);
        let done = connection.execute(&UPDATE, &args).await;
        done.map(drop).map_err(failed)
    }

    /// Answers whether it was made: no other may have its name, and there may not be too many.
    async fn insert(
        &self,
        connection: &mut Connection,
        declared: &Declared,
        digest: String,
    ) -> Result<bool, StoreError> {
        let name = &declared.what.name;
        if count(connection, &IS_TAKEN, args![&self.queue, name]).await? > 0 {
            tracing::warn!(
                "the schedule {name:?} of a module is left out: another one has its name"
            );
            return Ok(false);
        }
        if count(connection, &COUNT, args![&self.queue]).await? >= i64::from(MAX_SCHEDULES) {
            tracing::warn!(
                "the schedule {name:?} of a module is left out: there are {MAX_SCHEDULES} already"
            );
            return Ok(false);
        }
        let mut args = what_args(&declared.what, declared.due_at, declared.next_at);
        let more: &[Arg<'_>] = args![
            token(),
            &self.queue,
            self.created_at,
            &declared.owner,
            digest
        ];
        args.extend_from_slice(more);
        let done = connection.execute(&INSERT, &args).await;
        done.map(|_| true).map_err(failed)
    }
}

async fn count(
    connection: &mut Connection,
    statement: &Statement,
    args: &[Arg<'_>],
) -> Result<i64, StoreError> {
    let row = connection.row(statement, args).await;
    row.and_then(|row| row.map_or(Ok(0), |row| row.get::<i64>(0)))
        .map_err(failed)
}

impl Write for Declare {
    type Answer = u32;

    fn remember(&self, _answer: &u32, _recent: &Recent) {}

    async fn apply(&self, connection: &mut Connection, _is_again: bool) -> Result<u32, StoreError> {
        let mut changed = 0;
        let owned = self.owned(connection).await?;
        let of_others = self.plugins_of_others(connection).await?;
        for row in owned.iter().filter(|row| self.is_gone(row, &of_others)) {
            let removed = connection.execute(&REMOVE, args![row.id]).await;
            removed.map_err(failed)?;
            changed += 1;
        }
        for declared in &self.declared {
            let digest = declared.digest();
            let own = |row: &&Owned| row.owner == declared.owner && row.name == declared.what.name;
            match owned.iter().find(own) {
                Some(row) if row.declared.as_ref() == Some(&digest) => {}
                Some(row) => {
                    self.update(connection, row, declared, digest).await?;
                    changed += 1;
                }
                None => changed += u32::from(self.insert(connection, declared, digest).await?),
            }
        }
        Ok(changed)
    }
}
