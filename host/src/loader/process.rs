use std::path::Path;

use super::{Loader, LoaderEnvironment, Probe, Program, argument};
use crate::HostError;

/// Executables and `#!` scripts that speak the plugin protocol themselves.
#[derive(Debug)]
pub(super) struct Process;

impl Loader for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn knows_magic(&self, probe: &Probe) -> bool {
        probe.is_executable
            && (probe.magic.starts_with(b"\x7fELF") || probe.magic.starts_with(b"#!"))
    }

    fn knows_extension(&self, _: &Probe) -> bool {
        false
    }

    fn program(&self, entry: &Path, environment: &LoaderEnvironment) -> Result<Program, HostError> {
        // A script may well ask for Python, which on some machines lies in a home folder.
        let readable =
            super::python::runtime(&environment.python).map(|runtime| runtime.folders.clone());
        Ok(Program {
            argv: vec![argument(entry)?],
            environment: Vec::new(),
            readable: readable.unwrap_or_default(),
        })
    }
}
