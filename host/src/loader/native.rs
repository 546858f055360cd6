use std::path::Path;

use super::{Loader, LoaderEnvironment, Probe, Program, argument};
use crate::HostError;

/// Shared objects with the C interface of `sdk/rust`, loaded by `runner native-host`.
#[derive(Debug)]
pub(super) struct Native;

impl Loader for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn knows_magic(&self, probe: &Probe) -> bool {
        probe.magic.starts_with(b"\x7fELF") && probe.extension == "so"
    }

    fn knows_extension(&self, probe: &Probe) -> bool {
        matches!(probe.extension.as_str(), "so" | "dylib")
    }

    fn program(&self, entry: &Path, environment: &LoaderEnvironment) -> Result<Program, HostError> {
        Ok(Program {
            argv: vec![
                argument(&environment.runner)?,
                "native-host".to_owned(),
                argument(entry)?,
            ],
            environment: Vec::new(),
            readable: vec![environment.runner.clone()],
        })
    }
}
