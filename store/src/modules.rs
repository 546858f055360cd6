//! What is known of modules from earlier starts: their descriptions, and the digests of their files.

use runner_core::file::FileStat;
use serde_json::{Value, json};

use crate::recent::Recent;
use crate::sql::{Ask, Connection, Dialect, Statement, args, json_rows};
use crate::writer::Write;
use crate::{Store, StoreError, now_ms};

impl Store {
    /// What a module answered to `describe`, as JSON; `key` is a digest of all that it depends on.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn description(&self, key: &str) -> Result<Option<String>, StoreError> {
        let attempt = "reading a description";
        let row = self
            .reader(attempt)
            .await?
            .row(&DESCRIPTION, args![key])
            .await;
        row.and_then(|row| row.map(|row| row.get(0)).transpose())
            .map_err(|source| StoreError::sql(attempt, source))
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

    /// The digest of a file, if it was taken while the file was as it is.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn file_digest(&self, stat: &FileStat) -> Result<Option<String>, StoreError> {
        let attempt = "reading the digest of a file";
        let args = args![
            stat.device.cast_signed(),
            stat.inode.cast_signed(),
            stat.size.cast_signed(),
            stat.modified_ns,
            stat.changed_ns,
        ];
        let row = self.reader(attempt).await?.row(&FILE_DIGEST, args).await;
        row.and_then(|row| row.map(|row| row.get(0)).transpose())
            .map_err(|source| StoreError::sql(attempt, source))
    }

    /// Keeps the digests of files, each in place of an older one of the same file.
    ///
    /// # Errors
    /// Why they were not stored.
    pub async fn put_file_digests(&self, digests: &[(FileStat, String)]) -> Result<(), StoreError> {
        if digests.is_empty() {
            return Ok(());
        }
        let rows = json_rows(digests.iter().map(digest_row).collect());
        self.writer().write(PutFileDigests { rows }).await
    }
}

static DESCRIPTION: Statement =
    Statement::new("SELECT description FROM descriptions WHERE module_key = ?1");

static FILE_DIGEST: Statement = Statement::new(
    "SELECT digest FROM file_digests WHERE device = ?1 AND inode = ?2 AND size = ?3 \
     AND modified_ns = ?4 AND changed_ns = ?5",
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

fn digest_row((stat, digest): &(FileStat, String)) -> Value {
    json!([
        stat.device.cast_signed(),
        stat.inode.cast_signed(),
        stat.size.cast_signed(),
        stat.modified_ns,
        stat.changed_ns,
        digest,
    ])
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
