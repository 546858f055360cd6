//! Rows and content that do not fit together. Nothing has to be stopped for it: what is too young to tell is passed
//! over, and what is missing is looked for again.

use std::io::ErrorKind;
use std::path::Path;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::file_store::{SHELVES, hexadecimal};
use crate::files::blocking;
use crate::sql::{Ask, Connection, Statement, args};
use crate::writer::Write;
use crate::{FileStore, Store, StoreError};

/// Rows that are read at a time.
const PAGE: i64 = 500;
/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;

/// Something that does not fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Content that no row names.
    NoRow {
        /// Its key.
        key: String,
        /// Bytes.
        size: u64,
    },
    /// A row without its content.
    NoContent {
        /// Number of the file.
        file: i64,
        /// Its task.
        task: i64,
        /// Its key.
        key: String,
        /// Its name.
        name: String,
    },
    /// Content that is not as long as its row says.
    WrongSize {
        /// Number of the file.
        file: i64,
        /// Its task.
        task: i64,
        /// Its name.
        name: String,
        /// Bytes, as the row says.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// Content that is not what was stored.
    WrongDigest {
        /// Number of the file.
        file: i64,
        /// Its task.
        task: i64,
        /// Its name.
        name: String,
    },
    /// A module that administrators want, without the package that all processes load it from.
    NoPackage {
        /// Its name.
        module: String,
        /// The queue whose processes load it.
        queue: String,
        /// The key of the package.
        key: String,
    },
    /// A package that is not as long as its row says.
    WrongPackage {
        /// The name of its module.
        module: String,
        /// The queue whose processes load it.
        queue: String,
        /// Bytes, as the row says.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// What was left unfinished.
    Unfinished {
        /// How many files.
        count: u64,
        /// Bytes of them.
        size: u64,
    },
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Rows.
    pub rows: u64,
    /// Files of the file store.
    pub contents: u64,
    /// Files of the file store that are too young to tell.
    pub young: u64,
    /// What does not fit together.
    pub findings: Vec<Finding>,
    /// How many of these were repaired.
    pub repaired: u64,
}

impl Store {
    /// Compares the rows of files and of kept modules with the content of the file store, as far as it was put there
    /// before `older_than`; with `digests` also what stands in it. With `repair` content without a row is removed, and
    /// so are rows of files without content. What is wanted of modules is left to administrators.
    ///
    /// # Errors
    /// What could not be read or removed.
    pub async fn check_files(
        &self,
        older_than: SystemTime,
        digests: bool,
        repair: bool,
    ) -> Result<Checked, StoreError> {
        let mut checked = Checked::default();
        self.check_rows(&mut checked, digests, repair).await?;
        self.check_packages(&mut checked).await?;
        self.check_contents(&mut checked, older_than, repair)
            .await?;
        Ok(checked)
    }

    async fn check_rows(
        &self,
        checked: &mut Checked,
        digests: bool,
        repair: bool,
    ) -> Result<(), StoreError> {
        let attempt = "reading the rows of files";
        let failed = |source| StoreError::sql(attempt, source);
        let mut after = 0;
        loop {
            let mut reader = self.reader(attempt).await?;
            let rows = reader.rows(&ROWS, args![after, PAGE]).await;
            let rows = rows.map_err(failed)?;
            drop(reader);
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = last.get(0).map_err(failed)?;
            checked.rows += rows.len() as u64;
            let read = |row: &crate::sql::Row| {
                Ok(FileRow {
                    id: row.get(0)?,
                    task: row.get(1)?,
                    key: row.get(2)?,
                    name: row.get(3)?,
                    size: row.get::<i64>(4)?.cast_unsigned(),
                    digest: row.get(5)?,
                })
            };
            let rows: Vec<FileRow> = rows
                .iter()
                .map(read)
                .collect::<Result<_, _>>()
                .map_err(failed)?;
            let files = self.files().clone();
            let found = blocking(move || {
                let found = rows.into_iter().map(|row| row.check(&files, digests));
                found.collect::<Result<Vec<_>, _>>()
            })
            .await?;
            for finding in found.into_iter().flatten() {
                // Its task may have been deleted meanwhile.
                let (file, is_missing) = match &finding {
                    Finding::NoContent { file, .. } => (*file, true),
                    Finding::WrongSize { file, .. } | Finding::WrongDigest { file, .. } => {
                        (*file, false)
                    }
                    _ => continue,
                };
                if !self.has_file(file).await? {
                    continue;
                }
                if is_missing && repair {
                    checked.repaired += u64::from(self.writer().write(Forget { file }).await?);
                }
                checked.findings.push(finding);
            }
        }
    }

    /// Packages of modules. What is in one is compared whenever it is unpacked.
    async fn check_packages(&self, checked: &mut Checked) -> Result<(), StoreError> {
        let attempt = "reading the rows of modules";
        let failed = |source| StoreError::sql(attempt, source);
        let mut after = String::new();
        loop {
            let mut reader = self.reader(attempt).await?;
            let rows = reader.rows(&PACKAGES, args![&after, PAGE]).await;
            drop(reader);
            let read = |row: &crate::sql::Row| {
                Ok(PackageRow {
                    key: row.get(0)?,
                    queue: row.get(1)?,
                    module: row.get(2)?,
                    size: row.get::<Option<i64>>(3)?.unwrap_or(0).cast_unsigned(),
                })
            };
            let rows: Result<Vec<PackageRow>, sqlx::Error> =
                rows.and_then(|rows| rows.iter().map(read).collect());
            let rows = rows.map_err(failed)?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after.clone_from(&last.key);
            checked.rows += rows.len() as u64;
            let files = self.files().clone();
            let found = blocking(move || {
                let found = rows.into_iter().map(|row| row.check(&files));
                found.collect::<Result<Vec<_>, _>>()
            });
            for (key, finding) in found.await?.into_iter().flatten() {
                // Its module may have been replaced or removed meanwhile.
                if self.is_package(&key).await? {
                    checked.findings.push(finding);
                }
            }
        }
    }

    async fn check_contents(
        &self,
        checked: &mut Checked,
        older_than: SystemTime,
        repair: bool,
    ) -> Result<(), StoreError> {
        for shelf in 0..SHELVES {
            let files = self.files().clone();
            let (all, old) = blocking(move || {
                let all = files.keys_on(shelf, SystemTime::now())?.len() as u64;
                Ok((all, files.keys_on(shelf, older_than)?))
            })
            .await?;
            checked.contents += all;
            checked.young += all.saturating_sub(old.len() as u64);
            if old.is_empty() {
                continue;
            }
            for key in self.keys_without_row(&old).await? {
                let (files, orphan) = (self.files().clone(), key.clone());
                let size = blocking(move || {
                    let size = files.size(&orphan)?;
                    if repair {
                        files.remove(&orphan)?;
                    }
                    Ok(size.unwrap_or(0))
                })
                .await?;
                checked.repaired += u64::from(repair);
                checked.findings.push(Finding::NoRow { key, size });
            }
        }
        let files = self.files().clone();
        let unfinished = blocking(move || files.unfinished(older_than)).await?;
        if unfinished.is_empty() {
            return Ok(());
        }
        checked.findings.push(Finding::Unfinished {
            count: unfinished.len() as u64,
            size: unfinished.iter().sum(),
        });
        if repair {
            let files = self.files().clone();
            checked.repaired += blocking(move || files.sweep_unfinished(older_than))
                .await?
                .min(1);
        }
        Ok(())
    }

    async fn has_file(&self, file: i64) -> Result<bool, StoreError> {
        let attempt = "reading whether a file is still there";
        let row = self.reader(attempt).await?.row(&HAS, args![file]).await;
        row.and_then(|row| row.map_or(Ok(false), |row| row.get(0)))
            .map_err(|source| StoreError::sql(attempt, source))
    }

    async fn is_package(&self, key: &str) -> Result<bool, StoreError> {
        let attempt = "reading whether a module is still wanted";
        let mut reader = self.reader(attempt).await?;
        let row = reader.row(&IS_PACKAGE, args![key]).await;
        row.and_then(|row| row.map_or(Ok(false), |row| row.get(0)))
            .map_err(|source| StoreError::sql(attempt, source))
    }
}

/// The row of a kept module.
struct PackageRow {
    key: String,
    queue: String,
    module: String,
    size: u64,
}

impl PackageRow {
    /// What is wrong, with the key of the package.
    fn check(self, files: &FileStore) -> Result<Option<(String, Finding)>, StoreError> {
        let finding = match files.size(&self.key)? {
            Some(found) if found == self.size => return Ok(None),
            Some(found) => Finding::WrongPackage {
                module: self.module,
                queue: self.queue,
                expected: self.size,
                found,
            },
            None => Finding::NoPackage {
                module: self.module,
                queue: self.queue,
                key: self.key.clone(),
            },
        };
        Ok(Some((self.key, finding)))
    }
}

/// A row that is compared with its content.
struct FileRow {
    id: i64,
    task: i64,
    key: String,
    name: String,
    size: u64,
    digest: Option<String>,
}

impl FileRow {
    fn check(self, files: &FileStore, digests: bool) -> Result<Option<Finding>, StoreError> {
        let Some(size) = files.size(&self.key)? else {
            return Ok(Some(Finding::NoContent {
                file: self.id,
                task: self.task,
                key: self.key,
                name: self.name,
            }));
        };
        if size != self.size {
            return Ok(Some(Finding::WrongSize {
                file: self.id,
                task: self.task,
                name: self.name,
                expected: self.size,
                found: size,
            }));
        }
        match &self.digest {
            Some(expected) if digests && digest_of(files, &self.key)? != *expected => {
                Ok(Some(Finding::WrongDigest {
                    file: self.id,
                    task: self.task,
                    name: self.name,
                }))
            }
            _ => Ok(None),
        }
    }
}

fn digest_of(files: &FileStore, key: &str) -> Result<String, StoreError> {
    let failed = |source| StoreError::file("reading the content of", Path::new(key), source);
    let mut file = files.open(key)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hexadecimal(&hasher.finalize())),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

static ROWS: Statement = Statement::new(
    "SELECT id, task, file_key, name, size, digest FROM files WHERE id > ?1 AND url IS NULL AND content IS NULL \
     ORDER BY id LIMIT ?2",
);

static PACKAGES: Statement = Statement::new(
    "SELECT file_key, queue, name, size FROM modules WHERE is_kept = 1 AND file_key > ?1 ORDER BY file_key LIMIT ?2",
);

static IS_PACKAGE: Statement =
    Statement::new("SELECT EXISTS (SELECT 1 FROM modules WHERE file_key = ?1)");

static HAS: Statement = Statement::new("SELECT EXISTS (SELECT 1 FROM files WHERE id = ?1)");

/// Removes the row of a file that is gone.
struct Forget {
    file: i64,
}

static COUNT_DOWN: Statement = Statement::new(
    "UPDATE tasks SET output_count = output_count - 1, version = version + 1 \
     WHERE output_count > 0 AND id = (SELECT task FROM files WHERE id = ?1 AND kind = 'output')",
);

static FORGET: Statement = Statement::new("DELETE FROM files WHERE id = ?1");

impl Write for Forget {
    type Answer = bool;

    async fn apply(&self, connection: &mut Connection, is_again: bool) -> Result<bool, StoreError> {
        let failed = |source| StoreError::sql("removing the row of a file that is gone", source);
        let args = args![self.file];
        connection
            .execute(&COUNT_DOWN, args)
            .await
            .map_err(failed)?;
        let done = connection.execute(&FORGET, args).await.map_err(failed)?;
        Ok(done.hit > 0 || is_again)
    }
}
