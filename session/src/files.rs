//! The files of a session: those in the folder of its kernels.

use std::fs::File;
use std::io::{Error, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use ring::hmac;
use runner_host::{GuestFile, GuestFiles};

use crate::config::Face;
use crate::error::SessionError;
use crate::zygote::KernelFolder;

/// Files that are listed at most.
pub const MAX_LISTED: usize = 10_000;
/// Bytes of the tag of a file.
const TAG: usize = 16;
/// Bytes that are written between two looks at how much a session has.
const STRIDE: u64 = 16 << 20;

/// Where they are: gone with the session.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) folder: Weak<KernelFolder>,
    pub(crate) files: Arc<GuestFiles>,
    /// The name of the folder.
    pub(crate) name: PathBuf,
    pub(crate) room: Room,
}

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Bytes of the files of all sessions together.
    pub(crate) all: u64,
    /// Bytes of those of one; `None` is no limit of its own.
    pub(crate) each: Option<u64>,
    /// Whose settings these are.
    pub(crate) face: Face,
}

/// What signs the paths of a session's files, so that whoever has the tag of one may read it.
#[derive(Debug)]
pub(crate) struct Signer(hmac::Key);

impl Signer {
    /// One that nobody else has.
    pub(crate) fn new() -> Self {
        let random = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        let bytes = random.map(uuid::Uuid::into_bytes).concat();
        Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }

    pub(crate) fn tag(&self, path: &str) -> String {
        let signed = hmac::sign(&self.0, path.as_bytes());
        let bytes = &signed.as_ref()[..TAG];
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn has_signed(&self, path: &str, tag: &str) -> bool {
        let expected = self.tag(path);
        let differences = expected.bytes().zip(tag.bytes()).map(|(a, b)| a ^ b);
        // Looks at all of it, so that the time tells nothing.
        expected.len() == tag.len() && differences.fold(0, |all, one| all | one) == 0
    }
}

/// The files of a session. Its operations wait for the disk: not for tasks of the runtime.
#[derive(Debug, Clone)]
pub struct SessionFiles {
    /// Keeps the folder from being removed.
    _folder: Arc<KernelFolder>,
    files: Arc<GuestFiles>,
    name: PathBuf,
    room: Room,
}

impl SessionFiles {
    pub(crate) fn of(place: Option<Place>) -> Result<Self, SessionError> {
        let place = place.and_then(|place| Some((place.folder.upgrade()?, place)));
        let Some((folder, place)) = place else {
            return Err(SessionError::NoFiles);
        };
        Ok(Self {
            _folder: folder,
            files: place.files,
            name: place.name,
            room: place.room,
        })
    }

    /// All of them, or those below a folder, by their paths from there; up to [`MAX_LISTED`] and one.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self, folder: Option<&str>) -> std::io::Result<Vec<GuestFile>> {
        let folder = folder.map(|folder| folder.trim_end_matches('/'));
        let place = match folder {
            None | Some("") => self.name.clone(),
            Some(folder) => self.below(folder)?,
        };
        self.files.list(&place, MAX_LISTED + 1)
    }

    /// Opens one to be read.
    ///
    /// # Errors
    /// There is none, or the path leads elsewhere.
    pub fn open(&self, path: &str) -> std::io::Result<File> {
        self.files.open(&self.below(path)?)
    }

    /// Begins one, of which so many bytes are announced. It has its path when it is whole.
    ///
    /// # Errors
    /// There is no room.
    pub fn draft(&self, announced: u64) -> std::io::Result<Draft> {
        self.require_room(announced)?;
        let path = self
            .name
            .join(format!(".draft-{}", uuid::Uuid::new_v4().simple()));
        let file = self
            .files
            .create(&path)
            .map_err(|error| self.explain(error))?;
        Ok(Draft {
            files: self.clone(),
            path: Some(path),
            file,
            size: 0,
            seen: 0,
        })
    }

    /// Looks whether one can have this path.
    ///
    /// # Errors
    /// It leads elsewhere, or to something else.
    pub fn check(&self, path: &str) -> std::io::Result<()> {
        self.files.check(&self.below(path)?)
    }

    /// Removes one.
    ///
    /// # Errors
    /// There is none, or the path leads elsewhere.
    pub fn remove(&self, path: &str) -> std::io::Result<()> {
        self.files.remove(&self.below(path)?)
    }

    fn below(&self, path: &str) -> std::io::Result<PathBuf> {
        let is_plain = !path.is_empty() && !path.starts_with('/');
        match is_plain {
            true => Ok(self.name.join(Path::new(path))),
            false => Err(ErrorKind::InvalidFilename.into()),
        }
    }

    /// Looks whether the session may have so many bytes more.
    fn require_room(&self, more: u64) -> std::io::Result<()> {
        let Some(most) = self.room.each else {
            return Ok(());
        };
        let used = self.files.used_below(&self.name)?;
        match used.saturating_add(more) > most {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::QuotaExceeded,
                format!(
                    "The session has {used} bytes of files, and there is no room for {more} more: the limit is {most} \
                     (SESSION_FILES_PER_SESSION)."
                ),
            )),
        }
    }

    fn explain(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::StorageFull => {
                let text = format!(
                    "There is no room for more files of sessions: the limit of all together is {} bytes (SESSION_FILES).",
                    self.room.all
                );
                Error::new(
                    ErrorKind::StorageFull,
                    self.room.face.named(&text).into_owned(),
                )
            }
            _ => error,
        }
    }
}

/// A file on its way into a session. Dropped before it is [kept](Self::keep) it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    files: SessionFiles,
    /// Where it is, until it is kept.
    path: Option<PathBuf>,
    file: File,
    size: u64,
    /// Its size when it was looked last at how much the session has.
    seen: u64,
}

impl Draft {
    /// Adds bytes.
    ///
    /// # Errors
    /// There is no room.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| self.files.explain(error))?;
        self.size += bytes.len() as u64;
        if self.size - self.seen >= STRIDE {
            self.seen = self.size;
            self.files.require_room(0)?;
        }
        Ok(())
    }

    /// Its bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives it its path, in place of the file that is there.
    ///
    /// # Errors
    /// There is no room, or the path leads elsewhere or to something else.
    pub fn keep(mut self, path: &str) -> std::io::Result<()> {
        self.files.require_room(0)?;
        let target = self.files.below(path)?;
        if let Some(draft) = &self.path {
            self.files.files.rename(draft, &target)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // It may be gone with its session.
            let _ = self.files.files.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_for_one_path_of_one_session() {
        let (one, other) = (Signer::new(), Signer::new());
        let tag = one.tag("a.txt");
        assert_eq!(tag.len(), 2 * TAG);
        assert!(one.has_signed("a.txt", &tag));
        for (signer, path, shown) in [
            (&one, "b.txt", tag.as_str()),
            (&other, "a.txt", tag.as_str()),
            (&one, "a.txt", ""),
            (&one, "a.txt", &tag[1..]),
        ] {
            assert!(!signer.has_signed(path, shown), "{path} {shown}");
        }
    }
}
