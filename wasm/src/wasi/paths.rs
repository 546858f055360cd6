//! Functions on names in folders.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use wasmtime::{Caller, Linker};

use super::errno::{INVAL, ISDIR, NOTCAPABLE, ROFS};
use super::files::{APPEND, packed, times};
use super::memory::Memory;
use super::{Answer, Descriptor, MODULE, Refusal, Wasi, call};
use crate::guest::Guest;

/// What is here.
pub(super) const NAMES: &[&str] = &[
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_open",
    "path_remove_directory",
    "path_rename",
    "path_unlink_file",
];
/// How a file is opened.
const CREATE: u32 = 1;
const DIRECTORY: u32 = 2;
const EXCLUSIVE: u32 = 4;
const TRUNCATE: u32 = 8;
/// Rights that are asked for.
const RIGHT_READ: u64 = 1 << 1;
const RIGHT_WRITE: u64 = 1 << 6;

/// A folder, and a name in it.
struct Located {
    folder: OwnedFd,
    name: CString,
    is_writable: bool,
}

pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type C<'a> = Caller<'a, Guest>;
    linker
        .func_wrap(
            MODULE,
            "path_open",
            |mut c: C<'_>,
             fd: u32,
             _lookup: u32,
             at: u32,
             length: u32,
             how: u32,
             rights: u64,
             _inherited: u64,
             flags: u32,
             out: u32| {
                call(&mut c, |m, w| {
                    let located = locate(m, w, fd, at, length)?;
                    let opened = open(&located, how, rights, flags)?;
                    let opened = w.add(opened)?;
                    m.put_u32(out, opened)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_filestat_get",
            |mut c: C<'_>, fd: u32, _lookup: u32, at: u32, length: u32, out: u32| {
                call(&mut c, |m, w| {
                    let located = locate(m, w, fd, at, length)?;
                    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    let file = openat(&located.folder, &*located.name, flags, Mode::empty())?;
                    m.put(out, &packed(&File::from(file).metadata()?))
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_filestat_set_times",
            |mut c: C<'_>,
             fd: u32,
             _lookup: u32,
             at: u32,
             length: u32,
             access: u64,
             change: u64,
             flags: u32| {
                call(&mut c, |m, w| {
                    let located = writable(locate(m, w, fd, at, length)?)?;
                    let flags_of_file = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    let flags_of_file = flags_of_file | OFlag::O_NONBLOCK;
                    let file = openat(
                        &located.folder,
                        &*located.name,
                        flags_of_file,
                        Mode::empty(),
                    )?;
                    Ok(File::from(file).set_times(times(access, change, flags)?)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_create_directory",
            |mut c: C<'_>, fd: u32, at: u32, length: u32| {
                call(&mut c, |m, w| {
                    let located = writable(locate(m, w, fd, at, length)?)?;
                    let mode = Mode::from_bits_truncate(0o755);
                    Ok(mkdirat(&located.folder, &*located.name, mode)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_remove_directory",
            |mut c: C<'_>, fd: u32, at: u32, length: u32| {
                call(&mut c, |m, w| {
                    let located = writable(locate(m, w, fd, at, length)?)?;
                    let how = UnlinkatFlags::RemoveDir;
                    Ok(unlinkat(&located.folder, &*located.name, how)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_unlink_file",
            |mut c: C<'_>, fd: u32, at: u32, length: u32| {
                call(&mut c, |m, w| {
                    let located = writable(locate(m, w, fd, at, length)?)?;
                    let how = UnlinkatFlags::NoRemoveDir;
                    Ok(unlinkat(&located.folder, &*located.name, how)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "path_rename",
            |mut c: C<'_>, from: u32, at: u32, length: u32, to: u32, to_at: u32, to_length: u32| {
                call(&mut c, |m, w| {
                    let old = writable(locate(m, w, from, at, length)?)?;
                    let new = writable(locate(m, w, to, to_at, to_length)?)?;
                    let renamed =
                        nix::fcntl::renameat(&old.folder, &*old.name, &new.folder, &*new.name);
                    Ok(renamed?)
                })
            },
        )?;
    Ok(())
}

fn writable(located: Located) -> Result<Located, Refusal> {
    match located.is_writable {
        true => Ok(located),
        false => Err(ROFS.into()),
    }
}

/// Looks a name up, from a folder that the instance has, without following links and without leaving it.
fn locate(
    m: &mut Memory<'_>,
    w: &mut Wasi,
    fd: u32,
    at: u32,
    length: u32,
) -> Result<Located, Refusal> {
    let path = m.text(at, length)?;
    let (folder, is_writable) = w.folder(fd)?;
    if path.starts_with('/') {
        return Err(NOTCAPABLE.into());
    }
    let mut folders = vec![folder.try_clone()?];
    let mut name = ".";
    for part in path.split('/').filter(|part| !part.is_empty()) {
        // What came before is a folder that is gone through.
        descend(&mut folders, name)?;
        name = part;
    }
    if name == ".." {
        descend(&mut folders, name)?;
        name = ".";
    }
    let folder = folders.pop().ok_or(NOTCAPABLE)?;
    Ok(Located {
        folder,
        name: CString::new(name).map_err(|_| INVAL)?,
        is_writable,
    })
}

fn descend(folders: &mut Vec<OwnedFd>, name: &str) -> Answer {
    match name {
        "." => Ok(()),
        ".." if folders.len() > 1 => {
            folders.pop();
            Ok(())
        }
        ".." => Err(NOTCAPABLE.into()),
        name => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let above = folders.last().ok_or(NOTCAPABLE)?;
            let opened = openat(above.as_fd(), name, flags, Mode::empty())?;
            folders.push(opened);
            Ok(())
        }
    }
}

fn open(located: &Located, how: u32, rights: u64, flags: u32) -> Result<Descriptor, Refusal> {
    let is_to_write = rights & RIGHT_WRITE != 0;
    let changes = how & (CREATE | TRUNCATE) != 0;
    let mut options = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    for (bit, flag) in [
        (CREATE, OFlag::O_CREAT),
        (DIRECTORY, OFlag::O_DIRECTORY),
        (EXCLUSIVE, OFlag::O_EXCL),
        (TRUNCATE, OFlag::O_TRUNC),
    ] {
        if how & bit != 0 {
            options |= flag;
        }
    }
    let mode = Mode::from_bits_truncate(0o644);
    let open = |access: OFlag| openat(&located.folder, &*located.name, options | access, mode);
    let access = match (is_to_write, rights & RIGHT_READ != 0) {
        (true, true) => OFlag::O_RDWR,
        (true, false) => OFlag::O_WRONLY,
        (false, _) => OFlag::O_RDONLY,
    };
    let wants_folder = how & DIRECTORY != 0;
    let opened = match located.is_writable {
        true if wants_folder => open(OFlag::O_RDONLY),
        // A library asks for all rights where it does not know better: folders are opened for reading.
        true => match open(access) {
            Err(nix::errno::Errno::EISDIR) if !changes => open(OFlag::O_RDONLY),
            opened => opened,
        },
        false if changes => return Err(ROFS.into()),
        false => open(OFlag::O_RDONLY),
    };
    let file = File::from(opened?);
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Ok(Descriptor::Folder {
            folder: file.into(),
            given: None,
            is_writable: located.is_writable,
        });
    }
    // Nothing else is a file of a run.
    if !kind.is_file() {
        return Err(ISDIR.into());
    }
    if !located.is_writable && is_to_write && rights & RIGHT_READ == 0 {
        return Err(ROFS.into());
    }
    Ok(Descriptor::File {
        file,
        is_append: flags & u32::from(APPEND) != 0,
    })
}
