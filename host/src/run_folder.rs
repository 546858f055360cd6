//! The folders of one run: what it may write, and what it may only read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::HostError;

/// The name of the folder of the run in progress, in a host's `in/` and `work/`.
const RUN: &str = "run";

/// The folders of one run; emptied when dropped.
#[derive(Debug)]
pub struct RunFolder {
    /// The host's `in/`, which it cannot change.
    all_inputs: PathBuf,
    /// The host's `work/`, which it cannot replace: only what is below it.
    all_work: PathBuf,
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // What stays is removed before the next run, or with the host.
        let _ = clear(&self.all_work);
        let _ = fs::remove_dir_all(self.inputs_path());
    }
}

impl RunFolder {
    /// Makes or empties the folder of the run in a host's folder.
    pub(crate) fn new(host: &Path) -> Result<Self, HostError> {
        let folder = Self {
            all_inputs: host.join("in"),
            all_work: host.join("work"),
        };
        let work = folder.work();
        match fs::create_dir(&work) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                clear(&folder.all_work).map_err(HostError::file("empty", work))?;
            }
            made => made.map_err(HostError::file("make", work))?,
        }
        Ok(folder)
    }

    /// Where the plugin may write.
    pub fn work(&self) -> PathBuf {
        self.all_work.join(RUN)
    }

    /// Where its inputs lie, once there are any.
    pub fn inputs_path(&self) -> PathBuf {
        self.all_inputs.join(RUN)
    }

    /// Where its inputs lie; the plugin may only read there. Made when first asked for.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn inputs(&self) -> Result<PathBuf, HostError> {
        let path = self.inputs_path();
        match fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(HostError::file("make", path)(error))
            }
            _ => Ok(path),
        }
    }

    /// Opens a file that the plugin made. Whatever it put there, nothing outside of its folder is opened:
    /// links are not followed, also not in place of the folder itself, and only regular files are taken.
    ///
    /// # Errors
    /// The path leads outside, or to no regular file.
    pub fn open(&self, path: &str) -> Result<File, HostError> {
        let outside =
            || HostError::Module(format!("the output {path:?} is not in the run's directory"));
        let given = Path::new(path);
        let relative = match given.is_absolute() {
            true => given.strip_prefix(self.work()).map_err(|_| outside())?,
            false => given,
        };
        let is_plain = relative
            .components()
            .all(|part| !matches!(part, std::path::Component::ParentDir));
        if !is_plain {
            return Err(outside());
        }
        let file = open_beneath(&self.all_work, &Path::new(RUN).join(relative))
            .map_err(HostError::file("open the output", relative))?;
        let metadata = file
            .metadata()
            .map_err(HostError::file("open the output", relative))?;
        if !metadata.is_file() {
            return Err(HostError::Module(format!(
                "the output {path:?} is not a regular file"
            )));
        }
        Ok(file)
    }
}

/// Empties the run's folder. The folder itself stays, since making one costs more than all else that a short
/// run does to the file system; what is not simply files in a folder is removed and made anew.
fn clear(all_work: &Path) -> std::io::Result<()> {
    if remove_files(all_work).unwrap_or(false) {
        return Ok(());
    }
    let run = all_work.join(RUN);
    // A link is removed, not what it leads to.
    match fs::symlink_metadata(&run) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&run)?,
        Ok(_) => fs::remove_file(&run)?,
        Err(_) => {}
    }
    fs::create_dir(run)
}

/// Removes the files of the run's folder. `false`: it holds other things, or is no folder.
#[cfg(target_os = "linux")]
fn remove_files(all_work: &Path) -> std::io::Result<bool> {
    use nix::dir::{Dir, Type};
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
    use nix::unistd::{UnlinkatFlags, unlinkat};
    let all_work = File::open(all_work)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let mut folder = Dir::from_fd(openat2(&all_work, RUN, how)?)?;
    let mut names = Vec::new();
    for entry in folder.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if !matches!(
            entry.file_type(),
            Some(Type::File | Type::Symlink | Type::Fifo)
        ) {
            return Ok(false);
        }
        names.push(name.to_owned());
    }
    for name in names {
        unlinkat(&folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
    }
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn remove_files(_: &Path) -> std::io::Result<bool> {
    Ok(false)
}

#[cfg(target_os = "linux")]
fn open_beneath(folder: &Path, path: &Path) -> std::io::Result<File> {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
    let folder = File::open(folder)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(File::from(openat2(&folder, path, how)?))
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(folder: &Path, path: &Path) -> std::io::Result<File> {
    let real = fs::canonicalize(folder.join(path))?;
    if !real.starts_with(fs::canonicalize(folder)?) {
        return Err(std::io::Error::other(
            "it leads outside of the run's directory",
        ));
    }
    File::open(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_regular_files_of_the_run_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder {
            all_inputs: root.path().join("in"),
            all_work: root.path().join("work"),
        };
        let work = folder.work();
        fs::create_dir_all(work.join("sub")).unwrap();
        fs::write(work.join("sub/a"), "x").unwrap();
        fs::write(root.path().join("secret"), "x").unwrap();
        fs::write(root.path().join("work/other"), "x").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), work.join("link")).unwrap();
        std::os::unix::fs::symlink(root.path(), work.join("up")).unwrap();
        nix::unistd::mkfifo(&work.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(folder.open("sub/a").is_ok());
        assert!(folder.open(work.join("sub/a").to_str().unwrap()).is_ok());
        for path in [
            "link",
            "up/secret",
            "../secret",
            "../other",
            "/etc/passwd",
            "sub",
            "fifo",
            "missing",
            "",
        ] {
            assert!(folder.open(path).is_err(), "{path}");
        }
        // The plugin puts a link in place of the whole folder.
        fs::rename(&work, root.path().join("work/moved")).unwrap();
        std::os::unix::fs::symlink(root.path(), &work).unwrap();
        assert!(folder.open("secret").is_err());
        drop(folder);
        assert!(
            root.path().join("secret").exists(),
            "what the link led to is not removed"
        );
        let metadata = fs::symlink_metadata(&work).unwrap();
        assert!(metadata.is_dir(), "there is a folder again");
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
        fs::write(work.join("b"), "x").unwrap();
        clear(&root.path().join("work")).unwrap();
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
    }
}
