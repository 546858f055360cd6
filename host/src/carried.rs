//! Files that are items of a pipeline. The pipeline and each host of its nodes read and write in folders of their own, so
//! files are carried from one to the other, and nobody sees more than that.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use runner_core::file::plain_name;

use crate::HostError;
use crate::protocol::{Carried, NodeRequest};
use crate::run_folder::RunFiles;

/// The files of a pipeline that runs.
#[derive(Debug, Clone)]
pub enum OwnFiles {
    /// Of one that runs in a host.
    Hosted(RunFiles),
    /// Of one that runs in this process: what is in a folder.
    Folder(PathBuf),
}

impl OwnFiles {
    fn open(&self, path: &str) -> Result<File, HostError> {
        match self {
            Self::Hosted(files) => files.open_any(path),
            Self::Folder(folder) => match below(Path::new(path), folder) {
                Some(_) => File::open(path).map_err(HostError::file("open", path)),
                None => Err(HostError::Module(format!(
                    "{path:?} is no file that a plugin made"
                ))),
            },
        }
    }

    fn folder(&self) -> Result<PathBuf, HostError> {
        match self {
            Self::Hosted(files) => files.inputs(),
            Self::Folder(folder) => Ok(folder.clone()),
        }
    }
}

/// A path relative to a folder in which it lies.
pub(crate) fn below<'a>(path: &'a Path, folder: &Path) -> Option<&'a Path> {
    let relative = path.strip_prefix(folder).ok()?;
    let mut parts = relative.components();
    parts
        .all(|part| matches!(part, Component::Normal(_)))
        .then_some(relative)
}

/// Carries the files of one run.
#[derive(Debug)]
pub(crate) struct Carrier {
    last: AtomicU64,
    /// Bytes that were taken, or are being taken.
    taken: AtomicU64,
    /// Bytes that may be taken in all.
    limit: u64,
}

impl Carrier {
    /// None was taken yet.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            last: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            limit,
        }
    }

    /// Does what is asked for, between the pipeline and a host.
    ///
    /// # Errors
    /// What is no file of whoever is said to have it, or cannot be copied.
    pub(crate) fn carry(
        &self,
        request: &NodeRequest,
        own: &OwnFiles,
        theirs: &RunFiles,
    ) -> Result<Vec<Carried>, HostError> {
        for path in &request.forget {
            theirs.forget(path)?;
        }
        let mut carried = Vec::with_capacity(request.give.len() + request.take.len());
        for path in &request.give {
            let file = own.open(path)?;
            let size = size_of(&file, path)?;
            let target = theirs
                .inputs()?
                .join(format!("item-{}-{}", self.number(), name_of(path)));
            carried.push(copy(file, path, &target, size)?);
        }
        for (at, path) in request.take.iter().enumerate() {
            let file = theirs.open(path)?;
            let name = request.names.get(at);
            let name = name.map_or_else(|| name_of(path), |name| plain_name(name));
            let size = size_of(&file, path)?;
            self.reserve(size, path)?;
            let copied = self
                .place(own)
                .and_then(|folder| copy(file, path, &folder.join(name), size));
            if copied.is_err() {
                self.taken.fetch_sub(size, Ordering::Relaxed);
            }
            carried.push(copied?);
        }
        for path in &request.take {
            theirs.remove(path);
        }
        Ok(carried)
    }

    /// Counts what is taken. Several requests may be in progress.
    fn reserve(&self, size: u64, path: &str) -> Result<(), HostError> {
        let limit = self.limit;
        let more = |taken: u64| taken.checked_add(size).filter(|taken| *taken <= limit);
        let reserved = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        match reserved {
            Ok(_) => Ok(()),
            Err(taken) => Err(HostError::Module(format!(
                "the file {path:?} has {size} bytes, and the nodes of this run have made files of {taken} bytes; \
                 they may make {limit} in all (NODE_FILES_SIZE)"
            ))),
        }
    }

    /// A new folder for one file of the pipeline, which so has its own name.
    fn place(&self, own: &OwnFiles) -> Result<PathBuf, HostError> {
        let folder = own.folder()?.join(format!("item-{}", self.number()));
        let made = DirBuilder::new().mode(0o755).create(&folder);
        made.map_err(HostError::file("make", &folder))?;
        Ok(folder)
    }

    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }
}

/// The name of the file at a path.
fn name_of(path: &str) -> String {
    let name = Path::new(path).file_name().unwrap_or_default();
    plain_name(&name.to_string_lossy())
}

/// Copies so many bytes of a file: it may grow meanwhile.
fn copy(from: File, path: &str, target: &Path, size: u64) -> Result<Carried, HostError> {
    let copied = write(from, target, size);
    let size = copied.map_err(|error| {
        let _ = fs::remove_file(target);
        HostError::file("copy", path)(error)
    })?;
    Ok(Carried {
        path: target.display().to_string(),
        size,
        url: None,
    })
}

fn size_of(file: &File, path: &str) -> Result<u64, HostError> {
    let metadata = file.metadata();
    let metadata = metadata.map_err(HostError::file("look at", path))?;
    Ok(metadata.len())
}

fn write(from: File, target: &Path, size: u64) -> io::Result<u64> {
    let mut new = OpenOptions::new();
    let mut to = new.write(true).create_new(true).mode(0o644).open(target)?;
    io::copy(&mut from.take(size), &mut to)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::run_folder::{RunFolder, WorkFolder};

    /// The folders of a host.
    fn host(root: &Path) -> RunFolder {
        for folder in ["in", "work"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let work = Arc::new(WorkFolder::open(root, None, None).unwrap());
        RunFolder::new(root, &work).unwrap()
    }

    #[test]
    fn files_are_carried_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let (pipeline, node) = (
            host(&root.path().join("pipeline")),
            host(&root.path().join("node")),
        );
        fs::write(root.path().join("secret"), "x").unwrap();
        let own = OwnFiles::Hosted(pipeline.files());
        let carrier = Carrier::new(u64::MAX);
        let carry = |request: NodeRequest| carrier.carry(&request, &own, &node.files());
        let take = |path: String| {
            carry(NodeRequest {
                take: vec![path],
                ..NodeRequest::default()
            })
        };
        let give = |path: String| {
            carry(NodeRequest {
                give: vec![path],
                ..NodeRequest::default()
            })
        };

        let made = node.work().join("made.txt");
        fs::write(&made, "abc").unwrap();
        let taken = take(made.display().to_string()).unwrap().remove(0);
        assert_eq!(taken.size, 3);
        assert_eq!(fs::read_to_string(&taken.path).unwrap(), "abc");
        assert!(taken.path.ends_with("/made.txt") && !made.exists());
        assert!(take("made.txt".to_owned()).is_err(), "it is gone");

        // What was taken can be given, and what the pipeline wrote.
        fs::write(pipeline.work().join("own.txt"), "own").unwrap();
        for (path, text) in [(taken.path.as_str(), "abc"), ("own.txt", "own")] {
            let given = give(path.to_owned()).unwrap().remove(0);
            assert!(Path::new(&given.path).starts_with(node.inputs_path()));
            assert_eq!(fs::read_to_string(&given.path).unwrap(), text);
            let forget = NodeRequest {
                forget: vec![given.path.clone()],
                ..NodeRequest::default()
            };
            assert!(carry(forget).unwrap().is_empty());
            assert!(!Path::new(&given.path).exists());
        }

        let secret = root.path().join("secret").display().to_string();
        std::os::unix::fs::symlink(&secret, node.work().join("link")).unwrap();
        for path in [secret.as_str(), "link", "../../secret", "missing", ""] {
            assert!(take(path.to_owned()).is_err(), "{path}");
            assert!(give(path.to_owned()).is_err(), "{path}");
        }
        let up = pipeline.inputs_path().join("../../../secret");
        assert!(give(up.display().to_string()).is_err());
        let forget = NodeRequest {
            forget: vec![secret.clone()],
            ..NodeRequest::default()
        };
        assert!(carry(forget).is_err() && Path::new(&secret).exists());
    }

    #[test]
    fn no_more_is_taken_than_may_be() {
        let root = tempfile::tempdir().unwrap();
        let (pipeline, node) = (
            host(&root.path().join("pipeline")),
            host(&root.path().join("node")),
        );
        let own = OwnFiles::Hosted(pipeline.files());
        let carrier = Carrier::new(10);
        let take = |name: &str, size: usize| {
            fs::write(node.work().join(name), vec![b'x'; size]).unwrap();
            let request = NodeRequest {
                take: vec![name.to_owned()],
                ..NodeRequest::default()
            };
            carrier.carry(&request, &own, &node.files())
        };
        assert_eq!(take("a", 6).unwrap()[0].size, 6);
        let error = take("b", 5).unwrap_err().to_string();
        assert!(
            error.contains("\"b\" has 5 bytes") && error.contains("10 in all"),
            "{error}"
        );
        assert_eq!(
            take("c", 4).unwrap()[0].size,
            4,
            "what was refused does not count"
        );
        assert!(take("d", 1).is_err());
        assert_eq!(take("e", 0).unwrap()[0].size, 0);
    }
}
