//! Where settings come from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;

use super::Flags;
use super::table::{NOTICES, SETTINGS, Setting};

/// The file of settings in the working directory.
pub(crate) const TOML_FILE: &str = "runner.toml";
/// The file of variables in the working directory.
pub(crate) const ENV_FILE: &str = ".env";

/// Keys whose lists are lines, not paths.
const OF_LINES: &[&str] = &["allowed_modules", "git_plugins"];

/// Where a setting was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment(String),
    EnvFile(String),
    Toml(String),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => write!(f, "a flag"),
            Self::Environment(name) => write!(f, "the variable {name}"),
            Self::EnvFile(name) => write!(f, "{name} in {ENV_FILE}"),
            Self::Toml(name) => write!(f, "{name} in {TOML_FILE}"),
            Self::Default => write!(f, "the default"),
        }
    }
}

/// Everything that was set, wherever.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    flags: Flags,
    environment: BTreeMap<String, String>,
    env_file: BTreeMap<String, String>,
    toml: BTreeMap<String, String>,
}

impl Sources {
    /// Reads the environment and the files of the working directory.
    pub(crate) fn read(flags: Flags) -> anyhow::Result<Self> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::new(flags, environment, Path::new("."))
    }

    pub(crate) fn new(
        flags: Flags,
        environment: BTreeMap<String, String>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let path = folder.join(ENV_FILE);
        let env_file = match path.is_file() {
            true => dotenvy::from_path_iter(&path)
                .and_then(Iterator::collect)
                .with_context(|| format!("cannot read {}", path.display()))?,
            false => BTreeMap::new(),
        };
        let path = folder.join(TOML_FILE);
        let toml = match path.is_file() {
            true => read_toml(&path).with_context(|| format!("cannot read {}", path.display()))?,
            false => BTreeMap::new(),
        };
        Ok(Self {
            flags,
            environment,
            env_file,
            toml,
        })
    }

    fn find(&self, setting: &Setting) -> Option<(String, Origin)> {
        if let Some(value) = self.flags.get(setting.name) {
            return Some((value.clone(), Origin::Flag));
        }
        let names = || {
            [setting.name]
                .into_iter()
                .chain(setting.aliases.iter().copied())
        };
        for (values, origin) in [
            (
                &self.environment,
                Origin::Environment as fn(String) -> Origin,
            ),
            (&self.env_file, Origin::EnvFile),
        ] {
            for name in names() {
                if let Some(value) = values.get(name) {
                    return Some((value.clone(), origin(name.to_owned())));
                }
            }
        }
        let key = setting.key();
        self.toml
            .get(&key)
            .map(|value| (value.clone(), Origin::Toml(key)))
    }

    /// What was set, if anything.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.find(setting(name)).map(|(value, _)| value)
    }

    /// What was set, else the default.
    pub(crate) fn text(&self, name: &str) -> String {
        self.get(name)
            .unwrap_or_else(|| setting(name).default.to_owned())
    }

    /// Where it was set.
    pub(crate) fn origin(&self, name: &str) -> Origin {
        self.find(setting(name))
            .map_or(Origin::Default, |(_, origin)| origin)
    }

    /// Variables of others whose names begin so.
    pub(crate) fn beginning_with(&self, prefix: &str) -> BTreeMap<String, String> {
        let mut found = self.env_file.clone();
        found.extend(self.environment.clone());
        found.retain(|name, _| name.starts_with(prefix));
        found
    }

    /// What the user should know: variables of other runners that mean something else here, and keys of
    /// the file that mean nothing.
    pub(crate) fn notices(&self) -> Vec<String> {
        let is_set = |name: &str| {
            self.environment
                .get(name)
                .or(self.env_file.get(name))
                .is_some_and(|value| !value.is_empty())
        };
        let mut notices: Vec<String> = NOTICES
            .iter()
            .filter(|(name, _)| is_set(name))
            .map(|(name, successor)| format!("{name} is not used: {successor}"))
            .collect();
        for key in self.toml.keys() {
            if !SETTINGS.iter().any(|setting| setting.key() == *key) {
                notices.push(format!("{key} in {TOML_FILE} is no setting"));
            }
        }
        notices
    }
}

/// The setting of this name; all names stand in the table.
fn setting(name: &str) -> &'static Setting {
    let found = SETTINGS.iter().find(|setting| setting.name == name);
    found.unwrap_or_else(|| unreachable!("{name} is not in the table of settings"))
}

fn read_toml(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let table: toml::Table = std::fs::read_to_string(path)?.parse()?;
    let text = |key: &str, value: toml::Value| match value {
        toml::Value::String(text) => text,
        toml::Value::Array(items) => {
            let items = items.iter().map(|item| match item {
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            let separator = if OF_LINES.contains(&key) { "\n" } else { ":" };
            items.collect::<Vec<_>>().join(separator)
        }
        // Settings that are objects are JSON elsewhere.
        toml::Value::Table(table) => serde_json::to_string(&table).unwrap_or_default(),
        other => other.to_string(),
    };
    Ok(table
        .into_iter()
        .map(|(key, value)| {
            let value = text(&key, value);
            (key, value)
        })
        .collect())
}
