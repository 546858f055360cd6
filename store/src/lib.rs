//! What the runner keeps: SQL (tasks, files, modules) and the file store.
//!
//! SQL is the truth; the queue and events are hints. A worker's write names the run that it is for, and
//! where no row is hit (`false`) it was overtaken: nothing was written, its files are to be discarded.
//!
//! The database is SQLite, PostgreSQL (15 and later), MariaDB (10.11) or MySQL (8). A server may go away: writes and
//! reads wait for it, for a minute, and nothing that was acknowledged is lost.
//!
//! # Layout
//! - [`Store`]: the door; `config` says where it keeps things, `error` what goes wrong.
//! - `sql`: one way to ask three databases; `writer`: the tasks that write, with their group commit; `migrations`: the
//!   tables.
//! - `insert`: making tasks; `tasks`: reading them; `lists`: many of them; `cancel`: their early end; `runs`: the writes
//!   of workers and pages; `recover`: tasks whose worker or job is gone; `retry`: one that is run once more.
//! - `recent`: the newest tasks, as they were committed last.
//! - `workers`: the processes that take or make tasks, and what they know of the queue. `sight`: what is to be seen
//!   from outside, and whether everything can be used.
//! - `deliveries`: subscriptions of webhooks, and what is to be sent to them.
//! - `schedules`: work that comes again: what is due, what it makes, what modules declared.
//! - `retention`: what is removed when it is old, and what is kept all the same; `usage`: how much there is; `wanted`: what
//!   administrators want of modules; `check`:
//!   rows and content that do not fit together. `housekeeping`: who does it, once for all processes.
//! - `marker`: which file store belongs to the database.
//! - `files`: the rows of inputs and outputs; [`FileStore`]: their content, in a folder or a bucket.
//! - `modules`: cached descriptions and digests. `pipelines`: what is seen and wanted of pipelines that run.
//!   `permalinks`: cells that a short address leads to.
//!
//! # Invariants
//! - Whatever changes SQL goes through the writer, as a `Write` that can be applied again.
//! - A key stands in the file store before its row does; a row is removed before its key. So a row
//!   always has its content, and what has no row for a while can be swept.
//! - The row of a task has the beginning of its log, as long as it is not above 16 KiB; what does not fit goes into a
//!   chunk, and nothing is added to the row after that.
//! - Every change of a task leaves a random number in its row, so that a commit whose answer was lost is recognised.

mod cancel;
mod check;
mod config;
mod deliveries;
mod error;
mod file_store;
mod files;
mod housekeeping;
mod insert;
mod lists;
mod marker;
mod migrations;
mod modules;
mod permalinks;
mod pipelines;
mod recent;
mod recover;
mod retention;
mod retry;
mod runs;
mod schedules;
mod sight;
mod sql;
mod tasks;
mod usage;
mod wanted;
mod workers;
mod writer;

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Mutex;

use crate::recent::Recent;
use crate::sql::{Database, Reader, Readers};
use crate::writer::Writer;

pub use check::{Checked, Finding};
pub use config::{BadDatabaseUrl, DatabaseUrl, Durability, StoreConfig};
pub use deliveries::{Delivery, DeliveryState, MAX_SUBSCRIPTIONS};
pub use error::StoreError;
pub use file_store::{BadBucket, Bucket, ContentStream, FileStore, FileWriter, StoredFile};
pub use housekeeping::Housekeeping;
pub use insert::Inserted;
pub use lists::{TaskFilter, TaskSummary};
pub use migrations::{MigrationStatus, drop_all, migrate, migration_status};
pub use permalinks::Permalink;
pub use pipelines::{PipelineRow, Wished};
pub use recover::Recovered;
pub use retention::{Due, Removed};
pub use retry::{LostRun, Retried};
pub use runs::{NewFile, PageWrite, Recorded, RunWrite};
pub use schedules::{Changed, Declared, Fire, Fired};
pub use sight::{Counts, MOST_COUNTED, RunningTask};
pub use tasks::Current;
pub use usage::Usage;
pub use wanted::Decided;
pub use workers::{Beat, Other, WorkerInfo, WorkerKind, WorkerRow};

/// SQL and the file store of one installation. Clones share everything.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Changes SQL. Ends when the last clone of the store is dropped, after what it was given.
    writer: Writer,
    /// Read SQL.
    readers: Readers,
    /// The newest tasks, where nobody else writes.
    recent: Arc<Recent>,
    /// The content of files.
    files: FileStore,
    /// The queue whose tasks are made and taken here.
    queue: String,
    /// This process.
    process: String,
    /// What marks the file store, once it was looked at.
    marker: OnceLock<String>,
    /// Held while deliveries are claimed.
    claiming: Mutex<()>,
}

impl Store {
    /// Opens the database and the file store, and makes what is missing of them.
    ///
    /// # Errors
    /// What could not be opened, or that the database was made by a newer runner.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let files = FileStore::open_at(&config.files, config.bucket.as_ref(), config.durability)?;
        let database = Database::new(&config.database, config.durability);
        let mut connection = database.open().await?;
        migrations::apply(&mut connection, &config.database).await?;
        let readers = database.readers().await?;
        let recent = Arc::new(Recent::new(config.is_alone));
        let writer = Writer::start(database, connection, Arc::clone(&recent));
        Ok(Self {
            inner: Arc::new(Inner {
                writer,
                readers,
                recent,
                files,
                queue: config.queue.clone(),
                process: config.process.clone(),
                marker: OnceLock::new(),
                claiming: Mutex::new(()),
            }),
        })
    }

    /// The content of files.
    pub fn files(&self) -> &FileStore {
        &self.inner.files
    }

    /// Waits for the writes that were begun, moves them from the log of SQLite into the database, and
    /// closes it for all clones. Without it nothing is lost, but the next start of SQLite has more to read.
    pub async fn close(&self) {
        self.inner.writer.close(self.inner.readers.close()).await;
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    /// The queue whose tasks are made and taken here.
    pub fn queue(&self) -> &str {
        &self.inner.queue
    }

    /// This process, as it stands in SQL.
    pub fn process(&self) -> &str {
        &self.inner.process
    }

    pub(crate) fn marker(&self) -> &OnceLock<String> {
        &self.inner.marker
    }

    pub(crate) fn claiming(&self) -> &Mutex<()> {
        &self.inner.claiming
    }

    pub(crate) fn recent(&self) -> &Recent {
        &self.inner.recent
    }

    /// Somebody who reads; `attempt` says what for.
    pub(crate) async fn reader(&self, attempt: &'static str) -> Result<Reader, StoreError> {
        self.inner.readers.reader(attempt).await
    }
}

/// Milliseconds since 1970 (UTC).
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
