//! The folder of environments, which several processes may share.
//!
//! Beside `<digest>/` lies `<digest>.lock`: who makes or removes the environment holds it alone, who uses it
//! shares it for as long as the process lives. Its time is that of the last use.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::HostError;

/// How often a lock is tried that another process holds.
const PAUSE: Duration = Duration::from_millis(100);
/// Ends the names of locks.
const LOCK: &str = "lock";

/// A lock on an environment.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// With others who use it.
    Shared,
    /// By nobody else.
    Alone,
}

impl Lock {
    /// Takes the lock of an environment. `waits` is called once if another process holds it.
    pub(super) async fn take(
        folder: &Path,
        digest: &str,
        hold: Hold,
        waits: impl FnOnce(),
    ) -> Result<Self, HostError> {
        let mut waits = Some(waits);
        loop {
            if let Some(lock) = Self::try_take(folder, digest, hold)? {
                return Ok(lock);
            }
            if let Some(waits) = waits.take() {
                waits();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes the lock, unless another process holds it.
    fn try_take(folder: &Path, digest: &str, hold: Hold) -> Result<Option<Self>, HostError> {
        let path = folder.join(digest).with_extension(LOCK);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(HostError::file("open", &path))?;
        let taken = match hold {
            Hold::Shared => file.try_lock_shared(),
            Hold::Alone => file.try_lock(),
        };
        match taken {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(HostError::file("lock", &path)(error)),
        }
        // It may have been removed, with its environment, since it was opened.
        let is_same = |here: &fs::Metadata, there: &fs::Metadata| {
            (here.dev(), here.ino()) == (there.dev(), there.ino())
        };
        let is_there = match (file.metadata(), fs::metadata(&path)) {
            (Ok(here), Ok(there)) => is_same(&here, &there),
            _ => false,
        };
        Ok(is_there.then_some(Self { file, path }))
    }

    /// The environment is used now.
    pub(super) fn touch(&self) {
        // Who cannot, keeps the time of another use.
        let _ = self.file.set_modified(SystemTime::now());
    }
}

/// Where an environment is made, before it has its name.
pub(super) fn draft(folder: &Path, digest: &str) -> PathBuf {
    folder.join(format!(".{digest}-{}", uuid::Uuid::new_v4().simple()))
}

/// Removes what was left by those who wanted to make an environment and did not come to an end. The lock is held.
pub(super) fn remove_drafts(folder: &Path, digest: &str) {
    let begin = format!(".{digest}-");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&begin) {
            // What stays is tried again by the next one.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes the environments that are not `kept`, that no process uses, and that were not used for so long. Answers
/// their digests.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn prune(
    folder: &Path,
    kept: &BTreeSet<String>,
    unused: Duration,
) -> Result<Vec<String>, HostError> {
    let mut digests = BTreeSet::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(HostError::file("read", folder)(error)),
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = name.trim_start_matches('.');
        let digest = name.split(['.', '-']).next().unwrap_or(name);
        if digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            digests.insert(digest.to_owned());
        }
    }
    let mut removed = Vec::new();
    for digest in digests.difference(kept) {
        let used =
            fs::metadata(folder.join(digest).with_extension(LOCK)).and_then(|data| data.modified());
        let age = used.map_or(Duration::MAX, |at| at.elapsed().unwrap_or_default());
        if age < unused {
            continue;
        }
        let Ok(Some(lock)) = Lock::try_take(folder, digest, Hold::Alone) else {
            continue;
        };
        remove_drafts(folder, digest);
        let (path, gone) = (folder.join(digest), draft(folder, digest));
        let is_gone = fs::rename(&path, &gone).and_then(|()| fs::remove_dir_all(&gone));
        match is_gone {
            Ok(()) => removed.push(digest.clone()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!("cannot remove the environment {}: {error}", path.display());
                continue;
            }
        }
        let _ = fs::remove_file(&lock.path);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "00000000000000000000000000000001";
    const USED: &str = "00000000000000000000000000000002";
    const KEPT: &str = "00000000000000000000000000000003";

    #[tokio::test]
    async fn what_nobody_needs_or_uses_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for digest in [OLD, USED, KEPT] {
            fs::create_dir(root.join(digest)).unwrap();
        }
        fs::create_dir(draft(root, OLD)).unwrap();
        fs::create_dir(root.join("of-somebody-else")).unwrap();
        let used = Lock::take(root, USED, Hold::Shared, || {}).await.unwrap();
        let old = Lock::take(root, OLD, Hold::Shared, || {}).await.unwrap();
        old.touch();
        drop(old);
        let kept = BTreeSet::from([KEPT.to_owned()]);
        let month = Duration::from_secs(30 * 86_400);
        assert!(prune(root, &kept, month).unwrap().is_empty());
        assert_eq!(prune(root, &kept, Duration::ZERO).unwrap(), [OLD]);
        let mut left: Vec<_> = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                USED.to_owned(),
                format!("{USED}.lock"),
                KEPT.to_owned(),
                "of-somebody-else".to_owned()
            ]
        );
        drop(used);
        assert_eq!(prune(root, &kept, Duration::ZERO).unwrap(), [USED]);
    }

    #[tokio::test]
    async fn who_makes_it_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let alone = Lock::take(root, OLD, Hold::Alone, || {}).await.unwrap();
        let (say, said) = tokio::sync::oneshot::channel();
        let waiting = Lock::take(root, OLD, Hold::Shared, move || say.send(()).unwrap());
        let release = async {
            said.await.unwrap();
            drop(alone);
        };
        let (taken, ()) = tokio::join!(waiting, release);
        let _shared = taken.unwrap();
        let again = Lock::take(root, OLD, Hold::Shared, || {}).await;
        assert!(again.is_ok());
    }
}
