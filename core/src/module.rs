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
    /// Why it is EXITED or FINALIZING.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Identifiers of the plugins it provides.
    pub plugins: Vec<String>,
    /// How its hosts are confined on this machine.
    pub sandbox: String,
}
