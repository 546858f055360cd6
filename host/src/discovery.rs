//! What lies in the plugin folders.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::HostError;
use crate::loader::{Loader, Loaders, Probe};
use crate::manifest::{self, Manifest};

/// What loads a folder that is a package.
const PACKAGE_LOADER: &str = "python";

/// Something in a plugin folder that is, or should be, a module.
#[derive(Debug)]
pub struct Candidate {
    /// Instance name.
    pub name: String,
    /// The file or folder.
    pub path: PathBuf,
    /// What was found out about it.
    pub found: Result<Found, HostError>,
    /// Whether it is taken without what lies beside it.
    pub is_alone: bool,
}

impl Candidate {
    /// One that cannot be loaded, named after its file.
    pub(crate) fn failed(path: &Path, error: HostError) -> Self {
        let found = Err(error);
        Self {
            name: name_of(path, &found),
            path: path.to_owned(),
            found,
            is_alone: false,
        }
    }
}

/// Modules that were fetched from elsewhere.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Where they come from, for people; without credentials.
    pub source: String,
    /// What they are called where they are not there.
    pub name: String,
    /// A module or a folder of modules, or why there is none.
    pub path: Result<PathBuf, String>,
}

/// A candidate that can be loaded.
#[derive(Debug)]
pub struct Found {
    /// What hosts it.
    pub loader: Arc<dyn Loader>,
    /// What its folder says.
    pub manifest: Manifest,
    /// The folder, for a module that is one.
    pub folder: Option<PathBuf>,
    /// The file to load; for a Python package the package's folder.
    pub entry: PathBuf,
}

/// How files and folders are looked at.
#[derive(Debug)]
pub struct Discovery<'a> {
    /// Which kinds there are.
    pub loaders: &'a Loaders,
    /// Where entries are looked for that are not in their folder.
    pub beside: &'a Path,
    /// A loader to take whatever the file is, instead of choosing one.
    pub forced: Option<&'a str>,
}

impl Discovery<'_> {
    /// Looks at the top level of the folders, in their order and then by name. A folder that does not exist
    /// is logged and left out. Files that are no modules (texts, data) are not listed.
    /// `names` are the instance names that are taken.
    pub fn discover(&self, folders: &[PathBuf], names: &mut BTreeSet<String>) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for folder in folders {
            let entries = match fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) => {
                    tracing::warn!(
                        "the plugin folder {} cannot be read: {error}",
                        folder.display()
                    );
                    continue;
                }
            };
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                let file_name = path.file_name().unwrap_or_default().to_string_lossy();
                if crate::digest::is_ignored(&file_name) {
                    continue;
                }
                let found = match self.look_at(&path) {
                    Ok(None) => continue,
                    Ok(Some(found)) => Ok(found),
                    Err(error) => Err(error),
                };
                let name = unique(&name_of(&path, &found), names);
                candidates.push(Candidate {
                    name,
                    path,
                    found,
                    is_alone: false,
                });
            }
        }
        candidates
    }

    /// Looks at what was fetched: each is a module, or a folder of modules. What could not be fetched is listed with
    /// the reason.
    pub fn look_at_fetched(
        &self,
        fetched: Vec<Fetched>,
        names: &mut BTreeSet<String>,
    ) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for Fetched { source, name, path } in fetched {
            let candidate = match path {
                Ok(path) if path.is_dir() && matches!(self.look_at(&path), Ok(None)) => {
                    candidates.extend(self.discover(&[path], names));
                    continue;
                }
                Ok(path) => self.look_at_one(&path),
                Err(reason) => Candidate {
                    name,
                    path: PathBuf::from(source),
                    found: Err(HostError::Module(reason)),
                    is_alone: false,
                },
            };
            candidates.push(Candidate {
                name: unique(&candidate.name, names),
                ..candidate
            });
        }
        candidates
    }

    /// Looks at one file or folder, which somebody says is a module.
    pub fn look_at_one(&self, path: &Path) -> Candidate {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let found = match self.look_at(&path) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(HostError::Module(no_module(&path))),
            Err(error) => Err(error),
        };
        let name = name_of(&path, &found);
        Candidate {
            name,
            path,
            found,
            is_alone: false,
        }
    }

    /// Whether a folder is no module itself, so that modules are looked for in it.
    pub fn is_plugin_folder(&self, path: &Path) -> bool {
        let is_module = |name: &str| path.join(name).is_file();
        path.is_dir() && !is_module("__init__.py") && !is_module(manifest::FILE)
    }

    /// `None`: not a module.
    fn look_at(&self, path: &Path) -> Result<Option<Found>, HostError> {
        let metadata = fs::metadata(path).map_err(HostError::file("read", path))?;
        if metadata.is_dir() {
            return self.look_at_folder(path);
        }
        if !metadata.is_file() {
            return Err(HostError::Module(format!(
                "{} is neither a regular file nor a folder",
                path.display()
            )));
        }
        let probe = Probe::new(path)?;
        let loader = match self.forced {
            Some(name) => Some(self.loaders.by_name(name)?),
            None => self.loaders.choose(&probe),
        };
        let Some(loader) = loader else {
            if probe.magic.starts_with(b"#!") && !probe.is_executable {
                return Err(HostError::Module(format!(
                    "{} begins with #! but is not executable: chmod +x makes it a plugin",
                    path.display()
                )));
            }
            return Ok(None);
        };
        if path.to_str().is_none() {
            return Err(HostError::Module(format!(
                "the name of {} is not UTF-8: rename it",
                path.display()
            )));
        }
        Ok(Some(Found {
            loader,
            manifest: Manifest::default(),
            folder: None,
            entry: path.to_owned(),
        }))
    }

    fn look_at_folder(&self, folder: &Path) -> Result<Option<Found>, HostError> {
        let is_package = folder.join("__init__.py").is_file();
        if !is_package && !folder.join(manifest::FILE).is_file() {
            return Ok(None);
        }
        if folder.to_str().is_none() {
            return Err(HostError::Module(format!(
                "the name of {} is not UTF-8: rename it",
                folder.display()
            )));
        }
        let manifest = Manifest::read(folder)?;
        let entry = match &manifest.entry {
            None if is_package => folder.to_owned(),
            None => {
                return Err(HostError::Module(format!(
                    "{} does not say which file is the entry",
                    folder.join(manifest::FILE).display()
                )));
            }
            Some(entry) if folder.join(entry).is_file() => folder.join(entry),
            Some(entry) if self.beside.join(entry).is_file() => self.beside.join(entry),
            Some(entry) => {
                return Err(HostError::Module(format!(
                    "the entry {entry} is neither in {} nor in {}: build it first",
                    folder.display(),
                    self.beside.display()
                )));
            }
        };
        let loader = match (self.forced, &manifest.loader) {
            (Some(name), _) => self.loaders.by_name(name)?,
            (None, Some(name)) => self.loaders.by_name(name).map_err(|error| {
                let manifest = folder.join(manifest::FILE);
                HostError::Module(format!("{}: {error}", manifest.display()))
            })?,
            (None, None) if entry.is_dir() => self.loaders.by_name(PACKAGE_LOADER)?,
            (None, None) => self.loaders.choose(&Probe::new(&entry)?).ok_or_else(|| {
                HostError::Module(format!("{} is of no kind that is known", entry.display()))
            })?,
        };
        Ok(Some(Found {
            loader,
            manifest,
            folder: Some(folder.to_owned()),
            entry,
        }))
    }
}

fn no_module(path: &Path) -> String {
    let shown = path.display();
    match (path.is_dir(), fs::read_dir(path)) {
        (true, Err(error)) => format!("cannot read the folder {shown}: {error}"),
        (true, Ok(_)) => format!(
            "the folder {shown} is no module: it has neither a {} nor an __init__.py",
            manifest::FILE
        ),
        (false, _) => format!(
            "{shown} is no module: expected a Python or Lua file, a shared object, WebAssembly, a \
             pipeline (*.pipeline.yaml), or a file that may be executed (chmod +x); --loader says what else it is"
        ),
    }
}

/// The name in its manifest, else that of its file.
fn name_of(path: &Path, found: &Result<Found, HostError>) -> String {
    let own = found
        .as_ref()
        .ok()
        .and_then(|found| found.manifest.name.clone());
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy();
    own.unwrap_or_else(|| stem().into_owned())
}

fn unique(name: &str, names: &mut BTreeSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !names.insert(candidate.clone()) {
        candidate = format!("{name}-{number}");
        number += 1;
    }
    candidate
}
