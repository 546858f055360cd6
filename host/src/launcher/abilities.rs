//! What a machine lets the launcher confine hosts with, found out by trying, once at its start.

use runner_core::module::Confinement;
use serde::{Deserialize, Serialize};

use super::namespaces::Way;
use super::wire::HostCommand;

/// How hosts are to be confined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// How much of the sandbox is used.
    pub mode: SandboxMode,
    /// The account of hosts where the runner is root.
    pub uid: u32,
    /// Bytes of memory of all hosts together; 0 is three quarters of the machine's.
    pub memory: u64,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            mode: SandboxMode::Auto,
            uid: 65533,
            memory: 0,
        }
    }
}

/// How much of the sandbox is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxMode {
    /// All that the machine allows.
    #[default]
    Auto,
    /// The first three levels, or no host is started.
    Full,
    /// What every machine allows: no name spaces and no control groups.
    Basic,
}

/// What can be used, or why not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Abilities {
    /// The version of Landlock; 0 is none.
    pub(crate) landlock: i64,
    pub(crate) seccomp: bool,
    /// How hosts get name spaces.
    pub(crate) way: Way,
    /// Why they get none.
    pub(crate) no_namespaces: String,
    /// The control groups of hosts, for people.
    pub(crate) cgroup: Result<String, String>,
    /// Their folders.
    pub(crate) cgroup_folders: Vec<std::path::PathBuf>,
}

impl Default for Abilities {
    fn default() -> Self {
        let other = "this system has none that the runner knows";
        Self {
            landlock: 0,
            seccomp: false,
            way: Way::None,
            no_namespaces: other.to_owned(),
            cgroup: Err(other.to_owned()),
            cgroup_folders: Vec::new(),
        }
    }
}

/// Since this version Landlock keeps signals and abstract sockets to the sandbox.
const SCOPES: i64 = 6;

impl Abilities {
    /// How a host is confined with all that there is.
    pub(crate) fn confinement(
        &self,
        network: bool,
        is_on_disk: bool,
        disk: Option<u64>,
    ) -> Confinement {
        let mut made = Confinement::default();
        let mut say = |is_there: bool, layer: String, without: String| match is_there {
            true => made.layers.push(layer),
            false => made.missing.push(without),
        };
        say(true, "rlimits".to_owned(), String::new());
        say(
            cfg!(target_os = "linux"),
            "no capabilities, no_new_privs".to_owned(),
            "giving up capabilities".to_owned(),
        );
        say(
            self.seccomp,
            "seccomp".to_owned(),
            "seccomp (any system call)".to_owned(),
        );
        say(
            self.landlock > 0,
            format!("Landlock (ABI {})", self.landlock),
            "Landlock: this kernel has none (5.13 or newer, with landlock in its list of LSMs)"
                .to_owned(),
        );
        let has_spaces = self.way != Way::None;
        say(
            has_spaces,
            "namespaces with a root of its own".to_owned(),
            format!("namespaces: {}", self.no_namespaces),
        );
        match (network, has_spaces) {
            (true, _) => say(
                true,
                "with network, as its manifest asks".to_owned(),
                String::new(),
            ),
            (false, true) => say(true, "no network".to_owned(), String::new()),
            (false, false) => say(
                self.seccomp,
                "no network sockets".to_owned(),
                "a closed network".to_owned(),
            ),
        }
        if let Some(disk) = disk {
            let place = match has_spaces && !is_on_disk {
                true => "in memory, limited by its file system",
                false => "on the disk, watched",
            };
            say(
                true,
                format!("folder of {} MiB {place}", disk >> 20),
                String::new(),
            );
        }
        match &self.cgroup {
            Ok(group) => say(true, group.clone(), String::new()),
            Err(why) => say(false, String::new(), format!("control groups: {why}")),
        }
        if self.landlock > 0 && self.landlock < SCOPES && !has_spaces {
            say(
                false,
                String::new(),
                "a wall between it and processes of the same account".to_owned(),
            );
        }
        let levels = [
            ("L1", self.seccomp && self.landlock > 0),
            ("L2", has_spaces),
            ("L3", has_spaces && !network),
            ("L4", self.cgroup.is_ok()),
        ];
        made.levels = levels
            .iter()
            .filter(|(_, is_there)| *is_there)
            .map(|(level, _)| (*level).to_owned())
            .collect();
        made
    }

    /// How this host is confined.
    pub(crate) fn confinement_of(&self, command: &HostCommand) -> Confinement {
        let limits = &command.limits;
        self.confinement(command.network, limits.on_disk == Some(true), limits.disk)
    }

    /// What is missing of the first three levels: the fourth needs rights that few accounts have.
    pub(crate) fn lacks(&self) -> Option<String> {
        let made = self.confinement(false, false, None);
        let is_whole = ["L1", "L2", "L3"]
            .iter()
            .all(|level| made.levels.iter().any(|one| one == level));
        (!is_whole).then(|| made.missing.join("; "))
    }
}
