//! Which kinds of module there are, and how each is hosted. Another kind is one file here and one line
//! in [`LOADERS`].

mod native;
mod process;
mod python;

use std::path::{Path, PathBuf};

use crate::HostError;

/// All loaders, in the order in which they are asked.
pub const LOADERS: &[&dyn Loader] = &[&native::Native, &process::Process, &python::Python];
/// The loader of Python packages.
pub(crate) const PYTHON: python::Python = python::Python;

/// Hosts one kind of module.
pub trait Loader: Send + Sync + std::fmt::Debug {
    /// The word in manifests and listings.
    fn name(&self) -> &'static str;

    /// Whether a file is of this kind by its magic number.
    fn knows_magic(&self, probe: &Probe) -> bool;

    /// Whether a file is of this kind by its extension.
    fn knows_extension(&self, probe: &Probe) -> bool;

    /// The program that hosts a module. May start a process to find the language's runtime.
    ///
    /// # Errors
    /// What is missing on this machine.
    fn program(&self, entry: &Path, environment: &LoaderEnvironment) -> Result<Program, HostError>;
}

/// The beginning of a file.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    /// Its first 64 bytes.
    pub magic: Vec<u8>,
    /// What stands after the last dot of its name, in lower case.
    pub extension: String,
    /// Whether it may be executed.
    pub is_executable: bool,
}

/// What loaders need to know of the runner.
#[derive(Debug, Clone)]
pub struct LoaderEnvironment {
    /// The `runner` program.
    pub runner: PathBuf,
    /// Where the embedded SDKs were unpacked.
    pub sdk: PathBuf,
    /// The Python interpreter: a path, or a name on the search path.
    pub python: String,
}

/// How a host is started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables it needs.
    pub environment: Vec<(String, String)>,
    /// What it reads beside its module and the system's libraries.
    pub readable: Vec<PathBuf>,
}

/// Chooses by magic number, else by extension.
pub fn choose(probe: &Probe) -> Option<&'static dyn Loader> {
    let by_magic = LOADERS.iter().find(|loader| loader.knows_magic(probe));
    by_magic
        .or_else(|| LOADERS.iter().find(|loader| loader.knows_extension(probe)))
        .copied()
}

/// The loader of this name.
pub fn by_name(name: &str) -> Option<&'static dyn Loader> {
    LOADERS.iter().find(|loader| loader.name() == name).copied()
}

/// The names of all loaders, for messages.
pub fn names() -> String {
    LOADERS
        .iter()
        .map(|loader| loader.name())
        .collect::<Vec<_>>()
        .join(", ")
}

/// A path as an argument.
fn argument(path: &Path) -> Result<String, HostError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| HostError::Module(format!("the path {path:?} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_comes_before_extension() {
        let name = |magic: &[u8], extension: &str, is_executable| {
            let probe = Probe {
                magic: magic.to_vec(),
                extension: extension.to_owned(),
                is_executable,
            };
            choose(&probe).map(|loader| loader.name())
        };
        assert_eq!(name(b"\x7fELF\x02", "so", true), Some("native"));
        assert_eq!(name(b"\x7fELF\x02", "", true), Some("process"));
        assert_eq!(name(b"\x7fELF\x02", "o", false), None);
        assert_eq!(name(b"#!/bin/sh\n", "", true), Some("process"));
        assert_eq!(name(b"#!/bin/sh\n", "", false), None);
        assert_eq!(name(b"import x", "py", false), Some("python"));
        assert_eq!(
            name(b"#!/usr/bin/env python3\n", "py", false),
            Some("python")
        );
        assert_eq!(name(b"# A text", "md", false), None);
    }
}
