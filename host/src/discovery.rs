//! What lies in the plugin folders.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::HostError;
use crate::loader::{Loader, Probe};
use crate::manifest::{self, Manifest};

/// Something in a plugin folder that is, or should be, a module.
#[derive(Debug)]
pub struct Candidate {
    /// Instance name.
    pub name: String,
    /// The file or folder.
    pub path: PathBuf,
    /// What was found out about it.
    pub found: Result<Found, HostError>,
}

/// A candidate that can be loaded.
#[derive(Debug)]
pub struct Found {
    /// What hosts it.
    pub loader: &'static dyn Loader,
    /// What its folder says.
    pub manifest: Manifest,
    /// The folder, for a module that is one.
    pub folder: Option<PathBuf>,
    /// The file to load; for a Python package the package's folder.
    pub entry: PathBuf,
}

/// Looks at the top level of the folders, in their order and then by name. A folder that does not exist
/// is logged and left out. Files that are no modules (texts, data) are not listed.
pub fn discover(folders: &[PathBuf], beside: &Path) -> Vec<Candidate> {
    let mut names = BTreeSet::new();
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
            let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if crate::digest::is_ignored(file_name) {
                continue;
            }
            let found = match look_at(&path, beside) {
                Ok(None) => continue,
                Ok(Some(found)) => Ok(found),
                Err(error) => Err(error),
            };
            let name = unique(&name_of(&path, &found), &mut names);
            candidates.push(Candidate { name, path, found });
        }
    }
    candidates
}

/// Looks at one file or folder, which somebody says is a module.
pub fn look_at_one(path: &Path, beside: &Path) -> Candidate {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = match look_at(&path, beside) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(HostError::Module(no_module(&path))),
        Err(error) => Err(error),
    };
    let name = name_of(&path, &found);
    Candidate { name, path, found }
}

fn no_module(path: &Path) -> String {
    let shown = path.display();
    match path.is_dir() {
        true => format!(
            "the folder {shown} is no module: it has neither a {} nor an __init__.py",
            manifest::FILE
        ),
        false => format!(
            "{shown} is no module: expected a Python file, a shared object, or a file that may be executed \
             (chmod +x)"
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

/// `None`: not a module.
fn look_at(path: &Path, beside: &Path) -> Result<Option<Found>, HostError> {
    let metadata = fs::metadata(path).map_err(HostError::file("read", path))?;
    if metadata.is_dir() {
        return look_at_folder(path, beside);
    }
    if !metadata.is_file() {
        return Ok(None);
    }
    let probe = Probe {
        is_executable: metadata.permissions().mode() & 0o111 != 0,
        ..probe(path)?
    };
    let Some(loader) = crate::loader::choose(&probe) else {
        if probe.magic.starts_with(b"#!") && !probe.is_executable {
            return Err(HostError::Module(format!(
                "{} begins with #! but is not executable: chmod +x makes it a plugin",
                path.display()
            )));
        }
        return Ok(None);
    };
    Ok(Some(Found {
        loader,
        manifest: Manifest::default(),
        folder: None,
        entry: path.to_owned(),
    }))
}

fn look_at_folder(folder: &Path, beside: &Path) -> Result<Option<Found>, HostError> {
    let is_package = folder.join("__init__.py").is_file();
    if !is_package && !folder.join(manifest::FILE).is_file() {
        return Ok(None);
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
        Some(entry) if beside.join(entry).is_file() => beside.join(entry),
        Some(entry) => {
            return Err(HostError::Module(format!(
                "the entry {entry} is neither in {} nor in {}: build it first",
                folder.display(),
                beside.display()
            )));
        }
    };
    let loader = match &manifest.loader {
        Some(name) => crate::loader::by_name(name).ok_or_else(|| {
            HostError::Module(format!(
                "{}: there is no loader {name:?}; expected one of {}",
                folder.join(manifest::FILE).display(),
                crate::loader::names()
            ))
        })?,
        None if entry.is_dir() => &crate::loader::PYTHON,
        None => crate::loader::choose(&probe(&entry)?).ok_or_else(|| {
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

fn probe(path: &Path) -> Result<Probe, HostError> {
    let file = File::open(path).map_err(HostError::file("read", path))?;
    let mut magic = Vec::with_capacity(64);
    let executable = file
        .metadata()
        .is_ok_and(|m| m.permissions().mode() & 0o111 != 0);
    file.take(64)
        .read_to_end(&mut magic)
        .map_err(HostError::file("read", path))?;
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or("");
    Ok(Probe {
        magic,
        extension: extension.to_ascii_lowercase(),
        is_executable: executable,
    })
}
