//! What administrators want of modules. Each change has a generation, which grows; the row that counts its changes is
//! locked by whoever makes one, so that of two at once the second sees what the first wrote.

use std::time::Duration;

use runner_core::wanted::{Decision, Kept, Wanted, WantedModules, WantedState};
use serde_json::{Value, json};

use crate::deliveries::milliseconds;
use crate::recent::Recent;
use crate::runs::token;
use crate::sql::{Ask, Connection, Dialect, Row, Statement, args, json_rows};
use crate::tasks::to_json;
use crate::writer::Write;
use crate::{Store, StoreError};

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// It counts.
    Yes {
        /// The generation that it was given.
        generation: i64,
        /// The package that was kept before, and is not needed any more.
        replaced: Option<String>,
    },
    /// Something else was decided about the module since.
    Overtaken,
}

impl Store {
    /// What is wanted of the modules of this queue.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn wanted_modules(&self) -> Result<WantedModules, StoreError> {
        let mut reader = self.reader(READING).await?;
        // The generation first: what is newer is read again, which does no harm.
        let row = reader.row(&GENERATION, args![self.queue()]).await;
        let generation = row.and_then(|row| row.map_or(Ok(0), |row| row.get(0)));
        let rows = reader.rows(&MODULES, args![self.queue()]).await;
        let failed = |source| StoreError::sql(READING, source);
        Ok(WantedModules {
            generation: generation.map_err(failed)?,
            modules: rows
                .map_err(failed)?
                .iter()
                .map(wanted)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Writes down what was decided about a module of this queue, unless something else was since what the decision
    /// knew. The content of a package that is replaced stays; who decides removes it.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn decide(&self, decision: Decision) -> Result<Decided, StoreError> {
        let decide = Decide {
            decision,
            queue: self.queue().to_owned(),
            process: self.process().to_owned(),
            token: token(),
        };
        self.writer().write(decide).await
    }
}

/// So long it is remembered that a module was removed, after a process last said that it lies in a plugin folder.
const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 3_600);

impl Store {
    /// Modules of this queue that are to be removed still lie in plugin folders: that is not to be forgotten.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn keep_removed(&self, names: &[String]) -> Result<(), StoreError> {
        let notes = Notes::Keep {
            queue: self.queue().to_owned(),
            names: json_rows(names.iter().map(|name| json!(name)).collect()),
        };
        self.writer().write(notes).await.map(drop)
    }

    /// Forgets that modules were removed which lie in no plugin folder any more. Answers how many.
    pub(crate) async fn forget_removed(&self) -> Result<u64, StoreError> {
        self.writer().write(Notes::Forget).await
    }
}

/// That modules of plugin folders were removed, as long as they are there.
enum Notes {
    Keep { queue: String, names: String },
    Forget,
}

static KEEP_NOTES: Statement = Statement::new(
    "UPDATE modules SET changed_at = {now} WHERE queue = ?1 AND is_kept = 0 AND state = 'removed' \
     AND name IN (SELECT value FROM {list ?2} j)",
);

static FORGET_NOTES: Statement = Statement::new(
    "DELETE FROM modules WHERE is_kept = 0 AND state = 'removed' AND changed_at < {now} - ?1",
);

impl Write for Notes {
    type Answer = u64;

    fn is_one_statement(&self, _dialect: Dialect) -> bool {
        true
    }

    fn remember(&self, _answer: &u64, _recent: &Recent) {}

    async fn apply(&self, connection: &mut Connection, _is_again: bool) -> Result<u64, StoreError> {
        let done = match self {
            Self::Keep { queue, names } => {
                connection.execute(&KEEP_NOTES, args![queue, names]).await
            }
            Self::Forget => {
                let age = milliseconds(REMEMBERED);
                connection.execute(&FORGET_NOTES, args![age]).await
            }
        };
        done.map(|done| done.hit)
            .map_err(|source| StoreError::sql("remembering which modules were removed", source))
    }
}

const READING: &str = "reading what is wanted of modules";

static GENERATION: Statement =
    Statement::new("SELECT generation FROM module_generations WHERE queue = ?1");

static MODULES: Statement = Statement::new(
    "SELECT name, is_kept, generation, loaded, state, size, file_key, digest, loader, path, args FROM modules \
     WHERE queue = ?1 ORDER BY name, is_kept",
);

fn wanted(row: &Row) -> Result<Wanted, StoreError> {
    let failed = |source| StoreError::sql(READING, source);
    let corrupt = |column, reason| StoreError::Corrupt {
        attempt: READING.to_owned(),
        column,
        reason,
    };
    let text = |at| row.get::<Option<String>>(at).map_err(failed);
    let number = |at| row.get::<i64>(at).map_err(failed);
    let state: String = row.get(4).map_err(failed)?;
    let args: Option<Vec<Value>> = match text(10)? {
        None => None,
        Some(args) => {
            Some(serde_json::from_str(&args).map_err(|error| corrupt("args", error.to_string()))?)
        }
    };
    let kept = || {
        let size = row.get::<Option<i64>>(5).map_err(failed)?;
        Ok::<_, StoreError>(Kept {
            size: size.unwrap_or_default().max(0).cast_unsigned(),
            key: text(6)?.unwrap_or_default(),
            digest: text(7)?.unwrap_or_default(),
            path: text(9)?.unwrap_or_default(),
        })
    };
    Ok(Wanted {
        name: row.get(0).map_err(failed)?,
        generation: number(2)?,
        loaded: number(3)?,
        state: WantedState::parse(&state).ok_or_else(|| corrupt("state", state))?,
        kept: match number(1)? {
            0 => None,
            _ => Some(kept()?),
        },
        args,
        loader: text(8)?,
    })
}

struct Decide {
    decision: Decision,
    queue: String,
    process: String,
    token: i64,
}

static FIRST: Statement = Statement::new(
    "INSERT INTO module_generations (queue, generation, last_write) VALUES (?1, 0, 0) \
     ON CONFLICT (queue) DO NOTHING",
)
.mysql("INSERT IGNORE INTO module_generations (queue, generation, last_write) VALUES (?1, 0, 0)");

static LOCK: Statement = Statement::new(
    "SELECT generation, last_write FROM module_generations WHERE queue = ?1 {for update}",
);

static RAISE: Statement = Statement::new(
    "UPDATE module_generations SET generation = ?2, last_write = ?3 WHERE queue = ?1",
);

static BEFORE: Statement = Statement::new(
    "SELECT generation, last_write, file_key FROM modules WHERE queue = ?1 AND name = ?2 AND is_kept = ?3",
);

static FORGET: Statement =
    Statement::new("DELETE FROM modules WHERE queue = ?1 AND name = ?2 AND is_kept = ?3");

static INSERT: Statement = Statement::new(
    "INSERT INTO modules (queue, name, is_kept, generation, loaded, last_write, state, size, file_key, digest, \
     changed_at, changed_by, loader, path, args) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, {now}, ?11, ?12, ?13, ?14)",
);

impl Write for Decide {
    type Answer = Decided;

    fn remember(&self, _answer: &Decided, _recent: &Recent) {}

    async fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> Result<Decided, StoreError> {
        let wanted = &self.decision.wanted;
        let attempt = || format!("writing what is wanted of the module {}", wanted.name);
        let failed = |source| StoreError::sql(attempt(), source);
        let key = args![&self.queue, &wanted.name, i64::from(wanted.kept.is_some())];
        let first = connection.execute(&FIRST, args![&self.queue]).await;
        first.map_err(failed)?;
        let row = connection.row(&LOCK, args![&self.queue]).await;
        let last = row.and_then(|row| row.map_or(Ok((0, 0)), |row| Ok((row.get(0)?, row.get(1)?))));
        let (last, last_write): (i64, i64) = last.map_err(failed)?;
        let row = connection.row(&BEFORE, key).await.map_err(failed)?;
        let before = match &row {
            None => (0, 0, None),
            Some(row) => (
                row.get::<i64>(0).map_err(failed)?,
                row.get::<i64>(1).map_err(failed)?,
                row.get::<Option<String>>(2).map_err(failed)?,
            ),
        };
        let is_unknown = row.is_none();
        drop(row);
        let (known, written, file_key) = before;
        if is_again && self.token == written {
            return Ok(self.done(known, None));
        }
        if is_again && self.token == last_write {
            return Ok(self.done(last, None));
        }
        // Only a note that the module was removed is ever forgotten; who still knows it is not overtaken.
        let is_forgotten = is_unknown && wanted.kept.is_none();
        if known != wanted.generation && !is_forgotten {
            return Ok(Decided::Overtaken);
        }
        let generation = last + 1;
        let raised = args![&self.queue, generation, self.token];
        connection.execute(&RAISE, raised).await.map_err(failed)?;
        connection.execute(&FORGET, key).await.map_err(failed)?;
        if !self.decision.forgets() {
            self.insert(connection, generation).await.map_err(failed)?;
        }
        Ok(self.done(generation, file_key))
    }
}

impl Decide {
    async fn insert(
        &self,
        connection: &mut Connection,
        generation: i64,
    ) -> Result<(), sqlx::Error> {
        let Wanted {
            name,
            loaded,
            state,
            kept,
            args,
            loader,
            ..
        } = &self.decision.made(generation);
        let kept = kept.as_ref();
        let args = args.as_ref().map(to_json);
        let size = kept.map(|kept| i64::try_from(kept.size).unwrap_or(i64::MAX));
        let written = args![
            &self.queue,
            name,
            i64::from(kept.is_some()),
            generation,
            *loaded,
            self.token,
            state.as_str(),
            size,
            kept.map(|kept| kept.key.as_str()),
            kept.map(|kept| kept.digest.as_str()),
            &self.process,
            loader,
            kept.map(|kept| kept.path.as_str()),
            &args,
        ];
        connection.execute(&INSERT, written).await.map(drop)
    }

    fn done(&self, generation: i64, before: Option<String>) -> Decided {
        let own = self.decision.wanted.kept.as_ref().map(|kept| &kept.key);
        let is_needed = |key: &String| Some(key) == own && !self.decision.forgets();
        Decided::Yes {
            generation,
            replaced: before.filter(|key| !is_needed(key)),
        }
    }
}
