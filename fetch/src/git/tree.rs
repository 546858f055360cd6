//! What was checked out: that it stays in its folder, and what of it is wanted.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::GitError;

/// Files and folders of a repository.
const MAX_ENTRIES: usize = 100_000;
/// Bytes of its files.
const MAX_SIZE: u64 = 1 << 30;

/// Bytes of the files below a folder, as far as they can be seen.
pub(super) fn size(folder: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(folder).into_iter().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok());
    sizes
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.len())
        .sum()
}

/// Refuses what leads out of the folder or is too large, and makes the rest readable: hosts may have another account.
pub(super) fn check(folder: &Path) -> Result<(), GitError> {
    let real = folder
        .canonicalize()
        .map_err(GitError::file("find", folder))?;
    let (mut entries, mut size) = (0, 0);
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(folder).to_owned();
            GitError::file("read", path)(error.into())
        })?;
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(GitError::TooLarge(format!(
                "{MAX_ENTRIES} files and folders"
            )));
        }
        let path = entry.path();
        let metadata = entry
            .metadata()
            .map_err(|error| GitError::file("read", path)(error.into()))?;
        if metadata.is_symlink() {
            stays(folder, &real, path)?;
            continue;
        }
        if metadata.is_file() {
            size += metadata.len();
        }
        if size > MAX_SIZE {
            return Err(GitError::TooLarge(format!("{MAX_SIZE} bytes")));
        }
        let mode = match metadata.is_dir() || metadata.permissions().mode() & 0o111 != 0 {
            true => 0o755,
            false => 0o644,
        };
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(GitError::file("open up", path))?;
    }
    Ok(())
}

/// Whether a link leads to something in the folder, by its text and, where there is something, in truth.
fn stays(folder: &Path, real: &Path, link: &Path) -> Result<(), GitError> {
    let inside = link.strip_prefix(folder).unwrap_or(link);
    let leaves = || GitError::Leaves {
        path: inside.to_owned(),
    };
    let target = fs::read_link(link).map_err(GitError::file("read", link))?;
    let mut depth = inside.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth = depth.checked_sub(1).ok_or_else(leaves)?,
            Component::RootDir | Component::Prefix(_) => return Err(leaves()),
        }
    }
    match link.canonicalize() {
        Ok(target) if !target.starts_with(real) => Err(leaves()),
        // One to nothing is as good as none.
        _ => Ok(()),
    }
}

/// What is wanted of a repository: the whole, a folder or a file.
pub(super) fn target(folder: &Path, subdirectory: &Path) -> Result<PathBuf, GitError> {
    let path = folder.join(subdirectory);
    let missing = || GitError::Missing {
        path: subdirectory.to_owned(),
    };
    let real = path.canonicalize().map_err(|_| missing())?;
    let root = folder
        .canonicalize()
        .map_err(GitError::file("find", folder))?;
    match real.starts_with(&root) {
        true => Ok(path),
        false => Err(GitError::Leaves {
            path: subdirectory.to_owned(),
        }),
    }
}
