//! Files that are written bit by bit.

use std::io::{self, Write};

use super::draft::Draft;
use super::{FileStore, StoredFile};
use crate::StoreError;

/// A file that is being written into the store. Dropped before [`finish`](Self::finish), it leaves
/// nothing.
#[derive(Debug)]
pub struct FileWriter {
    pub(super) store: FileStore,
    pub(super) key: String,
    pub(super) draft: Draft,
}

impl FileWriter {
    /// Adds bytes, as [`Write::write_all`] does, but with the error of the store.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let appended = self.draft.append(bytes);
        if appended.as_ref().is_err_and(StoreError::is_disk_full) {
            self.store.meters.full.increment(1);
        }
        appended
    }

    /// Bytes that were written so far.
    pub fn size(&self) -> u64 {
        self.draft.size()
    }

    /// Makes it a file of the store. It is swept some time later unless a row names it.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or what failed.
    pub fn finish(mut self) -> Result<StoredFile, StoreError> {
        let adopted = self.store.contents.adopt(&self.key, &mut self.draft);
        self.store.count(self.draft.size(), adopted)?;
        Ok(StoredFile {
            size: self.draft.size(),
            digest: self.draft.digest(),
            key: self.key,
            text: None,
        })
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.draft.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
