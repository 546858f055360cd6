//! A module as one stream of bytes, by which it is kept and handed to other machines: a line of JSON that names its
//! files, then their contents, one after the other. What comes out is what went in, or nothing: the digest says so.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::HostError;
use crate::digest::{self, ModuleFile};

/// The most bytes that a module may have to be kept.
pub(crate) const MAX_SIZE: u64 = 1 << 30;
/// The most bytes of the line that names the files.
const MAX_HEADER: u64 = 16 << 20;
/// The folder of a module that is one file.
const FILE_ROOT: &str = "module";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// The name of its folder.
    root: String,
    files: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    executable: bool,
    size: u64,
}

/// The package of a module, from its copy; and its bytes.
///
/// # Errors
/// The copy cannot be read, or is too large.
pub(crate) fn pack(snapshot: &Path) -> Result<(Box<dyn Read + Send>, u64), HostError> {
    let files = digest::files_of(snapshot)?;
    let size: u64 = files.iter().map(|file| file.size).sum();
    if size > MAX_SIZE {
        return Err(HostError::Module(format!(
            "it has {size} bytes; for all machines to have it, it may have {MAX_SIZE}. Put it into the plugin folder of \
             each machine"
        )));
    }
    let root = snapshot.file_name().unwrap_or_default().to_string_lossy();
    let header = Header {
        root: root.into_owned(),
        files: files.iter().map(entry).collect(),
    };
    let mut line = serde_json::to_vec(&header)
        .map_err(|error| HostError::Module(format!("its files cannot be named: {error}")))?;
    line.push(b'\n');
    let size = size + line.len() as u64;
    let mut package: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(line));
    for file in files {
        let content = Content {
            file: None,
            path: file.source,
            left: file.size,
        };
        package = Box::new(package.chain(content));
    }
    Ok((package, size))
}

fn entry(file: &ModuleFile) -> Entry {
    Entry {
        path: file.path.clone(),
        executable: file.is_executable,
        size: file.size,
    }
}

/// The content of a file of a copy, opened when it is its turn.
struct Content {
    file: Option<File>,
    path: PathBuf,
    left: u64,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&self.path)?),
        };
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = file.read(&mut buffer[..most])?;
        self.left -= read as u64;
        match read {
            0 if self.left > 0 && most > 0 => Err(std::io::Error::other(format!(
                "{} became shorter",
                self.path.display()
            ))),
            read => Ok(read),
        }
    }
}

/// Where a module lies that was unpacked before, or was copied from a file or folder of this name.
pub(crate) fn unpacked(snapshots: &Path, digest: &str, name: &str) -> Option<PathBuf> {
    // One of this name may be a file or a folder.
    if name == FILE_ROOT {
        return None;
    }
    let folder = snapshots.join(digest);
    let (file, root) = (folder.join(FILE_ROOT).join(name), folder.join(name));
    match file.is_file() {
        true => Some(file),
        false => root.is_dir().then_some(root),
    }
}

/// Makes `<snapshots>/<digest>/…` of a package. Answers the file or folder that is the module.
///
/// # Errors
/// It is no package, is not whole, or is not the module with this digest.
pub(crate) fn unpack(
    package: impl Read,
    snapshots: &Path,
    digest: &str,
) -> Result<PathBuf, HostError> {
    let mut package = BufReader::new(package);
    let header = header(&mut package)?;
    let draft = snapshots.join(format!(".{}", uuid::Uuid::new_v4()));
    let unpacked = unpack_into(&draft, &header, &mut package)
        .and_then(|()| take_over(&draft, snapshots, &header.root, digest));
    if draft.exists() {
        // What stays is removed with old copies.
        let _ = fs::remove_dir_all(&draft);
    }
    let root = unpacked?;
    match header.files.as_slice() {
        [file] if header.root == FILE_ROOT && !file.path.contains('/') => Ok(root.join(&file.path)),
        _ => Ok(root),
    }
}

fn header(package: &mut impl BufRead) -> Result<Header, HostError> {
    let mut line = Vec::new();
    let read = package.take(MAX_HEADER).read_until(b'\n', &mut line);
    read.map_err(|error| HostError::Module(format!("its package cannot be read: {error}")))?;
    let header: Header = serde_json::from_slice(&line)
        .map_err(|error| HostError::Module(format!("its package is none: {error}")))?;
    let is_plain = |path: &str| {
        let mut parts = Path::new(path).components();
        !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    let is_name = is_plain(&header.root) && !header.root.contains('/');
    let wrong = header.files.iter().find(|file| !is_plain(&file.path));
    if !is_name || wrong.is_some() {
        let wrong = wrong.map_or(&header.root, |file| &file.path);
        return Err(HostError::Module(format!(
            "its package has a file outside of the module: {wrong:?}"
        )));
    }
    let size = header
        .files
        .iter()
        .try_fold(0_u64, |sum, file| sum.checked_add(file.size));
    match size {
        Some(size) if size <= MAX_SIZE => Ok(header),
        _ => Err(HostError::Module(format!(
            "its package has more than {MAX_SIZE} bytes"
        ))),
    }
}

fn unpack_into(draft: &Path, header: &Header, package: &mut impl Read) -> Result<(), HostError> {
    for file in &header.files {
        let path = draft.join(&file.path);
        let parent = path.parent().unwrap_or(draft);
        fs::create_dir_all(parent).map_err(HostError::file("make", parent))?;
        let mut made = File::create_new(&path).map_err(HostError::file("make", &path))?;
        let copied = std::io::copy(&mut package.take(file.size), &mut made);
        if copied.map_err(HostError::file("write", &path))? < file.size {
            return Err(HostError::Module(format!(
                "its package ends in the middle of {}",
                file.path
            )));
        }
        let mode = if file.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(HostError::file("open up", &path))?;
    }
    Ok(())
}

/// Moves what was unpacked to where copies lie, if it is what it should be.
fn take_over(
    draft: &Path,
    snapshots: &Path,
    root: &str,
    digest: &str,
) -> Result<PathBuf, HostError> {
    let files = digest::files_of(draft)?;
    let contents: Vec<String> = files
        .iter()
        .map(|file| digest::content_digest(&file.source))
        .collect::<Result<_, _>>()?;
    let pairs: Vec<(&ModuleFile, &str)> = files
        .iter()
        .zip(&contents)
        .map(|(file, content)| (file, content.as_str()))
        .collect();
    let found = digest::digest(&pairs);
    if found != digest {
        return Err(HostError::Module(format!(
            "its package has the digest {found}, and should have {digest}"
        )));
    }
    digest::snapshot(snapshots, root, &pairs, digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(folder: &Path) -> String {
        let files = digest::files_of(folder).unwrap();
        let contents: Vec<_> = files
            .iter()
            .map(|file| digest::content_digest(&file.source).unwrap())
            .collect();
        let pairs: Vec<_> = files
            .iter()
            .zip(contents.iter().map(String::as_str))
            .collect();
        digest::digest(&pairs)
    }

    fn packed(snapshot: &Path) -> Vec<u8> {
        let (mut package, size) = pack(snapshot).unwrap();
        let mut bytes = Vec::new();
        package.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, size);
        bytes
    }

    #[test]
    fn what_comes_out_is_what_went_in() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = here.path().join("solver");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(folder.join("__init__.py"), "").unwrap();
        let run = folder.join("sub/run");
        fs::write(&run, b"\n{\0}\n").unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        let digest = digest_of(&folder);
        assert_eq!(unpacked(there.path(), &digest, "solver"), None);
        let root = unpack(&*packed(&folder), there.path(), &digest).unwrap();
        assert_eq!(root, there.path().join(&digest).join("solver"));
        assert_eq!(digest_of(&root), digest);
        assert_eq!(unpacked(there.path(), &digest, "solver"), Some(root));
        let folder = here.path().join(FILE_ROOT);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.lua"), "return {}").unwrap();
        let digest = digest_of(&folder);
        let file = unpack(&*packed(&folder), there.path(), &digest).unwrap();
        assert!(file.ends_with("module/a.lua"), "{file:?}");
        assert_eq!(unpacked(there.path(), &digest, "a.lua"), Some(file));
    }

    #[test]
    fn what_is_no_package_or_another_one_leaves_nothing() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = here.path().join("solver");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.py"), "1234").unwrap();
        let (digest, bytes) = (digest_of(&folder), packed(&folder));
        let outside = br#"{"root":"m","files":[{"path":"../x","executable":false,"size":0}]}"#;
        let absolute = br#"{"root":"m","files":[{"path":"/x","executable":false,"size":0}]}"#;
        let large = br#"{"root":"m","files":[{"path":"x","executable":false,"size":1073741825}]}"#;
        for (package, problem) in [
            (&bytes[..bytes.len() - 1], "ends in the middle of a.py"),
            (&bytes[..5], "is none"),
            (b"", "is none"),
            (outside, "outside of the module: \"../x\""),
            (absolute, "outside of the module"),
            (large, "more than"),
        ] {
            let error = unpack(package, there.path(), &digest)
                .unwrap_err()
                .to_string();
            assert!(error.contains(problem), "{problem}: {error}");
        }
        let other = "0".repeat(64);
        let error = unpack(&*bytes, there.path(), &other)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&digest) && error.contains(&other), "{error}");
        assert_eq!(fs::read_dir(there.path()).unwrap().count(), 0);
    }
}
