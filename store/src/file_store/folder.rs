//! Contents in a folder: `<root>/a/b/<key>`. Drafts are in `<root>/tmp`, so that moving them is one step.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write as _};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::draft::Draft;
use super::key::{SHELVES, digits_of, hexadecimal, is_key, random, shelf_of};
use super::{BUFFER, ContentStream, Contents, remove_file};
use crate::{Durability, StoreError};

/// The file that says which store it is.
const MARKER: &str = "store-id";

/// A folder of this machine, or one that several machines share.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    durability: Durability,
}

impl Folder {
    pub(super) fn open(root: &Path, durability: Durability) -> Result<Self, StoreError> {
        let folder = Self {
            root: root.to_owned(),
            durability,
        };
        if folder.is_synced() {
            folder.make_shelves()?;
        }
        Ok(folder)
    }

    /// Makes all shelves, and waits until the disk has them, so that of what is stored later only the file and its
    /// shelf must be synced.
    fn make_shelves(&self) -> Result<(), StoreError> {
        for shelf in 0..SHELVES {
            let [a, b] = digits_of(shelf);
            make_folder(&self.root.join(a).join(b))?;
        }
        for digit in 0..16 {
            sync_folder(&self.root.join(format!("{digit:x}")))?;
        }
        sync_folder(&self.root)?;
        match std::path::absolute(&self.root)
            .ok()
            .as_deref()
            .and_then(Path::parent)
        {
            Some(above) => sync_folder(above),
            None => Ok(()),
        }
    }

    /// Where the content of a key is. What cannot be a key has a path at which nothing is.
    pub(super) fn path(&self, key: &str) -> PathBuf {
        match shelf_of(key) {
            Some([a, b]) => {
                let digit = |digit: char| digit.to_string();
                self.root.join(digit(a)).join(digit(b)).join(key)
            }
            None => self.root.join("not-a-key"),
        }
    }

    fn is_synced(&self) -> bool {
        self.durability == Durability::Power
    }

    /// Where it matters: that the file is on its shelf.
    fn sync_shelf_of(&self, path: &Path) -> Result<(), StoreError> {
        match path.parent() {
            Some(shelf) if self.is_synced() => sync_folder(shelf),
            _ => Ok(()),
        }
    }

    fn draft(&self, name: &str) -> PathBuf {
        self.root.join("tmp").join(name)
    }
}

impl Contents for Folder {
    fn shown(&self) -> String {
        let path = std::path::absolute(&self.root);
        path.as_ref().unwrap_or(&self.root).display().to_string()
    }

    fn is_slow(&self) -> bool {
        self.is_synced()
    }

    fn put(&self, key: &str, source: &mut dyn Read) -> Result<(u64, String), StoreError> {
        let mut draft = Draft::create(self.draft(key))?;
        draft.copy(source)?;
        self.adopt(key, &mut draft)?;
        Ok((draft.size(), draft.digest()))
    }

    fn put_bytes(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(key);
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
        if self.is_synced() {
            written = written.and_then(|()| file.sync_all());
        }
        if let Err(error) = written {
            // What stays is swept later.
            let _removed = fs::remove_file(&path);
            return Err(failed(error));
        }
        self.sync_shelf_of(&path)
    }

    fn adopt(&self, key: &str, draft: &mut Draft) -> Result<(), StoreError> {
        let path = self.path(key);
        if self.is_synced() {
            draft.sync()?;
        }
        let mut moved = draft.move_to(&path);
        if matches!(&moved, Err(error) if error.kind() == ErrorKind::NotFound) {
            make_folder(path.parent().unwrap_or(&self.root))?;
            moved = draft.move_to(&path);
        }
        moved.map_err(|source| StoreError::file("moving into the store", &path, source))?;
        self.sync_shelf_of(&path)
    }

    fn read(
        &self,
        key: &str,
        part: Range<u64>,
    ) -> BoxFuture<'static, Result<ContentStream, StoreError>> {
        let path = self.path(key);
        Box::pin(async move {
            let failed = |attempt| {
                let path = &path;
                move |source| StoreError::file(attempt, path, source)
            };
            let opened = tokio::fs::File::open(&path).await;
            let mut file = opened.map_err(failed("opening the file"))?;
            if part.start > 0 {
                let sought = file.seek(std::io::SeekFrom::Start(part.start)).await;
                sought.map_err(failed("reading the file"))?;
            }
            let file = file.take(part.end - part.start);
            Ok(ReaderStream::with_capacity(file, BUFFER).boxed())
        })
    }

    fn open(&self, key: &str) -> Result<Box<dyn Read + Send>, StoreError> {
        let path = self.path(key);
        match File::open(&path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(StoreError::file("opening the file", &path, error)),
        }
    }

    fn place(&self, key: &str, path: &Path) -> Result<(), StoreError> {
        let stored = self.path(key);
        // The store may lie on another file system.
        fs::hard_link(&stored, path)
            .or_else(|_| fs::copy(&stored, path).map(drop))
            .map_err(|source| StoreError::file("reading the file", &stored, source))
    }

    fn remove(&self, key: &str) -> Result<(), StoreError> {
        remove_file(&self.path(key)).map(drop)
    }

    fn keys_on(&self, shelf: u32, older_than: SystemTime) -> Result<Vec<String>, StoreError> {
        let [a, b] = digits_of(shelf);
        keys_in(&self.root.join(a).join(b), older_than)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let path = self.path(key);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::file("looking at the file", &path, error)),
        }
    }

    fn amount_on(&self, shelf: u32) -> Result<(u64, u64), StoreError> {
        let [a, b] = digits_of(shelf);
        amount_in(&self.root.join(a).join(b))
    }

    fn known_marker(&self) -> Result<Option<String>, StoreError> {
        let path = self.root.join(MARKER);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::file("reading the file", &path, error)),
        }
    }

    fn marker(&self, new: &str) -> Result<String, StoreError> {
        let path = self.root.join(MARKER);
        // A draft is linked, so that others never see half of it.
        let draft = self.draft(&hexadecimal(&random::<16>()));
        loop {
            if let Some(known) = self.known_marker()? {
                return Ok(known);
            }
            let written = File::create_new(&draft)
                .and_then(|mut file| writeln!(file, "{new}"))
                .and_then(|()| fs::hard_link(&draft, &path));
            let _removed = fs::remove_file(&draft);
            match written {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(StoreError::file("writing the file", &path, error));
                }
                _ => {}
            }
        }
    }
}

/// What is in a folder, which may be missing.
fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    let failed = |source| StoreError::file("reading the folder", folder, source);
    match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries
            .and_then(|entries| entries.collect())
            .map_err(failed),
    }
}

/// Number and bytes of the files in a folder, which may be missing.
pub(super) fn amount_in(folder: &Path) -> Result<(u64, u64), StoreError> {
    let (mut count, mut bytes) = (0, 0);
    for entry in entries(folder)? {
        // It may be gone by now.
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            count += 1;
            bytes += metadata.len();
        }
    }
    Ok((count, bytes))
}

/// The keys in a folder that were put there before `older_than`.
pub(super) fn keys_in(folder: &Path, older_than: SystemTime) -> Result<Vec<String>, StoreError> {
    let mut keys = Vec::new();
    for entry in entries(folder)? {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if is_key(&name) && put_at(&entry).is_some_and(|time| time < older_than) {
            keys.push(name);
        }
    }
    Ok(keys)
}

/// When a file came into its folder: renaming changes the time of its inode, not that of its content.
/// None if it is gone.
fn put_at(entry: &fs::DirEntry) -> Option<SystemTime> {
    let metadata = entry.metadata().ok()?;
    let seconds = u64::try_from(metadata.ctime()).ok()?;
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).ok()?;
    Some(UNIX_EPOCH + Duration::new(seconds, nanoseconds))
}

pub(crate) fn make_folder(folder: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(folder)
        .map_err(|source| StoreError::file("creating the folder", folder, source))
}

/// Waits until the disk has the names in a folder. What cannot be asked for that keeps them as it does.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Ok(()) => Ok(()),
        // File systems of a network, and folders above the store that others own.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied
            ) =>
        {
            tracing::debug!(folder = %folder.display(), "the folder cannot be synced: {error}");
            Ok(())
        }
        Err(error) => Err(StoreError::file("syncing the folder", folder, error)),
    }
}
