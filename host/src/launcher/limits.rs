//! Resource limits of a host.

use serde::{Deserialize, Serialize};

use super::namespaces::Counted;

/// What a host may use; `None` is what the settings say, and there what the runner itself has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of the largest file it may write.
    pub file_size: Option<u64>,
    /// Open descriptors.
    pub open_files: Option<u64>,
    /// Processes and threads: of the host in a name space of its own, else of the runner's account (where that
    /// is root's, they are not counted).
    pub processes: Option<u64>,
    /// Seconds of processor time over the host's whole life.
    pub cpu_seconds: Option<u64>,
    /// Bytes of private memory, each of its processes.
    pub memory: Option<u64>,
    /// Bytes of the files in its folder.
    pub disk: Option<u64>,
    /// Files and folders in its folder.
    pub files: Option<u64>,
    /// Whether its folder lies on the disk and not in memory, where it could.
    pub on_disk: Option<bool>,
}

impl Limits {
    /// What is not said here is taken from there.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            file_size: self.file_size.or(other.file_size),
            open_files: self.open_files.or(other.open_files),
            processes: self.processes.or(other.processes),
            cpu_seconds: self.cpu_seconds.or(other.cpu_seconds),
            memory: self.memory.or(other.memory),
            disk: self.disk.or(other.disk),
            files: self.files.or(other.files),
            on_disk: self.on_disk.or(other.on_disk),
        }
    }
}

/// Processes that an account may have at least, where those of a host are counted with all others.
const ACCOUNT: u64 = 4096;

/// Sets the limits on the calling process, soft and hard.
///
/// # Errors
/// The limit that could not be set.
pub(super) fn limit(limits: &Limits, counted: Counted) -> Result<(), String> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let processes = match counted {
        Counted::Alone => limits.processes,
        Counted::WithAccount => limits.processes.map(|most| most.max(ACCOUNT)),
        Counted::Never => None,
    };
    let wanted = [
        (Resource::RLIMIT_CORE, Some(0), 0),
        (Resource::RLIMIT_FSIZE, limits.file_size, 0),
        (Resource::RLIMIT_NOFILE, limits.open_files, 0),
        (Resource::RLIMIT_NPROC, processes, 0),
        // Not RLIMIT_AS: runtimes that compile while they run reserve much and use little of it.
        (Resource::RLIMIT_DATA, limits.memory, 0),
        // At the soft limit comes SIGXCPU, which says why; at the hard one SIGKILL.
        (Resource::RLIMIT_CPU, limits.cpu_seconds, 1),
    ];
    for (resource, value, beyond) in wanted {
        let Some(value) = value else { continue };
        let (_, hard) =
            getrlimit(resource).map_err(|e| format!("cannot read {resource:?}: {e}"))?;
        let most = value.saturating_add(beyond).min(hard);
        let value = value.min(hard);
        setrlimit(resource, value, most)
            .map_err(|e| format!("cannot set {resource:?} to {value}: {e}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_before_the_settings() {
        let own = Limits {
            memory: Some(1),
            ..Limits::default()
        };
        let settings = Limits {
            memory: Some(2),
            files: Some(3),
            ..Limits::default()
        };
        let both = own.or(&settings);
        assert_eq!(
            (both.memory, both.files, both.disk),
            (Some(1), Some(3), None)
        );
    }
}
