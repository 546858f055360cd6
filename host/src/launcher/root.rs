//! The root of a host's own file system: what it needs of the machine, read-only, its module, and its folder for
//! life. Everything has the path that it has outside; what is not shown does not exist.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::wire::HostCommand;

/// Links that one path may lead over.
const MAX_LINKS: usize = 40;
/// Bytes of the temporary folder, where the host's own folder lies on the disk.
const TEMPORARY: u64 = 64 << 20;
/// What the temporary folder has beside the files of a host: places for what is shown below it.
const OWN_FILES: u64 = 64;
/// Where in the temporary folder the things lie that are shown elsewhere.
const SPACE: &str = ".host";

/// The folders of a host that are its own, beside `work/`.
pub(super) const TEMPORARY_FOLDERS: &[&str] = &["/tmp", "/tmp/.host", "/dev/shm"];

/// What is put into a root.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// A symbolic link as it is outside.
    Link { path: PathBuf, target: PathBuf },
    /// A file or folder.
    Show { path: PathBuf, is_folder: bool },
}

/// What a host is shown, in the order in which it is put there.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    steps: Vec<Step>,
    shown: BTreeSet<PathBuf>,
}

impl View {
    /// Shows a path, and the links that lead to it. What does not exist is passed over.
    pub(super) fn show(&mut self, path: &Path) {
        let mut here = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = parts(path);
        let mut links = 0;
        let mut is_folder = true;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&part);
            let Ok(metadata) = fs::symlink_metadata(&next) else {
                return;
            };
            if !metadata.is_symlink() {
                is_folder = metadata.is_dir();
                here = next;
                continue;
            }
            links += 1;
            let Ok(target) = fs::read_link(&next) else {
                return;
            };
            if links > MAX_LINKS {
                return;
            }
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            rest = parts(&target).into_iter().chain(rest).collect();
            if !self.shows(&next) {
                self.shown.insert(next.clone());
                self.steps.push(Step::Link { path: next, target });
            }
        }
        if here != Path::new("/") && !self.shows(&here) {
            self.shown.insert(here.clone());
            self.steps.push(Step::Show {
                path: here,
                is_folder,
            });
        }
    }

    fn shows(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.shown.contains(above))
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let named = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    named.collect()
}

/// Makes the root of a host's file system that of the calling process, in a mount name space of its own.
/// `owner` owns what the host may write. Answers the host's `work/`, where nobody outside can open it.
pub(super) fn enter(
    command: &HostCommand,
    view: &View,
    devices: &[&str],
    owner: Option<u32>,
) -> Result<Option<OwnedFd>, String> {
    let root = &command.root;
    private()?;
    tmpfs(root, "size=1m,nr_inodes=4096,mode=755")?;
    // Before all else: modules and the instance folder may lie in the system's temporary folder.
    let space = space(command, owner)?;
    for step in &view.steps {
        match step {
            Step::Link { path, target } => {
                let at = inside(root, path);
                above(&at)?;
                symlink(target, &at).map_err(failed("link", &at))?;
            }
            Step::Show { path, is_folder } => {
                show(path, &inside(root, path), *is_folder, READ_ONLY)?;
            }
        }
    }
    let work = folder(command, &space, owner)?;
    for device in devices {
        let device = Path::new(device);
        if device.exists() {
            show(device, &inside(root, device), false, DEVICE)?;
        }
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let at = root.join("dev").join(name);
        symlink(target, &at).map_err(failed("link", &at))?;
    }
    let proc = root.join("proc");
    made(&proc)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &proc, Some("proc"), flags, None::<&str>)
        .map_err(failed("mount", &proc))?;
    nix::unistd::chdir(root).map_err(failed("enter", root))?;
    // Both are the same folder, so that the old root lies over the new one until it is taken off.
    nix::unistd::pivot_root(".", ".").map_err(failed("become the root of", root))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed("leave the root of", root))?;
    nix::unistd::chdir("/").map_err(failed("enter", root))?;
    set(libc::AT_FDCWD, c"/", 0, libc::MOUNT_ATTR_RDONLY)?;
    Ok(work)
}

/// Mounts the temporary folder: one file system with a size, in memory, for all that the host writes. Answers
/// where in it those things lie.
fn space(command: &HostCommand, owner: Option<u32>) -> Result<PathBuf, String> {
    let limits = &command.limits;
    let owned = owner.map_or_else(String::new, |id| format!(",uid={id},gid={id}"));
    let (bytes, files) = match is_on_disk(command) {
        true => (TEMPORARY, None),
        false => (limits.disk.unwrap_or(0), limits.files),
    };
    let files = files.map_or(0, |files| files.saturating_add(OWN_FILES));
    let at = inside(&command.root, Path::new("/tmp"));
    made(&at)?;
    tmpfs(
        &at,
        &format!("size={bytes},nr_inodes={files},mode=700{owned}"),
    )?;
    let space = at.join(SPACE);
    made(&space)?;
    Ok(space)
}

/// Puts the folder for life and the shared memory into the root. Answers `work/`, if it is in memory.
fn folder(
    command: &HostCommand,
    space: &Path,
    owner: Option<u32>,
) -> Result<Option<OwnedFd>, String> {
    let root = &command.root;
    let own = |name: &str| {
        let path = space.join(name);
        made(&path)?;
        if let Some(id) = owner {
            let (uid, gid) = (
                nix::unistd::Uid::from_raw(id),
                nix::unistd::Gid::from_raw(id),
            );
            nix::unistd::chown(&path, Some(uid), Some(gid)).map_err(failed("give away", &path))?;
        }
        Ok::<_, String>(path)
    };
    show(
        &own("shm")?,
        &inside(root, Path::new("/dev/shm")),
        true,
        OWN,
    )?;
    let here = inside(root, &command.folder);
    show(
        &command.folder.join("in"),
        &here.join("in"),
        true,
        READ_ONLY,
    )?;
    if is_on_disk(command) {
        show(&command.folder.join("work"), &here.join("work"), true, OWN)?;
        return Ok(None);
    }
    let work = own("work")?;
    show(&work, &here.join("work"), true, OWN)?;
    let opened = File::open(&work).map_err(failed("open", &work))?;
    Ok(Some(opened.into()))
}

fn is_on_disk(command: &HostCommand) -> bool {
    command.limits.on_disk == Some(true)
}

/// No mount made from here on is seen outside, nor any made outside here.
fn private() -> Result<(), String> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(failed("separate", "/"))
}

fn tmpfs(at: &Path, options: &str) -> Result<(), String> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("runner"), at, Some("tmpfs"), flags, Some(options)).map_err(failed("mount", at))
}

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
const DEVICE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
const OWN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Shows a file or folder at another place as well, with these attributes.
fn show(source: &Path, at: &Path, is_folder: bool, attributes: u64) -> Result<(), String> {
    if is_folder {
        made(at)?;
    } else {
        above(at)?;
        File::create(at).map_err(failed("make", at))?;
    }
    let name = text(source)?;
    // SAFETY: the path is a C string that lives until the call returns.
    let tree = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            name.as_ptr(),
            libc::OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned() | AT_RECURSIVE,
        )
    };
    if tree < 0 {
        return Err(failed("show", source)(std::io::Error::last_os_error()));
    }
    let tree = i32::try_from(tree).map_err(|error| error.to_string())?;
    // SAFETY: the kernel has just made it for this process, and nothing else knows it.
    let tree = unsafe { OwnedFd::from_raw_fd(tree) };
    set(
        tree.as_raw_fd(),
        c"",
        libc::AT_EMPTY_PATH.cast_unsigned() | AT_RECURSIVE,
        attributes,
    )?;
    let target = text(at)?;
    // SAFETY: both paths are C strings that live until the call returns.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    match moved {
        0 => Ok(()),
        _ => Err(failed("show", at)(std::io::Error::last_os_error())),
    }
}

/// From the kernel's headers; one type for all calls that take it.
const AT_RECURSIVE: u32 = 0x8000;

/// Adds attributes to a mount; those that it has stay.
fn set(at: i32, path: &std::ffi::CStr, flags: u32, attributes: u64) -> Result<(), String> {
    let wanted = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: path and structure live until the call returns, and the size is that of the structure.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(&wanted),
            size_of::<libc::mount_attr>(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(format!(
            "cannot close a mount: {}",
            std::io::Error::last_os_error()
        )),
    }
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn made(folder: &Path) -> Result<(), String> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o755);
    builder.create(folder).map_err(failed("make", folder))
}

fn above(path: &Path) -> Result<(), String> {
    path.parent().map_or(Ok(()), made)
}

fn text(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| format!("{} holds a NUL byte", path.display()))
}

fn failed<E: std::fmt::Display>(
    what: &'static str,
    path: impl AsRef<Path>,
) -> impl FnOnce(E) -> String {
    let path = path.as_ref().to_owned();
    move |error| format!("cannot {what} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_shown_as_they_are_and_nothing_twice() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/deep")).unwrap();
        fs::write(root.join("real/deep/file"), "").unwrap();
        symlink("real", root.join("relative")).unwrap();
        symlink(root.join("relative/deep"), root.join("absolute")).unwrap();
        let mut view = View::default();
        view.show(&root.join("absolute/file"));
        view.show(&root.join("real/deep"));
        view.show(&root.join("real/deep/file"));
        view.show(&root.join("missing"));
        view.show(Path::new("/"));
        let link = |name: &str, target: PathBuf| Step::Link {
            path: root.join(name),
            target,
        };
        let expected = [
            link("absolute", root.join("relative/deep")),
            link("relative", "real".into()),
            Step::Show {
                path: root.join("real/deep/file"),
                is_folder: false,
            },
            Step::Show {
                path: root.join("real/deep"),
                is_folder: true,
            },
        ];
        assert_eq!(view.steps, expected);
    }
}
