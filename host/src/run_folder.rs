//! The folders of one run: what it may write, and what it may only read.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::sync::PoisonError;

use crate::HostError;
use crate::carried::below;

/// The name of the folder of the run in progress, in a host's `in/` and `work/`.
const RUN: &str = "run";

/// The folder in which a host may write, for all its runs. The host cannot replace it, only what is below it;
/// so it is opened once.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    /// As the host knows it.
    path: PathBuf,
    /// As this process reaches it: it may lie in the host's own file system.
    reached: PathBuf,
    folder: File,
    /// Who owns what the host may write, where that is another account.
    owner: Option<u32>,
    /// The folder of the run as it was seen last. While it is open no other one can have its number.
    #[cfg(target_os = "linux")]
    run: std::sync::Mutex<Option<Seen>>,
}

#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Seen {
    run: nix::dir::Dir,
    device: u64,
    number: u64,
}

/// The folders of one run; emptied when dropped.
#[derive(Debug)]
pub struct RunFolder {
    /// The host's `in/`, which it cannot change.
    all_inputs: PathBuf,
    /// The host's `work/`.
    all_work: Arc<WorkFolder>,
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // What stays is removed before the next run, or with the host.
        let _ = self.all_work.clear();
        let _ = fs::remove_dir_all(self.inputs_path());
    }
}

impl RunFolder {
    /// Makes or empties the folder of the run in a host's folder.
    pub(crate) fn new(host: &Path, all_work: &Arc<WorkFolder>) -> Result<Self, HostError> {
        let all_work = Arc::clone(all_work);
        let folder = Self {
            all_inputs: host.join("in"),
            all_work,
        };
        let emptied = folder.all_work.clear();
        emptied.map_err(HostError::file("empty", folder.work()))?;
        Ok(folder)
    }

    /// Where the plugin may write.
    pub fn work(&self) -> PathBuf {
        self.all_work.path.join(RUN)
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
        make_inputs(&path)?;
        Ok(path)
    }

    /// Its files, for whoever needs them beside the run.
    pub fn files(&self) -> RunFiles {
        RunFiles {
            inputs: self.inputs_path(),
            all_work: Arc::clone(&self.all_work),
        }
    }

    /// Opens a file that the plugin made. Whatever it put there, nothing outside of its folder is opened:
    /// links are not followed, also not in place of the folder itself, and only regular files are taken.
    ///
    /// # Errors
    /// The path leads outside, or to no regular file.
    pub fn open(&self, path: &str) -> Result<File, HostError> {
        self.files().open(path)
    }
}

fn make_inputs(path: &Path) -> Result<(), HostError> {
    // A host of root's runner is another account, and has only this folder of the instance.
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(HostError::file("make", path)(error))
        }
        _ => Ok(()),
    }
}

/// The files of a run.
#[derive(Debug, Clone)]
pub struct RunFiles {
    /// Where its inputs lie.
    inputs: PathBuf,
    /// The host's `work/`.
    all_work: Arc<WorkFolder>,
}

impl RunFiles {
    /// Where the plugin may write.
    pub(crate) fn work(&self) -> PathBuf {
        self.all_work.path.join(RUN)
    }

    /// Where its inputs lie. Made when first asked for.
    pub(crate) fn inputs(&self) -> Result<PathBuf, HostError> {
        make_inputs(&self.inputs)?;
        Ok(self.inputs.clone())
    }

    /// Opens a file that the plugin made, or that is one of its inputs.
    ///
    /// # Errors
    /// It is neither, or cannot be opened.
    pub fn open_any(&self, path: &str) -> Result<File, HostError> {
        match below(Path::new(path), &self.inputs) {
            // What lies there the runner has put there.
            Some(_) => File::open(path).map_err(HostError::file("open", path)),
            None => self.open(path),
        }
    }

    /// Whether a path leads into the folders of the run, whatever is there.
    pub fn has(&self, path: &Path) -> bool {
        below(path, &self.inputs).is_some() || below(path, &self.work()).is_some()
    }

    /// Removes an input.
    pub(crate) fn forget(&self, path: &str) -> Result<(), HostError> {
        match below(Path::new(path), &self.inputs) {
            Some(_) => fs::remove_file(path).map_err(HostError::file("remove", path)),
            None => Err(HostError::Module(format!("{path:?} is no input"))),
        }
    }

    /// Removes a file that the plugin made, if it is there.
    pub(crate) fn remove(&self, path: &str) {
        if let Ok(relative) = self.relative(path) {
            // What stays is removed with the host.
            let _ = self.all_work.remove_beneath(&relative);
        }
    }

    /// A path in the host's `work/`.
    fn relative(&self, path: &str) -> Result<PathBuf, HostError> {
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
        match is_plain {
            true => Ok(Path::new(RUN).join(relative)),
            false => Err(outside()),
        }
    }

    pub(crate) fn open(&self, path: &str) -> Result<File, HostError> {
        let relative = self.relative(path)?;
        let file = self
            .all_work
            .open_beneath(&relative)
            .map_err(HostError::file("open the output", path))?;
        let metadata = file
            .metadata()
            .map_err(HostError::file("open the output", path))?;
        if !metadata.is_file() {
            return Err(HostError::Module(format!(
                "the output {path:?} is not a regular file"
            )));
        }
        Ok(file)
    }
}

/// Bytes and number of what lies in a folder. Links are not followed.
fn used(folder: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let entries = walkdir::WalkDir::new(folder).min_depth(1).into_iter();
    let sizes = entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.blocks() * 512);
    sizes.fold((0, 0), |(bytes, files), size| (bytes + size, files + 1))
}

impl WorkFolder {
    /// Opens the `work/` of a host. `opened`: that is in no place that has a path here.
    pub(crate) fn open(
        host: &Path,
        opened: Option<OwnedFd>,
        owner: Option<u32>,
    ) -> Result<Self, HostError> {
        let path = host.join("work");
        let (folder, reached) = match opened {
            Some(fd) => {
                let reached = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
                (File::from(fd), reached)
            }
            None => {
                let folder = File::open(&path).map_err(HostError::file("open", &path))?;
                (folder, path.clone())
            }
        };
        Ok(Self {
            path,
            reached,
            folder,
            owner,
            #[cfg(target_os = "linux")]
            run: std::sync::Mutex::default(),
        })
    }

    /// The folder itself.
    #[cfg(target_os = "linux")]
    pub(crate) fn folder(&self) -> &File {
        &self.folder
    }

    /// Empties the run's folder. The folder itself stays, since making one costs more than all else that a short
    /// run does to the file system; what is not simply files in a folder is removed and made anew.
    fn clear(&self) -> std::io::Result<()> {
        if self.remove_files().unwrap_or(false) {
            return Ok(());
        }
        let run = self.reached.join(RUN);
        // A link is removed, not what it leads to.
        match fs::symlink_metadata(&run) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&run)?,
            Ok(_) => fs::remove_file(&run)?,
            Err(_) => {}
        }
        fs::create_dir(&run)?;
        match self.owner {
            Some(owner) => std::os::unix::fs::lchown(run, Some(owner), Some(owner)),
            None => Ok(()),
        }
    }

    /// Bytes and number of what the host has written.
    pub(crate) fn used(&self) -> (u64, u64) {
        used(&self.reached)
    }

    /// Bytes of what it has written below a folder.
    pub(crate) fn used_below(&self, path: &Path) -> u64 {
        used(&self.reached.join(path)).0
    }

    /// Removes the files of the run's folder. `false`: it holds other things.
    #[cfg(target_os = "linux")]
    fn remove_files(&self) -> std::io::Result<bool> {
        use nix::dir::Type;
        use nix::unistd::{UnlinkatFlags, unlinkat};
        let mut seen = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.run_now(&mut seen)?;
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
            unlinkat(&*folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(true)
    }

    /// The folder that is the run's now: the host may have put another in its place, or something else.
    #[cfg(target_os = "linux")]
    fn run_now<'a>(&self, seen: &'a mut Option<Seen>) -> std::io::Result<&'a mut nix::dir::Dir> {
        use nix::dir::Dir;
        use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
        use nix::sys::stat::{fstat, fstatat};
        let now = fstatat(&self.folder, RUN, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let is_known = |seen: &Seen| (seen.device, seen.number) == (now.st_dev, now.st_ino);
        if !seen.as_ref().is_some_and(is_known) {
            *seen = None;
            let how = OpenHow::new()
                .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
            let run = openat2(&self.folder, RUN, how)?;
            let opened = fstat(&run)?;
            *seen = Some(Seen {
                run: Dir::from_fd(run)?,
                device: opened.st_dev,
                number: opened.st_ino,
            });
        }
        let seen = seen.as_mut().map(|seen| &mut seen.run);
        seen.ok_or_else(|| std::io::Error::other("the run has no folder"))
    }

    #[cfg(not(target_os = "linux"))]
    fn remove_files(&self) -> std::io::Result<bool> {
        Ok(false)
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn open_beneath(&self, path: &Path) -> std::io::Result<File> {
        use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        Ok(File::from(openat2(&self.folder, path, how)?))
    }

    /// Removes a file; no link on the way to it is followed.
    #[cfg(target_os = "linux")]
    fn remove_beneath(&self, path: &Path) -> std::io::Result<()> {
        use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
        use nix::unistd::{UnlinkatFlags, unlinkat};
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(std::io::ErrorKind::InvalidInput.into());
        };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let folder = openat2(&self.folder, folder, how)?;
        unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir)?;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn remove_beneath(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn open_beneath(&self, path: &Path) -> std::io::Result<File> {
        let real = fs::canonicalize(self.reached.join(path))?;
        if !real.starts_with(fs::canonicalize(&self.reached)?) {
            return Err(std::io::Error::other(
                "it leads outside of the run's directory",
            ));
        }
        File::open(real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_regular_files_of_the_run_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("work")).unwrap();
        let opened = Arc::new(WorkFolder::open(root.path(), None, None).unwrap());
        let folder = RunFolder::new(root.path(), &opened).unwrap();
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
        RunFolder::new(root.path(), &opened).unwrap();
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_stays_open_is_emptied_again_and_again() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("work")).unwrap();
        let opened = Arc::new(WorkFolder::open(root.path(), None, None).unwrap());
        for count in [0, 1, 2000, 3, 2000, 0] {
            let folder = RunFolder::new(root.path(), &opened).unwrap();
            let work = folder.work();
            assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
            for n in 0..count {
                fs::write(work.join(format!("a-file-of-the-run-{n}")), "").unwrap();
            }
            drop(folder);
            assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
            // Between two runs.
            fs::write(work.join("late"), "").unwrap();
        }
    }

    #[test]
    fn a_folder_that_the_host_puts_in_place_of_its_own_is_emptied_and_the_other_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("work")).unwrap();
        let opened = Arc::new(WorkFolder::open(root.path(), None, None).unwrap());
        for _ in 0..3 {
            let folder = RunFolder::new(root.path(), &opened).unwrap();
            let (work, moved) = (folder.work(), root.path().join("work/moved"));
            fs::write(work.join("old"), "x").unwrap();
            fs::rename(&work, &moved).unwrap();
            fs::create_dir(&work).unwrap();
            fs::write(work.join("new"), "y").unwrap();
            assert!(folder.open("new").is_ok() && folder.open("old").is_err());
            drop(folder);
            assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
            assert_eq!(fs::read_dir(&moved).unwrap().count(), 1);
            fs::remove_dir_all(&moved).unwrap();
        }
        fs::remove_dir(root.path().join("work/run")).unwrap();
        let folder = RunFolder::new(root.path(), &opened).unwrap();
        assert_eq!(fs::read_dir(folder.work()).unwrap().count(), 0);
    }
}
