//! How much there is: rows, and bytes on disk.

use std::collections::BTreeMap;

use runner_core::task::TaskState;

use crate::file_store::SHELVES;
use crate::files::blocking;
use crate::sql::{Ask, Row, Statement, args};
use crate::{Store, StoreError};

/// How much there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tasks by state.
    pub tasks: BTreeMap<String, u64>,
    /// Number and bytes of outputs.
    pub outputs: (u64, u64),
    /// Number and bytes of files that were submitted.
    pub uploads: (u64, u64),
    /// Number and bytes of files that are being written, or were left so.
    pub temporary: (u64, u64),
    /// Number and bytes of all content in the file store, with what belongs to no task.
    pub content: (u64, u64),
    /// Bytes of the database, as far as it tells.
    pub database: Option<u64>,
    /// Bytes that are free for the file store.
    pub free: u64,
}

impl Store {
    /// How much there is. Reads the rows of all files, and looks at all files of the file store.
    ///
    /// # Errors
    /// Why it could not be told.
    pub async fn usage(&self) -> Result<Usage, StoreError> {
        let attempt = "counting what is kept";
        let failed = |source| StoreError::sql(attempt, source);
        let mut reader = self.reader(attempt).await?;
        let mut usage = Usage::default();
        for state in TaskState::ALL {
            let row = reader.row(&TASKS, args![state.as_str()]).await;
            let count = number(row.map_err(failed)?.as_ref(), 0).map_err(failed)?;
            usage.tasks.insert(state.as_str().to_owned(), count);
        }
        for kind in ["output", "upload"] {
            let row = reader.row(&FILES, args![kind]).await.map_err(failed)?;
            let counted = (
                number(row.as_ref(), 0).map_err(failed)?,
                number(row.as_ref(), 1).map_err(failed)?,
            );
            match kind {
                "output" => usage.outputs = counted,
                _ => usage.uploads = counted,
            }
        }
        // Not every account may ask for it.
        usage.database = match reader.row(&DATABASE, args![]).await {
            Ok(row) => number(row.as_ref(), 0).ok(),
            Err(_) => None,
        };
        drop(reader);
        let files = self.files().clone();
        let (temporary, content, free) = blocking(move || {
            let temporary = files.amount_of_drafts()?;
            let mut content = (0, 0);
            for shelf in 0..SHELVES {
                let (count, bytes) = files.amount_on(shelf)?;
                content = (content.0 + count, content.1 + bytes);
            }
            Ok((temporary, content, files.free_bytes()?))
        })
        .await?;
        usage.temporary = temporary;
        usage.content = content;
        usage.free = free;
        Ok(usage)
    }
}

fn number(row: Option<&Row>, at: usize) -> Result<u64, sqlx::Error> {
    row.map_or(Ok(0), |row| {
        row.get::<i64>(at)
            .map(|number| number.max(0).cast_unsigned())
    })
}

static TASKS: Statement = Statement::new("SELECT count(*) FROM tasks WHERE state = ?1");

static FILES: Statement = Statement::new(
    "SELECT count(*), CAST(coalesce(sum(size), 0) AS INTEGER) FROM files WHERE kind = ?1",
)
.postgres("SELECT count(*), CAST(coalesce(sum(size), 0) AS BIGINT) FROM files WHERE kind = ?1")
.mysql("SELECT count(*), CAST(coalesce(sum(size), 0) AS SIGNED) FROM files WHERE kind = ?1");

static DATABASE: Statement = Statement::new(
    "SELECT c.page_count * s.page_size FROM pragma_page_count() c, pragma_page_size() s",
)
.postgres("SELECT pg_database_size(current_database())")
.mysql(
    "SELECT CAST(coalesce(sum(data_length + index_length), 0) AS SIGNED) FROM information_schema.tables \
     WHERE table_schema = database()",
);
