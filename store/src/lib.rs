//! What the runner keeps: SQL (tasks, files, modules) and the file store.
//!
//! SQL is the truth; the queue and events are hints. A worker's write names the run that it is for, and
//! where no row is hit (`false`) it was overtaken: nothing was written, its files are to be discarded.
//!
//! # Layout
//! - [`Store`]: the door; `config` says where it keeps things, `error` what goes wrong.
//! - `sqlite`: connections, the one writer with its group commit; `migrations`: the tables.
//! - `tasks`: making and reading tasks; `lists`: many of them; `cancel`: their early end; `runs`: the writes of workers and pages; `recover`: what a
//!   start does with the tasks of workers that are gone.
//! - `deliveries`: subscriptions of webhooks, and what is to be sent to them.
//! - `files`: the rows of inputs and outputs; [`FileStore`]: their content.
//! - `modules`: cached descriptions and digests.
//!
//! # Invariants
//! - Whatever changes SQL goes through the writer, as a `Write` that can be applied again.
//! - A key stands in the file store before its row does; a row is removed before its key. So a row
//!   always has its content, and what has no row for a while can be swept.
//! - The row of a task has the first 16 KiB of its log; nothing is added to it once a chunk exists.

mod cancel;
mod config;
mod deliveries;
mod error;
mod file_store;
mod files;
mod lists;
mod migrations;
mod modules;
mod recover;
mod runs;
mod sqlite;
mod tasks;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::SqlitePool;

use crate::sqlite::Writer;

pub use config::{Durability, StoreConfig};
pub use deliveries::{Delivery, MAX_SUBSCRIPTIONS};
pub use error::StoreError;
pub use file_store::{FileStore, FileWriter, StoredFile};
pub use lists::{TaskFilter, TaskSummary};
pub use recover::Recovered;
pub use runs::{NewFile, PageWrite, RunWrite};

/// SQL and the file store of one installation. Clones share everything.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Changes SQL. Ends when the last clone of the store is dropped, after what it was given.
    writer: Writer,
    /// Reads SQL; these connections cannot write.
    readers: SqlitePool,
    /// The content of files.
    files: FileStore,
}

impl Store {
    /// Opens the database and the file store, and makes what is missing of them.
    ///
    /// # Errors
    /// What could not be opened, or that the database was made by a newer runner.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let files = FileStore::open_at(&config.files, config.durability)?;
        if let Some(folder) = config.database.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| StoreError::file("creating the folder", folder, source))?;
        }
        let database = sqlite::Database::new(config);
        let writer = Writer::start(database.clone()).await?;
        let readers = database.readers().await?;
        Ok(Self {
            inner: Arc::new(Inner {
                writer,
                readers,
                files,
            }),
        })
    }

    /// The content of files.
    pub fn files(&self) -> &FileStore {
        &self.inner.files
    }

    /// Waits for the writes that were begun, moves them from the log of SQLite into the database, and
    /// closes it for all clones. Without it nothing is lost, but the next start has more to read.
    pub async fn close(&self) {
        self.inner.writer.close(self.inner.readers.close()).await;
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    /// A connection that reads; `attempt` says what for.
    pub(crate) async fn reader(
        &self,
        attempt: &'static str,
    ) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>, StoreError> {
        let acquired = self.inner.readers.acquire().await;
        acquired.map_err(|source| match source {
            sqlx::Error::PoolClosed => StoreError::Closed,
            source => StoreError::sql(attempt, source),
        })
    }
}

/// Milliseconds since 1970 (UTC).
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
