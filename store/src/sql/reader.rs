//! The connections that read.
//!
//! They are kept here and not in a pool of sqlx, which asks each one that comes back whether it lives: that would be
//! one more trip for each read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Arg, Ask, Connection, Database, Row, Statement, rows_of_sqlite, sqlite};
use crate::StoreError;
use crate::error::{Trouble, trouble};
use crate::writer::{WAIT_FOR_SERVER, pause};

/// How long a server may take for one statement that reads.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// How long a reader waits for a free connection; of a server it then asks again.
const SQLITE_FREE_LIMIT: Duration = Duration::from_secs(30);
const SERVER_FREE_LIMIT: Duration = Duration::from_secs(10);

/// The connections that read, as many as are needed up to a limit. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    /// The most connections.
    most: u32,
    /// A permit for each connection that may be lent.
    free: Arc<Semaphore>,
    /// Connections that nobody uses; the one that was used last is lent first.
    idle: Mutex<Vec<Connection>>,
    is_closed: AtomicBool,
}

impl Shared {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readers {
    /// With a connection that is there already.
    pub(super) fn new(database: Database, most: u32, first: Option<Connection>) -> Self {
        Self {
            shared: Arc::new(Shared {
                database,
                most,
                free: Arc::new(Semaphore::new(most as usize)),
                idle: Mutex::new(first.into_iter().collect()),
                is_closed: AtomicBool::new(false),
            }),
        }
    }

    /// Somebody who reads; `attempt` says what for.
    pub(crate) async fn reader(&self, attempt: &'static str) -> Result<Reader, StoreError> {
        if self.is_closed() {
            return Err(StoreError::Closed);
        }
        let mut reader = Reader {
            readers: self.clone(),
            borrowed: None,
        };
        if !self.is_of_server() {
            let borrowed = self.borrow().await;
            reader.borrowed = Some(borrowed.map_err(|source| match source {
                sqlx::Error::PoolClosed => StoreError::Closed,
                source => StoreError::sql(attempt, source),
            })?);
        }
        Ok(reader)
    }

    /// Closes all of them, after what is being read.
    pub(crate) async fn close(&self) {
        let shared = &self.shared;
        shared.is_closed.store(true, Ordering::Release);
        // Refused: somebody else has closed them.
        let _all = shared.free.acquire_many(shared.most).await;
        shared.free.close();
        let idle = std::mem::take(&mut *shared.idle());
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::debug!(%error, "a connection that reads was not closed well");
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Acquire)
    }

    fn is_of_server(&self) -> bool {
        self.shared.database.dialect().is_server()
    }

    async fn borrow(&self) -> Result<Borrowed, sqlx::Error> {
        let shared = &self.shared;
        if self.is_closed() {
            return Err(sqlx::Error::PoolClosed);
        }
        let limit = match self.is_of_server() {
            true => SERVER_FREE_LIMIT,
            false => SQLITE_FREE_LIMIT,
        };
        let permit = tokio::time::timeout(limit, Arc::clone(&shared.free).acquire_owned())
            .await
            .map_err(|_elapsed| sqlx::Error::PoolTimedOut)?
            .map_err(|_closed| sqlx::Error::PoolClosed)?;
        let idle = shared.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => shared.database.connect_to_read().await?,
        };
        Ok(Borrowed {
            connection: Some(connection),
            shared: Arc::clone(shared),
            _permit: permit,
        })
    }
}

/// A connection that goes back when it is dropped, before its permit does.
struct Borrowed {
    /// None while it is asked: one whose answer nobody waited for is of no use.
    connection: Option<Connection>,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Borrowed {
    /// Asks. A connection that broke is not kept.
    async fn rows(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let Some(mut connection) = self.connection.take() else {
            return Err(sqlx::Error::WorkerCrashed);
        };
        if let Connection::Sqlite(sqlite) = &mut connection
            && statement.is_lookup()
        {
            match sqlite.rows_at_once(statement, args) {
                Ok(Some(rows)) => {
                    self.connection = Some(connection);
                    return Ok(rows_of_sqlite(rows));
                }
                Ok(None) => {}
                Err(error) => return self.failed(Some(connection), error),
            }
        }
        let (connection, outcome) = match connection {
            Connection::Sqlite(connection) => {
                let (connection, rows) = sqlite::rows_elsewhere(connection, statement, args).await;
                (connection.map(Connection::Sqlite), rows.map(rows_of_sqlite))
            }
            mut connection => {
                let rows = connection.rows(statement, args).await;
                (Some(connection), rows)
            }
        };
        match outcome {
            Ok(rows) => {
                self.connection = connection;
                Ok(rows)
            }
            Err(error) => self.failed(connection, error),
        }
    }

    /// Keeps the connection unless it is of no use any more.
    fn failed(
        &mut self,
        connection: Option<Connection>,
        error: sqlx::Error,
    ) -> Result<Vec<Row>, sqlx::Error> {
        match trouble(&error) {
            // Then those that nobody used are hardly better.
            Trouble::Connection => self.shared.idle().clear(),
            _ => self.connection = connection,
        }
        Err(error)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.idle().push(connection);
        }
    }
}

/// Reads, each statement for itself. While a server is away it waits for it, up to [`WAIT_FOR_SERVER`].
pub(crate) struct Reader {
    readers: Readers,
    borrowed: Option<Borrowed>,
}

impl Reader {
    async fn attempt(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let mut borrowed = match self.borrowed.take() {
            Some(borrowed) => borrowed,
            None => self.readers.borrow().await?,
        };
        let outcome = match self.readers.is_of_server() {
            false => borrowed.rows(statement, args).await,
            true => match tokio::time::timeout(READ_LIMIT, borrowed.rows(statement, args)).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => Err(super::timed_out(READ_LIMIT)),
            },
        };
        if borrowed.connection.is_some() {
            self.borrowed = Some(borrowed);
        }
        outcome
    }
}

impl Ask for Reader {
    async fn rows(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let begin = Instant::now();
        let mut attempts = 0;
        loop {
            let error = match self.attempt(statement, args).await {
                Ok(rows) => return Ok(rows),
                Err(error) => error,
            };
            let may_help = self.readers.is_of_server()
                && matches!(trouble(&error), Trouble::Connection | Trouble::Again);
            if !may_help {
                return Err(error);
            }
            let waited = begin.elapsed();
            if waited > WAIT_FOR_SERVER {
                let seconds = waited.as_secs();
                return Err(sqlx::Error::Io(std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!("the database was away for {seconds} s; at last: {error}"),
                )));
            }
            // One that broke while nobody used it says nothing of the others.
            if attempts > 0 {
                pause(attempts).await;
            }
            attempts += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::sql::args;
    use crate::{DatabaseUrl, Durability};

    static ONE: Statement = Statement::new("SELECT 1");
    /// Takes a second or so.
    static MANY: Statement = Statement::new(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000000) \
         SELECT max(i) FROM n",
    );

    async fn readers() -> (tempfile::TempDir, Readers) {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::of_file(folder.path().join("db"));
        let database = Database::new(&url, Durability::Process);
        database.open().await.unwrap().close().await.unwrap();
        let readers = database.readers().await.unwrap();
        (folder, readers)
    }

    #[tokio::test]
    async fn a_connection_goes_back_and_is_lent_again() {
        let (_folder, readers) = readers().await;
        for _ in 0..10 {
            let mut reader = readers.reader("testing").await.unwrap();
            assert!(readers.shared.idle().is_empty());
            assert!(reader.row(&ONE, args![]).await.unwrap().is_some());
            drop(reader);
            assert_eq!(readers.shared.idle().len(), 1);
        }
    }

    #[tokio::test]
    async fn one_whose_answer_nobody_waited_for_is_not_lent_again() {
        let (_folder, readers) = readers().await;
        let mut reader = readers.reader("testing").await.unwrap();
        {
            let mut asking = pin!(reader.row(&MANY, args![]));
            let mut context = Context::from_waker(Waker::noop());
            assert!(asking.as_mut().poll(&mut context).is_pending());
        }
        drop(reader);
        assert!(readers.shared.idle().is_empty());
        assert_eq!(
            readers.shared.free.available_permits(),
            readers.shared.most as usize
        );
        let mut reader = readers.reader("testing").await.unwrap();
        assert!(reader.row(&ONE, args![]).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_end_waits_for_who_reads_and_refuses_who_comes_after() {
        let (_folder, readers) = readers().await;
        let mut reader = readers.reader("testing").await.unwrap();
        let mut closing = pin!(readers.close());
        let mut context = Context::from_waker(Waker::noop());
        assert!(closing.as_mut().poll(&mut context).is_pending());
        let refused = readers.reader("testing").await;
        assert!(matches!(refused.err(), Some(StoreError::Closed)));
        assert!(reader.row(&ONE, args![]).await.unwrap().is_some());
        drop(reader);
        closing.await;
        readers.close().await;
        assert!(readers.shared.idle().is_empty());
    }
}
