//! A loaded file or folder and its life cycle.

use serde::{Deserialize, Serialize};

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
}
