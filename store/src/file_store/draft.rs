//! A file that is being written, and digested on the way.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{BUFFER, hexadecimal};
use crate::StoreError;

/// It is removed when it is dropped, unless it was moved away.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    size: u64,
    is_moved: bool,
}

impl Draft {
    pub(super) fn create(path: PathBuf) -> Result<Self, StoreError> {
        let file = File::create_new(&path)
            .map_err(|source| StoreError::file("creating the file", &path, source))?;
        Ok(Self {
            path,
            file,
            hasher: Sha256::new(),
            size: 0,
            is_moved: false,
        })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_all(bytes)
            .map_err(|source| StoreError::file("writing the file", &self.path, source))
    }

    /// Adds all of a source.
    pub(super) fn copy(&mut self, source: &mut dyn Read) -> Result<(), StoreError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.append(&buffer[..read])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(&self.path, error)),
            }
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Of what was written, once it is all there.
    pub(super) fn digest(&mut self) -> String {
        hexadecimal(&self.hasher.finalize_reset())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the disk has it.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let synced = self.file.sync_all();
        synced.map_err(|source| StoreError::file("syncing the file", &self.path, source))
    }

    pub(super) fn move_to(&mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.is_moved = true;
        Ok(())
    }
}

/// What was to be stored cannot be read.
pub(super) fn unreadable(shown: &Path, source: io::Error) -> StoreError {
    StoreError::File {
        attempt: "reading what is to be stored as",
        path: shown.to_owned(),
        source,
    }
}

impl Write for Draft {
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

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_moved {
            // What stays is swept later.
            let _removed = fs::remove_file(&self.path);
        }
    }
}
