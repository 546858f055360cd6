//! Kernelspecs: which kernels there may be, and how each comes to life.
//!
//! Two are the runner's own. Others are those of Jupyter: a folder with a `kernel.json` below one of its data folders,
//! as far as the settings allow them.

mod places;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::SessionsConfig;
use crate::error::SessionError;
use places::{data_folders, is_name, needed, program};

/// The name of the kernelspec that is meant where none is named.
pub const KERNELSPEC: &str = "python3";
/// The name of that of Lua.
pub const LUA: &str = "lua";
/// Bytes of a `kernel.json`.
const MAX_SPEC: u64 = 16 << 10;
/// Bytes of a file beside it.
const MAX_RESOURCE: u64 = 1 << 20;
/// How long the engine waits beyond the time after which a bridge gives up.
const BEYOND: Duration = Duration::from_secs(5);
/// Of the memory of a session, what its interpreter of Lua may take.
const LUA_SHARE: (u64, u64) = (7, 8);
/// Bytes that a process with an interpreter of Lua may have beyond twice the memory of a session: a block that grows is
/// there twice for a moment, and a process that gets no memory aborts, where an interpreter reports an error.
const LUA_SPARE: u64 = 256 << 20;

/// A kind of kernels.
#[derive(Debug, Clone)]
pub struct Kernelspec {
    /// Its name.
    pub name: String,
    /// Its name for people.
    pub display_name: String,
    /// The language of its cells.
    pub language: String,
    /// How kernels are interrupted.
    pub interrupt_mode: InterruptMode,
    /// The command, as it stands in `kernel.json`; nothing for the runner's own.
    pub argv: Vec<String>,
    /// Variables that it sets.
    pub env: HashMap<String, String>,
    /// What else its author says.
    pub metadata: Map<String, Value>,
    /// Its folder, for those of Jupyter.
    folder: Option<PathBuf>,
    way: Way,
}

/// How a kernel is interrupted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterruptMode {
    /// By SIGINT.
    #[default]
    Signal,
    /// By a message.
    Message,
}

/// How a kernel comes to life.
#[derive(Debug, Clone)]
enum Way {
    /// It is a fork of the zygote.
    Fork,
    /// The runner executes its interpreter of Lua in a fork.
    Lua {
        /// Bytes that a session may take.
        memory: Option<u64>,
    },
    /// A bridge executes its program and speaks ZeroMQ with it.
    Bridge {
        program: Result<PathBuf, String>,
        readable: Vec<PathBuf>,
        patience: Duration,
    },
}

/// What is executed in a fork of the zygote.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) argv: Vec<String>,
    /// What it may read beyond what all kernels may.
    pub(crate) readable: Vec<PathBuf>,
    /// How long it may take to say that it is there.
    pub(crate) patience: Duration,
    /// Bytes of private memory of its process, if they are not those of all kernels.
    pub(crate) memory: Option<u64>,
}

/// What a bridge is told: the argument of `runner kernel-bridge`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeConfig {
    /// The name of the kernelspec.
    pub name: String,
    /// The command; `{connection_file}` stands in it.
    pub argv: Vec<String>,
    /// Variables.
    pub env: HashMap<String, String>,
    /// How the kernel is interrupted.
    pub interrupt_mode: InterruptMode,
    /// Seconds that it may take to answer.
    pub patience: u64,
}

/// What stands in a `kernel.json`.
#[derive(Debug, Deserialize)]
struct Written {
    argv: Vec<String>,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    language: String,
    #[serde(default)]
    env: HashMap<String, String>,
    #[serde(default)]
    interrupt_mode: InterruptMode,
    #[serde(default)]
    metadata: Map<String, Value>,
}

impl Kernelspec {
    fn own(name: &str, display_name: &str, language: &str, way: Way) -> Self {
        Self {
            name: name.to_owned(),
            display_name: display_name.to_owned(),
            language: language.to_owned(),
            interrupt_mode: InterruptMode::Signal,
            argv: Vec::new(),
            env: HashMap::new(),
            metadata: Map::new(),
            folder: None,
            way,
        }
    }

    /// Reads one of Jupyter. `python` is the interpreter of sessions, which commands mean that name none with a path.
    fn read(folder: &Path, name: &str, config: &SessionsConfig) -> Result<Self, String> {
        let path = folder.join("kernel.json");
        let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let size = std::fs::metadata(&path).map_err(failed)?.len();
        if size > MAX_SPEC {
            return Err(format!(
                "{} has {size} bytes; the limit is {MAX_SPEC}",
                path.display()
            ));
        }
        let text = std::fs::read(&path).map_err(failed)?;
        let written: Written = serde_json::from_slice(&text)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let Some(first) = written.argv.first() else {
            return Err(format!("{}: argv is empty", path.display()));
        };
        let program = program(first, &config.python);
        let mut readable = vec![folder.to_owned()];
        if let Ok(program) = &program {
            readable.extend(needed(program));
        }
        Ok(Self {
            name: name.to_owned(),
            display_name: match written.display_name.is_empty() {
                true => name.to_owned(),
                false => written.display_name,
            },
            language: written.language,
            interrupt_mode: written.interrupt_mode,
            argv: written.argv,
            env: written.env,
            metadata: written.metadata,
            folder: Some(folder.to_owned()),
            way: Way::Bridge {
                program,
                readable,
                patience: config.kernel_start,
            },
        })
    }

    /// Whether its kernels are forks as they are, of which some may wait.
    pub(crate) fn is_forked(&self) -> bool {
        matches!(self.way, Way::Fork)
    }

    /// What is executed in a fork, if anything is. `runner` is this program.
    ///
    /// # Errors
    /// Its program is not there.
    pub(crate) fn launch(&self, runner: &Path) -> Result<Option<Launch>, SessionError> {
        let broken = |why: String| SessionError::BrokenSpec {
            name: self.name.clone(),
            why,
        };
        let runner = runner
            .to_str()
            .ok_or_else(|| broken(format!("the path {} is no text", runner.display())))?;
        let launch = match &self.way {
            Way::Fork => return Ok(None),
            Way::Lua { memory } => {
                let mut argv = vec![runner.to_owned(), "lua-kernel".to_owned()];
                if let Some(memory) = memory {
                    let share = memory / LUA_SHARE.1 * LUA_SHARE.0;
                    argv.extend(["--memory".to_owned(), share.to_string()]);
                }
                Launch {
                    argv,
                    readable: Vec::new(),
                    patience: crate::kernel::STARTING,
                    memory: memory.map(|memory| memory.saturating_mul(2).saturating_add(LUA_SPARE)),
                }
            }
            Way::Bridge {
                program,
                readable,
                patience,
            } => {
                let program = program.clone().map_err(broken)?;
                let mut argv = self.argv.clone();
                if let Some(first) = argv.first_mut() {
                    *first = program.to_string_lossy().into_owned();
                }
                let folder = self.folder.as_deref().map(Path::to_string_lossy);
                for word in &mut argv {
                    *word = word.replace("{resource_dir}", &folder.clone().unwrap_or_default());
                }
                let config = BridgeConfig {
                    name: self.name.clone(),
                    argv,
                    env: self.env.clone(),
                    interrupt_mode: self.interrupt_mode,
                    patience: patience.as_secs(),
                };
                let config = serde_json::to_string(&config).map_err(|e| broken(e.to_string()))?;
                Launch {
                    argv: vec![runner.to_owned(), "kernel-bridge".to_owned(), config],
                    readable: readable.clone(),
                    patience: *patience + BEYOND,
                    memory: None,
                }
            }
        };
        Ok(Some(launch))
    }

    /// Names of the pictures beside it, as clients show them.
    pub fn resources(&self) -> Vec<String> {
        let entries = self.folder.as_deref().map(std::fs::read_dir);
        let names = entries.into_iter().flatten().flatten().flatten();
        let mut names: Vec<String> = names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| media_type(name).is_some())
            .collect();
        names.sort_unstable();
        names
    }

    /// One of them: its media type and its content.
    pub fn resource(&self, name: &str) -> Option<(&'static str, Vec<u8>)> {
        let media = media_type(name)?;
        // Only what lies in the folder itself has a name that is listed.
        let known = self.resources().into_iter().find(|known| known == name)?;
        let path = self.folder.as_deref()?.join(known);
        let size = std::fs::metadata(&path).ok()?.len();
        let content = (size <= MAX_RESOURCE).then(|| std::fs::read(path).ok())?;
        content.map(|content| (media, content))
    }
}

/// What a picture of a kernelspec is; nothing for other files.
fn media_type(name: &str) -> Option<&'static str> {
    let stem = name.strip_prefix("logo-")?;
    match stem.rsplit_once('.')?.1 {
        "png" => Some("image/png"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

/// All that there are.
#[derive(Debug)]
pub struct Kernelspecs(BTreeMap<String, Arc<Kernelspec>>);

impl Kernelspecs {
    /// The runner's own, and those of Jupyter that the settings allow. Reads them, and may ask the interpreter where
    /// it lives; what is broken is left out, and said.
    pub(crate) fn find(config: &SessionsConfig) -> Self {
        let places = match config.kernelspecs.is_empty() {
            true => Vec::new(),
            false => data_folders(&config.python),
        };
        Self::find_in(config, &places)
    }

    fn find_in(config: &SessionsConfig, places: &[PathBuf]) -> Self {
        let memory = config.limits.memory;
        let mut all = BTreeMap::new();
        let mut add = |spec: Kernelspec| {
            all.entry(spec.name.clone())
                .or_insert_with(|| Arc::new(spec));
        };
        add(Kernelspec::own(KERNELSPEC, "Python 3", "python", Way::Fork));
        add(Kernelspec::own(
            LUA,
            "Lua 5.4 (runner)",
            "lua",
            Way::Lua { memory },
        ));
        let allows = |name: &str| {
            let mut rules = config.kernelspecs.iter();
            rules.any(|rule| rule == "*" || rule.eq_ignore_ascii_case(name))
        };
        for place in places {
            let entries = std::fs::read_dir(place.join("kernels"));
            for entry in entries.into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy().to_lowercase();
                if !is_name(&name) || !allows(&name) {
                    continue;
                }
                match Kernelspec::read(&entry.path(), &name, config) {
                    Ok(spec) => add(spec),
                    Err(why) => tracing::warn!("the kernelspec {name} is left out: {why}"),
                }
            }
        }
        for rule in config.kernelspecs.iter().filter(|rule| *rule != "*") {
            if !all.contains_key(&rule.to_lowercase()) {
                tracing::warn!(
                    "SESSION_KERNELSPECS names {rule}, which is in no data folder of Jupyter"
                );
            }
        }
        Self(all)
    }

    /// The one of this name; the default one where none is named.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: Option<&str>) -> Result<&Arc<Kernelspec>, SessionError> {
        let name = name.unwrap_or(KERNELSPEC);
        self.0.get(name).ok_or_else(|| SessionError::NoSpec {
            name: name.to_owned(),
            known: self.0.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// All, by their names.
    pub fn iter(&self) -> impl Iterator<Item = &Kernelspec> {
        self.0.values().map(AsRef::as_ref)
    }

    /// What kernels of others need to read, so that the zygote is shown it.
    pub(crate) fn readable(&self) -> Vec<PathBuf> {
        let readable = self.iter().flat_map(|spec| match &spec.way {
            Way::Bridge { readable, .. } => readable.clone(),
            Way::Fork | Way::Lua { .. } => Vec::new(),
        });
        readable.collect()
    }

    /// Whether there are kernels of others, which have many threads.
    pub(crate) fn has_foreign(&self) -> bool {
        let is_foreign = |spec: &Kernelspec| matches!(spec.way, Way::Bridge { .. });
        self.iter().any(is_foreign)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(place: &Path, name: &str, text: &str) {
        let folder = place.join("kernels").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("kernel.json"), text).unwrap();
    }

    fn names(rules: &[&str], places: &[PathBuf]) -> Vec<String> {
        let config = SessionsConfig {
            kernelspecs: rules.iter().map(|rule| (*rule).to_owned()).collect(),
            ..SessionsConfig::default()
        };
        let found = Kernelspecs::find_in(&config, places);
        found.iter().map(|spec| spec.name.clone()).collect()
    }

    #[test]
    fn only_what_is_allowed_is_there_and_the_own_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let places = [folder.path().join("a"), folder.path().join("b")];
        for name in ["python3", "Bash", "other", "not a name"] {
            write(
                &places[1],
                name,
                r#"{"argv": ["/bin/sh", "{connection_file}"]}"#,
            );
        }
        write(&places[1], "broken", "{");
        write(&places[1], "empty", r#"{"argv": []}"#);
        assert_eq!(names(&[], &places), ["lua", "python3"]);
        assert_eq!(names(&["bash"], &places), ["bash", "lua", "python3"]);
        assert_eq!(names(&["*"], &places), ["bash", "lua", "other", "python3"]);
        assert_eq!(names(&["nowhere"], &places), ["lua", "python3"]);
    }

    #[test]
    fn the_first_folder_with_a_name_has_it_and_the_command_is_filled_in() {
        let folder = tempfile::tempdir().unwrap();
        let places = [folder.path().join("a"), folder.path().join("b")];
        let spec = json!({
            "argv": ["sh", "{resource_dir}/start", "{connection_file}"],
            "display_name": "First", "language": "x", "interrupt_mode": "message", "env": {"A": "1"},
        });
        write(&places[0], "x", &spec.to_string());
        write(&places[1], "x", r#"{"argv": ["/nowhere/x"]}"#);
        write(&places[1], "y", r#"{"argv": ["/nowhere/y"]}"#);
        let config = SessionsConfig {
            kernelspecs: vec!["*".to_owned()],
            ..SessionsConfig::default()
        };
        let found = Kernelspecs::find_in(&config, &places);
        let first = found.get(Some("x")).unwrap();
        assert_eq!((&*first.display_name, &*first.language), ("First", "x"));
        let launch = first.launch(Path::new("/runner")).unwrap().unwrap();
        assert_eq!(launch.argv[..2], ["/runner", "kernel-bridge"]);
        let told: BridgeConfig = serde_json::from_str(&launch.argv[2]).unwrap();
        assert!(told.argv[0].ends_with("/sh"), "{told:?}");
        let start = places[0].join("kernels/x/start");
        assert_eq!(told.argv[1], start.to_str().unwrap());
        assert_eq!(told.argv[2], "{connection_file}");
        assert_eq!(told.interrupt_mode, InterruptMode::Message);
        let missing = found.get(Some("y")).unwrap().launch(Path::new("/runner"));
        let missing = missing.unwrap_err().to_string();
        assert!(missing.contains("no program /nowhere/y"), "{missing}");
        let unknown = found.get(Some("z")).unwrap_err().to_string();
        assert!(unknown.contains("lua, python3, x, y"), "{unknown}");
    }

    #[test]
    fn pictures_beside_it_are_resources_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "x", r#"{"argv": ["/bin/sh"]}"#);
        let own = folder.path().join("kernels/x");
        std::fs::write(own.join("logo-64x64.png"), "png").unwrap();
        std::fs::write(own.join("kernel.js"), "js").unwrap();
        let config = SessionsConfig::default();
        let spec = Kernelspec::read(&own, "x", &config).unwrap();
        assert_eq!(spec.resources(), ["logo-64x64.png"]);
        assert_eq!(
            spec.resource("logo-64x64.png"),
            Some(("image/png", b"png".to_vec()))
        );
        for name in ["kernel.json", "logo-32x32.png", "logo-/../../x.png", ""] {
            assert_eq!(spec.resource(name), None, "{name}");
        }
    }
}
