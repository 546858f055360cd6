//! What is to be loaded, by its path or its name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use runner_core::module::ModuleState;

use super::ModulesConfig;
use super::change::{ChangeError, LoadRequest};
use super::module::Module;
use crate::discovery::Candidate;

/// Whether what is to be loaded is a module of a plugin folder as it is: under its own name, with its own arguments.
pub(super) fn is_own(config: &ModulesConfig, request: &LoadRequest, candidate: &Candidate) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = candidate.path.parent().map(absolute);
    let mut folders = config.folders.iter().map(|folder| absolute(folder));
    let is_named_so = |name: &String| *name == candidate.name;
    request.args.is_none()
        && request.loader.is_none()
        && request.name.as_ref().is_none_or(is_named_so)
        && folders.any(|own| Some(own) == folder)
}

/// Whether a load may take the place of what has its name.
pub(super) fn replaceable(name: &str, older: &Module, module: &Module) -> Result<(), ChangeError> {
    let (older, path) = (older.status(), module.status().path);
    let absolute = |path: &str| std::path::absolute(path).unwrap_or_else(|_| path.into());
    let is_same = absolute(&older.path) == absolute(&path);
    if older.state == ModuleState::Exited && is_same {
        return Ok(());
    }
    let advice = match is_same {
        true => "reload it, or give it another name to load it twice",
        false => "give it another name, or remove that one first",
    };
    Err(ChangeError::Conflict(format!(
        "the module {name} is already loaded, from {} ({}): {advice}",
        older.path, older.state
    )))
}

pub(super) fn check_target(target: &str) -> Result<(), ChangeError> {
    let problem = if target.is_empty() {
        "what is to be loaded is not said"
    } else if target.chars().any(char::is_control) {
        "what is to be loaded has control characters in its name"
    } else if target.contains('/') && !Path::new(target).is_absolute() {
        "the path of what is to be loaded is not absolute"
    } else {
        return Ok(());
    };
    Err(ChangeError::Unusable(format!(
        "{problem} ({target:?}); expected an absolute path, or the name of a module in the plugin folders"
    )))
}

/// What a path or a name leads to.
pub(super) fn find(
    config: &ModulesConfig,
    target: &str,
    loader: Option<&str>,
) -> Result<Candidate, ChangeError> {
    let discovery = config.discovery(loader);
    if target.contains('/') {
        return Ok(discovery.look_at_one(Path::new(target)));
    }
    let is_named = |candidate: &Candidate| {
        let file = candidate.path.file_name().unwrap_or_default();
        candidate.name == target || file == target
    };
    let mut candidates = discovery
        .discover(&config.folders, &mut BTreeSet::new())
        .into_iter();
    candidates.find(is_named).ok_or_else(|| {
        let folders: Vec<_> = config
            .folders
            .iter()
            .map(|folder: &PathBuf| folder.display().to_string())
            .collect();
        let places = match folders.is_empty() {
            true => "there are no plugin folders".to_owned(),
            false => format!("it is not in {}", folders.join(", ")),
        };
        ChangeError::Failed {
            name: target.to_owned(),
            reason: format!("{places} (a path has a slash)"),
        }
    })
}
