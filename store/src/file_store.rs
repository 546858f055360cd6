//! The content of files, by random keys: in a folder, or in a bucket of an object store. Both stand behind one trait,
//! [`Contents`], which promises that what has a key is whole.
//!
//! A key is 32 hexadecimal digits: the time in milliseconds (12), then randomness (20). So the index of
//! keys in SQL grows at its end; they lie on 256 shelves, named after the last two digits, which are random.
//!
//! What comes bit by bit is first a draft in a folder of this machine. What is all there already gets its key at once:
//! what a runner that is killed meanwhile leaves has no row, and is swept like other files without one.
//!
//! Everything is copied into the store, and digested on the way: what is served is what the digest was made
//! of. A file that a plugin wrote is never moved there, since nothing proves that nobody can write to it any
//! more. That a lease for reading (`F_SETLEASE`) is granted tells that no descriptor and no mapping may write,
//! but a direct read that is in flight holds the pages of a mapping that is gone: its data comes into the file
//! after the lease was granted and the digest taken.

mod bucket;
mod draft;
mod folder;
mod key;
mod objects;
mod writer;

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use metrics::{Counter, counter, describe_counter};
use sha2::{Digest, Sha256};

use self::draft::Draft;
use self::folder::Folder;
use crate::{Durability, StoreError};

use key::new_key;

pub use bucket::{BadBucket, Bucket};
pub(crate) use folder::make_folder;
pub(crate) use key::{SHELVES, hexadecimal, random};
pub use writer::FileWriter;

/// Bytes of a text that is kept in its row.
const MAX_IN_ROW: usize = 4096;
/// Bytes that are copied at once.
const BUFFER: usize = 64 * 1024;

/// A file whose content is in the store, or will be in its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content, hexadecimal.
    pub digest: String,
    /// The content, if it is to stand in its row; then nothing is under the key.
    pub text: Option<String>,
}

impl StoredFile {
    /// What stands for a content that is not here, but elsewhere: a key under which nothing is.
    pub fn elsewhere() -> Self {
        Self {
            key: new_key(),
            size: 0,
            digest: String::new(),
            text: None,
        }
    }
}

/// The bytes of a file, piece by piece.
pub type ContentStream = BoxStream<'static, io::Result<Bytes>>;

/// Where contents are kept. Under its key each is whole or absent, and never changes. All functions but
/// [`read`](Self::read) block for as long as it takes.
trait Contents: fmt::Debug + Send + Sync {
    /// Where that is, as it may be shown.
    fn shown(&self) -> String;

    /// Whether storing takes longer than handing it to another thread.
    fn is_slow(&self) -> bool;

    /// Stores all of a source. Answers its bytes and its digest.
    fn put(&self, key: &str, source: &mut dyn Read) -> Result<(u64, String), StoreError>;

    /// Stores what is all there already.
    fn put_bytes(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Takes over a draft that is whole.
    fn adopt(&self, key: &str, draft: &mut Draft) -> Result<(), StoreError>;

    /// A part of a content, for who must not block. The part is not empty.
    fn read(
        &self,
        key: &str,
        part: Range<u64>,
    ) -> BoxFuture<'static, Result<ContentStream, StoreError>>;

    /// A whole content.
    fn open(&self, key: &str) -> Result<Box<dyn Read + Send>, StoreError>;

    /// Makes a file of a content, for reading only: where it can, it is the same file. Nothing is there yet.
    fn place(&self, key: &str, path: &Path) -> Result<(), StoreError>;

    /// It is no error if there is none.
    fn remove(&self, key: &str) -> Result<(), StoreError>;

    /// The keys of a shelf that were put there before `older_than`.
    fn keys_on(&self, shelf: u32, older_than: SystemTime) -> Result<Vec<String>, StoreError>;

    /// Bytes of a content; `None`: there is no such key.
    fn size(&self, key: &str) -> Result<Option<u64>, StoreError>;

    /// Number and bytes of what is on a shelf.
    fn amount_on(&self, shelf: u32) -> Result<(u64, u64), StoreError>;

    /// What the file `store-id` says. If there is none it is made, with `new` in it.
    fn marker(&self, new: &str) -> Result<String, StoreError>;

    /// The same, and nothing is made: `None`, if there is none.
    fn known_marker(&self) -> Result<Option<String>, StoreError>;
}

/// The content of files. Functions that are not `async` block for as long as the disk or the object store takes.
#[derive(Debug, Clone)]
pub struct FileStore {
    contents: Arc<dyn Contents>,
    /// Where drafts are.
    drafts: Arc<Path>,
    meters: Arc<Meters>,
}

/// What is counted.
#[derive(Debug)]
struct Meters {
    files: Counter,
    bytes: Counter,
    full: Counter,
}

impl Meters {
    fn new() -> Self {
        describe_counter!(
            "runner_files_stored_total",
            "Files that this process stored."
        );
        describe_counter!(
            "runner_files_stored_bytes_total",
            "Bytes of the files that this process stored."
        );
        describe_counter!(
            "runner_files_refused_total",
            "Files that had no room on the disk."
        );
        Self {
            files: counter!("runner_files_stored_total"),
            bytes: counter!("runner_files_stored_bytes_total"),
            full: counter!("runner_files_refused_total"),
        }
    }
}

impl FileStore {
    /// Contents are in the folder, or in the bucket if there is one; then the folder has drafts alone.
    pub(crate) fn open_at(
        folder: &Path,
        bucket: Option<&Bucket>,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let contents: Arc<dyn Contents> = match bucket {
            Some(bucket) => Arc::new(bucket.open()?),
            None => Arc::new(Folder::open(folder, durability)?),
        };
        Self::of(contents, folder)
    }

    fn of(contents: Arc<dyn Contents>, folder: &Path) -> Result<Self, StoreError> {
        let drafts = folder.join("tmp");
        folder::make_folder(&drafts)?;
        Ok(Self {
            contents,
            drafts: drafts.into(),
            meters: Arc::new(Meters::new()),
        })
    }

    /// Copies all of `source` into the store.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed. Nothing stays in the store.
    pub fn put(&self, mut source: impl Read) -> Result<StoredFile, StoreError> {
        let key = new_key();
        let stored = self.contents.put(&key, &mut source);
        let size = stored.as_ref().map_or(0, |(size, _)| *size);
        let (size, digest) = self.count(size, stored)?;
        Ok(StoredFile {
            key,
            size,
            digest,
            text: None,
        })
    }

    /// Stores what is all there already.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed. Nothing stays in the store.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<StoredFile, StoreError> {
        let key = new_key();
        let stored = self.contents.put_bytes(&key, bytes);
        self.count(bytes.len() as u64, stored)?;
        Ok(StoredFile {
            key,
            size: bytes.len() as u64,
            digest: hexadecimal(&Sha256::digest(bytes)),
            text: None,
        })
    }

    /// Stores a text. A short one is not put here: it is written with its row, which costs less than a file, and is
    /// as durable as the row.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed. Nothing stays in the store.
    pub fn put_text(&self, text: &str) -> Result<StoredFile, StoreError> {
        // NUL is the one character that not every database can keep.
        if text.len() > MAX_IN_ROW || text.contains('\0') {
            return self.put_bytes(text.as_bytes());
        }
        self.count(text.len() as u64, Ok(()))?;
        Ok(StoredFile {
            key: new_key(),
            size: text.len() as u64,
            digest: hexadecimal(&Sha256::digest(text)),
            text: Some(text.to_owned()),
        })
    }

    /// Counts what was stored, and what had no room.
    fn count<T>(&self, size: u64, stored: Result<T, StoreError>) -> Result<T, StoreError> {
        match &stored {
            Ok(_) => {
                self.meters.files.increment(1);
                self.meters.bytes.increment(size);
            }
            Err(error) if error.is_disk_full() => self.meters.full.increment(1),
            Err(_) => {}
        }
        stored
    }

    /// Whether storing takes longer than handing it to another thread.
    pub fn is_slow(&self) -> bool {
        self.contents.is_slow()
    }

    /// Begins a file whose content comes bit by bit.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed.
    pub fn create(&self) -> Result<FileWriter, StoreError> {
        let key = new_key();
        let draft = Draft::create(self.drafts.join(&key))?;
        Ok(FileWriter {
            store: self.clone(),
            key,
            draft,
        })
    }

    /// A part of the content of a key, which must lie inside of it.
    ///
    /// # Errors
    /// What failed; that there is no such key is an error, too.
    pub async fn read(&self, key: &str, part: Range<u64>) -> Result<ContentStream, StoreError> {
        if part.is_empty() {
            return Ok(Box::pin(futures::stream::empty()));
        }
        self.contents.read(key, part).await
    }

    /// The content of a key.
    ///
    /// # Errors
    /// What failed; that there is no such key is an error, too.
    pub fn open(&self, key: &str) -> Result<Box<dyn Read + Send>, StoreError> {
        self.contents.open(key)
    }

    /// Makes the content of a key a file at `path`, where none is yet. It is for reading only: it may be the file of
    /// the store itself.
    ///
    /// # Errors
    /// What failed; that there is no such key is an error, too.
    pub fn place(&self, key: &str, path: &Path) -> Result<(), StoreError> {
        folder::make_folder(path.parent().unwrap_or(Path::new(".")))?;
        self.contents.place(key, path)
    }

    /// Removes the content of a key; after its row. It is no error if there is none.
    ///
    /// # Errors
    /// What failed.
    pub fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.contents.remove(key)
    }

    /// Where it is, for people.
    pub fn shown(&self) -> String {
        self.contents.shown()
    }

    /// What the store says it is; `new` if it does not say yet.
    pub(crate) fn marker(&self, new: &str) -> Result<String, StoreError> {
        Ok(short(&self.contents.marker(new)?))
    }

    /// What the store says it is, if it says so.
    pub(crate) fn known_marker(&self) -> Result<Option<String>, StoreError> {
        let marker = self.contents.known_marker()?;
        Ok(marker.as_deref().map(short))
    }

    /// Bytes that are free on this machine for what is stored.
    ///
    /// # Errors
    /// What failed.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat = nix::sys::statvfs::statvfs(&*self.drafts).map_err(|errno| {
            StoreError::file("asking for the free space of", &self.drafts, errno.into())
        })?;
        // Their width differs between systems.
        Ok(stat.blocks_available() as u64 * stat.fragment_size() as u64)
    }

    /// The keys of a shelf that were put there before `older_than`.
    pub(crate) fn keys_on(
        &self,
        shelf: u32,
        older_than: SystemTime,
    ) -> Result<Vec<String>, StoreError> {
        self.contents.keys_on(shelf, older_than)
    }

    /// Bytes of the content of a key; `None`: there is no such key.
    pub(crate) fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.contents.size(key)
    }

    /// Number and bytes of what is on a shelf.
    pub(crate) fn amount_on(&self, shelf: u32) -> Result<(u64, u64), StoreError> {
        self.contents.amount_on(shelf)
    }

    /// Number and bytes of what is being written, or was left unfinished.
    pub(crate) fn amount_of_drafts(&self) -> Result<(u64, u64), StoreError> {
        folder::amount_in(&self.drafts)
    }

    /// What was left unfinished before `older_than`, with its bytes.
    pub(crate) fn unfinished(&self, older_than: SystemTime) -> Result<Vec<u64>, StoreError> {
        let keys = folder::keys_in(&self.drafts, older_than)?;
        let sizes = keys.iter().map(|key| fs::metadata(self.drafts.join(key)));
        Ok(sizes
            .map(|data| data.map_or(0, |data| data.len()))
            .collect())
    }

    /// Removes what was left unfinished before `older_than` by processes that are gone.
    pub(crate) fn sweep_unfinished(&self, older_than: SystemTime) -> Result<u64, StoreError> {
        let mut removed = 0;
        for key in folder::keys_in(&self.drafts, older_than)? {
            removed += u64::from(remove_file(&self.drafts.join(key))?);
        }
        Ok(removed)
    }
}

/// A marker as it is kept in SQL.
fn short(marker: &str) -> String {
    marker.trim().chars().take(64).collect()
}

/// Whether it was there.
fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::file("removing the file", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, FileStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open_at(folder.path(), None, Durability::Power).unwrap();
        (folder, store)
    }

    #[test]
    fn what_is_put_can_be_opened_with_its_digest() {
        let (_folder, store) = store();
        let stored = store.put(&b"hello"[..]).unwrap();
        assert_eq!(stored.size, 5);
        assert_eq!(
            stored.digest,
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        let content = io::read_to_string(store.open(&stored.key).unwrap()).unwrap();
        assert_eq!(content, "hello");
        store.remove(&stored.key).unwrap();
        store.remove(&stored.key).unwrap();
        let error = store.open(&stored.key).err().unwrap();
        assert!(error.to_string().contains(&stored.key), "{error}");
        assert!(store.free_bytes().unwrap() > 0);
    }

    #[test]
    fn bytes_are_stored_like_what_comes_bit_by_bit() {
        for durability in [Durability::Process, Durability::Power] {
            let folder = tempfile::tempdir().unwrap();
            let store = FileStore::open_at(folder.path(), None, durability).unwrap();
            for content in [&b""[..], b"hello", &[7; 100_000]] {
                let (at_once, copied) = (store.put_bytes(content), store.put(content));
                let (at_once, copied) = (at_once.unwrap(), copied.unwrap());
                assert_eq!((at_once.size, at_once.digest), (copied.size, copied.digest));
                let mut found = Vec::new();
                let read = store.open(&at_once.key).unwrap().read_to_end(&mut found);
                assert_eq!((read.unwrap(), &*found), (content.len(), content));
            }
            assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_is_no_key_leads_nowhere() {
        let folder = Folder::open(Path::new("/files"), Durability::Process).unwrap();
        for key in [
            "",
            "..",
            "../../etc/passwd",
            "/etc/passwd",
            "ü",
            &"g".repeat(32),
        ] {
            assert_eq!(folder.path(key), Path::new("/files/not-a-key"));
        }
    }

    #[test]
    fn a_source_that_fails_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let (folder, store) = store();
        store.put((&b"begin"[..]).chain(Broken)).unwrap_err();
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }
}
