//! How to connect.

use std::io;
use std::time::{Duration, Instant};

use sqlx::ConnectOptions as _;
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;

use super::sqlite::{SqliteConnection, is_busy};
use super::{Connection, Dialect, Readers};
use crate::config::Server;
use crate::error::Trouble;
use crate::writer::pause;
use crate::{DatabaseUrl, Durability, StoreError};

/// Connections that read SQLite. Each is a page cache.
const SQLITE_READERS: u32 = 3;
/// The most connections that read from a server.
const SERVER_READERS: u32 = 8;
/// How long others may change SQLite's database to WAL.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two attempts where SQLite itself does not wait.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// SQLite looks after foreign keys only where it is told to.
const FOREIGN_KEYS: (&str, &str) = ("foreign_keys", "ON");
/// Page caches in KiB, negative as SQLite wants it.
const WRITER_CACHE: &str = "-4096";
const READER_CACHE: &str = "-1024";
/// Bytes of the write-ahead log that are kept on disk for reuse after a burst.
const JOURNAL_LIMIT: &str = "33554432";
/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long an opening store waits for a server that is just being started.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// What a connection to PostgreSQL is told first.
const SET_UP_POSTGRES: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET lock_timeout = '20s'; SET idle_in_transaction_session_timeout = '10s'; SET standard_conforming_strings = on";
/// What a connection to MySQL or MariaDB is told first.
const SET_UP_MYSQL: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET SESSION innodb_lock_wait_timeout = 20, \
    sql_mode = 'STRICT_ALL_TABLES,PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION'";

/// How to connect.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: DatabaseUrl,
    durability: Durability,
}

impl Database {
    pub(crate) fn new(url: &DatabaseUrl, durability: Durability) -> Self {
        Self {
            url: url.clone(),
            durability,
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.url.dialect()
    }

    /// Opens the first connection of a process, and makes SQLite's folder. A server may just be starting.
    pub(crate) async fn open(&self) -> Result<Connection, StoreError> {
        if let Server::Sqlite(path) = self.url.server()
            && let Some(folder) = path.parent()
        {
            std::fs::create_dir_all(folder)
                .map_err(|source| StoreError::file("creating the folder", folder, source))?;
        }
        let begin = Instant::now();
        let mut attempts = 0;
        loop {
            match self.connect().await {
                Err(error)
                    if self.dialect().is_server()
                        && error.trouble() == Trouble::Connection
                        && begin.elapsed() < OPEN_LIMIT =>
                {
                    attempts += 1;
                    pause(attempts).await;
                }
                opened => return opened,
            }
        }
    }

    /// Opens a connection that writes.
    pub(crate) async fn connect(&self) -> Result<Connection, StoreError> {
        let connected = self.try_connect().await;
        connected.map_err(|source| self.opening(source))
    }

    async fn try_connect(&self) -> Result<Connection, sqlx::Error> {
        match self.url.server() {
            Server::Sqlite(path) => self.connect_sqlite(path).await.map(Connection::Sqlite),
            Server::Postgres(options) => {
                in_time(async {
                    let mut connection = options.connect().await?;
                    set_up_postgres(&mut connection).await?;
                    Ok(Connection::Postgres(Box::new(connection)))
                })
                .await
            }
            Server::Mysql(options) => {
                in_time(async {
                    let mut connection = options.connect().await?;
                    set_up_mysql(&mut connection).await?;
                    Ok(Connection::Mysql(Box::new(connection)))
                })
                .await
            }
        }
    }

    fn opening(&self, source: sqlx::Error) -> StoreError {
        StoreError::sql(format!("opening the database {}", self.url), source)
    }

    /// The change to WAL does not wait for others that make it at the same moment, as all else does: SQLite calls
    /// no busy handler there. So it is tried again, as long as anything else would wait.
    async fn connect_sqlite(
        &self,
        path: &std::path::Path,
    ) -> Result<SqliteConnection, sqlx::Error> {
        let settings = [
            FOREIGN_KEYS,
            ("journal_mode", "WAL"),
            match self.durability {
                Durability::Process => ("synchronous", "NORMAL"),
                Durability::Power => ("synchronous", "FULL"),
            },
            ("cache_size", WRITER_CACHE),
            ("journal_size_limit", JOURNAL_LIMIT),
        ];
        let begin = Instant::now();
        loop {
            match SqliteConnection::open(path, true, &settings) {
                Err(source) if is_busy(&source) && begin.elapsed() < BUSY_TIMEOUT => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                connected => return connected,
            }
        }
    }

    /// Opens a connection that reads. One of SQLite is opened for writing, because a reader must be able to repair
    /// what a killed process left, but refuses every statement that writes.
    pub(super) async fn connect_to_read(&self) -> Result<Connection, sqlx::Error> {
        match self.url.server() {
            Server::Sqlite(path) => {
                let settings = [
                    FOREIGN_KEYS,
                    ("cache_size", READER_CACHE),
                    ("query_only", "ON"),
                ];
                SqliteConnection::open(path, false, &settings).map(Connection::Sqlite)
            }
            _ => self.try_connect().await,
        }
    }

    /// The connections that read. The first of SQLite is opened at once, those of a server when they are needed.
    pub(crate) async fn readers(&self) -> Result<Readers, StoreError> {
        let (most, first) = match self.dialect() {
            Dialect::Sqlite => {
                let first = self.connect_to_read().await;
                let first = first.map_err(|source| self.opening(source))?;
                (SQLITE_READERS, Some(first))
            }
            _ => (SERVER_READERS, None),
        };
        Ok(Readers::new(self.clone(), most, first))
    }
}

async fn set_up_postgres(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SET_UP_POSTGRES)
        .execute(connection)
        .await
        .map(drop)
}

async fn set_up_mysql(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SET_UP_MYSQL)
        .execute(connection)
        .await
        .map(drop)
}

async fn in_time<T>(
    connecting: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(timed_out(CONNECT_LIMIT)),
    }
}

/// The server did not answer in time.
pub(crate) fn timed_out(limit: Duration) -> sqlx::Error {
    let seconds = limit.as_secs();
    sqlx::Error::Io(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the server did not answer within {seconds} s"),
    ))
}
