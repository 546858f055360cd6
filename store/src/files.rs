//! The rows of inputs and outputs, and what has none.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::stream;
use runner_core::file::{File, Upload};
use serde_json::json;

use crate::file_store::{ContentStream, SHELVES};
use crate::sql::{Ask, Connection, Row, Statement, args, first_column, json_rows};
use crate::{NewFile, Store, StoreError, file_store};

impl Store {
    /// An output. Uploads are not to be had by their number: they have no tag.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn file(&self, id: i64) -> Result<Option<File>, StoreError> {
        let failed = |source| StoreError::sql(format!("reading file {id}"), source);
        let mut reader = self.reader("reading a file").await?;
        let row = reader.row(&OUTPUT, args![id]).await.map_err(failed)?;
        row.as_ref().map(file).transpose().map_err(failed)
    }

    /// A part of the content of an output, which must lie inside of it.
    ///
    /// # Errors
    /// What failed; that the content is gone is an error, too.
    pub async fn content(
        &self,
        file: &File,
        part: Range<u64>,
    ) -> Result<ContentStream, StoreError> {
        if !file.is_in_row {
            return self.files().read(&file.key, part).await;
        }
        let text = Bytes::from(self.text(file).await?);
        let at = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX).min(text.len());
        let part = text.slice(at(part.start)..at(part.end));
        Ok(Box::pin(stream::once(async move { Ok(part) })))
    }

    /// Makes the content of an output a file at `path`, where none is yet. It is for reading only.
    ///
    /// # Errors
    /// What failed; that the content is gone is an error, too.
    pub async fn place(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        if !file.is_in_row {
            return self.place_stored(&file.key, path).await;
        }
        let text = self.text(file).await?;
        file_store::make_folder(path.parent().unwrap_or(Path::new(".")))?;
        let written =
            fs::File::create_new(path).and_then(|mut made| made.write_all(text.as_bytes()));
        written.map_err(|source| StoreError::file("writing the content of", path, source))
    }

    /// The same for a content of the file store, by its key.
    ///
    /// # Errors
    /// What failed; that the content is gone is an error, too.
    pub async fn place_stored(&self, key: &str, path: &Path) -> Result<(), StoreError> {
        let files = self.files().clone();
        if !files.is_slow() {
            return files.place(key, path);
        }
        let (key, path) = (key.to_owned(), path.to_owned());
        blocking(move || files.place(&key, &path)).await
    }

    /// The content of an output that stands in its row.
    async fn text(&self, file: &File) -> Result<String, StoreError> {
        let failed = |source| StoreError::sql(format!("reading file {}", file.id), source);
        let mut reader = self.reader("reading the content of a file").await?;
        let row = reader.row(&TEXT, args![file.id]).await.map_err(failed)?;
        let text = row.and_then(|row| row.get::<Option<String>>(0).transpose());
        match text.transpose().map_err(failed)? {
            Some(text) => Ok(text),
            None => Err(StoreError::file(
                "reading the content of",
                Path::new(&file.name),
                ErrorKind::NotFound.into(),
            )),
        }
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
        for shelf in 0..SHELVES {
            let files = self.files().clone();
            let keys = blocking(move || files.keys_on(shelf, older_than)).await?;
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

    pub(crate) async fn keys_without_row(
        &self,
        keys: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let attempt = "reading which files of the store have rows";
        let mut reader = self.reader(attempt).await?;
        let keys = json_rows(keys.iter().map(|key| json!(key)).collect());
        let rows = reader.rows(&WITHOUT_ROW, args![keys]).await;
        rows.and_then(|rows| first_column(&rows))
            .map_err(|source| StoreError::sql(attempt, source))
    }
}

static OUTPUT: Statement = Statement::new(
    "SELECT id, tag, name, data_type, content_type, size, digest, file_key, created_at, url, \
     content IS NOT NULL FROM files WHERE id = ?1 AND kind = 'output'",
)
.lookup();

static OUTPUTS: Statement = Statement::new(
    "SELECT id, tag, name, data_type, content_type, size, digest, file_key, created_at, url, \
     content IS NOT NULL FROM files WHERE task = ?1 AND kind = 'output' ORDER BY id LIMIT ?2",
);

static TEXT: Statement = Statement::new("SELECT content FROM files WHERE id = ?1").lookup();

static WITHOUT_ROW: Statement = Statement::new(
    "SELECT value FROM {list ?1} j \
     WHERE NOT EXISTS (SELECT 1 FROM files WHERE file_key = value) \
     AND NOT EXISTS (SELECT 1 FROM modules WHERE file_key = value)",
);

static INSERT_UPLOADS: Statement = Statement::new(
    "INSERT INTO files (task, kind, created_at, data_type, file_key, name, content_type, size) \
     SELECT ?1, 'upload', ?2, '', value ->> 0, value ->> 1, value ->> 2, value ->> 3 \
     FROM json_each(?3) ORDER BY json_each.key",
)
.postgres(
    "INSERT INTO files (task, kind, created_at, data_type, file_key, name, content_type, size) \
     SELECT ?1, 'upload', ?2, '', value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT) \
     FROM json_array_elements(CAST(?3 AS JSON)) WITH ORDINALITY AS j (value, n) ORDER BY n",
)
.mysql(
    "INSERT INTO files (task, kind, created_at, data_type, file_key, name, content_type, size) \
     SELECT ?1, 'upload', ?2, '', j.file_key, j.name, j.content_type, j.size \
     FROM JSON_TABLE(?3, '$[*]' COLUMNS (n FOR ORDINALITY, file_key VARCHAR(64) PATH '$[0]', \
     name LONGTEXT PATH '$[1]', content_type LONGTEXT PATH '$[2]', size BIGINT PATH '$[3]')) j \
     ORDER BY j.n",
);

static ANY_HAS_ROW: Statement =
    Statement::new("SELECT EXISTS (SELECT 1 FROM files WHERE file_key = ?1)");

/// Whether this key of the file store has a row.
pub(crate) async fn has_row(connection: &mut Connection, key: &str) -> Result<bool, StoreError> {
    let row = connection.row(&ANY_HAS_ROW, args![key]).await;
    row.and_then(|row| row.map_or(Ok(false), |row| row.get(0)))
        .map_err(|source| StoreError::sql("reading whether a file has a row", source))
}

/// Does what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_shut_down) => Err(StoreError::Closed),
    }
}

/// As the queries here select it.
fn file(row: &Row) -> Result<File, sqlx::Error> {
    Ok(File {
        id: row.get(0)?,
        tag: row.get(1)?,
        name: row.get(2)?,
        data_type: row.get(3)?,
        content_type: row.get(4)?,
        size: row.get::<i64>(5)?.cast_unsigned(),
        digest: row.get(6)?,
        key: row.get(7)?,
        created_at: row.get::<i64>(8)? / 1000,
        url: row.get(9)?,
        is_in_row: row.get(10)?,
    })
}

/// The first `count` outputs of a task, in the order in which they were made.
pub(crate) async fn outputs(
    connection: &mut impl Ask,
    task: i64,
    count: i64,
) -> Result<Vec<File>, StoreError> {
    let failed = |source| StoreError::sql(format!("reading the outputs of task {task}"), source);
    let rows = connection
        .rows(&OUTPUTS, args![task, count])
        .await
        .map_err(failed)?;
    rows.iter()
        .map(file)
        .collect::<Result<_, _>>()
        .map_err(failed)
}

/// The first `count` outputs in a JSON list of rows, in the order in which they were made. None: it is not whole.
pub(crate) fn outputs_of_json(json: &str, count: i64) -> Option<Vec<File>> {
    type Columns = (
        i64,
        String,
        String,
        String,
        String,
        i64,
        String,
        String,
        i64,
        Option<String>,
        i64,
    );
    let rows: Vec<Columns> = serde_json::from_str(json).ok()?;
    let count = usize::try_from(count).unwrap_or(0);
    if rows.len() < count {
        return None;
    }
    let file = |row: Columns| {
        let (id, tag, name, data_type, content_type, size, digest, key, created_at, url, in_row) =
            row;
        File {
            id,
            tag,
            name,
            data_type,
            content_type,
            size: size.cast_unsigned(),
            digest,
            key,
            created_at: created_at / 1000,
            url,
            is_in_row: in_row != 0,
        }
    };
    let mut files: Vec<File> = rows.into_iter().map(file).collect();
    files.sort_unstable_by_key(|file| file.id);
    files.truncate(count);
    Some(files)
}

/// The secret part of a URL.
pub(crate) fn new_tag() -> String {
    URL_SAFE_NO_PAD.encode(file_store::random::<32>())
}

/// Outputs as the write of a run takes them, each with its tag.
pub(crate) fn outputs_json(outputs: &[(NewFile, String)]) -> String {
    let row = |(file, tag): &(NewFile, String)| {
        json!([
            file.stored.key,
            tag,
            file.name,
            file.data_type,
            file.content_type,
            file.stored.size,
            file.stored.digest,
            file.url,
            file.stored.text,
        ])
    };
    json_rows(outputs.iter().map(row).collect())
}

/// Uploads as [`insert_uploads`] takes them.
pub(crate) fn uploads_json(uploads: &[Upload]) -> String {
    let row = |file: &Upload| json!([file.key, file.name, file.content_type, file.size]);
    json_rows(uploads.iter().map(row).collect())
}

/// Adds the files that were submitted with a task or a step.
pub(crate) async fn insert_uploads(
    connection: &mut Connection,
    task: i64,
    uploads: &str,
    now: i64,
) -> Result<(), StoreError> {
    let done = connection
        .execute(&INSERT_UPLOADS, args![task, now, uploads])
        .await;
    done.map(drop)
        .map_err(|source| StoreError::sql(format!("adding the uploads of task {task}"), source))
}

#[cfg(test)]
mod tests {
    use super::outputs_of_json;

    const ROWS: &str = r#"[[2,"t","b.csv","d","text/csv",5,"x","k2",1999,null,1],[1,"t","a\"","d","c",0,"","k1",1000,"http://a",0]]"#;

    #[test]
    fn outputs_are_in_the_order_of_their_numbers() {
        let files = outputs_of_json(ROWS, 2).unwrap();
        let seen: Vec<_> = files.iter().map(|file| (file.id, &*file.name)).collect();
        assert_eq!(seen, [(1, "a\""), (2, "b.csv")]);
        let last = &files[1];
        assert_eq!((last.size, last.created_at, &*last.key), (5, 1, "k2"));
        assert_eq!(files[0].url.as_deref(), Some("http://a"));
        assert_eq!([files[0].is_in_row, files[1].is_in_row], [false, true]);
        assert_eq!(outputs_of_json(ROWS, 1).unwrap().len(), 1);
    }

    #[test]
    fn a_list_that_was_cut_off_is_not_taken_for_whole() {
        assert!(outputs_of_json(ROWS, 3).is_none());
        for end in 1..ROWS.len() - 1 {
            let cut = format!("{}]", &ROWS[..end]);
            assert!(outputs_of_json(&cut, 2).is_none(), "{cut}");
        }
    }
}
