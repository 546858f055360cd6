//! Files below the folder of a guest, whatever it has put there: no link is followed, and nothing outside is reached.

use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use crate::launcher::Launcher;
use crate::run_folder::WorkFolder;

/// The folder in which a guest may write.
#[derive(Debug)]
pub struct GuestFiles {
    work: WorkFolder,
    /// Who owns what lies in it, where that is another account.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "nothing is made there")
    )]
    owner: Option<u32>,
}

/// A file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Its path below what was listed.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// When it was written last.
    pub modified: SystemTime,
}

impl GuestFiles {
    pub(crate) fn new(work: WorkFolder, launcher: &Launcher) -> Self {
        Self {
            work,
            owner: launcher.owner(),
        }
    }

    /// Bytes and number of all that lies in it. Walks through it.
    pub fn used(&self) -> (u64, u64) {
        self.work.used()
    }

    /// Bytes of what lies below a folder. Walks through it.
    ///
    /// # Errors
    /// The path leads elsewhere.
    pub fn used_below(&self, path: &Path) -> std::io::Result<u64> {
        Ok(self.work.used_below(&plain(path)?))
    }

    /// Opens a file.
    ///
    /// # Errors
    /// There is none, or the path leads over a link or to something else.
    pub fn open(&self, path: &Path) -> std::io::Result<File> {
        let file = self.work.open_beneath(&plain(path)?)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(std::io::ErrorKind::IsADirectory.into()),
        }
    }
}

/// A path that goes down only.
fn plain(path: &Path) -> std::io::Result<PathBuf> {
    let is_plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    match is_plain && path.components().next().is_some() {
        true => Ok(path.to_owned()),
        false => Err(std::io::ErrorKind::InvalidFilename.into()),
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use nix::dir::{Dir, Type};
    use nix::errno::Errno;
    use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, renameat};
    use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
    use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

    use super::{GuestFile, GuestFiles, plain};

    /// Folders that a path may have.
    const MAX_DEPTH: usize = 32;

    fn how(flags: OFlag) -> OpenHow {
        OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    impl GuestFiles {
        /// Makes a file, or empties the one that is there, with the folders above it.
        ///
        /// # Errors
        /// The path leads over a link or to something else, or there is no room.
        pub fn create(&self, path: &Path) -> std::io::Result<File> {
            let path = plain(path)?;
            let folder = self.folder_of(&path)?;
            let Some(name) = path.file_name() else {
                return Err(std::io::ErrorKind::InvalidFilename.into());
            };
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NONBLOCK;
            let file = openat2(
                &folder,
                name,
                how(flags).mode(Mode::from_bits_truncate(0o644)),
            )?;
            self.give_away(&file)?;
            let file = File::from(file);
            match file.metadata()?.is_file() {
                true => Ok(file),
                false => Err(std::io::ErrorKind::IsADirectory.into()),
            }
        }

        /// Removes a file.
        ///
        /// # Errors
        /// There is none, or it is something else.
        pub fn remove(&self, path: &Path) -> std::io::Result<()> {
            let path = plain(path)?;
            let above = path.parent().unwrap_or(Path::new(""));
            let folder = self.enter(above)?;
            let Some(name) = path.file_name() else {
                return Err(std::io::ErrorKind::InvalidFilename.into());
            };
            Ok(unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir)?)
        }

        /// Looks whether a file can be put there: whether there is one, or nothing.
        ///
        /// # Errors
        /// The path leads over a link or to something else.
        pub fn check(&self, path: &Path) -> std::io::Result<()> {
            let path = plain(path)?;
            let Some(name) = path.file_name() else {
                return Err(std::io::ErrorKind::InvalidFilename.into());
            };
            match self.enter(path.parent().unwrap_or(Path::new(""))) {
                Ok(folder) => require_place(&folder, name),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
        }

        /// Gives a file another path, in place of the file that is there; with the folders above it.
        ///
        /// # Errors
        /// There is no such file, a path leads over a link, or something else is there.
        pub fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
            let (from, to) = (plain(from)?, plain(to)?);
            let source = self.enter(from.parent().unwrap_or(Path::new("")))?;
            let target = self.folder_of(&to)?;
            let (Some(old), Some(new)) = (from.file_name(), to.file_name()) else {
                return Err(std::io::ErrorKind::InvalidFilename.into());
            };
            require_place(&target, new)?;
            if !has_file(&source, old)? {
                return Err(std::io::ErrorKind::IsADirectory.into());
            }
            Ok(renameat(&source, old, &target, new)?)
        }

        /// Files below a folder, up to so many; names that begin with a dot are passed over.
        ///
        /// # Errors
        /// There is no such folder.
        pub fn list(&self, path: &Path, most: usize) -> std::io::Result<Vec<GuestFile>> {
            let mut found = Vec::new();
            list(self.enter(&plain(path)?)?, "", most, 0, &mut found)?;
            found.sort_by(|a: &GuestFile, b| a.path.cmp(&b.path));
            Ok(found)
        }

        fn enter(&self, path: &Path) -> std::io::Result<OwnedFd> {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let path = match path.as_os_str().is_empty() {
                true => Path::new("."),
                false => path,
            };
            Ok(openat2(self.work.folder(), path, how(flags))?)
        }

        /// The folder above a file; made where it is not there.
        fn folder_of(&self, path: &Path) -> std::io::Result<OwnedFd> {
            let mut folder = self.enter(Path::new(""))?;
            for part in path.parent().unwrap_or(Path::new("")).components() {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
                let name = part.as_os_str();
                folder = match openat2(&folder, name, how(flags)) {
                    Ok(next) => next,
                    Err(Errno::ENOENT) => {
                        mkdirat(&folder, name, Mode::from_bits_truncate(0o755))?;
                        let made = openat2(&folder, name, how(flags))?;
                        self.give_away(&made)?;
                        made
                    }
                    Err(error) => return Err(error.into()),
                };
            }
            Ok(folder)
        }

        fn give_away(&self, file: &OwnedFd) -> std::io::Result<()> {
            if let Some(owner) = self.owner {
                fchown(file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
            }
            Ok(())
        }
    }

    /// Whether what has this name is a file; links are not followed.
    fn has_file(folder: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
        let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
        Ok(kind == SFlag::S_IFREG)
    }

    /// Refuses what is there and is no file.
    fn require_place(folder: &OwnedFd, name: &OsStr) -> std::io::Result<()> {
        match has_file(folder, name) {
            Ok(true) | Err(Errno::ENOENT) => Ok(()),
            Ok(false) => Err(std::io::ErrorKind::IsADirectory.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn list(
        folder: OwnedFd,
        above: &str,
        most: usize,
        depth: usize,
        found: &mut Vec<GuestFile>,
    ) -> std::io::Result<()> {
        let mut folder = Dir::from_fd(folder)?;
        let mut names = Vec::new();
        for entry in folder.iter() {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && !name.starts_with('.')
            {
                names.push((name.to_owned(), entry.file_type()));
            }
        }
        for (name, kind) in names {
            if found.len() >= most {
                return Ok(());
            }
            let path = format!("{above}{name}");
            match kind {
                Some(Type::File) => {
                    let stat = fstatat(&folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
                    // What is gone by now is not there.
                    let Ok(stat) = stat else { continue };
                    let since = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
                    found.push(GuestFile {
                        path,
                        size: u64::try_from(stat.st_size).unwrap_or(0),
                        modified: SystemTime::UNIX_EPOCH + since,
                    });
                }
                Some(Type::Directory) if depth < MAX_DEPTH => {
                    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
                    if let Ok(next) = openat2(&folder, name.as_str(), how(flags)) {
                        let _ = list(next, &format!("{path}/"), most, depth + 1, found);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
impl GuestFiles {
    /// There are no guests with files on this system.
    ///
    /// # Errors
    /// Always.
    pub fn check(&self, _: &Path) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// There are no guests with files on this system.
    ///
    /// # Errors
    /// Always.
    pub fn create(&self, _: &Path) -> std::io::Result<File> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// There are no guests with files on this system.
    ///
    /// # Errors
    /// Always.
    pub fn remove(&self, _: &Path) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// There are no guests with files on this system.
    ///
    /// # Errors
    /// Always.
    pub fn rename(&self, _: &Path, _: &Path) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// There are no guests with files on this system.
    ///
    /// # Errors
    /// Always.
    pub fn list(&self, _: &Path, _: usize) -> std::io::Result<Vec<GuestFile>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::io::Write;

    fn files(root: &Path) -> GuestFiles {
        std::fs::create_dir(root.join("work")).unwrap();
        GuestFiles {
            work: WorkFolder::open(root, None, None).unwrap(),
            owner: None,
        }
    }

    #[test]
    fn files_are_made_listed_read_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path());
        for name in ["one/a.txt", "one/sub/deep/b.txt"] {
            files
                .create(Path::new(name))
                .unwrap()
                .write_all(b"text")
                .unwrap();
        }
        files.create(Path::new("one/.hidden/c")).unwrap();
        let listed = files.list(Path::new("one"), 10).unwrap();
        let shown: Vec<_> = listed
            .iter()
            .map(|one| (one.path.as_str(), one.size))
            .collect();
        assert_eq!(shown, [("a.txt", 4), ("sub/deep/b.txt", 4)]);
        assert_eq!(files.list(Path::new("one"), 1).unwrap().len(), 1);
        assert!(files.used_below(Path::new("one")).unwrap() > 0);
        assert_eq!(
            files
                .open(Path::new("one/a.txt"))
                .unwrap()
                .metadata()
                .unwrap()
                .len(),
            4
        );
        files.remove(Path::new("one/a.txt")).unwrap();
        assert!(files.open(Path::new("one/a.txt")).is_err());
        let (old, new) = (Path::new("one/sub/deep/b.txt"), Path::new("one/new/b.txt"));
        files.check(new).unwrap();
        files.rename(old, new).unwrap();
        assert!(files.open(old).is_err() && files.open(new).is_ok());
        files.create(old).unwrap();
        assert!(files.rename(new, Path::new("one/sub")).is_err());
        files.rename(new, old).unwrap();
        assert!(files.rename(new, old).is_err());
    }

    #[test]
    fn nothing_outside_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path());
        std::fs::write(root.path().join("secret"), "x").unwrap();
        let work = root.path().join("work");
        std::fs::create_dir(work.join("one")).unwrap();
        std::fs::write(work.join("one/plain"), "y").unwrap();
        std::os::unix::fs::symlink("../../secret", work.join("one/link")).unwrap();
        std::os::unix::fs::symlink("../..", work.join("one/up")).unwrap();
        for path in [
            "../secret",
            "/etc/passwd",
            "one/../../secret",
            "one/link",
            "one/up/secret",
            "",
            "one",
            ".",
        ] {
            assert!(files.open(Path::new(path)).is_err(), "{path}");
            assert!(files.create(Path::new(path)).is_err(), "{path}");
            assert!(
                files
                    .rename(Path::new("one/plain"), Path::new(path))
                    .is_err(),
                "{path}"
            );
            assert!(
                files
                    .rename(Path::new(path), Path::new("one/plain"))
                    .is_err(),
                "{path}"
            );
        }
        assert!(
            files
                .rename(Path::new("one/plain"), Path::new("one/link"))
                .is_err()
        );
        assert!(files.list(Path::new("one/up"), 10).is_err());
        assert_eq!(files.list(Path::new("one"), 10).unwrap().len(), 1);
        assert_eq!(
            std::fs::read_to_string(root.path().join("secret")).unwrap(),
            "x"
        );
    }
}
