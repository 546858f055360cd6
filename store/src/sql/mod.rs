//! One way to ask three databases.
//!
//! A [`Statement`] is written once, with what differs beside it. A [`Connection`] is one of the three; a
//! [`Reader`] borrows one from a pool and asks again where the connection broke. Arguments are integers and texts,
//! each perhaps null.
//!
//! NUL is the one character that PostgreSQL cannot keep. So no database gets it: [`Arg`] puts U+FFFD in its place, as
//! core's log does where it counts bytes. In JSON, which is text here, it is written `\u0000` and stays.

mod connect;
mod reader;
mod sqlite;
mod statement;

use std::borrow::Cow;
use std::future::Future;

use runner_core::task::without_nul;
use serde_json::Value;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Decode, MySql, Postgres, Row as _, Type};

pub(crate) use connect::{Database, timed_out};
pub(crate) use reader::{Reader, Readers};
pub(crate) use sqlite::SqliteError;
use sqlite::{SqliteConnection, Value as SqliteValue};
pub(crate) use statement::Statement;

/// The kinds of databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
    /// And MariaDB.
    Mysql,
}

impl Dialect {
    /// Whether it is a server, which may go away and come back.
    pub(crate) fn is_server(self) -> bool {
        self != Self::Sqlite
    }
}

/// An argument of a statement.
#[derive(Debug, Clone)]
pub(crate) enum Arg<'a> {
    Integer(Option<i64>),
    Text(Option<Cow<'a, str>>),
}

impl From<i64> for Arg<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<u32> for Arg<'_> {
    fn from(value: u32) -> Self {
        Self::Integer(Some(value.into()))
    }
}

impl From<Option<i64>> for Arg<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(without_nul(value)))
    }
}

impl From<String> for Arg<'_> {
    fn from(value: String) -> Self {
        match without_nul(&value) {
            Cow::Borrowed(_) => Self::Text(Some(Cow::Owned(value))),
            Cow::Owned(changed) => Self::Text(Some(Cow::Owned(changed))),
        }
    }
}

impl<'a> From<&'a String> for Arg<'a> {
    fn from(value: &'a String) -> Self {
        value.as_str().into()
    }
}

impl<'a> From<Option<&'a str>> for Arg<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value.map(without_nul))
    }
}

impl<'a> From<&'a Option<String>> for Arg<'a> {
    fn from(value: &'a Option<String>) -> Self {
        value.as_deref().into()
    }
}

/// Arguments in the order of their numbers.
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        &[$($crate::sql::Arg::from($value)),*]
    };
}
pub(crate) use args;

/// Rows as one argument, which a statement takes apart.
pub(crate) fn json_rows(mut rows: Vec<Value>) -> String {
    rows.iter_mut().for_each(clean);
    Value::Array(rows).to_string()
}

/// What a statement takes out of JSON is text as any other.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(changed) = without_nul(text) {
                *text = changed;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(clean),
        _ => {}
    }
}

/// What a change did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    /// Rows that it hit.
    pub(crate) hit: u64,
    /// The number of the row that was inserted, and on MySQL what was given to `last_insert_id()`.
    pub(crate) id: i64,
}

/// A connection to one of the databases.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(Box<PgConnection>),
    Mysql(Box<MySqlConnection>),
}

/// Where statements are put to a database.
pub(crate) trait Ask: Send {
    /// Rows, read to the end.
    fn rows(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;

    /// The first row.
    fn row(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<Option<Row>, sqlx::Error>> + Send {
        // Not only the first: a statement must run to its end, or the error of its commit is not seen.
        async move { Ok(self.rows(statement, args).await?.into_iter().next()) }
    }
}

/// The connections to servers have one shape and no common type.
macro_rules! query {
    ($statement:expr, $dialect:expr, $args:expr) => {{
        let translated = $statement.translated($dialect);
        let mut query = sqlx::query(AssertSqlSafe(std::sync::Arc::clone(&translated.text)))
            .persistent($statement.is_prepared());
        let mut bind = |argument: &Arg<'_>| {
            let bound = std::mem::replace(&mut query, sqlx::query(""));
            query = match argument {
                Arg::Integer(value) => bound.bind(*value),
                Arg::Text(value) => bound.bind(value.as_deref()),
            };
        };
        match $dialect {
            Dialect::Mysql => translated
                .binds
                .iter()
                .filter_map(|at| $args.get(*at))
                .for_each(&mut bind),
            _ => $args.iter().for_each(&mut bind),
        }
        query
    }};
}

impl Connection {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
            Self::Mysql(_) => Dialect::Mysql,
        }
    }

    /// Changes something.
    pub(crate) async fn execute(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Done, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => connection.execute(statement, args),
            Self::Postgres(connection) => {
                let query = query!(statement, Dialect::Postgres, args);
                let done = query.execute(&mut **connection).await?;
                Ok(Done {
                    hit: done.rows_affected(),
                    id: 0,
                })
            }
            Self::Mysql(connection) => {
                let query = query!(statement, Dialect::Mysql, args);
                let done = query.execute(&mut **connection).await?;
                Ok(Done {
                    hit: done.rows_affected(),
                    id: done.last_insert_id().cast_signed(),
                })
            }
        }
    }

    /// Runs SQL without arguments, also several statements at once.
    pub(crate) async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        let text = sqlx::raw_sql(sql);
        match self {
            Self::Sqlite(connection) => connection.run(sql),
            Self::Postgres(connection) => text.execute(&mut **connection).await.map(drop),
            Self::Mysql(connection) => text.execute(&mut **connection).await.map(drop),
        }
    }

    /// Whether the server answers.
    pub(crate) async fn ping(&mut self) -> Result<(), sqlx::Error> {
        use sqlx::Connection as _;
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(connection) => connection.ping().await,
            Self::Mysql(connection) => connection.ping().await,
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        use sqlx::Connection as _;
        match self {
            Self::Sqlite(connection) => connection.close(),
            Self::Postgres(connection) => connection.close().await,
            Self::Mysql(connection) => connection.close().await,
        }
    }
}

impl Ask for Connection {
    async fn rows(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => Ok(rows_of_sqlite(connection.rows(statement, args)?)),
            Self::Postgres(connection) => rows_of_postgres(connection, statement, args).await,
            Self::Mysql(connection) => rows_of_mysql(connection, statement, args).await,
        }
    }
}

fn rows_of_sqlite(rows: Vec<Vec<SqliteValue>>) -> Vec<Row> {
    rows.into_iter().map(Row::Sqlite).collect()
}

async fn rows_of_postgres(
    connection: &mut PgConnection,
    statement: &Statement,
    args: &[Arg<'_>],
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = query!(statement, Dialect::Postgres, args).fetch_all(connection);
    Ok(rows.await?.into_iter().map(Row::Postgres).collect())
}

async fn rows_of_mysql(
    connection: &mut MySqlConnection,
    statement: &Statement,
    args: &[Arg<'_>],
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = query!(statement, Dialect::Mysql, args).fetch_all(connection);
    Ok(rows.await?.into_iter().map(Row::Mysql).collect())
}

/// A row of an answer.
pub(crate) enum Row {
    Sqlite(Vec<SqliteValue>),
    Postgres(PgRow),
    Mysql(MySqlRow),
}

/// What a column can be read as: `i64`, `String`, each perhaps null, and `bool`.
pub(crate) trait Column:
    for<'r> Decode<'r, Postgres> + for<'r> Decode<'r, MySql> + Type<Postgres> + Type<MySql>
{
    /// None: it is something else.
    fn of_sqlite(value: &SqliteValue) -> Option<Self>;
}

impl Column for i64 {
    fn of_sqlite(value: &SqliteValue) -> Option<Self> {
        match value {
            SqliteValue::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

impl Column for String {
    fn of_sqlite(value: &SqliteValue) -> Option<Self> {
        match value {
            SqliteValue::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl Column for bool {
    fn of_sqlite(value: &SqliteValue) -> Option<Self> {
        i64::of_sqlite(value).map(|number| number != 0)
    }
}

impl Column for Option<i64> {
    fn of_sqlite(value: &SqliteValue) -> Option<Self> {
        match value {
            SqliteValue::Null => Some(None),
            value => i64::of_sqlite(value).map(Some),
        }
    }
}

impl Column for Option<String> {
    fn of_sqlite(value: &SqliteValue) -> Option<Self> {
        match value {
            SqliteValue::Null => Some(None),
            value => String::of_sqlite(value).map(Some),
        }
    }
}

impl Row {
    /// A column by its place.
    pub(crate) fn get<T: Column>(&self, at: usize) -> Result<T, sqlx::Error> {
        match self {
            Self::Sqlite(row) => {
                let value = row.get(at).ok_or(sqlx::Error::ColumnIndexOutOfBounds {
                    index: at,
                    len: row.len(),
                })?;
                T::of_sqlite(value).ok_or_else(|| sqlx::Error::ColumnDecode {
                    index: at.to_string(),
                    source: format!("found {value:?}").into(),
                })
            }
            Self::Postgres(row) => row.try_get(at),
            Self::Mysql(row) => row.try_get(at),
        }
    }
}

/// The first column of all rows.
pub(crate) fn first_column<T: Column>(rows: &[Row]) -> Result<Vec<T>, sqlx::Error> {
    rows.iter().map(|row| row.get(0)).collect()
}
