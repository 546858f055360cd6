//! Which kinds of module there are, and how each is hosted. Another kind is one file here and one line
//! in `built_in`; or nothing but a setting, see [`Registered`].

mod elf;
mod lua;
mod native;
mod pipeline;
mod process;
mod python;
mod registered;
mod wasm;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::HostError;
use crate::manifest::GuestLimits;
pub use python::interpreter_folders;
pub(crate) use python::{Runtime, interpreter, runtime};
pub use registered::Registered;

/// How much of a file is looked at to choose its loader.
pub const MAGIC: u64 = 64;

/// The loaders that the runner brings along, in the order in which they are asked.
fn built_in() -> Vec<Arc<dyn Loader>> {
    vec![
        Arc::new(native::Native),
        Arc::new(process::Process),
        Arc::new(python::Python),
        Arc::new(lua::Lua),
        Arc::new(wasm::Wasm),
        Arc::new(pipeline::Pipeline),
    ]
}

/// Hosts one kind of module.
pub trait Loader: Send + Sync + std::fmt::Debug {
    /// The word in manifests and listings.
    fn name(&self) -> &str;

    /// Whether a file is of this kind by its magic number.
    fn knows_magic(&self, probe: &Probe) -> bool;

    /// Whether a file is of this kind by its extension.
    fn knows_extension(&self, probe: &Probe) -> bool;

    /// Whether its modules may need packages, which lie in a virtual environment of Python.
    fn takes_environment(&self) -> bool {
        false
    }

    /// Whether its modules are pipelines, whose hosts are given the hosts of their nodes.
    fn runs_pipelines(&self) -> bool {
        false
    }

    /// Says what a file or folder is without starting it.
    fn look(&self, entry: &Path) -> Look;

    /// The program that hosts a module. May start a process to find the language's runtime.
    ///
    /// # Errors
    /// What is missing on this machine.
    fn program(
        &self,
        place: &Place<'_>,
        environment: &LoaderEnvironment,
    ) -> Result<Program, HostError>;
}

/// The beginning of a file.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    /// Its first [`MAGIC`] bytes.
    pub magic: Vec<u8>,
    /// What stands after the last dot of its name, in lower case.
    pub extension: String,
    /// What stands before that.
    pub stem: String,
    /// Whether it may be executed.
    pub is_executable: bool,
}

impl Probe {
    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(path: &Path) -> Result<Self, HostError> {
        let file = File::open(path).map_err(HostError::file("read", path))?;
        let metadata = file.metadata().map_err(HostError::file("read", path))?;
        let mut magic = Vec::new();
        file.take(MAGIC)
            .read_to_end(&mut magic)
            .map_err(HostError::file("read", path))?;
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or("");
        Ok(Self {
            magic,
            extension: extension.to_ascii_lowercase(),
            stem: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            is_executable: metadata.permissions().mode() & 0o111 != 0,
        })
    }
}

/// What a module is, found out without starting it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// One line for people: `shared object for x86-64, plugin ABI exported`.
    pub what: String,
    /// For which processor it was made, where that is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The symbols or functions that a host needs, as far as they are there.
    pub symbols: Vec<String>,
    /// Why it cannot be loaded, if that can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Look {
    fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ..Self::default()
        }
    }

    fn broken(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            problem: Some(problem.into()),
            ..Self::default()
        }
    }
}

/// A module as it is hosted.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The file or folder to load, in the snapshot.
    pub entry: &'a Path,
    /// The copy of the file's or module's folder. The folder above it is the module's too, is named by its
    /// digest, and only the runner writes there.
    pub snapshot: &'a Path,
    /// Limits of what its host interprets.
    pub guest: &'a GuestLimits,
    /// The virtual environment with its packages, if it needs any.
    pub environment: Option<&'a Path>,
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

/// All loaders of a runner.
#[derive(Debug, Clone)]
pub struct Loaders {
    /// In the order in which they are asked: who registers one means it.
    all: Arc<[Arc<dyn Loader>]>,
}

impl Default for Loaders {
    fn default() -> Self {
        Self::with(Vec::new())
    }
}

impl Loaders {
    /// The built-in ones, and before them these.
    pub fn with(registered: Vec<Registered>) -> Self {
        let registered = registered
            .into_iter()
            .map(|loader| Arc::new(loader) as Arc<dyn Loader>);
        Self {
            all: registered.chain(built_in()).collect(),
        }
    }

    /// Chooses by magic number, else by extension.
    pub fn choose(&self, probe: &Probe) -> Option<Arc<dyn Loader>> {
        let by_magic = self.all.iter().find(|loader| loader.knows_magic(probe));
        by_magic
            .or_else(|| self.all.iter().find(|loader| loader.knows_extension(probe)))
            .cloned()
    }

    /// The loader of this name.
    ///
    /// # Errors
    /// There is none; the message names all.
    pub fn by_name(&self, name: &str) -> Result<Arc<dyn Loader>, HostError> {
        let found = self.all.iter().find(|loader| loader.name() == name);
        found.cloned().ok_or_else(|| {
            HostError::Module(format!(
                "there is no loader {name:?}; expected one of {}",
                self.names()
            ))
        })
    }

    /// The names of all loaders, for messages.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.all.iter().map(|loader| loader.name()).collect();
        names.join(", ")
    }
}

/// A path as an argument.
pub(crate) fn argument(path: &Path) -> Result<String, HostError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| HostError::Module(format!("the path {path:?} is not UTF-8")))
}

/// The flags of a host that interprets its module.
fn guest_arguments(guest: &GuestLimits) -> Vec<String> {
    let mut arguments = vec!["--memory".to_owned(), guest.memory().to_string()];
    if let Some(instructions) = guest.instructions {
        arguments.extend(["--instructions".to_owned(), instructions.to_string()]);
    }
    arguments
}

/// A source text: its beginning must be UTF-8, as the rest is expected to be.
fn look_at_text(what: &str, entry: &Path) -> Look {
    let text = match std::fs::read(entry) {
        Ok(text) => text,
        Err(error) => return Look::broken(what, format!("it cannot be read: {error}")),
    };
    match std::str::from_utf8(&text) {
        Ok(text) if text.contains('\0') => Look::broken(what, "it is no text: it has NUL bytes"),
        Ok(_) => Look::new(what),
        // Python says so where it is another encoding.
        Err(_)
            if text[..text.len().min(256)]
                .windows(6)
                .any(|w| w == b"coding") =>
        {
            Look::new(what)
        }
        Err(error) => Look::broken(
            what,
            format!("it is no UTF-8 text, from byte {} on", error.valid_up_to()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(loaders: &Loaders, magic: &[u8], extension: &str, is_executable: bool) -> String {
        let (stem, extension) = extension.rsplit_once('.').unwrap_or(("x", extension));
        let probe = Probe {
            magic: magic.to_vec(),
            extension: extension.to_owned(),
            stem: stem.to_owned(),
            is_executable,
        };
        let chosen = loaders.choose(&probe);
        chosen.map_or_else(String::new, |loader| loader.name().to_owned())
    }

    #[test]
    fn magic_comes_before_extension() {
        let all = Loaders::default();
        for (magic, extension, is_executable, expected) in [
            (&b"\x7fELF\x02"[..], "so", true, "native"),
            (b"\x7fELF\x02", "", true, "process"),
            (b"\x7fELF\x02", "o", false, ""),
            (b"#!/bin/sh\n", "", true, "process"),
            (b"#!/bin/sh\n", "", false, ""),
            (b"import x", "py", false, "python"),
            (b"#!/usr/bin/env python3\n", "py", false, "python"),
            (b"# A text", "md", false, ""),
            (b"return {}", "lua", false, "lua"),
            (b"\0asm\x01\0\0\0", "bin", false, "wasm"),
            (b"\0asm\x01\0\0\0", "wasm", true, "wasm"),
            (b"", "wasm", false, "wasm"),
            (b"", "so", false, "native"),
            (b"nodes:\n", "words.pipeline.yaml", false, "pipeline"),
            (b"{}", "words.pipeline.json", false, "pipeline"),
            (b"{}", "words.json", false, ""),
            (b"a = 1", "plugin.toml", false, ""),
        ] {
            let chosen = name(&all, magic, extension, is_executable);
            assert_eq!(chosen, expected, "{magic:?} {extension}");
        }
    }

    #[test]
    fn registered_loaders_are_asked_first() {
        let text = r#"{"julia": {"extensions": ["jl"], "command": ["julia", "{module}"]},
                       "pypy": {"extensions": [".PY"], "command": ["pypy3"]},
                       "toy": {"magic": "TOY\\x01", "command": ["toy"]}}"#;
        let all = Loaders::with(Registered::parse(text).unwrap());
        assert_eq!(name(&all, b"x", "jl", false), "julia");
        assert_eq!(name(&all, b"import x", "py", false), "pypy");
        assert_eq!(name(&all, b"TOY\x01...", "lua", false), "toy");
        assert_eq!(name(&all, b"return {}", "lua", false), "lua");
        assert_eq!(all.by_name("julia").unwrap().name(), "julia");
        let error = all.by_name("perl").unwrap_err().to_string();
        assert!(
            error.contains("julia, pypy, toy, native, process"),
            "{error}"
        );
    }
}
