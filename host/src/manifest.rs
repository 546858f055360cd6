//! `plugin.toml`: what the folder of a module says about itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use runner_core::plugin::{Description, ScheduleDescription};
use runner_core::task::{MAX_RETRIES, Priority};
use serde::{Deserialize, Serialize};

use crate::HostError;
use crate::launcher::Limits;

/// The name of the file.
pub const FILE: &str = "plugin.toml";

/// The least memory that a Lua or WebAssembly module can be given, in bytes.
const MIN_MEMORY: u64 = 64 << 10;

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
    /// Packages that a Python module needs, as PEP 508 writes them; beside those of `requirements.txt`,
    /// `pyproject.toml` and its source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    /// `host` (the default) or `process`.
    pub isolation: Isolation,
    /// Seconds that a run may take, instead of the runner's limit.
    pub timeout: Option<f64>,
    /// How often a task is run again when the plugin fails; 0 if absent.
    pub retries: Option<u32>,
    /// Whether a run that was lost with its worker or host may be done once more; `true` if absent.
    pub repeatable: Option<bool>,
    /// Runs of its plugins at a time, over all workers.
    pub concurrency: Option<u32>,
    /// Before whom its tasks are run, where the request does not say it: `low`, `normal` or `high`.
    pub priority: Option<Priority>,
    /// Hosts that may live at once.
    pub max_hosts: Option<usize>,
    /// Runs after which a host is replaced.
    pub max_runs: Option<u64>,
    /// Resource limits of its hosts.
    pub limits: Limits,
    /// Work that comes again, by the name of the plugin that does it; beside what the plugin declares itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<String, Vec<ScheduleDescription>>,
    /// Names of modules that must be running, or of what they provide; they are loaded before.
    pub requires: Vec<String>,
    /// Names of modules that are loaded before, where they are there.
    pub after: Vec<String>,
    /// More names under which others require it. Of several modules that provide one, only one is loaded.
    pub provides: Vec<String>,
    /// Which one: that with the highest. 100 if absent.
    pub load_priority: Option<i64>,
    /// Variables of the environment without which it is not loaded.
    #[serde(alias = "needs-env")]
    pub needs_env: Vec<String>,
    /// What its hosts may do that others may not.
    pub permissions: Permissions,
    /// Limits of what is interpreted in its hosts: Lua and WebAssembly.
    pub guest: GuestLimits,
}

/// What a module asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Permissions {
    /// To use the network. Whatever a plugin downloads by the runner needs no permission.
    pub network: bool,
}

/// Which modules may use the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkRule {
    /// Those whose manifest asks for it.
    #[default]
    Asked,
    /// All.
    All,
    /// None.
    Nobody,
}

impl NetworkRule {
    /// Whether a module may.
    pub fn allows(self, asked: Permissions) -> bool {
        match self {
            Self::Asked => asked.network,
            Self::All => true,
            Self::Nobody => false,
        }
    }
}

/// Limits of a Lua or WebAssembly module inside of its host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestLimits {
    /// Bytes of memory that a run may use; 256 MiB if absent.
    pub memory: Option<u64>,
    /// Instructions that a run may take; as many as the time allows if absent. For Lua only.
    pub instructions: Option<u64>,
}

impl GuestLimits {
    /// Bytes of memory that a run may use.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(256 << 20)
    }
}

/// What a manifest says about runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunRules {
    /// How long one may take, instead of the runner's limit.
    pub timeout: Option<Duration>,
    /// How often a task is run again when the plugin fails.
    pub retries: u32,
    /// Whether a run that was lost may be done once more.
    pub repeatable: bool,
    /// Runs at a time, over all workers; `None` is no limit.
    pub concurrency: Option<u32>,
    /// Before whom its tasks are run.
    pub priority: Priority,
}

impl Default for RunRules {
    fn default() -> Self {
        Manifest::default().run_rules()
    }
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
        manifest
            .check()
            .map_err(|problem| HostError::Module(format!("{}: {problem}", path.display())))?;
        Ok(manifest)
    }

    /// What it says about runs.
    pub fn run_rules(&self) -> RunRules {
        RunRules {
            timeout: self
                .timeout
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            retries: self.retries.unwrap_or(0),
            repeatable: self.repeatable.unwrap_or(true),
            concurrency: self.concurrency,
            priority: self.priority.unwrap_or_default(),
        }
    }

    /// Adds the schedules to the plugins that do the work.
    ///
    /// # Errors
    /// There is no plugin of a name.
    pub fn declare(&self, description: &mut Description) -> Result<(), HostError> {
        for (name, schedules) in &self.schedules {
            let plugins = &mut description.plugins;
            let Some(plugin) = plugins.iter_mut().find(|plugin| plugin.name == *name) else {
                return Err(HostError::Module(format!(
                    "{FILE} has schedules for {name:?}, and no plugin of the module has that name"
                )));
            };
            plugin.schedules.extend(schedules.iter().cloned());
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.concurrency == Some(0) {
            return Err("concurrency is 0, so nothing would ever run".to_owned());
        }
        if self.priority == Some(Priority::Called) {
            return Err("priority is \"called\"; expected low, normal or high".to_owned());
        }
        if let Some(memory) = self.guest.memory.filter(|memory| *memory < MIN_MEMORY) {
            return Err(format!(
                "guest.memory is {memory} bytes; expected at least {MIN_MEMORY}"
            ));
        }
        if self.guest.instructions == Some(0) {
            return Err("guest.instructions is 0, so nothing would ever run".to_owned());
        }
        match self.retries {
            Some(retries) if retries > MAX_RETRIES => {
                Err(format!("retries is {retries}; the limit is {MAX_RETRIES}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RunRules, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let manifest = Manifest::read(folder.path()).map_err(|error| error.to_string())?;
        Ok(manifest.run_rules())
    }

    #[test]
    fn schedules_go_to_the_plugin_of_their_name() {
        let manifest: Manifest = toml::from_str(
            "[[schedules.clean-up]]\ncron = \"0 3 * * *\"\ntime_zone = \"Europe/Berlin\"\n\
             parameters = {n = 1}\n[[schedules.clean-up]]\nname = \"b\"\nevery = \"15m\"",
        )
        .unwrap();
        let describe = |name: &str| -> Description {
            serde_json::from_value(serde_json::json!({"plugins": [{"name": name, "version": "1"}]}))
                .unwrap()
        };
        let mut description = describe("clean-up");
        manifest.declare(&mut description).unwrap();
        let schedules = &description.plugins[0].schedules;
        assert_eq!(schedules.len(), 2);
        assert_eq!(schedules[0].time_zone, "Europe/Berlin");
        let error = manifest.declare(&mut describe("other")).unwrap_err();
        assert!(error.to_string().contains("clean-up"), "{error}");
        for wrong in [
            "[[schedules.a]]\ncrom = \"x\"",
            "[[schedules.a]]\noverlap = \"x\"",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rules_of_runs_have_defaults_and_limits() {
        let rules = read("").unwrap();
        assert_eq!((rules.retries, rules.repeatable), (0, true));
        let rules =
            read("retries = 3\nrepeatable = false\nconcurrency = 2\npriority = \"low\"").unwrap();
        assert_eq!(
            (rules.retries, rules.repeatable, rules.concurrency),
            (3, false, Some(2))
        );
        assert_eq!(rules.priority, Priority::Low);
        for (text, problem) in [
            ("concurrency = 0", "nothing would ever run"),
            ("priority = \"called\"", "expected low, normal or high"),
            ("retries = 101", "the limit is 100"),
            ("retries = -1", "plugin.toml"),
            ("[guest]\nmemory = 100", "expected at least 65536"),
            ("[guest]\ninstructions = 0", "nothing would ever run"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(problem), "{refused}");
        }
    }
}
