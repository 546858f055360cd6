use std::path::Path;

use super::{
    Loader, LoaderEnvironment, Look, Place, Probe, Program, argument, guest_arguments, look_at_text,
};
use crate::HostError;

/// Lua files, interpreted by `runner lua-host`.
#[derive(Debug)]
pub(super) struct Lua;

/// What a compiled file begins with.
const BYTECODE: &[u8] = b"\x1bLua";

impl Loader for Lua {
    fn name(&self) -> &str {
        "lua"
    }

    fn knows_magic(&self, probe: &Probe) -> bool {
        probe.magic.starts_with(BYTECODE)
    }

    fn knows_extension(&self, probe: &Probe) -> bool {
        probe.extension == "lua"
    }

    fn look(&self, entry: &Path) -> Look {
        match Probe::new(entry) {
            Ok(probe) if probe.magic.starts_with(BYTECODE) => Look::broken(
                "compiled Lua",
                "compiled Lua is not loaded, since nobody can check it: use the source",
            ),
            Ok(_) => look_at_text("Lua source", entry),
            Err(error) => Look::broken("Lua source", error.to_string()),
        }
    }

    fn program(
        &self,
        place: &Place<'_>,
        environment: &LoaderEnvironment,
    ) -> Result<Program, HostError> {
        let mut argv = vec![argument(&environment.runner)?, "lua-host".to_owned()];
        argv.extend(guest_arguments(place.guest));
        argv.extend([
            "--folder".to_owned(),
            argument(place.entry.parent().unwrap_or(place.snapshot))?,
            argument(place.entry)?,
        ]);
        Ok(Program {
            argv,
            environment: Vec::new(),
            readable: vec![environment.runner.clone()],
        })
    }
}
