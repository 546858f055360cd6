//! Who does the housekeeping, once for all processes.

use std::time::{Duration, SystemTime};

use runner_core::retention::Retention;

use crate::deliveries::milliseconds;
use crate::retention::{Removed, Turn};
use crate::sql::{Ask, Connection, Dialect, Statement, args};
use crate::tasks::to_json;
use crate::writer::Write;
use crate::{Store, StoreError};

/// The row. There is one for each thing that is done so.
const NAME: &str = "retention";
/// How long a process may be silent before another one goes on with it.
const LEASE: Duration = Duration::from_secs(60);

/// What is known of the housekeeping.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Housekeeping {
    /// When it was done last, in milliseconds since 1970 (UTC).
    pub finished_at: Option<i64>,
    /// When it is to be done again.
    pub next_at: Option<i64>,
    /// What it did then.
    pub removed: Option<Removed>,
}

impl Store {
    /// What is known of the housekeeping.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn housekeeping(&self) -> Result<Housekeeping, StoreError> {
        let attempt = "reading what is known of the housekeeping";
        let failed = |source| StoreError::sql(attempt, source);
        let row = self.reader(attempt).await?.row(&KNOWN, args![NAME]).await;
        let Some(row) = row.map_err(failed)? else {
            return Ok(Housekeeping::default());
        };
        let report: String = row.get(2).map_err(failed)?;
        Ok(Housekeeping {
            finished_at: row.get(0).map_err(failed)?,
            next_at: row.get(1).map_err(failed)?,
            // What a newer runner wrote is not known here.
            removed: serde_json::from_str(&report).ok(),
        })
    }

    /// Does the housekeeping if it is due, or `now`, unless another process is at it. Answers what was done; None:
    /// nothing was to be done here. It is due again after `pause`.
    ///
    /// # Errors
    /// Why it was not begun, or its end not written down.
    pub async fn keep_house(
        &self,
        retention: &Retention,
        pause: Duration,
        now: bool,
    ) -> Result<Option<Removed>, StoreError> {
        let step = |step| Taking {
            process: self.process().to_owned(),
            step,
        };
        match self.writer().write(step(Step::Take { now })).await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                // Room for the database may be made by what needs none of it.
                if error.is_disk_full() {
                    let before = SystemTime::now() - retention.temporary;
                    self.sweep_files(before).await?;
                }
                return Err(error);
            }
        }
        let removed = self.remove_while(retention, Turn::ForAll).await;
        let report = to_json(&removed);
        let pause_ms = milliseconds(pause);
        self.writer()
            .write(step(Step::Leave { pause_ms, report }))
            .await?;
        Ok(Some(removed))
    }

    /// Says that this process is still at it; whether it is.
    pub(crate) async fn keeps_house(&self) -> bool {
        let keep = Taking {
            process: self.process().to_owned(),
            step: Step::Keep,
        };
        self.writer().write(keep).await.unwrap_or(false)
    }
}

static KNOWN: Statement =
    Statement::new("SELECT finished_at, next_at, report FROM housekeeping WHERE name = ?1");

static BEGIN: Statement = Statement::new(
    "INSERT INTO housekeeping (name, next_at, report) VALUES (?1, {now}, 'null') ON CONFLICT (name) DO NOTHING",
)
.mysql("INSERT IGNORE INTO housekeeping (name, next_at, report) VALUES (?1, {now}, 'null')");

// Who held it and asks again has lost the answer.
static TAKE: Statement = Statement::new(
    "UPDATE housekeeping SET holder = ?2, leased_until = {now} + ?3 WHERE name = ?1 \
     AND (?4 = 1 OR next_at <= {now}) AND (leased_until IS NULL OR leased_until <= {now} OR holder = ?2)",
);

static KEEP: Statement = Statement::new(
    "UPDATE housekeeping SET leased_until = {now} + ?3 WHERE name = ?1 AND holder = ?2",
);

static LEAVE: Statement = Statement::new(
    "UPDATE housekeeping SET holder = NULL, leased_until = NULL, finished_at = {now}, next_at = {now} + ?3, \
     report = ?4 WHERE name = ?1 AND holder = ?2",
);

enum Step {
    Take { now: bool },
    Keep,
    Leave { pause_ms: i64, report: String },
}

struct Taking {
    process: String,
    step: Step,
}

impl Write for Taking {
    type Answer = bool;

    fn is_one_statement(&self, _dialect: Dialect) -> bool {
        !matches!(self.step, Step::Take { .. })
    }

    async fn apply(
        &self,
        connection: &mut Connection,
        _is_again: bool,
    ) -> Result<bool, StoreError> {
        let failed = |source| StoreError::sql("taking turns at housekeeping", source);
        let lease = milliseconds(LEASE);
        let done = match &self.step {
            Step::Take { now } => {
                let begun = connection.execute(&BEGIN, args![NAME]).await;
                begun.map_err(failed)?;
                let args = args![NAME, &self.process, lease, i64::from(*now)];
                connection.execute(&TAKE, args).await
            }
            Step::Keep => {
                let args = args![NAME, &self.process, lease];
                connection.execute(&KEEP, args).await
            }
            Step::Leave { pause_ms, report } => {
                let args = args![NAME, &self.process, *pause_ms, report];
                connection.execute(&LEAVE, args).await
            }
        };
        Ok(done.map_err(failed)?.hit > 0)
    }
}
