//! The connections that read.

use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlPool, PgPool, Postgres, Sqlite, SqlitePool};

use super::{Arg, Ask, Row, Statement, rows_of_mysql, rows_of_postgres, rows_of_sqlite};
use crate::StoreError;
use crate::error::{Trouble, trouble};
use crate::writer::{WAIT_FOR_SERVER, pause};

/// How long a server may take for one statement that reads.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The connections that read, as many as are needed up to a limit.
#[derive(Debug, Clone)]
pub(crate) enum Readers {
    Sqlite(SqlitePool),
    Postgres(PgPool),
    Mysql(MySqlPool),
}

impl Readers {
    /// Somebody who reads; `attempt` says what for.
    pub(crate) async fn reader(&self, attempt: &'static str) -> Result<Reader, StoreError> {
        if self.is_closed() {
            return Err(StoreError::Closed);
        }
        let mut reader = Reader {
            readers: self.clone(),
            borrowed: None,
        };
        if let Self::Sqlite(_) = self {
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
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
            Self::Mysql(pool) => pool.close().await,
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Sqlite(pool) => pool.is_closed(),
            Self::Postgres(pool) => pool.is_closed(),
            Self::Mysql(pool) => pool.is_closed(),
        }
    }

    async fn borrow(&self) -> Result<Borrowed, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Borrowed::Sqlite(pool.acquire().await?),
            Self::Postgres(pool) => Borrowed::Postgres(pool.acquire().await?),
            Self::Mysql(pool) => Borrowed::Mysql(pool.acquire().await?),
        })
    }
}

enum Borrowed {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
    Mysql(PoolConnection<MySql>),
}

impl Borrowed {
    async fn rows(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => rows_of_sqlite(connection, statement, args).await,
            Self::Postgres(connection) => rows_of_postgres(connection, statement, args).await,
            Self::Mysql(connection) => rows_of_mysql(connection, statement, args).await,
        }
    }

    /// Takes it out of the pool, which would give it to the next.
    fn discard(self) {
        match self {
            Self::Sqlite(connection) => drop(connection.detach()),
            Self::Postgres(connection) => drop(connection.detach()),
            Self::Mysql(connection) => drop(connection.detach()),
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
        let outcome = match &borrowed {
            Borrowed::Sqlite(_) => borrowed.rows(statement, args).await,
            _ => match tokio::time::timeout(READ_LIMIT, borrowed.rows(statement, args)).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => {
                    borrowed.discard();
                    return Err(super::timed_out(READ_LIMIT));
                }
            },
        };
        match &outcome {
            Err(error) if trouble(error) == Trouble::Connection => borrowed.discard(),
            _ => self.borrowed = Some(borrowed),
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
            let may_help = !matches!(self.readers, Readers::Sqlite(_))
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
