//! What is known of modules from earlier starts: their descriptions, and the digests of their files.

use sqlx::sqlite::SqliteConnection;

use runner_core::file::FileStat;

use crate::sqlite::Write;
use crate::tasks::to_json;
use crate::{Store, StoreError, now_ms};

impl Store {
    /// What a module answered to `describe`, as JSON; `key` is a digest of all that it depends on.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn description(&self, key: &str) -> Result<Option<String>, StoreError> {
        let attempt = "reading a description";
        let mut reader = self.reader(attempt).await?;
        sqlx::query_scalar("SELECT description FROM descriptions WHERE key = ?1")
            .bind(key.to_owned())
            .fetch_optional(&mut *reader)
            .await
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
        let mut reader = self.reader(attempt).await?;
        sqlx::query_scalar(
            "SELECT digest FROM file_digests WHERE device = ?1 AND inode = ?2 AND size = ?3 \
             AND modified_ns = ?4 AND changed_ns = ?5",
        )
        .bind(stat.device.cast_signed())
        .bind(stat.inode.cast_signed())
        .bind(stat.size.cast_signed())
        .bind(stat.modified_ns)
        .bind(stat.changed_ns)
        .fetch_optional(&mut *reader)
        .await
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
        let rows: Vec<_> = digests.iter().map(digest_row).collect();
        let rows = to_json(&rows);
        self.writer().write(PutFileDigests { rows }).await
    }
}

fn digest_row((stat, digest): &(FileStat, String)) -> (i64, i64, i64, i64, i64, &str) {
    (
        stat.device.cast_signed(),
        stat.inode.cast_signed(),
        stat.size.cast_signed(),
        stat.modified_ns,
        stat.changed_ns,
        digest,
    )
}

struct PutDescription {
    key: String,
    description: String,
}

impl Write for PutDescription {
    type Answer = ();

    fn is_one_statement(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO descriptions (key, description, stored_at) VALUES (?1, ?2, ?3) \
             ON CONFLICT (key) DO UPDATE SET description = excluded.description, \
             stored_at = excluded.stored_at",
        )
        .bind(&self.key)
        .bind(&self.description)
        .bind(now_ms())
        .execute(connection)
        .await
        .map(drop)
        .map_err(|source| StoreError::sql("storing a description", source))
    }
}

struct PutFileDigests {
    rows: String,
}

impl Write for PutFileDigests {
    type Answer = ();

    fn is_one_statement(&self) -> bool {
        true
    }

    async fn apply(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        // "WHERE true": without it SQLite takes ON CONFLICT for the condition of a join.
        sqlx::query(
            "INSERT INTO file_digests (device, inode, size, modified_ns, changed_ns, digest) \
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 \
             FROM json_each(?1) WHERE true \
             ON CONFLICT (device, inode) DO UPDATE SET size = excluded.size, \
             modified_ns = excluded.modified_ns, changed_ns = excluded.changed_ns, \
             digest = excluded.digest",
        )
        .bind(&self.rows)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|source| StoreError::sql("storing the digests of files", source))
    }
}
