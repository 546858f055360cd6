//! A loaded file or folder and its life cycle.

use serde::{Deserialize, Serialize};

/// The longest name that a module can be given, in bytes.
pub const MAX_NAME: usize = 100;

/// Why a module cannot be given a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the module name {0:?} is not usable: expected 1 to {MAX_NAME} letters, digits, spaces or ._- characters, not \
     beginning with a dot"
)]
pub struct NameError(pub String);

/// Whether a module can be given this name. It stands in URLs, and plugins without a name of their own take it.
///
/// # Errors
/// It is empty, too long, or has a character that it cannot have.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let usable = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-');
    let is_plain = !name.trim().is_empty() && name.chars().all(usable);
    match is_plain && name.len() <= MAX_NAME && !name.starts_with('.') {
        true => Ok(()),
        false => Err(NameError(name.chars().take(MAX_NAME).collect())),
    }
}

/// Where a module is in its life. FINALIZING and EXITED keep the reason beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ModuleState {
    /// Found; being read and described.
    Init,
    /// Its plugins can be used.
    Running,
    /// Takes no new runs; those in progress end.
    Finalizing,
    /// Not loaded, or no longer; the reason says why.
    Exited,
}

/// How a host is really confined, which may be less than was asked for: `docs/sandbox.md` says what the levels
/// are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Those in force, of `L1` to `L4`.
    pub levels: Vec<String>,
    /// What confines it, for people.
    pub layers: Vec<String>,
    /// What does not, and why.
    pub missing: Vec<String>,
}

impl std::fmt::Display for ModuleState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ModuleState {
    /// As it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Running => "RUNNING",
            Self::Finalizing => "FINALIZING",
            Self::Exited => "EXITED",
        }
    }
}

impl std::fmt::Display for Confinement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.levels.is_empty() {
            true => write!(f, "no sandbox")?,
            false => write!(f, "{}", self.levels.join("+"))?,
        }
        if !self.layers.is_empty() {
            write!(f, ": {}", self.layers.join(", "))?;
        }
        if !self.missing.is_empty() {
            write!(f, "; without {}", self.missing.join("; without "))?;
        }
        Ok(())
    }
}

/// A living host of a module, as administrators see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// Its process.
    pub pid: i32,
    /// The task that it runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<i64>,
    /// Bytes of it that are in memory; 0 where that is not known.
    pub resident: u64,
    /// How it is confined.
    pub sandbox: Confinement,
}

/// What is known about a module: the row that administrators see.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleStatus {
    /// Instance name, unique in a runner.
    pub name: String,
    /// Where it was found.
    pub path: String,
    /// The kind of module: `python`, `native`, `process`.
    pub loader: String,
    /// SHA-256 of the file or folder, hexadecimal; empty until it was read.
    pub sha256: String,
    /// Bytes of the file, or of the files of the folder.
    pub size: u64,
    /// One per load.
    pub uuid: String,
    /// State in its life cycle.
    pub state: ModuleState,
    /// Why it is EXITED or FINALIZING, or has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is done while it is INIT, if that takes a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    /// The virtual environment with its packages, if it needs any: its folder in `environments/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Identifiers of the plugins it provides.
    pub plugins: Vec<String>,
    /// How hosts are confined on this machine.
    pub sandbox: String,
    /// Whether its hosts failed so often that no more are started for a while; the reason says more.
    pub failed: bool,
    /// Who put it here.
    pub origin: Origin,
    /// What its hosts are handed in `welcome`.
    pub args: Vec<serde_json::Value>,
    /// Whole seconds since it last had something to do; `None` if it never had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u64>,
    /// Why its newer version was not taken, the last time that one was to be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Who put a module into the runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It lies in a plugin folder, or was fetched.
    #[default]
    Folder,
    /// An administrator loaded it.
    Administrator,
}

/// What the runs and processes of a module came to, since its load or since the counters were last set to zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleStats {
    /// Runs that the plugin brought to a good end.
    pub succeeded: u64,
    /// Runs that the plugin failed.
    pub failed: u64,
    /// Runs that were cancelled.
    pub cancelled: u64,
    /// Runs that took too long.
    pub timed_out: u64,
    /// Runs whose host ended, or spoke nonsense.
    pub lost: u64,
    /// Milliseconds that hosts were at work on runs, summed.
    pub busy_ms: u64,
    /// Requests to routes of its own.
    pub visits: u64,
    /// Hosts that were started.
    pub hosts_started: u64,
    /// Hosts that could not be started.
    pub hosts_failed: u64,
}

/// What a process and all that it started have used, as getrusage(2) would tell it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostUsage {
    /// The host.
    pub pid: i32,
    /// Seconds of processor time in user mode.
    pub user_seconds: f64,
    /// Seconds of processor time in the kernel.
    pub system_seconds: f64,
    /// Bytes that are in memory now.
    pub resident: u64,
    /// Processes.
    pub processes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_stand_in_a_url_are_refused() {
        for name in ["a", "a b.c_d-1", "größe", &"x".repeat(MAX_NAME)] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
        for name in [
            "",
            " ",
            ".",
            "..",
            ".a",
            "a/b",
            "a\nb",
            "a\u{0}",
            "a\u{1b}[1m",
            "a?b",
            &"x".repeat(MAX_NAME + 1),
        ] {
            let error = check_name(name).unwrap_err();
            assert!(error.to_string().contains("is not usable"), "{error}");
        }
    }
}
