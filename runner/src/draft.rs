//! Files that are written whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that is not in its place yet. Dropped, it leaves nothing.
pub(crate) struct Draft {
    file: NamedTempFile,
    path: PathBuf,
}

impl Draft {
    /// Begins a file that is to stand at `path`, in the folder where it will be.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        // Else it would be known at the end only.
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".runner-")
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Puts it into its place, readable for all. What stood there is replaced.
    pub(crate) fn keep(self) -> io::Result<()> {
        fs::set_permissions(self.file.path(), fs::Permissions::from_mode(0o644))?;
        self.file.persist(&self.path)?;
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
