//! What is known of modules from earlier starts: their descriptions, and the digests of their files.

use std::collections::HashMap;

use runner_core::file::FileStat;
use serde_json::{Value, json};

use crate::recent::Recent;
use crate::sql::{Ask, Connection, Dialect, Row, Statement, args, json_rows};
use crate::writer::Write;
use crate::{Store, StoreError, now_ms};

/// Files or modules that one statement is about: its argument stays far below what servers take.
const MOST_ROWS: usize = 5_000;

impl Store {
    /// What modules answered to `describe`, as JSON, by those keys that are known; a key is a digest of all that
    /// the answer depends on.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn descriptions(
        &self,
        keys: &[String],
    ) -> Result<HashMap<String, String>, StoreError> {
        let attempt = "reading descriptions";
        let mut found = HashMap::new();
        for keys in keys.chunks(MOST_ROWS) {
            let keys = json_rows(keys.iter().map(|key| json!(key)).collect());
            let rows = self
                .reader(attempt)
                .await?
                .rows(&DESCRIPTIONS, args![&keys])
                .await;
            let rows = rows.map_err(|source| StoreError::sql(attempt, source))?;
            let pair = |row: &Row| Ok((row.get(0)?, row.get(1)?));
            let pairs: Result<Vec<_>, sqlx::Error> = rows.iter().map(pair).collect();
            found.extend(pairs.map_err(|source| StoreError::sql(attempt, source))?);
        }
        Ok(found)
    }

    /// Keeps what a module answered to `describe`.
    ///
    /// # Errors
    /// Why it was not stored.
    pub async fn put_description(&self, key: &str, description: &str) -> Result<(), StoreError> {
        let (key, description) = (key.to_owned(), description.to_owned());
        self.writer()
            .write(PutDescription { key, description })
            .await
    }

    /// The digests of those files that are as they were when their digest was taken.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn file_digests(
        &self,
        stats: &[FileStat],
    ) -> Result<HashMap<FileStat, String>, StoreError> {
        let attempt = "reading the digests of files";
        let mut found = HashMap::new();
        for stats in stats.chunks(MOST_ROWS) {
            let files = json_rows(stats.iter().map(stat_row).collect());
            let rows = self
                .reader(attempt)
                .await?
                .rows(&FILE_DIGESTS, args![&files])
                .await;
            let rows = rows.map_err(|source| StoreError::sql(attempt, source))?;
            let digests: Result<Vec<_>, sqlx::Error> = rows.iter().map(digest_of_row).collect();
            found.extend(digests.map_err(|source| StoreError::sql(attempt, source))?);
        }
        Ok(found)
    }

    /// Keeps the digests of files, each in place of an older one of the same file.
    ///
    /// # Errors
    /// Why they were not stored.
    pub async fn put_file_digests(&self, digests: &[(FileStat, String)]) -> Result<(), StoreError> {
        for digests in digests.chunks(MOST_ROWS) {
            let rows = json_rows(digests.iter().map(digest_row).collect());
            self.writer().write(PutFileDigests { rows }).await?;
        }
        Ok(())
    }
}

static DESCRIPTIONS: Statement = Statement::new(
    "SELECT d.module_key, d.description FROM {list ?1} j \
     JOIN descriptions d ON d.module_key = j.value",
);

static FILE_DIGESTS: Statement = Statement::new(
    "SELECT f.device, f.inode, f.size, f.modified_ns, f.changed_ns, f.digest \
     FROM json_each(?1) j JOIN file_digests f ON f.device = j.value ->> 0 AND f.inode = j.value ->> 1 \
     AND f.size = j.value ->> 2 AND f.modified_ns = j.value ->> 3 AND f.changed_ns = j.value ->> 4",
)
.postgres(
    "SELECT f.device, f.inode, f.size, f.modified_ns, f.changed_ns, f.digest \
     FROM json_array_elements(CAST(?1 AS JSON)) AS j (value) JOIN file_digests f \
     ON f.device = CAST(j.value ->> 0 AS BIGINT) AND f.inode = CAST(j.value ->> 1 AS BIGINT) \
     AND f.size = CAST(j.value ->> 2 AS BIGINT) AND f.modified_ns = CAST(j.value ->> 3 AS BIGINT) \
     AND f.changed_ns = CAST(j.value ->> 4 AS BIGINT)",
)
.mysql(
    "SELECT f.device, f.inode, f.size, f.modified_ns, f.changed_ns, f.digest \
     FROM JSON_TABLE(?1, '$[*]' COLUMNS (device BIGINT PATH '$[0]', inode BIGINT PATH '$[1]', \
     size BIGINT PATH '$[2]', modified_ns BIGINT PATH '$[3]', changed_ns BIGINT PATH '$[4]')) j \
     JOIN file_digests f ON f.device = j.device AND f.inode = j.inode AND f.size = j.size \
     AND f.modified_ns = j.modified_ns AND f.changed_ns = j.changed_ns",
);

static PUT_DESCRIPTION: Statement = Statement::new(
    "INSERT INTO descriptions (module_key, description, stored_at) VALUES (?1, ?2, ?3) \
     ON CONFLICT (module_key) DO UPDATE SET description = excluded.description, \
     stored_at = excluded.stored_at",
)
.mysql(
    "INSERT INTO descriptions (module_key, description, stored_at) VALUES (?1, ?2, ?3) \
     ON DUPLICATE KEY UPDATE description = ?2, stored_at = ?3",
);

// "WHERE true": without it SQLite takes ON CONFLICT for the condition of a join.
static PUT_FILE_DIGESTS: Statement = Statement::new(
    "INSERT INTO file_digests (device, inode, size, modified_ns, changed_ns, digest) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 \
     FROM json_each(?1) WHERE true \
     ON CONFLICT (device, inode) DO UPDATE SET size = excluded.size, \
     modified_ns = excluded.modified_ns, changed_ns = excluded.changed_ns, \
     digest = excluded.digest",
)
.postgres(
    "INSERT INTO file_digests (device, inode, size, modified_ns, changed_ns, digest) \
     SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), CAST(value ->> 2 AS BIGINT), \
     CAST(value ->> 3 AS BIGINT), CAST(value ->> 4 AS BIGINT), value ->> 5 \
     FROM json_array_elements(CAST(?1 AS JSON)) AS j (value) \
     ON CONFLICT (device, inode) DO UPDATE SET size = excluded.size, \
     modified_ns = excluded.modified_ns, changed_ns = excluded.changed_ns, \
     digest = excluded.digest",
)
.mysql(
    "REPLACE INTO file_digests (device, inode, size, modified_ns, changed_ns, digest) \
     SELECT j.device, j.inode, j.size, j.modified_ns, j.changed_ns, j.digest \
     FROM JSON_TABLE(?1, '$[*]' COLUMNS (device BIGINT PATH '$[0]', inode BIGINT PATH '$[1]', \
     size BIGINT PATH '$[2]', modified_ns BIGINT PATH '$[3]', changed_ns BIGINT PATH '$[4]', \
     digest LONGTEXT PATH '$[5]')) j",
);

fn stat_row(stat: &FileStat) -> Value {
    json!([
        stat.device.cast_signed(),
        stat.inode.cast_signed(),
        stat.size.cast_signed(),
        stat.modified_ns,
        stat.changed_ns,
    ])
}

fn digest_row((stat, digest): &(FileStat, String)) -> Value {
    let mut row = stat_row(stat);
    if let Value::Array(columns) = &mut row {
        columns.push(json!(digest));
    }
    row
}

fn digest_of_row(row: &Row) -> Result<(FileStat, String), sqlx::Error> {
    let unsigned = |at| Ok::<_, sqlx::Error>(row.get::<i64>(at)?.cast_unsigned());
    let stat = FileStat {
        device: unsigned(0)?,
        inode: unsigned(1)?,
        size: unsigned(2)?,
        modified_ns: row.get(3)?,
        changed_ns: row.get(4)?,
    };
    Ok((stat, row.get(5)?))
}

struct PutDescription {
    key: String,
    description: String,
}

impl Write for PutDescription {
    type Answer = ();

    fn is_one_statement(&self, _dialect: Dialect) -> bool {
        true
    }

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    async fn apply(&self, connection: &mut Connection, _is_again: bool) -> Result<(), StoreError> {
        let args = args![&self.key, &self.description, now_ms()];
        let done = connection.execute(&PUT_DESCRIPTION, args).await;
        done.map(drop)
            .map_err(|source| StoreError::sql("storing a description", source))
    }
}

struct PutFileDigests {
    rows: String,
}

impl Write for PutFileDigests {
    type Answer = ();

    fn is_one_statement(&self, _dialect: Dialect) -> bool {
        true
    }

    fn remember(&self, _answer: &Self::Answer, _recent: &Recent) {}

    async fn apply(&self, connection: &mut Connection, _is_again: bool) -> Result<(), StoreError> {
        let done = connection
            .execute(&PUT_FILE_DIGESTS, args![&self.rows])
            .await;
        done.map(drop)
            .map_err(|source| StoreError::sql("storing the digests of files", source))
    }
}
