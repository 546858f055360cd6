//! The connections: one that writes, a few that read.
//!
//! SQLite has one writer at a time. Ours is a task with a connection of its own; callers give it
//! [`Write`]s through a bounded channel. Whatever waits when it is ready shares one transaction, so that
//! many callers pay for one commit and a lonely caller does not wait for company. When one of them
//! fails, the transaction is rolled back and each is applied alone: the others do not notice.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{mpsc, oneshot};

use crate::error::{code, sqlite_code};
use crate::{Durability, StoreConfig, StoreError, migrations};

/// The most writes that share a transaction.
const MAX_BATCH: usize = 128;
/// Writes that may wait; more callers wait for room.
const MAX_WAITING: usize = 1024;
/// Connections that read. Each is a thread and a page cache.
const READERS: u32 = 3;
/// How long another process may hold the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two attempts where SQLite itself does not wait.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Page caches in KiB, negative as SQLite wants it.
const WRITER_CACHE: &str = "-4096";
const READER_CACHE: &str = "-1024";
/// Bytes of the write-ahead log that are kept on disk for reuse after a burst.
const JOURNAL_LIMIT: &str = "33554432";

/// How to connect.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    path: PathBuf,
    synchronous: SqliteSynchronous,
}

impl Database {
    pub(crate) fn new(config: &StoreConfig) -> Self {
        Self {
            path: config.database.clone(),
            synchronous: match config.durability {
                Durability::Process => SqliteSynchronous::Normal,
                Durability::Power => SqliteSynchronous::Full,
            },
        }
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .disable_statement_logging()
    }

    /// Opens the connection that writes. The change to WAL does not wait for others that make it at the same
    /// moment, as all else does: SQLite calls no busy handler there. So it is tried again, as long as anything
    /// else would wait.
    async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        let options = self
            .options()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(self.synchronous)
            .pragma("cache_size", WRITER_CACHE)
            .pragma("journal_size_limit", JOURNAL_LIMIT);
        let begin = Instant::now();
        loop {
            match options.clone().connect().await {
                Err(source) if is_busy(&source) && begin.elapsed() < BUSY_TIMEOUT => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                connected => return connected.map_err(|source| self.opening(source)),
            }
        }
    }

    fn opening(&self, source: sqlx::Error) -> StoreError {
        StoreError::sql(
            format!("opening the database {}", self.path.display()),
            source,
        )
    }

    /// The connections that read. They are opened for writing, because a reader must be able to repair
    /// what a killed process left, but refuse every statement that writes.
    pub(crate) async fn readers(&self) -> Result<SqlitePool, StoreError> {
        let options = self
            .options()
            .pragma("cache_size", READER_CACHE)
            .pragma("query_only", "ON");
        SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|source| self.opening(source))
    }
}

/// Whether another connection holds the database for a moment.
fn is_busy(error: &sqlx::Error) -> bool {
    sqlite_code(error).is_some_and(|code| code & 0xff == code::BUSY)
}

/// A change of SQL. It may be applied more than once: what an earlier time did was rolled back.
pub(crate) trait Write: Send + Sync + 'static {
    /// What the caller is told once it is committed.
    type Answer: Send + 'static;

    /// Whether it is one statement, which is whole or absent without a transaction around it.
    fn is_one_statement(&self) -> bool {
        false
    }

    /// Does it. An error undoes all that it did.
    fn apply(
        &self,
        connection: &mut SqliteConnection,
    ) -> impl Future<Output = Result<Self::Answer, StoreError>> + Send;
}

/// A write with the caller that waits for it.
struct Waiting<W: Write> {
    write: W,
    /// What `apply` said last; true once it is committed.
    outcome: Option<W::Answer>,
    caller: oneshot::Sender<Result<W::Answer, StoreError>>,
}

type Applied<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// [`Waiting`] of any kind of write.
trait AnyWaiting: Send {
    fn is_one_statement(&self) -> bool;
    fn apply<'a>(&'a mut self, connection: &'a mut SqliteConnection) -> Applied<'a>;
    fn committed(self: Box<Self>);
    fn failed(self: Box<Self>, error: StoreError);
}

impl<W: Write> AnyWaiting for Waiting<W> {
    fn is_one_statement(&self) -> bool {
        self.write.is_one_statement()
    }

    fn apply<'a>(&'a mut self, connection: &'a mut SqliteConnection) -> Applied<'a> {
        Box::pin(async move {
            self.outcome = Some(self.write.apply(connection).await?);
            Ok(())
        })
    }

    fn committed(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            let _gone = self.caller.send(Ok(outcome));
        }
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _gone = self.caller.send(Err(error));
    }
}

enum Message {
    Write(Box<dyn AnyWaiting>),
    /// Finish what came before, and answer.
    Close(oneshot::Sender<()>),
}

/// The door of the task that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    messages: mpsc::Sender<Message>,
}

impl Writer {
    /// Connects, brings the tables up to date, and starts the task. It ends when the writer is dropped
    /// or closed, after what was given to it before.
    pub(crate) async fn start(database: Database) -> Result<Self, StoreError> {
        let mut connection = database.connect().await?;
        migrations::apply(&mut connection, &database.path).await?;
        let (messages, receiver) = mpsc::channel(MAX_WAITING);
        let task = WriterTask {
            database,
            connection: Some(connection),
        };
        tokio::spawn(task.work(receiver));
        Ok(Self { messages })
    }

    /// Applies a write and waits until it is committed. A caller that stops waiting does not undo it.
    pub(crate) async fn write<W: Write>(&self, write: W) -> Result<W::Answer, StoreError> {
        let (caller, answer) = oneshot::channel();
        let waiting = Waiting {
            write,
            outcome: None,
            caller,
        };
        let message = Message::Write(Box::new(waiting));
        let sent = self.messages.send(message).await;
        sent.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Waits for what was given before, then for `readers`, then moves the write-ahead log into the
    /// database, which nobody reads any more.
    pub(crate) async fn close(&self, readers: impl Future<Output = ()>) {
        readers.await;
        let (caller, answer) = oneshot::channel();
        if self.messages.send(Message::Close(caller)).await.is_ok() {
            let _ended = answer.await;
        }
    }
}

/// The task that writes.
struct WriterTask {
    database: Database,
    /// None after it broke, until the next write.
    connection: Option<SqliteConnection>,
}

impl WriterTask {
    async fn work(mut self, mut receiver: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(MAX_BATCH);
        while receiver.recv_many(&mut messages, MAX_BATCH).await > 0 {
            let mut batch = Vec::with_capacity(messages.len());
            let mut closing = None;
            for message in messages.drain(..) {
                match message {
                    Message::Write(waiting) => batch.push(waiting),
                    Message::Close(caller) => closing = Some(caller),
                }
            }
            self.commit(batch).await;
            if let Some(caller) = closing {
                self.checkpoint().await;
                let _gone = caller.send(());
                return;
            }
        }
    }

    /// Applies a batch and answers all its callers.
    async fn commit(&mut self, mut batch: Vec<Box<dyn AnyWaiting>>) {
        if batch.is_empty() {
            return;
        }
        let Err(error) = self.attempt(&mut batch).await else {
            batch.into_iter().for_each(AnyWaiting::committed);
            return;
        };
        if batch.len() == 1 && !error.breaks_connection() {
            return fail(batch, error);
        }
        tracing::debug!(%error, writes = batch.len(), "a group of writes is applied one by one");
        for waiting in batch {
            let mut alone = [waiting];
            let outcome = self.attempt(&mut alone).await;
            let [waiting] = alone;
            match outcome {
                Ok(()) => waiting.committed(),
                Err(error) => waiting.failed(error),
            }
        }
    }

    /// Applies a batch as a whole.
    async fn attempt(&mut self, batch: &mut [Box<dyn AnyWaiting>]) -> Result<(), StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect().await?,
        };
        let outcome = match batch {
            [waiting] if waiting.is_one_statement() => waiting.apply(&mut connection).await,
            _ => transaction(&mut connection, batch).await,
        };
        match &outcome {
            Err(error) if error.breaks_connection() => {
                tracing::warn!(
                    ?error,
                    "the connection to the database broke; opening another"
                );
            }
            _ => self.connection = Some(connection),
        }
        outcome
    }

    async fn checkpoint(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let outcome = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut connection)
            .await;
        if let Err(error) = outcome.and(connection.close().await) {
            tracing::warn!(%error, "the database was not closed well; the next start repairs it");
        }
    }
}

fn fail(batch: Vec<Box<dyn AnyWaiting>>, error: StoreError) {
    if let Some(waiting) = batch.into_iter().next() {
        waiting.failed(error);
    }
}

async fn transaction(
    connection: &mut SqliteConnection,
    batch: &mut [Box<dyn AnyWaiting>],
) -> Result<(), StoreError> {
    statement(connection, "BEGIN IMMEDIATE").await?;
    let mut outcome = Ok(());
    for waiting in batch {
        outcome = waiting.apply(connection).await;
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = statement(connection, "COMMIT").await;
    }
    if outcome.is_err() {
        // SQLite has rolled back by itself after some errors, of which a full disk is one.
        let _rolled_back = statement(connection, "ROLLBACK").await;
    }
    outcome
}

async fn statement(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    let done = sqlx::query(sql).execute(connection).await;
    done.map(drop)
        .map_err(|source| StoreError::sql(sql, source))
}

#[cfg(test)]
mod tests;
