//! The content of files, in a folder: `<root>/a/b/<key>`.
//!
//! A key is 32 hexadecimal digits: the time in milliseconds (12), then randomness (20). So the index of
//! keys in SQL grows at its end; folders are named after the last two digits, which are random. A file
//! whose content comes bit by bit is written under another name in `<root>/tmp` and then renamed: under its
//! key it is whole or absent. What is all there already is written under its key at once: what a runner that
//! is killed meanwhile leaves has no row, and is swept like other files without one.
//!
//! Everything is copied into the store, and digested on the way: what is served is what the digest was made
//! of. A file that a plugin wrote is never moved there, since nothing proves that nobody can write to it any
//! more. That a lease for reading (`F_SETLEASE`) is granted tells that no descriptor and no mapping may write,
//! but a direct read that is in flight holds the pages of a mapping that is gone: its data comes into the file
//! after the lease was granted and the digest taken.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, counter, describe_counter};
use sha2::{Digest, Sha256};

use crate::{Durability, StoreError, now_ms};

/// Digits of a key.
const KEY_LENGTH: usize = 32;
/// Bytes that are copied at once.
const BUFFER: usize = 64 * 1024;

/// A file whose content is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content, hexadecimal.
    pub digest: String,
}

/// The folder with the content of files. All functions block for as long as the disk takes.
#[derive(Debug, Clone)]
pub struct FileStore {
    root: Arc<Path>,
    durability: Durability,
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
    pub(crate) fn open_at(root: &Path, durability: Durability) -> Result<Self, StoreError> {
        let temporary = root.join("tmp");
        fs::create_dir_all(&temporary)
            .map_err(|source| StoreError::file("creating the folder", &temporary, source))?;
        Ok(Self {
            root: root.into(),
            durability,
            meters: Arc::new(Meters::new()),
        })
    }

    /// Copies all of `source` into the store.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed. Nothing stays in the store.
    pub fn put(&self, mut source: impl Read) -> Result<StoredFile, StoreError> {
        let mut writer = self.create()?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return writer.finish(),
                Ok(read) => writer.append(&buffer[..read])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(StoreError::File {
                        attempt: "reading what is to be stored as",
                        path: writer.temporary.clone(),
                        source: error,
                    });
                }
            }
        }
    }

    /// Stores what is all there already.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed. Nothing stays in the store.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<StoredFile, StoreError> {
        let key = new_key();
        let path = self.path(&key);
        let made = match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_folder(path.parent().unwrap_or(&self.root))?;
                File::create_new(&path)
            }
            made => made,
        };
        let failed = |source| StoreError::file("writing the file", &path, source);
        let mut file = made.map_err(failed)?;
        let mut written = file.write_all(bytes);
        if self.waits_for_disk() {
            written = written.and_then(|()| file.sync_all());
        }
        if let Err(error) = written {
            // What stays is swept later.
            let _removed = fs::remove_file(&path);
            return Err(self.count_refused(failed(error)));
        }
        self.sync_folders_of(&path)?;
        self.count(bytes.len() as u64);
        Ok(StoredFile {
            key,
            size: bytes.len() as u64,
            digest: hexadecimal(&Sha256::digest(bytes)),
        })
    }

    fn count(&self, size: u64) {
        self.meters.files.increment(1);
        self.meters.bytes.increment(size);
    }

    /// Counts what had no room.
    fn count_refused(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::DiskFull { .. }) {
            self.meters.full.increment(1);
        }
        error
    }

    /// Where it matters: the folder of a file, and those above it, which may be new.
    fn sync_folders_of(&self, path: &Path) -> Result<(), StoreError> {
        if self.waits_for_disk() {
            for folder in path.ancestors().skip(1).take(3) {
                sync_folder(folder)?;
            }
        }
        Ok(())
    }

    /// Whether storing waits until the disk has it.
    pub fn waits_for_disk(&self) -> bool {
        self.durability == Durability::Power
    }

    /// Begins a file whose content comes bit by bit.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed.
    pub fn create(&self) -> Result<FileWriter, StoreError> {
        let key = new_key();
        let temporary = self.root.join("tmp").join(&key);
        let file = File::create_new(&temporary)
            .map_err(|source| StoreError::file("creating the file", &temporary, source))?;
        Ok(FileWriter {
            store: self.clone(),
            key,
            temporary,
            file,
            hasher: Sha256::new(),
            size: 0,
            finished: false,
        })
    }

    /// Where the content of a key is. What cannot be a key has a path at which nothing is.
    pub fn path(&self, key: &str) -> PathBuf {
        match key.as_bytes() {
            [.., a, b] if is_key(key) => {
                let digit = |byte: u8| char::from(byte).to_string();
                self.root.join(digit(*a)).join(digit(*b)).join(key)
            }
            _ => self.root.join("not-a-key"),
        }
    }

    /// Opens the content of a key.
    ///
    /// # Errors
    /// What failed; that there is no such key is an error, too.
    pub fn open(&self, key: &str) -> Result<File, StoreError> {
        let path = self.path(key);
        File::open(&path).map_err(|source| StoreError::file("opening the file", &path, source))
    }

    /// Removes the content of a key; after its row. It is no error if there is none.
    ///
    /// # Errors
    /// What failed.
    pub fn remove(&self, key: &str) -> Result<(), StoreError> {
        remove_file(&self.path(key)).map(drop)
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Bytes that are free for the store.
    ///
    /// # Errors
    /// What failed.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat = nix::sys::statvfs::statvfs(&*self.root).map_err(|errno| {
            StoreError::file("asking for the free space of", &self.root, errno.into())
        })?;
        // Their width differs between systems.
        Ok(stat.blocks_available() as u64 * stat.fragment_size() as u64)
    }

    /// The folders that have keys.
    pub(crate) fn folders(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let root = Arc::clone(&self.root);
        (0..256_u32).map(move |n| {
            root.join(format!("{:x}", n >> 4))
                .join(format!("{:x}", n & 15))
        })
    }

    /// The keys in a folder that were put there before `older_than`.
    pub(crate) fn keys_in(
        folder: &Path,
        older_than: SystemTime,
    ) -> Result<Vec<String>, StoreError> {
        let failed = |source| StoreError::file("reading the folder", folder, source);
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if is_key(&name) && put_at(&entry).is_some_and(|time| time < older_than) {
                keys.push(name);
            }
        }
        Ok(keys)
    }

    /// Removes what was left unfinished before `older_than` by processes that are gone.
    pub(crate) fn sweep_unfinished(&self, older_than: SystemTime) -> Result<u64, StoreError> {
        let folder = self.root.join("tmp");
        let mut removed = 0;
        for key in Self::keys_in(&folder, older_than)? {
            removed += u64::from(remove_file(&folder.join(key))?);
        }
        Ok(removed)
    }
}

/// When a file came into its folder: renaming changes the time of its inode, not that of its content.
/// None if it is gone.
fn put_at(entry: &fs::DirEntry) -> Option<SystemTime> {
    let metadata = entry.metadata().ok()?;
    let seconds = u64::try_from(metadata.ctime()).ok()?;
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).ok()?;
    Some(UNIX_EPOCH + Duration::new(seconds, nanoseconds))
}

/// Whether it was there.
fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::file("removing the file", path, error)),
    }
}

/// A file that is being written into the store. Dropped before [`finish`](Self::finish), it leaves
/// nothing.
#[derive(Debug)]
pub struct FileWriter {
    store: FileStore,
    key: String,
    temporary: PathBuf,
    file: File,
    hasher: Sha256,
    size: u64,
    finished: bool,
}

impl FileWriter {
    /// Adds bytes, as [`Write::write_all`] does, but with the error of the store.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_all(bytes).map_err(|source| {
            let error = StoreError::file("writing the file", &self.temporary, source);
            self.store.count_refused(error)
        })
    }

    /// Bytes that were written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes it a file of the store. It is swept some time later unless a row names it.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed.
    pub fn finish(mut self) -> Result<StoredFile, StoreError> {
        let path = self.store.path(&self.key);
        if self.store.waits_for_disk() {
            let synced = self.file.sync_all();
            synced.map_err(|source| StoreError::file("syncing the file", &path, source))?;
        }
        let mut renamed = fs::rename(&self.temporary, &path);
        if matches!(&renamed, Err(error) if error.kind() == ErrorKind::NotFound) {
            make_folder(path.parent().unwrap_or(&self.store.root))?;
            renamed = fs::rename(&self.temporary, &path);
        }
        renamed.map_err(|source| StoreError::file("moving into the store", &path, source))?;
        self.finished = true;
        self.store.sync_folders_of(&path)?;
        self.store.count(self.size);
        Ok(StoredFile {
            key: std::mem::take(&mut self.key),
            size: self.size,
            digest: hexadecimal(&self.hasher.finalize_reset()),
        })
    }
}

fn make_folder(folder: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(folder)
        .map_err(|source| StoreError::file("creating the folder", folder, source))
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| StoreError::file("syncing the folder", folder, source))
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What stays is swept later.
            let _removed = fs::remove_file(&self.temporary);
        }
    }
}

fn is_key(name: &str) -> bool {
    name.len() == KEY_LENGTH
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn new_key() -> String {
    format!("{:012x}{}", now_ms(), hexadecimal(&random::<10>()))
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::expect_used, reason = "without randomness no secret is one")]
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, FileStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open_at(folder.path(), Durability::Power).unwrap();
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
        let error = store.open(&stored.key).unwrap_err();
        assert!(error.to_string().contains(&stored.key), "{error}");
        assert!(store.free_bytes().unwrap() > 0);
    }

    #[test]
    fn bytes_are_stored_like_what_comes_bit_by_bit() {
        for durability in [Durability::Process, Durability::Power] {
            let folder = tempfile::tempdir().unwrap();
            let store = FileStore::open_at(folder.path(), durability).unwrap();
            for content in [&b""[..], b"hello", &[7; 100_000]] {
                let (at_once, copied) = (store.put_bytes(content), store.put(content));
                let (at_once, copied) = (at_once.unwrap(), copied.unwrap());
                assert_eq!((at_once.size, at_once.digest), (copied.size, copied.digest));
                assert_eq!(fs::read(store.path(&at_once.key)).unwrap(), content);
            }
            assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_is_no_key_leads_nowhere() {
        let (folder, store) = store();
        for key in [
            "",
            "..",
            "../../etc/passwd",
            "/etc/passwd",
            "ü",
            &"g".repeat(32),
        ] {
            assert_eq!(store.path(key), folder.path().join("not-a-key"));
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

    #[test]
    fn keys_are_in_the_order_of_time_and_never_the_same() {
        let mut keys: Vec<_> = (0..1000).map(|_| new_key()).collect();
        assert!(keys.iter().all(|key| is_key(key)));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 1000);
    }
}
