//! Functions on descriptors.

use std::fs::{FileTimes, Metadata};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::time::{Duration, SystemTime};

use wasmtime::{Caller, Linker};

use super::errno::{BADF, INVAL, NOTDIR, SPIPE};
use super::memory::Memory;
use super::{Answer, Descriptor, MODULE, Refusal, Wasi, call};
use crate::guest::Guest;

/// What is here.
pub(super) const NAMES: &[&str] = &[
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
];
/// All rights: what cannot be done is refused when it is tried.
const ALL_RIGHTS: u64 = 0x3fff_ffff;
/// Flags of descriptors.
pub(super) const APPEND: u16 = 1;
/// Flags of times.
const SET_ACCESS: u32 = 1;
const ACCESS_NOW: u32 = 2;
const SET_CHANGE: u32 = 4;
const CHANGE_NOW: u32 = 8;
/// The most bytes that one call writes to standard error.
const MAX_LOG: usize = 64 * 1024;

/// Kinds of files.
pub(super) const DIRECTORY: u8 = 3;
pub(super) const REGULAR: u8 = 4;
const LINK: u8 = 7;

pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type C<'a> = Caller<'a, Guest>;
    linker
        .func_wrap(MODULE, "fd_read", |mut c: C<'_>, fd, at, count, out| {
            call(&mut c, |m, w| read(m, w, fd, at, count, out))
        })?
        .func_wrap(MODULE, "fd_write", |mut c: C<'_>, fd, at, count, out| {
            call(&mut c, |m, w| write(m, w, fd, at, count, out))
        })?
        .func_wrap(
            MODULE,
            "fd_pread",
            |mut c: C<'_>, fd, at, count, offset: u64, out| {
                call(&mut c, |m, w| pread(m, w, fd, at, count, offset, out))
            },
        )?
        .func_wrap(
            MODULE,
            "fd_pwrite",
            |mut c: C<'_>, fd, at, count, offset: u64, out| {
                call(&mut c, |m, w| pwrite(m, w, fd, at, count, offset, out))
            },
        )?
        .func_wrap(
            MODULE,
            "fd_seek",
            |mut c: C<'_>, fd: u32, offset: i64, whence: u32, out: u32| {
                call(&mut c, |m, w| seek(m, w, fd, offset, whence, out))
            },
        )?
        .func_wrap(MODULE, "fd_tell", |mut c: C<'_>, fd: u32, out: u32| {
            call(&mut c, |m, w| seek(m, w, fd, 0, 1, out))
        })?
        .func_wrap(MODULE, "fd_close", |mut c: C<'_>, fd: u32| {
            call(&mut c, |_, w| w.close(fd))
        })?
        .func_wrap(MODULE, "fd_renumber", |mut c: C<'_>, from: u32, to: u32| {
            call(&mut c, |_, w| renumber(w, from, to))
        })?
        .func_wrap(
            MODULE,
            "fd_fdstat_get",
            |mut c: C<'_>, fd: u32, out: u32| call(&mut c, |m, w| status(m, w, fd, out)),
        )?
        .func_wrap(
            MODULE,
            "fd_fdstat_set_flags",
            |mut c: C<'_>, fd: u32, flags: u32| call(&mut c, |_, w| set_flags(w, fd, flags)),
        )?
        .func_wrap(
            MODULE,
            "fd_filestat_get",
            |mut c: C<'_>, fd: u32, out: u32| call(&mut c, |m, w| metadata(m, w, fd, out)),
        )?
        .func_wrap(
            MODULE,
            "fd_filestat_set_size",
            |mut c: C<'_>, fd: u32, size: u64| {
                call(&mut c, |_, w| Ok(w.file(fd)?.set_len(size)?))
            },
        )?
        .func_wrap(
            MODULE,
            "fd_allocate",
            |mut c: C<'_>, fd: u32, offset: u64, length: u64| {
                call(&mut c, |_, w| {
                    let size = offset.checked_add(length).ok_or(INVAL)?;
                    let file = w.file(fd)?;
                    match file.metadata()?.len() < size {
                        true => Ok(file.set_len(size)?),
                        false => Ok(()),
                    }
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_filestat_set_times",
            |mut c: C<'_>, fd: u32, access: u64, change: u64, flags: u32| {
                call(&mut c, |_, w| {
                    let times = times(access, change, flags)?;
                    Ok(w.file(fd)?.set_times(times)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_advise",
            |mut c: C<'_>, fd: u32, _: u64, _: u64, _: u32| {
                call(&mut c, |_, w| w.get(fd).map(drop))
            },
        )?
        .func_wrap(MODULE, "fd_sync", |mut c: C<'_>, fd: u32| {
            call(&mut c, |_, w| Ok(w.file(fd)?.sync_all()?))
        })?
        .func_wrap(MODULE, "fd_datasync", |mut c: C<'_>, fd: u32| {
            call(&mut c, |_, w| Ok(w.file(fd)?.sync_data()?))
        })?
        .func_wrap(
            MODULE,
            "fd_prestat_get",
            |mut c: C<'_>, fd: u32, out: u32| {
                call(&mut c, |m, w| {
                    let length = given(w, fd)?.len() as u32;
                    m.put_u32(out, 0)?;
                    m.put_u32(out.wrapping_add(4), length)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_prestat_dir_name",
            |mut c: C<'_>, fd: u32, at: u32, length: u32| {
                call(&mut c, |m, w| {
                    let name = given(w, fd)?;
                    let end = name.len().min(length as usize);
                    m.put(at, &name.as_bytes()[..end])
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_readdir",
            |mut c: C<'_>, fd: u32, at: u32, length: u32, cookie: u64, out: u32| {
                call(&mut c, |m, w| list(m, w, fd, (at, length), cookie, out))
            },
        )?;
    Ok(())
}

fn read(m: &mut Memory<'_>, w: &mut Wasi, fd: u32, at: u32, count: u32, out: u32) -> Answer {
    let mut total = 0;
    for (at, length) in m.buffers(at, count)? {
        let buffer = m.bytes(at, length)?;
        if buffer.is_empty() {
            continue;
        }
        // What is there is enough: only the first read may wait.
        let size = match w.get(fd)? {
            Descriptor::Input if total > 0 => 0,
            Descriptor::Input => w.talk.read(buffer)?,
            Descriptor::File { file, .. } => file.read(buffer)?,
            _ => return Err(BADF.into()),
        };
        total += size as u32;
        if size < length as usize {
            break;
        }
    }
    m.put_u32(out, total)
}

fn write(m: &mut Memory<'_>, w: &mut Wasi, fd: u32, at: u32, count: u32, out: u32) -> Answer {
    let mut total = 0;
    for (at, length) in m.buffers(at, count)? {
        let buffer = m.bytes(at, length)?;
        let size = match w.get(fd)? {
            Descriptor::Output => {
                w.talk.write(buffer)?;
                buffer.len()
            }
            Descriptor::Log => {
                let end = buffer.len().min(MAX_LOG);
                std::io::stderr().write(&buffer[..end])?
            }
            Descriptor::File { file, is_append } => {
                if *is_append {
                    file.seek(SeekFrom::End(0))?;
                }
                file.write(buffer)?
            }
            _ => return Err(BADF.into()),
        };
        total += size as u32;
        if size < length as usize {
            break;
        }
    }
    m.put_u32(out, total)
}

/// Goes on through the buffers of a call, from a place in a file, until one is not filled. Answers the bytes.
fn at_place(
    m: &mut Memory<'_>,
    (at, count): (u32, u32),
    offset: u64,
    mut go_on: impl FnMut(&mut [u8], u64) -> Result<usize, Refusal>,
) -> Result<u32, Refusal> {
    let mut total = 0;
    for (at, length) in m.buffers(at, count)? {
        let offset = offset.checked_add(u64::from(total)).ok_or(INVAL)?;
        let size = go_on(m.bytes(at, length)?, offset)?;
        total += size as u32;
        if size < length as usize {
            break;
        }
    }
    Ok(total)
}

fn pread(
    m: &mut Memory<'_>,
    w: &mut Wasi,
    fd: u32,
    at: u32,
    count: u32,
    offset: u64,
    out: u32,
) -> Answer {
    let read = |bytes: &mut [u8], offset| Ok(w.file(fd)?.read_at(bytes, offset)?);
    let total = at_place(m, (at, count), offset, read)?;
    m.put_u32(out, total)
}

fn pwrite(
    m: &mut Memory<'_>,
    w: &mut Wasi,
    fd: u32,
    at: u32,
    count: u32,
    offset: u64,
    out: u32,
) -> Answer {
    let write = |bytes: &mut [u8], offset| Ok(w.file(fd)?.write_at(bytes, offset)?);
    let total = at_place(m, (at, count), offset, write)?;
    m.put_u32(out, total)
}

fn seek(m: &mut Memory<'_>, w: &mut Wasi, fd: u32, offset: i64, whence: u32, out: u32) -> Answer {
    let from = match whence {
        0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| INVAL)?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        _ => return Err(INVAL.into()),
    };
    match w.get(fd)? {
        Descriptor::File { file, .. } => {
            let position = file.seek(from)?;
            m.put_u64(out, position)
        }
        _ => Err(SPIPE.into()),
    }
}

fn renumber(w: &mut Wasi, from: u32, to: u32) -> Answer {
    w.get(from)?;
    w.get(to)?;
    if from != to {
        w.descriptors[to as usize] = w.descriptors[from as usize].take();
    }
    Ok(())
}

fn status(m: &mut Memory<'_>, w: &mut Wasi, fd: u32, out: u32) -> Answer {
    let (kind, flags) = match w.get(fd)? {
        Descriptor::Folder { .. } => (DIRECTORY, 0),
        Descriptor::File { is_append, .. } => (REGULAR, u16::from(*is_append) * APPEND),
        Descriptor::Input | Descriptor::Output | Descriptor::Log => (0, 0),
    };
    let mut status = [0; 24];
    status[0] = kind;
    status[2..4].copy_from_slice(&flags.to_le_bytes());
    status[8..16].copy_from_slice(&ALL_RIGHTS.to_le_bytes());
    status[16..24].copy_from_slice(&ALL_RIGHTS.to_le_bytes());
    m.put(out, &status)
}

fn set_flags(w: &mut Wasi, fd: u32, flags: u32) -> Answer {
    match w.get(fd)? {
        Descriptor::File { is_append, .. } => {
            *is_append = flags & u32::from(APPEND) != 0;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn metadata(m: &mut Memory<'_>, w: &mut Wasi, fd: u32, out: u32) -> Answer {
    let status = match w.get(fd)? {
        Descriptor::File { file, .. } => packed(&file.metadata()?),
        Descriptor::Folder { folder, .. } => {
            packed(&std::fs::File::from(folder.try_clone()?).metadata()?)
        }
        Descriptor::Input | Descriptor::Output | Descriptor::Log => [0; 64],
    };
    m.put(out, &status)
}

/// The status of a file as WASI has it in memory.
pub(super) fn packed(metadata: &Metadata) -> [u8; 64] {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_file() => REGULAR,
        () if kind.is_dir() => DIRECTORY,
        () if kind.is_symlink() => LINK,
        () if kind.is_block_device() => 1,
        () if kind.is_char_device() => 2,
        () => 0,
    };
    let time = |seconds: i64, nanoseconds: i64| {
        let time = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        u64::try_from(time).unwrap_or(0)
    };
    let mut status = [0; 64];
    status[16] = kind;
    for (at, value) in [
        (0, metadata.dev()),
        (8, metadata.ino()),
        (24, metadata.nlink()),
        (32, metadata.len()),
        (40, time(metadata.atime(), metadata.atime_nsec())),
        (48, time(metadata.mtime(), metadata.mtime_nsec())),
        (56, time(metadata.ctime(), metadata.ctime_nsec())),
    ] {
        status[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    status
}

/// The times that are to be set.
pub(super) fn times(access: u64, change: u64, flags: u32) -> Result<FileTimes, Refusal> {
    let pick = |value: u64, set: u32, now: u32| match (flags & set != 0, flags & now != 0) {
        (true, true) => Err(INVAL),
        (true, false) => Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(value))),
        (false, true) => Ok(Some(SystemTime::now())),
        (false, false) => Ok(None),
    };
    let mut times = FileTimes::new();
    if let Some(access) = pick(access, SET_ACCESS, ACCESS_NOW)? {
        times = times.set_accessed(access);
    }
    if let Some(change) = pick(change, SET_CHANGE, CHANGE_NOW)? {
        times = times.set_modified(change);
    }
    Ok(times)
}

fn given(w: &mut Wasi, fd: u32) -> Result<&str, Refusal> {
    match w.get(fd)? {
        Descriptor::Folder {
            given: Some(name), ..
        } => Ok(name),
        Descriptor::Folder { .. } => Err(NOTDIR.into()),
        _ => Err(BADF.into()),
    }
}

/// Lists a folder from the entry with the number `cookie` on, as much as there is room for.
fn list(
    m: &mut Memory<'_>,
    w: &mut Wasi,
    fd: u32,
    (at, length): (u32, u32),
    cookie: u64,
    out: u32,
) -> Answer {
    use nix::dir::{Dir, Type};
    let (folder, _) = w.folder(fd)?;
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    let mut folder = Dir::openat(folder.as_fd(), ".", flags, nix::sys::stat::Mode::empty())?;
    let mut entries = Vec::new();
    for entry in folder.iter() {
        let entry = entry?;
        let kind = match entry.file_type() {
            Some(Type::Directory) => DIRECTORY,
            Some(Type::File) => REGULAR,
            Some(Type::Symlink) => LINK,
            _ => 0,
        };
        entries.push((entry.file_name().to_bytes().to_vec(), entry.ino(), kind));
    }
    entries.sort();
    let first = usize::try_from(cookie).unwrap_or(usize::MAX);
    let mut packed = Vec::new();
    for (index, (name, inode, kind)) in entries.iter().enumerate().skip(first) {
        packed.extend_from_slice(&(index as u64 + 1).to_le_bytes());
        packed.extend_from_slice(&inode.to_le_bytes());
        packed.extend_from_slice(&(name.len() as u32).to_le_bytes());
        packed.extend_from_slice(&[*kind, 0, 0, 0]);
        packed.extend_from_slice(name);
        if packed.len() >= length as usize {
            break;
        }
    }
    // A buffer that is full says that there is more.
    packed.truncate(length as usize);
    m.put(at, &packed)?;
    m.put_u32(out, packed.len() as u32)
}
