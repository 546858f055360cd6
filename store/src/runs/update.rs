//! The update of a task, and what belongs to it.

use runner_core::task::INLINE_LOG;

use super::statements::INSERT_OUTPUTS;
use super::{Columns, Events};
use crate::sql::{Ask, Connection, Dialect, Row, Statement, args};
use crate::{StoreError, deliveries};

/// A row that was hit.
pub(super) struct Hit {
    /// Bytes of the log, with what was added.
    log_length: i64,
    /// Whether somebody wants to be told.
    pub(super) subscribed: bool,
}

/// An update with its fence.
pub(super) struct Update<'a> {
    pub(super) statement: &'static Statement,
    /// The run or the version.
    pub(super) fence: i64,
    pub(super) output_count: i64,
    pub(super) files: Option<&'a str>,
    pub(super) events: &'a Events,
}

impl Update<'_> {
    /// None: no row was hit.
    pub(super) async fn apply(
        &self,
        connection: &mut Connection,
        columns: &Columns,
    ) -> Result<Option<Hit>, StoreError> {
        let dialect = connection.dialect();
        let is_whole = dialect == Dialect::Postgres;
        let mut args = columns.args(self.fence, self.output_count, is_whole);
        if is_whole {
            args.push(self.files.unwrap_or("[]").into());
            args.push(self.events.json().unwrap_or("[]").into());
        }
        let hit = match dialect {
            Dialect::Mysql => connection.execute(self.statement, &args).await.map(|done| {
                (done.hit > 0).then_some(Hit {
                    log_length: done.id / 2,
                    subscribed: done.id % 2 != 0,
                })
            }),
            _ => connection.row(self.statement, &args).await.and_then(hit),
        };
        hit.map_err(|source| {
            let attempt = format!("writing run {} of task {}", columns.run, columns.id);
            StoreError::sql(attempt, source)
        })
    }
}

fn hit(row: Option<Row>) -> Result<Option<Hit>, sqlx::Error> {
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Hit {
        log_length: row.get(0)?,
        subscribed: row.get(1)?,
    }))
}

/// The chunks of the log and the deliveries that belong to a change, where the update has not brought them.
pub(super) async fn finish(
    connection: &mut Connection,
    columns: &Columns,
    hit: &Hit,
    events: &Events,
) -> Result<(), StoreError> {
    if connection.dialect() == Dialect::Postgres {
        return match columns.log.len() <= CHUNK {
            true => Ok(()),
            false => add_to_chunks(connection, columns, hit.log_length).await,
        };
    }
    add_to_chunks(connection, columns, hit.log_length).await?;
    match events.json() {
        Some(events) if hit.subscribed => deliveries::insert(connection, columns.id, events).await,
        _ => Ok(()),
    }
}

/// Where the update could not bring them. Answers their numbers and keys where the database tells them.
pub(super) async fn insert_outputs(
    connection: &mut Connection,
    columns: &Columns,
    outputs: &str,
) -> Result<Vec<(i64, String)>, StoreError> {
    let Columns { id, now, .. } = *columns;
    let rows = connection
        .rows(&INSERT_OUTPUTS, args![id, now, outputs])
        .await;
    let numbers = rows.and_then(|rows| {
        let number = |row: &Row| Ok((row.get(0)?, row.get(1)?));
        rows.iter().map(number).collect()
    });
    numbers.map_err(|source| {
        let attempt = format!("writing run {} of task {id}", columns.run);
        StoreError::sql(attempt, source)
    })
}

/// Bytes of the log that go into one row, which is read as a whole.
pub(super) const CHUNK: usize = 64 * 1024;

static INSERT_CHUNK: Statement =
    Statement::new("INSERT INTO task_log (task, from_byte, text) VALUES (?1, ?2, ?3)");

/// Keeps what was added to a log and did not fit into the row. `length` is that of the log with it.
async fn add_to_chunks(
    connection: &mut Connection,
    columns: &Columns,
    length: i64,
) -> Result<(), StoreError> {
    if columns.log.is_empty() || length <= INLINE_LOG as i64 {
        return Ok(());
    }
    let id = columns.id;
    let mut from_byte = length - columns.log_size();
    let mut rest = columns.log.as_str();
    while !rest.is_empty() {
        let (text, after) = rest.split_at(rest.floor_char_boundary(CHUNK));
        let done = connection
            .execute(&INSERT_CHUNK, args![id, from_byte, text])
            .await;
        done.map_err(|source| StoreError::sql(format!("writing the log of task {id}"), source))?;
        from_byte += i64::try_from(text.len()).unwrap_or(i64::MAX);
        rest = after;
    }
    Ok(())
}
