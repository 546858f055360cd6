//! What goes wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;

use crate::sql::SqliteError;

/// Why something was not stored or read. Says what was attempted, and on what.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room left, or a quota is used up. Nothing was written; it can be tried again when
    /// there is room.
    #[error("the disk is full: {attempt}")]
    DiskFull {
        /// What was attempted.
        attempt: String,
    },
    /// The database refused, or is away.
    #[error("{attempt} failed")]
    Sql {
        /// What was attempted.
        attempt: String,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The server of the database was away for longer than a write or a read waits. Nothing was written.
    #[error("{attempt} failed: the database was away for {waited_seconds} s")]
    Away {
        /// What was attempted.
        attempt: String,
        /// How long it was waited for.
        waited_seconds: u64,
        /// What was said last.
        source: sqlx::Error,
    },
    /// The connection broke before the answer came: it may have been written or not.
    #[error("{attempt}: the connection to the database broke, and it may have been done or not")]
    Unknown {
        /// What was attempted.
        attempt: String,
        /// What broke.
        source: sqlx::Error,
    },
    /// The file system refused.
    #[error("{attempt} {} failed", path.display())]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The object store refused, or is away.
    #[error("{attempt} {object} failed: {reason}")]
    Object {
        /// What was attempted.
        attempt: &'static str,
        /// On which object, and where.
        object: String,
        /// What the object store said.
        reason: String,
    },
    /// The database belongs to a newer runner.
    #[error(
        "the database {database} has schema version {found}, and this runner knows versions up to {known}: \
         use the newer runner that made it, or another database"
    )]
    Newer {
        /// The database.
        database: String,
        /// Its version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// A row holds what no runner writes.
    #[error("{attempt} failed: the column {column} cannot be read: {reason}")]
    Corrupt {
        /// What was attempted.
        attempt: String,
        /// Where.
        column: &'static str,
        /// Why.
        reason: String,
    },
    /// A task was named that is not there.
    #[error("there is no task {0}")]
    UnknownTask(i64),
    /// The file store is another one than that of the processes that came before.
    #[error(
        "the files of this database are in {there} on {host}, which is not {here} here: let FILE_STORE_ROOT_PATH \
         name a place that all processes see (if the files were moved by hand, move the file store-id with them)"
    )]
    OtherFiles {
        /// The place of this process.
        here: String,
        /// The place as the first process called it.
        there: String,
        /// The machine of that process.
        host: String,
    },
    /// The folder of the file store has become another one since the start.
    #[error(
        "{0} is not what it was when the runner started: another folder or volume has taken its place"
    )]
    FilesChanged(String),
    /// The store was closed before.
    #[error("the store is closed")]
    Closed,
}

/// Result codes of SQLite, <https://www.sqlite.org/rescode.html>.
pub(crate) mod code {
    pub(crate) const BUSY: i32 = 5;
    pub(crate) const LOCKED: i32 = 6;
    pub(crate) const READ_ONLY: i32 = 8;
    pub(crate) const FULL: i32 = 13;
    pub(crate) const TOO_BIG: i32 = 18;
    pub(crate) const CONSTRAINT: i32 = 19;
    pub(crate) const MISMATCH: i32 = 20;
    /// The memory shared between processes cannot grow: it is a file, so the disk is full.
    pub(crate) const IO_SHM_SIZE: i32 = 4874;
    pub(crate) const CONSTRAINT_FOREIGN_KEY: i32 = 787;
    pub(crate) const CONSTRAINT_PRIMARY_KEY: i32 = 1555;
    pub(crate) const CONSTRAINT_UNIQUE: i32 = 2067;
}

/// The extended code of SQLite in an error, if it is one of SQLite's.
pub(crate) fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    SqliteError::of(error).map(|error| error.code)
}

/// What an error of SQL means for who tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// There is no room left.
    Full,
    /// Another row has this key.
    Duplicate,
    /// The row that this one belongs to is not there.
    NoParent,
    /// The value itself is the problem.
    Permanent,
    /// Others were in the way: it was rolled back, and can be done again.
    Again,
    /// The connection is of no use any more, or the server is away.
    Connection,
    /// Anything else.
    Refused,
}

/// What an error means, in all three dialects.
pub(crate) fn trouble(error: &sqlx::Error) -> Trouble {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::PoolTimedOut => Trouble::Connection,
            _ => Trouble::Refused,
        };
    };
    if let Some(error) = database.try_downcast_ref::<PgDatabaseError>() {
        return of_postgres(error.code());
    }
    if let Some(error) = database.try_downcast_ref::<MySqlDatabaseError>() {
        return of_mysql(error.number());
    }
    sqlite_code(error).map_or(Trouble::Refused, of_sqlite)
}

fn of_sqlite(code: i32) -> Trouble {
    match code {
        code::IO_SHM_SIZE => Trouble::Full,
        code::CONSTRAINT_FOREIGN_KEY => Trouble::NoParent,
        code::CONSTRAINT_UNIQUE | code::CONSTRAINT_PRIMARY_KEY => Trouble::Duplicate,
        _ => match code & 0xff {
            code::FULL => Trouble::Full,
            code::TOO_BIG | code::CONSTRAINT => Trouble::Permanent,
            code::BUSY | code::LOCKED => Trouble::Again,
            code::MISMATCH => Trouble::Refused,
            // Whatever else there is, a new connection can be had for nothing.
            _ => Trouble::Connection,
        },
    }
}

/// By <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_postgres(code: &str) -> Trouble {
    match code {
        "53100" => Trouble::Full,
        "23505" => Trouble::Duplicate,
        "23503" => Trouble::NoParent,
        // Serialization failure, deadlock, and a lock that was not to be had in time.
        "40001" | "40P01" | "55P03" => Trouble::Again,
        // Too many connections, a server that ends, starts, or became the copy of another.
        "53300" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006" => Trouble::Connection,
        _ => match code.get(..2) {
            Some("08") => Trouble::Connection,
            Some("22" | "23" | "54") => Trouble::Permanent,
            Some("53") => Trouble::Again,
            _ => Trouble::Refused,
        },
    }
}

/// By <https://mariadb.com/kb/en/mariadb-error-code-reference/>, as MySQL has them too.
fn of_mysql(number: u16) -> Trouble {
    match number {
        // ER_DISK_FULL, ER_RECORD_FILE_FULL.
        1021 | 1114 => Trouble::Full,
        1062 => Trouble::Duplicate,
        1216 | 1452 => Trouble::NoParent,
        // ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, and MariaDB's ER_CHECKREAD.
        1205 | 1213 | 1020 => Trouble::Again,
        // Too many connections, shutdown, killed, read-only.
        1040
        | 1053
        | 1079
        | 1080
        | 1152
        | 1158..=1161
        | 1184
        | 1203
        | 1290
        | 1317
        | 1836
        | 1927
        | 3032
        | 3169
        | 4031 => Trouble::Connection,
        // Null, too long, not of this type, a packet that is too large, a check.
        1048 | 1153 | 1264 | 1301 | 1366 | 1406 | 3819 | 4025 => Trouble::Permanent,
        _ => Trouble::Refused,
    }
}

impl StoreError {
    /// An error of SQL.
    pub(crate) fn sql(attempt: impl Into<String>, source: sqlx::Error) -> Self {
        let attempt = attempt.into();
        match trouble(&source) {
            Trouble::Full => Self::DiskFull { attempt },
            _ => Self::Sql { attempt, source },
        }
    }

    /// An error of the file system.
    pub(crate) fn file(attempt: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull {
                attempt: format!("{attempt} {}", path.display()),
            },
            _ => Self::File {
                attempt,
                path: path.to_owned(),
                source,
            },
        }
    }

    /// What an error of SQL means; what is none was refused.
    pub(crate) fn trouble(&self) -> Trouble {
        match self {
            Self::Sql { source, .. } => trouble(source),
            Self::DiskFull { .. } => Trouble::Full,
            _ => Trouble::Refused,
        }
    }

    /// Whether another row has this key.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.trouble() == Trouble::Duplicate
    }

    /// Whether there is no room left.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// What it says, and what its causes say.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }

    /// Whether the file system, or the database on it, takes no changes.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::File { source, .. } => source.kind() == io::ErrorKind::ReadOnlyFilesystem,
            Self::Sql { source, .. } => {
                sqlite_code(source).is_some_and(|code| code & 0xff == code::READ_ONLY)
            }
            _ => false,
        }
    }

    /// Whether trying again cannot help: the value itself is the problem.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            _ => matches!(
                self.trouble(),
                Trouble::Permanent | Trouble::Duplicate | Trouble::NoParent
            ),
        }
    }

    /// Whether the connection that gave this error is not to be used again. What concerns only the
    /// statement leaves it usable.
    pub(crate) fn breaks_connection(&self) -> bool {
        self.trouble() == Trouble::Connection
    }
}
