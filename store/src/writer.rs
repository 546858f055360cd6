//! The tasks that write.
//!
//! SQLite has one writer at a time, and so has this store; a server has several. Callers give them [`Write`]s through
//! one bounded channel. Whatever waits when a writer is ready shares one transaction, so that many callers pay for one
//! commit and a lonely caller does not wait for company. When one of them fails, the transaction is rolled back and
//! each is applied alone: the others do not notice.
//!
//! While a server is away, or others are in the way, a write waits and is applied again, up to [`WAIT_FOR_SERVER`]
//! after it was asked for; then it fails with [`StoreError::Away`]. Where the connection broke after a commit was
//! sent, nobody knows whether there was one: the write is applied again as one that may have been (see
//! [`Write::apply`]), or if it cannot tell, fails with [`StoreError::Unknown`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::Trouble;
use crate::recent::Recent;
use crate::sql::{Connection, Database, Dialect, timed_out};
use crate::{StoreError, file_store};

/// The most writes that share a transaction.
const MAX_BATCH: usize = 128;
/// The same for a server, where several writers share what waits.
const MAX_SERVER_BATCH: usize = 32;
/// Writers of a server, each with a connection.
const SERVER_WRITERS: usize = 4;
/// Writes that may wait; more callers wait for room.
const MAX_WAITING: usize = 1024;
/// How long a write or a read waits for a server that is away.
pub(crate) const WAIT_FOR_SERVER: Duration = Duration::from_secs(60);
/// How long a server may take for one transaction.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// A connection that was not used for so long is asked whether it lives, before something is written that cannot be
/// applied again.
const IDLE: Duration = Duration::from_secs(1);
/// Between two attempts, doubled up to the longest; a random share of it is left out.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Waits before attempt number `attempts` is followed by another.
pub(crate) async fn pause(attempts: u32) {
    let full = FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)))
        .min(LONGEST_PAUSE);
    let share = f64::from(u16::from_le_bytes(file_store::random())) / f64::from(u16::MAX);
    tokio::time::sleep(full.mul_f64(0.5 + share / 2.0)).await;
}

/// A change of SQL. It may be applied more than once: what an earlier time did was rolled back, or is recognised.
pub(crate) trait Write: Send + Sync + 'static {
    /// What the caller is told once it is committed.
    type Answer: Send + 'static;

    /// Whether it is one text, which is whole or absent without a transaction around it.
    fn is_one_statement(&self, _dialect: Dialect) -> bool {
        false
    }

    /// Whether it can be applied again when nobody knows whether it was committed.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// Does it. An error undoes all that it did. `is_again`: an earlier time may have been committed.
    fn apply(
        &self,
        connection: &mut Connection,
        is_again: bool,
    ) -> impl Future<Output = Result<Self::Answer, StoreError>> + Send;

    /// Tells what is kept of tasks in memory, once it is committed. Those that do not say what they change empty it.
    fn remember(&self, _answer: &Self::Answer, recent: &Recent) {
        recent.clear();
    }
}

/// A write with the caller that waits for it.
struct Waiting<W: Write> {
    write: W,
    /// When it was asked for.
    since: Instant,
    /// Whether an earlier time may have been committed.
    is_again: bool,
    /// What `apply` said last; true once it is committed.
    outcome: Option<W::Answer>,
    caller: oneshot::Sender<Result<W::Answer, StoreError>>,
}

type Applied<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// [`Waiting`] of any kind of write.
trait AnyWaiting: Send {
    fn is_one_statement(&self, dialect: Dialect) -> bool;
    fn is_repeatable(&self) -> bool;
    fn since(&self) -> Instant;
    fn may_be_committed(&mut self);
    fn apply<'a>(&'a mut self, connection: &'a mut Connection) -> Applied<'a>;
    fn committed(self: Box<Self>, recent: &Recent);
    fn failed(self: Box<Self>, error: StoreError);
}

impl<W: Write> AnyWaiting for Waiting<W> {
    fn is_one_statement(&self, dialect: Dialect) -> bool {
        self.write.is_one_statement(dialect) && !self.is_again
    }

    fn is_repeatable(&self) -> bool {
        self.write.is_repeatable()
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn may_be_committed(&mut self) {
        self.is_again = true;
    }

    fn apply<'a>(&'a mut self, connection: &'a mut Connection) -> Applied<'a> {
        Box::pin(async move {
            self.outcome = Some(self.write.apply(connection, self.is_again).await?);
            Ok(())
        })
    }

    fn committed(self: Box<Self>, recent: &Recent) {
        if let Some(outcome) = self.outcome {
            self.write.remember(&outcome, recent);
            let _gone = self.caller.send(Ok(outcome));
        }
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _gone = self.caller.send(Err(error));
    }
}

enum Message {
    Write(Box<dyn AnyWaiting>),
    /// Finish what came before, and take nothing more.
    Close,
}

/// The door of the tasks that write.
#[derive(Debug)]
pub(crate) struct Writer {
    dialect: Dialect,
    messages: mpsc::Sender<Message>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the tasks, the first with this connection. They end when the writer is dropped or closed, after what
    /// was given to it before.
    pub(crate) fn start(database: Database, connection: Connection, recent: Arc<Recent>) -> Self {
        let dialect = database.dialect();
        let (messages, receiver) = mpsc::channel(MAX_WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut connection = Some(connection);
        let count = if dialect.is_server() {
            SERVER_WRITERS
        } else {
            1
        };
        let tasks = (0..count).map(|_| {
            let task = WriterTask {
                database: database.clone(),
                connection: connection.take(),
                used: Instant::now(),
                recent: Arc::clone(&recent),
            };
            let work = task.work(Arc::clone(&receiver));
            match dialect.is_server() {
                true => tokio::spawn(work),
                // It does not give way while SQLite works, so it has a thread for itself.
                false => tokio::task::spawn_blocking(move || Handle::current().block_on(work)),
            }
        });
        let tasks = Mutex::new(tasks.collect());
        Self {
            dialect,
            messages,
            tasks,
        }
    }

    /// Applies a write and waits until it is committed. A caller that stops waiting does not undo it.
    pub(crate) async fn write<W: Write>(&self, write: W) -> Result<W::Answer, StoreError> {
        let (caller, answer) = oneshot::channel();
        let waiting = Waiting {
            write,
            since: Instant::now(),
            is_again: false,
            outcome: None,
            caller,
        };
        let message = Message::Write(Box::new(waiting));
        let sending = self.messages.send(message);
        let sent = match self.dialect.is_server() {
            false => sending.await,
            true => match tokio::time::timeout(WAIT_FOR_SERVER, sending).await {
                Ok(sent) => sent,
                Err(_elapsed) => {
                    return Err(StoreError::Away {
                        attempt: "waiting among other writes".to_owned(),
                        waited_seconds: WAIT_FOR_SERVER.as_secs(),
                        source: timed_out(WAIT_FOR_SERVER),
                    });
                }
            },
        };
        sent.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Waits for `readers`, then for what was given before, then moves SQLite's write-ahead log into the database,
    /// which nobody reads any more.
    pub(crate) async fn close(&self, readers: impl Future<Output = ()>) {
        readers.await;
        let _ended = self.messages.send(Message::Close).await;
        for task in self.tasks.lock().await.drain(..) {
            let _panicked = task.await;
        }
    }
}

/// Why a batch was not applied.
struct Failure {
    error: StoreError,
    /// Whether it may have been committed all the same.
    may_be_committed: bool,
}

/// A task that writes.
struct WriterTask {
    database: Database,
    /// None before the first write and after it broke.
    connection: Option<Connection>,
    /// When the connection was used last.
    used: Instant,
    /// Told of what is committed.
    recent: Arc<Recent>,
}

impl WriterTask {
    async fn work(mut self, receiver: Arc<Mutex<mpsc::Receiver<Message>>>) {
        let limit = match self.database.dialect().is_server() {
            true => MAX_SERVER_BATCH,
            false => MAX_BATCH,
        };
        let mut messages = Vec::with_capacity(limit);
        loop {
            let mut source = receiver.lock().await;
            if source.recv_many(&mut messages, limit).await == 0 {
                break;
            }
            let mut batch = Vec::with_capacity(messages.len());
            for message in messages.drain(..) {
                match message {
                    Message::Write(waiting) => batch.push(waiting),
                    Message::Close => source.close(),
                }
            }
            drop(source);
            self.commit(batch).await;
        }
        self.leave().await;
    }

    /// Applies a batch and answers all its callers.
    async fn commit(&mut self, mut batch: Vec<Box<dyn AnyWaiting>>) {
        if batch.len() > 1 {
            let Err(failure) = self.attempt(&mut batch).await else {
                for waiting in batch {
                    waiting.committed(&self.recent);
                }
                return;
            };
            tracing::debug!(
                error = %failure.error,
                writes = batch.len(),
                "a group of writes is applied one by one"
            );
            if failure.may_be_committed {
                for waiting in &mut batch {
                    waiting.may_be_committed();
                }
                let (repeatable, others): (Vec<_>, Vec<_>) = batch
                    .into_iter()
                    .partition(|waiting| waiting.is_repeatable());
                for waiting in others {
                    waiting.failed(unknown(&failure.error));
                }
                batch = repeatable;
            }
        }
        for waiting in batch {
            self.alone(waiting).await;
        }
    }

    /// Applies one, again and again where that can help, and answers its caller.
    async fn alone(&mut self, waiting: Box<dyn AnyWaiting>) {
        let mut alone = [waiting];
        let mut attempts = 0;
        let error = loop {
            // Those that waited behind others for a server that is away do not each try to reach it.
            if let Some(error) = self.is_too_late(alone[0].since()) {
                break error;
            }
            let Err(failure) = self.attempt(&mut alone).await else {
                let [waiting] = alone;
                return waiting.committed(&self.recent);
            };
            attempts += 1;
            let [waiting] = &mut alone;
            if failure.may_be_committed {
                waiting.may_be_committed();
                if !waiting.is_repeatable() {
                    break unknown(&failure.error);
                }
            }
            if let Some(error) = self.is_final(failure.error, attempts, waiting.since()) {
                break error;
            }
            // A connection that broke while nobody used it is replaced at once.
            if attempts > 1 {
                pause(attempts - 1).await;
            }
        };
        let [waiting] = alone;
        waiting.failed(error);
    }

    fn is_too_late(&self, since: Instant) -> Option<StoreError> {
        let waited = since.elapsed();
        let is_away = self.database.dialect().is_server() && self.connection.is_none();
        (is_away && waited > WAIT_FOR_SERVER).then(|| StoreError::Away {
            attempt: "writing".to_owned(),
            waited_seconds: waited.as_secs(),
            source: timed_out(waited),
        })
    }

    /// What the caller is told, unless it is tried again.
    fn is_final(&self, error: StoreError, attempts: u32, since: Instant) -> Option<StoreError> {
        let trouble = error.trouble();
        let may_help = match self.database.dialect().is_server() {
            false => trouble == Trouble::Connection && attempts == 1,
            true => matches!(trouble, Trouble::Connection | Trouble::Again),
        };
        if !may_help {
            return Some(error);
        }
        let waited = since.elapsed();
        match error {
            StoreError::Sql { attempt, source }
                if self.database.dialect().is_server() && waited > WAIT_FOR_SERVER =>
            {
                Some(StoreError::Away {
                    attempt,
                    waited_seconds: waited.as_secs(),
                    source,
                })
            }
            _ => None,
        }
    }

    /// Applies a batch as a whole.
    async fn attempt(&mut self, batch: &mut [Box<dyn AnyWaiting>]) -> Result<(), Failure> {
        let dialect = self.database.dialect();
        let is_one_statement = match &*batch {
            [waiting] => waiting.is_one_statement(dialect),
            _ => false,
        };
        let not_begun = |error| Failure {
            error,
            may_be_committed: false,
        };
        let must_live = is_one_statement && batch.iter().any(|waiting| !waiting.is_repeatable());
        let mut connection = self.connected(must_live).await.map_err(not_begun)?;
        let mut is_committing = is_one_statement;
        let outcome = match dialect.is_server() {
            false => apply(&mut connection, batch, &mut is_committing).await,
            true => {
                let applying = apply(&mut connection, batch, &mut is_committing);
                let outcome = tokio::time::timeout(WRITE_LIMIT, applying).await;
                outcome.unwrap_or_else(|_elapsed| {
                    Err(StoreError::sql("writing", timed_out(WRITE_LIMIT)))
                })
            }
        };
        let Err(error) = outcome else {
            self.keep(connection);
            return Ok(());
        };
        self.recent.clear();
        let is_broken = error.breaks_connection();
        match is_broken {
            true => tracing::warn!(
                ?error,
                "the connection to the database broke; opening another"
            ),
            false => self.keep(connection),
        }
        Err(Failure {
            error,
            // SQLite has no answers that can be lost.
            may_be_committed: is_broken && is_committing && dialect.is_server(),
        })
    }

    fn keep(&mut self, connection: Connection) {
        self.connection = Some(connection);
        self.used = Instant::now();
    }

    /// The connection, or a new one. `must_live`: what is written cannot be applied again.
    async fn connected(&mut self, must_live: bool) -> Result<Connection, StoreError> {
        if let Some(mut connection) = self.connection.take()
            && (!must_live || self.used.elapsed() < IDLE || connection.ping().await.is_ok())
        {
            return Ok(connection);
        }
        self.database.connect().await
    }

    async fn leave(mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let moved = match self.database.dialect() {
            Dialect::Sqlite => connection.run("PRAGMA wal_checkpoint(TRUNCATE)").await,
            _ => Ok(()),
        };
        if let Err(error) = moved.and(connection.close().await) {
            tracing::warn!(%error, "the database was not closed well; the next start repairs it");
        }
    }
}

/// What a caller is told whose write may have been committed.
fn unknown(error: &StoreError) -> StoreError {
    let (attempt, reason) = match error {
        StoreError::Sql { attempt, source } => (attempt.clone(), source.to_string()),
        other => ("writing".to_owned(), other.to_string()),
    };
    StoreError::Unknown {
        attempt,
        source: sqlx::Error::Io(std::io::Error::other(reason)),
    }
}

/// Applies a batch in one transaction, or one write that needs none. `is_committing` becomes true when a commit is sent.
async fn apply(
    connection: &mut Connection,
    batch: &mut [Box<dyn AnyWaiting>],
    is_committing: &mut bool,
) -> Result<(), StoreError> {
    if *is_committing && let [waiting] = batch {
        return waiting.apply(connection).await;
    }
    let begin = match connection.dialect() {
        Dialect::Sqlite => "BEGIN IMMEDIATE",
        _ => "BEGIN",
    };
    run(connection, begin).await?;
    let mut outcome = Ok(());
    for waiting in batch {
        outcome = waiting.apply(connection).await;
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        *is_committing = true;
        outcome = run(connection, "COMMIT").await;
    }
    match &outcome {
        Err(error) if !(error.breaks_connection() && connection.dialect().is_server()) => {
            // SQLite has rolled back by itself after some errors, of which a full disk is one. A server's connection
            // that cannot roll back is of no use.
            let rolled_back = run(connection, "ROLLBACK").await;
            if connection.dialect().is_server() && rolled_back.is_err() {
                return rolled_back;
            }
        }
        _ => {}
    }
    outcome
}

async fn run(connection: &mut Connection, sql: &'static str) -> Result<(), StoreError> {
    let done = connection.run(sql).await;
    done.map_err(|source| StoreError::sql(sql, source))
}

#[cfg(test)]
mod tests;
