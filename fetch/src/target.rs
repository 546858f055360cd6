//! The file that a download is written to: new, bounded, and removed unless it is complete.

use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use crate::error::Problem;

/// Bytes gathered before they are written.
const BUFFER: usize = 128 * 1024;

/// A file in the making. Dropping it before [`Target::finish`] removes the file.
pub(crate) struct Target {
    file: BufWriter<File>,
    guard: Guard,
    written: u64,
    limit: u64,
}

/// Removes the file when dropped, unless disarmed.
struct Guard {
    path: PathBuf,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a partial download");
        }
    }
}

impl Target {
    /// Creates the file, which must not exist yet.
    pub(crate) async fn create(path: &Path, limit: u64) -> Result<Self, Problem> {
        let file = File::create_new(path)
            .await
            .map_err(|e| io("create", path, e))?;
        let guard = Guard {
            path: path.to_owned(),
            armed: true,
        };
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER, file),
            guard,
            written: 0,
            limit,
        })
    }

    /// Refuses an announced size that is over the limit, before anything is transferred.
    pub(crate) fn announce(&self, size: u64) -> Result<(), Problem> {
        if size > self.limit {
            return Err(Problem::TooLarge {
                limit: self.limit,
                announced: Some(size),
            });
        }
        Ok(())
    }

    /// Appends bytes, within the limit.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.written += bytes.len() as u64;
        if self.written > self.limit {
            return Err(Problem::TooLarge {
                limit: self.limit,
                announced: None,
            });
        }
        self.file
            .write_all(bytes)
            .await
            .map_err(|e| io("write", &self.guard.path, e))
    }

    /// Completes the file and keeps it; gives its size.
    pub(crate) async fn finish(mut self) -> Result<u64, Problem> {
        self.file
            .flush()
            .await
            .map_err(|e| io("write", &self.guard.path, e))?;
        self.guard.armed = false;
        Ok(self.written)
    }
}

/// An error of the file system, with what was attempted on what.
pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Problem {
    Problem::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut target = Target::create(&path, 3).await.unwrap();
        target.write(b"abc").await.unwrap();
        assert!(matches!(
            target.write(b"d").await,
            Err(Problem::TooLarge { limit: 3, .. })
        ));
        drop(target);
        assert!(!path.exists());

        let mut target = Target::create(&path, 3).await.unwrap();
        target.write(b"abc").await.unwrap();
        assert_eq!(target.finish().await.unwrap(), 3);
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
    }

    #[tokio::test]
    async fn what_exists_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "old").unwrap();
        assert!(matches!(
            Target::create(&path, 3).await,
            Err(Problem::Io { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
}
