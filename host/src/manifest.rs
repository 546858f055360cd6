//! `plugin.toml`: what the folder of a module says about itself.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::HostError;
use crate::launcher::Limits;

/// The name of the file.
pub const FILE: &str = "plugin.toml";

/// All keys are optional; unknown ones are refused, so that a typing error is found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manifest {
    /// Instance name; the folder's if absent.
    pub name: Option<String>,
    /// Loader, instead of choosing by magic number and extension.
    pub loader: Option<String>,
    /// The file to load, relative to the folder.
    pub entry: Option<String>,
    /// Handed to the module in `welcome`.
    pub args: Vec<serde_json::Value>,
    /// Added to the environment of its hosts.
    pub environment: BTreeMap<String, String>,
    /// `host` (the default) or `process`.
    pub isolation: Isolation,
    /// Seconds that a run may take, instead of the runner's limit.
    pub timeout: Option<f64>,
    /// Hosts that may live at once.
    pub max_hosts: Option<usize>,
    /// Runs after which a host is replaced.
    pub max_runs: Option<u64>,
    /// Resource limits of its hosts.
    pub limits: Limits,
}

/// What separates two runs of one module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A living host takes one run after the other.
    #[default]
    Host,
    /// Every run has a process of its own.
    Process,
}

impl Manifest {
    /// Reads the manifest of a folder; the default where it has none.
    ///
    /// # Errors
    /// The file cannot be read, or line and column of what is wrong in it.
    pub fn read(folder: &Path) -> Result<Self, HostError> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(HostError::file("read", path)(error)),
        };
        let manifest: Self = toml::from_str(&text).map_err(|error| {
            HostError::Module(format!("{}: {}", path.display(), error.to_string().trim()))
        })?;
        if let Some(entry) = &manifest.entry {
            let path = Path::new(entry);
            let is_plain = path
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !is_plain {
                return Err(HostError::Module(format!(
                    "{}: entry {entry:?} must be a path inside the folder",
                    folder.join(FILE).display()
                )));
            }
        }
        Ok(manifest)
    }
}
