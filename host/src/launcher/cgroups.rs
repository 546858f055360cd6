//! The control groups of hosts: memory and processes of all hosts of a runner together, so that the machine and
//! the runner itself go on whatever they do.
//!
//! The launcher enters them once, and all that it starts is in them by birth: to enter one takes the kernel
//! about ten milliseconds, more than all else at the start of a host. Both versions are known; which one a
//! machine has, and where its own group lies, is read and not assumed.

use std::fs;
use std::path::{Path, PathBuf};

/// Beginning of the name of a group; then comes the pid of its launcher.
const PREFIX: &str = "runner-hosts-";
/// Processes and threads of all hosts together.
const PROCESSES: u64 = 16_384;

/// The groups of one launcher.
#[derive(Debug, Default)]
pub(super) struct Groups {
    version: u8,
    memory: u64,
    folders: Vec<PathBuf>,
    /// Processes that were ended for want of memory, as far as is known.
    ended: u64,
}

impl std::fmt::Display for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "control groups v{} (all hosts together: {} MiB of memory, {PROCESSES} processes)",
            self.version,
            self.memory >> 20
        )
    }
}

impl Groups {
    /// Makes them. `memory` is in bytes; 0 is three quarters of what the machine has.
    pub(super) fn make(memory: u64) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|e| format!("none here: {e}"))?;
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let memory = match memory {
            0 => machine_memory() / 4 * 3,
            asked => asked,
        };
        let places = places(&own, &mounts)?;
        let mut groups = Self {
            version: places.version,
            memory,
            ..Self::default()
        };
        let limits = match places.version {
            2 => [("memory.max", memory), ("pids.max", PROCESSES)],
            _ => [("memory.limit_in_bytes", memory), ("pids.max", PROCESSES)],
        };
        for folder in places.folders {
            sweep(&folder);
            let group = folder.join(format!("{PREFIX}{}", std::process::id()));
            if let Err(error) = fs::create_dir(&group) {
                groups.remove();
                return Err(format!("{} cannot be made: {error}", group.display()));
            }
            groups.folders.push(group);
        }
        for (file, value) in limits {
            let found = groups.folders.iter().map(|folder| folder.join(file));
            let Some(path) = found.into_iter().find(|path| path.exists()) else {
                groups.remove();
                return Err(format!("no group of ours has a {file}"));
            };
            if let Err(error) = fs::write(&path, value.to_string()) {
                groups.remove();
                return Err(format!("{} cannot be set: {error}", path.display()));
            }
        }
        Ok(groups)
    }

    /// Enters them.
    pub(super) fn join(&self) -> Result<(), String> {
        for folder in &self.folders {
            fs::write(folder.join("cgroup.procs"), "0")
                .map_err(|error| format!("{} cannot be entered: {error}", folder.display()))?;
        }
        Ok(())
    }

    pub(super) fn folders(&self) -> Vec<PathBuf> {
        self.folders.clone()
    }

    /// Whether a process was ended for want of memory since this was last asked.
    pub(super) fn had_no_memory(&mut self) -> bool {
        let files = ["memory.events", "memory.oom_control"];
        let said = self.folders.iter().flat_map(|folder| {
            files
                .iter()
                .filter_map(|file| fs::read_to_string(folder.join(file)).ok())
        });
        let ended: u64 = said.filter_map(|text| kills(&text)).sum();
        let is_more = ended > self.ended;
        self.ended = ended;
        is_more
    }

    fn remove(&mut self) {
        remove(&self.folders);
        self.folders.clear();
    }
}

/// Removes groups in which nobody is any more.
pub(super) fn remove(folders: &[PathBuf]) {
    for folder in folders {
        let _ = fs::remove_dir(folder);
    }
}

/// Removes what launchers left that were killed. A group with somebody in it cannot be removed.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Where groups can be made.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    version: u8,
    folders: Vec<PathBuf>,
}

/// From `/proc/self/cgroup` and `/proc/self/mounts`: below the own group in version 1; in version 2, where a
/// group with processes can have no groups with limits in it, at the root.
fn places(own: &str, mounts: &str) -> Result<Places, String> {
    let mounted = |kind: &str, controller: Option<&str>| {
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (path, found, options) = (fields.next()?, fields.next()?, fields.next()?);
            let fits = controller.is_none_or(|one| options.split(',').any(|option| option == one));
            (found == kind && fits).then(|| PathBuf::from(path))
        })
    };
    let mut folders = Vec::new();
    for controller in ["memory", "pids"] {
        let Some(root) = mounted("cgroup", Some(controller)) else {
            continue;
        };
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let is_it = controllers.split(',').any(|one| one == controller);
            is_it.then(|| fields.next().unwrap_or("/"))
        });
        let relative = path.unwrap_or("/").trim_start_matches('/');
        // In a container the path may be that outside of it.
        let folder = Some(root.join(relative))
            .filter(|folder| folder.exists())
            .unwrap_or(root);
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    if folders.len() == 2 {
        return Ok(Places {
            version: 1,
            folders,
        });
    }
    let root = mounted("cgroup2", None).ok_or("none are mounted")?;
    let enabled = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    let has = |controller: &str| enabled.split_whitespace().any(|one| one == controller);
    match has("memory") && has("pids") {
        true => Ok(Places {
            version: 2,
            folders: vec![root],
        }),
        false => Err(format!(
            "{} has no memory and pids for groups in it",
            root.display()
        )),
    }
}

/// The number of processes that were ended, in `memory.events` or `memory.oom_control`.
fn kills(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Bytes.
fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(4 << 20) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("memory/box")).unwrap();
        fs::create_dir_all(at("pids")).unwrap();
        fs::create_dir_all(at("unified")).unwrap();
        let mounts = |kinds: &[(&str, &str, &str)]| {
            let line = |(name, kind, options): &(&str, &str, &str)| {
                format!("x {} {kind} rw,{options} 0 0\n", at(name).display())
            };
            kinds.iter().map(line).collect::<String>()
        };
        let first = mounts(&[
            ("memory", "cgroup", "memory"),
            ("pids", "cgroup", "pids"),
            ("unified", "cgroup2", "relatime"),
        ]);
        let own = "8:pids:/elsewhere\n4:memory:/box\n0::/\n";
        let expected = Places {
            version: 1,
            folders: vec![at("memory/box"), at("pids")],
        };
        assert_eq!(places(own, &first), Ok(expected));
        let second = mounts(&[("unified", "cgroup2", "relatime")]);
        assert!(places("0::/\n", &second).is_err());
        fs::write(at("unified/cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        assert_eq!(places("0::/\n", &second).unwrap().version, 2);
        assert_eq!(kills("low 0\noom 3\noom_kill 2\n"), Some(2));
        assert_eq!(kills("under_oom 0\n"), None);
    }
}
