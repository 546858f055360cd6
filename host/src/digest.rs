//! The digest of a module, and its frozen copy.
//!
//! The digest is SHA-256 over, for each file in the order of their paths: the length of the path in 8
//! bytes (little endian), the path, one byte for "executable", and the SHA-256 of the content.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use runner_core::file::FileStat;
use sha2::{Digest, Sha256};

use crate::HostError;

/// The most files that a module's folder may have.
const MAX_FILES: usize = 20_000;

/// A file of a module.
#[derive(Debug, Clone)]
pub struct ModuleFile {
    /// Where it lies.
    pub source: PathBuf,
    /// Its path in the module, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Whether it may be executed.
    pub is_executable: bool,
    /// What tells whether it changed.
    pub stat: FileStat,
}

fn stat(metadata: &Metadata) -> FileStat {
    FileStat {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        changed_ns: metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec(),
    }
}

impl ModuleFile {
    /// Looks at a file.
    ///
    /// # Errors
    /// It cannot be looked at, or is no regular file.
    pub fn new(source: PathBuf, path: String) -> Result<Self, HostError> {
        let metadata = fs::metadata(&source).map_err(HostError::file("read", &source))?;
        if !metadata.is_file() {
            return Err(HostError::Module(format!(
                "{} is not a regular file",
                source.display()
            )));
        }
        Ok(Self {
            source,
            path,
            size: metadata.len(),
            is_executable: metadata.permissions().mode() & 0o111 != 0,
            stat: stat(&metadata),
        })
    }
}

/// Whether a name in a module's folder is left out: hidden files, caches, build results.
pub fn is_ignored(name: &str) -> bool {
    name.starts_with('.')
        || matches!(name, "__pycache__" | "node_modules" | "target")
        || [".pyc", ".pyo", ".egg-info", ".swp", "~"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// The files of a folder, sorted by path, without ignored names. Links to files count as the files.
///
/// # Errors
/// The folder cannot be read, or has too many files.
pub fn files_of(folder: &Path) -> Result<Vec<ModuleFile>, HostError> {
    let mut files = Vec::new();
    let entries = walkdir::WalkDir::new(folder).min_depth(1).into_iter();
    let kept = |entry: &walkdir::DirEntry| !entry.file_name().to_str().is_some_and(is_ignored);
    for entry in entries.filter_entry(kept) {
        let entry = entry.map_err(|error| {
            HostError::Module(format!(
                "cannot read the folder {}: {error}",
                folder.display()
            ))
        })?;
        if entry.file_type().is_dir() || (entry.path_is_symlink() && entry.path().is_dir()) {
            continue;
        }
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let Some(path) = path.to_str() else {
            return Err(HostError::Module(format!(
                "the name of {path:?} is not UTF-8"
            )));
        };
        files.push(ModuleFile::new(entry.path().to_owned(), path.to_owned())?);
        if files.len() > MAX_FILES {
            return Err(HostError::Module(format!(
                "{} has more than {MAX_FILES} files",
                folder.display()
            )));
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// SHA-256 of a file's content, hexadecimal.
///
/// # Errors
/// It cannot be read.
pub fn content_digest(path: &Path) -> Result<String, HostError> {
    let mut file = File::open(path).map_err(HostError::file("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let size = file
            .read(&mut buffer)
            .map_err(HostError::file("read", path))?;
        if size == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..size]);
    }
}

/// The digest of files whose contents have these digests.
pub fn digest(files: &[(&ModuleFile, &str)]) -> String {
    let mut hash = Sha256::new();
    for (file, content) in files {
        hash.update((file.path.len() as u64).to_le_bytes());
        hash.update(file.path.as_bytes());
        hash.update([u8::from(file.is_executable)]);
        hash.update(content.as_bytes());
    }
    hex(&hash.finalize())
}

/// SHA-256 of text, hexadecimal.
pub fn text_digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Copies the files to `snapshots/<digest>/<root>`, unless they are there. The copy is whole or absent.
/// Answers the copy's root.
///
/// # Errors
/// A file cannot be copied, or changed since its digest was taken.
pub fn snapshot(
    snapshots: &Path,
    root: &str,
    files: &[(&ModuleFile, &str)],
    digest: &str,
) -> Result<PathBuf, HostError> {
    let folder = snapshots.join(digest);
    let copied = folder.join(root);
    if copied.exists() {
        return Ok(copied);
    }
    let draft = snapshots.join(format!(".{}", uuid::Uuid::new_v4()));
    let copy = || -> Result<(), HostError> {
        for (file, content) in files {
            let target = draft.join(root).join(&file.path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(HostError::file("make", parent))?;
            }
            fs::copy(&file.source, &target).map_err(HostError::file("copy", &file.source))?;
            // Hosts of root's runner are another account. Nobody else gets into the instance folder.
            let mode = if file.is_executable { 0o755 } else { 0o644 };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))
                .map_err(HostError::file("open up", &target))?;
            if content_digest(&target)? != **content {
                return Err(HostError::Module(format!(
                    "{} changed while it was being read",
                    file.source.display()
                )));
            }
        }
        // The same content may be there under another name.
        fs::create_dir_all(&folder).map_err(HostError::file("make", &folder))?;
        match fs::rename(draft.join(root), &copied) {
            Ok(()) => Ok(()),
            Err(_) if copied.exists() => Ok(()),
            Err(error) => Err(HostError::file("make", &copied)(error)),
        }
    };
    let outcome = copy();
    if draft.exists() {
        let _ = fs::remove_dir_all(&draft);
    }
    outcome.map(|()| copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(folder: &Path) -> String {
        let files = files_of(folder).unwrap();
        let contents: Vec<_> = files
            .iter()
            .map(|f| content_digest(&f.source).unwrap())
            .collect();
        let pairs: Vec<_> = files
            .iter()
            .zip(&contents)
            .map(|(f, c)| (f, c.as_str()))
            .collect();
        digest(&pairs)
    }

    #[test]
    fn content_path_and_executable_bit_count_and_ignored_names_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.py");
        fs::write(&file, "1").unwrap();
        let first = digest_of(folder.path());
        fs::create_dir(folder.path().join("__pycache__")).unwrap();
        fs::write(folder.path().join("__pycache__/a.pyc"), "x").unwrap();
        fs::write(folder.path().join(".hidden"), "x").unwrap();
        assert_eq!(digest_of(folder.path()), first);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let second = digest_of(folder.path());
        assert_ne!(second, first);
        fs::write(&file, "2").unwrap();
        assert_ne!(digest_of(folder.path()), second);
    }

    #[test]
    fn a_snapshot_is_whole_and_a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/a"), "1").unwrap();
        let files = files_of(folder.path()).unwrap();
        let content = content_digest(&files[0].source).unwrap();
        let copied = snapshot(snapshots.path(), "m", &[(&files[0], &content)], "d1").unwrap();
        assert_eq!(fs::read_to_string(copied.join("sub/a")).unwrap(), "1");
        let renamed = snapshot(snapshots.path(), "other", &[(&files[0], &content)], "d1").unwrap();
        assert!(renamed.join("sub/a").exists() && copied.join("sub/a").exists());
        fs::write(folder.path().join("sub/a"), "2").unwrap();
        let error = snapshot(snapshots.path(), "m", &[(&files[0], &content)], "d2").unwrap_err();
        assert!(error.to_string().contains("changed while"), "{error}");
        assert_eq!(
            fs::read_dir(snapshots.path()).unwrap().count(),
            1,
            "no draft is left"
        );
    }
}
