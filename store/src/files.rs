//! The rows of inputs and outputs, and what has none.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runner_core::file::{File, Upload};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::tasks::to_json;
use crate::{FileStore, NewFile, Store, StoreError, file_store};

impl Store {
    /// An output. Uploads are not to be had by their number: they have no tag.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn file(&self, id: i64) -> Result<Option<File>, StoreError> {
        let failed = |source| StoreError::sql(format!("reading file {id}"), source);
        let mut reader = self.reader("reading a file").await?;
        let row = sqlx::query(
            "SELECT id, tag, name, data_type, content_type, size, digest, key, created_at \
             FROM files WHERE id = ?1 AND kind = 'output'",
        )
        .bind(id)
        .fetch_optional(&mut *reader)
        .await
        .map_err(failed)?;
        row.as_ref().map(file).transpose().map_err(failed)
    }

    /// Removes from the file store what was put there before `older_than` and is named by no row, and
    /// what was left unfinished. Answers how many. `older_than` is to be long enough ago that a run that
    /// put a file has committed its row.
    ///
    /// # Errors
    /// What failed; the rest is left to the next sweep.
    pub async fn sweep_files(&self, older_than: SystemTime) -> Result<u64, StoreError> {
        let files = self.files().clone();
        let mut removed = blocking(move || files.sweep_unfinished(older_than)).await?;
        for folder in self.files().folders() {
            let keys = blocking(move || FileStore::keys_in(&folder, older_than)).await?;
            if keys.is_empty() {
                continue;
            }
            let orphans = self.keys_without_row(&keys).await?;
            removed += orphans.len() as u64;
            let files = self.files().clone();
            blocking(move || orphans.iter().try_for_each(|key| files.remove(key))).await?;
        }
        Ok(removed)
    }

    async fn keys_without_row(&self, keys: &[String]) -> Result<Vec<String>, StoreError> {
        let attempt = "reading which files of the store have rows";
        let mut reader = self.reader(attempt).await?;
        sqlx::query_scalar(
            "SELECT value FROM json_each(?1) \
             WHERE NOT EXISTS (SELECT 1 FROM files WHERE key = value)",
        )
        .bind(to_json(&keys))
        .fetch_all(&mut *reader)
        .await
        .map_err(|source| StoreError::sql(attempt, source))
    }
}

/// Does what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_shut_down) => Err(StoreError::Closed),
    }
}

/// As the queries here select it.
fn file(row: &SqliteRow) -> Result<File, sqlx::Error> {
    Ok(File {
        id: row.try_get(0)?,
        tag: row.try_get(1)?,
        name: row.try_get(2)?,
        data_type: row.try_get(3)?,
        content_type: row.try_get(4)?,
        size: row.try_get::<i64, _>(5)?.cast_unsigned(),
        digest: row.try_get(6)?,
        key: row.try_get(7)?,
        created_at: row.try_get::<i64, _>(8)? / 1000,
    })
}

/// The first `count` outputs of a task, in the order in which they were made.
pub(crate) async fn outputs(
    connection: &mut SqliteConnection,
    task: i64,
    count: i64,
) -> Result<Vec<File>, StoreError> {
    let failed = |source| StoreError::sql(format!("reading the outputs of task {task}"), source);
    let rows = sqlx::query(
        "SELECT id, tag, name, data_type, content_type, size, digest, key, created_at \
         FROM files WHERE task = ?1 AND kind = 'output' ORDER BY id LIMIT ?2",
    )
    .bind(task)
    .bind(count)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter()
        .map(file)
        .collect::<Result<_, _>>()
        .map_err(failed)
}

/// Outputs as the write of a run takes them, each with a new tag.
pub(crate) fn outputs_json(outputs: &[NewFile]) -> String {
    let row = |file: &NewFile| {
        let tag = URL_SAFE_NO_PAD.encode(file_store::random::<32>());
        serde_json::json!([
            file.stored.key,
            tag,
            file.name,
            file.data_type,
            file.content_type,
            file.stored.size,
            file.stored.digest,
        ])
    };
    to_json(&outputs.iter().map(row).collect::<Vec<_>>())
}

/// Adds the files that were submitted with a task or a step.
pub(crate) async fn insert_uploads(
    connection: &mut SqliteConnection,
    task: i64,
    uploads: &[Upload],
    now: i64,
) -> Result<(), StoreError> {
    let row =
        |file: &Upload| serde_json::json!([file.key, file.name, file.content_type, file.size]);
    sqlx::query(
        "INSERT INTO files (task, kind, created_at, data_type, key, name, content_type, size) \
         SELECT ?1, 'upload', ?2, '', value ->> 0, value ->> 1, value ->> 2, value ->> 3 \
         FROM json_each(?3) ORDER BY json_each.key",
    )
    .bind(task)
    .bind(now)
    .bind(to_json(&uploads.iter().map(row).collect::<Vec<_>>()))
    .execute(connection)
    .await
    .map(drop)
    .map_err(|source| StoreError::sql(format!("adding the uploads of task {task}"), source))
}
