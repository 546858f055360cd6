//! The folders of a process in an instance folder that several processes may share.
//!
//! Locks say what is in use, since they end with the process that holds them: an exclusive one on the folder
//! of a process's hosts, a shared one on the copies of modules.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::HostError;

/// The folders that modules work with.
#[derive(Debug)]
pub(crate) struct Folders {
    /// The folders of this process's hosts.
    pub(crate) hosts: PathBuf,
    /// Where the roots of hosts are mounted, each in a name space of its own; empty to all others.
    pub(crate) root: PathBuf,
    /// The copies of modules, by digest.
    pub(crate) modules: PathBuf,
    /// The embedded SDKs, by digest.
    pub(crate) sdk: PathBuf,
    /// Locked while this process lives.
    _own_hosts: File,
    /// Locked by all who use copies of modules.
    all_modules: File,
}

impl Folders {
    /// Makes the folders, and removes those of hosts whose process is gone.
    pub(crate) fn make(instance: &Path) -> Result<Self, HostError> {
        let made = |name: &str| {
            let path = instance.join(name);
            fs::create_dir_all(&path).map_err(HostError::file("make", &path))?;
            Ok::<_, HostError>(path)
        };
        let (hosts, modules, sdk) = (made("hosts")?, made("modules")?, made("sdk")?);
        let (hosts, own_hosts) = own_hosts(&hosts)?;
        let root = hosts.join("root");
        fs::create_dir(&root).map_err(HostError::file("make", &root))?;
        let all_modules = open(&modules)?;
        all_modules
            .lock_shared()
            .map_err(HostError::file("lock", &modules))?;
        Ok(Self {
            hosts,
            root,
            modules,
            sdk,
            _own_hosts: own_hosts,
            all_modules,
        })
    }

    /// Removes the copies of modules that are not kept, unless other processes use some.
    pub(crate) fn sweep_modules(&self, kept: &HashSet<String>) -> std::io::Result<()> {
        // A lock that cannot be had at once may be lost in the attempt.
        if self.all_modules.try_lock().is_ok() {
            let swept = sweep(&self.modules, kept);
            self.all_modules.lock_shared()?;
            return swept;
        }
        self.all_modules.lock_shared()
    }
}

fn sweep(modules: &Path, kept: &HashSet<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(modules)?.flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|digest| kept.contains(digest)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Makes a folder for this process, after removing those that nobody holds.
fn own_hosts(all: &Path) -> Result<(PathBuf, File), HostError> {
    let everybody = open(all)?;
    // Held for a moment, so that nobody removes a folder between its making and its locking.
    everybody.lock().map_err(HostError::file("lock", all))?;
    for entry in fs::read_dir(all)
        .map_err(HostError::file("read", all))?
        .flatten()
    {
        let path = entry.path();
        let is_held = File::open(&path).is_ok_and(|folder| folder.try_lock().is_err());
        if !is_held {
            // What stays is tried again by the next one.
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
    let name = uuid::Uuid::new_v4().simple().to_string();
    let own = all.join(&name[..8]);
    fs::create_dir(&own).map_err(HostError::file("make", &own))?;
    let lock = open(&own)?;
    lock.lock().map_err(HostError::file("lock", &own))?;
    Ok((own, lock))
}

fn open(folder: &Path) -> Result<File, HostError> {
    File::open(folder).map_err(HostError::file("open", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_left_is_removed_and_what_others_use_is_not() {
        let instance = tempfile::tempdir().unwrap();
        let first = Folders::make(instance.path()).unwrap();
        fs::create_dir_all(first.hosts.join("1/work")).unwrap();
        fs::create_dir_all(first.modules.join("old")).unwrap();
        let second = Folders::make(instance.path()).unwrap();
        assert_ne!(first.hosts, second.hosts);
        assert!(first.hosts.join("1/work").exists());
        second.sweep_modules(&HashSet::new()).unwrap();
        assert!(first.modules.join("old").exists(), "the first may use it");
        let left = first.hosts.clone();
        drop(first);
        second
            .sweep_modules(&HashSet::from(["kept".to_owned()]))
            .unwrap();
        assert!(!second.modules.join("old").exists());
        let third = Folders::make(instance.path()).unwrap();
        assert!(!left.exists() && second.hosts.exists() && third.hosts.exists());
    }
}
