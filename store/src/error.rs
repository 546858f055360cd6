//! What goes wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

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
    /// The database refused.
    #[error("{attempt} failed")]
    Sql {
        /// What was attempted.
        attempt: String,
        /// What the database said.
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
    /// The database belongs to a newer runner.
    #[error(
        "the database {} has schema version {found}, and this runner knows versions up to {known}: \
         use the newer runner that made it, or another database",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
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
    /// The store was closed before.
    #[error("the store is closed")]
    Closed,
}

/// Result codes of SQLite, <https://www.sqlite.org/rescode.html>.
pub(crate) mod code {
    pub(crate) const BUSY: i32 = 5;
    pub(crate) const LOCKED: i32 = 6;
    pub(crate) const FULL: i32 = 13;
    pub(crate) const TOO_BIG: i32 = 18;
    pub(crate) const CONSTRAINT: i32 = 19;
    pub(crate) const MISMATCH: i32 = 20;
    /// The memory shared between processes cannot grow: it is a file, so the disk is full.
    pub(crate) const IO_SHM_SIZE: i32 = 4874;
    pub(crate) const CONSTRAINT_FOREIGN_KEY: i32 = 787;
}

/// The extended code of SQLite in an error, if it is one of SQLite's.
pub(crate) fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

impl StoreError {
    /// An error of SQL.
    pub(crate) fn sql(attempt: impl Into<String>, source: sqlx::Error) -> Self {
        let attempt = attempt.into();
        match sqlite_code(&source) {
            Some(code) if code & 0xff == code::FULL || code == code::IO_SHM_SIZE => {
                Self::DiskFull { attempt }
            }
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

    /// Whether there is no room left.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Whether trying again cannot help: the value itself is the problem.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Sql { source, .. } => sqlite_code(source)
                .is_some_and(|code| matches!(code & 0xff, code::TOO_BIG | code::CONSTRAINT)),
            _ => false,
        }
    }

    /// Whether the connection that gave this error is not to be used again. What concerns only the
    /// statement leaves it usable.
    pub(crate) fn breaks_connection(&self) -> bool {
        let Self::Sql { source, .. } = self else {
            return false;
        };
        let harmless = [
            code::BUSY,
            code::LOCKED,
            code::TOO_BIG,
            code::CONSTRAINT,
            code::MISMATCH,
        ];
        sqlite_code(source).is_none_or(|code| !harmless.contains(&(code & 0xff)))
    }
}
