//! SQLite, asked in the thread of whoever asks.
//!
//! A statement takes microseconds, so handing it to another thread and waiting for its answer would cost more than
//! the statement. The writer has a thread for itself ([`crate::writer`]); readers ask where they are when the
//! statement [is a look-up](super::Statement::lookup), and elsewhere otherwise ([`rows_elsewhere`]).

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{InterruptHandle, OpenFlags, ffi};
use sqlx::error::{DatabaseError, ErrorKind};

use super::{Arg, Done, Statement};
use crate::error::code;

/// Prepared statements that a connection keeps; the store has fewer.
const MAX_PREPARED: usize = 256;
/// How long a connection waits for another that writes: so many times each of these.
const PATIENCE: &[(i32, Duration)] = &[
    (50, Duration::from_micros(100)),
    (100, Duration::from_micros(500)),
    (6_000, Duration::from_millis(5)),
];

/// A connection to a database in a file.
#[derive(Debug)]
pub(crate) struct SqliteConnection {
    connection: rusqlite::Connection,
    /// Whether it waits where another is in the way.
    is_patient: bool,
}

/// What SQLite has in a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    /// A number with a fraction, or bytes: no column of the store has them.
    Other(&'static str),
}

impl SqliteConnection {
    /// Opens the database; with `is_made`, one that is not there is made. Then tells the connection these settings.
    pub(super) fn open(
        path: &Path,
        is_made: bool,
        settings: &[(&str, &str)],
    ) -> Result<Self, sqlx::Error> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, is_made);
        let connection = rusqlite::Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(MAX_PREPARED);
        let mut connection = Self {
            connection,
            is_patient: false,
        };
        connection.set_patience(true)?;
        for (name, value) in settings {
            let told = connection.connection.pragma_update(None, name, value);
            told.map_err(failed)?;
        }
        Ok(connection)
    }

    /// Whether it waits while another connection is in the way.
    fn set_patience(&mut self, is_patient: bool) -> Result<(), sqlx::Error> {
        if self.is_patient != is_patient {
            let handler = is_patient.then_some(wait as fn(i32) -> bool);
            self.connection.busy_handler(handler).map_err(failed)?;
            self.is_patient = is_patient;
        }
        Ok(())
    }

    /// All rows of a statement.
    pub(super) fn rows(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Vec<Vec<Value>>, sqlx::Error> {
        let mut all = Vec::new();
        self.ask(statement, args, |row| {
            let columns = (0..row.as_ref().column_count()).map(|at| row.get_ref(at));
            all.push(
                columns
                    .map(|value| value.map(Value::from))
                    .collect::<Result<_, _>>()?,
            );
            Ok(())
        })?;
        Ok(all)
    }

    /// The same where nobody may be kept waiting: None if another connection is in the way.
    pub(super) fn rows_at_once(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Option<Vec<Vec<Value>>>, sqlx::Error> {
        self.set_patience(false)?;
        match self.rows(statement, args) {
            Ok(rows) => Ok(Some(rows)),
            Err(error) if is_busy(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes something.
    pub(super) fn execute(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Done, sqlx::Error> {
        self.ask(statement, args, |_| Ok(()))?;
        Ok(Done {
            hit: self.connection.changes(),
            id: self.connection.last_insert_rowid(),
        })
    }

    /// Runs statements without arguments.
    pub(super) fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        self.connection.execute_batch(sql).map_err(failed)
    }

    pub(super) fn close(self) -> Result<(), sqlx::Error> {
        self.connection.close().map_err(|(_, error)| failed(error))
    }

    /// Runs a statement to its end: its error may come with its last step.
    fn ask(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
        mut each: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), sqlx::Error> {
        let text = &statement.translated(super::Dialect::Sqlite).text;
        let mut run = |prepared: &mut rusqlite::Statement<'_>| {
            // A statement need not use all that it is given.
            let wanted = prepared.parameter_count();
            for (at, argument) in args.iter().take(wanted).enumerate() {
                match argument {
                    Arg::Integer(value) => prepared.raw_bind_parameter(at + 1, value),
                    Arg::Text(value) => prepared.raw_bind_parameter(at + 1, value.as_deref()),
                }?;
            }
            let mut rows = prepared.raw_query();
            while let Some(row) = rows.next()? {
                each(row)?;
            }
            Ok(())
        };
        match statement.is_prepared() {
            true => run(&mut *self.connection.prepare_cached(text).map_err(failed)?),
            false => run(&mut self.connection.prepare(text).map_err(failed)?),
        }
        .map_err(failed)
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Real(_) => Self::Other("a number with a fraction"),
            ValueRef::Blob(_) => Self::Other("bytes"),
        }
    }
}

/// All rows of a statement that may take its time, asked in a thread for such work. Gives the connection back. Where
/// nobody waits any more the statement is ended, and the connection with it.
pub(super) async fn rows_elsewhere(
    mut connection: SqliteConnection,
    statement: &Statement,
    args: &[Arg<'_>],
) -> (
    Option<SqliteConnection>,
    Result<Vec<Vec<Value>>, sqlx::Error>,
) {
    let statement = statement.clone();
    let args: Vec<_> = args.iter().map(owned).collect();
    let mut unwanted = Unwanted(Some(connection.connection.get_interrupt_handle()));
    let asking = tokio::task::spawn_blocking(move || {
        let rows = connection
            .set_patience(true)
            .and_then(|()| connection.rows(&statement, &args));
        (connection, rows)
    });
    let answer = asking.await;
    unwanted.0 = None;
    match answer {
        Ok((connection, rows)) => (Some(connection), rows),
        Err(_panicked_or_shut_down) => (None, Err(sqlx::Error::WorkerCrashed)),
    }
}

fn owned(argument: &Arg<'_>) -> Arg<'static> {
    match argument {
        Arg::Integer(value) => Arg::Integer(*value),
        Arg::Text(value) => Arg::Text(
            value
                .as_ref()
                .map(|text| Cow::Owned(text.clone().into_owned())),
        ),
    }
}

/// Ends what a connection does when it is dropped.
struct Unwanted(Option<InterruptHandle>);

impl Drop for Unwanted {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.interrupt();
        }
    }
}

/// Waits for another connection, for the `count`-th time; false when it has waited long enough.
fn wait(count: i32) -> bool {
    let mut until = 0;
    for (times, pause) in PATIENCE {
        until += times;
        if count < until {
            thread::sleep(*pause);
            return true;
        }
    }
    false
}

/// Whether another connection holds the database for a moment.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    SqliteError::of(error).is_some_and(|error| error.code & 0xff == code::BUSY)
}

/// What SQLite says is wrong.
#[derive(Debug)]
pub(crate) struct SqliteError {
    /// The extended code, <https://www.sqlite.org/rescode.html>.
    pub(crate) code: i32,
    message: String,
}

impl SqliteError {
    /// The one in an error, if it is one of SQLite's.
    pub(crate) fn of(error: &sqlx::Error) -> Option<&Self> {
        error.as_database_error()?.try_downcast_ref()
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl Error for SqliteError {}

impl DatabaseError for SqliteError {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        match self.code {
            code::CONSTRAINT_UNIQUE | code::CONSTRAINT_PRIMARY_KEY => ErrorKind::UniqueViolation,
            code::CONSTRAINT_FOREIGN_KEY => ErrorKind::ForeignKeyViolation,
            _ => ErrorKind::Other,
        }
    }
}

/// An error of SQLite as those of the servers come.
fn failed(error: rusqlite::Error) -> sqlx::Error {
    let of_code = |failure: ffi::Error, message: Option<String>| {
        let message = message.unwrap_or_else(|| failure.to_string());
        let code = failure.extended_code;
        sqlx::Error::Database(Box::new(SqliteError { code, message }))
    };
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => of_code(failure, message),
        rusqlite::Error::SqlInputError { error, msg, .. } => of_code(error, Some(msg)),
        other => sqlx::Error::Protocol(other.to_string()),
    }
}
