//! The numbers of errors in WASI.

use nix::errno::Errno;

pub(super) const BADF: u16 = 8;
pub(super) const FAULT: u16 = 21;
pub(super) const INVAL: u16 = 28;
pub(super) const ISDIR: u16 = 31;
pub(super) const MFILE: u16 = 33;
pub(super) const NOSYS: u16 = 52;
pub(super) const NOTDIR: u16 = 54;
pub(super) const ROFS: u16 = 69;
pub(super) const SPIPE: u16 = 70;
pub(super) const NOTCAPABLE: u16 = 76;
const IO: u16 = 29;

/// The number for an error of the system.
pub(super) fn of(error: &std::io::Error) -> u16 {
    let Some(number) = error.raw_os_error() else {
        return IO;
    };
    match Errno::from_raw(number) {
        Errno::EACCES => 2,
        Errno::EAGAIN => 6,
        Errno::EBADF => BADF,
        Errno::EBUSY => 10,
        Errno::EDQUOT => 19,
        Errno::EEXIST => 20,
        Errno::EFBIG => 22,
        Errno::EINTR => 27,
        Errno::EINVAL => INVAL,
        Errno::EISDIR => ISDIR,
        // A link, which is not followed.
        Errno::ELOOP => 32,
        Errno::EMFILE | Errno::ENFILE => MFILE,
        Errno::ENAMETOOLONG => 37,
        Errno::ENOENT => 44,
        Errno::ENOMEM => 48,
        Errno::ENOSPC => 51,
        Errno::ENOTDIR => NOTDIR,
        Errno::ENOTEMPTY => 55,
        Errno::EPERM => 63,
        Errno::EROFS => ROFS,
        Errno::EXDEV => 75,
        _ => IO,
    }
}
